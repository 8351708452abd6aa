"""The examples, as a user runs them, and the README."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from websockets.sync.client import connect

from tests.processes import program, run
from trio_hub import RequestFailed, open_client, open_link
from trio_hub.cli.serve import serve

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


async def test_quick_start_prints_what_it_says():
    ended = await run(sys.executable, str(EXAMPLES / "quick_start.py"))
    assert ended.stdout.decode() == "tick {'n': 0}\ntick {'n': 1}\ntick {'n': 2}\n"
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_the_readme_shows_the_quick_start():
    (program_shown,) = re.findall(r"```python\n(import trio\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code = (EXAMPLES / "quick_start.py").read_text()
    main = code[code.index("async def main") : code.index("if __name__")].strip()
    assert main in program_shown


def test_the_readme_repeats_the_promise_of_the_docs():
    promise = "There is never a silent hole. A request is carried out once"
    for page in ("README.md", "docs/index.rst"):
        assert promise in re.sub(r"\s+", " ", (ROOT / page).read_text().replace("> ", ""))


async def test_echo_echoes_text_and_binary_to_a_foreign_client():
    def talk(url):
        with connect(url, compression=None) as socket:
            for message in ("héllo", b"\x00\xff", "x" * 100_000, b""):
                socket.send(message)
                assert socket.recv() == message

    async with program(sys.executable, str(EXAMPLES / "echo.py")) as server:
        await trio.to_thread.run_sync(talk, await server.line())


async def test_the_embedded_broker_has_users_rights_and_an_action_of_its_own():
    async with program(sys.executable, str(EXAMPLES / "topic_broker.py")) as server:
        url = await server.line()
        async with (
            open_client(url, token="secret-of-ann") as ann,
            open_client(url, token="secret-of-bob") as bob,
        ):
            await bob.subscribe("ann.news")
            await bob.subscribe("clock")
            await ann.publish("ann.news", "said", {"n": 1})
            heard = {(await bob.receive()).name for _ in range(2)}
            assert heard == {"said", "time"}
            with pytest.raises(RequestFailed, match="403"):
                await ann.publish("bob.news", "said", {})
            await bob.unsubscribe("clock")
            reply = await ann.request("roll", {"topic": "ann.news", "dice": 2})
            while (event := await bob.receive()).name != "rolled":
                pass
            assert event.data == {"by": "ann", "total": reply["total"]}
            with pytest.raises(RequestFailed, match=re.escape("$.dice")):
                await ann.request("roll", {"topic": "ann.news", "dice": 99})


async def test_the_chat_has_roles_mentions_direct_messages_and_presence():
    async with (
        program(sys.executable, str(EXAMPLES / "chat.py")) as server,
        as_somebody(server) as (ann, bob, cat),
    ):
        assert (await ann.request("presence", {"topic": "desk"}))["users"] == {"ann": "online", "cat": "online"}
        await bob.request("post", {"channel": "town", "text": "look, @ann and @bob!"})
        await bob.request("post", {"channel": "town", "text": "@ann?"})
        said = {"by": "bob", "text": "look, @ann and @bob!"}
        assert (await ann.receive()).data == {**said, "unread": 1}
        assert (await ann.receive()).data["unread"] == 2
        assert [(await each.receive()).data for each in (bob, cat)] == [said, said]
        await ann.request("read")
        await ann.request("post", {"to": "bob", "text": "psst"})
        for each, skipped in ((ann, 0), (bob, 1)):
            for _ in range(skipped):
                await each.receive()
            assert (await each.receive()).data == {"by": "ann", "text": "psst"}
        for client, action, data in (
            (cat, "post", {"channel": "town", "text": "me too"}),
            (bob, "post", {"channel": "desk", "text": "let me in"}),
            (bob, "remove", {"channel": "town", "text": "psst"}),
            (ann, "remove", {"channel": "elsewhere", "text": "psst"}),
            (bob, "subscribe", {"topic": "desk"}),
        ):
            with pytest.raises(RequestFailed, match="403"):
                await client.request(action, data)
        await ann.request("remove", {"channel": "town", "text": "@ann?"})
        assert [(await ann.receive()).name for _ in range(2)] == ["removed", "audit"]
        assert (await bob.receive()).name == "removed"
        await server.wait_for_error("bob asked for post")


async def test_a_message_queue_has_listeners_by_topic():
    async with program(sys.executable, str(EXAMPLES / "message_queue.py")) as server:
        url = await server.line()
        async with open_link(url) as news, open_link(url) as both, open_link(url) as sender:
            await news.send('{"listen": "news"}')
            await both.send_all(['{"listen": "news"}', '{"listen": "sport"}'])
            taken = {"news": 0, "sport": 0, "weather": 0}
            while taken != {"news": 2, "sport": 1, "weather": 0}:  # until the server knows all who listen
                for topic in taken:
                    await sender.send(json.dumps({"topic": topic, "say": "hello"}))
                    (answer,) = await sender.receive()
                    taken[topic] = json.loads(answer)["taken"]
            last = '{"topic": "news", "say": "bye"}'
            await sender.send(last)
            assert await sender.receive() == ['{"taken": 2}']
            for link, topics in ((news, {"news"}), (both, {"news", "sport"})):
                heard = []
                while last not in heard:
                    heard += await link.receive()
                assert {json.loads(said)["topic"] for said in heard} == topics
            await sender.send("no JSON at all")
            await sender.send('{"topic": "sport", "say": 1}')
            assert await sender.receive() == ['{"taken": 1}']


async def test_a_distributed_queue_goes_on_while_a_server_is_away():
    ended = await run(sys.executable, str(EXAMPLES / "distributed_queue.py"))
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode().splitlines() == [
        "birch has news hello",
        "ash has sport hello",
        "cedar has weather hello",
        "cedar has news birch is away",
        "birch has news birch is back",
    ]


async def test_a_model_s_tokens_survive_a_cut_link():
    ended = await run(sys.executable, str(EXAMPLES / "llm_stream.py"))
    text = "You said 'hello' and I have little to add to that . \n(over 2 links)\n"
    assert (ended.stdout.decode(), ended.returncode, ended.stderr) == (text, 0, b"")


async def test_two_programs_ask_each_other():
    async with program(sys.executable, str(EXAMPLES / "rpc.py")) as server:
        ended = await run(sys.executable, str(EXAMPLES / "rpc.py"), "--ask", await server.line())
    steps = "".join(f"a boat: step {n} of 3\n" for n in (1, 2, 3))
    assert ended.stdout.decode() == f"{steps}a bomb: you do not want it\n"
    assert (ended.returncode, ended.stderr) == (0, b"")


@asynccontextmanager
async def as_somebody(server):
    """Three users of the chat, each with a connection."""
    url = await server.line()
    async with (
        open_client(url, token="secret-of-ann") as ann,
        open_client(url, token="secret-of-bob") as bob,
        open_client(url, token="secret-of-cat") as cat,
    ):
        for each in (ann, bob, cat):
            await each.connected()
        yield ann, bob, cat


async def test_the_tests_of_applications_pass():
    ended = await run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "testing"))
    assert ended.returncode == 0, ended.stdout.decode()
    assert re.search(r"^1\d\d passed in", ended.stdout.decode(), re.MULTILINE)


async def test_the_console_less_command_says_what_is_missing(tmp_path):
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(\"No module named 'click'\", name='click')\n")
    ended = await run("/usr/bin/env", f"PYTHONPATH={tmp_path}:{ROOT}", sys.executable, "-m", "trio_hub", "serve")
    assert ended.returncode == 1
    assert b"extra `cli`" in ended.stderr


def test_the_unit_runs_what_there_is(tmp_path):
    unit = (EXAMPLES / "systemd" / "trio-hub.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    known = {name for option in serve.params for name in option.opts}
    assert set(re.findall(r"--[\w-]+", command)) <= known
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    path = tmp_path / "trio-hub.service"
    path.write_text(re.sub(r"=/\S+/(trio-hub|curl)", f"={sys.executable}", unit))
    checked = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")

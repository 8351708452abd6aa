"""The command line, as programs of their own on real sockets."""

import json
import signal
import ssl

import pytest
import trio
import trustme

from tests.processes import TRIO_HUB, program, run, serve
from trio_hub import Refused, open_client
from trio_hub.testing import upgrade_request


async def say_until_heard(client):
    """Say the same again and again: when a listener subscribes again is its own affair."""
    while True:
        await client.publish("town", "again")
        await trio.sleep(0.05)


async def test_what_is_sent_is_printed(tmp_path):
    async with serve() as (_, url), program(*TRIO_HUB, "listen", url, "town") as ear:
        await ear.wait_for_error("listening to town")
        sent = await run(*TRIO_HUB, "send", url, "town", '{"text": "héllo"}', "--event", "said")
        assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
        assert json.loads(await ear.line()) == {
            "event": "said",
            "data": {"text": "héllo"},
            "broadcast": {"topic": "town"},
        }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_server_cleanly(number):
    async with serve() as (server, url), program(*TRIO_HUB, "listen", url, "town") as ear:
        await ear.wait_for_error("connected")
        assert await server.end(number) == 0
        assert server.errors == b""
        await ear.wait_for_error("not connected: 1012")


async def until_said(peer, words):
    """Read until these words have come."""
    said = b""
    while words not in said:
        data = await peer.receive_some()
        assert data, said
        said += data


async def test_a_second_signal_ends_the_server_at_once():
    """Without it, the server waits for a peer that does not answer its goodbye."""
    async with serve() as (server, url):
        host, port = url.removeprefix("ws://").removesuffix("/ws").split(":")
        peer = await trio.open_tcp_stream(host, int(port))
        await peer.send_all(upgrade_request(headers={"Host": f"{host}:{port}"}))
        await until_said(peer, b'"hello"')
        server.process.send_signal(signal.SIGTERM)
        await until_said(peer, b"retry_after")
        with trio.fail_after(3):
            assert await server.end(signal.SIGTERM) == 0
        await peer.aclose()


async def test_a_long_window_is_no_trouble():
    async with serve("--window", "86400") as (_, url), open_client(url) as client:
        await client.request("ping")


async def test_a_listener_goes_on_through_a_restart_and_tells_of_the_gap(tmp_path):
    async with serve() as (server, url):
        port = url.removesuffix("/ws").rpartition(":")[2]
        async with program(*TRIO_HUB, "listen", url, "town") as ear:
            await ear.wait_for_error("listening to town")
            assert await server.end() == 0
            async with serve("--port", port):
                await ear.wait_for_error("gap: ")
                async with open_client(url) as client, trio.open_nursery() as tasks:
                    tasks.start_soon(say_until_heard, client)
                    assert json.loads(await ear.line())["event"] == "again"
                    tasks.cancel_scope.cancel()
            assert b"restarted" in ear.errors


async def test_a_listener_keeps_its_place_in_a_file(tmp_path):
    place = tmp_path / "place.json"
    async with serve() as (_, url):
        async with program(*TRIO_HUB, "listen", url, "town", "--resume", str(place)) as ear:
            await ear.wait_for_error("listening to town")
            assert (await run(*TRIO_HUB, "send", url, "town", "1")).returncode == 0
            assert json.loads(await ear.line())["data"] == 1
            while not place.exists():  # noqa: ASYNC110 - another program writes it
                await trio.sleep(0.01)
            assert await ear.end(signal.SIGINT) == 130
        assert (await run(*TRIO_HUB, "send", url, "town", "-", stdin=b"2\n3\n")).returncode == 0
        async with program(*TRIO_HUB, "listen", url, "town", "--resume", str(place)) as ear:
            assert [json.loads(await ear.line())["data"] for _ in range(2)] == [2, 3]
            assert b"gap" not in ear.errors
        place.write_text("{}")
        broken = await run(*TRIO_HUB, "listen", url, "town", "--resume", str(place))
        assert broken.returncode == 2
        assert b"no place to go on from" in broken.stderr


async def test_only_those_with_a_token_come_in(tmp_path):
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"secret": "ann"}')
    async with serve("--tokens", str(tokens)) as (server, url):
        assert (await run(*TRIO_HUB, "send", url, "town", "1", "--token", "secret")).returncode == 0
        wrong = await run(*TRIO_HUB, "send", url, "town", "1", "--token", "guess")
        assert wrong.returncode == 1
        assert b"401" in wrong.stderr
        async with open_client(url, token="guess") as client:
            with pytest.raises(Refused) as caught:
                await client.receive()
            assert caught.value.status == 401
        assert b"guess" not in server.errors
        assert b"secret" not in server.errors


async def test_with_a_key_and_tokens_back_ends_get_tickets(tmp_path):
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"secret": "ann"}')
    for more, expected in [((), b" 404 "), (("--tokens", str(tokens)), b" 200 ")]:
        async with serve("--key", "sesame", *more) as (_, url):
            host, port = url.removeprefix("ws://").removesuffix("/ws").split(":")
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                head = f"POST /tickets HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer sesame\r\n"
                await stream.send_all(head.encode() + b'Content-Length: 15\r\n\r\n{"user": "bob"}')
                answer = await stream.receive_some()
            assert expected in answer.partition(b"\r\n")[0]
            if expected == b" 200 ":
                ticket = json.loads(answer.partition(b"\r\n\r\n")[2])["ticket"]
                async with open_client(f"{url}?ticket={ticket}") as client:
                    await client.request("ping")


async def test_what_is_no_json_is_told_with_its_line_and_the_rest_is_sent():
    async with serve() as (_, url), program(*TRIO_HUB, "listen", url, "town") as ear:
        await ear.wait_for_error("listening to town")
        large = b'"%b"' % (b"x" * 2_000_000)
        lines = [b"1", b"{oops", b"", b"[" * 5000, large, b"\xff", b"2", b""]
        sent = await run(*TRIO_HUB, "send", url, "town", "-", stdin=b"\n".join(lines))
        assert sent.returncode == 1
        assert b"line 2: not JSON" in sent.stderr
        assert b"line 4: not JSON" in sent.stderr
        assert b"line 5: a request of 2000" in sent.stderr
        assert b"line 6: not JSON" in sent.stderr
        assert b"4 lines were not accepted" in sent.stderr
        assert [json.loads(await ear.line())["data"] for _ in range(2)] == [1, 2]


async def test_a_server_that_is_not_there_costs_patience():
    sent = await run(*TRIO_HUB, "send", "ws://127.0.0.1:1", "town", "1", "--patience", "1")
    assert sent.returncode == 1
    assert b"accepted nothing for 1 s" in sent.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--host", "0.0.0.0"], b"guests are served on this machine only"),
        (["serve", "--window", "0"], b"--window must be more than 0"),
        (["serve", "--tokens", "nowhere.json"], b"does not exist"),
        (["listen", "http://127.0.0.1", "town"], b"ws://"),
        (["send", "ws://127.0.0.1:99999", "town"], b"not a URL"),
        (["listen", "ws://127.0.0.1"], b"TOPIC"),
        (["serve", "--port", "99999"], b"99999"),
        (["serve", "--origin", "example.org"], b"https://example.org"),
        (["serve", "--cert-key", __file__], b"--cert only"),
        (["serve", "--node", "a"], b"--backplane only"),
        (["serve", "--backplane", "redis://127.0.0.1:1", "--cluster-key", ""], b"an empty --cluster-key"),
        (["serve", "--backplane", "redis://127.0.0.1:1", "--node", "a\nb"], b"printable"),
        (["send", "ws://127.0.0.1", "town", "1", "--patience", "-1"], b"--patience"),
        (["send", "ws://127.0.0.1", "town", "1", "--patience", "nan"], b"not a number"),
        (["listen", "ws://127.0.0.1", "town", "--resume", "/nowhere/place.json"], b"cannot keep a place"),
    ],
)
async def test_a_wrong_call_is_told_in_a_sentence(arguments, words):
    ended = await run(*TRIO_HUB, *arguments)
    assert ended.returncode in (1, 2)
    assert words in ended.stderr
    assert b"Traceback" not in ended.stderr


async def test_two_servers_cannot_have_one_port():
    async with serve() as (_, url):
        port = url.removesuffix("/ws").rpartition(":")[2]
        second = await run(*TRIO_HUB, "serve", "--port", port)
        assert second.returncode == 1
        assert b"cannot listen" in second.stderr


async def test_metrics_are_there_where_they_are_asked_for():
    for arguments, status in [((), b"404"), (("--metrics",), b"200"), (("--metrics", "--key", "sesame"), b"401")]:
        async with serve(*arguments) as (_, url):
            host, port = url.removeprefix("ws://").removesuffix("/ws").split(":")
            async with await trio.open_tcp_stream(host, int(port)) as peer:
                await peer.send_all(
                    f"GET /metrics HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()
                )
                answer = b"".join([data async for data in peer])
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert (b"trio_hub_topics 0.0" in answer) is (status == b"200")


async def test_over_tls(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    cert = tmp_path / "cert.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(cert)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with (
        serve("--cert", str(cert)) as (_, url),
        open_client(url, ssl_context=context) as client,
    ):
        await client.subscribe("town")
        assert url.startswith("wss://")
        await client.publish("town", "said", {"n": 1})
        assert (await client.receive()).data == {"n": 1}


async def test_on_a_unix_socket(tmp_path):
    path = tmp_path / "hub.sock"

    async def open_stream(address):
        return await trio.open_unix_socket(path)

    async with serve("--unix", str(path)) as (server, url):
        assert url == str(path)
        async with open_client("ws://hub", open_stream=open_stream) as client:
            await client.subscribe("town")
            await client.publish("town", "said", {"n": 1})
            assert (await client.receive()).data == {"n": 1}
        assert await server.end() == 0
    assert not path.exists()


async def test_the_socket_of_a_successor_stays(tmp_path):
    """One leaves while the next has its place already."""
    path = tmp_path / "hub.sock"
    async with serve("--unix", str(path)) as (first, _):
        path.unlink()
        async with serve("--unix", str(path)) as (second, _):
            assert await first.end() == 0
            assert path.exists()
            assert await second.end() == 0
    assert not path.exists()

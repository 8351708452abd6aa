"""``trio-hub bench`` against servers that are programs of their own, on real sockets."""

import json
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
import trio

from tests.processes import TRIO_HUB, program, run, serve
from tests.stories.proxy import Proxy

BENCH = (*TRIO_HUB, "bench")
FEW = ("--connections", "3", "--rate", "200")
LONG = ("--seconds", "600", "--json")
BROKER = Path(__file__).parents[2] / "examples" / "topic_broker.py"


def port_of(url):
    return url.removesuffix("/ws").rpartition(":")[2]


def check_sum(facts):
    assert facts["due"] == facts["delivered"] + facts["missing_told"] + facts["missing_silently"]
    assert facts["published"] == facts["accepted"] + sum(facts["failures"].values())


@pytest.mark.parametrize("spelling", [(), ("--cbor",)])
async def test_everything_comes_once_and_in_order(spelling):
    load = ("--connections", "5", "--topics", "2", "--publishers", "3", "--seconds", "1")
    async with serve() as (_, url):
        ended = await run(*BENCH, url, *load, *spelling, "--json")
    assert ended.returncode == 0, ended.stderr.decode()
    facts = json.loads(ended.stdout)
    check_sum(facts)
    assert facts["sound"] is True
    assert facts["connections"] == 8
    assert 2 * facts["accepted"] <= facts["delivered"] == facts["due"] <= 3 * facts["accepted"]
    assert facts["delivered_fraction"] == 1
    assert 0 < facts["latency_ms"]["p50"] <= facts["latency_ms"]["p99"] <= facts["latency_ms"]["max"]
    assert (facts["links_lost"], facts["gaps"], facts["duplicates"], facts["out_of_order"]) == (0, 0, 0, 0)


async def test_a_rate_is_kept_to():
    async with serve() as (_, url):
        ended = await run(*BENCH, url, *FEW, "--publishers", "2", "--seconds", "1", "--json")
    assert 0 < json.loads(ended.stdout)["published"] <= 200


async def test_what_came_of_it_is_a_table():
    async with serve() as (_, url):
        ended = await run(*BENCH, url, *FEW, "--seconds", "1")
    assert ended.returncode == 0
    rows = [line.split() for line in ended.stdout.decode().splitlines()]
    assert ["missing", "silently", "0"] in rows
    assert any(row[:3] == ["of", "those", "due"] and row[-2:] == ["100", "%"] for row in rows)


async def test_a_server_that_is_killed_is_a_gap_for_every_listener_and_the_sum_adds_up():
    async with serve() as (server, url), program(*BENCH, url, *FEW, *LONG, "--patience", "2") as bench:
        await bench.wait_for_error("stage publishing")
        await server.end(signal.SIGKILL)
        async with serve("--port", port_of(url)):
            await bench.wait_for_error("links lost 4, resumes 0, gaps 3")
            assert await bench.end(signal.SIGINT) == 130
            facts = json.loads(await bench.line())
    check_sum(facts)
    assert (facts["links_lost"], facts["resumes"], facts["gaps"]) == (4, 0, 3)
    assert (facts["missing_silently"], facts["duplicates"], facts["out_of_order"]) == (0, 0, 0)
    assert set(facts["failures"]) <= {"outcome_unknown", "no_answer"}


async def test_a_link_that_is_lost_is_resumed_and_costs_nothing():
    async with serve() as (_, url), trio.open_nursery() as tasks:
        proxy = Proxy(int(port_of(url)))
        await tasks.start(proxy.run)
        async with program(*BENCH, f"ws://127.0.0.1:{proxy.port}", *FEW, *LONG) as bench:
            await bench.wait_for_error("stage publishing")
            proxy.reset()
            await bench.wait_for_error("links lost 1, resumes 1, gaps 0")
            await bench.end(signal.SIGINT)
            facts = json.loads(await bench.line())
        tasks.cancel_scope.cancel()
    check_sum(facts)
    assert (facts["sound"], facts["delivered_fraction"]) == (True, 1)
    assert (facts["links_lost"], facts["resumes"], facts["gaps"]) == (1, 1, 0)


async def test_what_was_due_while_the_server_stood_still_is_late():
    async with serve() as (server, url), program(*BENCH, url, *FEW, "--seconds", "3", "--json") as bench:
        await bench.wait_for_error("stage publishing")
        server.process.send_signal(signal.SIGSTOP)
        await trio.sleep(1.5)
        server.process.send_signal(signal.SIGCONT)
        facts = json.loads(await bench.line())
    assert facts["latency_ms"]["p90"] > 300, "a third of all were due meanwhile, and they came a second late and less"


async def test_whoever_no_longer_reads_of_it_still_gets_the_table():
    async with serve() as (_, url):
        command = shlex.join([*map(str, BENCH), url, *FEW, "--seconds", "2.5"])
        ended = await run("sh", "-c", f"{command} 2>/dev/full")
    assert ended.returncode == 0
    assert b"delivered" in ended.stdout


async def test_a_server_that_is_gone_in_the_end_is_not_waited_for_for_ever():
    async with serve() as (server, url), program(*BENCH, url, *FEW, *LONG, "--patience", "1") as bench:
        await bench.wait_for_error("stage publishing")
        await server.end(signal.SIGKILL)
        await bench.wait_for_error("links 0 of 4")
        await bench.end(signal.SIGINT)
        facts = json.loads(await bench.line())
    check_sum(facts)
    assert facts["missing_silently"] == 0
    assert facts["failures"]["no_answer"] > 0
    assert facts["sound"] is False


async def test_ctrl_c_ends_it_with_what_was_measured_so_far():
    async with serve() as (_, url), program(*BENCH, url, *FEW, "--seconds", "600") as bench:
        await bench.wait_for_error("stage publishing")
        assert await bench.end(signal.SIGINT) == 130
        said = (await bench.process.stdout.receive_some(65536)).decode()
    assert "100 %" in said
    assert "ended before its time" in said


async def test_ctrl_c_ends_it_also_where_nobody_answers():
    async with program(*BENCH, "ws://127.0.0.1:1", "--patience", "600", *LONG) as bench:
        await bench.wait_for_error("stage connecting")
        assert await bench.end(signal.SIGINT) == 130
        facts = json.loads(await bench.line())
    assert (facts["connections"], facts["published"], facts["delivered_fraction"]) == (0, 0, None)


async def test_a_second_ctrl_c_does_not_wait_for_what_is_on_its_way():
    async with serve() as (server, url), program(*BENCH, url, *FEW, *LONG, "--patience", "600") as bench:
        await bench.wait_for_error("stage publishing")
        server.process.send_signal(signal.SIGSTOP)
        await bench.wait_for_error("stage publishing, links 4 of 4, published/s 0, delivered/s 0")
        bench.process.send_signal(signal.SIGINT)
        await bench.wait_for_error("stage waiting for the rest")
        assert await bench.end(signal.SIGINT) == 130
        facts = json.loads(await bench.line())
        server.process.send_signal(signal.SIGCONT)
    check_sum(facts)
    assert facts["failures"]["no_answer"] > 0
    assert facts["missing_silently"] == 0
    assert "What was on its way then was not waited for." in facts["remarks"]


async def test_a_terminal_has_a_display_in_place():
    terminal, its_end = os.openpty()
    async with serve() as (_, url):
        with trio.fail_after(60):
            command = [*BENCH, url, *FEW, "--seconds", "2", "--json"]
            ended = await trio.run_process(
                command, capture_stdout=True, stderr=its_end, env={**os.environ, "TERM": "xterm"}
            )
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    os.close(its_end)
    assert json.loads(ended.stdout)["sound"] is True
    assert "published/s" in shown
    assert "\x1b[" in shown


# -- where there is nothing to measure


def check_refusal(ended, *words):
    assert ended.returncode == 1
    for word in words:
        assert word in ended.stderr
    assert b"Traceback" not in ended.stderr
    assert ended.stdout == b""


async def test_nobody_is_there():
    ended = await run(*BENCH, "ws://127.0.0.1:1", "--patience", "1")
    check_refusal(ended, b"0 of 101 connections came about, and no other within 1 s: cannot connect")


async def test_the_token_is_not_known(tmp_path):
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"secret": "ann"}')
    async with serve("--tokens", str(tokens)) as (_, url):
        check_refusal(await run(*BENCH, url, "--token", "guess"), b"the hub refuses us", b"401")
        assert (await run(*BENCH, url, "--token", "secret", *FEW, "--seconds", "1")).returncode == 0


async def test_we_may_not_publish():
    async with program(sys.executable, str(BROKER)) as broker:
        ended = await run(*BENCH, await broker.line(), "--token", "secret-of-ann", "--publishers", "3", *FEW)
    check_refusal(ended, b"the hub has accepted nothing: 403 no_right")


async def test_events_are_larger_than_the_hub_takes():
    async with serve() as (_, url):
        ended = await run(*BENCH, url, "--size", "2000000", "--publishers", "2")
    check_refusal(ended, b"the hub has accepted nothing: a request of 2000")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), b"URL"),
        (("http://127.0.0.1",), b"ws://"),
        (("ws://127.0.0.1", "--connections", "0"), b"--connections"),
        (("ws://127.0.0.1", "--connections", "2", "--topics", "3"), b"--topics"),
        (("ws://127.0.0.1", "--size", "10"), b"--size"),
        (("ws://127.0.0.1", "--rate", "-1"), b"--rate"),
        (("ws://127.0.0.1", "--seconds", "nan"), b"--seconds"),
        (("ws://127.0.0.1", "--connections", "100000000"), b"open files"),
    ],
)
async def test_a_wrong_call_is_told_in_a_sentence(arguments, words):
    ended = await run(*BENCH, *arguments)
    assert ended.returncode in (1, 2)
    assert words in ended.stderr
    assert b"Traceback" not in ended.stderr

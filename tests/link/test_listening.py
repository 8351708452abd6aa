"""Where strangers knock: whatever one of them does, or the system, the others are served."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.link.pairs import send_forever
from trio_hub.errors import LinkLost, Misuse, Refused, RequestFailed
from trio_hub.link.dialing import open_link
from trio_hub.link.heads import RequestHead
from trio_hub.link.link import Link
from trio_hub.link.listening import accept_from, open_listeners, open_unix_listener
from trio_hub.link.opening import request_link
from trio_hub.link.serving import serve_links
from trio_hub.messages import CloseReason
from trio_hub.options import LinkOptions
from trio_hub.testing import Cable, CableListener


async def obey(link: Link) -> None:
    """Echo, and fail when told to."""
    async for message in link:
        match message:
            case "fail":
                raise ZeroDivisionError
            case "misuse":
                await link.send(5)
            case "return":
                return
        await link.send(message)


async def close_of(link: Link) -> int:
    with pytest.raises(LinkLost) as caught:
        await link.receive()
    return caught.value.close.code


# -- serve_links


@pytest.mark.parametrize(("order", "error"), [("fail", ZeroDivisionError), ("misuse", Misuse)])
async def test_a_handler_that_raises_ends_its_link_alone_and_is_logged(order, error, autojump_clock, caplog):
    listener = CableListener()
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, obey, listeners=[listener]))
        one, two = [await request_link(listener.dial(), host="memory", resource="/") for _ in range(2)]
        async with one.running(), two.running():
            await one.send(order)
            assert await close_of(one) == 1011
            await two.send("and you?")
            assert await two.receive() == ["and you?"]
        tasks.cancel_scope.cancel()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info[0] is error


async def test_a_handler_that_returns_closes_its_link_with_1000(autojump_clock, caplog):
    listener = CableListener()
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, obey, listeners=[listener]))
        async with (await request_link(listener.dial(), host="memory", resource="/")).running() as link:
            await link.send("return")
            assert await close_of(link) == 1000
        tasks.cancel_scope.cancel()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_lost_link_is_no_failure_of_the_handler(autojump_clock, caplog):
    async def insist(link: Link) -> None:
        while True:
            await link.receive()

    listener = CableListener()
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, insist, listeners=[listener]))
        stream = listener.dial()
        await request_link(stream, host="memory", resource="/")
        stream.hang_up()
        stream = listener.dial()
        await request_link(stream, host="memory", resource="/")
        await stream.send_all(b"\xff\xff\xff\xff")
        stream.hang_up()
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_lost_link_is_no_failure_however_many_tasks_of_a_handler_hear_of_it(autojump_clock, caplog):
    async def insist(link: Link) -> None:
        async with trio.open_nursery() as tasks:
            for _ in range(3):
                tasks.start_soon(send_forever, link, "x" * 100)

    listener = CableListener()
    async with trio.open_nursery() as tasks:
        options = LinkOptions(owed_size=1000)
        await tasks.start(partial(serve_links, insist, listeners=[listener], options=options))
        stream = listener.dial()
        await request_link(stream, host="memory", resource="/")
        await wait_all_tasks_blocked()
        stream.hang_up()
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def refuse(head: RequestHead) -> bool:
    raise RequestFailed(429, "fast", "not so fast")


async def refuse_in_a_nursery(head: RequestHead) -> bool:
    async with trio.open_nursery() as tasks:
        tasks.start_soon(refuse, head)
        await trio.sleep_forever()


async def fail(head: RequestHead) -> bool:
    raise LinkLost(CloseReason(1006, "that of the database"))


@pytest.mark.parametrize(
    ("verify", "status", "body", "logged"),
    [
        (lambda head: head.path == "/no", 401, b"The request was not accepted\n", []),
        (refuse, 429, b"not so fast\n", []),
        (refuse_in_a_nursery, 429, b"not so fast\n", []),
        (fail, 500, b"The request could not be judged\n", [LinkLost]),
        (lambda head: head.headers["x-not-there"], 500, b"The request could not be judged\n", [KeyError]),
    ],
    ids=["no", "refuses", "refuses in a nursery", "fails", "fails at once"],
)
async def test_who_is_not_let_in_is_told_so_whatever_became_of_the_question(
    verify, status, body, logged, autojump_clock, caplog
):
    listener = CableListener()
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, obey, listeners=[listener], verify=verify))
        with pytest.raises(Refused) as caught:
            await request_link(listener.dial(), host="memory", resource="/")
        tasks.cancel_scope.cancel()
    assert (caught.value.status, caught.value.body) == (status, body)
    assert [record.exc_info[0] for record in caplog.records if record.levelno >= logging.ERROR] == logged


@pytest.mark.parametrize(
    "headers", [{"X-Node": "7\r\nX-More: 8"}, {"X Node": "7"}, {"X-Node": "\ud800"}, {"X-Node": 7}]
)
async def test_headers_that_cannot_be_sent_are_found_before_anybody_comes(headers, autojump_clock):
    with pytest.raises(Misuse, match="headers"), trio.fail_after(1):
        await serve_links(obey, listeners=[CableListener()], headers=headers)


async def test_silent_links_are_let_go(autojump_clock):
    listener = CableListener()
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, obey, listeners=[listener]))
        before = trio.lowlevel.current_statistics().tasks_living
        await request_link(listener.dial(), host="memory", resource="/")
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living > before
        for _ in range(60):  # one jump of an hour would be one beat of the heart
            autojump_clock.jump(10)
            await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        tasks.cancel_scope.cancel()


async def test_when_cancelled_nobody_listens_any_more():
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(serve_links, obey)
        port = listener.socket.getsockname()[1]
        tasks.cancel_scope.cancel()
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


# -- listeners


async def test_a_port_that_is_taken_is_a_misuse():
    (listener,) = await open_listeners("127.0.0.1", 0)
    async with listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(Misuse, match=rf"127\.0\.0\.1 port {port}.*in use"):
            await open_listeners("127.0.0.1", port)
        with pytest.raises(Misuse):
            await serve_links(obey, "127.0.0.1", port)


async def test_an_address_of_another_machine_is_a_misuse():
    with pytest.raises(Misuse, match=r"192\.0\.2\.1"):
        await open_listeners("192.0.2.1", 0)


async def test_every_interface_is_listened_to_where_no_host_is_named():
    listeners = await open_listeners(None, 0)
    assert listeners
    for listener in listeners:
        await listener.aclose()


async def test_a_unix_socket_serves_links(tmp_path):
    listener = await open_unix_listener(tmp_path / "hub.sock")
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, obey, listeners=[listener]))
        stream = await trio.open_unix_socket(tmp_path / "hub.sock")
        async with (await request_link(stream, host="unix", resource="/")).running() as link:
            await link.send("hello")
            assert await link.receive() == ["hello"]
            await link.send("return")
            assert await close_of(link) == 1000
        tasks.cancel_scope.cancel()


async def test_a_unix_socket_that_was_left_behind_is_replaced(tmp_path):
    path = tmp_path / "hub.sock"
    await (await open_unix_listener(path)).aclose()
    assert path.exists(), "it is stale now"
    async with (
        await open_unix_listener(path) as listener,
        await trio.open_unix_socket(path) as near,
        await listener.accept() as far,
    ):
        await near.send_all(b"hello")
        assert await far.receive_some() == b"hello"


async def test_a_unix_socket_in_use_is_left_alone(tmp_path):
    path = tmp_path / "hub.sock"
    async with await open_unix_listener(path):
        with pytest.raises(Misuse, match="somebody does already"):
            await open_unix_listener(path)
        await (await trio.open_unix_socket(path)).aclose()


async def test_a_file_is_not_replaced_by_a_unix_socket(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(Misuse, match="no socket"):
        await open_unix_listener(path)
    assert path.read_text() == "data"


async def test_somebody_elses_datagram_socket_is_left_alone(tmp_path):
    path = tmp_path / "log.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(os.fspath(path))
        with pytest.raises(Misuse):
            await open_unix_listener(path)
        assert stat.S_ISSOCK(path.stat().st_mode)


async def test_a_unix_path_that_cannot_be_is_a_misuse(tmp_path):
    with pytest.raises(Misuse):
        await open_unix_listener(tmp_path / "nowhere" / "hub.sock")
    with pytest.raises(Misuse):
        await open_unix_listener(tmp_path / ("x" * 200))


# -- the accept loop


class Scripted(trio.abc.Listener[trio.abc.Stream]):
    """Accepts what it was told to: streams, or errors."""

    def __init__(self, *script: trio.abc.Stream | BaseException) -> None:
        self._script = list(script)
        self.closed = False

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if not self._script:
            raise trio.ClosedResourceError
        item = self._script.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_an_exhausted_system_is_waited_for(number, autojump_clock, caplog):
    served = []

    async def serve(stream: trio.abc.Stream) -> None:
        served.append(stream)

    one, two = Cable().near, Cable().near
    exhausted = OSError(number, os.strerror(number))
    listener = Scripted(one, exhausted, exhausted, two)
    async with trio.open_nursery() as tasks:
        await accept_from(listener, serve, tasks)
    assert served == [one, two]
    assert trio.current_time() == pytest.approx(0.2), "it did not spin"
    assert len(caplog.records) == 2
    assert listener.closed


async def test_another_error_of_the_listener_comes_out(autojump_clock):
    listener = Scripted(OSError(errno.EBADF, "bad"))
    async with trio.open_nursery() as tasks:
        with pytest.raises(OSError, match="bad"):
            await accept_from(listener, obey, tasks)
    assert listener.closed


async def test_a_failing_handler_has_its_stream_closed_and_the_next_is_served(autojump_clock, caplog):
    async def fail(stream: trio.abc.Stream) -> None:
        raise ZeroDivisionError

    cables = [Cable(), Cable()]
    async with trio.open_nursery() as tasks:
        await accept_from(Scripted(*(cable.near for cable in cables)), fail, tasks)
    for cable in cables:
        assert await cable.far.receive_some() == b""
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 2


async def test_a_cancelled_handler_has_its_stream_closed(autojump_clock):
    async def linger(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    cable = Cable()
    async with trio.open_nursery() as tasks:
        await accept_from(Scripted(cable.near), linger, tasks)
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert await cable.far.receive_some() == b""


async def test_all_who_wait_are_let_in_together():
    (listener,) = await open_listeners("127.0.0.1", 0)
    waiting = [socket.create_connection(listener.socket.getsockname()) for _ in range(50)]
    served = []

    async def serve(stream: trio.abc.Stream) -> None:
        served.append(stream)

    async with trio.open_nursery() as tasks:
        tasks.start_soon(accept_from, listener, serve, tasks)
        turns = 0
        while len(served) < len(waiting):
            await trio.lowlevel.checkpoint()
            turns += 1
        tasks.cancel_scope.cancel()
    assert turns < 10
    assert listener.socket.fileno() < 0, "it was closed"
    for client, stream in zip(waiting, served, strict=True):
        client.close()
        await trio.aclose_forcefully(stream)


async def test_a_link_over_an_ipv6_address():
    try:
        listeners = await open_listeners("::1", 0)
    except Misuse:
        pytest.skip("no IPv6 here")
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, obey, listeners=listeners))
        port = listeners[0].socket.getsockname()[1]
        async with open_link(f"ws://[::1]:{port}") as link:
            await link.send("hello")
            assert await link.receive() == ["hello"]
        tasks.cancel_scope.cancel()

"""The proxies of `examples/proxies`, as they come, each before a hub and with its own configuration.

Whichever is not installed is skipped. What a configuration says of paths, ports and accounts is replaced, and how long
an old process of a proxy may live after a reload.
"""

import itertools
import os
import shutil
import signal
import socket
import ssl
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trustme

from tests.processes import Program, program, run
from trio_hub import Connected, Event, Lost, Server, Session, open_client, open_unix_listener, topic
from trio_hub.testing import upgrade_request

CONFIGURATIONS = Path(__file__).parent.parent / "examples" / "proxies"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # where nginx may write
SOCKET = "/run/trio-hub/hub.sock"
WITHIN = 15.0  # s, for each story


@attrs.frozen
class Place:
    """Where everything of one proxy is: its files, its port, and whom its clients believe."""

    directory: Path
    port: int
    admin: int
    trust: ssl.SSLContext

    @property
    def hub(self) -> str:
        return str(self.directory / "hub.sock")

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def configure(self, name: str, *changes: tuple[str, str]) -> str:
        """Write the configuration of this name, with these changes, each of which must be one; return its path."""
        text = (CONFIGURATIONS / name).read_text()
        for old, new in ((SOCKET, self.hub), ("/etc/ssl/hub", str(self.directory)), *changes):
            assert old in text
            text = text.replace(old, new)
        path = self.directory / name
        path.write_text(text)
        return str(path)


@attrs.frozen
class Proxy:
    """What runs a proxy, and what has the running one read its configuration again."""

    command: tuple[str, ...]
    reload: tuple[str, ...] | signal.Signals


def nginx(place: Place, program: str) -> Proxy:
    own = "".join(f"    {each}_temp_path {place.directory}/{each};\n" for each in TEMPORARY)
    path = place.configure(
        "nginx.conf",
        ("user www-data;", "user root;" if os.geteuid() == 0 else ""),
        ("/run/nginx.pid", str(place.directory / "pid")),
        ("/var/log/nginx/access.log", str(place.directory / "log")),
        ("worker_rlimit_nofile 131072;", ""),
        ("worker_connections 65536", "worker_connections 256"),
        ("worker_shutdown_timeout 30s", "worker_shutdown_timeout 300ms"),
        ("http {\n", "http {\n" + own),
        ("listen 443 ssl", f"listen {place.host} ssl"),
    )
    command = (program, "-p", str(place.directory), "-e", "stderr", "-g", "daemon off;", "-c", path)
    return Proxy(command, signal.SIGHUP)


def haproxy(place: Place, program: str) -> Proxy:
    path = place.configure(
        "haproxy.cfg",
        ("    user haproxy\n", ""),
        ("    group haproxy\n", ""),
        ("maxconn 50000", "maxconn 100"),
        ("hard-stop-after 30s", "hard-stop-after 300ms"),
        ("bind :443", f"bind {place.host}"),
    )
    return Proxy((program, "-W", "-f", path), signal.SIGUSR2)


def caddy(place: Place, program: str) -> Proxy:
    path = place.configure(
        "Caddyfile",
        ("grace_period 30s", f"admin 127.0.0.1:{place.admin}\n\tauto_https off\n\tgrace_period 300ms"),
        ("hub.example.org {", f"https://{place.host} {{"),
    )
    its = ("env", f"XDG_DATA_HOME={place.directory}", f"XDG_CONFIG_HOME={place.directory}", program)
    read = ("--config", path, "--adapter", "caddyfile")
    return Proxy((*its, "run", *read), (*its, "reload", "--force", *read, "--address", f"127.0.0.1:{place.admin}"))


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as another:
        return one.getsockname()[1], another.getsockname()[1]


@pytest.fixture
def place(tmp_path_factory) -> Place:
    directory = tmp_path_factory.mktemp("px")  # short: the path of a socket has a hundred bytes
    authority = trustme.CA()
    proof = authority.issue_cert("127.0.0.1")
    for name, blobs in {
        "chain.pem": proof.cert_chain_pems,
        "key.pem": [proof.private_key_pem],
        "chain_and_key.pem": [proof.private_key_and_cert_chain_pem],
    }.items():
        (directory / name).write_bytes(b"".join(blob.bytes() for blob in blobs))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    return Place(directory, *free_ports(), trust)


@pytest.fixture(params=[nginx, haproxy, caddy], ids=lambda make: make.__name__)
def proxy(request, place) -> Proxy:
    name = request.param.__name__
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return request.param(place, found)


@asynccontextmanager
async def run_proxy(proxy: Proxy):
    """Run a proxy within the block; then have it end its own processes."""
    async with program(*proxy.command, within=WITHIN) as running:
        try:
            yield running
        finally:
            with trio.move_on_after(5, shield=True):
                await running.end()


@asynccontextmanager
async def serving(place: Place):
    """Run a hub on a Unix socket, for the proxy, and on a port, for whoever finds it; yield it, that port, and a list
    of the addresses that it believes its callers to have.
    """
    addresses: list[str] = []

    async def authenticate(credentials):
        addresses.append(credentials.address)
        return Session("ann") if credentials.token == "secret" else None

    server = Server(authenticate=authenticate, proxies=["unix"], key="sesame", metrics=True)
    (on_port,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(server.serve, listeners=[await open_unix_listener(place.hub), on_port]))
        yield server, on_port.socket.getsockname()[1], addresses
        await server.drain()
        nursery.cancel_scope.cancel()


async def through(place: Place) -> trio.abc.Stream:
    """Return a stream to the proxy, as soon as it is there."""
    with trio.fail_after(WITHIN):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", place.port)
            except OSError:
                await trio.sleep(0.02)
            else:
                return trio.SSLStream(stream, place.trust, server_hostname="127.0.0.1", https_compatible=True)


def shown(place: Place) -> dict[str, str]:
    """What somebody shows who may come in."""
    return {"Host": place.host, "Authorization": "Bearer secret"}


async def answer(stream: trio.abc.Stream, request: bytes) -> int:
    """Return the status with which this is answered."""
    with trio.fail_after(WITHIN):
        await stream.send_all(request)
        said = bytes(await stream.receive_some(65536))
    await trio.aclose_forcefully(stream)
    return int(said.split()[1])


async def reload(proxy: Proxy, running: Program) -> None:
    if isinstance(proxy.reload, signal.Signals):
        running.process.send_signal(proxy.reload)
    else:
        done = await run(*proxy.reload)
        assert done.returncode == 0, done.stderr.decode()


async def count_up(server: Server) -> None:
    """Say numbers, so that there is always something to miss."""
    for number in itertools.count():
        await server.publish(Event("tick", {"n": number}), to=topic("town"))
        await trio.sleep(0.01)


async def test_a_client_goes_on_through_a_reload(proxy, place):
    """Though the proxy cuts its link when it reads its configuration again, it hears everything, once and in order."""
    status: list[Connected | Lost] = []
    url = f"wss://{place.host}"
    async with (
        serving(place) as (server, _, addresses),
        run_proxy(proxy) as running,
        open_client(url, token="secret", ssl_context=place.trust, on_status=status.append) as client,
        trio.open_nursery() as tasks,
    ):
        await client.subscribe("town")
        tasks.start_soon(count_up, server)
        heard = [(await client.receive()).data["n"]]
        await reload(proxy, running)
        while len([each for each in status if isinstance(each, Connected)]) < 2:
            heard.append((await client.receive()).data["n"])
        heard += [(await client.receive()).data["n"] for _ in range(50)]
        assert status[-1].resumed
        assert heard == list(range(len(heard)))
        assert set(addresses) == {"127.0.0.1"}
        tasks.cancel_scope.cancel()


async def test_a_proxy_is_believed_for_whom_it_calls_and_nobody_else_is(proxy, place):
    request = upgrade_request(headers={**shown(place), "X-Forwarded-For": "203.0.113.7"})
    async with serving(place) as (_, port, addresses), run_proxy(proxy):
        assert await answer(await through(place), request) == 101
        assert await answer(await trio.open_tcp_stream("127.0.0.1", port), request) == 101
        assert addresses == ["127.0.0.1", "127.0.0.1"]
        assert await answer(await trio.open_unix_socket(place.hub), request) == 101  # as the proxy itself would
        assert addresses[2:] == ["203.0.113.7"]


async def test_pages_of_the_public_host_may_connect_and_no_others(proxy, place):
    """The proxy hands the name on by which it was called, with its port."""
    async with serving(place), run_proxy(proxy):
        for origin, expected in [(f"https://{place.host}", 101), ("https://elsewhere.example", 403)]:
            request = upgrade_request(headers={**shown(place), "Origin": origin})
            assert await answer(await through(place), request) == expected


async def test_nothing_but_links_is_to_be_had_from_outside(proxy, place):
    async with serving(place) as (_, port, _), run_proxy(proxy):
        for path, inside in [("healthz", 200), ("metrics", 200), ("publish", 405), ("tickets", 404), ("", 404)]:
            request = f"GET /{path} HTTP/1.1\r\nHost: {place.host}\r\nAuthorization: Bearer sesame\r\n\r\n".encode()
            assert await answer(await trio.open_tcp_stream("127.0.0.1", port), request) == inside
            assert await answer(await through(place), request) == 404

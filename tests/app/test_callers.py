"""From where somebody calls: only what a trusted proxy added is believed."""

from __future__ import annotations

import pytest

from trio_hub import Misuse, Server
from trio_hub.app.callers import Proxies, address_of, speaks_for_itself
from trio_hub.link.heads import RequestHead

PROXIES = Proxies(["10.0.0.0/8", "fd00::/8", "127.0.0.1"])


def head(**headers: str) -> RequestHead:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestHead("GET", "/ws", "/ws", "", "1.1", headers, b"", b"")


@pytest.mark.parametrize(
    ("peer", "said", "address"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # no proxy of ours: anybody may say that
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),  # what the client itself wrote before it
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:1234", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:1234", "2001:db8::1"),
        ("10.0.0.1", "2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:203.0.113.9", None, "203.0.113.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("", "198.51.100.1", ""),
        (None, "198.51.100.1", ""),
    ],
)
def test_the_address_is_the_last_that_no_proxy_of_ours_has(peer, said, address):
    assert address_of(peer, head() if said is None else head(x_forwarded_for=said), PROXIES) == address


def test_without_proxies_nobody_is_believed():
    assert address_of("10.0.0.1", head(x_forwarded_for="198.51.100.1"), Proxies()) == "10.0.0.1"


def test_a_proxy_on_a_unix_socket_has_no_address_and_can_be_believed():
    said = head(x_forwarded_for="198.51.100.1")
    assert address_of("", said, Proxies(["unix"])) == "198.51.100.1"
    assert address_of("192.0.2.1", said, Proxies(["unix"])) == "192.0.2.1"
    assert address_of("", said, Proxies(["10.0.0.0/8"])) == ""
    assert address_of(None, said, Proxies(["unix"])) == "", "whoever is gone is no Unix socket"


@pytest.mark.parametrize("name", ["10.0.0.1/8", "example.org", ""])
def test_what_is_no_network_is_said_at_the_start(name):
    with pytest.raises(Misuse, match="network"):
        Server(proxies=[name])


@pytest.mark.parametrize(
    ("peer", "host", "itself"),
    [
        ("127.0.0.1", "localhost:80", True),
        ("::1", "[::1]:80", True),
        ("127.0.0.1", "evil.example", False),
        ("192.0.2.1", "localhost", False),
        ("", "anything", True),
        (None, "localhost", False),
        ("127.0.0.1", "[", False),
    ],
)
def test_who_speaks_for_itself(peer, host, itself):
    assert speaks_for_itself(peer, head(host=host)) is itself

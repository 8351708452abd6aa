"""The backplane over a real Redis: what every one does, through a proxy for each node."""

import uuid
from contextlib import asynccontextmanager

import pytest

from tests.redis_servers import RedisServer
from tests.stores import AnyNode
from trio_hub import Misuse
from trio_hub.cluster.redis import RedisBackplane
from trio_hub.cluster.redis.address import parse_redis_url
from trio_hub.options import BackplaneOptions
from trio_hub.testing import open_proxy
from trio_hub.testing.contracts import BackplaneContract, TicketStoreContract


@pytest.fixture(scope="module")
def redis():
    with RedisServer() as server:
        yield server


class TestRedisBackplane(BackplaneContract):
    options = BackplaneOptions(
        patience=1.0,
        beat_every=0.2,
        deaf_after=1.0,
        first_retry=0.01,
        longest_retry=0.1,
        waiting=BackplaneContract.waiting,
        kept=BackplaneContract.kept,
    )

    @pytest.fixture(autouse=True)
    def _redis(self, redis):
        self.redis, self.prefix = redis, uuid.uuid4().hex
        self.proxies, self.parted = {}, set()

    @asynccontextmanager
    async def join(self, node):
        async with open_proxy(self.redis.port) as proxy:
            self.proxies[node] = proxy
            if node in self.parted:
                proxy.cut()
            url = f"redis://127.0.0.1:{proxy.port}"
            async with RedisBackplane(url, prefix=self.prefix, options=self.options).join(node) as member:
                yield member

    def cut(self, node):
        self.parted.add(node)
        if node in self.proxies:
            self.proxies[node].cut()

    def mend(self, node):
        self.parted.discard(node)
        self.proxies[node].mend()


class TestTicketsInRedis(TicketStoreContract):
    short = 0.1

    @pytest.fixture(autouse=True)
    def _redis(self, redis):
        self.redis = redis

    async def open_store(self):
        return AnyNode(RedisBackplane(self.redis.url, prefix=uuid.uuid4().hex))


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "database", "user", "password"),
    [
        ("redis://hub", "hub", 6379, None, 0, None, None),
        ("redis://ann:p%40ss@10.0.0.1:7000/3", "10.0.0.1", 7000, None, 3, "ann", "p@ss"),
        ("rediss://:secret@[::1]", "::1", 6379, None, 0, None, "secret"),
        ("unix://:secret@/run/redis.sock", "", 6379, "/run/redis.sock", 0, None, "secret"),
    ],
)
def test_an_address_is_read_from_a_url(url, host, port, path, database, user, password):
    address = parse_redis_url(url)
    assert (address.host, address.port, address.path, address.database) == (host, port, path, database)
    assert (address.username, address.password) == (user, password)
    assert (address.tls is not None) == url.startswith("rediss")
    assert "secret" not in repr(address) + str(address)


@pytest.mark.parametrize("url", ["http://:secret@hub", "redis://:secret@hub:x", "redis://:secret@hub/x", "redis://"])
def test_another_url_is_refused_without_a_word_of_it(url):
    with pytest.raises(Misuse) as caught:
        RedisBackplane(url)
    assert "secret" not in str(caught.value)


def test_without_coredis_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Misuse, match=r"trio-hub\[redis\]"):
        RedisBackplane("redis://hub")

"""Sockets, streams and TLS do what every transport must."""

from __future__ import annotations

import socket

import pytest
import trio

from tests.link.pairs import RESET_ON_CLOSE, tcp_pair
from trio_hub.testing import Cable
from trio_hub.testing.contracts import TransportContract


class TestSocket(TransportContract):
    async def open_streams(self):
        near, self.far = await tcp_pair(buffer=4096)
        return near, self.far

    def cut(self):
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.far.socket.close()


class TestStream(TransportContract):
    async def open_streams(self):
        self.cable = Cable()
        return self.cable.near, self.cable.far

    def cut(self):
        self.cable.cut()


class TestTLS(TransportContract):
    half_closes = False
    https_compatible = True

    @pytest.fixture(autouse=True)
    def _contexts(self, tls):
        self.server, self.client = tls

    async def open_streams(self):
        self.cable = Cable()
        lenient = self.https_compatible
        near = trio.SSLStream(self.cable.near, self.server, server_side=True, https_compatible=lenient)
        far = trio.SSLStream(self.cable.far, self.client, server_hostname="hub.example", https_compatible=lenient)
        async with trio.open_nursery() as tasks:
            tasks.start_soon(near.do_handshake)
            tasks.start_soon(far.do_handshake)
        return near, far

    def cut(self):
        self.cable.cut()


class TestStrictTLS(TestTLS):
    https_compatible = False

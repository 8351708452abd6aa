"""The backplane of one process."""

import pytest

from tests.stores import AnyNode
from trio_hub import Misuse
from trio_hub.cluster.memory import MemoryBackplane
from trio_hub.options import BackplaneOptions
from trio_hub.testing.contracts import BackplaneContract, TicketStoreContract


class TestMemoryBackplane(BackplaneContract):
    @pytest.fixture(autouse=True)
    def _backplane(self):
        self.backplane = MemoryBackplane(BackplaneOptions(waiting=self.waiting, kept=self.kept, deaf_after=0.2))

    def join(self, node):
        return self.backplane.join(node)

    def cut(self, node):
        self.backplane.cut(node)

    def mend(self, node):
        self.backplane.mend(node)

    async def test_a_name_is_taken_once(self):
        async with self.join("ann"):
            with pytest.raises(Misuse, match="ann"):
                async with self.join("ann"):
                    pass


class TestTicketsInMemory(TicketStoreContract):
    short = 0.1

    async def open_store(self):
        return AnyNode(MemoryBackplane())

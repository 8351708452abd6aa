"""What every backplane, codec, transport and store must do, as classes of tests: whoever writes one subclasses it.

This module needs pytest, pytest-trio and Hypothesis, so `trio_hub.testing` does not import it.
"""

from trio_hub.testing.contracts.backplane import BackplaneContract
from trio_hub.testing.contracts.codec import CodecContract
from trio_hub.testing.contracts.tickets import TicketStoreContract
from trio_hub.testing.contracts.transport import TransportContract

__all__ = ["BackplaneContract", "CodecContract", "TicketStoreContract", "TransportContract"]

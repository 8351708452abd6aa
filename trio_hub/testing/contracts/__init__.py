"""What every codec, transport and store must do, as classes of tests: whoever writes one subclasses its contract.

This module needs pytest, pytest-trio and Hypothesis, so `trio_hub.testing` does not import it.
"""

from trio_hub.testing.contracts.codec import CodecContract
from trio_hub.testing.contracts.tickets import TicketStoreContract
from trio_hub.testing.contracts.transport import TransportContract

__all__ = ["CodecContract", "TicketStoreContract", "TransportContract"]

"""Certificates that only these tests believe in, how hard property tests try, and what a signal means to programs."""

from __future__ import annotations

import os
import signal
import ssl

import pytest
import trustme
from hypothesis import Phase, settings

# For `tests.mutations`, which says the seed.
settings.register_profile("no shrinking", database=None, derandomize=False, phases=[Phase.generate])
if "HYPOTHESIS_PROFILE" in os.environ:
    settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])


# A shell has what it starts in the background ignore Ctrl-C, and so would the programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for 127.0.0.1 and hub.example, and that of a client who trusts it."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1", "hub.example").configure_cert(server)
    authority.configure_trust(client)
    return server, client

"""The public names, and that each of them says what it promises."""

import inspect

import trio_hub
import trio_hub.broker
import trio_hub.testing

NAMES = """
    Arrival Authenticate Backplane BackplaneHealth BackplaneOptions BackplaneStatistics Busy BusyOptions CallOptions
    Calls Carry Client ClientOptions CloseCode CloseReason Closed ClusterOptions CompressionOptions Connected
    Connection Credentials Delivery Dialect DispatchOptions Dispatcher Edit Editor Editors Event Gap Handlers Hub
    HubError HubOptions HubStatistics Incoming Interrupted Items Kind Link LinkLost LinkOptions LinkStatus Lost
    MayPublish MaySubscribe Member Membership MemoryBackplane MemoryTickets Misuse NoPlace OpeningOptions Order
    Outbound OutboxOptions OutcomeUnknown PeerFault Pool PoolOptions PoolStatistics Position Presence PresenceOptions
    Published Question Rate Reach ReadSession RedisBackplane Refused Relay RelayStatistics RequestFailed RequestHead
    Router Sent Server Session Sessions Status StreamReset Streams StreamsOptions Target TicketOffice TicketStore
    TooManyTickets TopicsOf Typing TypingOptions Unreachable WhenFull WholeMessage __version__ all_of any_of anybody
    by_cookie by_password by_token claim connection everyone expires first_of guests known_tokens latest must nobody
    open_calls open_client open_link open_pool open_streams open_unix_listener sensitive serve_links session topic
    user users volatile
""".split()


def test_the_front_door_has_these_names_and_no_others():
    assert sorted(trio_hub.__all__) == sorted(NAMES)
    for name in NAMES:
        assert hasattr(trio_hub, name)


def test_every_public_name_has_a_docstring():
    for module in (trio_hub, trio_hub.testing, trio_hub.broker):
        assert inspect.getdoc(module)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isroutine(thing):
                assert inspect.getdoc(thing), name


def test_every_public_method_has_a_docstring():
    for module in (trio_hub, trio_hub.testing):
        for name in module.__all__:
            thing = getattr(module, name)
            if not inspect.isclass(thing):
                continue
            for member, value in vars(thing).items():
                if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                    assert inspect.getdoc(value), f"{name}.{member}"


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert trio_hub.__version__ == version("trio-hub")

"""Tickets open one link, once, soon, and only where they are meant to."""

from __future__ import annotations

import math

import pytest
import trio

from trio_hub import Misuse, Refused, Server, Session, first_of, guests, known_tokens, open_client
from trio_hub.app.tickets import MemoryTickets, TicketOffice, TooManyTickets
from trio_hub.session import Credentials
from trio_hub.testing import Weather, open_world
from trio_hub.testing.contracts import TicketStoreContract

ANN = Session("ann", {"roles": ["editor"]}, id="phone", lasts=3600, extended=True)


class TestMemoryTickets(TicketStoreContract):
    @pytest.fixture(autouse=True)
    def _clock(self, autojump_clock):
        pass

    async def open_store(self):
        return MemoryTickets()

    async def test_room_is_made_by_those_that_have_run_out_alone(self, autojump_clock):
        store = MemoryTickets(most=2)
        await store.put("1", b"", 10)
        await store.put("2", b"", 20)
        with pytest.raises(TooManyTickets):
            await store.put("3", b"", 20)
        await trio.sleep(11)
        await store.put("3", b"3", 20)
        assert await store.take("3") == b"3"


def shown(ticket: str, *, origin: str | None = None, address: str = "") -> Credentials:
    return Credentials(None, {} if origin is None else {"origin": origin}, {"ticket": [ticket]}, address)


@pytest.mark.parametrize("session", [ANN, Session("bob"), Session("bob", lasts=math.inf)])
async def test_a_ticket_brings_back_the_session_it_was_issued_for(session, autojump_clock):
    office = TicketOffice()
    ticket = await office.issue(session)
    assert ticket.isascii()
    assert not set(ticket) & set("&=+/ %")
    assert await office.authenticate(shown(ticket)) == session
    assert await office.authenticate(shown(ticket)) is None


async def test_a_ticket_is_good_for_seconds(autojump_clock):
    office = TicketOffice(lasts=5)
    early, late = await office.issue(ANN), await office.issue(ANN)
    await trio.sleep(4)
    assert await office.authenticate(shown(early)) == ANN
    await trio.sleep(2)
    assert await office.authenticate(shown(late)) is None


async def test_a_ticket_may_be_for_one_origin_and_one_address(autojump_clock):
    office = TicketOffice()
    for wrong in ({"origin": "https://evil.example"}, {"address": "10.0.0.9"}, {}):
        ticket = await office.issue(ANN, origin="https://example.org", address="10.0.0.1")
        assert await office.authenticate(shown(ticket, **wrong)) is None
        assert await office.authenticate(shown(ticket, origin="https://example.org", address="10.0.0.1")) is None
    ticket = await office.issue(ANN, origin="https://example.org", address="10.0.0.1")
    assert await office.authenticate(shown(ticket, origin="https://example.org", address="10.0.0.1")) == ANN


async def test_what_is_stored_is_no_ticket(autojump_clock):
    store = MemoryTickets()
    ticket = await TicketOffice(store).issue(ANN)
    assert ticket not in repr(vars(store))


async def test_claims_that_cannot_be_kept_are_the_callers_mistake(autojump_clock):
    with pytest.raises(Misuse, match="JSON"):
        await TicketOffice().issue(Session("ann", {"x": object()}))


@pytest.mark.parametrize("lasts", [0, -1, math.inf, math.nan])
def test_a_ticket_has_an_end(lasts):
    with pytest.raises(Misuse):
        TicketOffice(lasts=lasts)


async def test_a_page_comes_in_by_a_ticket_once(autojump_clock):
    office = TicketOffice()
    server = Server(authenticate=first_of(office.authenticate, known_tokens({"t": "bob"})))
    async with open_world(server) as world:
        ticket = await office.issue(ANN)
        async with world.open_link(f"/ws?ticket={ticket}"):
            assert [each.session for each in server.hub.connections()] == [ANN]
        with pytest.raises(Refused, match="401"):
            async with world.open_link(f"/ws?ticket={ticket}"):
                pass
        async with world.open_client(token="t"):
            pass


async def test_a_ticket_that_is_no_good_is_refused_before_anything_is_opened(autojump_clock):
    async with open_world(Server(authenticate=TicketOffice().authenticate)) as world:
        for query in ("?ticket=x", "?ticket=", "?ticket=a&ticket=b"):
            with pytest.raises(Refused, match="401"):
                async with world.open_link(f"/ws{query}"):
                    pass


async def test_guests_need_no_ticket():
    assert await guests(shown("x")) == Session("guest")


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_client_with_a_ticket_for_each_dial_outlives_its_links(kind, autojump_clock):
    tickets = TicketOffice()
    async with open_world(tickets=tickets) as world:
        issued = [await tickets.issue(Session("ann")) for _ in range(3)]

        def url() -> str:
            return f"ws://memory?ticket={issued.pop()}"

        async def url_later() -> str:
            await trio.sleep(1)
            return url()

        weather = Weather(world.reach)
        async with open_client(url if kind == "plain" else url_later, open_stream=weather.open_stream) as client:
            await client.connected()
            (stay,) = world.server.hub.connections()
            for _ in range(2):
                weather.cut_once()
                await client.request("ping")
            assert stay.statistics().links == 3  # resumed, with what says so beside the ticket
            assert not issued


async def test_what_says_where_to_dial_may_fail_for_now_or_for_good(autojump_clock):
    async with open_world() as world:
        urls = [OSError("no back end"), "ws://memory", "http://memory"]

        async def url() -> str:
            said = urls.pop(0)
            if isinstance(said, OSError):
                raise said
            return said

        weather = Weather(world.reach)

        async def ask_twice() -> None:
            async with open_client(url, open_stream=weather.open_stream) as client:
                await client.request("ping")
                weather.cut_once()
                await client.request("ping")

        with pytest.raises(Misuse, match="ws://"):
            await ask_twice()
        assert not urls

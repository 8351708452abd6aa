"""Sessions end, are renewed, revoked and changed while connections stay; nobody hears what is no longer theirs."""

from __future__ import annotations

import gc
import json
import weakref

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_hub import (
    CloseCode,
    Closed,
    Event,
    HubOptions,
    RequestFailed,
    Router,
    Server,
    Session,
    claim,
    connection,
    everyone,
    session,
    topic,
    user,
)
from trio_hub.app.changes import Change
from trio_hub.testing import open_world


@attrs.define
class Users:
    """An application's users: sessions by token, which it may change at any time."""

    sessions: dict[str, Session] = attrs.field(factory=dict)
    delay: float = 0.0

    async def authenticate(self, credentials) -> Session | None:
        found = self.sessions.get(credentials.token)
        await trio.sleep(self.delay)
        return found

    async def read(self, old: Session) -> Session | None:
        return next((each for each in self.sessions.values() if each.id == old.id), None)


def may_subscribe(session: Session, name: str) -> bool:
    return name in session.claims.get("channels", ())


def topics_of(session: Session) -> list[str]:
    return session.claims.get("own", [])


def server_for(users: Users, **arguments) -> Server:
    return Server(authenticate=users.authenticate, read_session=users.read, **arguments)


async def ended(client) -> CloseCode:
    """Return the code with which this client was closed for good."""
    with trio.fail_after(60):
        try:
            while True:
                await client.receive()
        except Closed as closed:
            return closed.close.code


# -- the end of their time


async def test_a_session_that_has_run_out_is_closed_with_4502(autojump_clock):
    users = Users({"t": Session("ann", lasts=100)})
    async with open_world(server_for(users)) as world, world.open_client(token="t") as client:
        begun = trio.current_time()
        await trio.sleep(99)
        await client.request("ping")
        assert await ended(client) == CloseCode.SESSION_EXPIRED
        assert 100 <= trio.current_time() - begun <= 101.5
        await wait_all_tasks_blocked()
        assert not world.server.hub.connections()


async def test_who_is_away_when_the_session_runs_out_cannot_come_back(autojump_clock):
    users = Users({"t": Session("ann", lasts=20)})
    async with open_world(server_for(users)) as world, world.open_client(token="t") as client:
        client.weather.cut()
        await trio.sleep(30)
        assert not world.server.hub.connections()


async def test_an_extended_session_lasts_while_anything_is_asked_on_any_of_its_links(autojump_clock):
    users = Users({"t": Session("ann", id="s", lasts=10, extended=True), "u": Session("bob", lasts=10, extended=True)})
    async with (
        open_world(server_for(users)) as world,
        world.open_client(token="t") as busy,
        world.open_client(token="t") as idle,
        world.open_client(token="u") as other,
    ):
        for _ in range(20):
            await trio.sleep(5)
            await busy.request("ping")
        assert [each.user for each in world.server.hub.connections()] == ["ann", "ann"]
        assert await ended(other) == CloseCode.SESSION_EXPIRED
        assert await ended(idle) == CloseCode.SESSION_EXPIRED  # nobody has asked anything since


async def test_a_session_is_renewed_without_a_new_link(autojump_clock):
    users = Users({"first": Session("ann", lasts=10), "second": Session("ann", {"role": "editor"}, lasts=1000)})
    async with open_world(server_for(users)) as world, world.open_client(token="first") as client:
        await trio.sleep(8)
        await client.authenticate("second")
        await trio.sleep(500)
        (stay,) = world.server.hub.connections(claim("role", "editor"))
        assert stay.statistics().links == 1
        del users.sessions["first"]
        client.weather.cut_once()  # the next link brings the new token, too
        await client.request("ping")
        assert stay.statistics().links == 2


async def test_a_renewal_begins_the_time_anew_also_with_the_same_session(autojump_clock):
    users = Users({"t": Session("ann", lasts=10)})
    async with open_world(server_for(users)) as world, world.open_client(token="t") as client:
        for _ in range(5):
            await trio.sleep(8)
            await client.authenticate("t")
        assert world.server.hub.connections()


async def test_nobody_becomes_another_user_by_that(autojump_clock):
    users = Users({"ann": Session("ann"), "bob": Session("bob")})
    async with open_world(server_for(users)) as world, world.open_client(token="ann") as client:
        with pytest.raises(RequestFailed, match="another user's"):
            await client.authenticate("bob")
        (stay,) = world.server.hub.connections()
        assert stay.user == "ann"


# -- revocation


@pytest.mark.parametrize(
    "target", [user("ann"), session("phone") | session("laptop"), everyone() & claim("role", "editor"), everyone()]
)
async def test_revoked_sessions_are_closed_at_once_with_4501(target, autojump_clock):
    phone, laptop = (Session("ann", {"role": "editor"}, id=each) for each in ("phone", "laptop"))
    users = Users({"p": phone, "l": laptop})
    async with (
        open_world(server_for(users)) as world,
        world.open_client(token="p") as on_phone,
        world.open_client(token="l") as on_laptop,
    ):
        now = trio.current_time()
        assert world.server.sessions.revoke(target) == 2
        for client in (on_phone, on_laptop):
            assert await ended(client) == CloseCode.SESSION_REVOKED
        assert trio.current_time() == now
        assert not world.server.hub.connections()


async def test_one_session_is_revoked_and_the_users_others_go_on(autojump_clock):
    users = Users({"p": Session("ann", id="phone"), "l": Session("ann", id="laptop")})
    async with (
        open_world(server_for(users)) as world,
        world.open_client(token="p") as on_phone,
        world.open_client(token="l") as on_laptop,
    ):
        assert world.server.sessions.revoke(session("phone")) == 1
        assert await ended(on_phone) == CloseCode.SESSION_REVOKED
        await on_laptop.request("ping")


async def test_who_is_away_cannot_resume_what_was_revoked(autojump_clock):
    users = Users({"t": Session("ann")})
    async with open_world(server_for(users)) as world, world.open_client(token="t") as client:
        client.weather.cut()
        await wait_all_tasks_blocked()
        world.server.sessions.revoke(user("ann"))
        await world.server.publish(Event("secret"), to=user("ann"))
        await wait_all_tasks_blocked()
        assert not world.server.hub.connections()


async def test_who_is_on_the_way_in_is_turned_away(autojump_clock):
    """The application looked the session up, then it was revoked, then the application answered."""
    users = Users({"t": Session("ann", id="s")}, delay=2)
    server = server_for(users)
    async with open_world(server) as world, trio.open_nursery() as tasks:

        async def come_in() -> None:
            async with world.open_link(headers={"Authorization": "Bearer t"}) as link:
                assert [message async for message in link] == []
                assert link.closed.code == CloseCode.SESSION_REVOKED

        tasks.start_soon(come_in)
        await trio.sleep(1)
        assert server.sessions.revoke(session("s")) == 0
        await trio.sleep(5)
        assert not server.hub.connections()
        users.delay = 0
        async with world.open_client(token="t"):  # who comes later is a matter of `authenticate`
            assert server.hub.connections()


async def come_in(world, token: str, resource: str = "/ws") -> CloseCode | None:
    """Return the code with which somebody is turned away; None where they are not."""
    async with world.open_link(resource, headers={"Authorization": f"Bearer {token}"}) as link:
        with trio.move_on_after(60):
            async for _ in link:
                pass
        return None if link.closed is None else link.closed.code


async def test_who_is_read_anew_on_the_way_in_is_turned_away_by_what_they_are_then(autojump_clock):
    users = Users({"t": Session("ann", {"role": "member"}, id="s")}, delay=2)
    server = server_for(users)
    async with open_world(server) as world, trio.open_nursery() as tasks:
        codes = []

        async def come() -> None:
            codes.append(await come_in(world, "t"))

        tasks.start_soon(come)
        await trio.sleep(1)
        users.sessions["t"] = Session("ann", {"role": "guest"}, id="s")
        await server.sessions.invalidate(user("ann"))
        assert server.sessions.revoke(everyone() & claim("role", "guest")) == 0
        await trio.sleep(5)
        assert codes == [CloseCode.SESSION_REVOKED]


@pytest.mark.parametrize("by", ["connection", "topic"])
async def test_a_revocation_is_of_nobody_else(by, autojump_clock):
    """Not of those who are read anew meanwhile, nor of those on the way in to something else."""
    users = Users({name: Session(name, id=name) for name in ("ann", "bob", "cat")})

    async def read(old: Session) -> Session | None:
        await trio.sleep(2)
        return attrs.evolve(old, claims={"read": True})

    server = Server(authenticate=users.authenticate, read_session=read)
    async with open_world(server) as world, world.open_client(token="ann"), world.open_client(token="bob") as bob:
        await bob.subscribe("town")
        (of_ann, of_bob) = server.hub.connections()
        codes = []

        async def come() -> None:
            codes.append(await come_in(world, "cat"))

        users.delay = 2
        async with trio.open_nursery() as tasks:
            tasks.start_soon(server.sessions.invalidate, everyone())
            tasks.start_soon(come)
            await trio.sleep(1)
            assert server.sessions.revoke(connection(of_bob.id) if by == "connection" else topic("town")) == 1
            assert await ended(bob) == CloseCode.SESSION_REVOKED
            await trio.sleep(5)
            (still_here, _) = server.hub.connections()
            assert still_here is of_ann
            assert of_ann.session.claims == {"read": True}
        assert codes == [None]


async def test_who_comes_to_a_topic_that_is_revoked_comes_back(autojump_clock):
    users = Users({"t": Session("ann", {"own": ["town"]})}, delay=2)
    server = server_for(users, topics_of=topics_of)
    async with open_world(server) as world, trio.open_nursery() as tasks:
        codes = []

        async def come() -> None:
            codes.append(await come_in(world, "t"))

        tasks.start_soon(come)
        await trio.sleep(1)
        server.sessions.revoke(topic("town") & user("ann"))
        await trio.sleep(5)
        assert codes == [CloseCode.TRY_AGAIN]


async def test_who_comes_back_to_what_was_revoked_comes_back_once_more(autojump_clock):
    users = Users({"t": Session("ann")})
    server = server_for(users)
    async with open_world(server) as world, world.open_client(token="t") as client, trio.open_nursery() as tasks:
        (stay,) = server.hub.connections()
        client.weather.cut()
        users.delay = 2
        codes = []

        async def come() -> None:
            codes.append(await come_in(world, "t", f"/ws?connection_id={stay.id}&sequence_number=1"))

        tasks.start_soon(come)
        await trio.sleep(1)
        assert server.sessions.revoke(connection(stay.id)) == 1
        await trio.sleep(5)
        assert codes == [CloseCode.TRY_AGAIN]


@pytest.mark.parametrize("whose", ["others'", "their own"])
async def test_changes_that_go_on_and_on_keep_nobody_out(whose, autojump_clock):
    database = Database("guest", delay=2)

    async def authenticate(credentials) -> Session | None:
        await trio.sleep(2)
        return Session("ann", {"role": "guest"}, id="s")

    server = Server(authenticate=authenticate, read_session=database.read)
    async with open_world(server) as world, trio.open_nursery() as tasks:

        async def change() -> None:
            for n in range(30):
                database.role = str(n)
                if whose == "others'":
                    server.sessions.revoke(connection("a" * 26) | topic("an-empty-room"))
                tasks.start_soon(server.sessions.invalidate, topic("room") if whose == "others'" else user("ann"))
                await trio.sleep(1)

        tasks.start_soon(change)
        await trio.sleep(0.5)
        tasks.start_soon(come_in, world, "t")
        await trio.sleep(5)
        (stay,) = server.hub.connections()
        await trio.sleep(40)
        assert server.hub.connections() == [stay]
        if whose == "their own":
            assert stay.session.claims["role"] == "29"
        tasks.cancel_scope.cancel()


async def test_who_comes_in_with_what_has_changed_since_is_read_again(autojump_clock):
    """The last change is made while they are read on the way in."""
    database = Database("owner", delay=2)

    async def authenticate(credentials) -> Session | None:
        await trio.sleep(2)
        return Session("ann", {"role": "owner"}, id="s")

    server = Server(authenticate=authenticate, read_session=database.read)
    async with open_world(server) as world, trio.open_nursery() as tasks:
        tasks.start_soon(come_in, world, "t")
        await trio.sleep(1)
        database.role = "editor"
        await server.sessions.invalidate(user("ann"))
        await trio.sleep(2)
        database.role = "guest"
        await server.sessions.invalidate(user("ann"))
        await trio.sleep(1.5)
        (stay,) = server.hub.connections()
        assert stay.session.claims == {"role": "editor"}
        await trio.sleep(2)
        assert stay.session.claims == {"role": "guest"}
        tasks.cancel_scope.cancel()


async def test_who_enters_a_topic_after_it_was_revoked_stays(autojump_clock):
    users = Users({"t": Session("bob", id="s")})

    async def read(old: Session) -> Session | None:
        await trio.sleep(3)
        return attrs.evolve(old)

    server = Server(authenticate=users.authenticate, read_session=read)
    async with open_world(server) as world, world.open_client(token="t") as client, trio.open_nursery() as tasks:
        tasks.start_soon(server.sessions.invalidate, everyone())
        await trio.sleep(1)
        assert server.sessions.revoke(topic("room")) == 0
        await client.subscribe("room")
        await trio.sleep(5)
        (stay,) = server.hub.connections()
        assert stay.topics == {"room"}


async def test_who_is_read_as_one_of_those_that_were_revoked_in_a_topic_comes_back(autojump_clock):
    """Whether they were in it at that moment nobody knows any more."""
    database = Database("admin")
    server = Server(authenticate=database.authenticate, read_session=database.read)
    async with open_world(server) as world, world.open_client(token="t") as client, trio.open_nursery() as tasks:
        await client.subscribe("room")
        (stay,) = server.hub.connections()
        database.role, database.delay = "guest", 2
        tasks.start_soon(server.sessions.invalidate, everyone())
        await trio.sleep(1)
        assert server.sessions.revoke(topic("room") & claim("role", "guest")) == 0
        await trio.sleep(2)
        assert stay.has_ended


async def test_who_comes_after_a_revocation_comes_in_whatever_the_clock_says(autojump_clock):
    async with open_world(server_for(Users({"t": Session("ann")}))) as world:
        async with world.open_client(token="t") as client:
            world.server.sessions.revoke(user("ann"))
            assert await ended(client) == CloseCode.SESSION_REVOKED
        async with world.open_client(token="t") as client:  # at the same moment, with a stopped clock
            await client.request("ping")


async def test_a_renewal_under_way_does_not_outlive_a_revocation(autojump_clock):
    users = Users({"first": Session("ann", id="s1"), "second": Session("ann", id="s2")})
    server = server_for(users)
    async with open_world(server) as world, world.open_client(token="first") as client, trio.open_nursery() as tasks:

        async def renew() -> None:
            with pytest.raises(Closed):
                await client.authenticate("second")

        users.delay = 2
        tasks.start_soon(renew)
        await trio.sleep(1)
        assert server.sessions.revoke(session("s2")) == 0
        assert await ended(client) == CloseCode.SESSION_REVOKED
        assert server.hub.connections() == []
        assert server.sessions.revoke(session("s2")) == 0


async def test_nothing_behind_a_revocation_is_carried_out(autojump_clock):
    done = []
    router = Router()

    @router.action("logout")
    def logout(connection, data) -> None:
        server.sessions.revoke(user("ann"))

    @router.action("do")
    def do(connection, data) -> None:
        done.append(data)

    server = Server(router, authenticate=Users({"t": Session("ann")}).authenticate)
    async with (
        open_world(server) as world,
        world.open_link(subprotocols=["trio-hub.v1.json"], headers={"Authorization": "Bearer t"}) as link,
    ):
        await anext(link)
        await link.send(json.dumps([{"seq": 1, "action": "logout"}, {"seq": 2, "action": "do"}]))
        async for _ in link:
            pass
        assert link.closed.code == CloseCode.SESSION_REVOKED
        assert done == []


async def test_nothing_that_waits_or_runs_outlives_a_revocation(autojump_clock):
    done = []
    router = Router()

    @router.action("logout", ordered=True)
    async def logout(connection, data) -> None:
        await trio.sleep(1)
        server.sessions.revoke(user("ann"))

    @router.action("pay", ordered=True)
    def pay(connection, data) -> None:
        done.append("pay")

    @router.action("think")
    async def think(connection, data) -> None:
        await trio.sleep(2)
        done.append("think")

    server = Server(router, authenticate=Users({"t": Session("ann")}).authenticate)
    async with open_world(server) as world, world.open_client(token="t") as client:
        (stay,) = server.hub.connections()
        for action in ("logout", "pay", "think"):
            await client.ask(action)
        assert await ended(client) == CloseCode.SESSION_REVOKED
        await trio.sleep(10)
        assert done == []
        assert stay.statistics().running_requests == 0


async def test_what_has_not_begun_at_a_revocation_never_does(autojump_clock):
    done = []
    router = Router()

    @router.action("pay")
    async def pay(connection, data) -> None:
        done.append("pay")

    @router.action("logout")
    def logout(connection, data) -> None:
        server.sessions.revoke(user("ann"))

    server = Server(router, authenticate=Users({"t": Session("ann")}).authenticate)
    async with (
        open_world(server) as world,
        world.open_link(subprotocols=["trio-hub.v1.json"], headers={"Authorization": "Bearer t"}) as link,
    ):
        await anext(link)
        await link.send(json.dumps([{"seq": 1, "action": "pay"}, {"seq": 2, "action": "logout"}]))
        async for _ in link:
            pass
        assert done == []


async def test_who_cannot_be_asked_about_in_band_comes_back_later(autojump_clock):
    async def authenticate(credentials) -> Session | None:
        if credentials.token is None:
            return None
        raise RequestFailed(503, "later", "the database is gone")

    async with open_world(authenticate=authenticate) as world, world.open_link() as link:
        await link.send(json.dumps({"seq": 1, "action": "authentication_challenge", "data": {"token": "t"}}))
        assert json.loads(await anext(link))["error"]["status_code"] == 503
        assert [message async for message in link] == []
        assert link.closed.code == CloseCode.TRY_AGAIN


# -- change


async def test_other_rights_are_other_topics(autojump_clock):
    users = Users({"t": Session("ann", {"channels": ["town", "sea"], "own": ["mine"]}, id="s")})
    server = server_for(users, may_subscribe=may_subscribe, topics_of=topics_of)
    async with open_world(server) as world, world.open_client(token="t", topics=["town", "sea"]) as client:
        (stay,) = server.hub.connections()
        assert stay.topics == {"town", "sea", "mine"}
        users.sessions["t"] = Session("ann", {"channels": ["sea"], "own": ["new"]}, id="s")
        assert stay.topics == {"town", "sea", "mine"}
        await server.sessions.invalidate(user("ann"))
        assert stay.topics == {"sea", "new"}
        for name in ("town", "mine", "new"):
            await server.publish(Event(name), to=topic(name))
        assert (await client.receive()).name == "new"


async def test_who_is_on_the_way_in_comes_in_with_what_is_true_by_then(autojump_clock):
    users = Users({"t": Session("ann", {"channels": ["town"]}, id="s")}, delay=2)
    server = server_for(users, may_subscribe=may_subscribe)
    async with open_world(server) as world, trio.open_nursery() as tasks:

        async def come_in() -> None:
            async with world.open_link("/ws", headers={"Authorization": "Bearer t"}):
                await trio.sleep_forever()

        tasks.start_soon(come_in)
        await trio.sleep(1)
        users.sessions["t"] = Session("ann", {"channels": []}, id="s")
        await server.sessions.invalidate(user("ann"))
        await trio.sleep(2)
        (stay,) = server.hub.connections()
        assert stay.session.claims == {"channels": []}
        tasks.cancel_scope.cancel()


async def test_who_comes_back_with_other_rights_hears_no_more_than_those(autojump_clock):
    users = Users({"t": Session("ann", {"channels": ["town"]}, id="s")})
    server = server_for(users, may_subscribe=may_subscribe)
    async with open_world(server) as world, world.open_client(token="t", topics=["town"]) as client:
        client.weather.cut_once()
        users.sessions["t"] = Session("ann", {"channels": []}, id="s")
        await client.request("ping")
        (stay,) = server.hub.connections()
        assert not stay.topics


async def test_a_session_that_is_over_is_closed_when_it_is_read(autojump_clock):
    users = Users({"t": Session("ann", id="s"), "u": Session("ann", id="other")})
    server = server_for(users)
    async with (
        open_world(server) as world,
        world.open_client(token="t") as client,
        world.open_client(token="u") as other,
    ):
        del users.sessions["t"]
        await server.sessions.invalidate(user("ann"))
        assert await ended(client) == CloseCode.SESSION_REVOKED
        await other.request("ping")


async def test_sessions_without_an_id_are_read_each_by_itself(autojump_clock):
    async def authenticate(credentials) -> Session | None:
        return Session("ann", {"device": credentials.token})

    async def read(old: Session) -> Session | None:
        return attrs.evolve(old, claims={**old.claims, "read": True})

    server = Server(authenticate=authenticate, read_session=read)
    async with open_world(server) as world, world.open_client(token="phone"), world.open_client(token="laptop"):
        await server.sessions.invalidate(user("ann"))
        claims = [each.session.claims for each in server.hub.connections()]
        assert claims == [{"device": "phone", "read": True}, {"device": "laptop", "read": True}]


async def test_one_that_cannot_be_read_in_time_keeps_nobody_waiting(autojump_clock):
    users = Users({"a": Session("ann", id="a"), "b": Session("bob", id="b")})

    async def read(old: Session) -> Session | None:
        if old.user == "ann":
            await trio.sleep_forever()
        return None

    server = Server(authenticate=users.authenticate, read_session=read)
    async with (
        open_world(server) as world,
        world.open_client(token="a"),
        world.open_client(token="b") as bob,
        trio.open_nursery() as tasks,
    ):
        (first, _) = server.hub.connections()
        tasks.start_soon(server.sessions.invalidate, everyone())
        await wait_all_tasks_blocked()
        assert await ended(bob) == CloseCode.SESSION_REVOKED
        assert not first.has_ended
        await trio.sleep(6)
        assert first.has_ended, "to come back, and be asked again"


async def test_of_two_who_read_at_the_same_time_the_later_is_right(autojump_clock):
    answers = [(3, Session("ann", {"role": "stale"}, id="s")), (1, None), (0, None)]

    async def read(old: Session) -> Session | None:
        seconds, answer = answers.pop(0)
        await trio.sleep(seconds)
        return answer

    users = Users({"t": Session("ann", {"role": "old"}, id="s")})
    server = Server(authenticate=users.authenticate, read_session=read)
    async with open_world(server) as world, world.open_client(token="t") as client, trio.open_nursery() as tasks:
        tasks.start_soon(server.sessions.invalidate, user("ann"))
        await trio.sleep(2.5)
        tasks.start_soon(server.sessions.invalidate, user("ann"))
        assert await ended(client) == CloseCode.SESSION_REVOKED


@attrs.define
class Database:
    """One user's role, and how long it takes to read it. It is what it was when the reading began."""

    role: str
    delay: float = 0.0

    async def authenticate(self, credentials) -> Session | None:
        return Session("ann", {"role": self.role}, id="s")

    async def read(self, old: Session) -> Session | None:
        role = self.role
        await trio.sleep(self.delay)
        return old if old.claims["role"] == role else Session("ann", {"role": role}, id="s")


async def test_an_older_answer_does_not_replace_a_newer_one_that_changes_nothing(autojump_clock):
    database = Database("guest")
    server = Server(authenticate=database.authenticate, read_session=database.read)
    async with open_world(server) as world, world.open_client(token="t"), trio.open_nursery() as tasks:
        (stay,) = server.hub.connections()
        database.role, database.delay = "admin", 2
        tasks.start_soon(server.sessions.invalidate, user("ann"))
        await trio.sleep(1)
        database.role, database.delay = "guest", 0
        await server.sessions.invalidate(user("ann"))
        await trio.sleep(5)
        assert stay.session.claims == {"role": "guest"}


async def test_each_answer_counts_however_many_changes_follow(autojump_clock):
    """Who is changed again and again, quicker than that can be read, is not left what they were."""
    database = Database("guest", delay=2)
    server = Server(authenticate=database.authenticate, read_session=database.read)
    async with open_world(server) as world, world.open_client(token="t"), trio.open_nursery() as tasks:
        (stay,) = server.hub.connections()
        for role in range(9):
            database.role = str(role)
            tasks.start_soon(server.sessions.invalidate, user("ann"))
            await trio.sleep(1)
        assert stay.session.claims["role"] in ("6", "7")


async def test_a_change_by_claim_is_of_those_who_are_read_as_such_meanwhile(autojump_clock):
    database = Database("guest")
    server = Server(authenticate=database.authenticate, read_session=database.read)
    async with open_world(server) as world, world.open_client(token="t"), trio.open_nursery() as tasks:
        (stay,) = server.hub.connections()
        database.role, database.delay = "admin", 2
        tasks.start_soon(server.sessions.invalidate, user("ann"))
        await trio.sleep(1)
        database.role = "owner"
        await server.sessions.invalidate(everyone() & claim("role", "admin"))
        await trio.sleep(5)
        assert stay.session.claims == {"role": "owner"}


async def test_whoever_ends_themselves_by_a_change_ends_nothing_else(autojump_clock):
    """The handler that asks for the change is cancelled with its connection; what others are is read all the same."""
    users = Users({name: Session(name, {"role": "admin"}, id=name) for name in ("boss", "bob", "cat")})
    router = Router()

    @router.action("demote_everybody")
    async def demote_everybody(connection, data) -> None:
        await server.sessions.invalidate(everyone())

    async def read(old: Session) -> Session | None:
        await trio.sleep(1 if old.user == "boss" else 2)
        return None if old.user == "boss" else attrs.evolve(old, claims={"role": "guest"})

    server = Server(router, authenticate=users.authenticate, read_session=read)
    async with (
        open_world(server) as world,
        world.open_client(token="boss") as boss,
        world.open_client(token="bob"),
        world.open_client(token="cat"),
    ):
        await boss.ask("demote_everybody")
        assert await ended(boss) == CloseCode.SESSION_REVOKED
        await trio.sleep(5)
        assert [each.session.claims["role"] for each in server.hub.connections()] == ["guest", "guest"]


async def test_nobody_is_given_the_session_of_another_link(autojump_clock):
    """Two links of one session are lost while it is read, and one of them comes back with another one."""
    tokens = {"first": "member", "second": "member"}

    def named(token: str) -> Session:
        return Session("ann", {"role": token}, id=token)

    async def authenticate(credentials) -> Session:
        return named(credentials.token)

    async def read(old: Session) -> Session:
        await trio.sleep(2)
        return named(old.id)

    async def first() -> str:
        return tokens["first"]

    async def second() -> str:
        return tokens["second"]

    server = Server(authenticate=authenticate, read_session=read)
    async with (
        open_world(server) as world,
        world.open_client(token=first) as one,
        world.open_client(token=second) as two,
    ):
        async with trio.open_nursery() as tasks:
            tasks.start_soon(server.sessions.invalidate, user("ann"))
            await trio.sleep(1)
            tokens["first"] = "admin"
            for client in (one, two):
                client.weather.cut_once()
            await one.request("ping")
            await two.request("ping")
        assert [each.session.id for each in server.hub.connections()] == ["admin", "member"]


async def test_who_goes_while_they_are_read_leaves_nothing_behind(autojump_clock):
    users = Users({"t": Session("ann", id="s", lasts=1000)})

    async def read(old: Session) -> Session | None:
        await trio.sleep(3)
        return attrs.evolve(old, claims={"read": True})

    server = Server(authenticate=users.authenticate, read_session=read, options=HubOptions(window=1))
    async with open_world(server) as world, trio.open_nursery() as tasks:
        async with world.open_client(token="t"):
            (stay,) = server.hub.connections()
            tasks.start_soon(server.sessions.invalidate, everyone())
            await wait_all_tasks_blocked()
        await trio.sleep(5)
        server.hub.roster.renew(stay, Session("ann", lasts=1000))
        gone = weakref.ref(stay)
        del stay
        gc.collect()
        assert gone() is None


async def test_a_renewal_under_way_comes_to_what_is_true_by_then(autojump_clock):
    users = Users({"first": Session("ann", {"role": "editor"}, id="s")})
    async with open_world(server_for(users)) as world, world.open_client(token="first") as client:
        (stay,) = world.server.hub.connections()
        users.delay = 2
        async with trio.open_nursery() as tasks:
            tasks.start_soon(client.authenticate, "first")
            await trio.sleep(1)
            users.sessions["first"] = Session("ann", {"role": "guest"}, id="s")
            await world.server.sessions.invalidate(user("ann"))
        assert stay.session.claims == {"role": "guest"}


async def test_a_slow_answer_in_band_is_no_reason_to_stay_away(autojump_clock):
    async def authenticate(credentials) -> Session | None:
        if credentials.token is not None:
            await trio.sleep_forever()
        return None

    async with open_world(authenticate=authenticate) as world, world.open_link() as link:
        await link.send(json.dumps({"seq": 1, "action": "authentication_challenge", "data": {"token": "t"}}))
        assert json.loads(await anext(link))["error"]["status_code"] == 503
        assert [message async for message in link] == []
        assert link.closed.code == CloseCode.TRY_AGAIN


async def test_a_renewal_that_is_not_answered_leaves_nothing_behind(autojump_clock):
    users = Users({"t": Session("ann")})
    async with open_world(server_for(users, options=HubOptions(window=1))) as world:
        async with world.open_client(token="t") as client:
            (gone,) = map(weakref.ref, world.server.hub.connections())
            users.delay = 60
            with pytest.raises(RequestFailed, match="nobody can say"):
                await client.authenticate("t")
        users.delay = 0
        await trio.sleep(100)
        gc.collect()
        assert gone() is None


def test_changes_can_be_looked_at_however_many_they_are():
    first = latest = Change(everyone())
    for _ in range(10_000):
        latest = latest.follow(user("ann"), is_end=True)
    assert repr(first) == "Change(of=Target(kind='everyone', name='', values=(), parts=()), is_end=False, number=0)"


async def test_where_nobody_can_say_they_come_back_and_are_asked_again(autojump_clock, caplog):
    users = Users({"t": Session("ann", id="s")})

    async def fail(old: Session) -> Session | None:
        raise OSError("no database")

    server = Server(authenticate=users.authenticate, read_session=fail)
    async with open_world(server) as world, world.open_client(token="t", topics=["town"]) as client:
        (before,) = server.hub.connections()
        await server.sessions.invalidate(everyone())
        await trio.sleep(10)
        (after,) = server.hub.connections()
        assert after is not before
        await client.request("ping")
    assert "no database" in caplog.text


# -- how many


def limited(most: int, *, newest_wins: bool) -> Server:
    options = HubOptions(connections_of_user=most, newest_wins=newest_wins)
    return server_for(Users({"a": Session("ann"), "b": Session("bob")}), options=options)


async def test_the_newest_wins_and_the_oldest_is_told(autojump_clock):
    async with (
        open_world(limited(1, newest_wins=True)) as world,
        world.open_client(token="a") as first,
        world.open_client(token="b") as other,
        world.open_client(token="a") as second,
    ):
        assert await ended(first) == CloseCode.SESSION_REPLACED
        await second.request("ping")
        await other.request("ping")


async def test_the_oldest_stays_and_the_newest_is_told(autojump_clock):
    async with open_world(limited(2, newest_wins=False)) as world:
        async with world.open_client(token="a") as first, world.open_client(token="a") as second:
            async with world.open_link(headers={"Authorization": "Bearer a"}) as link:
                assert [message async for message in link] == []
                assert link.closed.code == CloseCode.TOO_MANY_SESSIONS
            first.weather.cut_once()  # a resume is no new one
            for client in (first, second):
                await client.request("ping")
        async with world.open_client(token="a") as third:  # the others have left, though they might come back
            await third.request("ping")


@pytest.mark.parametrize("newest_wins", [True, False])
async def test_who_is_away_goes_first(newest_wins, autojump_clock):
    async with (
        open_world(limited(2, newest_wins=newest_wins)) as world,
        world.open_client(token="a") as oldest,
        world.open_client(token="a") as away,
    ):
        away.weather.cut()
        await wait_all_tasks_blocked()
        async with world.open_client(token="a") as newest:
            await oldest.request("ping")
            await newest.request("ping")
            await wait_all_tasks_blocked()
            assert len(world.server.hub.connections()) == 2


async def test_whoever_renews_in_the_compat_spelling_is_renewed_too(autojump_clock):
    users = Users({"first": Session("ann", lasts=10), "second": Session("ann", lasts=1000)})
    async with (
        open_world(server_for(users)) as world,
        world.open_link(headers={"Authorization": "Bearer first"}) as link,
    ):
        said = {"seq": 1, "action": "authentication_challenge", "data": {"token": "second"}}
        await link.send(json.dumps(said))
        await trio.sleep(100)
        assert world.server.hub.connections()

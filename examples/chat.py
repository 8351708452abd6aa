"""A chat: users with roles, channels, direct messages, mentions, typing, presence, and somebody who writes it all down.

    python examples/chat.py --port 8065
    trio-hub listen ws://127.0.0.1:8065 town --token secret-of-ann

Everybody hears the channels they are in without asking. Only members write there, guests write nowhere, and editors may
remove what was written. Who is mentioned gets the message with a mark, and how many are unread.
"""

import argparse
import logging
import re
from collections import Counter

import attrs
import trio

from trio_hub import (
    Connection,
    Edit,
    Editors,
    Event,
    PresenceOptions,
    RequestFailed,
    Router,
    Server,
    Session,
    TypingOptions,
    by_token,
    claim,
    topic,
    users,
)

CHANNELS = {"town": {"ann", "bob", "cat"}, "desk": {"ann", "cat"}}
ROLES = {"ann": "editor", "bob": "member", "cat": "guest"}
TOKENS = {f"secret-of-{name}": name for name in ROLES}
unread: Counter[str] = Counter()
router, editors = Router(), Editors()


async def find(token: str) -> Session | None:
    if token not in TOKENS:
        return None
    name = TOKENS[token]
    return Session(name, {"role": ROLES[name]}, id=f"{name}'s", lasts=86400, extended=True)


def channels_of(session: Session) -> list[str]:
    return [name for name, members in CHANNELS.items() if session.user in members]


@attrs.frozen
class Mentioned:
    users: dict[str, int]


@editors.editor("mentions", key=lambda connection, mentioned: mentioned.users.get(connection.user))
def mention(event: Event, count: int | None, mentioned: Mentioned) -> Event:
    return event if count is None else attrs.evolve(event, data={**event.data, "unread": count})


@attrs.frozen
class Post:
    text: str
    channel: str = ""
    to: str = ""


@router.action("post", ordered=True)
async def post(connection: Connection, data: Post) -> None:
    author = connection.user
    if connection.session.claims["role"] == "guest" or (data.channel and data.channel not in connection.topics):
        raise RequestFailed(403, "no_right", "you may not write there")
    event = Event("posted", {"by": author, "text": data.text})
    if not data.channel:
        await server.publish(event, to=users(author, data.to or author))  # on all devices of both
        return
    mentioned = CHANNELS[data.channel].intersection(re.findall(r"@(\w+)", data.text)) - {author}
    unread.update(mentioned)
    marks = Edit("mentions", {"users": {name: unread[name] for name in mentioned}})
    await server.publish(event, to=topic(data.channel), editors=[marks])


@router.action("read")
def read(connection: Connection, data: dict) -> None:
    del unread[connection.user]


@attrs.frozen
class Remove:
    channel: str
    text: str


@router.action("remove")
async def remove(connection: Connection, data: Remove) -> None:
    if connection.session.claims["role"] != "editor" or data.channel not in connection.topics:
        raise RequestFailed(403, "no_right", "only editors remove, and only where they are")
    await server.publish(Event("removed", {"text": data.text}), to=topic(data.channel))
    await server.publish(Event("audit", {"by": connection.user}), to=topic(data.channel) & claim("role", "editor"))


class Audit:
    """Writes down who came, what they asked for, and when they were gone."""

    async def connected(self, connection: Connection) -> None:
        logging.info("%s came from %s", connection.user, connection.address)

    async def request(self, connection: Connection, request) -> None:
        logging.info("%s asked for %s", connection.user, request.action)

    async def expired(self, connection: Connection) -> None:
        logging.info("%s is gone", connection.user)


server = Server(
    router,
    authenticate=by_token(find),
    topics_of=channels_of,
    may_subscribe=lambda session, name: name in channels_of(session),
    presence=PresenceOptions(),
    typing=TypingOptions(),
    plugins=[Audit()],
    editors=editors,
)


async def main(host: str, port: int) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(server.serve, host, port)
        print(f"ws://{host}:{listeners[0].socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    trio.run(main, arguments.host, arguments.port)

"""In any story of a stream, whoever follows it has every message once and in order, or is told of a hole."""

from hypothesis import given
from hypothesis import strategies as st

from trio_hub.cluster.following import Entry, Follower, StreamId

HOLE = "hole"
PAGE = 3
DEEDS = st.sampled_from(
    ["send", "send", "send", "send", "lose", "return", "restart", "rewind", "trim", "expire", "ask", "answer", "room"]
)


class Story:
    """A stream, one who follows it, and what he has had of the messages, which are numbered as they are sent."""

    def __init__(self) -> None:
        self.follower = Follower()
        self.had: list[int | str] = []
        self.covered: list[int] = []  # for each hole that was told, how many messages had been sent by then
        self.sent = 0
        self.connected = True
        self.room = True
        self.reply = None
        self._stream: list[Entry] = []
        self._epoch, self._next = 1, 0

    def do(self, deed: str) -> None:
        getattr(self, f"_{deed}")()

    def _send(self) -> None:
        entry = Entry(StreamId(self._epoch, self._next), b"%d" % self.sent, b"")
        self._stream.append(entry)
        self._next += 1
        self.sent += 1
        if self.connected and self.follower.hear(entry, has_room=self.room):
            self.had.append(int(entry.mark))

    def _lose(self) -> None:
        self.connected, self.reply = False, None
        self.follower.part()

    def _return(self) -> None:
        self.connected = True

    def _restart(self) -> None:
        self._lose()
        self.follower.doubt()
        self._expire()

    def _rewind(self) -> None:
        """Come back as it was a while ago; the messages since are gone, and others get their ids."""
        self._lose()
        self.follower.doubt()
        del self._stream[-2:]
        self._next = self._stream[-1].id.number + 1 if self._stream else 0
        self._epoch += not self._stream

    def _trim(self) -> None:
        del self._stream[:-2]

    def _expire(self) -> None:
        self._stream, self._next = [], 0
        self._epoch += 1

    def _room(self) -> None:
        self.room = not self.room

    def _ask(self) -> None:
        if self.connected and not self.follower.live and self.room:
            fetch = self.follower.fetch()
            page = [entry for entry in self._stream if fetch.since is None or entry.id >= fetch.since][:PAGE]
            self.reply = fetch, page, self._stream[-1] if self._stream else None

    def _answer(self) -> None:
        if self.reply is None:
            return
        (fetch, page, last), self.reply = self.reply, None
        if self.follower.begin(fetch, last):
            self.had.append(HOLE)  # nobody has promised anything before
            return
        new, lost = self.follower.fetched(page, last)
        if lost:
            self.had.append(HOLE)
            self.covered.append(self.sent)
        for entry in new:
            self.follower.have(entry)
            self.had.append(int(entry.mark))
        self.follower.finish(fetch, complete=len(page) < PAGE)

    def come_to_rest(self) -> None:
        self.connected = self.room = True
        while not self.follower.live:
            self._ask()
            self._answer()


@given(st.lists(DEEDS, max_size=60))
def test_every_message_comes_once_and_in_order_or_a_hole_is_told(deeds):
    story = Story()
    story.come_to_rest()
    for deed in deeds:
        story.do(deed)
    story.come_to_rest()
    assert story.had[0] == HOLE
    last, covered = -1, 0
    for had in story.had[1:]:
        if had == HOLE:
            covered = story.covered.pop(0)
            continue
        assert had > last
        assert had == last + 1 or had <= covered
        last = had
    assert last == story.sent - 1 or story.sent <= covered


@given(st.lists(st.sampled_from(["send", "send", "ask", "answer", "lose", "return", "room"]), max_size=60))
def test_while_the_stream_is_whole_there_are_no_holes(deeds):
    story = Story()
    story.come_to_rest()
    story.do("send")
    for deed in deeds:
        story.do(deed)
    story.come_to_rest()
    assert story.had == [HOLE, *range(story.sent)]


def test_a_stream_that_is_begun_anew_before_ones_ears_has_no_hole():
    story = Story()
    story.come_to_rest()
    for deed in ("send", "send", "expire", "send", "send"):
        story.do(deed)
    assert story.had == [HOLE, 0, 1, 2, 3]

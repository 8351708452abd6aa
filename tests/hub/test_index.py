"""The index against the simplest thing that could be right: a list of members, searched each time."""

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_hub import Misuse, Session, Target, all_of, any_of, claim, connection, everyone, session, topic, user
from trio_hub.hub.index import Index, is_for

USERS = ["ann", "bob"]
TOPICS = ["town", "sea", "sky"]


@attrs.define(eq=False)
class Member:
    id: str
    user: str
    topics: set = attrs.field(factory=set)
    topics_beside: set = attrs.field(factory=set)
    session: Session = attrs.field(default=Session("nobody"))


def test_targets_select_whom_they_name():
    index = Index()
    ann, bob = Member("1", "ann"), Member("2", "bob")
    for member in (ann, bob):
        index.add(member)
    assert index.subscribe(ann, "town")
    assert not index.subscribe(ann, "town")
    assert list(index.select(everyone())) == [ann, bob]
    assert list(index.select(user("bob"))) == [bob]
    assert list(index.select(topic("town"))) == [ann]
    assert list(index.select(connection("2"))) == [bob]
    for nobody in (user("eve"), topic("sea"), connection("3")):
        assert not index.select(nobody)
    with pytest.raises(Misuse, match="planet"):
        index.select(Target("planet", "mars"))


def test_recipients_are_found_without_looking_at_the_others():
    """Counted, not timed: a topic of ten is ten members' work, however many are here."""
    index = Index()
    for n in range(10_000):
        index.add(Member(str(n), f"user{n}"))
    for n in range(10):
        index.subscribe(index.get(str(n)), "town")
    assert len(index.select(topic("town"))) == 10
    assert index.select(topic("town")) is index.select(topic("town"))  # a view: nothing was built to answer


def test_sessions_and_claims_are_looked_for_where_the_rest_of_the_target_is():
    index = Index()
    roles = {"ann": "editor", "bob": ["reader", "editor"], "cat": "reader"}
    members = {}
    for name, role in roles.items():
        member = members[name] = Member(name, name, session=Session(name, {"role": role}, id=f"{name}'s"))
        index.add(member)
    index.add(Member("dan", "dan"))
    index.subscribe(members["bob"], "town")
    index.subscribe(members["cat"], "town")

    def names(target):
        return [member.id for member in index.select(target)]

    assert names(claim("role", "editor")) == ["ann", "bob"]
    assert names(claim("role", "editor", "reader")) == ["ann", "bob", "cat"]
    assert names(claim("rank", "editor")) == []
    assert names(topic("town") & claim("role", "editor")) == ["bob"]
    assert names(claim("role", "editor") & topic("town")) == ["bob"]
    assert names(everyone() - claim("role", "editor")) == ["cat", "dan"]
    assert names(session("ann's")) == ["ann"]


def test_a_part_of_a_topic_is_found_in_that_topic_alone():
    """Counted: whose session was looked at."""
    looked_at = []

    class Watched(Member):
        @property
        def session(self):
            looked_at.append(self.id)
            return Session(self.user, {"role": "editor"})

        @session.setter
        def session(self, value):
            pass

    index = Index()
    for n in range(1000):
        index.add(Watched(str(n), f"user{n}"))
    for n in range(10):
        index.subscribe(index.get(str(n)), "town")
    assert len(index.select(all_of(claim("role", "editor"), everyone(), topic("town")))) == 10
    assert len(looked_at) == 10


SIMPLE = st.one_of(
    st.just(everyone()), st.sampled_from(USERS).map(user), st.sampled_from(TOPICS).map(topic), st.just(connection("3"))
)
TARGETS = st.recursive(
    SIMPLE,
    lambda targets: st.one_of(
        st.lists(targets, max_size=3).map(lambda parts: any_of(*parts)),
        st.lists(targets, min_size=1, max_size=3).map(lambda parts: all_of(*parts)),
        st.tuples(targets, targets).map(lambda pair: pair[0] - pair[1]),
    ),
    max_leaves=6,
)


def meant(target, members):
    """Return whom a target is for, as sets have it."""
    parts = [meant(part, members) for part in target.parts]
    match target.kind:
        case "everyone":
            return set(members)
        case "any":
            return set().union(*parts)
        case "all":
            return set(members).intersection(*parts)
        case "minus":
            return parts[0].difference(*parts[1:])
        case "topic":
            return {each for each in members if target.name in each.topics}
        case "user":
            return {each for each in members if target.name == each.user}
        case "connection":
            return {each for each in members if target.name == each.id}


@given(
    target=TARGETS,
    people=st.lists(st.tuples(st.sampled_from(USERS), st.sets(st.sampled_from(TOPICS))), max_size=6),
)
def test_what_is_composed_selects_as_sets_do_each_once(target, people):
    index, members = Index(), []
    for number, (name, topics) in enumerate(people):
        member = Member(str(number), name)
        index.add(member)
        members.append(member)
        for each in sorted(topics):
            index.subscribe(member, each)
    selected = list(index.select(target))
    assert set(selected) == meant(target, members)
    assert len(selected) == len(set(selected))
    assert [member for member in members if is_for(target, member)] == [
        member for member in members if member in set(selected)
    ]


def test_what_a_recipient_may_know_of_a_target():
    assert everyone().public() == {}
    assert topic("town").public() == {"topic": "town"}
    assert user("ann").public() == {"user": "ann"}


class IndexMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.index = Index()
        self.members = []
        self.count = 0

    def new_id(self):
        self.count += 1
        return str(self.count)

    @rule(user=st.sampled_from(USERS))
    def arrive(self, user):
        member = Member(self.new_id(), user)
        self.index.add(member)
        self.members.append(member)

    @rule(data=st.data(), name=st.sampled_from(TOPICS))
    def subscribe(self, data, name):
        if self.members:
            member = data.draw(st.sampled_from(self.members))
            had = name in member.topics
            assert self.index.subscribe(member, name) is not had

    @rule(data=st.data(), name=st.sampled_from(TOPICS))
    def unsubscribe(self, data, name):
        if self.members:
            member = data.draw(st.sampled_from(self.members))
            had = name in member.topics
            assert self.index.unsubscribe(member, name) is had

    @rule(data=st.data())
    def rename(self, data):
        if self.members:
            member, id = data.draw(st.sampled_from(self.members)), self.new_id()
            self.index.rename(member, id)
            member.id = id

    @rule(data=st.data())
    def leave(self, data):
        if self.members:
            member = data.draw(st.sampled_from(self.members))
            self.members.remove(member)
            self.index.remove(member)
            self.index.remove(member)  # twice is no error
            assert not member.topics

    @invariant()
    def agrees_with_a_search(self):
        assert set(self.index.select(everyone())) == set(self.members)
        for name in USERS:
            assert set(self.index.select(user(name))) == {each for each in self.members if each.user == name}
        for name in TOPICS:
            assert set(self.index.select(topic(name))) == {each for each in self.members if name in each.topics}
        for member in self.members:
            assert list(self.index.select(connection(member.id))) == [member]

    @invariant()
    def leaves_nothing_empty_behind(self):
        statistics = self.index.statistics()
        assert statistics.connections == len(self.members)
        assert statistics.users == len({each.user for each in self.members})
        assert statistics.topics == len({name for each in self.members for name in each.topics})


IndexMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestIndex = IndexMachine.TestCase

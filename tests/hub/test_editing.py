"""Editors: one change for each distinct outcome, not for each recipient."""

import attrs

from trio_hub import Editor, Event
from trio_hub.hub.editing import Editing


@attrs.frozen
class Recipient:
    id: str
    language: str


PEOPLE = [Recipient(str(n), language) for n, language in enumerate(["en", "de", "en", "de", "fr"])]


def test_recipients_with_the_same_key_share_one_body():
    edited = []

    def translate(event, language):
        edited.append(language)
        return attrs.evolve(event, data={"in": language})

    editing = Editing(Event("said", {}), [Editor(key=lambda each: each.language, edit=translate)])
    bodies = [editing.body_for(each) for each in PEOPLE]
    assert edited == ["en", "de", "fr"]
    assert bodies[0] is bodies[2]
    assert bodies[1] is bodies[3]
    assert b'{"in":"fr"}' in bodies[4].v1_frame()


def test_editors_work_one_after_the_other_and_a_veto_ends_it():
    later = []

    def shout(event, key):
        return attrs.evolve(event, data=event.data.upper())

    def veto_germans(event, language):
        return None if language == "de" else event

    def look(event, key):
        later.append(event.data)
        return event

    editing = Editing(
        Event("said", "hello"),
        [
            Editor(key=lambda each: None, edit=shout),
            Editor(key=lambda each: each.language, edit=veto_germans),
            Editor(key=lambda each: None, edit=look),
        ],
    )
    heard = [each.language for each in PEOPLE if editing.body_for(each) is not None]
    assert heard == ["en", "en", "fr"]
    assert later == ["HELLO", "HELLO"]


def test_who_makes_an_editor_fail_gets_nothing_and_the_others_do(caplog):
    def edit(event, language):
        if language == "de":
            raise ZeroDivisionError
        return event

    editing = Editing(Event("said", {}), [Editor(key=lambda each: each.language, edit=edit)])
    assert [editing.body_for(each) is not None for each in PEOPLE] == [True, False, True, False, True]
    assert editing.failures == 1  # the second of the same key is known to be lost
    unhashable = Editing(Event("said", {}), [Editor(key=lambda each: [], edit=edit)])
    assert unhashable.body_for(PEOPLE[0]) is None
    assert unhashable.failures == 1

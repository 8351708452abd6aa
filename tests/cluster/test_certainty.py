"""Being sure that all was heard: whoever wants to be at one moment waits for one answer of each node."""

import trio
import trio.testing

from trio_hub.cluster.certainty import Certainty
from trio_hub.cluster.nodes import Node, Nodes
from trio_hub.link.tasks import open_tasks


def nodes_here(*names: str) -> Nodes:
    nodes = Nodes()
    for name in names:
        nodes.get(name).beaten_at = trio.current_time()
    return nodes


async def test_many_wait_for_one_question_to_each_node(autojump_clock):
    nodes, asked = nodes_here("a", "b"), []

    def ask(node: Node, number: int) -> None:
        asked.append(node.name)
        certainty.note(node, number)

    certainty = Certainty(nodes, ask, 1)
    async with open_tasks() as tasks:
        async with trio.open_nursery() as waiting:
            for _ in range(5):
                waiting.start_soon(certainty.wait)
            await trio.testing.wait_all_tasks_blocked()
            tasks.start_soon(certainty.run)
        tasks.cancel_scope.cancel()
    assert sorted(asked) == ["a", "b"]


async def test_who_does_not_answer_is_waited_for_once_until_it_is_heard_again(autojump_clock):
    nodes, asked = nodes_here("a", "b"), []

    def ask(node: Node, number: int) -> None:
        asked.append(node.name)
        if node.name == "a":
            certainty.note(node, number)

    certainty = Certainty(nodes, ask, 1)
    async with open_tasks() as tasks:
        tasks.start_soon(certainty.run)
        waits = []
        for is_heard in (False, False, True):
            if is_heard:
                nodes.get("b").beaten_at = trio.current_time() + 0.1
            begun = trio.current_time()
            await certainty.wait()
            waits.append(round(trio.current_time() - begun))
        tasks.cancel_scope.cancel()
    assert waits == [1, 0, 1]
    assert asked.count("b") == 2

"""The README's section on several nodes, as it is printed, but for the ports."""

import re
import shlex
import socket
from pathlib import Path

import trio

from tests.processes import TRIO_HUB, program
from tests.redis_servers import RedisServer

README = Path(__file__).parents[2] / "README.md"


def commands(ports: dict[str, str]) -> list[list[str]]:
    """The section's calls of `trio-hub`, in order."""
    (section,) = re.findall(r"## Several processes.*?(?=\n## )", README.read_text(), re.DOTALL)
    for printed, free in ports.items():
        assert printed in section
        section = section.replace(printed, free)
    lines = [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    ours = [shlex.split(line)[1:] for line in lines if line.startswith(".venv/bin/trio-hub")]
    return [[*TRIO_HUB, *words] for words in ours]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


async def test_who_listens_at_one_node_hears_what_is_said_at_another():
    with RedisServer() as redis:
        ports = {"6399": str(redis.port), "8066": free_port(), "8067": free_port()}
        workers, node, listen, send = commands(ports)
        async with program(*workers) as first, program(*node) as second:
            assert (await first.line()).endswith("with 2 workers")
            assert (await second.line()).startswith("listening on")
            async with program(*listen) as listening:
                await listening.wait_for_error("connected")
                said = await trio.run_process(send, capture_stdout=True)
                assert said.returncode == 0
                assert '"data":{"text":"from another node"}' in await listening.line()

"""Calls go down: a module imports only from its own floor's rooms and from the floors below."""

import ast
from pathlib import Path

import pytest

import trio_hub

ROOT = Path(trio_hub.__file__).parent

FLOORS = {
    "dialect": 1,
    "delivery": 1,
    "errors": 0,
    "bucket": 0,
    "messages": 0,
    "options": 2,
    "session": 0,
    "targets": 1,
    "version": 0,
    "wire": 3,
    "link": 4,
    "peer": 5,
    "hub": 6,
    "app": 7,
    "cluster": 7,
    "metrics": 7,
    "tracing": 7,
    "resources": 8,
    "reception": 8,
    "side_door": 9,
    "server": 10,
    "": 11,  # the front door itself
    "broker": 12,
    "cli": 13,
    "__main__": 14,
    "testing": 14,
}
PURE = {"bucket", "wire", "delivery", "dialect", "errors", "messages", "options", "session", "targets", "version"}
EFFECTS = {"trio", "time", "socket", "os", "threading", "asyncio", "trio_websocket", "h11"}

MODULES = sorted(ROOT.rglob("*.py"))


def room_of(module: str) -> str:
    """`trio_hub.link.link` is in the room `link`; `trio_hub` itself is the front door."""
    return [*module.split("."), ""][1]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> list[str]:
    """Every module that is imported while the program runs; imports for type checkers alone do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.append(node.module or "")
    return found


def test_every_room_has_a_floor():
    assert {room_of(name_of(path)) for path in MODULES} == set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_go_down(path):
    room = room_of(name_of(path))
    for imported in imports_of(path):
        if imported.split(".")[0] == "trio_hub" and room_of(imported) != room:
            assert FLOORS[room_of(imported)] < FLOORS[room], f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(name_of(path)) in PURE], ids=name_of)
def test_the_lower_floors_are_pure(path):
    used = {imported.split(".")[0] for imported in imports_of(path)}
    assert not used & EFFECTS


def test_nothing_imports_the_test_kit():
    for path in MODULES:
        if room_of(name_of(path)) != "testing":
            assert not any(imported.startswith("trio_hub.testing") for imported in imports_of(path))

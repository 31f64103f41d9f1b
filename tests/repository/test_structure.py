"""The house: floors that imports go down, and no circle, computed from the source. Needs no kernel."""

from __future__ import annotations

import ast
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pytest_netns"
NAME = PACKAGE.name


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = (NAME, *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of ours that one imports anywhere in its text: at its top, in a function, under TYPE_CHECKING."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in known else node.module)
    return found & known.keys()


def imports() -> dict[str, set[str]]:
    known = modules()
    return {name: imported(path, known) - {name} for name, path in known.items()}


def floors() -> dict[str, int]:
    """The floor of each room, from the top, as the contract in pyproject.toml names them."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = pyproject["tool"]["importlinter"]["contracts"]
    return {room.strip(): number for number, layer in enumerate(contract["layers"]) for room in layer.split("|")}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_no_two_modules_reach_each_other() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle of imports: {' -> '.join(error.args[1])}") from None


def test_imports_go_down() -> None:
    floor = floors()
    up = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if room(module) and room(other) != room(module) and floor[room(module)] >= floor.get(room(other), -1)
    ]
    assert not up


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in modules() if room(module)} == floors().keys()


def test_a_basename_means_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in modules().items():
        if path.name != "__init__.py":
            homes.setdefault(path.name, []).append(module)
    assert [found for found in homes.values() if len(found) > 1] == []


def test_the_hall_holds_the_face_and_the_ground_floor() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 12

"""Every wait in the package has a deadline: calls without one are those below. Needs no kernel."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest_netns

ROOT = Path(pytest_netns.__file__).parent

#: Calls that wait for ever where nothing is given that ends it.
WAITS = {"wait", "join", "get", "acquire", "communicate"}
#: Functions that do unless they are told a time-out.
RUNS = {"run", "check_output", "check_call", "call"}
#: Of threading: a lock of these is waited for without a deadline by every ``with``. See pytest_netns/kernel/locks.py.
LOCKS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"}

_SERVES = "a thread of ours that waits for work, and ends with the process"
_ENDED = "it has ended: this reaps it"
_ASKED = "as long as the test has asked for"

ALLOWED = {
    ("kernel/hidden_thread.py", "__init__", "acquire"): "a lock that was made a moment ago, and that nobody else knows",
    ("process/spawner.py", "_serve", "get"): _SERVES,
    ("process/child.py", "__init__", "wait"): "it was killed a moment ago, and has done nothing yet",
    ("process/child.py", "await_end", "wait"): _ENDED,
    ("process/process.py", "wait", "wait"): _ENDED,
    ("process/process.py", "_end", "wait"): _ENDED,
    ("process/terminal.py", "attend", "wait"): "a person's shell",
    ("stack/calls.py", "call", "join"): "the function of the test, as long as it takes",
    ("faults/schedule.py", "__exit__", "wait"): _ASKED,
    ("kernel/locks.py", "__init__", "RLock"): "this is the one with a deadline",
    ("kernel/locks.py", "_wait", "RLock"): "this is the one with a deadline",
}


def waits() -> Iterator[tuple[str, str, str]]:
    """The module, the function and the call, of each that is given no deadline."""
    for path in sorted(ROOT.rglob("*.py")):
        module = str(path.relative_to(ROOT))
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    name, owner = node.func.attr, ast.unparse(node.func.value)
                    given = {keyword.arg for keyword in node.keywords}
                    if (
                        (name in WAITS and not node.args and not given)
                        or (name in LOCKS and owner == "threading")
                        or (
                            owner == "subprocess" and name in ("run", "check_output", "call") and "timeout" not in given
                        )
                        or (owner == "select" and name == "select" and len(node.args) < 4)
                    ):
                        yield module, function.name, name


def test_every_wait_has_a_deadline() -> None:
    assert set(waits()) == set(ALLOWED)


def test_no_module_has_locks_of_its_own() -> None:
    made = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in LOCKS and ast.unparse(node.value) == "threading"
    ]
    assert {place.partition(":")[0] for place in made} == {"kernel/locks.py"}, made

"""Which failed probe a test has failed of: the newest one that the statement which raised has to do with."""

from __future__ import annotations

import ast
import linecache
import os
from collections.abc import Iterable, Iterator, Sequence
from types import CodeType, TracebackType
from typing import Protocol, TypeVar


class Asked(Protocol):
    """What is known of a probe that failed."""

    @property
    def result(self) -> object:
        """The result of it."""

    @property
    def at(self) -> int:
        """When."""

    @property
    def called(self) -> tuple[tuple[CodeType, int], ...]:
        """From where, the innermost first."""


_PYTHON = os.path.dirname(os.__file__) + os.sep
_A = TypeVar("_A", bound=Asked)

#: Characters of a result's repr that must stand in a report for it to be the one that failed; pytest shortens them.
_RECOGNIZED = 50


def newest(asked: Iterable[_A], traceback: TracebackType | None, text: str) -> _A | None:
    """The newest probe that a failure is about; None if it is about something else.

    It is if the statement that raised has called it, in the test or in a helper, or uses a name that was given what
    the probe has returned; or if its result stands in the report.

    Args:
        asked: probes that failed.
        traceback: of the failure.
        text: the report so far.
    """
    raised = list(_frames(traceback))
    for probe in sorted(asked, key=lambda each: each.at, reverse=True):
        about = repr(probe.result)[:_RECOGNIZED] in text or _is_about(probe.called, raised)
        if about and (not probe.result or _is_about_the_way(probe, text)):
            return probe
    return None


def is_about(called: Sequence[tuple[CodeType, int]], traceback: TracebackType | None) -> bool:
    """Whether the statement that raised has to do with what a call has returned.

    In Python's own library it need not: what ``subprocess.run`` raises comes of its caller.

    Args:
        called: from where that call came, the innermost first.
        traceback: of the failure.
    """
    lines = dict(reversed(called))
    for code, line in reversed(list(_frames(traceback))):
        if code not in lines:
            continue
        if _depends(code, line, lines[code]):
            return True
        if not code.co_filename.startswith(_PYTHON) or "site-packages" in code.co_filename:
            return False
    return False


def _is_about_the_way(probe: Asked, text: str) -> bool:
    """A trace that has reached its destination is a failure only if its way is what was asserted."""
    return "path" in text or "hops" in text or repr(probe.result)[:_RECOGNIZED] in text


def _frames(traceback: TracebackType | None) -> Iterator[tuple[CodeType, int]]:
    while traceback is not None:
        yield traceback.tb_frame.f_code, traceback.tb_lineno
        traceback = traceback.tb_next


def _is_about(called: Sequence[tuple[CodeType, int]], raised: Sequence[tuple[CodeType, int]]) -> bool:
    for code, line in reversed(raised):  # the deepest function that both have passed
        for other, asked_at in called:
            if other is code:
                return _depends(code, line, asked_at)
    return False


def _depends(code: CodeType, raised_at: int, asked_at: int) -> bool:
    """Whether a statement uses what another one, before it in the same function, has found out."""
    lines = linecache.getlines(code.co_filename)
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        tree = None
    if tree is None or not lines:
        return raised_at == asked_at  # no source: not even where a statement ends is known
    function = next(
        (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            and min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) == code.co_firstlineno
        ),
        tree,
    )
    blamed = _statements(function, raised_at)
    if any(_spans(statement, asked_at) for statement in blamed[-1:]):
        return True
    names: set[str] = set()
    for statement in sorted(_simple(function), key=lambda s: s.lineno):
        if statement.lineno > raised_at:
            break
        if _spans(statement, asked_at) or names & _loaded(statement):
            names |= _bound(statement)
    used = _loaded(blamed[-1]) if blamed else set()
    for outer in blamed[:-1]:  # "if not ok: raise ..."
        test = getattr(outer, "test", None)
        if isinstance(test, ast.expr) and isinstance(outer, ast.If | ast.While):
            used |= _loaded(test)
            if _spans(test, asked_at):
                return True
    return bool(names & used)


def _spans(node: ast.stmt | ast.expr, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _statements(function: ast.AST, line: int) -> list[ast.stmt]:
    """The statements that hold a line, the outermost first."""
    found = [each for each in ast.walk(function) if isinstance(each, ast.stmt) and each is not function]
    return sorted(
        (each for each in found if _spans(each, line)), key=lambda each: (each.lineno, -(each.end_lineno or 0))
    )


def _simple(function: ast.AST) -> Iterator[ast.stmt]:
    for each in ast.walk(function):
        if isinstance(each, ast.stmt) and each is not function:
            yield each


def _loaded(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def _bound(node: ast.AST) -> set[str]:
    """Names that a statement gives a value; also the lists to which it appends."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.With | ast.For | ast.If | ast.Try):
        return set()  # what stands in them is looked at by itself
    found = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        root: ast.expr = node.value.func.value
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name) and node.value.func.attr in ("append", "add", "extend", "update", "insert"):
            found.add(root.id)
    for each in ast.walk(node):
        if isinstance(each, ast.Subscript | ast.Attribute) and isinstance(each.ctx, ast.Store):
            root = each.value
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name):
                found.add(root.id)
    return found

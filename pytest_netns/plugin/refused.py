"""Refused connections of isolated tests to a server that listens at home: which fixture started it, and what to do.

A fixture of wider scope than the isolated unit is set up at home (in the original namespace), so its server listens
there and not in the test's namespace.
"""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from types import FrameType

import pytest

from pytest_netns.errors import NetnsError

#: TCP ports on which listening began during the setup of a fixture, with the fixture's name and scope.
_SEEN: pytest.StashKey[dict[int, tuple[str, str]]] = pytest.StashKey()
_REFUSED = re.compile(r"Connection refused|Errno 111|ECONNREFUSED|Connect call failed|All connection attempts failed")
#: A port in a message: ``port 80``, ``port=80``, ``host:80``, ``('host', 80)``.
_TOLD = re.compile(r"(?:\bport[ =]+|[\w.\]]:|['\"],\s*)(\d{1,5})\b")
_DEEPEST = 30


def _ports() -> set[int]:
    """The TCP ports that have a listener in the calling thread's namespace."""
    from pytest_netns.kernel.netlink.sock_diag import listeners
    from pytest_netns.kernel.syscalls import open_namespace

    fd = open_namespace()
    try:
        return {each.port for each in listeners(fd, "tcp")}
    except (NetnsError, OSError):  # the report does without this hint
        return set()
    finally:
        os.close(fd)


@contextmanager
def noting_listeners(config: pytest.Config, fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
    """Record which ports get a listener during the block, in which a fixture is set up at home."""
    before = _ports()
    yield
    seen = config.stash.setdefault(_SEEN, {})
    for port in _ports() - before:
        seen[port] = fixturedef.argname, fixturedef.scope


def explanation(config: pytest.Config, error: BaseException | None, text: str) -> str:
    """Explain a refused connection of an isolated test by a listener at home; empty if there is none.

    The calling thread must be in the test's namespace.

    Args:
        config: the session's configuration.
        error: the exception that the test failed with.
        text: the text of the failure.
    """
    if not _REFUSED.search(text) and not any(isinstance(each, ConnectionRefusedError) for each in _chain(error)):
        return ""
    from pytest_netns.stack.current import in_original_namespace

    known = _ports()
    with in_original_namespace():
        there = _ports() - known
    found = sorted(there & _tried(error, text))
    if not found:
        return ""
    seen = config.stash.get(_SEEN, {})
    lines = []
    for port in found:
        fixture = f", by fixture `{seen[port][0]}` ({seen[port][1]})" if port in seen else ""
        lines.append(f"port {port} is listened on at home{fixture}, and the test is in a namespace of its own")
    scopes = {"package": "session"} | {each: each for each in ("class", "module", "session")}
    widest = max((seen[port][1] for port in found if port in seen), key=list(_ORDER).index, default="session")
    scope = scopes.get(widest, "session")
    lines.append(
        f"have both in one: --netns-isolate={scope}, or @pytest.mark.netns(scope={scope!r}); or leave these tests out"
    )
    return "\n".join(lines)


_ORDER = ("function", "class", "module", "package", "session")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(seen) < _DEEPEST:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _tried(error: BaseException | None, text: str) -> set[int]:
    """The ports that were tried, as far as that can be told; better none than one that nobody has tried.

    A refused connection tells in its message; or the innermost line that names a port has passed it on. Of what
    programs have written only the lines that tell of a refusal count.
    """
    for each in reversed(list(_chain(error))):
        said = str(each)
        if not isinstance(each, ConnectionRefusedError) and not _REFUSED.search(said):
            continue
        if found := _told(said):
            return found
        for frame, lines in reversed(list(_frames(each))):
            if found := _passed_on(frame, lines):
                return found
    return set().union(*(_told(line) for line in text.splitlines() if _REFUSED.search(line)))


def _frames(error: BaseException) -> Iterator[tuple[FrameType, str]]:
    """The frames of a traceback, outermost first, and the lines that each was at."""
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        first, last, _, _ = next(islice(code.co_positions(), at.tb_lasti // 2, None), (None, None, None, None))
        first = first or at.tb_lineno
        lines = range(first, min(last or first, first + _DEEPEST) + 1)
        yield at.tb_frame, "".join(linecache.getline(code.co_filename, line) for line in lines)
        at = at.tb_next


def _told(text: str) -> set[int]:
    return {int(port) for port in _TOLD.findall(text)}


def _passed_on(frame: FrameType, lines: str) -> set[int]:
    """The ports among the local variables that some lines of code name, and those that the lines have in plain."""
    found = _told(lines)
    for name, value in frame.f_locals.items():
        if not re.search(rf"\b{re.escape(name)}\b", lines):
            continue
        if type(value) in (tuple, list) and len(value) > 1 and isinstance(value[0], str | bytes):
            port = value[1]
        elif "port" in name.lower():
            port = value
        else:
            continue
        if type(port) is int:
            found.add(port)
    return found

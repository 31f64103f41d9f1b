"""Refused connections of isolated tests to a server that listens at home: which fixture started it, and what to do.

A fixture of wider scope than the isolated unit is set up at home (in the original namespace), so its server listens
there and not in the test's namespace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_netns.errors import NetnsError

#: TCP ports on which listening began during the setup of a fixture, with the fixture's name and scope.
_SEEN: pytest.StashKey[dict[int, tuple[str, str]]] = pytest.StashKey()
_REFUSED = re.compile(r"Connection refused|Errno 111|ECONNREFUSED|Connect call failed|All connection attempts failed")
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
    values = _values(error)
    found = sorted(port for port in there if port in values or re.search(rf"(?<![\d.]){port}(?!\d)", text))
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


def _values(error: BaseException | None) -> set[int]:
    """The integers among the local variables of the traceback's frames: one of them may be the port."""
    found: set[int] = set()
    for each in _chain(error):
        traceback = each.__traceback__
        while traceback is not None:
            for value in list(traceback.tb_frame.f_locals.values()):
                for part in value if type(value) in (tuple, list) and len(value) < _DEEPEST else (value,):
                    if type(part) is int:
                        found.add(part)
            traceback = traceback.tb_next
    return found

"""What one pytest session knows: its settings, whether networks can be created, and when it enters the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

from pytest_netns import settings as _settings
from pytest_netns import tally
from pytest_netns.settings import Sandbox, Settings

if TYPE_CHECKING:
    from pytest_netns.kernel.sandbox import Access
    from pytest_netns.lab.lab import Lab

#: Tests that use one of these, directly or through a fixture of their own, need networks.
FIXTURES = frozenset({"netns", "netns_factory", "veth_pair", "bridge", "lab", "lab_factory"})


@dataclass(slots=True)
class Session:
    """The state of one session, in its ``config.stash``."""

    settings: Settings = field(default_factory=Settings)
    access: Access | None = None
    entered_early: bool = False
    needed: bool = False


_KEY = pytest.StashKey[Session]()


def of(config: pytest.Config) -> Session:
    """The session's state."""
    state = config.stash.get(_KEY, None)
    if state is None:
        state = config.stash[_KEY] = Session()
    return state


def needs_networks(item: pytest.Item) -> bool:
    """Whether a test uses one of our fixtures or markers."""
    return (
        of(item.config).settings.isolate
        or item.get_closest_marker("netns") is not None
        or item.get_closest_marker("netns_requires") is not None
        or not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
    )


def require_features(item: pytest.Item) -> None:
    """Skip a test whose ``netns_requires`` names something that is not there.

    Raises:
        pytest.UsageError: it names something unknown, or nothing.
    """
    for mark in item.iter_markers("netns_requires"):
        if mark.kwargs or not mark.args or not all(isinstance(name, str) for name in mark.args):
            given = ", ".join([*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())])
            raise pytest.UsageError(
                f"{item.nodeid}: @pytest.mark.netns_requires takes names such as 'netem' or 'program:dnsmasq', "
                f"and got {given or 'nothing'}"
            )
        from pytest_netns.kernel.features import feature

        for name in mark.args:
            try:
                found = feature(name)
            except ValueError as error:
                raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.netns_requires: {error}") from None
            if not found.present:
                pytest.skip(f"netns_requires({name!r}): {found.reason}")


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def starts_workers(namespace: object) -> bool:
    """Whether pytest-xdist is about to start workers. They inherit the sandbox, and cannot enter one themselves."""
    return bool(
        getattr(namespace, "numprocesses", None)
        or getattr(namespace, "tx", None)
        or getattr(namespace, "dist", "no") not in ("no", None)
    )


def enter_early(config: pytest.Config) -> None:
    """Enter at start-up if told to, or if workers are about to start and the run asked for us.

    Later is too late: conftest files import libraries that start threads, and execnet starts some too.
    """
    namespace = config.known_args_namespace
    settings = _settings.read(config, namespace)
    early = settings.sandbox is Sandbox.ALWAYS or (
        settings.sandbox is Sandbox.AUTO and settings.asked and starts_workers(namespace)
    )
    if not early or _is_worker(config) or getattr(namespace, "help", False) or getattr(namespace, "version", 0):
        return
    from pytest_netns.kernel import sandbox

    state = of(config)
    state.settings = settings
    found = sandbox.probe()
    # ALWAYS is meant for root too, e.g. to see what users without privileges will.
    if found.mode == "rootless" or (found.mode == "root" and settings.sandbox is Sandbox.ALWAYS):
        found = _entered(found)
    state.access = found
    state.entered_early = found.entered


def _entered(found: Access) -> Access:
    """What comes of moving into the sandbox, unless the process is in one already."""
    if found.entered:
        return found
    from pytest_netns.errors import PrivilegeError
    from pytest_netns.kernel import sandbox

    try:
        return sandbox.enter_now()
    except PrivilegeError as error:
        return sandbox.Access("unavailable", reason=str(error))


def access(config: pytest.Config) -> Access:
    """Whether networks can be created; enters the sandbox if that is how, and asks the kernel once."""
    state = of(config)
    if state.access is None:
        from pytest_netns.kernel import sandbox

        found = sandbox.probe()
        if found.mode == "rootless" and not found.entered:
            if state.settings.sandbox is Sandbox.NEVER:
                found = sandbox.Access(
                    "unavailable",
                    reason="no privilege to create network namespaces, and --netns-sandbox=never forbids a user "
                    "namespace; cure: run as root, or allow it",
                )
            else:
                found = _entered(found)
        elif found.mode == "unavailable" and _is_worker(config):
            found = sandbox.Access(
                "unavailable",
                reason="no privilege to create network namespaces, and a worker of pytest-xdist cannot enter a user "
                "namespace itself; cure: let the controller do it, by -p netns on the command line or "
                "netns_sandbox = auto in the ini file, or run as root",
            )
        state.access = found
    return state.access


def enter_for(session: pytest.Session) -> None:
    """After collection: enter the sandbox if a test needs it, while there is one thread."""
    config = session.config
    state = of(config)
    state.needed = any(needs_networks(item) for item in getattr(session, "items", ()))
    if state.needed and not config.option.collectonly and access(config).available and _is_worker(config):
        from pytest_netns.kernel.syscalls import die_with_parent

        # execnet notices the death of the controller by itself, but takes some ten seconds to end the worker.
        die_with_parent()


def require_access(config: pytest.Config) -> None:
    """Skip the running test if networks cannot be created, or fail it under ``--netns-require``."""
    found = access(config)
    if found.available:
        return
    if of(config).settings.require:
        pytest.fail(f"netns is required (--netns-require) and unavailable: {found.reason}", pytrace=False)
    pytest.skip(f"netns unavailable: {found.reason}")


def _line(found: Access) -> str:
    if found.mode == "unavailable":
        return f"netns: unavailable ({found.reason})"
    if found.mode == "rootless":
        return "netns: rootless (this session is in a user namespace; the host's network is out of reach)"
    return "netns: root"


def header(config: pytest.Config) -> str | None:
    """A line for the head of the report if the sandbox was entered, or tried, at start-up."""
    state = of(config)
    return _line(state.access) if state.access is not None else None


def collection_line(config: pytest.Config) -> str | None:
    """A line after collection, if some collected test is ours and the head of the report has not said it."""
    state = of(config)
    if not state.needed or state.access is None or state.entered_early:
        return None
    return _line(state.access)


def come_home() -> None:
    """Leave the namespaces that a test entered without leaving; fails the teardown, naming them."""
    from pytest_netns.namespace import leave_all

    left = leave_all()
    if left:
        pytest.fail(
            f"the test entered {', '.join(map(repr, left))} and did not leave; enter a namespace by a with statement",
            pytrace=False,
        )


#: The verbosity from which on a lab's state is told as a whole: -vv.
_WHOLE = 2

#: Characters of a result's repr that must stand in a report for it to be the one that failed: pytest shortens long
#: ones.
_RECOGNIZED = 50


def report_sections(item: pytest.Item, error: BaseException, text: str) -> list[tuple[str, str]]:
    """Report sections of a failed test: why a plainly asserted probe failed, and the labs as they are.

    Args:
        item: the test, whose labs are still there.
        error: what it failed with.
        text: the report, in which the result of a probe is shown.
    """
    labs = _labs(item)
    sections: list[tuple[str, str]] = []
    tellers: list[Callable[[], list[tuple[str, str]]]] = [
        lambda: _explanation(labs, error, text),
        lambda: _states(labs, item.config),
    ]
    for tell in tellers:
        try:
            sections += tell()
        except Exception as trouble:  # whatever it is, it must not take the place of the failure that is reported
            sections.append(("netns", f"telling more failed: {trouble!r}"))
    return sections


def _labs(item: pytest.Item) -> list[Lab]:
    """The open labs among what the test's fixtures gave it."""
    found: dict[int, Lab] = {}
    for value in getattr(item, "funcargs", {}).values():
        each = value[0] if isinstance(value, tuple) and value else value
        lab: Lab | None = getattr(each, "lab", each)
        if lab is not None and hasattr(lab, "failed") and hasattr(lab, "supervisor") and not lab.closed:
            found[id(lab)] = lab
    return list(found.values())


def _explanation(labs: list[Lab], error: BaseException, text: str) -> list[tuple[str, str]]:
    from pytest_netns.errors import ProbeFailure

    if not isinstance(error, AssertionError) or isinstance(error, ProbeFailure):
        return []  # ProbeFailure says why itself
    for lab in labs:
        for failure in reversed(lab.failed):
            if repr(failure.result)[:_RECOGNIZED] in text:
                from pytest_netns.explain.explain import explain_failure

                return [("netns: why", str(explain_failure(failure)))]
    return []


def _states(labs: list[Lab], config: pytest.Config) -> list[tuple[str, str]]:
    if not labs:
        return []
    from pytest_netns.report.state import describe

    whole = config.get_verbosity() >= _WHOLE
    return [(f"netns: {lab.name}", describe(lab, whole=whole)) for lab in labs if len(lab)]


class Closable(Protocol):
    """Something with ``close()``."""

    def close(self) -> None:
        """Let go of it."""


_C = TypeVar("_C", bound=Closable)


class _Register(Protocol):
    def __call__(self, thing: _C) -> _C: ...


@contextmanager
def closing_all() -> Iterator[_Register]:
    """Gives a function that registers things; closes all at the end, the last made first, and reports every error."""
    made: list[Closable] = []

    def register(thing: _C) -> _C:
        made.append(thing)
        tally.disown(thing)
        return thing

    try:
        yield register
    finally:
        errors: list[Exception] = []
        for thing in reversed(made):
            try:
                thing.close()
            except Exception as error:  # reported below, with all others
                errors.append(error)
        if errors:
            raise ExceptionGroup("closing what the session made", errors)

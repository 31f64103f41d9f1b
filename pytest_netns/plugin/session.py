"""What one pytest session knows: its settings, whether networks can be created, and when it enters the sandbox."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

import pytest

from pytest_netns.plugin import markers as _markers
from pytest_netns.plugin import names
from pytest_netns.plugin import settings as _settings
from pytest_netns.plugin.names import uses_networks
from pytest_netns.plugin.settings import Sandbox, Settings

if TYPE_CHECKING:
    from pytest_netns.kernel.sandbox import Access


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
    """Whether a test uses one of our fixtures or markers, or all tests run isolated."""
    return of(item.config).settings.isolate is not None or uses_networks(item)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def tell_worker(workerinput: dict[str, object]) -> None:
    """A worker inherits the sandbox of its controller, and cannot see that it is one."""
    from pytest_netns.kernel import sandbox

    workerinput[names.SANDBOX_NETWORK] = sandbox.network


def inherit(config: pytest.Config) -> None:
    """In a worker: take what its controller has told."""
    from pytest_netns.kernel import sandbox

    sandbox.network = config.workerinput[names.SANDBOX_NETWORK]  # type: ignore[attr-defined]


def starts_workers(namespace: object) -> bool:
    """Whether pytest-xdist is about to start workers. They inherit the sandbox, and cannot enter one themselves."""
    return bool(
        getattr(namespace, "numprocesses", None)
        or getattr(namespace, "tx", None)
        or getattr(namespace, "dist", "no") not in ("no", None)
    )


def _starts_a_thread(config: pytest.Config) -> bool:
    """Whether pytest-rerunfailures is about to start its server, which it does wherever pytest-xdist is too."""
    return config.pluginmanager.hasplugin("rerunfailures") and config.pluginmanager.hasplugin("xdist")


def enter_early(config: pytest.Config) -> None:
    """Enter at start-up if told to, or if workers or a thread are about to start and the run asked for us.

    Later is too late: conftest files import libraries that start threads, and execnet starts some too.
    """
    namespace = config.known_args_namespace
    settings = _settings.read(config, namespace)
    early = settings.sandbox is Sandbox.ALWAYS or (
        settings.sandbox is Sandbox.AUTO
        and settings.asked
        # Test modules ask for their user when they are imported.
        and (settings.root or starts_workers(namespace) or _starts_a_thread(config))
    )
    if not early or _is_worker(config) or getattr(namespace, "help", False) or getattr(namespace, "version", 0):
        return
    from pytest_netns.kernel import sandbox

    state = of(config)
    state.settings = settings
    found = sandbox.probe()
    # ALWAYS is meant for root too, e.g. to see what users without privileges will.
    if found.mode == "rootless" or (found.mode == "root" and settings.sandbox is Sandbox.ALWAYS):
        found = _entered(found, state.settings.root)
    state.access = found
    state.entered_early = found.entered


def _entered(found: Access, as_root: bool = False) -> Access:
    """What comes of moving into the sandbox, unless the process is in one already."""
    if found.entered:
        return found
    from pytest_netns.errors import PrivilegeError
    from pytest_netns.kernel import sandbox

    user = _user_name() if as_root else ""
    try:
        entered = sandbox.enter_now(as_root=True) if as_root else sandbox.enter_now()
    except PrivilegeError as error:
        return sandbox.Access("unavailable", reason=str(error))
    if user:
        os.environ["LOGNAME"] = user
    return entered


def _user_name() -> str:
    """Who this is, where no variable says so: user 0 would be taken for root, whose /tmp/pytest-of-root is not ours."""
    if any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        return ""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


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
                found = _entered(found, state.settings.root)
        elif found.late and _is_worker(config):
            found = replace(
                found,
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
    ours = [item for item in getattr(session, "items", ()) if needs_networks(item)]
    if not _is_worker(config):  # pytest-xdist would call it a crash; there it fails the tests
        _markers.check(ours)
    state.needed = bool(ours)
    if state.needed and not config.option.collectonly and access(config).available and _is_worker(config):
        from pytest_netns.kernel.syscalls import die_with_parent

        # execnet notices the death of the controller by itself, but takes some ten seconds to end the worker.
        die_with_parent()


def require_access(config: pytest.Config) -> None:
    """Skip the running test if networks cannot be created, or fail it under ``--netns-require``.

    Beside pytest-rerunfailures and pytest-xdist it fails too: whoever installs the two would see all of their tests
    skipped, in every run that does not name us, and a green end.
    """
    found = access(config)
    if found.available:
        return
    if of(config).settings.require:
        pytest.fail(f"netns is required (--netns-require) and unavailable: {found.reason}", pytrace=False)
    if found.late and not of(config).settings.asked and _starts_a_thread(config):
        pytest.fail(
            "netns unavailable, though this machine allows it: pytest-rerunfailures starts a thread wherever "
            f"pytest-xdist is installed too, and the run did not name pytest-netns before ({found.reason}; "
            "-p no:rerunfailures is another cure)",
            pytrace=False,
        )
    pytest.skip(f"netns unavailable: {found.reason}")


def _line(found: Access) -> str:
    if found.mode == "unavailable":
        return f"netns: unavailable ({found.reason})"
    if found.mode == "rootless":
        return "netns: rootless (this session is in a user namespace; the host's network is out of reach)"
    return "netns: root"


def header(config: pytest.Config) -> list[str]:
    """Lines for the head of the report if the sandbox was entered, or tried, at start-up."""
    access = of(config).access
    return [] if access is None else [_line(access), *_crowded(access)]


def collection_line(config: pytest.Config) -> list[str]:
    """Lines after collection, if some collected test is ours and the head of the report has not said it."""
    state = of(config)
    if not state.needed or state.access is None or state.entered_early:
        return []
    return [_line(state.access), *_crowded(state.access)]


def _crowded(access: Access) -> list[str]:
    """Which of the kernel's neighbour tables are more than half full. They are one for the whole machine."""
    if not access.available:
        return []
    from pytest_netns.errors import NetnsError
    from pytest_netns.kernel.netlink.neighbour_table import neighbour_tables
    from pytest_netns.kernel.netlink.socket import NetlinkSocket

    rtnl = NetlinkSocket("this one")
    try:
        tables = neighbour_tables(rtnl).values()
    except NetnsError as error:
        return [f"netns: the neighbour tables cannot be read: {error}"]
    finally:
        rtnl.close()
    return [f"netns: {table}; {table.consequence}" for table in tables if table.is_above_half]


def restore_namespaces() -> None:
    """Leave the namespaces that a test entered without leaving; fails the teardown, naming them."""
    from pytest_netns.stack.current import leave_all

    left = leave_all()
    if left:
        did_not_leave(left)


def did_not_leave(left: list[str]) -> NoReturn:
    """Fail the teardown of a test."""
    pytest.fail(
        f"the test entered {', '.join(map(repr, left))} and did not leave; enter a namespace by a with statement",
        pytrace=False,
    )


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
        from pytest_netns import open_resources

        made.append(thing)
        open_resources.disown(thing)
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

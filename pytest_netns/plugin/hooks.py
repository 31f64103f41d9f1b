"""The pytest plugin: options, markers and fixtures, over a library that works without it.

It is loaded in every run of everybody who has it installed. So this module, and what it imports, is small, and all
other hooks are those of ``active``, which is registered as soon as anything of ours is used: a fixture, a marker, an
option, a public name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pytest_netns.plugin import names

if TYPE_CHECKING:
    from pytest_netns.lab.bridge import Bridge
    from pytest_netns.lab.factories import LabFactory, NamespaceFactory
    from pytest_netns.lab.host import Host
    from pytest_netns.lab.lab import Lab
    from pytest_netns.stack.namespace import Namespace


#: The sessions of this process: pytester can have one inside of another.
_configs: list[pytest.Config] = []
_RUNNING = pytest.StashKey[pytest.Item]()
_ACTIVE = pytest.StashKey[bool]()


def activate(config: pytest.Config) -> None:
    """Something of ours is used: from now on labs are watched, leaks looked for, failures explained."""
    if config.stash.get(_ACTIVE, False):
        return
    config.stash[_ACTIVE] = True
    from pytest_netns.plugin import active

    active.start(config, config.stash.get(_RUNNING, None))


def used() -> None:
    """A public name of the package was looked up for the first time."""
    if _configs:
        activate(_configs[-1])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    names.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Enter the sandbox as long as there is one thread, where it cannot wait until collection is done."""
    if names.is_asked_for(early_config, early_config.known_args_namespace):
        from pytest_netns.plugin import session

        session.enter_early(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Validate the options and declare the markers."""
    _configs.append(config)
    if getattr(config, "workerinput", {}).get(names.SANDBOX_NETWORK):
        from pytest_netns.plugin import session

        session.inherit(config)
    if names.is_asked_for(config, config.option):
        from pytest_netns.plugin import session, settings

        wanted = session.of(config).settings = settings.read(config, config.option)
        if wanted.isolate is not None or wanted.shell or wanted.keep or wanted.artifacts is not None:
            activate(config)
        if wanted.shell or wanted.keep:
            from pytest_netns.plugin import pause

            pause.register(config)
    config.addinivalue_line(
        "markers",
        "netns(*, scope='test', interface=None): run the test, and its fixtures of function scope, inside a fresh "
        "network namespace of its own, so that every test can bind port 8080. With scope='class', 'module' or "
        "'session' that is shared by all such tests of it, and by their fixtures of that scope. With "
        "interface='eth0' it has that interface, too, with addresses, a default route and a quiet peer (pytest-netns).",
    )
    config.addinivalue_line(
        "markers",
        "netns_requires(name, ...): skip the test, with the reason, unless the kernel has each feature (a device kind "
        "such as 'wireguard', a queueing discipline such as 'netem', 'nft:queue', 'tc:bpf', 'tun') and the machine "
        "each program or library ('program:dnsmasq', 'libpcap'); pytest --netns-doctor lists the names (pytest-netns).",
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """The session is over."""
    if config in _configs:
        _configs.remove(config)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """``--netns-doctor`` instead of a run."""
    if not config.option.netns_doctor:
        return None
    from pytest_netns.cli.doctor import report

    text, status = report()
    print(text)
    return status


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say so if the host's network is out of reach from the start, or a table of the kernel is almost full."""
    session = sys.modules.get("pytest_netns.plugin.session")
    lines: list[str] = [] if session is None else session.header(config)
    return lines


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Enter the sandbox if a collected test needs it."""
    if any(map(names.uses_networks, getattr(session, "items", ()))):
        activate(session.config)
    if session.config.stash.get(_ACTIVE, False):
        from pytest_netns.plugin.session import enter_for

        enter_for(session)


class _Node(Protocol):
    """A worker that pytest-xdist is about to start."""

    workerinput: dict[str, object]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: _Node) -> None:
    """Tell a worker of pytest-xdist what it cannot see by itself."""
    if "pytest_netns.plugin.session" in sys.modules:
        from pytest_netns.plugin.session import tell_worker

        tell_worker(node.workerinput)


def pytest_runtest_logstart(nodeid: str) -> None:
    """What a test has imported at collection, or will, is ours perhaps: then all of the plugin must be there."""
    del nodeid
    if "pytest_netns.stack.namespace" in sys.modules and _configs:
        activate(_configs[-1])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember which test runs."""
    item.config.stash[_RUNNING] = item


# ------------------------------------------------------------------ fixtures


def _needed(config: pytest.Config) -> None:
    activate(config)
    from pytest_netns.plugin.session import require_access

    require_access(config)


def _met(config: pytest.Config, namespace: Namespace) -> None:
    from pytest_netns.plugin import lab_monitor

    lab_monitor.met(config, namespace)


@pytest.fixture(scope="session")
def netns_factory(pytestconfig: pytest.Config) -> Iterator[NamespaceFactory]:
    """Factory of network namespaces that live until the end of the session: ``netns_factory("red")``.

    Scope: session. Builds on no other fixture; returns a ``NamespaceFactory``.
    """
    _needed(pytestconfig)
    from pytest_netns.kernel.interrupts import uninterrupted
    from pytest_netns.plugin.session import closing_all

    with uninterrupted:  # half an import is worse than none
        from pytest_netns.stack.namespace import Namespace

    with closing_all() as made:

        def new(name: str | None = None) -> Namespace:
            with uninterrupted:  # or it would be nobody's
                namespace = made(Namespace(name))
            _met(pytestconfig, namespace)
            return namespace

        yield new


@pytest.fixture
def netns(pytestconfig: pytest.Config) -> Iterator[Namespace]:
    """A new network namespace with loopback up: a ``Namespace``, closed after the test.

    Scope: function. Builds on no other fixture.
    """
    _needed(pytestconfig)
    from pytest_netns.kernel.interrupts import uninterrupted

    with uninterrupted:  # half an import is worse than none
        from pytest_netns.stack.namespace import Namespace

    namespace: Namespace | None = None
    try:
        with uninterrupted:  # or it would be nobody's
            namespace = Namespace("netns")
        _met(pytestconfig, namespace)
        yield namespace
    finally:
        if namespace is not None:
            namespace.close()


@pytest.fixture(scope="session")
def netns_lab_options(pytestconfig: pytest.Config) -> dict[str, object]:
    """Keywords for every ``Lab`` that the fixtures make: override it, in a conftest.py, to set a policy for a suite.

    Scope: session. Builds on no other fixture; gives ``{"ipv6": None}`` where the kernel has no IPv6, and else ``{}``.
    """
    _needed(pytestconfig)
    from pytest_netns.plugin.lab_options import defaults

    return defaults()


@pytest.fixture(scope="session")
def lab_factory(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, netns_lab_options: Mapping[str, object]
) -> Iterator[LabFactory]:
    """Factory of labs that live until the end of the session: ``lab_factory("backbone")``; arguments as for ``Lab``.

    Scope: session. Builds on ``netns_lab_options``, and on ``tmp_path_factory`` of pytest; returns a ``LabFactory``.
    """
    _needed(pytestconfig)
    from pytest_netns.kernel.interrupts import uninterrupted
    from pytest_netns.plugin.session import closing_all

    with uninterrupted:
        from pytest_netns.lab.lab import Lab

    from pytest_netns.plugin.lab_options import checked

    options = {"visible": lambda: [tmp_path_factory.getbasetemp()], **checked(netns_lab_options)}
    with closing_all() as made:

        def new(name: str | None = None, **kwargs: Any) -> Lab:
            named = {} if name is None else {"name": name}
            return made(Lab(**{**options, **named, **kwargs}))

        yield new


@pytest.fixture
def lab(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, netns_lab_options: Mapping[str, object]
) -> Iterator[Lab]:
    """An empty ``Lab``: add hosts, routers and bridges, and connect them. Closed after the test.

    Scope: function. Builds on ``netns_lab_options``, and on ``tmp_path_factory`` of pytest.
    """
    _needed(pytestconfig)
    from pytest_netns.kernel.interrupts import uninterrupted

    with uninterrupted:
        from pytest_netns.lab.lab import Lab

    from pytest_netns.plugin.lab_options import checked

    options: dict[str, Any] = checked(netns_lab_options)
    lab = Lab(**{"visible": lambda: [tmp_path_factory.getbasetemp()], **options})
    yield lab
    lab.close()


@pytest.fixture
def veth_pair(lab: Lab) -> tuple[Host, Host]:
    """Two hosts, ``left`` and ``right``, joined by a veth pair, with IPv4 and IPv6 addresses.

    Of the families that ``netns_lab_options`` leaves. Scope: function. Builds on ``lab``: both are its nodes.
    """
    left, right = lab.host("left"), lab.host("right")
    lab.connect(left, right)
    return left, right


@pytest.fixture
def bridge(lab: Lab) -> Bridge:
    """A bridge, ``br0``: ``bridge.host("red")`` adds a host that is attached to it and has addresses.

    Scope: function. Builds on ``lab``.
    """
    return lab.bridge("br0")

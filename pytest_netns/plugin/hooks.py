"""The pytest plugin: hooks and fixtures, over a library that works without it.

It is loaded in every run of everybody who has it installed, so nothing heavy is imported before a fixture of ours is
used.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_netns.plugin import failure_report as _failed
from pytest_netns.plugin import isolate as _per_test
from pytest_netns.plugin import leaks as _leaks
from pytest_netns.plugin import markers as _markers
from pytest_netns.plugin import session as _session
from pytest_netns.plugin import settings as _settings

if TYPE_CHECKING:
    from pytest_netns.lab.bridge import Bridge
    from pytest_netns.lab.factories import LabFactory, NamespaceFactory
    from pytest_netns.lab.host import Host
    from pytest_netns.lab.lab import Lab
    from pytest_netns.stack.namespace import Namespace


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    _settings.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Enter the sandbox as long as there is one thread, where it cannot wait until collection is done."""
    _session.enter_early(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Validate the options and declare the markers."""
    _session.of(config).settings = _settings.read(config, config.option)
    _failed.start(config)
    _leaks.register(config)
    if _session.of(config).settings.shell or _session.of(config).settings.keep:
        from pytest_netns.plugin import pause

        pause.register(config)
    config.addinivalue_line(
        "markers",
        "netns: run the test, and its fixtures of function scope, inside a fresh network namespace of its own "
        "(pytest-netns), so that every test can bind port 8080.",
    )
    config.addinivalue_line(
        "markers",
        "netns_requires(name, ...): skip the test, with the reason, unless the kernel has each feature (a device kind "
        "such as 'wireguard', a queueing discipline such as 'netem', 'nft:queue', 'tc:bpf', 'tun') and the machine "
        "each program or library ('program:dnsmasq', 'libpcap'); pytest --netns-doctor lists the names (pytest-netns).",
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of what watches the labs, and of what is kept for tests to come."""
    _failed.stop(config)
    _per_test.finish()


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
    return _session.header(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Enter the sandbox if a collected test needs it."""
    _session.enter_for(session)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say where the tests run, if any of them is ours."""
    return _session.collection_line(config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, tests that need networks where none can be created; put those that want it into a namespace."""
    _failed.begin(item)
    if _session.needs_networks(item):
        _markers.check([item])
        _session.require_access(item.config)
        _markers.skip_unless_there(item)
        if _per_test.wanted(item):
            _per_test.enter(item)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Fixtures of wider scope than one test do not share its namespace."""
    return (yield from _per_test.around_fixture(fixturedef, request))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Bring the main thread home if a test left it inside a namespace, and say so."""
    try:
        return (yield)
    finally:
        if _session.needs_networks(item):
            try:
                _per_test.leave(item)
            finally:
                _failed.sweep(item.config)
                _session.come_home()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under a failed test, say why a ping failed that it asserted, show its lab, and write its artifacts."""
    if call.excinfo is not None:
        from pytest_netns.plugin import own_frames

        own_frames.hide(item.config, call)
    report = yield
    _failed.tell(item, call, report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """In a run of GitHub Actions, an annotation with the cause at the line of each failed test."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from pytest_netns.plugin.annotations import annotate

        annotate(terminalreporter)


# ------------------------------------------------------------------ fixtures


@pytest.fixture(scope="session")
def netns_factory(pytestconfig: pytest.Config) -> Iterator[NamespaceFactory]:
    """Call it for network namespaces that live until the session ends: ``netns_factory("red")``."""
    _session.require_access(pytestconfig)
    from pytest_netns.stack.namespace import Namespace

    with _session.closing_all() as made:

        def new(name: str | None = None) -> Namespace:
            namespace = made(Namespace(name))
            _failed.met(pytestconfig, namespace)
            return namespace

        yield new


@pytest.fixture
def netns(pytestconfig: pytest.Config) -> Iterator[Namespace]:
    """A fresh network namespace with loopback up, for this test alone."""
    _session.require_access(pytestconfig)
    from pytest_netns.stack.namespace import Namespace

    namespace = Namespace("netns")
    _failed.met(pytestconfig, namespace)
    yield namespace
    namespace.close()


@pytest.fixture(scope="session")
def lab_factory(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFactory]:
    """Call it for labs that outlive a test: ``lab_factory("backbone")`` takes what ``Lab`` takes."""
    _session.require_access(pytestconfig)
    from pytest_netns.lab.lab import Lab

    with _session.closing_all() as made:
        yield lambda *args, **kwargs: made(
            Lab(*args, **{"visible": lambda: [tmp_path_factory.getbasetemp()], **kwargs})
        )


@pytest.fixture
def lab(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An empty lab: add hosts and bridges, and connect them. Gone after the test."""
    _session.require_access(pytestconfig)
    from pytest_netns.lab.lab import Lab

    lab = Lab(visible=lambda: [tmp_path_factory.getbasetemp()])
    yield lab
    lab.close()


@pytest.fixture
def veth_pair(lab: Lab) -> tuple[Host, Host]:
    """Two hosts, ``left`` and ``right``, joined by a veth and addressed for IPv4 and IPv6."""
    left, right = lab.host("left"), lab.host("right")
    lab.connect(left, right)
    return left, right


@pytest.fixture
def bridge(lab: Lab) -> Bridge:
    """A bridge, ``br0``; ``bridge.host("red")`` adds a host that is attached and addressed."""
    return lab.bridge("br0")

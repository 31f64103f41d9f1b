"""The names that users know the plugin by: its fixtures, markers and options, and whether a run has used one.

It is loaded in every run of everybody who has the plugin installed, so it is plain and needs nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pytest

#: Tests that use one of these, directly or through a fixture of their own, need networks.
FIXTURES = frozenset({"netns", "netns_factory", "veth_pair", "bridge", "lab", "lab_factory", "netns_lab_options"})

#: The markers.
ISOLATE = "netns"
REQUIRES = "netns_requires"

#: What a controller of pytest-xdist tells its workers: the inode of the network that is the sandbox.
SANDBOX_NETWORK = "netns_sandbox_network"

#: Environment variables of options begin so.
PREFIX = "PYTEST_NETNS_"


class Option:
    """An option: on the command line, in the ini file and in the environment."""

    __slots__ = ("bare", "help", "metavar", "name")

    def __init__(self, name: str, text: str, metavar: str | None = None, *, bare: str | None = None) -> None:
        self.name: str = name
        self.help: str = text
        self.metavar: str | None = metavar
        #: What the flag means without a value; the values that it may have then are those of ``metavar``.
        self.bare: str | None = bare

    @property
    def flag(self) -> str:
        """On the command line."""
        return f"--netns-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """In the ini file."""
        return f"netns_{self.name}"

    @property
    def variable(self) -> str:
        """In the environment."""
        return f"{PREFIX}{self.name.upper()}"


OPTIONS = (
    Option(
        "sandbox",
        "When to enter a user namespace, in which networks can be created without root: auto (not privileged and a "
        "collected test needs it), always (at start-up), never. The host's network is out of reach inside.",
        "auto|always|never",
    ),
    Option(
        "isolate",
        "Run every test in a fresh network namespace, as if marked netns. A namespace is that of one test (without a "
        "value, too), or of a whole class, module or session, with the fixtures of that scope.",
        "test|class|module|session",
        bare="test",
    ),
    Option(
        "isolate_interface",
        "The interface that isolated tests have beside loopback, e.g. eth0: with addresses of both families and a "
        "default route to a quiet peer. Without it there is none.",
        "NAME",
    ),
    Option("root", "Without root: be user 0 inside of the user namespace, from start-up on, as unshare -r does."),
    Option("require", "Fail tests that cannot create networks, instead of skipping them."),
    Option(
        "artifacts",
        "Write a folder for each failed test: the state of its labs as JSON, a drawing, the output of processes.",
        "DIR",
    ),
    Option(
        "pcap",
        "Record the packets of every interface and keep them among the artifacts: off, failed (of failed tests), all.",
        "off|failed|all",
    ),
    Option("shell", "Open a shell in the lab when a test fails."),
    Option("keep", "When a test fails, say how to enter its lab, and wait for Enter."),
    Option(
        "leaks",
        "What becomes of a test that leaves labs, namespaces, processes, captures, descriptors or threads of ours "
        "alive: error, warn (a warning in the summary), off.",
        "error|warn|off",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare all options on the command line and as ini keys."""
    group = parser.getgroup("netns", "isolated networks (pytest-netns)")
    group.addoption(
        "--netns-doctor",
        action="store_true",
        help="Print what this machine allows and has, and how to get what it lacks, instead of running tests.",
    )
    for option in OPTIONS:
        origin = f" Ini key {option.ini}, environment {option.variable}."
        # Values stay text until they are validated, together with where they came from; None: not given.
        if option.bare is not None:
            # A value only behind an equals sign: what follows the bare flag is a path, as a rule.
            _add_flag(group, option, option.flag, option.bare, option.help + origin)
            for value in (option.metavar or "").split("|"):
                _add_flag(group, option, f"{option.flag}={value}", value, f"See {option.flag}.")
        elif option.metavar is None:
            group.addoption(option.flag, action="store_const", const="true", default=None, help=option.help + origin)
        else:
            group.addoption(option.flag, metavar=option.metavar, default=None, help=option.help + origin)
        # As pytest's own switches: true without quotation marks where the file is TOML.
        kind: Literal["string", "bool"] = "string" if option.metavar else "bool"
        parser.addini(option.ini, option.help, type=kind, default=None)


def _add_flag(group: pytest.OptionGroup, option: Option, flag: str, value: str, text: str) -> None:
    group.addoption(flag, action="store_const", const=value, default=None, dest=option.ini, help=text)


def is_named(namespace: object) -> bool:
    """Whether the command line names the plugin: ``-p netns``."""
    plugins = getattr(namespace, "plugins", None) or ()
    return not {"netns", "pytest_netns", "pytest_netns.plugin.hooks"}.isdisjoint(plugins)


def is_asked_for(config: pytest.Config, namespace: object) -> bool:
    """Whether a run names the plugin, or has given one of its options anywhere, be it a wrong value.

    Args:
        config: for the ini file.
        namespace: the parsed command line, complete or not yet.
    """
    return (
        is_named(namespace)
        or any(name.startswith(PREFIX) for name in os.environ)
        or any(getattr(namespace, f"netns_{option.name}", None) is not None for option in OPTIONS)
        or any(_in_ini(config, option) for option in OPTIONS)
    )


def _in_ini(config: pytest.Config, option: Option) -> bool:
    try:
        return config.getini(option.ini) is not None
    except Exception:  # a value that pytest refuses: which error says so depends on its version
        return True


def uses_networks(item: pytest.Item) -> bool:
    """Whether a test uses one of our fixtures or markers."""
    return (
        not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        or item.get_closest_marker(ISOLATE) is not None
        or item.get_closest_marker(REQUIRES) is not None
    )

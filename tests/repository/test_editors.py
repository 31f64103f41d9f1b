"""What an editor shows of the public names: signatures that are told twice agree, and docstrings stand alone.

That the types are right is the business of type checkers: see typing_check.py.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import doctest
import inspect
import io
import os
import re
import select
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import cast

import pytest

import pytest_netns
from pytest_netns import (
    Host,
    Interface,
    Lab,
    LabFactory,
    Link,
    Namespace,
    NamespaceFactory,
    Node,
    UnsupportedError,
    WaitTimeout,
    ready,
)
from pytest_netns.assertions import probe_options as options
from pytest_netns.devices.masters import Master
from pytest_netns.faults.schedule import Done
from pytest_netns.impair.impairment import Counters
from pytest_netns.impair.options import ImpairOptions
from pytest_netns.kernel.netlink.bridge_tables import MulticastEntry
from pytest_netns.kernel.netlink.bridge_vlan import Vlan
from pytest_netns.kernel.netlink.ip_rule import IpRule
from pytest_netns.kernel.netlink.nexthop import Nexthop
from pytest_netns.kernel.netlink.tables import ForwardingEntry, LinkState, Neighbour, Route
from pytest_netns.kernel.netlink.wireguard_genl import Peer
from pytest_netns.lab.link_impairment import LinkImpairOptions
from pytest_netns.lab.multicast import Membership
from pytest_netns.lab.multicast_routes import MulticastRoute, MulticastRoutes
from pytest_netns.lab.name_resolution import Names
from pytest_netns.lab.nat import Counter, ForwardRule, MasqueradeRule
from pytest_netns.lab.nexthops import Nexthops
from pytest_netns.lab.rules import Rules
from pytest_netns.plugin import hooks
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.probe.trace import Hop
from pytest_netns.stack.kernel_counters import CounterChange, KernelCounters
from pytest_netns.stack.lazy_verbs import LazyVerb


@pytest.mark.parametrize(
    ("probe", "keywords"),
    [
        (Node.ping, options.PingOptions),
        (Node.arp, options.ArpOptions),
        (Node.tcp, options.TcpOptions),
        (Node.udp, options.UdpOptions),
        (Node.trace, options.TraceOptions),
        (Interface.impair, ImpairOptions),
        (Link.impair, LinkImpairOptions),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_who_passes_keywords_on_takes_those_of_the_method(probe: FunctionType, keywords: type) -> None:
    parameters = inspect.signature(probe).parameters.values()
    expected = {each.name: each.annotation for each in parameters if each.kind is each.KEYWORD_ONLY}
    assert {name: hint.__forward_arg__ for name, hint in keywords.__annotations__.items()} == expected


@pytest.mark.parametrize(
    ("factory", "product", "hidden"),
    [
        (LabFactory, Lab, set()),
        (NamespaceFactory, Namespace, {"sysctls", "supervisor", "existing", "lab_name", "apart"}),
    ],
    ids=["lab", "namespace"],
)
def test_a_factory_takes_what_its_product_takes(factory: type, product: type, hidden: set[str]) -> None:
    taken = dict(inspect.signature(factory.__call__).parameters)
    known = {name: each for name, each in inspect.signature(product).parameters.items() if name not in hidden}
    del taken["self"]
    if "visible" in taken:  # the fixture has a default of its own
        taken["visible"] = taken["visible"].replace(default=known["visible"].default)
    assert taken == known


#: What public names return, under no public name of its own.
RETURNED = (
    ForwardRule,
    MasqueradeRule,
    Counter,
    Route,
    Neighbour,
    ForwardingEntry,
    LinkState,
    Vlan,
    Hop,
    ProbeError,
    Names,
    Counters,
    Done,
    Master,
    Peer,
    Nexthop,
    Nexthops,
    IpRule,
    Rules,
    MulticastEntry,
    Membership,
    MulticastRoute,
    MulticastRoutes,
    KernelCounters,
    CounterChange,
)


def public() -> Iterator[tuple[str, object]]:
    """Every function, class, method and property that can be reached from a public name."""
    seen: set[object] = set()
    waiting: list[tuple[str, object]] = [(name, getattr(pytest_netns, name)) for name in pytest_netns.__all__]
    waiting += [(each.__name__, each) for each in RETURNED]
    while waiting:
        name, value = waiting.pop()
        ours = str(getattr(value, "__module__", "") or getattr(value, "__name__", "")).startswith("pytest_netns")
        if isinstance(value, ModuleType):
            local = vars(value).items()
            waiting += [(f"{name}.{key}", v) for key, v in local if getattr(v, "__module__", "") == value.__name__]
        elif isinstance(value, type) and ours and value not in seen:
            seen.add(value)
            yield name, value
            waiting += [(base.__name__, base) for base in value.__mro__[1:]]
            for key, member in list(vars(value).items()):
                if isinstance(member, LazyVerb):
                    yield f"{name}.{key}", getattr(value, key)
                elif not key.startswith("_"):
                    yield f"{name}.{key}", getattr(member, "__func__", member)
        elif isinstance(value, FunctionType):
            yield name, value


def _documentation(value: object) -> str | None:
    return value.func.__doc__ if isinstance(value, cached_property) else value.__doc__


PUBLIC = dict(public())
FUNCTIONS = {name: value for name, value in PUBLIC.items() if isinstance(value, FunctionType)}
DATA = {name: value for name, value in PUBLIC.items() if isinstance(value, type) and dataclasses.is_dataclass(value)}


def test_no_docstring_is_missing_or_sends_the_reader_elsewhere() -> None:
    elsewhere = re.compile(r"\b[Aa]rgs and errors|\b[Aa]s for ``|^See ``|\. See ``\w+\.\w+``\.")
    texts = {name: _documentation(v) for name, v in PUBLIC.items() if callable(v) or isinstance(v, property)}
    assert len(texts) > 300
    assert {name: text for name, text in texts.items() if not text or elsewhere.search(text)} == {}


def test_docstrings_name_every_parameter() -> None:
    missing = [
        f"{name}: {parameter}"
        for name, value in FUNCTIONS.items()
        for parameter in list(inspect.signature(value).parameters)["." in name :]  # a method's first is its object
        if not re.search(rf"\b{parameter}\b", value.__doc__ or "")
    ]
    assert missing == []


def test_docstrings_describe_every_attribute() -> None:
    missing = [
        f"{name}: {field.name}"
        for name, value in DATA.items()
        for field in dataclasses.fields(value)
        if not field.name.startswith("_") and not re.search(rf"^ +{field.name}: ", value.__doc__ or "", re.MULTILINE)
    ]
    assert missing == []


def test_no_plumbing_stands_among_the_verbs() -> None:
    words = re.compile(r"^(Called (by|when|before|after|with)|For our own)")
    plumbing = {name: text for name, v in PUBLIC.items() if (text := _documentation(v) or "") and words.search(text)}
    assert plumbing == {}


#: What has no example, and why.
WITHOUT_EXAMPLE = {
    "a base: the example stands at the class that users get": {
        "BaseNode", "BaseNode.close", "BreakableCable", "Cable", "Handle", "Handle.close", "Network", "Network.attach",
    },
    "overrides what has one": {"Crash.stops", "Freeze.stops", "Freeze.undo", "Partition.stops"},
    "called by the package": {
        "Crash.defer_up", "Fault.stops", "ForwardRule.lines", "ForwardRule.meant", "Impairment.values",
        "KernelError.of", "MasqueradeRule.lines", "MasqueradeRule.meant", "Names.follow", "Names.hosts_file",
        "Names.known", "Names.refresh", "Names.resolver_file", "Process.expect_end", "Process.release",
        "Process.unexpected_end", "Rule.lines", "Rule.meant", "Schedule.untold", "Tun.open",
        "MulticastRoutes.restore", "WireGuard.configure", "WireGuard.set_peer", "WireGuard.shown", "ready.Candidate",
        "ready.Candidate.has_socket", "ready.condition_of", "ready.listening_ports",
    },
}  # fmt: skip

#: Examples that are compiled but not run, and why.
NOT_RUN = {
    "it is about the figures of a machine that has nothing else to do": {
        "assert_loss", "assert_rate", "assert_rtt", "ThroughputResult", "Lab.throughput", "LossResult", "Lab.loss",
    },
    "it takes seconds": {"Bridge.wait_converged"},
    "it changes the process that runs it": {"NetnsWarning", "enter_sandbox", "PrivilegeError"},
    "it puts a file onto the machine": {"Capture.save", "Namespace.publish"},
    "it needs a container": {"Lab.adopt", "Namespace.attach"},
}  # fmt: skip


def _examples() -> dict[str, str]:
    """The code of each example, by the public name whose docstring has it."""
    parser = doctest.DocTestParser()
    texts = {name: _documentation(value) or "" for name, value in PUBLIC.items() if name not in sum_of(WITHOUT_EXAMPLE)}
    codes = {name: "".join(each.source for each in parser.get_examples(text)) for name, text in texts.items()}
    return {name: code for name, code in codes.items() if code}


def sum_of(reasons: dict[str, set[str]]) -> set[str]:
    """All names, whatever their reason."""
    return set().union(*reasons.values())


def _compiled(name: str, code: str) -> CodeType:
    return compile(code, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_public_class_and_verb_has_an_example() -> None:
    examples = _examples()
    verbs = {name for name, value in PUBLIC.items() if isinstance(value, type | FunctionType)}
    assert verbs - sum_of(WITHOUT_EXAMPLE) - set(examples) == set()
    assert sum_of(WITHOUT_EXAMPLE) - verbs == set()
    assert sum_of(NOT_RUN) - set(examples) == set()


def _serve(blue: Host) -> None:
    """Let a host listen on TCP port 80 and echo on UDP port 7, as the examples have it."""
    blue.spawn([sys.executable, "-c", _SERVER], ready=ready.output("serving"))


_SERVER = """
import socket
tcp = socket.create_server(("", 80))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", 7))
print("serving", flush=True)
while True:
    data, peer = udp.recvfrom(2048)
    udp.sendto(data, peer)
"""


#: What an example does that changes its lab, so that the next one gets a new lab.
CHANGES = re.compile(
    r"add_|attach|block|bridge\(|black_hole|close|connect\(|crash|down|flap|forward|freeze|host\(|impair|lab.dns|mask"
    r"|nft|partition|remove|replace|router\(|schedule|set_mtu|socket\(|spawn|undo|up\("
)


class _Stage:
    """A small lab with the names that all examples share; another one after an example that changes it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._words: dict[str, object] = {}

    def _set_up(self) -> None:
        from scapy.layers.inet import ICMP, IP, TCP, UDP
        from scapy.layers.l2 import ARP, Ether

        self._stack.close()
        lab = self._stack.enter_context(Lab("examples"))
        lan = lab.bridge("lan", "10.0.0.0/24")
        red, blue, green, router = lab.host("red"), lab.host("blue"), lan.host("green"), lab.router("router", lan)
        link = lab.connect(red, blue, "192.168.15.0/24")
        lab.connect(router, red)
        lab.autoroute()
        self._words = {each: getattr(pytest_netns, each) for each in pytest_netns.__all__}
        self._words |= {each.__name__: each for each in (os, pytest, select, signal, socket, sys, warnings)}
        self._words |= {each.__name__: each for each in (ARP, Ether, ICMP, IP, Path, TCP, UDP)}
        self._words |= {"lab": lab, "lan": lan, "link": link}
        self._words |= {"red": red, "blue": blue, "green": green, "router": router}

    def run(self, name: str, code: str) -> None:
        """Run an example."""
        if not self._words:
            self._set_up()
        if re.search(r"\bblue, (80|7)\b|\bblue.ip4\), 80", code) and not self._words.get("served"):
            _serve(cast("Host", self._words["blue"]))
            self._words["served"] = True
        words = self._words
        namespace = dict(words)
        self._words = {}
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(_compiled(name, code), namespace)
        except UnsupportedError:  # before the line that closes it
            for word in set(namespace) - set(words):
                if isinstance(namespace[word], Namespace):
                    namespace[word].close()
            raise
        if not CHANGES.search(code):
            self._words = words


def _failure(stage: _Stage, name: str, code: str) -> str | None:
    """What is wrong with an example. A probe has three tries: a busy machine may be slow to answer one."""
    for tries in range(3):
        try:
            stage.run(name, code)
        except UnsupportedError:  # by this kernel, or without some program
            return None
        except (AssertionError, WaitTimeout) as error:
            failure = f"{name}: {error!r}, try {tries + 1}\n{code}"
        except Exception as error:
            return f"{name}: {error!r}\n{code}"
        else:
            return None
    return failure


def test_examples_are_right() -> None:
    """All compile; those that need nothing but a small lab run."""
    codes = {code: (name, _compiled(name, code)) for name, code in _examples().items() if name not in sum_of(NOT_RUN)}
    with contextlib.ExitStack() as stack:
        stage = _Stage(stack)
        wrong = [
            failure
            for code, (name, compiled) in codes.items()
            if not compiled.co_flags & inspect.CO_COROUTINE
            if (failure := _failure(stage, name, code))
        ]
    assert not wrong, "\n".join(wrong)


def test_fixtures_say_their_scope_and_what_they_build_on() -> None:
    """``pytest --fixtures -p netns`` is where users read of them."""
    source = ast.parse(Path(hooks.__file__).read_text())
    fixtures = {
        node.name: node
        for node in source.body
        if isinstance(node, ast.FunctionDef) and any("fixture" in ast.unparse(each) for each in node.decorator_list)
    }
    assert set(fixtures) == {"netns", "netns_factory", "lab", "lab_factory", "veth_pair", "bridge", "netns_lab_options"}
    missing = []
    for name, node in fixtures.items():
        text = ast.get_docstring(node) or ""
        scope = "session" if "session" in ast.unparse(node.decorator_list[0]) else "function"
        bases = [each.arg for each in node.args.args if each.arg in fixtures]
        missing += [
            f"{name}: {word}" for word in (f"Scope: {scope}", *(f"``{each}``" for each in bases)) if word not in text
        ]
    assert missing == []

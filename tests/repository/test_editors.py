"""What an editor shows of the public names: signatures that are told twice agree, and docstrings stand alone.

That the types are right is the business of type checkers: see typing_check.py.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from types import FunctionType, ModuleType

import pytest

import pytest_netns
from pytest_netns import Interface, Lab, LabFactory, Link, Namespace, NamespaceFactory, Node
from pytest_netns.assertions import probe_options as options
from pytest_netns.devices.masters import Master
from pytest_netns.faults.schedule import Done
from pytest_netns.impair.impairment import Counters
from pytest_netns.impair.options import ImpairOptions
from pytest_netns.kernel.netlink.bridge_vlan import Vlan
from pytest_netns.kernel.netlink.tables import ForwardingEntry, LinkState, Neighbour, Route
from pytest_netns.kernel.netlink.wireguard_genl import Peer
from pytest_netns.lab.link_impairment import LinkImpairOptions
from pytest_netns.lab.name_resolution import Names
from pytest_netns.lab.nat import Counter, ForwardRule, MasqueradeRule
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.probe.trace import Hop


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
        (NamespaceFactory, Namespace, {"sysctls", "supervisor", "existing", "lab_name", "prefetched"}),
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
            for key, member in vars(value).items():
                if not key.startswith("_"):
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

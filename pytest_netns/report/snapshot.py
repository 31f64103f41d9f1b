"""Snapshot: the state of a lab as plain, JSON-serializable values. Text and drawings are made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict

from pytest_netns.errors import NetnsError
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.sock_diag import listeners
from pytest_netns.kernel.netlink.tables import decode_address, in_order
from pytest_netns.kernel.sysctl import BASELINE
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.link import Link
from pytest_netns.lab.nodes import Node
from pytest_netns.process.process import exit_words
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace


class InterfaceState(TypedDict):
    """A device.

    ``enabled``: administratively up; ``up``: operationally up. ``peer``: the ``node:interface`` at the other end.
    ``impaired``: how sent frames are impaired, by which engine, and how many were passed, lost and so on.
    """

    name: str
    kind: str
    enabled: bool
    up: bool
    mac: str
    mtu: int
    addresses: list[str]
    master: str | None
    port_state: str
    peer: str | None
    impaired: str | None


class RouteState(TypedDict):
    """A route; ``text`` is how ip(8) writes it."""

    destination: str
    gateway: str | None
    interface: str | None
    metric: int
    kind: str
    table: int
    protocol: str
    text: str


class NeighbourState(TypedDict):
    """An entry of the ARP or neighbour discovery cache."""

    address: str
    mac: str | None
    interface: str
    state: str


class SysctlState(TypedDict):
    """A sysctl that differs from the initial value for this kind of node."""

    name: str
    value: str
    usual: str


class ListenerState(TypedDict):
    """A listening TCP socket, or a UDP socket that is bound and not connected."""

    protocol: str
    address: str
    port: int
    text: str


class RulesState(TypedDict):
    """Netfilter rules with their counters: in nft(8) syntax and as libnftables-json(5)."""

    count: int
    text: str
    json: list[dict[str, object]]


class ProcessState(TypedDict):
    """A background process. ``returncode``: None while it runs; ``state``: the same as text."""

    pid: int
    argv: list[str]
    returncode: int | None
    state: str
    output: str


class NodeState(TypedDict):
    """A node. ``troubles``: which parts of its state could not be read, and why."""

    name: str
    kind: str
    inode: int
    subnets: list[str]
    interfaces: list[InterfaceState]
    routes: list[RouteState]
    neighbours: list[NeighbourState]
    sysctls: list[SysctlState]
    listeners: list[ListenerState]
    rules: RulesState
    processes: list[ProcessState]
    troubles: list[str]


class End(TypedDict):
    """One end of a cable."""

    node: str
    interface: str


class CableState(TypedDict):
    """A link of the lab."""

    a: End
    b: End


class LabState(TypedDict):
    """A lab: its open nodes and the links between them, each in the order of creation.

    ``faults``: the faults in force, i.e. injected by the test and not undone.
    """

    name: str
    faults: list[str]
    nodes: list[NodeState]
    cables: list[CableState]


def snapshot(lab: Lab) -> LabState:
    """The current state of a lab. Changes nothing in it; takes some milliseconds per node.

    Args:
        lab: an open lab.
    """
    links = [link for link in lab.links if not any(end.node.closed for end in link.interfaces)]
    peers = {}
    for link in links:
        for end, other in (link.interfaces, link.interfaces[::-1]):
            peers[end.node.inode, end.index] = other
    nodes = [_node(node, peers) for node in lab if not node.closed]
    faults = [str(fault) for fault in lab.faults]
    return {"name": lab.name, "faults": faults, "nodes": nodes, "cables": [_cable(link) for link in links]}


def snapshot_of(name: str, namespaces: Iterable[Namespace]) -> LabState:
    """The current state of namespaces that belong to no lab, under one common name."""
    nodes = [_node(namespace, {}) for namespace in namespaces if not namespace.closed]
    return {"name": name, "faults": [], "nodes": nodes, "cables": []}


def _cable(link: Link) -> CableState:
    a, b = ({"node": end.node.name, "interface": end.name} for end in link.interfaces)
    return {"a": End(**a), "b": End(**b)}  # type: ignore[typeddict-item]


def _node(node: Namespace, peers: Mapping[tuple[int, int], Interface]) -> NodeState:
    subnets = [str(subnet) for subnet in node.subnets] if isinstance(node, Bridge) else []
    state: NodeState = {
        "name": node.name,
        "kind": type(node).__name__.lower(),
        "inode": node.inode,
        "subnets": subnets,
        "interfaces": [],
        "routes": [],
        "neighbours": [],
        "sysctls": [],
        "listeners": [],
        "rules": {"count": 0, "text": "", "json": []},
        "processes": [],
        "troubles": [],
    }

    def interfaces() -> None:
        state["interfaces"] = _interfaces(node, peers)

    def routes() -> None:
        state["routes"] = _routes(node)

    def neighbours() -> None:
        state["neighbours"] = _neighbours(node)

    def sysctls() -> None:
        state["sysctls"] = _sysctls(node)

    def waiting() -> None:
        state["listeners"] = _listeners(node)

    def rules() -> None:
        state["rules"] = _rules(node)

    def processes() -> None:
        state["processes"] = _processes(node)

    parts: list[Callable[[], None]] = [interfaces, routes, neighbours, sysctls, waiting, rules, processes]
    for part in parts:
        try:
            part()
        except (NetnsError, OSError) as error:  # an error here must not hide the failure being reported
            state["troubles"].append(str(error).splitlines()[0])
    return state


def _interfaces(node: Namespace, peers: Mapping[tuple[int, int], Interface]) -> list[InterfaceState]:
    entries = [decode_address(body) for body in node.rtnl.dump(rtnetlink.address_dump())]
    # One by one: a dump may show an interface up whose far end has just gone down (see Interface.wait_up).
    interfaces = list(node.interfaces.values())
    links = [interface.state for interface in interfaces]
    names = {link.index: link.name for link in links}
    found: list[InterfaceState] = []
    for interface, link in zip(interfaces, links, strict=True):
        peer = peers.get((node.inode, link.index))
        found.append(
            {
                "name": link.name,
                "kind": link.kind,
                "enabled": bool(link.flags & rtnetlink.IFF_UP),
                "up": link.is_up,
                "mac": link.mac,
                "mtu": link.mtu,
                "addresses": [str(a) for a in in_order(entry for entry in entries if entry.index == link.index)],
                "master": names.get(link.master),
                "port_state": link.port_state,
                "peer": str(peer) if peer is not None else None,
                "impaired": _impaired(interface),
            }
        )
    return found


def _impaired(interface: Interface) -> str | None:
    """The impairment in force and its effect so far, e.g. frames dropped because a queue was full."""
    words = interface.node._impairment_words(interface)
    if not words:
        return None
    try:
        active = interface.impairment
    except NetnsError as error:
        return f"{words} ({str(error).splitlines()[0]})"
    done = "" if active is None else str(active.counters)
    return f"{words} ({done})" if done else words


def _routes(node: Namespace) -> list[RouteState]:
    return [
        {
            "destination": str(route.destination),
            "gateway": str(route.gateway) if route.gateway is not None else None,
            "interface": route.interface,
            "metric": route.metric,
            "kind": route.kind,
            "table": route.table,
            "protocol": route.protocol,
            "text": str(route),
        }
        for route in node.routes()
    ]


def _neighbours(node: Namespace) -> list[NeighbourState]:
    return [
        {"address": str(each.address), "mac": each.mac, "interface": each.interface, "state": each.state}
        for each in node.neighbours()
    ]


def _sysctls(node: Namespace) -> list[SysctlState]:
    expected = {**BASELINE, **(node._initial_sysctls if isinstance(node, Node) else {})}
    found: list[SysctlState] = []
    for name, value in expected.items():
        now, usual = node.sysctl.get(name), value.strip()
        if now is not None and now != usual:
            found.append({"name": name, "value": now, "usual": usual})
    return found


def _listeners(node: Namespace) -> list[ListenerState]:
    return [
        {"protocol": each.protocol, "address": str(each.address), "port": each.port, "text": str(each)}
        for each in (*listeners(node.fd, "tcp"), *listeners(node.fd, "udp"))
    ]


def _rules(node: Namespace) -> RulesState:
    ruleset = node.nft_ruleset()
    count = sum("rule" in item for item in ruleset)
    return {"count": count, "text": node.nft("list ruleset") if ruleset else "", "json": ruleset}


def _processes(node: Namespace) -> list[ProcessState]:
    found: list[ProcessState] = []
    for process in node.processes:
        code = process.returncode
        found.append(
            {
                "pid": process.pid,
                "argv": list(process.argv),
                "returncode": code,
                "state": exit_words(code),
                "output": process.output,
            }
        )
    return found

"""Layout: a lab as columns and rows, for drawings. Pure functions.

A column is a network stack; a row is a segment, i.e. a bridge or a cable. Any network can be drawn this way, and the
same network always gives the same drawing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_interface

from pytest_netns.addresses import is_of_link
from pytest_netns.report.snapshot import CableState, InterfaceState, LabState, NodeState


@dataclass(frozen=True, slots=True)
class Plug:
    """The connection of an interface to a segment.

    Attributes:
        interface: name of the interface.
        addresses: its addresses, without link-local ones.
        fault: why no frame gets through here: ``DOWN``, ``NO-CARRIER``, ``UNPLUGGED``, ``GONE`` or the state of the
            bridge port; empty if frames get through.
    """

    interface: str
    addresses: tuple[str, ...]
    fault: str


@dataclass(slots=True)
class Column:
    """A network stack.

    Attributes:
        names: names of the nodes that share it; usually one.
        kind: ``host``, ``router``, ``namespace``, ...
    """

    names: list[str]
    kind: str

    @property
    def title(self) -> str:
        """``web+sidecar``."""
        return "+".join(self.names)


@dataclass(slots=True)
class Row:
    """A segment.

    Attributes:
        name: name of the bridge; empty for a cable.
        label: the text beside the row.
        plugs: the connections by column number.
        fault: the fault of the bridge itself, or of either end of the cable; empty if there is none.
    """

    name: str
    label: str
    plugs: dict[int, list[Plug]] = field(default_factory=dict)
    fault: str = ""

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge."""
        return bool(self.name)


@dataclass(frozen=True, slots=True)
class Layout:
    """A lab as columns and rows, with neighbours side by side where possible."""

    columns: list[Column]
    rows: list[Row]


def layout(state: LabState) -> Layout:
    """Arrange a lab: nodes and segments in the order of a walk from the first host along its segments."""
    nodes = {node["name"]: node for node in state["nodes"]}
    stacks: dict[int, Column] = {}
    for node in state["nodes"]:
        if node["kind"] != "bridge":
            stacks.setdefault(node["inode"], Column([], node["kind"])).names.append(node["name"])
    segments: dict[str, list[tuple[str, Plug]]] = {name: [] for name, node in nodes.items() if _is_bridge(node)}
    rows = {name: _bridge_row(nodes[name]) for name in segments}
    trunks: dict[str, list[str]] = {}
    for number, cable in enumerate(state["cables"]):
        ends = [nodes[cable[side]["node"]] for side in ("a", "b")]
        plugs = _plugs(cable, ends[0], ends[1])
        bridges = [end for end in ends if _is_bridge(end)]
        if len(bridges) == 2:
            (one, two), fault = (end["name"] for end in ends), plugs[0].fault or plugs[1].fault
            rows[one].label += f", trunk to {two}" + (f" {fault}" if fault else "")
            rows[two].label += f", trunk to {one}" + (f" {fault}" if fault else "")
            trunks.setdefault(one, []).append(two)
            trunks.setdefault(two, []).append(one)
        elif bridges:
            at = 0 if _is_bridge(ends[1]) else 1
            segments[bridges[0]["name"]].append((ends[at]["name"], plugs[at]))
        else:
            key = f" {number}"  # no node's name begins with a space
            segments[key] = [(end["name"], plug) for end, plug in zip(ends, plugs, strict=True)]
            rows[key] = Row("", _common_network(plugs), fault=plugs[0].fault or plugs[1].fault)
    inodes = {name: node["inode"] for name, node in nodes.items()}
    columns, ordered = _walk(stacks, segments, trunks, inodes)
    place = {inode: number for number, inode in enumerate(columns)}
    for key in ordered:
        for name, plug in segments[key]:
            rows[key].plugs.setdefault(place[inodes[name]], []).append(plug)
    return Layout([stacks[inode] for inode in columns], [rows[key] for key in ordered])


def _is_bridge(node: NodeState) -> bool:
    return node["kind"] == "bridge"


def _walk(
    stacks: dict[int, Column],
    segments: dict[str, list[tuple[str, Plug]]],
    trunks: dict[str, list[str]],
    inodes: dict[str, int],
) -> tuple[list[int], list[str]]:
    columns: dict[int, None] = {}
    rows: dict[str, None] = {}
    of: dict[int, list[str]] = {}
    for key, members in segments.items():
        for name, _ in members:
            of.setdefault(inodes[name], []).append(key)
    for start in stacks:
        queue = [start]
        while queue:
            inode = queue.pop(0)
            if inode in columns:
                continue
            columns[inode] = None
            waiting = list(of.get(inode, []))
            while waiting:
                key = waiting.pop(0)
                if key not in rows:
                    rows[key] = None
                    queue += [inodes[name] for name, _ in segments[key]]
                    waiting += trunks.get(key, [])
    return list(columns), [*rows, *(key for key in segments if key not in rows)]


def _bridge_row(node: NodeState) -> Row:
    networks = node["subnets"][:1]
    fault = next(("DOWN" for each in node["interfaces"] if each["kind"] == "bridge" and not each["enabled"]), "")
    return Row(node["name"], " ".join([node["name"], *networks, *([fault] if fault else [])]), fault=fault)


def _plugs(cable: CableState, a: NodeState, b: NodeState) -> tuple[Plug, Plug]:
    ends = (_interface(a, cable["a"]["interface"]), _interface(b, cable["b"]["interface"]))
    plugs: list[Plug] = []
    for end, other, node in zip(ends, ends[::-1], (b, a), strict=True):
        port = other if other is not None and _is_bridge(node) else None
        addresses = [] if end is None else [each for each in end["addresses"] if not is_of_link(ip_interface(each))]
        plugs.append(Plug(cable["b" if plugs else "a"]["interface"], tuple(addresses), _fault(end, port)))
    return plugs[0], plugs[1]


def _fault(end: InterfaceState | None, port: InterfaceState | None) -> str:
    if end is None:
        return "GONE"
    if not end["enabled"]:
        return "DOWN"
    if port is not None and port["master"] is None:
        return "UNPLUGGED"
    if not end["up"]:
        return "NO-CARRIER"
    return port["port_state"] if port is not None and port["port_state"] != "forwarding" else ""


def _interface(node: NodeState, name: str) -> InterfaceState | None:
    return next((each for each in node["interfaces"] if each["name"] == name), None)


def _common_network(plugs: tuple[Plug, Plug]) -> str:
    networks = [[str(ip_interface(each).network) for each in plug.addresses] for plug in plugs]
    return next((network for network in networks[0] if network in networks[1]), "")

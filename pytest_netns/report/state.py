"""The state of a lab as text: a drawing, and for each node its interfaces, routes, listeners, rules and processes."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface

from pytest_netns.addresses import is_of_link
from pytest_netns.lab.lab import Lab
from pytest_netns.report.drawing import drawing
from pytest_netns.report.snapshot import InterfaceState, LabState, NodeState, snapshot

#: Maximum number of lines of the short form, and of a process's output in it.
_SHORT, _OUTPUT = 40, 5


def describe(lab: Lab, *, whole: bool = False) -> str:
    """The current state of a lab as text.

    Args:
        lab: an open lab.
        whole: the long form, with neighbours, bridges, nftables rules and all output of processes; otherwise at most
            some forty lines.

    Raises:
        NetnsError: the lab is closed.

    Example:
        >>> print(describe(lab))
    """
    if not hasattr(lab, "links"):
        raise TypeError(f"lab is {lab!r}; expected a Lab")
    return text(snapshot(lab), whole=whole)


def text(state: LabState, *, whole: bool = False, most: int = _SHORT, about: str | None = None) -> str:
    """A snapshot as text.

    Args:
        state: the lab's state, from ``snapshot``.
        whole: the long form.
        most: maximum number of lines of the short form, before the one that says how many were cut.
        about: name of the node to describe, if known; the others appear in the drawing only.
    """
    lines = [f"in force: {fault}" for fault in state["faults"]]
    lines += drawing(state).splitlines() if state["cables"] else []
    everywhere = _everywhere(state)
    missing = 0
    for node in state["nodes"]:
        rows = _node(node, everywhere, whole)
        if rows or whole or node["kind"] != "bridge":  # the drawing shows it
            of_node = [f"{node['name']} ({node['kind']})", *(f"  {row}" for row in rows)]
            if whole or about in (None, node["name"]):
                lines += of_node
            else:
                missing += len(of_node)
    lines += [f"(cannot be told of any node: {trouble})" for trouble in everywhere]
    if not whole and len(lines) + bool(missing) > most:
        missing += len(lines) - most
        lines = lines[:most]
    if missing:
        lines.append(f"... {missing} more lines; see all with -vv")
    return "\n".join(lines)


def is_bare(state: LabState) -> bool:
    """Whether there is nothing to report: no interface but loopback, no process, only initial settings."""
    return not any(_node(node, [], whole=False) for node in state["nodes"])


def _everywhere(state: LabState) -> list[str]:
    """Read errors that are the same on all nodes apart from the node's name: reported once."""
    if len(state["nodes"]) < 2:
        return []
    first, *others = ([*node["troubles"]] for node in state["nodes"])
    return [trouble for trouble in first if all(trouble in other for other in others)]


def _node(node: NodeState, everywhere: list[str], whole: bool) -> list[str]:
    return [
        *_interfaces(node, whole),
        *(
            f"route {route['text']}"
            for route in node["routes"]
            if route["protocol"] != "kernel" and _main(route["table"])
        ),
        *_neighbours(node, whole),
        *(f"sysctl {s['name']} = {s['value']} (usually {s['usual'] or 'empty'})" for s in node["sysctls"]),
        *(f"listens on {each['text']}" for each in node["listeners"]),
        *_rules(node, whole),
        *_processes(node, whole),
        *(f"(cannot be told: {trouble})" for trouble in node["troubles"] if trouble not in everywhere),
    ]


def _main(table: int) -> bool:
    return table == 254


def _interfaces(node: NodeState, whole: bool) -> Iterable[str]:
    is_bridge = node["kind"] == "bridge"
    for each in node["interfaces"]:
        if each["name"] == "lo" and each["up"] and not whole:
            continue
        addresses = [a for a in each["addresses"] if whole or not is_of_link(ip_interface(a))]
        if is_bridge and not whole and not addresses and not _remarkable(each):
            continue
        words = [each["name"], "up" if each["up"] else "DOWN" if not each["enabled"] else "NO-CARRIER", *addresses]
        words += [f"mtu {each['mtu']}"] if each["mtu"] != 1500 and each["name"] != "lo" else []
        words += [each["port_state"]] if each["port_state"] not in ("", "forwarding") else []
        words += [f"impaired: {each['impaired']}"] if each["impaired"] else []
        words += [f"-- {each['peer']}"] if each["peer"] else []
        yield " ".join(words)


def _remarkable(interface: InterfaceState) -> bool:
    if interface["kind"] == "bridge":  # without ports it has no carrier
        return not interface["enabled"]
    usual = interface["port_state"] == "forwarding" and interface["mtu"] == 1500 and not interface["impaired"]
    return not interface["up"] or not usual


def _neighbours(node: NodeState, whole: bool) -> Iterable[str]:
    for each in node["neighbours"]:
        if whole or each["state"] in ("FAILED", "INCOMPLETE"):
            yield f"neighbour {each['address']} {each['mac'] or 'unknown'} dev {each['interface']} {each['state']}"


def _rules(node: NodeState, whole: bool) -> Iterable[str]:
    rules = node["rules"]
    if whole:
        return rules["text"].splitlines()
    return [f"nftables rules: {rules['count']}; see them with -vv"] if rules["count"] else []


def _processes(node: NodeState, whole: bool) -> Iterable[str]:
    for process in node["processes"]:
        yield f"process {process['pid']} {' '.join(process['argv'])[:60]!r}: {process['state']}"
        output = process["output"].rstrip().splitlines()
        yield from (f"  | {line[:160]}" for line in (output if whole else output[-_OUTPUT:]))

"""The state of a lab in text: per node its interfaces and what is behind them, routes, listeners, rules, processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pytest_netns.errors import NetnsError
from pytest_netns.interface import Interface
from pytest_netns.kernel.listeners import listeners
from pytest_netns.kernel.sysctl import BASELINE
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.node import Node
from pytest_netns.process import exit_words

#: Lines of the short form, and of a process's output in it.
_SHORT, _OUTPUT = 40, 5


def describe(lab: Lab, *, whole: bool = False) -> str:
    """A lab as it is now.

    Args:
        lab: one that is open.
        whole: also neighbours, nftables rules and all output of processes; else at most some forty lines.
    """
    lines: list[str] = []
    for node in lab:
        if not node.closed:
            lines.append(f"{node.name} ({type(node).__name__.lower()})")
            lines += [f"  {line}" for line in _node(node, whole)]
    if not whole and len(lines) > _SHORT:
        lines = [*lines[:_SHORT], f"... {len(lines) - _SHORT} more lines; see all with -vv"]
    return "\n".join(lines)


def _node(node: Node, whole: bool) -> list[str]:
    parts: list[Callable[[], Iterable[str]]] = [
        lambda: _interfaces(node, whole),
        lambda: _routes(node),
        lambda: _sysctls(node),
        lambda: _listeners(node),
        lambda: _rules(node, whole),
        lambda: _processes(node, whole),
    ]
    if whole:
        parts.insert(2, lambda: _neighbours(node))
    lines: list[str] = []
    for part in parts:
        try:
            lines += part()
        except NetnsError as error:  # a report must not hide the failure that it is about
            lines.append(f"(cannot be told: {str(error).splitlines()[0]})")
    return lines


def _interfaces(node: Node, whole: bool) -> Iterable[str]:
    for name, interface in node.interfaces.items():
        if name == "lo" or (isinstance(node, Bridge) and interface != node.device and not _peer(node, interface)):
            continue
        state = interface.state
        addresses = [a for a in interface.addresses if whole or not a.is_link_local]
        words = [name, "up" if state.is_up else "DOWN", *map(str, addresses)]
        words += [f"mtu {state.mtu}"] if state.mtu != 1500 else []
        words += [state.port_state] if state.port_state not in ("", "forwarding") else []
        words += [f"impaired: {impaired}"] if (impaired := node.impairment_words(interface)) else []
        peer = _peer(node, interface)
        yield " ".join(words + ([f"-- {peer}"] if peer else []))


def _peer(node: Node, interface: Interface) -> Interface | None:
    for link in node.links:
        if link.end(node) == interface:
            return link.b if link.a == interface else link.a
    return None


def _routes(node: Node) -> Iterable[str]:
    return [f"route {route}" for route in node.routes() if route.protocol != "kernel"]


def _neighbours(node: Node) -> Iterable[str]:
    return [f"neighbour {n.address} {n.mac or 'unknown'} dev {n.interface} {n.state}" for n in node.neighbours()]


def _sysctls(node: Node) -> Iterable[str]:
    expected = {**BASELINE, **node.born_with}
    for name, value in expected.items():
        found = node.sysctl.get(name)
        if found is not None and found != value.strip():
            yield f"sysctl {name} = {found} (usually {value.strip() or 'empty'})"


def _listeners(node: Node) -> Iterable[str]:
    return [f"listens on {each}" for protocol in ("tcp", "udp") for each in listeners(node.fd, protocol)]


def _rules(node: Node, whole: bool) -> Iterable[str]:
    rules = [item for item in node.nft_ruleset() if "rule" in item]
    if not rules:
        return []
    if not whole:
        return [f"nftables rules: {len(rules)}; see them with -vv"]
    return node.nft("list ruleset").splitlines()


def _processes(node: Node, whole: bool) -> Iterable[str]:
    for process in node.processes:
        yield f"process {process.pid} {' '.join(process.argv)[:60]!r}: {exit_words(process.returncode)}"
        output = process.output.rstrip().splitlines()
        yield from (f"  | {line[:160]}" for line in (output if whole else output[-_OUTPUT:]))

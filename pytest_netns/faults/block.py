"""Block: packets that a host's own firewall drops or rejects."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import ClassVar

from pytest_netns.addresses import Network
from pytest_netns.checks import check_port, is_whole
from pytest_netns.errors import TopologyError
from pytest_netns.faults.nft_filter import Chain, Filter, addresses
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.topology.fault import Fault, Faults
from pytest_netns.topology.network import network_of
from pytest_netns.topology.node import BaseNode
from pytest_netns.topology.routing import RouteTarget, networks_of

#: Before the usual filters (priority 0), so that it counts whatever they say.
_PRIORITY = -10
#: What is spared in each hook: loopback, and the answers that a reject makes.
_HOOKS = {
    "input": ['iifname "lo" return'],
    "forward": [],
    "output": [
        'oifname "lo" return',
        "tcp flags & rst == rst return",
        "icmp type { destination-unreachable, time-exceeded, parameter-problem } return",
        "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } return",
    ],
}

_NAMED = ("tcp", "udp", "sctp", "icmp")
_WITH_PORTS = ("tcp", "udp", "sctp")
_NUMBERS: dict[int, str] = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", socket.IPPROTO_SCTP: "sctp"}
#: Neighbour discovery (RFC 4861) is not counted as ICMP: without it IPv6 is dead as a whole.
_ICMP = {4: "meta l4proto icmp", 6: "icmpv6 type != { 133, 134, 135, 136, 137 }"}


class Block(Fault):
    """Packets that a host drops or rejects. Created by ``Host.block``; ``Host.unblock`` undoes all of a host.

    Args:
        register: the faults of its lab.
        host: whose firewall it is.
        what: in a few words.
        rules: in the words of nft(8), for every hook.

    Example:
        >>> with blue.block(protocol="tcp", port=80) as block:
        ...     red.tcp(blue, 80, timeout=0.1)
        >>> block.packets
    """

    ends_with_crash: ClassVar[bool] = True

    def __init__(self, register: Faults, host: BaseNode, what: str, rules: Sequence[str]) -> None:
        chains = [
            Chain(hook, f"type filter hook {hook} priority {_PRIORITY};", [*spared, *rules])
            for hook, spared in _HOOKS.items()
        ]
        self._filter = Filter(host, "inet", chains)
        super().__init__(register, what, self._filter.remove, [host])

    @property
    def packets(self) -> int:
        """Packets dropped so far; after ``undo()``, the final count."""
        return self._filter.packets


def block(
    host: BaseNode,
    *,
    src: RouteTarget | None = None,
    dst: RouteTarget | None = None,
    protocol: str | int | None = None,
    port: int | None = None,
    reject: bool = False,
) -> Block:
    """Drop or reject packets that match all arguments, whether received, sent or forwarded.

    Loopback is excluded. Several blocks add up. Each is an nftables table of its own, which other rules
    cannot overrule. A sender's own ``sendto`` is refused with EPERM where its own host drops the packet, as with
    any firewall.

    Args:
        src: where the packet comes from: a node, an interface, an address, a network, or a bridge (its subnets).
        dst: where it goes; likewise.
        protocol: ``"tcp"``, ``"udp"``, ``"sctp"``, ``"icmp"`` (of IPv6 too, neighbour discovery excepted), or the
            number of an IP protocol.
        port: destination port, 1 to 65535; of TCP and UDP if no protocol is given.
        reject: answer with a TCP RST or an ICMP error instead of dropping silently.

    Returns:
        The block: as a context manager it ends with its block; ``packets`` counts what it has dropped.

    Raises:
        TopologyError: a target without address, an unknown protocol, a port out of range or of a protocol without
            ports; or it has crashed.
        UnsupportedError: neither libnftables nor the nft program is installed.

    Example:
        >>> with blue.block(protocol="tcp", port=80, reject=True):
        ...     assert red.tcp(blue, 80).state == "closed"
    """
    network_of(host)._check_running(host, "block packets of")
    with uninterrupted:  # the rules, and the fault that knows of them
        return _block(network_of(host).faults, host, src, dst, protocol, port, reject)


def unblock(host: BaseNode) -> None:
    """Undo every ``block`` of this host.

    Example:
        >>> blue.block(src=red)
        >>> blue.unblock()
    """
    for fault in reversed(list(network_of(host).faults)):
        if isinstance(fault, Block) and fault.nodes == (host,):
            fault.undo()


def _block(
    register: Faults,
    host: BaseNode,
    src: RouteTarget | None,
    dst: RouteTarget | None,
    protocol: str | int | None,
    port: int | None,
    reject: bool,
) -> Block:

    words = [
        f"{name} {getattr(value, 'name', value)}"
        for name, value in (("from", src), ("to", dst), ("protocol", protocol), ("to port", port))
        if value is not None
    ]
    verb = "rejects" if reject else "drops"
    what = f"{host.name!r} {verb} packets {' '.join(words) or 'of all kinds'}"
    comment = f'comment "{what.replace(chr(34), "")[:120]}"'
    rules = []
    for version, side in _address_matches(host, src, dst):
        for match in _protocol_matches(host, version, protocol, port):
            matched = " ".join(filter(None, [side, match]))
            rules += [f"{matched} {action} {comment}".strip() for action in _actions(reject, protocol)]
    return Block(register, host, what, rules)


def _actions(reject: bool, protocol: str | int | None) -> list[str]:
    if not reject:
        return ["counter drop"]
    reset = "meta l4proto tcp counter reject with tcp reset"  # whatever else it is gets an ICMP error
    return [*([reset] if protocol in (None, "tcp", 6) else []), "counter reject"]


def _protocol_matches(host: BaseNode, version: int | None, protocol: str | int | None, port: int | None) -> list[str]:
    if port is not None:
        try:
            check_port(port)
        except ValueError as error:
            raise TopologyError(f"{host.name!r}: block(port={port!r}): {error}") from None
        if protocol is None:
            return [f"tcp dport {port}", f"udp dport {port}"]
        named = _NUMBERS.get(protocol, protocol) if isinstance(protocol, int) else protocol
        if named not in _WITH_PORTS:
            raise TopologyError(f"{host.name!r}: block(port={port}): protocol {protocol!r} has no ports")
        return [f"{named} dport {port}"]
    if protocol is None:
        return [""]
    if protocol == "icmp":
        return list(_ICMP.values()) if version is None else [_ICMP[version]]
    if not is_whole(protocol, 0, 255) and protocol not in _NAMED:
        raise TopologyError(
            f"{host.name!r}: block(protocol={protocol!r}): known are {', '.join(_NAMED)} and numbers from 0 to 255"
        )
    return [f"meta l4proto {protocol}"]


def _networks(host: BaseNode, target: RouteTarget, side: str) -> list[Network]:
    if target == "default":
        raise TopologyError(f"{host.name!r}: block({side}='default'): expected a node, an address or a network")
    try:
        found = networks_of(host, target)
    except TopologyError as error:
        raise TopologyError(f"{host.name!r}: block({side}={target!r}): {error}") from None
    if not found:
        raise TopologyError(f"{host.name!r}: block({side}={target!r}): it has no address")
    return found


def _address_matches(host: BaseNode, src: RouteTarget | None, dst: RouteTarget | None) -> list[tuple[int | None, str]]:
    """Nft's words for the addresses by IP version; None and nothing if any will do."""
    given = [
        addresses(side, _networks(host, target, name))
        for side, name, target in (("saddr", "src", src), ("daddr", "dst", dst))
        if target is not None
    ]
    if not given:
        return [(None, "")]
    versions = [version for version in (4, 6) if all(version in each for each in given)]
    if not versions:
        raise TopologyError(f"{host.name!r}: block(): src and dst have no address of the same family")
    return [(version, " ".join(each[version] for each in given)) for version in versions]

"""Routes: which next hop a node means, and the shortest paths of a whole lab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)

from pytest_netns.addresses import Address, AddressWithPrefix, Network
from pytest_netns.checks import check_choice, is_whole
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.rtnetlink import RouteOptions
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.node import BaseNode

Via = BaseNode | Interface | str | IPv4Address | IPv6Address
RouteTarget = (
    BaseNode | Interface | str | IPv4Network | IPv6Network | IPv4Address | IPv6Address | IPv4Interface | IPv6Interface
)

_DEFAULT: dict[int, Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


@dataclass(frozen=True, slots=True)
class Attachment:
    """An address of a node on a subnet, and the interface that has it."""

    node: BaseNode
    interface: Interface
    address: AddressWithPrefix


def attachments(node: BaseNode) -> list[Attachment]:
    """The addresses of a node, loopback and link-local ones left out, in the order of its interfaces."""
    return [
        Attachment(node, interface, address)
        for name, interface in node.interfaces.items()
        if name != "lo"
        for address in interface.addresses
        if not address.is_link_local
    ]


def _shown(node: BaseNode) -> str:
    return ", ".join(f"{a.interface.name} {a.address}" for a in attachments(node)) or "no address"


def next_hops(node: BaseNode, via: Via) -> dict[int, tuple[Address, Interface]]:
    """The next hop for each family: a neighbour's address, and the interface towards it.

    Raises:
        TopologyError: ``via`` and the node share no subnet, or it is none of the things allowed.
    """
    own = attachments(node)
    if isinstance(via, BaseNode | Interface):
        label = via.name if isinstance(via, BaseNode) else str(via)
        # A host that has crashed says what it will have again.
        theirs = (
            ([a.address for a in attachments(via)] or via.addresses()) if isinstance(via, BaseNode) else via.addresses
        )
        candidates = [address.ip for address in theirs if not address.is_link_local]
    else:
        label = str(via)
        try:
            candidates = [ip_address(via)]
        except ValueError:
            raise TopologyError(
                f"next hop {via!r} of {node.name!r} is not an address; it can be a node, an interface or an address"
            ) from None
        if not any(a.address.version == candidates[0].version for a in own):
            raise TopologyError(
                f"next hop {via} is IPv{candidates[0].version} and {node.name!r} has no such address: {_shown(node)}"
            )
    found: dict[int, tuple[Address, Interface]] = {}
    for attachment in own:
        for candidate in candidates:
            if candidate in attachment.address.network and candidate != attachment.address.ip:
                found.setdefault(candidate.version, (candidate, attachment.interface))
    if not found:
        theirs_shown = ", ".join(map(str, candidates)) or "no address"
        raise TopologyError(
            f"{node.name!r} cannot use {label!r} as next hop: they are on no common subnet "
            f"({node.name}: {_shown(node)}; {label}: {theirs_shown})"
        )
    return found


def networks_of(node: BaseNode, destination: RouteTarget) -> list[Network]:
    """The networks that a route's destination stands for: a bridge's subnets, a host's addresses, ``"default"``, ...

    Raises:
        TopologyError: it is none of these.
    """
    if destination == "default":
        return list(_DEFAULT.values())
    if isinstance(destination, BaseNode):
        subnets: Sequence[Network] = getattr(destination, "subnets", ())
        found = list(subnets) or [ip_network(a.address.ip) for a in attachments(destination)]
        if not found:
            raise TopologyError(f"route of {node.name!r} to {destination.name!r}: it has no address")
        return found
    if isinstance(destination, Interface):
        return [ip_network(address.ip) for address in destination.addresses if not address.is_link_local]
    if isinstance(destination, IPv4Interface | IPv6Interface):
        return [destination.network]
    try:
        if not isinstance(destination, str | IPv4Address | IPv6Address | IPv4Network | IPv6Network):
            raise ValueError("expected a node, an interface, an address or a network")  # 5 would be 0.0.0.5
        return [ip_network(destination)]
    except ValueError as error:
        raise TopologyError(
            f"route of {node.name!r}: {str(destination)!r} is not a destination such as '10.1.0.0/24': {error}"
        ) from None


def check_options(node: BaseNode, options: RouteOptions) -> None:
    """Raise TopologyError unless the kernel can have them."""
    where = f"route of {node.name!r}"
    check_choice(f"{where}: kind", options.kind, rtnetlink.ROUTE_KINDS)
    metric = options.metric
    if not is_whole(metric, 0, 0xFFFFFFFF):
        raise TopologyError(f"{where}: metric is {metric!r}; it can be a whole number from 0 to {0xFFFFFFFF}")


def requests_for(
    node: BaseNode, destination: RouteTarget, via: Via | None, interface: Interface | None, options: RouteOptions
) -> list[tuple[Network, Address | None, int]]:
    """What to ask the kernel for: networks with next hop and interface index. Raises TopologyError."""
    networks = networks_of(node, destination)
    check_options(node, options)
    if options.kind != "unicast":
        if via is not None or interface is not None:
            raise TopologyError(
                f"route of {node.name!r} to {destination}: a {options.kind} route leads nowhere, so "
                "it takes neither via nor interface"
            )
        return [(network, None, 0) for network in networks]
    if via is None:
        if interface is None:
            raise TopologyError(
                f"route of {node.name!r} to {destination}: it needs via=, interface=, or a kind such as 'blackhole'"
            )
        return [(network, None, interface.index) for network in networks]
    hops = next_hops(node, via)
    usable = [(network, *hops[network.version]) for network in networks if network.version in hops]
    if not usable:
        families = " and ".join(f"IPv{version}" for version in sorted({n.version for n in networks}))
        raise TopologyError(
            f"route of {node.name!r} to {', '.join(map(str, networks))}: that is {families}, and "
            f"{getattr(via, 'name', via)!r} is a next hop for IPv{next(iter(hops))} only"
        )
    return [(network, hop, towards.index) for network, hop, towards in usable]

"""Routes: which next hop a node means, and the shortest paths of a whole lab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

from pytest_netns.addresses import Address, AddressWithPrefix, Network, is_of_link
from pytest_netns.checks import check_choice, check_several, is_whole
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink.nexthop import Nexthop
from pytest_netns.kernel.netlink.route_options import ROUTE_KINDS, ROUTE_METRICS, Hop, RouteOptions
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.node import BaseNode

NextHop = BaseNode | Interface | str | IPv4Address | IPv6Address
Via = NextHop | Nexthop | Sequence[NextHop] | Mapping[NextHop, int]
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
        if not is_of_link(address)
    ]


def on_loopback(node: BaseNode) -> list[Attachment]:
    """The addresses that somebody has given its loopback interface."""
    loopback = node.interfaces["lo"]
    found = (address for address in loopback.addresses if not (address.is_loopback or is_of_link(address)))
    return [Attachment(node, loopback, address) for address in found]


def _shown(node: BaseNode) -> str:
    return ", ".join(f"{a.interface.name} {a.address}" for a in attachments(node)) or "no address"


def next_hops(
    node: BaseNode, via: NextHop, towards: Interface | None = None, onlink: bool = False
) -> dict[int, tuple[Address, Interface]]:
    """The next hop for each family of destinations: a neighbour's address, and the interface towards it.

    Args:
        node: whose route it is.
        via: a node, an interface or an address; a link-local one names its interface (``"fe80::1%eth0"``), and an IPv6
            one for IPv4 destinations has the word of ip(8) before it: ``"inet6 fd00::1"`` (RFC 8950).
        towards: the outgoing interface, if that is said.
        onlink: whether the next hop is taken to be on the link of ``towards``.

    Raises:
        TopologyError: ``via`` and the node share no subnet, or it is none of the things allowed.
    """
    if isinstance(via, Interface) and via.node is node:
        raise _own_interface(node, via.name)
    if not isinstance(via, BaseNode | Interface):
        return _addressed(node, via, towards, onlink)
    # A host that has crashed says what it will have again.
    theirs = ([a.address for a in attachments(via)] or via.addresses()) if isinstance(via, BaseNode) else via.addresses
    candidates = [address.ip for address in theirs if not is_of_link(address)]
    label = via.name if isinstance(via, BaseNode) else str(via)
    return _on_common_subnet(node, label, candidates, towards)


def _own_interface(node: BaseNode, name: str) -> TopologyError:
    return TopologyError(
        f"{name!r} cannot be the next hop of {node.name!r}, as it is an interface of its own; what is on the link "
        f"of that is reached by add_route(destination, interface={name!r})"
    )


def _on_common_subnet(
    node: BaseNode, label: str, candidates: Sequence[Address], towards: Interface | None
) -> dict[int, tuple[Address, Interface]]:
    own = [a for a in attachments(node) if towards is None or a.interface == towards]
    found: dict[int, tuple[Address, Interface]] = {}
    for attachment in own:
        for candidate in candidates:
            if candidate in attachment.address.network and candidate != attachment.address.ip:
                found.setdefault(candidate.version, (candidate, attachment.interface))
    if not found:
        theirs_shown = ", ".join(map(str, candidates)) or "no address"
        by = f" by {towards.name!r}" if towards is not None else ""
        raise TopologyError(
            f"{node.name!r} cannot use {label!r} as next hop{by}: they are on no common subnet "
            f"({node.name}: {_shown(node)}; {label}: {theirs_shown})"
        )
    return found


def _addressed(
    node: BaseNode, via: str | IPv4Address | IPv6Address, towards: Interface | None, onlink: bool
) -> dict[int, tuple[Address, Interface]]:
    """A next hop that is given as an address."""
    text = str(via)
    of_ipv4 = text.startswith("inet6 ")
    try:
        if not isinstance(via, str | IPv4Address | IPv6Address):
            raise ValueError  # 5 would be 0.0.0.5
        address = ip_address(text.removeprefix("inet6 ") if of_ipv4 else via)
    except ValueError:
        if text in node.interfaces:
            raise _own_interface(node, text) from None
        raise TopologyError(
            f"next hop {via!r} of {node.name!r} is not an address; it can be a node, an interface or an address"
        ) from None
    if of_ipv4 and address.version == 4:
        raise TopologyError(f"next hop {via!r} of {node.name!r}: {address} is not an IPv6 address")
    version = 4 if of_ipv4 else address.version
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        named = node.interface(address.scope_id)
        if towards is not None and named != towards:
            raise TopologyError(f"next hop {via} of {node.name!r} is by another interface than {towards.name!r}")
        address, towards = IPv6Address(address.packed), named
    if towards is not None and (onlink or (address.version == 6 and address.is_link_local)):
        return {version: (address, towards)}
    if onlink:
        raise TopologyError(f"next hop {via} of {node.name!r}: onlink=True needs interface=")
    if address.version == 6 and address.is_link_local:
        raise TopologyError(
            f"next hop {via} of {node.name!r} is link-local: name its interface, as '{via}%eth0' or by interface="
        )
    if not any(a.address.version == address.version for a in attachments(node)):
        raise TopologyError(
            f"next hop {via} is IPv{address.version} and {node.name!r} has no such address: {_shown(node)}"
        )
    [found] = _on_common_subnet(node, text, [address], towards).values()
    return {version: found}


def networks_of(
    node: BaseNode, destination: RouteTarget, of: str = "route", role: str = "destination"
) -> list[Network]:
    """The networks that a route's destination stands for: a bridge's subnets, a host's addresses, ``"default"``, ...

    Args:
        node: whose route it is.
        destination: what stands for networks.
        of: what the destination is part of, for messages.
        role: what it is of that, likewise.

    Raises:
        TopologyError: it is none of these.
    """
    if destination == "default":
        return list(_DEFAULT.values())
    if isinstance(destination, BaseNode):
        subnets: Sequence[Network] = getattr(destination, "subnets", ())
        found = list(subnets) or [ip_network(a.address.ip) for a in attachments(destination)]
        if not found:
            raise TopologyError(f"{of} of {node.name!r} to {destination.name!r}: it has no address")
        return found
    if isinstance(destination, Interface):
        return [ip_network(address.ip) for address in destination.addresses if not is_of_link(address)]
    if isinstance(destination, IPv4Interface | IPv6Interface):
        return [destination.network]
    try:
        if not isinstance(destination, str | IPv4Address | IPv6Address | IPv4Network | IPv6Network):
            raise ValueError("expected a node, an interface, an address or a network")  # 5 would be 0.0.0.5
        return [ip_network(destination)]
    except ValueError as error:
        raise TopologyError(
            f"{of} of {node.name!r}: {str(destination)!r} is not a {role} such as '10.1.0.0/24': {error}"
        ) from None


def check_options(node: BaseNode, options: RouteOptions) -> None:
    """Raise TopologyError unless the kernel can have them."""
    where = f"route of {node.name!r}"
    check_choice(f"{where}: kind", options.kind, ROUTE_KINDS)
    for name, value, low, high in (
        ("metric", options.metric, 0, 0xFFFFFFFF),
        ("table", options.table, 1, 0xFFFFFFFF),
        ("mtu", options.mtu, 0, 0xFFFFFFFF),
        ("advmss", options.advmss, 0, 65535),
    ):
        if not is_whole(value, low, high):
            raise TopologyError(f"{where}: {name} is {value!r}; it can be a whole number from {low} to {high}")
    check_several(f"{where}: locked", options.locked, "metrics")
    for name in options.locked:
        check_choice(f"{where}: locked metric", name, ROUTE_METRICS)
        if not getattr(options, name):
            raise TopologyError(f"{where}: {name} is locked, and no {name} is given")


def _weighted(node: BaseNode, via: NextHop | Sequence[NextHop] | Mapping[NextHop, int]) -> list[tuple[NextHop, int]]:
    """The next hops that are meant, each with its weight."""
    if isinstance(via, BaseNode | Interface | str | IPv4Address | IPv6Address):
        return [(via, 1)]
    if isinstance(via, Mapping):
        hops = list(via.items())
    elif isinstance(via, Sequence) and not isinstance(via, bytes):
        hops = [(each, 1) for each in via]
    else:
        return [(via, 1)]
    if not hops:
        raise TopologyError(f"route of {node.name!r}: via has no next hop")
    for hop, weight in hops:
        if not is_whole(weight, 1, 256):
            shown = getattr(hop, "name", hop)
            raise TopologyError(f"route of {node.name!r}: the weight of {shown} is {weight!r}; it can be 1 to 256")
    return hops


def requests_for(
    node: BaseNode, destination: RouteTarget, via: Via | None, interface: Interface | None, options: RouteOptions
) -> list[tuple[Network, Address | None, int, RouteOptions]]:
    """What to ask the kernel for: networks with next hop, interface index and the rest. Raises TopologyError."""
    networks = networks_of(node, destination)
    check_options(node, options)
    if options.source is not None:
        networks = _of_source(node, networks, options.source)
    if options.kind != "unicast":
        if via is not None or interface is not None:
            raise TopologyError(
                f"route of {node.name!r} to {destination}: a {options.kind} route leads nowhere, so "
                "it takes neither via nor interface"
            )
        return [(network, None, 0, options) for network in networks]
    if via is None:
        if interface is None:
            raise TopologyError(
                f"route of {node.name!r} to {destination}: it needs via=, interface=, or a kind such as 'blackhole'"
            )
        return [(network, None, interface.index, options) for network in networks]
    if isinstance(via, Nexthop):
        for name, given in (("interface", interface is not None), ("onlink", options.onlink)):
            if given:
                raise TopologyError(
                    f"route of {node.name!r} to {destination}: a nexthop object has its own {name}, so give "
                    f"{name}= to nexthops.add()"
                )
        fit = [network for network in networks if via.gateway is None or network.version <= via.gateway.version]
        return [(network, None, 0, options._replace(nexthop=via.id)) for network in fit or networks]
    weighted = _weighted(node, via)
    hops = [(next_hops(node, hop, interface, options.onlink), weight) for hop, weight in weighted]
    found: list[tuple[Network, Address | None, int, RouteOptions]] = []
    wanted = {network.version for network in networks}
    useless = [
        hop
        for (hop, _), (by, _) in zip(weighted, hops, strict=True)
        if not isinstance(hop, BaseNode | Interface) and wanted.isdisjoint(by)
    ]
    if len(useless) < len(hops) and useless:  # a node may be there for the other destinations of a host's routes
        cure = f"; an IPv6 one for IPv4 (RFC 8950) is written 'inet6 {useless[0]}'" if 4 in wanted else ""
        raise TopologyError(
            f"route of {node.name!r} to {', '.join(map(str, networks))}: that is IPv{min(wanted)}, and "
            f"{str(useless[0])!r} is a next hop for IPv{10 - min(wanted)} only{cure}"
        )
    for network in networks:
        usable = [Hop(hop[0], hop[1].index, w) for by, w in hops if (hop := by.get(network.version)) is not None]
        if len(usable) == 1:
            found.append((network, usable[0].gateway, usable[0].ifindex, options))
        elif usable:
            found.append((network, None, 0, options._replace(hops=tuple(usable))))
    if not found:
        families = " and ".join(f"IPv{version}" for version in sorted({n.version for n in networks}))
        labels = " and ".join(repr(getattr(hop, "name", hop)) for hop, _ in weighted)
        for_ipv4 = networks[0].version == 4
        raise TopologyError(
            f"route of {node.name!r} to {', '.join(map(str, networks))}: that is {families}, and "
            f"{labels} is a next hop for IPv{next(iter(hops[0][0]))} only"
            + ("; an IPv6 one for IPv4 (RFC 8950) is written 'inet6 ADDRESS'" if for_ipv4 else "")
        )
    return found


def _of_source(node: BaseNode, networks: list[Network], source: Address) -> list[Network]:
    """Those of the family of a source address."""
    found = [network for network in networks if network.version == source.version]
    if not found:
        raise TopologyError(
            f"route of {node.name!r} to {', '.join(map(str, networks))}: its source {source} is of the other family"
        )
    return found

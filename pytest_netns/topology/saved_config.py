"""SavedConfig: configuration that the kernel dropped, and that is restored when its cause ends."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pytest_netns.addresses import IPV6_MIN_MTU, AddressWithPrefix, Network, is_of_link
from pytest_netns.errors import KernelError
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.route_options import RTA_GATEWAY, RTA_MULTIPATH, RTA_NH_ID, RTA_OIF, RTA_TABLE, RTA_VIA
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, Request, attribute, attributes
from pytest_netns.kernel.netlink.tables import LOOPBACK, LinkState, decode_link, is_cached
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology.saved_addresses import ConfiguredAddress, configured_addresses
from pytest_netns.topology.saved_nexthops import SavedNexthops, configured_nexthops
from pytest_netns.topology.saved_rules import configured_rules, rule_restored, table_of

# From <linux/rtnetlink.h>. The kernel makes its own routes again, and routers advertise theirs again (RFC 4861).
_AUTOMATIC_PROTOCOLS = _RTPROT_KERNEL, _RTPROT_RA = 2, 9
_OF_NEXTHOP = RTA_OIF, RTA_GATEWAY, RTA_VIA, RTA_MULTIPATH
_RTMSG = 12  # bytes of struct rtmsg
_ONLINK = 4  # RTNH_F_ONLINK, the one flag that somebody has set
_TABLE_MAIN = 254


class SavedConfig:
    """Addresses and routes of one node that the kernel dropped.

    The kernel forgets the routes through an interface that goes down, IPv6 on one whose mtu is below 1280, and
    everything when a host crashes. Several causes may hold at once, and end in any order. So whatever was dropped is
    saved here, and restored when no cause is left.

    Args:
        node: whose.
    """

    def __init__(self, node: Namespace) -> None:
        self._node = node
        #: Held by who reads the configuration and changes it by what was read.
        self.lock: Lock = Lock("saving the configuration of a node")  # a schedule breaks and mends in its thread
        self._held = False
        self._addresses: list[ConfiguredAddress] = []
        self._routes: list[bytes] = []
        self._nexthops = SavedNexthops()
        self._rules: list[bytes] = []

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Save what the kernel drops in the block: with an interface its VLANs go down, and bridges have its mtu."""
        with self.lock:
            addresses, routes = configured_addresses(self._node.rtnl), self._configured_routes()
            nexthops = configured_nexthops(self._node)
            yield
            still, passable = configured_addresses(self._node.rtnl), self._configured_routes()
            self._remember([each for each in addresses if each not in still])
            self._routes += [each for each in routes if each not in passable and each not in self._routes]
            if nexthops:
                self._nexthops.remember(nexthops, configured_nexthops(self._node))

    def hold(self, interfaces: Iterable[Interface]) -> None:
        """Remember what is configured: nothing comes back before ``release``.

        That is the addresses of these interfaces, ip rules, nexthop objects, and the routes of the main table and of
        those that rules lead to.
        """
        with self.lock:
            self._held = True
            for interface in interfaces:
                self._remember(configured_addresses(self._node.rtnl, interface.index))
            self._nexthops.remember(configured_nexthops(self._node), {})
            self._rules = configured_rules(self._node.rtnl)
            tables = {_TABLE_MAIN, *map(table_of, self._rules)}
            routes = [each for each in self._configured_routes() if _table(each) in tables]
            self._routes += [each for each in routes if each not in self._routes]

    def release(self) -> None:
        """The node has come back: ``give_back`` does so from now on."""
        self._held = False

    def _remember(self, addresses: Iterable[ConfiguredAddress]) -> None:
        self._addresses += [each for each in addresses if each not in self._addresses]

    def _configured_routes(self) -> list[bytes]:
        """The routes of all tables that somebody has set."""
        return [
            _revived(body)
            for family in (rtnetlink.AF_INET, rtnetlink.AF_INET6)
            for body in self._node.rtnl.dump(rtnetlink.route_dump(family))
            if body[5] not in _AUTOMATIC_PROTOCOLS and not is_cached(body)
        ]

    # -------------------------------------------------------------- addresses

    @property
    def addresses(self) -> list[AddressWithPrefix]:
        """Those that it will have again, in the order of ``Namespace.addresses``, without the link-local ones."""
        with self.lock:
            owed = [each for each in self._addresses if not (each.of_host or is_of_link(each.address))]
        return [each.address for each in sorted(owed, key=lambda each: (each.address.version, each.index == LOOPBACK))]

    def addresses_of(self, interface: Interface) -> list[AddressWithPrefix]:
        """Those that an interface has, and those that it will have again; without the link-local ones."""
        with self.lock:
            present = [each for each in interface.addresses if not is_of_link(each)]
            owed = [each.address for each in self._addresses if each.index == interface.index]
            return present + [each for each in owed if not is_of_link(each) and each not in present]

    def add_address(self, interface: Interface, address: AddressWithPrefix) -> None:
        """Give an interface an address, now or as soon as it can have one. Raises KernelError."""
        with self.lock:
            self._remember([ConfiguredAddress(interface.index, address)])
            self.restore(routes=False)

    def remove_address(self, interface: Interface, address: AddressWithPrefix) -> None:
        """Take an address from an interface, or from what it will have again. Raises KernelError."""
        with self.lock:
            taken = ConfiguredAddress(interface.index, address)
            self._addresses = [each for each in self._addresses if each != taken]
            if address in interface.addresses:
                interface.remove_address(address)

    def forget_gateways(self, interface: Interface, networks: Iterable[Network]) -> None:
        """Let routes through an interface stay away whose next hops are in one of these networks."""
        packed = [(network.network_address.packed, network.prefixlen) for network in networks]

        def is_left(body: bytes) -> bool:
            gateway = attributes(body, _RTMSG).get(RTA_GATEWAY, b"")
            return _through(body) == {interface.index} and any(_is_in(gateway, *each) for each in packed)

        with self.lock:
            self._routes = [body for body in self._routes if not is_left(body)]

    def forget(self, interface: Interface) -> None:
        """Called when an interface has been removed."""
        with self.lock:
            self._addresses = [each for each in self._addresses if each.index != interface.index]
            self._routes = [body for body in self._routes if interface.index not in _through(body)]
            self._nexthops.forget_interface(interface.index)

    @property
    def nexthop_numbers(self) -> set[int]:
        """The nexthop objects that will be there again."""
        with self.lock:
            return self._nexthops.numbers

    def forget_nexthop(self, number: int) -> None:
        """Called when a nexthop object has been made."""
        with self.lock:
            self._nexthops.forget(number)

    def remove_nexthop(self, number: int) -> None:
        """Called when a nexthop object has been removed: with it go the routes that use it."""
        with self.lock:
            gone = self._nexthops.remove(number)
            self._routes = [body for body in self._routes if _nexthop_of(body) not in gone]

    # -------------------------------------------------------------- give back

    def restore(self, *, routes: bool = True) -> None:
        """Give back what can be: an address if the mtu allows it, a route if its interfaces are up, too.

        The rest is kept for the next time. What is there again already is left as it is.

        Args:
            routes: whether to give back routes, besides addresses.

        Raises:
            KernelError: the kernel refused one; the others are there.
        """
        with self.lock:
            if (
                self._held
                or self._node.closed
                or not (self._addresses or self._routes or self._nexthops or self._rules)
            ):
                return
            states = {
                state.index: state
                for body in self._node.rtnl.dump(rtnetlink.link_dump())
                if (state := decode_link(body))
            }
            refused = self._restore_addresses(states)
            if routes:
                rules, self._rules = self._rules, []
                refused += [error for rule in rules for error in self._tried(rule_restored(rule))]
                refused += self._restore_nexthops(states)
                refused += self._restore_routes(states)
        if refused:
            raise refused[0]

    def _restore_addresses(self, states: dict[int, LinkState]) -> list[KernelError]:
        refused: list[KernelError] = []
        later: list[ConfiguredAddress] = []
        given: set[int] = set()
        for each in self._addresses:
            state = states.get(each.index)
            if state is None:
                continue  # it was removed
            if each.address.version == 6 and state.mtu < IPV6_MIN_MTU:
                later.append(each)
                continue
            refused += self._tried(each.request(state.name))
            given.add(each.index)
        self._addresses = later
        for index in given:
            Interface(self._node, states[index].name, index).wait_addresses()
            self._node._interface_changed(index)
        return refused

    def _restore_nexthops(self, states: dict[int, LinkState]) -> list[KernelError]:
        if not self._nexthops:
            return []
        requests = self._nexthops.restorable(states, configured_nexthops(self._node))
        return [error for request in requests for error in self._tried(request)]

    def _restore_routes(self, states: dict[int, LinkState]) -> list[KernelError]:
        ready: list[bytes] = []
        later: list[bytes] = []
        for body in self._routes:
            if self._nexthops.waits(_nexthop_of(body)):
                later.append(body)
                continue
            through = [states.get(index) for index in _through(body)]
            if None in through:
                continue  # it was removed
            (ready if all(_carries(body, state) for state in through if state) else later).append(body)
        self._routes = later
        while True:
            refused: list[KernelError] = []
            again: list[bytes] = []
            for body in ready:
                error = self._tried(
                    Request(rtnetlink.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body, "ip route restore")
                )
                refused += error
                again += [body] if error else []
            if len(again) in (0, len(ready)):
                return refused
            ready = again  # the way to a next hop may be one of the routes that came after

    def _tried(self, request: Request) -> list[KernelError]:
        try:
            self._node.rtnl.batch([request])
        except KernelError as error:
            if error.errno != errno.EEXIST:
                return [error]
        return []


def _carries(body: bytes, state: LinkState) -> bool:
    """Whether an interface can have a route."""
    return state.is_set_up and (body[0] != rtnetlink.AF_INET6 or state.mtu >= IPV6_MIN_MTU)


def _through(body: bytes) -> set[int]:
    """The indexes of the interfaces that a route leads through."""
    found = attributes(body, _RTMSG)
    indexes = {struct.unpack("=I", found[RTA_OIF])[0]} if RTA_OIF in found else set()
    hops = found.get(RTA_MULTIPATH, b"")
    return indexes | {struct.unpack_from("=i", hops, position + 4)[0] for position in _hops(hops)}


def _table(body: bytes) -> int:
    """The number of the table of a route."""
    found = attributes(body, _RTMSG).get(RTA_TABLE)
    return struct.unpack("=I", found)[0] if found else body[4]


def _nexthop_of(body: bytes) -> int:
    """The number of the nexthop object that a route uses; 0 if none."""
    found = attributes(body, _RTMSG).get(RTA_NH_ID)
    return struct.unpack("=I", found)[0] if found else 0


def _hops(hops: bytes) -> Iterator[int]:
    """Where each next hop of a multipath route begins (struct rtnexthop)."""
    position = 0
    while position + 8 <= len(hops):
        yield position
        position += max(8, (struct.unpack_from("=H", hops, position)[0] + 3) & ~3)


def _revived(body: bytes) -> bytes:
    """A route without the marks of a missing carrier, which the kernel writes and does not read."""
    flags = struct.unpack_from("=I", body, 8)[0] & _ONLINK
    parts = [body[:8] + struct.pack("=I", flags)]
    found = attributes(body, _RTMSG)
    if RTA_NH_ID in found:  # what else the kernel writes of next hops is that object's
        found = {kind: value for kind, value in found.items() if kind not in _OF_NEXTHOP}
    for kind, value in found.items():
        parts.append(attribute(kind, _revived_hops(value) if kind == RTA_MULTIPATH else value))
    return b"".join(parts)


def _revived_hops(hops: bytes) -> bytes:
    """The same for the next hops of a multipath route."""
    found = bytearray(hops)
    for position in _hops(hops):
        found[position + 2] &= _ONLINK
    return bytes(found)


def _is_in(packed: bytes, network: bytes, prefix: int) -> bool:
    """Whether an address is in a network, both in the order of the wire."""
    shift = 8 * len(network) - prefix
    return len(packed) == len(network) and int.from_bytes(packed) >> shift == int.from_bytes(network) >> shift

"""Bridge settings: port flags, static FDB and MDB entries, multicast snooping (bridge(8))."""

from __future__ import annotations

import re

from pytest_netns.addresses import Address, parse_plain
from pytest_netns.checks import is_whole
from pytest_netns.errors import TopologyError, UnsupportedError
from pytest_netns.kernel.netlink import bridge_tables, rtnetlink
from pytest_netns.kernel.netlink.bridge_tables import MULTICAST_SETTINGS, MulticastEntry
from pytest_netns.lab.switch import Switch, Where
from pytest_netns.stack.interface import Interface
from pytest_netns.stack.views import link_names


def set_port(
    bridge: Switch,
    where: Where,
    *,
    isolated: bool | None = None,
    learning: bool | None = None,
    flood: bool | None = None,
    mcast_flood: bool | None = None,
    bcast_flood: bool | None = None,
    hairpin: bool | None = None,
    locked: bool | None = None,
    guard: bool | None = None,
    root_block: bool | None = None,
    fastleave: bool | None = None,
    mcast_to_unicast: bool | None = None,
    neigh_suppress: bool | None = None,
) -> dict[str, bool]:
    """``bridge link set``: set flags of a port; None leaves a flag unchanged. They last until the port is detached.

    Args:
        where: a port's name, the port, or the node behind it.
        isolated: do not forward between this port and other isolated ports.
        learning: learn MAC addresses from frames that this port receives.
        flood: flood unknown unicast frames to this port.
        mcast_flood: flood unregistered multicast frames to this port.
        bcast_flood: flood broadcast frames to this port.
        hairpin: allow frames to go out of the port that they came in at.
        locked: drop frames whose source MAC address the FDB does not have behind this port (802.1X).
        guard: BPDU guard: a BPDU received here disables the port.
        root_block: root guard: this port never becomes the root port of the spanning tree.
        fastleave: end a group's membership at once when a leave message arrives, without a query.
        mcast_to_unicast: send multicast frames as unicast copies, one to each member's MAC address.
        neigh_suppress: answer ARP and neighbour solicitations from the bridge's own tables where possible.

    Returns:
        All flags of the port, read back.

    Raises:
        TopologyError: no such port, no flag given, or a value that is neither True nor False.
        UnsupportedError: this kernel does not have the flag.
        KernelError: the kernel refused.

    Example:
        >>> lan.set_port(green, isolated=True)
    """
    given = {
        "hairpin": hairpin,
        "guard": guard,
        "root_block": root_block,
        "fastleave": fastleave,
        "learning": learning,
        "flood": flood,
        "mcast_flood": mcast_flood,
        "mcast_to_unicast": mcast_to_unicast,
        "bcast_flood": bcast_flood,
        "neigh_suppress": neigh_suppress,
        "isolated": isolated,
        "locked": locked,
    }
    wanted = _told(bridge, "port flag", given)
    port = _real_port(bridge, where)
    with bridge.lab.faults.mending():
        bridge.rtnl.batch([bridge_tables.port_flags_set(port.index, port.name, wanted)])
    return _read_back(bridge, f"port {port.name!r}", wanted, port_flags(bridge, port))


def port_flags(bridge: Switch, where: Where) -> dict[str, bool]:
    """The flags of a port by their bridge(8) names: ``isolated``, ``learning``, ``flood``, ...

    Args:
        where: a port's name, the port, or the node behind it.

    Raises:
        TopologyError: no such port.

    Example:
        >>> assert lan.port_flags(green)["learning"]
    """
    port = _real_port(bridge, where)
    return bridge_tables.decode_port_flags(bridge.rtnl.get(rtnetlink.link_get(port.index, port.name)))


def add_fdb(bridge: Switch, mac: str, where: Where, *, vlan: int = 0, sticky: bool = False) -> None:
    """``bridge fdb add ... static``: add a MAC address behind a port; the entry does not age.

    Args:
        mac: the MAC address.
        where: a port's name, the port, or the node behind it; the bridge itself for frames that it receives.
        vlan: VLAN ID; 0: none, and with VLAN filtering every VLAN of the port.
        sticky: keep the entry even if the MAC address shows up at another port.

    Raises:
        TopologyError: no such port, or not a unicast MAC address.
        KernelError: the kernel refused, e.g. because the entry exists (EEXIST).

    Example:
        >>> lan.add_fdb("02:00:00:00:00:99", green)
        >>> lan.remove_fdb("02:00:00:00:00:99", green)
    """
    _forwarding(bridge, mac, where, vlan, sticky=sticky)


def remove_fdb(bridge: Switch, mac: str, where: Where, *, vlan: int = 0) -> None:
    """``bridge fdb delete``: remove a static or a learnt entry.

    Args:
        mac: the MAC address.
        where: a port's name, the port, or the node behind it; the bridge itself for its own entries.
        vlan: VLAN ID; 0: none.

    Raises:
        TopologyError: no such port, or not a unicast MAC address.
        KernelError: there is no such entry (ENOENT).

    Example:
        >>> lan.add_fdb("02:00:00:00:00:99", green)
        >>> lan.remove_fdb("02:00:00:00:00:99", green)
    """
    _forwarding(bridge, mac, where, vlan, delete=True)


def add_mdb(bridge: Switch, group: str | Address, where: Where, *, vlan: int = 0) -> None:
    """``bridge mdb add ... permanent``: forward a group to a port, whether or not a member reported there.

    The bridge uses this table only while there is a querier, see ``set_multicast``; without one it floods all groups.

    Args:
        group: a multicast address.
        where: a port's name, the port, or the node behind it.
        vlan: VLAN ID, with VLAN filtering; 0: none.

    Raises:
        TopologyError: no such port, or not a multicast address.
        KernelError: the kernel refused, e.g. because the entry exists (EEXIST) or snooping is off (EINVAL).

    Example:
        >>> lan.add_mdb("239.1.2.3", green)
        >>> lan.remove_mdb("239.1.2.3", green)
    """
    _multicast(bridge, group, where, vlan, delete=False)


def remove_mdb(bridge: Switch, group: str | Address, where: Where, *, vlan: int = 0) -> None:
    """``bridge mdb delete``.

    Args:
        group: a multicast address.
        where: a port's name, the port, or the node behind it.
        vlan: VLAN ID, with VLAN filtering; 0: none.

    Raises:
        TopologyError: no such port, or not a multicast address.
        KernelError: there is no such entry.

    Example:
        >>> lan.add_mdb("239.1.2.3", green)
        >>> lan.remove_mdb("239.1.2.3", green)
    """
    _multicast(bridge, group, where, vlan, delete=True)


def mdb(bridge: Switch) -> list[MulticastEntry]:
    """The multicast database: which group is forwarded to which port (``bridge mdb show``).

    Example:
        >>> [(entry.group, entry.port) for entry in lan.mdb()]
    """
    names = link_names(bridge)
    bodies = bridge.rtnl.dump(bridge_tables.multicast_dump())
    return [entry for body in bodies for entry in bridge_tables.decode_multicast(body, names)]


def set_multicast(bridge: Switch, *, snooping: bool | None = None, querier: bool | None = None) -> dict[str, bool]:
    """``ip link set ... type bridge mcast_snooping ... mcast_querier ...``; None leaves a setting unchanged.

    Args:
        snooping: listen to IGMP and MLD, and forward a group only to ports with members; otherwise to all ports.
        querier: send IGMP and MLD queries, as a router would. Without a querier the bridge floods all groups.

    Returns:
        Both settings, read back, by their ip-link(8) names.

    Raises:
        TopologyError: neither is given, or a value is neither True nor False.
        UnsupportedError: this kernel does not have the setting.
        KernelError: the kernel refused.

    Example:
        >>> lan.set_multicast(querier=True)
    """
    wanted = _told(bridge, "setting", {"mcast_snooping": snooping, "mcast_querier": querier})
    bridge.rtnl.batch([bridge_tables.multicast_set(bridge.device.index, bridge.device.name, wanted)])
    shown = bridge._shown()
    found = {name: shown[number] != b"\0" for name, number in MULTICAST_SETTINGS.items() if number in shown}
    return _read_back(bridge, "the device", wanted, found)


def _told(bridge: Switch, what: str, given: dict[str, bool | None]) -> dict[str, bool]:
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        raise TopologyError(f"bridge {bridge.name!r}: no {what} is given; there are: {', '.join(given)}")
    for name, value in wanted.items():
        if not isinstance(value, bool):
            raise TopologyError(f"bridge {bridge.name!r}: {name} is {value!r}; it can be True or False")
    return wanted


def _read_back(bridge: Switch, what: str, wanted: dict[str, bool], found: dict[str, bool]) -> dict[str, bool]:
    lacking = [name for name, value in wanted.items() if found.get(name) is not value]
    if lacking:
        raise UnsupportedError(f"bridge {bridge.name!r}: this kernel does not let {what} have {', '.join(lacking)}")
    return found


def _real_port(bridge: Switch, where: Where) -> Interface:
    port = bridge.port(where)
    if port == bridge.device:
        raise TopologyError(f"bridge {bridge.name!r}: its own device is not a port; ports: {', '.join(bridge.ports)}")
    return port


def _forwarding(
    bridge: Switch, mac: str, where: Where, vlan: int, *, sticky: bool = False, delete: bool = False
) -> None:
    is_mac = isinstance(mac, str) and re.fullmatch("[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", mac)
    packed = bytes.fromhex(mac.replace(":", "")) if is_mac else b""
    if not packed or packed[0] & 1 or not any(packed):
        raise TopologyError(f"bridge {bridge.name!r}: mac is {mac!r}; it can be one such as '02:00:00:00:00:01'")
    _check_vlan(bridge, vlan)
    port = bridge.port(where)
    own = port == bridge.device
    request = bridge_tables.forwarding_request(
        port.index, port.name, packed, vlan, own=own, sticky=sticky, delete=delete
    )
    bridge.rtnl.batch([request])


def _multicast(bridge: Switch, group: str | Address, where: Where, vlan: int, *, delete: bool) -> None:
    address = parse_plain(group, f"multicast group of bridge {bridge.name!r}")
    if not address.is_multicast:
        raise TopologyError(f"bridge {bridge.name!r}: {address} is not a multicast address")
    _check_vlan(bridge, vlan)
    port = _real_port(bridge, where)
    device = (bridge.device.index, bridge.device.name)
    request = bridge_tables.multicast_request(device, (port.index, port.name), address, vlan, delete=delete)
    bridge.rtnl.batch([request])


def _check_vlan(bridge: Switch, vlan: int) -> None:
    if not is_whole(vlan, 0, 4094):
        raise TopologyError(f"bridge {bridge.name!r}: vlan is {vlan!r}; it can be 0 to 4094")

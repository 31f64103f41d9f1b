"""Requests for the ports, the forwarding database and the multicast database of a bridge (bridge(8)).

Encoded by hand: pyroute2 has no MDB messages, and the names of the port flags are needed here in any case.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from pytest_netns.addresses import Address
from pytest_netns.kernel.netlink.rtnetlink import (
    AF_BRIDGE,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA,
    IFLA_LINKINFO,
    RTM_NEWLINK,
    RTM_SETLINK,
)
from pytest_netns.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, Request, attribute, attributes, rows

#: Port flags by their bridge(8) names, with their numbers in <linux/if_link.h> (IFLA_BRPORT_*).
PORT_FLAGS = {
    "hairpin": 4,
    "guard": 5,
    "root_block": 6,
    "fastleave": 7,
    "learning": 8,
    "flood": 9,
    "mcast_flood": 27,
    "mcast_to_unicast": 28,
    "bcast_flood": 30,
    "neigh_suppress": 32,
    "isolated": 33,
    "locked": 39,
}
#: Multicast settings of a bridge by their ip-link(8) names, with their numbers (IFLA_BR_*).
MULTICAST_SETTINGS = {"mcast_snooping": 23, "mcast_querier": 25}

_IFLA_PROTINFO = 12 | 0x8000  # nested
_RTM_NEWNEIGH, _RTM_DELNEIGH = 28, 29
_RTM_NEWMDB, _RTM_DELMDB, _RTM_GETMDB = 84, 85, 86
_NUD_STATIC, _NUD_PERMANENT = 0x40, 0x80
_NTF_SELF, _NTF_MASTER, _NTF_STICKY = 2, 4, 0x40
_NDA_LLADDR, _NDA_VLAN = 2, 5
_MDBA_MDB, _MDBA_SET_ENTRY, _MDBA_MDB_ENTRY, _MDBA_MDB_ENTRY_INFO = 1, 1, 1, 1
_PERMANENT = 1
_IFINFO = struct.Struct("=BxHiII")
_NEIGHBOUR = struct.Struct("=BBHiHBB")
_PORT = struct.Struct("=BxxxI")
_ENTRY = struct.Struct("=IBBH16s2s2x")
_ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}


@dataclass(frozen=True, slots=True)
class MulticastEntry:
    """A line of ``bridge mdb show``: a port that a multicast group is forwarded to.

    Attributes:
        group: the group's IP address, or a MAC address.
        port: name of the port, or of the bridge device.
        permanent: whether it was configured; otherwise it was learnt (IGMP, MLD) and ages.
        vlan: VLAN ID; 0 without VLAN filtering.

    Example:
        >>> lan.add_mdb("239.1.2.3", green)
        >>> [(entry.group, entry.port) for entry in lan.mdb()]
    """

    group: Address | str
    port: str
    permanent: bool
    vlan: int = 0


def port_flags_set(index: int, name: str, flags: Mapping[str, bool]) -> Request:
    """``bridge link set dev NAME FLAG on|off ...``."""
    body = b"".join(attribute(PORT_FLAGS[flag], bytes([value])) for flag, value in flags.items())
    words = " ".join(f"{flag} {'on' if value else 'off'}" for flag, value in flags.items())
    whole = _IFINFO.pack(AF_BRIDGE, 0, index, 0, 0) + attribute(_IFLA_PROTINFO, body)
    return Request(RTM_SETLINK, 0, whole, f"bridge link set dev {name} {words}")


def decode_port_flags(link: bytes) -> dict[str, bool]:
    """The flags of a port, from the kernel's answer about the link; flags that the kernel lacks are left out."""
    found = attributes(
        attributes(attributes(link, _IFINFO.size).get(IFLA_LINKINFO, b"")).get(IFLA_INFO_SLAVE_DATA, b"")
    )
    return {flag: found[number] != b"\0" for flag, number in PORT_FLAGS.items() if number in found}


def multicast_set(index: int, name: str, settings: Mapping[str, bool]) -> Request:
    """``ip link set NAME type bridge mcast_snooping 0|1 ...``."""
    data = b"".join(attribute(MULTICAST_SETTINGS[each], bytes([value])) for each, value in settings.items())
    info = attribute(IFLA_INFO_KIND, b"bridge") + attribute(IFLA_INFO_DATA, data)
    words = " ".join(f"{each} {int(value)}" for each, value in settings.items())
    body = _IFINFO.pack(0, 0, index, 0, 0) + attribute(IFLA_LINKINFO, info)
    return Request(RTM_NEWLINK, 0, body, f"ip link set {name} type bridge {words}")


def forwarding_request(
    index: int, name: str, mac: bytes, vlan: int, *, own: bool, sticky: bool = False, delete: bool = False
) -> Request:
    """``bridge fdb add|delete MAC dev NAME master static``; ``own``: an entry of the bridge device itself."""
    state = _NUD_PERMANENT if own else _NUD_STATIC
    flags = (_NTF_SELF if own else _NTF_MASTER) | (_NTF_STICKY if sticky else 0)
    body = _NEIGHBOUR.pack(AF_BRIDGE, 0, 0, index, state, flags, 0)
    body += attribute(_NDA_LLADDR, mac) + (attribute(_NDA_VLAN, struct.pack("=H", vlan)) if vlan else b"")
    words = f"bridge fdb {'delete' if delete else 'add'} {mac.hex(':')} dev {name}{f' vlan {vlan}' if vlan else ''}"
    words += " self permanent" if own else " master static"
    words += " sticky" if sticky else ""
    kind, flags = (_RTM_DELNEIGH, 0) if delete else (_RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL)
    return Request(kind, flags, body, words)


def multicast_request(
    bridge: tuple[int, str], port: tuple[int, str], group: Address, vlan: int, *, delete: bool = False
) -> Request:
    """``bridge mdb add|delete dev BRIDGE port PORT grp GROUP permanent``; bridge and port by index and name."""
    entry = _ENTRY.pack(port[0], _PERMANENT, 0, vlan, group.packed.ljust(16, b"\0"), _ETHERTYPES[group.version])
    body = _PORT.pack(AF_BRIDGE, bridge[0]) + attribute(_MDBA_SET_ENTRY, entry)
    words = f"bridge mdb {'delete' if delete else 'add'} dev {bridge[1]} port {port[1]} grp {group}"
    words += f"{' permanent' if not delete else ''}{f' vid {vlan}' if vlan else ''}"
    kind, flags = (_RTM_DELMDB, 0) if delete else (_RTM_NEWMDB, NLM_F_CREATE | NLM_F_EXCL)
    return Request(kind, flags, body, words)


def multicast_dump() -> Request:
    """``bridge mdb show``."""
    return Request(_RTM_GETMDB, 0, _PORT.pack(AF_BRIDGE, 0), "bridge mdb show")


def decode_multicast(body: bytes, names: Mapping[int, str]) -> Iterator[MulticastEntry]:
    """Decode an RTM_NEWMDB message: the entries of a bridge."""
    for _, table in (row for row in rows(body, _PORT.size) if row[0] == _MDBA_MDB):
        for _, entry in (row for row in rows(table) if row[0] == _MDBA_MDB_ENTRY):
            for _, info in (row for row in rows(entry) if row[0] == _MDBA_MDB_ENTRY_INFO):
                index, state, _, vlan, raw, ethertype = _ENTRY.unpack_from(info)
                group: Address | str
                if ethertype == _ETHERTYPES[4]:
                    group = ip_address(raw[:4])
                elif ethertype == _ETHERTYPES[6]:
                    group = ip_address(raw)
                else:
                    group = raw[:6].hex(":")
                yield MulticastEntry(group, names.get(index, f"if{index}"), state == _PERMANENT, vlan)

"""VLANs of a bridge (IEEE 802.1Q): which pass at which port, and with which tags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_netns.checks import is_whole
from pytest_netns.errors import TopologyError
from pytest_netns.kernel.netlink.bridge_vlan import bridge_vlan, bridge_vlan_dump, decode_vlans
from pytest_netns.lab.switch import Switch, Where
from pytest_netns.stack.interface import Interface

if TYPE_CHECKING:
    from pytest_netns.kernel.netlink.bridge_vlan import Vlan


def set_vlan(bridge: Switch, where: Where, vid: int, *, pvid: bool = False, untagged: bool = False) -> None:
    """``bridge vlan add``: allow a VLAN at a port. Every port starts in VLAN 1, ``pvid`` and ``untagged``.

    Args:
        where: a port's name, the port, or the node behind it; the bridge for its own device.
        vid: VLAN identifier, 1 to 4094.
        pvid: untagged frames that arrive are put into this VLAN; a port has one PVID.
        untagged: frames leave the port untagged.

    Raises:
        TopologyError: no such port, or the bridge was made without ``vlan_filtering``.

    Example:
        >>> switch = lab.bridge("switch", vlan_filtering=True)
        >>> switch.attach(blue)
        >>> switch.set_vlan(blue, 10, pvid=True, untagged=True)
    """
    port = _vlan_port(bridge, where, vid)
    own = port == bridge.device
    bridge.rtnl.batch([bridge_vlan(port.index, port.name, vid, own=own, pvid=pvid, untagged=untagged)])


def unset_vlan(bridge: Switch, where: Where, vid: int) -> None:
    """``bridge vlan delete``: remove a VLAN from a port.

    Args:
        where: a port's name, the port, or the node behind it; the bridge for its own device.
        vid: VLAN identifier, 1 to 4094.

    Raises:
        TopologyError: no such port, it is not in that VLAN (not all kernels say so), or the bridge was made without
            ``vlan_filtering``.

    Example:
        >>> switch = lab.bridge("switch", vlan_filtering=True)
        >>> switch.attach(blue)
        >>> switch.unset_vlan(blue, 1)
    """
    port = _vlan_port(bridge, where, vid)
    vids = [vlan.vid for vlan in vlans(bridge).get(port.name, ())]
    if vid not in vids:
        shown = ", ".join(map(str, vids)) or "none"
        raise TopologyError(f"bridge {bridge.name!r}: port {port.name!r} is not in VLAN {vid}; it is in: {shown}")
    bridge.rtnl.batch([bridge_vlan(port.index, port.name, vid, own=port == bridge.device, delete=True)])


def access(bridge: Switch, where: Where, vid: int) -> None:
    """Make a port an access port: untagged, and in this VLAN only.

    Args:
        where: a port's name, the port, or the node behind it; the bridge for its own device.
        vid: VLAN identifier, 1 to 4094.

    Raises:
        TopologyError: no such port, or the bridge was made without ``vlan_filtering``.

    Example:
        >>> switch = lab.bridge("switch", vlan_filtering=True)
        >>> switch.attach(blue)
        >>> switch.access(blue, 10)
    """
    trunk(bridge, where, (), native=vid)


def trunk(bridge: Switch, where: Where, vids: Iterable[int], *, native: int | None = None) -> None:
    """Make a port a trunk: it carries these VLANs tagged, and no others.

    Args:
        where: a port's name, the port, or the node behind it; the bridge for its own device.
        vids: VLAN identifiers, 1 to 4094.
        native: the VLAN of untagged frames; None: they are dropped.

    Raises:
        TopologyError: no such port, or the bridge was made without ``vlan_filtering``.

    Example:
        >>> switch = lab.bridge("switch", vlan_filtering=True)
        >>> switch.attach(blue)
        >>> switch.trunk(blue, [10, 20], native=1)
    """
    wanted = list(vids)
    for vid in [*wanted, *([] if native is None else [native])]:
        _vlan_port(bridge, where, vid)
    port = bridge.port(where)
    for vlan in vlans(bridge).get(port.name, ()):
        unset_vlan(bridge, where, vlan.vid)
    for vid in wanted:
        set_vlan(bridge, where, vid)
    if native is not None:
        set_vlan(bridge, where, native, pvid=True, untagged=True)


def vlans(bridge: Switch) -> dict[str, tuple[Vlan, ...]]:
    """The VLANs of each port and of the bridge's own device, by name (``bridge vlan show``).

    Example:
        >>> switch = lab.bridge("switch", vlan_filtering=True)
        >>> switch.vlans()
    """
    found = (decode_vlans(body) for body in bridge.rtnl.dump(bridge_vlan_dump()))
    return {name: vlans for name, vlans in found if name}


def _vlan_port(bridge: Switch, where: Where, vid: int) -> Interface:
    if not bridge.settings.vlan_filtering:
        raise TopologyError(f"bridge {bridge.name!r} has no VLAN filtering: create it with vlan_filtering=True")
    if not is_whole(vid, 1, 4094):
        raise TopologyError(f"bridge {bridge.name!r}: vid is {vid!r}; it can be 1 to 4094")
    return bridge.port(where)

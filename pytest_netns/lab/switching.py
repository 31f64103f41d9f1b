"""Switching: what a bridge does beyond learning: VLANs (IEEE 802.1Q) and the spanning tree (IEEE 802.1D)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pytest_netns.clock import monotonic, sleep
from pytest_netns.errors import KernelError, TopologyError, UnsupportedError, WaitTimeout
from pytest_netns.kernel.features.features import feature
from pytest_netns.kernel.netlink import linkinfo, rtnetlink
from pytest_netns.kernel.netlink.linkinfo import BRIDGE_ID, BRIDGE_ROOT_ID, BRIDGE_VLAN_FILTERING, Value
from pytest_netns.kernel.netlink.tables import decode_vlans
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface

if TYPE_CHECKING:
    from pytest_netns.kernel.netlink.tables import Vlan

#: Seconds, as the kernel has them by default (IEEE 802.1D-1998 table 8-3).
FORWARD_DELAY, MAX_AGE = 15.0, 20.0
#: Seconds between two looks at ports: a spanning tree takes seconds.
_LOOK = 0.02
_SETTLED = ("forwarding", "blocking")

Where = str | Node | Interface


@dataclass(frozen=True, slots=True)
class SwitchSettings:
    """What a bridge is born with.

    Attributes:
        vlan_filtering: whether it looks at VLAN tags.
        stp: whether it takes part in a spanning tree (IEEE 802.1D).
        priority: the lowest in the tree is the root, 0 to 65535; 32768 if None.
        forward_delay: seconds for which a port listens, and then learns: 2 to 30; 15 if None.
        hello_time: seconds between two announcements of the root, 1 to 10; 2 if None.
        max_age: seconds for which an announcement is believed, 6 to 40; 20 if None.
    """

    vlan_filtering: bool = False
    stp: bool = False
    priority: int | None = None
    forward_delay: float | None = None
    hello_time: float | None = None
    max_age: float | None = None

    def options(self, where: str) -> dict[str, Value]:
        """For ``kernel.netlink.linkinfo``. Raises TopologyError: a value is out of range, or needs ``stp``."""
        found: dict[str, Value] = {"vlan_filtering": 1} if self.vlan_filtering else {}
        for name, low, high in (("forward_delay", 2, 30), ("hello_time", 1, 10), ("max_age", 6, 40)):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise TopologyError(f"{where}: {name} is {value!r}; it can be {low} to {high} seconds")
            found[name] = round(value * 100)
        if self.priority is not None:
            if isinstance(self.priority, bool) or not isinstance(self.priority, int) or self.priority >> 16:
                raise TopologyError(f"{where}: priority is {self.priority!r}; it can be 0 to 65535")
            found["priority"] = self.priority
        if not self.stp and set(found) - {"vlan_filtering"}:
            raise TopologyError(f"{where}: {', '.join(sorted(set(found) - {'vlan_filtering'}))} needs stp=True")
        return {**found, "stp": 1} if self.stp else found


class Switching(Node):
    """A node with a bridge device.

    Attributes:
        device: that device.
        settings: what it was born with.
    """

    is_switch: ClassVar[bool] = True
    device: Interface
    settings: SwitchSettings

    @property
    def waits_for_stp(self) -> bool:
        """Whether its ports forward only when the spanning tree has settled."""
        return self.settings.stp

    @property
    def ports(self) -> dict[str, Interface]:
        """The plugged-in ports by name."""
        raise AssertionError("a Bridge knows its ports")

    def make_device(self, mac: bytes, options: dict[str, Value]) -> None:
        """Make the bridge device.

        Args:
            mac: its MAC address.
            options: by the keywords of ``pytest_netns.kernel.netlink.linkinfo.OPTIONS``.

        Raises:
            UnsupportedError: this kernel's bridges have no VLAN filtering, and it was asked for.
            KernelError: the kernel refused.
        """
        data = linkinfo.encode_options("bridge", options)
        lacking = False
        try:
            self.rtnl.batch([rtnetlink.bridge(self.device.name, self.device.index, mac, data)])
        except KernelError as error:
            if error.errno != errno.EOPNOTSUPP or not self.settings.vlan_filtering:
                raise
            lacking = True
        # Some kernels refuse what they were built without, others ignore it.
        if lacking or (self.settings.vlan_filtering and BRIDGE_VLAN_FILTERING not in self._shown()):
            raise UnsupportedError(f"bridge {self.name!r} with vlan_filtering: {feature('vlan_filtering').reason}")

    def _shown(self) -> dict[int, bytes]:
        return linkinfo.info_data(self.rtnl.get(rtnetlink.link_get(self.device.index, self.device.name)))

    # ------------------------------------------------------------------ VLANs

    def port(self, where: Where) -> Interface:
        """A port, or the bridge's own device.

        Args:
            where: a port's name, the port, or the node behind it; the bridge for its own device.

        Raises:
            TopologyError: there is none, or several lead to that node.
        """
        ports = self.ports
        if where is self or where == self.device:
            return self.device
        if isinstance(where, str) and where in ports:
            return ports[where]
        if isinstance(where, Interface) and where in ports.values():
            return where
        found: list[Interface] = []
        if isinstance(where, Interface):  # the far end of a link
            found = [link.end(self) for link in self.links if where in link.interfaces]
        elif isinstance(where, Node):
            found = [link.end(self) for link in self.links if where in (link.a.node, link.b.node)]
        found = [port for port in found if port in ports.values()]
        if len(found) == 1:
            return found[0]
        shown = getattr(where, "name", where)
        what = f"{len(found)} ports lead to {shown!r}: {', '.join(p.name for p in found)}" if found else f"no {shown!r}"
        raise TopologyError(f"bridge {self.name!r}: {what}; ports: {', '.join(ports) or 'none'}")

    def _vlan_port(self, where: Where, vid: int) -> Interface:
        if not self.settings.vlan_filtering:
            raise TopologyError(f"bridge {self.name!r} knows no VLANs: make it with vlan_filtering=True")
        if isinstance(vid, bool) or not isinstance(vid, int) or not 1 <= vid <= 4094:
            raise TopologyError(f"bridge {self.name!r}: vid is {vid!r}; it can be 1 to 4094")
        return self.port(where)

    def set_vlan(self, where: Where, vid: int, *, pvid: bool = False, untagged: bool = False) -> None:
        """``bridge vlan add``: let a VLAN pass at a port. Every port begins with VLAN 1, ``pvid`` and ``untagged``.

        Args:
            where: a port's name, the port, or the node behind it; the bridge for its own device.
            vid: VLAN identifier, 1 to 4094.
            pvid: what comes in without a tag is of this VLAN; a port has one such.
            untagged: what goes out has its tag taken off.

        Raises:
            TopologyError: no such port, or the bridge was made without ``vlan_filtering``.
        """
        port = self._vlan_port(where, vid)
        own = port == self.device
        self.rtnl.batch([rtnetlink.bridge_vlan(port.index, port.name, vid, own=own, pvid=pvid, untagged=untagged)])

    def unset_vlan(self, where: Where, vid: int) -> None:
        """``bridge vlan delete``: let a VLAN pass at a port no more.

        Args:
            where: a port's name, the port, or the node behind it; the bridge for its own device.
            vid: VLAN identifier, 1 to 4094.

        Raises:
            TopologyError: no such port, it is not in that VLAN (not all kernels say so), or the bridge was made without
                ``vlan_filtering``.
        """
        port = self._vlan_port(where, vid)
        vids = [vlan.vid for vlan in self.vlans().get(port.name, ())]
        if vid not in vids:
            shown = ", ".join(map(str, vids)) or "none"
            raise TopologyError(f"bridge {self.name!r}: port {port.name!r} is not in VLAN {vid}; it is in: {shown}")
        self.rtnl.batch([rtnetlink.bridge_vlan(port.index, port.name, vid, own=port == self.device, delete=True)])

    def access(self, where: Where, vid: int) -> None:
        """Make a port an access port: its host knows of no VLANs and is in this one alone.

        Args:
            where: a port's name, the port, or the node behind it; the bridge for its own device.
            vid: VLAN identifier, 1 to 4094.

        Raises:
            TopologyError: no such port, or the bridge was made without ``vlan_filtering``.
        """
        self.trunk(where, (), native=vid)

    def trunk(self, where: Where, vids: Iterable[int], *, native: int | None = None) -> None:
        """Make a port a trunk: these VLANs pass with their tags, and no others.

        Args:
            where: a port's name, the port, or the node behind it; the bridge for its own device.
            vids: VLAN identifiers, 1 to 4094.
            native: the VLAN of what has no tag; None: such frames are dropped.

        Raises:
            TopologyError: no such port, or the bridge was made without ``vlan_filtering``.
        """
        wanted = list(vids)
        for vid in [*wanted, *([] if native is None else [native])]:
            self._vlan_port(where, vid)
        port = self.port(where)
        for vlan in self.vlans().get(port.name, ()):
            self.unset_vlan(where, vlan.vid)
        for vid in wanted:
            self.set_vlan(where, vid)
        if native is not None:
            self.set_vlan(where, native, pvid=True, untagged=True)

    def vlans(self) -> dict[str, tuple[Vlan, ...]]:
        """The VLANs of each port and of the bridge's own device, by name (``bridge vlan show``)."""
        found = (decode_vlans(body) for body in self.rtnl.dump(rtnetlink.bridge_vlan_dump()))
        return {name: vlans for name, vlans in found if name}

    # ---------------------------------------------------------- spanning tree

    @property
    def port_states(self) -> dict[str, str]:
        """By port: ``forwarding``, ``blocking``, ``listening``, ``learning`` or ``disabled`` (IEEE 802.1D 8.4)."""
        return {name: port.state.port_state for name, port in self.ports.items()}

    @property
    def root(self) -> Switching | None:
        """The root of the spanning tree as this bridge sees it; None if that is no bridge of the lab."""
        wanted = self._shown().get(BRIDGE_ROOT_ID)
        return next((bridge for bridge in self._all() if bridge._shown().get(BRIDGE_ID) == wanted), None)

    def _all(self) -> list[Switching]:
        return [node for node in self.lab if isinstance(node, Switching) and not node.closed]

    def _joined(self) -> list[Switching]:
        """All bridges that trunks join with this one, itself included."""
        found: list[Switching] = [self]
        for bridge in found:
            for link in bridge.links:
                if not link.is_up:
                    continue
                found += [
                    end.node for end in link.interfaces if isinstance(end.node, Switching) and end.node not in found
                ]
        return found

    def wait_converged(self, timeout: float | None = None) -> None:
        """Wait until the spanning tree is settled, on this bridge and on all that trunks join with it.

        Then they agree on the root, and each port that has a carrier either forwards or is blocked. After a failure
        that no bridge sees at its own port, the tree of before stands for up to ``max_age`` seconds: await what you
        expect, e.g. by ``assert_ping(..., within=60)``. After any change, what bridges have learned on the old way is
        forgotten only ``forward_delay`` seconds later.

        Args:
            timeout: seconds; None for as long as the timers of this bridge can take.

        Raises:
            WaitTimeout: it was not; with the states of the ports.
        """
        if timeout is None:
            delay = self.settings.forward_delay or FORWARD_DELAY
            timeout = (self.settings.max_age or MAX_AGE) + 2 * delay + 5
        deadline = monotonic() + timeout
        while (unsettled := self._unsettled()) is not None:
            if monotonic() > deadline:
                raise WaitTimeout(
                    f"bridge {self.name!r}: waited {timeout:g} s until the spanning tree is settled; {unsettled}"
                )
            sleep(_LOOK)

    def _unsettled(self) -> str | None:
        bridges = [bridge for bridge in self._joined() if bridge.settings.stp]
        for bridge in bridges:
            for name, port in bridge.ports.items():
                state = port.state
                if state.is_up and state.port_state not in _SETTLED:
                    return f"port {name!r} of {bridge.name!r} is {state.port_state}"
        roots = {bridge.name: bridge._shown().get(BRIDGE_ROOT_ID, b"") for bridge in bridges}
        if len(set(roots.values())) > 1:
            shown = ", ".join(f"{name}: {_bridge_id(root)}" for name, root in roots.items())
            return f"they see different roots ({shown})"
        return None


def _bridge_id(raw: bytes) -> str:
    """``8000.02:1f:0a:33:5b:c0``, as ip(8) shows it."""
    return f"{struct.unpack('!H', raw[:2])[0]:x}.{raw[2:].hex(':')}" if len(raw) == 8 else "unknown"

"""Switch: a node with a bridge device, and its ports."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import ClassVar

from pytest_netns.checks import is_number, is_whole
from pytest_netns.errors import KernelError, TopologyError, UnsupportedError
from pytest_netns.kernel.netlink import linkinfo, rtnetlink
from pytest_netns.kernel.netlink.linkinfo import BRIDGE_VLAN_FILTERING, Value
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.interface import Interface

Where = str | Node | Interface


@dataclass(frozen=True, slots=True)
class SwitchSettings:
    """The options that a bridge is created with.

    Attributes:
        vlan_filtering: whether it filters by VLAN.
        stp: whether it takes part in a spanning tree (IEEE 802.1D).
        priority: the lowest in the tree is the root, 0 to 65535; 32768 if None.
        forward_delay: seconds for which a port listens, and then learns: 2 to 30; 15 if None.
        hello_time: seconds between BPDUs of the root, 1 to 10; 2 if None.
        max_age: seconds until a received BPDU expires, 6 to 40; 20 if None.
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
            if not is_number(value, low, high):
                raise TopologyError(f"{where}: {name} is {value!r}; it can be {low} to {high} seconds")
            found[name] = round(value * 100)
        if self.priority is not None:
            if not is_whole(self.priority, 0, 65535):
                raise TopologyError(f"{where}: priority is {self.priority!r}; it can be 0 to 65535")
            found["priority"] = self.priority
        if not self.stp and set(found) - {"vlan_filtering"}:
            raise TopologyError(f"{where}: {', '.join(sorted(set(found) - {'vlan_filtering'}))} needs stp=True")
        return {**found, "stp": 1} if self.stp else found


class _Ports(dict[str, Interface]):
    """Ports by the names of their interfaces, which may be short forms; found by the names of nodes too."""

    def __init__(self) -> None:
        super().__init__()
        #: The name of the first port to each node.
        self.behind: dict[str, str] = {}

    def __missing__(self, name: str) -> Interface:
        if name in self.behind:
            return self[self.behind[name]]
        raise KeyError(f"no port of this bridge leads to {name!r}; there are: {', '.join(self) or 'none'}")

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.behind

    def get(self, name: str, default: object = None) -> object:  # type: ignore[override]
        try:
            return self[name]
        except KeyError:
            return default


class Switch(Node):
    """A node with a bridge device.

    Attributes:
        device: that device.
        settings: the options it was created with.

    Example:
        >>> lan.port(green)
    """

    is_switch: ClassVar[bool] = True
    device: Interface
    settings: SwitchSettings

    @property
    def _waits_for_stp(self) -> bool:
        """Whether its ports forward only when the spanning tree has settled."""
        return self.settings.stp

    @property
    def ports(self) -> dict[str, Interface]:
        """The attached ports by name.

        A port is called like the node behind it; where an interface cannot have that name, because it is too long for
        one, it is found by it all the same: ``bridge.ports["supervisor-of-rack-1"]``.
        """
        found = _Ports()
        for name, interface in self.interfaces.items():
            if interface.state.master == self.device.index:
                found[name] = interface
        for link in self.links:
            port = link.end(self)
            if port.name in found:
                found.behind.setdefault(link.other(port).node.name, port.name)
        return found

    def port(self, where: Where) -> Interface:
        """A port, or the bridge's own device.

        Args:
            where: a port's name, the port, or the node behind it; the bridge for its own device.

        Raises:
            TopologyError: there is none, or several lead to that node.

        Example:
            >>> lan.port(green)
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

    def _make_device(self, mac: bytes, options: dict[str, Value]) -> None:
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
            from pytest_netns.kernel.features.features import feature

            raise UnsupportedError(f"bridge {self.name!r} with vlan_filtering: {feature('vlan_filtering').reason}")

    def _shown(self) -> dict[int, bytes]:
        return linkinfo.info_data(self.rtnl.get(rtnetlink.link_get(self.device.index, self.device.name)))

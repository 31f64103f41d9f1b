"""The wiring of the relay: what an interface is about to send takes a way round through a process.

Nothing about the interface changes: its address, its routes, its sockets and captures go on. In its namespace stands a
tap device whose far side is held by the relay, and a filter (clsact, tc-bpf(8)) redirects there what the interface is
about to send. The relay sends it on by a packet socket that is bound to the interface and whose mark the filter lets
pass, so a capture sees it when it really leaves, as with netem. When the relay dies the tap goes with it, and the
interface sends nothing any more.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_netns.errors import KernelError, NetnsError, TopologyError, UnsupportedError
from pytest_netns.kernel import reaper, tun_driver
from pytest_netns.kernel.interface_names import DETOUR_PREFIX
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink import tc as traffic
from pytest_netns.kernel.netlink.rtnetlink import RTM_GETLINK, RTM_NEWLINK
from pytest_netns.kernel.netlink.socket import Request, attribute, attributes
from pytest_netns.kernel.packet_socket import PACKET_VNET_HDR, SOL_PACKET, open_packet_socket, set_buffer
from pytest_netns.kernel.syscalls import bind_packet_socket, entered

if TYPE_CHECKING:
    from pytest_netns.impair.target import Target

_SO_MARK = 36
_IFLA_TXQLEN, _IFLA_STATS64 = 13, 23

#: Frames that the tap holds until the relay reads them: the first that the kernel takes. The larger is a second's worth
#: of what the relay can do at most; Linux 6.1 answers ERANGE.
_RINGS = (100_000, 10_000)
_SEND_BUFFER = 16 << 20
#: Too many open files: no lack of the kernel's.
_FULL = errno.EMFILE, errno.ENFILE
#: There is no such interface, no clsact, no such filter.
_GONE = errno.ENODEV, errno.EINVAL, errno.ENOENT
#: What the marks begin with; the rest is the interface's index, for frames that one sends may go on to another of the
#: same namespace. Marks do not leave a namespace.
_MARK = 0x6E_00_00_00


@dataclass(slots=True)
class Redirect:
    """A way round that is ready; the descriptors are for the relay, and end here when it has them.

    Attributes:
        interface: whose frames take it.
        name: of the tap device.
        index: likewise.
        tap: its far side.
        out: a packet socket that sends by the interface.
    """

    interface: Target
    name: str
    index: int
    tap: int
    out: int

    @property
    def mark(self) -> int:
        """What the relay's frames bear."""
        return _MARK | self.interface.index & 0xFFFFFF

    def close_descriptors(self, *, last: bool) -> None:
        """Let go of our copies. Only closing the last one of each takes long."""
        for fd in (self.tap, self.out):
            if last:
                reaper.later(lambda fd=fd: os.close(fd))  # type: ignore[misc]
            else:
                os.close(fd)
        self.tap = self.out = -1

    def install(self) -> None:
        """Send what comes from now on this way. There must be a place for the filter.

        Raises:
            UnsupportedError: the kernel lacks a part.
            TopologyError: another filter has the priority that the relay needs.
            KernelError: it refused.
        """
        interface, rtnl = self.interface, self.interface.node.rtnl
        try:
            rtnl.batch([traffic.redirect_add(interface.index, interface.name, self.mark, self.index, self.name)])
        except KernelError as error:
            if any(traffic.filter_priority(each) == traffic.PRIORITY for each in _filters(interface, "egress")):
                raise TopologyError(
                    f"the relay cannot impair {interface}: there is another filter at priority {traffic.PRIORITY} of "
                    f"its egress, where that of the relay must be, before all others; give it another (tc filter add "
                    f"dev {interface.name} egress prio {traffic.PRIORITY + 1} ...)"
                ) from error
            raise _lacking(error, "the filter 'bpf' or the action 'mirred'", "cls_bpf act_mirred") from None
        if not self.installed:
            raise KernelError(errno.ENOENT, f"tc filter show dev {interface.name} egress", interface.node.name)

    @property
    def installed(self) -> bool:
        """Whether our filter is there."""
        return any(traffic.is_redirect(each, self.index) for each in _filters(self.interface, "egress"))

    @property
    def overrun(self) -> int:
        """Frames that the tap had no room for, because the relay was too slow."""
        request = Request(
            RTM_GETLINK, 0, struct.pack("=BxHiII", 0, 0, self.index, 0, 0), f"ip -s link show {self.name}"
        )
        statistics = attributes(self.interface.node.rtnl.get(request), 16).get(_IFLA_STATS64, b"")
        return int(struct.unpack_from("=8Q", statistics)[7]) if len(statistics) >= 64 else 0

    def uninstall(self) -> None:
        """Send what comes from now on straight out. Nothing happens if the interface is gone."""
        interface = self.interface
        if self.installed:
            _unless_gone(interface, traffic.redirect_delete(interface.index, interface.name))


def _unless_gone(interface: Target, request: Request) -> None:
    try:
        interface.node.rtnl.batch([request])
    except KernelError as error:
        if error.errno not in _GONE:
            raise


def _filters(interface: Target, side: str) -> list[bytes]:
    try:
        return interface.node.rtnl.dump(traffic.filter_dump(interface.index, interface.name, side))
    except KernelError as error:
        if error.errno in _GONE:
            return []
        raise


def has_clsact(interface: Target) -> bool:
    """Whether there is a place for filters at an interface: clsact."""
    bodies = interface.node.rtnl.dump(traffic.qdisc_dump(interface.index, interface.name))
    every = [traffic.decode_qdisc(body) for body in bodies]
    return any(each.index == interface.index and each.kind == "clsact" for each in every)


def add_clsact(interface: Target) -> bool:
    """Make one; False if there is one, of ours or of somebody else's.

    The kernel stops the interface for that, for some milliseconds (dev_deactivate()), and what it is told to send
    meanwhile is lost, with all that waits in a queueing discipline. So it stays when the impairment goes.

    Raises:
        UnsupportedError: the kernel lacks it.
        KernelError: it refused.
    """
    try:
        interface.node.rtnl.batch([traffic.clsact_add(interface.index, interface.name)])
    except KernelError as error:
        if error.errno == errno.EEXIST:
            return False
        raise _lacking(error, "the queueing discipline 'clsact'", "sch_ingress") from None
    return True


def remove_clsact(interface: Target) -> None:
    """Remove it, unless somebody uses it."""
    if not any(_filters(interface, side) for side in ("egress", "ingress")):
        _unless_gone(interface, traffic.clsact_delete(interface.index, interface.name))


def _lacking(error: KernelError, what: str, modules: str) -> NetnsError:
    if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
        return error
    return UnsupportedError(
        f"the relay cannot impair interfaces here: this kernel lacks {what}; try as root: modprobe -a "
        f"{modules} ({error})"
    )


def prepare(interface: Target) -> Redirect:
    """Make the tap and the socket of a way round, which nothing takes yet.

    Raises:
        UnsupportedError: there is no tun driver.
        KernelError: the kernel refused.
    """
    try:
        return _prepare(interface)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        hint = "close what is not needed, or raise the limit (ulimit -n)"
        raise KernelError.of(error, f"open {tun_driver.PATH}", interface.node.name, hint) from error


def _prepare(interface: Target) -> Redirect:
    node = interface.node
    with ExitStack() as undo, entered(node):
        tap, name = _open_tap(interface)
        undo.callback(os.close, tap)
        index = socket.if_nametoindex(name)
        _write(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")  # it would announce itself
        if interface.index == rtnetlink.LOOPBACK_INDEX:
            # What the relay sends there comes without the kernel's own route, and an address of this host as source
            # would be a martian. This concerns what comes by the loopback only, and stays for frames under way.
            for key in ("route_localnet", "accept_local"):
                _write(f"/proc/sys/net/ipv4/conf/{interface.name}/{key}")
        _lengthen(interface, index, name)
        node.rtnl.batch(
            [
                # Without a queue of its own: what it would hold, or drop, is the relay's to decide.
                traffic.qdisc_replace(index, name, "noqueue", b"", ""),
                rtnetlink.link_up(index, name),
            ]
        )
        redirect = Redirect(interface, name, index, tap, -1)
        redirect.out = _open_out(redirect)
        undo.pop_all()
    return redirect


def _open_tap(interface: Target) -> tuple[int, str]:
    node = interface.node
    try:
        tap = tun_driver.open_driver()
    except OSError as error:
        if error.errno in _FULL:
            raise
        cure = f"modprobe tun; for a container, start it with --device {tun_driver.PATH}"
        if error.errno == errno.EACCES:
            cure = f"chmod 0666 {tun_driver.PATH}"  # as udev has it (50-udev-default.rules)
        raise UnsupportedError(
            f"the relay cannot impair {interface}: {tun_driver.PATH}: {error.strerror}; try as root: {cure}"
        ) from None
    try:
        flags = tun_driver.IFF_TAP | tun_driver.IFF_NO_PI | tun_driver.IFF_VNET_HDR
        return tap, tun_driver.create_device(tap, f"{DETOUR_PREFIX}%d", flags, node._next_index() or 0)
    except OSError as error:
        os.close(tap)
        raise KernelError.of(error, f"ip tuntap add dev {DETOUR_PREFIX}0 mode tap", node.name) from error


def _lengthen(interface: Target, index: int, name: str) -> None:
    """Make the tap hold as many frames as it can."""
    for length in _RINGS:
        body = struct.pack("=BxHiII", 0, 0, index, 0, 0) + attribute(_IFLA_TXQLEN, struct.pack("=I", length))
        try:
            interface.node.rtnl.batch([Request(RTM_NEWLINK, 0, body, f"ip link set {name} txqueuelen {length}")])
        except KernelError as error:
            if error.errno != errno.ERANGE or length == _RINGS[-1]:
                raise
        else:
            return


def _write(path: str) -> None:
    """Switch a sysctl on, in the namespace of this thread."""
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write("1")
    except FileNotFoundError:
        pass  # the kernel lacks that family


def _open_out(redirect: Redirect) -> int:
    """A socket that sends by the interface, with the mark."""
    interface = redirect.interface

    def configure(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, redirect.mark)
        sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        set_buffer(sock, socket.SO_SNDBUF, _SEND_BUFFER)
        sock.setblocking(False)
        bind_packet_socket(sock.fileno(), 0, interface.index)

    try:
        return open_packet_socket(interface.node, configure).detach()
    except OSError as error:
        raise KernelError.of(error, f"packet socket on {interface.name}", interface.node.name) from error

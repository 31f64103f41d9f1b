"""TUN and TAP: devices whose far end is the test itself (https://docs.kernel.org/networking/tuntap.html).

They are not persistent: the kernel removes them when their descriptor is closed, whatever way the test ends.
"""

from __future__ import annotations

import errno
import os
import select
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_netns.capture.frame import Frame, is_chatter
from pytest_netns.checks import A_DAY, check_range
from pytest_netns.clock import monotonic, wall_ns
from pytest_netns.devices.builder import Device
from pytest_netns.errors import KernelError, NetnsError, ProbeFailure, TopologyError, UnsupportedError
from pytest_netns.kernel import reaper, tun_driver
from pytest_netns.kernel.features.features import feature
from pytest_netns.kernel.scapy_import import prepare_scapy
from pytest_netns.kernel.syscalls import entered
from pytest_netns.topology.node import BaseNode

if TYPE_CHECKING:
    from scapy.packet import Packet

    from pytest_netns.capture.pattern import Pattern

_LARGEST = 1 << 17
#: Packets that a message shows at most.
_SHOWN = 12


class Tun(Device):
    """A TUN device: the test receives IP packets that the kernel sends out of it, and injects others.

    Created by ``Host.add_tun``. Neighbour discovery, MLD and IGMP are left out unless ``chatter=True``.

    Example:
        >>> tun = red.add_tun("tun0", address="10.42.0.1/24")
        >>> tun.send(IP(src="10.42.0.2", dst="10.42.0.1") / ICMP())
        >>> tun.expect(ICMP(type="echo-reply"))
    """

    ethernet = False

    def __init__(self, node: BaseNode, name: str, index: int, kind: str) -> None:
        super().__init__(node, name, index, kind)
        self._fd = -1
        self._chatter = False
        self._queue: deque[Frame] = deque()

    def __del__(self) -> None:
        self._release()

    def open(self, chatter: bool) -> None:
        """Bring the device to life.

        Args:
            chatter: whether to keep neighbour discovery, MLD and IGMP.

        Raises:
            UnsupportedError: this kernel lacks the kind.
            KernelError: the kernel refused.
        """
        self._chatter = chatter
        words = f"ip tuntap add {self.name} mode {self.kind}"
        flags = (tun_driver.IFF_TAP if self.ethernet else tun_driver.IFF_TUN) | tun_driver.IFF_NO_PI
        try:
            with entered(self.node):
                self._fd = tun_driver.open_driver()
                tun_driver.create_device(self._fd, self.name, flags, self.index)
        except OSError as error:
            opened = self._fd >= 0
            self._release()
            if not opened and not (found := feature(self.kind)).present:
                raise UnsupportedError(f"{words!r} in namespace {self.node.name!r}: {found.reason}") from error
            raise KernelError.of(error, words, self.node.name) from error

    def _release(self) -> None:
        """Close the descriptor; the device goes with it, some milliseconds later."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            reaper.later(lambda: os.close(fd))

    def remove(self) -> None:
        """Close the descriptor, and with it the device; allowed more than once.

        Example:
            >>> tun = red.add_tun("tun0")
            >>> tun.remove()
        """
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        super().remove()

    def fileno(self) -> int:
        """Its descriptor, for select(2), selectors and ``asyncio.loop.add_reader``. Raises NetnsError once removed.

        Example:
            >>> tun = red.add_tun("tun0")
            >>> select.select([tun], [], [], 0)
        """
        if self._fd < 0:
            raise NetnsError(f"{self!r} was removed")
        return self._fd

    # ---------------------------------------------------------------- sending

    def send(self, packet: Packet | bytes) -> int:
        """Inject a packet that arrives at the device; returns the number of packets (ranges stand for several).

        Args:
            packet: a scapy packet, or the bytes of one.

        Raises:
            TopologyError: an address is not set, or it begins with the wrong layer.
            KernelError: the kernel refused, e.g. because the device is down.
            TypeError: it is neither.

        Example:
            >>> tun = red.add_tun("tun0", address="10.42.0.1/24")
            >>> tun.send(IP(src="10.42.0.2", dst="10.42.0.1") / ICMP())
        """
        if isinstance(packet, bytes | bytearray | memoryview):
            self._write(bytes(packet), f"{len(packet)} bytes")
            return 1
        prepare_scapy()
        from scapy.packet import Packet

        if not isinstance(packet, Packet):
            raise TypeError(f"expected a scapy packet or bytes, not {packet!r}")
        from pytest_netns.probe.crafted import plain

        each = [self._completed(plain(one)) for one in plain(packet)]
        for one in each:
            self._write(bytes(one), one.summary())
        return len(each)

    def _completed(self, packet: Packet) -> Packet:
        """Nothing is left for scapy to fill in: it would take it from the machine's own network."""
        prepare_scapy()
        from scapy.layers.inet import IP
        from scapy.layers.inet6 import IPv6

        if not self.ethernet and not isinstance(packet, IP | IPv6):
            raise TopologyError(f"{packet.summary()}: a tun carries IP packets; for Ethernet frames there is add_tap()")
        layer = packet.getlayer(IP) or packet.getlayer(IPv6)
        for field in ("src", "dst"):
            if layer is not None and field not in layer.fields:
                raise TopologyError(f"{packet.summary()}: {type(layer).__name__}({field}=...) is not set")
        return packet

    def _write(self, data: bytes, what: str) -> None:
        try:
            os.write(self.fileno(), data)
        except OSError as error:
            detail = "the device is down" if error.errno == errno.EIO else ""
            raise KernelError.of(error, f"send {what} by {self.name}", self.node.name, detail) from error

    # -------------------------------------------------------------- receiving

    def _fill(self) -> None:
        """Take over what the kernel has queued."""
        while True:
            try:
                data = os.read(self.fileno(), _LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                raise KernelError.of(error, f"receive by {self.name}", self.node.name) from error
            if self._chatter or not is_chatter(data, self.ethernet):
                self._queue.append(Frame(wall_ns(), self.node.name, self.name, True, data, self.ethernet))

    def _await(self, until: float) -> bool:
        """Whether something can be read before ``until``, on the clock of ``pytest_netns.clock``."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(max(0.0, until - monotonic()) * 1000))

    def recv(self, timeout: float = 1.0) -> Packet | None:
        """The next packet that was sent out of the device, or None if there is none within ``timeout`` seconds.

        Example:
            >>> tun = red.add_tun("tun0", address="10.42.0.1/24")
            >>> red.udp("10.42.0.2", 5000, b"hello", timeout=0.1)
            >>> packet = tun.recv(timeout=2)
        """
        check_range("timeout", timeout, 0, A_DAY)
        deadline = monotonic() + timeout
        self._fill()
        while not self._queue:
            if not self._await(deadline):
                return None
            self._fill()
        return self._queue.popleft().packet

    def __iter__(self) -> Iterator[Packet]:
        """The packets that wait now, in order; ends when none is left."""
        while (packet := self.recv(0)) is not None:
            yield packet

    def expect(self, pattern: Pattern, timeout: float = 1.0) -> Packet:
        """The first packet that matches, waiting already or within ``timeout`` seconds. Others stay for ``recv``.

        Args:
            pattern: a scapy packet (matches on the fields that were set, layer by layer), a scapy layer class, or a
                function of a packet.
            timeout: seconds to wait.

        Raises:
            ProbeFailure: none was captured; the message lists what was.
            TopologyError: it is left out as chatter.
            TypeError: it is not a pattern.

        Example:
            >>> tun = red.add_tun("tun0", address="10.42.0.1/24")
            >>> red.udp("10.42.0.2", 5000, b"hello", timeout=0.1)
            >>> tun.expect(UDP(dport=5000))
        """
        __tracebackhide__ = True
        from pytest_netns.capture.pattern import describe, matcher, wants_chatter

        matches = matcher(pattern)
        if not self._chatter and wants_chatter(pattern):
            raise TopologyError(f"{describe(pattern)} is left out of {self!r} as chatter; make it with chatter=True")
        check_range("timeout", timeout, 0, A_DAY)
        deadline = monotonic() + timeout
        looked_at = 0
        while True:
            self._fill()
            for position in range(looked_at, len(self._queue)):
                frame = self._queue[position]
                if matches(frame):
                    del self._queue[position]
                    return frame.packet
            looked_at = len(self._queue)
            if not self._await(deadline):
                break
        rows = "\n".join(f"  {frame!r}" for frame in list(self._queue)[-_SHOWN:])
        came = f"{looked_at} others came:\n{rows}" if looked_at else "nothing came"
        raise ProbeFailure(f"expected {describe(pattern)} from {self} within {timeout:g} s, got none; {came}")


class Tap(Tun):
    """A TAP device: the test receives Ethernet frames that the kernel sends out of it, and injects others.

    Created by ``Host.add_tap``. The test plays the peer at the other end of the cable, and must answer ARP itself.

    Attributes:
        peer_mac: the default source MAC address of injected frames.

    Example:
        >>> tap = red.add_tap("tap0", address="10.42.0.1/24")
        >>> tap.send(Ether() / ARP(psrc="10.42.0.2", pdst="10.42.0.1"))
        >>> tap.expect(ARP(op="is-at"))
    """

    ethernet = True
    peer_mac = ""

    def _completed(self, packet: Packet) -> Packet:
        prepare_scapy()
        from scapy.layers.l2 import ARP, Ether

        ether = packet.getlayer(Ether)
        if ether is None or ether is not packet:
            raise TopologyError(f"{packet.summary()}: a tap carries Ethernet frames; write Ether() / ...")
        arp = packet.getlayer(ARP)
        if "src" not in ether.fields:
            ether.src = self.peer_mac
        if "dst" not in ether.fields:
            ether.dst = "ff:ff:ff:ff:ff:ff" if arp is not None and arp.op == 1 else self.mac
        if arp is not None:
            for field in ("psrc", "pdst"):
                if field not in arp.fields:
                    raise TopologyError(f"{packet.summary()}: ARP({field}=...) is not set")
            if "hwsrc" not in arp.fields:
                arp.hwsrc = self.peer_mac
            if "hwdst" not in arp.fields:
                arp.hwdst = "00:00:00:00:00:00" if arp.op == 1 else self.mac
        return super()._completed(packet)

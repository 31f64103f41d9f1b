"""Observed: what can be seen and measured of a lab as a whole. Each is told in ``capture`` or ``probe``."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, cast

from pytest_netns.events import Event
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.host import Host
from pytest_netns.lab.nodes import Node
from pytest_netns.stack.namespace import Namespace
from pytest_netns.topology.events import CaptureOpened, ProbeFailed
from pytest_netns.topology.failure import Failure
from pytest_netns.topology.network import Network
from pytest_netns.weak_list import WeakList

if TYPE_CHECKING:
    from pytest_netns.capture.capture import Capture
    from pytest_netns.capture.pattern import Pattern
    from pytest_netns.probe.matrix import PingMatrix
    from pytest_netns.probe.throughput import LossResult, Protocol, ThroughputResult
    from pytest_netns.stack.interface import Interface
    from pytest_netns.units import Quantity

#: All that somebody has still: which of them a result is from is asked when it is to be explained.
labs: WeakList[Observed] = WeakList()


class Observed(Network):
    """A lab that can be watched.

    Attributes:
        failed: the last 50 probes that failed, and traces, to be explained.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed: deque[Failure] = deque(maxlen=50)
        labs.add(self)
        self._captures: deque[weakref.ref[object]] = deque(maxlen=8)
        self._begun: WeakList[object] = WeakList()
        self.events.subscribe(self._remember)

    def _remember(self, event: Event) -> None:
        if isinstance(event, ProbeFailed):
            self.failed.append(event.failure)
        elif isinstance(event, CaptureOpened):
            self._captures.append(weakref.ref(event.capture))  # without keeping it
            self._begun.add(event.capture)

    def _stop_captures(self) -> list[Exception]:
        """Stop those that nobody has stopped, which would keep the namespaces alive; returns what went wrong."""
        errors: list[Exception] = []
        for capture in self._begun:
            try:
                cast("Capture", capture).stop()
            except Exception as error:  # a warning of lost frames, where warnings are errors; raised by close()
                errors.append(error)
        return errors

    def capture(
        self,
        filter: str | Pattern | None = None,
        *,
        chatter: bool = False,
    ) -> Capture:
        """Capture the frames on every interface of every node at once, by one clock; use it in a ``with`` statement.

        A frame is seen at each interface that it passes: when it leaves one node, and when it arrives at the next.

        Args:
            filter: which frames: text in the words of pcap-filter(7) (applied by the kernel), in which the names of
                hosts are those of the lab and of ``lab.dns``; a scapy packet (compared in the fields that were set), a
                scapy layer class, or a function of a packet.
            chatter: keep neighbour discovery, MLD and IGMP, which hosts do unasked.

        Raises:
            TopologyError: the lab is closed.
            TypeError, ValueError: no such filter.
            UnsupportedError: the filter is text, and libpcap is not installed.
        """
        from pytest_netns.capture.capture import Capture

        def places() -> list[tuple[Namespace, str | None]]:
            by_namespace = {node.inode: node for node in self if not node.closed}
            return [(node, None) for node in by_namespace.values()]

        def switches() -> list[str]:
            return [node.name for node in self if isinstance(node, Bridge)]

        def owners() -> dict[bytes, str]:
            return {a.ip.packed: node.name for node in self if not node.closed for a in node.addresses()}

        self.check_open()
        capture = Capture(
            f"lab {self.name}",
            places,
            filter,
            chatter,
            whole=True,
            switches=switches,
            owners=owners,
            names=self.dns.known(),
        )
        self.events.publish(CaptureOpened, self, capture)
        return capture

    @property
    def captures(self) -> list[Capture]:
        """The last captures in this lab that somebody still has, in the order of their making."""
        known = [cast("Capture", capture) for reference in self._captures if (capture := reference()) is not None]
        return [capture for capture in known if not capture.internal]

    def throughput(
        self,
        source: Node,
        destination: Node | Interface,
        *,
        seconds: float = 1.0,
        protocol: Protocol = "tcp",
        rate: Quantity | None = None,
        omit: float = 0.0,
        timeout: float = 5.0,
    ) -> ThroughputResult:
        """Measure how fast data gets from one node to another, with a process of ours at each end. Truthy if any does.

        Args:
            source: who sends.
            destination: who receives: a node, or an interface of one, whose address is used then.
            seconds: how long to measure, 0.1 to 3600, from the first byte on, by the receiver's clock.
            protocol: ``"tcp"``: one connection; ``"udp"``: datagrams that fill frames of 1500 bytes.
            rate: how fast to send ``udp`` on the wire, in bit/s or tc's words (``"10mbit"``); None: as fast as it goes.
            omit: seconds at the beginning that are not counted: TCP starts slowly (RFC 5681).
            timeout: seconds to wait for the connection.

        Raises:
            TopologyError: no address in common, or a rate that is none.
            TypeError: the destination is an address: nobody could receive.
            ValueError: a number is out of range, or a rate was given for TCP.
        """
        from pytest_netns.probe.throughput import throughput

        self.check_node(source, "measure from")
        result = throughput(
            source, destination, seconds=seconds, protocol=protocol, rate=rate, omit=omit, timeout=timeout
        )
        if not result or result.stalled is not None:
            source.note_failure(result, "throughput")
        return result

    def loss(
        self,
        source: Node,
        destination: Node | Interface,
        *,
        count: int = 1000,
        size: int = 64,
        per_second: float = 2000.0,
        timeout: float = 5.0,
    ) -> LossResult:
        """Count what becomes of numbered UDP datagrams, one way. Truthy if all come.

        Args:
            source: who sends.
            destination: who receives: a node, or an interface of one.
            count: how many, 1 to 1,000,000.
            size: bytes of each, 16 to 65507.
            per_second: how many a second; more than the way can carry is lost too.
            timeout: seconds to wait for processes to start.

        Raises:
            TopologyError: no address in common.
            TypeError: the destination is an address: nobody could receive.
            ValueError: a number is out of range.
            NetnsError: the receiver was too slow, so the count proves nothing.
        """
        from pytest_netns.probe.throughput import loss

        self.check_node(source, "measure from")
        result = loss(source, destination, count=count, size=size, per_second=per_second, timeout=timeout)
        if not result:
            source.note_failure(result, "loss")
        return result

    def ping_all(self, *, timeout: float = 1.0) -> PingMatrix:
        """Every host and router pings every other. Falsy if any pair fails; prints as a table.

        All ask at once, or in groups in a lab of more than 16 nodes: the kernel's neighbour table is one for the whole
        machine (see ``Lab`` on ``neighbours``), and a group needs a quarter of it at most. The entries that the pings
        have made are removed afterwards; those that were there before stay. In groups, pairs whose ARP failed are asked
        once more, because a busy kernel drops packets of large broadcasts.

        Args:
            timeout: seconds to wait for replies, after the last request.

        Example:
            ``assert lab.ping_all()``
        """
        from pytest_netns.probe.matrix import ping_all

        self.check_open()
        nodes = [node for node in self if not node.closed]
        hosts = {node.name: node for node in nodes if isinstance(node, Host)}
        others = [node for node in nodes if node.name not in hosts]
        result = ping_all(list(hosts.values()), others, timeout=timeout, grouped=self.known_neighbours is None)
        if failed := result.failed:
            hosts[failed[0].source].note_failure(result, "ping_all")
        return result

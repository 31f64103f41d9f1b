"""Breakable: the faults that can be put upon a host. Each is told in a module of ``pytest_netns.faults``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.lab.nodes import Node

if TYPE_CHECKING:
    from pytest_netns.faults.block import Block
    from pytest_netns.faults.crash import Crash
    from pytest_netns.faults.freeze import Freeze
    from pytest_netns.topology.interface_lookup import DeviceOwner
    from pytest_netns.topology.routing import RouteTarget


class Breakable(Node):
    """A host that can fail."""

    def block(
        self,
        *,
        src: RouteTarget | None = None,
        dst: RouteTarget | None = None,
        protocol: str | int | None = None,
        port: int | None = None,
        reject: bool = False,
    ) -> Block:
        """Let no packet through that matches all that is given, whether it is received, sent or forwarded.

        Loopback is spared. Several blocks add up. Works on every host by nftables rules of its own, which other rules
        cannot overrule. A sender's own ``sendto`` is refused with EPERM where its own host drops the packet, as with
        any firewall.

        Args:
            src: where the packet comes from: a node, an interface, an address, a network, or a bridge (its subnets).
            dst: where it goes; likewise.
            protocol: ``"tcp"``, ``"udp"``, ``"sctp"``, ``"icmp"`` (of IPv6 too, neighbour discovery excepted), or the
                number of an IP protocol.
            port: destination port, 1 to 65535; of TCP and UDP if no protocol is given.
            reject: answer with a TCP reset or an ICMP error, instead of silence.

        Returns:
            The block: as a context manager it ends with its block; ``packets`` counts what it has stopped.

        Raises:
            TopologyError: a target without address, an unknown protocol, a port out of range or of a protocol without
                ports; or it has crashed.
            UnsupportedError: neither libnftables nor the nft program is installed.
        """
        from pytest_netns.faults.block import block

        self.lab.check_running(self, "block packets of")
        with uninterrupted:  # the rules, and the fault that knows of them
            return block(self.lab.faults, self, src, dst, protocol, port, reject)

    def unblock(self) -> None:
        """Undo every ``block`` of this host."""
        from pytest_netns.faults.block import Block

        for fault in reversed(list(self.lab.faults)):
            if isinstance(fault, Block) and fault.nodes == (self,):
                fault.undo()

    def freeze(self) -> Freeze:
        """Stop all its processes (SIGSTOP), daemons included. Its kernel goes on: pings and SYNs are answered.

        Processes of the test itself are not meant, nor are those started after it; called again it stops those too.
        Hosts that share one namespace freeze together, and thaw when none of them is frozen any more.

        Returns:
            The fault: as a context manager it ends with its block. Each call gives a new one, and when the last one
            ends, the processes go on.

        Raises:
            WaitTimeout: a process did not stop within 5 seconds.
            TopologyError: it has crashed.
        """
        from pytest_netns.faults.freeze import Freeze

        self.lab.check_running(self, "freeze")
        return Freeze(self.lab.faults, self)

    def thaw(self) -> None:
        """Undo every ``freeze`` of this host: its processes go on (SIGCONT). Nothing happens if they do."""
        from pytest_netns.faults.freeze import Freeze

        for fault in reversed(list(self.lab.faults)):
            if isinstance(fault, Freeze) and fault.nodes == (self,):
                fault.undo()

    @property
    def crashed(self) -> Crash | None:
        """The crash that has not been followed by a ``restart()``; None if it runs."""
        return cast("Crash", self._crash) if self.has_crashed else None

    def crash(self) -> Crash:
        """Everything of it is gone at once, as by a power cut: processes, sockets, connections, neighbours, rules.

        So are its devices (``add_...``), blocks and freezing, which are not undone by anybody any more.
        Others see the carrier of its links go, and then nothing: no reset, no farewell. Captures on it end. What runs
        in the test itself (``call``, ``with host:``) is left in the namespace that was.

        Until it is restarted nothing can run in it, and it gets no sockets, devices, links, blocks or freezing: each
        raises TopologyError.

        Returns:
            The fault: as a context manager it restarts the host at the end of its block.

        Raises:
            TopologyError: it has crashed already, was adopted, or shares its namespace.
        """
        from pytest_netns.faults.crash import Crash

        self.lab.check_node(self, "crash")
        return Crash(cast("DeviceOwner", self))

    def restart(self) -> None:
        """Boot after a crash: sysctls of its birth, links up, its addresses, the routes that were set, and NAT rules.

        Its processes are not started again, and what else was changed by hand is gone. Crashes first if it has not.
        """
        (self.crashed or self.crash()).undo()

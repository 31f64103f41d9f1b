"""BreakableLink: the faults that can be put upon a link."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytest_netns.clock import monotonic
from pytest_netns.errors import TopologyError
from pytest_netns.faults.mtu_overrides import Mtus
from pytest_netns.faults.schedule import pause_until
from pytest_netns.faults.segmentation import Framing
from pytest_netns.kernel.locks import Lock
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.cable import Cable
from pytest_netns.topology.fault import Fault

if TYPE_CHECKING:
    from pytest_netns.topology.network import Network


class BreakableLink(Cable):
    """A link that can fail."""

    lab: Network

    def __init__(self, lab: Network, a: Interface, b: Interface) -> None:
        super().__init__(lab, a, b)
        self._mtus = Mtus(self)
        self._framing = Framing(self)
        self._lock = Lock("cutting a link")  # a schedule cuts and mends in its thread
        self._cuts: list[Fault] = []

    def down(self) -> Fault:
        """Set both ends down, as if the cable were pulled. Addresses stay, and ``up()`` brings the routes back.

        Returns:
            The fault: as a context manager it ends with its block. The link comes up when the last fault of this kind
            has ended, or by ``up()``, which ends them all.

        Raises:
            TopologyError: the link was removed, or went with one of its nodes.
        """
        self._check_ends()
        with self._lock:
            self._set_down()
            cut = Fault(self.lab.faults, f"{self.a} -- {self.b} is down", lambda: self._mend(cut), [])
            self._cuts.append(cut)
            return cut

    def _set_down(self) -> None:
        for end, node in zip(self.interfaces, self.nodes, strict=True):
            with node.losses.noted():
                end.down()
            node.losses.give_back(routes=False)  # who was adopted may have lost addresses (keep_addr_on_down)

    def _mend(self, ended: Fault) -> None:
        with self._lock:
            self._cuts = [cut for cut in self._cuts if cut is not ended and cut.in_force]
            if not self._cuts and not self.is_gone:
                self.up()

    def up(self) -> None:
        """Set both ends up, wait for the carrier, and restore the routes that the kernel forgot at ``down()``.

        Every ``down()`` is over then. A route that was set anew since is left as it is. The end in a host that has
        crashed comes up when that is restarted, and the port of a bridge that was detached when it is attached again.

        Raises:
            TopologyError: the link was removed, or went with one of its nodes.
            WaitTimeout: no frame passes within 5 seconds.
        """
        self._check_ends()
        with self._lock:
            self._forget_cuts()
            with self.lab.faults.mending():
                for end, node in zip(self.interfaces, self.nodes, strict=True):
                    if not node.defer_up(end):
                        end.up()
                self.settle()
                for node in self.nodes:
                    node.losses.give_back()

    def _forget_cuts(self) -> None:
        for cut in self._cuts:
            cut.forget()
        self._cuts.clear()

    def flap(self, times: int = 1, period: float = 1.0) -> None:
        """Let the link go down and come up again, several times; returns when it is up for the last time.

        Where it is down already, by ``down()``, it stays so.

        To go on meanwhile: ``lab.schedule([(0, lambda: link.flap(3, 0.2))])``.

        Args:
            times: how often, 1 or more.
            period: seconds from one going down to the next; it is down for the first half.

        Raises:
            TopologyError: a number out of range, or the link was removed.
        """
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise TopologyError(f"{self!r}: flap(times={times!r}): expected a whole number from 1")
        if isinstance(period, bool) or not isinstance(period, int | float) or not 0 < period < float("inf"):
            raise TopologyError(f"{self!r}: flap(period={period!r}): expected seconds, more than 0")
        began = monotonic()
        for turn in range(times):
            with self.down():
                going_on = pause_until(began + (turn + 0.5) * period)
            if not going_on or not pause_until(began + (turn + 1) * period):
                return  # its schedule was cancelled, or the lab is being closed

    def set_mtu(self, mtu: int) -> Fault:
        """Change the mtu of both ends.

        Below 1280 bytes the kernel takes IPv6 away from them, with its addresses and routes (RFC 8200 section 5). They
        come back with an mtu that allows it.

        Args:
            mtu: bytes, 68 (RFC 791) to 65535.

        Returns:
            The fault: as a context manager it sets what was before at the end of its block.

        Raises:
            TopologyError: it is no such number, or the link was removed, or went with one of its nodes.
        """
        self.check_mtu(mtu)
        self._check_ends()
        with ExitStack() as undo:
            for end in self.interfaces:
                undo.callback(self.ask_mtu(end, mtu))
            mend = undo.pop_all()
        return Fault(self.lab.faults, f"the mtu of {self.a} -- {self.b} is {mtu}", mend.close, [])

    def ask_mtu(self, end: Interface, mtu: int) -> Callable[[], None]:
        """Change the mtu of one end; returns what takes that back. Raises KernelError."""
        return self._mtus.ask(end, mtu)

    def check_mtu(self, mtu: object) -> None:
        """Raise TopologyError unless this is an mtu that a veth can have (veth_setup() in drivers/net/veth.c)."""
        if isinstance(mtu, bool) or not isinstance(mtu, int) or not 68 <= mtu <= 65535:
            raise TopologyError(f"{self!r}: mtu={mtu!r}: expected bytes, a whole number from 68 to 65535")

    def ask_frames(self, end: Interface) -> Callable[[], None]:
        """Have TCP cut its data into frames before these leave an end; returns what ends that. Raises KernelError."""
        return self._framing.ask(end)

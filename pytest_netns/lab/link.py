"""Link: a veth between two nodes, and how one is made."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, Unpack

from pytest_netns.errors import KernelError, NetnsError, TopologyError
from pytest_netns.faults.fault import Fault
from pytest_netns.interface import Interface
from pytest_netns.kernel import rtnetlink
from pytest_netns.kernel.netlink import Request
from pytest_netns.kernel.rtnetlink import AddressWithPrefix, VethEnd
from pytest_netns.lab.mtus import Mtus
from pytest_netns.lab.node import Node
from pytest_netns.lab.restore import restore_routes, routes_through

if TYPE_CHECKING:
    from pytest_netns.capture.capture import Capture
    from pytest_netns.capture.pattern import Pattern
    from pytest_netns.impair.impairment import ActiveImpairment, Engine, Impairment
    from pytest_netns.impair.options import LinkImpairOptions
    from pytest_netns.lab.addressing import Segment
    from pytest_netns.lab.bridge import Bridge
    from pytest_netns.lab.lab import Lab
    from pytest_netns.units import Quantity


@dataclass(slots=True)
class End:
    """One end of a link that is to be made."""

    node: Node
    interface: str
    addresses: Sequence[AddressWithPrefix] = ()
    bridge: Bridge | None = None


class Link:
    """A veth between two nodes: what goes in at one end comes out at the other. Made by ``Lab.connect``.

    Attributes:
        lab: the lab that it is part of.
        a: the end in the node that was named first.
        b: the other end.
    """

    def __init__(
        self,
        lab: Lab,
        ends: tuple[Interface, Interface],
        segment: Segment,
        owned: bool,
        given: Sequence[AddressWithPrefix] = (),
    ) -> None:
        self.lab = lab
        self.a: Interface = ends[0]
        self.b: Interface = ends[1]
        self._given = list(given)
        self._segment = segment
        self._owns_segment = owned
        self._removed = False
        self._routes: dict[Interface, list[bytes]] = {}
        self._mtus = Mtus(self)
        self._cut: Fault | None = None

    def __repr__(self) -> str:
        if self._removed:
            return f"<Link {self.a} -- {self.b} removed>"
        there, back = (end.node.impairment_words(end) for end in self.interfaces)
        if there == back:
            shown = f", impaired: {there}" if there else ""
        else:
            shown = "".join(
                f", impaired toward {far}: {words}"
                for far, words in ((self.b.node.name, there), (self.a.node.name, back))
                if words
            )
        return f"<Link {self.a} -- {self.b}{shown}>"

    @property
    def removed(self) -> bool:
        """True after ``remove()``."""
        return self._removed

    @property
    def interfaces(self) -> tuple[Interface, Interface]:
        """Both ends."""
        return self.a, self.b

    def end(self, node: Node) -> Interface:
        """The end that is in a node. Raises TopologyError if neither is."""
        for interface in self.interfaces:
            if interface.node is node:
                return interface
        raise TopologyError(f"{self!r} has no end in {node.name!r}")

    def _check(self) -> None:
        if self._removed:
            raise TopologyError(f"{self!r}: it was removed; connect the nodes anew")

    @property
    def is_up(self) -> bool:
        """Whether it carries frames."""
        self._check()
        return self.a.is_up and self.b.is_up

    def down(self) -> Fault:
        """Set both ends down, as if the cable were pulled. Addresses stay, and ``up()`` brings the routes back.

        Returns:
            The fault: as a context manager it sets the link up again at the end of its block.
        """
        self._check()
        for end in self.interfaces:
            self._routes.setdefault(end, []).extend(routes_through(end))
        for end in self.interfaces:
            end.down()
        if self._cut is None or not self._cut.in_force:
            self._cut = Fault(self.lab.faults, f"{self.a} -- {self.b} is down", self._mend, [])
        return self._cut

    @property
    def is_gone(self) -> bool:
        """Whether it was removed, or went with the namespace of one of its ends."""
        return self._removed or any(end.node.closed for end in self.interfaces)

    def _mend(self) -> None:
        if not self.is_gone:
            self.up()

    def up(self) -> None:
        """Set both ends up, wait for the carrier, and restore the routes that the kernel forgot at ``down()``.

        A route that was set anew since is left as it is. The end in a host that has crashed comes up when that is
        restarted, and the port of a bridge that was detached when it is attached again.
        """
        self._check()
        if self._cut is not None:
            self._cut.forget()
        routes, self._routes = self._routes, {}
        ready = [end for end in self.interfaces if not _postponed(end, routes.get(end, []))]
        for end in ready:
            end.up()
        for end in ready if len(ready) == 2 else []:
            end.wait_up()
            end.wait_addresses()
        for end in ready:
            restore_routes(end.node, routes.get(end, []))

    def flap(self, times: int = 1, period: float = 1.0) -> None:
        """Let the link go down and come up again, several times; returns when it is up for the last time.

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
        began = time.monotonic()
        for turn in range(times):
            with self.down():
                _sleep_until(began + (turn + 0.5) * period)
            _sleep_until(began + (turn + 1) * period)

    def set_mtu(self, mtu: int) -> Fault:
        """Change the mtu of both ends, in bytes.

        Returns:
            The fault: as a context manager it sets what was before at the end of its block.

        Raises:
            TopologyError: it is no number of bytes, or the link was removed.
            KernelError: it is out of range.
        """
        self._check()
        with ExitStack() as undo:
            for end in self.interfaces:
                undo.callback(self.ask_mtu(end, mtu))
            mend = undo.pop_all()
        return Fault(self.lab.faults, f"the mtu of {self.a} -- {self.b} is {mtu}", mend.close, [])

    def ask_mtu(self, end: Interface, mtu: int) -> Callable[[], None]:
        """Change the mtu of one end; returns what takes that back. Raises KernelError, TopologyError."""
        if isinstance(mtu, bool) or not isinstance(mtu, int) or not 0 < mtu < 1 << 31:
            raise TopologyError(f"{self!r}: mtu={mtu!r}: expected bytes, a whole number")
        return self._mtus.ask(end, mtu)

    def black_hole(self, mtu: int) -> Fault:
        """Make it a path-MTU black hole (RFC 2923 2.1): packets of more than ``mtu`` bytes vanish without a word.

        The routers and bridges at its ends get that mtu, and routers say nothing about packets that are too big, on
        whichever interface. A host at one end goes on with the mtu that it has.

        Args:
            mtu: bytes; at least 68 for IPv4 and 1280 for IPv6 (RFC 791, RFC 8200).

        Returns:
            The fault: as a context manager it ends with its block.

        Raises:
            TopologyError: both ends are hosts, or the mtu is not smaller than what is there.
            UnsupportedError: neither libnftables nor the nft program is installed.
        """
        from pytest_netns.faults.black_hole import black_hole

        self._check()
        return black_hole(self, mtu)

    def other(self, end: Interface) -> Interface:
        """The end that is not this one."""
        return self.b if end == self.a else self.a

    def replace_end(self, before: Interface, after: Interface) -> None:
        """Called when the end ``before`` has come into another node, where it is ``after``."""
        if before == self.a:
            self.a = after
        else:
            self.b = after

    def belongs_to(self, segment: Segment) -> None:
        """Called when its addresses are of another segment now."""
        self._segment = segment
        self._given = []

    # ------------------------------------------------------------ impairments

    def impair(
        self,
        impairment: Impairment | None = None,
        *,
        delay: Quantity | None = None,
        jitter: Quantity | None = None,
        loss: Quantity | None = None,
        rate: Quantity | None = None,
        reorder: Quantity | None = None,
        duplicate: Quantity | None = None,
        corrupt: Quantity | None = None,
        toward: Node | Interface | None = None,
        seed: int | None = None,
        engine: Engine | None = None,
    ) -> None:
        """Impair what it carries, from now on and instead of what was set before. All values are for one way.

        ``link.impair(delay="20ms")`` adds 40 ms to a ping.

        Args:
            impairment: a preset, or any other value; what else is given replaces its attributes.
            delay: seconds, or text such as ``"20ms"``: one way. The meaning of this and the following is told by
                ``Impairment``.
            jitter: seconds, or text.
            loss: a fraction, or text such as ``"1%"``.
            rate: bit/s, or text such as ``"10mbit"``.
            reorder: a fraction, or text.
            duplicate: a fraction, or text.
            corrupt: a fraction, or text.
            toward: the end to which the frames go that are impaired, a node or an interface; None: both directions.
            seed: makes chance repeatable: the same frames have the same fate. Frames that hosts send unasked (ARP,
                neighbour discovery, multicast) draw from random numbers of their own, but with netem.
                Each direction has random numbers of its own.
            engine: ``"netem"`` (the kernel), ``"tbf"`` (the kernel, for a rate alone), ``"relay"`` (a process of ours),
                or ``"auto"``: the first of these that is there and can do it. None: as the lab was told.

        Raises:
            TopologyError: nothing, or a bad value, was given; ``toward`` is no end of the link; it was removed.
            UnsupportedError: the engine is lacking here, or cannot do that.
            KernelError: the kernel refused.
            ProcessDied: the relay is dead.
        """
        from pytest_netns.impair.request import requested, restored_on_error

        self._check()
        values = requested(
            impairment,
            repr(self),
            delay=delay,
            jitter=jitter,
            loss=loss,
            rate=rate,
            reorder=reorder,
            duplicate=duplicate,
            corrupt=corrupt,
        )
        senders = self._senders(toward)
        with restored_on_error(senders):
            for end in senders:
                end.node.impairments.apply(end, values, seed, engine)

    def heal(self, *, toward: Node | Interface | None = None) -> None:
        """Impair nothing any more; frames under way still arrive, each at its time. Allowed if nothing is impaired.

        Args:
            toward: heal that direction alone.

        Raises:
            TopologyError: ``toward`` is no end of it, or it was removed.
            KernelError: the kernel refused.
        """
        self._check()
        for end in self._senders(toward):
            end.heal()

    @contextmanager
    def impaired(self, impairment: Impairment | None = None, **options: Unpack[LinkImpairOptions]) -> Iterator[Self]:
        """Impair what it carries for the duration of a ``with`` block; then what was before it is in force again.

        Args:
            impairment: a preset, or any other value; what else is given replaces its attributes.
            options: the keywords of ``impair``: ``delay``, ``jitter``, ``loss``, ``rate``, ``reorder``, ``duplicate``,
                ``corrupt``, ``toward``, ``seed``, ``engine``.

        Returns:
            A context manager, which gives the link.

        Raises:
            TopologyError: nothing, or a bad value, was given; ``toward`` is no end of the link; it was removed.
            UnsupportedError: the engine is lacking here, or cannot do that.
            KernelError: the kernel refused.
            ProcessDied: the relay is dead.
        """
        from pytest_netns.impair.request import restored

        self._check()
        with restored(self._senders(options.get("toward"))):
            self.impair(impairment, **options)
            yield self

    @property
    def impairment(self) -> ActiveImpairment | None:
        """What is in force in both directions, read back; None if nothing is. The counters are those of both together.

        Raises:
            TopologyError: the directions differ: ask the end that sends, ``link.a.impairment`` or
                ``link.b.impairment``.
        """
        from pytest_netns.impair.request import of_both

        self._check()
        return of_both(self)

    def _senders(self, toward: Node | Interface | None) -> list[Interface]:
        """The ends whose frames go that way."""
        if toward is None:
            return list(self.interfaces)
        for end, other in (self.interfaces, (self.b, self.a)):
            if toward is end.node or toward == end:
                return [other]
        shown = getattr(toward, "name", toward)
        raise TopologyError(
            f"{self!r}: toward={shown!r} is none of its ends; they are {self.a.node.name!r} and {self.b.node.name!r}"
            f"{'; give the node, not its name' if isinstance(toward, str) else ''}"
        )

    # --------------------------------------------------------------- captures

    def capture(
        self,
        filter: str | Pattern | None = None,
        *,
        chatter: bool = False,
    ) -> Capture:
        """Capture the frames on this link, both directions, each once; use it in a ``with`` statement.

        Args:
            filter: which frames: text in the words of pcap-filter(7) (applied by the kernel), a scapy packet (compared
                in the fields that were set), a scapy layer class, or a function of a packet.
            chatter: keep neighbour discovery, MLD and IGMP, which hosts do unasked.

        Raises:
            TopologyError: the link was removed.
            TypeError, ValueError: no such filter.
            UnsupportedError: the filter is text, and libpcap is not installed.
        """
        from pytest_netns.capture.capture import Capture

        self._check()
        capture = Capture(f"{self.a}--{self.b}", lambda: [(self.a.node, self.a.name)], filter, chatter)
        self.lab.note_capture(capture)
        return capture

    def remove(self) -> None:
        """Delete both ends: removing one removes the other. Takes some 15 ms (an RCU grace period)."""
        self._check()
        self.lab.check_open()
        alive = [end for end in self.interfaces if not end.node.closed]
        for end in alive:
            end.node.impairments.forget(end)
        addresses = [*self._given, *(address for end in alive for address in end.addresses)]
        for end in alive[:1]:
            try:
                end.node.rtnl.batch([rtnetlink.link_delete(end.index, end.name)])
            except KernelError as error:
                if error.errno != errno.ENODEV:  # deleted by hand, or with the other end: what is left to do is ours
                    raise
        self._removed = True
        if self._cut is not None:
            self._cut.forget()
        self._segment.release(addresses)
        if self._owns_segment:
            self.lab.plan.free(self._segment.networks)
        self.lab.forget(self)


def _postponed(end: Interface, routes: list[bytes]) -> bool:
    """Whether its node sets it up later, with its routes."""
    return isinstance(end.node, Node) and end.node.postpone(end, routes)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def make_veth(lab: Lab, a: End, b: End, mtu: int | None) -> tuple[Interface, Interface]:
    """Make a veth straight inside two namespaces, addressed, and return when the first packet gets through.

    On failure nothing is left of it.
    """
    # Explicit indexes spare the look-ups. They start high: some kernel modules put devices of their own into every
    # new namespace, at 2 and above.
    ends = [Interface(end.node, end.interface, end.node.slots.next_index()) for end in (a, b)]
    macs = [lab.mac_for(end.node.name, end.interface) for end in (a, b)]
    near = [
        rtnetlink.veth(
            VethEnd(a.interface, ends[0].index, macs[0]),
            VethEnd(b.interface, ends[1].index, macs[1]),
            b.node.fd,
            mtu,
            up=a.bridge is None,
        ),
        *_configure(a, ends[0], created_up=True),
    ]
    with ExitStack() as undo:
        undo.callback(_delete_quietly, ends[0])
        a.node.rtnl.batch(near)
        b.node.rtnl.batch(_configure(b, ends[1], created_up=False))
        for end, interface in zip((a, b), ends, strict=True):
            # A spanning tree takes many seconds: who has asked for one awaits it by Bridge.wait_converged().
            interface.wait_up(port=end.bridge is not None and not end.bridge.settings.stp)
            # A link-local address alone is awaited only where there is no other to use.
            if end.bridge is None and (not end.addresses or any(each.version == 6 for each in end.addresses)):
                interface.wait_addresses()
        undo.pop_all()
    return ends[0], ends[1]


def _configure(end: End, interface: Interface, created_up: bool) -> list[Request]:
    requests = []
    if end.bridge is not None:
        device = end.bridge.device
        requests += rtnetlink.port_up(interface.index, interface.name, device.index, device.name)
    elif not created_up:
        requests.append(rtnetlink.link_up(interface.index, interface.name))
    requests += [rtnetlink.address_add(interface.index, interface.name, address) for address in end.addresses]
    return requests


def _delete_quietly(interface: Interface) -> None:
    try:
        interface.node.rtnl.batch([rtnetlink.link_delete(interface.index, interface.name)])
    except NetnsError:
        pass  # it was never made: the error that led here says why

"""Observation: a probe that failed, sent again while the whole lab is watched. What all checks look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_address
from socket import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP

from pytest_netns.addresses import Address
from pytest_netns.capture.frame import Frame
from pytest_netns.errors import NetnsError
from pytest_netns.explain.look.counters import Growth
from pytest_netns.explain.look.drop_reasons import DropReason
from pytest_netns.explain.look.encapsulation import carrier_of
from pytest_netns.explain.look.route_lookup import alternatives
from pytest_netns.explain.nft_trace.rule_trace import RuleTrace
from pytest_netns.explain.nft_trace.verdicts import Drop, Stage
from pytest_netns.explain.observation.observed_packets import ObservedPacket, Role, first_of, last_of
from pytest_netns.explain.questions import Question
from pytest_netns.explain.target_node import arrival
from pytest_netns.explain.way.flow import Flow, Walk
from pytest_netns.explain.way.impairments import Condition, conditions
from pytest_netns.explain.way.on_link import has_address, reach
from pytest_netns.explain.way.walk import walk
from pytest_netns.kernel.netlink.neighbour_table import NeighbourTable
from pytest_netns.kernel.netlink.tables import Route, mac_text
from pytest_netns.lab.lab import Lab
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.icmp import ProbeError
from pytest_netns.stack.interface import Interface

#: Bytes of the headers around the payload, by kind of probe and version of IP.
_HEADERS = {("ping", 4): 28, ("ping", 6): 48, ("tcp", 4): 60, ("tcp", 6): 80, ("udp", 4): 28, ("udp", 6): 48}

#: What a rule may have dropped; all else are the searches for the next hop, and packets of tunnels.
OF_THE_PROBE = ("the request", "the reply")


@dataclass(frozen=True)
class Observation:
    """What was seen when a probe was sent again.

    Attributes:
        lab: where.
        question: the probe.
        answered: whether it succeeded this time.
        seen: its packets, wherever they passed an interface, in the order of time.
        trace: what the nftables rules of all nodes did to them.
        drawing: the conversation as a sequence diagram.
        frames: all frames of the lab meanwhile.
        error: the ICMP error that the probe has brought back, or what its own kernel said; None if neither.
        grown: the counters of trouble that have grown meanwhile, by node.
        names: what captures call the namespaces, by inode: nodes that share one have one name.
        table: how full the kernel's neighbour table was then; None if it could not be asked.
        refusals: how many entries it had no room for meanwhile, those of others on this machine included.
        reasons: the kernel's own for dropping packets of the probe; empty where they cannot be had.
    """

    lab: Lab
    question: Question
    answered: bool
    seen: list[ObservedPacket]
    trace: RuleTrace
    drawing: str
    frames: list[Frame] = field(default_factory=list)
    error: ProbeError | None = None
    grown: Mapping[str, list[Growth]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    table: NeighbourTable | None = None
    refusals: int = 0
    reasons: Sequence[DropReason] = ()

    # ---------------------------------------------------------- on the wire

    def of_role(self, role: Role) -> list[ObservedPacket]:
        """The packets of one role: requests, replies, or ICMP errors about them."""
        return [each for each in self.seen if each.role == role]

    @cached_property
    def source(self) -> Address | None:
        """The address that the probe was sent from; None if the node has none."""
        kind = type(self.question.address)
        for each in self.of_role("request"):
            return kind(each.source)
        own = self.question.node.addresses()
        return next((a.ip for a in own if a.version == self.question.address.version), None)

    @cached_property
    def observed(self) -> str:
        """In words: how far request, reply and errors came."""
        if not self.seen:
            return f"nothing left {self.question.node.name!r} for {self.question.address}"
        parts = []
        for role in ("request", "reply", "error"):
            of_role = self.of_role(role)
            if of_role:
                first, last = first_of(of_role), last_of(of_role)
                way = "left" if last.frame.outgoing else "arrived at"
                if first is last:
                    parts.append(str(first))
                else:
                    start = f"the {role} left {first.frame.place}"
                    parts.append(f"{start} and was last seen when it {way} {last.frame.place}")
        if not self.of_role("reply"):
            parts.append("no reply was seen anywhere")
        return "; ".join(parts)

    @cached_property
    def last_seen(self) -> ObservedPacket | None:
        """How far the request came; None if it did not leave its node."""
        requests = self.of_role("request")
        return last_of(requests) if requests else None

    @cached_property
    def reached(self) -> list[str]:
        """The nodes that the request was seen at, in order."""
        return list(dict.fromkeys(each.frame.node for each in self.of_role("request")))

    def name_of(self, node: Node) -> str:
        """What captures call a node."""
        return self.names.get(node.inode, node.name)

    def node_of(self, seen: ObservedPacket) -> Node | None:
        """The node at which a packet was seen."""
        return next((node for node in self.lab if not node.closed and self.name_of(node) == seen.frame.node), None)

    def passed(self, role: Role, interface: Interface, outgoing: bool) -> list[ObservedPacket]:
        """The packets of one role that passed an interface."""
        name = self.names.get(interface.node.inode, interface.node.name)
        return [
            each
            for each in self.of_role(role)
            if (each.frame.node, each.frame.interface, each.frame.outgoing) == (name, interface.name, outgoing)
        ]

    @cached_property
    def stuck(self) -> tuple[Role, Node, Interface] | None:
        """Where the request, or else the reply, came in and neither went on nor was taken; None if that is nowhere.

        A request that its target has answered was taken; one that the target has not is stuck there.
        """
        for role, end in (("reply", self.question.node), ("request", None)):
            of_role = self.of_role(role)  # type: ignore[arg-type]
            if not of_role:
                continue
            last = last_of(of_role)
            node = self.node_of(last)
            if last.frame.outgoing or node is None:
                return None
            if role == "reply" and end is not None and node.inode == end.inode and self.answered:
                return None
            place = node.interfaces.get(last.frame.interface)
            return None if place is None else (role, node, place)  # type: ignore[return-value]
        return None

    def stages(self, node: Node, role: Role) -> list[Stage]:
        """The steps of a node's netfilter hooks that a request, or a reply, has passed."""
        found = []
        for stage in self.trace.stages:
            packet = stage.before
            if stage.node.inode != node.inode or packet.neighbour or packet.source is None:
                continue
            for each in self.of_role(role):
                if (packet.source.packed, packet.destination_bytes) == (each.source, each.destination):
                    found.append(stage)
                    break
        return found

    def ask_again(self, timeout: float) -> object:
        """Send the probe once more, unobserved; None if it could not be sent."""
        try:
            return self.question.again(timeout)
        except NetnsError:
            return None

    # ------------------------------------------------------------- by rules

    @property
    def dropped(self) -> tuple[Drop, str] | None:
        """Which rule, of which node, dropped the request or the reply, and which of the two; None if no rule did."""
        return next(((drop, what) for drop, what in self.drops if what in OF_THE_PROBE), None)

    @cached_property
    def drops(self) -> list[tuple[Drop, str]]:
        """Which node's which rule dropped what belongs to the probe: ``the request``, ``the reply``, ``ARP``, ...

        Others are dropped for other reasons.
        """
        asked = {self.question.address, *(ip_address(each.destination) for each in self.of_role("request"))}
        asking = {ip_address(each.source) for each in self.of_role("request")}
        ports = {0}
        if self.question.port:
            ports = {self.question.port, *(port for each in self.seen for port in each.ports)}
        found = []
        for drop in self.trace.drops:
            packet = drop.packet
            if packet is None:
                found.append((drop, "the request"))
            elif packet.neighbour:
                found.append((drop, "ARP" if packet.source is None else "neighbour discovery"))
            elif (
                packet.protocol == self.protocol and not ports.isdisjoint(packet.ports) and packet.destination in asked
            ):
                found.append((drop, "the request"))
            elif (device := carrier_of(self.lab, packet)) is not None:
                # Other hosts send by tunnels too, unasked; the far end of this one does so for the probe if it replied.
                if self.of_role("reply") or any(device is each for each, _ in self.there.carriers):
                    found.append((drop, f"what {device} carries"))
            elif ports.isdisjoint(packet.ports):
                continue
            elif packet.destination in asked:
                found.append((drop, "the request"))
            elif packet.source in asked and packet.destination in asking:
                found.append((drop, "the reply"))
        return found

    # ------------------------------------------------------------ by tables

    @cached_property
    def there(self) -> Walk:
        """The way of the request by the tables of the nodes."""
        question = self.question
        ports = (self._source_port, question.port)
        flow = Flow(self.source, question.address, self._size, question.ttl, question.df, self.protocol, ports)
        return walk(self.lab, question.node, flow, self._translated, taken=self._taken)

    @cached_property
    def target(self) -> Node | None:
        """Where the request ends: by what was seen, which knows of address translation, or else by the tables."""
        requests = self.of_role("request")
        if requests and not requests[-1].frame.outgoing:
            node = next((node for node in self.lab if node.name == requests[-1].frame.node), None)
            if node is not None and has_address(node, ip_address(requests[-1].destination)):
                return node
        return self.there.arrived

    @cached_property
    def back(self) -> Walk | None:
        """The way of the reply by the tables; None if the request does not get to anybody."""
        if self.target is None or self.source is None:
            return None
        arrived = arrival(self.seen, self.target)
        reply_to, reply_from = self.source, self.question.address
        ports = (self.question.port, self._source_port)
        if arrived is not None:  # as address translation has left it
            reply_to, reply_from = ip_address(arrived.source), ip_address(arrived.destination)
            ports = arrived.ports[1], arrived.ports[0]
        back = walk(
            self.lab,
            self.target,
            Flow(reply_from, reply_to, self._size, protocol=self.protocol, ports=ports, bound=True),
            taken=self._taken,
        )
        if back.fault is not None or back.arrived is None or back.arrived.inode == self.question.node.inode:
            return back
        # Whoever stood in as source sends it on to the real one.
        rest = walk(self.lab, back.arrived, Flow(self.question.address, self.source, self._size))
        rest.nodes[:1] = back.nodes
        rest.evidence[:0] = back.evidence
        rest.hops[:0] = back.hops
        return rest

    @cached_property
    def impaired_there(self) -> list[Condition]:
        """The impairments that the request passes."""
        return conditions(self.lab, self.there)

    @cached_property
    def impaired(self) -> list[Condition]:
        """Those that the request or the reply passes."""
        return conditions(self.lab, self.there, self.back) if self.back is not None else self.impaired_there

    @property
    def protocol(self) -> int:
        """The number of the probe's IP protocol."""
        return number_of(self.question)

    @property
    def _source_port(self) -> int:
        return next((each.ports[0] for each in self.of_role("request")), 0)

    @property
    def _size(self) -> int:
        return self.question.size + _HEADERS[self.question.kind, self.question.address.version]

    def _taken(self, node: Node, destination: Address, route: Route) -> Route:
        """The next hop that a packet of the probe was seen to go to, where a node has several that are as good."""
        left = {
            (each.frame.interface, mac_text(each.frame.data[:6]) if each.frame.ethernet else "")
            for each in self.seen
            if each.frame.outgoing and each.frame.node == self.name_of(node) and each.destination == destination.packed
        }
        for other in alternatives(node, destination, route) if left else ():
            out = node.interfaces.get(other.interface or "")
            if out is None:
                continue
            owners = reach(self.lab, out).owners(other.gateway or destination)
            if any((out.name, mac) in left for mac in ("", *(owner.mac for owner in owners))):
                return other
        return route

    def _translated(self, node: Node, flow: Flow) -> Flow:
        """What a node makes of the addresses of a packet, by what its rules were seen to do."""
        found = self._redirected(node, flow)
        for before, after in self.trace.sent_on.get(node.inode, ()):
            if (before.source, before.destination) == (flow.source, flow.destination) and after.destination is not None:
                return replace(flow, source=after.source, destination=after.destination)
        return found

    def _redirected(self, node: Node, flow: Flow) -> Flow:
        """The same before routing: what does not go on is seen there only."""
        for stage in self.trace.stages:
            before, after = stage.before, stage.packet
            same = (before.source, before.destination) == (flow.source, flow.destination)
            if stage.node.inode == node.inode and stage.name == "prerouted" and same and after.destination is not None:
                return replace(flow, destination=after.destination)
        return flow


def number_of(question: Question) -> int:
    """The number of a probe's IP protocol."""
    if question.kind == "ping":
        return IPPROTO_ICMP if question.address.version == 4 else IPPROTO_ICMPV6
    return IPPROTO_TCP if question.kind == "tcp" else IPPROTO_UDP

"""The target has a socket that does not accept the packet: bound to a device, connected to a peer, or not read."""

from __future__ import annotations

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.socket_states import SocketState, is_stopped, sockets
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observed_packets import ObservedPacket
from pytest_netns.explain.target_node import arrival
from pytest_netns.lab.nodes import Node

#: Timeout in seconds when the probe is sent once more.
_PATIENCE = 0.1


def takes_others(observation: Observation) -> Diagnosis | None:
    """It is bound to another device, or connected to another peer."""
    target, arrived = observation.target, _arrived(observation)
    if target is None or arrived is None:
        return None
    kind, port = observation.question.kind, arrived.ports[1]
    found = _on_port(observation, target, port)
    place = target.interfaces.get(arrived.frame.interface)
    index = place.index if place is not None else 0
    waiting = [each for each in found if each.waits]
    if waiting and all(each.device not in (0, index) for each in waiting):
        name = next((i.name for i in target.interfaces.values() if i.index == waiting[0].device), "?")
        came = place.name if place is not None else "elsewhere"
        return Diagnosis(
            f"the server on {kind} port {port} of {target.name!r} is bound to the device {name!r} "
            f"(SO_BINDTODEVICE), and the request comes in at {came!r}",
            target.name,
            [f"{target.name}: ss: {each}" for each in waiting],
        )
    peers = [each.peer for each in found if each.peer is not None]
    if (
        kind != "udp"
        or waiting
        or not peers
        or any((peer[0].packed, peer[1]) == (arrived.source, arrived.ports[0]) for peer in peers)
    ):
        return None
    shown = ", ".join(f"{peer[0]} port {peer[1]}" for peer in peers)
    return Diagnosis(
        f"the socket on udp port {port} of {target.name!r} is connected to {shown}: it takes datagrams only from there",
        target.name,
        [f"{target.name}: ss: {each}" for each in found],
    )


def drops(observation: Observation) -> Diagnosis | None:
    """Its drop counter: the probe is sent once more, the counter grows, and the receive queue is not full."""
    target, arrived = observation.target, _arrived(observation)
    if target is None or arrived is None or observation.of_role("reply"):
        return None
    kind, port = observation.question.kind, arrived.ports[1]
    before = {each.inode: each.dropped for each in _on_port(observation, target, port)}
    if not any(before.values()):
        return None
    observation.ask_again(_PATIENCE)
    for each in _on_port(observation, target, port):
        if each.dropped > before.get(each.inode, each.dropped):
            return Diagnosis(
                f"the socket on {kind} port {port} of {target.name!r} drops what comes in, by a filter of its own "
                "(SO_ATTACH_FILTER, SO_ATTACH_BPF)",
                target.name,
                [f"{target.name}: ss -m: drops of {each} grew from {before[each.inode]} to {each.dropped}"],
            )
    return None


def is_not_read(observation: Observation) -> Diagnosis | None:
    """Its process is stopped, or does not read the receive queue."""
    target, arrived = observation.target, _arrived(observation)
    if target is None or arrived is None or observation.of_role("reply"):
        return None
    kind, port = observation.question.kind, arrived.ports[1]
    waiting = [each for each in _on_port(observation, target, port) if each.waits]
    for each in waiting:
        for pid, name in each.owners(target):
            if is_stopped(pid):
                return Diagnosis(
                    f"the process {name!r} ({pid}) of {target.name!r} that has {kind} port {port} is stopped "
                    "(SIGSTOP, a "
                    "debugger)",
                    target.name,
                    [f"{target.name}: /proc/{pid}/status: State: T (stopped)"],
                    cures=[f"os.kill({pid}, signal.SIGCONT)"],
                )
    unread = next((each for each in waiting if each.queued), None)
    if unread is None or kind != "udp":
        return None
    return Diagnosis(
        f"the datagram arrives at {target.name!r}, and the server on udp port {port} does not read: {unread.queued} "
        "bytes wait in its receive queue",
        target.name,
        [f"{target.name}: ss: {each}" for each in waiting],
    )


def _arrived(observation: Observation) -> ObservedPacket | None:
    target = observation.target
    if observation.answered or target is None or observation.question.kind == "ping":
        return None
    return arrival(observation.seen, target)


def _on_port(observation: Observation, target: Node, port: int) -> list[SocketState]:
    found = sockets(target, observation.question.kind, observation.question.address.version)
    return [each for each in found if each.port == port]

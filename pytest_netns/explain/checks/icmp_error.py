"""The probe received an ICMP error, or the sender's kernel refused to send."""

from __future__ import annotations

import errno

from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.topology.network import names_of, network_of

_NO_PORT = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


def of_the_own_kernel(observation: Observation) -> Diagnosis | None:
    """The sender's kernel refuses to send."""
    error, node = observation.error, observation.question.node
    if observation.answered or error is None or error.sender is not None or not error.errno:
        return None
    if error.errno in _NO_PORT and observation.question.kind != "ping":
        name = "net.ipv4.ip_local_port_range"
        ports = node.sysctl.get(name) or "unknown"
        return Diagnosis(
            f"{node.name!r} has no local port left for {observation.question.address} port "
            f"{observation.question.port}: "
            f"{name} is {' to '.join(ports.split())} ({error})",
            node.name,
            [f"{node.name}: sysctl {name} = {ports}"],
            cures=[f'{node.name}.sysctl["{name}"] = "32768 60999"'],
        )
    if observation.seen:
        return None
    return Diagnosis(
        f"the kernel of {node.name!r} refuses to send to {observation.question.address}: {error}", node.name
    )


def from_elsewhere(observation: Observation) -> Diagnosis | None:
    """A node on the path sent an ICMP error."""
    error = observation.error
    if observation.answered or error is None or error.sender is None:
        return None
    sender = names_of(network_of(observation.question.node)).get(error.sender)
    who = repr(sender) if sender is not None else str(error.sender)
    return Diagnosis(f"{who} answers with an ICMP error: {error}", sender)

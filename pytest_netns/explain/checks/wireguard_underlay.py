"""WireGuard's outer packets do not reach the peer. That shows as silence only, as handshakes are retried rarely."""

from __future__ import annotations

from pytest_netns.addresses import Address
from pytest_netns.devices.wireguard import WireGuard
from pytest_netns.errors import NetnsError
from pytest_netns.explain.checks import iptables_legacy, link_layer, next_hop, nft_drop, tc_filter
from pytest_netns.explain.diagnosis import Diagnosis
from pytest_netns.explain.look.encapsulation import endpoint_for
from pytest_netns.explain.observation.observation import Observation
from pytest_netns.explain.observation.observe import observe
from pytest_netns.explain.questions import Question
from pytest_netns.lab.nodes import Node
from pytest_netns.probe.udp import udp

_CHECKS = (nft_drop.of_the_probe, iptables_legacy.check, next_hop.check, link_layer.check, tc_filter.check)


def check(observation: Observation) -> Diagnosis | None:
    """A datagram to the peer's endpoint, from the node whose WireGuard device the request was last seen to enter."""
    if observation.answered or len(observation.reached) > 1:
        return None
    for device, outer in observation.there.carriers:
        if not isinstance(device, WireGuard) or not isinstance(device.node, Node) or outer is None:
            continue
        endpoint = endpoint_for(device, observation.question.address)
        if endpoint is None or outer.fault is not None:
            continue
        seen = observe(observation.lab, _datagram(device.node, *endpoint))
        for each in _CHECKS:
            if (found := each(seen)) is not None:
                return Diagnosis(
                    f"{device} (wireguard) leads to {endpoint[0]} port {endpoint[1]}, and a datagram from "
                    f"{device.node.name!r} "
                    f"does not get there: {found.cause}",
                    found.node,
                    found.evidence,
                    found.cures,
                )
    return None


def _datagram(node: Node, address: Address, port: int) -> Question:
    def again(timeout: float) -> object:
        try:
            return udp(node, address, port, bytes(1), timeout=timeout)
        except NetnsError:
            return None

    return Question(node, address, "udp", again, port=port)

"""What happens in a network, for ``Events`` of its lab."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_netns.errors import NetnsError
from pytest_netns.events import Event
from pytest_netns.kernel.netlink.neighbour_table import refusal_log
from pytest_netns.topology.cable import Cable
from pytest_netns.topology.failure import Failure, callers
from pytest_netns.topology.network import Network, network_of
from pytest_netns.topology.node import BaseNode


@dataclass(frozen=True, slots=True)
class NodeAdded(Event):
    """A node was made; it has no links yet."""

    node: BaseNode


@dataclass(frozen=True, slots=True)
class LinkAdded(Event):
    """Two nodes were joined."""

    link: Cable


@dataclass(frozen=True, slots=True)
class LinkRemoved(Event):
    """A link was removed."""

    link: Cable


@dataclass(frozen=True, slots=True)
class DeviceAdded(Event):
    """A node was given a device."""

    node: BaseNode
    device: object


@dataclass(frozen=True, slots=True)
class DeviceRemoved(Event):
    """A device was removed, or went with its node."""

    node: BaseNode
    device: object


@dataclass(frozen=True, slots=True)
class ProbeFailed(Event):
    """A probe came back with a result that is falsy, or was a trace, which may have gone the wrong way."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class CaptureOpened(Event):
    """Somebody begins to capture."""

    network: Network
    capture: object


@dataclass(frozen=True, slots=True)
class LabFailing(Event):
    """An exception passes through the ``with`` statement of a lab, which is still as it was."""

    network: Network
    error: BaseException


@dataclass(frozen=True, slots=True)
class LabClosing(Event):
    """A lab is about to close."""

    network: Network


def probe_failed(node: BaseNode, result: object, question: str, *details: object) -> None:
    """Keep a falsy result, or a trace, should somebody want to know why.

    Args:
        node: who asked.
        result: what came of it.
        question: which method of a node, or of a lab, asked.
        details: what else it takes to ask again.
    """
    try:
        crowded = refusal_log.crowded(node.rtnl)
    except NetnsError:  # it was closed meanwhile
        crowded = {}
    network = network_of(node)
    failure = Failure(node, result, question, details, network._in_force(), crowded, called=callers())
    network.events.publish(ProbeFailed, failure)

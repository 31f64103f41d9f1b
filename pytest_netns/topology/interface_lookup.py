"""Interface lookup: which interface of a node is meant."""

from __future__ import annotations

from pytest_netns.errors import TopologyError
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.network import cables_of, network_of
from pytest_netns.topology.node import BaseNode


def own_interface(node: BaseNode, which: str | Interface | BaseNode | None, purpose: str) -> Interface:
    """An interface of this host.

    Args:
        which: a name, the interface itself, the node that it leads to, or None for the first one.
        purpose: what it is for, in words for a message.

    Raises:
        TopologyError: there is none.
    """
    if which is None:
        return node._primary
    if isinstance(which, str):
        try:
            return node.interface(which)
        except TopologyError as error:
            raise TopologyError(f"{purpose}: {error}") from None
    if isinstance(which, Interface):
        if which.node is not node:
            raise TopologyError(f"{purpose}: {which!r} is not an interface of {node.name!r}")
        return which
    if isinstance(which, BaseNode):
        for link in cables_of(node):
            if which in (link.a.node, link.b.node) and which is not node:
                return link.end(node)
        raise TopologyError(f"{purpose}: {node.name!r} has no link to {which.name!r}")
    raise TopologyError(f"{purpose}: {which!r} is no interface; expected a name, an interface or a node")


def lower_interface(node: BaseNode, which: str | Interface | BaseNode | None, purpose: str) -> Interface:
    """What a device lies upon: an interface of this host, or of another host of the lab.

    Args:
        which: as of ``own_interface``.
        purpose: what it is for, in words for a message.

    Raises:
        TopologyError: there is none, or it is of another lab.
    """
    if isinstance(which, Interface) and which.node is not node:
        network_of(node)._check_node(which.node, f"lay {purpose} upon")
        return which
    return own_interface(node, which, purpose)

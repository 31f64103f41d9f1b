"""Interface lookup: which interface of a node is meant."""

from __future__ import annotations

from pytest_netns.errors import TopologyError
from pytest_netns.stack import views
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.network import cables_of, network_of
from pytest_netns.topology.node import BaseNode


def own_interface(node: BaseNode, which: str | Interface | BaseNode | None, purpose: str) -> Interface:
    """As ``named_interface``; None for the first one."""
    return node._primary if which is None else named_interface(node, which, purpose)


def named_interface(node: BaseNode, which: str | Interface | BaseNode, purpose: str) -> Interface:
    """An interface of this host.

    Args:
        which: a name, the interface itself, or the node that it leads to.
        purpose: what it is for, in words for a message.

    Raises:
        TopologyError: there is none.
    """
    if isinstance(which, str | Interface):
        try:
            return views.own_interface(node, which)
        except TopologyError as error:
            raise TopologyError(f"{purpose}: {error}") from None
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

"""Groups: by which interface a question to a multicast group, or to all, goes out."""

from __future__ import annotations

from pytest_netns.addresses import Address
from pytest_netns.errors import KernelError, TopologyError
from pytest_netns.stack.source import Origin


def group_interface(bound: Origin, address: Address) -> int:
    """Index of the interface for a multicast group; 0 leaves it to the routes.

    A host needs no route to a group on the only link that it has.

    Raises:
        TopologyError: there are several, and no route.
    """
    node = bound.node
    if bound.interface is not None:
        return bound.interface.index
    interfaces = {name: each for name, each in node.interfaces.items() if name != "lo"}
    if bound.address is not None:
        having = [each for each in interfaces.values() if any(a.ip == bound.address for a in each.addresses)]
        return having[0].index if len(having) == 1 else 0
    if len(interfaces) == 1:
        return next(iter(interfaces.values())).index
    try:
        node.route_to(address)
    except KernelError:
        raise TopologyError(
            f"{address} is a group, and {node.name!r} has {len(interfaces)} interfaces and no route for it; say which "
            f"interface is meant: source={next(iter(interfaces), 'eth0')!r}"
        ) from None
    return 0

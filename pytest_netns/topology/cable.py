"""Cable: two ends that belong together."""

from __future__ import annotations

from pytest_netns.errors import TopologyError
from pytest_netns.stack.interface import Interface
from pytest_netns.topology.node import BaseNode, Surroundings


class Cable:
    """What goes in at one end comes out at the other.

    Args:
        lab: the lab that it is part of.
        a: one end.
        b: the other end.
    """

    def __init__(self, lab: Surroundings, a: Interface, b: Interface) -> None:
        self.lab = lab
        self.a: Interface = a
        self.b: Interface = b
        self._removed = False

    @property
    def removed(self) -> bool:
        """True after ``remove()``."""
        return self._removed

    @property
    def interfaces(self) -> tuple[Interface, Interface]:
        """Both ends."""
        return self.a, self.b

    @property
    def nodes(self) -> tuple[BaseNode, BaseNode]:
        """The nodes of both ends."""
        a, b = self.a.node, self.b.node
        assert isinstance(a, BaseNode)
        assert isinstance(b, BaseNode)
        return a, b

    def end(self, node: BaseNode) -> Interface:
        """The end that is in a node. Raises TopologyError if neither is.

        Example:
            >>> link.end(red).name
        """
        for interface in self.interfaces:
            if interface.node is node:
                return interface
        raise TopologyError(f"{self!r} has no end in {node.name!r}")

    def _check(self) -> None:
        """Raises TopologyError if it was removed."""
        if self._removed:
            raise TopologyError(f"{self!r}: it was removed; connect the nodes anew")

    def _check_ends(self) -> None:
        """Raises TopologyError if it was removed, or went with one of its nodes."""
        self._check()
        for node in self.nodes:
            if node.closed:
                raise TopologyError(f"{self!r}: it went with {node.name!r}, which is closed")

    @property
    def is_up(self) -> bool:
        """Whether it carries frames."""
        self._check()
        return self.a.is_up and self.b.is_up

    @property
    def _is_gone(self) -> bool:
        """Whether it was removed, or went with the namespace of one of its ends."""
        return self._removed or any(end.node.closed for end in self.interfaces)

    def other(self, end: Interface) -> Interface:
        """The end that is not this one.

        Example:
            >>> assert link.other(link.a) == link.b
        """
        return self.b if end == self.a else self.a

    def _settle(self) -> None:
        """Wait until frames pass and its addresses answer, if both ends are set up.

        Nobody waits for a spanning tree, which takes many seconds: see ``Bridge.wait_converged``.

        Raises:
            WaitTimeout: not in time.
        """
        if self._is_gone or not all(end.is_set_up for end in self.interfaces):
            return
        for end, node in zip(self.interfaces, self.nodes, strict=True):
            end.wait_up(port=bool(end.state.port_state) and not node._waits_for_stp)
            end.wait_addresses()
        self.lab._interface_changed(self.nodes[0], self.a.index)

"""Whole: what the parts of a lab's class know of the lab."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from pytest_netns.errors import TopologyError
from pytest_netns.lab.breakable import Breakable
from pytest_netns.lab.link import Link
from pytest_netns.topology.node import Node


class Whole:
    """A lab, as its parts see it.

    Attributes:
        name: what messages call it.
    """

    name: str

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._closed = False
        self._links: list[Link] = []

    def __iter__(self) -> Iterator[Node]:
        raise AssertionError("a Lab has nodes")

    @property
    def closed(self) -> bool:
        """True after ``close()``."""
        return self._closed

    def check_open(self) -> None:
        """Raise TopologyError if it is closed."""
        if self._closed:
            raise TopologyError(f"lab {self.name!r} is closed")

    def check_node(self, node: object, verb: str) -> Node:
        """The node, if it is an open one of this lab. Raises TopologyError: cannot ``verb`` the node, and why."""
        self.check_open()
        if not isinstance(node, Node):
            known = isinstance(node, str) and any(each.name == node for each in self)
            raise TopologyError(
                f"lab {self.name!r}: cannot {verb} {node!r}: it is no host, router or bridge"
                f"{f'; did you mean lab[{node!r}]?' if known else ''}"
            )
        if node.lab is not self:
            raise TopologyError(f"cannot {verb} {node.name!r}: it is a node of another lab ({node.lab!r})")
        if node.closed:
            raise TopologyError(f"cannot {verb} {node.name!r}: it is closed")
        return node

    def check_running(self, node: object, verb: str) -> Node:
        """The same, if it has not crashed either.

        Args:
            node: of this lab.
            verb: what is about to be done, for the message.

        Raises:
            TopologyError: it is of another lab, closed, or has crashed.
        """
        found = self.check_node(node, verb)
        if isinstance(found, Breakable) and found.crashed is not None:
            raise TopologyError(f"cannot {verb} {found.name!r}: it has crashed; restart() it first")
        return found

    def is_adopted(self, node: Node) -> bool:
        """Whether the namespace of ``node`` is somebody else's."""
        raise AssertionError(f"a Lab knows of {node!r}")

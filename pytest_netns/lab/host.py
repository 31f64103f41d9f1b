"""Host: an end system."""

from __future__ import annotations

from pytest_netns.lab.node import Node


class Host(Node):
    """An end system with interfaces ``eth0``, ``eth1``, ... It does not forward. Made by ``Lab.host``."""

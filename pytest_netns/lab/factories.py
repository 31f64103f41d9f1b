"""Factories: the types of the fixtures ``netns_factory`` and ``lab_factory``, for annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_netns.impair.impairment import Engine
    from pytest_netns.lab.lab import Lab, Neighbours
    from pytest_netns.process.isolation import Kind
    from pytest_netns.stack.namespace import Namespace


class NamespaceFactory(Protocol):
    """The type of the fixture ``netns_factory``: creates namespaces that live until the end of the session.

    Example:
        >>> @pytest.fixture(scope="module")
        ... def server(netns_factory):
        ...     return netns_factory("server")
    """

    def __call__(self, name: str | None = None) -> Namespace:
        """A new namespace with loopback up, closed when the session ends.

        Args:
            name: its name in messages; None: ``netns-1``, ``netns-2``, ...

        Raises:
            PrivilegeError: this process may not create namespaces.
        """


class LabFactory(Protocol):
    """The type of the fixture ``lab_factory``: creates labs that live until the end of the session.

    Example:
        >>> @pytest.fixture(scope="module")
        ... def backbone(lab_factory):
        ...     return lab_factory("backbone", ipv6=None)
    """

    def __call__(
        self,
        name: str = "lab",
        *,
        ipv4: str | IPv4Network | None = "10.0.0.0/8",
        ipv6: str | IPv6Network | None = "fd00::/48",
        sysctls: Mapping[str, str | int] | None = None,
        isolate: Iterable[Kind] = (),
        visible: Callable[[], Iterable[str | os.PathLike[str]]] = ...,
        impairments: Engine = "auto",
        neighbours: Neighbours = "learned",
        offload: bool = True,
    ) -> Lab:
        """A new lab, closed when the session ends.

        Args:
            name: its name in messages; MAC addresses are derived from it too.
            ipv4: pool of subnets for links and bridges that are not given one; None: no IPv4 unless asked for.
            ipv6: the same for IPv6.
            sysctls: initial sysctls of every node, in addition to the baseline.
            isolate: which namespaces every host and router has besides its network: ``"mount"``, ``"uts"``, ``"pid"``,
                ``"ipc"``.
            visible: gives directories under /run and /tmp that isolated hosts still see; pytest's own directory for
                temporary files if left out.
            impairments: the default engine for impairments: ``"netem"`` (the kernel), ``"tbf"`` (the kernel, for a
                rate alone), ``"relay"`` (a user-space process), or ``"auto"``: the first of them that is there and can.
            neighbours: ``"learned"``: nodes ask for each other's MAC addresses by ARP and neighbour discovery.
                ``"known"``: they are entered in advance, marked ``extern_learn``, and do not count towards the limit of
                the kernel's neighbour table.
            offload: False: frames on its links have finished checksums and are no longer than the mtu, as a program
                needs it that forwards them by itself.

        Raises:
            TopologyError: a pool is no network, ``isolate`` names something unknown, or there is no such engine.
        """

"""Views: what the kernel says of a namespace now, and the tools that change it: sysctls, nftables, pyroute2."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

from pytest_netns.addresses import Address, AddressWithPrefix
from pytest_netns.errors import TopologyError
from pytest_netns.kernel import sysctl
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.netlink.tables import (
    Neighbour,
    Route,
    decode_address,
    decode_link,
    decode_neighbour,
    decode_route,
    in_order,
    is_cached,
    is_of_host,
)
from pytest_netns.kernel.nftables import Nftables
from pytest_netns.kernel.sockets import standard_sockets
from pytest_netns.kernel.syscalls import entered
from pytest_netns.stack.interface import Interface, Interfaces
from pytest_netns.stack.threaded_iproute import ThreadedIPRoute

if TYPE_CHECKING:
    from pyroute2 import IPRoute

    from pytest_netns.stack.handle import Handle


class Views:
    """What a ``Namespace`` shows of itself. Each access asks the kernel anew.

    Attributes:
        name: what messages call it.
        rtnl: a netlink socket inside, for the requests of ``pytest_netns.kernel.netlink.rtnetlink``.
    """

    name: str
    rtnl: NetlinkSocket

    def __init__(self) -> None:
        self._iproute: IPRoute | None = None
        self._iproute_worker: ThreadedIPRoute | None = None
        self._nftables: Nftables | None = None

    @property
    def fd(self) -> int:
        """The descriptor that keeps it alive."""
        raise AssertionError("a Namespace says what it is")

    def close_views(self) -> None:
        """Let go of what the views have opened."""
        worker, self._iproute_worker = self._iproute_worker, None
        if worker is not None:
            worker.close()
        iproute, self._iproute = self._iproute, None
        if iproute is not None:
            iproute.close()
        nftables, self._nftables = self._nftables, None
        if nftables is not None:
            nftables.close()

    @property
    def iproute(self) -> IPRoute:
        """A pyroute2 ``IPRoute`` that talks to this namespace from whatever thread uses it. Closed with it.

        Inside a running event loop its calls are made by a thread, and the loop waits: pyroute2 has a loop of its own.
        """
        if "asyncio" in sys.modules and sys.modules["asyncio"]._get_running_loop() is not None:
            if self._iproute_worker is None:
                self._iproute_worker = ThreadedIPRoute(self._make_iproute)
            return cast("IPRoute", self._iproute_worker)
        if self._iproute is None:
            self._iproute = self._make_iproute()
        return self._iproute

    def _make_iproute(self) -> IPRoute:
        fd = self.fd
        with standard_sockets():
            from pyroute2 import IPRoute

            with entered(fd):
                iproute = IPRoute()
        # pyroute2 makes a socket, and an event loop, for each thread that uses the object, at its first use there, in
        # whatever namespace that thread happens to be, and of whatever ``socket.socket`` happens to be.
        socket_of_thread, loop_of_thread = iproute.asyncore.setup_socket, iproute.asyncore.setup_event_loop

        def setup_socket() -> object:
            with standard_sockets(), entered(fd):
                return socket_of_thread()

        def setup_event_loop() -> object:
            with standard_sockets():
                return loop_of_thread()

        iproute.asyncore.setup_socket = setup_socket
        iproute.asyncore.setup_event_loop = setup_event_loop
        return iproute

    def nft(self, ruleset: str) -> str:
        """Load an nftables ruleset, or run any nft(8) commands, as one transaction; returns what they print.

        Args:
            ruleset: as in a file for ``nft -f``.

        Raises:
            CommandError: nft's own message, with the line; nothing has taken effect.
            UnsupportedError: neither libnftables nor the nft program is installed.
        """
        return self._loaded_nftables().run(ruleset)

    def nft_ruleset(self) -> list[dict[str, object]]:
        """All its nftables rules, in the form of libnftables-json(5).

        Raises:
            CommandError: nft's own message.
            UnsupportedError: neither libnftables nor the nft program is installed.
        """
        return self._loaded_nftables().ruleset()

    def nft_with_handles(self) -> str:
        """All its nftables rules as text with their handles (``nft -a list ruleset``).

        Raises:
            CommandError: nft's own message.
            UnsupportedError: neither libnftables nor the nft program is installed.
        """
        return self._loaded_nftables().with_handles()

    def _loaded_nftables(self) -> Nftables:
        fd = self.fd  # raises if it is closed
        if self._nftables is None:
            self._nftables = Nftables(fd, self.name)
        return self._nftables

    @property
    def sysctl(self) -> sysctl.Sysctls:
        """Its network sysctls by name, as text: ``ns.sysctl["net.ipv4.ip_forward"] = 1``.

        Raises KeyError for one that does not exist, or that is set and not a namespace's own; KernelError for a value
        that the kernel refuses.
        """
        return sysctl.Sysctls(self)

    @property
    def interfaces(self) -> Interfaces:
        """Its interfaces by name, in the order of their creation."""
        return Interfaces(cast("Handle", self))

    def interface(self, name: str) -> Interface:
        """One interface, by name. Raises TopologyError, which lists those that there are."""
        try:
            return self.interfaces[name]
        except KeyError as error:
            raise TopologyError(error.args[0]) from None

    def addresses(self) -> list[AddressWithPrefix]:
        """Its addresses, IPv4 first, link-local ones last; without 127.0.0.1 and ::1, which lead nowhere."""
        bodies = self.rtnl.dump(rtnetlink.address_dump())
        return in_order(decode_address(body) for body in bodies if not is_of_host(body))

    def _names(self) -> dict[int, str]:
        return {link.index: link.name for link in map(decode_link, self.rtnl.dump(rtnetlink.link_dump()))}

    def routes(self, *, table: int | None = 254) -> list[Route]:
        """Its routes, IPv4 first, as ``ip route`` lists them: without the path MTUs and redirects that it has learnt.

        Args:
            table: number of a routing table, 254 for main (ip-route(8)); None gives those of all tables.
        """
        names = self._names()
        found = [
            route
            for family in (rtnetlink.AF_INET, rtnetlink.AF_INET6)
            for body in self.rtnl.dump(rtnetlink.route_dump(family))
            if not is_cached(body)
            for route in decode_route(body, names)
        ]
        return [route for route in found if table is None or route.table == table]

    def route_to(self, address: str | Address) -> Route:
        """The route that the kernel would use now for an address (``ip route get``).

        Args:
            address: IPv4 or IPv6.

        Raises:
            KernelError: there is none, with the kernel's own errno (ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL).
            ValueError: it is no address.
        """
        body = self.rtnl.get(rtnetlink.route_get(ip_address(address)))
        return decode_route(body, self._names())[0]

    def neighbours(self) -> list[Neighbour]:
        """Its ARP and neighbour discovery caches, IPv4 first, without the entries of multicast and loopback."""
        names = self._names()
        found = [
            decode_neighbour(body, names)
            for family in (rtnetlink.AF_INET, rtnetlink.AF_INET6)
            for body in self.rtnl.dump(rtnetlink.neighbour_dump(family))
        ]
        return [entry for entry in found if entry is not None and entry.state != "NOARP"]

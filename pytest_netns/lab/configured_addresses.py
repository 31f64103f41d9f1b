"""Configured addresses: what somebody has given to an interface, remembered with all its details and given again."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_netns.errors import KernelError
from pytest_netns.kernel import rtnetlink
from pytest_netns.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Request, attribute, attributes
from pytest_netns.kernel.rtnetlink import RTM_NEWADDR, AddressWithPrefix
from pytest_netns.kernel.tables import decode_address, in_order, is_of_host

if TYPE_CHECKING:
    from pytest_netns.interface import Interface

_IFADDRMSG = struct.Struct("=BBBBI")
# From <linux/if_addr.h>: local and far address, label, broadcast, lifetimes, metric of its route.
_IFA_LOCAL, _IFA_FLAGS = 2, 8
_SET = (1, _IFA_LOCAL, 3, 4, 6, 9)
# nodad, home, mngtmpaddr, noprefixroute, autojoin: those that somebody sets. The others are the kernel's.
_FLAGS_SET = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
_PERMANENT = 0x80


class ConfiguredAddresses:
    """Those of one interface, as they are now, whoever has set them.

    Not those of IPv6 that last for a while only: routers advertise theirs again (RFC 4862).
    """

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        bodies = [
            body
            for body in interface.node.rtnl.dump(rtnetlink.address_dump(interface.index))
            if _IFADDRMSG.unpack_from(body)[4] == interface.index and _stays(body)
        ]
        # The kernel lists IPv4 addresses in the order of their adding, and IPv6 ones the other way round.
        four = [body for body in bodies if body[0] == rtnetlink.AF_INET]
        six = [body for body in bodies if body[0] != rtnetlink.AF_INET]
        self._bodies = [*four, *reversed(six)]

    @property
    def addresses(self) -> list[AddressWithPrefix]:
        """What leads somewhere, beyond the link: not 127.0.0.1 and the like."""
        entries = (decode_address(body) for body in self._listed() if not is_of_host(body))
        return [address for address in in_order(entries) if not address.is_link_local]

    def _listed(self) -> Iterable[bytes]:
        """As the kernel lists them."""
        yield from (body for body in self._bodies if body[0] == rtnetlink.AF_INET)
        yield from (body for body in reversed(self._bodies) if body[0] != rtnetlink.AF_INET)

    def restore(self) -> None:
        """Give them to the interface again, but those that it has.

        Raises:
            KernelError: the kernel refused one; the others are there.
        """
        refused: KernelError | None = None
        for body in self._bodies:
            words = f"ip address restore {decode_address(body).address} dev {self._interface.name}"
            try:
                self._interface.node.rtnl.batch(
                    [Request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, _renewed(body), words)]
                )
            except KernelError as error:
                if error.errno != errno.EEXIST:
                    refused = refused or error
        if refused is not None:
            raise refused


def _flags(body: bytes) -> int:
    wide = attributes(body, _IFADDRMSG.size).get(_IFA_FLAGS)
    return body[2] if wide is None else int(struct.unpack("=I", wide)[0])


def _stays(body: bytes) -> bool:
    return body[0] == rtnetlink.AF_INET or bool(_flags(body) & _PERMANENT)


def _renewed(body: bytes) -> bytes:
    """The request that gives an address, made of the answer that lists it."""
    family, prefix, _, scope, index = _IFADDRMSG.unpack_from(body)
    parts = [_IFADDRMSG.pack(family, prefix, 0, scope, index)]
    parts += [attribute(kind, value) for kind, value in attributes(body, _IFADDRMSG.size).items() if kind in _SET]
    parts.append(attribute(_IFA_FLAGS, struct.pack("=I", _flags(body) & _FLAGS_SET)))
    return b"".join(parts)

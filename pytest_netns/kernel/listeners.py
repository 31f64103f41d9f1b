"""Who listens on which address and port of a namespace, by its tables in /proc/net (proc_pid_net(5))."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from pytest_netns.kernel.rtnetlink import Address
from pytest_netns.kernel.syscalls import entered

Transport = Literal["tcp", "udp"]

# The states of a socket that waits for peers (include/net/tcp_states.h): TCP_LISTEN, and for UDP, which has no states,
# TCP_CLOSE: bound and not connected.
WAITING = {"tcp": "0A", "udp": "07"}


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits for peers."""

    address: Address
    port: int
    protocol: Transport

    def __str__(self) -> str:
        shown = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{self.protocol} {shown}:{self.port}"

    def takes(self, address: Address) -> bool:
        """Whether what is sent to an address gets here: it is bound to that one, or to any."""
        if self.address.is_unspecified:
            return self.address.version == address.version or self.address.version == 6  # [::] takes IPv4 too
        return self.address == address


def _address(text: str) -> Address:
    # /proc/net has addresses as 32-bit words in the machine's byte order
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    if len(raw) == 4:
        return IPv4Address(raw)
    six = IPv6Address(raw)
    return six.ipv4_mapped or six


def listeners(netns: int, protocol: Transport) -> list[Listener]:
    """All sockets of a namespace that wait for peers, over IPv4 and IPv6, by port."""
    found = set()
    with entered(netns):
        for table in (protocol, protocol + "6"):
            try:
                with open(f"/proc/thread-self/net/{table}", encoding="ascii") as file:
                    rows = file.readlines()[1:]
            except FileNotFoundError:  # a kernel without IPv6
                continue
            for row in rows:
                _, local, _, state, *_ = row.split()
                if state == WAITING[protocol]:
                    address, _, port = local.partition(":")
                    found.add(Listener(_address(address), int(port, 16), protocol))
    return sorted(found, key=lambda listener: (listener.port, str(listener.address)))

"""Who listens on which address and port of a node, and which of its processes are dead."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from pytest_netns.kernel.rtnetlink import Address
from pytest_netns.kernel.syscalls import entered
from pytest_netns.lab.node import Node
from pytest_netns.process import Process
from pytest_netns.ready import WAITING, Transport


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


def listeners(node: Node, protocol: Transport) -> list[Listener]:
    """All sockets of a node that wait for peers, by port."""
    found = set()
    with entered(node.fd):
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


def dead_processes(node: Node) -> list[Process]:
    """Background processes of a node that have ended, and of those that share its namespace."""
    sharing = [other for other in node.lab if not other.closed and other.inode == node.inode]
    return [process for each in sharing for process in each.processes if process.returncode is not None]

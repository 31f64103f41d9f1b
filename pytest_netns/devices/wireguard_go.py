"""WireGuard by the program wireguard-go, for kernels without it.

It is told what to do over a Unix socket in /run/wireguard (https://www.wireguard.com/xplatform/). The program gets a
/run of its own, so that nothing is left on the machine and every host may have a ``wg0``; the socket is reached by way
of the program's own root directory in /proc.
"""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

from pytest_netns import ready
from pytest_netns.addresses import Address
from pytest_netns.devices.builder import DeviceBuilder
from pytest_netns.devices.wireguard import WireGuard
from pytest_netns.errors import KernelError, NetnsError, UnsupportedError
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.wireguard_genl import Peer, PeerChange, Shown
from pytest_netns.kernel.search_path import find_program
from pytest_netns.kernel.standard_sockets import Socket
from pytest_netns.process.environment import Environment
from pytest_netns.process.process import Process

#: What it takes, and the Debian package of each.
PROGRAMS = {"wireguard-go": "wireguard-go", "wg": "wireguard-tools", "unshare": "util-linux", "mount": "mount"}

# -n: without it mount(8) makes /run/mount on the machine, before the new one is there.
_START = 'mount -n -t tmpfs tmpfs /run && exec wireguard-go --foreground "$0"'
#: Seconds in which the program must be ready.
_DEADLINE = 10.0


def lacking() -> list[str]:
    """The Debian packages that would have to be installed."""
    return [package for program, package in PROGRAMS.items() if find_program(program) is None]


class WireGuardGo(WireGuard):
    """A WireGuard device carried by a process."""

    userspace = True
    process: Process | None = None
    _public_key = b""

    def start(self) -> None:
        """Start the program and find the device that it makes."""
        self.process = self.node.spawn(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _START, self.name],
            ready=ready.output("UAPI listener started"),
            timeout=_DEADLINE,
            env=Environment(self.node.environment(), LOG_LEVEL="verbose"),
        )
        self.index: int = self.node.interface(self.name).index

    def remove(self) -> None:
        """End the program, and with it the device; allowed more than once."""
        if self.process is not None:
            self.process.terminate()
        super().remove()

    def _ask(self, *lines: str) -> Iterator[tuple[str, str]]:
        """One question to the program. Raises KernelError with the errno that it answers."""
        assert self.process is not None
        data = b""
        with Socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(_DEADLINE)
            try:
                sock.connect(f"/proc/{self.process.pid}/root/run/wireguard/{self.name}.sock")
                sock.sendall("".join(f"{line}\n" for line in (*lines, "")).encode())
                while not data.endswith(b"\n\n") and (more := sock.recv(1 << 16)):
                    data += more
            except OSError as error:
                raise NetnsError(f"wireguard-go of {self!r} does not answer: {error}; {self.process!r}") from error
        rows = [line.partition("=")[::2] for line in data.decode().splitlines() if line]
        for key, value in rows:
            if key == "errno" and value != "0":
                raise KernelError(abs(int(value)), f"wg set {self.name} ...", self.node.name, "by wireguard-go")
        return ((key, value) for key, value in rows)

    def configure(self, private_key: bytes, port: int) -> None:
        """Give it its key and its UDP port."""
        text = self.node.run(["wg", "pubkey"], input=b64encode(private_key).decode()).stdout.strip()
        self._ask("set=1", f"private_key={private_key.hex()}", f"listen_port={port}")
        self._public_key = text.encode()

    def set_peer(self, change: PeerChange) -> None:
        """Add, change or remove a peer."""
        lines = ["set=1", f"public_key={change.public_key.hex()}"]
        if change.remove:
            self._ask(*lines, "remove=true")
            return
        if change.preshared_key is not None:
            lines.append(f"preshared_key={change.preshared_key.hex()}")
        if change.endpoint is not None:
            address, port = change.endpoint
            lines.append(f"endpoint={address}:{port}" if address.version == 4 else f"endpoint=[{address}]:{port}")
        if change.keepalive is not None:
            lines.append(f"persistent_keepalive_interval={change.keepalive}")
        self._ask(*lines, "replace_allowed_ips=true", *(f"allowed_ip={network}" for network in change.allowed_ips))

    @property
    def public_key(self) -> str:
        """Its public key in base64, which peers must know."""
        return self._public_key.decode()

    def shown(self) -> Shown:
        """What ``wg show`` shows, but for the public key, which the program does not tell."""
        return decode(self._ask("get=1"))


def decode(rows: Iterator[tuple[str, str]]) -> Shown:
    """Decode the answer to ``get=1``."""
    port = 0
    peers: list[Peer] = []
    for key, value in rows:
        if key == "listen_port":
            port = int(value)
        elif key == "public_key":
            peers.append(Peer(b64encode(bytes.fromhex(value)).decode(), None, (), None, 0, 0, 0))
        elif peers:
            peers[-1] = _with(peers[-1], key, value)
    return Shown(None, port, peers)


def _with(peer: Peer, key: str, value: str) -> Peer:
    if key == "endpoint":
        return replace(peer, endpoint=_endpoint(value))
    if key == "allowed_ip":
        return replace(peer, allowed_ips=(*peer.allowed_ips, ip_network(value)))
    if key == "persistent_keepalive_interval":
        return replace(peer, keepalive=int(value))
    if key == "rx_bytes":
        return replace(peer, received=int(value))
    if key == "tx_bytes":
        return replace(peer, sent=int(value))
    if key == "last_handshake_time_sec":
        return replace(peer, last_handshake=float(value) or None)
    if key == "last_handshake_time_nsec" and peer.last_handshake is not None:
        return replace(peer, last_handshake=peer.last_handshake + int(value) / 1e9)
    return peer


def _endpoint(value: str) -> tuple[Address, int]:
    address, _, port = value.rpartition(":")
    return ip_address(address.strip("[]")), int(port)


def make(builder: DeviceBuilder, key: bytes, port: int) -> WireGuardGo:
    """Make a WireGuard device carried by a process.

    Raises:
        UnsupportedError: a program is not installed.
    """
    if packages := lacking():
        raise UnsupportedError(f"{builder.where} by wireguard-go: apt-get install {' '.join(packages)}")
    device = WireGuardGo(builder.node, builder.spec.name, 0, "wireguard")

    def finish(made: WireGuardGo) -> None:
        made.configure(key, port)
        if builder.spec.mtu is not None:
            builder.node.rtnl.batch([rtnetlink.link_mtu(made.index, made.name, builder.spec.mtu)])

    try:
        builder.bring_up(device, device.start, finish)
    except BaseException:
        if device.process is not None:
            device.process.terminate()
        raise
    if builder.spec.up and device.process is not None:
        device.process.wait_until(ready.listening(port, "udp"), _DEADLINE)  # it binds its socket a moment later
    return device

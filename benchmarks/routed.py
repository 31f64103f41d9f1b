"""A router with NAT between two LANs of two hosts each: ours, and the floor for the same requests to the kernel.

The floor is told what to send: it asks for the same interfaces, addresses and routes and loads the same nftables
ruleset through the same library, but looks at nothing that is there and words no errors.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

from benchmarks import floor
from pytest_netns import Lab
from pytest_netns.lab.host import UNLIMITED_ICMP
from pytest_netns.lab.nat import TABLE
from pytest_netns.lab.router import FORWARDING

_NEWROUTE = 24
_MAIN, _BOOT, _UNICAST = 254, 3, 1
_REPLACE = 0x100 | 0x400  # NLM_F_REPLACE | NLM_F_CREATE
_route = struct.Struct("=BBBBBBBBI").pack

_RULESET = f"""
add table inet {TABLE}
add chain inet {TABLE} prerouting {{ type nat hook prerouting priority -100; policy accept; }}
add chain inet {TABLE} output {{ type nat hook output priority -100; policy accept; }}
add chain inet {TABLE} postrouting {{ type nat hook postrouting priority 100; policy accept; }}
add rule inet {TABLE} prerouting ct state new
add counter inet {TABLE} masquerade1
add rule inet {TABLE} postrouting oifname "eth1" counter name masquerade1 masquerade
"""


def ours() -> Iterator[str]:
    lab = Lab()
    inside, outside = lab.bridge("inside"), lab.bridge("outside")
    router = lab.router("router", inside, outside)
    for number, lan in enumerate((inside, inside, outside, outside)):
        lan.host(f"h{number}").default_route(router)
    router.masquerade(outside)
    yield "set-up"
    lab.close()
    yield "tear-down"


def _paths(sysctls: dict[str, str]) -> dict[str, str]:
    return {"/proc/sys/" + name.replace(".", "/"): value for name, value in sysctls.items()}


def _addresses(index: int, lan: int, number: int) -> list[bytes]:
    four, six = struct.pack("!BBBB", 10, 0, lan, number), struct.pack("!HHHHHHHH", 0xFD00, 0, 0, lan, 0, 0, 0, number)
    return [
        floor._message(
            floor._NEWADDR,
            floor._CREATE_EXCL,
            floor._address(2, 24, 0, 0, index) + floor._attr(2, four) + floor._attr(1, four),
        ),
        floor._message(
            floor._NEWADDR,
            floor._CREATE_EXCL,
            floor._address(10, 64, floor._NODAD, 0, index) + floor._attr(2, six),
        ),
    ]


def _default_routes(index: int, lan: int) -> list[bytes]:
    hops = (
        (2, struct.pack("!BBBB", 10, 0, lan, 1)),
        (10, struct.pack("!HHHHHHHH", 0xFD00, 0, 0, lan, 0, 0, 0, 1)),
    )
    return [
        floor._message(
            _NEWROUTE,
            _REPLACE,
            _route(family, 0, 0, 0, _MAIN, _BOOT, 0, _UNICAST, 0)
            + floor._attr(5, hop)
            + floor._attr(4, struct.pack("=I", index)),
        )
        for family, hop in hops
    ]


def _load(node: floor.Node, text: str) -> None:
    library = ctypes.CDLL("libnftables.so.1")
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    floor._checked(floor._libc.setns(node.fd, floor._NEWNET))
    try:
        context = library.nft_ctx_new(0)
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        floor._checked(library.nft_run_cmd_from_buffer(context, text.encode()))
        library.nft_ctx_free(context)
    finally:
        floor._checked(floor._libc.setns(home, floor._NEWNET))
        os.close(home)


def raw(sysctls: floor.Sysctls) -> Iterator[str]:
    first = floor._FIRST
    plain = {**sysctls, **_paths(dict(UNLIMITED_ICMP))}
    switches = [floor.Node(sysctls), floor.Node(sysctls)]
    router = floor.Node({**plain, **_paths(dict(FORWARDING))})
    hosts = [floor.Node(plain) for _ in range(4)]
    kind = floor._attr(18, floor._attr(1, b"bridge"))
    router.batch([floor._LOOPBACK_UP])
    for lan, switch in enumerate(switches):
        body = floor._link(0, 0, first, floor._UP, floor._UP) + floor._identity("br0", floor._mac(first, 2)) + kind
        switch.batch([floor._LOOPBACK_UP, floor._message(floor._NEWLINK, floor._CREATE_EXCL, body)])
        port = first + 1
        # In the router, the numbers and names of both LANs differ.
        switch.batch([_veth("p0", port, first + lan, f"eth{lan}", router.fd), floor._port(port, first)])
        router.batch([floor._link_up(first + lan), *_addresses(first + lan, lan, 1)])
        for number, host in enumerate(hosts[2 * lan : 2 * lan + 2]):
            port = first + 2 + number
            switch.batch([_veth(f"p{number + 1}", port, first, "eth0", host.fd), floor._port(port, first)])
            up = [floor._LOOPBACK_UP, floor._link_up(first)]
            host.batch([*up, *_addresses(first, lan, number + 2), *_default_routes(first, lan)])
    for lan, switch in enumerate(switches):
        for port in range(first + 1, first + 4):
            switch.wait_up(port, port=True)
        router.wait_up(first + lan)
    for host in hosts:
        host.wait_up(first)
    _load(router, _RULESET)
    yield "set-up"
    for node in (router, *switches, *hosts):
        node.close()
    yield "tear-down"


def _veth(name: str, index: int, peer_index: int, peer_name: str, peer_fd: int) -> bytes:
    one = floor._ONE_QUEUE
    peer = floor._link(0, 0, peer_index, 0, 0) + floor._identity(peer_name, floor._mac(index, 1 + peer_index % 7))
    peer += floor._attr(28, struct.pack("=I", peer_fd)) + one
    info = floor._attr(18, floor._attr(1, b"veth") + floor._attr(2, floor._attr(1, peer)))
    body = floor._link(0, 0, index, 0, floor._UP) + floor._identity(name, floor._mac(index, 0)) + one + info
    return floor._message(floor._NEWLINK, floor._CREATE_EXCL, body)

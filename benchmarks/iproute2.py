"""The same by ip(8) in batches: as few processes as it takes, which is one beside one for each namespace.

It does less: ip(8) cannot set sysctls, so there is no baseline.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator


def _ip(lines: list[str], netns: str | None = None) -> None:
    inside = [] if netns is None else ["-n", netns]
    subprocess.run(
        ["ip", *inside, "-batch", "-"], input="\n".join(lines), text=True, check=True, stdout=subprocess.DEVNULL
    )


def _host(name: str, number: int, ipv6: bool = True) -> None:
    addresses = [f"address add 10.0.0.{number}/24 dev eth0"]
    if ipv6:
        addresses.append(f"address add fd00::{number:x}/64 dev eth0 nodad")
    _ip(["link set lo up", "link set eth0 up", *addresses, "link show dev eth0"], name)


def _delete(names: list[str]) -> None:
    _ip([f"netns delete {name}" for name in names])


def _pair(ipv6: bool) -> None:
    _ip(["netns add left", "netns add right", "link add eth0 netns left type veth peer name eth0 netns right"])
    _host("left", 1, ipv6)
    _host("right", 2, ipv6)


def netns() -> Iterator[str]:
    _ip(["netns add red"])
    _ip(["link set lo up"], "red")
    yield "set-up"
    _delete(["red"])
    yield "tear-down"


def pair(ipv6: bool = True) -> Iterator[str]:
    _pair(ipv6)
    yield "set-up"
    _delete(["left", "right"])
    yield "tear-down"


def bridge(size: int) -> Iterator[str]:
    hosts = [f"h{number}" for number in range(size)]
    _ip([f"netns add {name}" for name in ("br0", *hosts)])
    links = [f"link add {host} master br0 up type veth peer name eth0 netns {host}" for host in hosts]
    _ip(["link set lo up", "link add br0 up type bridge", *links], "br0")
    for number, host in enumerate(hosts):
        _host(host, number + 1)
    _ip([f"link show dev {host}" for host in hosts], "br0")
    yield "set-up"
    _delete(["br0", *hosts])
    yield "tear-down"


def pings() -> Iterator[str]:
    _pair(ipv6=True)
    yield "set-up"
    command = ["ip", "netns", "exec", "left", "ping", "-q", "-c", "1", "10.0.0.2"]
    for step in ("first", "next"):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield step
    _delete(["left", "right"])
    yield "tear-down"


def run() -> Iterator[str]:
    _ip(["netns add red"])
    yield "set-up"
    for step in ("first", "next"):
        subprocess.run(["ip", "netns", "exec", "red", "true"], check=True, capture_output=True, text=True)
        yield step
    _delete(["red"])
    yield "tear-down"

"""Network sysctls: sysctl(8) names, and files under /proc/sys.

A file under /proc/sys/net shows the network namespace of the thread that *opens* it, and a directory descriptor kept
from earlier does not help: openat() on it resolves in the caller's namespace. So enter first, then open the whole path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from typing import Protocol, TypeVar

from pytest_netns.checks import check_text
from pytest_netns.errors import KernelError
from pytest_netns.kernel.syscalls import entered

#: The initial sysctls of a namespace of this package, whatever the host has: addresses are usable at once (no Duplicate
#: Address Detection, RFC 4862 5.4), no reverse-path filter, no forwarding, and IPv6 addresses survive ``ip link set
#: down`` as IPv4 ones do. See https://docs.kernel.org/networking/ip-sysctl.html
BASELINE: Mapping[str, str] = {
    "net.ipv4.ip_forward": "0",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv6.conf.all.forwarding": "0",
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.dad_transmits": "0",
    "net.ipv6.conf.all.keep_addr_on_down": "1",
}

_V = TypeVar("_V", bound=str | int)

_ROOT = "/proc/sys"
# The sysctl of an interface with a dot in its name, written with that dot instead of a slash.
_OF_INTERFACE = re.compile(r"(net\.\w+\.(?:conf|neigh))\.([^/]+\.[^/]+)\.(\w+)")


@cache
def path_of(name: str) -> str:
    """The file of a sysctl. ``net.ipv4.conf.eth0/1.rp_filter`` is about interface ``eth0.1``, as in sysctl(8).

    Raises:
        KeyError: the name is empty, absolute, or climbs out of /proc/sys.
    """
    # sysctl(8): if the first separator is a slash, the name is a path already; otherwise dots are separators, and a
    # slash stands for a dot within a component.
    first = next((c for c in name if c in "./"), ".")
    relative = name if first == "/" else name.translate(str.maketrans("./", "/."))
    if not relative or relative.startswith("/") or ".." in relative.split("/") or "\0" in relative:
        raise KeyError(f"{name!r} is no sysctl name; write it as sysctl(8) does, e.g. 'net.ipv4.ip_forward'")
    return f"{_ROOT}/{relative}"


def check_owned(name: str) -> None:
    """Raise KeyError unless the sysctl is per network namespace.

    All others affect the whole machine; this package never writes them.
    """
    if not path_of(name).startswith(f"{_ROOT}/net/"):
        raise KeyError(f"{name!r} is not a sysctl of a network namespace; those begin with 'net.'")


def read(name: str) -> str:
    """The value in the calling thread's namespaces, without the closing newline."""
    with open(path_of(name), encoding="ascii") as file:
        return file.read().rstrip("\n")


def write(name: str, value: str) -> None:
    """Set a sysctl in the calling thread's namespaces. Raises OSError."""
    fd = os.open(path_of(name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode("ascii"))
    finally:
        os.close(fd)


def ensure(name: str, value: str) -> None:
    """Set a sysctl unless it has the value already: writing some of them waits for a lock that reading does not need.

    Raises OSError.
    """
    fd = os.open(path_of(name), os.O_RDWR | os.O_CLOEXEC)
    try:
        data = value.encode("ascii")
        if os.pread(fd, 64, 0).rstrip(b"\n") != data:
            os.write(fd, data)
    finally:
        os.close(fd)


@cache
def _has_ipv6() -> bool:
    return os.path.isdir(f"{_ROOT}/net/ipv6/conf")


def existing_ones(wanted: Mapping[str, _V]) -> Mapping[str, _V]:
    """The sysctls that this kernel has: without IPv6 (ipv6.disable=1), all of IPv6 are left out."""
    if _has_ipv6():
        return wanted
    return {name: value for name, value in wanted.items() if not name.startswith("net.ipv6.")}


def _unknown(node: str, name: str) -> str:
    """The error message for a sysctl that does not exist."""
    found = _OF_INTERFACE.fullmatch(name)
    hint = ""
    if found is not None:
        folder, interface, key = found.groups()
        right = f"{folder}.{interface.replace('.', '/')}.{key}"
        hint = f"; of interface {interface!r} it is {right!r}: a dot within a name is written as a slash, see sysctl(8)"
    return f"namespace {node!r} has no sysctl {name!r}{hint}"


class Owner(Protocol):
    """What ``Sysctls`` needs of a namespace."""

    @property
    def fd(self) -> int:
        """File descriptor of the namespace."""

    @property
    def name(self) -> str:
        """Its name in messages."""


class Sysctls(MutableMapping[str, str]):
    """The network sysctls of a namespace: ``ns.sysctl["net.ipv4.ip_forward"] = 1``. Reading returns text."""

    def __init__(self, node: Owner) -> None:
        self._node = node

    def __getitem__(self, name: str) -> str:
        check_text("the name of a sysctl", name)
        try:
            with entered(self._node):
                return read(name)
        except FileNotFoundError:
            raise KeyError(_unknown(self._node.name, name)) from None
        except OSError as error:
            raise KernelError.of(error, f"sysctl {name}", self._node.name) from error

    def __setitem__(self, name: str, value: str | int) -> None:
        check_text("the name of a sysctl", name)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise TypeError(f"sysctl {name!r}: the value is {value!r}; expected text or a whole number")
        check_owned(name)
        try:
            with entered(self._node):
                write(name, str(value))
        except FileNotFoundError:
            raise KeyError(_unknown(self._node.name, name)) from None
        except OSError as error:
            raise KernelError.of(error, f"sysctl -w {name}={value}", self._node.name) from error

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"a sysctl cannot be deleted: {name!r}")

    def __iter__(self) -> Iterator[str]:
        with entered(self._node):
            names = [
                os.path.join(folder, file)[len("/proc/sys/") :].translate(str.maketrans("./", "/."))
                for folder, _, files in os.walk("/proc/sys/net")
                for file in files
            ]
        return iter(sorted(names))

    def __len__(self) -> int:
        return sum(1 for _ in self)

"""Who listens in a namespace: both ways of asking the kernel say the same."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from pytest_netns import Namespace
from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink import sock_diag as module
from pytest_netns.kernel.netlink.sock_diag import Transport, by_diag, by_table, listeners, listening_sockets

INET, INET6 = socket.AF_INET, socket.AF_INET6


def bind(netns: Namespace, family: int, kind: int, address: str, port: int) -> socket.socket:
    sock = netns.socket(family, kind)
    sock.bind((address, port))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


@pytest.fixture
def busy(netns: Namespace) -> Namespace:
    """Sockets that wait, and some that do not."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        bind(netns, INET, kind, "127.0.0.1", 8080)
        bind(netns, INET, kind, "0.0.0.0", 8081)
        bind(netns, INET6, kind, "::1", 8080)
        bind(netns, INET6, kind, "::", 8082)
        bind(netns, INET6, kind, "::ffff:127.0.0.2", 8083)
        client = netns.socket(INET, kind)
        client.connect(("127.0.0.1", 8080))
    netns.socket(INET, socket.SOCK_STREAM).bind(("127.0.0.1", 9))  # bound, and nobody listens
    return netns


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_both_ways_see_the_same(busy: Namespace, protocol: Transport) -> None:
    assert by_diag(busy.fd, protocol) == by_table(busy.fd, protocol)
    assert [str(each) for each in listeners(busy.fd, protocol)] == [
        f"{protocol} 127.0.0.1:8080",
        f"{protocol} [::1]:8080",
        f"{protocol} 0.0.0.0:8081",
        f"{protocol} [::]:8082",
        f"{protocol} 127.0.0.2:8083",
    ]


def test_sockets_that_share_a_port_are_told_apart_and_listed_once(netns: Namespace) -> None:
    inodes = set()
    for _ in range(2):
        sock = netns.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 8080))
        sock.listen()
        inodes.add(os.fstat(sock.fileno()).st_ino)
    assert listening_sockets(netns.fd, "tcp", 8080) == inodes
    assert listening_sockets(netns.fd, "tcp", 8081) == set()
    assert by_table(netns.fd, "tcp") == by_diag(netns.fd, "tcp")
    assert [str(each) for each in listeners(netns.fd, "tcp")] == ["tcp 127.0.0.1:8080"]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_quiet_namespace_has_none(netns: Namespace, protocol: Transport) -> None:
    assert listeners(netns.fd, protocol) == []


@pytest.mark.parametrize(
    "refusal", [KernelError(errno.ENOENT, "ss", "red"), OSError(errno.EPROTONOSUPPORT, "no sock_diag")]
)
def test_a_kernel_that_lacks_one_way_is_asked_the_other(
    busy: Namespace, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    expected = listeners(busy.fd, "tcp")

    def refused(*_: object) -> object:
        raise refusal

    monkeypatch.setattr(module, "by_diag", refused)
    assert listeners(busy.fd, "tcp") == expected


def test_other_refusals_are_told(busy: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> object:
        raise KernelError(errno.EINTR, "ss", "red")

    monkeypatch.setattr(module, "by_diag", refused)
    with pytest.raises(KernelError):
        listeners(busy.fd, "tcp")

"""Tests in which ``socket.socket`` is replaced, so that they reach nobody: a lab reaches nobody in any case."""

from __future__ import annotations

import ast
import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_netns
from pytest_netns import Host, Lab, Namespace, ready
from pytest_netns.kernel.standard_sockets import Socket, socket_pair, standard_sockets


@pytest.fixture
def disabled() -> Iterator[type[Exception]]:
    """As pytest-socket does it under ``--disable-socket``."""
    package = pytest.importorskip("pytest_socket")
    package.disable_socket()
    package.socket_allow_hosts(["203.0.113.1"])
    yield package.SocketBlockedError
    package.pytest_runtest_teardown()


@pytest.mark.filterwarnings("ignore:A test tried to use socket:UserWarning")
def test_only_what_the_test_itself_opens_is_refused(veth_pair: tuple[Host, Host], disabled: type[Exception]) -> None:
    left, right = veth_pair
    server = right.spawn([sys.executable, "-m", "http.server", "8080"], ready=ready.listening(8080))
    with left.capture() as capture:
        assert left.ping(right)
        assert left.arp(right)
        assert left.tcp(right, 8080)
        assert left.udp(right, 9).state == "closed"
        assert left.trace(right).path
    assert capture.packets
    with pytest.raises(disabled):
        socket.socket()
    with right, pytest.raises(disabled):
        socket.create_server(("", 0))
    server.terminate()


def test_sockets_of_a_namespace_connect_and_accept(veth_pair: tuple[Host, Host], disabled: type[Exception]) -> None:
    left, right = veth_pair
    with right.socket() as server, left.socket() as client:
        server.bind((str(right.ip4), 7000))
        server.listen()
        server.settimeout(5)
        client.connect((str(right.ip4), 7000))
        accepted, peer = server.accept()
        with accepted:
            accepted.sendall(b"hello")
            assert client.recv(10) == b"hello"
            assert accepted.gettimeout() is None
        assert peer[0] == str(left.ip4)


@pytest.mark.filterwarnings("ignore:A test tried")  # newer versions of pytest-socket warn, too
def test_pyroute2_and_impairments_work(lab: Lab, disabled: type[Exception]) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    assert [link.get("ifname") for link in red.iproute.get_links()] == ["lo", "eth0"]
    assert red.call(lambda: len(red.iproute.get_links())) == 2
    with pytest.raises(disabled):
        socket.socket()


def test_streams_work_in_a_loop_that_is_there(netns: Namespace) -> None:
    package = pytest.importorskip("pytest_socket")

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        package.disable_socket()
        try:
            async with await netns.start_server(greet, "127.0.0.1", 7001):
                reader, writer = await netns.open_connection("127.0.0.1", 7001)
                greeting = await reader.read(10)
                writer.close()
                await writer.wait_closed()
                assert [link.get("ifname") for link in netns.iproute.get_links()] == ["lo"]
                return greeting
        finally:
            package.enable_socket()

    assert asyncio.run(main()) == b"hello"


def test_what_takes_the_place_is_back_when_the_last_one_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(socket.socket):
        pass

    real = socket.socket
    monkeypatch.setattr(socket, "socket", Other)
    with standard_sockets():
        assert socket.socket is real
        with standard_sockets():
            pass
        assert socket.socket is real
    assert socket.socket is Other


def test_ours_are_sockets_of_the_standard_library() -> None:
    left, right = socket_pair(socket.AF_UNIX, socket.SOCK_STREAM)
    with left, right:
        assert isinstance(left, socket.socket)
        assert Socket.__mro__[1] is socket.socket
        left.sendall(b"x")
        assert right.recv(1) == b"x"
        with left.dup() as twin:
            assert isinstance(twin, Socket)


def test_no_module_makes_other_sockets() -> None:
    root = Path(pytest_netns.__file__).parent
    programs = {"impair/relay.py", "probe/traffic.py"}  # of their own: what a test replaces is not in them
    names = {"socket", "socketpair", "create_connection", "create_server", "fromfd", "getaddrinfo"}
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        if str(path.relative_to(root)) not in {"kernel/standard_sockets.py", *programs}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("socket", "_socket")
        and node.func.attr in names
    ]
    assert found == [], "use pytest_netns.kernel.standard_sockets: tests replace those of socket"

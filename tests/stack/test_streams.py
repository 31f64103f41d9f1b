from __future__ import annotations

import asyncio
import errno
import os

import pytest

from pytest_netns import Bridge, Host, Lab


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back all that comes, until the client is done."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def ask(host: Host, destination: object, port: int, text: bytes) -> bytes:
    """What comes back over a connection of its own."""
    reader, writer = await host.open_connection(destination, port)
    writer.write(text)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def serve(host: Host, address: object, port: int, name: bytes) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name + b" " + await reader.read())
        writer.close()
        await writer.wait_closed()

    return await host.start_server(answer, address, port)


def test_one_loop_serves_every_node_of_a_lab(bridge: Bridge) -> None:
    hosts = [bridge.host(f"h{number}") for number in range(5)]

    async def main() -> None:
        home = os.stat("/proc/thread-self/ns/net").st_ino
        servers = [await serve(host, "0.0.0.0", 80, host.name.encode()) for host in hosts]
        pairs = [(a, b) for a in hosts for b in hosts]
        answers = await asyncio.gather(*(ask(a, b, 80, a.name.encode()) for a, b in pairs))
        assert answers == [f"{b.name} {a.name}".encode() for a, b in pairs]
        assert os.stat("/proc/thread-self/ns/net").st_ino == home
        for server in servers:
            server.close()
            await server.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize("version", [4, 6])
def test_addresses_of_both_families_are_served_and_reached(veth_pair: tuple[Host, Host], version: int) -> None:
    left, right = veth_pair
    address = right.ip4 if version == 4 else right.ip6

    async def main() -> bytes:
        async with await right.start_server(echo, address, 7):
            return await ask(left, address, 7, b"x" * 300_000)

    assert asyncio.run(main()) == b"x" * 300_000


def test_a_node_stands_for_its_address(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair

    async def main() -> bytes:
        async with await right.start_server(echo, right, 7):
            return await ask(left, right, 7, b"hello")

    assert asyncio.run(main()) == b"hello"


def test_the_kernel_can_choose_the_port(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair

    async def main() -> bytes:
        async with await right.start_server(echo, "::", 0) as server:
            return await ask(left, right.ip6, server.sockets[0].getsockname()[1], b"hello")

    assert asyncio.run(main()) == b"hello"


def test_a_refused_connection_says_from_where_to_where(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with pytest.raises(ConnectionRefusedError) as caught:
        asyncio.run(left.open_connection(right.ip4, 81))
    assert caught.value.__notes__ == [f"connecting from namespace 'left' to {right.ip4} port 81"]


def test_a_port_in_use_is_an_error_that_names_the_namespace(veth_pair: tuple[Host, Host]) -> None:
    _, right = veth_pair

    async def main() -> None:
        async with await right.start_server(echo, "0.0.0.0", 7):
            await right.start_server(echo, "0.0.0.0", 7)

    with pytest.raises(OSError, match="in use") as caught:
        asyncio.run(main())
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.__notes__ == ["starting a server in namespace 'right' on 0.0.0.0 port 7"]


def test_the_same_port_is_served_in_two_nodes_by_one_loop(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")

    async def main() -> list[bytes]:
        servers = [await serve(host, "127.0.0.1", 8080, host.name.encode()) for host in (red, blue)]
        answers = [await ask(host, "127.0.0.1", 8080, b"?") for host in (red, blue)]
        for server in servers:
            server.close()
            await server.wait_closed()
        return answers

    assert asyncio.run(main()) == [b"red ?", b"blue ?"]


def test_streams_leak_no_descriptor(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair

    async def main() -> None:
        async with await right.start_server(echo, right, 7):
            await ask(left, right, 7, b"hello")

    asyncio.run(main())
    before = os.listdir("/proc/self/fd")
    asyncio.run(main())
    assert set(os.listdir("/proc/self/fd")) <= set(before)

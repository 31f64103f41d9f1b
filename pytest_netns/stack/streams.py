"""asyncio streams whose sockets live in a namespace, whatever namespace the event loop runs in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Protocol

from pytest_netns.kernel.standard_sockets import getaddrinfo
from pytest_netns.stack.calls import call
from pytest_netns.stack.node_socket import socket as open_node_socket

if TYPE_CHECKING:
    from pytest_netns.stack.handle import Handle


class Addressed(Protocol):
    """Something with an address of its own: a host, a router, a bridge."""

    @property
    def ip(self) -> IPv4Address | IPv6Address:
        """The address."""


#: Where a stream goes to, or comes in: an address, a name that resolves inside, or a node.
StreamHost = str | IPv4Address | IPv6Address | Addressed

ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


async def open_connection(
    node: Handle, host: StreamHost, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """See ``Namespace.open_connection``."""
    loop = asyncio.get_running_loop()
    last: OSError | None = None
    for family, kind, proto, address in await _resolve(node, host, port):
        sock = open_node_socket(node, family, kind, proto)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
            return await asyncio.open_connection(sock=sock)
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
    if last is None:
        last = OSError(f"{host!r} resolves to nothing")
    last.add_note(f"connecting from namespace {node.name!r} to {host} port {port}")
    raise last


async def start_server(node: Handle, client_connected: ClientConnected, host: StreamHost, port: int) -> asyncio.Server:
    """See ``Namespace.start_server``."""
    family, kind, proto, address = (await _resolve(node, host, port))[0]
    sock = open_node_socket(node, family, kind, proto)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        return await asyncio.start_server(client_connected, sock=sock)
    except OSError as error:
        sock.close()
        error.add_note(f"starting a server in namespace {node.name!r} on {host} port {port}")
        raise


async def _resolve(node: Handle, host: StreamHost, port: int) -> list[tuple[int, int, int, tuple[str, int]]]:
    name = str(getattr(host, "ip", host))
    # getaddrinfo() asks its servers through sockets of the thread that it runs in, so that one must be inside; and it
    # blocks, so it is not the loop's.
    found = await asyncio.get_running_loop().run_in_executor(
        None, lambda: call(node, getaddrinfo, name, port, type=socket.SOCK_STREAM)
    )
    return [(family, kind, proto, address) for family, kind, proto, _, address in found]

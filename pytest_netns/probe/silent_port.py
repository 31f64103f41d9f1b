"""Silent ports: the kernel resets TCP segments for which it has no connection; not those of ports that are kept here.

A socket that listens, and whose filter (socket(7), SO_ATTACH_FILTER) drops all that it is handed, keeps a port: the
kernel finds it, and so sends no RST, and the socket answers nothing. No firewall is needed.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pytest_netns.checks import check_port
from pytest_netns.errors import KernelError
from pytest_netns.kernel.standard_sockets import Socket
from pytest_netns.kernel.syscalls import entered
from pytest_netns.stack.namespace import Namespace

_SO_ATTACH_FILTER = 26
# BPF_RET | BPF_K, 0: no byte of it is kept. <linux/filter.h>
_NOTHING = struct.pack("=HBBI", 0x06, 0, 0, 0)


@contextmanager
def without_rst(node: Namespace, /, *ports: int) -> Iterator[None]:
    """Suppress the kernel's RSTs from TCP ports that the test handles itself, during a ``with`` block.

    The kernel answers a segment of an unknown connection with a RST, which ends every handshake
    made by ``send`` and ``sr1``. In the block it does not answer segments to these ports, over IPv4
    and IPv6; captures, ``sr`` and ``sr1`` see it all the same. It needs no firewall.

    Args:
        ports: of this node, 1 to 65535.

    Raises:
        KernelError: a socket of this node has the port (EADDRINUSE).
        ValueError: a port is out of range, or none is given.

    Example:
        >>> with red.without_rst(4000):
        ...     syn = IP(dst=blue.ip4) / TCP(sport=4000, dport=80, flags="S", seq=10)
        ...     answer = red.sr1(syn)
        ...     red.send(IP(dst=blue.ip4) / TCP(sport=4000, dport=80, flags="A", seq=11, ack=answer.seq + 1))
    """
    for port in ports:
        check_port(port)
    if not ports:
        raise ValueError("ports is empty; expected one TCP port or several")
    node._before_entry()
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(_silent(node, port))
        yield


def _silent(node: Namespace, port: int) -> socket.socket:
    with entered(node):
        try:
            sock = Socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise KernelError.of(error, f"bind tcp port {port}", node.name) from error
            sock = Socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        program = ctypes.create_string_buffer(_NOTHING)
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
        sock.bind(("", port))
        sock.listen(1)
    except OSError as error:
        sock.close()
        detail = "a socket of this host has the port" if error.errno == errno.EADDRINUSE else ""
        raise KernelError.of(error, f"bind tcp port {port}", node.name, detail) from error
    return sock

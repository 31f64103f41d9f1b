"""A UDP server in a thread of the test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_netns import Host

Answer = Callable[[bytes], bytes | None]


@contextmanager
def server(host: Host, port: int, answer: Answer) -> Iterator[None]:
    """Answers each datagram on a port, of both families; says nothing where ``answer`` returns None."""
    sock = host.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("", port))

    def serve() -> None:
        while True:
            data, sender = sock.recvfrom(1 << 16)
            if data == b"the end":
                return
            reply = answer(data)
            if reply is not None:
                sock.sendto(reply, sender)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with host.socket(socket.AF_INET6, socket.SOCK_DGRAM) as last:
            last.sendto(b"the end", ("::1", port))
        thread.join()
        sock.close()

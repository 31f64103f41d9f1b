"""pyroute2 in a namespace, from whatever thread, with or without an event loop."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, cast

from pytest_netns.kernel.netlink.pyroute2_codec import prepare_pyroute2
from pytest_netns.kernel.standard_sockets import standard_sockets
from pytest_netns.kernel.syscalls import entered
from pytest_netns.stack.handle import Handle
from pytest_netns.stack.threaded_iproute import ThreadedIPRoute

if TYPE_CHECKING:
    from pyroute2 import IPRoute


def iproute_of(namespace: Handle) -> IPRoute:
    """A pyroute2 ``IPRoute`` that talks to this namespace from whatever thread uses it. Closed with it.

    Inside a running event loop its calls are made by a thread, and the loop waits: pyroute2 has a loop of its own.
    """
    if "asyncio" in sys.modules and sys.modules["asyncio"]._get_running_loop() is not None:
        if namespace._iproute_worker is None:
            namespace._iproute_worker = ThreadedIPRoute(partial(_make_iproute, namespace))
        return cast("IPRoute", namespace._iproute_worker)
    if namespace._iproute is None:
        namespace._iproute = _make_iproute(namespace)
    return namespace._iproute


def _make_iproute(namespace: Handle) -> IPRoute:
    fd = namespace.fd
    prepare_pyroute2()
    from pyroute2 import IPRoute

    with standard_sockets(), entered(fd):
        iproute = IPRoute()
    # pyroute2 makes a socket, and an event loop, for each thread that uses the object, at its first use there, in
    # whatever namespace that thread happens to be, and of whatever ``socket.socket`` happens to be.
    socket_of_thread, loop_of_thread = iproute.asyncore.setup_socket, iproute.asyncore.setup_event_loop

    def setup_socket() -> object:
        with standard_sockets(), entered(fd):
            return socket_of_thread()

    def setup_event_loop() -> object:
        with standard_sockets():
            return loop_of_thread()

    iproute.asyncore.setup_socket = setup_socket
    iproute.asyncore.setup_event_loop = setup_event_loop
    return iproute

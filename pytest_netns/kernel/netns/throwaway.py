"""A throwaway network namespace for trying a request on the kernel."""

from __future__ import annotations

from collections.abc import Callable

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.syscalls import CLONE_NEWNET, returning, unshare


class throwaway(returning):  # noqa: N801 - used like the functions of contextlib
    """The calling thread is in a new, unconfigured namespace for the duration of the ``with`` block."""

    __slots__ = ()

    def __enter__(self) -> None:
        super().__enter__()
        try:
            unshare(CLONE_NEWNET)
        except BaseException:
            self.__exit__()
            raise


def errno_of(ask: Callable[[NetlinkSocket], None]) -> int:
    """The errno with which the kernel refused the requests of ``ask`` in a throwaway namespace; 0 if it did not."""
    with throwaway():
        link = NetlinkSocket("probe")
        try:
            ask(link)
        except KernelError as error:
            return error.errno
        finally:
            link.close()
    return 0

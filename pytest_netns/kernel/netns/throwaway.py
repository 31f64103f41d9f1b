"""A network namespace for a question to the kernel: made for it, and gone with the answer."""

from __future__ import annotations

from collections.abc import Callable

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.syscalls import CLONE_NEWNET, returning, unshare


class throwaway(returning):  # noqa: N801 - used like the functions of contextlib
    """The calling thread is in a new namespace, in which nothing is set up, for the duration of the ``with`` block."""

    __slots__ = ()

    def __enter__(self) -> None:
        super().__enter__()
        try:
            unshare(CLONE_NEWNET)
        except BaseException:
            self.__exit__()
            raise


def errno_of(ask: Callable[[NetlinkSocket], None]) -> int:
    """The errno with which the kernel refused what ``ask`` asked in such a namespace; 0 if it did not."""
    with throwaway():
        link = NetlinkSocket("probe")
        try:
            ask(link)
        except KernelError as error:
            return error.errno
        finally:
            link.close()
    return 0

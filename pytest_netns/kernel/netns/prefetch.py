"""NamespacePrefetcher: network namespaces that are made in advance, in a thread, for whoever will need one at a time.

Most of the making is one system call in which the kernel is busy for half a millisecond. While a test runs, another
processor can do that for the next one. What the namespace is given then (``create_namespace``) is left to whoever
acquires it.
"""

from __future__ import annotations

import os
import queue
import threading

from pytest_netns.errors import WaitTimeout
from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.syscalls import CLONE_NEWNET, open_namespace, setns, unshare

#: Seconds in which a namespace is made. The kernel makes and dismantles one at a time.
_DEADLINE = 60.0


class NamespacePrefetcher:
    """Gives bare namespaces, of which it has one at most in store."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._born: queue.SimpleQueue[int | OSError] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._owner = os.getpid()
        self._due = False
        self._lock = Lock("making a namespace in advance")
        self._inode = 0

    def holds(self, inode: int) -> bool:
        """Whether a namespace is the one in store. One whose descriptor can be seen is known here."""
        with self._lock:
            return inode == self._inode

    def prefetch(self) -> None:
        """Have one ready for the next ``acquire()``. The calling thread is not moved, and waits for nothing."""
        if self._due or self._owner != os.getpid():  # a forked child has no such thread
            return
        with uninterrupted:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="netns-prefetch", daemon=True)
                self._thread.start()
            self._due = True
            self._orders.put(True)

    def acquire(self) -> int:
        """Descriptor of the one that was ordered, which is the caller's now; -1 if none was.

        Raises:
            OSError: the kernel refused.
            WaitTimeout: it takes too long.
        """
        with uninterrupted:
            if not self._due or self._owner != os.getpid():
                return -1
            try:
                found = self._born.get(timeout=_DEADLINE)
            except queue.Empty:
                raise WaitTimeout(
                    f"the namespace that is made in advance was not ready within {_DEADLINE:g} s; look for tasks "
                    "that hold up the kernel (dmesg, /proc/*/stack)"
                ) from None
            self._due = False
            if isinstance(found, OSError):
                raise found
            self._inode = 0  # the next one is not ordered yet, so the thread is idle
            return found

    def close(self) -> None:
        """Let go of the one in store; allowed more than once, and another one can be ordered."""
        with uninterrupted:
            try:
                fd = self.acquire()
            except (OSError, WaitTimeout):
                return  # it was never born, and nobody needs it
            if fd >= 0:
                os.close(fd)

    def _serve(self) -> None:
        home = -1
        while self._orders.get():
            try:
                if home < 0:
                    home = open_namespace()
                unshare(CLONE_NEWNET)
                try:
                    with self._lock:
                        fd = open_namespace()
                        self._inode = os.fstat(fd).st_ino
                finally:
                    setns(home)  # or this thread would keep it alive
            except OSError as error:  # raised by take()
                self._born.put(error)
                continue
            self._born.put(fd)


prefetcher: NamespacePrefetcher = NamespacePrefetcher()

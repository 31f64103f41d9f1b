"""Fault: a failure injected on purpose, until it is undone."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import ClassVar, Self

from pytest_netns.kernel.locks import Lock
from pytest_netns.topology.node import BaseNode


class Fault:
    """A fault injected by a test. ``undo()`` removes it, as does the end of its ``with`` block.

    A fault that is not undone ends with the lab.

    Args:
        register: the faults of its lab.
        what: in a few words, with the names of the nodes.
        undo: mends it.
        nodes: those that it is about.
        on_restart: called with each host that has come back from a crash, which the network around it has not seen.

    Attributes:
        what: as given.
        nodes: as given.
        ends_with_crash: whether it ends when its host crashes, so that it need not be undone.

    Example:
        >>> with link.down() as fault:
        ...     assert fault.in_force
    """

    ends_with_crash: ClassVar[bool] = False

    def __init__(
        self,
        register: Faults,
        what: str,
        undo: Callable[[], None],
        nodes: Sequence[BaseNode] = (),
        on_restart: Callable[[BaseNode], None] | None = None,
    ) -> None:
        self.what = what
        self.nodes: tuple[BaseNode, ...] = tuple(nodes)
        self._register = register
        self._undo = undo
        self._on_restart = on_restart
        self._owner = os.getpid()
        self._mending = Lock("undoing a fault")  # mending may ask for just that: Link.up() for one
        register.add(self)

    def __repr__(self) -> str:
        return f"<Fault: {self.what}{'' if self.in_force else ' (undone)'}>"

    def __str__(self) -> str:
        return self.what

    @property
    def in_force(self) -> bool:
        """Whether it has not been undone yet."""
        return self in self._register

    def undo(self) -> None:
        """Undo it; idempotent. Raises what undoing it raises.

        State that nodes of the lab have learnt meanwhile is flushed: path MTUs, redirects and failed neighbours. In
        a forked child of the process that injected it this does nothing: the child leaves the ``with`` blocks that it
        was forked in, but the network belongs to its parent.

        It counts as in force until it is undone completely. A second thread that calls this meanwhile waits.

        Example:
            >>> fault = link.down()
            >>> fault.undo()
        """
        if self._owner != os.getpid():
            return
        with self._mending:
            if self.in_force:
                with self._register.mending():
                    try:
                        self._undo()
                    finally:
                        self._register.drop(self)

    def _restarted(self, host: BaseNode) -> None:
        """Called when a host has come back from a crash, which the network around it has not seen."""
        if self._on_restart is not None:
            self._on_restart(host)

    def _forget(self) -> None:
        """Called by whoever has mended it by another way."""
        self._register.drop(self)

    def stops(self, way: Sequence[BaseNode], kind: str) -> BaseNode | None:
        """The node at fault if this is why packets do not get along a way.

        Args:
            way: the nodes from who asks to who is asked.
            kind: the probe: ``"ping"``, ``"tcp"`` or ``"udp"``.
        """
        del way, kind
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.undo()


class Faults:
    """The faults of a lab that are in force, oldest first.

    Args:
        forget: called after the mending of one or several: nothing that nodes remember of it must count any more.
    """

    def __init__(self, forget: Callable[[], None]) -> None:
        self._lock = Lock("counting faults")  # a schedule makes and mends them in its thread
        self._forget = forget
        self._mending = 0
        self._faults: list[Fault] = []

    def __iter__(self) -> Iterator[Fault]:
        return iter(list(self._faults))

    def __len__(self) -> int:
        return len(self._faults)

    def __contains__(self, fault: object) -> bool:
        return any(fault is other for other in self._faults)

    def add(self, fault: Fault) -> None:
        """Take note of one."""
        with self._lock:
            self._faults.append(fault)

    def drop(self, fault: Fault) -> bool:
        """Strike one off; False if it was not in force."""
        with self._lock:
            before = len(self._faults)
            self._faults = [other for other in self._faults if other is not fault]
            return len(self._faults) < before

    @contextmanager
    def mending(self) -> Iterator[None]:
        """Around whatever mends something: at the end of the outermost block, nodes forget what is over."""
        with self._lock:
            self._mending += 1
        try:
            yield
        finally:
            with self._lock:
                self._mending -= 1
                is_last = not self._mending
            if is_last:
                self._forget()

    def undo_all(self, nodes: Collection[BaseNode] | None = None) -> list[Exception]:
        """Mend everything, the last fault first, and return what went wrong.

        Args:
            nodes: only the faults that are about one of these.
        """
        errors: list[Exception] = []
        for fault in reversed(list(self)):
            if nodes is not None and not any(node in nodes for node in fault.nodes):
                continue
            try:
                fault.undo()
            except Exception as error:  # the others are mended all the same; the caller raises it
                errors.append(error)
        return errors

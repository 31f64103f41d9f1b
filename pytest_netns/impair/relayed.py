"""The relay as an engine: the impairment of one interface, from the wiring to the reading back."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, cast

from pytest_netns.errors import KernelError, NetnsError, ProcessDied
from pytest_netns.impair.impairment import ActiveImpairment, Counters, Engine, Impairment
from pytest_netns.impair.redirect import Redirect, add_clsact, prepare

if TYPE_CHECKING:
    from pytest_netns.impair.control import RelayControl
    from pytest_netns.impair.target import Target

_numbers = itertools.count(1)


class Relayed:
    """What one interface sends, impaired by the relay.

    Args:
        interface: whose frames.
        relay: gives the one of the lab, which is started when it is first needed.
    """

    engine: Engine = "relay"

    def __init__(self, interface: Target, relay: Callable[[], RelayControl]) -> None:
        self._interface = interface
        self._relay = relay()
        self._number = next(_numbers)
        self._redirect: Redirect | None = None
        self.added_clsact: bool = False
        self.seed: int | None = None
        self.last: Impairment = Impairment()

    @property
    def interface(self) -> Target:
        """Whose frames."""
        return self._interface

    @interface.setter
    def interface(self, same: Target) -> None:
        self._interface = same
        if self._redirect is not None:
            self._redirect.interface = same

    @property
    def usable(self) -> bool:
        """False if its relay is dead."""
        return self._relay.usable

    def apply(self, impairment: Impairment, seed: int | None) -> ActiveImpairment:
        """Have it in force, instead of what was, and read it back. Frames under way keep what they were given.

        Raises:
            UnsupportedError: the kernel lacks a part of the wiring.
            TopologyError: another filter has the priority that the relay needs.
            KernelError: it refused, or something else came out than was asked.
            ProcessDied: the relay process has exited.
        """
        wanted = {field.name: getattr(impairment, field.name) for field in fields(Impairment)}
        # Each direction has random numbers of its own, whatever the order in which they are made.
        text = None if seed is None else f"{seed}/{self.interface}"
        details: dict[str, object] = {"wanted": {**wanted, "limit": impairment.limit}, "seed": text}
        if self._redirect is None:
            redirect = prepare(self.interface)
            try:
                answer = self._relay.ask("open", self._number, (redirect.tap, redirect.out), details)
            except BaseException:
                redirect.close_descriptors(last=True)
                raise
            redirect.close_descriptors(last=False)
            try:
                self.added_clsact = add_clsact(self.interface)
                redirect.install()  # last: nothing may come before there is somebody to take it
            except NetnsError:
                self._relay.ask("drop", self._number)
                raise
            self._redirect = redirect
        else:
            answer = self._relay.ask("set", self._number, details=details)
        self.seed = seed
        self.last = impairment
        found = self._told(answer)
        if found != impairment:
            raise NetnsError(f"impairing {self.interface}: {impairment} was asked, and the relay does {found}")
        return found

    def read(self) -> ActiveImpairment:
        """What is in force now. Raises ProcessDied, KernelError."""
        return self._told(self._relay.ask("state", self._number))

    def waiting(self) -> int:
        """Frames that are under way now. Raises ProcessDied."""
        return cast("int", self._relay.ask("state", self._number).get("queued", 0))

    def _told(self, answer: Mapping[str, object]) -> ActiveImpairment:
        """What the relay says of itself, if it still gets the frames."""
        if answer.get("gone") or self._redirect is None or not self._redirect.installed:
            _ = self.interface.state  # so that its removal is told as such
            operation = f"tc filter show dev {self.interface.name} egress"
            detail = "the redirection to the relay was removed by other means"
            raise KernelError(errno.ENOENT, operation, self.interface.node.name, detail)
        found = cast("dict[str, float]", answer["in_force"])
        counted = cast("dict[str, int]", answer["counters"])
        counted["overflowed"] += self._redirect.overrun
        impairment = Impairment(**{name: value for name, value in found.items() if name != "limit"})
        return ActiveImpairment(impairment, self.engine, self.seed, Counters(**counted))

    def heal(self) -> None:
        """Impair nothing any more. Frames under way are still delivered, each at its time.

        Raises:
            KernelError: the kernel refused.
        """
        if self._redirect is not None:
            self._redirect.uninstall()
            self._redirect = None
            self._tell("drain")

    def abandon(self) -> None:
        """The interface, or its namespace, goes: throw away what is under way, and hold on to nothing."""
        self._redirect = None
        self._tell("drop")

    def _tell(self, do: str) -> None:
        if self._relay.usable:
            try:
                self._relay.ask(do, self._number)
            except ProcessDied:
                pass  # so it holds nothing any more, and heal() has just put right what it left

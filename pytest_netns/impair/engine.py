"""Impairments of a lab: which interface has which, by which engine, and who takes them away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Protocol

from pytest_netns.checks import is_whole
from pytest_netns.errors import NetnsError, TopologyError
from pytest_netns.kernel.locks import Lock

# The engines are imported on use: every lab has an object of this module's, and few impair anything.
if TYPE_CHECKING:
    from pytest_netns.impair.control import RelayControl
    from pytest_netns.impair.impairment import ActiveImpairment, Engine, Impairment
    from pytest_netns.impair.target import Target
    from pytest_netns.process.supervisor import Supervisor

_Key = tuple[int, int]
_ENGINES: tuple[Engine, ...] = ("auto", "netem", "tbf", "relay")


class _Engine(Protocol):
    """The impairment of one interface."""

    interface: Target
    last: Impairment

    seed: int | None

    @property
    def engine(self) -> Engine: ...

    @property
    def usable(self) -> bool: ...

    added_clsact: bool

    def apply(self, impairment: Impairment, seed: int | None) -> ActiveImpairment: ...

    def read(self) -> ActiveImpairment: ...

    def waiting(self) -> int: ...

    def heal(self) -> None: ...

    def abandon(self) -> None: ...


def check_engine(engine: object) -> Engine:
    """The engine, if it is one. Raises TopologyError."""
    for known in _ENGINES:
        if engine == known:
            return known
    raise TopologyError(f"engine={engine!r}: known are {', '.join(map(repr, _ENGINES))}")


@cache
def _netem_takes_seeds() -> bool:
    from pytest_netns.impair.netem import seedable
    from pytest_netns.kernel.features.features import feature

    return feature("netem").present and seedable()


def choose(wanted: Engine, impairment: Impairment, seed: int | None) -> Engine:
    """The engine that is meant: netem where the kernel has it, and can be seeded if that is asked for.

    Else tbf if it can do what is asked, which is a rate alone, and if not the relay.
    """
    if wanted != "auto":
        return wanted
    from pytest_netns.kernel.features.features import feature

    if _netem_takes_seeds() if seed is not None else feature("netem").present:
        return "netem"
    return "tbf" if seed is None and impairment.is_rate_alone and feature("tbf").present else "relay"


def check_seed(seed: object) -> int | None:
    """A seed, if it is one. Raises TopologyError."""
    if seed is None or is_whole(seed, 0, (1 << 64) - 1):
        return seed
    raise TopologyError(f"seed={seed!r}: expected a whole number from 0 to 2**64 - 1")


class Impairments:
    """Those of one lab, or of one namespace that stands alone.

    Args:
        supervisor: starts the relay.
        default: the engine for those that are not told one.

    Attributes:
        mending: gives what stands around the end of an impairment; a lab has its nodes forget there what is over.
    """

    def __init__(self, supervisor: Supervisor, default: Engine = "auto") -> None:
        self._supervisor = supervisor
        self._default = check_engine(default)
        self._lock = Lock("changing an impairment")
        self._active: dict[_Key, _Engine] = {}
        self._draining: dict[int, list[_Engine]] = {}
        self._places: dict[_Key, Target] = {}  # where we have made one for filters
        self._control: RelayControl | None = None
        self.mending: Callable[[], AbstractContextManager[None]] = nullcontext

    def _relay(self) -> RelayControl:
        if self._control is None or not self._control.usable:
            from pytest_netns.impair.control import RelayControl

            if self._control is not None:
                self._control.close()
            self._control = RelayControl(self._supervisor)
        return self._control

    def _found(self, interface: Target) -> _Engine | None:
        engine = self._active.get(_key(interface))
        if engine is not None:
            engine.interface = interface  # of hosts in one namespace the one that was asked before may be closed
        if _key(interface) in self._places:
            self._places[_key(interface)] = interface
        return engine

    def _new(self, interface: Target, engine: Engine, before: _Engine | None) -> _Engine:
        if engine == "netem":
            from pytest_netns.impair.netem import Netem

            return Netem(interface, before)
        if engine == "tbf":
            from pytest_netns.impair.tbf import Tbf

            return Tbf(interface, before)
        from pytest_netns.impair.relayed import Relayed

        return Relayed(interface, self._relay)

    def apply(
        self, interface: Target, impairment: Impairment, seed: int | None, engine: Engine | None
    ) -> ActiveImpairment:
        """Impair what an interface sends, instead of what was. See ``Interface.impair``."""
        key = _key(interface)
        chosen = choose(check_engine(engine or self._default), impairment, check_seed(seed))
        with self._lock:
            if not interface.state.mac:
                raise TopologyError(f"{interface} carries no Ethernet frames; only such can be impaired")
            before = self._found(interface)
            if "relay" in (chosen, before and before.engine) and self._control is not None:
                self._control.check_alive()
            if before is not None and before.engine == chosen and before.usable:
                return before.apply(impairment, seed)
            new = self._new(interface, chosen, before)
            if before is not None and before.engine == chosen:
                before.heal()  # its relay is dead, which has been told
            drained = self._make_way(interface, before, new)
            try:
                found = new.apply(impairment, seed)
            except BaseException:
                if drained and before is not None:
                    before.apply(before.last, before.seed)
                raise
            finally:
                if new.added_clsact:
                    self._places[key] = interface
            self._active[key] = new
            if before is not None and before.engine != chosen:
                before.heal()
            return found

    def _make_way(self, interface: Target, before: _Engine | None, new: _Engine) -> bool:
        """Let what waits in a queueing discipline go: to make the place for the relay's filter costs these frames.

        False if nothing had to be done.
        """
        if before is None or new.engine != "relay" or before.engine == "relay":
            return False
        from pytest_netns.impair.qdisc import RootQdisc
        from pytest_netns.impair.redirect import has_clsact

        if not isinstance(before, RootQdisc) or has_clsact(interface):
            return False
        before.drain()
        return True

    def heal(self, interface: Target) -> None:
        """Impair it no more. Raises KernelError."""
        with self.mending(), self._lock:
            engine = self._found(interface)
            if engine is not None:
                del self._active[_key(interface)]
                self._draining.setdefault(interface.node.inode, []).append(engine)
                engine.heal()

    def heal_all(self) -> list[Exception]:
        """Impair nothing any more; returns what went wrong."""
        errors: list[Exception] = []
        with self.mending(), self._lock:
            for engine in list(self._active.values()):
                try:
                    self.heal(engine.interface)
                except NetnsError as error:  # the others are healed all the same
                    errors.append(error)
        return errors

    def of(self, interface: Target) -> ActiveImpairment | None:
        """What is in force now, read back. Raises ProcessDied, KernelError."""
        with self._lock:
            engine = self._found(interface)
            return None if engine is None else engine.read()

    def waiting(self, interface: Target) -> int:
        """How many frames an interface has sent that are under way now. Raises ProcessDied, KernelError."""
        with self._lock:
            engine = self._found(interface)
            return 0 if engine is None else engine.waiting()

    def words(self, interface: Target) -> str:
        """What was set last and by which engine, for messages; empty if nothing was. Does not query the kernel."""
        engine = self._active.get(_key(interface))
        return "" if engine is None else f"{engine.last} by {engine.engine}"

    def in_force(self) -> list[str]:
        """All of them in words. Does not query the kernel."""
        return [f"{each.interface} is impaired: {each.last} by {each.engine}" for each in list(self._active.values())]

    def delays(self) -> float:
        """Seconds by which all of them together may delay a frame. Does not query the kernel."""
        return sum(each.last.delay + each.last.jitter for each in list(self._active.values()))

    def setting(self, interface: Target) -> tuple[Impairment, int | None, Engine] | None:
        """What was set last: what, with which seed, by which engine. Does not query the kernel."""
        engine = self._active.get(_key(interface))
        return None if engine is None else (engine.last, engine.seed, engine.engine)

    def fit(self, interface: Target) -> None:
        """Its mtu has changed: tbf drops frames that its bucket cannot hold. Raises KernelError."""
        with self._lock:
            engine = self._found(interface)
            if engine is not None and engine.engine == "tbf":
                engine.apply(engine.last, engine.seed)

    def forget(self, interface: Target) -> None:
        """The interface is about to be removed, or was."""
        with self._lock:
            engine = self._active.pop(_key(interface), None)
            if engine is not None:
                engine.abandon()
            self._places.pop(_key(interface), None)

    def leave(self, inode: int, *, alive: bool) -> list[Exception]:
        """A namespace is about to be let go of; returns what went wrong.

        Args:
            inode: which.
            alive: it lives on without us, so that what we put there must go.
        """
        errors: list[Exception] = []
        with self._lock:
            for key in [key for key in self._active if key[0] == inode]:
                engine = self._active.pop(key)
                try:
                    if alive:
                        engine.heal()
                    engine.abandon()
                except NetnsError as error:  # reported by who closes, with all others
                    errors.append(error)
            for key in [key for key in self._places if key[0] == inode]:
                place = self._places.pop(key)
                if alive:
                    from pytest_netns.impair.redirect import remove_clsact

                    try:
                        remove_clsact(place)
                    except NetnsError as error:  # likewise
                        errors.append(error)
            for engine in self._draining.pop(inode, []):
                engine.abandon()
        return errors

    def close(self) -> None:
        """Nobody will ask any more; the relay has been killed."""
        with self._lock:
            self._active.clear()
            self._draining.clear()
            self._places.clear()
            if self._control is not None:
                self._control.close()


def _key(interface: Target) -> _Key:
    return interface.node.inode, interface.index

"""Traffic pair: a sender and a receiver, processes of ours, between which is measured. ``traffic`` is their program."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from functools import cache
from typing import Literal, cast

from pytest_netns import ready
from pytest_netns.addresses import Address, is_of_link
from pytest_netns.errors import WaitTimeout
from pytest_netns.process.process import Process
from pytest_netns.stack.destination import Destination, resolve
from pytest_netns.stack.namespace import Namespace

Protocol = Literal["tcp", "udp"]

#: Seconds between two samples.
INTERVAL = 0.1
#: Seconds without a datagram after which no more is expected; and in which the end must come once all is sent.
QUIET = 1.0
_SETTLE = 2.0
#: Seconds at most for the queues on the way to empty themselves.
_DRAINED = 600.0
#: Seconds by which a sender may be late.
_PATIENCE = 60.0
#: How the program is given: an argument would be shown, all of it, wherever a command is named.
_VARIABLE = "NETNS_TRAFFIC"
_LOADER = f"import os; exec(os.environ[{_VARIABLE!r}])"


def label_of(receiver: Namespace, address: Address) -> str:
    """What results call a receiver: its name and address."""
    return f"{receiver.name} ({address})"


def receiver_of(source: Namespace, destination: Destination) -> tuple[Namespace, Address, int]:
    """Who receives, and by which address: a node, or the node of an interface."""
    target = resolve(source, destination)
    if isinstance(destination, Namespace):
        return destination, target.address, target.scope
    node = getattr(destination, "node", None)
    if isinstance(node, Namespace):
        return node, target.address, target.scope
    raise TypeError(
        f"traffic needs a process that receives it, and {destination!r} is an address; give the node or its interface"
    )


@cache
def _program() -> str:
    from importlib.resources import files  # takes 8 ms

    return files("pytest_netns.probe").joinpath("traffic.py").read_text(encoding="utf-8")


def _argv(role: str, arguments: Mapping[str, object]) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _LOADER, json.dumps({"role": role, **arguments})]


def _environment() -> dict[str, str]:
    return {**os.environ, _VARIABLE: _program()}


def exchange(
    source: Namespace,
    receiver: Namespace,
    address: Address,
    scope: int,
    protocol: Protocol,
    wanted: Mapping[str, object],
) -> tuple[dict[str, object], dict[str, object]]:
    """Run both ends and return what the sender and the receiver say."""
    arguments = {**wanted, "address": str(address)}
    listening = receiver.spawn(
        _argv(f"receive_{protocol}", {**arguments, "scope": _scope_at(receiver, address)}),
        ready=ready.output(r'^\{"port": '),
        env=_environment(),
    )
    try:
        port = json.loads(listening.output.splitlines()[0])["port"]
        argv = _argv(f"send_{protocol}", {**arguments, "scope": scope, "port": port})
        said = source.run(argv, env=_environment(), timeout=_longest(wanted)).stdout
        sent: dict[str, object] = json.loads(said.splitlines()[-1])
        nothing = sent.get("sent") == 0
        return sent, _last_words(listening, 0.0 if nothing else _SETTLE + source.impairments.delays())
    finally:
        listening.kill()
        receiver._forget(listening)


def _longest(wanted: Mapping[str, object]) -> float:
    """Seconds in which a sender has ended that is not stopped by somebody, on however busy a machine."""
    count, gap = cast("int | None", wanted.get("count")), cast(float, wanted.get("gap", 0.0))
    seconds = cast(float, wanted["seconds"]) + cast(float, wanted["omit"])
    return 2 * (seconds if count is None else count * gap) + cast(float, wanted["timeout"]) + _PATIENCE


def _scope_at(receiver: Namespace, address: Address) -> int:
    """Index of the interface that has a link-local address; 0 for another address, which needs none."""
    if not is_of_link(address):
        return 0
    return next(i.index for i in receiver.interfaces.values() if any(a.ip == address for a in i.addresses))


def _last_words(listening: Process, settle: float) -> dict[str, object]:
    """What the receiver says at its end, for which it is asked if it does not come by itself.

    It goes on as long as something comes: a slow link has a queue to empty.
    """
    try:
        listening.wait(settle)
    except WaitTimeout:
        listening.send_signal(signal.SIGTERM)
        listening.wait(_DRAINED)
    last: dict[str, object] = json.loads(listening.output.splitlines()[-1])
    return {} if "port" in last else last  # a TCP receiver that nobody has connected to says no more

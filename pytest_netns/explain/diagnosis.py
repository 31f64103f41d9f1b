"""Diagnosis: what one check has found out, and the explanation that is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class Diagnosis:
    """Why a packet does not go on.

    Attributes:
        cause: one sentence with the node's name.
        node: name of the node where it is; None if it is nowhere in particular.
        evidence: lines that show it.
        cures: what mends it, in calls of this package or commands.
    """

    cause: str
    node: str | None
    evidence: list[str] = field(default_factory=list)
    cures: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Explanation:
    """Why a probe failed. Printed, it is what a failed test shows.

    Attributes:
        observed: what happened on the wire.
        cause: one sentence with the node's name; None if it could not be told.
        node: name of the node at fault; None likewise, or if no single one is.
        evidence: lines that show it.
        cures: fixes, as calls of this package or commands, the best first; empty if the test broke it itself.
        ruled_out: what was looked at and is in order.
        ladder: the conversation as a sequence diagram, when it was asked again; empty if nothing was sent.
        others: what else failed with it, a line each with its own cause.
        way: the nodes that the request was seen at when it was asked again, in order.

    Example:
        >>> explanation = why(red.tcp(blue, 81))
        >>> print(explanation.cause, explanation.cures)
    """

    observed: str
    cause: str | None = None
    node: str | None = None
    evidence: list[str] = field(default_factory=list)
    cures: list[str] = field(default_factory=list)
    ruled_out: list[str] = field(default_factory=list)
    ladder: str = ""
    others: list[str] = field(default_factory=list)
    way: list[str] = field(default_factory=list)

    @property
    def shortest(self) -> int:
        """Lines that are not to be cut: all but the evidence, with one that says so."""
        return len(str(replace(self, evidence=[])).splitlines()) + (1 if self.evidence else 0)

    def __str__(self) -> str:
        if self.cause is not None:
            lines = [f"cause: {self.cause}", *(f"cure: {cure}" for cure in self.cures)]
        else:
            lines = ["cause: not found; ruled out:", *_indented(self.ruled_out)]
        if self.ladder:
            lines += ["asked again:", *_indented(self.ladder.splitlines())]
        lines.append(f"observed: {self.observed}")
        if self.others:
            lines += ["others:", *_indented(self.others)]
        # What the kernel's trace says is the cause itself.
        evidence = [line for line in dict.fromkeys(self.evidence) if line != f"traced: {self.cause}"]
        if evidence:
            lines += ["evidence:", *_indented(evidence)]
        return "\n".join(lines)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]

"""Diagnosis: the result of one check, and the explanation made from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace


@dataclass(slots=True)
class Diagnosis:
    """Why a packet is not forwarded, delivered or answered.

    Attributes:
        cause: one sentence with the node's name.
        node: name of the node at fault; None if it is no single one.
        evidence: lines that support it.
        cures: fixes, as calls of this package or commands.
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
        cause: one sentence with the node's name; None if no cause was found.
        node: name of the node at fault; None if no cause was found, or it is no single node.
        evidence: lines that support it.
        cures: fixes, as calls of this package or commands, the best first; empty if the test broke it on purpose.
        ruled_out: what was checked and is in order.
        ladder: the repeated probe as a sequence diagram; empty if nothing was sent.
        others: what else failed along with it, a line each with its own cause.
        way: the nodes that saw the request of the repeated probe, in order.

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
        """The number of lines that must not be cut: all but the evidence, and one that says that it was cut."""
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
        # The kernel's trace is the cause itself.
        evidence = [line for line in dict.fromkeys(self.evidence) if line != f"traced: {self.cause}"]
        if evidence:
            lines += ["evidence:", *_indented(evidence)]
        return "\n".join(lines)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]

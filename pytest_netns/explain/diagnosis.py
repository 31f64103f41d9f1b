"""Diagnosis: what one check has found out, and the explanation that is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Diagnosis:
    """Why a packet does not go on.

    Attributes:
        cause: one sentence with the node's name.
        node: name of the node where it is; None if it is nowhere in particular.
        evidence: lines that show it.
    """

    cause: str
    node: str | None
    evidence: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Explanation:
    """Why a probe failed.

    Attributes:
        observed: what happened on the wire.
        cause: one sentence with the node's name; None if it could not be told.
        node: name of the node at fault; None likewise.
        evidence: lines that show it.
        ruled_out: what it is not.
        ladder: the conversation as a sequence diagram, when it was asked again; empty if nothing was sent.
    """

    observed: str
    cause: str | None = None
    node: str | None = None
    evidence: list[str] = field(default_factory=list)
    ruled_out: list[str] = field(default_factory=list)
    ladder: str = ""

    def __str__(self) -> str:
        lines = [f"observed: {self.observed}"]
        if self.cause is not None:
            lines.append(f"cause: {self.cause}")
        else:
            lines.append("cause: not found; ruled out:")
            lines += [f"  {line}" for line in self.ruled_out]
        if self.evidence:
            lines.append("evidence:")
            lines += [f"  {line}" for line in dict.fromkeys(self.evidence)]
        if self.ladder:
            lines.append("asked again:")
            lines += [f"  {line}" for line in self.ladder.splitlines()]
        return "\n".join(lines)

"""In flight: whether a request, or its answer, may still be on its way when the time of a probe is over."""

from __future__ import annotations

from typing import Protocol

from pytest_netns.addresses import Address


class InFlight(Protocol):
    """Looks where a request may be. It lets the kernel finish what it has queued, so look for an answer once more."""

    def __call__(self, address: Address, waited: float, udp_port: int = 0) -> str | None:
        """Where it may be, in words; None if nothing is on its way any more.

        Args:
            address: whom was asked.
            waited: seconds since.
            udp_port: on which port; 0 unless it was a datagram.
        """


def nowhere(address: Address, waited: float, udp_port: int = 0) -> str | None:
    """For who asks again, and knows enough."""
    del address, waited, udp_port
    return None

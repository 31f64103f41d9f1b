"""Options: the keywords of the probes, for what passes them on: the assertions."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pytest_netns.probe.trace import Method
    from pytest_netns.stack.source import Source


class PingOptions(TypedDict, total=False):
    """Keywords of ``Node.ping``; what is left out has its default there.

    Attributes:
        count: how many requests; 1.
        interval: seconds between requests; 0 sends the next one when the reply has arrived.
        timeout: seconds to wait for each reply; 1.0.
        size: bytes of payload; 56.
        ttl: time to live, or hop limit; 64.
        df: forbid fragments; False.
        source: an address or an interface that it comes from; None.
    """

    count: int
    interval: float
    timeout: float
    size: int
    ttl: int
    df: bool
    source: Source | None


class ArpOptions(TypedDict, total=False):
    """Keywords of ``Node.arp``; what is left out has its default there.

    Attributes:
        timeout: seconds to wait for an answer; 1.0.
        dad: detect duplicates: ask without an address of one's own, and wait for the whole timeout; False.
        source: an address or an interface that it comes from; None.
    """

    timeout: float
    dad: bool
    source: Source | None


class TcpOptions(TypedDict, total=False):
    """Keywords of ``Node.tcp``; what is left out has its default there.

    Attributes:
        timeout: seconds to wait for an answer; 1.0.
        source: an address or an interface that it comes from; None.
    """

    timeout: float
    source: Source | None


class UdpOptions(TypedDict, total=False):
    """Keywords of ``Node.udp``; what is left out has its default there.

    Attributes:
        timeout: seconds to wait for an answer; 1.0.
        ttl: time to live, or hop limit; the kernel's default.
        source: an address or an interface that it comes from; None.
    """

    timeout: float
    ttl: int | None
    source: Source | None


class TraceOptions(TypedDict, total=False):
    """Keywords of ``Node.trace``; what is left out has its default there.

    Attributes:
        method: ``"icmp"`` echo requests, ``"udp"`` datagrams or ``"tcp"`` SYNs; ``"icmp"``.
        port: for ``udp`` (33434 if None) and ``tcp`` (80 if None).
        max_hops: the largest time to live to try, 1 to 255; 30.
        timeout: seconds to wait for each hop; 1.0.
        source: an address or an interface that it comes from; None.
    """

    method: Method
    port: int | None
    max_hops: int
    timeout: float
    source: Source | None

"""Which events of a trace a socket takes in: a program of classic BPF (socket(7), SO_ATTACH_FILTER)."""

from __future__ import annotations

import struct

# Events that tell something: with the head of a packet, which each chain gives once, or with another verdict than
# "continue". A hundred rules that do not match say a hundred times nothing, and would fill the queue (SKF_AD_NLATTR
# finds an attribute by its type, from an offset on).
_ATTRIBUTES, _NLATTR, _NLATTR_NEST = 20, 0xFFFFF000 + 12, 0xFFFFF000 + 16
TELLING = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x00, 0, 0, _ATTRIBUTES),  # ld #20
        (0x01, 0, 0, 8),  # ldx #NFTA_TRACE_NETWORK_HEADER
        (0x20, 0, 0, _NLATTR),  # ld attribute
        (0x15, 0, 8, 0),  # found: accept
        (0x00, 0, 0, _ATTRIBUTES),
        (0x01, 0, 0, 5),  # ldx #NFTA_TRACE_VERDICT
        (0x20, 0, 0, _NLATTR),
        (0x15, 4, 0, 0),  # none: accept
        (0x01, 0, 0, 1),  # ldx #NFTA_VERDICT_CODE
        (0x20, 0, 0, _NLATTR_NEST),
        (0x07, 0, 0, 0),  # tax
        (0x40, 0, 0, 4),  # ld [x + 4], of network byte order
        (0x15, 1, 0, 0xFFFFFFFF),  # NFT_CONTINUE: drop
        (0x06, 0, 0, 0xFFFFFFFF),
        (0x06, 0, 0, 0),
    )
)

"""Tables of ours, in nft's words, that begin a trace and see what comes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from socket import IPPROTO_TCP, IPPROTO_UDP

TABLE = "pytest_netns_trace"
LAST = "postrouting"
#: Where each chain of ours in the inet family stands: before all others (raw tables are at -300), or behind them
#: (srcnat is at 100), so that what they see tells how far a packet came in its node, and what address translation made
#: of it.
_FIRST, _BEHIND = -450, 450
STAGES = {
    "prerouting": ("prerouting", _FIRST),
    "output": ("output", _FIRST),
    "prerouted": ("prerouting", _BEHIND),
    "input": ("input", _BEHIND),
    "forward": ("forward", _BEHIND),
    LAST: ("postrouting", _BEHIND),
}


def translated_ports(ruleset: list[dict[str, object]]) -> set[int]:
    """The ports that rules for address translation name: on the far side a packet may have one of them."""
    return {int(port) for port in _TO_PORT.findall(json.dumps(ruleset))}


_TO_PORT = re.compile(r'"(?:dnat|snat|redirect|masquerade)": {[^{}]*"port": (\d+)')


def matches(protocols: Iterable[int], ports: Iterable[int]) -> Iterator[str]:
    """What is traced, as conditions of nft(8)."""
    numbers = set(protocols)
    if ports := set(ports):
        with_ports = ", ".join(map(str, sorted(numbers & {IPPROTO_TCP, IPPROTO_UDP})))
        these = ", ".join(map(str, sorted(ports)))
        if with_ports:
            yield f"meta l4proto {{ {with_ports} }} th dport {{ {these} }}"
            yield f"meta l4proto {{ {with_ports} }} th sport {{ {these} }}"
        numbers -= {IPPROTO_TCP, IPPROTO_UDP}
    yield f"meta l4proto {{ {', '.join(map(str, sorted(numbers)))} }}"


def tables(ruleset: list[dict[str, object]], matches: list[str], devices: list[str]) -> Iterator[str]:
    """Tables of ours that begin the trace, and that see what comes of it."""
    chains = [chain for item in ruleset if isinstance(chain := item.get("chain"), dict)]
    families = {chain["family"] for chain in chains}
    hooks = {chain.get("hook") for chain in chains}
    traced = " ".join(f"{match} meta nftrace set 1;" for match in matches)
    with_arp = f"{traced} ether type arp meta nftrace set 1;"

    def table(family: str, *bodies: str) -> str:
        return "\n".join([f"table {family} {TABLE} {{", *(f"chain {body} }}" for body in bodies), "}"])

    yield table(
        "inet",
        *(
            f"{name} {{ type filter hook {hook} priority {priority}; {traced if priority == _FIRST else ''}"
            for name, (hook, priority) in STAGES.items()
        ),
    )
    if "bridge" in families:
        yield table(
            "bridge",
            *(f"{hook} {{ type filter hook {hook} priority {_FIRST}; {with_arp}" for hook in ("prerouting", "output")),
        )
    if "arp" in families:
        yield table(
            "arp",
            *(
                f"{hook} {{ type filter hook {hook} priority {_FIRST}; meta nftrace set 1;"
                for hook in ("input", "output")
            ),
        )
    on_devices = [hook for hook in ("ingress", "egress") if hook in hooks]
    if on_devices:
        yield table(
            "netdev",
            *(
                f'{hook}{number} {{ type filter hook {hook} device "{device}" priority -500; {with_arp}'
                for hook in on_devices
                for number, device in enumerate(devices)
            ),
        )

"""Names in filter expressions: they are a lab's, and are replaced by its addresses before libpcap sees them.

libpcap would ask the machine's resolver: a test would wait for a name server, tell it what it looks for, and capture
what the answer says. Which words are names and which are its own libpcap knows best, so it is asked, in a way that
makes it look up services at most, which are on file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from pytest_netns.addresses import Address
from pytest_netns.capture import bpf

_WORD = re.compile(r"\\?[A-Za-z0-9_][-A-Za-z0-9_.:]*|\s+|.", re.DOTALL)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9][0-9.]*(-[0-9]+)?")

#: Words after which names are those of hosts,
_HOSTS = frozenset({"host", "src", "dst"})
#: or of something that needs nobody's resolver,
_OTHERS = frozenset(
    {"port", "portrange", "proto", "protochain", "type", "subtype", "dir", "direction", "ifname", "on", "reason"}
    | {"action", "ruleset", "rset"}
)
#: or what nobody in a lab could resolve.
_REFUSED = {"net": "a network is written by its address", "gateway": "write 'ether host MAC and not host ADDRESS'"}
_FAMILIES = {"ip": (4,), "arp": (4,), "rarp": (4,), "ip6": (6,)}
_LINK_LAYER = frozenset({"ether", "link", "fddi", "tr", "wlan", "ppp", "slip"})
_OPERATORS = frozenset({"and", "or", "not"})


def resolve(text: str, names: Mapping[str, Sequence[Address]]) -> str:
    """An expression with addresses instead of the names of hosts.

    Args:
        text: an expression of pcap-filter(7).
        names: addresses by name.

    Raises:
        ValueError: a name that is none of these, or that has no address of the right family.
        UnsupportedError: libpcap is not installed.
    """
    return "".join(_replaced(text, names))


def _replaced(text: str, names: Mapping[str, Sequence[Address]]) -> Iterator[str]:
    kind, layer = "host", ""  # what the next name is, and of which layer: as the last words have said
    qualifying = False  # whether the last word was one of these: they add up
    for word in _WORD.findall(text):
        if word.isspace() or not word.strip("\\")[:1].isalnum() or _is_address(word) or _is_number(word):
            qualifying = qualifying and word.isspace()
            yield word
        elif not _is_name(word):
            if word not in _OPERATORS:
                if not qualifying:
                    kind, layer = "host", ""
                if word in _HOSTS or word in _OTHERS or word in _REFUSED:
                    kind = word
                else:
                    layer = word
                qualifying = True
            yield word
        else:
            qualifying = False
            yield word if kind in _OTHERS else _addresses(text, word.lstrip("\\"), kind, layer, names)


def _addresses(text: str, name: str, kind: str, layer: str, names: Mapping[str, Sequence[Address]]) -> str:
    refused = _REFUSED.get(kind) or ("a MAC address is written itself" if layer in _LINK_LAYER else "")
    if refused:
        raise ValueError(f"filter {text!r}: {name!r} is a name; {refused}")
    if name not in names:
        known = ", ".join(names) or "none"
        raise ValueError(
            f"filter {text!r}: syntax error, or an unknown name: {name!r} is neither a word of pcap-filter(7) nor a "
            f"name of the lab ({known}); the machine's resolver is never asked"
        )
    families = _FAMILIES.get(layer, (4, 6))
    found = [str(each) for each in names[name] if each.version in families and not each.is_loopback]
    if not found:
        of = f"IPv{families[0]} " if len(families) == 1 else ""
        raise ValueError(f"filter {text!r}: {name!r} has no {of}address now")
    return found[0] if len(found) == 1 else f"({' or '.join(found)})"


def _is_address(word: str) -> bool:
    return ":" in word or _NUMBER.fullmatch(word) is not None


@cache
def _is_number(word: str) -> bool:
    """Whether it stands for a number, as ``tcp-syn`` does."""
    return bpf.complaint(f"len = {word}") == ""


@cache
def _is_name(word: str) -> bool:
    """Whether libpcap would look it up; else it is a word of its own."""
    return word.startswith("\\") or "syntax error" not in bpf.complaint(f"port {word}")

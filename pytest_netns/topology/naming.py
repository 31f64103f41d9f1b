"""Names: of nodes, which people choose; of interfaces, which the kernel limits to 15 characters; and MAC addresses."""

from __future__ import annotations

import re
from collections.abc import Container
from hashlib import blake2b

from pytest_netns.errors import TopologyError
from pytest_netns.kernel.interface_names import is_redirect

#: IFNAMSIZ - 1, see <linux/if.h>.
LONGEST_INTERFACE_NAME = 15
#: A node's name is its host name too: one label of RFC 1123 2.1, with the underscore that people use.
LONGEST_NODE_NAME = 63

_NODE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
# "all" and "default" are directories of sysctls, so the kernel refuses them as interface names.
_RESERVED = frozenset({"all", "default", "lo"})
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_DIGEST = 5


def check_node_name(name: object, lab: str) -> str:
    """The name, if it can be one.

    Raises:
        TopologyError: empty, too long, or with characters that a host name cannot have.
    """
    if not isinstance(name, str):
        raise TopologyError(f"lab {lab!r}: a node's name is text, not {type(name).__name__}: {name!r}")
    if not name:
        raise TopologyError(f"lab {lab!r}: a node needs a name, and this one is empty")
    shown = repr(name if len(name) <= 40 else name[:37] + "...")
    if len(name) > LONGEST_NODE_NAME:
        raise TopologyError(
            f"lab {lab!r}: node name {shown} has {len(name)} characters; at most {LONGEST_NODE_NAME} are allowed"
        )
    if not _NODE_NAME.fullmatch(name):
        raise TopologyError(
            f"lab {lab!r}: {shown} cannot be a node's name; "
            "allowed are letters, digits and, not at either end, '.', '_' and '-'"
        )
    return name


def check_interface_name(name: object, where: str) -> str:
    """The name, if the kernel can take it. Raises TopologyError."""
    if (
        not isinstance(name, str)
        or not 0 < len(name.encode()) <= LONGEST_INTERFACE_NAME
        or name in {".", "..", *_RESERVED}
        or is_redirect(name)
        or re.search(r"[\s/:%\0]", name)
    ):
        raise TopologyError(
            f"{where}: {name!r} cannot be an interface's name; it takes 1 to {LONGEST_INTERFACE_NAME} bytes "
            "without spaces, '/', ':' and '%', and is not 'lo', 'all', 'default' or 'impair-' and a number"
        )
    return name


def interface_name(wanted: str, taken: Container[str]) -> str:
    """``wanted`` if the kernel can have it and it is free, else a short form that always comes out the same.

    The short form ends in a digest of the whole name, so that long names with a common beginning stay apart.
    """
    candidate, attempt = wanted, 0
    while (
        len(candidate) > LONGEST_INTERFACE_NAME
        or candidate in _RESERVED
        or is_redirect(candidate)
        or candidate in taken
    ):
        digest = blake2b(f"{wanted}/{attempt}".encode(), digest_size=4).hexdigest()[:_DIGEST]
        candidate = f"{wanted[: LONGEST_INTERFACE_NAME - _DIGEST - 1]}-{digest}"
        attempt += 1
    return candidate


def parse_mac(text: object, where: str) -> bytes:
    """A MAC address that an interface can have. Raises TopologyError."""
    if not isinstance(text, str) or not _MAC.fullmatch(text):
        raise TopologyError(f"{where}: mac is {text!r}; expected one such as '02:00:5e:10:00:01'")
    mac = bytes.fromhex(text.replace(":", ""))
    if mac[0] & 1 or not any(mac):
        raise TopologyError(f"{where}: mac {text} is that of a group, or of nobody; an interface has one of its own")
    return mac


def mac_address(lab: str, node: str, interface: str, taken: Container[bytes]) -> bytes:
    """A locally administered unicast MAC address (IEEE 802) that is the same at each run."""
    attempt = 0
    while True:
        seed = "\0".join((lab, node, interface, str(attempt)))
        mac = b"\x02" + blake2b(seed.encode(), digest_size=5).digest()
        if mac not in taken:
            return mac
        attempt += 1

"""Names of devices that are in a namespace without being part of the network that a test has built."""

from __future__ import annotations

#: Names of the devices that some kernel modules put into every new namespace (net.core.fb_tunnels_only_for_init_net).
FALLBACK_DEVICES = frozenset(
    {"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}
)

#: What the names of devices begin with that take frames to our relay (see ``pytest_netns.impair.redirect``); a number
#: follows.
DETOUR_PREFIX = "impair-"


def is_redirect(name: str) -> bool:
    """Whether a device takes frames to our relay, by its name. Nothing else in a lab is called so."""
    return name.startswith(DETOUR_PREFIX) and name[len(DETOUR_PREFIX) :].isdecimal()


def is_hidden(name: str) -> bool:
    """Whether a device is not of the network that a test has made: listings leave it out."""
    return name in FALLBACK_DEVICES or is_redirect(name)

"""Names of devices that exist in a namespace but are not part of the test's network."""

from __future__ import annotations

#: Fallback devices that tunnel modules add to every new namespace (net.core.fb_tunnels_only_for_init_net).
FALLBACK_DEVICES = frozenset(
    {"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}
)

#: Prefix of the names of devices that pass frames to the user-space relay (see ``pytest_netns.impair.redirect``); a
#: number follows.
DETOUR_PREFIX = "impair-"


def is_redirect(name: str) -> bool:
    """Whether a device passes frames to the user-space relay, by its name, which is reserved for such devices."""
    return name.startswith(DETOUR_PREFIX) and name[len(DETOUR_PREFIX) :].isdecimal()


def is_hidden(name: str) -> bool:
    """Whether a device is not part of the test's network; listings leave it out."""
    return name in FALLBACK_DEVICES or is_redirect(name)

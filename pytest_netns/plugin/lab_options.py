"""The policy of a suite for all of its labs: what the fixture ``netns_lab_options`` gives."""

from __future__ import annotations

import inspect
from collections.abc import Mapping


def defaults() -> dict[str, object]:
    """What it gives unless a suite overrides it: IPv4 alone where this kernel has no IPv6, or has it switched off."""
    from pytest_netns.kernel.features.socket_families import why_no_socket

    return {"ipv6": None} if why_no_socket("ipv6") else {}


def checked(given: object) -> dict[str, object]:
    """A copy of what a suite gives. Raises TypeError if ``Lab`` does not take it."""
    if given == {}:
        return {}
    from pytest_netns.lab.lab import Lab

    if not isinstance(given, Mapping):
        raise TypeError(
            f"the fixture netns_lab_options gave {given!r}; expected keywords for Lab in a dict, e.g. {{'ipv6': None}}"
        )
    known = inspect.signature(Lab).parameters
    for name in given:
        if name not in known:
            raise TypeError(
                f"the fixture netns_lab_options gave {name!r}, which Lab does not take; it takes {', '.join(known)}"
            )
    return dict(given)

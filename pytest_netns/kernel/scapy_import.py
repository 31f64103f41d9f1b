"""Importing scapy despite a cache directory of another user, or sockets that a test has replaced."""

from __future__ import annotations

import os
import sys

from pytest_netns.kernel.standard_sockets import are_replaced, standard_sockets


def prepare_scapy() -> None:
    """Make sure that importing scapy works. Call it before each import."""
    if "scapy.data" not in sys.modules:
        _spare_foreign_cache()
    if "scapy.layers.inet6" not in sys.modules and are_replaced():
        with standard_sockets():  # on import, scapy reads interfaces and routes from the kernel
            import scapy.layers.inet6  # noqa: F401


def _spare_foreign_cache() -> None:
    """Have scapy work without its cache if the cache is not readable and writable.

    On import, scapy looks for ``services.pickle`` there, and raises PermissionError in a directory that ``sudo`` has
    created. The directory comes from ``scapy.main``, which imports no other part of scapy.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if os.access(cache, os.F_OK) and not os.access(cache, os.X_OK):
        usable = False
    else:
        folder = os.path.join(cache, "scapy")
        usable = not os.path.lexists(folder) or os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    if not usable:
        import scapy.main

        scapy.main.SCAPY_CACHE_FOLDER = None

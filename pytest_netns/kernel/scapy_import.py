"""What may keep us from importing scapy: a cache of its that is somebody else's, sockets that a test has replaced."""

from __future__ import annotations

import os
import sys

from pytest_netns.kernel.standard_sockets import are_replaced, standard_sockets


def prepare_scapy() -> None:
    """Called before we import scapy: see to it that this works."""
    if "scapy.data" not in sys.modules:
        _spare_foreign_cache()
    if "scapy.layers.inet6" not in sys.modules and are_replaced():
        with standard_sockets():  # it asks the kernel for interfaces and routes when it is imported
            import scapy.layers.inet6  # noqa: F401


def _spare_foreign_cache() -> None:
    """Have scapy do without its cache where that cannot be read and written.

    It looks for ``services.pickle`` there when it is imported, and raises PermissionError in a folder that ``sudo`` has
    made. It takes the folder from ``scapy.main``, which imports nothing else of it.
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

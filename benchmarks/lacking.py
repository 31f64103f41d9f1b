"""What is not installed here, and what of the table it costs: said before anything is measured."""

from __future__ import annotations

from ctypes.util import find_library
from importlib.util import find_spec

from benchmarks.suite import installed
from pytest_netns.kernel.search_path import find_program

#: By what needs it: an experiment, or a column.
_PROGRAMS = {"ip -batch": ("ip", "apt-get install iproute2"), "probes": ("ping", "apt-get install iputils-ping")}


def lacking() -> dict[str, str]:
    """Experiments and columns that cannot be measured here, with the reason and the cure."""
    found = {
        who: f"needs the program {program!r} ({cure})"
        for who, (program, cure) in _PROGRAMS.items()
        if find_program(program) is None
    }
    if find_spec("xdist") is None:
        found["scaling"] = "needs pytest-xdist (pip install pytest-xdist)"
    if find_library("nftables") is None:
        found["routed"] = "needs libnftables (apt-get install nftables)"
    if not installed():
        found["start-up"] = "needs pytest-netns installed here, as pytest finds it (pip install -e .)"
    return found

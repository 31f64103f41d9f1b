"""Real, isolated Linux networks for tests: namespaces, veth pairs, bridges, and probes that ask the wire.

Importing this package imports neither pyroute2 nor scapy: names are resolved when first used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_netns import ready
    from pytest_netns.errors import (
        CommandError,
        KernelError,
        NetnsError,
        PrivilegeError,
        ProcessDied,
        TopologyError,
        UnsupportedError,
        WaitTimeout,
    )
    from pytest_netns.interface import Interface
    from pytest_netns.kernel.sandbox import enter as enter_sandbox
    from pytest_netns.lab.bridge import Bridge
    from pytest_netns.lab.host import Host
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.link import Link
    from pytest_netns.lab.router import Router
    from pytest_netns.namespace import Namespace
    from pytest_netns.probe.arp import ArpResult
    from pytest_netns.probe.ping import PingResult
    from pytest_netns.probe.tcp import TcpResult
    from pytest_netns.probe.trace import TraceResult
    from pytest_netns.process import Process

_HOME = {
    "ArpResult": "pytest_netns.probe.arp",
    "Bridge": "pytest_netns.lab.bridge",
    "CommandError": "pytest_netns.errors",
    "Host": "pytest_netns.lab.host",
    "Interface": "pytest_netns.interface",
    "KernelError": "pytest_netns.errors",
    "Lab": "pytest_netns.lab.lab",
    "Link": "pytest_netns.lab.link",
    "Namespace": "pytest_netns.namespace",
    "NetnsError": "pytest_netns.errors",
    "PingResult": "pytest_netns.probe.ping",
    "PrivilegeError": "pytest_netns.errors",
    "Process": "pytest_netns.process",
    "ProcessDied": "pytest_netns.errors",
    "Router": "pytest_netns.lab.router",
    "TcpResult": "pytest_netns.probe.tcp",
    "TopologyError": "pytest_netns.errors",
    "TraceResult": "pytest_netns.probe.trace",
    "UnsupportedError": "pytest_netns.errors",
    "WaitTimeout": "pytest_netns.errors",
    "enter_sandbox": "pytest_netns.kernel.sandbox",
    "ready": "pytest_netns",
}

__all__ = [
    "ArpResult",
    "Bridge",
    "CommandError",
    "Host",
    "Interface",
    "KernelError",
    "Lab",
    "Link",
    "Namespace",
    "NetnsError",
    "PingResult",
    "PrivilegeError",
    "Process",
    "ProcessDied",
    "Router",
    "TcpResult",
    "TopologyError",
    "TraceResult",
    "UnsupportedError",
    "WaitTimeout",
    "enter_sandbox",
    "ready",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object
    if name == "ready":
        value = importlib.import_module("pytest_netns.ready")
    else:
        value = getattr(importlib.import_module(home), "enter" if name == "enter_sandbox" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

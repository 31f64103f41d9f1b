"""Real, isolated Linux networks for tests: namespaces, veth pairs, bridges, and probes that ask the wire.

Importing this package imports neither pyroute2 nor scapy: names are resolved when first used (PEP 562).

No assertions for pytest to rewrite at each start: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_netns import ready
    from pytest_netns.assertions import (
        assert_arp,
        assert_blocked,
        assert_loss,
        assert_no_arp,
        assert_no_ping,
        assert_no_udp,
        assert_not_path,
        assert_path,
        assert_ping,
        assert_rate,
        assert_rtt,
        assert_tcp_closed,
        assert_tcp_filtered,
        assert_tcp_not_open,
        assert_tcp_open,
        assert_udp,
        eventually,
    )
    from pytest_netns.capture.capture import Capture
    from pytest_netns.capture.frame import Frame
    from pytest_netns.devices.builder import Device
    from pytest_netns.devices.masters import Bond, Master, Vrf
    from pytest_netns.devices.tuntap import Tap, Tun
    from pytest_netns.devices.vxlan import Vxlan
    from pytest_netns.devices.wireguard import WireGuard
    from pytest_netns.errors import (
        CommandError,
        KernelError,
        NetnsError,
        NetnsWarning,
        PrivilegeError,
        ProbeFailure,
        ProcessDied,
        TopologyError,
        UnsupportedError,
        WaitTimeout,
    )
    from pytest_netns.explain.diagnosis import Explanation
    from pytest_netns.explain.why import why
    from pytest_netns.faults.block import Block
    from pytest_netns.faults.crash import Crash
    from pytest_netns.faults.freeze import Freeze
    from pytest_netns.faults.partition import Partition
    from pytest_netns.faults.schedule import Schedule
    from pytest_netns.impair import presets
    from pytest_netns.impair.impairment import ActiveImpairment, Impairment
    from pytest_netns.kernel.sandbox import enter as enter_sandbox
    from pytest_netns.lab.bridge import Bridge
    from pytest_netns.lab.factories import LabFactory, NamespaceFactory
    from pytest_netns.lab.host import Host
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.link import Link
    from pytest_netns.lab.nodes import Node
    from pytest_netns.lab.router import Router
    from pytest_netns.probe.arp import ArpResult
    from pytest_netns.probe.dns import DnsResult
    from pytest_netns.probe.loss import LossResult
    from pytest_netns.probe.matrix import PingMatrix
    from pytest_netns.probe.path_mtu import PathMtuResult
    from pytest_netns.probe.ping_result import PingResult, RttStatistics
    from pytest_netns.probe.tcp import TcpResult
    from pytest_netns.probe.throughput import ThroughputResult
    from pytest_netns.probe.trace import TraceResult
    from pytest_netns.probe.udp import UdpResult
    from pytest_netns.process.process import Process
    from pytest_netns.report.state import describe
    from pytest_netns.stack.destination import Destination
    from pytest_netns.stack.interface import Interface
    from pytest_netns.stack.namespace import Namespace
    from pytest_netns.stack.source import Source
    from pytest_netns.topology.fault import Fault

_HOME = {
    "ActiveImpairment": "pytest_netns.impair.impairment",
    "ArpResult": "pytest_netns.probe.arp",
    "Block": "pytest_netns.faults.block",
    "Bond": "pytest_netns.devices.masters",
    "Bridge": "pytest_netns.lab.bridge",
    "Capture": "pytest_netns.capture.capture",
    "CommandError": "pytest_netns.errors",
    "Crash": "pytest_netns.faults.crash",
    "Destination": "pytest_netns.stack.destination",
    "Device": "pytest_netns.devices.builder",
    "DnsResult": "pytest_netns.probe.dns",
    "Explanation": "pytest_netns.explain.diagnosis",
    "Fault": "pytest_netns.topology.fault",
    "Frame": "pytest_netns.capture.frame",
    "Freeze": "pytest_netns.faults.freeze",
    "Host": "pytest_netns.lab.host",
    "Impairment": "pytest_netns.impair.impairment",
    "Interface": "pytest_netns.stack.interface",
    "KernelError": "pytest_netns.errors",
    "Lab": "pytest_netns.lab.lab",
    "LabFactory": "pytest_netns.lab.factories",
    "Link": "pytest_netns.lab.link",
    "LossResult": "pytest_netns.probe.loss",
    "Master": "pytest_netns.devices.masters",
    "Namespace": "pytest_netns.stack.namespace",
    "NamespaceFactory": "pytest_netns.lab.factories",
    "NetnsError": "pytest_netns.errors",
    "NetnsWarning": "pytest_netns.errors",
    "Node": "pytest_netns.lab.nodes",
    "Partition": "pytest_netns.faults.partition",
    "PathMtuResult": "pytest_netns.probe.path_mtu",
    "PingMatrix": "pytest_netns.probe.matrix",
    "PingResult": "pytest_netns.probe.ping_result",
    "PrivilegeError": "pytest_netns.errors",
    "ProbeFailure": "pytest_netns.errors",
    "Process": "pytest_netns.process.process",
    "ProcessDied": "pytest_netns.errors",
    "Router": "pytest_netns.lab.router",
    "RttStatistics": "pytest_netns.probe.ping_result",
    "Schedule": "pytest_netns.faults.schedule",
    "Source": "pytest_netns.stack.source",
    "Tap": "pytest_netns.devices.tuntap",
    "TcpResult": "pytest_netns.probe.tcp",
    "ThroughputResult": "pytest_netns.probe.throughput",
    "TopologyError": "pytest_netns.errors",
    "TraceResult": "pytest_netns.probe.trace",
    "Tun": "pytest_netns.devices.tuntap",
    "UdpResult": "pytest_netns.probe.udp",
    "UnsupportedError": "pytest_netns.errors",
    "Vrf": "pytest_netns.devices.masters",
    "Vxlan": "pytest_netns.devices.vxlan",
    "WaitTimeout": "pytest_netns.errors",
    "WireGuard": "pytest_netns.devices.wireguard",
    "assert_arp": "pytest_netns.assertions",
    "assert_blocked": "pytest_netns.assertions",
    "assert_loss": "pytest_netns.assertions",
    "assert_no_arp": "pytest_netns.assertions",
    "assert_no_ping": "pytest_netns.assertions",
    "assert_no_udp": "pytest_netns.assertions",
    "assert_not_path": "pytest_netns.assertions",
    "assert_path": "pytest_netns.assertions",
    "assert_ping": "pytest_netns.assertions",
    "assert_rate": "pytest_netns.assertions",
    "assert_rtt": "pytest_netns.assertions",
    "assert_tcp_closed": "pytest_netns.assertions",
    "assert_tcp_filtered": "pytest_netns.assertions",
    "assert_tcp_not_open": "pytest_netns.assertions",
    "assert_tcp_open": "pytest_netns.assertions",
    "assert_udp": "pytest_netns.assertions",
    "describe": "pytest_netns.report.state",
    "enter_sandbox": "pytest_netns.kernel.sandbox",
    "eventually": "pytest_netns.assertions",
    "presets": "pytest_netns.impair",
    "ready": "pytest_netns",
    "why": "pytest_netns.explain.why",
}

__all__ = [
    "ActiveImpairment",
    "ArpResult",
    "Block",
    "Bond",
    "Bridge",
    "Capture",
    "CommandError",
    "Crash",
    "Destination",
    "Device",
    "DnsResult",
    "Explanation",
    "Fault",
    "Frame",
    "Freeze",
    "Host",
    "Impairment",
    "Interface",
    "KernelError",
    "Lab",
    "LabFactory",
    "Link",
    "LossResult",
    "Master",
    "Namespace",
    "NamespaceFactory",
    "NetnsError",
    "NetnsWarning",
    "Node",
    "Partition",
    "PathMtuResult",
    "PingMatrix",
    "PingResult",
    "PrivilegeError",
    "ProbeFailure",
    "Process",
    "ProcessDied",
    "Router",
    "RttStatistics",
    "Schedule",
    "Source",
    "Tap",
    "TcpResult",
    "ThroughputResult",
    "TopologyError",
    "TraceResult",
    "Tun",
    "UdpResult",
    "UnsupportedError",
    "Vrf",
    "Vxlan",
    "WaitTimeout",
    "WireGuard",
    "assert_arp",
    "assert_blocked",
    "assert_loss",
    "assert_no_arp",
    "assert_no_ping",
    "assert_no_udp",
    "assert_not_path",
    "assert_path",
    "assert_ping",
    "assert_rate",
    "assert_rtt",
    "assert_tcp_closed",
    "assert_tcp_filtered",
    "assert_tcp_not_open",
    "assert_tcp_open",
    "assert_udp",
    "describe",
    "enter_sandbox",
    "eventually",
    "presets",
    "ready",
    "why",
]


if not TYPE_CHECKING:  # to type checkers a name that is not imported above does not exist

    def __getattr__(name: str) -> object:
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        hooks = sys.modules.get("pytest_netns.plugin.hooks")
        if hooks is not None:
            hooks.used()  # the plugin is small until then
        value: object
        if name in ("presets", "ready"):
            value = importlib.import_module(f"{home}.{name}")
        else:
            value = getattr(importlib.import_module(home), "enter" if name == "enter_sandbox" else name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)

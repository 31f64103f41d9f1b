"""Doctor: which features and privileges this machine has, and how to get the missing ones."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from pytest_netns.errors import PrivilegeError
from pytest_netns.kernel import sandbox
from pytest_netns.kernel.search_path import find_program

State = Literal["ok", "low", "missing", "unknown"]

#: Programs that tests often run, and the Debian package of each.
PROGRAMS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "ping": "iputils-ping",
    "tcpdump": "tcpdump",
    "mount": "mount",
    "bwrap": "bubblewrap",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the doctor's table.

    Attributes:
        section: ``privileges``, ``limit``, ``device``, ``qdisc``, ``classifier``, ``action``, ``nftables``, ``socket``,
            ``library`` or ``program``.
        name: what was checked; for kernel features and programs, the name that ``netns_requires`` takes.
        state: whether it is available; ``low``: more than half of a limit is used.
        detail: more about it, or how to get it.
    """

    section: str
    name: str
    state: State
    detail: str = ""


def examine() -> list[Finding]:
    """Check everything.

    This enters the sandbox if namespaces can only be created there, so run it in a separate process. The first finding
    is whether network namespaces can be created at all.
    """
    found = [_privileges()]
    possible = found[0].state == "ok"
    found += _limits()
    found += _baseline()
    found += _kernel_features(possible)
    found += _libraries()
    for program, package in PROGRAMS.items():
        path = find_program(program)
        detail = path or f"sudo apt-get install {package}"
        found.append(Finding("program", f"program:{program}", "ok" if path else "missing", detail))
    return found


def _privileges() -> Finding:
    try:
        access = sandbox.enter()
    except PrivilegeError as error:
        return Finding("privileges", "networks", "missing", str(error))
    detail = "as root" if access.mode == "root" else f"rootless, as user {os.geteuid()} in a user namespace"
    return Finding("privileges", "networks", "ok", detail)


def _baseline() -> list[Finding]:
    """The sysctls that every namespace gets in place of the kernel's defaults, and those that routers get as well."""
    from pytest_netns.kernel.sysctl import BASELINE
    from pytest_netns.lab.router import FORWARDING

    everywhere = {"net.ipv4.ping_group_range": "every group", **BASELINE}
    found = [Finding("baseline", name, "ok", f"{value}, in every namespace") for name, value in everywhere.items()]
    found += [Finding("baseline", name, "ok", f"{value}, in routers") for name, value in FORWARDING.items()]
    other = "all others: the kernel's default, whatever the machine has"
    return [*found, Finding("baseline", "net.*.conf.*", "ok", other)]


def _limits() -> list[Finding]:
    from pytest_netns.kernel.netlink.neighbour_table import neighbour_tables
    from pytest_netns.kernel.netlink.socket import NetlinkSocket

    found = []
    rtnl = NetlinkSocket("this one")
    try:
        for table in neighbour_tables(rtnl).values():
            name = "arp-table" if table.version == 4 else "ndisc-table"
            detail = str(table) if not table.is_above_half else f"{table}; {table.consequence}"
            found.append(Finding("limit", name, "low" if table.is_above_half else "ok", detail))
    finally:
        rtnl.close()
    return found


def _kernel_features(possible: bool) -> list[Finding]:
    from pytest_netns.kernel.features import features

    found = []
    for section, names in features.sections().items():
        if section == "library":  # these are checked with or without a namespace
            continue
        for name in names:
            if not possible:
                found.append(Finding(section, name, "unknown", "cannot be asked without a namespace"))
                continue
            answer = features.feature(name)
            found.append(Finding(section, name, "ok" if answer.present else "missing", answer.reason))
    return found


def _libraries() -> list[Finding]:
    from pytest_netns.errors import UnsupportedError
    from pytest_netns.kernel import nftables
    from pytest_netns.kernel.features.features import feature

    found = []
    try:
        found.append(Finding("library", "nftables", "ok", f"by {nftables.engine()}"))
    except UnsupportedError as error:
        found.append(Finding("library", "nftables", "missing", str(error)))
    libpcap = feature("libpcap")
    found.append(Finding("library", libpcap.name, "ok" if libpcap.present else "missing", libpcap.reason))
    return found


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether tests can run at all; anything else that is missing only makes some of them skip."""
    return findings[0].state == "ok"


def versions() -> dict[str, str]:
    """The versions of the kernel, Python, this package and what it uses; "not installed" where something is missing."""
    found = {}
    for name in ("pytest-netns", "pytest", "scapy", "pyroute2"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "Python": platform.python_version(), "Linux": platform.release()}


def as_json(findings: Sequence[Finding]) -> str:
    """The findings as JSON, for programs."""
    system: dict[str, object] = {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "platform": sys.platform,
    }
    system["versions"] = versions()
    rows = [asdict(finding) for finding in findings]
    return json.dumps({**system, "healthy": healthy(findings), "findings": rows}, indent=2)


def as_table(findings: Sequence[Finding]) -> str:
    """The findings as a table, for people."""
    width = max(len(finding.name) for finding in findings)
    verdict = "networks can be made here" if healthy(findings) else "NO NETWORKS CAN BE MADE HERE"
    lines = [f"{verdict}: {findings[0].detail}", "", *(f"{name} {version}" for name, version in versions().items())]
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            lines.append(f"\n{section}")
        lacking, _, cure = finding.detail.partition("; ")  # the state column says already that it is missing
        detail = cure if lacking.startswith("this kernel lacks") else finding.detail
        lines.append(f"  {finding.name:<{width}}  {finding.state:<8} {detail}".rstrip())
    return "\n".join(lines)


def report(*, json_: bool = False) -> tuple[str, int]:
    """The text and the exit status: 0, or 1 if no network namespace can be created."""
    findings = examine()
    return (as_json if json_ else as_table)(findings), 0 if healthy(findings) else 1

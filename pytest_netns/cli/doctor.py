"""Doctor: what this machine allows and has, and how to get what it lacks."""

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

#: Programs that tests like to run, and the Debian package of each.
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
        name: what was looked at; those of the kernel and programs are as in ``netns_requires``.
        state: whether it is there; ``low``: more than half of it is used up.
        detail: more about it, or how to get it.
    """

    section: str
    name: str
    state: State
    detail: str = ""


def examine() -> list[Finding]:
    """Look at everything.

    Enters the sandbox if that is how networks are made here, so it belongs in a process of its own. The first finding
    is whether networks can be made at all.
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
    """What every namespace of ours has other than the kernel gives it, and what routers have beside that."""
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
        if section == "library":  # those are looked for with or without a namespace
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
    """Whether tests can run at all; what else is missing only narrows them."""
    return findings[0].state == "ok"


def versions() -> dict[str, str]:
    """What works together here, with its version; "not installed" where it is not."""
    found = {}
    for name in ("pytest-netns", "pytest", "scapy", "pyroute2"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return {**found, "Python": platform.python_version(), "Linux": platform.release()}


def as_json(findings: Sequence[Finding]) -> str:
    """For programs."""
    system: dict[str, object] = {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "platform": sys.platform,
    }
    system["versions"] = versions()
    rows = [asdict(finding) for finding in findings]
    return json.dumps({**system, "healthy": healthy(findings), "findings": rows}, indent=2)


def as_table(findings: Sequence[Finding]) -> str:
    """For people."""
    width = max(len(finding.name) for finding in findings)
    verdict = "networks can be made here" if healthy(findings) else "NO NETWORKS CAN BE MADE HERE"
    lines = [f"{verdict}: {findings[0].detail}", "", *(f"{name} {version}" for name, version in versions().items())]
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            lines.append(f"\n{section}")
        lacking, _, cure = finding.detail.partition("; ")  # the table says by itself what is lacking
        detail = cure if lacking.startswith("this kernel lacks") else finding.detail
        lines.append(f"  {finding.name:<{width}}  {finding.state:<8} {detail}".rstrip())
    return "\n".join(lines)


def report(*, json_: bool = False) -> tuple[str, int]:
    """The text and the exit status: 0, or 1 where no network can be made."""
    findings = examine()
    return (as_json if json_ else as_table)(findings), 0 if healthy(findings) else 1

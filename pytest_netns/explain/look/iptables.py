"""Rules of iptables-legacy, which nftables traces do not show: their drops, from their counters."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from pytest_netns.errors import NetnsError
from pytest_netns.kernel.syscalls import entered
from pytest_netns.lab.nodes import Node

#: Which file of /proc/net names the tables that a namespace has, and the programs that show them.
_PROGRAMS = {"ip_tables_names": ("iptables-legacy", 4), "ip6_tables_names": ("ip6tables-legacy", 6)}
#: The tables that can drop a packet, in the order in which they see it.
_TABLES = ("raw", "mangle", "filter")
_POLICY = re.compile(r"-P (\S+) (DROP) -c (\d+) ")
_RULE = re.compile(r"(-A .*?) -c (\d+) \d+ (-j (?:DROP|REJECT).*)")


def can_read() -> bool:
    """Whether this user may list the tables of a namespace; without root, the kernel does not allow it."""
    path = f"/proc/thread-self/net/{next(iter(_PROGRAMS))}"
    return not os.path.exists(path) or os.access(path, os.R_OK)


def tables(node: Node) -> dict[str, list[str]]:
    """The tables that a node has, by the program that shows them. None of them is made by asking."""
    found = {}
    with entered(node):
        for file, (program, _) in _PROGRAMS.items():
            try:
                with open(f"/proc/thread-self/net/{file}", encoding="ascii") as listed:
                    found[program] = listed.read().split()
            except OSError:
                continue
    return {program: names for program, names in found.items() if names}


def dropped(node: Node) -> dict[str, int]:
    """How many packets each rule and policy of a node has dropped. Two that are alike count as one."""
    found: dict[str, int] = {}
    for program, names in tables(node).items():
        found.update(dropped_by(node, program, [name for name in _TABLES if name in names]))
    return found


def dropped_by(node: Node, program: str, names: Sequence[str] = _TABLES) -> dict[str, int]:
    """The same of some tables, which the kernel makes if they are not there."""
    word = program.removesuffix("-legacy")
    totals: dict[str, int] = {}
    for table in names:
        for line in _listed(node, program, table):
            if policy := _POLICY.match(line):
                totals[f"{word} -t {table}: policy {policy[2]} of {policy[1]}"] = int(policy[3])
            elif rule := _RULE.match(line):
                key = f"{word} -t {table}: {rule[1]} {rule[3]}"
                totals[key] = totals.get(key, 0) + int(rule[2])
    return totals


def legacy_rules(node: Node) -> Iterator[str]:
    """All rules of the tables that a node has, as iptables -S shows them."""
    for program, names in tables(node).items():
        for table in names:
            yield from _listed(node, program, table)


def program_for(version: int) -> str:
    """The one for a version of IP."""
    return next(program for program, of in _PROGRAMS.values() if of == version)


def _listed(node: Node, program: str, table: str) -> list[str]:
    try:
        return node.run([program, "--wait", "1", "-t", table, "-S", "-v"], check=False, timeout=5).stdout.splitlines()
    except NetnsError:  # it is not installed
        return []

"""A bare Debian: whoever runs a program that is not on it has the test say so, by ``netns_requires``.

``.ci/bare`` shows the same on such a system; this finds on every machine who runs a list whose first word is a program.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What tests have called so far that ``debootstrap --variant=minbase`` does not bring.
NOT_THERE = {
    *("ip", "tc", "ss", "bridge", "ping", "nft", "iptables", "iptables-nft", "iptables-legacy", "tcpdump", "curl"),
    *("bwrap", "kill", "ps", "sysctl", "modprobe", "wg", "wireguard-go", "dnsmasq", "conntrack", "ethtool"),
}


def _named(tree: ast.AST) -> Iterator[str]:
    """The programs that it runs."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="run" | "spawn" | "Popen" | "check_output" | "check_call"),
                args=[ast.List(elts=[ast.Constant(value=str(word)), *_]), *_],
            ) if word in NOT_THERE:
                yield word


def _required(decorators: list[ast.expr]) -> set[str]:
    """What decorators of a test, or ``pytestmark``, say that it needs."""
    said = (word.value for each in decorators for word in ast.walk(each) if isinstance(word, ast.Constant))
    return {word.partition(":")[2] for word in said if isinstance(word, str) and word.startswith("program:")}


def test_who_runs_a_program_that_may_be_lacking_says_so() -> None:
    unsaid = []
    for path in [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("examples/*.py")]:
        module = ast.parse(path.read_text(encoding="utf-8"))
        for_all = _required([node for node in module.body if "pytestmark" in ast.unparse(node)[:10]])
        for test in module.body:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                lacking = set(_named(test)) - for_all - _required(test.decorator_list)
                unsaid += [f"{path.relative_to(ROOT)}: {test.name}: program:{word}" for word in sorted(lacking)]
    assert not unsaid, "\n".join(unsaid)

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


#: Calls that need nftables.
NFT = {"nft", "nft_ruleset", "nft_with_handles", "block", "masquerade", "forward_port", "partition", "assert_blocked"}


def _called(tree: ast.AST) -> Iterator[str]:
    """The libraries that it needs for what it calls, unless it expects that to be refused before."""
    refused = [node for node in ast.walk(tree) if isinstance(node, ast.With) and "pytest.raises" in ast.unparse(node)]
    skipped = {id(node) for each in refused for node in ast.walk(each)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in skipped:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            of_text = name == "partition" and all(isinstance(word, ast.Constant | ast.JoinedStr) for word in node.args)
            if name in NFT and not of_text and not (name == "block" and isinstance(node.func, ast.Name)):
                yield "nft"
            words = [word.value for word in node.keywords if word.arg == "filter"] + node.args[1:2]
            if name == "capture" and any(isinstance(word, ast.Constant | ast.JoinedStr) for word in words):
                yield "libpcap"


def _required(decorators: list[ast.expr]) -> set[str]:
    """What decorators of a test, or ``pytestmark``, say that it needs."""
    said = (word.value for each in decorators for word in ast.walk(each) if isinstance(word, ast.Constant))
    return {word.removeprefix("program:").partition(":")[0] for word in said if isinstance(word, str)}


def test_who_needs_what_may_be_lacking_says_so() -> None:
    unsaid = []
    for path in [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("examples/*.py")]:
        module = ast.parse(path.read_text(encoding="utf-8"))
        for_all = _required([node for node in module.body if "pytestmark" in ast.unparse(node)[:10]])
        for test in module.body:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                lacking = (
                    {*_named(test), *(word for line in test.body for word in _called(line))}
                    - for_all
                    - _required(test.decorator_list)
                )
                unsaid += [f"{path.relative_to(ROOT)}: {test.name}: {word}" for word in sorted(lacking)]
    assert not unsaid, "\n".join(unsaid)

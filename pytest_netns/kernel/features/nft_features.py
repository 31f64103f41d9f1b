"""Features of nftables here: each family and expression is tried with a ruleset in a throwaway namespace."""

from __future__ import annotations

import os
from contextlib import ExitStack

from pytest_netns.errors import CommandError
from pytest_netns.kernel.netns.throwaway import throwaway
from pytest_netns.kernel.nftables import Nftables, engine
from pytest_netns.kernel.syscalls import open_namespace


def _rule(rule: str, family: str = "inet", hook: str = "input", kind: str = "filter") -> str:
    return (
        f"add table {family} t; add chain {family} t c {{ type {kind} hook {hook} priority 0; }}; "
        f"add rule {family} t c {rule}"
    )


#: Features of nft(8) by name: a ruleset that uses it, and its kernel module.
NFT: dict[str, tuple[str, str]] = {
    "nft:inet": (_rule("accept"), "nf_tables"),
    "nft:ip": (_rule("accept", "ip"), "nf_tables"),
    "nft:ip6": (_rule("accept", "ip6"), "nf_tables"),
    "nft:arp": (_rule("accept", "arp"), "nf_tables"),
    "nft:bridge": (_rule("accept", "bridge"), "nf_tables"),
    "nft:netdev": (
        "add table netdev t; add chain netdev t c { type filter hook ingress device lo priority 0; }",
        "nf_tables",
    ),
    "nft:ct": (_rule("ct state established accept"), "nft_ct"),
    "nft:ct-bridge": (_rule("ct state established accept", "bridge"), "nf_conntrack_bridge"),
    "nft:ct-helper": (
        'add table inet t; add ct helper inet t h { type "ftp" protocol tcp; l3proto ip; }',
        "nf_conntrack_ftp",
    ),
    "nft:nat": (_rule("dnat to 192.0.2.1", "ip", "prerouting", "nat"), "nft_nat"),
    "nft:nat6": (_rule("dnat to 2001:db8::1", "ip6", "prerouting", "nat"), "nft_nat"),
    "nft:masquerade": (_rule("masquerade", "ip", "postrouting", "nat"), "nft_masq"),
    "nft:redirect": (_rule("tcp dport 80 redirect to :8080", "ip", "prerouting", "nat"), "nft_redir"),
    "nft:reject": (_rule("reject with icmpx port-unreachable"), "nft_reject_inet"),
    "nft:counter": (_rule("counter"), "nf_tables"),
    "nft:limit": (_rule("limit rate 10/second accept"), "nft_limit"),
    "nft:quota": (_rule("quota over 1 mbytes drop"), "nft_quota"),
    "nft:connlimit": (_rule("ct count over 3 drop"), "nft_connlimit"),
    "nft:log": (_rule('log prefix "probe"'), "nft_log"),
    "nft:numgen": (_rule("numgen random mod 2 0 drop"), "nft_numgen"),
    "nft:hash": (_rule("jhash ip saddr mod 2 0 drop", "ip"), "nft_hash"),
    "nft:fib": (_rule("fib saddr oif missing drop", hook="prerouting"), "nft_fib_inet"),
    "nft:queue": (_rule("queue num 0"), "nft_queue"),
    "nft:synproxy": (_rule("tcp dport 80 synproxy mss 1460 wscale 7"), "nft_synproxy"),
    "nft:tproxy": (_rule("tcp dport 80 tproxy to :8080", "ip", "prerouting"), "nft_tproxy"),
    "nft:socket": (_rule("socket transparent 1 accept", hook="prerouting"), "nft_socket"),
    "nft:dup": (_rule("dup to 192.0.2.1", "ip"), "nft_dup_ipv4"),
    "nft:set": (
        "add table inet t; add set inet t s { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }",
        "nf_tables",
    ),
    "nft:flowtable": (
        "add table inet t; add flowtable inet t f { hook ingress priority 0; devices = { lo }; }",
        "nf_flow_table",
    ),
}


def why_not(name: str) -> str:
    """Why a feature is missing, and how to get it; empty if it is available.

    Raises:
        UnsupportedError: rulesets cannot be loaded at all.
        OSError: no namespace can be created for the test.
    """
    ruleset, module = NFT[name]
    engine()
    with throwaway(), ExitStack() as stack:
        here = open_namespace()
        stack.callback(os.close, here)
        rules = Nftables(here, "probe")
        stack.callback(rules.close)
        try:
            rules.run(ruleset.replace("; add ", "\nadd "))
        except CommandError as error:
            said = next((line for line in str(error).splitlines() if "Error: " in line), "Error: refused")
            why = said.partition("Error: ")[2].removeprefix("Could not process rule: ").strip()
            return f"this kernel lacks {name!r} (nft says: {why}); try as root: modprobe {module}"
    return ""

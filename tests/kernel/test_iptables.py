from __future__ import annotations

import pytest
from conversation import address_of

from pytest_netns import CommandError, Host, Lab, Namespace, ready
from pytest_netns.process.isolation import Kind

PROGRAMS = ["iptables-legacy", "iptables-nft", "ip6tables-legacy", "ip6tables-nft"]


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.netns_requires(f"program:{name}")) for name in PROGRAMS])
def program(request: pytest.FixtureRequest, netns: Namespace) -> str:
    """Each of the programs that there are and that this kernel serves."""
    name = str(request.param)
    listed = netns.run([name, "-S"], check=False)
    if listed.returncode:
        pytest.skip(f"{name} cannot be used with this kernel: {listed.stderr.strip()}")
    return name


def drop_pings(program: str) -> list[str]:
    """A command that drops echo requests which arrive."""
    if program.startswith("ip6"):
        return [program, "-A", "INPUT", "-p", "ipv6-icmp", "--icmpv6-type", "echo-request", "-j", "DROP"]
    return [program, "-A", "INPUT", "-p", "icmp", "--icmp-type", "echo-request", "-j", "DROP"]


def test_a_program_sees_and_changes_the_rules_of_its_own_namespace(program: str, veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    empty = left.run([program, "-S"]).stdout
    right.run(drop_pings(program))
    assert "-A INPUT" in right.run([program, "-S"]).stdout
    assert left.run([program, "-S"]).stdout == empty
    version = 6 if program.startswith("ip6") else 4
    assert not left.ping(address_of(right, version), timeout=0.2)
    assert right.ping(address_of(left, version))


@pytest.mark.netns_requires("program:iptables-nft", "nft")
def test_rules_of_iptables_nft_are_seen_by_nft(netns: Namespace) -> None:
    netns.run(["iptables-nft", "-A", "INPUT", "-j", "ACCEPT"])
    assert [item["table"]["name"] for item in netns.nft_ruleset() if "table" in item] == ["filter"]  # type: ignore[index]


def test_masquerade_by_iptables_works(program: str, lab: Lab) -> None:
    lan, wan = lab.bridge("lan"), lab.bridge("wan")
    router, red, far = lab.router("router", lan, wan), lab.host("red", lan), lab.host("far", wan)
    red.default_route(router)
    version = 6 if program.startswith("ip6") else 4
    assert not red.ping(address_of(far, version), timeout=0.2)
    router.run([program, "-t", "nat", "-A", "POSTROUTING", "-o", "eth1", "-j", "MASQUERADE"])
    assert red.ping(address_of(far, version))


@pytest.mark.netns_requires("program:iptables-legacy")
def test_two_namespaces_do_not_wait_for_each_others_lock(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    hold = 'exec 9<>"$XTABLES_LOCKFILE"; flock 9; echo locked; exec sleep 1000'
    holder = red.spawn(["sh", "-c", hold], ready=ready.output("locked"))
    with pytest.raises(CommandError, match="holding the xtables lock") as refused:
        red.run(["iptables-legacy", "--wait", "1", "-S"])
    assert refused.value.returncode == 4  # so the lock that is held is the one
    blue.run(["iptables-legacy", "--wait", "1", "-A", "INPUT", "-j", "ACCEPT"])
    assert "-A INPUT -j ACCEPT" in blue.run(["iptables-legacy", "-S"]).stdout
    holder.kill()
    red.run(["iptables-legacy", "-S"])


@pytest.mark.netns_requires("program:iptables-legacy")
@pytest.mark.parametrize(
    "kinds", [{"pid"}, {"uts", "pid"}, {"mount", "pid"}], ids=lambda kinds: "+".join(sorted(kinds))
)
def test_a_host_with_a_proc_of_its_own_has_a_lock(lab: Lab, kinds: set[Kind]) -> None:
    red = lab.host("red", isolate=kinds)
    for _ in range(2):
        red.run(["iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"])
    if "mount" not in kinds:
        hold = 'exec 9<>"$XTABLES_LOCKFILE"; flock 9; echo locked; exec sleep 1000'
        red.spawn(["sh", "-c", hold], ready=ready.output("locked"))
        with pytest.raises(CommandError, match="holding the xtables lock"):
            red.run(["iptables-legacy", "--wait", "1", "-S"])


def test_the_processes_of_one_namespace_share_a_lock(netns: Namespace) -> None:
    names = [netns.run(["sh", "-c", 'stat -Lc %i "$XTABLES_LOCKFILE"']).stdout for _ in range(2)]
    assert names[0] == names[1]


@pytest.mark.netns_requires("program:iptables-legacy")
def test_isolated_hosts_have_a_run_of_their_own_for_the_lock(lab: Lab) -> None:
    red = lab.host("red", isolate={"mount"})
    red.run(["iptables-legacy", "-A", "INPUT", "-j", "ACCEPT"])
    assert red.run(["ls", "/run/xtables.lock"]).stdout == "/run/xtables.lock\n"

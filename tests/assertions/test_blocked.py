"""Who refuses a packet: a rule of the node that is named, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from conversation import listen

from pytest_netns import (
    Host,
    Lab,
    ProbeFailure,
    Router,
    TopologyError,
    assert_blocked,
    assert_no_arp,
    assert_no_ping,
    assert_no_udp,
    assert_tcp_closed,
    assert_tcp_filtered,
    assert_tcp_not_open,
)

pytestmark = pytest.mark.netns_requires("nft")

SHORT = 0.1


@dataclass(frozen=True)
class Office:
    """``guest`` -- ``door`` -- ``core`` -- ``printer``."""

    lab: Lab
    guest: Host
    door: Router
    core: Router
    printer: Host


@pytest.fixture
def office(lab: Lab) -> Office:
    guest, door, core, printer = lab.host("guest"), lab.router("door"), lab.router("core"), lab.host("printer")
    lab.connect(guest, door)
    lab.connect(door, core)
    lab.connect(core, printer)
    lab.autoroute()
    return Office(lab, guest, door, core, printer)


def failure(call: Callable[[], object]) -> str:
    with pytest.raises(ProbeFailure) as caught:
        call()
    return str(caught.value)


def nft(node: Host, rule: str, hook: str = "forward", family: str = "inet") -> None:
    node.nft(f"table {family} fw {{ chain c {{ type filter hook {hook} priority 0; {rule}; }}; }}")


# ------------------------------------------------------------------ it is


@pytest.mark.parametrize(
    ("family", "rule"),
    [
        ("inet", "tcp dport 9100 drop"),
        ("inet", "tcp dport 9100 reject"),
        ("inet", "tcp dport 9100 reject with tcp reset"),
        ("inet", "policy drop"),
        ("ip", "ip daddr 10.0.0.0/8 tcp dport 9100 counter drop"),
    ],
)
@pytest.mark.netns_requires("nft")
def test_a_rule_of_the_node_that_is_named(office: Office, family: str, rule: str) -> None:
    nft(office.core, rule, family=family)
    found = assert_blocked(office.guest, office.printer, by=office.core, port=9100)
    assert found.node == "core"
    assert found.cause is not None
    assert found.cause.startswith(f"a netfilter rule on 'core' drops the request: {family} fw c: ")
    assert_tcp_not_open(office.guest, office.printer, 9100, by=office.core, timeout=SHORT)


@pytest.mark.netns_requires("nft")
def test_ipv6_and_udp_and_echo_requests(office: Office) -> None:
    nft(office.core, "ip6 nexthdr { udp, icmpv6 } drop", family="ip6")
    for protocol in ("udp", "icmp"):
        port = 53 if protocol == "udp" else None
        assert_blocked(office.guest, office.printer.ip6, by=office.core, port=port, protocol=protocol)  # type: ignore[arg-type]
    assert_no_udp(office.guest, office.printer.ip6, 53, by=office.core, timeout=SHORT)
    assert_no_ping(office.guest, office.printer.ip6, by=office.core, timeout=SHORT)


@pytest.mark.netns_requires("nft")
def test_an_ingress_rule_and_one_of_the_target_and_of_the_sender(office: Office) -> None:
    office.core.nft(
        'table netdev fw { chain c { type filter hook ingress device "eth0" priority 0; udp dport 53 drop; }; }'
    )
    assert_blocked(office.guest, office.printer, by=office.core, port=53, protocol="udp")
    nft(office.printer, "tcp dport 22 drop", "input")
    assert_blocked(office.guest, office.printer, by=office.printer, port=22)
    nft(office.guest, "tcp dport 25 drop", "output")
    assert_blocked(office.guest, office.printer, by=office.guest, port=25)


@pytest.mark.netns_requires("nft")
def test_a_rule_of_a_bridge(lab: Lab) -> None:
    lan = lab.bridge("lan", "10.1.0.0/24")
    red, blue = lan.host("red"), lan.host("blue")
    lan.nft("table bridge fw { chain c { type filter hook forward priority 0; ip protocol icmp drop; }; }")
    assert_blocked(red, blue, by=lan)
    assert "was not the cause" in failure(lambda: assert_blocked(red, blue, by=blue))


@pytest.mark.netns_requires("nft")
def test_what_a_block_of_ours_drops_or_rejects(office: Office) -> None:
    for reject in (False, True):
        with office.core.block(protocol="tcp", port=9100, reject=reject):
            assert_blocked(office.guest, office.printer, by=office.core, port=9100)


@pytest.mark.parametrize(
    "flavour",
    [pytest.param(name, marks=pytest.mark.netns_requires(f"program:iptables-{name}")) for name in ("nft", "legacy")],
)
@pytest.mark.parametrize("target", ["DROP", "REJECT"])
def test_iptables(office: Office, flavour: str, target: str) -> None:
    program = f"iptables-{flavour}"
    done = office.core.run([program, "-A", "FORWARD", "-p", "udp", "--dport", "53", "-j", target], check=False)
    if done.returncode:
        pytest.skip(f"{program}: {done.stderr}")
    if flavour == "legacy" and not office.core.call(_sees_legacy):
        pytest.skip("this user may not know which tables iptables-legacy has")
    found = assert_blocked(office.guest, office.printer, by=office.core, port=53, protocol="udp")
    assert found.node == "core"


def _sees_legacy() -> bool:
    try:
        with open("/proc/thread-self/net/ip_tables_names", encoding="ascii") as file:
            return bool(file.read())
    except OSError:
        return False


@pytest.mark.netns_requires("nft")
def test_a_rule_that_comes_later_is_awaited(office: Office) -> None:
    with office.lab.schedule([(0.3, lambda: nft(office.core, "tcp dport 9100 drop"))]):
        assert_blocked(office.guest, office.printer, by=office.core, port=9100, within=30)


@pytest.mark.netns_requires("nft")
def test_closed_and_filtered_can_be_asked_by_whom(office: Office) -> None:
    nft(office.core, "tcp dport 22 drop; tcp dport 23 reject with tcp reset")
    assert_tcp_filtered(office.guest, office.printer, 22, by=office.core, timeout=SHORT)
    assert_tcp_closed(office.guest, office.printer, 23, by=office.core, timeout=SHORT)
    text = failure(lambda: assert_tcp_closed(office.guest, office.printer, 24, by=office.core, timeout=SHORT))
    assert "expected a rule of 'core' to drop or reject it, but that was not the cause" in text
    assert "nothing listens on tcp port 24 of 'printer'" in text


@pytest.mark.netns_requires("nft")
def test_arp(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "10.1.0.0/24")
    assert "the question was seen at blue, red" in failure(
        lambda: assert_no_arp(red, "10.1.0.77", by=blue, timeout=SHORT)
    )
    blue.nft("table arp fw { chain input { type filter hook input priority 0; arp operation request drop; }; }")
    assert_no_arp(red, blue, by=blue, timeout=SHORT)
    text = failure(lambda: assert_no_arp(red, blue, by=red, timeout=SHORT))
    assert "a netfilter rule on 'blue' drops the question: arp fw input: arp operation request drop" in text


# -------------------------------------------------------------- it is not


def no_route(office: Office) -> str:
    for network in [each.destination for each in office.guest.routes() if each.gateway]:
        office.guest.remove_route(network)
    return "'guest' has no route"


def own_link_down(office: Office) -> str:
    office.guest.interface("eth0").down()
    return "interface 'eth0' of 'guest' is down"


def no_forwarding(office: Office) -> str:
    office.door.sysctl["net.ipv4.ip_forward"] = 0
    return "'door' does not forward IPv4"


def crashed_target(office: Office) -> str:
    office.printer.crash()
    return "'printer' has crashed"


def no_way_back(office: Office) -> str:
    for network in [each.destination for each in office.printer.routes() if each.gateway]:
        office.printer.remove_route(network)
    return "its reply does not come back"


def wrong_gateway(office: Office) -> str:
    gateway = office.door.interfaces["eth0"].ip4
    office.guest.run(f"ip neigh replace {gateway} lladdr 02:00:00:00:00:99 dev eth0 nud permanent".split())
    return "'guest' sends to the wrong MAC address"


def rule_of_another(office: Office) -> str:
    nft(office.door, "tcp dport 9100 drop; icmp type echo-request drop; udp dport 9100 drop")
    return "a netfilter rule on 'door' drops the request"


def nothing_at_all(office: Office) -> str:
    return "it was answered"


@pytest.mark.parametrize(
    "trouble",
    [
        no_route,
        own_link_down,
        no_forwarding,
        crashed_target,
        no_way_back,
        pytest.param(wrong_gateway, marks=pytest.mark.netns_requires("program:ip")),
        pytest.param(rule_of_another, marks=pytest.mark.netns_requires("nft")),
        nothing_at_all,
    ],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("protocol", ["tcp", "icmp"])
def test_what_stopped_it_instead(office: Office, trouble: Callable[[Office], str], protocol: str) -> None:
    server = listen(office.printer, 9100)
    target = office.printer.ip4
    words = trouble(office)
    port = 9100 if protocol == "tcp" else None
    text = failure(
        lambda: assert_blocked(
            office.guest,
            target,
            by=office.core,
            port=port,
            protocol=protocol,
            timeout=SHORT,  # type: ignore[arg-type]
        )
    )
    server.close()
    assert text.startswith("expected a rule of 'core' to drop or reject it, but that was not the cause: ")
    assert words in text


def test_a_negative_one_that_passes_otherwise_fails_by_whom(office: Office) -> None:
    target = office.printer.ip4
    office.printer.crash()
    assert_no_ping(office.guest, target, timeout=SHORT)
    assert "'printer' has crashed" in failure(
        lambda: assert_no_ping(office.guest, target, by=office.core, timeout=SHORT)
    )


def test_what_cannot_be_meant_is_refused(office: Office, lab_factory: Callable[[], Lab]) -> None:
    guest, printer, core = office.guest, office.printer, office.core
    with pytest.raises(ValueError, match="ICMP has no ports"):
        assert_blocked(guest, printer, by=core, port=80, protocol="icmp")
    with pytest.raises(ValueError, match="port is None; udp needs one"):
        assert_blocked(guest, printer, by=core, protocol="udp")
    with pytest.raises(ValueError, match="protocol is 'sctp'"):
        assert_blocked(guest, printer, by=core, port=80, protocol="sctp")  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="is a node of another lab"):
        assert_blocked(guest, printer, by=lab_factory().host("far"))
    with pytest.raises(TopologyError, match=r"did you mean lab\['core'\]"):
        assert_blocked(guest, printer, by="core")  # type: ignore[arg-type]


# ------------------------------------------------------------ nothing sent


ASK = pytest.mark.parametrize(
    "ask",
    [
        lambda guest, to: assert_no_ping(guest, to, timeout=SHORT),
        lambda guest, to: assert_no_udp(guest, to, 53, timeout=SHORT),
        lambda guest, to: assert_tcp_not_open(guest, to, 80, timeout=SHORT),
    ],
    ids=["ping", "udp", "tcp"],
)


@ASK
@pytest.mark.parametrize("trouble", [no_route, own_link_down], ids=lambda f: f.__name__)
@pytest.mark.parametrize("version", [4, 6])
def test_silence_is_no_proof_where_nothing_was_sent(
    office: Office, ask: Callable[[Host, object], object], trouble: Callable[[Office], str], version: int
) -> None:
    target = office.printer.ip4 if version == 4 else office.printer.ip6
    trouble(office)
    assert failure(lambda: ask(office.guest, target)).startswith("nothing was sent: nothing answered 'guest'")


@ASK
@pytest.mark.netns_requires("program:ip")
def test_nor_where_the_next_hop_is_not_there(office: Office, ask: Callable[[Host, object], object]) -> None:
    office.door.interface("eth0").remove_address(
        next(a for a in office.door.interface("eth0").addresses if a.version == 4)
    )
    office.guest.run(["ip", "neigh", "flush", "all"])
    assert "nothing was sent" in failure(lambda: ask(office.guest, office.printer.ip4))


def test_nor_arp_by_a_link_that_is_down(office: Office) -> None:
    address = office.door.interface("eth0").ip4
    office.guest.links[0].down()
    assert "nothing was sent" in failure(lambda: assert_no_arp(office.guest, address, timeout=SHORT))

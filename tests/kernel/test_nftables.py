from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pytest_netns import CommandError, Host, Lab, Namespace, NetnsError, UnsupportedError
from pytest_netns.kernel import nftables

pytestmark = pytest.mark.netns_requires("nft")

DROP_PINGS = """
table inet t {
    chain in {
        type filter hook input priority 0;
        icmp type echo-request counter drop
        icmpv6 type echo-request counter drop
    }
}
"""


@pytest.fixture(params=["libnftables", pytest.param("nft", marks=pytest.mark.netns_requires("program:nft"))])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways to load rules."""
    if request.param == "nft":
        monkeypatch.setattr(nftables, "_library", lambda: None)
    elif nftables._library() is None:
        pytest.skip("libnftables.so.1 is not installed (apt-get install libnftables1)")
    assert nftables.engine() == request.param
    return str(request.param)


def kinds(ns: Namespace) -> list[str]:
    """The kinds of objects in a ruleset, in order."""
    return [next(iter(item)) for item in ns.nft_ruleset()]


def test_a_new_namespace_has_no_rules(engine: str, netns: Namespace) -> None:
    assert netns.nft_ruleset() == []


def test_a_ruleset_is_loaded_and_read_back(engine: str, netns: Namespace) -> None:
    netns.nft(DROP_PINGS)
    assert kinds(netns) == ["table", "chain", "rule", "rule"]
    table, chain, *_ = netns.nft_ruleset()
    assert table["table"]["name"] == "t"  # type: ignore[index]
    assert (chain["chain"]["hook"], chain["chain"]["prio"]) == ("input", 0)  # type: ignore[index]


def test_rules_work_in_their_namespace_and_no_other(engine: str, veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    right.nft(DROP_PINGS)
    assert not left.ping(right.ip4, timeout=0.2)
    assert not left.ping(right.ip6, timeout=0.2)
    assert right.ping(left.ip4)
    assert left.nft_ruleset() == []
    right.nft("delete table inet t")
    assert left.ping(right.ip4)


def test_counters_can_be_read(engine: str, veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    right.nft("""
        table ip t {
            counter pings { }
            chain c { type filter hook input priority 0; icmp type echo-request counter name pings; }
        }
    """)
    assert left.ping(right.ip4, count=3)
    [counter] = [item["counter"] for item in right.nft_ruleset() if "counter" in item]
    assert counter["packets"] == 3  # type: ignore[index]
    assert "packets 3" in right.nft("list counters")


def test_commands_return_what_they_print(engine: str, netns: Namespace) -> None:
    assert netns.nft("add table inet t") == ""
    assert netns.nft("list tables") == "table inet t\n"


def test_text_is_printed_as_text_after_the_ruleset_was_read(engine: str, netns: Namespace) -> None:
    netns.nft("add table inet t")
    assert kinds(netns) == ["table"]
    assert netns.nft("list tables") == "table inet t\n"


@pytest.mark.netns_requires("program:nft")
def test_what_the_program_loads_the_library_reads(engine: str, netns: Namespace) -> None:
    netns.run(["nft", "add table inet theirs"])
    assert netns.nft("list tables") == "table inet theirs\n"


def test_interface_names_are_those_of_the_namespace(engine: str, veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    right.nft("""
        table inet t { chain in { type filter hook input priority 0; iif "eth0" icmp type echo-request drop; }; }
    """)
    assert not left.ping(right.ip4, timeout=0.2)
    with pytest.raises(CommandError, match="Interface does not exist"):
        right.nft('add rule inet t in iif "eth1" drop')


# ------------------------------------------------------------ errors


def test_a_syntax_error_comes_in_the_words_of_nft_with_line_and_column(engine: str, netns: Namespace) -> None:
    with pytest.raises(CommandError, match=r"line 3:\d+-\d+: Error: syntax error") as refused:
        netns.nft("add table inet t\nadd chain inet t c\nadd rule inet t c bogus words here\nadd table inet u\n")
    text = str(refused.value)
    assert "nft in namespace 'netns' refused a ruleset, and nothing of it took effect" in text
    assert "add rule inet t c bogus words here\n" in text
    assert "                                  ^\n" in text
    assert "   3 add rule inet t c bogus words here" in text
    assert "/proc/" not in text
    assert "/dev/stdin" not in text


def test_an_error_of_meaning_names_the_line_too(engine: str, netns: Namespace) -> None:
    with pytest.raises(CommandError, match=r"line 2:.*Error: .*No such file or directory"):
        netns.nft("add table inet t\nadd rule inet nowhere c accept\n")


@pytest.mark.parametrize(
    "bad",
    [
        "add table inet u\nadd rule inet u nowhere accept\n",
        "add table inet u\nbogus\n",
        "delete table inet t\nadd rule inet t in accept\n",
    ],
)
def test_of_a_ruleset_with_a_bad_line_nothing_takes_effect(engine: str, netns: Namespace, bad: str) -> None:
    netns.nft(DROP_PINGS)
    before = netns.nft_ruleset()
    with pytest.raises(CommandError, match="refused a ruleset"):
        netns.nft(bad)
    assert netns.nft_ruleset() == before
    netns.nft("add table inet u")
    assert netns.nft("list tables") == "table inet t\ntable inet u\n"


def test_the_error_carries_the_command_and_its_status(engine: str, netns: Namespace) -> None:
    with pytest.raises(CommandError) as refused:
        netns.nft("bogus")
    assert (refused.value.argv[0], refused.value.returncode) == ("nft", 1)


def test_a_long_ruleset_is_cut_short_in_the_message(engine: str, netns: Namespace) -> None:
    long = "".join(f"add table inet t{number}\n" for number in range(1000)) + "bogus\n"
    with pytest.raises(CommandError, match=r"line 1001:\d+-\d+: Error: syntax error") as refused:
        netns.nft(long)
    assert len(str(refused.value)) < 6000
    assert str(refused.value).endswith("\n...")


def test_where_neither_is_installed_an_error_names_the_package(
    netns: Namespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(nftables, "_library", lambda: None)
    monkeypatch.setattr(nftables, "_PATH", str(tmp_path))
    for ask in (lambda: netns.nft("list ruleset"), netns.nft_ruleset):
        with pytest.raises(UnsupportedError, match=r"libnftables\.so\.1 or the nft program.*apt-get install nftables"):
            ask()
    monkeypatch.undo()
    assert netns.nft_ruleset() == []


def test_a_closed_namespace_takes_no_rules(engine: str) -> None:
    used, unused = Namespace("used"), Namespace("unused")
    assert used.nft_ruleset() == []
    for ns in (used, unused):
        ns.close()
        with pytest.raises(NetnsError, match=f"namespace '{ns.name}' is closed"):
            ns.nft("add table inet t")


# ------------------------------------------------------------ from everywhere


def test_the_calling_thread_stays_where_it_is(engine: str, netns: Namespace) -> None:
    other = Namespace("other")
    with other:
        netns.nft("add table inet t")
        assert other.nft_ruleset() == []
    assert other.nft_ruleset() == []
    assert kinds(netns) == ["table"]
    other.close()


def test_several_threads_load_rules_at_once(engine: str, lab: Lab) -> None:
    hosts = [lab.host(f"h{number}") for number in range(6)]
    failures: list[BaseException] = []

    def load(host: Host) -> None:
        try:
            for number in range(5):
                host.nft(f"add table inet {host.name}-{number}".replace("-", "_"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=load, args=[host]) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for host in hosts:
        tables = [item["table"]["name"] for item in host.nft_ruleset()]  # type: ignore[index]
        assert tables == [f"{host.name}_{number}" for number in range(5)]


def test_a_namespace_outside_of_a_lab_and_one_that_is_attached_to(engine: str, netns: Namespace) -> None:
    attached = Namespace.attach(netns.path, "attached")
    attached.nft("add table inet t")
    assert netns.nft("list tables") == "table inet t\n"
    attached.close()
    assert netns.nft("list tables") == "table inet t\n"


@pytest.mark.parametrize("text", ["monitor", "add table ip t\n  monitor ruleset", "add table ip t; monitor"])
def test_what_never_ends_is_refused_with_the_way_to_have_it(engine: str, netns: Namespace, text: str) -> None:
    with pytest.raises(CommandError, match=r"'monitor' never ends.*spawn\(\['nft', 'monitor'\]\)"):
        netns.nft(text)
    assert netns.nft("list tables") == ""


def test_the_word_monitor_in_comments_and_names_is_no_command(engine: str, netns: Namespace) -> None:
    netns.nft('# monitor\nadd table inet monitored { comment "a; monitor"; }')
    assert "table inet monitored" in netns.nft("list tables")


@pytest.mark.netns_requires("program:iptables-nft")
def test_warnings_of_libraries_do_not_get_into_what_pytest_prints(
    engine: str, netns: Namespace, capfd: pytest.CaptureFixture[str]
) -> None:
    # libxtables, which reads it, warns that it has no names of labels: "cannot open /etc/xtables/connlabel.conf"
    made = netns.run(["iptables-nft", "-A", "INPUT", "-m", "connlabel", "--label", "1", "-j", "DROP"], check=False)
    if made.returncode:
        pytest.skip(f"iptables-nft has no connlabel here: {made.stderr}")
    assert "ip filter" in netns.nft("list ruleset")
    netns.nft_ruleset()
    assert capfd.readouterr().err == ""

"""What the report of a failed test says, where it stands, how long it is, and where it travels."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from .inner import Project, User

TOWN = """
import sys
import pytest
from pytest_netns import Lab

@pytest.fixture
def town(lab):
    lan, wan = lab.bridge("lan", "10.1.0.0/24"), lab.bridge("wan", "10.2.0.0/24")
    red, blue = lan.host("red"), wan.host("blue")
    router = lab.router("router", lan, wan)
    lab.autoroute()
    router.nft("table inet f { chain c { type filter hook forward priority 0; ip protocol icmp counter drop; }; }")
    blue.spawn([sys.executable, "-m", "http.server", "8080"], ready=8080)
    return red, blue
"""
PING = """
def test_inside(town):
    red, blue = town
    assert red.ping(blue, timeout=0.1)
"""
DRAWING = ["red     (router)  blue", "[[]eth0]==[[]eth0]    |       lan 10.1.0.0/24"]
CAUSE = "cause: a netfilter rule on 'router' drops the request: *"

DISTRIBUTED = ("-p", "xdist", "-n", "2", "-p", "netns")
WAYS = pytest.mark.parametrize("way", [(), DISTRIBUTED], ids=["alone", "distributed"])


def failure(output: str) -> list[str]:
    """The lines of the failures, headline and all."""
    lines = output.splitlines()
    start = next(at for at, line in enumerate(lines) if "= FAILURES =" in line)
    return lines[start : next(at for at, line in enumerate(lines) if "short test summary" in line)]


@WAYS
@pytest.mark.netns_requires("nft")
def test_the_assertion_is_on_top_then_why_then_the_lab(project: Project, user: User, way: tuple[str, ...]) -> None:
    project.write("test_inside.py", TOWN + PING)
    result = project.run(*way, user=user)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *assert <PingResult red -> blue*",
            "*- netns: why -*",
            CAUSE,
            "*- netns: lab -*",
            *DRAWING,
            "router (router)",
            "... * more lines; see all with -vv",
        ]
    )


@WAYS
@pytest.mark.netns_requires("nft")
def test_a_failing_ping_takes_some_thirty_lines(project: Project, way: tuple[str, ...]) -> None:
    project.write("test_inside.py", TOWN + PING)
    lines = failure(project.run(*way).stdout.str())
    assert "netns: lab" in "\n".join(lines)
    assert len(lines) <= 35


@pytest.mark.netns_requires("nft")
def test_so_does_one_with_packets_in_a_large_lab_with_talkative_processes(project: Project) -> None:
    body = """
def test_inside(town, lab):
    red, blue = town
    many = [lab["lan"].host(f"h{n}") for n in range(12)]
    for host in many:
        host.spawn(["sh", "-c", "seq 100; exec sleep 100"])
    with lab.capture() as capture:
        for host in many:
            host.ping(red, timeout=0.1)
        assert red.ping(blue, timeout=0.1)
"""
    project.write("test_inside.py", TOWN + body)
    lines = failure(project.run().stdout.str())
    assert "netns: packets" in "\n".join(lines)
    assert len(lines) < 60
    assert lines[-1].endswith("more lines; see all with -vv")
    assert len(failure(project.run("-vv").stdout.str())) > 1000


@pytest.mark.netns_requires("nft")
def test_with_vv_it_is_whole(project: Project) -> None:
    project.write("test_inside.py", TOWN + PING)
    lines = [line.strip() for line in failure(project.run("-vv").stdout.str())]
    assert "ip protocol icmp counter packets 1 bytes 84 drop" in lines  # of the test; asking again has counted another
    assert any(line.startswith("neighbour 10.1.0.2 02:") for line in lines)
    assert "lan (bridge)" in lines


@pytest.mark.netns_requires("nft")
def test_the_state_is_that_before_anything_was_asked_again(project: Project) -> None:
    project.write("test_inside.py", TOWN + PING.replace("red.ping(blue", "red.ping('10.1.0.77'"))
    short = project.run().stdout.str()
    assert short.count("neighbour 10.1.0.77 unknown dev eth0") == 1


@WAYS
@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
@pytest.mark.parametrize("logging", ["no", "all"])
@pytest.mark.netns_requires("nft")
def test_the_sections_are_in_junit_xml(project: Project, way: tuple[str, ...], family: str, logging: str) -> None:
    project.write("test_inside.py", TOWN + PING)
    project.ini(f"junit_family = {family}", f"junit_logging = {logging}")
    project.run(*way, "--junitxml=found.xml").assert_outcomes(failed=1)
    (found,) = ET.parse(project.folder / "found.xml").iter("failure")
    text = found.text or ""
    assert "assert <PingResult red -> blue" in text
    assert text.index("netns: why") < text.index("cause: a netfilter rule") < text.index("netns: lab")
    assert "[eth0]==[eth0]    |       lan 10.1.0.0/24" in text
    assert "netns:" not in (found.get("message") or "")


@pytest.mark.netns_requires("nft")
def test_hiding_captured_output_hides_no_section(project: Project) -> None:
    project.write("test_inside.py", TOWN + PING)
    project.run("--show-capture=no").stdout.fnmatch_lines([CAUSE, "*- netns: lab -*"])


@pytest.mark.netns_requires("nft")
def test_a_failure_without_traceback_has_its_sections_too(project: Project) -> None:
    body = "def test_inside(town):\n    pytest.fail('no', pytrace=False)\n"
    project.write("test_inside.py", TOWN + body)
    project.run().stdout.fnmatch_lines(["no", "*- netns: lab -*", *DRAWING])


def test_a_failed_set_up_shows_the_lab(project: Project) -> None:
    body = """
@pytest.fixture
def broken(veth_pair):
    raise ValueError("no")

def test_inside(broken):
    pass
"""
    project.write("test_inside.py", TOWN + body)
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *ValueError: no", "*- netns: lab -*", "left    right", "left (host)"])


# -------------------------------------------------------------------- whose labs


def sections(output: str) -> list[str]:
    return [line.strip("- ") for line in output.splitlines() if line.startswith("----") and " netns: " in line]


def test_a_lab_made_by_hand_is_shown_though_its_block_has_closed_it(project: Project, user: User) -> None:
    body = """
def test_inside():
    with Lab("mine") as lab:
        red, blue = lab.host("red"), lab.host("blue")
        lab.connect(red, blue, "10.9.0.0/24").a.down()
        assert red.name == "blue"
"""
    project.write("test_inside.py", TOWN + body)
    result = project.run("--netns-sandbox=always", user=user)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*- netns: mine -*", "red * blue", "[[]eth0 DOWN]..[[]eth0 NO-CARRIER]  10.9.0.0/24", "red (host)"]
    )


@pytest.mark.netns_requires("nft")
def test_a_lab_whose_error_was_expected_costs_a_later_failure_nothing(project: Project) -> None:
    body = """
def test_one():
    with pytest.raises(KeyError), Lab("mine") as lab:
        lab.host("red")
        raise KeyError

def test_two(netns):
    assert False
"""
    project.write("test_inside.py", TOWN + body)
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    assert sections(result.stdout.str()) == []


def test_a_lab_of_wider_scope_is_shown_to_tests_that_can_reach_it(project: Project) -> None:
    body = """
class Backbone:
    def __init__(self, made):
        made.host("core")

@pytest.fixture(scope="session")
def backbone(lab_factory):
    return Backbone(lab_factory("backbone"))

def test_first(backbone):
    assert False

def test_second(backbone):
    assert False

def test_elsewhere(lab):
    lab.host("red")
    assert False
"""
    project.write("test_inside.py", TOWN + body)
    result = project.run()
    result.assert_outcomes(failed=3)
    assert sections(result.stdout.str()) == ["netns: backbone", "netns: backbone", "netns: lab"]


@pytest.mark.netns_requires("nft")
def test_namespaces_without_a_lab_are_shown_if_there_is_something_in_them(project: Project) -> None:
    body = """
@pytest.mark.netns
def test_something(netns):
    server = netns.socket()
    server.bind(("127.0.0.1", 8081))
    server.listen()
    assert False

@pytest.mark.netns
def test_nothing(netns):
    assert False
"""
    project.write("test_inside.py", TOWN + body)
    result = project.run()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*- netns: namespaces -*", "netns (namespace)", "  listens on tcp 127.0.0.1:8081"])
    assert sections(result.stdout.str()) == ["netns: namespaces"]


# -------------------------------------------------------------------- packets


@pytest.mark.netns_requires("nft")
def test_packets_of_the_tests_own_captures_are_drawn(project: Project, user: User) -> None:
    body = """
def test_inside(veth_pair):
    left, right = veth_pair
    with left.capture(filter="udp") as capture:
        for port in range(7000, 7020):
            left.udp(right, port, b"?", timeout=0.2)
        assert left.name == "right"
"""
    project.write("test_inside.py", TOWN + body)
    lines = [line.strip() for line in failure(project.run(user=user).stdout.str())]
    at = lines.index("left, as captured by the test:")
    assert lines[at - 1].strip("- ") == "netns: packets"
    assert lines[at + 1].split() == ["time", "left", "(wire)"]
    assert lines[at + 2] == "(8 earlier frames)"
    rows = [line for line in lines[at + 3 :] if " ms  |" in line]
    assert len(rows) == 12
    assert ":7019" in rows[-1] or "> 10.0.0.2:7019" in rows[-1]
    assert "earlier frames" not in "\n".join(failure(project.run("-vv", user=user).stdout.str()))


@pytest.mark.netns_requires("nft")
def test_a_capture_of_the_whole_lab_says_where_a_frame_was_lost(project: Project) -> None:
    body = """
def test_inside(town, lab):
    red, blue = town
    with lab.capture() as everything, red.capture() as near:
        red.ping(blue, timeout=0.1)
    assert False
"""
    project.write("test_inside.py", TOWN + body)
    result = project.run()
    result.stdout.fnmatch_lines(
        ["lab lab, as captured by the test:", "* ms  |---------->+---------->|-----x *echo-request*"]
    )


def test_packets_of_the_test_before_are_not_shown(project: Project) -> None:
    body = """
@pytest.fixture(scope="module")
def wide(lab_factory):
    lab = lab_factory()
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    with lab.capture() as capture:
        yield red, blue

def test_before(wide):
    assert wide[0].ping(wide[1])

def test_inside(wide):
    assert False
"""
    project.write("test_inside.py", TOWN + body)
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    assert sections(result.stdout.str()) == ["netns: lab"]


# ----------------------------------------------------------------------- cost


def test_tests_that_pass_pay_for_nothing(project: Project) -> None:
    project.write(
        "conftest.py",
        """
import sys

def pytest_unconfigure():
    print("LOADED:", sorted(name for name in sys.modules if name.startswith("pytest_netns.report")))
""",
    )
    body = """
import threading
from pathlib import Path

def packet_sockets():
    return Path("/proc/thread-self/net/packet").read_text().splitlines()[1:]

BEFORE = set(packet_sockets())  # other programs may have some

def test_inside(lab):
    lab.host("red")
    assert "netns-pump" not in {thread.name for thread in threading.enumerate()}
    assert set(packet_sockets()) <= BEFORE
    with lab["red"]:
        assert not packet_sockets()
"""
    project.write("test_inside.py", TOWN + body)
    result = project.run("-s", fresh=True)
    result.assert_outcomes(passed=1)
    assert "LOADED: []" in result.outlines


@pytest.mark.netns_requires("nft")
def test_nothing_is_written_without_being_asked(project: Project) -> None:
    project.write("test_inside.py", TOWN + PING)

    def found() -> set[str]:
        return {path.name for path in project.folder.iterdir() if not path.name.startswith(("output-", "report-"))}

    project.run().assert_outcomes(failed=1)  # which leaves a cache of scapy's
    before = found()
    project.run().assert_outcomes(failed=1)
    assert {name for name in found() - before if not name.startswith("go-on-")} == set()


@pytest.mark.netns_requires("nft")
def test_captures_made_to_explain_are_not_shown_as_those_of_the_test(project: Project) -> None:
    asserted = PING.replace("assert red.ping(blue, timeout=0.1)", "assert_ping(red, blue, timeout=0.1)")
    project.write("test_inside.py", f"from pytest_netns import assert_ping\n{TOWN}{asserted}")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *ProbeFailure: *", f"E *{CAUSE}"])
    result.stdout.no_fnmatch_line("*netns: packets*")


def test_the_values_of_fixtures_are_not_asked(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import pytest

        class Proxy:
            def __getattr__(self, name):
                raise RuntimeError("nobody may ask me for " + name)

        @pytest.fixture
        def proxy():
            return Proxy()

        def test_theirs(proxy):
            assert 0

        def test_beside_ours(proxy, lab):
            lab.host("red")
            assert 0
        """,
    )
    result = project.run()
    result.assert_outcomes(failed=2)
    result.stdout.no_fnmatch_line("*nobody may ask me*")
    result.stdout.fnmatch_lines(["*netns: lab*"])

"""Which failures are explained: all that come of a probe or of the network, however the test is written."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from .inner import Project

pytestmark = pytest.mark.netns_requires("nft")

LAB = """
import asyncio, socket
import pytest
from pytest_netns import Lab, assert_ping

@pytest.fixture
def pair(lab):
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    blue.nft("table inet f { chain c { type filter hook input priority 0; tcp dport 80 drop; }; }")
    return red, blue

def test_inside(pair, lab):
    red, blue = pair
"""
HELPER = """
def check(red, blue):
    if not red.tcp(blue, 80, timeout=0.1):
        raise RuntimeError("not reachable")
"""
CAUSE = "cause: a netfilter rule on 'blue' drops the request: inet f c: tcp dport 80 drop"


@pytest.mark.parametrize(
    "body",
    [
        "assert red.tcp(blue, 80, timeout=0.1).state == 'open'",
        "ok = bool(red.tcp(blue, 80, timeout=0.1))\n    assert ok",
        "from helper import check\n    check(red, blue)",
        "assert red.trace(blue, method='tcp', timeout=0.1, max_hops=2).path == ['blue']",
        "socket.create_server\n    with red:\n        socket.create_connection((str(blue.ip4), 80), timeout=0.2)",
        "s = red.socket(socket.AF_INET, socket.SOCK_STREAM)\n    s.settimeout(0.2)\n    s.connect((str(blue.ip4), 80))",
        "red.call(socket.create_connection, (str(blue.ip4), 80), timeout=0.2)",
        "asyncio.run(asyncio.wait_for(red.open_connection(str(blue.ip4), 80), 0.2))",
    ],
    ids=["state", "bool", "helper", "trace", "with", "socket", "call", "asyncio"],
)
def test_it_is_explained(project: Project, body: str) -> None:
    project.write("helper.py", HELPER)
    project.write("test_inside.py", f"{LAB}    {body}\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- netns: why -*", CAUSE])


UDP_RULE = ("tcp dport 80", "udp dport 80")
DATAGRAM = """
async def ask(address):
    loop = asyncio.get_running_loop()
    answered = loop.create_future()

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data, source):
            answered.set_result(data)

    there = (address, 80)
    target, how = ({'remote_addr': there}, ()) if CONNECTED else ({'local_addr': ('0.0.0.0', 0)}, (there,))
    client, _ = await loop.create_datagram_endpoint(Client, **target)
    try:
        client.sendto(b'hello', *how)
        await asyncio.wait_for(answered, 0.2)
    finally:
        client.close()

class LifetimeTimeout(Exception):
    "As dnspython's: no OSError."
"""


@pytest.mark.parametrize(
    "body",
    [
        "with red, socket.socket(type=socket.SOCK_DGRAM) as s:\n        s.settimeout(0.1)\n"
        "        s.sendto(b'hello', (str(blue.ip4), 80))\n        s.recvfrom(100)",
        "with red, socket.socket(type=socket.SOCK_DGRAM) as s:\n        s.settimeout(0.1)\n"
        "        s.connect((str(blue.ip4), 80))\n        s.send(b'hello')\n        s.recv(100)",
        "with red, socket.socket(type=socket.SOCK_DGRAM) as s:\n        s.settimeout(0.1)\n"
        "        s.sendmsg([b'hello'], [], 0, (str(blue.ip4), 80))\n        s.recv(100)",
        "with red:\n        asyncio.run(ask(str(blue.ip4)))",
        "CONNECTED = True\n    with red:\n        asyncio.run(ask(str(blue.ip4)))",
        "with red, socket.socket(type=socket.SOCK_DGRAM) as s:\n        s.sendto(b'hello', (str(blue.ip4), 80))\n"
        "        raise LifetimeTimeout('no answer')",
    ],
    ids=["sendto", "connect", "sendmsg", "asyncio", "asyncio-connected", "dnspython"],
)
def test_a_datagram_that_is_not_answered_is_explained(project: Project, body: str) -> None:
    head = LAB.replace(*UDP_RULE).replace("def test_inside", f"CONNECTED = False\n{DATAGRAM}\ndef test_inside")
    head = head.replace("red, blue = pair", "global CONNECTED\n    red, blue = pair")
    project.write("test_inside.py", f"{head}    {body}\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*- netns: why -*", CAUSE.replace(*UDP_RULE), "observed: red -> 192.168.15.2 udp port 80*"]
    )


def test_a_datagram_that_is_refused_is_explained(project: Project) -> None:
    body = """
    with red, socket.socket(type=socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        s.connect((str(blue.ip4), 8080))
        s.send(b'hello')
        s.recv(100)
"""
    project.write("test_inside.py", LAB + body)
    project.run().stdout.fnmatch_lines(
        ["*ConnectionRefusedError*", "cause: nothing listens on udp port 8080 of 'blue'*"]
    )


PROGRAM = """
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3]))
"""
DAEMON = """
import signal, socket, sys
client = socket.socket()
client.setblocking(False)
client.connect_ex((sys.argv[1], int(sys.argv[2])))
print("asked", flush=True)
signal.pause()
"""


@pytest.mark.parametrize(
    ("body", "port"),
    [
        ("red.run([*CONNECT, '80', '0.1'])", 80),
        ("done = red.run([*CONNECT, '80', '0.1'], check=False)\n    assert done.returncode == 0", 80),
        ("red.run([*CONNECT, '80', '60'], timeout=0.5)", 80),
        ("red.run([*CONNECT, '8080', '60'])", 8080),
        ("client = red.spawn([*DAEMON, '80'], ready=ready.output('asked'))\n    assert 'hello' in client.output", 80),
        (
            "client = red.spawn([*DAEMON, '80'], ready=ready.output('asked'))\n"
            "    eventually(lambda: 'hello' in client.output, within=0.1)",
            80,
        ),
        ("with red:\n        subprocess.run([*CONNECT, '80', '0.1'], check=True)", 80),
    ],
    ids=["command", "status", "deadline", "refused", "daemon", "eventually", "subprocess"],
)
def test_a_program_that_reaches_nobody_is_explained(project: Project, body: str, port: int) -> None:
    project.write("connect.py", PROGRAM)
    project.write("daemon.py", DAEMON)
    words = "CONNECT, DAEMON = ([sys.executable, name, '192.168.15.2'] for name in ('connect.py', 'daemon.py'))"
    head = LAB.replace("def test_inside", f"{words}\n\ndef test_inside")
    project.write(
        "test_inside.py", f"import subprocess, sys\nfrom pytest_netns import eventually, ready\n{head}    {body}\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    cause = CAUSE if port == 80 else f"cause: nothing listens on tcp port {port} of 'blue'*"
    result.stdout.fnmatch_lines(
        ["*- netns: why -*", cause, f"observed: a program in red -> 192.168.15.2 tcp port {port}*"]
    )


ASKING = """
import socket, sys
address, port, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client = socket.socket(type=socket.SOCK_DGRAM)
client.connect((address, port))
if how != "silent":
    client.send(b"hello")
client.settimeout(60 if how == "waits" else 0.1)
if how == "waits":
    print("asked", flush=True)
client.recv(100)
"""


@pytest.mark.parametrize(
    ("body", "port"),
    [
        ("red.run([*ASK, '80', 'once'])", 80),
        ("red.run([*ASK, '80', 'waits'], timeout=0.5)", 80),
        ("red.run([*ASK, '8080', 'once'])", 8080),
        ("client = red.spawn([*ASK, '80', 'waits'], ready=ready.output('asked'))\n    assert 'x' in client.output", 80),
    ],
    ids=["command", "deadline", "refused", "daemon"],
)
def test_a_program_whose_datagram_is_not_answered_is_explained(project: Project, body: str, port: int) -> None:
    project.write("ask.py", ASKING)
    head = LAB.replace(*UDP_RULE)
    words = "import sys\nfrom pytest_netns import ready\nASK = [sys.executable, 'ask.py', '192.168.15.2']\n"
    project.write("test_inside.py", f"{words}{head}    {body}\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    cause = CAUSE.replace(*UDP_RULE) if port == 80 else f"cause: nothing listens on udp port {port} of 'blue'*"
    result.stdout.fnmatch_lines(
        ["*- netns: why -*", cause, f"observed: a program in red -> 192.168.15.2 udp port {port}*"]
    )


def test_a_program_whose_name_server_does_not_answer_is_explained(project: Project) -> None:
    body = """
def test_inside(lab):
    red, blue = lab.host("red", isolate={"mount"}), lab.host("blue")
    lab.connect(red, blue, "192.168.15.0/24")
    lab.dns.nameservers.append("192.168.15.2")
    lab.dns["blue.example"] = blue
    blue.nft("table inet f { chain c { type filter hook input priority 0; udp dport 53 drop; }; }")
    red.run([sys.executable, "-c", "import socket; socket.getaddrinfo('www.example.com', 80)"], timeout=1)
"""
    project.write("test_inside.py", f"import sys\n{LAB.partition('def test_inside')[0]}{body}")
    result = project.run()
    result.assert_outcomes(failed=1)
    cause = CAUSE.replace("tcp dport 80", "udp dport 53")
    result.stdout.fnmatch_lines(["*- netns: why -*", cause, "observed: a program in red -> 192.168.15.2 udp port 53*"])


@pytest.mark.parametrize(
    "body",
    [
        "red.run([*ASK, '192.168.15.2', '80', 'silent'])",
        "red.add_route('198.51.100.0/24', blue)\n    red.run([*ASK, '198.51.100.9', '80', 'once'])",
        "red.run([*ASK, '192.168.15.2', '80', 'once'], check=False)\n"
        "    taking, giving = (node.socket(socket.AF_INET, socket.SOCK_DGRAM) for node in pair)\n"
        "    taking.bind(('192.168.15.1', 9))\n    giving.sendto(b'x', ('192.168.15.1', 9))\n    taking.recv(1)\n"
        "    red.run([*ASK, '192.168.15.2', '80', 'once'])",
    ],
    ids=["nothing-sent", "nobody-of-the-lab", "another-answered"],
)
def test_a_program_of_which_it_is_not_sure_that_a_datagram_was_not_answered_is_not(project: Project, body: str) -> None:
    project.write("ask.py", ASKING)
    head = LAB.replace(*UDP_RULE)
    project.write("test_inside.py", f"import sys\nASK = [sys.executable, 'ask.py']\n{head}    {body}\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    assert "netns: why" not in result.stdout.str()


@pytest.mark.parametrize("kind", ["ping", "tcp", "udp"])
def test_what_was_not_to_come_is_told_with_the_rule_that_let_it_in(project: Project, kind: str) -> None:
    rules = {"ping": "ip protocol icmp accept", "tcp": "tcp dport 8080 accept", "udp": "udp dport 8080 accept"}
    ask = {
        "ping": "red.ping(blue)",
        "tcp": "red.tcp(blue, 8080, timeout=0.1)",
        "udp": "red.udp(blue, 8080, b'x', timeout=0.1)",
    }
    layer = {"ping": "ICMP", "tcp": "TCP", "udp": "UDP"}[kind]
    chain = f"type filter hook input priority 5; policy drop; {rules[kind]};"
    body = f"""
    from scapy.layers.inet import {layer}
    blue.nft("table inet g {{ chain c {{ {chain} }}; }}")
    with blue.capture() as capture:
        {ask[kind]}
        capture.expect_none({layer}, within=0.01)
"""
    project.write("test_inside.py", LAB + body)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*- netns: why -*", "asked again, the way: red -> blue", f"  blue: inet g c: {rules[kind]}"]
    )


@pytest.mark.parametrize("colour", ["yes", "no"])
def test_the_cause_is_bold_where_pytest_writes_in_colours(project: Project, colour: str) -> None:
    project.write("test_inside.py", f"{LAB}    assert red.tcp(blue, 80, timeout=0.1)\n")
    output = project.run(f"--color={colour}", "--junit-xml=out.xml").stdout.str()
    assert (f"\x1b[1m{CAUSE}\x1b[0m" in output) == (colour == "yes")
    assert (CAUSE in output.splitlines()) == (colour == "no")
    assert "x1B[1mcause" not in (project.folder / "out.xml").read_text()


def test_a_failure_is_not_put_down_to_a_program_that_it_has_nothing_to_do_with(project: Project) -> None:
    project.write("connect.py", PROGRAM)
    body = "red.run([sys.executable, 'connect.py', '192.168.15.2', '80', '0.1'], check=False)\n    assert 1 == 2"
    project.write("test_inside.py", f"import sys\n{LAB}    {body}\n")
    assert "netns: why" not in project.run().stdout.str()


def test_a_refused_connection_is_explained(project: Project) -> None:
    project.write("test_inside.py", LAB + "    with red:\n        socket.create_connection((str(blue.ip4), 8080))\n")
    project.run().stdout.fnmatch_lines(
        ["*ConnectionRefusedError*", "cause: nothing listens on tcp port 8080 of 'blue'*"]
    )


def test_a_name_that_cannot_be_resolved_is_explained(project: Project) -> None:
    body = """
def test_inside(lab):
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    with red:
        socket.getaddrinfo("www.example.com", 80)
"""
    project.write("test_inside.py", LAB.partition("def test_inside")[0] + body)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*gaierror*", "*- netns: why -*", "cause: 'red' could not resolve 'www.example.com'*"])


def test_a_matrix_is_explained_by_its_first_pairs(project: Project) -> None:
    body = "    blue.sysctl['net.ipv4.icmp_echo_ignore_all'] = 1\n    assert lab.ping_all(timeout=0.1)\n"
    project.write("test_inside.py", LAB + body)
    project.run().stdout.fnmatch_lines(
        ["*- netns: why -*", "cause: 'blue' ignores echo requests*", "observed: 1 of 2 pairs got through*"]
    )


def test_a_lab_in_a_with_statement_is_explained_before_it_closes(project: Project) -> None:
    body = """
import pytest
from pytest_netns import Lab

@pytest.mark.netns
def test_inside():
    with Lab() as lab:
        red, blue = lab.host("red"), lab.host("blue")
        lab.connect(red, blue)
        blue.sysctl["net.ipv4.icmp_echo_ignore_all"] = 1
        assert red.ping(blue, timeout=0.1)
"""
    project.write("test_inside.py", body)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- netns: why -*", "cause: 'blue' ignores echo requests*"])


@pytest.mark.parametrize(
    "body",
    [
        "assert not red.tcp(blue, 80, timeout=0.1)\n    assert 1 == 2",
        "red.tcp(blue, 80, timeout=0.1)\n    raise ValueError('something else')",
        "with pytest.raises(TimeoutError), red:\n        socket.create_connection((str(blue.ip4), 80), timeout=0.1)\n"
        "    assert 1 == 2",
        "raise TimeoutError('of a queue')",
    ],
    ids=["expected", "unasked", "caught", "of-something-else"],
)
def test_what_failed_for_another_reason_is_not(project: Project, body: str) -> None:
    project.write("test_inside.py", f"{LAB}    {body}\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    assert "netns: why" not in result.stdout.str()


# ----------------------------------------------------------------- one line


@pytest.mark.parametrize("body", ["assert red.ping(blue, timeout=0.1)", "assert_ping(red, blue, timeout=0.1)"])
def test_the_short_summary_says_the_cause(project: Project, body: str) -> None:
    project.write("test_inside.py", LAB.replace("tcp dport 80 drop", "icmp type echo-request drop") + f"    {body}\n")
    project.run("--tb=no", "-rf").stdout.fnmatch_lines(
        ["FAILED test_inside.py::test_inside - red -> blue: 'blue' drops it: inet f c:*"]
    )


def test_junit_has_cause_node_and_cure_as_properties(project: Project) -> None:
    body = "    lab.links[0].b.down()\n    assert red.ping(blue.ip4, timeout=0.1)\n".replace(
        "blue.ip4", "'192.168.15.2'"
    )
    project.write("test_inside.py", LAB + body)
    project.run("--junitxml=found.xml")
    found = {p.get("name"): p.get("value") for p in ET.parse(project.folder / "found.xml").iter("property")}
    assert found["netns_node"] == "blue"
    assert "is down" in str(found["netns_cause"])
    assert found["netns_cure"] == "blue.interfaces['eth0'].up()"


def test_github_gets_an_annotation_at_the_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(project.folder))
    project.write("test_inside.py", LAB + "    assert red.tcp(blue, 80, timeout=0.1)\n")
    line = len(LAB.splitlines()) + 1
    project.run().stdout.fnmatch_lines(
        [f"::error file=test_inside.py,line={line},title=*::a netfilter rule on 'blue'*"]
    )

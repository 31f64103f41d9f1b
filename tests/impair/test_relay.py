"""The relay: its process, its wiring, and that nothing of it is left or seen."""

from __future__ import annotations

import ast
import multiprocessing
import os
import random
import re
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from slowness import SLOWNESS
from stopping import stop
from test_impair import Stream, assert_no_delay, assert_round_trip

from pytest_netns import (
    Host,
    Impairment,
    KernelError,
    Lab,
    Link,
    Namespace,
    NetnsError,
    ProcessDied,
    TopologyError,
    UnsupportedError,
    WaitTimeout,
    eventually,
)
from pytest_netns.impair import control, redirect, relay
from pytest_netns.kernel.interface_names import FALLBACK_DEVICES
from pytest_netns.kernel.netlink import tc as traffic

pytestmark = pytest.mark.netns_requires("tap")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(impairments="relay") as made:
        yield made


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host, Link]:
    red, blue = lab.host("red"), lab.host("blue")
    link = lab.connect(red, blue)
    assert red.ping(blue)
    return red, blue, link


def relay_of(lab: Lab) -> int:
    """Process ID of its relay."""
    (found,) = [process for process in lab.supervisor.processes if process.node == control.PLACE]
    return found.pid


def devices(namespace: Namespace) -> set[str]:
    """All, hidden ones too, but for those that kernel modules put into every namespace."""
    return {name for _, name in namespace.call(socket.if_nameindex)} - FALLBACK_DEVICES


def filters(namespace: Namespace, device: str = "eth0") -> str:
    tc = namespace.run(["tc", "qdisc", "show", "dev", device]).stdout
    return tc + namespace.run(["tc", "filter", "show", "dev", device, "egress"]).stdout


# -------------------------------------------------------------------------------------------------------- the process


def test_it_needs_the_standard_library_only() -> None:
    tree = ast.parse(Path(relay.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} - {"__future__"}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_a_lab_has_one_and_only_when_it_is_needed(lab: Lab, pair: tuple[Host, Host, Link]) -> None:
    red, _, link = pair
    assert lab.supervisor.processes == ()
    link.impair(delay="1ms")
    pid = relay_of(lab)
    lab.connect(red, lab.host("green")).impair(delay="1ms")
    link.heal()
    link.impair(loss="1%")
    assert relay_of(lab) == pid
    assert [process for node in lab for process in node.processes] == []
    lab.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_its_death_is_told_when_it_is_asked(lab: Lab, pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.impair(delay="1ms")
    os.kill(relay_of(lab), signal.SIGKILL)
    eventually(lambda: devices(red) == {"lo", "eth0"})
    assert not red.ping(blue, timeout=0.1)  # what it impaired carries nothing
    with pytest.raises(ProcessDied, match="the relay that impairs links has exited unexpectedly"):
        _ = link.impairment
    link.heal()
    assert red.ping(blue)
    link.impair(delay="1ms")  # by another one
    assert_round_trip(red, blue, 0.002)


def test_its_death_is_told_when_the_lab_is_closed() -> None:
    lab = Lab("doomed", impairments="relay")
    link = lab.connect(lab.host("red"), lab.host("blue"))
    link.impair(delay="1ms")
    os.kill(relay_of(lab), signal.SIGKILL)
    eventually(lambda: lab.supervisor.processes[0].returncode is not None)
    with pytest.raises(ExceptionGroup) as caught:
        lab.close()
    (error,) = caught.value.exceptions
    assert isinstance(error, ProcessDied)
    assert "relay.py' in namespace '(relay of impairments)' exited unexpectedly (killed by SIGKILL)" in str(error)


def test_it_ends_with_its_socket() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", relay.__file__],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
        )
    ours.send(b'{"do": "state", "number": 1, "serial": 7}')
    assert ours.recv(1000) == b'{"gone": true, "serial": 7}'
    ours.send(b'{"do": "open", "number": 1, "serial": 8}')
    assert b'"error": "OSError' in ours.recv(1000)
    ours.close()
    assert os.waitpid(pid, 0)[1] == 0


def test_an_answer_that_came_too_late_is_not_taken_for_the_next_one(lab: Lab, pair: tuple[Host, Host, Link]) -> None:
    _, _, link = pair
    link.impair(delay="5ms")
    relay_control = lab.impairments._control
    assert relay_control is not None
    stop(relay_of(lab))
    relay_control._socket.settimeout(0.01)
    for _ in range(2):
        with pytest.raises(WaitTimeout, match="has not answered 'set'"):
            link.a.impair(delay="6ms")
    relay_control._socket.settimeout(control.DEADLINE)
    os.kill(relay_of(lab), signal.SIGCONT)
    assert link.b.impairment == Impairment(delay="5ms")
    link.impair(delay="7ms")
    assert link.impairment == Impairment(delay="7ms")


def test_a_forked_child_takes_no_answers(pair: tuple[Host, Host, Link]) -> None:
    _, _, link = pair
    link.impair(delay="5ms")

    def ask() -> None:
        with pytest.raises(NetnsError, match="of which this one is a forked child"):
            _ = link.impairment

    child = multiprocessing.get_context("fork").Process(target=ask)
    child.start()
    assert link.impairment == Impairment(delay="5ms")
    child.join()
    assert child.exitcode == 0


def test_a_forked_child_leaves_it_alone(lab: Lab, pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.impair(delay="5ms")
    child = multiprocessing.get_context("fork").Process(target=lab.close)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert link.impairment == Impairment(delay="5ms")
    assert red.ping(blue)


# --------------------------------------------------------------------------------------------------------- the wiring


@pytest.mark.netns_requires("program:ip")
def test_the_way_round_is_not_listed_but_found(lab: Lab, pair: tuple[Host, Host, Link]) -> None:
    from pytest_netns.report.state import describe

    red, _, link = pair
    link.impair(delay="1ms")
    (redirect,) = devices(red) - {"lo", "eth0"}
    assert redirect.startswith("impair-")
    assert list(red.interfaces) == ["lo", "eth0"]
    assert red.interfaces[redirect].is_up
    assert red.interfaces[redirect].index > red.interfaces["eth0"].index  # a number of the lab's, which no link gets
    assert redirect not in describe(lab, whole=True)
    assert red.run(["ip", "-6", "-o", "address", "show", "dev", redirect]).stdout == ""


def test_nobody_else_is_called_so(lab: Lab) -> None:
    lan = lab.bridge("lan")
    one, other = lan.host("impair-0"), lan.host("impair-x")
    assert lan.ports["impair-x"]
    assert len(lan.ports) == len(lan.interfaces) - 2 == 2
    assert one.ping(other)
    with pytest.raises(TopologyError, match="'impair-7' cannot be an interface's name"):
        lab.connect(one, other, names=("impair-7", "eth7"))


@pytest.mark.netns_requires("program:tc")
def test_healing_leaves_nothing(lab: Lab, pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    before = filters(red)
    for _ in range(3):
        link.impair(delay="1ms")
        assert "mirred" in filters(red)
        link.heal()
        assert re.sub(r"qdisc clsact .*\n", "", filters(red)) == before  # a place, and nothing in it
    eventually(lambda: devices(red) == devices(blue) == {"lo", "eth0"})
    assert lab.connect(red, blue).is_up  # no index or name is taken


@pytest.mark.netns_requires("program:tc")
def test_filters_of_somebody_else_stay(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    for command in (
        "qdisc add dev eth0 clsact",
        "filter add dev eth0 egress protocol ip prio 7 u32 match u32 0 0 flowid 1:1",
        "qdisc add dev eth0 root tbf rate 100mbit burst 32kb latency 1s",
    ):
        red.run(["tc", *command.split()])
    before = filters(red)
    link.impair(delay="5ms")
    assert_round_trip(red, blue, 0.010)
    link.heal()
    assert filters(red) == before


def test_a_flow_is_not_disturbed(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.impair(delay="1ms")  # the first time costs a moment

    def change() -> None:
        for _ in range(10):
            link.heal()
            link.impair(delay="1ms")

    stream = Stream(red, blue)
    changer = threading.Thread(target=change)
    changer.start()
    while changer.is_alive():
        stream.send(20, gap=0.0002, most_under_way=500)
    changer.join()
    assert sorted(stream.all()) == list(range(len(stream.sent)))


PASS = ["bpf", "bytecode", "1,6 0 0 0"]


@pytest.mark.netns_requires("program:tc")
def test_filters_that_somebody_adds_meanwhile_stay(pair: tuple[Host, Host, Link]) -> None:
    red, _, link = pair
    link.impair(delay="1ms")
    for side in ("ingress", "egress"):
        red.run(["tc", "filter", "add", "dev", "eth0", side, "prio", "7", *PASS])
    link.heal()
    for side in ("ingress", "egress"):
        assert "pref 7 bpf" in red.run(["tc", "filter", "show", "dev", "eth0", side]).stdout
    assert "mirred" not in filters(red)


@pytest.mark.netns_requires("program:tc")
def test_our_filter_is_told_from_others(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.impair(delay="20ms", toward=blue)
    red.run(["tc", "filter", "add", "dev", "eth0", "egress", "prio", "9", *PASS])
    assert link.a.impairment == Impairment(delay="20ms")
    red.run(["tc", "filter", "delete", "dev", "eth0", "egress", "prio", "1"])
    for ask in (lambda: link.a.impairment, lambda: link.impair(delay="30ms", toward=blue)):
        with pytest.raises(KernelError, match="the redirection to the relay was removed by other means"):
            ask()
    red.run(["tc", "filter", "add", "dev", "eth0", "egress", "prio", "1", *PASS])
    link.heal()
    assert "pref 1 bpf" in filters(red)
    with pytest.raises(TopologyError, match=r"red:eth0: there is another filter at priority 1 .*egress prio 2"):
        link.impair(delay="20ms", toward=blue)
    assert link.impairment is None
    assert red.ping(blue)


@pytest.mark.netns_requires("program:tc")
def test_wiring_removed_by_hand_is_noticed(pair: tuple[Host, Host, Link]) -> None:
    red, _, link = pair
    link.impair(delay="5ms")
    red.run(["tc", "qdisc", "delete", "dev", "eth0", "clsact"])
    with pytest.raises(KernelError, match="the redirection to the relay was removed by other means"):
        _ = link.impairment
    with pytest.raises(KernelError, match="removed by other means"):
        link.impair(delay="6ms")
    link.heal()
    link.impair(delay="7ms")
    assert link.impairment == Impairment(delay="7ms")


def test_a_kernel_without_a_part_is_told(pair: tuple[Host, Host, Link], monkeypatch: pytest.MonkeyPatch) -> None:
    red, blue, link = pair
    with monkeypatch.context() as patch:
        patch.setattr("pytest_netns.kernel.tun_driver.PATH", "/dev/net/none")
        with pytest.raises(
            UnsupportedError, match=r"cannot impair red:eth0: /dev/net/none: No such file.*modprobe tun"
        ):
            link.impair(delay="5ms")
    with monkeypatch.context() as patch:
        absent = traffic.qdisc_replace(red.interface("eth0").index, "eth0", "none", b"", "")
        patch.setattr(traffic, "clsact_add", lambda *_: absent)
        with pytest.raises(UnsupportedError, match=r"lacks .*'clsact'; try as root: modprobe -a sch_ingress"):
            link.impair(delay="5ms")
    assert link.impairment is None
    assert_no_delay(red, blue)
    eventually(lambda: devices(red) == {"lo", "eth0"})


def test_a_namespace_that_stands_alone(netns: Namespace) -> None:
    lo = netns.interface("lo")
    active = lo.impair(delay="10ms", engine="relay")
    assert active == Impairment(delay="10ms")
    with netns, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        sock.sendto(b"x", sock.getsockname())
        assert sock.recv(10) == b"x"
    assert netns.interface("lo").impairment is not None
    assert netns.interface("lo").impairment.counters.passed == 1  # type: ignore[union-attr]


@pytest.mark.netns_requires("program:ip", "program:tc")
def test_somebody_elses_namespace_is_as_before_when_it_is_let_go(netns: Namespace) -> None:
    here = Namespace("here")
    netns.run(["ip", "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", here.path])
    for namespace, device, address in ((netns, "out", "10.9.0.1/24"), (here, "in", "10.9.0.2/24")):
        namespace.run(["ip", "address", "add", address, "dev", device])
        namespace.interface(device).up()
    netns.interface("out").wait_up()
    attached = Namespace.attach(here.path, "attached")
    attached.interface("in").impair(loss=1, engine="relay")
    assert "mirred" in filters(here, "in")
    attached.close()
    assert "clsact" not in filters(here, "in")
    eventually(lambda: devices(here) == {"lo", "in"})

    lab = Lab(impairments="relay")
    again = Namespace.attach(here.path, "again")
    adopted = lab.adopt(again, "box")
    adopted.interface("in").impair(delay="5ms")
    lab.connect(adopted, lab.host("red")).impair(delay="5ms")
    adopted.interface("in").heal()
    lab.close()
    assert "clsact" not in filters(here, "in")
    eventually(lambda: devices(here) == {"lo", "in"})
    again.close()
    here.close()


# -------------------------------------------------------------------------------------------------------- its fidelity


def lost(source: Host, target: Host, count: int = 2000) -> list[int]:
    stream = Stream(source, target)
    stream.send(count, gap=0.0001)
    came = set(stream.rest())
    stream.inlet.close()
    return [number for number in range(count) if number not in came]


def test_a_seed_makes_it_repeatable(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.impair(loss="5%", seed=42)
    first = lost(red, blue)
    back = lost(blue, red)
    # the 99 % interval of a binomial distribution; with a seed there is no chance in it
    assert abs(len(first) - 100) <= 2.576 * (2000 * 0.05 * 0.95) ** 0.5
    link.impair(loss="5%", seed=42)
    for _ in range(10):
        red.arp(blue, timeout=0.5)  # of which is nobody's turn taken
    assert lost(red, blue) == first
    assert back != first
    link.impair(loss="5%", seed=43)
    assert lost(red, blue) != first
    assert "seed 43" in repr(link.impairment)


def test_seeds_are_the_same_in_another_lab(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.impair(loss="20%", seed=1, toward=blue)
    first = lost(red, blue, 200)
    with Lab(impairments="relay") as other:
        again = other.host("red"), other.host("blue")
        link = other.connect(*again)
        assert again[0].ping(again[1])
        link.impair(loss="20%", seed=1, toward=again[1])
        assert lost(*again, 200) == first


def test_it_counts_what_it_does(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.impair(delay="5ms", loss="10%", duplicate="10%", corrupt="10%", reorder="10%", seed=5, toward=blue)
    stream = Stream(red, blue)
    stream.send(1000, gap=0.0001)
    stream.rest()
    active = link.a.impairment
    assert active is not None
    counted = active.counters
    others = counted.passed + counted.lost - counted.duplicated - 1000 - stream.markers  # ARP and the like
    assert 0 <= others < 20
    assert min(counted.lost, counted.duplicated, counted.corrupted, counted.reordered) > 50
    assert (counted.overflowed, counted.refused) == (0, 0)


def test_what_is_corrupted_is_never_taken_for_sound(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    with red.socket(type=socket.SOCK_DGRAM) as sender, blue.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.bind(("", 5000))
        receiver.settimeout(5)
        sender.connect((str(blue.ip4), 5000))
        link.impair(corrupt="100%", toward=blue)
        for _ in range(300):
            sender.send(b"corrupted")

        def has_passed_all() -> bool:
            assert link.a.impairment is not None
            return link.a.impairment.counters.passed >= 300

        eventually(has_passed_all)
        link.heal()
        sender.send(b"sound")
        assert receiver.recv(100) == b"sound"


def test_a_full_queue_drops_and_counts(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.impair(rate="1kbit", toward=blue)
    Stream(red, blue).send(10_500)

    def overflowed() -> int:
        assert link.a.impairment is not None
        return link.a.impairment.counters.overflowed

    eventually(lambda: overflowed() >= 400, within=20 * SLOWNESS)  # some have passed meanwhile
    assert overflowed() <= 520  # hosts send some frames unasked, neighbour discovery for one


def test_what_the_relay_cannot_read_in_time_is_counted(
    lab: Lab, pair: tuple[Host, Host, Link], monkeypatch: pytest.MonkeyPatch
) -> None:
    red, blue, link = pair
    monkeypatch.setattr(redirect, "_RINGS", (50,))
    link.impair(delay="1ms", toward=blue)
    stop(relay_of(lab))
    Stream(red, blue).send(80)
    os.kill(relay_of(lab), signal.SIGCONT)
    assert link.a.impairment is not None
    assert 30 <= link.a.impairment.counters.overflowed < 50  # hosts send some frames unasked


@pytest.mark.netns_requires("libpcap", "nft")
def test_super_frames_stay_whole_with_a_delay_alone(pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    block = bytes(random.Random(1).randbytes(1 << 20))

    def received() -> tuple[int, int]:
        """Bytes and frames; a capture shows what was sent in one piece as it would be on a wire (proc_net_dev(5))."""
        (row,) = [line for line in Path("/proc/thread-self/net/dev").read_text().splitlines() if "eth0:" in line]
        octets, frames = row.partition(":")[2].split()[:2]
        return int(octets), int(frames)

    def mean() -> float:
        listener = blue.socket()
        listener.bind(("", 0))
        listener.listen()
        client = red.socket()
        client.connect((str(blue.ip4), listener.getsockname()[1]))
        client.settimeout(10)
        server, _ = listener.accept()
        before = blue.call(received)
        with server:
            taken = b""
            view = memoryview(block)
            while len(taken) < len(block):
                client.setblocking(False)
                try:
                    view = view[client.send(view) :] if view else view
                except BlockingIOError:
                    pass
                server.settimeout(0.01)
                try:
                    taken += server.recv(1 << 20)
                except TimeoutError:
                    pass
        assert taken == block
        octets, frames = (now - then for now, then in zip(blue.call(received), before, strict=True))
        return octets / frames

    link.impair(delay="1ms")
    assert mean() > 1514  # by how much depends on how TCP's pace is, which a busy machine slows down
    link.impair(delay="1ms", loss="0.000001%")
    assert mean() <= 1514


def test_chatter_is_told_from_talk() -> None:
    def frame(destination: str, kind: int, rest: bytes = b"") -> bytes:
        return bytes(relay.HEADER) + bytes.fromhex(destination) + bytes(6) + struct.pack("!H", kind) + rest.ljust(60)

    ipv6 = bytes(6) + b"\x3a" + bytes(33)
    assert relay.is_chatter(frame("ffffffffffff", 0x0800))
    assert relay.is_chatter(frame("020000000001", 0x0806))
    assert relay.is_chatter(frame("020000000001", 0x86DD, ipv6 + b"\x87"))
    assert not relay.is_chatter(frame("020000000001", 0x86DD, ipv6 + b"\x80"))
    assert not relay.is_chatter(frame("020000000001", 0x0800))


def test_a_lack_of_descriptors_is_told(lab: Lab, pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.impair(delay="1ms")
    pid = relay_of(lab)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    assert soft == hard
    limit = max(int(name) for name in os.listdir(f"/proc/{pid}/fd")) + 2  # room for one, and two are needed
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
    other = lab.connect(red, blue)
    with pytest.raises(NetnsError, match=f"could not do 'open': .*no more than {limit} files open"):
        other.impair(delay="1ms")
    assert link.impairment == Impairment(delay="1ms")

    ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) // 2, ours[1]))
    try:
        with pytest.raises(KernelError, match=r"open /dev/net/tun.*Too many open files.*ulimit -n"):
            other.impair(delay="1ms")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, ours)
    assert red.ping(blue)


def test_descriptors_do_not_pile_up(pair: tuple[Host, Host, Link]) -> None:
    _, _, link = pair
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        link.impair(delay="1ms")
        link.heal()
    assert len(os.listdir("/proc/self/fd")) < before + 30


def test_a_lab_with_many_links(lab: Lab) -> None:
    lan = lab.bridge("lan")
    hosts = [lan.host(f"h{number}") for number in range(10)]
    for host in hosts:
        host.links[0].impair(delay="5ms")
    assert hosts[0].ping(hosts[9])
    assert_round_trip(hosts[0], hosts[9], 0.020, 0.015)  # four times through the relay
    assert lab.ping_all(timeout=5)


def test_closed_nodes_are_told(lab: Lab, pair: tuple[Host, Host, Link]) -> None:
    _, blue, link = pair
    blue.close()
    with pytest.raises(NetnsError):
        link.impair(delay="1ms")


def test_impairing_after_its_death_is_told_and_then_works(lab: Lab, pair: tuple[Host, Host, Link]) -> None:
    red, blue, link = pair
    link.impair(delay="1ms")
    os.kill(relay_of(lab), signal.SIGKILL)
    eventually(lambda: devices(red) == {"lo", "eth0"})
    with pytest.raises(
        ProcessDied, match=r"the relay that impairs links has exited unexpectedly \(killed by SIGKILL\)"
    ):
        link.impair(delay="2ms")
    link.impair(delay="2ms")  # by another one
    assert link.impairment == Impairment(delay="2ms")
    assert_round_trip(red, blue, 0.004)

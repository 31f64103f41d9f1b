from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from devices import made
from own_run import with_own_run

from pytest_netns import Host, Lab, Namespace, TopologyError


@contextmanager
def stranger() -> Iterator[int]:
    """A process of somebody else's, in a network namespace of its own; it ends when its standard input does."""
    command = ["unshare", "--net", "sh", "-c", "echo ready; exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process.pid
        finally:
            process.stdin.close()
            process.wait()


@pytest.fixture
def pid(netns: Namespace) -> Iterator[int]:
    with stranger() as found:
        yield found


def inode_of(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def devices_of(pid: int) -> list[str]:
    """The interfaces that were made in the namespace of a process, asked of that process."""
    rows = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return made(row.partition(":")[0].strip() for row in rows)


# ------------------------------------------------------------ attach


def test_a_process_is_attached_to_by_its_number(pid: int) -> None:
    with_pid = Namespace.attach(pid)
    assert with_pid.inode == inode_of(pid)
    assert with_pid.name == f"pid-{pid}"
    assert with_pid.run(["readlink", "/proc/self/ns/net"]).stdout == f"net:[{inode_of(pid)}]\n"
    assert with_pid.call(os.readlink, "/proc/thread-self/ns/net") == f"net:[{inode_of(pid)}]"
    with with_pid:
        assert os.readlink("/proc/thread-self/ns/net") == f"net:[{inode_of(pid)}]"
    with_pid.close()


def test_a_path_is_attached_to_as_text_or_path(pid: int) -> None:
    for path in (f"/proc/{pid}/ns/net", Path(f"/proc/{pid}/ns/net")):
        attached = Namespace.attach(path, "box")
        assert (attached.inode, attached.name) == (inode_of(pid), "box")
        attached.close()


def test_the_path_of_one_of_ours_can_be_attached_to(netns: Namespace) -> None:
    attached = Namespace.attach(netns.path)
    assert attached.inode == netns.inode
    attached.close()
    assert netns.run(["true"]).returncode == 0


def test_nothing_in_it_is_changed(pid: int) -> None:
    attached = Namespace.attach(pid)
    assert not attached.interfaces["lo"].is_up
    assert attached.sysctl["net.ipv6.conf.default.accept_dad"] == "1"
    attached.close()
    attached = Namespace.attach(pid)
    assert not attached.interfaces["lo"].is_up
    attached.close()


@pytest.mark.netns_requires("program:ip")
def test_closing_lets_go_and_kills_what_was_started_in_it_by_us_alone(pid: int) -> None:
    attached = Namespace.attach(pid)
    attached.run(["ip", "link", "add", "theirs", "type", "bridge"])
    ours = attached.spawn(["sleep", "1000"])
    attached.close()
    assert ours.returncode is not None
    assert devices_of(pid) == ["lo", "theirs"]
    again = Namespace.attach(pid)
    assert "theirs" in again.interfaces
    again.close()


# ------------------------------------------------------------ adopt


def test_an_adopted_namespace_is_a_node_that_can_be_connected_and_pinged(lab: Lab, pid: int) -> None:
    attached = Namespace.attach(pid)
    box = lab.adopt(attached, "box")
    assert isinstance(box, Host)
    assert lab["box"] is box
    red = lab.host("red")
    lab.connect(red, box)
    assert red.ping(box.ip4)
    assert red.ping(box.ip6)
    assert devices_of(pid) == ["lo", "eth0"]
    attached.close()
    assert red.ping(box)  # the lab holds it by itself


def test_an_adopted_node_is_routed_as_others_are(lab: Lab, pid: int) -> None:
    attached = Namespace.attach(pid)
    box = lab.adopt(attached, "box")
    attached.close()
    near, far = lab.bridge("near"), lab.bridge("far")
    router = lab.router("router", near, far)
    near.attach(box)
    red = lab.host("red", far)
    lab.autoroute()
    assert red.ping(box)
    assert red.trace(box).path == ["router", "box"]
    box.default_route(router)


def test_addresses_of_an_adopted_node_stay_when_a_link_goes_down(lab: Lab, pid: int) -> None:
    """Its kernel forgets those of IPv6 (keep_addr_on_down)."""
    attached = Namespace.attach(pid)
    attached.sysctl["net.ipv6.conf.default.accept_dad"] = 0
    box, router, far = lab.adopt(attached, "box"), lab.router("router"), lab.host("far")
    attached.close()
    link = lab.connect(box, router)
    lab.connect(router, far)
    lab.autoroute()
    before = [address for address in box.addresses() if not address.is_link_local]
    with link.down():
        assert [address for address in box.addresses() if not address.is_link_local] == before
    assert [address for address in box.addresses() if not address.is_link_local] == before
    assert box.ping(far.ip4)
    assert box.ping(far.ip6)


@pytest.mark.netns_requires("program:ip")
def test_interfaces_that_are_there_keep_their_names_and_numbers(lab: Lab, pid: int) -> None:
    attached = Namespace.attach(pid)
    attached.run(["ip", "link", "add", "eth0", "index", "1000", "type", "bridge"])
    box = lab.adopt(attached, "box")
    attached.close()
    red = lab.host("red")
    link = lab.connect(red, box)
    assert link.end(box).name == "eth1"
    assert list(box.interfaces) == ["lo", "eth0", "eth1"]
    assert red.ping(box)


@pytest.mark.netns_requires("program:ip")
def test_closing_the_lab_takes_its_links_away_and_leaves_the_rest(pid: int) -> None:
    with Lab() as lab:
        attached = Namespace.attach(pid)
        attached.run(["ip", "link", "add", "theirs", "type", "bridge"])
        box = lab.adopt(attached, "box")
        attached.close()
        red = lab.host("red")
        lab.connect(red, box)
        assert red.ping(box)
        assert devices_of(pid) == ["lo", "theirs", "eth0"]
    assert devices_of(pid) == ["lo", "theirs"]


def test_it_can_be_adopted_again_by_the_next_lab(pid: int) -> None:
    for _ in range(2):
        with Lab() as lab:
            attached = Namespace.attach(pid)
            box = lab.adopt(attached, "box")
            attached.close()
            lab.connect(lab.host("red"), box)
            assert list(box.interfaces) == ["lo", "eth0"]
            assert lab["red"].ping(box)


# ------------------------------------------------------------ mistakes


def dead_pid() -> int:
    """The number of a process that was there."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_a_dead_process_cannot_be_attached_to(netns: Namespace) -> None:
    pid = dead_pid()
    with pytest.raises(TopologyError, match=f"cannot attach to process {pid}: there is no such process"):
        Namespace.attach(pid)


@pytest.mark.parametrize("target", ["/etc/passwd", "/proc/self/ns/mnt", "/proc/self/ns/user", "/", "/dev/null"])
def test_a_file_that_is_no_network_namespace_cannot_be_attached_to(netns: Namespace, target: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TopologyError, match=f"cannot attach to '{target}': {target} is no network namespace"):
        Namespace.attach(target)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_that_is_not_there_cannot_be_attached_to(netns: Namespace) -> None:
    with pytest.raises(TopologyError, match=r"'/nowhere/net': /nowhere/net: No such file or directory$"):
        Namespace.attach("/nowhere/net")


def test_a_name_that_is_not_there_says_which_there_are(netns: Namespace) -> None:
    with pytest.raises(TopologyError, match=r"'no-such-name': /run/netns/no-such-name: .*; named namespaces here: "):
        Namespace.attach("no-such-name")


@pytest.mark.parametrize("target", [None, 1.5, True, b"/proc/self/ns/net"])
def test_something_else_cannot_be_attached_to(netns: Namespace, target: object) -> None:
    with pytest.raises(TopologyError, match="expected a process ID, a path or a name"):
        Namespace.attach(target)  # type: ignore[arg-type]


def test_mistakes_of_adopting_leave_the_lab_as_it_was(lab: Lab, pid: int) -> None:
    red = lab.host("red")
    attached, closed = Namespace.attach(pid), Namespace.attach(pid)
    closed.close()
    for words, namespace, name in (
        ("already has a node 'red'", attached, "red"),
        ("'two words' cannot be a node's name", attached, "two words"),
        ("it is closed", closed, "box"),
        (r"expected a Namespace that is no node.*host\(shares=", red, "box"),
        ("expected a Namespace", pid, "box"),
    ):
        with pytest.raises(TopologyError, match=words):
            lab.adopt(namespace, name)  # type: ignore[arg-type]
        assert [node.name for node in lab] == ["red"]
    lab.adopt(attached, "box")
    with pytest.raises(TopologyError, match="is the namespace of 'box'"):
        lab.adopt(attached, "again")
    attached.close()
    lab.connect(red, lab["box"])
    assert red.ping(lab["box"])


# ------------------------------------------------------------ ip netns

NAMED = """
    import json, os, subprocess
    from pytest_netns import Lab, Namespace, TopologyError
    from pytest_netns.kernel import sandbox

    subprocess.run(["ip", "netns", "add", "theirs"], check=True)
    found = {}
    with Lab() as lab:
        attached = Namespace.attach("theirs")
        found["name"] = attached.name
        found["same"] = attached.inode == os.stat("/run/netns/theirs").st_ino
        box = lab.adopt(attached, "box")
        attached.close()
        red = lab.host("red")
        lab.connect(red, box, "10.0.0.0/24")
        found["ping"] = bool(red.ping(box))
        listed = subprocess.run(["ip", "-n", "theirs", "-br", "address"], capture_output=True, text=True, check=True)
        found["ip sees it"] = "10.0.0.2/24" in listed.stdout
    found["still there"] = os.listdir("/run/netns")
    listed = subprocess.run(["ip", "-n", "theirs", "-br", "link"], capture_output=True, text=True, check=True)
    found["left in it"] = [line.split()[0] for line in listed.stdout.splitlines()]
    try:
        Namespace.attach("other")
    except TopologyError as error:
        found["error"] = str(error)
    subprocess.run(["ip", "netns", "delete", "theirs"], check=True)
    print(json.dumps(found))
"""


@pytest.mark.netns_requires("program:ip")
def test_a_name_of_ip_netns_is_attached_to_and_survives(netns: Namespace) -> None:
    before = os.listdir("/run/netns") if os.path.isdir("/run/netns") else None
    found = json.loads(with_own_run(NAMED))
    found["left in it"] = made(found["left in it"])
    assert found == {
        "name": "theirs",
        "same": True,
        "ping": True,
        "ip sees it": True,
        "still there": ["theirs"],
        "left in it": ["lo"],
        "error": "cannot attach to 'other': /run/netns/other: No such file or directory; named namespaces here: theirs",
    }
    assert (os.listdir("/run/netns") if os.path.isdir("/run/netns") else None) == before


# ------------------------------------------------------------ a real container


@contextmanager
def container(program: list[str]) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A container without a network, made by bubblewrap: the process ID of its process 1, and its outside."""
    told, tell = os.pipe()
    # It refuses to run with capabilities that it did not ask for, such as those of a session without root.
    lead = [] if os.geteuid() == 0 else ["setpriv", "--inh-caps=-all", "--ambient-caps=-all"]
    user = [] if os.geteuid() == 0 else ["--unshare-user"]
    rest = ["--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    command = [*lead, "bwrap", *user, "--unshare-net", "--unshare-pid", *rest, "--info-fd", str(tell), *program]
    with subprocess.Popen(
        command, pass_fds=[tell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        os.close(tell)
        try:
            with open(told, encoding="ascii") as info:
                text = info.read()
            assert text, process.communicate()[0]
            yield json.loads(text)["child-pid"], process
        finally:
            process.kill()


SERVER = """
import http.server, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(("hello " + self.client_address[0]).encode())
server = socketserver.TCPServer(("0.0.0.0", 8080), Handler)
print("listening")
server.serve_forever()
"""


@pytest.mark.netns_requires("program:bwrap", "program:curl")
def test_a_container_without_a_network_gets_a_veth_and_is_reached_by_curl(netns: Namespace) -> None:
    with container(["python3", "-u", "-c", SERVER]) as (pid, process):
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        assert devices_of(pid) == ["lo"]
        for _ in range(2):  # closing the lab leaves the container as it was
            with Lab() as lab:
                attached = Namespace.attach(pid)
                box = lab.adopt(attached, "box")
                attached.close()
                red = lab.host("red")
                lab.connect(red, box, "192.168.15.0/24")
                page = red.run(["curl", "--silent", "--max-time", "10", f"http://{box.ip4}:8080/"]).stdout
                assert page == f"hello {red.ip4}"
            assert process.poll() is None
            assert devices_of(pid) == ["lo"]

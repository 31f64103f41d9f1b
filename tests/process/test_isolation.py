from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from awaiting import await_reaper
from devices import made

from pytest_netns import Host, Lab, NetnsError, TopologyError, eventually, ready
from pytest_netns.process.isolation import Kind

ALL = ("mount", "uts", "pid")


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host]:
    """``red`` and ``blue`` on a bridge, with everything of their own."""
    bridge = lab.bridge("br0", "192.168.15.0/24")
    return lab.host("red", bridge, isolate=ALL), lab.host("blue", bridge, isolate=ALL)


def output(host: Host, *argv: str) -> str:
    """What a command prints, without the newline at its end."""
    return host.run(argv).stdout.rstrip("\n")


def mounts() -> list[str]:
    """The mounts that this thread sees, without the names that whoever runs beside this publishes."""
    lines = Path("/proc/thread-self/mounts").read_text().splitlines()
    return [line for line in lines if not line.split()[1].startswith("/run/netns")]


# ------------------------------------------------------------ host name


def test_the_host_name_is_the_name_of_the_host(pair: tuple[Host, Host]) -> None:
    outside = socket.gethostname()
    for host in pair:
        assert output(host, "hostname") == host.name
        assert host.call(socket.gethostname) == host.name
    assert socket.gethostname() == outside


def test_without_uts_the_host_name_is_that_of_the_machine(lab: Lab) -> None:
    for host in (lab.host("plain"), lab.host("files", isolate={"mount"})):
        assert output(host, "hostname") == socket.gethostname()
        assert host.call(socket.gethostname) == socket.gethostname()


# ------------------------------------------------------------ names


@pytest.mark.parametrize("family", ["ahostsv4", "ahostsv6"])
def test_every_node_resolves_by_name_in_both_families(pair: tuple[Host, Host], family: str) -> None:
    for asking in pair:
        for asked in pair:
            found = output(asking, "getent", family, asked.name).split()[0]
            assert found == str(asked.ip4 if family == "ahostsv4" else asked.ip6)


def test_getaddrinfo_resolves_names_inside_call(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    found = red.call(socket.getaddrinfo, "blue", 80, type=socket.SOCK_STREAM)
    assert {entry[4][0] for entry in found} == {str(blue.ip4), str(blue.ip6)}
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("blue", 80)


@pytest.mark.netns_requires("program:curl")
def test_curl_reaches_a_server_by_name(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    blue.run(["sh", "-c", "mkdir /run/www; echo 'hello from blue' > /run/www/index.html"])
    blue.spawn([sys.executable, "-m", "http.server", "8080", "--directory", "/run/www"], ready=8080)
    assert output(red, "curl", "--silent", "--max-time", "10", "http://blue:8080/") == "hello from blue"


def test_names_of_nodes_that_come_later_and_go_are_known(lab: Lab, pair: tuple[Host, Host]) -> None:
    red, _ = pair
    green = lab.host("green")
    assert red.run(["getent", "hosts", "green"], check=False).returncode == 2
    link = lab.connect(lab["br0"], green)
    assert output(red, "getent", "ahostsv4", "green").split()[0] == str(green.ip4)
    green.add_address("192.0.2.7/24")
    assert "192.0.2.7" in output(red, "getent", "ahostsv4", "green")
    link.remove()
    assert red.run(["getent", "hosts", "green"], check=False).returncode == 2
    lab.connect(lab["br0"], green)
    assert output(red, "getent", "ahostsv4", "green").split()[0] == str(green.ip4)
    green.close()
    assert red.run(["getent", "hosts", "green"], check=False).returncode == 2
    assert output(red, "getent", "ahostsv4", "blue")


def test_localhost_resolves(pair: tuple[Host, Host]) -> None:
    assert output(pair[0], "getent", "ahostsv4", "localhost").split()[0] == "127.0.0.1"
    assert output(pair[0], "getent", "ahostsv6", "localhost").split()[0] == "::1"


RESOLVER = """
import socket, sys, os
print("ready", flush=True)
while True:
    name = open(sys.argv[1]).readline().strip()
    try:
        print(name, "is", socket.gethostbyname(name), flush=True)
    except OSError:
        print(name, "is unknown", flush=True)
"""


def test_dns_entries_are_added_changed_and_deleted_for_a_running_process(
    lab: Lab, pair: tuple[Host, Host], tmp_path: Path
) -> None:
    red, blue = pair
    pipe = tmp_path / "names"
    os.mkfifo(pipe)
    process = red.spawn([sys.executable, "-c", RESOLVER, str(pipe)], ready=ready.output("ready"))

    def ask(name: str) -> str:
        count = process.output.count("\n")
        pipe.write_text(name + "\n")
        process.wait_until(lambda: process.output.count("\n") > count)
        return process.output.splitlines()[count]

    assert ask("www.example") == "www.example is unknown"
    lab.dns["www.example"] = "203.0.113.5"
    assert ask("www.example") == "www.example is 203.0.113.5"
    lab.dns["www.example"] = blue
    assert ask("www.example") == f"www.example is {blue.ip4}"
    del lab.dns["www.example"]
    assert ask("www.example") == "www.example is unknown"


def test_the_names_of_a_lab_are_a_mapping(lab: Lab, pair: tuple[Host, Host]) -> None:
    red, blue = pair
    lab.dns["www"] = ["203.0.113.5", "2001:db8::5"]
    lab.dns["alias"] = blue
    assert list(map(str, lab.dns["www"])) == ["203.0.113.5", "2001:db8::5"]
    assert lab.dns["alias"] == lab.dns["blue"] == [blue.ip4, blue.ip6]
    assert set(lab.dns) == {"www", "alias", "br0", "red", "blue"}
    assert len(lab.dns) == 5
    assert output(red, "getent", "ahostsv6", "www").split()[0] == "2001:db8::5"


def test_an_entry_hides_the_node_of_that_name_until_it_is_deleted(lab: Lab, pair: tuple[Host, Host]) -> None:
    red, blue = pair
    lab.dns["blue"] = "203.0.113.9"
    assert red.call(socket.gethostbyname, "blue") == "203.0.113.9"
    del lab.dns["blue"]
    assert red.call(socket.gethostbyname, "blue") == str(blue.ip4)


def test_mistakes_of_names_change_nothing(lab: Lab, pair: tuple[Host, Host]) -> None:
    red, _ = pair
    lab.dns["www"] = "203.0.113.5"
    before = output(red, "cat", "/etc/hosts")
    for name, value, words in (
        ("", "203.0.113.5", "'' cannot be a host name"),
        ("two words", "203.0.113.5", "'two words' cannot be a host name"),
        ("line\nbreak", "203.0.113.5", "cannot be a host name"),
        ("www", "nonsense", r"name 'www': 'nonsense' .* does not appear .*; expected a node, an address or several"),
        ("www", ["203.0.113.6", "nonsense"], "expected a node, an address or several"),
    ):
        with pytest.raises(TopologyError, match=words):
            lab.dns[name] = value
    with Lab("other") as other, pytest.raises(TopologyError, match="it is a node of another lab"):
        lab.dns["www"] = other.host("there")
    with pytest.raises(KeyError, match="'blue' was not set here"):
        del lab.dns["blue"]
    with pytest.raises(KeyError, match="has no name 'nobody'; it has: www, br0, red, blue"):
        _ = lab.dns["nobody"]
    assert output(red, "cat", "/etc/hosts") == before


def test_name_servers_go_into_resolv_conf(lab: Lab, pair: tuple[Host, Host]) -> None:
    outside = Path("/etc/resolv.conf").read_text()
    assert "nameserver" not in output(pair[0], "cat", "/etc/resolv.conf")
    lab.dns.nameservers.append("192.168.15.53")
    for host in pair:
        assert "nameserver 192.168.15.53" in output(host, "cat", "/etc/resolv.conf").splitlines()
        assert "nameserver 192.168.15.53" in host.call(Path("/etc/resolv.conf").read_text)
    assert Path("/etc/resolv.conf").read_text() == outside


# ------------------------------------------------------------ files

RUN_FROM = (sys.prefix, sys.base_prefix, os.getcwd())


@pytest.mark.parametrize("folder", ["/run", "/tmp"])
def test_run_and_tmp_are_empty_and_private(lab: Lab, folder: str) -> None:
    bare = Lab("bare")  # without the test's own directory
    red, blue = (bare.host(name, isolate={"mount"}) for name in ("red", "blue"))
    file = f"{folder}/netns-test-{os.getpid()}"
    # What the tests run from stays visible, wherever that is.
    own = {Path(path).relative_to(folder).parts[0] for path in RUN_FROM if Path(path).is_relative_to(folder)}
    assert set(output(red, "ls", folder).split()) <= {"pytest-netns", "resolvconf", "systemd", *own}
    red.run(["touch", file])
    red.call(Path(file).touch)
    assert output(red, "ls", file) == file
    assert red.call(os.path.exists, file)
    assert not blue.call(os.path.exists, file)
    assert not os.path.exists(file)
    bare.close()
    assert not os.path.exists(file)


def test_the_directory_of_the_test_is_visible_all_the_same(pair: tuple[Host, Host], tmp_path: Path) -> None:
    (tmp_path / "given").write_text("to red\n")
    red, blue = pair
    assert output(red, "cat", str(tmp_path / "given")) == "to red"
    red.run(["sh", "-c", f"echo answer > {tmp_path}/taken"])
    assert (tmp_path / "taken").read_text() == "answer\n"
    assert blue.call((tmp_path / "taken").read_text) == "answer\n"


def test_sys_shows_its_own_interfaces(lab: Lab, pair: tuple[Host, Host]) -> None:
    red, _ = pair
    lab.connect(red, lab.host("green"))
    assert made(output(red, "ls", "/sys/class/net").split()) == ["eth0", "eth1", "lo"]
    assert sorted(made(red.call(os.listdir, "/sys/class/net"))) == ["eth0", "eth1", "lo"]
    assert output(red, "cat", "/sys/class/net/eth0/address") == red.mac


def test_processes_start_in_the_directory_of_the_test_or_in_the_root(
    pair: tuple[Host, Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert output(pair[0], "pwd") == str(tmp_path)
    monkeypatch.chdir("/usr")
    assert output(pair[0], "pwd") == "/usr"
    monkeypatch.chdir("/run")
    assert output(pair[0], "pwd") == "/"


def test_call_leaves_the_test_where_it_is(pair: tuple[Host, Host]) -> None:
    def change() -> str:
        os.chdir("/run")
        return os.getcwd()

    before, files = os.getcwd(), mounts()
    assert pair[0].call(change) == "/run"
    assert os.getcwd() == before
    assert mounts() == files


# ------------------------------------------------------------ processes


def test_processes_see_only_themselves_while_the_test_sees_them_by_other_numbers(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    process = red.spawn(["sh", "-c", "echo pid $$; exec sleep 1000"], ready=ready.output(r"pid \d+"))
    inside = int(process.output.split()[1])
    assert inside != process.pid
    seen = {int(name) for name in output(red, "ls", "/proc").split() if name.isdigit()}
    assert {1, inside} <= seen
    assert os.getpid() not in seen
    eventually(
        lambda: output(red, "cat", f"/proc/{inside}/cmdline") == "sleep\x001000\x00", within=20
    )  # after its exec
    assert Path(f"/proc/{process.pid}/cmdline").read_text() == "sleep\x001000\x00"
    assert "sleep" not in output(blue, "sh", "-c", "cat /proc/[0-9]*/comm")
    red.run(["sh", "-c", f"kill -9 {inside}"])
    assert process.wait(10) == -signal.SIGKILL


@pytest.mark.netns_requires("program:kill")
def test_a_host_does_not_reach_the_processes_of_another(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    process = red.spawn(["sleep", "1000"])
    blue.run(["sh", "-c", "kill -9 -1 || true"])
    assert blue.run(["kill", "-0", str(process.pid)], check=False).returncode != 0
    assert process.returncode is None


DAEMON = """
import os, socket, sys
with open("/run/daemon.pid", "x") as file:
    file.write(str(os.getpid()))
server = socket.socket()
server.bind(("", 8080))
server.listen()
while True:
    connection, _ = server.accept()
    connection.sendall(f"{socket.gethostname()} {os.getpid()}".encode())
    connection.close()
"""


def test_two_copies_of_a_daemon_run_side_by_side(pair: tuple[Host, Host]) -> None:
    red, blue = pair
    for host in pair:
        host.spawn([sys.executable, "-c", DAEMON], ready=8080)
    for asking, asked in ((red, blue), (blue, red), (red, red)):
        with asking.socket() as client:
            client.settimeout(10)
            client.connect((str(asked.ip4), 8080))
            assert client.recv(100).decode() == f"{asked.name} {output(asked, 'cat', '/run/daemon.pid')}"
    assert not os.path.exists("/run/daemon.pid")


def test_a_daemon_that_left_its_parent_ends_with_the_lab(netns: object, tmp_path: Path) -> None:
    with Lab(visible=lambda: [tmp_path]) as lab:
        red = lab.host("red", isolate=ALL)
        # its end of the pipe is closed when it is gone
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        red.run(["sh", "-c", f"setsid -f sh -c 'exec 9>{pipe}; echo up >&9; exec sleep 1000'"])
        assert select.select([reading], [], [], 10)[0]
        assert os.read(reading, 10) == b"up\n"
        assert not select.select([reading], [], [], 0)[0]
    assert select.select([reading], [], [], 10)[0]
    assert os.read(reading, 10) == b""
    os.close(reading)


# ------------------------------------------------------------ the whole lab


def test_a_lab_can_isolate_all_its_hosts_and_routers() -> None:
    with Lab("all", isolate={"uts", "mount"}) as lab:
        bridge = lab.bridge("br0")
        red, router = lab.host("red", bridge), lab.router("router", bridge)
        plain = lab.host("plain", bridge, isolate=())
        assert output(red, "hostname") == "red"
        assert output(router, "hostname") == "router"
        assert output(router, "getent", "ahostsv4", "plain").split()[0] == str(plain.ip4)
        assert output(plain, "hostname") == socket.gethostname()
        assert output(bridge, "hostname") == socket.gethostname()  # type: ignore[arg-type]


@pytest.mark.parametrize("kinds", [{"mount"}, {"uts"}, {"pid"}, {"mount", "pid"}, {"uts", "pid"}, "uts"])
def test_each_kind_works_without_the_others(lab: Lab, kinds: set[str]) -> None:
    red = lab.host("red", lab.bridge("br0"), isolate=kinds)  # type: ignore[arg-type]
    assert (output(red, "hostname") == "red") == ("uts" in kinds)
    assert (made(output(red, "ls", "/sys/class/net").split()) == ["eth0", "lo"]) == ("mount" in kinds)
    assert (output(red, "sh", "-c", "echo /proc/[0-9]*").count("/proc/") < 6) == ("pid" in kinds)
    assert red.call(os.readlink, "/proc/thread-self/ns/net") == f"net:[{red.inode}]"
    assert red.ping(lab["br0"].host("blue"))  # type: ignore[attr-defined]


def test_its_files_can_be_read_by_every_daemon_whatever_the_umask_is(lab: Lab, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        red = lab.host("red", isolate={"mount"})
    finally:
        os.umask(before)
    for name in ("/run/pytest-netns", "/etc/hosts", "/etc/resolv.conf", str(tmp_path.parent.parent)):
        assert int(output(red, "stat", "-Lc", "%a", name), 8) & 0o044 == 0o044, name


def test_what_python_refuses_without_an_errno_is_told_in_its_words() -> None:
    def visible() -> list[str]:
        raise OSError("the temporary directory is not ours")

    words = r"'isolate' .*'red': not done: the temporary directory is not ours"
    with Lab(visible=visible) as lab, pytest.raises(NetnsError, match=words):
        lab.host("red", isolate={"mount"})


MISTAKES: list[tuple[str, Callable[[Lab], object]]] = [
    (r"'new' cannot isolate 'net'; known are mount, uts, pid", lambda lab: lab.host("new", isolate={"net"})),  # type: ignore[arg-type]
    (r"'new' cannot isolate 'ipx', 'user'", lambda lab: lab.router("new", isolate={"user", "ipx", "pid"})),  # type: ignore[arg-type]
    (r"every host cannot isolate 'net'", lambda _: Lab("bad", isolate=["net"])),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("words", "mistake"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_an_unknown_kind_is_a_topology_error_and_makes_no_host(
    lab: Lab, words: str, mistake: Callable[[Lab], object]
) -> None:
    with pytest.raises(TopologyError, match=words):
        mistake(lab)
    assert len(lab) == 0
    assert output(lab.host("new", isolate={"uts"}), "hostname") == "new"


# ------------------------------------------------------------ nothing leaks


def test_nothing_of_it_is_seen_outside(pair: tuple[Host, Host]) -> None:
    mark = f"/run/{uuid.uuid4().hex}"  # others may put theirs beside it meanwhile

    def seen() -> tuple[object, ...]:
        return mounts(), socket.gethostname(), os.path.exists(mark), Path("/etc/hosts").read_text()

    with Lab() as lab:
        before = seen()
        green = lab.host("green", isolate=ALL)
        green.run(["touch", mark])
        assert green.call(os.path.exists, mark)
        assert seen() == before
    assert seen() == before


def test_closing_a_lab_gives_back_every_descriptor_and_thread(netns: object) -> None:
    def isolated_lab() -> None:
        with Lab() as lab:
            lab.host("red", lab.bridge("br0"), isolate=ALL).run(["true"])

    def count() -> tuple[int, int]:
        await_reaper()
        return len(os.listdir("/proc/self/fd")), sum(each.name == "netns-spawner" for each in threading.enumerate())

    isolated_lab()
    before = count()
    for _ in range(3):
        isolated_lab()
    assert count() == before


def test_a_closed_host_runs_nothing(lab: Lab) -> None:
    red = lab.host("red", isolate=ALL)
    red.close()
    with pytest.raises(NetnsError):
        red.run(["true"])
    with pytest.raises(NetnsError, match="namespace 'red' is closed"):
        red.call(os.getpid)


KILLED = """
    import os, sys
    from pytest_netns import Lab, ready
    lab = Lab(isolate={"mount", "uts", "pid"}, visible=lambda: [sys.argv[1]])
    red = lab.host("red", lab.bridge("br0"))
    red.run(["sh", "-c", f"setsid -f sh -c 'exec 9>{sys.argv[1]}/pipe; exec sleep 1000'"])
    red.spawn(["sh", "-c", f"exec 9>{sys.argv[1]}/pipe; echo up >&9; exec sleep 1000"])
    os.read(0, 1)
"""


def test_after_sigkill_everything_is_gone(netns: object, tmp_path: Path) -> None:
    before = mounts()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], stdin=subprocess.PIPE
    ) as process:
        assert select.select([reading], [], [], 30)[0]
        assert os.read(reading, 10) == b"up\n"
        process.kill()
    assert select.select([reading], [], [], 10)[0]
    assert os.read(reading, 10) == b""  # the last process that held it, and its mount namespace, are gone
    os.close(reading)
    assert mounts() == before


# ------------------------------------------------------------ interprocess communication

QUEUE = """
import ctypes
assert ctypes.CDLL(None).msgget(0x5EED, 0o1600) >= 0
"""


def queues() -> list[str]:
    """The keys of the System V message queues that this thread sees."""
    return [line.split()[0] for line in Path("/proc/sysvipc/msg").read_text().splitlines()[1:]]


@pytest.mark.parametrize("kinds", [{"ipc"}, {"ipc", "mount", "uts", "pid"}], ids=["alone", "with-all"])
def test_queues_are_those_of_the_host_alone(lab: Lab, kinds: set[Kind]) -> None:
    outside = queues()
    red, blue = lab.host("red", isolate=kinds), lab.host("blue", isolate=kinds)
    red.run([sys.executable, "-c", QUEUE])
    assert red.call(queues) == [str(0x5EED)]
    assert "24301" in red.run(["cat", "/proc/sysvipc/msg"]).stdout
    blue.run([sys.executable, "-c", QUEUE])  # the key is free there
    assert blue.call(queues) == [str(0x5EED)]
    assert queues() == outside


def test_a_shared_key_without_ipc_is_that_of_the_machine(lab: Lab) -> None:
    red = lab.host("red", isolate={"uts"})
    assert red.call(os.readlink, "/proc/thread-self/ns/ipc") == os.readlink("/proc/thread-self/ns/ipc")

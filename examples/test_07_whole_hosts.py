"""Lesson 7: a host is more than a network: it has a name, files and processes too."""

import os
import socket

import pytest


@pytest.fixture
def hosts(lab):
    """Red and blue, each with a host name, a /run, a /tmp, an /etc/hosts and processes of its own."""
    bridge = lab.bridge("br0")
    return [lab.host(name, bridge, isolate={"mount", "uts", "pid"}) for name in ("red", "blue")]


def test_every_host_has_its_name(hosts):
    """And the machine that the test runs on keeps the one that it has."""
    before = socket.gethostname()
    for host in hosts:
        assert host.run(["hostname"]).stdout.strip() == host.name
    assert socket.gethostname() == before


def test_names_resolve_to_addresses(hosts):
    """For every program that asks the system, ``curl``, ``ssh`` and Python among them."""
    red, blue = hosts
    assert red.run(["getent", "hosts", "blue"]).stdout.split() == [str(blue.ip6), "blue"]
    assert red.call(socket.gethostbyname, "blue") == str(blue.ip4)


def test_a_name_can_move_to_another_address_during_a_test(lab, hosts):
    """As in a fail-over: the client asks again and gets the other server."""
    red, blue = hosts
    green = lab["br0"].host("green")
    lab.dns["www.example"] = blue
    assert red.call(socket.gethostbyname, "www.example") == str(blue.ip4)
    lab.dns["www.example"] = green
    assert red.call(socket.gethostbyname, "www.example") == str(green.ip4)


def test_two_copies_of_a_daemon_run_side_by_side(hosts):
    """Both write /run/daemon.pid and listen on port 8080, and neither is in the other's way."""
    daemon = "echo $$ > /run/daemon.pid; exec python3 -m http.server 8080 --directory /run"
    for host in hosts:
        host.run(["test", "!", "-e", "/run/daemon.pid"])
        host.spawn(["sh", "-c", daemon], ready=8080)
    red, blue = hosts
    assert red.tcp(blue, 8080).state == blue.tcp(red, 8080).state == "open"
    assert not os.path.exists("/run/daemon.pid")


def test_processes_see_only_those_of_their_host(hosts):
    """In red there is the process; in blue there is none of that name. Only the test sees both."""
    red, blue = hosts
    process = red.spawn(["sleep", "1000"])
    names = ["sh", "-c", "cat /proc/[0-9]*/comm"]
    assert "sleep" in red.run(names).stdout.split()
    assert "sleep" not in blue.run(names).stdout.split()
    assert os.path.exists(f"/proc/{process.pid}")


def test_files_of_the_test_are_still_there(hosts, tmp_path):
    """/tmp is the host's own, but for the directory that pytest gives to the test."""
    (tmp_path / "settings.ini").write_text("colour = red\n")
    red, blue = hosts
    assert red.run(["cat", str(tmp_path / "settings.ini")]).stdout == "colour = red\n"
    red.run(["touch", "/tmp/mine"])
    assert blue.run(["ls", "/tmp/mine"], check=False).returncode != 0
    assert not os.path.exists("/tmp/mine")

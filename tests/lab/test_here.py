"""The test process's own namespace as a node: ``Lab.here`` and ``Namespace.current``."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from pytest_netns import Lab, Namespace, TopologyError, why
from pytest_netns.kernel import sandbox


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own network, whoever runs this: without root the suite is in a sandbox."""
    monkeypatch.setattr(sandbox, "network", 0)


@pytest.mark.netns
def test_code_in_the_test_process_talks_over_a_cable(lab: Lab) -> None:
    here, red = lab.here(), lab.host("red")
    lab.connect(here, red, "192.0.2.0/24")
    with red.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind((str(red.ip4), 8080))
        server.listen()
        with socket.create_connection(("192.0.2.2", 8080), timeout=10) as client:
            assert client.getsockname()[0] == "192.0.2.1"
            accepted, peer = server.accept()
            accepted.close()
            assert peer[0] == "192.0.2.1"
    with socket.create_server(("192.0.2.1", 8081)):
        assert red.tcp(here, 8081)
    assert red.ping(here)
    assert red.ping(here.ip6)
    assert here.ping(red)


@pytest.mark.netns
def test_here_is_a_host_as_others_are(lab: Lab) -> None:
    here, router, far = lab.here("me"), lab.router("router"), lab.host("far")
    lab.connect(here, router)
    link = lab.connect(router, far)
    lab.autoroute()
    assert lab["me"] is here
    assert far.ping(here)
    link.a.down()
    assert why(here.ping(far, timeout=0.2)).node == "router"


def test_here_is_the_innermost_namespace_of_the_thread(lab: Lab, netns: Namespace) -> None:
    red = lab.host("red")
    with netns:
        here = lab.here()
        lab.connect(here, red)
        assert here.inode == netns.inode
        with red, pytest.raises(TopologyError, match="is the namespace of 'red'"):
            lab.here("other")
    assert red.ping(here)


def test_a_thread_that_was_started_inside_is_here_too(lab: Lab, netns: Namespace) -> None:
    found: list[int] = []

    def look() -> None:
        with Namespace.current() as current:
            found.append(current.inode)
            current.close()

    with netns:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join(30)
    assert found == [netns.inode]
    assert netns.call(lab.here).inode == netns.inode


@pytest.mark.usefixtures("at_home")
def test_the_machines_own_network_is_no_node_and_the_message_names_the_cures(lab: Lab) -> None:
    with pytest.raises(TopologyError, match=r"machine's own network.*--netns-isolate.*--netns-sandbox=always"):
        lab.here()
    assert len(lab) == 0
    with pytest.raises(TopologyError, match="machine's own network"):
        Namespace.current()
    with Namespace.attach("/proc/thread-self/ns/net") as home:
        with pytest.raises(TopologyError, match="machine's own network"):
            lab.here()
        home.close()


def test_closing_the_lab_takes_its_links_and_leaves_the_namespace(netns: Namespace) -> None:
    with netns:
        with Lab() as lab:
            lab.connect(lab.here(), lab.host("red"))
            assert "eth0" in netns.interfaces
        assert list(netns.interfaces) == ["lo"]
        with Lab() as lab:
            lab.connect(lab.here(), lab.host("red"))
    assert not netns.closed


def test_closing_what_current_gives_only_lets_go(netns: Namespace) -> None:
    with netns:
        current = Namespace.current("mine")
        assert (current.name, current.inode) == ("mine", netns.inode)
        current.close()
        assert os.stat("/proc/thread-self/ns/net").st_ino == netns.inode
    assert netns.run(["true"]).returncode == 0


def test_here_has_the_settings_of_every_node(netns: Namespace) -> None:
    for name, value in (("net.ipv4.conf.all.rp_filter", 2), ("net.ipv4.ip_forward", 1)):
        netns.sysctl[name] = value
    with netns, Lab(sysctls={"net.ipv4.ip_default_ttl": 33}) as lab:
        lab.here()
        assert netns.sysctl["net.ipv4.conf.all.rp_filter"] == "0"
        assert netns.sysctl["net.ipv4.ip_forward"] == "0"
        assert netns.sysctl["net.ipv4.icmp_ratemask"] == "0"
        assert netns.sysctl["net.ipv4.ip_default_ttl"] == "33"


@pytest.mark.netns
def test_a_name_that_is_taken_changes_nothing(lab: Lab) -> None:
    lab.host("red")
    with Namespace.current() as current:
        current.sysctl["net.ipv4.ip_forward"] = 1
        with pytest.raises(TopologyError, match="already has a node 'red'"):
            lab.here("red")
        assert current.sysctl["net.ipv4.ip_forward"] == "1"
        current.close()

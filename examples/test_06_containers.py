"""Lesson 6: what ``docker run`` does to the network, done by hand.

A container is a process with namespaces of its own. Started with no network it has a loopback interface and nothing
else. Here unshare(1) starts it, which needs no daemon and no image; with Docker it would be ``--network none``.
"""

import os
import subprocess
from http.client import HTTPConnection

import pytest

from pytest_netns import Namespace

SERVER = """
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from the container")
server = http.server.HTTPServer(("0.0.0.0", 8080), Page)
print("listening", flush=True)
server.serve_forever()
"""


@pytest.fixture
def container(netns_factory):
    """A container without a network, in which a web server runs: the number of its process."""
    command = ["unshare", "--net", "--mount", "--uts", "--ipc", "python3", "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "listening\n"
        yield process.pid
        process.kill()


def test_a_container_without_a_network_has_loopback_only(container):
    """``Namespace.attach`` goes in by the number of a process, and closing it lets go again."""
    box = Namespace.attach(container)
    assert list(box.interfaces) == ["lo"]
    box.close()


def test_it_gets_a_cable_and_an_address_and_is_reached(lab, container):
    """One end of a veth here, the other one in the container: that is all that a container network is."""
    bridge = lab.bridge("docker0", "172.17.0.0/16")
    client = bridge.host("client")
    attached = Namespace.attach(container)
    box = lab.adopt(attached, "box")
    attached.close()
    bridge.attach(box, "172.17.0.9")
    assert client.ping("172.17.0.9")
    with client:
        connection = HTTPConnection("172.17.0.9", 8080, timeout=5)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello from the container"
        connection.close()


@pytest.mark.netns_requires("nft")
def test_a_published_port_is_a_forwarded_port(lab, container):
    """``docker run -p 80:8080``: the machine's port 80 leads to port 8080 of the container."""
    attached = Namespace.attach(container)
    box = lab.adopt(attached, "box")
    attached.close()
    docker0, street = lab.bridge("docker0", "172.17.0.0/16"), lab.bridge("street", "192.168.1.0/24")
    machine = lab.router("machine", docker0, street)
    docker0.attach(box)
    box.default_route(via=machine)
    machine.forward_port(80, to=box, to_port=8080)
    assert street.host("neighbour").tcp(machine.interfaces["eth1"], 80).state == "open"


def test_the_container_outlives_the_network(lab_factory, container):
    """It is not ours: what we plugged in goes, the container stays."""
    lab = lab_factory("short")
    attached = Namespace.attach(container)
    lab.connect(lab.host("red"), lab.adopt(attached, "box"))
    assert list(attached.interfaces) == ["lo", "eth0"]
    lab.close()
    assert list(attached.interfaces) == ["lo"]
    attached.close()
    assert os.path.exists(f"/proc/{container}")


def test_a_sidecar_lives_in_the_network_of_another(lab):
    """As the containers of one pod do: one address, one set of ports, one loopback."""
    bridge = lab.bridge("br0")
    web = lab.host("web", bridge)
    sidecar = lab.host("sidecar", shares=web)
    web.spawn(["python3", "-m", "http.server", "8080", "--bind", "127.0.0.1"], ready=8080)
    assert sidecar.tcp("127.0.0.1", 8080).state == "open"
    assert bridge.host("stranger").tcp(web, 8080).state == "closed"

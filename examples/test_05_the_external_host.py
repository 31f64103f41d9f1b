"""Lesson 5: from a namespace behind a bridge to a host outside, and back.

Blue sits on the bridge ``v-net-0``. The machine that has the bridge, here ``gateway``, is also on the local network,
where ``neighbour`` is. Beyond it is the internet::

    blue 192.168.15.2 --- 192.168.15.5 gateway 192.168.1.2 --- 192.168.1.3 neighbour
                                       gateway 203.0.113.1 --- 203.0.113.10 internet

Neither the neighbour nor the internet has ever heard of 192.168.15.0/24. In real life the gateway is the computer that
you sit at. In a lab it is a node like all others, so your own network stays as it is.
"""

from http.client import HTTPConnection

import pytest
from scapy.layers.inet import ICMP

from pytest_netns import KernelError, ready


@pytest.fixture
def gateway(lab):
    """All of the picture above; returns the machine in the middle."""
    network, street = lab.bridge("v-net-0", "192.168.15.0/24"), lab.bridge("street", "192.168.1.0/24")
    gateway = lab.router("gateway", network, street, address=["192.168.15.5", "192.168.1.2"])
    network.host("blue", "192.168.15.2")
    network.host("red", "192.168.15.3")
    street.host("neighbour", "192.168.1.3")
    lab.connect(gateway, lab.host("internet"), addresses=("203.0.113.1/24", "203.0.113.10/24"))
    return gateway


def serve(host, folder, page):
    """Start a web server that has one page. What it prints names everybody who asks."""
    folder.mkdir()
    (folder / "index.html").write_text(page)
    return host.spawn(["python3", "-m", "http.server", "80", "--directory", str(folder)], ready=80)


def fetch(host, address):
    """What a web server answers to a host."""

    def get():
        connection = HTTPConnection(address, timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    return host.call(get)


def is_ping(packet):
    """An echo request, and not the answer to one."""
    return ICMP in packet and packet[ICMP].type == 8


def test_first_the_network_is_unreachable(lab, gateway):
    """Blue knows its own network and nothing else. No packet leaves it."""
    blue, neighbour = lab["blue"], lab["neighbour"]
    with neighbour.capture(filter=is_ping) as pings:
        assert str(blue.ping("192.168.1.3").error) == "Network is unreachable"
        with pytest.raises(OSError, match="Network is unreachable"):
            fetch(blue, "192.168.1.3")
    assert len(pings) == 0


def test_with_a_route_the_request_leaves_and_no_reply_returns(lab, gateway):
    """The neighbour sees a request from 192.168.15.2, and has no route to answer by."""
    blue, neighbour = lab["blue"], lab["neighbour"]
    blue.add_route("192.168.1.0/24", via=gateway)
    with neighbour.capture(filter=is_ping) as pings:
        answer = blue.ping("192.168.1.3", timeout=0.2)
    assert not answer
    assert answer.error is None
    assert len(pings) == 1
    with pytest.raises(KernelError, match="Network is unreachable"):
        neighbour.route_to("192.168.15.2")


@pytest.mark.netns_requires("nft")
def test_with_masquerade_the_reply_comes(lab, gateway):
    """The gateway puts its own address on what leaves by the street, and takes it off the answers."""
    blue = lab["blue"]
    blue.add_route("192.168.1.0/24", via=gateway)
    gateway.masquerade(lab["street"])
    answer = blue.ping("192.168.1.3")
    assert answer
    assert answer.ttl == 63


@pytest.mark.netns_requires("nft")
def test_the_neighbour_sees_only_the_gateway(lab, gateway, tmp_path):
    """Its web server writes down who asked, and that is not blue."""
    blue, neighbour = lab["blue"], lab["neighbour"]
    blue.add_route("192.168.1.0/24", via=gateway)
    gateway.masquerade(lab["street"])
    server = serve(neighbour, tmp_path / "www", "hello from the street")
    assert fetch(blue, "192.168.1.3") == "hello from the street"
    server.wait_until(ready.output("GET / HTTP"))
    assert server.output.splitlines()[-1].startswith("192.168.1.2 ")
    assert "192.168.15.2" not in server.output


@pytest.mark.netns_requires("nft")
def test_a_default_gateway_leads_to_the_internet(lab, gateway, tmp_path):
    """203.0.113.0/24 is set aside for documentation (RFC 5737), so nobody's real server is meant."""
    blue, internet = lab["blue"], lab["internet"]
    serve(internet, tmp_path / "www", "hello from far away")
    blue.add_route("192.168.1.0/24", via=gateway)
    gateway.masquerade(internet)
    assert str(blue.ping("203.0.113.10").error) == "Network is unreachable"
    blue.default_route(via=gateway)
    assert blue.ping("203.0.113.10").ttl == 63
    assert fetch(blue, "203.0.113.10") == "hello from far away"
    assert blue.trace("203.0.113.10").path == ["gateway", "internet"]


def test_from_outside_nobody_reaches_blue(lab, gateway, tmp_path):
    """There is no route to it, and on the gateway's own port 80 nothing listens."""
    serve(lab["blue"], tmp_path / "www", "hello from blue")
    with pytest.raises(OSError, match="Network is unreachable"):
        fetch(lab["neighbour"], "192.168.15.2")
    with pytest.raises(ConnectionRefusedError):
        fetch(lab["neighbour"], "192.168.1.2")


@pytest.mark.netns_requires("nft")
def test_a_forwarded_port_lets_the_outside_reach_the_web_server_in_blue(lab, gateway, tmp_path):
    """Whoever asks the gateway's port 80 is sent on to blue, which sees who it really is."""
    blue = lab["blue"]
    blue.default_route(via=gateway)
    server = serve(blue, tmp_path / "www", "hello from blue")
    rule = gateway.forward_port(80, to=blue)
    assert fetch(lab["neighbour"], "192.168.1.2") == "hello from blue"
    assert fetch(lab["internet"], "203.0.113.1") == "hello from blue"
    assert rule.counter.packets == 2
    server.wait_until(ready.output(r"^203\.0\.113\.10 .*GET"))
    assert [line.split()[0] for line in server.output.splitlines() if "GET" in line] == ["192.168.1.3", "203.0.113.10"]


@pytest.mark.netns_requires("nft")
def test_the_same_address_works_from_behind_the_gateway(lab, gateway, tmp_path):
    """So that one link in a document is right for everybody. Home routers call it hairpin NAT."""
    blue, red = lab["blue"], lab["red"]
    for host in (blue, red):
        host.default_route(via=gateway)
    serve(blue, tmp_path / "www", "hello from blue")
    gateway.forward_port(80, to=blue)
    assert fetch(red, "192.168.1.2") == "hello from blue"
    assert fetch(gateway, "192.168.1.2") == "hello from blue"


@pytest.mark.netns_requires("nft")
def test_a_forwarded_port_can_move_during_a_test(lab, gateway, tmp_path):
    """From one server to another, as at a deployment, and away."""
    blue, red, neighbour = lab["blue"], lab["red"], lab["neighbour"]
    for host in (blue, red):
        host.default_route(via=gateway)
        serve(host, tmp_path / host.name, f"hello from {host.name}")
    rule = gateway.forward_port(80, to=blue)
    assert fetch(neighbour, "192.168.1.2") == "hello from blue"
    rule.change(to=red)
    assert fetch(neighbour, "192.168.1.2") == "hello from red"
    rule.remove()
    with pytest.raises(ConnectionRefusedError):
        fetch(neighbour, "192.168.1.2")

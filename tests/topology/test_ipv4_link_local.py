"""169.254.0.0/16 is an ordinary network of IPv4, where somebody configures it: tunnels to AWS, metadata servers."""

from __future__ import annotations

from pytest_netns import Host, Lab, describe, why


def linked(lab: Lab) -> tuple[Host, Host]:
    a, r = lab.host("a"), lab.router("r")
    lab.connect(a, r, "169.254.2.0/24")
    return a, r


def test_a_node_can_be_the_next_hop(lab: Lab) -> None:
    a, r = linked(lab)
    assert a.ping(r.ip4)
    a.add_route("192.0.2.0/24", via=r)
    assert [str(each.gateway) for each in a.routes() if str(each.destination) == "192.0.2.0/24"] == ["169.254.2.2"]


def test_autoroute_goes_through_such_a_network(lab: Lab) -> None:
    a, r = linked(lab)
    b = lab.host("b")
    lab.connect(r, b, "192.0.2.0/24")
    lab.autoroute()
    assert a.ping(b.ip4)


def test_a_description_shows_such_an_address(lab: Lab) -> None:
    linked(lab)
    assert "169.254.2.1" in describe(lab)


def test_a_metadata_server_is_reached_by_a_route(lab: Lab) -> None:
    vm, hv = lab.host("vm"), lab.host("hv")
    lab.connect(vm, hv, addresses=("10.0.0.2/24", ["10.0.0.1/24", "169.254.169.254/32"]))
    vm.add_route("169.254.169.254", via=hv)
    assert vm.ping("169.254.169.254")


def test_an_explanation_does_not_take_it_for_no_address(lab: Lab) -> None:
    a, _ = linked(lab)
    said = str(why(a.ping("192.0.2.9", timeout=0.2)))
    assert "no IPv4 address" not in said
    assert "no route" in said


def test_the_first_address_is_that_of_the_first_interface_whatever_is_on_loopback(lab: Lab) -> None:
    a, r = lab.host("a"), lab.router("r")
    lab.connect(a, r, "10.1.0.0/24")
    before = r.ip4, r.ip6, r.ip
    r.interfaces["lo"].add_address("192.0.2.1/32")
    r.interfaces["lo"].add_address("2001:db8::1/128")
    assert (r.ip4, r.ip6, r.ip) == before
    assert [str(each) for each in r.addresses()][1] == "192.0.2.1/32"
    a.default_route(via=r)
    assert a.ping(r)

from __future__ import annotations

import itertools

import pytest
from slowness import patient

from pytest_netns import Host, Lab, TopologyError


@pytest.fixture
def three(lab: Lab) -> tuple[Host, Host, Host]:
    bridge = lab.bridge("br0")
    return bridge.host("red"), bridge.host("green"), bridge.host("blue")


def test_every_host_reaches_every_other(lab: Lab, three: tuple[Host, Host, Host]) -> None:
    matrix = lab.ping_all()
    assert matrix
    assert list(matrix) == list(itertools.permutations(["red", "green", "blue"], 2))
    assert len(matrix) == 6
    assert matrix.failed == []
    assert matrix.names == ("red", "green", "blue")  # the bridge is no host
    red, green, _ = three
    result = matrix["red", "green"]
    assert (result.source, result.address, result.sent, result.received) == ("red", green.ip4, 1, 1)
    assert result.replies[0]["IP"].src == str(green.ip4)
    assert result.replies[0]["IP"].dst == str(red.ip4)


def test_ten_hosts_are_ninety_pairs(lab: Lab) -> None:
    bridge = lab.bridge("br0")
    hosts = [bridge.host(f"h{number}") for number in range(10)]
    matrix = lab.ping_all(timeout=20)
    assert matrix
    assert len(matrix) == 90
    for source, destination in itertools.permutations(hosts, 2):
        (reply,) = matrix[source.name, destination.name].replies
        assert (reply["IP"].src, reply["IP"].dst) == (str(destination.ip4), str(source.ip4))


@pytest.mark.parametrize("version", [4, 6])
def test_either_family_will_do(lab_factory: type[Lab], version: int) -> None:
    lab = lab_factory(ipv4=None) if version == 6 else lab_factory(ipv6=None)
    with lab:
        lab.connect(lab.host("red"), lab.host("blue"))
        matrix = lab.ping_all()
        assert matrix
        assert {result.address.version for result in matrix.values()} == {version}


def test_routers_are_asked_too(lab: Lab) -> None:
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router)
    lab.connect(router, blue)
    lab.autoroute()
    matrix = lab.ping_all()
    assert matrix
    assert len(matrix) == 6
    assert matrix["red", "blue"].ttl == 63


@pytest.mark.netns_requires("nft")
def test_a_pair_that_fails_makes_it_falsy_and_is_listed(lab: Lab, three: tuple[Host, Host, Host]) -> None:
    red, _, blue = three
    blue.nft(f"table ip wall {{ chain c {{ type filter hook input priority 0; ip saddr {red.ip4} drop; }}; }}")
    matrix = lab.ping_all(timeout=patient(0.1))
    assert not matrix
    # what red asks is dropped, and so is what red answers
    assert [(each.source, each.address) for each in matrix.failed] == [("red", blue.ip4), ("blue", red.ip4)]
    assert matrix["red", "green"]
    assert matrix["green", "blue"]


@pytest.mark.netns_requires("nft")
def test_it_prints_as_a_table_with_the_reasons(lab: Lab, three: tuple[Host, Host, Host]) -> None:
    red, green, blue = three
    blue.nft("table ip wall { chain c { type filter hook input priority 0; drop; }; }")
    red.add_route(green.ip4, kind="prohibit")
    matrix = lab.ping_all(timeout=patient(0.1))
    rows = str(matrix).splitlines()
    assert rows[0].split() == ["red", "green", "blue"]
    assert [row.split()[0] for row in rows[1:4]] == ["red", "green", "blue"]
    cells = [row.split()[1:] for row in rows[1:4]]
    assert [cells[number][number] for number in range(3)] == ["."] * 3
    assert cells[0][1:] == ["-", "-"]
    assert cells[2][:2] == ["-", "-"]
    assert len({len(row) for row in rows[:4]}) == 1  # columns are aligned
    assert f"red -> green ({green.ip4}): Permission denied" in rows[4:]
    assert f"red -> blue ({blue.ip4}): no answer" in rows[4:]
    assert repr(matrix).startswith("<PingMatrix 0 of 6 pairs got through>\n")


def test_times_are_milliseconds(lab: Lab, three: tuple[Host, Host, Host]) -> None:
    matrix = lab.ping_all()
    cell = str(matrix).splitlines()[1].split()[2]
    assert cell == f"{matrix['red', 'green'].rtts[0] * 1000:.3f}"
    assert repr(matrix).startswith("<PingMatrix 6 of 6 pairs got through>\n")
    assert len(str(matrix).splitlines()) == 4


def test_a_host_without_an_address_or_without_a_common_family_is_a_pair_that_fails(lab: Lab) -> None:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, addresses=("10.1.0.1/24", "10.1.0.2/24"))
    six = lab.host("six")
    lab.connect(six, lab.host("seven"), addresses=("fd01::1/64", "fd01::2/64"))
    lab.host("lonely")
    matrix = lab.ping_all(timeout=patient(0.1))
    assert not matrix
    assert matrix["red", "blue"]
    assert matrix["six", "seven"]
    assert "'six' has only IPv6" in str(matrix["red", "six"].error)
    assert "'lonely' has no address" in str(matrix["red", "lonely"].error)
    assert not matrix["lonely", "red"]
    assert len(matrix) == 20


def test_an_unknown_pair_is_a_key_error_with_the_names(lab: Lab, three: tuple[Host, Host, Host]) -> None:
    matrix = lab.ping_all()
    with pytest.raises(KeyError, match=r"no ping \('red', 'gren'\); hosts: red, green, blue"):
        matrix["red", "gren"]
    assert ("red", "red") not in matrix


def test_an_empty_lab_has_nothing_that_fails(lab: Lab) -> None:
    assert lab.ping_all()
    lab.host("lonely")
    assert len(lab.ping_all()) == 0


def test_a_closed_host_is_left_out(lab: Lab, three: tuple[Host, Host, Host]) -> None:
    three[1].close()
    matrix = lab.ping_all()
    assert matrix
    assert set(matrix) == {("red", "blue"), ("blue", "red")}


def test_a_timeout_out_of_range_is_a_value_error(lab: Lab) -> None:
    with pytest.raises(ValueError, match="timeout is -1; it can be 0 to 3600"):
        lab.ping_all(timeout=-1)


def test_a_closed_lab_says_so(lab_factory: type[Lab]) -> None:
    lab = lab_factory()
    lab.close()
    with pytest.raises(TopologyError, match="closed"):
        lab.ping_all()

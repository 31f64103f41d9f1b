from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from pytest_netns import Bridge, KernelError, Lab, TopologyError, why
from pytest_netns.kernel.netlink.bridge_tables import PORT_FLAGS, MulticastEntry

GROUPS = {4: "239.1.2.3", 6: "ff15::1234"}
STRANGER = "02:00:00:00:00:99"


class Lan:
    """``red``, ``blue`` and ``green`` on a bridge."""

    def __init__(self, lab: Lab) -> None:
        self.bridge: Bridge = lab.bridge("lan")
        self.red, self.blue, self.green = (self.bridge.host(name) for name in ("red", "blue", "green"))

    def ports(self) -> list[object]:
        return [self.bridge.port_flags(host) for host in (self.red, self.blue, self.green)]


@pytest.fixture
def lan(lab: Lab) -> Lan:
    return Lan(lab)


# ------------------------------------------------------------ flags


@pytest.mark.parametrize("flag", PORT_FLAGS)
def test_each_flag_is_set_and_read_back_by_its_name(lan: Lan, flag: str) -> None:
    before = lan.bridge.port_flags(lan.red)
    now = lan.bridge.set_port(lan.red, **{flag: not before[flag]})
    assert now == {**before, flag: not before[flag]} == lan.bridge.port_flags(lan.red)
    assert lan.bridge.port_flags(lan.blue) == before
    lan.bridge.set_port(lan.red, **{flag: before[flag]})
    assert lan.bridge.port_flags(lan.red) == before


def test_isolated_ports_see_the_others_only_and_that_is_the_explanation(lan: Lan) -> None:
    for host in (lan.red, lan.blue):
        lan.bridge.set_port(host, isolated=True)
    assert lan.red.ping(lan.green)
    result = lan.red.ping(lan.blue, timeout=0.2)
    assert not result
    cause = why(result)
    assert "both isolated" in str(cause)
    assert cause.cures == ["lan.set_port('blue', isolated=False)"]
    lan.bridge.set_port("blue", isolated=False)
    assert lan.red.ping(lan.blue)


def test_what_a_locked_port_lets_in_stands_in_the_forwarding_database(lan: Lan) -> None:
    lan.bridge.set_port(lan.red, locked=True, learning=False)
    for entry in lan.bridge.fdb():
        if (entry.mac, entry.port) == (lan.red.mac, "red") and entry.state != "permanent":
            lan.bridge.remove_fdb(entry.mac, lan.red)
    assert not lan.red.ping(lan.blue, timeout=0.2)
    lan.bridge.add_fdb(lan.red.mac, lan.red)
    assert lan.red.ping(lan.blue)


def test_flags_are_those_of_the_kernel_again_after_a_port_was_detached(lan: Lan) -> None:
    lan.bridge.set_port(lan.red, isolated=True)
    lan.bridge.detach(lan.red)
    lan.bridge.attach(lan.red)
    assert not lan.bridge.port_flags(lan.red)["isolated"]


# ------------------------------------------------------------ the forwarding database


def test_a_static_entry_leads_frames_to_its_port_and_is_removed(lan: Lan) -> None:
    lan.bridge.add_fdb(STRANGER, lan.green)
    found = [(entry.port, entry.state) for entry in lan.bridge.fdb() if entry.mac == STRANGER]
    assert found == [("green", "static")]
    with pytest.raises(KernelError, match=f"bridge fdb add {STRANGER} dev green master static") as refused:
        lan.bridge.add_fdb(STRANGER, lan.green)
    assert refused.value.errno == errno.EEXIST
    lan.bridge.remove_fdb(STRANGER, "green")
    assert [entry for entry in lan.bridge.fdb() if entry.mac == STRANGER] == []
    with pytest.raises(KernelError, match=f"bridge fdb delete {STRANGER} dev green") as refused:
        lan.bridge.remove_fdb(STRANGER, lan.green)
    assert refused.value.errno == errno.ENOENT


def test_an_entry_at_the_wrong_port_is_the_explanation(lan: Lan) -> None:
    assert lan.red.ping(lan.blue)
    blue = lan.blue.mac
    for entry in lan.bridge.fdb():
        if entry.mac == blue and entry.state != "permanent":
            lan.bridge.remove_fdb(blue, entry.port)
    lan.bridge.add_fdb(blue, lan.green, sticky=True)
    result = lan.red.ping(lan.blue, timeout=0.2)
    assert not result
    cause = why(result)
    assert "static entry" in str(cause)
    assert cause.cures == [f"lan.remove_fdb({blue!r}, 'green')"]
    lan.bridge.remove_fdb(blue, "green")
    assert lan.red.ping(lan.blue)


def test_the_bridge_itself_can_have_a_further_mac_address(lan: Lan) -> None:
    lan.bridge.add_fdb(STRANGER, lan.bridge)
    assert [(e.port, e.state) for e in lan.bridge.fdb() if e.mac == STRANGER] == [("lan", "permanent")]
    lan.bridge.remove_fdb(STRANGER, lan.bridge)
    assert [entry for entry in lan.bridge.fdb() if entry.mac == STRANGER] == []


# ------------------------------------------------------------ multicast


@pytest.mark.parametrize("version", [4, 6])
def test_a_group_is_set_for_a_port_and_removed(lan: Lan, version: int) -> None:
    group = GROUPS[version]
    lan.bridge.add_mdb(group, lan.green)
    entry = MulticastEntry(ip_address(group), "green", permanent=True)
    assert entry in lan.bridge.mdb()
    with pytest.raises(KernelError, match=f"bridge mdb add dev lan port green grp {group} permanent") as refused:
        lan.bridge.add_mdb(group, lan.green)
    assert refused.value.errno == errno.EEXIST
    lan.bridge.remove_mdb(group, lan.green)
    assert entry not in lan.bridge.mdb()
    with pytest.raises(KernelError, match=f"bridge mdb delete dev lan port green grp {group}"):
        lan.bridge.remove_mdb(group, lan.green)


def test_snooping_and_querier_are_read_back(lan: Lan) -> None:
    assert lan.bridge.set_multicast(querier=True) == {"mcast_snooping": True, "mcast_querier": True}
    assert lan.bridge.set_multicast(snooping=False) == {"mcast_snooping": False, "mcast_querier": True}
    with pytest.raises(KernelError, match="bridge mdb add"):
        lan.bridge.add_mdb(GROUPS[4], lan.green)


# ------------------------------------------------------------ its device


def test_the_device_of_a_bridge_is_called_like_it(lan: Lan, lab: Lab) -> None:
    assert lan.bridge.device.name == "lan"
    assert lan.bridge.interfaces["lan"] == lan.bridge.device
    assert len(lab.bridge("a-name-that-is-too-long-for-an-interface").device.name) <= 15


# ------------------------------------------------------------ mistakes

MISTAKES: list[tuple[str, Callable[[Lan], object]]] = [
    (r"no port flag is given; there are: hairpin", lambda lan: lan.bridge.set_port(lan.red)),
    (r"isolated is 1; it can be True or False", lambda lan: lan.bridge.set_port(lan.red, isolated=1)),  # type: ignore[arg-type]
    (r"its own device is not a port", lambda lan: lan.bridge.set_port(lan.bridge, isolated=True)),
    (r"no 'nobody'; ports: red, blue, green", lambda lan: lan.bridge.set_port("nobody", isolated=True)),
    (r"mac is 'x'", lambda lan: lan.bridge.add_fdb("x", lan.red)),
    (r"mac is '0200:00:00:00:0:1'", lambda lan: lan.bridge.add_fdb("0200:00:00:00:0:1", lan.red)),
    (r"mac is '01:00:5e:00:00:01'", lambda lan: lan.bridge.add_fdb("01:00:5e:00:00:01", lan.red)),
    (r"vlan is 4095", lambda lan: lan.bridge.add_fdb(STRANGER, lan.red, vlan=4095)),
    (r"10.0.0.1 is not a multicast address", lambda lan: lan.bridge.add_mdb("10.0.0.1", lan.red)),
    (r"no setting is given; there are: mcast_snooping", lambda lan: lan.bridge.set_multicast()),
]


@pytest.mark.parametrize(("words", "mistake"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_about_a_port_is_told_and_changes_nothing(
    lan: Lan, words: str, mistake: Callable[[Lan], object]
) -> None:
    before = lan.ports()
    with pytest.raises(TopologyError, match=words):
        mistake(lan)
    assert lan.ports() == before

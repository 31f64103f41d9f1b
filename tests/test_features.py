"""What the kernel can do, found out by asking."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from pytest_netns import Namespace
from pytest_netns.kernel import features
from pytest_netns.kernel.features import DEVICES, QDISCS, feature


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    feature.cache_clear()
    yield
    feature.cache_clear()


@pytest.mark.parametrize("name", ["veth", "bridge", "dummy", "vrf", "vxlan", "wireguard", "macvlan"])
def test_a_device_kind_is_there_exactly_if_ip_can_make_one(netns: Namespace, name: str) -> None:
    assert name in DEVICES
    extra = {"vxlan": ["id", "1", "dstport", "4789"], "vrf": ["table", "10"], "macvlan": ["link", "lo"]}.get(name, [])
    made = netns.run(
        [
            "ip",
            "link",
            "add",
            "x0",
            *([] if name != "macvlan" else extra),
            "type",
            name,
            *([] if name == "macvlan" else extra),
        ],
        check=False,
    )
    unknown = "Unknown device type" in made.stderr or "Not supported" in made.stderr
    assert feature(name).present is not unknown
    assert bool(feature(name).reason) is unknown


@pytest.mark.parametrize("name", sorted(QDISCS))
def test_a_queueing_discipline_is_there_exactly_if_tc_finds_it(netns: Namespace, name: str) -> None:
    where = ["ingress"] if name == "ingress" else ["root", name]
    if name == "red":  # tc itself insists on these
        where += ["limit", "400000", "min", "30000", "max", "90000", "avpkt", "1000"]
    made = netns.run(["tc", "qdisc", "add", "dev", "lo", *where], check=False)
    unknown = "unknown" in made.stderr.lower() or "No such file" in made.stderr
    assert feature(name).present is not unknown, made.stderr


def test_a_lacking_one_names_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_device", lambda _name: False)
    assert feature("wireguard").reason == (
        "this kernel lacks devices of kind 'wireguard'; try as root: modprobe wireguard"
    )


def test_asking_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    for name in features.known():
        feature(name)
    assert subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout == before


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'netmen' is not known; known are .*netem.*program:NAME"):
        feature("netmen")

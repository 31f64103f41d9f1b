"""What the kernel can do, found out by asking."""

from __future__ import annotations

import ctypes
import errno
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from pytest_netns import Namespace
from pytest_netns.kernel import tun_driver
from pytest_netns.kernel.features import features
from pytest_netns.kernel.features.features import DEVICES, QDISCS, Feature, feature
from pytest_netns.kernel.features.nft_features import NFT
from pytest_netns.kernel.features.qdiscs import ACTIONS, CLASSIFIERS
from pytest_netns.kernel.libpcap import libpcap


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    feature.cache_clear()
    yield
    feature.cache_clear()


@pytest.mark.parametrize("name", ["veth", "bridge", "dummy", "vrf", "vxlan", "wireguard", "macvlan"])
@pytest.mark.netns_requires("program:ip")
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
@pytest.mark.netns_requires("program:tc")
def test_a_queueing_discipline_is_there_exactly_if_tc_finds_it(netns: Namespace, name: str) -> None:
    where = [name] if name in ("ingress", "clsact") else ["root", name]
    if name == "red":  # tc itself insists on these
        where += ["limit", "400000", "min", "30000", "max", "90000", "avpkt", "1000"]
    made = netns.run(["tc", "qdisc", "add", "dev", "lo", *where], check=False)
    unknown = "unknown" in made.stderr.lower() or "No such file" in made.stderr
    assert feature(name).present is not unknown, made.stderr


def test_a_lacking_one_names_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "errno_of", lambda _ask: errno.EOPNOTSUPP)
    assert feature("wireguard").reason == (
        "this kernel lacks devices of kind 'wireguard'; try as root: modprobe wireguard"
    )


@pytest.mark.netns_requires("program:ip")
def test_asking_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    for name in features.known():
        feature(name)
    assert subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout == before


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("netmen", "did you mean 'netem'? "),
        ("Wireguard", "did you mean 'wireguard'? "),
        ("queue", "did you mean 'nft:queue'? "),
        ("mirred", "did you mean 'tc:mirred'? "),
        ("nft:numgenn", "did you mean 'nft:numgen'? "),
        ("zzzzzz", ""),
        ("", ""),
        ("program:", ""),
        ("program: ", ""),
        ("program:bin/sh", ""),
    ],
)
def test_an_unknown_name_lists_the_known_and_guesses(name: str, guess: str) -> None:
    with pytest.raises(ValueError) as raised:
        feature(name)
    assert str(raised.value).startswith(f"{name!r} is not known; {guess}known are bareudp, ")
    assert str(raised.value).endswith(", and program:NAME")


def test_a_program_is_looked_for_at_its_path(tmp_path: Path) -> None:
    file = tmp_path / "tool"
    assert feature(f"program:{file}") == Feature(f"program:{file}", False, f"the program '{file}' does not exist")
    file.touch()
    feature.cache_clear()
    assert feature(f"program:{file}").reason == f"the program '{file}' is there, and cannot be executed"
    file.chmod(0o755)
    feature.cache_clear()
    assert feature(f"program:{file}").present


#: What tc(8) needs to make a filter or an action that does nothing much.
FILTERS = {
    "tc:basic": "basic action pass",
    "tc:bpf": "bpf bytecode 1,6\\ 0\\ 0\\ 0 flowid 1:1",
    "tc:cgroup": "handle 1 cgroup action pass",
    "tc:flow": "handle 1 flow map key src",
    "tc:flower": "flower ip_proto tcp",
    "tc:fw": "handle 1 fw flowid 1:1",
    "tc:matchall": "matchall flowid 1:1",
    "tc:u32": "u32 match u32 0 0 flowid 1:1",
}


@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
@pytest.mark.netns_requires("clsact")
@pytest.mark.netns_requires("program:tc")
def test_a_classifier_is_there_exactly_if_tc_finds_it(netns: Namespace, name: str) -> None:
    netns.run(["tc", "qdisc", "add", "dev", "lo", "clsact"])
    words = FILTERS[name].replace("\\ ", "\0").split()
    argv = ["tc", "filter", "add", "dev", "lo", "ingress", "protocol", "ip", *(w.replace("\0", " ") for w in words)]
    made = netns.run(argv, check=False)
    lacking = "not found" in made.stderr
    assert made.returncode == 0 or lacking or "pass" in argv, made.stderr
    assert feature(name).present is not lacking, made.stderr


#: What tc(8) needs to make an action.
DEEDS = {
    "tc:connmark": "connmark",
    "tc:csum": "csum ip4h",
    "tc:ct": "ct",
    "tc:gact": "gact pass",
    "tc:mirred": "mirred egress redirect dev lo",
    "tc:nat": "nat ingress 192.0.2.1 192.0.2.2",
    "tc:pedit": "pedit munge ip ttl set 7",
    "tc:police": "police rate 1mbit burst 10k",
    "tc:skbedit": "skbedit mark 1",
    "tc:tunnel_key": "tunnel_key unset",
    "tc:vlan": "vlan pop",
}


@pytest.mark.parametrize("name", sorted(ACTIONS))
@pytest.mark.netns_requires("clsact", "tc:u32")
@pytest.mark.netns_requires("program:tc")
def test_an_action_is_there_exactly_if_tc_finds_it(netns: Namespace, name: str) -> None:
    netns.run(["tc", "qdisc", "add", "dev", "lo", "clsact"])
    words = f"tc filter add dev lo ingress protocol ip u32 match u32 0 0 action {DEEDS[name]}".split()
    made = netns.run(words, check=False)
    assert made.returncode == 0 or "Failed to load TC action module" in made.stderr, made.stderr
    assert feature(name).present is (made.returncode == 0), made.stderr


@pytest.mark.parametrize("name", list(NFT))
@pytest.mark.netns_requires("nft", "program:nft")
def test_nftables_has_it_exactly_if_a_namespace_takes_the_ruleset(netns: Namespace, name: str) -> None:
    done = netns.run(["nft", "-f", "-"], input=NFT[name][0].replace("; add ", "\nadd "), check=False)
    found = feature(name)
    assert found.present is (done.returncode == 0), done.stderr
    assert found.reason == "" or re.fullmatch(
        rf"this kernel lacks '{name}' \(nft says: .+\); try as root: modprobe \w+", found.reason
    )


@pytest.mark.netns_requires("nft")
def test_a_ruleset_that_nft_refuses_is_a_lack_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NFT, "nft:nat", ("add rule inet t c nonsense", "nft_nat"))
    assert feature("nft:nat").reason == (
        "this kernel lacks 'nft:nat' (nft says: syntax error, unexpected end of file); try as root: modprobe nft_nat"
    )


@pytest.mark.parametrize("name", ["tun", "tap"])
@pytest.mark.netns_requires("program:ip")
def test_tunnels_are_there_exactly_if_ip_can_make_one(netns: Namespace, name: str) -> None:
    made = netns.run(["ip", "tuntap", "add", "x0", "mode", name], check=False)
    assert feature(name).present is (made.returncode == 0), made.stderr


def test_a_tunnel_device_that_may_not_be_opened_is_a_lack_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun_driver, "PATH", "/dev/net/none")
    assert feature("tun").reason == "/dev/net/none: No such file or directory; to get it: modprobe tun"


def test_sockets_of_a_protocol(netns: Namespace) -> None:
    for name, kind in {"sctp": (socket.AF_INET, socket.SOCK_STREAM, 132), "packet": (socket.AF_PACKET, 3, 0)}.items():
        try:
            netns.socket(*kind)
            there = True
        except OSError:
            there = False
        assert feature(name).present is there
    assert feature("ipv6").present is (netns.sysctl.get("net.ipv6.conf.all.disable_ipv6") == "0")


def test_libpcap_is_there_exactly_if_it_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    libpcap.cache_clear()
    assert "sudo apt-get install libpcap0.8" in feature("libpcap").reason
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Mock())
    feature.cache_clear()
    assert feature("libpcap").present
    libpcap.cache_clear()

"""Event loops, and scapy, which knows one namespace: ours works beside them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from plugin.inner import skip_unless_nobody_can_run

from pytest_netns import Host, Lab, Namespace, NetnsError, clock, eventually


def here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


# -------------------------------------------------------------------- asyncio


def test_iproute_in_a_coroutine(netns: Namespace) -> None:
    async def names() -> list[str]:
        return [link.get("ifname") for link in netns.iproute.get_links()]

    assert asyncio.run(names()) == ["lo"]
    assert [link.get("ifname") for link in netns.iproute.get_links()] == ["lo"]


def test_an_error_of_iproute_in_a_coroutine_is_that_of_pyroute2(netns: Namespace) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    async def delete() -> None:
        netns.iproute.link("del", index=4711)

    with pytest.raises(NetlinkError):
        asyncio.run(delete())


def test_a_block_across_an_await_is_refused_and_other_tasks_stay_where_they_were(netns: Namespace) -> None:
    home, seen = here(), []

    async def elsewhere() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            seen.append(here())

    async def main() -> None:
        other = asyncio.create_task(elsewhere())
        await asyncio.sleep(0)
        with pytest.raises(NetnsError, match="an await stood in the block"), netns:
            await asyncio.sleep(60)
        await other

    asyncio.run(main())
    assert seen == [home] * 3
    assert here() == home


def test_not_even_a_task_that_waits_already_runs_inside_and_the_rest_of_the_block_does_not(netns: Namespace) -> None:
    home, seen = here(), []

    async def elsewhere() -> None:
        seen.append(here())

    async def main() -> None:
        tasks = [asyncio.create_task(elsewhere()) for _ in range(3)]
        with netns:
            await asyncio.sleep(0)
            seen.append("the rest")
        await asyncio.gather(*tasks)

    with pytest.raises(NetnsError, match="an await stood in the block"):
        asyncio.run(main())
    assert seen == [home] * 3


def test_the_task_goes_on_after_such_a_block_as_if_nobody_had_cancelled_it(netns: Namespace, lab: Lab) -> None:
    async def main() -> int:
        with pytest.raises(NetnsError, match=f"'with {netns.name}:'"), netns, lab.host("red"):
            await asyncio.sleep(60)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    home = here()
    assert asyncio.run(main()) == 0
    assert here() == home


def test_who_cancels_the_task_from_outside_is_heard(netns: Namespace) -> None:
    async def block() -> None:
        with netns:
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert "an await stood in the block" in caught.value.__notes__[0]

    asyncio.run(main())


def test_what_a_block_across_an_await_raises_is_not_hidden(netns: Namespace) -> None:
    async def main() -> None:
        with netns:
            try:
                await asyncio.sleep(0)
            finally:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        asyncio.run(main())
    assert "an await stood in the block" in caught.value.__notes__[0]


def test_a_block_across_an_await_is_refused_under_trio(netns: Namespace) -> None:
    trio = pytest.importorskip("trio")
    home, seen = here(), []

    async def elsewhere() -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            seen.append(here())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(elsewhere)
            with netns:
                seen.append("inside" if here() == f"net:[{netns.inode}]" else "?")
            with pytest.raises(NetnsError, match="an await stood in the block"), netns:
                await trio.sleep(60)
            await trio.lowlevel.checkpoint()

    trio.run(main)
    assert seen == ["inside", home, home, home]
    assert here() == home


def test_a_block_without_an_await_is_fine_in_a_coroutine(netns: Namespace) -> None:
    async def main() -> str:
        with netns:
            inside = here()
        await asyncio.sleep(0)
        return inside

    assert asyncio.run(main()) == f"net:[{netns.inode}]"


# ---------------------------------------------------------------------- scapy


@pytest.mark.parametrize("turn", [1, 2])
def test_scapys_own_functions_in_a_namespace(lab: Lab, turn: int) -> None:
    from scapy.config import conf
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.l2 import ARP, Ether, getmacbyip
    from scapy.sendrecv import sr1, srp1

    red, blue = lab.host(f"red{turn}"), lab.host(f"blue{turn}")  # the same addresses at each turn, other MACs
    lab.connect(red, blue, "10.9.0.0/24")
    before, names = (conf.iface.name, conf.iface.mac), list(conf.ifaces)  # read anew, if scapy was imported inside
    with red:
        assert sr1(IP(dst="10.9.0.2") / ICMP(), timeout=5, verbose=0).dst == "10.9.0.1"
        assert sr1(IPv6(dst=str(blue.ip6)) / ICMPv6EchoRequest(), timeout=5, verbose=0) is not None
        assert srp1(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="10.9.0.2"), timeout=5, verbose=0).hwsrc == blue.mac
        assert getmacbyip("10.9.0.2") == blue.mac
        assert list(conf.ifaces) == ["lo", "eth0"]
        assert conf.iface.name == "eth0"
    assert blue.call(sr1, IP(dst="10.9.0.1") / ICMP(), timeout=5, verbose=0).src == "10.9.0.1"
    assert (conf.iface.name, conf.iface.mac) == before
    assert list(conf.ifaces) == names


def test_what_the_test_has_told_scapy_outlasts_an_entry_into_where_it_is(lab: Lab) -> None:
    import scapy.route  # noqa: F401
    from scapy.config import conf

    red, blue = lab.host("red"), lab.host("blue")
    with red:
        again = Namespace.attach("/proc/thread-self/ns/net")
        before = conf.iface = conf.ifaces["lo"]
        with again:
            assert conf.iface is before
        again.call(int)
        assert conf.iface is before
        with blue, again:
            assert conf.iface is before
        assert conf.iface is before
    again.close()


def test_scapy_sees_what_changes_while_the_test_is_inside(lab: Lab) -> None:
    import scapy.layers.inet6
    import scapy.route  # noqa: F401
    from scapy.config import conf

    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, "10.9.0.0/24")
    with red:
        assert conf.route.route("203.0.113.1")[0] == "lo"
        red.default_route(via=blue)
        assert eventually(lambda: conf.route.route("203.0.113.1") == ("eth0", "10.9.0.1", "10.9.0.2"))
        conf.iface = "lo"
        lab.connect(red, blue, "10.8.0.0/24")
        assert eventually(lambda: "eth1" in conf.ifaces)
        assert conf.iface.name == "lo"
        conf.route.add(net="198.51.100.0/24", dev="eth1")
        clock.sleep(0.01)
        assert conf.route.route("198.51.100.1")[0] == "eth1"
    with red:
        assert conf.iface.name == "eth0"
        assert conf.route.route("198.51.100.1")[0] == "eth0"


def test_scapy_shows_the_same_by_our_reading_as_by_its_own(lab: Lab) -> None:
    import scapy.layers.inet6
    import scapy.route  # noqa: F401
    from scapy.arch import read_routes, read_routes6
    from scapy.arch.linux import LinuxInterfaceProvider
    from scapy.config import conf

    lan, wan = lab.bridge("lan", "10.1.0.0/24"), lab.bridge("wan", "10.2.0.0/24")
    red, router = lan.host("red"), lab.router("router", lan, wan)
    lab.autoroute()
    red.add_route("192.0.2.0/24", kind="blackhole")
    for host in (red, router):
        with host:
            assert sorted(conf.route.routes) == sorted(each for each in read_routes() if each[3])
            assert sorted(conf.route6.routes) == sorted(each for each in read_routes6() if each[3])
            assert dict(conf.ifaces) == conf.ifaces.providers[LinuxInterfaceProvider].load()


def test_scapys_ipv6_may_be_imported_late(tmp_path: Path) -> None:
    script = """
from pytest_netns import Lab, enter_sandbox
import scapy.route
enter_sandbox()
with Lab() as lab:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue)
    with red:
        pass
    import scapy.route6
    from scapy.config import conf
    home = conf.route6.routes
    with red:
        assert conf.route6.route(str(blue.ip6))[:2] == ("eth0", str(red.ip6))
    assert conf.route6.routes is home
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_scapy_that_is_imported_inside_shows_home_at_home(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import sys
from pytest_netns import Lab, enter_sandbox

def imported():
    import scapy.all
    return list(scapy.all.conf.ifaces)

enter_sandbox()
with Lab() as lab:
    red, blue = lab.host("red"), lab.host("blue")
    lab.connect(red, blue, names=("inside0", "inside0"))
    if sys.argv[1] == "call":
        assert red.call(imported) == ["lo", "inside0"]
    else:
        with red:
            assert imported() == ["lo", "inside0"]
    assert "inside0" not in imported()
    with blue:
        assert imported() == ["lo", "inside0"]
"""
    )
    for way in ("call", "with"):
        subprocess.run([sys.executable, str(script), way], check=True, timeout=60)


def test_scapy_sniffs_in_a_namespace(veth_pair: tuple[Host, Host]) -> None:
    from scapy.layers.inet import ICMP
    from scapy.sendrecv import AsyncSniffer

    left, right = veth_pair
    started = threading.Event()
    with right:
        sniffer = AsyncSniffer(count=1, lfilter=lambda packet: packet.haslayer(ICMP), started_callback=started.set)
        sniffer.start()
        assert started.wait(10)
    assert left.ping(right)
    sniffer.join(10)
    assert len(sniffer.results) == 1


def test_what_a_test_has_set_in_scapy_comes_back(netns: Namespace) -> None:
    import scapy.route  # noqa: F401 - sets conf.route
    from scapy.config import conf

    route = conf.route.make_route(net="203.0.113.0/24", gw="192.0.2.1", dev="lo")
    conf.route.routes.append(route)
    try:
        with netns:
            assert route not in conf.route.routes
        assert route in conf.route.routes
    finally:
        conf.route.routes.remove(route)


SCRIPT = """
import os, sys
from pathlib import Path
from pytest_netns import enter_sandbox, Lab
os.environ["XDG_CACHE_HOME"] = sys.argv[1]
enter_sandbox()
with Lab() as lab:
    a, b = lab.host("a"), lab.host("b")
    lab.connect(a, b)
    assert a.ping(b)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder that is somebody else's")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_cache_of_scapys_that_root_has_made(tmp_path: Path, mode: int) -> None:
    skip_unless_nobody_can_run()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/") and "pytest" in str(folder):
            folder.chmod(0o755)
    cache = tmp_path / "scapy"
    cache.mkdir(mode=mode)
    (cache / "services.pickle").write_bytes(b"stale")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "HOME": str(tmp_path)},  # and not that of whoever runs this
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        user=65534,
        group=65534,
        extra_groups=[],
    )
    assert (done.returncode, done.stderr) == (0, "")

"""A value of a wrong type is refused where it comes in, by every public function, by a message that names it.

Not by an AttributeError, a KeyError or a struct.error from somewhere within.
"""

from __future__ import annotations

import itertools
import linecache
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP

from pytest_netns import (
    Impairment,
    Lab,
    Namespace,
    Node,
    Process,
    TopologyError,
    UnsupportedError,
    assert_arp,
    assert_blocked,
    assert_loss,
    assert_no_arp,
    assert_no_ping,
    assert_no_udp,
    assert_not_path,
    assert_path,
    assert_ping,
    assert_rate,
    assert_rtt,
    assert_tcp_closed,
    assert_tcp_filtered,
    assert_tcp_not_open,
    assert_tcp_open,
    assert_udp,
    describe,
    eventually,
    ready,
    why,
)
from pytest_netns.kernel.features.features import feature

PACKAGE = str(Path(sys.modules["pytest_netns"].__file__ or "").parent)
NAN = math.nan

#: What is wrong for each kind of argument.
WRONG: dict[str, tuple[object, ...]] = {
    "text": (7, None, True, b"x", ["x"], NAN),
    "key": (7, None, True, b"x", NAN),
    "text or None": (7, True, b"x", ["x"], NAN),
    "integer": ("1", None, True, b"1", [1], -1, 1.5, NAN),
    "integer or None": ("1", True, b"1", [1], -1, 1.5, NAN),
    "number": ("1", None, True, b"1", [1], -1, NAN),
    "number or None": ("1", True, b"1", [1], -1, NAN),
    "quantity": ("x", True, b"1", [1], -1, NAN),
    "port": ("80", None, True, b"80", [80], -1, 65536, 1.5, NAN),
    "port or None": ("80", True, b"80", [80], -1, 65536, 1.5, NAN),
    "flag or None": ("no", 7, b"", [], NAN),
    "address": (7, None, True, "x", b"x", ["x"], NAN),
    "address or None": (7, True, "x", b"x", ["x", 7], NAN),
    "addresses": (7, True, "x", b"x", ["x"], [7], NAN),
    "network": (7, None, True, "x", b"x", ["x"], NAN),
    "network or None": (7, True, "x", b"x", ["x"], [7], NAN),
    "node": (7, None, True, "x", b"x", ["x"], NAN),
    "node or None": (7, True, "x", b"x", ["x"], NAN),
    "destination": (7, None, True, "x", b"x", ["x"], NAN),
    "interface": (7, True, "none", b"eth0", ["eth0"], NAN),
    "later interface": (7, True, b"eth0", ["eth0"], NAN),
    "namespace": (True, "none", b"x", ["x"], NAN),
    "source": (7, True, "none", b"eth0", ["eth0"], NAN),
    "choice": (7, None, True, "x", b"x", ["x"], NAN),
    "choice or None": (7, True, "x", b"x", ["x"], NAN),
    "mac": (7, True, "x", b"x", ["x"], NAN),
    "readiness": (True, "x", b"x", ["x"], NAN, -1, 65536),
    "setting": (None, True, b"1", [1], 1.5, NAN),
    "protocol": (True, "x", b"x", ["x"], NAN, -1, 256),
    "list or None": (7, True, "x", b"x", [7], NAN),
    "bytes": (7, None, True, "x", ["x"], NAN),
    "argv": (7, None, True, "true", b"true", [], [7], ["true", None], NAN),
    "environment": (7, True, "x", b"x", ["x"], {"A": 1}, {1: "A"}, NAN),
    "settings": (7, True, "x", b"x", ["x"], {"net.ipv4.ip_forward": None}, {1: "A"}, NAN),
    "path or None": (7, True, ["x"], NAN),
    "function": (7, None, True, "x", b"x", ["x"], NAN),
    "list": (7, None, True, "x", b"x", [7], NAN),
    "pattern": (7, True, b"x", ["x"], NAN),
    "packet": (7, None, True, "x", ["x"], NAN),
}


class New:
    """A name that nobody has yet."""

    numbers = itertools.count()

    def __call__(self) -> str:
        return f"n{next(self.numbers)}"


NEW = New()
Row = tuple[str, Callable[..., object], dict[str, object], dict[str, str]]


def rows(lab: Lab) -> Iterator[Row]:
    """A function, arguments that are right, and the kinds of those that are tried wrongly."""
    lan, wan = lab.bridge("lan", "10.1.0.0/24"), lab.bridge("wan", "10.2.0.0/24")
    red, blue, green = lan.host("red"), lan.host("blue"), wan.host("green")
    link = lab.connect(red, green, "10.3.0.0/24")
    way = lab.router("way", lan, wan)
    tagged = lab.bridge("tagged", vlan_filtering=True) if feature("vlan_filtering").present else None
    interface = red.interfaces["eth1"]

    def inside(func: Callable[..., object]) -> object:
        return red.call(func)

    def row(function: Callable[..., object], right: dict[str, object] | None = None, /, **kinds: str) -> Row:
        owner = getattr(function, "__self__", None)
        name = f"{type(owner).__name__}.{function.__name__}" if owner is not None else function.__name__
        return name, function, right or {}, kinds

    # the lab
    yield row(Lab, name="text", ipv4="network or None", ipv6="network or None", sysctls="settings",
              isolate="list", impairments="choice", neighbours="choice")  # fmt: skip
    yield row(Namespace, name="text or None", sysctls="settings")
    yield row(Namespace.attach, {"target": "/proc/self/ns/net"}, target="namespace", name="text or None")
    yield row(lab.host, {"name": NEW}, name="text", address="addresses", sysctls="settings", shares="node or None",
              isolate="list or None", offload="flag or None")  # fmt: skip
    yield row(lambda network: lab.host(NEW(), network), network="node")
    yield row(lambda network: lab.router(NEW(), network), network="node")
    yield row(lab.router, {"name": NEW}, name="text", address="addresses", sysctls="settings", isolate="list or None")
    yield row(lab.bridge, {"name": NEW}, name="text", subnet="network or None", priority="integer or None",
              forward_delay="number or None", hello_time="number or None", max_age="number or None",
              sysctls="settings")  # fmt: skip
    yield row(lab.connect, {"a": red, "b": blue}, a="node", b="node", subnet="network or None", addresses="addresses",
              mtu="integer or None", names="addresses", offload="flag or None")  # fmt: skip
    yield row(lab.adopt, {"namespace": red, "name": NEW}, namespace="node", name="text")
    yield row(lambda group: lab.partition([red], group), group="node")
    yield row(lab.schedule, events="list")
    yield row(lambda moment: lab.schedule([(moment, link.up)]), moment="number")
    yield row(lambda action: lab.schedule([(0, action)]), action="function")
    yield row(lab.capture, filter="pattern")
    yield row(lab.throughput, {"source": red, "destination": blue, "seconds": 0.1}, source="node", destination="node",
              seconds="number", protocol="choice", rate="quantity", omit="number", timeout="number")  # fmt: skip
    yield row(lab.loss, {"source": red, "destination": blue, "count": 1}, source="node", destination="node",
              count="integer", size="integer", per_second="number", timeout="number")  # fmt: skip
    yield row(lab.ping_all, timeout="number")
    yield row(lambda name: lab.dns.__setitem__(name, blue), name="text")
    yield row(lambda address: lab.dns.__setitem__("www.example.com", address), address="address")
    yield row(describe, lab="node")
    yield row(why, result="node")
    # a bridge
    yield row(lan.host, {"name": NEW}, name="text", address="address or None", offload="flag or None")
    yield row(lan.attach, {"host": green}, host="node", address="address or None")
    yield row(lan.detach, host="node")
    yield row(lan.add_address, {"address": "10.1.0.99/24"}, address="address", interface="interface")
    yield row(lan.wait_converged, timeout="number or None")
    if tagged is not None:
        tagged.attach(blue)
        yield row(tagged.access, {"where": blue, "vid": 10}, where="interface", vid="integer")
        yield row(tagged.trunk, {"where": blue, "vids": [10]}, where="interface", vids="list", native="integer or None")
        yield row(tagged.set_vlan, {"where": blue, "vid": 10}, where="interface", vid="integer")
        yield row(tagged.unset_vlan, {"where": blue, "vid": 10}, where="interface", vid="integer")
    # a link and an interface
    percent = dict.fromkeys(("delay", "jitter", "loss", "rate", "reorder", "duplicate", "corrupt"), "quantity")
    yield row(link.impair, {"delay": "1ms"}, impairment="node or None", toward="node or None", seed="integer or None",
              engine="choice or None", **percent)  # fmt: skip
    yield row(link.heal, toward="node or None")
    yield row(link.set_mtu, mtu="integer")
    yield row(link.black_hole, mtu="integer")
    yield row(link.flap, times="integer", period="number")
    yield row(link.capture, filter="pattern")
    yield row(
        interface.impair,
        {"delay": "1ms"},
        impairment="node or None",
        seed="integer or None",
        engine="choice or None",
        **percent,
    )
    yield row(interface.add_address, address="address")
    yield row(interface.remove_address, address="address")
    yield row(interface.wait_up, timeout="number")
    yield row(interface.wait_addresses, timeout="number")
    yield row(lambda mtu: setattr(interface, "mtu", mtu), mtu="integer")
    yield row(Impairment, **percent)
    # routes
    yield row(red.default_route, via="address")
    yield row(red.add_route, {"dst": "10.9.0.0/24", "via": way}, dst="network", via="address or None",
              interface="interface", kind="choice", metric="integer")  # fmt: skip
    yield row(red.replace_route, {"dst": "10.9.0.0/24", "via": way}, dst="network", via="address or None",
              interface="interface", kind="choice", metric="integer")  # fmt: skip
    yield row(red.remove_route, {"dst": "10.9.0.0/24"}, dst="network", kind="choice", metric="integer")
    yield row(red.route_to, address="address")
    yield row(red.routes, table="integer or None")
    yield row(red.add_address, {"address": "10.1.0.98/24"}, address="address", interface="interface")
    # probes
    common = {"timeout": "number", "source": "source"}
    yield row(red.ping, {"destination": blue}, destination="destination", count="integer", interval="number",
              size="integer", ttl="integer", **common)  # fmt: skip
    yield row(red.arp, {"destination": blue}, destination="destination", **common)
    yield row(red.trace, {"destination": blue}, destination="destination", method="choice", port="port or None",
              max_hops="integer", **common)  # fmt: skip
    yield row(red.tcp, {"destination": blue, "port": 80}, destination="destination", port="port", **common)
    yield row(red.udp, {"destination": blue, "port": 53}, destination="destination", port="port", payload="bytes",
              ttl="integer or None", **common)  # fmt: skip
    yield row(red.dns, {"server": blue, "name": "www.example.com"}, server="destination", name="text", qtype="text",
              port="port", **common)  # fmt: skip
    yield row(red.path_mtu, {"destination": blue}, destination="destination", **common)
    yield row(red.capture, interface="later interface", filter="pattern")
    icmp = {"packet": IP(dst=str(blue.ip4)) / ICMP()}
    yield row(red.send, icmp, packet="packet", interface="interface")
    yield row(red.sr, icmp, packet="packet", interface="interface", timeout="number")
    yield row(red.sr1, icmp, packet="packet", interface="interface", timeout="number")
    with red.capture("lo") as capture:
        yield row(capture.expect, {"pattern": ARP, "timeout": 0.01}, pattern="pattern", timeout="number")
        yield row(capture.expect_none, {"pattern": ARP, "within": 0.01}, pattern="pattern", within="number")
        yield row(capture.save, path="path or None")
    # assertions
    for assertion, right in (
        (assert_ping, {}), (assert_no_ping, {}), (assert_arp, {}), (assert_no_arp, {}),
        (assert_tcp_open, {"port": 80}), (assert_tcp_not_open, {"port": 80}), (assert_tcp_closed, {"port": 80}),
        (assert_tcp_filtered, {"port": 80}), (assert_udp, {"port": 53}), (assert_no_udp, {"port": 53}),
        (assert_path, {"hops": [way]}), (assert_not_path, {"hops": [way]}), (assert_blocked, {"by": way}),
    ):  # fmt: skip
        kinds = {
            "node": "node",
            "destination": "destination",
            "within": "number or None",
            "timeout": "number",
            "source": "source",
        }
        if "port" in right:
            kinds["port"] = "port"
        if "hops" in right:
            kinds["hops"] = "list"
        if assertion.__name__.startswith("assert_no_") or "by" in right:
            kinds["by"] = "node" if "by" in right else "node or None"
        if assertion is assert_blocked:
            kinds |= {"port": "port or None", "protocol": "choice or None"}
        yield assertion.__name__, _node_first(assertion), {"node": red, "destination": blue, **right}, kinds
    yield row(assert_rate, {"source": red, "destination": blue, "rate": "1mbit"}, source="node", destination="node",
              rate="quantity", tolerance="quantity", seconds="number", protocol="choice", omit="number")  # fmt: skip
    yield row(assert_rtt, {"source": red, "destination": blue, "rtt": "1ms"}, source="node", destination="destination",
              rtt="quantity", tolerance="quantity", count="integer", interval="number", timeout="number")  # fmt: skip
    yield row(assert_loss, {"source": red, "destination": blue, "loss": "1%"}, source="node", destination="node",
              loss="quantity", count="integer", confidence="number", per_second="number", size="integer")  # fmt: skip
    yield row(eventually, {"check": lambda: True}, check="function", within="number", every="number")
    # commands
    yield row(red.run, {"argv": ["true"]}, argv="argv", timeout="number or None", input="text or None",
              env="environment", cwd="path or None")  # fmt: skip
    yield row(red.spawn, {"argv": ["sleep", "60"]}, argv="argv", ready="readiness", timeout="number", env="environment",
              cwd="path or None")  # fmt: skip
    yield row(inside, func="function")
    yield row(red.publish, name="text")
    yield row(red.nft, ruleset="text")
    yield row(red.socket, family="integer", type="integer", proto="integer")
    yield row(lambda name: red.sysctl[name], name="text")  # type: ignore[index]
    yield row(lambda value: red.sysctl.__setitem__("net.ipv4.ip_forward", value), value="setting")
    yield row(lambda name: red.interfaces[name], name="key")  # type: ignore[index]
    yield row(ready.listening, {"port": 80}, port="port", protocol="choice")
    yield row(ready.output, pattern="text")
    yield row(ready.path, name="pattern")
    # faults, NAT, connections
    yield row(red.block, src="network or None", dst="network or None", protocol="protocol", port="port or None")
    yield row(way.masquerade, out="node")
    yield row(way.forward_port, {"port": 80, "to": blue}, port="port", to="address", to_port="port or None",
              protocol="choice", on="interface")  # fmt: skip
    yield row(way.connections.filter, source="address or None", destination="address or None",
              protocol="text", port="port")  # fmt: skip
    yield row(way.connections.flush, source="address or None", destination="address or None",
              protocol="text", port="port")  # fmt: skip
    # devices
    device = {"name": "text", "address": "addresses", "mtu": "integer or None"}
    mac = device | {"mac": "mac"}
    under = {"link": "interface"}
    far = {"remote": "destination", "local": "source", "ttl": "integer or None"}
    new = {"name": NEW}
    yield row(red.add_dummy, new, **mac)
    yield row(red.add_ifb, new, **device)
    yield row(red.add_tap, new, **mac)
    yield row(red.add_tun, new, **device)
    yield row(red.add_vlan, {**new, "vid": 10}, vid="integer", protocol="choice", **mac, **under)
    yield row(red.add_macvlan, new, mode="choice", **mac, **under)
    yield row(red.add_macvtap, new, mode="choice", **mac, **under)
    yield row(red.add_ipvlan, new, mode="choice", **device, **under)
    yield row(red.add_bond, new, mode="choice", miimon="number", **mac)
    yield row(red.add_vrf, {**new, "table": 10}, table="integer", **device)
    yield row(red.add_bridge, new, **mac)
    yield row(lambda member: red.add_bridge(NEW(), member), member="node")
    yield row(red.add_vxlan, {**new, "vni": 42, "remote": blue}, vni="integer", port="port", **mac, **under,
              **far | {"remote": "source"})  # fmt: skip
    yield row(red.add_geneve, {**new, "vni": 42, "remote": blue}, vni="integer", port="port", **mac,
              remote="destination", ttl="integer or None")  # fmt: skip
    for add in (red.add_gre, red.add_gretap, red.add_ipip, red.add_sit):
        yield row(add, {**new, "remote": blue}, **device, **under, **far)
    yield row(red.add_wireguard, new, private_key="text or None", listen_port="port", **device)
    tap = red.add_tap("tap0")
    yield row(tap.send, packet="packet")
    yield row(tap.recv, {"timeout": 0.01}, timeout="number")
    yield row(tap.expect, {"pattern": ARP, "timeout": 0.01}, pattern="pattern", timeout="number")


def _node_first(assertion: Callable[..., object]) -> Callable[..., object]:
    def call(node: object, **arguments: object) -> object:
        return assertion(node, **arguments)

    return call


def raised_by_us(traceback: TracebackType | None) -> bool:
    """Whether a statement ``raise`` of the package raised it."""
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    file = traceback.tb_frame.f_code.co_filename
    return file.startswith(PACKAGE) and linecache.getline(file, traceback.tb_lineno).lstrip().startswith("raise")


def words_for(name: str, value: object) -> list[str]:
    """One of these is in a message that names a value: itself, or what is wrong within."""
    inside: list[object] = []
    if isinstance(value, list | dict):
        inside = [*value, *value.values()] if isinstance(value, dict) else value
    if name == "env":  # what is in it is nobody's business: there are passwords among it
        return [type(each).__name__ for each in (value, *inside)]
    return [repr(each)[:20] for each in (value, *inside)]


def offence(function: Callable[..., object], arguments: dict[str, object], name: str, value: object) -> str:
    """What is wrong with how it takes the value; empty if nothing is."""
    right = {key: each() if isinstance(each, New) else each for key, each in arguments.items()}
    try:
        made = function(**right | {name: value})
    except UnsupportedError:
        return ""
    except (TopologyError, TypeError, ValueError, KeyError) as error:
        if not raised_by_us(error.__traceback__):
            return f"raises by accident {error!r}"
        if any(word in str(error) for word in words_for(name, value)):
            return ""
        return f"does not name it: {error!r}"
    except Exception as error:
        return f"raises {type(error).__name__}: {str(error)[:150]}"
    if isinstance(made, Lab | Namespace) and not isinstance(made, Node):
        made.close()
    elif isinstance(made, Process):
        made.kill()
    return "accepts it"


def test_wrong_types_are_refused_by_name(lab: Lab) -> None:
    offences = [
        f"{function}({name}={value!r}) {found}"
        for function, call, right, kinds in rows(lab)
        for name, kind in kinds.items()
        if kind
        for value in WRONG[kind]
        if (found := offence(call, right, name, value))
    ]
    assert not offences, f"{len(offences)}:\n" + "\n".join(offences)

"""How long does it take to say why? ``python -m benchmarks.explaining [--rounds N] [--nodes N ...]``.

Labs are chains of routers, each with a bridge and hosts upon it; the first host asks the last one. A fault is planted,
asked about, and explained some times. Beside the clock stands the processor time of this process, which other load on
the machine does not change much.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from pytest_netns import Host, Lab, Router, why
from pytest_netns.lab.nodes import Node


def build(lab: Lab, nodes: int) -> tuple[Host, Host, Router]:
    """The first host, the last one, and the router beside that."""
    routers = max(2, nodes // 10)
    chain = [lab.router(f"r{n}") for n in range(routers)]
    for one, other in pairwise(chain):
        lab.connect(one, other)
    hosts: list[Host] = []
    for n, router in enumerate(chain):
        bridge = lab.bridge(f"lan{n}")
        bridge.attach(router)
        share = (nodes - 2 * routers) // routers
        hosts += [bridge.host(f"h{n}x{m}") for m in range(share)]
    lab.autoroute()
    return hosts[0], hosts[-1], chain[-1]


def drop(router: Node) -> None:
    """A rule of nftables."""
    router.nft("table inet f { chain c { type filter hook forward priority 0; meta l4proto { icmp, tcp } drop; }; }")


def forwarding_off(router: Node) -> None:
    """A sysctl."""
    router.sysctl["net.ipv4.ip_forward"] = 0


def nothing(router: Node) -> None:
    """Rules everywhere that drop nothing, and a target that does not answer."""
    for node in router.lab:
        node.nft("table inet f { chain c { type filter hook forward priority 0; tcp dport 9999 drop; }; }")


def measured(nodes: int, plant: Callable[[Node], None], rounds: int) -> tuple[float, float, str]:
    """Median seconds on the clock and of the processor, and what was found."""
    with Lab(neighbours="known") as lab:
        first, last, router = build(lab, nodes)
        plant(router)
        if plant is nothing:
            last.sysctl["net.ipv4.icmp_echo_ignore_all"] = 1
        clock, processor = [], []
        cause = ""
        for _ in range(rounds):
            result = first.ping(last, timeout=0.05)
            begun, used = time.perf_counter(), time.process_time()
            cause = str(why(result).cause)
            clock.append(time.perf_counter() - begun)
            processor.append(time.process_time() - used)
    return median(clock), median(processor), cause


def main() -> None:
    """Print a line for each fault and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--nodes", type=int, nargs="*", default=[10, 100])
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, median of {asked.rounds}")
    for nodes in asked.nodes:
        for plant in (drop, forwarding_off, nothing):
            clock, processor, cause = measured(nodes, plant, asked.rounds)
            print(
                f"{nodes:4} nodes  {plant.__name__:15} {clock * 1e3:6.0f} ms  (cpu {processor * 1e3:4.0f} ms)  {cause}"
            )


if __name__ == "__main__":
    main()

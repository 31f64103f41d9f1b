"""What impairing costs, and what each engine adds and carries, beside a bare veth."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from statistics import median

from pytest_netns import Host, Lab
from pytest_netns.impair.impairment import Engine
from pytest_netns.kernel.features.features import feature

SECONDS = 3
_PINGS = 500

_SERVER = """
import socket
server = socket.create_server(("", 5001))
while True:
    client, _ = server.accept()
    taken = 0
    while data := client.recv(1 << 18):
        taken += len(data)
    client.send(b"%d" % taken)
    client.close()
"""
_CLIENT = """
import socket, sys, time
client = socket.create_connection((sys.argv[1], 5001))
begin = time.perf_counter()
block = bytes(1 << 17)
while time.perf_counter() - begin < float(sys.argv[2]):
    client.sendall(block)
client.shutdown(socket.SHUT_WR)
print(int(client.recv(100)) * 8 / (time.perf_counter() - begin))
"""


def engines() -> list[Engine]:
    """Those that work here."""
    return ["relay", "netem"] if feature("netem").present else ["relay"]


def engines_for_a_rate() -> list[Engine]:
    """Those and one more."""
    return [*engines(), "tbf"] if feature("tbf").present else engines()


def settings(engine: Engine) -> Iterator[str]:
    """Both directions of a link each time."""
    with Lab(impairments=engine) as lab:
        left, right = lab.host("left"), lab.host("right")
        link, other = lab.connect(left, right), lab.connect(left, right)
        yield "set-up"
        link.impair(delay="10ms")
        yield "first"
        other.impair(delay="10ms")
        yield "next"
        link.impair(loss="1%")
        yield "change"
        link.heal()
        yield "heal"


def _bulk(source: Host, target: Host) -> float:
    return float(source.run([sys.executable, "-c", _CLIENT, str(target.ip4), str(SECONDS)]).stdout)


def figures() -> list[str]:
    """Sentences: the added latency, and what TCP carries."""
    lines = []
    with Lab() as lab:
        left, right = lab.host("left"), lab.host("right")
        link = lab.connect(left, right)
        right.spawn([sys.executable, "-c", _SERVER], ready=5001)
        left.ping(right)
        bare = median(left.ping(right, count=_PINGS).rtts)
        lines.append(f"impair: bare veth: ping {bare * 1e3:.3f} ms, TCP {_bulk(left, right) / 1e6:.0f} Mbit/s")
        for engine in engines():
            link.impair(duplicate=0, engine=engine)
            added = median(left.ping(right, count=_PINGS).rtts) - bare
            link.impair(delay="20ms", engine=engine)
            trip = median(left.ping(right, count=_PINGS // 10).rtts)
            link.impair(delay="10ms", engine=engine)
            whole = _bulk(left, right)
            link.impair(delay="10ms", loss=1e-9, engine=engine)
            single = _bulk(left, right)
            lines.append(
                f"impair: {engine}: adds {added * 1e3:.3f} ms to a ping; 20 ms one way give a round trip of "
                f"{trip * 1e3:.2f} ms; TCP at 10 ms {whole / 1e6:.0f} Mbit/s, frame by frame {single / 1e6:.0f} Mbit/s"
            )
        for engine in engines_for_a_rate():
            link.impair(rate="1gbit", engine=engine)
            lines.append(f"impair: {engine}: of a rate of 1 Gbit/s TCP carries {_bulk(left, right) / 1e6:.0f} Mbit/s")
    return lines

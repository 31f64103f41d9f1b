"""munet and mininet, in a process of their own each: they change the process they are used in.

``python -m benchmarks.rivals NAME`` reads words from standard input, does what each names and answers with its laps as
JSON. It is started in network, mount and process namespaces of its own: munet runs commands in those of process 1.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from benchmarks.stopwatch import Contender, Laps, laps

# ---------------------------------------------------------------- our side


class Worker:
    """A rival's process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close())
        self._process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
            + [sys.executable, "-m", "benchmarks.rivals", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=Path(__file__).parents[1],
        )

    def __call__(self, word: str) -> Laps:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(word, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"{self.name} failed: {said[-1] if said else 'it said nothing'}")
        taken: Laps = json.loads(answer)
        return taken

    def contender(self, word: str) -> Contender:
        return lambda: self(word)

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.close()


def start(name: str) -> Worker | str:
    """The rival, warmed up, or why there is none."""
    if find_spec(name) is None:
        return f"{name}: not installed (pip install {name})"
    if name == "mininet" and not shutil.which("mnexec"):
        return "mininet: its helper mnexec is not on PATH (pip does not build it; apt-get install mininet)"
    worker = Worker(name)
    try:
        worker("pair")
    except RuntimeError as error:
        worker.close()
        return f"{name}: {error}"
    return worker


# -------------------------------------------------------------- their side


def _munet_pair(scratch: str) -> Iterator[str]:
    from munet.base import BaseMunet

    net = BaseMunet("bench", rundir=scratch)
    left, right = net.add_host("left"), net.add_host("right")
    for host in (left, right):
        host.cmd_raises("ip link set lo up")
    net.add_link(left, right, "eth0", "eth0")
    for number, host in enumerate((left, right), 1):
        host.cmd_raises(f"ip address add 10.0.0.{number}/24 dev eth0")
        host.cmd_raises(f"ip address add fd00::{number}/64 dev eth0 nodad")
    yield "set-up"
    net.delete()
    yield "tear-down"


def _munet_bridge(scratch: str) -> Iterator[str]:
    from munet.base import BaseMunet

    net = BaseMunet("bench", rundir=scratch)
    switch = net.add_switch("br0")
    for number in range(1, 11):
        host = net.add_host(f"h{number}")
        net.add_link(switch, host, f"port{number}", "eth0")
        host.cmd_raises("ip link set lo up")
        host.cmd_raises(f"ip address add 10.0.0.{number}/24 dev eth0")
        host.cmd_raises(f"ip address add fd00::{number:x}/64 dev eth0 nodad")
    yield "set-up"
    net.delete()
    yield "tear-down"


def _mininet_pair(_: str) -> Iterator[str]:
    from mininet.net import Mininet

    Mininet.inited = True  # else it raises limits of the whole machine, such as fs.file-max
    net = Mininet(controller=None)
    left, right = net.addHost("left", ip="10.0.0.1/24"), net.addHost("right", ip="10.0.0.2/24")
    net.addLink(left, right)
    net.build()
    for number, host in enumerate((left, right), 1):
        host.cmd(f"ip address add fd00::{number}/64 dev {host.defaultIntf()} nodad")
    yield "set-up"
    net.stop()
    yield "tear-down"


_DOES: dict[str, dict[str, Callable[[str], Iterator[str]]]] = {
    "munet": {"pair": _munet_pair, "bridge": _munet_bridge},
    "mininet": {"pair": _mininet_pair},  # its bridge needs brctl, its switches a controller or Open vSwitch
}


def does(name: str, word: str) -> bool:
    """Whether a rival can be asked for this."""
    return word in _DOES[name]


def main(name: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what they print is not an answer
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir = scratch
        for line in sys.stdin:
            print(json.dumps(laps(_DOES[name][line.strip()](scratch))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

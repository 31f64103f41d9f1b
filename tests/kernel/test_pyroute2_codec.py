"""Messages of pyroute2 on sockets of ours, in surroundings in which sockets of its own do not work."""

from __future__ import annotations

import subprocess
import sys

from slowness import patient

# In a process of its own: pyroute2 is not imported there yet.
_SCRIPT = """
import asyncio, os, socket, sys, threading
from pytest_netns import Lab
from pytest_netns.explain.look.ip_rules import rules

class Refused(socket.socket):
    def __new__(cls, *args, **kwargs):
        raise RuntimeError("no sockets in this test")

def state():
    return sorted(os.listdir("/proc/self/fd")), threading.enumerate()

async def ask():
    socket.socket, standard = Refused, socket.socket
    try:
        return [rule.table for rule in rules(red, 4)]
    finally:
        assert socket.socket is Refused
        socket.socket = standard

with Lab() as lab:
    red, blue = lab.host("red"), lab.host("blue")
    assert "pyroute2" not in sys.modules
    before = state()
    assert asyncio.run(ask()) == [255, 254, 253]
    assert "pyroute2" in sys.modules
    answers = []
    with blue:
        thread = threading.Thread(target=lambda: answers.append(len(rules(red, 6))))
        thread.start()
        thread.join()
    assert answers == [2], answers
    assert state() == before
    if not (pid := os.fork()):
        os._exit(0 if len(rules(red, 4)) == 3 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert state() == before
print("done")
"""


def test_it_is_asked_in_a_running_loop_a_thread_and_a_child_and_leaves_nothing() -> None:
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c", _SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patient(60), check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")

"""Sessions of pytest that start at once: a process that has imported pytest, scapy and us forks for each of them.

Importing is most of what a short session costs. Each is a process of its own all the same, with the environment, the
folder, the output and the exit of ``python -m pytest``. All that differs is what it has imported before it starts, so a
test of just that wants an interpreter of its own.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self


class Hangs(Exception):
    """A session did not end in time. It was killed."""


class PytestServer:
    """The process that forks. As a context manager it ends with its block; sessions under way do not.

    Args:
        words: in front of the interpreter: who it is run by.
        home: a folder that this user can write. Bytecode is kept there: without, pytest rewrites our modules each time.
    """

    def __init__(self, words: Sequence[str], home: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Nothing of what this suite was started with: its sessions would take it for theirs.
            environment = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
            self._process = subprocess.Popen(
                # as text: another user may not be allowed to read this file
                [*words, sys.executable, "-c", Path(__file__).read_text(), str(theirs.fileno())],
                env={**environment, "HOME": home, "TMPDIR": home, "PYTHONPYCACHEPREFIX": f"{home}/bytecode"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def run(
        self, arguments: Sequence[str], folder: str, environment: Mapping[str, str], output: BinaryIO, patience: float
    ) -> int:
        """``python -m pytest ARGUMENTS`` in a folder; its exit status, or minus the signal that ended it.

        Raises:
            Hangs: after as many seconds as ``patience`` says.
        """
        deadline = time.monotonic() + patience
        request = {"arguments": list(arguments), "folder": folder, "environment": dict(environment)}
        socket.send_fds(self._socket, [json.dumps(request).encode()], [output.fileno()])
        pid = self._answer(deadline)
        try:
            status = self._answer(deadline)
        except Hangs:
            os.killpg(pid, signal.SIGKILL)
            self._answer(time.monotonic() + patience)
            raise
        return os.waitstatus_to_exitcode(status)

    def _answer(self, deadline: float) -> int:
        if not select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise Hangs
        text = self._socket.recv(64)
        if not text:
            raise RuntimeError(f"the server of pytest ended, with status {self._process.wait()}")
        return int(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.wait()


# ------------------------------------------------------------------ the server's own process


def _import() -> None:
    """What sessions import, but nothing of the plugin itself: pytest rewrites that, and would warn."""
    from _pytest.config import default_plugins

    for name in default_plugins:
        importlib.import_module(f"_pytest.{name}")
    for name in ("inet", "inet6", "l2"):
        importlib.import_module(f"scapy.layers.{name}")
    import pytest_netns

    for module in pkgutil.walk_packages(pytest_netns.__path__, "pytest_netns."):
        if not module.name.startswith(("pytest_netns.plugin", "pytest_netns.cli", "pytest_netns.__main__")):
            importlib.import_module(module.name)


def _become(request: dict[str, Any], output: int) -> None:
    """Be as a new interpreter is that was told ``-m pytest``."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    sys.argv = ["pytest", *request["arguments"]]
    sys.path[0] = request["folder"]
    random.seed()
    tempfile.tempdir = None  # that of the environment


def _serve(requests: socket.socket) -> bool:
    """Fork for each request: True in the child. False in the server, when nobody is left to ask."""
    while True:
        data, outputs, _, _ = socket.recv_fds(requests, 1 << 20, 1)
        if not data:
            return False
        pid = os.fork()
        if pid == 0:
            requests.close()
            _become(json.loads(data), outputs[0])
            return True
        os.close(outputs[0])
        requests.send(b"%d" % pid)
        requests.send(b"%d" % os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    _import()
    gc.freeze()
    if _serve(socket.socket(fileno=int(sys.argv[1]))):
        import pytest

        sys.exit(pytest.main())

"""Inner pytest sessions: each in a process and a folder of its own, run by a chosen user, watched from outside."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import pytest
from pytest_server import Hangs, PytestServer
from slowness import patient

#: ``root``: all privileges (in a user namespace, if this suite has none itself); ``ordinary``: none at all (user
#: nobody, or root without capabilities if the interpreter is root's alone).
User = Literal["root", "ordinary"]

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
WITHOUT_CAPABILITIES = ("setpriv", "--inh-caps=-all", "--ambient-caps=-all")
#: As in a container. Without CAP_SETFCAP its user ID could not be mapped (user_namespaces(7)).
AS_POWERLESS_ROOT = (*WITHOUT_CAPABILITIES, "--bounding-set=-all,+setfcap")
AS_ROOT_OF_A_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--mount")

#: A shell without job control starts what is in the background with SIGINT ignored, and children inherit that.
HEARS_CTRL_C = ("env", "--default-signal=INT")

#: An inner session that takes longer hangs.
PATIENCE = patient(60.0)


def as_user(user: User) -> tuple[str, ...]:
    """The words in front of a command that make it run as that user."""
    if os.geteuid() != 0:
        return AS_ROOT_OF_A_USER_NAMESPACE if user == "root" else WITHOUT_CAPABILITIES
    if user == "root":
        return ()
    return AS_POWERLESS_ROOT if why_nobody_cannot_run() else AS_NOBODY


@dataclass(frozen=True)
class Process:
    """A process for all time: its ID alone may be given to another one."""

    pid: int
    born: int
    command: str = field(compare=False)

    @property
    def alive(self) -> bool:
        """Whether it is there."""
        found = _stat(self.pid)
        return found is not None and found.born == self.born and not found.dead


@dataclass(frozen=True)
class _Stat:
    command: str
    state: str
    parent: int
    flags: int
    born: int
    size: int

    @property
    def dead(self) -> bool:
        """It holds nothing any more and waits to be reaped, which is up to process 1 once its parent is dead.

        That is a zombie, or process 1 of a PID namespace (PF_EXITING) which waits until its zombies are reaped.
        """
        return self.state in "ZX" or bool(self.flags & 0x4 and self.size == 0)


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    rest = text[text.rindex(")") + 2 :].split()  # the command may hold spaces and parentheses; see proc_pid_stat(5)
    parent, flags, born, size = (int(rest[position]) for position in (1, 6, 19, 20))
    return _Stat(text[text.index("(") + 1 : text.rindex(")")], rest[0], parent, flags, born, size)


def processes_of(root: int, token: str) -> set[Process]:
    """All live processes that descend from ``root`` or carry the token in their environment."""
    stats = {int(name): stat for name in os.listdir("/proc") if name.isdigit() and (stat := _stat(int(name)))}
    found = set()
    for pid, stat in stats.items():
        ancestor = pid
        while ancestor in stats and ancestor != root:
            ancestor = stats[ancestor].parent
        try:
            marked = token.encode() in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # of another user, or just gone
            marked = False
        if (ancestor == root or marked) and not stat.dead:
            found.add(Process(pid, stat.born, stat.command))
    return found


def await_none(find: Callable[[], object], seconds: float = patient(20.0)) -> object:
    """What is still found at the deadline; empty as soon as nothing is found."""
    deadline = time.monotonic() + seconds
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return found


class Running:
    """An inner session that is under way. As a context manager it is killed at the end, with all that it started."""

    def __init__(self, project: Project, command: Sequence[str], env: dict[str, str]) -> None:
        self.token = env["NETNS_TEST_TOKEN"]
        self._output = (project.folder / f"output-{self.token}").open("wb")
        report, go_on = (project.folder / f"{name}-{self.token}" for name in ("report", "go-on"))
        for pipe in (report, go_on):
            os.mkfifo(pipe)
            pipe.chmod(0o666)
        self._report = os.open(report, os.O_RDWR | os.O_CLOEXEC)  # held open both ways: no end-of-file, no waiting
        self._go_on = os.open(go_on, os.O_RDWR | os.O_CLOEXEC)
        self.popen = subprocess.Popen(
            command,
            cwd=project.folder,
            env={**env, "NETNS_TEST_REPORT": str(report), "NETNS_TEST_GO_ON": str(go_on)},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._end = os.pidfd_open(self.popen.pid)
        self._seen: set[Process] = set()

    @property
    def output(self) -> str:
        """All it has written so far."""
        return Path(self._output.name).read_text()

    def report(self) -> dict[str, object]:
        """The next thing it says by ``tell_outside(...)``; fails if it ends before."""
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._report, self._end], [], [], PATIENCE)
            if self._report not in ready:
                pytest.fail(f"the inner session {'ended' if ready else 'hangs'} and has not reported:\n{self.output}")
            line += os.read(self._report, 1)
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def go_on(self) -> None:
        """Let it leave ``wait_for_outside()``."""
        os.write(self._go_on, b"\n")

    def processes(self) -> set[Process]:
        """All its live processes, those seen before included."""
        self._seen = processes_of(self.popen.pid, self.token) | self._seen  # commands as they are now
        return {process for process in self._seen if process.alive}

    def wait(self) -> int:
        """Its exit status."""
        return self.popen.wait(PATIENCE)

    def result(self) -> pytest.RunResult:
        """Wait for its end; what it wrote, for matching."""
        started = time.monotonic()
        status = self.wait()
        return pytest.RunResult(status, self.output.splitlines(), [], time.monotonic() - started)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self.processes() if self.popen.returncode is None or error else self._seen:
            if process.alive:
                os.kill(process.pid, signal.SIGKILL)
        self.popen.wait()
        self._output.close()
        for fd in (self._report, self._go_on, self._end):
            os.close(fd)


class Project:
    """A folder with tests in it that every user can read and write, and inner sessions of them."""

    def __init__(
        self, folder: Path, home_of: Callable[[User], str], server_for: Callable[[User], PytestServer]
    ) -> None:
        self.folder = folder
        self._home_of = home_of
        self._server_for = server_for
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        for each in (folder, self.temporary):
            each.chmod(0o777)
        self.ini()
        self.write("outside.py", OUTSIDE)

    def write(self, name: str, text: str) -> Path:
        """Write a file; the text may be indented."""
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        path.chmod(0o644)
        return path

    def ini(self, *lines: str) -> None:
        """Write its pytest.ini: warnings are errors."""
        self.write("pytest.ini", "\n".join(["[pytest]", "filterwarnings = error", *lines]))

    def command(
        self,
        *arguments: str,
        user: User = "root",
        through: Sequence[str] = (),
        env: dict[str, str] | None = None,
        python: Sequence[str] = (sys.executable,),
        autoload: bool = False,
    ) -> tuple[list[str], dict[str, str]]:
        """The words and the environment of ``pytest ARGUMENTS``; see ``start``."""
        # Not what this suite was started with: an inner session must not take it for its own options.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
        environment |= {
            "HOME": str(self.folder),
            "TMPDIR": str(self.temporary),
            "NETNS_TEST_TOKEN": uuid.uuid4().hex,
            "PY_COLORS": "0",
            "PYTHONPYCACHEPREFIX": f"{self._home_of(user)}/bytecode",
        }
        if not autoload:
            environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            if not {"netns", "no:netns"} & set(arguments):
                environment["PYTEST_PLUGINS"] = "pytest_netns.plugin.hooks"
        cache = [] if any(word.startswith("cache_dir=") for word in arguments) else ["-p", "no:cacheprovider"]
        pytest_ = [*python, "-m", "pytest", *cache, "--rootdir", str(self.folder), *arguments]
        return [*HEARS_CTRL_C, *as_user(user), *through, *pytest_], environment | (env or {})

    def start(
        self,
        *arguments: str,
        user: User = "root",
        through: Sequence[str] = (),
        env: dict[str, str] | None = None,
        python: Sequence[str] = (sys.executable,),
        autoload: bool = False,
    ) -> Running:
        """Start ``pytest ARGUMENTS``.

        The plugin is loaded without the run having named it, as if installed; other plugins are not, unless named.

        Args:
            arguments: of pytest.
            user: who runs it.
            through: words in front of the interpreter, e.g. of ``unshare``.
            env: further variables.
            python: the interpreter.
            autoload: load the plugins that are installed, all of them.
        """
        command, environment = self.command(
            *arguments, user=user, through=through, env=env, python=python, autoload=autoload
        )
        return Running(self, command, environment)

    def run(
        self,
        *arguments: str,
        user: User = "root",
        through: Sequence[str] = (),
        env: dict[str, str] | None = None,
        python: Sequence[str] = (sys.executable,),
        autoload: bool = False,
        fresh: bool = False,
    ) -> pytest.RunResult:
        """Run ``pytest ARGUMENTS`` to its end; see ``start``.

        Args:
            fresh: in an interpreter that has not imported anything before; else it may be a fork of one that has
                imported pytest, scapy and all of ours but the plugin, which saves most of a short session's time.
        """
        asked = {"user": user, "env": env, "autoload": autoload}
        plain = not through and tuple(python) == (sys.executable,) and not any(map(_is_pythons, env or {}))
        if fresh or not plain:
            with self.start(*arguments, through=through, python=python, **asked) as running:
                return running.result()
        command, environment = self.command(*arguments, **asked)
        started = time.monotonic()
        path = self.folder / f"output-{environment['NETNS_TEST_TOKEN']}"
        with path.open("wb") as output:
            words = command[command.index("pytest") + 1 :]
            try:
                status = self._server_for(user).run(words, str(self.folder), environment, output, PATIENCE)
            except Hangs:
                pytest.fail(f"the inner session hangs:\n{path.read_text()}")
        return pytest.RunResult(status, path.read_text().splitlines(), [], time.monotonic() - started)


def _is_pythons(variable: str) -> bool:
    """Whether the interpreter itself looks at it, when it starts."""
    return variable.startswith("PYTHON")


#: What inner tests import to talk to the test that watches them.
OUTSIDE = """
import json, os

def tell_outside(**what):
    with open(os.environ["NETNS_TEST_REPORT"], "wb", 0) as pipe:
        pipe.write(json.dumps(what).encode() + b"\\n")

def wait_for_outside():
    with open(os.environ["NETNS_TEST_GO_ON"], "rb", 0) as pipe:
        pipe.read(1)
"""


@cache
def why_nobody_cannot_run() -> str:
    """Why another user than root cannot even start this interpreter with this package; empty if it can."""
    command = [*AS_NOBODY, sys.executable, "-c", "import pytest, pytest_netns.plugin.hooks"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    if done.returncode == 0:
        return ""
    return f"another user cannot run {sys.executable}: {(done.stderr.strip().splitlines() or ['?'])[-1]}"


def skip_unless_nobody_can_run() -> None:
    """For tests in which the ordinary user must not be root without capabilities."""
    if os.geteuid() == 0 and why_nobody_cannot_run():
        pytest.skip(why_nobody_cannot_run())

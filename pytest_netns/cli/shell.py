"""``pytest-netns shell``: a shell, or a command, in a node of a session that is running or paused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from pytest_netns.errors import CommandError, PrivilegeError, TopologyError
from pytest_netns.kernel.netns.join import is_another_users, join
from pytest_netns.kernel.netns.registry import Entry, nodes_of, with_descendants
from pytest_netns.kernel.search_path import search_path
from pytest_netns.process import terminal
from pytest_netns.process.environment import Environment


def nodes(pid: int) -> list[Entry]:
    """The nodes of a process and of its descendants, such as the workers of pytest-xdist.

    Raises:
        TopologyError: no such process, or none of these processes has a node.
        PrivilegeError: no permission to inspect the process.
    """
    found = nodes_of(pid)
    for other in with_descendants(pid)[1:]:
        try:
            found += nodes_of(other)
        except (TopologyError, PrivilegeError):
            continue  # it has just exited, or has more privileges than this process
    if not found:
        raise TopologyError(f"process {pid} holds no node now; a lab is there while its test runs, or is kept waiting")
    return found


def listing(entries: Sequence[Entry]) -> str:
    """A line for each node: its process, inode and name."""
    rows = [("PID", "INODE", "NODE"), *((str(e.pid), str(e.inode), str(e)) for e in entries)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{pid:>{widths[0]}}  {inode:>{widths[1]}}  {name}" for pid, inode, name in rows)


def choose(entries: Sequence[Entry], name: str) -> Entry:
    """The node that NODE, LAB/NODE or an inode names. Raises TopologyError, which lists the existing nodes."""
    found = [entry for entry in entries if name in (entry.node, str(entry), str(entry.inode))]
    if len(found) == 1:
        return found[0]
    problem = "there is no node" if not found else "several are called"
    advice = "" if not found else "; say LAB/NODE, the PID that holds it, or its inode"
    raise TopologyError(f"{problem} {name!r}{advice}:\n{listing(found or entries)}")


def enter(entry: Entry, command: Sequence[str]) -> int:
    """Execute a shell, or the command, in a node.

    Replaces this process; returns only if a child process was needed, with its exit status.

    Raises:
        PrivilegeError: the node belongs to another user, and this process cannot switch to that user.
        TopologyError: the node is gone.
        CommandError: there is no such program.
    """
    env = Environment(os.environ)
    if is_another_users(entry):
        if sys.stdin.isatty() and _OWN_TERMINAL not in env:
            return _in_own_terminal(entry, command)
        env = _without_ours(env)
    argv = list(command)
    if not argv:
        argv, settings = terminal.shell(str(entry), env)
        env = Environment(settings)
    lock = os.memfd_create("xtables.lock", 0)  # inherited by child processes
    # Without it, iptables would wait for the host's lock, or fail to open it.
    env.setdefault("XTABLES_LOCKFILE", f"/proc/self/fd/{lock}")
    _close_on_exec(besides=lock)
    child_needed = join(entry)
    sys.stdout.flush()
    try:
        if not child_needed:
            os.execvpe(argv[0], argv, env)
        child = subprocess.Popen(argv, env=env, process_group=terminal.process_group(), pass_fds=[lock])
    except OSError as error:
        raise CommandError(f"cannot run {argv[0]!r} in {entry}: {error.strerror}", argv) from None
    status = terminal.attend(child)
    return status if status >= 0 else 128 - status


#: Set if the command has a pseudo-terminal of its own.
_OWN_TERMINAL = "PYTEST_NETNS_OWN_TERMINAL"
#: The environment variables that describe the terminal and not its user.
_HARMLESS = re.compile(r"TERM|COLORTERM|LANG|LANGUAGE|LC_[A-Z]+")


def _without_ours(env: Mapping[str, str]) -> Environment:
    """The environment for programs of another user, who can read it: root's own variables are left out."""
    return Environment({k: v for k, v in env.items() if _HARMLESS.fullmatch(k)}, PATH=search_path({}), HOME="/")


def _close_on_exec(besides: int) -> None:
    """Mark inherited descriptors close-on-exec, apart from the standard streams."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and int(name) != besides:
                os.set_inheritable(int(name), False)
        except OSError:
            continue  # it was the descriptor of the listing itself


def _in_own_terminal(entry: Entry, command: Sequence[str]) -> int:
    """Run the command again, in a pseudo-terminal of its own.

    On our own terminal, programs of another user could inject input (TIOCSTI, ioctl_tty(2)), and keep reading what is
    typed after the shell has exited.
    """
    import fcntl
    import pty
    import termios

    def read(master: int) -> bytes:
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))  # may have changed
        return os.read(master, 1 << 14)

    os.environ[_OWN_TERMINAL] = "1"
    words = [sys.executable, "-m", "pytest_netns", "shell", str(entry.pid), str(entry.inode)]
    return os.waitstatus_to_exitcode(pty.spawn([*words, *(["--", *command] if command else [])], read))

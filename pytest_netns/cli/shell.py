"""``pytest-netns shell``: a shell, or a command, in a node of a session that is running or waits."""

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
    """The nodes of a process and of those that it started, such as the workers of pytest-xdist.

    Raises:
        TopologyError: no such process, or none of these holds a node.
        PrivilegeError: the process may not be looked at.
    """
    found = nodes_of(pid)
    for other in with_descendants(pid)[1:]:
        try:
            found += nodes_of(other)
        except (TopologyError, PrivilegeError):
            continue  # it has just ended, or runs with more privilege than we have
    if not found:
        raise TopologyError(f"process {pid} holds no node now; a lab is there while its test runs, or is kept waiting")
    return found


def listing(entries: Sequence[Entry]) -> str:
    """A line for each: its process, inode and name."""
    rows = [("PID", "INODE", "NODE"), *((str(e.pid), str(e.inode), str(e)) for e in entries)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{pid:>{widths[0]}}  {inode:>{widths[1]}}  {name}" for pid, inode, name in rows)


def choose(entries: Sequence[Entry], name: str) -> Entry:
    """The node that is meant by NODE, LAB/NODE or an inode. Raises TopologyError, which lists those that there are."""
    found = [entry for entry in entries if name in (entry.node, str(entry), str(entry.inode))]
    if len(found) == 1:
        return found[0]
    problem = "there is no node" if not found else "several are called"
    advice = "" if not found else "; say LAB/NODE, the PID that holds it, or its inode"
    raise TopologyError(f"{problem} {name!r}{advice}:\n{listing(found or entries)}")


def enter(entry: Entry, command: Sequence[str]) -> int:
    """Become a shell, or the command, inside; returns only where a child had to be started, with its exit status.

    Raises:
        PrivilegeError: the node is another user's, whom this process cannot become.
        TopologyError: it has gone.
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
    lock = os.memfd_create("xtables.lock", 0)  # inherited by all
    # Else iptables would wait for the host's, or may not open it.
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


#: Set where a terminal was made for the command.
_OWN_TERMINAL = "PYTEST_NETNS_OWN_TERMINAL"
#: What of the environment concerns the terminal and not its user.
_HARMLESS = re.compile(r"TERM|COLORTERM|LANG|LANGUAGE|LC_[A-Z]+")


def _without_ours(env: Mapping[str, str]) -> Environment:
    """The environment for programs of another user, who may read it: what root has in its own is not for them."""
    return Environment({k: v for k, v in env.items() if _HARMLESS.fullmatch(k)}, PATH=search_path({}), HOME="/")


def _close_on_exec(besides: int) -> None:
    """Whatever was open when we were started is not passed on, apart from the standard streams."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and int(name) != besides:
                os.set_inheritable(int(name), False)
        except OSError:
            continue  # it was that of the directory


def _in_own_terminal(entry: Entry, command: Sequence[str]) -> int:
    """Do it all again in a terminal made for it.

    Programs of another user that had ours could put words into our mouth (ioctl_tty(2), TIOCSTI), and go on reading
    what we type when the shell has ended.
    """
    import fcntl
    import pty
    import termios

    def read(master: int) -> bytes:
        fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))  # it may have changed
        return os.read(master, 1 << 14)

    os.environ[_OWN_TERMINAL] = "1"
    words = [sys.executable, "-m", "pytest_netns", "shell", str(entry.pid), str(entry.inode)]
    return os.waitstatus_to_exitcode(pty.spawn([*words, *(["--", *command] if command else [])], read))

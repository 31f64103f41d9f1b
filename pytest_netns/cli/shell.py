"""``pytest-netns shell``: a shell, or a command, in a node of a session that is running or waits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from pytest_netns.errors import CommandError, PrivilegeError, TopologyError
from pytest_netns.kernel.netns.join import join
from pytest_netns.kernel.netns.registry import Entry, nodes_of, with_descendants
from pytest_netns.process import terminal


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
        PrivilegeError: the node is another user's.
        TopologyError: it has gone.
        CommandError: there is no such program.
    """
    argv, env = list(command), dict(os.environ)
    if not argv:
        argv, env = terminal.shell(str(entry), env)
    if "XTABLES_LOCKFILE" not in env:  # iptables would wait for the host's, or may not open it; inherited by all
        lock = os.memfd_create("xtables.lock", 0)
        env["XTABLES_LOCKFILE"] = f"/proc/self/fd/{lock}"
    child_needed = join(entry)
    sys.stdout.flush()
    try:
        if not child_needed:
            os.execvpe(argv[0], argv, env)
        child = subprocess.Popen(argv, env=env, process_group=terminal.process_group(), close_fds=False)
    except OSError as error:
        raise CommandError(f"cannot run {argv[0]!r} in {entry}: {error.strerror}", argv) from None
    status = terminal.attend(child)
    return status if status >= 0 else 128 - status

"""The terminal: which shell a person gets in a node, and how a program of ours has the terminal for a while."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping

#: Their start-up files would set another prompt. Others take PS1 from the environment, or have a prompt of their own.
_WITHOUT_START_UP_FILES = {"bash": ["--noprofile", "--norc"], "zsh": ["-f"]}


def shell(label: str, environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command that starts the user's shell, and its environment, with a prompt that names the node.

    Args:
        label: what the prompt says; a shell would expand ``$`` and its like, so only plain characters are kept.
        environment: whose SHELL it is, ``/bin/sh`` if there is none.
    """
    program = environment.get("SHELL") or "/bin/sh"
    sign = "#" if os.geteuid() == 0 else "$"
    env = {**environment, "PS1": f"[netns {re.sub(r'[^A-Za-z0-9._/:-]', '_', label)}]{sign} "}
    env.pop("ENV", None)  # the start-up file of sh
    return [program, *_WITHOUT_START_UP_FILES.get(os.path.basename(program), [])], env


def is_ours() -> bool:
    """Whether standard input is the terminal that controls this process, so that jobs can be put in its foreground."""
    try:
        return os.tcgetpgrp(0) >= 0
    except OSError:
        return False


def process_group() -> int | None:
    """The ``process_group`` of a child that ``attend`` is to be called with: a new one where there are jobs."""
    return 0 if is_ours() else None


def attend(child: subprocess.Popen[bytes]) -> int:
    """Give the terminal to a child, started in ``process_group()``, until it ends; returns its exit status.

    In a group of its own Ctrl-C concerns it alone, and a shell in it controls jobs.
    """
    if os.name != "posix" or sys.platform == "win32" or not is_ours():
        return child.wait()
    import termios

    modes = termios.tcgetattr(0)
    # To take the terminal back from the background is what SIGTTOU stops processes for.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        _await(child)
        os.tcsetpgrp(0, os.getpgrp())
        termios.tcsetattr(0, termios.TCSADRAIN, modes)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return child.wait()


def _await(child: subprocess.Popen[bytes]) -> None:
    while True:
        os.tcsetpgrp(0, child.pid)
        os.killpg(child.pid, signal.SIGCONT)  # it has stopped if it asked for the terminal before it had it
        seen = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        if seen is None or seen.si_code not in (os.CLD_STOPPED, os.CLD_TRAPPED):
            return  # left for Popen to reap
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)

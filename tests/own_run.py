"""Python programs that see an empty /run of their own, to publish namespaces in; the machine's stays as it is."""

from __future__ import annotations

import subprocess
import sys
import textwrap

# -n: without it mount(8) makes /run/mount on the machine, before the new one is there.
_MOUNTED = 'mount -n -t tmpfs -o mode=0755 tmpfs /run && exec "$@"'
_OWN_RUN = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNTED, "sh")


def with_own_run(code: str) -> str:
    """What a program prints that sees an empty /run, in a mount namespace of its own."""
    command = [*_OWN_RUN, sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

"""Where everything is measured: in a network and a mount namespace of this process, so that the host sees nothing."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_netns import enter_sandbox
from pytest_netns.kernel.syscalls import CLONE_NEWNET, CLONE_NEWNS, MS_REC, MS_SLAVE, mount, unshare


def enter() -> str:
    """Move this process there, and say what that means. Raises PrivilegeError, OSError."""
    access = enter_sandbox()
    if not access.entered:
        unshare(CLONE_NEWNS | CLONE_NEWNET)
        mount("none", "/", None, MS_REC | MS_SLAVE)
    # For the named namespaces of ip(8): a /run of our own, seen by this process and its children only.
    mount("tmpfs", "/run", "tmpfs")
    Path("/run/netns").mkdir()
    return "root" if os.geteuid() == 0 and not access.entered else "rootless, in a user namespace"

"""Descriptors of network namespaces that are not ours: by process, by file, by name."""

from __future__ import annotations

import os

from pytest_netns.errors import PrivilegeError, TopologyError
from pytest_netns.kernel.syscalls import CLONE_NEWNET

#: Where ip-netns(8) keeps names.
NAMED = "/run/netns"

_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)


def open_namespace_of(target: int | str | os.PathLike[str]) -> tuple[int, str]:
    """A descriptor of a network namespace, and what to call it.

    Raises:
        TopologyError: no such process, file or name, or the file is no network namespace.
        PrivilegeError: it may not be looked at.
    """
    if isinstance(target, bool) or not isinstance(target, int | str | os.PathLike):
        raise TopologyError(f"cannot attach to {target!r}: expected a process ID, a path or a name")
    if isinstance(target, int):
        path, shown = f"/proc/{target}/ns/net", f"pid-{target}"
    else:
        text = os.fspath(target)
        if "/" in text:
            path, shown = text, text
        else:
            path, shown = f"{NAMED}/{text}", text
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise PrivilegeError(f"cannot attach to {target!r}: {path}: {error.strerror}") from None
    except OSError as error:
        if isinstance(target, int):
            raise TopologyError(f"cannot attach to process {target}: there is no such process (any more)") from None
        known = ", ".join(sorted(os.listdir(NAMED))) if os.path.isdir(NAMED) else ""
        hint = f"; named namespaces here: {known or 'none'}" if "/" not in str(target) else ""
        raise TopologyError(f"cannot attach to {target!r}: {path}: {error.strerror}{hint}") from None
    if not _is_network_namespace(fd):
        os.close(fd)
        raise TopologyError(f"cannot attach to {target!r}: {path} is no network namespace")
    return fd, shown


def _is_network_namespace(fd: int) -> bool:
    import fcntl  # not on Windows, where this module must still import

    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError:  # ENOTTY: it is no namespace at all
        return False

"""Opening existing network namespaces: by process, by file, or by name."""

from __future__ import annotations

import os

from pytest_netns.errors import PrivilegeError, TopologyError
from pytest_netns.kernel.syscalls import CLONE_NEWNET

#: The directory of ip-netns(8) names.
NAMED = "/run/netns"

_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)


def open_namespace_of(target: int | str | os.PathLike[str]) -> tuple[int, str]:
    """Open a network namespace; returns its descriptor and a name for it.

    Raises:
        TopologyError: no such process, file or name, or the file is not a network namespace.
        PrivilegeError: no permission to open it.
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
    except OSError:  # ENOTTY: not a namespace file
        return False

"""Descriptors with numbers far above those of a test, which may count its own or expect the lowest free number.

A test that closes a descriptor twice, or everything in a range, then only affects its own. The kernel assigns
the lowest free number, so a descriptor that this package opens between two tests would otherwise be among them.
"""

from __future__ import annotations

import os

#: The lowest such number, if the limit (``ulimit -n``) is at least a third higher. Not more: select(2) accepts only
#: numbers up to 1023, and the C library aborts a process that passes a higher one, as libnftables would.
_FLOOR = 768
#: From <fcntl.h>; Python's fcntl does not exist on Windows, where this module must still import.
_F_DUPFD_CLOEXEC = 1030


def lift(fd: int) -> int:
    """Duplicate a descriptor to a number far above, close-on-exec, and close the old one.

    If no such number is available, the descriptor is returned unchanged.
    """
    import fcntl
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    floor = _FLOOR if not 0 <= limit < _FLOOR * 4 // 3 else limit * 3 // 4
    try:
        lifted = fcntl.fcntl(fd, _F_DUPFD_CLOEXEC, floor)
    except OSError:  # EINVAL, EMFILE
        return fd
    os.close(fd)
    return lifted

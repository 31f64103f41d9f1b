"""Descriptors far above those of a test: a test may count its own, and expect the lowest free number.

A test that closes what it has closed already, or everything in a range, meets only numbers that it has had. The kernel
gives out the lowest that is free, so a descriptor of ours that is opened between two tests must not lie among them.
"""

from __future__ import annotations

import os

#: Where they begin, if the limit (``ulimit -n``) is at least a third higher. Not higher: select(2) knows numbers up to
#: 1023 only, and the C library ends a process that asks it for another one, as libnftables does.
_FLOOR = 768
#: From <fcntl.h>; the module is not there on Windows, where this one must still import.
_F_DUPFD_CLOEXEC = 1030


def lift(fd: int) -> int:
    """Another number for a descriptor, far above, closed on exec; the one so far is closed.

    Where there is no room above it is returned as it is.
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

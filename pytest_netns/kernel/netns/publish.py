"""Names in /run/netns for people and programs outside, with a record of who owns each, and clearing up after the dead.

The only thing in this package that leaves something in the file system, and only when asked to.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import struct
from dataclasses import asdict, dataclass

from pytest_netns.errors import PrivilegeError, TopologyError
from pytest_netns.kernel.netns.attach import NAMED
from pytest_netns.kernel.procfs import stat
from pytest_netns.kernel.sockets import Socket
from pytest_netns.kernel.syscalls import MS_BIND, MS_REC, entered, mount, open_namespace, unmount

#: Where the owners' records are; beside NAMED, as ``ip netns list`` would take them for namespaces there.
RECORDS = "/run/pytest-netns"

_MNT_DETACH = 2
_SO_NETNS_COOKIE = 71  # <asm-generic/socket.h>, from Linux 5.14
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Publication:
    """A name in /run/netns that is ours."""

    name: str

    @property
    def path(self) -> str:
        """The file."""
        return f"{NAMED}/{self.name}"

    def withdraw(self) -> None:
        """Take the name away. The namespace lives on for whoever holds it otherwise."""
        _remove(self.name)


def _started(pid: int) -> str | None:
    found = stat(pid)
    return None if found is None else found.started


@dataclass(frozen=True, slots=True)
class _Identity:
    """What tells a namespace from all others.

    The kernel gives the inode of one that has gone to the next that is made; a cookie it gives once. Kernels without
    cookies have 0 for all.
    """

    inode: int
    cookie: int


def _identity(fd: int) -> _Identity:
    """Of namespace ``fd``. Raises OSError: the caller may not enter it."""
    with entered(fd), Socket(socket.AF_UNIX) as sock:
        try:
            (cookie,) = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
            cookie = 0
    return _Identity(os.fstat(fd).st_ino, cookie)


def _make_run_writable() -> None:
    """In a sandbox of ours /run belongs to the host's root: put a tmpfs over it that shows all that was there."""
    entries = list(os.scandir("/run"))
    held = [(entry, os.open(entry.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)) for entry in entries]
    try:
        mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
        for entry, fd in held:
            if entry.is_symlink():
                os.symlink(os.readlink("", dir_fd=fd), entry.path)
                continue
            if entry.is_dir(follow_symlinks=False):
                os.mkdir(entry.path)
            else:
                os.close(os.open(entry.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            mount(f"/proc/self/fd/{fd}", entry.path, None, MS_BIND | MS_REC)
    finally:
        for _, fd in held:
            os.close(fd)


def publish(fd: int, name: str) -> Publication:
    """Bind namespace ``fd`` to a name. Raises TopologyError, PrivilegeError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise TopologyError(
            f"cannot publish as {name!r}: a name has 1 to 64 letters, digits, '.', '_' and '-' "
            "and begins with a letter or digit"
        )
    try:
        if os.geteuid() != 0 and not os.access("/run", os.W_OK):
            _make_run_writable()
        for folder in (NAMED, RECORDS):
            os.makedirs(folder, mode=0o755, exist_ok=True)
        if os.geteuid() != 0 and not os.access(NAMED, os.W_OK):
            mount("tmpfs", NAMED, "tmpfs", 0, "mode=0755")
        path = f"{NAMED}/{name}"
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    except FileExistsError:
        raise TopologyError(f"cannot publish as {name!r}: {NAMED}/{name} exists; see pytest-netns reap") from None
    except OSError as error:
        raise PrivilegeError(f"cannot publish as {name!r}: {error.filename or NAMED}: {error.strerror}") from error
    try:
        record = {"name": name, "pid": os.getpid(), "started": _started(os.getpid()), **asdict(_identity(fd))}
        with open(f"{RECORDS}/{name}.json", "w", encoding="utf-8") as file:
            json.dump(record, file)
        mount(f"/proc/self/fd/{fd}", path, None, MS_BIND)
    except OSError as error:
        _remove(name)
        raise PrivilegeError(f"cannot publish as {name!r}: {error.filename or path}: {error.strerror}") from error
    return Publication(name)


def _remove(name: str) -> None:
    path = f"{NAMED}/{name}"
    try:
        unmount(path, _MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # it was not mounted, or somebody removed it
            raise
    for file in (path, f"{RECORDS}/{name}.json"):
        try:
            os.unlink(file)
        except FileNotFoundError:
            pass  # somebody, "ip netns delete" for one, was there before
    for folder in (RECORDS,):
        try:
            os.rmdir(folder)
        except OSError:
            pass  # others have records in it


def _record(file: str) -> tuple[str, int, str | None, _Identity] | None:
    """The name, owner, its start and the namespace that a record tells; None if we have not written it."""
    try:
        with open(f"{RECORDS}/{file}", encoding="utf-8") as stream:
            record = json.load(stream)
        name, pid, started = (record[key] for key in ("name", "pid", "started"))
        namespace = _Identity(record["inode"], record["cookie"])
    except (IsADirectoryError, ValueError, KeyError, TypeError):
        return None
    # What is removed hangs on it, so nothing in it is believed that we would not have written.
    right = isinstance(name, str) and _NAME.fullmatch(name) and file == f"{name}.json"
    right = right and isinstance(pid, int) and isinstance(started, str | None)
    right = right and isinstance(namespace.inode, int) and isinstance(namespace.cookie, int)
    return (name, pid, started, namespace) if right else None


def reap() -> list[str]:
    """Remove the names whose owners are dead; returns what was done, a line each. Others' names are never touched.

    Raises:
        PrivilegeError: something cannot be removed.
    """
    done: list[str] = []
    try:
        files = sorted(os.listdir(RECORDS))
    except FileNotFoundError:
        return done
    for file in files:
        record = _record(file)
        if record is None:
            done.append(f"{RECORDS}/{file}: not a record of ours, left alone")
            continue
        name, pid, started, namespace = record
        if _started(pid) == started:
            continue
        try:
            if _bound(name) in (namespace, None):
                _remove(name)
                done.append(f"{name}: removed, its owner {pid} is dead")
            else:
                os.unlink(f"{RECORDS}/{file}")
                done.append(f"{name}: is somebody else's now, left alone")
        except PermissionError as error:
            raise PrivilegeError(f"cannot remove {name!r}: {error.strerror}; run as root") from None
    return done


def _bound(name: str) -> _Identity | None:
    """The namespace that has a name; None if none has."""
    path = f"{NAMED}/{name}"
    if not os.path.ismount(path):
        return None
    fd = open_namespace(path)
    try:
        return _identity(fd)
    finally:
        os.close(fd)

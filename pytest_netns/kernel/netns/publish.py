"""Names in /run/netns for users and programs outside, with a record of each owner, and removal of stale names.

Nothing else in this package leaves anything in the file system, and this only on request.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import struct
from dataclasses import asdict, dataclass
from stat import S_ISREG
from typing import BinaryIO

from pytest_netns.errors import PrivilegeError, TopologyError
from pytest_netns.kernel.netns.attach import NAMED
from pytest_netns.kernel.procfs import stat
from pytest_netns.kernel.standard_sockets import Socket
from pytest_netns.kernel.syscalls import MS_BIND, MS_REC, entered, mount, open_namespace, unmount
from pytest_netns.weak_list import WeakList

#: Directory of the owner records; not inside NAMED, where ``ip netns list`` would take them for namespaces.
RECORDS = "/run/pytest-netns"

_MNT_DETACH = 2
_SO_NETNS_COOKIE = 71  # <asm-generic/socket.h>, Linux 5.14 or later
_LONGEST_RECORD = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


class Publication:
    """A name in /run/netns that this process owns.

    Its record stays locked (flock(2)) until this process exits, however it exits. The lock is visible from any PID
    namespace, in which a PID would be meaningless.
    """

    def __init__(self, name: str, lock: int) -> None:
        self.name = name
        self._lock = lock
        _ours.add(self)

    @property
    def path(self) -> str:
        """Path of the name in /run/netns."""
        return f"{NAMED}/{self.name}"

    def withdraw(self) -> None:
        """Remove the name. The namespace lives on while something else holds it."""
        _remove(self.name)
        self.let_go()

    def let_go(self) -> None:
        """Close the descriptor that holds the lock. Further calls do nothing."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


_ours: WeakList[Publication] = WeakList()


def _let_go_in_child() -> None:
    for publication in list(_ours):
        publication.let_go()  # otherwise the lock would outlive its owner


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


def _started(pid: int) -> str | None:
    found = stat(pid)
    return None if found is None else found.started


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


@dataclass(frozen=True, slots=True)
class _Identity:
    """The unique identity of a namespace.

    The kernel reuses the inode of a namespace that is gone, but never its cookie. On kernels without cookies it is 0.
    """

    inode: int
    cookie: int


def _identity(fd: int) -> _Identity:
    """The identity of namespace ``fd``. Raises OSError if the caller has no permission to enter it."""
    with entered(fd), Socket(socket.AF_UNIX) as sock:
        try:
            (cookie,) = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
            cookie = 0
    return _Identity(os.fstat(fd).st_ino, cookie)


def _make_run_writable() -> None:
    """Make /run writable in the sandbox, where the host's root owns it: mount a tmpfs over it with all entries."""
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
    path = f"{NAMED}/{name}"
    try:
        if not os.access("/run", os.W_OK):
            _make_run_writable()
        for folder in (NAMED, RECORDS):
            _make_folder(folder)
        if not os.access(NAMED, os.W_OK):
            mount("tmpfs", NAMED, "tmpfs", 0, "mode=0755")
        # The record comes first, so that everything created after it can be identified by it.
        publication = Publication(name, _write_record(fd, name))
    except FileExistsError as error:
        there = path if os.path.exists(path) else error.filename2 or error.filename
        raise TopologyError(f"cannot publish as {name!r}: {there} exists; see pytest-netns reap") from None
    except OSError as error:
        raise PrivilegeError(f"cannot publish as {name!r}: {error.filename or NAMED}: {error.strerror}") from error
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    except OSError as error:
        _unlink(f"{RECORDS}/{name}.json")
        publication.let_go()
        if isinstance(error, FileExistsError):
            raise TopologyError(f"cannot publish as {name!r}: {path} exists; see pytest-netns reap") from None
        raise PrivilegeError(f"cannot publish as {name!r}: {path}: {error.strerror}") from error
    try:
        mount(f"/proc/self/fd/{fd}", path, None, MS_BIND)
    except BaseException as error:
        publication.withdraw()
        if not isinstance(error, OSError):
            raise
        raise PrivilegeError(f"cannot publish as {name!r}: {error.filename or path}: {error.strerror}") from error
    return publication


def _make_folder(path: str) -> None:
    """Create a directory that is readable by all users, whatever the umask is."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    os.chmod(path, 0o755)


def _write_record(fd: int, name: str) -> int:
    """Write the record of namespace ``fd`` atomically; returns the descriptor that holds its lock.

    Raises FileExistsError, OSError.
    """
    import fcntl  # not on Windows, where this module must still import

    record = {"name": name, "pid": os.getpid(), "started": _started(os.getpid()), "pid_namespace": _pid_namespace()}
    path = f"{RECORDS}/{name}.json"
    try:
        lock = os.open(RECORDS, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        # A file system without O_TMPFILE: the record is visible for some microseconds before it is complete.
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        linked = True
    else:
        linked = False
    try:
        os.fchmod(lock, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, json.dumps({**record, **asdict(_identity(fd))}).encode())
        if not linked:
            # With a directory descriptor, which makes Python follow the link.
            folder = os.open(RECORDS, os.O_PATH | os.O_CLOEXEC)
            try:
                os.link(f"/proc/self/fd/{lock}", path, src_dir_fd=folder)
            finally:
                os.close(folder)
    except BaseException:
        if linked:
            _unlink(path)
        os.close(lock)
        raise
    return lock


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # something else, e.g. "ip netns delete", has removed it


def _remove(name: str) -> None:
    path = f"{NAMED}/{name}"
    try:
        unmount(path, _MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # it was not mounted, or has been removed
            raise
    _unlink(path)
    _unlink(f"{RECORDS}/{name}.json")
    try:
        os.rmdir(RECORDS)
    except OSError:
        pass  # it has other records


@dataclass(frozen=True, slots=True)
class _Record:
    """The contents of a record."""

    name: str
    pid: int
    started: str | None
    pid_namespace: int
    namespace: _Identity

    @property
    def owner_lives(self) -> bool:
        """Whether the owner's process exists, by PID; for records that are not locked."""
        return self.pid_namespace in (0, _pid_namespace()) and _started(self.pid) == self.started


def _record(stream: BinaryIO, file: str) -> _Record | None:
    """Parse a record of that name; None if this package has not written it."""
    try:
        record = json.loads(stream.read(_LONGEST_RECORD))
        name, pid, started = (record[key] for key in ("name", "pid", "started"))
        pid_namespace = record.get("pid_namespace", 0)
        namespace = _Identity(record["inode"], record["cookie"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    # It decides what is removed, so anything that this package would not have written is rejected.
    right = isinstance(name, str) and _NAME.fullmatch(name) and file == f"{name}.json"
    right = right and isinstance(started, str | None)
    right = right and all(isinstance(n, int) for n in (pid, pid_namespace, namespace.inode, namespace.cookie))
    return _Record(name, pid, started, pid_namespace, namespace) if right else None


def reap() -> list[str]:
    """Remove the names whose owners have exited; returns a line for each removal. Other names are never touched.

    Raises:
        PrivilegeError: no permission to remove a name.
    """
    import fcntl  # not on Windows, where this module must still import

    done: list[str] = []
    try:
        files = sorted(os.listdir(RECORDS))
    except FileNotFoundError:
        return done
    for file in files:
        path = f"{RECORDS}/{file}"
        try:
            # Another process may have put anything there: opening a FIFO would block for ever.
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # its owner is alive
                done += _reap(stream, file)
        except FileNotFoundError:
            continue  # withdrawn meanwhile
        except IsADirectoryError:
            done.append(f"{path}: not a record of ours, left alone")
        except PermissionError as error:
            raise PrivilegeError(f"cannot read {path!r}: {error.strerror}; run as root") from None
    return done


def _reap(stream: BinaryIO, file: str) -> list[str]:
    record = _record(stream, file) if S_ISREG(os.fstat(stream.fileno()).st_mode) else None
    if record is None:
        return [f"{RECORDS}/{file}: not a record of ours, left alone"]
    if record.owner_lives:
        return []
    try:
        ours = _bound(record.name) in (record.namespace, None)
        if ours:
            _remove(record.name)
        else:
            _unlink(f"{RECORDS}/{file}")
    except PermissionError as error:
        raise PrivilegeError(f"cannot remove {record.name!r}: {error.strerror}; run as root") from None
    what = f"removed, its owner {record.pid} is dead" if ours else "is in use by others now, left alone"
    return [f"{record.name}: {what}"]


def _bound(name: str) -> _Identity | None:
    """The identity of the namespace with a name; None if there is none."""
    path = f"{NAMED}/{name}"
    if not os.path.ismount(path):
        return None
    fd = open_namespace(path)
    try:
        return _identity(fd)
    finally:
        os.close(fd)

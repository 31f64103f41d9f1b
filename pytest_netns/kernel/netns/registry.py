"""The nodes of a process, for whoever looks at it from outside: ``pytest-netns shell`` for one.

Namespaces have no names that the machine knows. So each process of ours keeps a file in memory, found among its
descriptors by its name, to which every namespace adds a line at its birth: descriptor, inode, process 1 of an isolated
host, lab and node. Nothing is taken out, for that would cost more than the birth does. A reader passes over lines
whose descriptor has gone or shows another inode, and believes the last one of each descriptor. When no namespace is
left the file begins anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from stat import S_ISREG
from typing import BinaryIO

from pytest_netns.errors import PrivilegeError, TopologyError
from pytest_netns.kernel import procfs as processes
from pytest_netns.kernel.high_descriptors import lift
from pytest_netns.kernel.locks import Lock
from pytest_netns.kernel.netns.lost import shows

_NAME = "pytest-netns:nodes"
#: What /proc/PID/fd shows for it (memfd_create(2)).
_LINK = f"/memfd:{_NAME} (deleted)"
#: What is behind it is left over from before. (Truncating the file would take longer than all else here.)
_STOP = b"\0"
#: Bytes that are read of it, which are some 300,000 lines, and characters of a name.
_LARGEST, _LONGEST = 1 << 24, 200

_lock = Lock("listing a namespace")
_file = -1
_inode = 0
_end = 0
_listed: set[int] = set()


def register(fd: int, inode: int, lab: str, node: str, init: int = 0) -> None:
    """Add a namespace, or what is new about it.

    Args:
        fd: its descriptor in this process.
        inode: what that shows.
        lab: "" for a namespace that stands alone.
        node: its name.
        init: of an isolated host, process 1 of its PID namespace, as seen from outside.
    """
    global _file, _end, _inode
    line = f"{fd}\t{inode}\t{init}\t{_plain(lab)}\t{_plain(node)}\n".encode()
    with _lock:
        if _file < 0 or not shows(_file, _inode):  # a test may have closed it
            _file, _end = lift(os.memfd_create(_NAME, os.MFD_CLOEXEC)), 0
            _inode = os.fstat(_file).st_ino
        _listed.add(fd)
        _end += os.pwrite(_file, line + _STOP, _end) - len(_STOP)


def unregister(fd: int) -> None:
    """A namespace is about to be closed."""
    global _end
    with _lock:
        _listed.discard(fd)
        if not _listed:
            _end = 0


def _plain(name: str) -> str:
    """A name that does no harm to a terminal."""
    name = name[:_LONGEST]
    return name if name.isprintable() else "".join(each if each.isprintable() else "?" for each in name)


def _begin_in_child() -> None:
    # The child has copies of the descriptors, and the very same file: what it makes is not its parent's.
    global _file, _end
    if _file >= 0:
        if shows(_file, _inode):
            os.close(_file)
        _file = -1
    _end = 0
    _listed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


@dataclass(frozen=True, slots=True)
class Entry:
    """A node of a running process.

    Attributes:
        pid: the process that holds its namespace.
        fd: by which descriptor.
        inode: of the namespace.
        init: of an isolated host, process 1 of its PID namespace; else 0.
        lab: "" for a namespace that stands alone.
        node: its name.
    """

    pid: int
    fd: int
    inode: int
    init: int
    lab: str
    node: str

    def __str__(self) -> str:
        return f"{self.lab}/{self.node}" if self.lab else self.node

    @property
    def path(self) -> str:
        """For ``nsenter --net=PATH``."""
        return f"/proc/{self.pid}/fd/{self.fd}"


def nodes_of(pid: int) -> list[Entry]:
    """The nodes that a process holds now, in the order of their birth.

    Raises:
        TopologyError: there is no such process.
        PrivilegeError: it may not be looked at.
    """
    folder = f"/proc/{pid}/fd"
    try:
        numbers = sorted(map(int, os.listdir(folder)))
    except PermissionError:
        raise PrivilegeError(
            f"cannot look at process {pid}: it is another user's; run as that user, or as root"
        ) from None
    except (FileNotFoundError, ProcessLookupError):
        raise TopologyError(f"there is no process {pid} (any more)") from None
    found: dict[int, Entry] = {}
    open_ones = set(numbers)
    for number in numbers:
        for entry in _entries(pid, _read(f"{folder}/{number}")):
            if entry.fd in open_ones:
                found.pop(entry.fd, None)
                found[entry.fd] = entry
    return [entry for entry in found.values() if _shows(entry)]


def _read(path: str) -> str:
    """What is in a directory of nodes, up to a limit: it is another process that offers it. Empty for anything else."""
    try:
        if os.readlink(path) != _LINK:
            return ""
        # A file can have this name too, and a pipe would let us wait for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            return _until_stop(file).decode(errors="replace")
    except OSError:
        return ""  # closed in between


def _until_stop(file: BinaryIO) -> bytes:
    chunks: list[bytes] = []
    while len(chunks) << 16 < _LARGEST and (chunk := file.read(1 << 16)):
        before, stop, _ = chunk.partition(_STOP)
        chunks.append(before)
        if stop:
            break
    return b"".join(chunks)


def _entries(pid: int, text: str) -> Iterator[Entry]:
    for line in text.split("\n"):
        try:
            fd, inode, init, lab, node = line.split("\t")
            yield Entry(pid, int(fd), int(inode), int(init), _plain(lab), _plain(node))
        except ValueError:
            continue  # it was being written


def _shows(entry: Entry) -> bool:
    try:
        return os.readlink(entry.path) == f"net:[{entry.inode}]"
    except OSError:
        return False


def with_descendants(pid: int) -> list[int]:
    """A process and all that descend from it: the workers of a controller, for one."""
    children: dict[int, list[int]] = {}
    for number in processes.numbers():
        if (stat := processes.stat(number)) is not None:
            children.setdefault(stat.parent, []).append(number)
    found = [pid]
    for each in found:
        found += sorted(children.get(each, ()))
    return found

"""The nodes of a process, readable by other processes such as ``pytest-netns shell``.

Namespaces have no names in the kernel. So each process keeps a file in memory, found by its name among the process's
descriptors. Every new namespace appends a line: descriptor, inode, process 1 of an isolated host, lab and node. Lines
are never removed, which would cost more than creating the namespace. A reader skips lines whose descriptor is closed or
refers to another inode; for each descriptor, the last line counts. When no namespace is left, the file is started
again.
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
#: How the file appears in /proc/PID/fd (memfd_create(2)).
_LINK = f"/memfd:{_NAME} (deleted)"
#: End marker: anything after it is stale. (Truncating the file would take longer than everything else here.)
_STOP = b"\0"
#: Maximum size in bytes that is read, some 300,000 lines; and maximum length of a name in characters.
_LARGEST, _LONGEST = 1 << 24, 200

_lock = Lock("listing a namespace")
_file = -1
_inode = 0
_end = 0
_listed: set[int] = set()


def register(fd: int, inode: int, lab: str, node: str, init: int = 0) -> None:
    """Add a namespace, or update its entry.

    Args:
        fd: descriptor of the namespace in this process.
        inode: inode of the namespace.
        lab: name of its lab; "" for a standalone namespace.
        node: name of the node.
        init: for an isolated host, process 1 of its PID namespace, as seen from outside; else 0.
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
    """Account for a namespace that is about to be closed; its line stays in the file."""
    global _end
    with _lock:
        _listed.discard(fd)
        if not _listed:
            _end = 0


def _plain(name: str) -> str:
    """A name without characters that could harm a terminal."""
    name = name[:_LONGEST]
    return name if name.isprintable() else "".join(each if each.isprintable() else "?" for each in name)


def _begin_in_child() -> None:
    # The child shares the file with its parent, but its new namespaces are not the parent's: it needs its own.
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
        pid: PID of the process that holds its namespace.
        fd: the descriptor of the namespace in that process.
        inode: inode of the namespace.
        init: for an isolated host, process 1 of its PID namespace; else 0.
        lab: name of its lab; "" for a standalone namespace.
        node: name of the node.
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
        """The path for ``nsenter --net=PATH``."""
        return f"/proc/{self.pid}/fd/{self.fd}"


def nodes_of(pid: int) -> list[Entry]:
    """The nodes that a process holds now, in the order of creation.

    Raises:
        TopologyError: there is no such process.
        PrivilegeError: no permission to inspect it.
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
    """Read another process's file of nodes, up to a size limit; empty if it is any other kind of file."""
    try:
        if os.readlink(path) != _LINK:
            return ""
        # Another file can have this name too, and opening a FIFO would block for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            return _until_stop(file).decode(errors="replace")
    except OSError:
        return ""  # closed meanwhile


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
            continue  # an incomplete line


def _shows(entry: Entry) -> bool:
    try:
        return os.readlink(entry.path) == f"net:[{entry.inode}]"
    except OSError:
        return False


def with_descendants(pid: int) -> list[int]:
    """The PIDs of a process and all its descendants, such as the workers of an xdist controller."""
    children: dict[int, list[int]] = {}
    for number in processes.numbers():
        if (stat := processes.stat(number)) is not None:
            children.setdefault(stat.parent, []).append(number)
    found = [pid]
    for each in found:
        found += sorted(children.get(each, ()))
    return found

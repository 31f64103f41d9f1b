"""Whether this process may create network namespaces, and if not, the sandbox that allows it without root.

The sandbox is a user, a network and a mount namespace that the process moves itself into (user_namespaces(7)). The user
ID stays the same; the capabilities apply only inside, and survive exec. There is no way back: the host's network is
unreachable from then on. The kernel allows the move only while the process has a single thread.
"""

from __future__ import annotations

import errno as _errno
import json
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pytest_netns.errors import KernelError, PrivilegeError
from pytest_netns.kernel.interrupts import readable, uninterrupted
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MS_REC,
    MS_SLAVE,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_RAISE,
    capabilities,
    mount,
    open_namespace,
    prctl,
    set_capabilities,
    setns,
    unshare,
)

CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21

#: The capabilities kept in the sandbox, from <linux/capability.h>. Those that bypass file permissions
#: (CAP_DAC_OVERRIDE and the like) are dropped: a test that expects "permission denied" must still get it.
KEPT_CAPABILITIES = {
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_BROADCAST": 11,
    "CAP_NET_ADMIN": CAP_NET_ADMIN,
    "CAP_NET_RAW": 13,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": CAP_SYS_ADMIN,
}

#: A sysctl that every network namespace has, to test writing: in containers /proc/sys is often read-only.
_SYSCTL = "/proc/sys/net/ipv4/conf/lo/forwarding"

#: Timeout in seconds for a child process that tries to create a network namespace.
_DEADLINE = 60.0

#: The inode of the sandbox's network namespace, entered by this process or inherited from its parent; 0: no sandbox.
network: int = 0

Mode = Literal["root", "rootless", "unavailable"]


@dataclass(frozen=True, slots=True)
class Access:
    """Whether this process can create network namespaces, and how.

    Attributes:
        mode: ``root``: directly; ``rootless``: in a user namespace; ``unavailable``: not at all.
        entered: whether this process (or its parent) is in a sandbox already.
        reason: for ``unavailable``, the cause and the command that fixes it.
        late: for ``unavailable``, whether it would have worked before this process started threads.
    """

    mode: Mode
    entered: bool = False
    reason: str = ""
    late: bool = False

    @property
    def available(self) -> bool:
        """Whether tests can run, now or after ``enter()``."""
        return self.mode != "unavailable"


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def thread_count() -> int:
    """Number of threads of this process, including those of C libraries (e.g. maths libraries start some on import)."""
    return len(os.listdir("/proc/self/task"))


def privileged() -> bool:
    """Whether this thread may create network namespaces and configure them."""
    needed = 1 << CAP_SYS_ADMIN | 1 << CAP_NET_ADMIN
    return capabilities()[0] & needed == needed


def in_user_namespace() -> bool:
    """Whether this process is in a user namespace that maps only some users."""
    return _read("/proc/self/uid_map").split() != ["0", "0", "4294967295"]


def keep_capabilities() -> None:
    """Drop all capabilities of a thread that has just entered a user namespace, except the kept ones, for good."""
    kept = sum(1 << number for number in KEPT_CAPABILITIES.values())
    set_capabilities(kept, kept, kept)
    for number in KEPT_CAPABILITIES.values():  # ambient, as exec by a user other than root drops all others
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def _enter_namespaces(as_root: bool = False) -> None:
    """Enter the sandbox's namespaces. Raises OSError whose ``filename`` is the step that failed.

    Args:
        as_root: become user and group 0 inside, with all capabilities, as with ``unshare --map-root-user``.
    """
    uid, gid = os.geteuid(), os.getegid()
    inside_uid, inside_gid = (0, 0) if as_root else (uid, gid)
    unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS)
    # Without privileges outside, groups can be mapped only after setgroups(2) is disabled inside (user_namespaces(7)).
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside_uid} {uid} 1"),
        ("gid_map", f"{inside_gid} {gid} 1"),
    ):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"write {name}") from None
        finally:
            os.close(fd)
    if not as_root:
        keep_capabilities()
    # Mounts of the host still propagate here, but not the other way round.
    mount("none", "/", None, MS_REC | MS_SLAVE)


def _loopback_up() -> None:
    link = NetlinkSocket("sandbox")
    try:
        link.batch([rtnetlink.link_up(rtnetlink.LOOPBACK_INDEX, "lo")])
    finally:
        link.close()


#: The step that fails if the process's network namespace is owned by an ancestor of its user namespace.
_RETURN = "setns back to the network of before"


def _make_network() -> None:
    """Test everything that is needed: a new namespace, a veth in it, writing a sysctl, and the return."""
    home = open_namespace()
    unshare(CLONE_NEWNET)
    os.close(os.open(_SYSCTL, os.O_WRONLY | os.O_CLOEXEC))
    here = open_namespace()
    link = NetlinkSocket("probe")
    try:
        near = rtnetlink.VethEnd("probe0", 1000, b"\x02\0\0\0\0\x01")
        far = rtnetlink.VethEnd("probe1", 1001, b"\x02\0\0\0\0\x02")
        link.batch(
            [
                rtnetlink.link_up(rtnetlink.LOOPBACK_INDEX, "lo"),
                rtnetlink.veth(near, far, here, None),
            ]
        )
    finally:
        link.close()
        os.close(here)
    try:
        setns(home)
    except OSError as error:
        raise OSError(error.errno, error.strerror, _RETURN) from None


def _try_in_child(action: Callable[[], None]) -> tuple[str, int] | None:
    """Run ``action`` in a forked child; None if it succeeded, else the step that failed and its errno.

    In a child, because entering namespaces cannot be undone when it fails half-way.
    """
    with uninterrupted:  # otherwise the child might be left running
        return _tried_in_child(action)


def _tried_in_child(action: Callable[[], None]) -> tuple[str, int] | None:
    receive, send = os.pipe2(os.O_CLOEXEC)
    with warnings.catch_warnings():
        # Since Python 3.12, fork() in a process with threads warns of deadlocks. This child takes no lock: it makes
        # system calls and ends with _exit.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        outcome: tuple[str, int] | None = None
        try:
            action()
        except OSError as error:
            outcome = (str(error.filename or ""), error.errno or 0)
        except KernelError as error:
            outcome = (error.operation, error.errno)
        except BaseException as error:  # any exception must be reported to the parent
            outcome = (repr(error), 0)
        try:
            os.write(send, json.dumps(outcome).encode())
        finally:
            os._exit(0)
    os.close(send)
    answer = b""
    try:
        if readable(receive, _DEADLINE):
            answer = os.read(receive, 1 << 16)
    finally:
        os.close(receive)
        os.kill(pid, signal.SIGKILL)  # it has reported, or hangs
        os.waitpid(pid, 0)
    if not answer:
        return "the probing child died", 0
    found = json.loads(answer)
    return None if found is None else (found[0], found[1])


def _sandbox_and_network() -> None:
    _enter_namespaces()
    _make_network()


def diagnose(
    step: str, errno: int, read: Callable[[str], str] = _read, exists: Callable[[str], bool] = os.path.exists
) -> str:
    """The cause of a refusal, and the command that fixes it.

    Args:
        step: the step that failed, as the probe reports it.
        errno: its errno.
        read: reads a file under /proc; "" if it does not exist.
        exists: whether a file exists.
    """
    code = _errno.errorcode.get(errno, str(errno))
    said = f"{step or 'user namespace'}: {os.strerror(errno) if errno else 'failed'} ({code})"
    if errno == _errno.ENOSPC:
        for kind in ("user", "net", "mnt"):
            if read(f"/proc/sys/user/max_{kind}_namespaces") == "0":
                return f"{said}: user.max_{kind}_namespaces is 0; cure: sudo sysctl -w user.max_{kind}_namespaces=15000"
        return f"{said}: too many namespaces; see the sysctls user.max_*_namespaces, and for leaks: lsns"
    if step == _RETURN:
        return (
            f"{said}: it belongs to another user namespace than this process; cure: give it a network of its own too "
            "(unshare --net, or another --network of the container), or allow user namespaces in this one"
        )
    if errno == _errno.EROFS:
        cure = "mount it for writing"
        if exists("/.dockerenv"):
            cure = "docker run --security-opt systempaths=unconfined beside the flags that it has, or --privileged"
        return f"{said}: /proc/sys is read-only; cure: {cure}"
    seccomp = [line.split()[1] for line in read("/proc/self/status").splitlines() if line.startswith("Seccomp:")]
    filtered = seccomp == ["2"]
    # A container shows the host's AppArmor setting, but its own seccomp filter refuses unshare(2) with EPERM before
    # AppArmor is consulted. AppArmor refuses with EACCES, or allows unshare(2) and refuses the steps after it.
    by_filter = filtered and errno == _errno.EPERM and step in ("", "unshare")
    if not by_filter and read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            f"{said}: AppArmor restricts user namespaces (Ubuntu 23.10 and later); "
            "cure: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return f"{said}: Debian's switch is off; cure: sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if filtered:
        cure = "have whoever set it (a container engine, systemd's RestrictNamespaces=) allow unshare(2) and setns(2)"
        if exists("/.dockerenv"):
            cure = (
                "docker run --privileged, or docker run --cap-add SYS_ADMIN --cap-add NET_ADMIN "
                "--security-opt systempaths=unconfined --security-opt apparmor=unconfined, as root inside"
            )
        return f"{said}: a seccomp filter refuses it; cure: {cure}"
    if step == "write uid_map" and os.geteuid() == 0:
        return (
            f"{said}: root without CAP_SETFCAP cannot make a user namespace with root in it (Linux 5.12 and later); "
            "cure: give the container that capability, or SYS_ADMIN and NET_ADMIN"
        )
    return f"{said}: run as root, or see unshare(2) for what {code} means here (a chroot gives EPERM too)"


def probe() -> Access:
    """Test in a child process whether networks can be created. Takes some 5 ms; the caller caches the answer."""
    if not sys.platform.startswith("linux"):
        return Access("unavailable", reason=f"network namespaces exist on Linux only, and this is {sys.platform}")
    if not hasattr(socket, "AF_NETLINK"):
        return Access("unavailable", reason="this Python was built without AF_NETLINK")
    refused = None
    if privileged():
        refused = _try_in_child(_make_network)
        if refused is None:
            inside = in_user_namespace()
            return Access("rootless" if inside and os.geteuid() != 0 else "root", entered=inside)
    failed = _try_in_child(_sandbox_and_network)  # the child has a single thread
    if failed is not None:
        return Access("unavailable", reason=diagnose(*(refused or failed)))
    threads = thread_count()
    if threads == 1:
        return Access("rootless")
    others = ", ".join(repr(each.name) for each in threading.enumerate() if each is not threading.main_thread())
    named = f" ({others})" if others else ""
    lacking = "no privilege to create network namespaces"
    if refused is not None and refused[0] == _RETURN:  # "unshare --user" without --net, or a container like that
        lacking = "the network of this process belongs to another user namespace, so it could not return to it"
    return Access(
        "unavailable",
        reason=f"{lacking}, and this process has {threads} threads already{named}, "
        "while a user namespace can be entered only with one; cure: start the sandbox before they start, with "
        "--netns-sandbox=always (or the same as netns_sandbox in the ini file), or run as root",
        late=True,
    )


def enter() -> Access:
    """Move this process into the sandbox. Does nothing if it can create network namespaces already.

    Raises:
        PrivilegeError: the kernel refused; the message says why, and how to fix it. The process is unchanged.

    Example:
        >>> enter_sandbox()
        >>> with Lab() as lab:
        ...     red = lab.host("red")
    """
    access = probe()
    if not access.available:
        raise PrivilegeError(f"cannot create network namespaces: {access.reason}")
    if access.mode == "root" or access.entered:
        return access
    return enter_now()


def enter_now(as_root: bool = False) -> Access:
    """Move this process into the sandbox, after ``probe()`` has found that possible. Raises PrivilegeError.

    Args:
        as_root: become user 0 inside.
    """
    try:
        _enter_namespaces(as_root)
    except OSError as error:
        raise PrivilegeError(
            f"cannot create network namespaces: {diagnose(str(error.filename or ''), error.errno or 0)}"
        ) from error
    _loopback_up()
    global network
    network = os.stat("/proc/self/ns/net").st_ino
    return Access("rootless", entered=True)

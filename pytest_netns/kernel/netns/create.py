"""Creating a network namespace and setting its initial sysctls."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from pytest_netns.errors import KernelError, PrivilegeError
from pytest_netns.kernel import sysctl
from pytest_netns.kernel.high_descriptors import lift
from pytest_netns.kernel.inherited_sysctls import restore_defaults
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.syscalls import CLONE_NEWNET, open_namespace, returning, setns, unshare


def create_namespace(name: str, sysctls: Mapping[str, str | int], *, apart: bool = False) -> tuple[int, NetlinkSocket]:
    """Create a namespace; the calling thread is back in its own when this returns.

    Args:
        name: name of the node for messages.
        sysctls: sysctls to set in addition to the baseline.
        apart: whether its descriptors should have numbers far above those that a test opens.

    Returns:
        A descriptor of the namespace, and a netlink socket in it.
    """
    try:
        _check_way_back()
        with returning():
            unshare(CLONE_NEWNET)
            fd = open_namespace()
            try:
                if apart:
                    fd = lift(fd)
                rtnl = NetlinkSocket(name, apart=apart)
                try:
                    _set_initial(name, sysctls, rtnl)
                except BaseException:
                    rtnl.close()
                    raise
                else:
                    return fd, rtnl
            except BaseException:
                os.close(fd)
                raise
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PrivilegeError(
                f"cannot create namespace {name!r}: {error.strerror}; run as root, or let the plugin enter its "
                "sandbox (--netns-sandbox=always), or call pytest_netns.enter_sandbox() first"
            ) from None
        raise KernelError.of(error, "ip netns add", name) from error


_may_return = False


def _check_way_back() -> None:
    """Check once that a thread can return here: not if an ancestor user namespace owns the network. Raises OSError."""
    global _may_return
    if not _may_return:
        home = open_namespace()
        try:
            setns(home)
        finally:
            os.close(home)
        _may_return = True


_PING_GROUPS = "net.ipv4.ping_group_range"
_groups = "0 2147483647"


def _allow_ping_sockets(name: str) -> None:
    """Let every group open ICMP datagram sockets (icmp(7)), as distributions do; a new namespace allows none.

    In a user namespace the range must consist of mapped groups.
    """
    global _groups
    try:
        sysctl.write(_PING_GROUPS, _groups)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise KernelError.of(error, f"sysctl -w {_PING_GROUPS}='{_groups}'", name) from error
        with open("/proc/thread-self/gid_map", encoding="ascii") as file:
            extents = [tuple(map(int, line.split())) for line in file]
        # From the lowest to the highest group ID outside of the user namespace, as the kernel compares those.
        lowest = min(extents, key=lambda extent: extent[1])
        highest = max(extents, key=lambda extent: extent[1])
        _groups = f"{lowest[0]} {min(highest[0] + highest[2] - 1, 0x7FFFFFFF)}"
        sysctl.write(_PING_GROUPS, _groups)


#: Baseline sysctls that equal the kernel's defaults, which have just been compared.
_RESTORED = "net.ipv4.conf.default.rp_filter"


def _set_initial(name: str, sysctls: Mapping[str, str | int], rtnl: NetlinkSocket) -> None:
    try:
        restore_defaults(rtnl)
    except OSError as error:
        raise KernelError.of(error, "giving a new namespace the kernel's own net.ipv4.conf", name) from error
    _allow_ping_sockets(name)
    for key, value in sysctl.BASELINE.items():
        if key == _RESTORED:
            continue
        try:
            sysctl.ensure(key, value)
        except OSError as error:
            # A kernel without IPv6 has no IPv6 sysctls.
            if not (error.errno == errno.ENOENT and key.startswith("net.ipv6.")):
                raise KernelError.of(error, f"sysctl -w {key}={value}", name) from error
    for key, given in sysctls.items():
        sysctl.check_owned(key)
        try:
            sysctl.write(key, str(given))
        except OSError as error:
            raise KernelError.of(error, f"sysctl -w {key}={given}", name) from error

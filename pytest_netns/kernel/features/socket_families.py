"""Whether this kernel and this user have a socket family, or TUN and TAP devices."""

from __future__ import annotations

import os
import socket

from pytest_netns.kernel import tun_driver
from pytest_netns.kernel.netns.throwaway import throwaway
from pytest_netns.kernel.standard_sockets import Socket

_IPPROTO_MPTCP, _IPPROTO_SCTP = 262, 132

#: Socket families by name, with the module or setting that provides each.
SOCKETS = {
    "ipv6": "sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0, and no ipv6.disable=1 "
    "on the kernel's command line",
    "mptcp": "a kernel with CONFIG_MPTCP",
    "packet": "modprobe af_packet",
    "sctp": "modprobe sctp",
}
TUN_TAP = {"tap": "modprobe tun", "tun": "modprobe tun"}


def why_no_socket(name: str) -> str:
    """The kernel's error; empty if such a socket can be opened in a namespace of this package."""
    with throwaway():
        try:
            match name:
                case "packet":
                    Socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
                case "mptcp":
                    Socket(socket.AF_INET, socket.SOCK_STREAM, _IPPROTO_MPTCP).close()
                case "sctp":
                    Socket(socket.AF_INET, socket.SOCK_STREAM, _IPPROTO_SCTP).close()
                case _:
                    Socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
                    with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", encoding="ascii") as file:
                        return "it is disabled in new namespaces" if file.read().strip() != "0" else ""
        except OSError as error:
            return str(error.strerror)
    return ""


def why_no_tunnel(name: str) -> str:
    """The kernel's error; empty if a device of that kind can be created through /dev/net/tun."""
    kind = tun_driver.IFF_TUN if name == "tun" else tun_driver.IFF_TAP
    with throwaway():
        try:
            driver = tun_driver.open_driver()
            try:
                tun_driver.create_device(driver, "probe0", kind | tun_driver.IFF_NO_PI)
            finally:
                os.close(driver)
        except OSError as error:
            return f"{tun_driver.PATH}: {error.strerror}"
    return ""

"""Sysctls that a new namespace inherits from the host, and resetting them to the kernel's own defaults.

The kernel copies ``net.ipv4.conf.all`` and ``.default`` from the initial namespace, with the administrator's changes,
and those of IPv6 too if net.core.devconf_inherit_init_net says so. Reading all names in every namespace would take as
long as creating it. But its loopback interface has a copy of ``default``, which a single netlink answer returns whole.
The first namespace is compared name by name, and a later one only if that answer has changed.

Not reset are the sizes of TCP's buffers (tcp_rmem, tcp_wmem), which depend on the machine's memory, its congestion
control, and the neighbour parameters of interfaces (net.ipv4.neigh.eth0), which all namespaces share.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pytest_netns.kernel import sysctl
from pytest_netns.kernel.netlink import rtnetlink
from pytest_netns.kernel.netlink.socket import NetlinkSocket, attributes

#: Defaults of ``net.ipv4.conf.all``, and of ``default`` where they differ, as in ipv4_devconf (net/ipv4/devinet.c). A
#: name that is not listed here comes from a newer kernel and is not changed.
_IPV4 = {
    "accept_redirects": "1",
    "secure_redirects": "1",
    "send_redirects": "1",
    "shared_media": "1",
    "arp_evict_nocarrier": "1",
    "igmpv2_unsolicited_report_interval": "10000",
    "igmpv3_unsolicited_report_interval": "1000",
}
_IPV4_ZERO = frozenset(
    [
        "accept_local",
        "arp_accept",
        "arp_announce",
        "arp_filter",
        "arp_ignore",
        "arp_notify",
        "bc_forwarding",
        "bootp_relay",
        "disable_policy",
        "disable_xfrm",
        "drop_gratuitous_arp",
        "drop_unicast_in_l2_multicast",
        "force_igmp_version",
        "forwarding",
        "ignore_routes_with_linkdown",
        "log_martians",
        "medium_id",
        "promote_secondaries",
        "proxy_arp",
        "proxy_arp_pvlan",
        "route_localnet",
        "rp_filter",
        "src_valid_mark",
        "tag",
    ]
)
_IPV4_DEFAULT = {"accept_source_route": "1"}
#: Defaults of ``net.ipv6.conf``, as in ipv6_devconf (net/ipv6/addrconf.c).
_IPV6 = {
    "accept_ra": "1",
    "accept_ra_defrtr": "1",
    "accept_ra_min_hop_limit": "1",
    "accept_ra_mtu": "1",
    "accept_ra_pinfo": "1",
    "accept_ra_rtr_pref": "1",
    "accept_redirects": "1",
    "autoconf": "1",
    "dad_transmits": "1",
    "enhanced_dad": "1",
    "hop_limit": "64",
    "ioam6_id": "65535",
    "ioam6_id_wide": "4294967295",
    "max_addresses": "16",
    "max_desync_factor": "600",
    "mldv1_unsolicited_report_interval": "10000",
    "mldv2_unsolicited_report_interval": "1000",
    "mtu": "1280",
    "ndisc_evict_nocarrier": "1",
    "ra_defrtr_metric": "1024",
    "regen_max_retry": "3",
    "regen_min_advance": "2",
    "router_probe_interval": "60",
    "router_solicitation_delay": "1",
    "router_solicitation_interval": "4",
    "router_solicitation_max_interval": "3600",
    "router_solicitations": "-1",
    "suppress_frag_ndisc": "1",
    "temp_prefered_lft": "86400",
    "temp_valid_lft": "604800",
}
_IPV6_ZERO = frozenset(
    [
        "accept_ra_from_local",
        "accept_ra_min_lft",
        "accept_ra_rt_info_max_plen",
        "accept_ra_rt_info_min_plen",
        "accept_source_route",
        "accept_untracked_na",
        "addr_gen_mode",
        "disable_ipv6",
        "disable_policy",
        "drop_unicast_in_l2_multicast",
        "drop_unsolicited_na",
        "force_forwarding",
        "force_mld_version",
        "force_tllao",
        "forwarding",
        "ignore_routes_with_linkdown",
        "ioam6_enabled",
        "keep_addr_on_down",
        "ndisc_notify",
        "ndisc_tclass",
        "optimistic_dad",
        "proxy_ndp",
        "ra_honor_pio_life",
        "ra_honor_pio_pflag",
        "rpl_seg_enabled",
        "seg6_enabled",
        "seg6_require_hmac",
        "use_oif_addrs_only",
        "use_optimistic",
        "use_tempaddr",
    ]
)
_IPV6_DEFAULT = {"accept_dad": "1"}
_IFINFO = 16
_IFLA_AF_SPEC = 26
_AF_INET, _AF_INET6 = 2, 10
_IFLA_INET_CONF, _IFLA_INET6_CONF = 1, 2

_seen: tuple[bytes, bytes] | None = None
_deviating: dict[str, str] = {}


def default_of(family: str, which: str, name: str) -> str | None:
    """The kernel's default of ``net.FAMILY.conf.WHICH.NAME``; None if it is not known here."""
    table, more, zero = (_IPV4, _IPV4_DEFAULT, _IPV4_ZERO) if family == "ipv4" else (_IPV6, _IPV6_DEFAULT, _IPV6_ZERO)
    if which == "default" and name in more:
        return more[name]
    return table.get(name, "0" if name in zero or name in more else None)


def restore_defaults(rtnl: NetlinkSocket) -> None:
    """Reset the calling thread's newly created namespace to the kernel's defaults. Raises OSError."""
    global _seen
    seen = _shown_by_loopback(rtnl)
    if seen != _seen:
        _deviating.clear()
        _deviating.update(_compared())
        _seen = seen
    for name, value in _deviating.items():
        sysctl.ensure(name, value)


def _shown_by_loopback(rtnl: NetlinkSocket) -> tuple[bytes, bytes]:
    answer = attributes(rtnl.get(rtnetlink.link_get(rtnetlink.LOOPBACK_INDEX, "lo")), _IFINFO)
    of_families = attributes(answer.get(_IFLA_AF_SPEC, b""))
    return (
        attributes(of_families.get(_AF_INET, b"")).get(_IFLA_INET_CONF, b""),
        attributes(of_families.get(_AF_INET6, b"")).get(_IFLA_INET6_CONF, b""),
    )


def _compared() -> Mapping[str, str]:
    """The kernel's defaults of the sysctls that differ from them in the calling thread's namespace."""
    found: dict[str, str] = {}
    for family in ("ipv4", "ipv6"):
        for which in ("all", "default"):
            try:
                names = os.listdir(f"/proc/sys/net/{family}/conf/{which}")
            except FileNotFoundError:  # a kernel without IPv6
                continue
            for each in sorted(names):
                name, value = f"net.{family}.conf.{which}.{each}", default_of(family, which, each)
                if value is not None and sysctl.read(name) != value:
                    found[name] = value
    return found

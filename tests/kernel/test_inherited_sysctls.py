"""What a new namespace has from the machine is put right.

A user namespace cannot change what the kernel copies from, so deviating values are planted in namespaces between their
birth and our own work on them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import pytest

from pytest_netns import Namespace
from pytest_netns.kernel import inherited_sysctls, sysctl
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.netns import create
from pytest_netns.kernel.syscalls import CLONE_NEWNET

PLACES = [(family, which) for family in ("ipv4", "ipv6") for which in ("all", "default")]
#: What writes of these do beside: the kernel copies forwarding to all interfaces and conf, and one of IPv6 needs a key.
AWKWARD = {"mc_forwarding", "stable_secret", "disable_ipv6", "forwarding", "mtu"}


def all_values(namespace: Namespace) -> dict[str, str]:
    """Every setting of net.ipv4 and net.ipv6."""
    found = {}
    for name in namespace.sysctl:
        if name.startswith(("net.ipv4.", "net.ipv6.")) and not name.endswith((".stable_secret", ".flush")):
            try:
                found[name] = namespace.sysctl[name]
            except Exception as error:  # write-only ones
                found[name] = type(error).__name__
    return found


def deviating() -> Iterator[tuple[str, str]]:
    for family, which in PLACES:
        for each in sorted(os.listdir(f"/proc/sys/net/{family}/conf/{which}")):
            value = inherited_sysctls.default_of(family, which, each)
            if value is not None and each not in AWKWARD:
                yield f"net.{family}.conf.{which}.{each}", "1" if value == "0" else "2" if value != "2" else "3"


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has made no namespace yet."""
    monkeypatch.setattr(inherited_sysctls, "_seen", None)
    monkeypatch.setattr(inherited_sysctls, "_deviating", {})


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What every new namespace has from now on, to be filled: as if the machine had it."""
    values: dict[str, str] = {}
    unshare = create.unshare

    def plant(flags: int) -> None:
        unshare(flags)
        assert flags == CLONE_NEWNET
        for name, value in values.items():
            sysctl.write(name, value)
            in_loopback = name.replace(".default.", ".lo.")  # which the kernel copies from it
            if in_loopback != name:
                try:
                    sysctl.write(in_loopback, value)
                except OSError:
                    pass

    monkeypatch.setattr(create, "unshare", plant)
    return values


@pytest.mark.usefixtures("forgotten")
def test_every_setting_of_a_new_namespace_is_the_kernels_own_whatever_the_machine_has(
    netns: Namespace, planted: dict[str, str]
) -> None:
    usual = all_values(netns)
    with_lo = {name for name in usual if ".lo." in name}  # its loopback interface was there before we were
    refused = []
    for name, value in deviating():
        try:
            netns.sysctl[name] = value
        except Exception:
            refused.append(name)
        else:
            planted[name] = value
    assert len(planted) > 50
    made = Namespace("made")
    found = all_values(made)
    made.close()
    differing = {name: (found[name], usual[name]) for name in usual.keys() - with_lo if found[name] != usual[name]}
    assert not differing, (differing, refused)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("which", ["default"])
def test_a_change_of_the_machine_during_a_session_is_met(planted: dict[str, str], which: str) -> None:
    name = f"net.ipv4.conf.{which}.accept_redirects"
    for value in ("1", "0", "0", "1"):
        planted[name] = value
        made = Namespace("made")
        assert made.sysctl[name] == "1"
        made.close()


@pytest.mark.usefixtures("forgotten")
def test_where_nothing_deviates_names_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Mapping[str, str]] = []
    compare = inherited_sysctls._compared
    monkeypatch.setattr(inherited_sysctls, "_compared", lambda: compared.append(compare()) or compared[-1])
    for name in ("first", "second", "third"):
        Namespace(name).close()
    assert len(compared) == 1


def test_a_refusal_names_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_netns import KernelError

    def refuse(_: NetlinkSocket) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(create, "restore_defaults", refuse)
    with pytest.raises(KernelError, match=r"giving a new namespace the kernel's own net.ipv4.conf"):
        Namespace("made")

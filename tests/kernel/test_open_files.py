"""A process that has no descriptor left: whatever fails for that says so, and what to do."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pytest_netns import Lab, Namespace, NetnsError

WORKS: dict[str, Callable[[Lab], object]] = {
    "host": lambda lab: lab.host("a"),
    "router": lambda lab: lab.router("a"),
    "bridge": lambda lab: lab.bridge("a").host("b"),
    "connect": lambda lab: lab.connect(lab.host("a"), lab.host("b")),
    "isolate": lambda lab: lab.host("a", isolate={"mount", "uts", "pid"}),
    "run": lambda lab: lab["red"].run(["true"], input="some"),
    "spawn": lambda lab: lab["red"].spawn(["sleep", "1000"]),
    "ping": lambda lab: lab["red"].ping(lab["blue"]),
    "nft": lambda lab: lab["red"].nft("add table ip t"),
    "arp": lambda lab: lab["red"].arp(lab["blue"]),
    "capture": lambda lab: lab["red"].capture().start().stop(),
    "sysctl": lambda lab: lab["red"].sysctl["net.ipv4.ip_forward"],
    "enter": lambda lab: lab["red"].__enter__().__exit__(None, None, None),  # type: ignore[func-returns-value]
    "stand alone": lambda _: Namespace("alone").close(),
}


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """This process can open so many files more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(map(int, os.listdir("/proc/self/fd"))) + 1
    padding = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        while True:
            try:
                padding.append(os.dup(0))
            except OSError:
                break
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit + count, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in padding:
            os.close(fd)


def refusal(work: Callable[[Lab], object], lab: Lab) -> str:
    """The error of ours that it raises, as text; empty if it works."""
    try:
        work(lab)
    except NetnsError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.netns_requires("nft")) if name == "nft" else name for name in WORKS]
)
def test_a_lack_of_descriptors_names_the_limit(name: str) -> None:
    with Lab() as lab:  # what is imported and made once
        lab.connect(lab.host("red"), lab.host("blue"))
        WORKS[name](lab)
    said = []
    for count in range(20):
        with Lab() as lab:
            lab.connect(lab.host("red"), lab.host("blue"))
            with descriptors_left(count):
                said.append(refusal(WORKS[name], lab))
    assert any(said)
    assert all("ulimit -n" in each for each in said if each), said

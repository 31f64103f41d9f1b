from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_netns import Namespace, ready


@dataclass
class Candidate:
    """A process, as conditions see it."""

    netns: int = -1
    output: str = ""


@pytest.mark.parametrize("port", [0, -1, 65536, "80", 80.0, True, None])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="it can be 1 to 65535"):
        ready.listening(port)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match="'sctp'; it can be 'tcp' or 'udp'"):
        ready.listening(80, "sctp")  # type: ignore[arg-type]


def test_output_matches_at_the_start_of_any_line() -> None:
    condition = ready.output(r"^ready in \d+ s$")
    assert not condition.check(Candidate(output="not ready in 3 s\n"))
    assert condition.check(Candidate(output="starting\nready in 3 s\nserving\n"))


def test_a_compiled_pattern_keeps_its_flags() -> None:
    assert ready.output(re.compile("READY", re.IGNORECASE)).check(Candidate(output="ready"))


def test_a_path_may_be_of_any_kind(tmp_path: Path) -> None:
    link = tmp_path / "dangling"
    condition = ready.path(link)
    assert not condition.check(Candidate())
    link.symlink_to("nowhere")
    assert condition.check(Candidate())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (8080, "something listens on tcp port 8080"),
        (ready.listening(53, "udp"), "something listens on udp port 53"),
        (ready.output("up$"), "the output matches 'up$'"),
        (ready.path("/run/it.sock"), "'/run/it.sock' exists"),
        (str.isdigit, "str.isdigit() is true"),
    ],
)
def test_every_condition_says_what_it_awaits(value: ready.Ready, words: str) -> None:
    assert ready.condition_of(value).description == words
    assert words in repr(ready.condition_of(value))


@pytest.mark.parametrize("value", ["8080", None, True, 1.5, [8080]])
def test_anything_else_is_no_condition(value: object) -> None:
    with pytest.raises(TypeError, match="expected a TCP port, a condition"):
        ready.condition_of(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::")]
)
def test_listening_ports_are_found_in_both_families(netns: Namespace, family: int, address: str) -> None:
    listener = netns.socket(family)
    listener.bind((address, 8080))
    assert ready.listening_ports(netns.fd, "tcp") == set()
    listener.listen()
    assert ready.listening_ports(netns.fd, "tcp") == {8080}
    receiver = netns.socket(family, socket.SOCK_DGRAM)
    receiver.bind((address, 5353))
    assert ready.listening_ports(netns.fd, "udp") == {5353}


def test_a_connected_socket_listens_to_nobody(netns: Namespace) -> None:
    sender = netns.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(("127.0.0.1", 9))
    assert ready.listening_ports(netns.fd, "udp") == set()

from __future__ import annotations

from collections.abc import Callable

import pytest
from conversation import address_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSRR
from udp_server import server

from pytest_netns import DnsResult, Host, Lab, eventually

versions = pytest.mark.parametrize("version", [4, 6])

ZONE = {
    (b"red.example.", 1): ["10.0.0.1", "10.0.0.2"],
    (b"red.example.", 28): ["fd00::1"],
    (b"red.example.", 16): [b"some text"],
    (b"red.example.", 2): ["ns.example."],
}


def answer(data: bytes) -> bytes:
    """What a name server of the zone says."""
    question = DNS(data)
    asked = question.qd[0]
    if asked.qname == b"refused.example.":
        return bytes(DNS(id=question.id, qr=1, rcode=5, qd=question.qd))
    if asked.qname != b"red.example.":
        return bytes(DNS(id=question.id, qr=1, rcode=3, qd=question.qd))
    kind = asked.qtype
    records = [DNSRR(rrname=asked.qname, type=kind, rdata=data) for data in ZONE.get((asked.qname, kind), [])]
    return bytes(DNS(id=question.id, qr=1, qd=question.qd, an=records))


@versions
@pytest.mark.parametrize(
    ("qtype", "answers"),
    [("A", ("10.0.0.1", "10.0.0.2")), ("AAAA", ("fd00::1",)), ("TXT", ("some text",)), ("NS", ("ns.example.",))],
)
def test_records_are_given_back_in_order(
    veth_pair: tuple[Host, Host], version: int, qtype: str, answers: tuple[str, ...]
) -> None:
    left, right = veth_pair
    with server(right, 53, answer):
        result = left.dns(address_of(right, version), "red.example", qtype, timeout=20)
    assert result
    assert (result.rcode, result.answers) == ("NOERROR", answers)
    assert (result.name, result.qtype) == ("red.example", qtype)
    assert result.udp.sender == address_of(right, version)
    assert result.reply is not None
    assert result.reply.qd[0].qname == b"red.example."
    assert repr(result).endswith(f"for red.example {qtype}: NOERROR {', '.join(answers)}>")


def test_an_address_is_asked_for_unless_told_otherwise_and_of_port_53(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with server(right, 53, answer), server(right, 5353, lambda data: answer(data.replace(b"green", b"red\0\0"))):
        assert left.dns(right, "red.example", timeout=20).answers == ("10.0.0.1", "10.0.0.2")
        assert left.dns(right, "red.example", port=5353, timeout=20)


@pytest.mark.parametrize(("name", "rcode"), [("green.example", "NXDOMAIN"), ("refused.example", "REFUSED")])
def test_a_refusal_is_told_in_the_words_of_the_rfc(veth_pair: tuple[Host, Host], name: str, rcode: str) -> None:
    left, right = veth_pair
    with server(right, 53, answer):
        result = left.dns(right, name, timeout=20)
    assert not result
    assert (result.rcode, result.answers) == (rcode, ())
    assert repr(result).endswith(f"for {name} A: {rcode} without answers>")


def test_no_record_of_that_kind_is_falsy_without_an_error(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair
    with server(right, 53, answer):
        result = left.dns(right, "red.example", "MX", timeout=20)
    assert not result
    assert (result.rcode, result.answers) == ("NOERROR", ())


def test_nobody_there_or_nothing_said_is_told_as_udp_tells_it(veth_pair: tuple[Host, Host]) -> None:
    left, right = veth_pair

    def asked() -> list[DnsResult]:
        return [left.dns(right, "red.example", timeout=0.05)]

    closed = left.dns(right.ip4, "red.example")
    assert (closed.rcode, closed.answers, closed.udp.state, closed.reply) == (None, (), "closed", None)
    assert not closed
    assert repr(closed).endswith(f": Destination Port Unreachable, from {right.ip4}>")
    with server(right, 53, lambda _: None):
        # what the server, a thread, has not read yet is not silence
        (silent,) = eventually(lambda: [each for each in asked() if each.udp.state == "silent"], within=20)
    assert not silent
    assert repr(silent).endswith("for red.example A: silent>")


def other_identifier(question: bytes) -> bytes:
    reply = answer(question)
    return bytes([reply[0] ^ 1]) + reply[1:]


@pytest.mark.parametrize("says", [lambda _: b"", lambda _: b"no", lambda _: bytes(40), other_identifier])
def test_an_answer_that_is_none_has_no_rcode(veth_pair: tuple[Host, Host], says: Callable[[bytes], bytes]) -> None:
    left, right = veth_pair
    with server(right, 53, says):
        result = left.dns(right, "red.example", timeout=20)
    assert not result
    assert (result.rcode, result.answers, result.reply) == (None, (), None)
    assert result.udp.state == "answered"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100), st.integers(0, 60))
def test_a_hostile_answer_raises_nothing(veth_pair: tuple[Host, Host], rest: bytes, kept: int) -> None:
    left, right = veth_pair
    with server(right, 53, lambda question: answer(question)[: kept + 2] + rest):
        assert repr(left.dns(right.ip4, "red.example")).startswith("<DnsResult left asks ")


def test_it_can_be_asked_through_a_router(lab: Lab) -> None:
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router)
    lab.connect(router, blue)
    lab.autoroute()
    with server(blue, 53, answer):
        assert red.dns(blue, "red.example", timeout=20)


@pytest.mark.parametrize("wrong", ["a", "", "QUX", 1])
def test_an_unknown_kind_of_record_is_a_value_error(veth_pair: tuple[Host, Host], wrong: str) -> None:
    with pytest.raises(ValueError, match=r"qtype is .*; it can be A, AAAA, MX"):
        veth_pair[0].dns(veth_pair[1], "red.example", wrong)

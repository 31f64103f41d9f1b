from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_netns.probe import icmp


@given(st.binary(max_size=300))
def test_a_message_with_its_checksum_sums_up_to_zero(data: bytes) -> None:
    data += b"\0" * (len(data) % 2)
    assert icmp.checksum(data + struct.pack("!H", icmp.checksum(data))) == 0


def test_the_checksum_of_the_example_in_rfc_1071() -> None:
    assert icmp.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


def test_an_odd_byte_counts_as_if_a_zero_followed() -> None:
    assert icmp.checksum(b"\x12\x34\x56") == icmp.checksum(b"\x12\x34\x56\x00")


@given(st.sampled_from([4, 6]), st.binary(max_size=120))
def test_quotations_of_anything_are_dissected_without_an_error(version: int, data: bytes) -> None:
    found = icmp.quoted(version, data)
    if found is not None:
        assert len(found.payload) >= 8
        assert len(found.destination) == (4 if version == 4 else 16)


@pytest.mark.parametrize("first", [0x44, 0x40, 0x4F, 0x65, 0x05])
def test_a_quotation_with_a_header_length_that_cannot_be_is_none(first: int) -> None:
    assert icmp.quoted(4, bytes([first]) + bytes(40)) is None


@pytest.mark.parametrize(("version", "least"), [(4, 28), (6, 48)])
def test_a_quotation_needs_the_header_and_eight_bytes(version: int, least: int) -> None:
    data = bytes([0x45 if version == 4 else 0x60]) + bytes(least - 1)
    assert icmp.quoted(version, data) is not None
    assert icmp.quoted(version, data[:-1]) is None


@given(
    st.sampled_from([4, 6]),
    st.integers(0, 255).filter(lambda protocol: protocol != 44),
    st.binary(min_size=8),
    st.data(),
)
def test_what_is_quoted_is_found_again(version: int, protocol: int, payload: bytes, data: st.DataObject) -> None:
    address = data.draw(st.ip_addresses(v=version))
    if version == 4:
        words = data.draw(st.integers(5, 15))
        header = (
            bytes([0x40 + words]) + bytes(8) + bytes([protocol]) + bytes(6) + address.packed + bytes(words * 4 - 20)
        )
    else:
        header = b"\x60" + bytes(5) + bytes([protocol, 64]) + bytes(16) + address.packed
    assert icmp.quoted(version, header + payload) == icmp.Quoted(protocol, address.packed, payload)


def test_a_quotation_with_options_is_dissected_behind_them() -> None:
    header = bytes([0x46]) + bytes(8) + bytes([17]) + bytes(6) + bytes([10, 0, 0, 2]) + bytes(4)
    found = icmp.quoted(4, header + b"payload!")
    assert found == icmp.Quoted(17, bytes([10, 0, 0, 2]), b"payload!")


def test_a_quoted_fragment_is_dissected_behind_its_header() -> None:
    address = IPv6Address("fd00::2").packed
    header = b"\x60" + bytes(5) + bytes([44, 64]) + bytes(16) + address
    fragment = bytes([58]) + bytes(7)
    assert icmp.quoted(6, header + fragment + b"payload!") == icmp.Quoted(58, address, b"payload!")


@pytest.mark.parametrize(
    ("version", "sender", "kind", "code", "rest", "text"),
    [
        (4, "10.0.0.1", 3, 1, bytes(4), "Destination Host Unreachable, from 10.0.0.1"),
        (4, "10.0.0.1", 3, 4, b"\0\0\x05\x14", "Fragmentation needed and DF set (mtu 1300), from 10.0.0.1"),
        (4, "10.0.0.1", 3, 4, bytes(4), "Fragmentation needed and DF set, from 10.0.0.1"),
        (4, "10.0.0.1", 11, 0, bytes(4), "Time to live exceeded, from 10.0.0.1"),
        (4, "10.0.0.1", 77, 7, bytes(4), "ICMP type 77 code 7, from 10.0.0.1"),
        (6, "fe80::1%eth0", 1, 3, bytes(4), "Address unreachable, from fe80::1"),
        (6, "fd00::1", 2, 0, b"\0\0\x05\x00", "Packet too big (mtu 1280), from fd00::1"),
    ],
)
def test_errors_are_told_in_the_words_of_ping(
    version: int, sender: str, kind: int, code: int, rest: bytes, text: str
) -> None:
    error = icmp.icmp_error(version, sender, kind, code, rest)
    assert str(error) == text
    assert isinstance(error.sender, IPv4Address if version == 4 else IPv6Address)
    assert (error.type, error.code, error.errno) == (kind, code, None)


def test_an_error_of_the_own_kernel_has_no_sender() -> None:
    error = icmp.local_error(OSError(101, "whatever"))
    assert (str(error), error.errno, error.sender) == ("Network is unreachable", 101, None)

"""Filter expressions of pcap-filter(7), compiled by libpcap in this process; tcpdump is not needed."""

from __future__ import annotations

import ctypes
import re
import socket
import struct
from functools import cache

from pytest_netns.kernel.libpcap import Instruction, Program, libpcap
from pytest_netns.kernel.locks import Lock

_DLT_EN10MB = 1
_SNAPLEN = 0x40000
_SO_ATTACH_FILTER = 26

_lock = Lock("compiling a capture filter")  # older libpcaps compile with global state


@cache
def compile_filter(text: str) -> bytes:
    """The classic BPF program for an expression, for Ethernet. Names of hosts in it are for ``filter_names``.

    Raises:
        ValueError: libpcap's own message.
        UnsupportedError: libpcap is not installed.
    """
    code, complaint = _compile(text)
    if complaint:
        raise ValueError(f"filter {text!r}: {complaint}; see pcap-filter(7)")
    return code


def complaint(text: str) -> str:
    """What libpcap says of an expression; empty if nothing is wrong. Raises UnsupportedError."""
    return _compile(text)[1]


def _compile(text: str) -> tuple[bytes, str]:
    library = libpcap()
    with _lock:
        handle = library.pcap_open_dead(_DLT_EN10MB, _SNAPLEN)
        program = Program()
        try:
            if library.pcap_compile(handle, ctypes.byref(program), text.encode(), 1, 0xFFFFFFFF):
                return b"", library.pcap_geterr(handle).decode("utf-8", "replace") or "it cannot be compiled"
            code = ctypes.string_at(program.instructions, program.length * ctypes.sizeof(Instruction))
            library.pcap_freecode(ctypes.byref(program))
        finally:
            library.pcap_close(handle)
    return code, ""


def attach(sock: socket.socket, code: bytes) -> None:
    """Let a packet socket see only what a program accepts. Raises OSError."""
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(code) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def looks_at_tags(text: str) -> bool:
    """Whether an expression is about VLAN tags, which the kernel takes off before a socket's filter sees the frame."""
    return re.search(r"\b(vlan|ether)\b", text) is not None


def accepts(code: bytes, data: bytes) -> bool:
    """Whether a program accepts a frame; run by libpcap in this process."""
    instructions = ctypes.create_string_buffer(code)
    program = Program(len(code) // 8, ctypes.cast(instructions, ctypes.POINTER(Instruction)))
    header = struct.pack("llII", 0, 0, len(data), len(data))
    return bool(libpcap().pcap_offline_filter(ctypes.byref(program), header, data))

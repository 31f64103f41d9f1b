"""Filter expressions of pcap-filter(7), compiled by libpcap in this process; tcpdump is not needed."""

from __future__ import annotations

import ctypes
import re
import socket
import struct
import threading
from functools import cache

from pytest_netns.errors import UnsupportedError

_DLT_EN10MB = 1
_SNAPLEN = 0x40000
_SO_ATTACH_FILTER = 26

_lock = threading.Lock()  # older libpcaps compile with global state


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.POINTER(_Instruction)))


@cache
def _libpcap() -> ctypes.CDLL:
    for name in ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = ctypes.c_void_p
        library.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
        library.pcap_compile.argtypes = [
            ctypes.c_void_p,
            ctypes.POINTER(_Program),
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint32,
        ]
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_geterr.argtypes = [ctypes.c_void_p]
        library.pcap_freecode.argtypes = [ctypes.POINTER(_Program)]
        library.pcap_freecode.restype = None
        library.pcap_offline_filter.argtypes = [ctypes.POINTER(_Program), ctypes.c_char_p, ctypes.c_char_p]
        library.pcap_close.argtypes = [ctypes.c_void_p]
        library.pcap_close.restype = None
        return library
    raise UnsupportedError(
        "a filter in the words of pcap-filter(7) needs libpcap, which is not installed; on Debian and Ubuntu: sudo "
        "apt-get install libpcap0.8; or filter by a scapy packet or a function"
    )


@cache
def compile_filter(text: str) -> bytes:
    """The classic BPF program for an expression, for Ethernet.

    Raises:
        ValueError: libpcap's own message.
        UnsupportedError: libpcap is not installed.
    """
    library = _libpcap()
    with _lock:
        handle = library.pcap_open_dead(_DLT_EN10MB, _SNAPLEN)
        program = _Program()
        try:
            if library.pcap_compile(handle, ctypes.byref(program), text.encode(), 1, 0xFFFFFFFF):
                message = library.pcap_geterr(handle).decode("utf-8", "replace")
                raise ValueError(f"filter {text!r}: {message}; see pcap-filter(7)")
            code = ctypes.string_at(program.instructions, program.length * ctypes.sizeof(_Instruction))
            library.pcap_freecode(ctypes.byref(program))
        finally:
            library.pcap_close(handle)
    return code


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
    program = _Program(len(code) // 8, ctypes.cast(instructions, ctypes.POINTER(_Instruction)))
    header = struct.pack("llII", 0, 0, len(data), len(data))
    return bool(_libpcap().pcap_offline_filter(ctypes.byref(program), header, data))

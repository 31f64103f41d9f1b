"""libpcap: loaded into this process when a pcap-filter(7) expression is first compiled."""

from __future__ import annotations

import ctypes
from functools import cache

from pytest_netns.errors import UnsupportedError


class Instruction(ctypes.Structure):
    """``struct bpf_insn`` of ``<pcap/bpf.h>``."""

    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class Program(ctypes.Structure):
    """``struct bpf_program`` of ``<pcap/bpf.h>``."""

    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.POINTER(Instruction)))


@cache
def libpcap() -> ctypes.CDLL:
    """The loaded library.

    Raises:
        UnsupportedError: it is not installed.
    """
    for name in ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = ctypes.c_void_p
        library.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
        library.pcap_compile.argtypes = [
            ctypes.c_void_p,
            ctypes.POINTER(Program),
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint32,
        ]
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_geterr.argtypes = [ctypes.c_void_p]
        library.pcap_freecode.argtypes = [ctypes.POINTER(Program)]
        library.pcap_freecode.restype = None
        library.pcap_offline_filter.argtypes = [ctypes.POINTER(Program), ctypes.c_char_p, ctypes.c_char_p]
        library.pcap_close.argtypes = [ctypes.c_void_p]
        library.pcap_close.restype = None
        return library
    raise UnsupportedError(
        "a filter in the words of pcap-filter(7) needs libpcap, which is not installed; on Debian and Ubuntu: sudo "
        "apt-get install libpcap0.8; or filter by a scapy packet or a function"
    )

"""Tracefs, read from a detached mount: it appears in no mount namespace and ends with its descriptor."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_netns.errors import UnsupportedError
from pytest_netns.kernel.syscalls import system_call

# From <asm/unistd.h>: the same on all architectures since Linux 5.2, except alpha.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6

_FIELD = re.compile(r"field:.*?(\w+)(?:\[\])?;\s*offset:(\d+);\s*size:(\d+);")
_SYMBOL = re.compile(r'\{ (\d+), "(\w+)" \}')


@dataclass(frozen=True, slots=True)
class Tracepoint:
    """A kernel tracepoint.

    Attributes:
        name: its name, with the group: ``skb/kfree_skb``.
        number: its ID for perf_event_open(2).
        offsets: byte offsets of the fields in a record, by name.
        symbols: names of the values of an enumeration; empty if it has none.
    """

    name: str
    number: int
    offsets: Mapping[str, int]
    symbols: Mapping[int, str]


def tracepoints(*names: str) -> list[Tracepoint]:
    """Look tracepoints up by name: ``net/netif_receive_skb``.

    Raises:
        UnsupportedError: no permission to read them, or the kernel has no tracepoint of that name.
    """
    if not sys.platform.startswith("linux"):
        raise UnsupportedError(f"tracepoints exist on Linux only, and this is {sys.platform}")
    try:
        root = _detached()
    except OSError as error:
        raise UnsupportedError(f"the kernel's tracefs cannot be read: {error.strerror}; needs root") from error
    try:
        return [_read(root, name) for name in names]
    except OSError as error:
        raise UnsupportedError(f"this kernel lacks a tracepoint: {error}") from error
    finally:
        os.close(root)


def _detached() -> int:
    context = system_call(_FSOPEN, b"tracefs", _FSOPEN_CLOEXEC)
    try:
        system_call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return system_call(_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


def _read(root: int, name: str) -> Tracepoint:
    number = int(_text(root, f"events/{name}/id"))
    layout = _text(root, f"events/{name}/format")
    fields, _, shown = layout.partition("print fmt:")
    return Tracepoint(
        name,
        number,
        {field: int(offset) for field, offset, _ in _FIELD.findall(fields)},
        {int(value): symbol for value, symbol in _SYMBOL.findall(shown)},
    )


def _text(root: int, path: str) -> str:
    with open(path, encoding="ascii", opener=lambda path, flags: os.open(path, flags, dir_fd=root)) as file:
        return file.read()

"""pyroute2's message classes as encoders and decoders for this package's own netlink sockets.

pyroute2 encodes and decodes messages; ``NetlinkSocket`` sends them, as it decides about namespace, thread, timeout and
error messages. pyroute2's own sockets are not used: each has an event loop and a thread, and handles forks and
interrupts in its own way.

pyroute2 is imported on first use, which takes some 180 ms: call ``prepare_pyroute2()``, then import a class. A message
takes 0.1 to 0.4 ms each way, against 0.01 ms with the hand-written encoder. CONTRIBUTING says which use which.
"""

from __future__ import annotations

import gc
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar, cast

from pytest_netns.kernel.interrupts import uninterrupted
from pytest_netns.kernel.standard_sockets import standard_sockets

_HEADER = struct.Struct("=IHHII")


class Message(Protocol):
    """An ``nlmsg`` of pyroute2, or a nested attribute of one (``nla``)."""

    data: bytes | bytearray

    def encode(self) -> None:
        """Build ``data``, including the header."""

    def decode(self) -> None:
        """Parse ``data``."""

    def get_attr(self, attr: str) -> object:
        """The value of the first attribute of that name, e.g. ``"CTA_TIMEOUT"``; None if there is none."""

    def get_attrs(self, attr: str) -> list[object]:
        """The values of all attributes of that name."""

    def dump(self) -> dict[str, object]:
        """A copy as plain values, in the form that ``encode`` accepts."""

    def __getitem__(self, key: str, /) -> object: ...

    def __setitem__(self, key: str, value: object, /) -> None: ...


_A = TypeVar("_A")


def prepare_pyroute2() -> None:
    """Make sure that importing pyroute2 works and is not interrupted. Call it before each import."""
    if "pyroute2" not in sys.modules:
        # Its classes derive from ``socket.socket``; and an interrupted import would leave it half initialized.
        with uninterrupted, standard_sockets():
            import pyroute2.config

            _close_mocks(getattr(pyroute2.config, "LocalMock", object))


def _close_mocks(mock: type) -> None:
    """Close the sockets that pyroute2 0.9.1 opens on import for its own tests: each keeps its namespace alive."""
    if issubclass(mock, socket.socket):
        for each in gc.get_referrers(mock):
            if isinstance(each, mock):
                each.close()


def encode(
    kind: Callable[..., Message], fields: Mapping[str, object], attributes: Iterable[tuple[str, object]] = ()
) -> bytes:
    """Encode the body of a message, i.e. what follows the netlink header.

    Args:
        kind: pyroute2's class of the message.
        fields: fields of the fixed header that the body begins with; those left out are 0.
        attributes: attributes by their names in the kernel's headers; nested ones as ``{"attrs": [...]}``.
    """
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes)
    message.encode()
    return bytes(message.data[_HEADER.size :])


def decode(kind: Callable[..., Message], body: bytes) -> Message:
    """Decode a message from its body."""
    message = kind(_HEADER.pack(_HEADER.size + len(body), 0, 0, 0, 0) + body)
    message.decode()
    return message


def attribute_of(message: Message, name: str, default: _A) -> _A:
    """The value of an attribute, of the same type as ``default``; ``default`` if there is no such attribute."""
    value = message.get_attr(name)
    return default if value is None else cast("_A", value)


def nested_in(message: Message, *names: str) -> Message | None:
    """A nested attribute, by the names from the outermost to its own; None if there is none."""
    pointer: Message | None = message
    for name in names:
        if pointer is None:
            return None
        pointer = cast("Message | None", pointer.get_attr(name))
    return pointer

"""pyroute2's message classes as encoders and decoders, for netlink sockets of ours.

pyroute2 knows how a message is built. Who sends it, from which namespace and thread, how long the answer is awaited and
what a refusal is called stays ours: so none of its sockets is opened here, which have an event loop and a thread each,
and their own view of forks and interrupts.

Its import takes some 180 ms and is done on use: ``prepare_pyroute2()``, then the import of a class. A message takes 0.1
to 0.4 ms each way, where our encoder takes 0.01 ms. CONTRIBUTING says which messages are whose.
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
        """Build ``data``, the header included."""

    def decode(self) -> None:
        """Read ``data``."""

    def get_attr(self, attr: str) -> object:
        """The value of the first attribute of that name, e.g. ``"CTA_TIMEOUT"``; None if there is none."""

    def get_attrs(self, attr: str) -> list[object]:
        """The values of all of that name."""

    def dump(self) -> dict[str, object]:
        """A copy in plain values, which ``encode`` takes."""

    def __getitem__(self, key: str, /) -> object: ...

    def __setitem__(self, key: str, value: object, /) -> None: ...


_A = TypeVar("_A")


def prepare_pyroute2() -> None:
    """Called before something of pyroute2 is imported: see to it that this works, and is done as a whole."""
    if "pyroute2" not in sys.modules:
        # Its classes are derived from ``socket.socket``; and it is not to be left half imported.
        with uninterrupted, standard_sockets():
            import pyroute2.config

            _close_mocks(getattr(pyroute2.config, "LocalMock", object))


def _close_mocks(mock: type) -> None:
    """Close sockets that pyroute2 0.9.1 opens on import, for tests of its own: each keeps its namespace alive."""
    if issubclass(mock, socket.socket):
        for each in gc.get_referrers(mock):
            if isinstance(each, mock):
                each.close()


def encode(
    kind: Callable[..., Message], fields: Mapping[str, object], attributes: Iterable[tuple[str, object]] = ()
) -> bytes:
    """The body of a message: what follows the header of netlink.

    Args:
        kind: its class.
        fields: of the fixed part that the body begins with; 0 for what is left out.
        attributes: by their names in the kernel's headers; nested ones as ``{"attrs": [...]}``.
    """
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes)
    message.encode()
    return bytes(message.data[_HEADER.size :])


def decode(kind: Callable[..., Message], body: bytes) -> Message:
    """A message from its body."""
    message = kind(_HEADER.pack(_HEADER.size + len(body), 0, 0, 0, 0) + body)
    message.decode()
    return message


def attribute_of(message: Message, name: str, default: _A) -> _A:
    """The value of an attribute, which has the type of ``default``; that if there is no such attribute."""
    value = message.get_attr(name)
    return default if value is None else cast("_A", value)


def nested_in(message: Message, *names: str) -> Message | None:
    """The attribute within others of these names, from the outermost; None if there is none."""
    pointer: Message | None = message
    for name in names:
        if pointer is None:
            return None
        pointer = cast("Message | None", pointer.get_attr(name))
    return pointer

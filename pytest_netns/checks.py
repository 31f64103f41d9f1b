"""Checks of arguments: what is of a wrong type or out of range is refused where it comes in, by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeGuard

from pytest_netns.errors import TopologyError

#: Seconds that a wait may take at most.
A_DAY = 86400.0


def is_whole(value: object, low: int, high: int) -> TypeGuard[int]:
    """Whether it is a whole number from ``low`` to ``high``; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, low: float, high: float) -> TypeGuard[float]:
    """Whether it is a number from ``low`` to ``high``; True and False are none, nor is NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless ``low <= value <= high``."""
    if not is_number(value, low, high):
        raise ValueError(f"{name} is {value!r}; it can be {low} to {high}")


def check_whole(name: str, value: int, low: int, high: int) -> None:
    """Raise ValueError unless it is a whole number and ``low <= value <= high``."""
    if not is_whole(value, low, high):
        whole = ", a whole number" if isinstance(value, float) else ""
        raise ValueError(f"{name} is {value!r}; it can be {low} to {high}{whole}")


def check_wait(name: str, value: float | None) -> None:
    """Raise ValueError unless it is a number of seconds, up to a day; None is for the caller to understand."""
    if value is not None:
        check_range(name, value, 0, A_DAY)


def check_port(port: object) -> int:
    """A port number. Raises ValueError."""
    if not is_whole(port, 1, 65535):
        raise ValueError(f"port is {port!r}; it can be 1 to 65535")
    return port


def check_text(name: str, value: object) -> None:
    """Raise TypeError unless it is text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; expected text")


def check_path(name: str, value: object) -> None:
    """Raise TypeError unless it can be the name of a file."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} is {value!r}; expected the name of a file, as text or pathlib.Path")


def check_function(name: str, value: object) -> None:
    """Raise TypeError unless it can be called."""
    if not isinstance(value, Callable):  # type: ignore[arg-type]
        raise TypeError(f"{name} is {value!r}; expected a function")


def check_choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise TopologyError unless it is one of these words."""
    if not isinstance(value, str) or value not in allowed:
        raise TopologyError(f"{name} {value!r} is not one of {', '.join(allowed)}")


def check_several(name: str, value: object, of: str) -> None:
    """Raise TypeError unless it is a list or the like; ``of`` says of what."""
    if isinstance(value, bytes | bytearray | str | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is {value!r}; expected several {of}, in a list for instance")


def check_sysctls(value: Mapping[str, str | int] | None) -> dict[str, str | int]:
    """A copy of them. Raises TypeError."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"sysctls is {value!r}; expected a mapping of names to values")
    for name, setting in value.items():
        if not isinstance(name, str) or isinstance(setting, bool) or not isinstance(setting, str | int):
            raise TypeError(
                f"sysctls has {name!r}: {setting!r}; expected names, with values that are text or whole numbers"
            )
    return dict(value)

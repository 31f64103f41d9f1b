"""Options: from the ini file, the environment and the command line to one frozen ``Settings``.

``names.OPTIONS`` describes each option; here is what its values may be.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path

import pytest

from pytest_netns.plugin.names import OPTIONS, PREFIX, Option, is_named


class Sandbox(Enum):
    """When the session moves itself into a user namespace."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Pcap(Enum):
    """Whose packets are kept, in pcapng files."""

    OFF = "off"
    FAILED = "failed"
    ALL = "all"


class Unit(Enum):
    """What has a namespace of its own, with the fixtures of that scope and of narrower ones."""

    TEST = "test"
    CLASS = "class"
    MODULE = "module"
    SESSION = "session"


class Leaks(Enum):
    """What becomes of a test that left something alive."""

    ERROR = "error"
    WARN = "warn"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a session was asked for.

    Attributes:
        sandbox: see ``Sandbox``.
        isolate: what runs in a fresh namespace of its own; None: nothing that is not marked.
        isolate_interface: the name of an interface that isolated tests have beside loopback; "" for none.
        require: lack of privileges fails tests instead of skipping them.
        artifacts: the directory that gets a folder for each failed test; None: none is written.
        pcap: see ``Pcap``; the files are among the artifacts.
        shell: a shell in the lab when a test fails.
        keep: wait when a test fails, with its lab as it is.
        leaks: see ``Leaks``.
        root: without privileges, be user 0 inside of the sandbox.
        asked: whether the run named this plugin in any way: ``-p netns``, an option, an ini key, a variable.
    """

    sandbox: Sandbox = Sandbox.AUTO
    require: bool = False
    isolate: Unit | None = None
    isolate_interface: str = ""
    artifacts: Path | None = None
    pcap: Pcap = Pcap.OFF
    shell: bool = False
    keep: bool = False
    leaks: Leaks = Leaks.ERROR
    root: bool = False
    asked: bool = False


_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("true or false")


def _one_of(choices: type[Enum]) -> Callable[[str], object]:
    def parse(text: str) -> Enum:
        try:
            return choices(text)
        except ValueError:
            raise ValueError(", ".join(str(choice.value) for choice in choices)) from None

    return parse


def _unit(text: str) -> Unit | None:
    """As a switch it was there before it had values."""
    try:
        return Unit.TEST if _boolean(text) else None
    except ValueError:
        pass
    try:
        return Unit(text)
    except ValueError:
        raise ValueError("test, class, module, session; true means test, false none") from None


def check_interface(text: object) -> str:
    """The name of an interface for isolated tests. Raises ValueError, which says what one can be."""
    wanted = "a name of 15 characters at most, such as eth0, and not lo, all or default"
    if not isinstance(text, str) or not _INTERFACE.fullmatch(text):
        raise ValueError(wanted)
    from pytest_netns.errors import TopologyError
    from pytest_netns.topology.naming import check_interface_name

    try:
        return check_interface_name(text, "")
    except TopologyError:
        raise ValueError(wanted) from None


_INTERFACE = re.compile(r"[A-Za-z0-9_.@-]{1,15}(?<!^\.)(?<!^\.\.)")


def _directory(text: str) -> Path:
    path = Path(text).absolute()
    try:
        usable = bool(text) and (path.is_dir() or not path.exists())
    except OSError:  # a name that is too long
        usable = False
    if not usable:
        raise ValueError("a directory, which is made if it is not there")
    return path


_PARSERS: dict[str, Callable[[str], object]] = {
    "sandbox": _one_of(Sandbox),
    "isolate": _unit,
    "isolate_interface": check_interface,
    "require": _boolean,
    "root": _boolean,
    "artifacts": _directory,
    "pcap": _one_of(Pcap),
    "shell": _boolean,
    "keep": _boolean,
    "leaks": _one_of(Leaks),
}


def _from_ini(config: pytest.Config, option: Option) -> object:
    try:
        return config.getini(option.ini)
    except (TypeError, ValueError, pytest.UsageError) as error:  # which one depends on the version of pytest
        if option.bare is not None:  # in a TOML file it may be true, or a text
            raw = getattr(config, "_inicfg", {}).get(option.ini)  # inicfg itself is deprecated
            if isinstance(value := getattr(raw, "value", raw), bool):
                return str(value).lower()
        allowed = f"a text, {option.metavar}" if option.metavar else "true or false"
        raise pytest.UsageError(f"ini key {option.ini}: {error}; allowed: {allowed}") from None


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    """pytest itself complains of unknown options and ini keys; nobody but us can of variables."""
    known = [option.variable for option in OPTIONS]
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            raise pytest.UsageError(
                f"environment variable {name}: there is no such option; known are {', '.join(known)}"
            )


def read(config: pytest.Config, namespace: object, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a session: the ini file, then the environment, then the command line.

    Args:
        config: for the ini file.
        namespace: the parsed command line, complete or not yet.
        environ: instead of the process's environment.

    Raises:
        pytest.UsageError: a bad value, where it stands, and what is allowed.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    asked = is_named(namespace)
    for option in OPTIONS:
        for origin, text in (
            (f"ini key {option.ini}", _from_ini(config, option)),
            (f"environment variable {option.variable}", environ.get(option.variable)),
            (f"option {option.flag}", getattr(namespace, option.ini, None)),
        ):
            if text is None:
                continue
            asked = True
            try:
                values[option.name] = _PARSERS[option.name](str(text))
                origins[option.name] = origin
            except ValueError as error:
                raise pytest.UsageError(f"{origin}: invalid value {text!r}; allowed: {error}") from None
    if values.get("pcap", Pcap.OFF) is not Pcap.OFF and values.get("artifacts") is None:
        given = f"{origins['pcap']}={Pcap(values['pcap']).value}"
        raise pytest.UsageError(f"{given}: the packets are kept among the artifacts; say where: --netns-artifacts=DIR")
    _refuse_unknown(environ)
    known = {field.name for field in fields(Settings)}
    assert values.keys() <= known
    return Settings(asked=asked, **values)  # type: ignore[arg-type]

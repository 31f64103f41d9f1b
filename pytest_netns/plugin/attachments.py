"""Attachments: what is told of a failed test, in the reports of pytest-html and Allure, where they are written.

Text, a picture of each lab, and what was recorded (``--netns-pcap``).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

import pytest


@dataclass(frozen=True, slots=True)
class Attachment:
    """Something to attach.

    Attributes:
        name: what reports call it.
        kind: ``text``, ``svg`` or ``pcapng``.
        content: its bytes.
    """

    name: str
    kind: str
    content: bytes


def wanted(config: pytest.Config) -> bool:
    """Whether any of these reports is written."""
    return _writes_html(config) or _writes_allure(config)


def recording(name: str, frames: Iterable[object]) -> Attachment:
    """Frames as a file for Wireshark."""
    from typing import cast

    from pytest_netns.capture import pcapng
    from pytest_netns.capture.frame import Frame

    file = io.BytesIO()
    pcapng.write(file, [cast("Frame", frame) for frame in frames], f"recorded in {name}")
    return Attachment(f"{name}.pcapng", "pcapng", file.getvalue())


def attach(config: pytest.Config, report: pytest.TestReport, several: Iterable[Attachment]) -> None:
    """Give them to the reports that are written."""
    html, allure = _writes_html(config), _writes_allure(config)
    for each in several:
        if html:
            _to_html(report, each)
        if allure:
            _to_allure(each)


def _writes_html(config: pytest.Config) -> bool:
    return bool(config.getoption("htmlpath", None))


def _writes_allure(config: pytest.Config) -> bool:
    return bool(config.getoption("allure_report_dir", None))


def _to_html(report: pytest.TestReport, attachment: Attachment) -> None:
    extras = import_module("pytest_html").extras
    if attachment.kind == "text":
        extra = extras.text(attachment.content.decode(), name=attachment.name)
    elif attachment.kind == "svg":
        extra = extras.svg(attachment.content.decode(), name=attachment.name)
    else:  # a link that a click saves
        data = base64.b64encode(attachment.content).decode()
        extra = extras.url(f"data:application/octet-stream;base64,{data}", name=attachment.name)
    report.extras = [*getattr(report, "extras", []), extra]  # type: ignore[attr-defined]


def _to_allure(attachment: Attachment) -> None:
    mime, extension = {
        "text": ("text/plain", "txt"),
        "svg": ("image/svg+xml", "svg"),
        "pcapng": ("application/octet-stream", "pcapng"),
    }[attachment.kind]
    import_module("allure").attach(attachment.content, name=attachment.name, attachment_type=mime, extension=extension)

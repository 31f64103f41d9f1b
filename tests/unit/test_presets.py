"""Presets: values that say what the docstring says."""

from __future__ import annotations

import re

import pytest

from pytest_netns import Impairment, presets


def figures() -> dict[str, list[str]]:
    """The lines of the docstring's table by the name with which each entry begins."""
    found: dict[str, list[str]] = {}
    table = (presets.__doc__ or "").split("====\n")[2]
    name = ""
    for line in table.splitlines():
        if (match := re.match(r"[A-Z]\w+", line)) and not line.startswith(f"{name}_UP"):
            name = match[0]
        found.setdefault(name, []).append(line)
    return found


def test_all_that_were_promised_are_there() -> None:
    promised = {"LAN", "WIFI", "WIFI_BAD", "LTE", "THREE_G", "SATELLITE_LEO", "SATELLITE_GEO", "DSL"}
    assert promised <= set(presets.__all__)
    assert all(isinstance(getattr(presets, name), Impairment) for name in presets.__all__)


@pytest.mark.parametrize("name", [name for name in presets.__all__ if not name.endswith("_UP")])
def test_the_docstring_has_the_figures_and_their_source(name: str) -> None:
    value = getattr(presets, name)
    lines = figures()[name]
    text = " ".join(" ".join(lines).split())
    for word in (f"{value.delay * 1000:g} ms", f"{value.jitter * 1000:g} ms", f"{value.loss * 100:g} %"):
        assert word.startswith("0 ") or word in text or word == "0.1 ms"
    assert value.rate is None or f"{value.rate / 1e6:g} mbit" in text
    up = getattr(presets, f"{name}_UP", value)
    assert up.rate == value.rate or re.search(rf"{up.rate / 1e6:g} mbit|{up.rate / 1e3:g} kbit", text)
    assert re.search(r"our figure|RFC|IMC|WebPageTest|Apple", text)


@pytest.mark.parametrize("name", presets.__all__)
def test_none_reorders(name: str) -> None:
    value = getattr(presets, name)
    assert value.rate is not None or not value.jitter

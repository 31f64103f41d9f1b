"""What is tested here is logic alone: no kernel is asked for a network, so it runs as anybody on any machine."""

from __future__ import annotations

import pytest

from pytest_netns.kernel.netns import create


@pytest.fixture(autouse=True)
def no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that makes a namespace all the same does not belong into this folder."""

    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("a test in tests/unit makes a network namespace: it belongs into the folder of its room")

    monkeypatch.setattr(create, "returning", refuse)

"""Every Python block of the README is a test file that passes."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    text = README.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        yield pytest.param(match[1], id=f"line-{line}")


@pytest.mark.parametrize("block", list(blocks()))
def test_block_passes(block, pytester):
    tests = len(re.findall(r"^def test_", block, re.MULTILINE))
    assert tests > 0, "a block without a test would not be run"
    pytester.makepyfile(block)
    result = pytester.runpytest_subprocess("-p", "netns", "-p", "no:randomly", "-W", "error", "--netns-require")
    result.assert_outcomes(passed=tests)


def test_blocks_are_found():
    assert len(list(blocks())) >= 4

"""Every code block of the documentation and of the README is run, or says why it is not.

What becomes of a block is told by its language, and by an HTML comment in the line above it, which no reader sees. The
comment holds words from this list, parted by semicolons:

``file: NAME``
    The block is a file of that name, for all later blocks of the page too.
``fails``
    Its tests fail. Without this word all of them pass.
``exit: N``
    The commands end with that status. Without it: 0.
``with: OPTIONS``
    pytest gets these, too.
``shows``
    The block is what the block before it printed: each of its lines, in this order. ``...`` stands for any text, and
    in a line of its own for any lines. A line of dashes may be of any length.
``not run: REASON``
    It cannot be run here, and this is why.
``may skip: REASON``
    It needs what not every kernel or machine has, and says so by ``netns_requires``. It counts as skipped then.
``needs: NAMES``
    As ``netns_requires`` takes them, parted by blanks. It is skipped, for that reason, where one of them is lacking.
``not yet: REASON``
    It is about something that does not work yet. The test fails as soon as it does, so that this word is taken away.
``drawing``
    There is nothing in it to run or to check.

By language:

* ``python``: a test file, in a session of its own, with the files of the page beside it.
* ``sh``: commands, in a folder that holds the files of the page.
* Either is only written, for later blocks, if it is a file whose name is not ``test_*.py``.
* ``yaml``, ``toml``, ``ini``: must parse.
* ``text``, ``mermaid``: ``shows`` or ``drawing``.
* ``dockerfile``: ``not run``.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from pytest_server import PytestServer
from slowness import SLOWNESS, patient

import pytest_netns
from pytest_netns.plugin import names

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<comment>[^\n]*) -->\n)?^```(?P<language>[\w{}-]*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
WORDS = {"file", "fails", "exit", "with", "shows", "not run", "may skip", "needs", "not yet", "drawing"}


@dataclass
class Block:
    """One block, and what belongs to it."""

    page: Path
    line: int
    language: str
    text: str
    words: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    shows: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether it is run as tests or commands."""
        if "not run" in self.words or "shows" in self.words:
            return False
        tests = re.match("test_.*[.]py$", self.words.get("file", "test_.py"))
        return bool(self.language == "python" and tests) or (self.language == "sh" and "file" not in self.words)


def words_of(comment: str | None) -> dict[str, str]:
    """The words of a comment and what follows each."""
    known = "|".join(sorted(WORDS))
    # A reason may hold a semicolon.
    parts = [part.partition(":") for part in re.split(rf";\s*(?=(?:{known})(?:;|:|$))", comment or "") if part.strip()]
    return {key.strip(): value.strip() for key, _, value in parts}


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, in order. Those of Sphinx's directives are not among them: the build checks them."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    files: dict[str, str] = {}
    for match in BLOCK.finditer(text):
        if match["language"].startswith("{"):
            continue
        line = text.count("\n", 0, match.start("text"))
        block = Block(page, line, match["language"], match["text"], words_of(match["comment"]))
        if "file" in block.words:
            files[block.words["file"]] = block.text
        block.files = dict(files)
        if "shows" in block.words:
            before = [each for each in found if each.runs]
            assert before, f"{block.id}: nothing was run before it that could show this"
            before[-1].shows.append(block.text)
        found.append(block)
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [
    pytest.param(
        block,
        id=block.id,
        marks=[
            *([pytest.mark.netns_requires(*block.words["needs"].split())] if "needs" in block.words else []),
            *([pytest.mark.xfail(reason=block.words["not yet"], strict=True)] if "not yet" in block.words else []),
            # Each starts a pytest. What a kernel of its own is needed for is run there.
            pytest.mark.skipif(
                SLOWNESS > 1 and "may skip" not in block.words, reason="too slow on an emulated processor"
            ),
        ],
    )
    for block in BLOCKS
    if block.runs
]


# ------------------------------------------------------------------ running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a block is run: with commands that start this very interpreter."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, module in (("pytest", "pytest"), ("pytest-netns", "pytest_netns"), ("python", ""), ("python3", "")):
        script = commands / name
        words = [shlex.quote(sys.executable), *(["-m", module] if module else [])]
        script.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
        script.chmod(0o755)
    inside = tmp_path / "project"
    inside.mkdir()
    return inside


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PytestServer]:
    """What the sessions are forked from."""
    with PytestServer([], str(tmp_path_factory.mktemp("home"))) as server:
        yield server


def run(block: Block, folder: Path, server: PytestServer) -> tuple[int, str]:
    """Run a block; its exit status and all that it wrote."""
    for name, text in block.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    # Warnings are errors, nothing may be skipped for lack of networks, and no plugin comes along that pages do not use.
    options = [
        "-p",
        "netns",
        "-p",
        "xdist",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        "-rfEs",
        *shlex.split(block.words.get("with", "")),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {
        "PATH": f"{folder.parent / 'bin'}:{os.environ['PATH']}",
        "PYTEST_ADDOPTS": shlex.join(options),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_NETNS_REQUIRE": "1",
        "PY_COLORS": "0",
        "COLUMNS": "120",
    }
    if block.language == "sh":
        done = subprocess.run(
            ["sh", "-eu", "-c", block.text],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patient(100),
            check=False,
        )
        return done.returncode, done.stdout
    name = block.words.get("file", "test_block.py")
    (folder / name).write_text(block.text)
    with (folder.parent / "output").open("w+b") as output:
        status = server.run([name], str(folder), environment, output, patient(100))
        output.seek(0)
        return status, output.read().decode()


def pattern(line: str) -> re.Pattern[str]:
    """A shown line, as what it stands for."""
    parts = re.split(r"(\.\.\.|-{3,}|={3,}|_{3,})", line.rstrip())
    return re.compile(
        "".join(
            ".*" if part == "..." else part[:3] + "+" if part[:3] in ("---", "===", "___") else re.escape(part)
            for part in parts
        )
    )


def not_shown(shown: str, output: str) -> str | None:
    """The first line that is shown and was not printed, or not in this order; None if all were."""
    printed = iter(line.rstrip() for line in output.splitlines())
    for line in shown.splitlines():
        if line.strip() and line.strip() != "..." and not any(pattern(line).fullmatch(each) for each in printed):
            return line
    return None


@pytest.mark.parametrize("block", RUN)
def test_block_does_what_the_page_says(block: Block, folder: Path, server: PytestServer) -> None:
    status, output = run(block, folder, server)
    if block.language == "sh":
        assert status == int(block.words.get("exit", "0")), output
    else:
        tests = len(re.findall(r"^ *(?:async )?def test_", block.text, re.MULTILINE))
        assert tests > 0, "a block without a test would not be run"
        fails = "fails" in block.words
        assert status == (1 if fails else 0), output
        counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|skipped|error)", output)}
        lacking = re.findall(r"^SKIPPED .*: (netns_requires\(.*)$", output, re.MULTILINE)
        skips = "may skip" in block.words and len(lacking) > 0
        assert counts.keys() - {"skipped" if skips else ""} <= {"failed" if fails else "passed"}, output
        assert sum(counts.values()) >= tests, output
    for shown in block.shows:
        missing = not_shown(shown, output)
        assert missing is None, f"the page shows {missing!r}, and this was printed:\n{output}"
    if "may skip" in block.words and lacking:
        pytest.skip(lacking[0])


# ------------------------------------------------------------------ all blocks


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_no_block_is_passed_over(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = blocks_of(page)
    directives = len(re.findall(r"^`{3,}\{", text, re.MULTILINE))
    fences = len(re.findall(r"^`{3,}", text, re.MULTILINE))
    assert fences == 2 * (len(blocks) + directives), "a fence is open, or indented, or a comment is not right above it"
    for block in blocks:
        assert block.words.keys() <= WORDS, f"{block.id}: what is {block.words.keys() - WORDS}?"
        for word in ("not run", "may skip", "not yet"):
            assert len(block.words.get(word, "a good reason").split()) > 2, f"{block.id}: {word}, and why?"
        assert "may skip" not in block.words or "netns_requires(" in block.text, f"{block.id}: why would it be skipped?"
        match block.language:
            case "python" | "sh":
                pass
            case "yaml":
                assert yaml.safe_load(block.text), block.id
            case "toml":
                assert tomllib.loads(block.text), block.id
            case "ini":
                parser = configparser.ConfigParser()
                parser.read_string(block.text)
                assert parser.sections(), block.id
            case "text" | "mermaid" | "":
                assert block.words.keys() & {"shows", "drawing"}, f"{block.id}: what is it?"
            case "dockerfile":
                assert "not run" in block.words, block.id
            case _:
                pytest.fail(f"{block.id}: blocks of {block.language!r} are not known")


def test_a_comment_that_belongs_to_no_block_is_a_mistake() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        stray = [
            match[0]
            for match in re.finditer(r"^<!-- (.*) -->\n(?!```)", text, re.MULTILINE)
            if words_of(match[1]).keys() & WORDS
        ]
        assert stray == [], page


def test_enough_is_run() -> None:
    assert len([block for block in BLOCKS if block.runs]) > 40


def test_every_fixture_has_its_section_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "fixtures.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^```\{netns-fixture\} (\w+)$", text, re.MULTILINE)) == names.FIXTURES


def test_every_error_has_its_line_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    public = [getattr(pytest_netns, name) for name in pytest_netns.__all__]
    errors = {each.__name__ for each in public if isinstance(each, type) and issubclass(each, BaseException)}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == errors - {"NetnsError"}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_files_that_pages_link_to_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+\.(?:md|py|yml))(?:#[^)]*)?\)", text):
        assert (page.parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_names_that_pages_mention_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    flags = {option.flag for option in names.OPTIONS} | {"--netns-doctor"}
    assert set(re.findall(r"--netns-[a-z]+(?:-[a-z]+)*", text)) <= flags
    assert set(re.findall(r"PYTEST_NETNS_[A-Z_]+", text)) <= {option.variable for option in names.OPTIONS}
    mentioned = set(re.findall(r"\bassert_[a-z_]+[a-z]", text))
    assert mentioned <= set(pytest_netns.__all__)


@pytest.mark.parametrize(
    ("shown", "good"),
    [
        ("one\nthree", True),
        ("one\n...\nthree", True),
        ("three\none", False),
        ("on", False),
        ("t...o", True),
        ("------ x ---", True),
        ("four", False),
    ],
)
def test_shown_lines_are_looked_for_in_order(shown: str, good: bool) -> None:
    assert (not_shown(shown, "one\ntwo\nthree\n---- x -----\n") is None) is good

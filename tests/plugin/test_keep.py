"""``--netns-keep``: the session waits at a failure, with the lab as it is."""

from __future__ import annotations

import re
import subprocess
import sys

from .inner import Project, User, as_user
from .person import Person

WAITING = r"the lab is kept; Enter goes on: "


def test_it_waits_until_enter_and_can_be_entered(project: Project, user: User) -> None:
    project.write(
        "test_inside.py",
        """
        def test_one(veth_pair):
            assert not veth_pair

        def test_two(netns):
            assert not netns

        def test_three(netns):
            pass
        """,
    )
    with Person(project, "--netns-keep", user=user) as person:
        head = person.reads(WAITING)
        assert "test_inside.py::test_one failed in call" in head
        said = re.findall(r"^  2  lab/right  (nsenter .*)$", head, re.MULTILINE)
        entered = subprocess.run(
            [*(as_user(user) if user == "ordinary" else ()), *said[0].split(), "cat", "/proc/net/fib_trie"],
            capture_output=True,
            text=True,
            check=False,
        )
        if said[0].split()[1].startswith("--net") or user == "ordinary":
            assert "-- 10.0.0.2\n" in entered.stdout, entered
        person.types("\n")
        head = person.reads(WAITING)
        assert re.search(r"^  1  netns  nsenter ", head, re.MULTILINE)
        assert "lab/right" not in head
        person.types("\n")
        result = person.leaves()
    result.assert_outcomes(failed=2, passed=1)


def test_ctrl_c_ends_the_session(project: Project) -> None:
    project.write("test_inside.py", "def test_one(netns):\n    assert not netns\n\ndef test_two():\n    pass\n")
    with Person(project, "--netns-keep") as person:
        person.reads(WAITING)
        person.presses_until_heeded("\x03")
        result = person.leaves()
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*KeyboardInterrupt*"])


def test_it_works_without_capture_and_without_a_terminal_reporter(project: Project) -> None:
    project.write("test_inside.py", "def test_one(netns):\n    assert not netns\n")
    for arguments in (("-s",), ("-p", "no:terminal"), ("--capture=sys",)):
        with Person(project, "--netns-keep", *arguments) as person:
            person.reads(WAITING)
            person.types("\n")
            assert person.leaves().ret == 1


def test_the_command_of_the_doctor_is_not_touched(project: Project) -> None:
    command = [sys.executable, "-m", "pytest_netns", "doctor", "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=project.folder)
    assert done.returncode == 2
    assert "shell PID NODE -- COMMAND" in done.stderr

"""What other plugins' reports get: text, a picture and what was recorded. Skipped where they are not installed."""

from __future__ import annotations

import html
import json
import re

import pytest

from .inner import Project

FAILING = """
def test_inside(lab):
    red, router, blue = lab.host("red"), lab.router("router"), lab.host("blue")
    lab.connect(red, router)
    lab.connect(router, blue)
    lab.autoroute()
    router.sysctl["net.ipv4.ip_forward"] = 0
    assert red.ping(blue, timeout=0.1)

def test_passing(lab):
    lab.host("red")
"""
CAUSE = "'router' does not forward IPv4"


def test_pytest_html_gets_them(project: Project) -> None:
    pytest.importorskip("pytest_html")
    project.write("test_inside.py", FAILING)
    result = project.run(
        "-p",
        "metadata",
        "-p",
        "html",
        "--html=out.html",
        "--netns-pcap=failed",
        "--netns-artifacts=art",
        "-W",
        "ignore",
    )
    result.assert_outcomes(failed=1, passed=1)
    page = (project.folder / "out.html").read_text()
    names = set(re.findall(r"&#34;name&#34;: &#34;([^&]+)&#34;", page))
    assert {"netns", "lab.svg", "lab.pcapng"} <= names
    assert [CAUSE in path.read_text() for path in (project.folder / "assets").glob("*.txt")] == [True]
    assert json.dumps('class="way"')[1:-1] in html.unescape(page)  # pictures stand in the page


def test_allure_gets_them(project: Project) -> None:
    pytest.importorskip("allure_pytest")
    project.write("test_inside.py", FAILING)
    result = project.run(
        "-p", "allure_pytest", "--alluredir=out", "--netns-pcap=failed", "--netns-artifacts=art", "-W", "ignore"
    )
    result.assert_outcomes(failed=1, passed=1)
    tests = [json.loads(path.read_text()) for path in (project.folder / "out").glob("*-result.json")]
    (failed,) = [test for test in tests if test["status"] != "passed"]
    attached = {each["name"]: project.folder / "out" / each["source"] for each in failed["attachments"]}
    assert CAUSE in attached["netns"].read_text()
    assert 'class="way"' in attached["lab.svg"].read_text()
    assert attached["lab.pcapng"].read_bytes().startswith(b"\x0a\x0d\x0d\x0a")

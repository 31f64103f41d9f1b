"""Verbs whose modules are imported on first use: the class lists them all the same."""

from __future__ import annotations

import inspect
import subprocess
import sys
from unittest import mock

from pytest_netns import Bridge, Host, Lab, Link, Node
from pytest_netns.probe import ping
from pytest_netns.stack.lazy_verbs import LazyVerb, verb_modules

#: Prints what importing the classes has imported of the rooms whose verbs they list, and what their verbs are then.
_NOT_NEEDED = """
import sys
from pytest_netns import Bridge, Host, Lab, Link, Router
rooms = ("pytest_netns.probe", "pytest_netns.devices", "pytest_netns.explain", "pytest_netns.report")
print(*sorted(name for name in sys.modules if name.startswith(rooms)))
print(*sorted({"asyncio", "ssl", "json", "scapy", "pyroute2"} & sys.modules.keys()))
verbs = [Host.__dict__["add_vxlan"], Lab.__dict__["ping_all"], Link.__dict__["down"], Bridge.__dict__["set_vlan"]]
print(*(type(verb).__name__ for verb in verbs))
"""


def _lines(script: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_importing_the_lab_imports_the_modules_of_no_verb() -> None:
    assert _lines(_NOT_NEEDED) == ["", "", "LazyVerb LazyVerb LazyVerb LazyVerb"]


def test_a_verb_is_its_function_with_its_signature() -> None:
    assert Host.ping is ping.ping
    assert Node.__dict__["ping"] is ping.ping
    assert list(inspect.signature(Host.ping).parameters)[:2] == ["node", "destination"]


def test_dir_lists_verbs_that_nobody_has_used() -> None:
    listed = _lines("from pytest_netns import Host, Lab; print(*{'ping', 'crash', 'nft'} & set(dir(Host)), dir(Lab))")
    assert {"ping", "crash", "nft"} <= set(listed[0].split())
    assert "'ping_all'" in listed[0]


def test_what_replaces_a_verb_before_its_first_use_stays_and_goes() -> None:
    (absent,) = verb_modules("pytest_netns", "absent")  # whose import would fail
    owner = type("Owner", (), {"verb": absent.verb})
    with mock.patch.object(owner, "verb", 5):
        assert owner.verb == 5  # type: ignore[attr-defined]
    assert isinstance(owner.__dict__["verb"], LazyVerb)


def test_all_verbs_of_all_classes_can_be_imported() -> None:
    lazy = [
        (owner, name)
        for owner in (Host, Node, Bridge, Link, Lab, *Host.__mro__)
        for name, member in list(vars(owner).items())
        if isinstance(member, LazyVerb)
    ]
    for owner, name in lazy:
        assert inspect.isfunction(getattr(owner, name)), f"{owner.__name__}.{name}"

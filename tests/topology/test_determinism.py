"""The same program gives the same network, run for run and machine for machine."""

from __future__ import annotations

import json
import subprocess
import sys

from pytest_netns import Lab

PROGRAM = """
import json, sys
from pytest_netns import Lab

def picture(name):
    with Lab(name) as lab:
        bridge = lab.bridge("br0")
        for host in ("red", "blue", "a-host-whose-name-is-longer-than-15"):
            bridge.host(host)
        lab.connect(lab["red"], lab["blue"])
        return {
            node.name: [
                (i.name, i.index, i.mac, [str(a) for a in i.addresses]) for i in node.interfaces.values()
            ]
            for node in lab
        }

if __name__ == "__main__":
    print(json.dumps(picture(sys.argv[1])))
"""


def picture_in_a_fresh_interpreter(name: str, seed: str) -> dict[str, object]:
    """Names, indexes, MACs and addresses of a lab."""
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, name],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": seed, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    ).stdout
    found: dict[str, object] = json.loads(output)
    return found


def test_a_lab_is_the_same_in_every_interpreter(lab: Lab) -> None:
    first, second = (picture_in_a_fresh_interpreter("one", seed) for seed in ("1", "2"))
    assert first == second
    assert len(first) == 4


def test_a_lab_is_the_same_when_made_again(lab: Lab) -> None:
    namespace: dict[str, object] = {"__name__": "again"}
    exec(PROGRAM, namespace)
    picture = namespace["picture"]
    assert callable(picture)
    again = json.loads(json.dumps([picture("one"), picture("one")]))
    assert again[0] == again[1] == picture_in_a_fresh_interpreter("one", "3")


def test_labs_of_different_names_have_different_macs(lab: Lab) -> None:
    one, two = (picture_in_a_fresh_interpreter(name, "1") for name in ("one", "two"))
    assert one != two


def test_macs_never_change_from_version_to_version(lab: Lab) -> None:
    red = lab.host("red")
    lab.connect(red, lab.host("blue"))
    assert (lab.name, red.mac) == ("lab", "02:68:3d:8d:db:33")

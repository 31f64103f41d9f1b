"""The fixtures: what each gives, for how long, and together with others."""

from __future__ import annotations

import pytest

from .inner import Project

#: Each is asked for by two tests; is the second given the same object?
SCOPES = {
    "netns": False,
    "veth_pair": False,
    "bridge": False,
    "lab": False,
    "netns_factory": True,
    "lab_factory": True,
}


def test_scopes_are_as_documented(project: Project) -> None:
    source = "seen = {}\n"
    for name, shared in SCOPES.items():
        source += f"""
def test_{name}_first({name}):
    seen["{name}"] = {name}

def test_{name}_second({name}):
    assert ({name} is seen["{name}"]) is {shared}
"""
    project.write("test_inside.py", source)
    project.run().assert_outcomes(passed=2 * len(SCOPES))


def test_every_fixture_gives_what_it_says(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import os
        from pytest_netns import Bridge, Host, Lab, Namespace

        def here():
            return os.readlink("/proc/thread-self/ns/net")

        def test_netns(netns):
            assert type(netns) is Namespace
            assert netns.interfaces["lo"].is_up
            assert list(netns.interfaces) == ["lo"]
            assert here() != f"net:[{netns.inode}]"
            with netns:
                assert here() == f"net:[{netns.inode}]"

        def test_netns_factory(netns_factory):
            red, other, another = netns_factory("red"), netns_factory(), netns_factory(name=None)
            assert red.name == "red"
            assert type(red) is Namespace
            assert len({red.inode, other.inode, another.inode}) == 3
            assert len({red.name, other.name, another.name}) == 3

        def test_veth_pair(veth_pair):
            left, right = veth_pair
            assert (left.name, right.name) == ("left", "right")
            assert isinstance(left, Host) and isinstance(right, Host)
            assert left.ip4.version == 4 and left.ip6.version == 6
            assert left.ping(right) and right.ping(left)
            assert left.ping(right.ip6) and right.ping(left.ip6)

        def test_bridge(bridge):
            assert isinstance(bridge, Bridge)
            red, blue, green = (bridge.host(name) for name in ("red", "blue", "green"))
            assert isinstance(red, Host)
            assert red.ping(blue) and green.ping(red) and blue.ping(green.ip6)

        def test_lab(lab):
            assert isinstance(lab, Lab)
            assert len(lab) == 0
            assert lab.host("red") is lab["red"]

        def test_lab_factory(lab_factory):
            lab, other = lab_factory("backbone", ipv4="10.7.0.0/16", ipv6=None), lab_factory()
            assert isinstance(lab, Lab) and lab.name == "backbone" and lab is not other
            red, blue = lab.host("red"), lab.host("blue")
            lab.connect(red, blue)
            assert str(red.ip4).startswith("10.7.")
            assert red.ping(blue)
        """,
    )
    project.run().assert_outcomes(passed=6)


def test_all_fixtures_work_together_in_one_test(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        def test_one(netns, netns_factory, veth_pair, bridge, lab, lab_factory):
            left, right = veth_pair
            assert left.lab is right.lab is bridge.lab is lab
            assert {node.name for node in lab} == {"left", "right", "br0"}
            bridge.attach(left)
            assert bridge.host("red").ping(left)
            everyone = [netns, netns_factory(), left, right, bridge, lab["red"], lab_factory().host("left")]
            assert len({each.inode for each in everyone}) == len(everyone)
        """,
    )
    project.run().assert_outcomes(passed=1)


def test_users_build_labs_of_their_own_scope(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import pytest

        @pytest.fixture(scope="module")
        def backbone(lab_factory):
            with lab_factory("backbone") as lab:
                switch = lab.bridge("switch")
                yield [switch.host(name) for name in ("one", "two", "three")]

        inodes = set()

        def test_first(backbone):
            one, two, three = backbone
            inodes.update(each.inode for each in backbone)
            assert one.ping(three)

        class TestSomething:
            @pytest.fixture
            def web(self, lab):
                return lab.host("web")

            def test_second(self, backbone, web):
                assert {each.inode for each in backbone} == inodes
                assert web.inode not in inodes

            @pytest.mark.parametrize("number", [1, 2])
            def test_third(self, netns, number):
                assert netns.inode not in inodes
        """,
    )
    project.write("test_other.py", "def test_one(lab_factory):\n    assert lab_factory('backbone').host('one')\n")
    project.run().assert_outcomes(passed=5)


def test_a_users_fixture_may_replace_one_of_ours_and_build_on_it(project: Project) -> None:
    project.write(
        "conftest.py",
        """
        import pytest

        @pytest.fixture
        def lab(lab):
            lab.host("gateway")
            return lab
        """,
    )
    project.write(
        "test_inside.py",
        """
        def test_one(veth_pair, lab):
            assert [node.name for node in lab] == ["gateway", "left", "right"]
        """,
    )
    project.run().assert_outcomes(passed=1)


@pytest.mark.parametrize("arguments", [["--netns-require"], []], ids=["required", "not required"])
def test_a_fixture_asked_for_at_run_time_is_refused_as_any_other(project: Project, arguments: list[str]) -> None:
    project.write(
        "test_inside.py",
        """
        def test_one(request):
            request.getfixturevalue("lab")
            raise AssertionError("not reached")

        def test_two():
            pass
        """,
    )
    result = project.run("--netns-sandbox=never", "-rs", *arguments, user="ordinary")
    if arguments:
        result.assert_outcomes(failed=1, passed=1)
        result.stdout.fnmatch_lines(["*netns is required (--netns-require) and unavailable: *"])
    else:
        result.assert_outcomes(skipped=1, passed=1)
        result.stdout.fnmatch_lines(["SKIPPED*netns unavailable: *"])


def test_all_skips_are_summed_up_in_one_line(project: Project) -> None:
    project.write("test_inside.py", "def test_one(lab):\n    pass\n\n\ndef test_two(netns):\n    pass\n")
    result = project.run("--netns-sandbox=never", "-rs", user="ordinary")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED [[]2]*netns unavailable*"])


def test_threads_enter_namespaces_side_by_side(project: Project) -> None:
    project.write(
        "test_inside.py",
        """
        import os, threading

        def test_one(lab):
            hosts = [lab.host(f"host{number}") for number in range(4)]
            together, wrong = threading.Barrier(len(hosts)), []

            def work(host):
                together.wait()
                for _ in range(300):
                    with host:
                        if os.readlink("/proc/thread-self/ns/net") != f"net:[{host.inode}]":
                            wrong.append(host)

            threads = [threading.Thread(target=work, args=[host]) for host in hosts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not wrong
        """,
    )
    project.run().assert_outcomes(passed=1)

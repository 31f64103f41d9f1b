"""The fixture ``netns_lab_options``: a suite's policy for all of its labs."""

from __future__ import annotations

import inspect

import pytest

from pytest_netns import Lab, LabFactory
from pytest_netns.plugin.lab_options import checked, defaults

from .inner import Project, User

POLICY = """
import pytest

@pytest.fixture(scope="session")
def netns_lab_options():
    return {"name": "ours", "ipv6": None, "ipv4": "192.168.0.0/16",
            "sysctls": {"net.ipv6.conf.default.disable_ipv6": 1}}
"""


def test_every_fixture_goes_by_the_policy_of_the_suite(project: Project, user: User) -> None:
    project.write("conftest.py", POLICY)
    project.write(
        "test_inside.py",
        """
        def texts(node):
            return [str(address) for address in node.addresses()]

        def test_pair(veth_pair):
            left, right = veth_pair
            assert texts(left) == ["192.168.0.1/24"]  # not even a link-local one
            assert left.ping(right)

        def test_bridge(bridge):
            red, blue = bridge.host("red"), bridge.host("blue")
            assert texts(red) == ["192.168.0.1/24"]
            assert red.ping(blue)

        def test_lab(lab):
            assert lab.name == "ours"
            red, blue = lab.host("red"), lab.host("blue")
            lab.connect(red, blue)
            assert texts(blue) == ["192.168.0.2/24"]

        def test_factory(lab_factory):
            for lab, first in ((lab_factory(), "192.168.0.1/24"), (lab_factory(ipv4="10.9.0.0/16"), "10.9.0.1/24")):
                red, blue = lab.host("red"), lab.host("blue")
                lab.connect(red, blue)
                assert texts(red) == [first]
            assert lab_factory("mine").name == lab_factory(name="mine").name == "mine"
            assert lab_factory().name == "ours"
        """,
    )
    project.run(user=user).assert_outcomes(passed=4)


def test_a_policy_that_is_none_names_the_fixture_and_what_a_lab_takes(project: Project) -> None:
    project.write(
        "conftest.py",
        """
        import pytest

        @pytest.fixture(scope="session")
        def netns_lab_options():
            return {"ip6": None}
        """,
    )
    project.write("test_inside.py", "def test_pair(veth_pair): pass")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the fixture netns_lab_options gave 'ip6', which Lab does not take; it takes name,*"])


# What such a kernel says; nothing can take it away from this one: /proc/sys/net/ipv6 is another in each namespace.
NO_IPV6 = """
from pytest_netns.kernel import sysctl
from pytest_netns.kernel.features import socket_families

sysctl._has_ipv6 = lambda: False
socket_families.why_no_socket = lambda name: "Address family not supported by protocol"
"""


def test_where_the_kernel_has_no_ipv6_the_fixtures_are_of_ipv4_alone(project: Project, user: User) -> None:
    project.write("conftest.py", NO_IPV6)
    project.write(
        "test_inside.py",
        """
        def test_policy(netns_lab_options):
            assert netns_lab_options == {"ipv6": None}

        def test_pair(veth_pair):
            left, right = veth_pair
            assert [a.version for a in left.addresses() if not a.is_link_local] == [4]
            assert left.ping(right)

        def test_routers(bridge, lab):
            red, router = bridge.host("red"), lab.router("router", bridge)
            red.default_route(via=router)
            assert red.ping(router)
            assert {name for node in (red, router) for name in node.initial_sysctls if "ipv6" in name} == set()
        """,
    )
    project.run(user=user).assert_outcomes(passed=3)


@pytest.mark.netns_requires("ipv6")
def test_where_it_has_nothing_is_changed() -> None:
    assert defaults() == {}


@pytest.mark.parametrize("given", [None, "ipv6", ["ipv6"]])
def test_a_policy_is_a_dict(given: object) -> None:
    with pytest.raises(TypeError, match=r"netns_lab_options gave .*; expected keywords for Lab in a dict"):
        checked(given)


def test_a_policy_can_be_all_that_a_lab_takes(lab_factory: LabFactory) -> None:
    given = {name: each.default for name, each in inspect.signature(Lab).parameters.items()}
    assert checked(given) == given
    assert isinstance(lab_factory(**given), Lab)  # type: ignore[arg-type]

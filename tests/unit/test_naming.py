from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_netns import TopologyError
from pytest_netns.topology.naming import check_interface_name, check_node_name, interface_name, mac_address

NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
inner = st.text(NAME_CHARACTERS, max_size=61)
ends = st.sampled_from(NAME_CHARACTERS[:-3])
node_names = st.builds(lambda a, b, c: a + b + c, ends, inner, ends)
# Long names that differ at their ends only are the hard case.
similar_names = st.builds(lambda end: "a-very-long-name-of-a-router-" + end, st.text("0123456789", max_size=6))


@given(st.lists(st.one_of(node_names, similar_names), unique=True, max_size=40))
def test_interface_names_fit_and_never_collide(names: list[str]) -> None:
    taken: set[str] = set()
    for name in names:
        short = interface_name(name, taken)
        assert short not in taken
        assert check_interface_name(short, "test") == short
        taken.add(short)
    assert len(taken) == len(names)


@given(similar_names, similar_names)
def test_long_names_that_differ_at_the_end_only_stay_apart_by_themselves(one: str, other: str) -> None:
    assert (interface_name(one, ()) == interface_name(other, ())) == (one == other)


@given(node_names)
def test_an_interface_name_is_always_the_same(name: str) -> None:
    assert interface_name(name, ()) == interface_name(name, ())


@pytest.mark.parametrize("name", ["red", "a" * 15, "v-net-0", "eth0.1"])
def test_a_name_that_fits_stays_as_it_is(name: str) -> None:
    assert interface_name(name, ()) == name


def test_a_name_that_does_not_fit_keeps_its_beginning() -> None:
    short = interface_name("database-replica-7", ())
    assert short.startswith("database-")
    assert len(short) == 15


@pytest.mark.parametrize("name", ["all", "default", "lo"])
def test_a_name_that_the_kernel_keeps_for_itself_is_changed(name: str) -> None:
    assert interface_name(name, ()) != name
    assert interface_name(name, ()).startswith(name)


def test_a_taken_name_is_changed() -> None:
    assert interface_name("red", {"red"}) not in {"red"}


def test_changed_names_do_not_depend_on_the_interpreter() -> None:
    code = "from pytest_netns.topology.naming import *\n"
    code += "print(interface_name('x' * 40, ()), mac_address('l', 'n', 'i', ()).hex())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in "12"
    }
    assert outputs == {f"{interface_name('x' * 40, ())} {mac_address('l', 'n', 'i', ()).hex()}\n"}


@given(node_names)
def test_good_node_names_are_accepted(name: str) -> None:
    assert check_node_name(name, "lab") == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "this one is empty"),
        ("x" * 300, "has 300 characters; at most 63 are allowed"),
        ("two words", "cannot be a node's name"),
        ("a/b", "cannot be a node's name"),
        ("../etc", "cannot be a node's name"),
        ("red\n", "cannot be a node's name"),
        ("-red", "cannot be a node's name"),
        ("red-", "cannot be a node's name"),
        (".", "cannot be a node's name"),
        ("bläu", "cannot be a node's name"),
        ("a:b", "cannot be a node's name"),
        ("a\0b", "cannot be a node's name"),
        (None, "not NoneType"),
        (7, "not int"),
        (b"red", "not bytes"),
    ],
)
def test_bad_node_names_are_refused_with_the_reason(name: object, words: str) -> None:
    with pytest.raises(TopologyError, match=f"lab 'lab'.*{words}"):
        check_node_name(name, "lab")


def test_an_endless_name_is_not_repeated_in_full() -> None:
    with pytest.raises(TopologyError) as caught:
        check_node_name("x" * 10_000, "lab")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "name", ["", "x" * 16, "ü" * 8, "a b", "a/b", "a:b", "a%d", "a\tb", "a\0b", ".", "..", "lo", "all", "default", 5]
)
def test_names_that_the_kernel_refuses_are_refused_before(name: object) -> None:
    with pytest.raises(TopologyError, match=r"link a--b.*cannot be an interface's name"):
        check_interface_name(name, "link a--b")


@given(st.sets(st.tuples(node_names, node_names), max_size=40))
def test_mac_addresses_are_unicast_locally_administered_and_apart(places: set[tuple[str, str]]) -> None:
    taken: set[bytes] = set()
    for node, interface in places:
        mac = mac_address("lab", node, interface, taken)
        assert len(mac) == 6
        assert mac[0] & 0b11 == 0b10
        assert mac not in taken
        taken.add(mac)


def test_a_taken_mac_address_is_passed_over_in_the_same_way_each_time() -> None:
    first = mac_address("lab", "red", "eth0", ())
    second = mac_address("lab", "red", "eth0", {first})
    assert second != first
    assert second == mac_address("lab", "red", "eth0", {first})


def test_mac_addresses_depend_on_lab_node_and_interface() -> None:
    macs = {
        mac_address(*place, ())
        for place in (("a", "b", "c"), ("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x"), ("ab", "", "c"))
    }
    assert len(macs) == 5

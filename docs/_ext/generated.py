"""Directives for the reference, whose content is read from the code, so that it cannot lag behind.

``netns-fixture NAME``, ``netns-options``, ``netns-markers``, ``netns-features``, ``netns-kinds``, ``netns-presets`` and
``netns-api GROUP`` write Markdown, or reStructuredText for autodoc, which the page's own parser reads.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

import pytest_netns
from pytest_netns import _HOME, presets
from pytest_netns.devices import kinds
from pytest_netns.kernel.features import features
from pytest_netns.plugin import hooks as plugin
from pytest_netns.plugin import settings
from pytest_netns.plugin.names import OPTIONS

# ---------------------------------------------------------------- what the code says


def fixture(name: str) -> tuple[str, str, str]:
    """Scope, type and description of one of our fixtures."""
    definition = getattr(plugin, name)
    function = definition._get_wrapped_function()
    returned = inspect.get_annotations(function)["return"]
    made = re.fullmatch(r"Iterator\[(.*)\]", returned)
    scope = definition._fixture_function_marker.scope
    return str(scope), made[1] if made else returned, " ".join(inspect.getdoc(function).split())


def markers() -> list[tuple[str, str]]:
    """Each of our markers with its signature, and what ``pytest --markers`` says of it."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider", "-p", "netns", "--markers"],
        cwd="/",  # in a checkout it would load the conftest of the tests, which needs what they need
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return re.findall(r"^@pytest[.]mark[.](netns\b[^:]*|netns_[^:]*): *(.*)$", done.stdout, re.MULTILINE)


def sources() -> dict[str, str]:
    """Where the values of each preset are from, by the table in the docstring of their module."""
    text = inspect.getdoc(presets) or ""
    _, head, rows, _ = re.split(r"^(?:=+ +)+=+$\n?", text, flags=re.MULTILINE)
    start = head.index("source")
    found: list[tuple[str, str]] = []
    for line in rows.splitlines():
        name, source = line[: head.index("delay")].strip(), line[start:].strip()
        if name and not (found and found[-1][0].endswith(",")):
            found.append((name, source))
        else:
            found[-1] = f"{found[-1][0]} {name}".strip(), f"{found[-1][1]} {source}"
    by_name = {name: source for names, source in found for name in names.split(", ")}
    assert by_name.keys() == set(presets.__all__), "a preset without a source, or the reverse"
    return by_name


def group_of(name: str) -> str:
    """The heading of the API page under which a public name stands."""
    value = getattr(pytest_netns, name)
    if inspect.isclass(value) and issubclass(value, BaseException):
        return "errors"
    parts = _HOME[name].split(".")
    if name.startswith("assert_") or "assertions" in parts:
        return "assertions"
    for group, packages in (
        ("results", {"probe", "capture", "explain"}),
        ("devices", {"devices"}),
        ("conditions", {"impair", "faults"}),
    ):
        if packages & set(parts):
            return group
    return "networks" if inspect.isclass(value) and len(parts) > 1 and "kernel" not in parts else "others"


def public(group: str) -> list[str]:
    """The public names of a group, in alphabetical order, as autodoc imports them."""
    return [f"pytest_netns.{name}" for name in sorted(pytest_netns.__all__) if group_of(name) == group]


def classes() -> dict[str, type]:
    """Every class of the package by its bare name; names are unique in it."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(pytest_netns.__path__, "pytest_netns."):
        if not module.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(module.name)).items():
                if inspect.isclass(value) and value.__module__ == module.name and not name.startswith("_"):
                    found[name] = value
    return found


def annotations_of(owner: object) -> Iterable[str]:
    """The annotations of a function, or of the public members of a class, as they are written."""
    if not inspect.isclass(owner):
        return map(str, getattr(owner, "__annotations__", {}).values())
    members = [inspect.get_annotations(owner)]
    for name, value in inspect.getmembers(owner):
        if not name.startswith("_"):
            function = value.fget if isinstance(value, property) else getattr(value, "func", value)
            members.append(getattr(function, "__annotations__", {}))
    return [str(text) for member in members for text in member.values()]


#: Bases and helpers of public classes, whose members show there.
_INSIDE = {
    "pytest_netns.stack.commands",
    "pytest_netns.devices.kinds",
    "pytest_netns.kernel.netlink.socket",
    "pytest_netns.capture.offload",
    "pytest_netns.events",
    "pytest_netns.impair.target",
    "pytest_netns.stack.handle",
    "pytest_netns.faults.breakable_cable",
    "pytest_netns.lab.link_impairment",
    "pytest_netns.lab.switch",
    "pytest_netns.topology.cable",
    "pytest_netns.topology.network_events",
    "pytest_netns.topology.failure",
    "pytest_netns.topology.network",
    "pytest_netns.topology.node",
    "pytest_netns.topology.interface_lookup",
    "pytest_netns.lab.nat",
    "pytest_netns.stack.views",
}
#: In these modules, what users meet.
_SHOWN = {"Counter", "ForwardRule", "MasqueradeRule", "Nat", "Rule"}


def values() -> list[str]:
    """Classes that are not imported by users, but handed to them by what is public, and by each other."""
    known = {name: value for name, value in classes().items() if name in _SHOWN or value.__module__ not in _INSIDE}
    seen: set[str] = set()
    waiting: list[object] = [getattr(pytest_netns, name) for name in pytest_netns.__all__]
    while waiting:
        one = waiting.pop()
        bases = {base.__name__ for base in inspect.getmro(one)} if inspect.isclass(one) else set()
        words = {word for text in annotations_of(one) for word in re.findall(r"\w+", text)} | bases
        for name in words & known.keys() - set(pytest_netns.__all__) - seen:
            seen.add(name)
            waiting.append(known[name])
    return sorted(f"{known[name].__module__}.{name}" for name in seen)


# ---------------------------------------------------------------- how it is shown


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


class Written(SphinxDirective, ABC):
    """A directive that writes Markdown."""

    @abstractmethod
    def text(self) -> str:
        """What it writes."""

    def run(self) -> list[nodes.Node]:
        """Parse it as if it stood in the page."""
        self.env.note_reread()  # it depends on code, which Sphinx does not watch
        return self.parse_text_to_nodes(self.text())


def linked(annotation: str) -> str:
    """An annotation whose public names are links."""
    parts = re.split(r"(\w+)", annotation)
    shown = [f"{{py:class}}`~pytest_netns.{part}`" if part in pytest_netns.__all__ else part for part in parts]
    return "".join(shown) if shown != parts else f"`{annotation}`"


class Fixture(Written):
    """Scope, type and default of a fixture."""

    required_arguments = 1

    def text(self) -> str:
        """As a list."""
        scope, made, description = fixture(self.arguments[0])
        return f"* **Scope**: {scope}\n* **Type**: {linked(made)}\n* **Default**: {description}"


class Options(Written):
    """All options."""

    def text(self) -> str:
        """What each does, and its names on the command line, in the ini file and in the environment."""
        entries = []
        for option in OPTIONS:
            default = settings.Settings.__dataclass_fields__[option.name].default
            shown = str(getattr(default, "value", default)).lower() if default is not None else "none"
            flag = option.flag + (f"={option.metavar}" if option.metavar else "")
            names = f"Ini key `{option.ini}`, environment `{option.variable}`, default `{shown}`."
            entries.append(f"`{flag}`\n: {option.help}\n\n  {names}")
        return "\n\n".join(entries)


class Markers(Written):
    """All markers."""

    def text(self) -> str:
        """In the words of ``pytest --markers``."""
        return "\n\n".join(f"`@pytest.mark.{signature}`\n: {text}" for signature, text in markers())


class Features(Written):
    """What ``netns_requires`` understands."""

    def text(self) -> str:
        """With the kernel module that brings each."""
        modules = {**features.DEVICES, **features.QDISCS}
        kinds = {**dict.fromkeys(features.DEVICES, "device"), **dict.fromkeys(features.QDISCS, "queueing discipline")}
        rows = [
            (f"`{name}`", kinds.get(name, "other"), f"`{modules[name]}`" if name in modules else "")
            for name in features.known()
        ]
        return table(
            ("Name", "Kind", "Kernel module"),
            [*rows, ("`program:NAME`", "a program in `PATH` or `sbin`, or a path", "")],
        )


class Kinds(Written):
    """The kinds of devices, without what some kernel has of them."""

    def text(self) -> str:
        """With the method of ``Host`` that makes one, and the kernel module that brings it."""
        rows = [
            (f"`{row.kind}`", f"{{py:meth}}`~pytest_netns.Host.{row.method}`", row.description, f"`{row.module}`")
            for row in kinds.table(ask=False)
        ]
        return table(("Kind", "Made by", "What it is", "Kernel module"), rows)


class Presets(Written):
    """The presets of impairments."""

    def text(self) -> str:
        """With their values, one way, and where these are from."""
        names = ("delay", "jitter", "loss", "rate")
        where = sources()
        rows = []
        for preset in where:
            shown = dict(re.findall(r"(\w+) (\S+)", str(getattr(presets, preset))))
            assert shown.keys() <= set(names), f"{preset} has a value without a column"
            rows.append((f"`{preset}`", *(shown.get(name, "") for name in names), where[preset]))
        return table(("Name", *names, "Source"), rows)


class Api(SphinxDirective):
    """The public names of a group, by autodoc."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Each as ``pytest_netns.NAME``."""
        self.env.note_reread()
        lines: list[str] = []
        for path in values() if self.arguments[0] == "values" else public(self.arguments[0]):
            module, _, name = path.rpartition(".")
            value = getattr(importlib.import_module(module), name)
            kind = "exception" if inspect.isclass(value) and issubclass(value, BaseException) else "class"
            if inspect.ismodule(value):
                kind = "module"
            elif not inspect.isclass(value):
                kind = "function" if inspect.isfunction(value) else "data"
            lines += [f".. auto{kind}:: {path}", ""]
        # MyST's door for reStructuredText, which autodoc writes.
        return self.parse_text_to_nodes("```{eval-rst}\n" + "\n".join(lines) + "\n```")


#: How a lab looks, for the classes that are parts of one: what makes it, and its drawing (``describe(lab)``).
_MADE = """lan, wan = lab.bridge("lan", "10.1.0.0/24"), lab.bridge("wan", "10.2.0.0/24")
red, blue, router = lan.host("red"), wan.host("blue"), lab.router("router", lan, wan)"""
_DRAWN = """red     (router)  blue
[eth0]==[eth0]    |       lan 10.1.0.0/24
        [eth1]====[eth0]  wan 10.2.0.0/24"""
_CABLE = 'link = lab.connect(red, blue, "192.168.15.0/24")'
_CABLE_DRAWN = """red     blue
[eth0]--[eth0]  192.168.15.0/24"""
_LOOKS = {
    **dict.fromkeys(("Lab", "Host", "Router", "Bridge", "Node"), (_MADE, _DRAWN)),
    **dict.fromkeys(("Link", "Interface"), (_CABLE, _CABLE_DRAWN)),
}
#: The groups whose classes have a page each.
_PAGES = ("networks", "devices", "conditions", "results")


def page(path: str) -> str:
    """The page of a class, in reStructuredText, which autodoc writes."""
    name = path.rpartition(".")[2]
    lines = [name, "=" * len(name), ""]
    if name in _LOOKS:
        made, drawn = _LOOKS[name]
        lines += [".. code-block:: python", "", *(f"   {line}" for line in made.splitlines()), ""]
        lines += [".. code-block:: text", "", *(f"   {line}" for line in drawn.splitlines()), ""]
    kind = "autoclass" if inspect.isclass(getattr(pytest_netns, name)) else "automodule"
    return "\n".join([*lines, f".. {kind}:: {path}", ""])


def write_pages(app: Sphinx) -> None:
    """A page a class, beside the page of the API, before Sphinx looks which files there are."""
    for group in _PAGES:
        folder = Path(app.srcdir, "reference", "api", group)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {f"{path.rpartition('.')[2]}.rst": page(path) for path in public(group)}
        for old in set(os.listdir(folder)) - wanted.keys():
            (folder / old).unlink()
        for name, text in wanted.items():
            if not (folder / name).exists() or (folder / name).read_text() != text:
                (folder / name).write_text(text)


#: What a base calls itself in its annotations, and whom users meet instead.
_MET_AS = {"BaseNode": "Node", "BreakableCable": "Link", "Cable": "Link", "Network": "Lab", "Switch": "Bridge"}


def leave_builtins(app: Sphinx, doctree: nodes.document) -> None:
    """A class with an attribute called ``bytes`` is not what an annotation means by that word."""
    for node in list(doctree.findall(pending_xref)):
        if node.get("refdomain") == "py" and node.get("reftarget") in dir(builtins):
            node.replace_self(node.children)


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Annotations name a class by its module, or by nothing; the reference names it by the package."""
    name = node.get("reftarget", "").rpartition(".")[2]
    name = _MET_AS.get(name, name)
    if node.get("refdomain") != "py" or name not in pytest_netns.__all__:
        return None
    domain: Any = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], f"pytest_netns.{name}", node, content)


_AS_WRITTEN: dict[str, list[str]] = {}


def remember(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Before napoleon, which takes "One thing: more about it" for a type and its description.

    How the docstring of an attribute or a property is written is kept. What is returned has its type from annotations.
    """
    for number, line in enumerate(lines):
        if line == "Returns:" and what in ("method", "function"):
            lines[number + 1] = re.sub(r"^( +)(\w+ \w+:)", r"\1: \2", lines[number + 1])
    if what in ("attribute", "property") and "Raises:" not in lines:
        _AS_WRITTEN[name] = list(lines)


def restore(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """After napoleon: see ``remember``."""
    lines[:] = _AS_WRITTEN.pop(name, lines)


def setup(app: Sphinx) -> dict[str, object]:
    """Sphinx calls this."""
    app.add_directive("netns-fixture", Fixture)
    app.add_directive("netns-options", Options)
    app.add_directive("netns-markers", Markers)
    app.add_directive("netns-features", Features)
    app.add_directive("netns-kinds", Kinds)
    app.add_directive("netns-presets", Presets)
    app.add_directive("netns-api", Api)
    app.connect("builder-inited", write_pages)
    app.connect("doctree-read", leave_builtins)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", remember, priority=100)
    app.connect("autodoc-process-docstring", restore, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

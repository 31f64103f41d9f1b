"""Verbs whose modules are imported when one of them is first used.

A class lists its verbs, ``ping: Final = ping.ping``, and needs none of them to be defined. Most tests use few of them:
what the others import would make two thirds of the time that the first lab takes. Type checkers are shown the modules
themselves, under ``TYPE_CHECKING``, and so know each verb's signature.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class LazyVerb:
    """A function of a module that is not imported yet, as an attribute of a class.

    The first access, by the class or by an object, replaces it by the function itself.
    """

    def __init__(self, module: str, function: str) -> None:
        self._module = module
        self._function = function

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        function = getattr(import_module(self._module), self._function)
        if self._owner.__dict__.get(self._name) is self:  # else it was replaced meanwhile, by a test's mock for one
            setattr(self._owner, self._name, function)
        return function.__get__(instance, owner)

    def __repr__(self) -> str:
        return f"<LazyVerb {self._module}.{self._function}>"


class VerbModule:
    """Stands for a module in the body of a class: its attributes are the verbs of that module.

    Args:
        name: of the module.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, function: str) -> LazyVerb:
        return LazyVerb(self._name, function)


def verb_modules(package: str, *names: str) -> list[VerbModule]:
    """Modules of one package, for the bodies of classes."""
    return [VerbModule(f"{package}.{name}") for name in names]

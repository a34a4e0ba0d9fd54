"""What a name stands for while a function is traced."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np


class Untraceable(Exception):
    """The function under observation does what cannot be written as a straight line."""


class Abandoned(Exception):
    """It is not the time to trace the function: it remembers something, say, which it does not do each time."""


class Known:
    """An object that is the same each time, and is found in the program as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Made:
    """An object that the program makes anew, or is given, each time.

    Attributes
    ----------
    name : str
        The program's name for it.
    value : object
        What it is this time.
    alike : bool
        Whether it has the same type each time and, of an array, the same shape, dtype and memory order.
    """

    def __init__(self, name: str, value: Any, alike: bool) -> None:
        self.name = name
        self.value = value
        self.alike = alike
        self.turned: Made | None = None  # of what it is the transpose


class Items:
    """A tuple, a named tuple or a list, made while tracing, of which the parts are known one by one."""

    def __init__(self, kind: type, parts: list[Any]) -> None:
        self.kind = kind
        self.parts = parts
        self.made: Made | None = None  # once it has been handed out, anybody may have changed it


class Table:
    """A dictionary made while tracing, of known keys."""

    def __init__(self, entries: dict[Any, Any]) -> None:
        self.entries = entries
        self.made: Made | None = None


class Method:
    """What `owner.name` is, where that is a method."""

    def __init__(self, owner: Any, name: str, function: Any = None) -> None:
        self.owner = owner
        self.name = name
        self.function = function  # Python's, of a known owner's class


class Scope:
    """The names of a function that is being traced, those of the functions around it, and its module's."""

    def __init__(self, module: Mapping[str, Any], around: Scope | None = None) -> None:
        self.names: dict[str, Any] = {}
        self.module = module
        self.around = around
        self.elsewhere: set[str] = set()  # what it has declared nonlocal

    def owner(self, name: str) -> Scope | None:
        """The scope that has a name."""
        scope: Scope | None = self
        while scope is not None and (name not in scope.names or name in scope.elsewhere):
            scope = scope.around
        return scope

    def set(self, name: str, value: Any) -> None:
        """Give a name a meaning."""
        scope = self.owner(name) if name in self.elsewhere else self
        (scope or self).names[name] = value


class Closure:
    """A function that was defined inside one that is being traced."""

    def __init__(self, node: ast.FunctionDef | ast.Lambda, scope: Scope, defaults: dict[str, Any]) -> None:
        self.node = node
        self.scope = scope
        self.defaults = defaults


Value = Known | Made | Items | Table | Method | Closure

# Objects of these types never change.
_CONSTANT = (
    *(int, float, complex, str, bytes, bool, type(None), type(...), slice, range, frozenset, type),
    *(np.dtype, np.generic, np.ufunc),
)


def constant(value: Any) -> bool:
    """Whether an object can never become another: a number, a name, a tuple of such; NumPy's own functions."""
    return all(map(constant, value)) if isinstance(value, tuple) else isinstance(value, _CONSTANT)


def concrete(value: Value) -> Any:
    """What it is this time."""
    if isinstance(value, (Known, Made)):
        return value.value
    if isinstance(value, Items) and value.made is None:
        parts = [concrete(part) for part in value.parts]
        return value.kind(*parts) if hasattr(value.kind, "_fields") else value.kind(parts)
    if isinstance(value, Table) and value.made is None:
        return {key: concrete(part) for key, part in value.entries.items()}
    if isinstance(value, (Items, Table)) and value.made is not None:
        return value.made.value
    raise Untraceable("a function made here is handed out")


def known(value: Value) -> bool:
    """Whether it is the same each time."""
    return isinstance(value, Known) or (
        isinstance(value, Items) and value.made is None and value.kind is not list and all(map(known, value.parts))
    )

"""What an object's constructor arguments say of it: its repr, its equality, its saved form. Written once, for all."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import numpy as np

from gradwise.errors import ArgumentError


@cache
def _signature(cls: type) -> tuple[inspect.Parameter, ...]:
    """The constructor's parameters, without self."""
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return ()
    parameters = tuple(inspect.signature(cls).parameters.values())
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ArgumentError(
                f"{cls.__name__}.__init__ takes *{parameter.name}: name each argument, "
                "so that the object can be shown, compared and saved."
            )
    return parameters


def arguments(instance: Any) -> dict[str, Any]:
    """The constructor's arguments of `instance`: name -> the value stored under that name."""
    values = {}
    for parameter in _signature(type(instance)):  # type: ignore[arg-type]
        if not hasattr(instance, parameter.name):
            raise ArgumentError(
                f"{type(instance).__name__} takes the argument {parameter.name!r} but does not keep it: "
                f"write self.{parameter.name} = {parameter.name} in its __init__."
            )
        values[parameter.name] = getattr(instance, parameter.name)
    return values


def describe(instance: Any) -> str:
    """`Name(required, option=changed)`: the shortest call that makes an equal object."""
    given = []
    for parameter in _signature(type(instance)):  # type: ignore[arg-type]
        value = getattr(instance, parameter.name, parameter.default)
        if parameter.default is parameter.empty:
            given.append(repr(value))
        elif not same(value, parameter.default):
            shown = np.dtype(value).name if parameter.name == "dtype" else repr(value)
            given.append(f"{parameter.name}={shown}")
    return f"{type(instance).__name__}({', '.join(given)})"


def same(one: Any, other: Any) -> bool:
    """Whether two argument values, or two objects made from arguments, are equal."""
    if type(one) is not type(other):
        return type(one) in (int, float, bool, np.float64) and one == other
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def equal(one: Any, other: Any) -> bool:
    """Equality of two objects by their class and their constructor's arguments: an `__eq__`."""
    if type(one) is not type(other):
        return NotImplemented
    return one is other or all(map(same, arguments(one).values(), arguments(other).values()))

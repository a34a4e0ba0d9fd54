"""Calls of what is not the library's own, while a function is traced: of Python's functions, NumPy's, and others."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from gradwise.tracing.code import Code
from gradwise.tracing.looks import look, parts, settled, truth
from gradwise.tracing.values import Items, Known, Made, Method, Table, Untraceable, Value, concrete, constant, known

# Functions of which the result follows from the arguments, none of which is changed.
_PURE = {
    *(abs, all, any, bool, callable, divmod, enumerate, float, hasattr, int, isinstance, issubclass, len, list, map),
    *(max, min, pow, range, reversed, round, slice, sorted, str, sum, tuple, type, zip),
    *(operator.is_, operator.is_not, *(function for function in vars(math).values() if callable(function))),
}
_OF_LAYOUT = {np.result_type, np.promote_types, np.can_cast, np.finfo, np.dtype, np.ndim, np.shape, np.size}
# Whose results have a layout that follows from those of the arguments.
_ALIKE = {
    getattr(np, name)
    for name in (
        "dot", "vdot", "matmul", "empty", "zeros", "ones", "full", "empty_like", "zeros_like", "ones_like", "asarray",
        "ascontiguousarray", "array", "concatenate", "stack", "einsum", "moveaxis", "take", "ndarray", "arange",
        "broadcast_to", "reshape", "transpose", "ravel", "prod", "sum", "mean", "expand_dims", "squeeze",
    )
}  # fmt: skip
_METHODS = {
    "dot", "astype", "ravel", "reshape", "transpose", "swapaxes", "take", "copy", "view", "clip", "sum", "max", "min",
    "mean", "all", "any", "argmax", "argmin", "tolist", "item", "squeeze", "prod", "cumsum", "var", "reduce",
}  # fmt: skip
_VIEWS = {"transpose", "reshape", "swapaxes", "ravel", "view", "squeeze"}
_READING = {"get", "keys", "values", "items", "index", "count"}

Named = Mapping[str, Value]


def method(code: Code, called: Method, given: Sequence[Value], named: Named) -> Value:
    """`owner.name(...)`."""
    owner, name = called.owner, called.name
    if isinstance(owner, Table) and owner.made is None:
        return _of_table(owner, name, given)
    if (
        isinstance(owner, Known)
        and isinstance(owner.value, ContextVar)
        and name == "get"
        and owner.value in code.inside
    ):
        return Known(code.inside[owner.value])
    fixed = isinstance(owner, Known) and all(map(known, [*given, *named.values()]))
    if (
        isinstance(owner, Known)
        and constant(owner.value)
        and all(settled(code, one) for one in (*given, *named.values()))
    ):
        return Known(getattr(owner.value, name)(*map(concrete, given), **_concrete(named)))
    now = concrete(owner)
    numpy = isinstance(now, (np.ndarray, np.generic, np.ufunc))
    if numpy:
        for value in (owner, *given, *named.values()):
            look(code, value)
        if name == "astype" and isinstance(now, np.ndarray) and _same_dtype(now, given, named):
            return owner
        if fixed and name in _VIEWS:
            made = getattr(now, name)(*map(concrete, given), **_concrete(named))
            if np.may_share_memory(made, now):
                return Known(made)
    elif isinstance(now, (list, dict, set)) and isinstance(owner, Known) and name not in _READING:
        raise Untraceable("changes what is not its own")
    laid_out = all(map(_laid_out, [*given, *named.values()]))
    alike = (numpy and name in _METHODS and laid_out) or isinstance(now, frozenset)
    return _written(code, f"{code.text(owner)}.{name}", given, named, alike)


def _laid_out(value: Value) -> bool:
    """Whether the layout of what NumPy makes follows from that of an argument: numbers of Python's may be sizes."""
    if isinstance(value, Items):
        return value.made is None and all(map(_laid_out, value.parts))
    return isinstance(value, Known) or (isinstance(value, Made) and isinstance(value.value, (np.ndarray, np.inexact)))


def _same_dtype(array: np.ndarray, given: Sequence[Value], named: Named) -> bool:
    """Whether `astype` with these arguments returns the array itself."""
    copies = named.get("copy")
    asked = len(given) == 1 and set(named) == {"copy"} and isinstance(copies, Known) and copies.value is False
    return asked and known(given[0]) and np.dtype(concrete(given[0])) == array.dtype


def _of_table(table: Table, name: str, given: Sequence[Value]) -> Value:
    keys: list[Value] = [Known(key) for key in table.entries]
    if name == "items":
        return Items(list, [Items(tuple, [Known(key), entry]) for key, entry in table.entries.items()])
    if name == "values":
        return Items(list, list(table.entries.values()))
    if name == "keys":
        return Items(list, keys)
    if name == "get" and isinstance(given[0], Known):
        other = given[1] if len(given) > 1 else Known(None)
        return table.entries.get(given[0].value, other)
    raise Untraceable(f"a dictionary's {name}")


def function(code: Code, called: Known, given: Sequence[Value], named: Named) -> Value:
    """A call of an object that is not to be traced itself."""
    now, every = called.value, [*given, *named.values()]
    if getattr(now, "traced", True) is False:
        code.change()
        return _written(code, code.constant(now), given, named, False)
    if not _hashable(now):
        return _written(code, code.constant(now), given, named, False)
    if isinstance(now, type) and len(getattr(now, "_fields", ())) == len(given) > 0 and not named:
        return Items(now, list(given))
    if now in (bool, len, isinstance, type, zip, enumerate, reversed, tuple, list):
        special = _special(code, now, given, named)
        if special is not None:
            return special
    pure = now in _PURE
    if (pure or hasattr(now, "cache_info")) and all(settled(code, value) for value in every):
        return Known(now(*map(concrete, given), **_concrete(named)))
    if now in _OF_LAYOUT:
        for value in every:
            look(code, value)
        return Known(now(*map(concrete, given), **_concrete(named)))
    if now in (np.asarray, np.ascontiguousarray) and len(given) == 1 and not named:
        look(code, given[0])
        array = concrete(given[0])
        if type(array) is np.ndarray and (now is np.asarray or (array.ndim and array.flags.c_contiguous)):
            return given[0]
    numpy = now in _ALIKE or isinstance(now, np.ufunc) or isinstance(getattr(now, "__self__", None), np.ufunc)
    if numpy or pure:
        for value in every:
            look(code, value)
    result = _written(code, code.constant(now), given, named, pure or (numpy and all(map(_laid_out, every))))
    if isinstance(now, type) and isinstance(result, Made) and type(result.value) is now:
        result.alike = result.alike or not isinstance(result.value, np.ndarray)
    return result


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:  # some say so only when they are asked, as functions of ctypes do
        return False
    return True


def _special(code: Code, now: Any, given: Sequence[Value], named: Named) -> Value | None:
    """A call of one of Python's functions that ask, or go through, its arguments."""
    first = given[0] if given else None
    if now is bool and first is not None:
        return Known(truth(code, first))
    if now in (isinstance, type) and len(given) <= 2 and isinstance(first, (Made, Known, Items, Table)):
        look(code, first)
        return Known(now(*map(concrete, given)))
    if now is len and first is not None:
        look(code, first)
        if isinstance(first, (Items, Table)) or isinstance(concrete(first), np.ndarray):
            return Known(len(concrete(first)))
        return None
    if now is zip:
        return Items(
            list, [Items(tuple, list(row)) for row in zip(*[parts(code, value) for value in given], strict=False)]
        )
    if now is enumerate and not named and len(given) == 1 and first is not None:
        return Items(list, [Items(tuple, [Known(place), part]) for place, part in enumerate(parts(code, first))])
    if now is reversed and first is not None:
        return Items(list, parts(code, first)[::-1])
    if now in (tuple, list) and first is not None and not named:
        return Items(now, parts(code, first))
    return None


def _written(code: Code, name: str, given: Sequence[Value], named: Named, alike: bool) -> Made:
    out = named.get("out")
    if isinstance(out, Known) and out.value is not None:
        code.change()
    texts = [*map(code.text, given), *(f"{key}={code.text(value)}" for key, value in named.items())]
    return code.make(f"{name}({', '.join(texts)})", alike)


def _concrete(named: Named) -> dict[str, Any]:
    return {key: concrete(value) for key, value in named.items()}

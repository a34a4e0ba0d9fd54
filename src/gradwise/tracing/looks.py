"""What is asked of a value while a function is traced, and how the program makes sure that the answer holds."""

from __future__ import annotations

import inspect
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from gradwise.tracing.code import Code
from gradwise.tracing.values import Closure, Items, Known, Made, Method, Table, Untraceable, Value, concrete, constant

_LAYOUT = frozenset({"shape", "dtype", "size", "ndim", "itemsize", "nbytes", "strides", "flags"})
_MOST = 64  # parts that are gone through one by one


def look(code: Code, value: Value) -> None:
    """Have the program make sure of a value's type and, of an array, of its layout."""
    if not isinstance(value, Made) or value.alike:
        return
    name, now = value.name, value.value
    condition = f"type({name}) is not {code.constant(type(now))}"
    if isinstance(now, np.ndarray):
        condition += f" or {name}.shape != {now.shape} or {name}.strides != {now.strides}"
        condition += f" or {name}.dtype is not {code.constant(now.dtype)}"
    code.unless(condition)
    value.alike = True


def contents(code: Code, value: Known) -> None:
    """Have the program make sure that a list of somebody's has the same parts."""
    if isinstance(value.value, list):
        code.unless_alike(value.value)


def settled(code: Code, value: Value) -> bool:
    """Whether a value is the same each time, lists with their parts."""
    if isinstance(value, Known):
        if isinstance(value.value, (dict, set, np.ndarray)):
            return False
        contents(code, value)
        return not isinstance(value.value, (tuple, list)) or all(settled(code, Known(part)) for part in value.value)
    return isinstance(value, Items) and value.made is None and all(settled(code, part) for part in value.parts)


def fixed(code: Code, value: Value) -> bool:
    """Whether a value is `settled`, and nothing in it can become another."""
    now = concrete(value) if settled(code, value) else code
    leaves = now if isinstance(now, (tuple, list)) else [now]
    return all(constant(leaf) or (isinstance(leaf, list) and all(map(constant, leaf))) for leaf in leaves)


def truth(code: Code, value: Value) -> bool:
    """Whether a value counts as true."""
    if isinstance(value, Made):
        so = bool(value.value)
        if value not in code.decided:
            code.unless(f"not {value.name}" if so else value.name)
            if constant(value.value):
                code.decided.add(value)
        return so
    if isinstance(value, Known):
        contents(code, value)
        if isinstance(value.value, (dict, set, np.ndarray)):
            raise Untraceable("asks for the truth of what may change")
        return bool(value.value)
    if isinstance(value, (Closure, Method)):
        return True
    if value.made is not None:
        return truth(code, value.made)
    return bool(value.parts if isinstance(value, Items) else value.entries)


def same(code: Code, one: Value, other: Value) -> bool:
    """Whether two values are the same object."""
    if isinstance(one, Known) and isinstance(other, Known):
        return one.value is other.value
    if one is other:
        return True
    for made, fixed in ((one, other), (other, one)):
        if isinstance(made, Made) and isinstance(fixed, Known):
            so = made.value is fixed.value
            if not (made.alike and not so and fixed.value is None):
                text = f"{made.name} is not {code.constant(fixed.value)}"
                code.unless(text if so else text.replace(" is not ", " is "))
            return so
    if isinstance(one, Made) and isinstance(other, Made):
        so = one.value is other.value
        code.unless(f"{one.name} is {'not ' * so}{other.name}")
        return so
    return False  # what has just been made is not anything else


def parts(code: Code, value: Value) -> list[Value]:
    """What there is in a value, one by one."""
    if isinstance(value, (Items, Table)) and value.made is not None:
        value = value.made
    if isinstance(value, Items):
        return list(value.parts)
    if isinstance(value, Table):
        return [Known(key) for key in value.entries]
    if isinstance(value, Known) and not isinstance(value.value, (dict, set, np.ndarray)):
        contents(code, value)
        return _few([Known(part) for part in value.value])
    if isinstance(value, Made):
        look(code, value)
        if isinstance(value.value, dict):
            keys = tuple(value.value)
            if not all(map(constant, keys)):
                raise Untraceable("goes through what is not known")
            code.unless(f"tuple({value.name}) != {code.constant(keys)}")
            return _few([Known(key) for key in keys])
        if isinstance(value.value, (tuple, list, np.ndarray)):
            count, array = len(value.value), isinstance(value.value, np.ndarray)
            if not array:
                code.unless(f"len({value.name}) != {count}")
            _few(range(count))
            return [code.make(f"{value.name}[{index}]", array) for index in range(count)]
    raise Untraceable("goes through what is not known")


def _few(values: Any) -> Any:
    if len(values) > _MOST:
        raise Untraceable("goes through too much")
    return values


def attribute(code: Code, value: Value, name: str) -> Any:
    """`value.name`; a property as (property's function, value)."""
    if isinstance(value, Items) and value.made is None and name in getattr(value.kind, "_fields", ()):
        return value.parts[value.kind._fields.index(name)]  # type: ignore[attr-defined]
    if isinstance(value, (Items, Table, Method, Closure)):
        return Method(value, name)
    now = value.value
    if isinstance(value, Made):
        look(code, value)
        if isinstance(now, np.ndarray) and name in _LAYOUT:
            return Known(getattr(now, name))
        if callable(getattr(now, name, None)) and name not in getattr(now, "__dict__", ()):
            return Method(value, name)
        if name == "T" and value.turned is not None:
            return value.turned
        made = code.make(f"{value.name}.{name}", name in ("T", "real") and isinstance(now, (np.ndarray, np.generic)))
        if name == "T":
            made.turned, value.turned = value, made
        return made
    if isinstance(now, (ModuleType, type, np.ndarray, np.ufunc, FunctionType)) or constant(now):
        made = getattr(now, name)
        bound = callable(made) and isinstance(now, np.ndarray)
        return Method(value, name) if bound or (constant(now) and _bound(made)) else Known(made)
    if isinstance(now, tuple) or type(now).__module__ == "numpy._core.multiarray":  # flags, and tuples of arrays
        return Known(getattr(now, name))
    return _of_object(code, value, name)


def _bound(made: Any) -> bool:
    return getattr(made, "__self__", None) is not None and not isinstance(made, type)


def _of_object(code: Code, value: Known, name: str) -> Any:
    """An attribute of an object that lives longer than the program. Whether it has it itself is not asked of its
    `__dict__`, as in `layers.unbuilt.held`.
    """
    now = value.value
    described = inspect.getattr_static(type(now), name, None)
    if isinstance(described, property):
        return described.fget, value
    made = getattr(now, name)
    if isinstance(described, FunctionType) and getattr(made, "__func__", None) is described:
        return Method(value, name, described)
    if callable(made) and not isinstance(made, type) and (made is described or getattr(now, name) is not made):
        return Method(value, name)  # the class's, or made for who asks
    owner = code.constant(now)
    if isinstance(made, float):  # a learning rate, say, may change any time
        return code.make(f"{owner}.{name}", True)
    by_value = isinstance(made, (int, str)) and not isinstance(made, bool)
    code.unless(f"{owner}.{name} {'!=' if by_value else 'is not'} {code.constant(made)}", first=True)
    return Known(made)


def item(code: Code, value: Value, index: Value) -> Value:
    """`value[index]`."""
    if isinstance(value, (Items, Table)) and value.made is None and isinstance(index, Known):
        if isinstance(value, Table):
            if index.value not in value.entries:
                raise Untraceable(f"{index.value!r} is not there")
            entry: Value = value.entries[index.value]
            return entry
        chosen = value.parts[index.value]
        return Items(value.kind if value.kind is list else tuple, chosen) if isinstance(index.value, slice) else chosen
    if isinstance(value, Known) and isinstance(index, Known):
        now = value.value
        basic = all(isinstance(part, (int, slice, type(None), type(...))) for part in _several(index.value))
        if isinstance(now, (tuple, str, range)) or (isinstance(now, np.ndarray) and basic):
            found = now[index.value]
            if isinstance(now, np.ndarray) and not isinstance(found, np.ndarray):
                return code.make(f"{code.text(value)}[{code.text(index)}]", True)
            return Known(found)
        if isinstance(now, list):
            contents(code, value)
            return Known(now[index.value])
    look(code, value)
    look(code, index)
    chosen = concrete(index)
    masks = any(isinstance(part, np.ndarray) and part.dtype == bool for part in _several(chosen))
    array = isinstance(concrete(value), np.ndarray)
    return code.make(f"{code.text(value)}[{code.text(index)}]", array and not masks)


def _several(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)

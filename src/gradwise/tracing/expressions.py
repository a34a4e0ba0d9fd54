"""Expressions gone through, while a function is traced."""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

from gradwise.tracing import calls, looks
from gradwise.tracing.code import Code
from gradwise.tracing.values import (
    Closure,
    Items,
    Known,
    Method,
    Scope,
    Table,
    Untraceable,
    Value,
    concrete,
    known,
)

Operator = tuple[str, Callable[..., Any]]

BINARY: dict[type, Operator] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", operator.pow),
    ast.MatMult: ("@", operator.matmul),
    ast.BitAnd: ("&", operator.and_),
    ast.BitOr: ("|", operator.or_),
    ast.BitXor: ("^", operator.xor),
    ast.LShift: ("<<", operator.lshift),
    ast.RShift: (">>", operator.rshift),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}
_UNARY: dict[type, Operator] = {
    ast.USub: ("-", operator.neg),
    ast.UAdd: ("+", operator.pos),
    ast.Invert: ("~", operator.invert),
}


class Expressions:
    """What goes through expressions; through functions, and what is assigned, goes a subclass.

    Parameters
    ----------
    code : Code
        Where the program is written.
    """

    def __init__(self, code: Code) -> None:
        self.code = code

    def run(self, function: FunctionType, given: Sequence[Value], named: Mapping[str, Value]) -> Value:
        """A function's result."""
        raise NotImplementedError

    def closed(self, closure: Closure, given: Sequence[Value], named: Mapping[str, Value]) -> Value:
        """The result of a function that was defined inside another."""
        raise NotImplementedError

    def value(self, node: ast.expr, scope: Scope) -> Any:
        """What an expression is."""
        return self.way(node)(node, scope)

    def way(self, node: ast.AST) -> Callable[[Any, Scope], Any]:
        """The method for a kind of node."""
        found: Callable[[Any, Scope], Any] | None = getattr(self, f"_{type(node).__name__.lower()}", None)
        if found is None:
            raise Untraceable(f"a {type(node).__name__}")
        return found

    def truth(self, node: ast.expr, scope: Scope) -> bool:
        """Whether it counts as true."""
        return looks.truth(self.code, self.value(node, scope))

    def _constant(self, node: ast.Constant, scope: Scope) -> Value:
        return Known(node.value)

    def _name(self, node: ast.Name, scope: Scope) -> Any:
        owner = scope.owner(node.id)
        if owner is not None:
            return owner.names[node.id]
        if node.id in scope.module:
            return Known(scope.module[node.id])
        return Known(getattr(builtins, node.id))

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Any:
        return self.attribute(self.value(node.value, scope), node.attr)

    def attribute(self, value: Value, name: str) -> Any:
        """`value.name`."""
        found = looks.attribute(self.code, value, name)
        return self.run(found[0], [found[1]], {}) if isinstance(found, tuple) else found

    def _call(self, node: ast.Call, scope: Scope) -> Any:
        called = self.value(node.func, scope)
        given = self._several(node.args, scope)
        if any(one.arg is None for one in node.keywords):
            raise Untraceable("arguments")
        named = {str(one.arg): self.value(one.value, scope) for one in node.keywords}
        return self.call(called, given, named)

    def call(self, called: Value, given: Sequence[Value], named: Mapping[str, Value]) -> Any:
        """`called(*given, **named)`."""
        if isinstance(called, Closure):
            return self.closed(called, given, named)
        if isinstance(called, Method):
            if isinstance(called.function, FunctionType):
                return self.run(called.function, [called.owner, *given], named)
            return calls.method(self.code, called, given, named)
        if isinstance(called, Known):
            if called.value is getattr and len(given) == 2 and isinstance(given[1], Known):
                return self.attribute(given[0], given[1].value)
            return self.run(called.value, given, named)
        texts = [*map(self.code.text, given), *(f"{key}={self.code.text(value)}" for key, value in named.items())]
        return self.code.make(f"{self.code.text(called)}({', '.join(texts)})")

    def _binop(self, node: ast.BinOp, scope: Scope) -> Value:
        return self.binary(BINARY[type(node.op)], self.value(node.left, scope), self.value(node.right, scope))

    def binary(self, by: Operator, left: Value, right: Value) -> Value:
        """Of an operator between two values."""
        symbol, function = by
        if looks.fixed(self.code, left) and looks.fixed(self.code, right):
            return Known(function(concrete(left), concrete(right)))
        for value in (left, right):
            looks.look(self.code, value)
        return self.code.make(f"{self.code.text(left)} {symbol} {self.code.text(right)}", True)

    def _unaryop(self, node: ast.UnaryOp, scope: Scope) -> Value:
        if isinstance(node.op, ast.Not):
            return Known(not self.truth(node.operand, scope))
        symbol, function = _UNARY[type(node.op)]
        value = self.value(node.operand, scope)
        if isinstance(value, Known) and isinstance(value.value, (int, float)):
            return Known(function(value.value))
        looks.look(self.code, value)
        return self.code.make(f"{symbol}{self.code.text(value)}", True)

    def _compare(self, node: ast.Compare, scope: Scope) -> Value:
        left, made = self.value(node.left, scope), None
        for op, other in zip(node.ops, node.comparators, strict=True):
            if made is not None and not looks.truth(self.code, made):
                return made
            right = self.value(other, scope)
            made = self._compared(op, left, right)
            left = right
        return made  # type: ignore[return-value]

    def _compared(self, op: ast.cmpop, left: Value, right: Value) -> Value:
        if isinstance(op, (ast.Is, ast.IsNot)):
            return Known(looks.same(self.code, left, right) is isinstance(op, ast.Is))
        if not isinstance(op, (ast.In, ast.NotIn)):
            return self.binary(BINARY[type(op)], left, right)
        if isinstance(right, Table) and right.made is None and isinstance(left, Known):
            return Known((left.value in right.entries) is isinstance(op, ast.In))
        if looks.fixed(self.code, left) and looks.fixed(self.code, right):
            return Known((concrete(left) in concrete(right)) is isinstance(op, ast.In))
        word = "in" if isinstance(op, ast.In) else "not in"
        return self.code.make(f"{self.code.text(left)} {word} {self.code.text(right)}", True)

    def _boolop(self, node: ast.BoolOp, scope: Scope) -> Any:
        value: Any = None
        for place, one in enumerate(node.values):
            value = self.value(one, scope)
            last = place == len(node.values) - 1
            if not last and looks.truth(self.code, value) is isinstance(node.op, ast.Or):
                break
        return value

    def _ifexp(self, node: ast.IfExp, scope: Scope) -> Any:
        return self.value(node.body if self.truth(node.test, scope) else node.orelse, scope)

    def _subscript(self, node: ast.Subscript, scope: Scope) -> Value:
        return looks.item(self.code, self.value(node.value, scope), self.value(node.slice, scope))

    def _slice(self, node: ast.Slice, scope: Scope) -> Value:
        ends = [Known(None) if end is None else self.value(end, scope) for end in (node.lower, node.upper, node.step)]
        if not all(map(known, ends)):
            raise Untraceable("a slice that is not known")
        return Known(slice(*map(concrete, ends)))

    def _several(self, nodes: Sequence[ast.expr], scope: Scope) -> list[Value]:
        values: list[Value] = []
        for one in nodes:
            if isinstance(one, ast.Starred):
                values += looks.parts(self.code, self.value(one.value, scope))
            else:
                values.append(self.value(one, scope))
        return values

    def _tuple(self, node: ast.Tuple, scope: Scope) -> Value:
        values = self._several(node.elts, scope)
        return Known(tuple(map(concrete, values))) if all(map(known, values)) else Items(tuple, values)

    def _list(self, node: ast.List, scope: Scope) -> Value:
        return Items(list, self._several(node.elts, scope))

    def _dict(self, node: ast.Dict, scope: Scope) -> Value:
        entries = {}
        for key, entry in zip(node.keys, node.values, strict=True):
            name = None if key is None else self.value(key, scope)
            if not isinstance(name, Known):
                raise Untraceable("a dictionary of what is not known")
            entries[name.value] = self.value(entry, scope)
        return Table(entries)

    def _joinedstr(self, node: ast.JoinedStr, scope: Scope) -> Value:
        raise Untraceable("a text that is put together")

    def _lambda(self, node: ast.Lambda, scope: Scope) -> Value:
        return self.closure(node, scope)

    def closure(self, node: ast.FunctionDef | ast.Lambda, scope: Scope) -> Closure:
        """A function that is defined here."""
        names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
        values = [self.value(default, scope) for default in node.args.defaults]
        if node.args.kwonlyargs:
            raise Untraceable("arguments")
        return Closure(node, scope, dict(zip(names[::-1], values[::-1], strict=False)))

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp, scope: Scope) -> Value:
        inner, values = Scope(scope.module, scope), []

        def go(place: int) -> None:
            if place == len(node.generators):
                values.append(self.value(node.elt, inner))
                return
            one = node.generators[place]
            for part in looks.parts(self.code, self.value(one.iter, inner)):
                self.assign(one.target, part, inner)
                if all(self.truth(condition, inner) for condition in one.ifs):
                    go(place + 1)

        go(0)
        return Items(list, values)

    _generatorexp = _listcomp

    def assign(self, target: ast.expr, value: Value, scope: Scope) -> None:
        """`target = value`."""
        raise NotImplementedError

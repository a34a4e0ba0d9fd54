"""Functions gone through, statement by statement."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from gradwise.tracing import calls, looks
from gradwise.tracing.code import Code
from gradwise.tracing.contexts import Setting
from gradwise.tracing.expressions import BINARY, Expressions
from gradwise.tracing.source import tree
from gradwise.tracing.values import Abandoned, Closure, Items, Known, Scope, Table, Untraceable, Value, concrete


class Inlined(Untraceable):
    """A function that was gone into is to be called as it is."""

    def __init__(self, function: FunctionType, reason: str) -> None:
        super().__init__(reason)
        self.function = function


class Raised(Exception):
    """The function ends in an error."""


class _Return(Exception):
    def __init__(self, value: Value) -> None:
        self.value = value


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Trace(Expressions):
    """One pass through a function and those that it calls.

    Parameters
    ----------
    code : Code
        Where the program is written.
    whole : set
        Functions that are called as they are.
    """

    def __init__(self, code: Code, whole: set[FunctionType]) -> None:
        super().__init__(code)
        self.whole = whole

    def run(self, function: Any, given: Sequence[Value], named: Mapping[str, Value]) -> Value:
        own = isinstance(function, FunctionType) and function not in self.whole and getattr(function, "traced", True)
        node = tree(function) if own else None
        if node is None:
            return calls.function(self.code, Known(function), given, named)
        scope = Scope(function.__globals__, Scope(function.__globals__))
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        scope.around.names = {name: Known(cell.cell_contents) for name, cell in cells}  # type: ignore[union-attr]
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        values = function.__defaults__ or ()
        defaults = dict(zip(names[::-1], map(Known, values[::-1]), strict=False))
        defaults |= {name: Known(value) for name, value in (function.__kwdefaults__ or {}).items()}
        try:
            return self._result(node, scope, defaults, given, named)
        except Inlined:
            raise
        except Untraceable as error:
            raise Inlined(function, f"{function.__qualname__}: {error}") from error

    def closed(self, closure: Closure, given: Sequence[Value], named: Mapping[str, Value]) -> Value:
        scope = Scope(closure.scope.module, closure.scope)
        return self._result(closure.node, scope, closure.defaults, given, named)

    def _result(
        self,
        node: ast.FunctionDef | ast.Lambda,
        scope: Scope,
        defaults: Mapping[str, Value],
        given: Sequence[Value],
        named: Mapping[str, Value],
    ) -> Value:
        """What a function returns, of these arguments."""
        asked = node.args
        places = [one.arg for one in (*asked.posonlyargs, *asked.args)]
        if asked.kwarg or (len(given) > len(places) and not asked.vararg):
            raise Untraceable("arguments")
        scope.names = {**defaults, **dict(zip(places, given, strict=False)), **named}
        if asked.vararg:
            scope.names[asked.vararg.arg] = Items(tuple, list(given[len(places) :]))
        if any(name not in scope.names for name in (*places, *(one.arg for one in asked.kwonlyargs))):
            raise Untraceable("arguments")
        if isinstance(node, ast.Lambda):
            return self.value(node.body, scope)
        try:
            self.statements(node.body, scope)
        except _Return as ended:
            return ended.value
        return Known(None)

    def statements(self, nodes: Sequence[ast.stmt], scope: Scope) -> None:
        """Go through statements."""
        for node in nodes:
            self.way(node)(node, scope)

    def _return(self, node: ast.Return, scope: Scope) -> None:
        raise _Return(Known(None) if node.value is None else self.value(node.value, scope))

    def _raise(self, node: ast.Raise, scope: Scope) -> None:
        raise Raised

    def _break(self, node: ast.Break, scope: Scope) -> None:
        raise _Break

    def _continue(self, node: ast.Continue, scope: Scope) -> None:
        raise _Continue

    def _pass(self, node: ast.Pass, scope: Scope) -> None:
        pass

    def _expr(self, node: ast.Expr, scope: Scope) -> None:
        self.value(node.value, scope)

    def _nonlocal(self, node: ast.Nonlocal, scope: Scope) -> None:
        scope.elsewhere.update(node.names)

    def _try(self, node: ast.Try, scope: Scope) -> None:
        if node.finalbody or node.orelse:
            raise Untraceable("try with more than except")
        self.statements(node.body, scope)  # where that fails, the function itself is called, and fails as it says

    def _if(self, node: ast.If, scope: Scope) -> None:
        self.statements(node.body if self.truth(node.test, scope) else node.orelse, scope)

    def _for(self, node: ast.For, scope: Scope) -> None:
        for part in looks.parts(self.code, self.value(node.iter, scope)):
            self.assign(node.target, part, scope)
            try:
                self.statements(node.body, scope)
            except _Continue:
                continue
            except _Break:
                break

    def _with(self, node: ast.With, scope: Scope) -> None:
        if len(node.items) > 1 or node.items[0].optional_vars:
            raise Untraceable("several contexts")
        asked = node.items[0].context_expr
        kind = self.value(asked.func, scope) if isinstance(asked, ast.Call) and not asked.args else None
        if isinstance(kind, Known) and isinstance(kind.value, type) and issubclass(kind.value, Setting):
            self.code.setting(kind.value.variable, kind.value.value, lambda: self.statements(node.body, scope))
        else:
            self.code.within(self.code.text(self.value(asked, scope)), lambda: self.statements(node.body, scope))

    def _functiondef(self, node: ast.FunctionDef, scope: Scope) -> None:
        scope.set(node.name, self.closure(node, scope))

    def _delete(self, node: ast.Delete, scope: Scope) -> None:
        for target in node.targets:
            if not isinstance(target, ast.Name):
                raise Untraceable("del of a part")
            scope.names.pop(target.id, None)

    def _assign(self, node: ast.Assign, scope: Scope) -> None:
        value = self.value(node.value, scope)
        for target in node.targets:
            self.assign(target, value, scope)

    def _annassign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value, scope), scope)

    def _augassign(self, node: ast.AugAssign, scope: Scope) -> None:
        by = symbol, _ = BINARY[type(node.op)]
        target, share = node.target, self.value(node.value, scope)
        if isinstance(target, ast.Name):
            value = self._name(target, scope)
            if not isinstance(concrete(value), np.ndarray):
                scope.set(target.id, self.binary(by, value, share))
                return
            looks.look(self.code, value)
            looks.look(self.code, share)
            self.changed(value)
            place, owner = "", self.code.make(self.code.text(value), True) if isinstance(value, Known) else value
        elif isinstance(target, ast.Subscript):
            owner = self.value(target.value, scope)
            place = f"[{self.code.text(self.value(target.slice, scope))}]"
        else:
            owner, place = self.value(target.value, scope), f".{target.attr}"
        text = f"{place} {symbol}= {self.code.text(share)}"
        self.code.do(self.changed(owner) + text)

    def assign(self, target: ast.expr, value: Value, scope: Scope) -> None:
        """`target = value`."""
        if isinstance(target, ast.Name):
            scope.set(target.id, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._unpack(target.elts, value, scope)
        elif isinstance(target, ast.Subscript):
            owner, index = self.value(target.value, scope), self.value(target.slice, scope)
            if isinstance(owner, Table) and owner.made is None and isinstance(index, Known):
                owner.entries[index.value] = value
            else:
                text = f"[{self.code.text(index)}] = {self.code.text(value)}"
                self.code.do(self.changed(owner) + text)
        else:
            raise Abandoned("an attribute is set")

    def _unpack(self, targets: Sequence[ast.expr], value: Value, scope: Scope) -> None:
        found = looks.parts(self.code, value)
        star = next((place for place, one in enumerate(targets) if isinstance(one, ast.Starred)), None)
        if star is not None:
            end = len(found) - (len(targets) - star - 1)
            found = [*found[:star], Items(list, found[star:end]), *found[end:]]
        if len(found) != len(targets):
            raise Untraceable("another number of parts")
        for one, part in zip(targets, found, strict=True):
            self.assign(one.value if isinstance(one, ast.Starred) else one, part, scope)

    def changed(self, owner: Value) -> str:
        """The name of what is about to be changed."""
        if isinstance(owner, Known):
            if isinstance(owner.value, (dict, list)):
                raise Abandoned("what is remembered is changed")
            self.code.change()
        return self.code.text(owner)

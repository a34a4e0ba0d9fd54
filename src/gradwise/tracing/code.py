"""The program that is written while a function is traced."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from gradwise.tracing.values import Abandoned, Closure, Known, Made, Method, Table, Untraceable, Value

OFF: Any = object()  # what a program returns where it does not hold; nothing has been changed then
_NONE: Any = object()
_NAME = re.compile(r"\bv\d+\b")


class Code:
    """Lines of Python, each run as it is written down.

    Parameters
    ----------
    values : sequence
        The program's arguments as they are this time.
    changes : bool
        Whether it may change what outlasts it.
    """

    def __init__(self, values: Sequence[Any], changes: bool) -> None:
        self._changes = changes
        self._names: dict[str, Any] = {"OFF": OFF}
        self._constants: dict[int, str] = {}
        self._asked: set[str] = set()
        self._lists: set[int] = set()
        self._head: list[str] = []
        self._lines: list[str] = []
        self._indent = "    "
        self._count = 0
        self.decided: set[Made] = set()  # whose truth has been asked for
        self.inside: dict[ContextVar[Any], Any] = {}  # the values that lines have given context variables
        self.changing = False  # whether lines have changed what outlasts the program
        self.arguments = [self._variable(value, False) for value in values]

    # Writing

    def _variable(self, value: Any, alike: bool) -> Made:
        name = f"v{self._count}"
        self._count += 1
        self._names[name] = value
        return Made(name, value, alike)

    def make(self, text: str, alike: bool = False) -> Made:
        """A line that makes something."""
        try:
            value = eval(text, self._names)
        except Exception as error:
            raise Untraceable(str(error)) from error
        made = self._variable(value, alike)
        self._lines.append(f"{self._indent}{made.name} = {text}")
        return made

    def do(self, text: str) -> None:
        """A line that changes something."""
        try:
            exec(text, self._names)
        except Exception as error:
            raise Untraceable(str(error)) from error
        self._lines.append(self._indent + text)

    def change(self) -> None:
        """From now on what outlasts the program is changed: nothing more may be asked."""
        if not self._changes:
            raise Abandoned("changes what cannot be put back")
        self.changing = True

    def within(self, context: str, run: Callable[[], Any]) -> None:
        """What is written by `run`, inside a context."""
        manager = eval(context, self._names)
        self._lines.append(f"{self._indent}with {context}:")
        with manager, self._deeper():
            run()

    def setting(self, variable: ContextVar[Any], value: Any, run: Callable[[], Any]) -> None:
        """What is written by `run`, where a context variable has a value."""
        name, before = self.constant(variable), self.inside.get(variable, _NONE)
        token = self.make(f"{name}.set({self.constant(value)})")
        self.inside[variable] = value
        self._lines.append(f"{self._indent}try:")
        try:
            with self._deeper():
                run()
        finally:
            self._lines.append(f"{self._indent}finally:")
            with self._deeper():
                self.do(f"{name}.reset({token.name})")
            del self.inside[variable]
            if before is not _NONE:
                self.inside[variable] = before

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        """Lines that stand a step further in, of which there is one at the least."""
        self._indent += "    "
        count = len(self._lines)
        try:
            yield
        finally:
            if len(self._lines) == count:
                self._lines.append(f"{self._indent}pass")
            self._indent = self._indent[4:]

    def unless(self, condition: str, first: bool = False) -> None:
        """Where that is so, the program does not hold; `first` says that it can be asked at its beginning."""
        line = f"if {condition}: return OFF"
        if first:
            if line not in self._asked:
                self._asked.add(line)
                self._head.append(f"    {line}")
        elif self.changing:
            raise Untraceable("asks for what is not known when something has been changed")
        else:
            self._lines.append(self._indent + line)

    def unless_alike(self, parts: list[Any]) -> None:
        """Unless a list has the parts that it has now, the program does not hold."""
        name, now = self.constant(parts), list(parts)
        if not parts:
            self.unless(name, first=True)
        elif id(parts) not in self._lists:
            self._lists.add(id(parts))
            each = f"all(map({self.constant(operator.is_)}, {name}, {self.constant(now)}))"
            self.unless(f"len({name}) != {len(now)} or not {each}", first=True)

    # Names

    def constant(self, value: Any) -> str:
        """An object's name in the program, or what it is written as."""
        if value is None or isinstance(value, (bool, str)) or type(value) is int:
            return repr(value)
        if type(value) is float and math.isfinite(value):
            return repr(value)
        if id(value) not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[id(value)] = name
            self._names[name] = value
        return self._constants[id(value)]

    def text(self, value: Value) -> str:
        """How a value is written."""
        if isinstance(value, Known):
            return self.constant(value.value)
        if isinstance(value, Made):
            return value.name
        if isinstance(value, Method):
            return f"{self.text(value.owner)}.{value.name}"
        if isinstance(value, Closure):
            raise Untraceable("a function made here is handed out")
        if value.made is not None:
            return value.made.name
        if isinstance(value, Table):
            text = (
                "{"
                + ", ".join(f"{self.constant(key)}: {self.text(entry)}" for key, entry in value.entries.items())
                + "}"
            )
            value.made = self.make(text, True)
            return value.made.name
        parts = ", ".join(map(self.text, value.parts))
        if value.kind is list:
            value.made = self.make(f"[{parts}]", True)
            return value.made.name
        return f"({parts}{',' * bool(parts)})" if value.kind is tuple else f"{self.constant(value.kind)}({parts})"

    # The whole

    def program(self, result: Value) -> Callable[..., Any]:
        """The function, which returns what that value is."""
        self._lines.append(f"    return {self.text(result)}")
        given = ", ".join(argument.name for argument in self.arguments)
        lines = [
            f"def program({given}):",
            *self._head,
            *_let_go(self._lines, {f"v{place}" for place in range(len(self.arguments), self._count)}),
        ]
        names = {name: value for name, value in self._names.items() if not name.startswith("v")}
        source = "\n".join(lines) + "\n"
        exec(compile(source, "<a traced function's program>", "exec"), names)
        made: Callable[..., Any] = names["program"]
        made.source = source  # type: ignore[attr-defined]
        return made


def _let_go(lines: list[str], made: set[str]) -> list[str]:
    """Lines with each array let go of behind the last line that names it, as when a function returns: the next one is
    given the same memory, which is in the caches.
    """
    last = {name: place for place, line in enumerate(lines) for name in _NAME.findall(line) if name in made}
    ends: dict[int, list[str]] = {}
    for name, place in last.items():
        ends.setdefault(place, []).append(name)
    result = []
    for place, line in enumerate(lines):
        result.append(line)
        text = line.lstrip()
        if place in ends and not text.startswith(("return ", "with ")):
            result.append(line[: len(line) - len(text)] + "del " + ", ".join(ends[place]))
    return result

"""Contexts that do no more than set a context variable, which programs set themselves: 1.5 us less."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any, ClassVar


class Setting:
    """The context in which a context variable has a value. A subclass says which, and of what value."""

    __slots__ = ("_before",)

    variable: ClassVar[ContextVar[Any]]
    value: ClassVar[Any]

    def __enter__(self) -> None:
        self._before: Token[Any] = self.variable.set(self.value)

    def __exit__(self, *error: object) -> None:
        self.variable.reset(self._before)

"""`Traced`: a function, and the programs that it comes down to."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any, Protocol, TypeVar

from gradwise.tracing.code import OFF, Code
from gradwise.tracing.trace import Inlined, Trace
from gradwise.tracing.values import Known, concrete

F = TypeVar("F", bound=Callable[..., Any])

_AFTER = 300  # calls alike before one is traced, which takes about as long as it saves in so many
_TIMES = 8  # programs that are made, at the most; after that none holds for long
_MISSES = 20  # calls for which a program did not hold, before another one is made
_TRIES = 40  # functions that are gone into in vain
_KEPT = 8  # programs, for different arguments
_COUNTED = 1000  # kinds of arguments that are counted


def whole(function: F) -> F:
    """A function that traced ones call as it is, and that changes what outlasts them."""
    function.traced = False  # type: ignore[attr-defined]
    return function


class Keeping(Protocol):
    """What a function may change, as it was before a call."""

    def settled(self) -> bool:
        """Whether the call can be begun and then made anew, and nothing is different for it."""

    def back(self) -> None:
        """Put it back."""


class Traced:
    """A function of an object and some arguments, which after many calls alike runs as a program.

    Parameters
    ----------
    function : callable
        (owner, *arguments) -> result. What it changes that outlasts it, it changes last.
    owner : object
        Its first argument. What it holds is asked for at the beginning of each program.
    keep : callable, optional
        arguments -> what it may change, as it is, or None where it is not to be traced for them. Without it, it
        changes nothing.
    after : int
        Calls alike before one is traced.

    Attributes
    ----------
    programs : dict
        Key -> program.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        owner: Any,
        keep: Callable[[tuple[Any, ...]], Keeping | None] | None = None,
        after: int = _AFTER,
    ) -> None:
        self.after = after
        self.programs: dict[Any, Callable[..., Any]] = {}
        self._function = function
        self._owner = owner
        self._keep = keep
        self._seen: dict[Any, float] = {}
        self._missed: dict[Any, int] = {}
        self._left = _TIMES

    def __call__(self, key: Any, *arguments: Any) -> Any:
        """The function's result; `key` says which calls are alike."""
        program = self.programs.get(key)
        if program is not None:
            result = program(*arguments)
            if result is not OFF:
                return result
            self._miss(key)
        elif self._left:
            seen = self._seen[key] = self._seen.get(key, 0) + 1
            if seen > self.after:
                return self._traced(key, arguments)
            if len(self._seen) > _COUNTED:
                self._seen.clear()
        return self._function(self._owner, *arguments)

    def _miss(self, key: Any) -> None:
        """Count a call for which a program did not hold; after many, make another one when there have been enough."""
        missed = self._missed[key] = self._missed.get(key, 0) + 1
        if missed > _MISSES:
            del self.programs[key], self._missed[key]
            self._seen.pop(key, None)

    def _traced(self, key: Any, arguments: tuple[Any, ...]) -> Any:
        """The function's result, for which its program is written."""
        self._seen[key] = 0
        functions: set[FunctionType] = set()
        for _ in range(_TRIES):
            kept = self._keep(arguments) if self._keep else None
            if kept is None and self._keep:
                self._seen[key] = -math.inf
                break
            if not functions:
                self._left -= 1
            code = Code(arguments, self._keep is not None)
            try:
                made = Trace(code, functions).run(self._function, [Known(self._owner), *code.arguments], {})
                result, program = concrete(made), code.program(made)
            except BaseException as error:
                if kept is not None:
                    kept.back()
                if isinstance(error, Inlined) and error.function is not self._function:
                    functions.add(error.function)
                    continue
                if isinstance(error, Exception):  # the function itself is called, and says what there is to be said
                    break
                raise
            if kept is None or kept.settled():
                self.programs[key] = program
                if len(self.programs) > _KEPT:
                    oldest = next(iter(self.programs))
                    del self.programs[oldest]
                    self._missed.pop(oldest, None)
            else:
                self._seen[key] = -math.inf
            return result
        return self._function(self._owner, *arguments)

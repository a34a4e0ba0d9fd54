"""Functions as they are written: their syntax trees."""

from __future__ import annotations

import ast
import linecache
import textwrap
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

_LIBRARY = __name__.partition(".")[0]


def tree(function: Any) -> ast.FunctionDef | None:
    """A function's definition, where it is one of the library's own that can be traced."""
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        return None
    written = getattr(function, "source", None)
    if written is None and str(function.__module__).partition(".")[0] != _LIBRARY:
        return None
    return _tree(function.__code__, written)


@lru_cache(maxsize=1024)
def _tree(code: CodeType, written: str | None) -> ast.FunctionDef | None:
    if written is None:
        lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : _last(code)]
        written = textwrap.dedent("".join(lines))
    try:
        body = ast.parse(written).body
    except SyntaxError:  # it ends in a line that makes nothing, such as a bracket's
        return None
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef):
        return None
    return None if any(map(_generates, body[0].body)) else body[0]


def _last(code: CodeType) -> int:
    """The last line of a function."""
    inside = [_last(value) for value in code.co_consts if isinstance(value, CodeType)]
    return max([code.co_firstlineno, *inside, *(place[1] for place in code.co_positions() if place[1])])


def _generates(node: ast.AST) -> bool:
    """Whether a function's statement has a `yield` or an `await` of its own."""
    if isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await)):
        return True
    inside = isinstance(node, (ast.FunctionDef, ast.Lambda))
    return not inside and any(map(_generates, ast.iter_child_nodes(node)))

"""The BLAS library that NumPy has loaded, asked by the names that OpenBLAS has in NumPy's wheels and elsewhere."""

from __future__ import annotations

import os
import sys
import threading
from contextvars import ContextVar, Token
from typing import Any

try:
    import ctypes
except ImportError:  # some builds of Python have none
    ctypes = None  # type: ignore[assignment]


def function(*names: str) -> Any:
    """The library's function of the first of these names that it has; None where it has none of them."""
    module = sys.modules.get("numpy._core._multiarray_umath")
    if ctypes is None or module is None:
        return None
    for name in names:
        try:
            return getattr(ctypes.CDLL(module.__file__), name)
        except (OSError, AttributeError, TypeError):
            continue
    return None


def _own(name: str) -> Any:
    """OpenBLAS's function of that name, in NumPy's wheels and elsewhere."""
    return function(*(shape.format(name) for shape in ("scipy_{}64_", "{}64_", "{}")))


def core() -> str:
    """The kind of processor whose kernels it runs, such as "SkylakeX" or "Haswell"; "" where it does not say."""
    ask = _own("openblas_get_corename")
    if ask is None:
        return ""
    ask.restype, ask.argtypes = ctypes.c_char_p, []
    return (ask() or b"").decode("ascii", "replace")


_GET, _SET = _own("openblas_get_num_threads"), _own("openblas_set_num_threads")
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def threads() -> int:
    """How many threads may share a product, as it stands; 1 where the library does not say, and within `Alone`."""
    return 1 if _GET is None or _ALONE.get() else _Number.before or int(_GET())


class _Number:
    """The library's number of threads, which is one number for all of Python's, while some of those are in `Alone`."""

    lock = threading.Lock()
    users = 0
    before = 0  # what it was; 0 while nobody is


class Alone:
    """The context in which each product is made by the thread that asks for it.

    The first one in sets the library's number, the last one out sets it back: in between, `threads` says to all others
    what it was, so that which ways they go does not depend on who else computes just then.
    """

    def __enter__(self) -> None:
        with _Number.lock:
            if _Number.users == 0 and _GET is not None and _SET is not None:
                _Number.before = int(_GET())
                _SET(1)
            _Number.users += 1
        self._token: Token[bool] = _ALONE.set(True)

    def __exit__(self, *error: object) -> None:
        _ALONE.reset(self._token)
        with _Number.lock:
            _Number.users -= 1
            if _Number.users == 0 and _Number.before:
                _SET(_Number.before)
                _Number.before = 0


def _forget() -> None:
    """In a forked process none of the threads is left that were in `Alone`."""
    _Number.lock, _Number.users, _Number.before = threading.Lock(), 0, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

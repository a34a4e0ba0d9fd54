"""The BLAS library that NumPy has loaded, asked by the names that OpenBLAS has in NumPy's wheels and elsewhere."""

from __future__ import annotations

import sys
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


_THREADS = _own("openblas_get_num_threads")


def threads() -> int:
    """How many threads may share a product, as it stands; 1 where the library does not say."""
    return 1 if _THREADS is None else int(_THREADS())

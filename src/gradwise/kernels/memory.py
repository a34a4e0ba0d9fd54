"""Arrays that begin where a pair of cache lines does. NumPy's own begin at any multiple of 16 bytes, and processors
with AVX-512 read 64 at a time: nearly every access of theirs then touches two lines.

NumPy lets the memory of arrays come from elsewhere (NEP 49), by a table of C functions, each of which is given a number
of the table's own first. With an alignment for that number the C library's `memalign` is such a function; the others
are those of NumPy itself and of Python, which free what it gives. The table is set by `ctypes`, for a thread and for as
long as it is asked for; where anything of this is other than known, arrays begin where they did.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

import numpy as np

from gradwise.kernels.context import changed_by
from gradwise.tracing.contexts import Setting
from gradwise.typing import Array

try:
    import ctypes
except ImportError:  # some builds of Python have none
    ctypes = None  # type: ignore[assignment]

LINE = 64  # bytes of a cache line
# Where large arrays begin: at pairs of lines. In processes of their own the benchmarks' networks E, F and G take at
# batch 16 0.99, 1.00 and 0.96 of the time that they take by 64, E at 32 0.97; inference within one process 0.99 to
# 1.00. And what `memalign` cuts off and frees is by 64 just as large as what NumPy keeps the shapes of arrays in: they
# came to lie between large arrays, other ones after each step. F at 128 peaks at 53 to 56 MB by 128, by 64 at 61 to 63.
_PAIR = 128
_LARGE = 1024  # numbers from which parameters begin on one, whatever NumPy lets be had
_NAME = b"mem_handler"  # NumPy's, of a capsule with such a table; a capsule has no copy of it
_SET, _GET = 304, 305  # PyDataMem_SetHandler and PyDataMem_GetHandler in the table of NumPy 2's C API


def _aligned() -> tuple[ContextVar[Any], Any]:
    """The context variable of where memory comes from, and its value for aligned arrays."""
    nothing = changed_by(lambda: None)
    module = sys.modules.get("numpy._core._multiarray_umath")
    known = sys.implementation.name == "cpython" and sys.platform == "linux" and np.__version__.startswith("2.")
    if ctypes is None or module is None or not known:
        return nothing
    pointer = ctypes.c_void_p
    functions = [(name, pointer) for name in ("given", "malloc", "calloc", "realloc", "free")]
    fields = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), *functions]
    table_type: Any = type("Table", (ctypes.Structure,), {"_fields_": fields})
    python, function = ctypes.pythonapi, ctypes.PYFUNCTYPE
    opened = function(pointer, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", python))
    closed = function(ctypes.py_object, pointer, ctypes.c_char_p, pointer)(("PyCapsule_New", python))
    try:
        interface = ctypes.cast(opened(module._ARRAY_API, None), ctypes.POINTER(pointer))
        set_table = function(ctypes.py_object, ctypes.py_object)(interface[_SET])
        get_table = function(ctypes.py_object)(interface[_GET])
        own = ctypes.cast(opened(get_table(), _NAME), ctypes.POINTER(table_type)).contents
        library = ctypes.CDLL(None)
        memalign = ctypes.cast(library.memalign, pointer).value
        free = _freeing(python, library, type("Functions", (ctypes.Structure,), {"_fields_": functions})())
    except (AttributeError, OSError, TypeError, ValueError):
        return nothing
    if own.name != b"default_allocator" or own.version != 1:
        return nothing
    table = table_type(b"aligned", 1, _PAIR, memalign, own.calloc, own.realloc, free or own.free)
    for kept in (table, _NAME):  # for ever: an array may outlive this module, when Python ends
        python.Py_IncRef(ctypes.py_object(kept))
    capsule = closed(ctypes.addressof(table), _NAME, None)
    return changed_by(lambda: set_table(capsule))


def _freeing(python: Any, library: Any, functions: Any) -> int | None:
    """The address of Python's function that frees what the C library gave, as the table wants one; None where Python's
    memory comes from elsewhere. Python writes its functions into `functions`, a structure of such a table's fields.

    NumPy's own keeps small arrays, up to seven of each size, for others, which may stay when the large ones around go.
    """
    python.PyMem_GetAllocator(0, ctypes.byref(functions))  # of memory that is had without Python's lock
    if functions.given is not None:  # it is there to find mistakes
        return None
    size, pointer, size_of = 1000, ctypes.c_void_p, library.malloc_usable_size
    size_of.restype, size_of.argtypes = ctypes.c_size_t, [pointer]
    place = ctypes.PYFUNCTYPE(pointer, pointer, ctypes.c_size_t)(functions.malloc)(None, size)
    theirs = size <= size_of(place) < size + LINE  # what another library gives has no such number in front of it
    ctypes.PYFUNCTYPE(None, pointer, pointer)(functions.free)(None, place)
    return functions.free if theirs else None


class Aligned(Setting):
    """The context in which new arrays begin where a pair of cache lines does, where that can be had.

    Small arrays take 0.06 us more, so it is for large ones. The benchmarks' network E takes in it at batch 32 0.92 of
    the time, at 16 0.88 and at 128 0.91, F at 64 0.89, G at 16 0.97, H 1.00; A at 16 would take 1.04.
    """

    __slots__ = ()

    variable, value = _aligned()


def aligned_like(array: Array, dtype: np.dtype) -> Array:
    """An array like that one, in its memory order, which begins where a cache line does: BLAS adds to it faster.

    1024 x 1024, k = 16, 416 -> 308 us.
    """
    if not array.flags.forc or array.size < _LARGE:
        return np.empty_like(array, dtype)
    memory = np.empty(array.size * dtype.itemsize + LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % LINE
    return np.ndarray(array.shape, dtype, memory, start, order="C" if array.flags.c_contiguous else "F")

"""BLAS's own matrix product, which can add to what is there: NumPy's products are written to arrays of their own.

It is called in the library that NumPy itself has loaded, where that has it under a name that says how it is called, as
OpenBLAS in NumPy's wheels does; elsewhere the product is made by NumPy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from gradwise.kernels import blas, library
from gradwise.typing import Array

try:
    import ctypes
except ImportError:  # some builds of Python have none
    ctypes = None  # type: ignore[assignment]

_NAMES = ("scipy_{}gemm_64_", "{}gemm_64_")  # Fortran's; by these names sizes have 64 bits
_ADDED = 160_000  # multiplications from which BLAS adds a product sooner than NumPy

Multiply = Callable[..., None]
_NUMBERS: dict[str, Any] = {} if ctypes is None else {"f": ctypes.c_float, "d": ctypes.c_double}


def _found() -> dict[np.dtype, Any]:
    """dtype -> the product of that dtype; none where there is no such library."""
    found: dict[np.dtype, Any] = {}
    for dtype, letter in (("f4", "s"), ("f8", "d")):
        function = library.function(*(name.format(letter) for name in _NAMES))
        if function is not None:
            function.restype = None
            found[np.dtype(dtype)] = function
    return found


_PRODUCTS = _found()


def prepared(
    dtype: np.dtype,
    sizes: tuple[int, int, int],
    steps: tuple[int, int, int],
    apart: tuple[int, int, int] = (0, 0, 0),
    transposed: tuple[bool, bool] = (False, False),
    scale: float = 1.0,
) -> Multiply:
    """Products of matrices (m, k) and (k, n) at given addresses: multiply(count, target, left, right, over) makes so
    many, each `apart` from the one before, times `scale`; adds them to what is there, or writes `over` it. A product
    takes 0.6 us besides its arithmetic, and to prepare them 1.5.

    Parameters
    ----------
    dtype : numpy.dtype
        One for which `known` holds.
    sizes : tuple of int
        (m, n, k).
    steps : tuple of int
        Of the target, the left and the right matrix: numbers from one contiguous row to the next.
    apart : tuple of int
        Likewise: bytes from one matrix to the next.
    transposed : tuple of bool
        Of left and right: whether what lies there has a row for each column.
    scale : float
    """
    to, by, of = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    besides = _given(dtype, sizes, steps, transposed, scale)
    adding, writing = (_ordered(besides, to, by, of, over) for over in (False, True))
    function = _PRODUCTS[dtype]

    def multiply(count: int, target: int, left: int, right: int, over: bool = False) -> None:
        given = writing if over else adding
        ways = [itertools.count(*way) for way in zip((target, left, right), apart, strict=True)]
        for _, to.value, by.value, of.value in zip(range(count), *ways, strict=False):
            function(*given)

    return multiply


@lru_cache(maxsize=1024)
def _given(
    dtype: np.dtype,
    sizes: tuple[int, int, int],
    steps: tuple[int, int, int],
    transposed: tuple[bool, bool],
    scale: float,
) -> tuple[Any, ...]:
    """What BLAS is given besides the matrices, by address: it goes by columns, so of right.T @ left.T."""
    number, size = _NUMBERS[dtype.char], ctypes.c_int64
    flags = [ctypes.c_char(b"T" if turned else b"N") for turned in reversed(transposed)]
    rows, columns, depth, step, left_step, right_step = (size(value) for value in (*sizes, *steps))
    given = *flags, columns, rows, depth, number(scale), right_step, left_step, step, number(1.0), number(0.0)
    return tuple(map(ctypes.byref, given))


def _ordered(besides: tuple[Any, ...], target: Any, left: Any, right: Any, over: bool = False) -> tuple[Any, ...]:
    """All that BLAS is given, in its order: `besides` is what `_given` gives, the others are pointers."""
    *flags, right_step, left_step, step, one, zero = besides
    return (*flags, right, right_step, left, left_step, zero if over else one, target, step)


def known(dtype: np.dtype) -> bool:
    """Whether BLAS can be asked for products of that dtype."""
    return dtype in _PRODUCTS


def subtract(target: Array, left: Array, right: Array) -> bool:
    """target (m, n) -= left (m, k) @ right (k, n), in place; False, and nothing done, where BLAS can't do that.

    Where the product was an array first, a block at a time: 9216 x 128, k = 16, 604 -> 214 us, 1024 x 1024, 590 -> 300;
    on one thread 599 -> 416 and 590 -> 550.
    """
    dtype = target.dtype
    if not known(dtype) or not target.flags.forc or left.dtype != dtype or right.dtype != dtype:
        return False
    if not target.flags.c_contiguous:
        target, left, right = target.T, right.T, left.T
    (rows, columns), depth = target.shape, left.shape[1]
    if left.shape[0] != rows or right.shape != (depth, columns):
        raise ValueError(f"{left.shape} @ {right.shape} can't be subtracted from {target.shape}")
    if not target.flags.writeable:
        raise ValueError("assignment destination is read-only")
    if target.size and depth:
        work = rows * columns * depth
        small = blas.SMALL < work <= blas.SEVERAL  # pieces, which one thread multiplies without packing them
        left, turned = _laid(left)
        # Of those, rows of 32 and more: 4056 x 32, k = 16, 57 -> 47 us, 784 x 80, 28 -> 24; but 784 x 10, 6 -> 11.
        right, right_turned = _laid(np.ascontiguousarray(right) if small and columns >= 32 else right)
        a, b, c = address(left), address(right), address(target)
        item, steps = target.itemsize, (columns, left.shape[1], right.shape[1])
        apart = item if turned else left.shape[1] * item  # from row to row of the product
        pointer, of, product = ctypes.c_void_p, ctypes.c_void_p(b), _PRODUCTS[dtype]
        for part in blas.parts(rows, work) if small else [slice(0, rows)]:
            sizes = part.stop - part.start, columns, depth
            besides = _given(dtype, sizes, steps, (turned, right_turned), -1.0)
            to, by = pointer(c + part.start * columns * item), pointer(a + part.start * apart)
            product(*_ordered(besides, to, by, of))  # one by one: to prepare several takes 2 us longer
    return True


def add(targets: Array, lefts: Array, rights: Array) -> None:
    """targets (t, r, m, n) += lefts (r, m, k) @ rights (t, r, k, n), matrix by matrix, in place.

    By BLAS itself, where NumPy's small products are not added sooner. The input's gradient by Winograd, 32 -> 64 on
    26 x 26, takes so at batch 1 230 us, by BLAS 290, at 4 642 and 633, at 16 1.87 and 1.76 ms, 32 -> 48 on 14 x 14 at
    batch 4 143 and 157 us, at 16 434 and 379.
    """
    (count, several, rows, columns), depth = targets.shape, lefts.shape[-1]
    if lefts.shape != (several, rows, depth) or rights.shape != (count, several, depth, columns):
        raise ValueError(f"{lefts.shape} @ {rights.shape} can't be added to {targets.shape}")
    dtype, arrays = targets.dtype, (targets, lefts, rights)
    able = known(dtype) and targets.flags.writeable and all(_by_rows(array, dtype) for array in arrays)
    work = rows * columns * depth
    if not able or work < _ADDED:
        targets += np.matmul(lefts, rights)
        return
    c, a, b = (array.__array_interface__["data"][0] for array in arrays)
    step, left_step, right_step = (array.strides[-2] // array.itemsize for array in arrays)
    apart = targets.strides[1], lefts.strides[0], rights.strides[1]
    for part in blas.parts(columns, work):
        sizes, start = (rows, part.stop - part.start, depth), part.start * targets.itemsize
        multiply = prepared(dtype, sizes, (step, left_step, right_step), apart)
        for t in range(count):
            multiply(several, c + start + t * targets.strides[0], a, b + start + t * rights.strides[0])


def _by_rows(array: Array, dtype: np.dtype) -> bool:
    """Whether BLAS reads matrices of that dtype there: contiguous rows, one behind the other, with what is between."""
    row, item = array.strides[-2:]
    return array.dtype == dtype and array.size > 0 and item == dtype.itemsize and row >= array.shape[-1] * item


def _laid(matrix: Array) -> tuple[Array, bool]:
    """The contiguous rows by which BLAS reads a matrix, and whether those are its columns."""
    if matrix.flags.f_contiguous and not matrix.flags.c_contiguous:
        return matrix.T, True
    return np.ascontiguousarray(matrix), False


def address(array: Array) -> int:
    """Where a contiguous array begins."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))  # 0.3 us; what follows takes 1.0
    except TypeError:  # read-only
        return int(array.__array_interface__["data"][0])

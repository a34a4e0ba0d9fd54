"""BLAS's own matrix product, which can add to what is there: NumPy's products are written to arrays of their own.

It is called in the library that NumPy itself has loaded, where that has it under a name that says how it is called, as
OpenBLAS in NumPy's wheels does; elsewhere the product is made by NumPy.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from gradwise.kernels import blas
from gradwise.typing import Array

try:
    import ctypes
except ImportError:  # some builds of Python have none
    ctypes = None  # type: ignore[assignment]

_NAMES = ("scipy_cblas_{}gemm64_", "cblas_{}gemm64_")  # by these names sizes have 64 bits
_LARGE, _LINE = 1024, 64  # numbers from which an array is aligned; bytes of a cache line
_BY_ROWS, _AS_IT_IS, _TRANSPOSED = 101, 111, 112


def _found() -> dict[np.dtype, Any]:
    """dtype -> the product of that dtype; none where there is no such library."""
    module = sys.modules.get("numpy._core._multiarray_umath")
    found: dict[np.dtype, Any] = {}
    if ctypes is None or module is None:
        return found
    size, flag, address = ctypes.c_int64, ctypes.c_int, ctypes.c_void_p
    for dtype, letter, number in (("f4", "s", ctypes.c_float), ("f8", "d", ctypes.c_double)):
        for name in _NAMES:
            try:
                function = getattr(ctypes.CDLL(module.__file__), name.format(letter))
            except (OSError, AttributeError, TypeError):
                continue
            function.argtypes = [flag] * 3 + [size] * 3 + [number, address, size, address, size, number, address, size]
            function.restype = None
            found[np.dtype(dtype)] = function
            break
    return found


_PRODUCTS = _found()


def subtract(target: Array, left: Array, right: Array) -> bool:
    """target (m, n) -= left (m, k) @ right (k, n), in place; False, and nothing done, where BLAS can't do that.

    Where the product was an array first, a block at a time: 9216 x 128, k = 16, 604 -> 214 us, 1024 x 1024, 590 -> 300;
    on one thread 599 -> 416 and 590 -> 550.
    """
    product = _PRODUCTS.get(target.dtype)
    if product is None or not target.flags.forc or left.dtype != target.dtype or right.dtype != target.dtype:
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
        left, left_flag = _laid(left)
        # Of those, rows of 32 and more: 4056 x 32, k = 16, 57 -> 47 us, 784 x 80, 28 -> 24; but 784 x 10, 6 -> 11.
        right, right_flag = _laid(np.ascontiguousarray(right) if small and columns >= 32 else right)
        a, b, c = _address(left), _address(right), _address(target)
        flags, item = (_BY_ROWS, left_flag, right_flag), target.itemsize
        left_step, right_step = left.shape[1], right.shape[1]
        apart = left_step * item if left_flag is _AS_IT_IS else item  # from row to row of the product
        for part in blas.parts(rows, work) if small else [slice(0, rows)]:
            sizes, start = (part.stop - part.start, columns, depth), part.start
            places = a + start * apart, left_step, b, right_step, 1.0, c + start * columns * item, columns
            product(*flags, *sizes, -1.0, *places)
    return True


def add(targets: Array, lefts: Array, rights: Array) -> None:
    """targets (t, r, m, n) += lefts (r, m, k) @ rights (t, r, k, n), matrix by matrix, in place.

    By BLAS itself, where NumPy's small products are not added sooner. The input's gradient by Winograd, 32 -> 64 on
    26 x 26, takes so at batch 1 225 us, by BLAS 390, at 16 1.87 and 2.05 ms, at 32 4.9 and 4.3, at 64 8.6 and 7.5.
    """
    (count, several, rows, columns), depth = targets.shape, lefts.shape[-1]
    if lefts.shape != (several, rows, depth) or rights.shape != (count, several, depth, columns):
        raise ValueError(f"{lefts.shape} @ {rights.shape} can't be added to {targets.shape}")
    product = _PRODUCTS.get(targets.dtype)
    arrays = lefts, rights, targets
    able = targets.flags.writeable and all(_by_rows(array, targets.dtype) for array in arrays)
    if product is None or not able or rows * columns * depth <= blas.SMALL:
        targets += np.matmul(lefts, rights)
        return
    a, b, c = (array.__array_interface__["data"][0] for array in arrays)
    left_step, right_step, step = (array.strides[-2] // array.itemsize for array in arrays)
    for t in range(count):
        for r in range(several):
            left = a + r * lefts.strides[0], left_step
            right = b + t * rights.strides[0] + r * rights.strides[1], right_step
            target = c + t * targets.strides[0] + r * targets.strides[1], step
            product(_BY_ROWS, _AS_IT_IS, _AS_IT_IS, rows, columns, depth, 1.0, *left, *right, 1.0, *target)


def _by_rows(array: Array, dtype: np.dtype) -> bool:
    """Whether BLAS reads matrices of that dtype there: contiguous rows, one behind the other, with what is between."""
    row, item = array.strides[-2:]
    return array.dtype == dtype and array.size > 0 and item == dtype.itemsize and row >= array.shape[-1] * item


def _laid(matrix: Array) -> tuple[Array, int]:
    """The contiguous rows by which BLAS reads a matrix, and as what: itself, or transposed."""
    if matrix.flags.f_contiguous and not matrix.flags.c_contiguous:
        return matrix.T, _TRANSPOSED
    return np.ascontiguousarray(matrix), _AS_IT_IS


def _address(array: Array) -> int:
    """Where a contiguous array begins."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))  # 0.3 us; what follows takes 1.0
    except TypeError:  # read-only
        return int(array.__array_interface__["data"][0])


def aligned_like(array: Array, dtype: np.dtype) -> Array:
    """An array like that one, in its memory order, which begins where a cache line does: BLAS adds to it faster.

    1024 x 1024, k = 16, 416 -> 308 us.
    """
    if not array.flags.forc or array.size < _LARGE:
        return np.empty_like(array, dtype)
    memory = np.empty(array.size * dtype.itemsize + _LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % _LINE
    return np.ndarray(array.shape, dtype, memory, start, order="C" if array.flags.c_contiguous else "F")

"""The products of a dense layer, by the memory order of their arrays.

Kernels are logically (in, out) and batches (N, features). Which of their axes is contiguous decides how fast BLAS
multiplies them; so a layer keeps its kernel in the order that `order` gives, and the functions follow what they get.
Measured with OpenBLAS on AVX-512, in us.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from gradwise.typing import Array

# OpenBLAS multiplies up to 1e6 multiply-adds without packing and on one thread. Products a little larger are made of
# pieces of that: 4056 -> 32, 16 samples, forwards 78 -> 42; 784 -> 10, 128 samples, forwards 32 -> 23, the kernel's
# gradient 29 -> 24. Others lose up to a fifth, but no second thread is waited for, which can take three times as long.
_SMALL = 1_000_000
_SEVERAL = 2_500_000
# Of so few samples all products are made so, for packing a kernel costs more than they do: 9216 -> 128, 8 samples on one
# thread, forwards 435 -> 226, the input's gradient 407 -> 222; 16 samples on two threads would take 330 -> 410.
_FEW = 8
_TINY = 4096  # numbers of a kernel up to which no order of its gradient is slow
# Above that, contiguous rows are best multiplied as they are where there are few units: 784 -> 80, 128 samples,
# 123 -> 97; but 784 -> 1024, 1044 -> 1196.
_NARROW = 128
_TALL = 1 << 15  # numbers of a kernel from which (in, out) is worth it: see `order`


def order(inputs: int, units: int) -> Literal["C", "F"]:
    """The memory order of a kernel: "C", (in, out), for tall large ones, else "F", (out, in).

    16 samples: 9216 -> 128, the kernel's gradient 256 in (in, out), 606 in (out, in); 784 -> 10, forward and gradient
    9.1 and 6.7; 784 -> 1024, 624 and 333.
    """
    return "C" if inputs >= 4 * units and inputs * units >= _TALL else "F"


def forward(x: Array, kernel: Array, bias: Array | None) -> Array:
    """x (N, in), kernel (in, out), bias (out,) -> (N, out), batch innermost in memory, as images are."""
    work = kernel.size * len(x)
    pieces = _SMALL < work <= _SEVERAL or (work > _SMALL and 1 < len(x) <= _FEW)
    rows = work > _SMALL and kernel.shape[1] <= _NARROW and x.flags.c_contiguous and len(x) > _FEW
    if not pieces and not rows:
        z = kernel.T @ x.T  # (out, N)
    elif not rows:
        first, *rest = _parts(len(kernel), work)
        z = kernel[first].T @ x[:, first].T
        for part in rest:
            z += kernel[part].T @ x[:, part].T
    else:
        y = np.empty((len(x), kernel.shape[1]), np.result_type(x, kernel))
        for part in _parts(len(x), work) if pieces else [slice(None)]:
            np.matmul(x[part], kernel, out=y[part])
        z = np.ascontiguousarray(y.T)
    if bias is not None:
        z += bias[:, None]
    return z.T


def kernel_gradient(x: Array, dy: Array, kernel: Array) -> Array:
    """x (N, in), dy (N, out) -> (in, out), in the memory order of the kernel."""
    flipped = kernel.flags.f_contiguous and not kernel.flags.c_contiguous
    if flipped and kernel.size > _TINY and not x.flags.c_contiguous:
        # Batch innermost: the other order, and a copy; 784 -> 10, 128 samples, 79 -> 31.
        return np.asfortranarray(_product(x, np.ascontiguousarray(dy), "C"))
    return _product(x, dy, "F" if flipped else "C")


def _product(x: Array, dy: Array, order: Literal["C", "F"]) -> Array:
    """x (N, in), dy (N, out) -> x.T @ dy, (in, out), in a memory order."""
    (samples, inputs), units = x.shape, dy.shape[1]
    work = samples * inputs * units
    if not _SMALL < work <= _SEVERAL:
        return x.T @ dy if order == "C" else (dy.T @ x).T
    gradient = np.empty((inputs, units), np.result_type(x, dy), order)
    rows = np.asarray(dy, order=order)
    for part in _parts(inputs, work):
        np.matmul(x.T[part], rows, out=gradient[part])
    return gradient


def input_gradient(dy: Array, kernel: Array) -> Array:
    """dy (N, out), kernel (in, out) -> (N, in), batch innermost in memory."""
    work = kernel.size * len(dy)
    if not (work > _SMALL and 1 < len(dy) <= _FEW):
        return (kernel @ dy.T).T
    z = np.empty((len(kernel), len(dy)), np.result_type(kernel, dy))
    for part in _parts(len(kernel), work):
        np.matmul(kernel[part], dy.T, out=z[part])
    return z.T


def _parts(size: int, work: int) -> list[slice]:
    """An axis of `size` in the parts that make a product of `work` small."""
    step = -(-size // -(-work // _SMALL))
    return [slice(start, start + step) for start in range(0, size, step)]

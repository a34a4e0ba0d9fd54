"""The products of a dense layer, by the memory order of their arrays.

Kernels are logically (in, out) and batches (N, features). Which of their axes is contiguous decides how fast BLAS
multiplies them; so a layer keeps its kernel in the order that `order` gives, and the functions follow what they get.
Measured with OpenBLAS on AVX-512, in us.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from gradwise.typing import Array

# OpenBLAS multiplies up to 1e6 multiply-adds without packing and on one thread. Forwards, products a little larger are
# made of pieces of that: 4056 -> 32, 16 samples, 78 -> 42. The gradients gain nothing by it.
_SMALL = 1_000_000
_PIECES = 4
# Above it, contiguous rows are best multiplied as they are where there are few units: 784 -> 10, 128 samples, 49 -> 28;
# 784 -> 80, 123 -> 97; but 784 -> 1024, 1044 -> 1196.
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
    inputs, units = kernel.shape
    work = kernel.size * len(x)
    if work <= _SMALL:
        z = kernel.T @ x.T  # (out, N)
    elif units <= _NARROW and x.flags.c_contiguous:
        z = np.ascontiguousarray((x @ kernel).T)
    elif work <= _PIECES * _SMALL:
        step = -(-inputs // -(-work // _SMALL))
        z = kernel[:step].T @ x[:, :step].T
        for start in range(step, inputs, step):
            z += kernel[start : start + step].T @ x[:, start : start + step].T
    else:
        z = kernel.T @ x.T
    if bias is not None:
        z += bias[:, None]
    return z.T


def kernel_gradient(x: Array, dy: Array, kernel: Array) -> Array:
    """x (N, in), dy (N, out) -> (in, out), in the memory order of the kernel."""
    return x.T @ dy if kernel.flags.c_contiguous else (dy.T @ x).T


def input_gradient(dy: Array, kernel: Array) -> Array:
    """dy (N, out), kernel (in, out) -> (N, in), batch innermost in memory."""
    return (kernel @ dy.T).T

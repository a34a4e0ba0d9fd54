"""The products of a dense layer, by the memory order of their arrays.

Kernels are logically (in, out) and batches (N, features). Which of their axes is contiguous decides how fast BLAS
multiplies them; so a layer keeps its kernel in the order that `order` gives, and the functions follow what they get.
Measured with OpenBLAS on AVX-512, in us.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from gradwise.kernels import blas
from gradwise.kernels.products import LEAST, Product
from gradwise.typing import Array

# Of so few samples products are made in pieces, for packing a kernel costs more than they do: 9216 -> 128, 8 samples on
# one thread, forwards 435 -> 226, the input's gradient 407 -> 222; 16 samples on two threads would take 330 -> 410.
_FEW = 8
# Above that, contiguous rows are best multiplied as they are where there are few units: 784 -> 80, 128 samples,
# 123 -> 97; but 784 -> 1024, 1044 -> 1196.
_NARROW = 128
# Results of so few units and numbers are made of short sums, by one thread: 4056 -> 32, 32 samples, forwards 46, in 5
# pieces 75, whole by two threads 153; 64 samples 104, 123 and 183; 128 samples 258, 310 and 197.
_THIN, _LITTLE, _DEPTH = 32, 2048, 170
# Small kernels of few units lie (out, in): 784 -> 10, 16 samples, forwards 12 -> 9. Where BLAS packs those are (in,
# out) too: 128 samples, the gradient 28 -> 20.
_FEW_UNITS, _SMALL_KERNEL = 20, 1 << 14
# So do large ones of some: see `order`.
_SOME_UNITS, _LARGE_KERNEL = range(64, 257), 1 << 17
# So many results of long rows by rows OpenBLAS makes without packing them: 400 -> 10, 64 samples, 5, 128 in one go 36.
_DOTS, _LONG_ROWS = 1024, 100
# Where BLAS packs, so few samples go one by one through kernels of so many numbers, which are read as they lie: 2
# samples, 4056 -> 32, 72 -> 43 us, 1024 -> 1024, 280 -> 125, 3 samples 111 -> 61 and 380 -> 180; 4 samples 1.0 of the
# time, as 2 samples of 256 -> 64.
_VECTORS, _MATRIX = 3, 1 << 15
# Of more samples than that, batch innermost, their kernel's gradient is made (in, out) and turned: 784 -> 10, 128
# samples, 78 -> 38.
_SOME = 32


def order(inputs: int, units: int) -> Literal["C", "F"]:
    """The memory order of a kernel: "C", (in, out), for tall ones of few units, or of very many, else "F", (out, in).

    784 -> 1024, 16 samples, forwards and gradient, takes 624 in (in, out) and 333 in (out, in), 4056 -> 32, one step of
    SGD, 131 and 193. 9216 -> 128, which lies far away, takes one sample forwards 147 and 74, where two threads read
    halves of rows and whole columns; 16 of them a step of SGD 1180 and 610, of Adam 3330 and 3630; 25088 -> 512 of Adam
    38.8 and 53.3 ms.
    """
    small = units <= _FEW_UNITS and inputs * units <= _SMALL_KERNEL and not blas.PACKS
    large = inputs * units >= _LARGE_KERNEL and units in _SOME_UNITS
    return "C" if _tall(inputs, units) and not small and not large else "F"


def _tall(inputs: int, units: int) -> bool:
    """Whether a kernel has so many more inputs than units that it is best gone through along its inputs."""
    return inputs >= 4 * units


def forward(x: Array, kernel: Array, bias: Array | None) -> Array:
    """x (N, in), kernel (in, out), bias (out,) -> (N, out), batch innermost in memory, as images are."""
    if blas.PACKS:
        return _whole(x, kernel, bias)
    work = kernel.size * len(x)
    if work > _DOTS * _LONG_ROWS and _by_rows(x, kernel):
        z = np.empty((kernel.shape[1], len(x)), np.result_type(x, kernel))  # (out, N)
        for part in blas.parts(len(x), z.size, _DOTS):
            np.matmul(kernel.T, x[part].T, out=z[:, part])
    else:
        z = kernel.T.dot(x.T) if work <= blas.SMALL else _large(x, kernel, work)
    if bias is not None:
        z += bias[:, None]
    return z.T


def _by_rows(x: Array, kernel: Array) -> bool:
    """Whether long rows of both are best multiplied as they are, some samples at a time."""
    inputs, units = kernel.shape
    several = units <= _FEW_UNITS and units * len(x) > _DOTS and inputs >= _LONG_ROWS
    return several and x.flags.c_contiguous and kernel.flags.f_contiguous


def _large(x: Array, kernel: Array, work: int) -> Array:
    """`forward` without the bias, transposed, of a product that BLAS would pack."""
    samples, units = len(x), kernel.shape[1]
    thin = units <= _THIN and units * samples <= _LITTLE
    pieces = samples > 1 and (work <= blas.SEVERAL or samples <= _FEW or thin)
    rows = units <= _NARROW and samples > _FEW and x.flags.c_contiguous
    if rows:
        y = np.empty((samples, units), np.result_type(x, kernel))
        for part in blas.parts(samples, work) if pieces else [slice(None)]:
            np.matmul(x[part], kernel, out=y[part])
        return np.ascontiguousarray(y.T)
    if 1 < samples <= _FEW and not _tall(*kernel.shape):
        # Some units at a time, of which nothing is added up: 8 samples, batch innermost, 1024 -> 1024, 550 -> 273, 256
        # -> 20,000, 9400 -> 1500.
        z = np.empty((units, samples), np.result_type(x, kernel))
        for part in blas.parts(units, work):
            np.matmul(kernel.T[part], x.T, out=z[part])
        return z
    if not pieces:
        return kernel.T @ x.T if samples <= 2 * units else np.ascontiguousarray((x @ kernel).T)
    most = _DEPTH if kernel.flags.c_contiguous else len(kernel)  # 9216 -> 128, 8 samples, (out, in): 370 -> 280
    depth = max(1, min(most, len(kernel) * blas.SMALL // work))
    count, rest = divmod(len(kernel), depth)
    whole = count * depth
    one = kernel[:whole].reshape(count, depth, units).transpose(0, 2, 1)
    z = np.add.reduce(np.matmul(one, x[:, :whole].T.reshape(count, depth, samples)), axis=0)
    if rest:
        z += kernel[whole:].T @ x[:, whole:].T
    return z


def kernel_gradient(x: Array, dy: Array, kernel: Array) -> Array:
    """x (N, in), dy (N, out) -> (in, out), in the memory order of the kernel."""
    return _product(x, dy, not kernel.flags.c_contiguous)


def kernel_factors(x: Array, dy: Array, kernel: Array) -> Array | Product:
    """The kernel's gradient; a large one's is made as the kernel is stepped."""
    return _product(x, dy, not kernel.flags.c_contiguous) if kernel.size < LEAST else Product(x.T, dy)


def bias_gradient(dy: Array) -> Array:
    """dy (N, out) -> (out,)."""
    return blas.column_sums(dy)


def _product(x: Array, dy: Array, flipped: bool) -> Array:
    """x (N, in), dy (N, out) -> x.T @ dy, (in, out); flipped, (out, in) in memory."""
    (samples, inputs), units = x.shape, dy.shape[1]
    work = samples * inputs * units
    if flipped and units <= _FEW_UNITS and inputs * units > _DOTS and samples > _SOME and x.flags.f_contiguous:
        return np.asarray(_product(x, dy, False), order="F")
    if samples == 1 or not blas.SMALL < work <= blas.SEVERAL:
        return blas.multiply(dy.T, x).T if flipped else blas.multiply(x.T, dy)
    gradient = np.empty((inputs, units), np.result_type(x, dy), "F" if flipped else "C")
    rows = np.asarray(dy, order="F" if flipped else "C")
    for part in blas.parts(inputs, work):
        np.matmul(x.T[part], rows, out=gradient[part])
    return gradient


def input_gradient(dy: Array, kernel: Array) -> Array:
    """dy (N, out), kernel (in, out) -> (N, in), batch innermost in memory."""
    samples = len(dy)
    work = kernel.size * samples
    if work <= blas.SMALL:
        return kernel.dot(dy.T).T
    # In pieces of few rows a wide kernel is read many times: 8 samples, 1024 -> 1024, 545 -> 280, 256 -> 20,000, 12,400
    # -> 1200.
    pieces = 1 < samples <= _FEW and (work <= blas.SEVERAL or _tall(*kernel.shape))
    if not pieces:
        return (kernel @ dy.T).T  # `dot` fills its result with zeros first: 4056 x 32, 128 samples, 212 -> 187
    z = np.empty((len(kernel), samples), np.result_type(kernel, dy))
    for part in blas.parts(len(kernel), work):
        np.matmul(kernel[part], dy.T, out=z[part])
    return z.T


def _whole(x: Array, kernel: Array, bias: Array | None) -> Array:
    """`forward` by a BLAS that packs whatever it multiplies.

    784 -> 10, 128 samples, by rows of the batch 23, by its columns 35; 784 -> 80 96 and 112, of 64 samples 65 and 56.
    """
    (inputs, units), samples = kernel.shape, len(x)
    vectors = 1 < samples <= _VECTORS and kernel.size >= _MATRIX
    if vectors or (inputs >= _LONG_ROWS and 3 * units <= 2 * samples):
        z = (_row_by_row(x, kernel) if vectors else x.dot(kernel)).T
        return (np.ascontiguousarray(z) if bias is None else np.add(z, bias[:, None], order="C", dtype=z.dtype)).T
    z = kernel.T.dot(x.T)
    if bias is not None:
        z += bias[:, None]
    return z.T


def _row_by_row(x: Array, kernel: Array) -> Array:
    """x (N, in) @ kernel (in, out) -> (N, out), a product of a vector and the kernel for each row."""
    z = np.empty((len(x), kernel.shape[1]), np.result_type(x, kernel))
    for row, result in zip(np.ascontiguousarray(x), z, strict=True):
        row.dot(kernel, result)
    return z

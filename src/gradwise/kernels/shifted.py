"""Convolution by rows: a column of the kernel at a time, added up by BLAS, without a copy of any window.

Images lie (H, C, W, N) in memory here. The rows h .. h+kh-1 of all channels are one behind the other, so what a column
of the kernel sees for an output row is a view: a matrix (kh*C, OW*N), which begins that column's number of pixels
further on. The products of the kernel's columns add up to the output row; at the image's edges they are added to the
part of it that they reach.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gradwise.kernels import blas, gemm
from gradwise.kernels.windows import Geometry, bands, spans
from gradwise.typing import Array, Shape

# Multiplications of a product from which its call is worth the while, for a product takes 0.6 us besides. 16 -> 16
# channels on 26 x 26 at batch 32: forwards 960 -> 690 us, the input's gradient 1030 -> 780, at batch 16 440 -> 390 and
# 500 -> 410, at 8 215 -> 230 and 245 -> 255; 24 -> 24 at batch 16 930 -> 670 and 1060 -> 710; windows of 5 x 5, 16 ->
# 16 on 14 x 14 at batch 32, 377 -> 340 and 600 -> 373.
_LEAST = 160_000
# Filters for each channel from which it is not: each column's products are added to all of the output, and there is
# little of the image to copy. 3 -> 64 channels on 32 x 32 at batch 32, by patches, 1530 -> 870 us, 3 -> 32 on 224 x 224
# at batch 4 4840 -> 3260, 8 -> 24 on 32 x 32 at 32 1080 -> 940; but 12 -> 32 on 100 x 100 at 8 4670 -> 5080.
_MANY = 3
# Where a column of the kernel sees so many rows of numbers, and there are up to 16 filters, OpenBLAS multiplies rows by
# rows as fast as it can, and the kernel's gradient needs no patches: 16 -> 16 channels on 26 x 26, batch 64, 2500 ->
# 1800 us; others take 1.1 to 2.6 times as long, and so do rows of fewer numbers. Where BLAS packs, patches gain more by
# longer columns: of rows of 128 to 192 numbers, F at batch 8 on one thread, 0.945 of the time, of 256 to 384 1.03.
_SEEN = range(24, 49)
_FILTERS = 16
_LONG = 200 if blas.PACKS else 120
_NEAR = 1 << 17  # numbers of output rows that stay near between being given the bias and the products; 1 << 14 +10 %
# Numbers of output and image rows that stay near while each column of the kernel goes through them: two gradients of 16
# -> 16 channels, batch 16, on 68 x 68 6.0 -> 5.5 ms, on 100 x 100 16.4 -> 15.2; 1 << 16 would take 17.8.
_SWEPT = 1 << 18
_Call = tuple[int, int, int, int, int, bool]


def pays(g: Geometry, channels: int, filters: int, batch: int, dtype: np.dtype, backwards: bool) -> bool:
    """Whether this is faster than copying windows; `backwards`, for the kernel's gradient."""
    if backwards:
        long = g.output[1] * batch >= _LONG
        return long and g.stride[1] == 1 and g.window[0] * channels in _SEEN and filters <= _FILTERS
    work = filters * g.window[0] * channels * g.output[1] * batch
    return g.stride[1] == 1 and filters < _MANY * channels and work >= _LEAST and gemm.known(dtype)


def row_of(bias: Array, y: Array) -> Array:
    """bias (O,) -> a row of outputs y (OH, O, OW, N) that is nothing else: (O, OW, N), contiguous."""
    return bias.repeat(y.shape[2] * y.shape[3]).reshape(y.shape[1:])


def convolve(x: Array, kernel: Array, bias: Array | None, g: Geometry) -> Array:
    """x (H, C, W, N) contiguous, kernel (kh, kw, C, O), bias (O,), all of a dtype that BLAS knows -> (OH, O, OW, N)."""
    (_, channels, columns, batch), (kh, _, _, filters), (oh, ow) = x.shape, kernel.shape, g.output
    if not x.flags.c_contiguous or x.shape[:3:2] != g.image or kernel.shape[:3] != (*g.window, channels):
        raise ValueError(f"images {x.shape} and kernel {kernel.shape} are not those of {g}")
    if kernel.dtype != x.dtype:
        raise ValueError(f"images are {x.dtype}, and the kernel is {kernel.dtype}")
    y = np.empty((oh, filters, ow, batch), x.dtype)
    turned = np.ascontiguousarray(kernel.transpose(1, 3, 0, 2))  # (kw, O, kh, C)
    covered, sizes, strips = _plan(g, channels, filters, batch, x.itemsize)
    steps = ow * batch, kh * channels, columns * batch
    apart = filters * ow * batch * x.itemsize, 0, g.stride[0] * channels * columns * batch * x.itemsize
    products = [gemm.prepared(x.dtype, size, steps, apart) for size in sizes]
    if bias is None:
        y[:, :, : covered.start] = 0
        y[:, :, covered.stop :] = 0
    y_at, kernel_at, x_at = map(gemm.address, (y, turned, x))
    row = 0 if bias is None else row_of(bias, y)
    for rows, calls in strips:
        if bias is not None or not calls:
            y[rows] = row
        for which, count, to, by, of, first in calls:
            products[which](count, y_at + to, kernel_at + by, x_at + of, first and bias is None)
    return y


@lru_cache(maxsize=1024)
def _plan(
    g: Geometry, channels: int, filters: int, batch: int, item: int
) -> tuple[slice, list[tuple[int, int, int]], list[tuple[slice, list[_Call]]]]:
    """How `convolve` goes about: the columns that its first products cover; the sizes of products; and for some rows at
    a time which of those, how many, from which bytes on in output, kernel and image, and whether it is their first.
    """
    (kh, _), (_, ow), top, stride, columns = g.window, g.output, g.before[0], g.stride[0], g.image[1]
    pixel, rows, reached = batch * item, max(1, _NEAR // (filters * ow * batch)), spans(g, 1)
    x_row, y_row, numbers = channels * columns * pixel, filters * ow * pixel, kh * channels
    cut = [  # of each product: how many columns, from which on in an output row, the kernel's, from which on in images
        (part.stop - part.start, (first + part.start) * pixel, j, (start + part.start) * pixel)
        for j, first, last, start in reached
        for part in blas.parts(last - first, filters * numbers * (last - first) * batch)
    ]
    sizes: dict[tuple[int, int, int], int] = {}
    strips = []
    for band, (low, high) in bands(g):
        for begin in range(band.start, band.stop, rows):
            end, calls = min(begin + rows, band.stop), []
            for width, to, j, of in cut if high > low else ():
                which = sizes.setdefault((filters, width * batch, (high - low) * channels), len(sizes))
                by = (j * filters * numbers + low * channels) * item
                places = begin * y_row + to, by, (begin * stride + low - top) * x_row + of
                calls.append((which, end - begin, *places, j == reached[0][0]))
            strips.append((slice(begin, end), calls))
    return slice(*reached[0][1:3]) if reached else slice(0, 0), list(sizes), strips


def kernel_gradient(x: Array, dy: Array, g: Geometry) -> Array:
    """x (H, C, W, N) contiguous, dy (OH, O, OW*N) in rows -> (kh, kw, C, O), summed over the batch."""
    (_, channels, _, batch), filters, (kh, kw) = x.shape, dy.shape[1], g.window
    total = np.zeros((kw, filters, kh * channels), x.dtype)
    for arriving, to, shape, place, strides in _products(g, channels, filters, batch, x.itemsize):
        seen = np.ndarray(shape, x.dtype, x, place, strides)
        total[to] += blas.rows_by_rows(dy[arriving], seen)
    return total.reshape(kw, filters, kh, channels).transpose(2, 0, 3, 1)


_Part = tuple[slice | int, slice, slice]


@lru_cache(maxsize=1024)
def _products(
    g: Geometry, channels: int, filters: int, batch: int, item: int
) -> list[tuple[_Part, _Part, Shape, int, Shape]]:
    """The products of the kernel's gradient: which part of dy, which of the gradient, and of the view of x that is the
    other factor its shape, place and strides. Those are counted out: NumPy may say anything of an axis of one.
    """
    stride, pixel = g.stride[0], batch * item
    row, image_row = g.image[1] * pixel, channels * g.image[1] * pixel
    found: list[tuple[_Part, _Part, Shape, int, Shape]] = []
    rows = max(1, _SWEPT // (filters * g.output[1] * batch + stride * channels * g.image[1] * batch))
    for band, (low, high) in bands(g):
        depth = (high - low) * channels
        for top in range(band.start, band.stop, rows) if depth else ():
            some, begin = slice(top, min(top + rows, band.stop)), (top * stride + low - g.before[0]) * image_row
            for j, first, last, start in spans(g, 1):
                numbers = (last - first) * batch
                for part in blas.parts(numbers, filters * depth * numbers, unit=blas.LINE):
                    arriving = some, slice(None), slice(first * batch + part.start, first * batch + part.stop)
                    to = j, slice(None), slice(low * channels, high * channels)
                    shape, place = (some.stop - some.start, depth, part.stop - part.start), begin + start * pixel
                    found.append((arriving, to, shape, place + part.start * item, (stride * image_row, row, item)))
    return found

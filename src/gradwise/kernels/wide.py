"""Convolution by wide products: one for each row of the kernel, of as many output rows as stay near.

The kernel's width is copied, (kw*C, H*OW*N): a pixel's numbers at each place in a row of the kernel. What row i of the
kernel sees for all output rows begins i rows further on there, and is a matrix without a further copy; the products of
the rows are added up by BLAS. Where BLAS packs what it multiplies, and shares it between threads, these are faster than
products of an output row, which are too small for two threads. 16 -> 16 channels on 26 x 26, two cores with AVX2:
forwards, the input's gradient and the kernel's, batch 4 467 -> 347, 520 -> 399 and 512 -> 372 us, 16 1910 -> 1254, 1905
-> 1187 and 2043 -> 1285. With one thread a step of six of them would take 1.0 to 1.1 of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gradwise.kernels import blas, gemm
from gradwise.kernels.patches import columns
from gradwise.kernels.windows import Geometry, spans
from gradwise.typing import Array, Shape

# Multiplications of an output row from which this is faster. A step of six convolutions of 16 channels, on 28 x 28 and
# less, takes by it at batch 2, 110,000 and less, 1.09 of the time, at 8 0.87, at 16 0.72, inference 1.14, 0.97 and
# 0.78.
_ROW = 200_000
# Where products of an output row by a column of the kernel are for two threads, those are better: 16 -> 16 channels, 8
# samples of 84 x 84, 510,000 multiplications, forwards, the input's gradient and the kernel's 0.93, 0.57 and 0.67 of
# the time, of 88 x 88, 530,000, 1.13, 1.12 and 1.09; 32 of 22 x 22 with padding 0.79, 0.80 and 0.77, 16 of 44 x 44
# 1.15, 1.18 and 1.11. Few channels to many filters do not go by columns: 3 -> 16, 64 of 32 x 32, forwards 0.66, 256
# 0.81, 8 -> 24, 128 of 28 x 28, 0.71 and the kernel's gradient 0.98.
# Numbers of a row of a window from which the kernel's gradient is: 3 -> 16 channels on 32 x 32, batch 32, 9 of them,
# 0.86 of the time in quiet minutes, 1.5 in others; 8 -> 8 on 28 x 28 0.84 to 0.94.
_DEEP = 24
# Rows of the output for each of the image: more are mostly padding, whose columns are multiplied, too: 5 x 5, 14 for
# each 10, 1.2 of the time.
_PADDED = 1.2
NEAR = 1 << 19  # numbers that are copied for the output rows of one product; 1 << 16 takes up to twice as long

Strip = tuple[slice, slice, Geometry]  # output rows, the rows of the image that they see, and the one on the other


def pays(
    g: Geometry, channels: int, filters: int, batch: int, dtype: np.dtype, by_columns: bool, backwards: bool
) -> bool:
    """Whether this is faster than products of an output row, by two threads that pack.

    by_columns : whether those would be of columns of the kernel.
    backwards : whether it is about the kernel's gradient.
    """
    (kh, kw), numbers = g.window, channels * filters * batch
    if g.stride != (1, 1) or g.output[0] > _PADDED * g.image[0] or not gemm.known(dtype):
        return False
    narrow = min((last - first for _, first, last, _ in spans(g, 1)), default=0)
    shared = by_columns and kh * numbers * narrow >= blas.SHARED
    return kh * kw * numbers * g.output[1] >= _ROW and not shared and not (backwards and kw * channels < _DEEP)


def convolve(x: Array, kernel: Array, bias: Array | None, g: Geometry, strips: Sequence[Strip]) -> Array:
    """Images x (C, H, W, N), kernel (kh, kw, C, O), bias (O,), all of a dtype that BLAS knows -> (O, OH, OW, N)."""
    (kh, _, _, filters), (high, width), batch, dtype = kernel.shape, g.output, x.shape[3], kernel.dtype
    y = np.empty((filters, high, width, batch), dtype)
    if bias is not None:
        y[...] = bias[:, None, None, None]
    turned = np.ascontiguousarray(kernel.transpose(0, 3, 1, 2)).reshape(kh, filters, -1)  # (kh, O, kw*C)
    row, depth = width * batch, turned.shape[2]
    y_at, kernel_at, pixels = gemm.address(y), gemm.address(turned), row * y.itemsize
    for rows, own, copied in _copied(x, g, strips, dtype):
        reached = spans(own, 0)
        copied_at = gemm.address(copied) if reached else 0
        if bias is None:  # the first product writes what it reaches
            first, last = reached[0][1:3] if reached else (0, 0)
            y[:, rows.start : rows.start + first] = 0
            y[:, rows.start + last : rows.stop] = 0
        for count, (i, first, last, start) in enumerate(reached):
            multiply = gemm.prepared(
                dtype, (filters, (last - first) * row, depth), (high * row, depth, copied.shape[1])
            )
            to, by = y_at + (rows.start + first) * pixels, kernel_at + turned.strides[0] * i
            multiply(1, to, by, copied_at + start * pixels, bias is None and count == 0)
    return y


def kernel_gradient(x: Array, dy: Array, g: Geometry, strips: Sequence[Strip]) -> Array:
    """Images x (C, H, W, N), dy (O, OH, OW, N), contiguous -> (kh, kw, C, O), summed over the batch."""
    (kh, kw), row, channels, filters = g.window, g.output[1] * x.shape[3], len(x), len(dy)
    total, arriving = np.zeros((kh, kw * channels, filters), np.result_type(x, dy)), dy.reshape(filters, -1)
    for rows, own, copied in _copied(x, g, strips, total.dtype):
        for i, first, last, start in spans(own, 0):
            cotangent = arriving[:, (rows.start + first) * row : (rows.start + last) * row]
            total[i] += copied[:, start * row : (start + last - first) * row] @ cotangent.T
    return total.reshape(kh, kw, channels, filters)


def _copied(x: Array, g: Geometry, strips: Sequence[Strip], dtype: np.dtype) -> Iterator[tuple[slice, Geometry, Array]]:
    """For some output rows at a time: which, how they lie on the rows of the image that they see, and what each of
    those rows has for the kernel's width, (kw*C, rows*OW*N). The next ones overwrite it.
    """
    (channels, _, _, batch), kw, width = x.shape, g.window[1], g.output[1]
    place: Array | None = None
    for rows, seen, own in strips:
        shape: Shape = (kw, channels, seen.stop - seen.start, width, batch)
        if place is None or place.shape != shape:
            place = np.empty(shape, dtype)
        for target, (padding, inside, of) in zip(place, columns(own, 0, width), strict=True):
            for part in padding:
                target[:, :, part] = 0
            target[:, :, inside] = x[:, seen, of]
        yield rows, own, place.reshape(kw * channels, -1)

"""What poolings have in common: the entries of windows, and what a NumPy function of two makes of a window's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradwise.kernels.pixels import read
from gradwise.kernels.windows import Geometry, batch_innermost, images, outermost, pad
from gradwise.typing import Array

_CACHED = 1 << 17  # numbers of the channels pooled at a time: at batch 128, 4.1 -> 1.75 ms for 64 channels
# Of windows side by side: the size from which, and the numbers of a row from which, or of all up to which, their
# maximum is one call, and not one for each entry. 16 channels of 16 x 16 by 16: one sample 37 -> 8 us, 48 of them 86 ->
# 27; but of 48 that lie sample by sample 158 -> 296, and by 4, 16 samples of 24 x 24, 50 -> 81.
_LONG, _ROW, _LITTLE = 8, 64, 1 << 14


def channels(x: Array) -> Iterator[slice]:
    """The channels of images (C, H, W, N), as many at a time as stay in the cache."""
    step = max(1, _CACHED * len(x) // x.size)
    for start in range(0, len(x), step):
        yield slice(start, start + step)


def entry(x: Array, axis: int, offset: int, stride: int, count: int) -> Array:
    """The window entry `offset` of each of `count` windows along `axis`: a view."""
    cut = slice(offset, offset + (count - 1) * stride + 1, stride)
    return x[:, cut] if axis == 1 else x[:, :, cut]


def along(fold: np.ufunc, x: Array, axis: int, size: int, stride: int, count: int, out: Array | None = None) -> Array:
    """The fold of each window along `axis` of images (C, H, W, N); in `out`, where there is one."""
    row = x.shape[2] * x.shape[3]
    if size >= _LONG and stride == size and (row >= _ROW or x.size <= _LITTLE):
        covered = entry(x, axis, 0, 1, count * size)
        windows = covered.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])  # a view
        return fold.reduce(windows, axis=axis + 1, out=out)
    m = read(entry(x, axis, 0, stride, count))
    for offset in range(1, size):
        m = out = fold(m, read(entry(x, axis, offset, stride, count)), out=out)
    if size == 1 and out is not None:
        out[...] = m
        return out
    return m


def pooled(fold: np.ufunc, x: Array, g: Geometry, padding: float, flat: bool = False) -> Array:
    """x (N, C, H, W) -> (N, C, OH, OW): the fold of each window, such as `np.maximum`.

    padding : what is there.
    flat : whether the result is to lie batch innermost in memory, even where x lies by rows.
    """
    if x.flags.c_contiguous and len(x) > 1:
        # Pooled as it lies, there is less to be laid anew: 16 images of 28 x 28, 16 -> 14 us, 3 x 32 x 32, 71 -> 33.
        alone = x.reshape(-1, *x.shape[2:], 1)  # images of one channel, each a batch of one
        return batch_innermost(_of_windows(fold, alone, g, padding).reshape(*x.shape[:2], *g.output))
    return outermost(_of_windows(fold, images(x), g, padding, flat))


def _of_windows(fold: np.ufunc, x: Array, g: Geometry, padding: float, flat: bool = True) -> Array:
    """Images (C, H, W, N) -> (C, OH, OW, N), in the memory order of x or, `flat`, contiguous."""
    (count, _, _, batch), (height, width), padded = x.shape, g.output, pad(x, g, padding)
    if flat or x.flags.c_contiguous:
        y = np.empty((count, height, width, batch), x.dtype)
    else:
        y = np.empty((height, count, width, batch), x.dtype).transpose(1, 0, 2, 3)
    for part in channels(padded):
        # Along H first: its rows are contiguous over W * N.
        rows = along(fold, padded[part], 1, g.window[0], g.stride[0], height)
        along(fold, rows, 2, g.window[1], g.stride[1], width, y[part])
        del rows  # the next channels are given the same memory, which is in the cache
    return y

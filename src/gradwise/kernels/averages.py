"""Average pooling, over windows and over whole images, batch innermost."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gradwise.kernels.folds import channels, entry, pooled
from gradwise.kernels.windows import Geometry, Pair, crop, extent, from_rows, images, outermost
from gradwise.typing import Array


def average_pool(x: Array, g: Geometry) -> Array:
    """x (N, C, H, W) -> (N, C, OH, OW): the mean of each window's entries inside the image; padding does not count."""
    y = pooled(np.add, x, g, 0)
    y *= _weights(g, y.dtype)
    return y


def average_pool_gradient(dy: Array, g: Geometry) -> Array:
    """dy (N, C, OH, OW) -> (N, C, H, W), in memory as dy lies."""
    share = images(dy * _weights(g, dy.dtype))  # (C, OH, OW, N)
    (kh, kw), (height, width), (count, rows, columns, batch) = g.window, extent(g), share.shape
    lies = (0, 1, 2, 3) if share.flags.c_contiguous else (1, 0, 2, 3)  # or by rows; its own inverse
    shape = (count, height, width, batch)
    dx = np.empty([shape[axis] for axis in lies], dy.dtype).transpose(lies)
    if g.stride == g.window:
        # Side by side: each window's number, as often as it has entries; rows are copied as a whole.
        wide = np.repeat(share.transpose(lies), kw, axis=2).transpose(lies)
        bottom, right = rows * kh, columns * kw
        dx[:, :bottom, :right].reshape(count, rows, kh, right, batch)[...] = wide[:, :, None]
        dx[:, bottom:] = dx[:, :, right:] = 0
    else:
        for part in channels(dx):
            # Along W first, where there are fewer rows.
            between = np.empty((len(dx[part]), rows, width, batch), dy.dtype)
            _spread(share[part], 2, kw, g.stride[1], between)
            _spread(between, 1, kh, g.stride[0], dx[part])
    return outermost(crop(dx, g))


def _spread(d: Array, axis: int, size: int, stride: int, out: Array) -> None:
    """Each window's number along `axis`, added to each of its entries: the adjoint of `along` of sums, in `out`."""
    out[...] = 0
    for offset in range(size):
        target = entry(out, axis, offset, stride, d.shape[axis])
        target += d


@lru_cache(maxsize=256)
def _weights(g: Geometry, dtype: np.dtype) -> Array:
    """One over how many entries of each window lie inside the image: (OH, OW), or () where of all as many do."""
    inside = []
    for axis in (0, 1):
        first = np.arange(g.output[axis]) * g.stride[axis] - g.before[axis]
        inside.append(np.minimum(first + g.window[axis], g.image[axis]) - np.maximum(first, 0))
    counts = np.multiply.outer(*inside)
    if (counts == counts[0, 0]).all():
        counts = counts[0, 0]
    weights = np.asarray(1 / counts, dtype)
    weights.flags.writeable = False
    return weights


def global_average(x: Array) -> Array:
    """x (N, C, H, W) -> (N, C): the mean of each channel."""
    if x.flags.c_contiguous:
        return x.mean(axis=(2, 3))
    # Along H first, whose rows are contiguous over W * N: 16 channels of 68 x 68, batch 16, 1500 -> 230 us.
    total = np.add.reduce(np.add.reduce(images(x), axis=1), axis=1)  # (C, N)
    return (total / (x.shape[2] * x.shape[3])).T


def global_average_gradient(dy: Array, image: Pair, rows: bool) -> Array:
    """dy (N, C) -> (N, C, *image), batch innermost in memory, or by rows (H, C, W, N)."""
    (batch, count), (height, width) = dy.shape, image
    row = np.empty((count, width, batch), dy.dtype)  # of the result: it is copied as a whole
    row[...] = (dy.T / (height * width))[:, None]
    if rows:
        return from_rows(np.tile(row, (height, 1, 1, 1)))
    return outermost(np.repeat(row[:, None], height, axis=1))

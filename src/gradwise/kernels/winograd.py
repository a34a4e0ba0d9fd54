"""Convolution with half the multiplications: Winograd's F(4, 3) along the height, for kernels three rows high.

Four output rows of a 3-row kernel take 12 products of rows done plainly, and 6 between transformed rows: with the
matrices below, y = A [(G k) * (B x)] for a column of six input rows (Lavin & Gray 2016). As matrix products: the input
transform makes six rows of each tile of six, the middle step is six products (O, kw*C) @ (kw*C, OW*N), the output
transform makes four rows of six. The error against exact arithmetic is about 1.4e-6 of the largest number in float32,
three times that of the plain way; so float64 goes the plain way, and derivatives are checked in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradwise.kernels import blas, gemm
from gradwise.kernels.windows import Geometry, crop, pad
from gradwise.typing import Array

_B = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
_A = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32)

_CACHED = 1 << 17  # numbers of the patches worked on at a time: batch 64 forwards 6.5 ms, 1 << 18 7.2, 1 << 19 8.2
_TURNED = 1 << 16  # likewise, of transformed rows that are turned: batch 8 930 us, 1 << 17 1030


def pays(g: Geometry, channels: int, filters: int, dtype: np.dtype) -> bool:
    """Whether this is faster: 32 -> 64 channels at batch 64 in 0.55 of the time; a network of 16 -> 16 in all of it."""
    tall = g.window[0] == 3 and g.stride == (1, 1) and g.output[0] >= 8
    return tall and min(channels, filters) >= 32 and dtype == np.float32


def convolve(x: Array, kernel: Array, g: Geometry) -> Array:
    """x (C, H, W, N) contiguous, kernel (3, kw, C, O) -> (O, OH, OW, N)."""
    _, kw, channels, filters = kernel.shape
    weights = np.matmul(_G, kernel.reshape(3, -1)).reshape(6, kw * channels, filters)
    weights = weights.transpose(0, 2, 1)  # (6, O, kw*C)
    y = np.empty((filters, *g.output, x.shape[3]), np.float32)
    for tile, begin, patches in _patches(x, kw, filters, g):
        _finish(np.matmul(weights, patches), y, tile, begin)  # (T', 6, O, OW'*N)
    return y


def kernel_gradient(x: Array, dy: Array, g: Geometry) -> Array:
    """x (C, H, W, N), dy (O, OH, OW, N), both contiguous -> (3, kw, C, O), summed over the batch: the exact adjoint.

    A column of the kernel at a time, of transformed rows that lie pixel by pixel: what that column sees is a view, and
    BLAS multiplies rows by rows. By patches 32 -> 64 channels took at batch 8 1260 us instead of 940, at 64 8.7 ms
    instead of 7.7.
    """
    channels, batch, filters, kw = x.shape[0], x.shape[3], dy.shape[0], g.window[1]
    x, tiles = _tiles(x, g)
    columns, total = g.output[1] * batch, np.zeros((6, kw, filters, channels), np.float32)
    parts = blas.parts(columns, channels * filters * columns)
    several = max(1, min(tiles, _TURNED // (6 * channels * x.shape[2] * batch)))
    for tile in range(0, tiles, several):
        count = min(several, tiles - tile)
        pixels = np.ascontiguousarray(_transformed(x, tile, count).transpose(0, 1, 3, 2))  # (T', 6, W*N, C)
        spread = _spread(dy, tile, count)  # (T', 6, O, OW*N)
        for part in parts:
            for j in range(kw):
                seen = pixels[:, :, j * batch + part.start : j * batch + part.stop]
                total[:, j] += np.add.reduce(np.matmul(spread[..., part], seen), axis=0)
    gradient = np.matmul(_G.T, total.reshape(6, -1)).reshape(3, kw, filters, channels)
    return gradient.transpose(0, 1, 3, 2)


def input_gradient(dy: Array, kernel: Array, g: Geometry) -> Array:
    """dy (O, OH, OW, N) contiguous, kernel (3, kw, C, O) -> (C, H, W, N): the exact adjoint of `convolve`.

    Each shift of the kernel gives a product, which is added where it belongs: for more filters than channels that moves
    less than copying each shift of dy. 32 -> 64 channels, batch 16, 4.8 -> 2.7 ms; 32 -> 32 loses.
    """
    _, kw, channels, filters = kernel.shape
    (height, width), batch = g.output, dy.shape[3]
    weights = np.matmul(_G, kernel.reshape(3, -1)).reshape(6, kw, channels, filters)
    tiles, columns, wide = -(-height // 4), width * batch, (width + kw - 1) * batch
    several = max(1, min(tiles, _CACHED // (6 * channels * wide)))
    padded = np.empty((channels, 4 * tiles + 2, width + kw - 1, batch), np.float32)
    c, h = padded.strides[:2]
    over = np.zeros((channels, 2, wide), np.float32)  # what a tile adds to the first two rows of the next
    for tile in range(0, tiles, several):
        count = min(several, tiles - tile)
        spread = _spread(dy, tile, count)  # (T', 6, O, OW*N)
        transformed = np.empty((count, 6, channels, wide), np.float32)
        np.matmul(weights[:, 0], spread, out=transformed[..., :columns])
        transformed[..., columns:] = 0
        for j in range(1, kw):
            gemm.add(transformed[..., j * batch : j * batch + columns], weights[:, j], spread)
        rows = transformed.transpose(0, 2, 1, 3)  # (T', C, 6, W*N)
        four = np.ndarray((count, channels, 4, wide), np.float32, padded, 4 * tile * h, (4 * h, c, h, padded.itemsize))
        np.matmul(_B.T[:4], rows, out=four)
        two = np.matmul(_B.T[4:], rows)  # (T', C, 2, W*N)
        four[0, :, :2] += over
        four[1:, :, :2] += two[:-1]
        over = two[-1]
    padded[:, 4 * tiles :] = over.reshape(channels, 2, -1, batch)
    return crop(padded, g)


def _tiles(x: Array, g: Geometry) -> tuple[Array, int]:
    """The images with their padding and as many rows as whole tiles see, and how many tiles those are."""
    tiles = -(-g.output[0] // 4)
    missing = 4 * tiles + 2 - (g.before[0] + g.image[0] + g.after[0])
    return pad(x, g._replace(after=(g.after[0] + missing, g.after[1])), 0), tiles


def _patches(x: Array, kw: int, filters: int, g: Geometry) -> Iterator[tuple[int, int, Array]]:
    """For some tiles and output columns at a time: the first tile, the first column, and (T', 6, kw*C, OW'*N)."""
    channels, batch, width = x.shape[0], x.shape[3], g.output[1]
    x, tiles = _tiles(x, g)
    blocks = blas.parts(width, kw * channels * filters * width * batch)
    several = max(1, min(tiles, _CACHED // (6 * kw * channels * blocks[0].stop * batch)))
    for tile in range(0, tiles, several):
        count = min(several, tiles - tile)
        transformed = _transformed(x, tile, count)  # (T', 6, C, W*N)
        t, r, c = transformed.strides[:3]
        for begin, size in ((block.start, block.stop - block.start) for block in blocks):
            shape, strides = (count, 6, kw, channels, size * batch), (t, r, batch * x.itemsize, c, x.itemsize)
            shifts = np.ndarray(shape, np.float32, transformed, begin * batch * x.itemsize, strides)
            yield tile, begin, shifts.reshape(count, 6, kw * channels, size * batch)  # a copy, where kw is above 1


def _transformed(x: Array, tile: int, count: int) -> Array:
    """B times the six input rows of each of some tiles: (T', 6, C, W*N)."""
    channels, _, width, batch = x.shape
    c, h = x.strides[:2]
    shape, strides = (channels, count, 6, width * batch), (c, 4 * h, h, x.itemsize)
    windows = np.ndarray(shape, np.float32, x, 4 * tile * h, strides)
    transformed = np.empty((count, 6, channels, width * batch), np.float32)
    np.matmul(_B, windows, out=transformed.transpose(2, 0, 1, 3))
    return transformed


def _finish(products: Array, y: Array, tile: int, begin: int) -> None:
    """A of the products (T', 6, O, OW'*N) into the rows of y from `tile`, the columns from `begin`."""
    filters, height, _, batch = y.shape
    count, numbers = len(products), products.shape[-1]
    rows = products.transpose(0, 2, 1, 3)  # (T', O, 6, OW'*N)
    whole = min(count, height // 4 - tile)  # tiles of which all four rows are wanted
    o, r, w = y.strides[:3]
    shape, strides = (whole, filters, 4, numbers), (4 * r, o, r, y.itemsize)
    np.matmul(_A, rows[:whole], out=np.ndarray(shape, np.float32, y, 4 * tile * r + begin * w, strides))
    if whole < count:
        top = 4 * (tile + whole)
        rest = np.matmul(_A[: height - top], rows[whole])  # (O, rows left, OW'*N)
        y[:, top:, begin : begin + numbers // batch] = rest.reshape(filters, -1, numbers // batch, batch)


def _spread(dy: Array, tile: int, count: int) -> Array:
    """A' of the output rows of some tiles, the adjoint of `_finish`: (T', 6, O, OW*N)."""
    filters, height, width, batch = dy.shape
    spread = np.empty((count, 6, filters, width * batch), np.float32)
    whole = min(count, height // 4 - tile)
    o, r = dy.strides[:2]
    shape, strides = (filters, whole, 4, width * batch), (o, 4 * r, r, dy.itemsize)
    rows = np.ndarray(shape, np.float32, dy, 4 * tile * r, strides)
    np.matmul(_A.T, rows, out=spread[:whole].transpose(2, 0, 1, 3))
    if whole < count:
        top = 4 * (tile + whole)
        rest = dy[:, top:].reshape(filters, height - top, width * batch)
        np.matmul(_A.T[:, : height - top], rest, out=spread[whole].transpose(1, 0, 2))
    return spread

"""Convolution with half the multiplications: Winograd's F(4, 3) along the height, for kernels three rows high.

Four output rows of a 3-row kernel take 12 products of rows done plainly, and 6 between transformed rows: with the
matrices below, y = A [(G k) * (B x)] for a column of six input rows (Lavin & Gray 2016). As matrix products: the input
transform makes six rows of each tile of six, the middle step is six products (O, kw*C) @ (kw*C, OW*N), the output
transform makes four rows of six. The error against exact arithmetic is about 1.4e-6 of the largest number in float32,
three times that of the plain way; so float64 goes the plain way, and derivatives are checked in it.

Images lie (H, C, W, N) in memory here: so the rows that a transform mixes are a matrix of a few long rows, of all
channels.
"""

from __future__ import annotations

from functools import lru_cache

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
    """x (H, C, W, N) contiguous, kernel (3, kw, C, O) -> (OH, O, OW, N)."""
    _, kw, channels, filters = kernel.shape
    (height, width), batch = g.output, x.shape[3]
    weights = np.matmul(_G, kernel.reshape(3, -1)).reshape(6, kw * channels, filters)
    weights = weights.transpose(0, 2, 1)  # (6, O, kw*C)
    x, tiles = _tiles(x, g)
    y = np.empty((height, filters, width, batch), np.float32)
    parts = blas.parts(width, kw * channels * filters * width * batch)
    several = max(1, min(tiles, _CACHED // (6 * kw * channels * parts[0].stop * batch)))
    for tile in range(0, tiles, several):
        count = min(several, tiles - tile)
        transformed = _transformed(x, tile, count)  # (T', 6, C, W*N)
        products = np.empty((count, 6, filters, width * batch), np.float32)
        for part in parts:
            columns = slice(part.start * batch, part.stop * batch)
            np.matmul(weights, _patches(transformed, kw, columns, batch), out=products[..., columns])
        _finish(products, y, tile)
        del transformed, products  # the next tiles are given the same memory, which is in the cache
    return y


def kernel_gradient(x: Array, dy: Array, g: Geometry) -> Array:
    """x (H, C, W, N), dy (OH, O, OW, N), both contiguous -> (3, kw, C, O), summed over the batch: the exact adjoint.

    A column of the kernel at a time, of transformed rows that lie pixel by pixel: what that column sees is a view, and
    BLAS multiplies rows by rows. By patches 32 -> 64 channels took at batch 8 1260 us instead of 940, at 64 8.7 ms
    instead of 7.7.
    """
    (_, channels, columns, batch), filters, kw = x.shape, dy.shape[1], g.window[1]
    x, tiles = _tiles(x, g)
    numbers, total = g.output[1] * batch, np.zeros((6, kw, filters, channels), np.float32)
    parts = blas.parts(numbers, channels * filters * numbers)
    several = max(1, min(tiles, _TURNED // (6 * channels * columns * batch)))
    for tile in range(0, tiles, several):
        count = min(several, tiles - tile)
        pixels = np.ascontiguousarray(_transformed(x, tile, count).transpose(0, 1, 3, 2))  # (T', 6, W*N, C)
        spread = _spread(dy, tile, count)  # (T', 6, O, OW*N)
        for part in parts:
            for j in range(kw):
                seen = pixels[:, :, j * batch + part.start : j * batch + part.stop]
                total[:, j] += np.add.reduce(np.matmul(spread[..., part], seen), axis=0)
        del pixels, spread, seen  # as in `convolve`
    gradient = np.matmul(_G.T, total.reshape(6, -1)).reshape(3, kw, filters, channels)
    return gradient.transpose(0, 1, 3, 2)


def input_gradient(dy: Array, kernel: Array, g: Geometry) -> Array:
    """dy (OH, O, OW, N) contiguous, kernel (3, kw, C, O) -> (H, C, W, N): the exact adjoint of `convolve`.

    Each shift of the kernel gives a product, which is added where it belongs: for more filters than channels that moves
    less than copying each shift of dy. 32 -> 64 channels, batch 16, 4.8 -> 2.7 ms; 32 -> 32 loses.
    """
    _, kw, channels, filters = kernel.shape
    (height, width), batch = g.output, dy.shape[3]
    weights = np.matmul(_G, kernel.reshape(3, -1)).reshape(6, kw, channels, filters)
    tiles, columns, wide = -(-height // 4), width * batch, (width + kw - 1) * batch
    several = max(1, min(tiles, _CACHED // (6 * channels * wide)))
    padded = np.empty((4 * tiles + 2, channels * wide), np.float32)
    over = np.zeros((2, channels * wide), np.float32)  # what a tile adds to the first two rows of the next
    for tile in range(0, tiles, several):
        count = min(several, tiles - tile)
        spread = _spread(dy, tile, count)  # (T', 6, O, OW*N)
        transformed = np.empty((count, 6, channels, wide), np.float32)
        np.matmul(weights[:, 0], spread, out=transformed[..., :columns])
        transformed[..., columns:] = 0
        for j in range(1, kw):
            gemm.add(transformed[..., j * batch : j * batch + columns], weights[:, j], spread)
        del spread
        rows = transformed.reshape(count, 6, -1)
        four = padded[4 * tile : 4 * (tile + count)].reshape(count, 4, -1)
        _mix(_B.T[:4], rows, four)
        two = _mix(_B.T[4:], rows, np.empty((count, 2, rows.shape[2]), np.float32))
        four[0, :2] += over
        four[1:, :2] += two[:-1]
        over = two[-1]
        del transformed, rows, two  # as in `convolve`
    padded[4 * tiles :] = over
    return crop(padded.reshape(len(padded), channels, width + kw - 1, batch), g, height=0)


def _tiles(x: Array, g: Geometry) -> tuple[Array, int]:
    """Images (H, C, W, N) with their padding and as many rows as whole tiles see, and how many tiles those are."""
    tiles, whole = _whole(g)
    return pad(x, whole, 0, height=0), tiles


@lru_cache(maxsize=1024)
def _whole(g: Geometry) -> tuple[int, Geometry]:
    """How many tiles there are, and where windows lie with the padding that whole ones see."""
    tiles = -(-g.output[0] // 4)
    missing = 4 * tiles + 2 - (g.before[0] + g.image[0] + g.after[0])
    return tiles, g._replace(after=(g.after[0] + missing, g.after[1]))


def _patches(transformed: Array, kw: int, columns: slice, batch: int) -> Array:
    """What the kernel's columns see of transformed rows (T', 6, C, W*N), for some numbers of the output rows: (T', 6,
    kw*C, those).
    """
    count, _, channels, _ = transformed.shape
    (t, r, c, item), numbers = transformed.strides, columns.stop - columns.start
    shape, strides = (count, 6, kw, channels, numbers), (t, r, batch * item, c, item)
    shifts = np.ndarray(shape, np.float32, transformed, columns.start * item, strides)
    return shifts.reshape(count, 6, kw * channels, numbers)  # a copy, where kw is above 1


def _mix(matrix: Array, rows: Array, out: Array) -> Array:
    """matrix (m, k) @ each of rows (T', k, n) -> out (T', m, n), in small products."""
    for part in blas.parts(rows.shape[2], matrix.size * rows.shape[2]):
        np.matmul(matrix, rows[..., part], out=out[..., part])
    return out


def _transformed(x: Array, tile: int, count: int) -> Array:
    """B times the six input rows of each of some tiles: (T', 6, C, W*N)."""
    _, channels, width, batch = x.shape
    shape, row = (count, 6, channels * width * batch), channels * width * batch * x.itemsize
    windows = np.ndarray(shape, np.float32, x, 4 * tile * row, (4 * row, row, x.itemsize))
    return _mix(_B, windows, np.empty(shape, np.float32)).reshape(count, 6, channels, width * batch)


def _finish(products: Array, y: Array, tile: int) -> None:
    """A of the products (T', 6, O, OW*N) into the rows of y (OH, O, OW, N) from `tile` on."""
    rows, numbers = products.reshape(len(products), 6, -1), y[0].size
    whole = min(len(rows), len(y) // 4 - tile)  # tiles of which all four rows are wanted
    top = 4 * (tile + whole)
    _mix(_A, rows[:whole], y[4 * tile : top].reshape(whole, 4, numbers))
    if whole < len(rows):
        _mix(_A[: len(y) - top], rows[whole:], y[top:].reshape(1, -1, numbers))


def _spread(dy: Array, tile: int, count: int) -> Array:
    """A' of the output rows of some tiles, the adjoint of `_finish`: (T', 6, O, OW*N)."""
    numbers = dy[0].size
    spread = np.empty((count, 6, numbers), np.float32)
    whole = min(count, len(dy) // 4 - tile)
    top = 4 * (tile + whole)
    _mix(_A.T, dy[4 * tile : top].reshape(whole, 4, numbers), spread[:whole])
    if whole < count:
        _mix(_A.T[:, : len(dy) - top], dy[top:].reshape(1, -1, numbers), spread[whole:])
    return spread.reshape(count, 6, dy.shape[1], -1)

"""Pooling over windows, batch innermost."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gradwise.kernels.windows import (
    Geometry,
    Pair,
    batch_innermost,
    crop,
    extent,
    from_rows,
    images,
    innermost,
    outermost,
    pad,
)
from gradwise.typing import Array

_CACHED = 1 << 17  # numbers of the channels pooled at a time: at batch 128, 4.1 -> 1.75 ms for 64 channels
# Samples of which, and pixels from which, what lies between others is copied pixel by pixel: 64 channels of 24 x 24 by
# 2 take for 2 samples 85 -> 29 us, and the gradient 294 -> 80, for 8 165 -> 128 and 445 -> 360; 16 would gain nothing.
_SEVERAL, _MANY = range(2, 12), 1 << 10
# Of windows side by side: the size from which, and the numbers of a row from which, or of all up to which, their
# maximum is one call, and not one for each entry. 16 channels of 16 x 16 by 16: one sample 37 -> 8 us, 48 of them 86 ->
# 27; but of 48 that lie sample by sample 158 -> 296, and by 4, 16 samples of 24 x 24, 50 -> 81.
_LONG, _ROW, _LITTLE = 8, 64, 1 << 14
# Window entries up to which each is compared with the maximum by itself. Of more the first maximum is looked up, where
# no two windows share any: forward and gradient, 16 channels of 16 x 16 by 16, take for 8 samples 34 us so, and 310
# compared row by row; of 24 x 24 by 8, 16 samples, 207 and 468. Of so many numbers and more, up to _FEW_APART entries
# of such windows are compared: by 5 500 -> 383 us, 64 channels by 4 2404 -> 1083; but one sample of 16 by 4 45 -> 97.
_FEW, _FEW_APART, _NUMBERS = 9, 25, 1 << 15


def _channels(x: Array) -> Iterator[slice]:
    """The channels of images (C, H, W, N), as many at a time as stay in the cache."""
    step = max(1, _CACHED * len(x) // x.size)
    for start in range(0, len(x), step):
        yield slice(start, start + step)


def _entry(x: Array, axis: int, offset: int, stride: int, count: int) -> Array:
    """The window entry `offset` of each of `count` windows along `axis`: a view."""
    cut = slice(offset, offset + (count - 1) * stride + 1, stride)
    return x[:, cut] if axis == 1 else x[:, :, cut]


def _pixels(x: Array) -> Array | None:
    """Images (C, H, W, N) with all numbers of a pixel as one thing, (C, H, W): a view, of few samples and many pixels
    that do not lie side by side. NumPy copies such things one after the other, but goes through the numbers themselves
    in rows as short as a pixel.
    """
    size = x.shape[3] * x.itemsize
    if x.shape[3] not in _SEVERAL or x.strides[2] == size or x.size < _MANY * x.shape[3] or x.strides[3] != x.itemsize:
        return None
    return x.view(_thing(size))[..., 0]


@lru_cache(maxsize=64)
def _thing(size: int) -> np.dtype:
    """Of so many bytes; those of 8 and 16 NumPy copies in one go."""
    return np.dtype({8: "u8", 16: "c16"}.get(size, f"V{size}"))


def _read(entry: Array) -> Array:
    """A window's entry of all windows, as it is best computed with."""
    pixels = _pixels(entry)
    return entry if pixels is None else np.ascontiguousarray(pixels).view(entry.dtype).reshape(entry.shape)


def _write(target: Array, values: Array) -> None:
    """target[...] = values, both images (C, H, W, N)."""
    pixels = _pixels(target)
    if pixels is None:
        target[...] = values
    else:
        pixels[...] = np.ascontiguousarray(values, target.dtype).view(pixels.dtype)[..., 0]


def _maxima(x: Array, axis: int, size: int, stride: int, count: int, out: Array | None = None) -> Array:
    """The maximum of each window along `axis` of images (C, H, W, N); in `out`, where there is one."""
    row = x.shape[2] * x.shape[3]
    if size >= _LONG and stride == size and (row >= _ROW or x.size <= _LITTLE):
        covered = _entry(x, axis, 0, 1, count * size)
        windows = covered.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])  # a view
        return np.maximum.reduce(windows, axis=axis + 1, out=out)
    m = _read(_entry(x, axis, 0, stride, count))
    for offset in range(1, size):
        m = out = np.maximum(m, _read(_entry(x, axis, offset, stride, count)), out=out)
    if size == 1 and out is not None:
        out[...] = m
        return out
    return m


def max_pool(x: Array, g: Geometry, flat: bool = False) -> tuple[Array, tuple[Array, ...]]:
    """x (N, C, H, W) -> y (N, C, OH, OW), and what `max_pool_gradient` needs. Padding never wins.

    flat : whether y is to lie batch innermost in memory, even where x lies by rows.
    """
    if _large(g, x.size) and _apart(g):
        padded = pad(innermost(x), g, -np.inf)
        places = _first_maxima(padded, g)
        return outermost(padded.reshape(-1)[places]), (places,)
    y = highest(x, g, flat)
    return y, (x, y)


def highest(x: Array, g: Geometry, flat: bool = False) -> Array:
    """`max_pool`, of which no gradient is asked."""
    if x.flags.c_contiguous and len(x) > 1:
        # Pooled as it lies, there is less to be laid anew: 16 images of 28 x 28, 16 -> 14 us, 3 x 32 x 32, 71 -> 33.
        alone = x.reshape(-1, *x.shape[2:], 1)  # images of one channel, each a batch of one
        return batch_innermost(_maxima_of_windows(alone, g).reshape(*x.shape[:2], *g.output))
    return outermost(_maxima_of_windows(images(x), g, flat))


def _maxima_of_windows(x: Array, g: Geometry, flat: bool = True) -> Array:
    """Images (C, H, W, N) -> (C, OH, OW, N), in the memory order of x or, `flat`, contiguous."""
    (channels, _, _, batch), (height, width), padded = x.shape, g.output, pad(x, g, -np.inf)
    if flat or x.flags.c_contiguous:
        y = np.empty((channels, height, width, batch), x.dtype)
    else:
        y = np.empty((height, channels, width, batch), x.dtype).transpose(1, 0, 2, 3)
    for part in _channels(padded):
        # Along H first: its rows are contiguous over W * N.
        rows = _maxima(padded[part], 1, g.window[0], g.stride[0], height)
        _maxima(rows, 2, g.window[1], g.stride[1], width, y[part])
        del rows  # the next channels are given the same memory, which is in the cache
    return y


def _large(g: Geometry, numbers: int) -> bool:
    """Whether a window has more entries than are compared one by one, in images of so many numbers."""
    return g.window[0] * g.window[1] > (_FEW_APART if numbers > _NUMBERS and _apart(g) else _FEW)


def _apart(g: Geometry) -> bool:
    """Whether no two windows share an entry."""
    return g.stride[0] >= g.window[0] and g.stride[1] >= g.window[1]


def _first_maxima(x: Array, g: Geometry) -> Array:
    """The place of each window's first maximum, row by row, in the flattened images (C, H, W, N): (C, OH, OW, N)."""
    (channels, height, width, batch), (c, h, w, n) = x.shape, x.strides
    (oh, ow), (sh, sw) = g.output, g.stride
    shape, strides = (channels, oh, ow, batch, *g.window), (c, sh * h, sw * w, n, h, w)
    first = as_strided(x, shape, strides).reshape(*shape[:4], -1).argmax(axis=-1)
    row, column = np.divmod(first, g.window[1])
    row += np.arange(0, channels * height, height)[:, None, None, None]
    row += np.arange(0, oh * sh, sh)[:, None, None]
    column += np.arange(0, ow * sw, sw)[:, None]
    return (row * width + column) * batch + np.arange(batch)


def max_pool_gradient(dy: Array, saved: tuple[Array, ...], g: Geometry) -> Array:
    """dy (N, C, OH, OW) -> (N, C, H, W): to the first maximum of each window, in row-major order."""
    cotangent = innermost(dy)
    if len(saved) == 1:
        spread = np.zeros((len(cotangent), *extent(g), len(dy)), dy.dtype)
        spread.reshape(-1)[saved[0]] = cotangent
        return outermost(crop(spread, g))
    padded, y = pad(images(saved[0]), g, -np.inf), innermost(saved[1])
    covered = g.stride == g.window and padded.shape[1:3] == (g.output[0] * g.window[0], g.output[1] * g.window[1])
    dx = (np.empty_like if covered else np.zeros_like)(padded, dy.dtype)
    for part in _channels(padded):
        x, dm, target = padded[part], cotangent[part], dx[part]
        if not _large(g, padded.size):
            entries = [(i, j) for i in range(g.window[0]) for j in range(g.window[1])]
            _route(_at(x, g, entries), _at(target, g, entries), y[part], dm, _apart(g))
            continue
        # Along H over the rows' maxima, then along W within the rows: the first row, and in it the first entry.
        (kh, kw), (sh, sw), (oh, ow) = g.window, g.stride, g.output
        m = _maxima(x, 2, kw, sw, ow)
        rows = np.zeros(m.shape, dy.dtype)
        _route(
            [_entry(m, 1, i, sh, oh) for i in range(kh)],
            [_entry(rows, 1, i, sh, oh) for i in range(kh)],
            y[part],
            dm,
            sh >= kh,
        )
        _route(
            [_entry(x, 2, j, sw, ow) for j in range(kw)],
            [_entry(target, 2, j, sw, ow) for j in range(kw)],
            m,
            rows,
            sw >= kw,
        )
    return outermost(crop(dx, g))


def _at(x: Array, g: Geometry, entries: list[tuple[int, int]]) -> list[Array]:
    """The given window entries of all windows of images (C, H, W, N): views (C, OH, OW, N)."""
    (sh, sw), (oh, ow) = g.stride, g.output
    return [_entry(_entry(x, 1, i, sh, oh), 2, j, sw, ow) for i, j in entries]


def _route(entries: list[Array], targets: list[Array], maxima: Array, dy: Array, disjoint: bool) -> None:
    """Send dy to the first of the windows' entries that equals its window's maximum; windows that overlap add up."""
    rest = dy
    for entry, target in zip(entries[:-1], targets[:-1], strict=True):
        # Steps by themselves, in contiguous memory: a product with a comparison straight into the target takes 1.6
        # times as long at batch 128.
        share = (_read(entry) == maxima).astype(dy.dtype)
        share *= rest
        if disjoint:
            _write(target, share)
        else:
            target += share
        rest = rest - share  # exact: a share is all that is left, or nothing
    if disjoint:
        _write(targets[-1], rest)  # the maximum is somewhere
    else:
        targets[-1] += rest


def _sums(x: Array, axis: int, size: int, stride: int, count: int) -> Array:
    total = _entry(x, axis, 0, stride, count)
    for offset in range(1, size):
        total = total + _entry(x, axis, offset, stride, count)
    return total


def _spread(d: Array, axis: int, length: int, size: int, stride: int) -> Array:
    """The adjoint of `_sums`: each window's number, added to each of its entries."""
    count = d.shape[axis]
    shape = list(d.shape)
    shape[axis] = length
    dx = np.zeros(shape, d.dtype)
    for offset in range(size):
        target = _entry(dx, axis, offset, stride, count)
        target += d
    return dx


def _counts(g: Geometry, dtype: np.dtype) -> Array:
    """(1, OH, OW, 1): how many entries of each window lie inside the image, inverted."""
    ones = pad(np.ones((1, *g.image, 1), dtype), g, 0)
    inside = _sums(_sums(ones, 2, g.window[1], g.stride[1], g.output[1]), 1, g.window[0], g.stride[0], g.output[0])
    return 1 / inside


def average_pool(x: Array, g: Geometry) -> Array:
    """X (N, C, H, W) -> (N, C, OH, OW): the mean of each window's entries inside the image; padding does not count."""
    padded = pad(innermost(x), g, 0)
    total = _sums(_sums(padded, 2, g.window[1], g.stride[1], g.output[1]), 1, g.window[0], g.stride[0], g.output[0])
    return outermost(total * _counts(g, x.dtype))


def average_pool_gradient(dy: Array, g: Geometry) -> Array:
    """Dy (N, C, OH, OW) -> (N, C, H, W)."""
    height, width = extent(g)
    share = innermost(dy) * _counts(g, dy.dtype)
    rows = _spread(share, 1, height, g.window[0], g.stride[0])
    return outermost(crop(_spread(rows, 2, width, g.window[1], g.stride[1]), g))


def global_average(x: Array) -> Array:
    """X (N, C, H, W) -> (N, C): the mean of each channel."""
    if x.flags.c_contiguous:
        return x.mean(axis=(2, 3))
    # Along H first, whose rows are contiguous over W * N: 16 channels of 68 x 68, batch 16, 1500 -> 230 us.
    total = np.add.reduce(np.add.reduce(images(x), axis=1), axis=1)  # (C, N)
    return (total / (x.shape[2] * x.shape[3])).T


def global_average_gradient(dy: Array, image: Pair, rows: bool) -> Array:
    """Dy (N, C) -> (N, C, *image), batch innermost in memory, or by rows (H, C, W, N)."""
    (batch, channels), (height, width) = dy.shape, image
    row = np.empty((channels, width, batch), dy.dtype)  # of the result: it is copied as a whole
    row[...] = (dy.T / (height * width))[:, None]
    if rows:
        return from_rows(np.tile(row, (height, 1, 1, 1)))
    return outermost(np.repeat(row[:, None], height, axis=1))

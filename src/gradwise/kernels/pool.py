"""Max pooling over windows, batch innermost."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gradwise.kernels.folds import along, channels, entry, pooled
from gradwise.kernels.pixels import read, write
from gradwise.kernels.windows import Geometry, crop, extent, images, innermost, outermost, pad
from gradwise.typing import Array

# Window entries up to which each is compared with the maximum by itself. Of more the first maximum is looked up, where
# no two windows share any: forward and gradient, 16 channels of 16 x 16 by 16, take for 8 samples 34 us so, and 310
# compared row by row; of 24 x 24 by 8, 16 samples, 207 and 468. Of so many numbers and more, up to _FEW_APART entries
# of such windows are compared: by 5 500 -> 383 us, 64 channels by 4 2404 -> 1083; but one sample of 16 by 4 45 -> 97.
# Windows one by one are compared row by row from 5 entries on: the gradient of 3 x 3, 16 channels of 28 x 28, 8 samples
# 990 -> 580 us, 32 3590 -> 2230; of windows two apart, 3 x 3, it would take 1.03 to 1.35 times as long.
_FEW, _FEW_APART, _NUMBERS, _FEW_OVERLAPPING = 9, 25, 1 << 15, 4


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
    return pooled(np.maximum, x, g, -np.inf, flat)


def _large(g: Geometry, numbers: int) -> bool:
    """Whether a window has more entries than are compared one by one, in images of so many numbers."""
    few = _FEW_APART if numbers > _NUMBERS and _apart(g) else _FEW_OVERLAPPING if g.stride == (1, 1) else _FEW
    return g.window[0] * g.window[1] > few


def _apart(g: Geometry) -> bool:
    """Whether no two windows share an entry."""
    return g.stride[0] >= g.window[0] and g.stride[1] >= g.window[1]


def _first_maxima(x: Array, g: Geometry) -> Array:
    """The place of each window's first maximum, row by row, in the flattened images (C, H, W, N): (C, OH, OW, N)."""
    (count, height, width, batch), (c, h, w, n) = x.shape, x.strides
    (oh, ow), (sh, sw) = g.output, g.stride
    shape, strides = (count, oh, ow, batch, *g.window), (c, sh * h, sw * w, n, h, w)
    first = as_strided(x, shape, strides).reshape(*shape[:4], -1).argmax(axis=-1)
    row, column = np.divmod(first, g.window[1])
    row += np.arange(0, count * height, height)[:, None, None, None]
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
    for part in channels(padded):
        _route_to(padded[part], dx[part], y[part], cotangent[part], g)
    return outermost(crop(dx, g))


def _route_to(x: Array, dx: Array, y: Array, dy: Array, g: Geometry) -> None:
    """dy (C, OH, OW, N) to where the maxima y of images x (C, H, W, N) lie, in dx."""
    (kh, kw), (sh, sw), (oh, ow) = g.window, g.stride, g.output
    if not _large(g, x.size):
        entries = [(i, j) for i in range(kh) for j in range(kw)]
        _route(_at(x, g, entries), _at(dx, g, entries), y, dy, _apart(g))
        return
    # Along H over the rows' maxima, then along W within the rows: the first row, and in it the first entry.
    m = along(np.maximum, x, 2, kw, sw, ow)
    rows = np.zeros(m.shape, dy.dtype)
    _route(
        [entry(m, 1, i, sh, oh) for i in range(kh)],
        [entry(rows, 1, i, sh, oh) for i in range(kh)],
        y,
        dy,
        sh >= kh,
    )
    _route([entry(x, 2, j, sw, ow) for j in range(kw)], [entry(dx, 2, j, sw, ow) for j in range(kw)], m, rows, sw >= kw)


def _at(x: Array, g: Geometry, entries: list[tuple[int, int]]) -> list[Array]:
    """The given window entries of all windows of images (C, H, W, N): views (C, OH, OW, N)."""
    (sh, sw), (oh, ow) = g.stride, g.output
    return [entry(entry(x, 1, i, sh, oh), 2, j, sw, ow) for i, j in entries]


def _route(entries: list[Array], targets: list[Array], maxima: Array, dy: Array, disjoint: bool) -> None:
    """Send dy to the first of the windows' entries that equals its window's maximum; windows that overlap add up."""
    rest = dy
    for values, target in zip(entries[:-1], targets[:-1], strict=True):
        # Steps by themselves, in contiguous memory: a product with a comparison straight into the target takes 1.6
        # times as long at batch 128.
        share = (read(values) == maxima).astype(dy.dtype)
        share *= rest
        if disjoint:
            write(target, share)
        else:
            target += share
        rest = np.subtract(rest, share, out=None if rest is dy else rest)  # exact: all that is left, or nothing
    if disjoint:
        write(targets[-1], rest)  # the maximum is somewhere
    else:
        targets[-1] += rest

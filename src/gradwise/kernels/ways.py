"""Which way a convolution goes, and its gradients, by the shapes and the dtype; worked out once for each."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from gradwise.kernels import blas, pointwise, shifted, wide, winograd
from gradwise.kernels.windows import Geometry, Pair, bands

# Multiplications of an output row up to which all rows are copied for one product, if that is a small one: 1 -> 32
# channels on 28 x 28, one sample, forwards 22 -> 12 us, the kernel's gradient 29 -> 9, 1 -> 16 on 8 x 8, 32 samples,
# 18 -> 11 and 18 -> 8, but 32 -> 32, one, 30 -> 32 and 40 -> 43.
_TINY = 50_000
_NARROW = 32  # columns of a matrix, below which the rate falls
_CACHED = 1 << 20  # numbers of a block of columns that still stay in the cache from being written to being read
# Numbers of patches that stay near, and columns of a matrix that it keeps: 16 -> 16 channels on 26 x 26, batch 64, with
# 2 MB of L2, forwards 1650 -> 1320 us, the input's gradient 2110 -> 1540; at batch 128, 3290 -> 2850 and 3640 -> 3390.
_NEAR, _WIDE = 1 << 17, 128
_LOW = 8  # rows of a strip of a high image, at the least: it sees kh - 1 rows of the image that the next sees too
# Numbers of a row from which kernels are best copied to be contiguous, whatever the filters: 16 -> 16 channels, rows of
# 384, 101 -> 114 GFLOP/s; of fewer that holds but for 16, 32, ... filters: 20 filters, rows of 24, 83 -> 92, 16 of them
# 98 -> 83.
_SHORT = 64
# Multiplications of an output row by a row of the kernel, from which products leave out what lies in the padding: the
# input's gradient of 16 -> 16 channels on 26 x 26, batch 16, 530 -> 507 us.
_EDGE = 50_000


class Strip(NamedTuple):
    """Some output rows, worked on by themselves."""

    rows: slice
    seen: slice  # which rows of the image they see
    own: Geometry  # of the ones on the other
    products: list[tuple[slice, Pair]]  # some of those rows, and which rows of the kernel they are multiplied by


_Way = Literal["pointwise", "winograd", "shifted", "wide", "joined", "patches"]
BY_ROWS = ("winograd", "shifted")  # ways that take images (H, C, W, N), and leave them so


class Plan(NamedTuple):
    """How a convolution of images of one shape goes, and its gradients."""

    forwards: _Way
    backwards: _Way  # the kernel's gradient
    inputs: Literal["winograd", "turned", "places"]  # the input's
    turned: Geometry | None  # where the turned kernel lies on dy, if it can
    rows: bool  # whether the output lies by rows, for the convolution behind, where it need not
    contiguous: bool  # whether the kernel is copied to be so
    width: int  # output columns that are worked on at a time
    summed: int  # likewise for the kernel's gradient
    strips: list[Strip]
    copied: list[wide.Strip]  # likewise, of which each row of the kernel makes one product
    banded: bool  # whether products leave out what lies in the padding
    one: int | None  # the kernel's row behind whose numbers the bias goes, for which all products have one


def plan(g: Geometry, channels: int, filters: int, batch: int, dtype: np.dtype) -> Plan:
    """How it goes: looked up, not worked out again, for a step of F at batch 8 asks 17 times."""
    return _plan(g, channels, filters, batch, dtype, blas.shares())


@lru_cache(maxsize=1024)
def _plan(g: Geometry, channels: int, filters: int, batch: int, dtype: np.dtype, shared: bool) -> Plan:
    """`plan`, where BLAS packs what it multiplies and shares it between threads, or not so."""
    kw, (height, columns) = g.window[1], g.output
    width = _width(g, channels, filters, batch)
    copied = kw * channels * min(width, columns) * batch  # numbers of a row's patches
    across = kw * channels * columns * batch  # those of a whole row
    banded = copied * filters > _EDGE
    behind = Geometry((3, 3), (1, 1), (0, 0), (0, 0), g.output, (height - 2, columns - 2))  # of as many filters
    turned, mixed = _turned(g), filters > channels and winograd.pays(g, channels, filters, dtype)
    lows, highs = zip(*(rows for _, rows in bands(g)), strict=True) if banded else ([0], [1])
    return Plan(
        _way(g, channels, filters, batch, dtype, shared),
        _way(g, channels, filters, batch, dtype, shared, backwards=True),
        "winograd" if mixed else "turned" if turned else "places",
        turned,
        min(behind.output) > 0 and _way(behind, filters, filters, batch, dtype, shared) in BY_ROWS,
        bool(filters % 16) or min(width, columns) * batch >= _SHORT,
        width,
        # The products are summed: narrow ones, for 32 -> 64 channels, would take 7.2 ms instead of 4.3.
        _width(g, channels, filters, batch, narrow=256),
        _strips(g, max(_LOW, 2 * _NEAR // copied), banded),
        [(s.rows, s.seen, s.own) for s in _strips(g, max(_LOW, wide.NEAR // across - g.window[0] + 1), False)],
        banded,
        max(lows) if max(lows) < min(highs) else None,
    )


def _way(
    g: Geometry, channels: int, filters: int, batch: int, dtype: np.dtype, shared: bool, backwards: bool = False
) -> _Way:
    """The fastest way of a convolution, or of its kernel's gradient."""
    if pointwise.pays(g):
        return "pointwise"
    if winograd.pays(g, channels, filters, dtype):
        return "winograd"
    row = g.window[0] * g.window[1] * channels * filters * g.output[1] * batch  # multiplications of an output row
    few = row <= _TINY and row * g.output[0] <= blas.SMALL  # all windows go into one product
    if few:
        return "joined"
    by_columns = shifted.pays(g, channels, filters, batch, dtype, backwards)
    if shared and wide.pays(g, channels, filters, batch, dtype, by_columns, backwards):
        return "wide"
    return "shifted" if by_columns else "patches"


def _width(g: Geometry, channels: int, filters: int, batch: int, narrow: int = _NARROW) -> int:
    """How many output columns to work on at a time: as many as keep the products small and their patches near, but
    their matrices at least `narrow` wide; else as many as stay in the cache.
    """
    kh, kw = g.window
    small = blas.SMALL // (kh * kw * channels * filters * batch)
    column = (g.before[0] + g.image[0] + g.after[0]) * kw * channels * batch  # numbers of its patches
    if small * batch < narrow:
        return _CACHED // column
    near, most = -(-g.output[1] * column // _NEAR), g.output[1] * batch // max(_WIDE, narrow)
    count = max(-(-g.output[1] // small), min(near, most))
    return -(-g.output[1] // count)


def _strips(g: Geometry, most: int, banded: bool) -> list[Strip]:
    """The output rows in strips of up to `most`: 16 -> 16 channels on 100 x 100 at batch 8, 4.6 -> 3.7 ms. `banded`,
    what of a window lies in the padding is left out of the products.
    """
    (kh, _), (top, left), stride, height = g.window, g.before, g.stride[0], g.image[0]
    strips: list[Strip] = []
    for strip in blas.parts(g.output[0], g.output[0], most):
        first, last = strip.start * stride - top, (strip.stop - 1) * stride + kh - top  # of the image with its padding
        given = slice(min(max(first, 0), height), min(max(last, 0), height))
        seen, before = given.stop - given.start, min(max(-first, 0), last - first)
        own = g._replace(
            before=(before, left),
            after=(last - first - before - seen, g.after[1]),
            image=(seen, g.image[1]),
            output=(strip.stop - strip.start, g.output[1]),
        )
        strips.append(Strip(strip, given, own, bands(own) if banded else [(slice(None), (0, kh))]))
    return strips


_Cut = tuple[slice, slice]


@lru_cache(maxsize=256)
def places(g: Geometry) -> list[tuple[_Cut, _Cut, _Cut, Geometry]]:
    """For each place that a pixel can have between two strides, and which windows see: those pixels; the windows that
    see them; the kernel's entries there, turned by 180 degrees; and how those lie on dy, one by one.
    """
    found = []
    for (rows, above, i, tall), (columns, left, j, broad) in itertools.product(_places(g, 0), _places(g, 1)):
        window, before, after, image, output = zip(tall, broad, strict=True)
        own = Geometry(window, (1, 1), before, after, image, output)
        found.append(((rows, columns), (above, left), (i, j), own))
    return found


def _places(g: Geometry, axis: int) -> list[tuple[slice, slice, slice, tuple[int, int, int, int, int]]]:
    """`places` along an axis, with the geometry's numbers there: window, before, after, image and output.

    Pixel i, with the padding p = i + before, is entry k of window o where o * stride + k = p. Of pixels p = r + stride
    * t those are the entries r + stride * m of the windows t - m.
    """
    size, k, stride, top, output = (of[axis] for of in (g.image, g.window, g.stride, g.before, g.output))
    found = []
    for r in range(min(stride, k)):
        t = max(-((r - top) // stride), 0)  # of the first such pixel that is none of the padding
        pixels, entries = slice(r + stride * t - top, size, stride), slice(r, k, stride)
        count, window = len(range(size)[pixels]), len(range(k)[entries])
        first, last = t - (window - 1), t + count - 1  # windows that see them, of those that are and are not
        seen = slice(max(first, 0), min(last + 1, output))
        if count and seen.stop > seen.start:
            turned = slice(r + stride * (window - 1), r - stride if r >= stride else None, -stride)
            sizes = window, seen.start - first, last + 1 - seen.stop, seen.stop - seen.start, count
            found.append((pixels, seen, turned, sizes))
    return found


def _turned(g: Geometry) -> Geometry | None:
    """Of stride 1: where the kernel, turned by 180 degrees, lies on dy, such that each image place is seen by all
    windows it was in.
    """
    inner = (g.window[0] - 1 - g.before[0], g.window[1] - 1 - g.before[1])
    after = (g.window[0] - 1 - g.after[0], g.window[1] - 1 - g.after[1])
    if g.stride != (1, 1) or min(*inner, *after) < 0:
        return None
    return Geometry(g.window, (1, 1), inner, after, g.output, g.image)

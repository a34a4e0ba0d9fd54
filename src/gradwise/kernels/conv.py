"""Convolution (cross-correlation, as in every network library) and its two gradients, by whichever way is fastest:
Winograd's algorithm, shifted views, or patches, of which one batched `matmul` over output rows makes the output.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from gradwise.kernels import blas, shifted, winograd
from gradwise.kernels.patches import blocks, joined
from gradwise.kernels.windows import (
    Geometry,
    Pair,
    bands,
    by_rows,
    from_rows,
    images,
    innermost,
    outermost,
    pad,
    reach,
)
from gradwise.typing import Array, Shape

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


class _Strip(NamedTuple):
    """Some output rows, worked on by themselves."""

    rows: slice
    seen: slice  # which rows of the image they see
    own: Geometry  # of the ones on the other
    products: list[tuple[slice, slice]]  # some of those rows, and which of a window's numbers are multiplied


_Way = Literal["winograd", "shifted", "joined", "patches"]
_BY_ROWS = ("winograd", "shifted")  # ways that take images (H, C, W, N), and leave them so


class _Plan(NamedTuple):
    """How a convolution of images of one shape goes, and its kernel's gradient."""

    forwards: _Way
    backwards: _Way
    rows: bool  # whether the output lies by rows, for the convolution behind, where it need not
    contiguous: bool  # whether the kernel is copied to be so
    width: int  # output columns that are worked on at a time
    strips: list[_Strip]
    banded: bool  # whether products leave out what lies in the padding


@lru_cache(maxsize=1024)
def _plan(g: Geometry, channels: int, filters: int, batch: int, dtype: np.dtype) -> _Plan:
    """Looked up, not worked out again: a step of F at batch 8 asks 17 times."""
    kw, (height, columns) = g.window[1], g.output
    width = _width(g, channels, filters, batch)
    copied = kw * channels * min(width, columns) * batch  # numbers of a row's patches
    banded = copied * filters > _EDGE
    behind = Geometry((3, 3), (1, 1), (0, 0), (0, 0), g.output, (height - 2, columns - 2))  # of as many filters
    return _Plan(
        _way(g, channels, filters, batch, dtype),
        _way(g, channels, filters, batch, dtype, backwards=True),
        min(behind.output) > 0 and _way(behind, filters, filters, batch, dtype) in _BY_ROWS,
        bool(filters % 16) or min(width, columns) * batch >= _SHORT,
        width,
        _strips(g, max(_LOW, 2 * _NEAR // copied), kw * channels if banded else 0),
        banded,
    )


def _way(g: Geometry, channels: int, filters: int, batch: int, dtype: np.dtype, backwards: bool = False) -> _Way:
    """The fastest way of a convolution, or of its kernel's gradient."""
    if winograd.pays(g, channels, filters, dtype):
        return "winograd"
    row = g.window[0] * g.window[1] * channels * filters * g.output[1] * batch  # multiplications of an output row
    few = row <= _TINY and row * g.output[0] <= blas.SMALL  # all windows go into one product
    if backwards and not few and shifted.pays_backwards(g, channels, filters, batch):
        return "shifted"
    if not backwards and shifted.pays(g, channels, filters, batch, dtype):
        return "shifted"
    return "joined" if few else "patches"


def _width(g: Geometry, channels: int, filters: int, batch: int, narrow: int = _NARROW) -> int:
    """How many output columns to work on at a time: as many as keep the products small and their patches near, but
    their matrices at least `narrow` wide; else as many as stay in the cache.
    """
    kh, kw = g.window
    small = blas.SMALL // (kh * kw * channels * filters * batch)
    column = (g.before[0] + g.image[0] + g.after[0]) * kw * channels * batch  # numbers of its patches
    if small * batch < narrow:
        return _CACHED // column
    near, wide = -(-g.output[1] * column // _NEAR), g.output[1] * batch // max(_WIDE, narrow)
    count = max(-(-g.output[1] // small), min(near, wide))
    return -(-g.output[1] // count)


def _strips(g: Geometry, most: int, numbers: int) -> list[_Strip]:
    """The output rows in strips of up to `most`: 16 -> 16 channels on 100 x 100 at batch 8, 4.6 -> 3.7 ms. Of a window,
    whose rows have `numbers` each, what lies in the padding is left out of the products; of 0 nothing is.
    """
    (kh, _), (top, left), stride, height = g.window, g.before, g.stride[0], g.image[0]
    strips: list[_Strip] = []
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
        products = [(band, slice(low * numbers, high * numbers)) for band, (low, high) in bands(own)]
        strips.append(_Strip(strip, given, own, products if numbers else [(slice(None), slice(None))]))
    return strips


def convolve(x: Array, kernel: Array, bias: Array | None, g: Geometry) -> Array:
    """x (N, C, H, W), kernel (kh, kw, C, O), bias (O,) -> (N, O, OH, OW), in NumPy's promotion of x and kernel."""
    dtype = np.result_type(x, kernel)
    (kh, kw, channels, filters), batch = kernel.shape, len(x)
    plan = _plan(g, channels, filters, batch, dtype)
    if plan.forwards == "winograd":
        return from_rows(_biased(winograd.convolve(by_rows(x, dtype), kernel.astype(dtype, copy=False), g), bias))
    if plan.forwards == "shifted":
        return from_rows(shifted.convolve(by_rows(x, dtype), kernel.astype(dtype, copy=False), bias, g))
    if plan.forwards == "joined":
        high = g.output[0] if plan.rows else 1  # a window as high as the image has each row by itself
        z = in_one(innermost(x), kernel, bias, g, (high, 1), dtype)
        if plan.rows:
            return from_rows(z.reshape(high, filters, g.output[1], batch))
        return outermost(z.reshape(filters, *g.output, batch))
    matrix = kernel.reshape(kh * kw * channels, filters).T.astype(dtype, copy=False)  # (O, kh*kw*C)
    if plan.contiguous:
        matrix = np.ascontiguousarray(matrix)
    height, columns = g.output
    y = np.empty((height, filters, columns, batch) if plan.rows else (filters, height, columns, batch), dtype)
    given = images(x)
    for strip, seen, own, products in plan.strips:
        for part, patches in blocks(given[:, seen], own, plan.width, dtype, not plan.banded):
            target = _rows(y.transpose(1, 0, 2, 3) if plan.rows else y, part)[strip]
            for band, inside in products:
                np.matmul(matrix[:, inside], patches[band, inside], out=target[band])
    if plan.rows:
        return from_rows(_biased(y, bias))
    if bias is not None:
        y += bias[:, None, None, None]
    return outermost(y)


def in_one(x: Array, kernel: Array, bias: Array | None, g: Geometry, places: Pair, dtype: np.dtype) -> Array:
    """Images (C, H, W, N) -> outputs (ph*pw, O, OH/ph*OW/pw*N), those of each place of windows (ph, pw) side by side on
    them, by one product of all patches, with the bias as a row of it. For few windows.
    """
    (ph, pw), (sh, sw), (kh, kw, channels, filters), batch = places, g.stride, kernel.shape, x.shape[3]
    height, width, depth, more = g.output[0] // ph, g.output[1] // pw, kh * kw * channels, bias is not None
    x = pad(x, g, 0)
    c, h, w, item = x.strides
    shape = (ph, pw, kh, kw, channels, height, width, batch)
    strides = (sh * h, sw * w, h, w, c, ph * sh * h, pw * sw * w, item)
    patches = np.empty((ph * pw, depth + more, height * width * batch), dtype)
    patches[:, :depth].reshape(shape)[...] = np.ndarray(shape, x.dtype, x, strides=strides)
    matrix = kernel.reshape(depth, filters)
    if bias is not None:
        patches[:, depth] = 1
        matrix = np.concatenate([matrix, bias[None]])
    return np.matmul(matrix.T, patches)


def _biased(y: Array, bias: Array | None) -> Array:
    """Outputs by rows (OH, O, OW, N) with the bias added, in place."""
    if bias is not None:
        rows = y.reshape(len(y), -1)
        rows += shifted.row_of(bias, y).reshape(-1)
    return y


def laid(x: Array, g: Geometry, filters: int) -> Array:
    """Images (N, C, H, W) in the memory order in which `convolve` and `kernel_gradient` take them without a copy."""
    by_its_rows = _plan(g, x.shape[1], filters, len(x), x.dtype).forwards in _BY_ROWS
    return from_rows(by_rows(x)) if by_its_rows else outermost(images(x))


def _rows(x: Array, part: slice) -> Array:
    """Images (C, H, W, N), contiguous or by rows -> the view (H, C, W'*N) of a part of their columns: a matrix for each
    row.
    """
    channels, height, width, batch = x.shape
    item = x.itemsize
    column = batch * item  # counted out: what NumPy says of the stride of an axis of one may be anything
    memory, steps = x, (width * column, height * width * column)
    if not x.flags.c_contiguous:
        memory, steps = x.transpose(1, 0, 2, 3), (channels * width * column, width * column)
    shape = (height, channels, (part.stop - part.start) * batch)
    return np.ndarray(shape, x.dtype, memory, part.start * column, (*steps, item))


def kernel_gradient(x: Array, dy: Array, g: Geometry) -> Array:
    """x (N, C, H, W), dy (N, O, OH, OW) -> (kh, kw, C, O), summed over the batch."""
    channels, filters = x.shape[1], dy.shape[1]
    way = _plan(g, channels, filters, len(x), np.result_type(x, dy)).backwards
    if way == "winograd":
        return winograd.kernel_gradient(by_rows(x), by_rows(dy), g)
    if way == "joined":
        gradient = joined(innermost(x), g)[0].dot(innermost(dy).reshape(filters, -1).T)
        return gradient.reshape(*g.window, channels, filters)
    if way == "shifted":
        return shifted.kernel_gradient(by_rows(x), _rows(images(dy), slice(0, g.output[1])), g)
    total: Array | None = None
    cotangent = images(dy)  # (O, OH, OW, N)
    # The products are summed: narrow ones, for 32 -> 64 channels, would take 7.2 ms instead of 4.3.
    width = _width(g, channels, filters, x.shape[0], narrow=256)
    for part, patches in blocks(images(x), g, width, x.dtype):
        rows = _rows(cotangent, part).transpose(0, 2, 1)  # (OH, OW'*N, O)
        depth, width = patches.shape[1:]
        if depth >= 64 and depth * width * filters <= blas.SMALL:
            rows = np.ascontiguousarray(rows)  # 110 against 65 GFLOP/s for 16 -> 16 channels
        # Transposed products, (columns x R) @ (R x out), summed over rows: 638 -> 284 us for 16 -> 16 channels.
        share = np.matmul(patches, rows).sum(axis=0)  # (kh*kw*C, O)
        total = share if total is None else total + share
    return total.reshape(*g.window, channels, filters)  # type: ignore[union-attr]


def sample_kernel_gradients(x: Array, dy: Array, g: Geometry) -> Array:
    """X (N, C, H, W), dy (N, O, OH, OW) -> (N, kh, kw, C, O): each sample's kernel gradient."""
    batch, filters = dy.shape[:2]
    gradients = np.zeros((batch, g.window[0] * g.window[1] * x.shape[1], filters), np.result_type(x, dy))
    for part, patches in blocks(images(x), g, _width(g, x.shape[1], filters, batch), x.dtype):
        for h, row in enumerate(patches):  # (kh*kw*C, OW'*N)
            columns = row.reshape(len(row), -1, batch).transpose(2, 0, 1)  # (N, kh*kw*C, OW')
            gradients += np.matmul(columns, dy[:, :, h, part].transpose(0, 2, 1))
    return gradients.reshape(batch, *g.window, x.shape[1], filters)


def input_gradient(dy: Array, kernel: Array, g: Geometry) -> Array:
    """Dy (N, O, OH, OW), kernel (kh, kw, C, O) -> (N, C, H, W): the adjoint of `convolve` by its input."""
    channels, filters = kernel.shape[2:]
    if filters > channels and winograd.pays(g, channels, filters, np.result_type(dy, kernel)):
        return from_rows(winograd.input_gradient(by_rows(dy), kernel, g))
    full = _full(g)
    if full is None:
        return _scattered(dy, kernel, g)
    # The correlation of dy with the kernel turned by 180 degrees.
    turned = np.ascontiguousarray(kernel[::-1, ::-1].transpose(0, 1, 3, 2))  # (kh, kw, O, C)
    return convolve(dy, turned, None, full)


@lru_cache(maxsize=1024)
def _full(g: Geometry) -> Geometry | None:
    """Of stride 1: where the turned kernel lies on dy, such that each image place is seen by all windows it was in."""
    inner = (g.window[0] - 1 - g.before[0], g.window[1] - 1 - g.before[1])
    after = (g.window[0] - 1 - g.after[0], g.window[1] - 1 - g.after[1])
    if g.stride != (1, 1) or min(*inner, *after) < 0:
        return None
    return Geometry(g.window, (1, 1), inner, after, g.output, g.image)


def _scattered(dy: Array, kernel: Array, g: Geometry) -> Array:
    """The input gradient for any stride: each kernel entry's share, added where its window entry lay."""
    dtype = np.result_type(dy, kernel)
    kh, kw, channels, filters = kernel.shape
    batch, (oh, ow) = dy.shape[0], g.output
    rows = innermost(dy, dtype).reshape(filters, -1)  # (O, OH*OW*N)
    shape: Shape = (channels, *g.image, batch)
    dx = np.zeros(shape, dtype)
    for i in range(kh):
        first, last, top = reach(i, g.stride[0], g.before[0], g.image[0], oh)
        if last <= first:
            continue
        shares = kernel[i].reshape(kw * channels, filters).astype(dtype, copy=False) @ rows  # (kw*C, OH*OW*N)
        shares = shares.reshape(kw, channels, oh, ow, batch)
        for j in range(kw):
            begin, end, left = reach(j, g.stride[1], g.before[1], g.image[1], ow)
            if end <= begin:
                continue
            dx[
                :,
                top : top + (last - first - 1) * g.stride[0] + 1 : g.stride[0],
                left : left + (end - begin - 1) * g.stride[1] + 1 : g.stride[1],
            ] += shares[j, :, first:last, begin:end]
    return outermost(dx)


def bias_gradient(dy: Array) -> Array:
    """Dy (N, O, OH, OW) -> (O,)."""
    cotangent = images(dy)
    if cotangent.flags.c_contiguous:
        return blas.row_sums(cotangent.reshape(dy.shape[1], -1))
    # By rows the rows are added up first, which is half as long as each by itself: 16 x 32 x 26 x 26, 24 -> 12 us.
    rows = cotangent.transpose(1, 0, 2, 3).reshape(dy.shape[2], -1)  # (OH, O*OW*N)
    total = sum(blas.column_sums(rows[part]) for part in blas.parts(len(rows), rows.size, blas.FEW))
    return blas.row_sums(np.reshape(total, (dy.shape[1], -1)))

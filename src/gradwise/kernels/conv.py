"""Convolution (cross-correlation, as in every network library) and its two gradients, by whichever way is fastest: a
product of pixels, Winograd's algorithm, shifted views, products of all output rows, or patches, of which one batched
`matmul` over output rows makes the output.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np

from gradwise.kernels import blas, pointwise, shifted, ways, wide, winograd
from gradwise.kernels.patches import blocks, joined
from gradwise.kernels.pixels import write
from gradwise.kernels.windows import (
    Geometry,
    Pair,
    by_rows,
    from_rows,
    images,
    innermost,
    outermost,
    pad,
    reach,
)
from gradwise.typing import Array, Shape

# Numbers of patches up to which they are gathered by a table of their places, not copied row by row, and an image's
# padding with them: 1 -> 24 channels on 28 x 28, with the product, 43 -> 37 us, padded 58 -> 40, two images 107 -> 59;
# 1 -> 8 channels on 64 x 64 would take 1.14 of the time. A table takes 8 bytes a number, so 64 of them are
# 16 MB at the most.
_GATHERED = 1 << 15
_ENDS = np.array([0, 1], np.float32)


def convolve(x: Array, kernel: Array, bias: Array | None, g: Geometry) -> Array:
    """x (N, C, H, W), kernel (kh, kw, C, O), bias (O,) -> (N, O, OH, OW), in NumPy's promotion of x and kernel."""
    dtype = np.result_type(x, kernel)
    (kh, _, channels, filters), batch = kernel.shape, len(x)
    plan = ways.plan(g, channels, filters, batch, dtype)
    if plan.forwards == "pointwise":
        return pointwise.convolve(x, kernel, bias, g, dtype)
    if plan.forwards == "winograd":
        return from_rows(_biased(winograd.convolve(by_rows(x, dtype), kernel.astype(dtype, copy=False), g), bias))
    if plan.forwards == "shifted":
        return from_rows(shifted.convolve(by_rows(x, dtype), kernel.astype(dtype, copy=False), bias, g))
    if plan.forwards == "wide":
        return outermost(wide.convolve(images(x), kernel.astype(dtype, copy=False), bias, g, plan.copied))
    if plan.forwards == "joined":
        high = g.output[0] if plan.rows else 1  # a window as high as the image has each row by itself
        z = in_one(x.transpose(1, 2, 3, 0), kernel, bias, g, (high, 1), dtype)
        if plan.rows:
            return from_rows(z.reshape(high, filters, g.output[1], batch))
        return outermost(z.reshape(filters, *g.output, batch))
    rows, ones = kernel.reshape(kh, -1, filters), False
    if bias is not None and plan.one is not None:
        rows, bias, ones = _weighed(rows, bias, plan.one, dtype), None, True
    matrix, size = rows.reshape(-1, filters).T.astype(dtype, copy=False), rows.shape[1]  # (O, kh*size)
    if plan.contiguous:
        matrix = np.ascontiguousarray(matrix)
    height, columns = g.output
    y = np.empty((height, filters, columns, batch) if plan.rows else (filters, height, columns, batch), dtype)
    given = images(x)
    for strip, seen, own, products in plan.strips:
        for part, patches in blocks(given[:, seen], own, plan.width, dtype, not plan.banded, ones):
            target = _rows(y.transpose(1, 0, 2, 3) if plan.rows else y, part)[strip]
            for band, (low, high) in products:
                inside = slice(low * size, high * size)
                np.matmul(matrix[:, inside], patches[band, inside], out=target[band])
    if plan.rows:
        return from_rows(_biased(y, bias))
    if bias is not None:
        y += bias[:, None, None, None]
    return outermost(y)


def _weighed(rows: Array, bias: Array, place: int, dtype: np.dtype) -> Array:
    """A kernel (kh, kw*C, O) for patches with ones: in the row at `place` the bias is their weight, else 0.

    1 -> 32 channels on 28 x 28, 16 samples, by a pass over the outputs 155 us, so 108; 3 -> 32 on 32 x 32 350 and 270.
    """
    kh, numbers, filters = rows.shape
    weights = np.zeros((kh, numbers + 1, filters), dtype)
    weights[:, :-1] = rows
    weights[place, -1] = bias
    return weights


def in_one(x: Array, kernel: Array, bias: Array | None, g: Geometry, places: Pair, dtype: np.dtype) -> Array:
    """Images (C, H, W, N), however they lie -> outputs (ph*pw, O, OH/ph*OW/pw*N), those of each place of windows (ph,
    pw) side by side on them, by one product of all patches, with the bias as a row of it. For few windows.
    """
    channels, _, _, batch = x.shape
    depth, filters = kernel.size // kernel.shape[3], kernel.shape[3]
    if bias is None:
        matrix = kernel.reshape(depth, filters)
    else:
        matrix = np.empty((depth + 1, filters), dtype)
        matrix[:depth], matrix[depth] = kernel.reshape(depth, filters), bias
    if len(matrix) * g.output[0] * g.output[1] * batch <= _GATHERED:
        numbers = np.empty(x.size + 2, dtype)
        numbers[:-2].reshape(x.shape)[...] = x
        numbers[-2:] = _ENDS
        table = _table(g, places, channels, batch, len(matrix))
        # All places are there; to have NumPy look, as it does by default, one image of 28 x 28 takes 9.7 us, so 6.5.
        return np.matmul(matrix.T, numbers.take(table, mode="wrap"))
    patches = np.empty(_sizes(g, places, batch, len(matrix)), dtype)
    _copy(pad(np.ascontiguousarray(x), g, 0), g, places, patches)
    patches[:, depth:] = 1
    return np.matmul(matrix.T, patches)


def _sizes(g: Geometry, places: Pair, batch: int, depth: int) -> Shape:
    """The shape of all patches by the places of windows (ph, pw): (ph*pw, depth, OH/ph*OW/pw*N)."""
    ph, pw = places
    return ph * pw, depth, g.output[0] // ph * (g.output[1] // pw) * batch


def _copy(x: Array, g: Geometry, places: Pair, patches: Array) -> None:
    """Copy the patches of images (C, H, W, N), padded, to the first rows of an array of `_sizes`."""
    (ph, pw), (sh, sw), (kh, kw), (channels, _, _, batch) = places, g.stride, g.window, x.shape
    c, h, w, item = x.strides
    shape = (ph, pw, kh, kw, channels, g.output[0] // ph, g.output[1] // pw, batch)
    strides = (sh * h, sw * w, h, w, c, ph * sh * h, pw * sw * w, item)
    patches[:, : kh * kw * channels].reshape(shape)[...] = np.ndarray(shape, x.dtype, x, strides=strides)


@lru_cache(maxsize=64)
def _table(g: Geometry, places: Pair, channels: int, batch: int, depth: int) -> Array:
    """Where the numbers of all patches, with a row of ones, lie in memory: among those of images, behind which are a 0,
    for padding, and a 1.
    """
    shape = (channels, *g.image, batch)
    size = math.prod(shape)
    table = np.full(_sizes(g, places, batch, depth), size + 1)
    _copy(pad(np.arange(size).reshape(shape), g, size), g, places, table)
    table.flags.writeable = False
    return table


def _biased(y: Array, bias: Array | None) -> Array:
    """Outputs by rows (OH, O, OW, N) with the bias added, in place."""
    if bias is not None:
        rows = y.reshape(len(y), -1)
        rows += shifted.row_of(bias, y).reshape(-1)
    return y


def laid(x: Array, g: Geometry, filters: int) -> Array:
    """Images (N, C, H, W) in the memory order in which `convolve` and `kernel_gradient` take them without a copy."""
    by_its_rows = ways.plan(g, x.shape[1], filters, len(x), x.dtype).forwards in ways.BY_ROWS
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
    plan = ways.plan(g, channels, filters, len(x), np.result_type(x, dy))
    if plan.backwards == "pointwise":
        return pointwise.kernel_gradient(x, dy, g)
    if plan.backwards == "winograd":
        return winograd.kernel_gradient(by_rows(x), by_rows(dy), g)
    if plan.backwards == "joined":
        gradient = joined(innermost(x), g)[0].dot(innermost(dy).reshape(filters, -1).T)
        return gradient.reshape(*g.window, channels, filters)
    if plan.backwards == "wide":
        return wide.kernel_gradient(images(x), innermost(dy), g, plan.copied)
    if plan.backwards == "shifted":
        return shifted.kernel_gradient(by_rows(x), _rows(images(dy), slice(0, g.output[1])), g)
    total: Array | None = None
    cotangent = images(dy)  # (O, OH, OW, N)
    for part, patches in blocks(images(x), g, plan.summed, x.dtype):
        rows = _rows(cotangent, part)  # (OH, O, OW'*N)
        depth, width = patches.shape[1:]
        if not blas.PACKS and depth >= 64 and depth * width * filters <= blas.SMALL:
            # As columns: 110 against 65 GFLOP/s for 16 -> 16 channels. Where BLAS packs F at 8 would take 1.05.
            rows = np.ascontiguousarray(rows.transpose(0, 2, 1)).transpose(0, 2, 1)
        # Transposed products, (columns x R) @ (R x out), summed over rows: 638 -> 284 us for 16 -> 16 channels.
        share = blas.rows_by_rows(patches, rows)  # (kh*kw*C, O)
        total = share if total is None else total + share
    return total.reshape(*g.window, channels, filters)  # type: ignore[union-attr]


def sample_kernel_gradients(x: Array, dy: Array, g: Geometry) -> Array:
    """X (N, C, H, W), dy (N, O, OH, OW) -> (N, kh, kw, C, O): each sample's kernel gradient."""
    batch, filters = dy.shape[:2]
    gradients = np.zeros((batch, g.window[0] * g.window[1] * x.shape[1], filters), np.result_type(x, dy))
    width = ways.plan(g, x.shape[1], filters, batch, gradients.dtype).width
    for part, patches in blocks(images(x), g, width, x.dtype):
        for h, row in enumerate(patches):  # (kh*kw*C, OW'*N)
            columns = row.reshape(len(row), -1, batch).transpose(2, 0, 1)  # (N, kh*kw*C, OW')
            gradients += np.matmul(columns, dy[:, :, h, part].transpose(0, 2, 1))
    return gradients.reshape(batch, *g.window, x.shape[1], filters)


def input_gradient(dy: Array, kernel: Array, g: Geometry) -> Array:
    """Dy (N, O, OH, OW), kernel (kh, kw, C, O) -> (N, C, H, W): the adjoint of `convolve` by its input."""
    channels, filters = kernel.shape[2:]
    plan = ways.plan(g, channels, filters, len(dy), np.result_type(dy, kernel))
    if plan.inputs == "winograd":
        return from_rows(winograd.input_gradient(by_rows(dy), kernel, g))
    if plan.turned is None:
        return _by_places(dy, kernel, g)
    turned = np.ascontiguousarray(kernel[::-1, ::-1].transpose(0, 1, 3, 2))  # (kh, kw, O, C)
    return convolve(dy, turned, None, plan.turned)


def _by_places(dy: Array, kernel: Array, g: Geometry) -> Array:
    """The input gradient for any stride: of all pixels that have one place between two strides at a time, such that the
    shares of the kernel's entries are added up side by side, and each pixel is written once.

    64 -> 128 channels on 56 x 56, 8 samples, 8.4 -> 5.9 ms, 32 -> 64 on 28 x 28, 2 samples, 630 -> 210 us. Convolutions
    of those places would take 1.1 to 2.9 times as long where there are 64 filters or more.
    """
    (channels, filters), dtype = kernel.shape[2:], np.result_type(dy, kernel)
    cotangent = innermost(dy, dtype)
    shape: Shape = (channels, *g.image, len(dy))
    dx = np.zeros(shape, dtype)
    for pixels, windows, entries, own in ways.places(g):
        seen = np.ascontiguousarray(cotangent[:, *windows]).reshape(filters, -1)
        matrix = kernel[entries].reshape(-1, filters).astype(dtype, copy=False)
        shares = (matrix @ seen).reshape(-1, channels, *own.image, len(dy))
        write(dx[:, *pixels], _added(shares, own))
    return outermost(dx)


def _added(shares: Array, g: Geometry) -> Array:
    """What each entry of windows, one by one, adds to the outputs, (entries, C, H, W, N), together: (C, OH, OW, N)."""
    rows, columns = ([reach(k, 1, g.before[a], g.image[a], g.output[a]) for k in range(g.window[a])] for a in (0, 1))
    lie = list(itertools.product(rows, columns))
    everywhere = (0, g.output[0], 0), (0, g.output[1], 0)
    whole = lie.index(everywhere) if g.image == g.output and everywhere in lie else None
    shape: Shape = (shares.shape[1], *g.output, shares.shape[4])
    total = np.zeros(shape, shares.dtype) if whole is None else shares[whole]
    for entry, ((top, bottom, of_top), (left, right, of_left)) in enumerate(lie):
        if entry != whole and bottom > top and right > left:
            part = shares[entry, :, of_top : of_top + bottom - top, of_left : of_left + right - left]
            total[:, top:bottom, left:right] += part
    return total


def bias_gradient(dy: Array) -> Array:
    """Dy (N, O, OH, OW) -> (O,)."""
    cotangent = images(dy)
    if cotangent.flags.c_contiguous:
        return blas.row_sums(cotangent.reshape(dy.shape[1], -1))
    # By rows the rows are added up first, which is half as long as each by itself: 16 x 32 x 26 x 26, 24 -> 12 us.
    rows = cotangent.transpose(1, 0, 2, 3).reshape(dy.shape[2], -1)  # (OH, O*OW*N)
    total = sum(blas.column_sums(rows[part]) for part in blas.parts(len(rows), rows.size, blas.FEW))
    return blas.row_sums(np.reshape(total, (dy.shape[1], -1)))

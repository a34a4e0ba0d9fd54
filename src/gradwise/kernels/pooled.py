"""Convolution, the max pooling behind it and a ReLU in one go, batch innermost: what lies between is never whole.

The columns of a pooling window are computed as outputs of their own: for a pooling window pw wide, one product of a
row's patches, with the kernel once for each place in the window,

    (pw*O, kh*S*C) @ (kh*S*C, PW*N),   S = kw + (pw - 1) * stride shifts of the kernel's columns, PW pooled columns,

gives them as pw contiguous blocks, of which pooling is the maximum. A few rows at a time stay in the cache, forwards
and backwards; each place of a window has a block of its own, of all those rows, so that what is done number by number
runs along long rows. The zeros in the wider kernel cost S / kw times the multiplications, 4/3 for 3 x 3 before pooling
by 2, and the narrower patches half the copies. Measured with pooling by 2 against one after the other, forward and
backward together: 1 -> 24 channels on 28 x 28, batch 16, 590 -> 400 us; batch 128, 4.7 -> 2.7 ms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from gradwise.kernels import blas, conv
from gradwise.kernels.patches import blocks, joined
from gradwise.kernels.windows import Geometry, innermost, outermost
from gradwise.typing import Array

# Numbers of the outputs worked on at a time. With 1 MB of L2 a core, 1 << 18 takes 1.04 of the time of 1 << 19, 1 << 16
# 1.2 and 1 << 20 1.1; with 2 MB 0.88, at batch 128. E at batch 32, in 6, 6 and 1 rows, 1150 us, in 6 and 7 1115. Where
# BLAS packs, longer products gain more: with 512 KB of L2 by 1 << 19 E at 32 0.94, 48 0.87, 64 0.95, 128 0.83 to 0.88.
_CACHED = 1 << 19 if blas.PACKS else 1 << 18
_ALL = 1 << 18  # numbers of the outputs up to which all windows go into one product
_NEAR = 2_000_000  # numbers of patches that are still near when the last of them are multiplied: see `_long`
_TINY = 64_000  # multiplications of a row, below which all rows are copied for one product of each of a window's rows
# Numbers of a patch from which the zeros cost more than the copies: forward and kernel gradient take at batch 16 0.88
# of the time with 3 channels, 0.81 with 4, 1.15 with 8; at batch 128 0.96, 1.03 and 0.85.
_DEEP = 50


class Piece(NamedTuple):
    """Some pooled rows and columns, worked on at a time; or rows with all columns, joined to one long row."""

    rows: slice
    columns: slice
    joined: bool = False

    def of(self, y: Array) -> Array:
        """Of images (O, PH, PW, N), the piece as a view (O, R, PW'*N); joined it is (O, 1, R*PW*N)."""
        filters, height, width, batch = y.shape
        if self.joined:
            row = width * batch
            return y.reshape(filters, 1, -1)[:, :, self.rows.start * row : self.rows.stop * row]
        return y.reshape(filters, height, -1)[:, self.rows, self.columns.start * batch : self.columns.stop * batch]


class Winners(NamedTuple):
    """Of a piece: which entry of a window is its first maximum, by the row it lies in and by the column."""

    piece: Piece
    # (ph, pw, O, R, PW'*N): of a window's row, whether it lies there, or nowhere, where a ReLU lets nothing through, in
    # the first column's place; in those of the others, whether it lies in that column, if it is in that row.
    marks: Array
    patches: Array | None  # where they lie in memory of their own: 1 -> 24 channels on 14 x 14, batch 16, 47 -> 39 us


@lru_cache(maxsize=1024)
def pays(g: Geometry, pooling: Geometry, channels: int) -> bool:
    """Whether the two can go together, and are faster so."""
    beside = pooling.stride == pooling.window and not any(pooling.before) and not any(pooling.after)
    small = max(pooling.window) <= 3 and pooling.window[1] > 1
    return beside and small and g.window[0] * g.window[1] * channels < _DEEP and min(pooling.output) > 0


@lru_cache(maxsize=1024)
def _together(g: Geometry, pooling: Geometry) -> Geometry:
    """Where the kernels of a pooling window's columns lie: one window, a pooled column further for each."""
    (ph, pw), sw = pooling.window, g.stride[1]
    shifts = g.window[1] + (pw - 1) * sw
    return g._replace(
        window=(g.window[0], shifts), stride=(g.stride[0], pw * sw), output=(ph * pooling.output[0], pooling.output[1])
    )


def _pieces(x: Array, g: Geometry, pooling: Geometry, filters: int, dtype: np.dtype) -> Iterator[tuple[Piece, Array]]:
    """Piece by piece of the pooled images, its patches (ph, R, kh*S*C, PW'*N)."""
    (ph, pw), (height, width), batch = pooling.window, pooling.output, x.shape[3]
    wide, few = _together(g, pooling), _few(g, pooling, len(x), filters, batch)
    row = ph * pw * filters * batch  # numbers made of a pooled row, for each pooled column
    step = min(width, max(1, _CACHED // row))
    rows = height if few else max(1, _CACHED // (row * step))
    starts = range(0, max(1, height - rows // 5), rows)  # a last piece of little goes with the one before
    cuts = list(itertools.pairwise((*starts, height)))
    if few or (blas.shares() and _long(g, pooling, len(x), filters, batch)):
        seen = joined(x, wide, ph).astype(dtype, copy=False)[:, None]  # (ph, 1, kh*S*C, PH*PW*N)
        for start, stop in cuts:
            part = slice(start * width * batch, stop * width * batch)
            yield Piece(slice(start, stop), slice(0, width), True), seen[..., part]
        return
    for columns, patches in blocks(x, wide, step, dtype):
        lines = patches.reshape(height, ph, *patches.shape[1:]).swapaxes(0, 1)
        for start, stop in cuts:
            yield Piece(slice(start, stop), columns), lines[:, start:stop]


@lru_cache(maxsize=1024)
def _few(g: Geometry, pooling: Geometry, channels: int, filters: int, batch: int) -> bool:
    """Whether all windows go into one product."""
    numbers = math.prod(pooling.window) * math.prod(pooling.output) * filters * batch
    return _line(g, pooling, channels, filters, batch) <= _TINY and numbers <= _ALL


@lru_cache(maxsize=1024)
def _long(g: Geometry, pooling: Geometry, channels: int, filters: int, batch: int) -> bool:
    """Whether products, of which two threads share each, are best made of all lines of a piece: of lines that they
    would not share, E at 16 and 32 0.86 and 0.84 of the time, D at 32 and 128 0.90; of others, unless what is copied
    for all of them leaves the caches. E at 128 0.93, 3 -> 16 channels on 100 x 100, batch 16, 1.8 million numbers,
    0.90; 1 -> 16 by 5 x 5 on 64 x 64, batch 64, 2.1 million, 1.05, 3 -> 16 on 224 x 224, batch 8, 4.8 million, 1.09.
    """
    (kh, shifts), (height, width) = _together(g, pooling).window, pooling.output
    copied = (kh + (pooling.window[0] - 1) * g.stride[0]) * shifts * channels * height * width * batch
    return copied <= _NEAR or _line(g, pooling, channels, filters, batch) < blas.SHARED


@lru_cache(maxsize=1024)
def _line(g: Geometry, pooling: Geometry, channels: int, filters: int, batch: int) -> int:
    """The multiplications of the product of a line of windows."""
    kh, shifts = _together(g, pooling).window
    return kh * shifts * channels * pooling.window[1] * filters * pooling.output[1] * batch


def _widened(kernel: Array, g: Geometry, pooling: Geometry, dtype: np.dtype) -> Array:
    """The kernel (kh, kw, C, O) once for each place of a pooling window's row, where it lies there: (pw*O, kh*S*C)."""
    kh, kw, channels, filters = kernel.shape
    shifts, sw, pw = _together(g, pooling).window[1], g.stride[1], pooling.window[1]
    wide = np.zeros((pw, filters, kh, shifts, channels), dtype)
    place, *others = wide.strides
    shape = (pw, filters, kh, kw, channels)
    shifted = np.ndarray(shape, dtype, wide, strides=(place + sw * others[2], *others))
    shifted[...] = kernel.transpose(3, 0, 1, 2)
    return wide.reshape(pw * filters, -1)


def convolve(
    x: Array, kernel: Array, bias: Array | None, g: Geometry, pooling: Geometry, relu: bool, training: bool
) -> tuple[Array, list[Winners]]:
    """x (N, C, H, W), kernel (kh, kw, C, O), bias (O,) -> the pooled outputs (N, O, PH, PW), or what a ReLU makes of
    them, and, in training, what the gradients need.
    """
    dtype = np.result_type(x, kernel)
    filters, (ph, pw) = kernel.shape[3], pooling.window
    if not training and _few(g, pooling, x.shape[1], filters, len(x)):
        # One image of 28 x 28, 24 filters: 19 us, by a widened kernel 28.
        z = conv.in_one(x.transpose(1, 2, 3, 0), kernel, bias, g, pooling.window, dtype)  # (ph*pw, O, PH*PW*N)
        highest = np.maximum.reduce(z, axis=0, initial=0) if relu else np.maximum.reduce(z, axis=0)
        return outermost(highest.reshape(filters, *pooling.output, len(x))), []
    matrix = _widened(kernel, g, pooling, dtype)  # (pw*O, kh*S*C)
    y = np.empty((filters, *pooling.output, x.shape[0]), dtype)
    winners = []
    for piece, patches in _pieces(innermost(x), g, pooling, filters, dtype):
        z = np.empty((ph, pw, filters, patches.shape[1], patches.shape[3]), dtype)
        np.matmul(matrix, patches, out=_by_lines(z))
        marks = np.empty(z.shape, bool) if training else None
        _highest(z, bias, relu, piece.of(y), marks)
        if marks is not None:
            whole = piece.columns.stop - piece.columns.start == pooling.output[1]
            winners.append(Winners(piece, marks, patches if whole else None))
        del z  # the next piece is given the same memory, which is in the cache
    return outermost(y), winners


def _by_lines(z: Array) -> Array:
    """Of a piece before pooling, (ph, pw, O, R, PW'*N), each line of windows as a matrix: (ph, R, pw*O, PW'*N)."""
    ph, pw, filters, rows, numbers = z.shape
    return z.reshape(ph, pw * filters, rows, numbers).swapaxes(1, 2)


def _highest(z: Array, bias: Array | None, relu: bool, out: Array, marks: Array | None) -> None:
    """The largest number of each window of z (ph, pw, O, R, PW'*N), which is written over, and what a bias and a ReLU
    make of it, in `out`; also where it lies, as `Winners` has it, if that is asked.
    """
    columns = None if marks is None else marks.swapaxes(0, 1)
    rows = None if marks is None else marks[:, 0]
    highest = _compete(_compete(z.swapaxes(0, 1), columns), rows)  # (O, R, PW'*N)
    if bias is not None:
        highest += bias[:, None, None]
    if columns is not None and rows is not None:
        if relu:
            np.greater(highest, 0, out=rows[0])
            rows[1:] &= rows[0]
        else:
            rows[0] = True
        _last(rows)
        _last(columns[1:])
    if relu:
        # Long rows, out of their order: with a row of zeros E at batch 128 takes 0.985 of the time that it takes by
        # `clip`, inference at 256 0.963.
        np.maximum(highest, np.zeros(highest.shape[2], highest.dtype), out=out)
    else:
        out[...] = highest


def _compete(numbers: Array, won: Array | None) -> Array:
    """The largest of several, over the last; for all but the first also where it is larger than those before it, in
    `won`, if that is asked. All but the first are written over.
    """
    highest = numbers[0]
    for place in range(1, len(numbers)):
        number = numbers[place]
        if won is not None:
            np.greater(number, highest, out=won[place])
        highest = np.maximum(highest, number, out=number)
    return highest


def _last(marks: Array) -> None:
    """Of several marks in one place, leave the last."""
    for place in range(len(marks) - 2, -1, -1):
        for later in marks[place + 1 :]:
            np.greater(marks[place], later, out=marks[place])


def _cotangent(dy: Array, won: Winners) -> Array:
    """What arrives behind pooling, dy (O, PH, PW, N), before it, for a piece: (ph, pw, O, R, PW'*N). Of a window's
    columns the first is given what belongs to all of them.
    """
    # By numbers: 590 KB take 32 us so, by truth values themselves 41. As integers they become those 7 % sooner.
    dz = won.marks.view(np.int8).astype(dy.dtype)
    first, *others = dz.swapaxes(0, 1)
    first *= won.piece.of(dy)
    for other in others:
        other *= first
    return dz


def gradients(x: Array, dy: Array, winners: list[Winners], g: Geometry, pooling: Geometry) -> tuple[Array, Array]:
    """x (N, C, H, W), dy (N, O, PH, PW) -> by kernel (kh, kw, C, O) and bias (O,), summed over the batch."""
    (kh, kw), pw, sw, filters = g.window, pooling.window[1], g.stride[1], dy.shape[1]
    cotangent = innermost(dy)
    total: Array | None = None
    by_bias = np.zeros(filters, dy.dtype)
    kept = [won.patches for won in winners if won.patches is not None]
    seen = kept or (patches for _, patches in _pieces(innermost(x), g, pooling, filters, x.dtype))
    for patches, won in zip(seen, winners, strict=True):
        dz = _cotangent(cotangent, won)
        # Pooling hands each number on to one place.
        by_bias += np.add.reduce(blas.row_sums(dz[:, 0].reshape(len(dz), filters, -1)), axis=0)
        share = blas.rows_by_rows(patches, _by_lines(dz))  # (kh*S*C, pw*O)
        total = share if total is None else total + share
        del dz
    wide = total.reshape(kh, -1, x.shape[1], pw, filters)  # type: ignore[union-attr]
    gradient = wide[:, :kw, :, 0]
    for b in range(1, pw):  # what belongs to a column, from where the first one saw it to where it lies
        gradient = gradient + (wide[:, b * sw : b * sw + kw, :, b] - wide[:, :kw, :, b])
    return gradient, by_bias


def input_gradient(dy: Array, kernel: Array, winners: list[Winners], g: Geometry, pooling: Geometry) -> Array:
    """dy (N, O, PH, PW), kernel (kh, kw, C, O) -> (N, C, H, W)."""
    (ph, pw), (batch, filters) = pooling.window, dy.shape[:2]
    cotangent = innermost(dy)
    full = np.zeros((filters, *g.output, batch), dy.dtype)  # before pooling
    for won in winners:
        rows, columns, _ = won.piece
        height, width = rows.stop - rows.start, columns.stop - columns.start
        dz = _cotangent(cotangent, won)
        for b in range(1, pw):
            dz[:, 0] -= dz[:, b]  # exact: all of it, or nothing
        dz = dz.reshape(ph, pw, filters, height, width, batch).transpose(2, 3, 0, 4, 1, 5)
        target = full[:, ph * rows.start : ph * rows.stop, pw * columns.start : pw * columns.stop]
        target.reshape(filters, height, ph, width, pw, batch)[...] = dz
    return conv.input_gradient(outermost(full), kernel, g)

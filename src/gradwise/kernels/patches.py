"""The windows of images, copied to be the columns of matrices.

Only the kernel's width is copied: columns (H, kw, C, OW*N). Rows h .. h+kh-1 of it lie one behind the other, so they
are, without a copy, the (kh*kw*C, OW*N) matrix of output row h, and one batched `matmul` over output rows convolves
(378 against 203 us with all kh*kw copies, 16 -> 16 channels, batch 16). Wide outputs are worked on in blocks of
columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from gradwise.kernels.pixels import fill
from gradwise.kernels.windows import Geometry, pad, reach
from gradwise.typing import Array


def blocks(
    x: Array, g: Geometry, width: int, dtype: np.dtype, edges: bool = True, ones: bool = False
) -> Iterator[tuple[slice, Array]]:
    """For each block of `width` output columns: which they are, and their patches (OH, kh*kw*C, OW'*N).

    x : images (C, H, W, N). The patches are a view of a buffer that the next block overwrites.
    edges : whether the padding above and below is filled in; who leaves it out of the products has no need of it.
    ones : whether each row of a window has a one behind its numbers, which a bias is multiplied by: (OH, kh*(kw*C + 1),
    OW'*N).
    """
    channels, height, _, batch = x.shape
    top, bottom, (kh, kw) = g.before[0], g.after[0], g.window
    rows = x.transpose(1, 0, 2, 3)  # (H, C, W, N)
    width, seen = min(max(width, 1), g.output[1]), kw * channels
    buffer: Array | None = None
    for begin in range(0, g.output[1], width):
        size = min(width, g.output[1] - begin)
        if buffer is None or buffer.shape[2] != size:
            buffer = np.empty((top + height + bottom, seen + ones, size, batch), dtype)
            if edges:
                buffer[:top] = 0
                buffer[top + height :] = 0
            if ones:
                buffer[:, seen] = 1
        for j, (padding, inside, of) in enumerate(columns(g, begin, size)):
            target = buffer[top : top + height, j * channels : (j + 1) * channels]  # (H, C, OW', N)
            for part in padding:
                target[:, :, part] = 0
            if g.stride[1] > 1:
                fill(target[:, :, inside], rows[:, :, of])
            else:  # asked for nothing, that takes a step of F at batch 8 1.01 times as long
                target[:, :, inside] = rows[:, :, of]
        row, item = buffer.strides[0], buffer.itemsize
        yield (
            slice(begin, begin + size),
            np.ndarray(
                (g.output[0], kh * (seen + ones), size * batch),
                dtype,
                buffer,
                strides=(g.stride[0] * row, size * batch * item, item),
            ),
        )


@lru_cache(maxsize=1024)
def columns(g: Geometry, begin: int, size: int) -> list[tuple[list[slice], slice, slice]]:
    """For each column of the kernel, of `size` output columns from `begin` on: those it sees in the padding, those it
    sees inside the image, and where in the image.
    """
    found = []
    for j in range(g.window[1]):
        stride = g.stride[1]
        first, last, start = reach(begin * stride + j, stride, g.before[1], g.image[1], size)
        first, last = min(first, size), max(last, 0)
        if last <= first:
            found.append(([slice(0, size)], slice(0, 0), slice(0, 0)))
            continue
        padding = [part for part in (slice(0, first), slice(last, size)) if part.stop > part.start]
        found.append((padding, slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)))
    return found


def joined(x: Array, g: Geometry, every: int = 1) -> Array:
    """The patches of all windows of images (C, H, W, N) side by side, those of every so many rows by themselves:
    (every, kh*kw*C, OH/every*OW*N). Rows of images that several of those see are copied once.
    """
    x = pad(x, g, 0)
    (channels, _, _, batch), (kh, kw), (height, width) = x.shape, g.window, g.output
    c, h, w = x.strides[:3]
    rows = kh + (every - 1) * g.stride[0]
    shape = (rows, kw, channels, height // every, width, batch)
    strides = (h, w, c, every * g.stride[0] * h, g.stride[1] * w, x.itemsize)
    seen = np.ascontiguousarray(np.ndarray(shape, x.dtype, x, strides=strides).reshape(rows, kw * channels, -1))
    row, number, item = seen.strides
    return np.ndarray(
        (every, kh * kw * channels, seen.shape[2]), x.dtype, seen, strides=(g.stride[0] * row, number, item)
    )

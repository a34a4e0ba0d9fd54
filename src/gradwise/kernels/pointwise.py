"""Convolution by windows of one pixel: a product of the kernel and the pixels as they lie, by as many threads as BLAS
has. Patches, or products of rows by themselves, which one thread makes, take 1.3 to 2.7 times as long. Of windows some
pixels apart those are copied that they see.
"""

from __future__ import annotations

import numpy as np

from gradwise.kernels.windows import Geometry, by_rows, from_rows, images, innermost, outermost
from gradwise.typing import Array

# Numbers of a kernel up to which its gradient is made of rows of images, of so many numbers and more, summed: 16 -> 16
# channels on 28 x 28 at batch 32 288 -> 182 us; 64 -> 64 on 12 x 12 at batch 64 takes 507 in one product, and 545, 64
# -> 16 on 28 x 28 for one sample 11 and 35.
_FEW, _LONG = 1 << 10, 256


def pays(g: Geometry) -> bool:
    """Whether that is what the geometry is."""
    return g.window == (1, 1) and not any(g.before) and not any(g.after)


def convolve(x: Array, kernel: Array, bias: Array | None, g: Geometry, dtype: np.dtype) -> Array:
    """x (N, C, H, W), kernel (1, 1, C, O), bias (O,) -> (N, O, OH, OW); of windows side by side in memory as x lies."""
    channels, filters = kernel.shape[2:]
    matrix = np.ascontiguousarray(kernel.reshape(channels, filters).T, dtype)
    given = images(_seen(x, g)).astype(dtype, copy=False)  # (C, OH, OW, N)
    _, height, width, batch = given.shape
    together = given.flags.c_contiguous
    # (O, OH*OW*N), or by rows (OH, O, OW*N). `dot` would fill it with zeros first: 16 -> 64, 32 x 28 x 28, 335 and 910.
    y = matrix @ (given.reshape(channels, -1) if together else _rows(given))
    if bias is not None:
        y += bias[:, None]
    if together:
        return outermost(y.reshape(filters, height, width, batch))
    return from_rows(y.reshape(height, filters, width, batch))


def kernel_gradient(x: Array, dy: Array, g: Geometry) -> Array:
    """x (N, C, H, W), dy (N, O, OH, OW) -> (1, 1, C, O), summed over the batch."""
    given = images(_seen(x, g))  # (C, OH, OW, N)
    channels, filters = x.shape[1], dy.shape[1]
    together = given.flags.c_contiguous
    cotangent = innermost(dy) if together else by_rows(dy).transpose(1, 0, 2, 3)
    if together and (channels * filters > _FEW or given[0, 0].size < _LONG):
        gradient = given.reshape(channels, -1).dot(cotangent.reshape(filters, -1).T)
    else:
        gradient = np.matmul(_rows(given), _rows(cotangent).transpose(0, 2, 1)).sum(axis=0)
    return gradient.reshape(1, 1, channels, filters)


def _seen(x: Array, g: Geometry) -> Array:
    """The pixels of x (N, C, H, W) that are windows: (N, C, OH, OW)."""
    if g.stride == (1, 1):
        return x
    (sh, sw), (oh, ow) = g.stride, g.output
    return x[:, :, : (oh - 1) * sh + 1 : sh, : (ow - 1) * sw + 1 : sw]


def _rows(x: Array) -> Array:
    """Images (C, H, W, N), contiguous or by rows -> the view (H, C, W*N)."""
    channels, height = x.shape[:2]
    return x.transpose(1, 0, 2, 3).reshape(height, channels, -1)

"""Pooling over windows, one axis after the other, batch innermost."""

from __future__ import annotations

import math

import numpy as np

from gradwise.kernels.windows import Geometry, crop, innermost, outermost, pad
from gradwise.typing import Array


def _entry(x: Array, axis: int, offset: int, stride: int, count: int) -> Array:
    """The window entry `offset` of each of `count` windows along `axis`: a view."""
    cut = slice(offset, offset + (count - 1) * stride + 1, stride)
    return x[:, cut] if axis == 1 else x[:, :, cut]


def _maxima(x: Array, axis: int, size: int, stride: int, count: int) -> Array:
    """The maximum of each window along `axis` of images (C, H, W, N)."""
    if size == 1:
        return _entry(x, axis, 0, stride, count)
    m = np.maximum(_entry(x, axis, 0, stride, count), _entry(x, axis, 1, stride, count))
    for offset in range(2, size):
        np.maximum(m, _entry(x, axis, offset, stride, count), out=m)
    return m


def _route(x: Array, m: Array, dm: Array, axis: int, size: int, stride: int) -> Array:
    """Send dm to the first entry along `axis` that equals its window's maximum m; overlapping windows add up."""
    count = m.shape[axis]
    disjoint = stride >= size
    covered = stride == size and count * size == x.shape[axis]
    dx = (np.empty if covered else np.zeros)(x.shape, dm.dtype)
    rest = dm
    for offset in range(size):
        target = _entry(dx, axis, offset, stride, count)
        if offset < size - 1:
            share = rest * (_entry(x, axis, offset, stride, count) == m)
            rest = rest - share  # exact: each entry is all of rest or nothing
        else:
            share = rest  # the maximum is somewhere
        if disjoint:
            target[...] = share
        else:
            target += share
    return dx


def max_pool(x: Array, g: Geometry) -> tuple[Array, tuple[Array, Array, Array]]:
    """X (N, C, H, W) -> y (N, C, OH, OW), and what `max_pool_gradient` needs. Padding never wins."""
    padded = pad(innermost(x), g, -np.inf)
    m = _maxima(padded, 2, g.window[1], g.stride[1], g.output[1])  # along W
    y = _maxima(m, 1, g.window[0], g.stride[0], g.output[0])  # then along H
    return outermost(y), (padded, m, y)


def max_pool_gradient(dy: Array, saved: tuple[Array, Array, Array], g: Geometry) -> Array:
    """Dy (N, C, OH, OW) -> (N, C, H, W): to the first maximum of each window, in row-major order."""
    padded, m, y = saved
    dm = _route(m, y, innermost(dy), 1, g.window[0], g.stride[0])
    return outermost(crop(_route(padded, m, dm, 2, g.window[1], g.stride[1]), g))


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
    height, width = (low + size + high for low, size, high in zip(g.before, g.image, g.after, strict=True))
    share = innermost(dy) * _counts(g, dy.dtype)
    rows = _spread(share, 1, height, g.window[0], g.stride[0])
    return outermost(crop(_spread(rows, 2, width, g.window[1], g.stride[1]), g))


def global_max(x: Array) -> tuple[Array, Array]:
    """X (N, C, H, W) -> y (N, C), and the position (C, N) of each first maximum in row-major order."""
    pixels = innermost(x).reshape(x.shape[1], -1, x.shape[0])  # (C, H*W, N)
    return pixels.max(axis=1).T, pixels.argmax(axis=1)


def global_max_gradient(dy: Array, position: Array, image: tuple[int, int]) -> Array:
    """Dy (N, C) -> (N, C, H, W): to the first maximum."""
    batch, channels = dy.shape
    dx = np.zeros((channels, math.prod(image), batch), dy.dtype)
    np.put_along_axis(dx, position[:, None, :], dy.T[:, None, :], axis=1)
    return outermost(dx.reshape(channels, *image, batch))

"""The geometry of windows that slide over images, and the memory order of images: shared by convolution and pooling."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gradwise.typing import Array, Shape

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """Where windows of one size lie on images of one size. Pairs are (height, width)."""

    window: Pair
    stride: Pair
    before: Pair  # padding above, and to the left
    after: Pair  # padding below, and to the right
    image: Pair
    output: Pair


def geometry(image: Pair, window: Pair, stride: Pair, padding: str | Pair) -> Geometry:
    """Place windows of size `window`, `stride` apart, on an image.

    padding : "valid" (none), "same" (the output is ceil(image / stride), as in TensorFlow and Keras: an odd number of
    padding rows puts the larger part below), or (rows above and below, columns left and right).
    The output is empty (a size of 0 or less) where the window is larger than the padded image.
    """
    before, after, output = [], [], []
    for axis in (0, 1):
        size, k, s = image[axis], window[axis], stride[axis]
        if padding == "same":
            total = max((-(-size // s) - 1) * s + k - size, 0)
            low, high = total // 2, total - total // 2
        elif padding == "valid":
            low = high = 0
        else:
            low = high = int(padding[axis])
        before.append(low)
        after.append(high)
        output.append((size + low + high - k) // s + 1)
    return Geometry(window, stride, _pair(before), _pair(after), image, _pair(output))


def _pair(values: list[int]) -> Pair:
    return values[0], values[1]


def innermost(x: Array, dtype: np.dtype | None = None) -> Array:
    """(N, C, H, W) in any memory order -> (C, H, W, N), contiguous; a view where it is so already."""
    return np.ascontiguousarray(x.transpose(1, 2, 3, 0), dtype)


def batch_innermost(x: Array) -> Array:
    """(N, C, H, W), laid batch innermost in memory once for all that asks for it: 42 us for 128 images of 28 x 28."""
    return outermost(innermost(x))


def outermost(x: Array) -> Array:
    """(C, H, W, N) -> the view (N, C, H, W)."""
    return x.transpose(3, 0, 1, 2)


def reach(offset: int, stride: int, before: int, size: int, output: int) -> tuple[int, int, int]:
    """(first, last, start): the output positions first..last-1 whose window entry `offset` lies inside the image, and
    the image position of the first of them. last <= first where there are none.
    """
    first = max(0, -(-(before - offset) // stride))
    last = min(output, (size - 1 + before - offset) // stride + 1)
    return first, last, first * stride + offset - before


def extent(g: Geometry) -> Pair:
    """The height and width of an image with its padding."""
    return g.before[0] + g.image[0] + g.after[0], g.before[1] + g.image[1] + g.after[1]


def pad(x: Array, g: Geometry, value: float) -> Array:
    """Images (C, H, W, N) with the padding of `g` filled with `value`; x itself where there is none."""
    if not any(g.before) and not any(g.after):
        return x
    (top, left), (height, width) = g.before, g.image
    shape: Shape = (x.shape[0], *extent(g), x.shape[3])
    padded = np.full(shape, value, x.dtype)
    padded[:, top : top + height, left : left + width] = x
    return padded


def crop(padded: Array, g: Geometry) -> Array:
    """The image part of an array with the padding of `g`: the adjoint of `pad`."""
    (top, left), (height, width) = g.before, g.image
    return padded[:, top : top + height, left : left + width]

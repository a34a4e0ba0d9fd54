"""Pooling over windows, and over whole images."""

from __future__ import annotations

import numpy as np

from gradwise.errors import ArgumentError, ShapeError
from gradwise.kernels import averages, pool
from gradwise.kernels.windows import Geometry, geometry, lies_by_rows
from gradwise.layers.base import Layer, features, pair
from gradwise.layers.sliding import Padding, Size, place, window_padding
from gradwise.typing import Array, Pullback, Shape


class _Pooling(Layer):
    """The arguments and shapes that both window poolings have."""

    def __init__(self, pool_size: Size = 2, stride: Size | None = None, padding: Padding = "valid") -> None:
        name = type(self).__name__
        window = pair(pool_size, f"{name}: pool_size")
        if stride is not None:
            pair(stride, f"{name}: stride")
        border = window_padding(padding, name)
        if not isinstance(border, str) and (border[0] > window[0] // 2 or border[1] > window[1] // 2):
            raise ArgumentError(
                f"{name}: padding is at most half the pool size, {window[0] // 2} x {window[1] // 2},"
                f" but got {padding!r}."
            )
        self.pool_size = pool_size
        self.stride = stride
        self.padding = padding

    def windows(self, shape: Shape) -> Geometry:
        """Where the windows lie on images of this shape, (C, H, W)."""
        return place(self, shape, self.pool_size, self.pool_size if self.stride is None else self.stride, self.padding)

    def build(self, input_shape: Shape, rng: np.random.Generator) -> Shape:
        output = self.windows(input_shape).output
        return (input_shape[0], *output)

    def accepts(self, shape: Shape) -> bool:
        """Images of any size."""
        return len(shape) == 3


class MaxPooling2D(_Pooling):
    """The maximum of each window.  x: (N, C, H, W) -> y: (N, C, OH, OW).

    The gradient goes to the first maximum of each window in row-major order, as in PyTorch and Keras.

    Parameters
    ----------
    pool_size : int or pair of int (height, width)
    stride : int or pair of int, optional
        By default the pool size: windows side by side.
    padding : "valid", "same", int or pair of int
        As in `Conv2D`; a padded place is never the maximum.
    """

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        g = self.windows(x.shape[1:])
        y, saved = pool.max_pool(x, g)  # (N, C, OH, OW)
        return y, Pullback(input=lambda dy: pool.max_pool_gradient(dy, saved, g))  # (N, C, H, W)

    def forward(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> Array:
        """The maxima alone, which are found sooner than where they lie."""
        return pool.highest(x, self.windows(x.shape[1:]))


class AveragePooling2D(_Pooling):
    """The mean of each window.  x: (N, C, H, W) -> y: (N, C, OH, OW).

    Parameters
    ----------
    pool_size : int or pair of int (height, width)
    stride : int or pair of int, optional
        By default the pool size: windows side by side.
    padding : "valid", "same", int or pair of int
        As in `Conv2D`; padded places do not count in the mean (Keras's rule, PyTorch's `count_include_pad=False`).
    """

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        g = self.windows(x.shape[1:])
        y = averages.average_pool(x, g)  # (N, C, OH, OW)
        return y, Pullback(input=lambda dy: averages.average_pool_gradient(dy, g))  # (N, C, H, W)


class _GlobalPooling(Layer):
    def build(self, input_shape: Shape, rng: np.random.Generator) -> Shape:
        if len(input_shape) != 3:
            raise ShapeError(repr(self), f"takes images (N, channels, height, width), but got {features(input_shape)}.")
        return input_shape[:1]

    def accepts(self, shape: Shape) -> bool:
        """Images of any size."""
        return len(shape) == 3


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel.  x: (N, C, H, W) -> y: (N, C)."""

    memory = "new"

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        image, rows = (x.shape[2], x.shape[3]), lies_by_rows(x)
        y = averages.global_average(x)  # (N, C)
        return y, Pullback(input=lambda dy: averages.global_average_gradient(dy, image, rows))  # (N, C, H, W)


class GlobalMaxPooling2D(_GlobalPooling):
    """The maximum of each channel.  x: (N, C, H, W) -> y: (N, C).

    The gradient goes to the first maximum in row-major order.
    """

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        g = _one_window(x)
        y, saved = pool.max_pool(x, g)  # (N, C, 1, 1)
        return y[:, :, 0, 0], Pullback(input=lambda dy: pool.max_pool_gradient(dy[:, :, None, None], saved, g))

    def forward(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> Array:
        """The maxima alone, as of `MaxPooling2D`."""
        return pool.highest(x, _one_window(x))[:, :, 0, 0]


def _one_window(x: Array) -> Geometry:
    """Where the window lies that is as large as an image of x (N, C, H, W)."""
    image = x.shape[2], x.shape[3]
    return geometry(image, image, image, "valid")

"""What convolution and pooling say alike: their windows' arguments, and where these lie on an image."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gradwise.errors import ArgumentError, ShapeError
from gradwise.kernels.windows import Geometry, extent, geometry
from gradwise.layers.base import Layer, features, pair
from gradwise.typing import Shape

Size = int | tuple[int, int]
Padding = str | int | tuple[int, int]


def window_padding(padding: Padding, layer: str) -> str | tuple[int, int]:
    """A padding argument as "valid", "same" or a pair of numbers."""
    if isinstance(padding, str):
        if padding in ("valid", "same"):
            return padding
        raise ArgumentError(
            f'{layer}: padding is "valid", "same", a whole number or a pair of them, but got {padding!r}.'
        )
    return pair(padding, f"{layer}: padding", least=0)


@lru_cache(maxsize=1024)
def _geometry(shape: Shape, window: Size, stride: Size, padding: Padding, layer: str) -> Geometry:
    return geometry((shape[1], shape[2]), pair(window, layer), pair(stride, layer), window_padding(padding, layer))


def place(layer: Layer, shape: Shape, window: Size, stride: Size, padding: Padding) -> Geometry:
    """The layer's windows on images of `shape`, (C, H, W); an error where none fits."""
    if len(shape) != 3:
        hint = " Put Reshape((channels, height, width)) before it." if len(shape) == 1 else ""
        if len(shape) == 2:
            hint = " Images without channels are x[:, None]."
        raise ShapeError(repr(layer), f"takes images (N, channels, height, width), but got {features(shape)}.{hint}")
    try:
        g = _geometry(shape, window, stride, padding, type(layer).__name__)
    except TypeError:  # a list cannot be looked up
        key = [tuple(v) if isinstance(v, (list, np.ndarray)) else v for v in (window, stride, padding)]
        g = _geometry(shape, *key, type(layer).__name__)
    if g.output[0] < 1 or g.output[1] < 1:
        high, wide = extent(g)
        raise ShapeError(
            repr(layer),
            f"has a window of {g.window[0]} x {g.window[1]}, larger than the image of {high} x {wide} (with its"
            " padding). Make the window smaller or the padding larger.",
        )
    return g

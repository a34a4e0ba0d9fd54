"""Layers that put the same numbers in another shape."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from gradwise.errors import ArgumentError, ShapeError
from gradwise.layers.base import Layer, features, sizes
from gradwise.layers.formulas import Formulas
from gradwise.typing import Array, Pullback, Shape


def _fold(x: Array, shape: Shape) -> Array:
    """Reshape each sample; without a copy when the batch is innermost in memory, and so is the result."""
    folded = x.transpose(_order(x.ndim, 1)).reshape(*shape, len(x))
    return folded.transpose(_order(folded.ndim, -1))


@lru_cache(maxsize=64)
def _order(axes: int, by: int) -> tuple[int, ...]:
    """So many axes, turned by one: the first to the end (1), or the last to the front (-1)."""
    return tuple((axis + by) % axes for axis in range(axes))


def _flat(x: Array, channels_last: bool) -> Array:
    """Each sample as one row."""
    return _fold(_ordered(x, channels_last), (-1,))


def _ordered(x: Array, channels_last: bool) -> Array:
    """x in the order of axes in which it is flattened."""
    return np.moveaxis(x, 1, -1) if channels_last and x.ndim > 2 else x


def _unfolded(dy: Array, x: Array, channels_last: bool) -> Array:
    """dy (N, features) as x is."""
    if channels_last and x.ndim > 2:
        return np.moveaxis(_fold(dy, _ordered(x, True).shape[1:]), -1, 1)
    return _fold(dy, x.shape[1:])


class Flatten(Layer):
    """Each sample as one row.  x: (N, ...) -> y: (N, features).

    Parameters
    ----------
    channels_last : bool
        False: images in the order (channels, height, width), as PyTorch flattens them. True: (height, width, channels),
        the order of Keras's Flatten over channels-first images.
    """

    memory = "given"
    formulas = Formulas(
        forward=_flat,  # (N, features)
        input=_unfolded,  # (N, ...)
    )

    def __init__(self, channels_last: bool = False) -> None:
        self.channels_last = channels_last

    def build(self, input_shape: Shape, rng: np.random.Generator) -> Shape:
        return (math.prod(input_shape),)

    def accepts(self, shape: Shape) -> bool:
        """Any shape."""
        return True


class Reshape(Layer):
    """Each sample in another shape, row-major.  x: (N, ...) -> y: (N, *shape).

    Parameters
    ----------
    shape : int or tuple of int
        The new shape without N; one size may be -1 and is then what is left.
    """

    memory = "given"

    def __init__(self, shape: int | Shape) -> None:
        given = (shape,) if isinstance(shape, (int, np.integer)) else shape
        if isinstance(given, (tuple, list)) and list(given).count(-1) <= 1:
            sizes(tuple(1 if size == -1 else size for size in given), "Reshape: shape")
        else:
            raise ArgumentError(
                f"Reshape: shape is a tuple of positive integers with at most one -1, but got {shape!r}."
            )
        self.shape = shape

    def _target(self, shape: Shape) -> Shape:
        given = (self.shape,) if isinstance(self.shape, (int, np.integer)) else tuple(self.shape)
        size, known = math.prod(shape), math.prod(s for s in given if s != -1)
        if size % known or (-1 not in given and size != known):
            raise ShapeError(repr(self), f"cannot arrange {features(shape)}, {size} numbers a sample.")
        return tuple(size // known if s == -1 else int(s) for s in given)

    def build(self, input_shape: Shape, rng: np.random.Generator) -> Shape:
        return self._target(input_shape)

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        shape = x.shape[1:]
        return _fold(x, self._target(shape)), Pullback(input=lambda dy: _fold(dy, shape))

"""Layers that bring numbers to one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradwise.errors import ArgumentError, ShapeError
from gradwise.layers.base import Layer, features
from gradwise.typing import Array, Pullback, Shape


class Standardize(Layer):
    """(x - mean) / deviation, with fixed numbers: data in its own units goes in, and the network keeps them with it.

    Parameters
    ----------
    mean, deviation : float or sequence of float
        One for all, or one for each feature (of (N, features)) or channel (of images).
    """

    memory = "new"

    def __init__(self, mean: float | Sequence[float] = 0.0, deviation: float | Sequence[float] = 1.0) -> None:
        for name, value in (("mean", mean), ("deviation", deviation)):
            numbers = np.asarray(value)
            if numbers.dtype.kind not in "iuf" or numbers.ndim > 1 or not np.isfinite(numbers).all():
                raise ArgumentError(f"Standardize: {name} is a number, or a row of numbers, but got {value!r}.")
        if np.min(deviation) <= 0:
            raise ArgumentError(f"Standardize: deviations are above 0, but got {np.min(deviation)}.")
        self.mean = mean
        self.deviation = deviation

    def _along(self, values: float | Sequence[float], x: Array) -> Array:
        """One number for each feature or channel, along x's axis 1."""
        return np.asarray(values, x.dtype).reshape(-1, *[1] * (x.ndim - 2))

    def build(self, input_shape: Shape, rng: np.random.Generator) -> Shape:
        for values in (self.mean, self.deviation):
            if np.size(values) not in (1, input_shape[0]):
                raise ShapeError(repr(self), f"has {np.size(values)} numbers, but got {features(input_shape)}.")
        return input_shape

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        deviation = self._along(self.deviation, x)
        return (x - self._along(self.mean, x)) / deviation, Pullback(input=lambda dy: dy / deviation)

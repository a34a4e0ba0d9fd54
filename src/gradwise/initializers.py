"""Initialisers: how a layer's parameters get their first values.

Each is called with `(shape, rng, dtype)` and returns a new array. The fans of a shape are those of Glorot & Bengio
(2010): for a dense kernel (in, out), fan_in = in and fan_out = out; for a convolution kernel (kh, kw, in, out), both
times kh * kw.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwise import config
from gradwise.errors import ArgumentError
from gradwise.typing import Array, Shape

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "Zeros",
]


class Placeholder(np.ndarray):
    """An array of a shape and dtype with no memory behind it: what building a network for its shapes alone makes."""

    @classmethod
    def of(cls, shape: Shape, dtype: npt.DTypeLike) -> Array:
        return np.broadcast_to(np.zeros((), dtype), shape).view(cls)


def shapes_only() -> np.random.Generator:
    """A generator that asks initialisers for placeholders: a network is then built without allocating its arrays."""

    class ShapesOnly(np.random.Generator):
        shapes_only = True

    return ShapesOnly(np.random.PCG64(0))


def _fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a kernel's shape; a vector's fans are both its length."""
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def _normal(shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike, deviation: float) -> Array:
    scalar: Any = np.dtype(dtype).type
    return rng.standard_normal(shape, dtype=scalar) * scalar(deviation)


def _uniform(shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike, limit: float) -> Array:
    scalar: Any = np.dtype(dtype).type
    return (rng.random(shape, dtype=scalar) * scalar(2) - scalar(1)) * scalar(limit)


def _finite(value: object, what: str) -> None:
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not math.isfinite(value):
        raise ArgumentError(f"{what} is a finite number, but got {value!r}.")


class Initializer:
    """Base of all initialisers; a subclass defines `draw(shape, rng, dtype)`."""

    def __call__(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike = np.float32) -> Array:
        """A new array of `shape` and `dtype`, drawn from `rng`."""
        if getattr(rng, "shapes_only", False):
            return Placeholder.of(shape, dtype)
        return self.draw(shape, rng, dtype)

    def __repr__(self) -> str:
        return config.describe(self)

    def __eq__(self, other: object) -> bool:
        return config.equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        raise NotImplementedError(f"{type(self).__name__} must define draw(shape, rng, dtype)")


class Constant(Initializer):
    """Every entry is `value`."""

    def __init__(self, value: float = 0.0) -> None:
        _finite(value, "Constant: value")
        self.value = value

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        return np.full(shape, self.value, dtype)


class Zeros(Initializer):
    """Every entry is 0."""

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        return np.zeros(shape, dtype)


class Ones(Initializer):
    """Every entry is 1."""

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        return np.ones(shape, dtype)


class RandomNormal(Initializer):
    """Normal with the given `mean` and standard `deviation`."""

    def __init__(self, mean: float = 0.0, deviation: float = 0.05) -> None:
        _finite(mean, "RandomNormal: mean")
        _finite(deviation, "RandomNormal: deviation")
        if deviation < 0:
            raise ArgumentError(f"RandomNormal: deviation is a number of 0 or more, but got {deviation!r}.")
        self.mean = mean
        self.deviation = deviation

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        return (_normal(shape, rng, dtype, self.deviation) + self.mean).astype(dtype, copy=False)


class HeNormal(Initializer):
    """Normal with variance 2 / fan_in (He et al. 2015), for layers before a ReLU."""

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        return _normal(shape, rng, dtype, math.sqrt(2 / _fans(shape)[0]))


class HeUniform(Initializer):
    """Uniform within +-sqrt(6 / fan_in) (He et al. 2015), for layers before a ReLU."""

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        return _uniform(shape, rng, dtype, math.sqrt(6 / _fans(shape)[0]))


class GlorotNormal(Initializer):
    """Normal with variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        return _normal(shape, rng, dtype, math.sqrt(2 / sum(_fans(shape))))


class GlorotUniform(Initializer):
    """Uniform within +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        return _uniform(shape, rng, dtype, math.sqrt(6 / sum(_fans(shape))))


class LecunNormal(Initializer):
    """Normal with variance 1 / fan_in (LeCun et al. 1998)."""

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        return _normal(shape, rng, dtype, math.sqrt(1 / _fans(shape)[0]))


class Orthogonal(Initializer):
    """Orthonormal columns, or rows where there are fewer of them, times `gain` (Saxe et al. 2014).

    A convolution kernel (kh, kw, in, out) is orthogonal as the matrix (kh * kw * in, out).
    """

    def __init__(self, gain: float = 1.0) -> None:
        _finite(gain, "Orthogonal: gain")
        self.gain = gain

    def draw(self, shape: Shape, rng: np.random.Generator, dtype: npt.DTypeLike) -> Array:
        if len(shape) < 2:
            raise ArgumentError(f"Orthogonal makes kernels of two axes or more, but was asked for {shape}.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))  # makes the draw uniform over orthogonal matrices (Mezzadri 2007)
        return np.ascontiguousarray((self.gain * (q if rows >= columns else q.T)).reshape(shape), dtype)

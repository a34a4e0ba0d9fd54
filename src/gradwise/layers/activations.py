"""Activation layers: elementwise functions of any shape, and softmax over axis 1."""

from __future__ import annotations

import numpy as np

from gradwise.errors import ArgumentError
from gradwise.kernels import activations as kernel
from gradwise.layers.base import Layer
from gradwise.layers.formulas import Formulas
from gradwise.typing import Array, Pullback, Shape


class _Activation(Layer):
    """A function that keeps the shape, whatever it is."""

    def accepts(self, shape: Shape) -> bool:
        """Any shape."""
        return True


def _number(value: object, what: str, positive: bool) -> None:
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not real or not (value > 0 if positive else value >= 0) or value == float("inf"):  # type: ignore[operator]
        raise ArgumentError(f"{what} is a number {'above 0' if positive else 'of 0 or more'}, but got {value!r}.")


class ReLU(_Activation):
    """max(x, 0); the derivative at exactly 0 is 0."""

    memory = "new"
    formulas = Formulas(forward=kernel.relu, input=kernel.relu_gradient)


class LeakyReLU(_Activation):
    """x where x > 0, else negative_slope * x; the derivative at exactly 0 is negative_slope.

    Parameters
    ----------
    negative_slope : float
        0.01 by default, as in PyTorch.
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        _number(negative_slope, "LeakyReLU: negative_slope", positive=False)
        self.negative_slope = negative_slope

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        slope = x.dtype.type(self.negative_slope)
        y = np.maximum(x, 0) + slope * np.minimum(x, 0)
        return y, Pullback(input=lambda dy: dy * (slope + (1 - slope) * (x > 0)))


class ELU(_Activation):
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2016).

    Parameters
    ----------
    alpha : float
    """

    def __init__(self, alpha: float = 1.0) -> None:
        _number(alpha, "ELU: alpha", positive=True)
        self.alpha = alpha

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        alpha = x.dtype.type(self.alpha)
        below = np.minimum(x, 0)
        y = np.maximum(x, 0) + alpha * np.expm1(below)
        return y, Pullback(input=lambda dy: dy * ((x > 0) + alpha * np.exp(below) * (x <= 0)))


class GELU(_Activation):
    """x * P(Z <= x) for a standard normal Z, exactly (Hendrycks & Gimpel 2016)."""

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        below = kernel.normal_cdf(x)
        return x * below, Pullback(input=lambda dy: dy * (below + x * kernel.normal_density(x)))


class SiLU(_Activation):
    """x * sigmoid(x), also called swish."""

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        s = kernel.sigmoid(x)
        return x * s, Pullback(input=lambda dy: dy * (s + x * s * (1 - s)))


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    formulas = Formulas(forward=kernel.sigmoid, input=lambda dy, y: dy * y * (1 - y))


class Tanh(_Activation):
    """tanh(x)."""

    formulas = Formulas(forward=lambda x: np.tanh(x), input=lambda dy, y: dy * (1 - y * y))


class Softplus(_Activation):
    """log(1 + exp(x)), a smooth ReLU."""

    formulas = Formulas(forward=kernel.softplus, input=lambda dy, x: dy * kernel.sigmoid(x))


class Softmax(_Activation):
    """exp(x) / sum(exp(x)) over axis 1: the features, or the channels of each pixel.

    A network that is trained ends better in logits and `SoftmaxCrossEntropy`, which is exact where this one underflows.
    """

    formulas = Formulas(
        forward=kernel.softmax,
        input=lambda dy, y: y * (dy - (y * dy).sum(axis=1, keepdims=True)),
    )


class LogSoftmax(_Activation):
    """log(softmax(x)) over axis 1, exact where softmax underflows."""

    formulas = Formulas(
        forward=kernel.log_softmax,
        input=lambda dy, y: dy - np.exp(y) * dy.sum(axis=1, keepdims=True),
    )

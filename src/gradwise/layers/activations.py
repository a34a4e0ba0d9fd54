"""Activation layers: elementwise functions of any shape, and softmax over axis 1."""

from __future__ import annotations

import numpy as np

from gradwise.errors import ArgumentError
from gradwise.kernels import activations as kernel
from gradwise.kernels.softmax import log_softmax, softmax
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
        slope = self.negative_slope
        return kernel.leaky_relu(x, slope), Pullback(input=lambda dy: kernel.leaky_relu_gradient(dy, x, slope))


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
        alpha = self.alpha
        return kernel.elu(x, alpha), Pullback(input=lambda dy: kernel.elu_gradient(dy, x, alpha))


class GELU(_Activation):
    """x * P(Z <= x) for a standard normal Z, exactly (Hendrycks & Gimpel 2016)."""

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        below = kernel.normal_cdf(x)
        return x * below, Pullback(input=lambda dy: kernel.gelu_gradient(dy, x, below))


class SiLU(_Activation):
    """x * sigmoid(x), also called swish."""

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        s = kernel.sigmoid(x)
        return x * s, Pullback(input=lambda dy: kernel.silu_gradient(dy, x, s))


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    formulas = Formulas(forward=kernel.sigmoid, input=kernel.sigmoid_gradient)


class Tanh(_Activation):
    """tanh(x)."""

    formulas = Formulas(forward=lambda x: np.tanh(x), input=kernel.tanh_gradient)


class Softplus(_Activation):
    """log(1 + exp(x)), a smooth ReLU."""

    formulas = Formulas(forward=kernel.softplus, input=lambda dy, x: dy * kernel.sigmoid(x))


class Softmax(_Activation):
    """exp(x) / sum(exp(x)) over axis 1: the features, or the channels of each pixel.

    A network that is trained ends better in logits and `SoftmaxCrossEntropy`, which is exact where this one underflows.
    """

    formulas = Formulas(
        forward=softmax,
        input=lambda dy, y: y * (dy - (y * dy).sum(axis=1, keepdims=True)),
    )


class LogSoftmax(_Activation):
    """log(softmax(x)) over axis 1, exact where softmax underflows."""

    formulas = Formulas(
        forward=log_softmax,
        input=lambda dy, y: dy - np.exp(y) * dy.sum(axis=1, keepdims=True),
    )

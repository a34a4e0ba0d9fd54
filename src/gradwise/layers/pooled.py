"""What a chain makes of a convolution and the max pooling behind it."""

from __future__ import annotations

import numpy as np

from gradwise.kernels import conv, pooled
from gradwise.kernels.windows import Geometry, batch_innermost
from gradwise.layers.convolution import Conv2D
from gradwise.layers.pooling import MaxPooling2D
from gradwise.typing import Array, Pullback


class PooledConvolution:
    """A convolution and a max pooling, run as one where that is faster; no layer of its own, but a way to run two.

    Parameters
    ----------
    convolution : Conv2D
    pooling : MaxPooling2D
    """

    def __init__(self, convolution: Conv2D, pooling: MaxPooling2D) -> None:
        self.convolution = convolution
        self.pooling = pooling

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        """The pooled outputs, and the derivatives of both layers together: by kernel, bias and input."""
        x, g, p = self._places(x)
        kernel, bias = self.convolution.kernel, self.convolution.bias
        if not pooled.pays(g, p, x.shape[1]):
            between, first = self.convolution.vjp(x, training, rng)
            y, second = self.pooling.vjp(between, training, rng)
            return y, _Both(first, second)
        x = batch_innermost(x)
        y, winners = pooled.convolve(x, kernel, bias, g, p, True)
        derivatives = {"kernel": lambda dy: pooled.kernel_gradient(x, dy, winners, g, p)}
        if bias is not None:
            derivatives["bias"] = lambda dy: conv.bias_gradient(dy)  # pooling hands each number on to one place
        return y, Pullback(input=lambda dy: pooled.input_gradient(dy, kernel, winners, g, p), **derivatives)

    def forward(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> Array:
        """The pooled outputs; nothing is kept for derivatives."""
        x, g, p = self._places(x)
        if not pooled.pays(g, p, x.shape[1]):
            return self.pooling.forward(self.convolution.forward(x, training, rng), training, rng)
        return pooled.convolve(x, self.convolution.kernel, self.convolution.bias, g, p, False)[0]

    def _places(self, x: Array) -> tuple[Array, Geometry, Geometry]:
        if x.dtype.kind != "f" or x.shape[1:] != self.convolution.input_shape:
            x = self.convolution.admit(x)
        g = self.convolution.windows(x.shape[1:])
        return x, g, self.pooling.windows((self.convolution.filters, *g.output))


class _Both(Pullback):
    """The derivatives of two passes one after the other, of which only the first has parameters."""

    def __init__(self, first: Pullback, second: Pullback) -> None:
        derivatives = {
            name: lambda dy, derivative=derivative: derivative(second.input(dy))
            for name, derivative in first.parameters.items()
        }
        super().__init__(lambda dy: first.input(second.input(dy)), **derivatives)
        self._first, self._second = first, second

    def __call__(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        return self._first(self._second.input(dy))

    def train(self, dy: Array, needs_input: bool, trains: bool = True) -> tuple[Array | None, dict[str, Array]]:
        return self._first.train(self._second.input(dy), needs_input, trains)

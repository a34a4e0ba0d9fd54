"""What a chain makes of a convolution, the max pooling behind it, and a ReLU behind that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from gradwise.kernels import activations, pooled
from gradwise.kernels.windows import Geometry, batch_innermost
from gradwise.layers.convolution import Conv2D
from gradwise.layers.pooling import MaxPooling2D
from gradwise.typing import Array, Derivative, Pullback


class PooledConvolution:
    """A convolution and a max pooling, run as one where that is faster; no layer of its own, but a way to run several.

    Parameters
    ----------
    convolution : Conv2D
    pooling : MaxPooling2D
    relu : bool
        Whether there is a ReLU behind them.
    """

    def __init__(self, convolution: Conv2D, pooling: MaxPooling2D, relu: bool) -> None:
        self.convolution = convolution
        self.pooling = pooling
        self.relu = relu
        # Of a layer: run one after the other, the pooling looks at its own output again.
        self.memory: Literal["any", "new", "given"] = "new" if relu else "any"

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        """The output, and the derivatives of all together: by kernel, bias and input."""
        x, g, p = self._places(x)
        if not pooled.pays(g, p, x.shape[1]):
            return self._one_by_one(x, training, rng)
        x, kernel, bias = batch_innermost(x), self.convolution.kernel, self.convolution.bias
        y, winners = pooled.convolve(x, kernel, bias, g, p, self.relu, True)
        derivatives = {"kernel": lambda dy: pooled.gradients(x, dy, winners, g, p)[0]}
        if bias is not None:
            derivatives["bias"] = lambda dy: pooled.gradients(x, dy, winners, g, p)[1]
        return y, _Together(
            lambda dy: pooled.gradients(x, dy, winners, g, p),
            input=lambda dy: pooled.input_gradient(dy, kernel, winners, g, p),
            **derivatives,
        )

    def forward(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> Array:
        """The output; nothing is kept for derivatives."""
        x, g, p = self._places(x)
        if pooled.pays(g, p, x.shape[1]):
            return pooled.convolve(x, self.convolution.kernel, self.convolution.bias, g, p, self.relu, False)[0]
        y = self.pooling.forward(self.convolution.forward(x, training, rng), training, rng)
        return activations.relu(y) if self.relu else y

    def _places(self, x: Array) -> tuple[Array, Geometry, Geometry]:
        if x.dtype.kind != "f" or x.shape[1:] != self.convolution.input_shape:
            x = self.convolution.admit(x)
        g = self.convolution.windows(x.shape[1:])
        return x, g, self.pooling.windows((self.convolution.filters, *g.output))

    def _one_by_one(self, x: Array, training: bool, rng: np.random.Generator | None) -> tuple[Array, Pullback]:
        between, first = self.convolution.vjp(x, training, rng)
        y, second = self.pooling.vjp(between, training, rng)
        if not self.relu:
            return y, _Before(first, second.input)
        y = activations.relu(y)
        positive = y > 0  # not y itself, which who comes next may write over
        return y, _Before(first, lambda dy: second.input(positive.astype(dy.dtype) * dy))


class _Together(Pullback):
    """Derivatives of which those by kernel and bias are found by one function."""

    def __init__(self, both: Callable[[Array], tuple[Array, Array]], **derivatives: Derivative) -> None:
        super().__init__(**derivatives)
        self._both = both

    def train(self, dy: Array, needs_input: bool, trains: bool = True) -> tuple[Array | None, dict[str, Array]]:
        found = dict(zip(("kernel", "bias"), self._both(dy), strict=True)) if trains else {}
        own = {name: gradient for name, gradient in found.items() if name in self.parameters}
        return (self.input(dy) if needs_input else None), own


class _Before(Pullback):
    """The derivatives of a pass, and of what came behind it, which has no parameters."""

    def __init__(self, first: Pullback, behind: Derivative) -> None:
        derivatives = {
            name: lambda dy, derivative=derivative: derivative(behind(dy))
            for name, derivative in first.parameters.items()
        }
        super().__init__(lambda dy: first.input(behind(dy)), **derivatives)
        self._first, self._behind = first, behind

    def __call__(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        return self._first(self._behind(dy))

    def train(self, dy: Array, needs_input: bool, trains: bool = True) -> tuple[Array | None, dict[str, Array]]:
        return self._first.train(self._behind(dy), needs_input, trains)

"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gradwise.errors import ShapeError
from gradwise.initializers import GlorotUniform, Initializer, Placeholder, Zeros
from gradwise.kernels import dense
from gradwise.kernels.products import LEAST, Product
from gradwise.layers.base import Layer, features, floating, positive
from gradwise.typing import Array, Derivative, Pullback, Shape


class _LargePullback(Pullback):
    """Training is given a large kernel's gradient as a product, to be made as the kernel is stepped."""

    def __init__(self, x: Array, derivatives: dict[str, Derivative]) -> None:
        super().__init__(**derivatives)
        self._x = x

    def train(self, dy: Array, needs_input: bool, trains: bool = True) -> tuple[Array | None, dict[str, Array]]:
        gradients: dict[str, Any] = {}
        if trains:
            gradients = {name: derivative(dy) for name, derivative in self._parameters.items() if name != "kernel"}
            gradients["kernel"] = Product(self._x.T, dy)
        return (self.input(dy) if needs_input else None), gradients


class Dense(Layer):
    """y = x @ kernel + bias.  x: (N, in) -> y: (N, units).

    Parameters
    ----------
    units : int
        How many outputs.
    use_bias : bool
    kernel_initializer, bias_initializer : Initializer
        The first values of kernel (in, units) and bias (units,).
    dtype : float32 or float64
        Of the parameters.
    trainable : bool
    """

    parameters = ("kernel", "bias")

    def __init__(
        self,
        units: int,
        *,
        use_bias: bool = True,
        kernel_initializer: Initializer = GlorotUniform(),
        bias_initializer: Initializer = Zeros(),
        dtype: npt.DTypeLike = np.float32,
        trainable: bool = True,
    ) -> None:
        positive(units, "Dense: units")
        floating(dtype, "Dense")
        self.units = units
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.dtype = dtype
        self.trainable = trainable

    def build(self, input_shape: Shape, rng: np.random.Generator) -> Shape:
        if len(input_shape) != 1:
            raise ShapeError(
                repr(self), f"takes (N, features), but got {features(input_shape)}. Put Flatten() before it."
            )
        kernel = self.kernel_initializer((input_shape[0], self.units), rng, self.dtype)
        if not isinstance(kernel, Placeholder):
            kernel = np.asarray(kernel, order=dense.order(*kernel.shape))
        self.kernel = kernel
        self.bias = self.bias_initializer((self.units,), rng, self.dtype) if self.use_bias else None
        return (self.units,)

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        kernel, bias = self.kernel, self.bias
        derivatives: dict[str, Derivative] = {
            "input": lambda dy: dense.input_gradient(dy, kernel),  # (N, in)
            "kernel": lambda dy: dense.kernel_gradient(x, dy, kernel),  # (in, units)
        }
        if bias is not None:
            derivatives["bias"] = lambda dy: dense.bias_gradient(dy)  # (units,)
        pullback = Pullback(**derivatives) if kernel.size < LEAST else _LargePullback(x, derivatives)
        return dense.forward(x, kernel, bias), pullback

    def forward(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> Array:
        """The output alone."""
        return dense.forward(x, self.kernel, self.bias)

    def sample_gradients(self, x: Array, dy: Array) -> dict[str, Array]:
        """Each sample's parameter gradients, (N, *shape): the outer products that `vjp` sums."""
        gradients = {"kernel": x[:, :, None] * dy[:, None, :], "bias": dy}
        return gradients if self.use_bias else {"kernel": gradients["kernel"]}

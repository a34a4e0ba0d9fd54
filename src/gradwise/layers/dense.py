"""The fully connected layer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradwise.errors import ShapeError
from gradwise.initializers import GlorotUniform, Initializer, Placeholder, Zeros
from gradwise.kernels import dense
from gradwise.layers.base import Layer, features, floating, positive
from gradwise.layers.formulas import Formulas
from gradwise.typing import Array, Shape


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
    memory = "new"
    formulas = Formulas(
        forward=dense.forward,  # (N, units)
        input=dense.input_gradient,  # (N, in)
        kernel=dense.kernel_gradient,  # (in, units)
        bias=dense.bias_gradient,  # (units,)
        training={"kernel": dense.kernel_factors},
    )

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

    def sample_gradients(self, x: Array, dy: Array) -> dict[str, Array]:
        """Each sample's parameter gradients, (N, *shape): the outer products that `vjp` sums."""
        gradients = {"kernel": x[:, :, None] * dy[:, None, :], "bias": dy}
        return gradients if self.use_bias else {"kernel": gradients["kernel"]}

"""Convolution over images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gradwise.initializers import GlorotUniform, Initializer, Zeros
from gradwise.kernels import conv
from gradwise.kernels.windows import Geometry
from gradwise.layers.base import Layer, floating, pair, positive
from gradwise.layers.sliding import place, window_padding
from gradwise.typing import Array, Pullback, Shape


class Conv2D(Layer):
    """Cross-correlation with a set of filters.  x: (N, C, H, W) -> y: (N, filters, OH, OW).

    y[n, o, h, w] = bias[o] + sum over k, l, c of kernel[k, l, c, o] * x[n, c, h * stride + k, w * stride + l], over the
    padded image.

    Parameters
    ----------
    filters : int
        How many output channels.
    kernel_size, stride : int or pair of int (height, width)
    padding : "valid", "same", int or pair of int
        "valid": none; OH = (H - kernel) // stride + 1. "same": OH = ceil(H / stride), as in Keras. Numbers: rows of
        zeros above and below, columns left and right.
    use_bias : bool
    kernel_initializer, bias_initializer : Initializer
        The first values of kernel (kh, kw, C, filters) and bias (filters,).
    dtype : float32 or float64
        Of the parameters.
    trainable : bool
    """

    parameters = ("kernel", "bias")
    memory = "new"

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = "valid",
        *,
        use_bias: bool = True,
        kernel_initializer: Initializer = GlorotUniform(),
        bias_initializer: Initializer = Zeros(),
        dtype: npt.DTypeLike = np.float32,
        trainable: bool = True,
    ) -> None:
        positive(filters, "Conv2D: filters")
        pair(kernel_size, "Conv2D: kernel_size")
        pair(stride, "Conv2D: stride")
        window_padding(padding, "Conv2D")
        floating(dtype, "Conv2D")
        self.filters = filters
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self.dtype = dtype
        self.trainable = trainable

    def windows(self, shape: Shape) -> Geometry:
        """Where the windows lie on images of this shape, (C, H, W)."""
        return place(self, shape, self.kernel_size, self.stride, self.padding)

    def build(self, input_shape: Shape, rng: np.random.Generator) -> Shape:
        output = self.windows(input_shape).output
        kernel_shape = (*pair(self.kernel_size, "Conv2D: kernel_size"), input_shape[0], self.filters)
        self.kernel = self.kernel_initializer(kernel_shape, rng, self.dtype)
        self.bias = self.bias_initializer((self.filters,), rng, self.dtype) if self.use_bias else None
        return (self.filters, *output)

    def accepts(self, shape: Shape) -> bool:
        """Images of any size, with the channels that the kernel was made for."""
        return len(shape) == 3 and shape[0] == self.kernel.shape[2]

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        kernel, bias = self.kernel, self.bias
        g = self.windows(x.shape[1:])
        x = conv.laid(x, g, kernel.shape[3])
        y = conv.convolve(x, kernel, bias, g)  # (N, O, OH, OW)
        derivatives = {"kernel": lambda dy: conv.kernel_gradient(x, dy, g)}  # (kh, kw, C, O)
        if bias is not None:
            derivatives["bias"] = lambda dy: conv.bias_gradient(dy)  # (O,)
        return y, Pullback(input=lambda dy: conv.input_gradient(dy, kernel, g), **derivatives)  # (N, C, H, W)

    def forward(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> Array:
        """The output alone."""
        return conv.convolve(x, self.kernel, self.bias, self.windows(x.shape[1:]))

    def sample_gradients(self, x: Array, dy: Array) -> dict[str, Array]:
        """Each sample's parameter gradients, (N, *shape)."""
        gradients = {"kernel": conv.sample_kernel_gradients(x, dy, self.windows(x.shape[1:]))}
        if self.use_bias:
            gradients["bias"] = dy.sum(axis=(2, 3))
        return gradients

"""The course's layers: the library's, with their Jacobians and the course's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwise import layers
from gradwise.errors import ShapeError
from gradwise.initializers import HeNormal
from gradwise.jacobian import jacobian, parameter_jacobians, per_sample_gradients
from gradwise.layers.base import generator, positive
from gradwise.typing import Array, Shape

Size = int | tuple[int, int]


class Layer:
    """Base of all layers. One of your own defines `forward` and `grad_x`, and with parameters `grad_param` and
    `update_param`; it then works in a `Network` too, which multiplies by its Jacobians.
    """

    name = "Layer"

    def forward(self, input_data: npt.ArrayLike) -> Array:
        """The output for a batch, (N, ...)."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(input_data)")

    def backward(self, input_data: npt.ArrayLike) -> list[Any]:
        """[grad_x, grad_param] of a batch."""
        return [self.grad_x(input_data), self.grad_param(input_data)]

    def grad_x(self, input_data: npt.ArrayLike) -> Array:
        """The Jacobians by the input: (N, out, in)."""
        raise NotImplementedError(f"{type(self).__name__} must define grad_x(input_data)")

    def grad_param(self, input_data: npt.ArrayLike) -> list[Array]:
        """The Jacobians by each parameter: a list of (N, out, size); [] without parameters."""
        return []

    def update_param(self, grads: Sequence[Array], learning_rate: float) -> None:
        """Step each parameter against the mean of its gradients of the loss: (N, *shape) each, one per sample."""

    def grad_loss_x(self, input_data: npt.ArrayLike, grad_loss_nxt: npt.ArrayLike) -> Array:
        """The loss's gradient by the input, (N, 1, in), from that by the output, (N, 1, out)."""
        return np.asarray(grad_loss_nxt) @ self.grad_x(input_data)

    def grad_loss_param(self, input_data: npt.ArrayLike, grad_loss_nxt: npt.ArrayLike) -> list[Array]:
        """The loss's gradients by each parameter, one per sample: (N, *shape); of a layer of your own, (N, size)."""
        return [(np.asarray(grad_loss_nxt) @ jacobians)[:, 0] for jacobians in self.grad_param(input_data)]


class LibraryLayer(Layer):
    """A layer of the library, `core`, under the course's names."""

    core: layers.Layer
    drawn = False  # whether its parameters are drawn ones that were not trained yet

    def forward(self, input_data: npt.ArrayLike) -> Array:
        return self.core.forward(self.core.admit(input_data))

    def grad_x(self, input_data: npt.ArrayLike) -> Array:
        return jacobian(self.core, input_data)

    def grad_param(self, input_data: npt.ArrayLike) -> list[Array]:
        return list(parameter_jacobians(self.core, input_data).values())

    def update_param(self, grads: Sequence[Array], learning_rate: float) -> None:
        for own, grad in zip(self.core.arrays(), grads, strict=True):
            self._descend(own, grad, learning_rate)

    def grad_loss_x(self, input_data: npt.ArrayLike, grad_loss_nxt: npt.ArrayLike) -> Array:
        x = self.core.admit(input_data)
        y, pullback = self.core.vjp(x)
        return pullback.input(self._cotangent(y, grad_loss_nxt)).reshape(len(x), 1, -1)

    def grad_loss_param(self, input_data: npt.ArrayLike, grad_loss_nxt: npt.ArrayLike) -> list[Array]:
        if not self.core.arrays():
            return []
        cotangent = self._cotangent(self.forward(input_data), grad_loss_nxt)
        return list(per_sample_gradients(self.core, input_data, cotangent).values())

    def _cotangent(self, y: Array, grad_loss_nxt: npt.ArrayLike) -> Array:
        """The loss's gradient by the output, in the output's shape."""
        grad = np.asarray(grad_loss_nxt)
        if grad.shape != y.shape and grad.shape != (len(y), 1, y[0].size):
            raise ShapeError(self.name, f"takes gradients ({len(y)}, 1, {y[0].size}), but got {grad.shape}.")
        return grad.reshape(y.shape)

    def _descend(self, own: str, grad: npt.ArrayLike, learning_rate: float) -> None:
        """Step against a gradient of the parameter's shape, or against the mean of one per sample, flat or not."""
        parameter, step = getattr(self.core, own), np.asarray(grad)
        if step.shape != parameter.shape:
            if not step.ndim or not len(step) or step[0].size != parameter.size:
                raise ShapeError(self.name, f"has a {own} of shape {parameter.shape}, but got a gradient {step.shape}.")
            step = step.mean(axis=0).reshape(parameter.shape)
        parameter -= learning_rate * step

    def _fill(self, input_shape: Shape, kernel: npt.ArrayLike | None, bias: npt.ArrayLike | None) -> None:
        """Make the parameters: those given, or drawn from NumPy's global state."""
        self.core.build(input_shape, generator(None))
        self.drawn = kernel is None
        for own, given in (("kernel", kernel), ("bias", bias)):
            if given is not None:
                setattr(self.core, own, real(given))


def real(given: npt.ArrayLike) -> Array:
    array = np.asarray(given)
    return array if array.dtype == np.float32 else array.astype(np.float64)


def _parameter(own: str) -> Any:
    """An attribute that is the library layer's own array; what is assigned is copied."""
    return property(lambda self: getattr(self.core, own), lambda self, value: setattr(self.core, own, real(value)))


def _jacobians(position: int) -> Any:
    """A method: the Jacobians of a batch by one parameter."""
    return lambda self, input_data: self.grad_param(input_data)[position]


def _update(own: str) -> Any:
    """A method: step one parameter against the mean of its gradients, one per sample."""
    return lambda self, grad, learning_rate: self._descend(own, grad, learning_rate)


class DenseLayer(LibraryLayer):
    """y = x @ W + b, W (input_dim, output_dim), b (output_dim,)."""

    name = "Dense"
    W, b = _parameter("kernel"), _parameter("bias")

    def __init__(
        self, input_dim: int, output_dim: int, W_init: npt.ArrayLike | None = None, b_init: npt.ArrayLike | None = None
    ) -> None:
        self.core = layers.Dense(output_dim, kernel_initializer=HeNormal(), dtype=np.float64)
        self._fill((positive(input_dim, "DenseLayer: input_dim"),), W_init, b_init)

    grad_W, grad_b = _jacobians(0), _jacobians(1)  # (N, out, in * out), (N, out, out)
    update_W, update_b = _update("kernel"), _update("bias")


class Conv2DLayer(LibraryLayer):
    """A convolution without padding: kernel (k, k, in, out), bias (out,), in and out the channels."""

    name = "Conv2D"
    kernel, bias = _parameter("kernel"), _parameter("bias")

    def __init__(
        self,
        kernel_size: Size = 3,
        input_channels: int = 2,
        output_channels: int = 3,
        stride: Size = 1,
        K_init: npt.ArrayLike | None = None,
        b_init: npt.ArrayLike | None = None,
    ) -> None:
        initial = HeNormal()
        self.core = layers.Conv2D(output_channels, kernel_size, stride, kernel_initializer=initial, dtype=np.float64)
        window = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        self._fill((positive(input_channels, "Conv2DLayer: input_channels"), *window), K_init, b_init)

    grad_kernel, grad_bias = _jacobians(0), _jacobians(1)  # (N, out, k * k * in * out channels), (N, out, out channels)
    update_kernel, update_bias = _update("kernel"), _update("bias")


class ReLU(LibraryLayer):
    """max(x, 0), of features or images; the derivative at exactly 0 is 0."""

    name = "ReLU"
    core = layers.ReLU()


class Softmax(LibraryLayer):
    """exp(x) / sum(exp(x)) over the features."""

    name = "Softmax"
    core = layers.Softmax()


class FlattenLayer(LibraryLayer):
    """Images as rows of features, in the order (height, width, channels) of Keras's Flatten."""

    name = "Flatten"
    core = layers.Flatten(channels_last=True)


class MaxPooling(LibraryLayer):
    """The maximum of each window; the first one takes the gradient."""

    name = "MaxPooling"

    def __init__(self, pool_size: Size = (2, 2), strides: Size = 2) -> None:
        self.core = layers.MaxPooling2D(pool_size, strides)

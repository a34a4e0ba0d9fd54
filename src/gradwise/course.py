"""The course's interface: the classes, names and shapes of the assignment gradwise began as, on the library's layers.

Images are (N, C, H, W), labels one-hot rows (N, classes). A Jacobian is that of each sample's flattened output by its
flattened input, (N, out, in), or by a flattened parameter, (N, out, size). Inputs of float64 or integers are computed
with in float64. Parameters given as `W_init`, `K_init`, ... are copied and keep their dtype; drawn ones come from
NumPy's global state, are float64, and become float32 when `Network.fit` first trains them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwise import layers, losses
from gradwise import network as library
from gradwise.errors import ArgumentError, DataError, ShapeError
from gradwise.initializers import HeNormal
from gradwise.jacobian import jacobian, parameter_jacobians, per_sample_gradients
from gradwise.layers.base import generator, positive
from gradwise.metrics import accuracy
from gradwise.optimizers import SGD
from gradwise.training.history import History
from gradwise.typing import Array, Shape

__all__ = [
    "Conv2DLayer",
    "CrossEntropy",
    "DenseLayer",
    "FlattenLayer",
    "Layer",
    "MaxPooling",
    "Network",
    "ReLU",
    "Softmax",
]

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


class _LibraryLayer(Layer):
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
                setattr(self.core, own, _real(given))


def _real(given: npt.ArrayLike) -> Array:
    array = np.asarray(given)
    return array if array.dtype == np.float32 else array.astype(np.float64)


def _parameter(own: str) -> Any:
    """An attribute that is the library layer's own array; what is assigned is copied."""
    return property(lambda self: getattr(self.core, own), lambda self, value: setattr(self.core, own, _real(value)))


def _jacobians(position: int) -> Any:
    """A method: the Jacobians of a batch by one parameter."""
    return lambda self, input_data: self.grad_param(input_data)[position]


def _update(own: str) -> Any:
    """A method: step one parameter against the mean of its gradients, one per sample."""
    return lambda self, grad, learning_rate: self._descend(own, grad, learning_rate)


class DenseLayer(_LibraryLayer):
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


class Conv2DLayer(_LibraryLayer):
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


class ReLU(_LibraryLayer):
    """max(x, 0), of features or images; the derivative at exactly 0 is 0."""

    name = "ReLU"
    core = layers.ReLU()


class Softmax(_LibraryLayer):
    """exp(x) / sum(exp(x)) over the features."""

    name = "Softmax"
    core = layers.Softmax()


class FlattenLayer(_LibraryLayer):
    """Images as rows of features, in the order (height, width, channels) of Keras's Flatten."""

    name = "Flatten"
    core = layers.Flatten(channels_last=True)


class MaxPooling(_LibraryLayer):
    """The maximum of each window; the first one takes the gradient."""

    name = "MaxPooling"

    def __init__(self, pool_size: Size = (2, 2), strides: Size = 2) -> None:
        self.core = layers.MaxPooling2D(pool_size, strides)


class CrossEntropy:
    """-sum(y * log(p + eps)) of each sample's probabilities p and one-hot row y."""

    name = "CrossEntropy"

    def __init__(self, eps: float = 0.00001) -> None:
        self.core = losses.CrossEntropy(eps)
        self.eps = eps

    def forward(self, p: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
        """The loss of each sample: (N,)."""
        return self.core.forward(p, _one_hot(labels))

    calculate_loss = forward

    def grad_x(self, p: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
        """The gradient of each sample's loss by its probabilities: (N, classes)."""
        return self.core.gradient(p, _one_hot(labels))


def _one_hot(labels: npt.ArrayLike) -> Array:
    rows = np.asarray(labels)
    fits = rows.ndim == 2 and rows.dtype.kind in "biuf"
    if not fits or not (((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all()):
        raise DataError(
            f"labels are one-hot rows (N, classes), a single 1 in each, else 0, but got {rows.dtype} of shape"
            f" {rows.shape} that is not. np.eye(classes)[y] makes them of integers."
        )
    return rows


class Network:
    """Layers one after the other, and a loss: a CrossEntropy, or an object with `forward(p, labels)` -> (N,) and
    `grad_x(p, labels)` -> (N, classes).
    """

    name = "Network"

    def __init__(self, layers: Sequence[Layer], loss: Any = None) -> None:
        for index, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise ArgumentError(f"Network: layer {index} is {layer!r}, not a layer of gradwise.course.")
        self.layers = list(layers)
        self.loss = loss

    def forward(self, x: npt.ArrayLike) -> Array:
        """The last layer's output for a batch."""
        return self._outputs(x)[-1]

    predict = forward

    def _outputs(self, x: npt.ArrayLike) -> list[Array]:
        """The input, and each layer's output."""
        outputs = [np.asarray(x)]
        for index, layer in enumerate(self.layers):
            try:
                outputs.append(layer.forward(outputs[-1]))
            except ShapeError as error:
                error.locate(index)
                raise
        return outputs

    def calculate_loss(self, x: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
        """Each sample's loss: (N,)."""
        return self._loss().forward(self.forward(x), labels)

    def grad_x(self, x: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
        """The gradient of each sample's loss by its input: (N, in)."""
        *inputs, p = self._outputs(x)
        grad = self._loss().grad_x(p, labels)[:, None]  # (N, 1, classes)
        for layer, given in zip(reversed(self.layers), reversed(inputs), strict=True):
            grad = layer.grad_loss_x(given, grad)
        return grad[:, 0]

    def grad_param(self, x: npt.ArrayLike, labels: npt.ArrayLike) -> list[list[Array]]:
        """For each layer, the gradients of each sample's loss by its parameters: lists of (N, *shape)."""
        *inputs, p = self._outputs(x)
        grad = self._loss().grad_x(p, labels)[:, None]  # (N, 1, classes)
        grads: list[list[Array]] = []
        for layer, given in zip(reversed(self.layers), reversed(inputs), strict=True):
            grads.insert(0, layer.grad_loss_param(given, grad))
            if len(grads) < len(self.layers):
                grad = layer.grad_loss_x(given, grad)
        return grads

    def update(self, grad_list: Sequence[Sequence[Array]], learning_rate: float) -> None:
        """Step each layer against the mean over the samples of its gradients, as `grad_param` gives them."""
        for layer, grads in zip(self.layers, grad_list, strict=True):
            if len(grads):
                layer.update_param(grads, learning_rate)

    def train_step(self, x: npt.ArrayLike, labels: npt.ArrayLike, learning_rate: float = 0.001) -> float:
        """One step against the mean gradient of a batch: the batch's mean loss before it."""
        net = self._network(x)
        if net is not None:
            return net.train_step(x, _one_hot(labels), SGD(learning_rate))
        before = float(np.mean(self.calculate_loss(x, labels)))
        self.update(self.grad_param(x, labels), learning_rate)
        return before

    def fit(
        self,
        trainX: npt.ArrayLike,
        trainY: npt.ArrayLike,
        validation_split: float = 0.25,
        batch_size: int = 1,
        nb_epoch: int = 1,
        learning_rate: float = 0.01,
    ) -> History:
        """Train by plain gradient descent, batches in order; a bar, and a line `1 epoch: val 0.85` after each epoch.

        The samples held back are those of scikit-learn's train_test_split(test_size=validation_split, random_state=42).
        """
        x, y = np.asarray(trainX), _one_hot(trainY)
        self._loss()
        positive(batch_size, "batch_size")
        positive(nb_epoch, "nb_epoch")
        if len(x) != len(y) or not len(x):
            raise DataError(f"trainX has {len(x)} samples, and trainY has {len(y)}: they go together one by one.")
        train, held = _split(len(x), validation_split)
        for layer in self.layers:
            if isinstance(layer, _LibraryLayer) and layer.drawn:
                for own, array in layer.core.arrays().items():
                    setattr(layer.core, own, array.astype(np.float32))
                layer.drawn = False
        net = self._network(x)
        if net is None:
            return self._fit_own(x[train], y[train], x[held], y[held], batch_size, nb_epoch, learning_rate)
        return net.fit(
            x[train],
            y[train],
            optimizer=SGD(learning_rate),
            epochs=nb_epoch,
            batch_size=batch_size,
            shuffle=False,
            validation_data=(x[held], y[held]) if len(held) else None,
            callbacks=[lambda training: _report(training.history)],
            verbose=sys.stderr is not None and sys.stderr.isatty(),
        )

    def _fit_own(
        self, x: Array, y: Array, held_x: Array, held_y: Array, batch_size: int, epochs: int, learning_rate: float
    ) -> History:
        """`fit` where a layer or the loss is the user's own."""
        from tqdm import tqdm

        history = History()
        for _ in range(epochs):
            steps = [slice(start, start + batch_size) for start in range(0, len(x), batch_size)]
            values = [self.train_step(x[rows], y[rows], learning_rate) for rows in tqdm(steps, disable=None)]
            record = {"loss": float(np.mean(values))}
            if len(held_x):
                record["val_accuracy"] = self.evaluate(held_x, held_y)
            history.append(record)
            _report(history)
        return history

    def evaluate(self, testX: npt.ArrayLike, testY: npt.ArrayLike) -> float:
        """The accuracy: the share of samples whose largest output is their class."""
        x, rows = np.asarray(testX), _one_hot(testY)
        if len(x) != len(rows) or not len(x):
            raise DataError(f"testX has {len(x)} samples, and testY has {len(rows)}: they go together one by one.")
        parts = [self.forward(x[start : start + 256]) for start in range(0, len(x), 256)]
        return float(accuracy(np.concatenate(parts), rows).mean())

    def _loss(self) -> Any:
        if self.loss is None:
            raise ArgumentError("this needs a loss: Network(layers, loss=CrossEntropy())")
        return self.loss

    def _network(self, x: npt.ArrayLike) -> library.Network | None:
        """The same layers and loss as a network of the library; None where one of them is the user's own."""
        cores = [layer.core for layer in self.layers if isinstance(layer, _LibraryLayer)]
        if not isinstance(self._loss(), CrossEntropy) or len(cores) < len(self.layers):
            return None
        net = library.Network(cores, self.loss.core, random_state=0)
        # Not built, for its layers have their arrays; only its shapes are found out.
        net.input_shape, net.output_shape = np.shape(x)[1:], self.forward(np.asarray(x)[:1]).shape[1:]
        return net


def _split(samples: int, share: float) -> tuple[Array, Array]:
    """The samples to train on and to hold back."""
    if not 0 <= share < 1:
        raise ArgumentError(f"validation_split is a number from 0 up to, not including, 1, but got {share!r}.")
    held = math.ceil(samples * share)
    if held >= samples:
        raise DataError(f"validation_split={share} of {samples} samples leaves none to train on.")
    order = np.random.RandomState(42).permutation(samples) if held else np.arange(samples)
    return order[held:], order[:held]


def _report(history: History) -> None:
    shown = f"val {history['val_accuracy'][-1]:.2f}" if "val_accuracy" in history else f"loss {history['loss'][-1]:.4f}"
    print(f"{history.epochs} epoch: {shown}")

"""The course's loss and network."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwise import losses
from gradwise import network as library
from gradwise.course.layers import Layer, LibraryLayer
from gradwise.errors import ArgumentError, DataError, ShapeError
from gradwise.layers.base import positive
from gradwise.metrics import accuracy
from gradwise.optimizers import SGD
from gradwise.training.history import History
from gradwise.typing import Array


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
            if isinstance(layer, LibraryLayer) and layer.drawn:
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
        cores = [layer.core for layer in self.layers if isinstance(layer, LibraryLayer)]
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

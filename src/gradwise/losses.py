"""Losses: one value per sample, and the gradient of each value by its own prediction.

The mean over the batch, and sample weights, are the training loop's. Classification targets are integer labels (N,), or
one-hot or soft rows (N, classes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gradwise import config
from gradwise.errors import ArgumentError, DataError, DTypeError, ShapeError
from gradwise.kernels.activations import log_softmax, sigmoid, softmax, softplus
from gradwise.kernels.checks import all_finite
from gradwise.typing import Array, Shape

__all__ = [
    "CrossEntropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
]

Gradient = Callable[[], Array]


class Loss:
    """Base of all losses; a subclass defines `vjp`.

    Attributes
    ----------
    task : {"classes", "labels", "values"}
        What is predicted: one of several classes, independent yes-or-no labels, or numbers. It decides which targets
        fit and what accuracy means.
    """

    task: ClassVar[str] = "values"

    def vjp(self, prediction: Array, target: Array) -> tuple[Array, Gradient]:
        """The loss of each sample, (N,), and a function that gives its gradient by the prediction, of the prediction's
        shape. Both arrays as `prepare` leaves them.
        """
        raise NotImplementedError(f"{type(self).__name__} must define vjp(prediction, target)")

    def forward(self, prediction: npt.ArrayLike, target: npt.ArrayLike) -> Array:
        """The loss of each sample, (N,)."""
        prediction = _numbers(prediction, self, "prediction")
        return self.vjp(prediction, self.prepare(target, prediction.shape[1:], len(prediction)))[0]

    def gradient(self, prediction: npt.ArrayLike, target: npt.ArrayLike) -> Array:
        """The gradient of each sample's loss by its own prediction: an array of the prediction's shape."""
        prediction = _numbers(prediction, self, "prediction")
        return self.vjp(prediction, self.prepare(target, prediction.shape[1:], len(prediction)))[1]()

    def prepare(self, target: npt.ArrayLike, output_shape: Shape, samples: int | None = None) -> Array:
        """Targets for predictions (N, *output_shape), checked: an array that `vjp` takes, whole or in batches.

        Raises
        ------
        ShapeError
            Targets whose shape does not fit; nothing is broadcast.
        DataError
            Targets that are not finite, labels out of range, rows that are no distribution; another number of them than
            `samples`.
        DTypeError
            Targets that are not numbers.
        """
        array = np.asarray(target)
        if array.dtype.kind not in "biuf":
            raise DTypeError(f"{self!r} takes numbers as targets, but got an array of {array.dtype}.")
        if array.ndim == 0:
            raise ShapeError(repr(self), "takes one target per sample, but got a single number.")
        if samples is not None and len(array) != samples:
            raise DataError(f"{self!r} got {samples} predictions and {len(array)} targets.")
        array = self._fit(array, output_shape)
        if array.dtype.kind == "f" and not all_finite(array):
            raise DataError(f"{self!r} got targets that are NaN or infinite.")
        return array

    def __repr__(self) -> str:
        return config.describe(self)

    def __eq__(self, other: object) -> bool:
        return config.equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def _fit(self, target: Array, output_shape: Shape) -> Array:
        """Targets of a shape that fits; here: numbers of the prediction's own shape."""
        if target.shape[1:] == output_shape:
            return target
        shown = f"(N, {', '.join(map(str, output_shape))})"
        if target.ndim == 1 and output_shape == (1,):
            hint = f" Nothing is broadcast: give the targets as y[:, None], {shown}."
        elif output_shape == ():
            hint = " Nothing is broadcast: give the targets as y[:, 0]."
        else:
            hint = ""
        raise ShapeError(
            repr(self), f"takes targets of the predictions' shape, {shown}, but got {_batch(target.shape)}.{hint}"
        )


def _batch(shape: Shape) -> str:
    return f"(N, {', '.join(map(str, shape[1:]))})" if len(shape) > 1 else "(N,)"


def _numbers(values: npt.ArrayLike, subject: object, what: str) -> Array:
    """An array of floating point numbers with a batch axis."""
    array = np.asarray(values)
    if array.dtype.kind in "biu":
        array = array.astype(np.result_type(array, np.float32))
    elif array.dtype.kind != "f":
        raise DTypeError(f"{subject!r} takes numbers as {what}, but got an array of {array.dtype}.")
    if array.ndim == 0:
        raise ShapeError(repr(subject), f"takes a batch as {what}, (N, ...), but got a single number.")
    return array


def _smoothing(value: Any, loss: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise ArgumentError(f"{loss}: label_smoothing is a number from 0 up to, not including, 1, but got {value!r}.")


class ClassLoss(Loss):
    """What losses over classes have in common: their targets."""

    task = "classes"

    def _fit(self, target: Array, output_shape: Shape) -> Array:
        if len(output_shape) != 1:
            raise ShapeError(
                repr(self),
                f"takes predictions (N, classes), but got {_batch((0, *output_shape))}. Put Flatten() before.",
            )
        classes = output_shape[0]
        if target.ndim == 1:
            if target.dtype.kind == "f":
                raise DTypeError(
                    f"{self!r} takes integer labels, or rows (N, {classes}), but got {target.dtype} of shape (N,)."
                    " Whole numbers become labels by y.astype(int)."
                )
            labels = target.astype(np.intp, copy=False)
            # As unsigned numbers, negative labels are the largest: one pass instead of two.
            if labels.size and np.maximum.reduce(labels.view(np.uintp)) >= classes:
                raise DataError(
                    f"{self!r} takes labels from 0 to {classes - 1}, for {classes} outputs,"
                    f" but got labels from {labels.min()} to {labels.max()}."
                )
            return labels
        if target.shape[1:] != output_shape:
            hint = " Labels are y[:, 0]." if target.shape[1:] == (1,) else ""
            raise ShapeError(
                repr(self),
                f"takes labels (N,) or rows (N, {classes}), for {classes} outputs,"
                f" but got {_batch(target.shape)}.{hint}",
            )
        if len(target) and (target.min() < 0 or np.abs(target.sum(axis=1) - 1).max() > 1e-3):
            raise DataError(
                f"{self!r} takes one-hot or soft rows: numbers of 0 or more that sum to 1, but got a row that is not."
                " For independent labels use SigmoidCrossEntropy."
            )
        return target if target.dtype.kind == "f" else target.astype(np.float32)

    def probabilities(self, prediction: Array) -> Array:
        """The classes' probabilities, (N, classes), that a prediction stands for."""
        raise NotImplementedError


def _smoothed(rows: Array, smoothing: float, dtype: np.dtype) -> Array:
    """Target rows (N, classes), mixed with the uniform distribution."""
    rows = rows.astype(dtype, copy=False)
    return (1 - smoothing) * rows + smoothing / rows.shape[1] if smoothing else rows


def _one_hot(labels: Array, classes: int, dtype: np.dtype) -> Array:
    rows = np.zeros((len(labels), classes), dtype)
    rows[np.arange(len(labels)), labels] = 1
    return rows


class SoftmaxCrossEntropy(ClassLoss):
    """-sum(y * log_softmax(prediction)): predictions are logits, (N, classes).

    Parameters
    ----------
    label_smoothing : float
        The weight of the uniform distribution that is mixed into each target, from 0 up to 1.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        _smoothing(label_smoothing, "SoftmaxCrossEntropy")
        self.label_smoothing = label_smoothing

    def vjp(self, prediction: Array, target: Array) -> tuple[Array, Gradient]:
        if target.ndim == 1 and not self.label_smoothing:
            return self._by_label(prediction, target)
        log_p = log_softmax(prediction)  # (N, classes)
        rows = target if target.ndim == 2 else _one_hot(target, prediction.shape[1], prediction.dtype)
        rows = _smoothed(rows, self.label_smoothing, prediction.dtype)
        values = -(rows * log_p).sum(axis=1)  # (N,)
        return values, lambda: np.exp(log_p) * rows.sum(axis=1, keepdims=True) - rows

    def _by_label(self, prediction: Array, target: Array) -> tuple[Array, Gradient]:
        """Of labels (N,), in fewer passes than of rows."""
        z = np.ascontiguousarray(prediction.T)  # (classes, N)
        samples = z.shape[1]
        # Places in the flattened arrays: a look-up takes 0.14 us, by (row, column) 0.84.
        entry = target * samples + np.arange(samples)
        z = z - np.maximum.reduce(z, axis=0)
        e = np.exp(z)
        total = np.add.reduce(e, axis=0)  # (N,)

        def gradient() -> Array:
            p = e / total
            p.reshape(-1)[entry] -= 1
            return p.T

        return np.log(total) - z.reshape(-1)[entry], gradient

    def probabilities(self, prediction: Array) -> Array:
        """softmax(prediction): (N, classes)."""
        return softmax(prediction)


class CrossEntropy(ClassLoss):
    """-sum(y * log(p + eps)): predictions are probabilities, (N, classes), as a Softmax layer gives them.

    Parameters
    ----------
    eps : float
        Added to each probability; it bounds the loss where p underflows. `SoftmaxCrossEntropy` on logits needs none.
    label_smoothing : float
        The weight of the uniform distribution that is mixed into each target, from 0 up to 1.
    """

    def __init__(self, eps: float = 1e-5, label_smoothing: float = 0.0) -> None:
        _smoothing(label_smoothing, "CrossEntropy")
        if not isinstance(eps, (int, float)) or not 0 <= eps < 1:
            raise ArgumentError(f"CrossEntropy: eps is a number from 0 up to, not including, 1, but got {eps!r}.")
        self.eps = eps
        self.label_smoothing = label_smoothing

    def vjp(self, prediction: Array, target: Array) -> tuple[Array, Gradient]:
        rows = target if target.ndim == 2 else _one_hot(target, prediction.shape[1], prediction.dtype)
        rows = _smoothed(rows, self.label_smoothing, prediction.dtype)
        shifted = prediction + prediction.dtype.type(self.eps)  # (N, classes)
        return -(rows * np.log(shifted)).sum(axis=1), lambda: -rows / shifted

    def probabilities(self, prediction: Array) -> Array:
        """The prediction itself: (N, classes)."""
        return prediction


class SigmoidCrossEntropy(Loss):
    """-y log(s) - (1 - y) log(1 - s) with s = sigmoid(prediction), the mean over the outputs of a sample.

    Predictions are logits, (N, labels). Targets are of that shape, from 0 to 1; for one output also labels (N,).

    Parameters
    ----------
    label_smoothing : float
        Targets become y * (1 - label_smoothing) + label_smoothing / 2.
    """

    task = "labels"

    def __init__(self, label_smoothing: float = 0.0) -> None:
        _smoothing(label_smoothing, "SigmoidCrossEntropy")
        self.label_smoothing = label_smoothing

    def _fit(self, target: Array, output_shape: Shape) -> Array:
        if target.ndim == 1 and output_shape == (1,):
            target = target[:, None]  # one label a sample: the same numbers, not a broadcast
        target = super()._fit(target, output_shape)
        if target.size and not (target.min() >= 0 and target.max() <= 1) and all_finite(target):
            raise DataError(f"{self!r} takes targets from 0 to 1, but got {target.min()} to {target.max()}.")
        return target

    def vjp(self, prediction: Array, target: Array) -> tuple[Array, Gradient]:
        y = target.astype(prediction.dtype, copy=False)
        if self.label_smoothing:
            y = y * (1 - self.label_smoothing) + self.label_smoothing / 2
        return _mean(softplus(prediction) - prediction * y), lambda: (sigmoid(prediction) - y) / _outputs(prediction)

    def probabilities(self, prediction: Array) -> Array:
        """sigmoid(prediction): each label's probability."""
        return sigmoid(prediction)


def _mean(values: Array) -> Array:
    """The mean over each sample's numbers: (N,)."""
    return values.reshape(len(values), -1).mean(axis=1) if values.ndim != 1 else values


def _outputs(prediction: Array) -> int:
    """How many numbers a sample's prediction has."""
    return max(1, prediction.size // max(1, len(prediction)))


class MeanSquaredError(Loss):
    """(prediction - target)^2, the mean over the outputs of a sample."""

    def vjp(self, prediction: Array, target: Array) -> tuple[Array, Gradient]:
        error = prediction - target.astype(prediction.dtype, copy=False)
        return _mean(error * error), lambda: error * (2 / _outputs(prediction))


class MeanAbsoluteError(Loss):
    """|prediction - target|, the mean over the outputs of a sample; the derivative at exactly 0 is 0."""

    def vjp(self, prediction: Array, target: Array) -> tuple[Array, Gradient]:
        error = prediction - target.astype(prediction.dtype, copy=False)
        return _mean(np.abs(error)), lambda: np.sign(error) / _outputs(prediction)


class Huber(Loss):
    """error^2 / 2 up to `delta`, then delta * (|error| - delta / 2); the mean over a sample's outputs (Huber 1964).

    Parameters
    ----------
    delta : float
        Where the square turns into a line.
    """

    def __init__(self, delta: float = 1.0) -> None:
        if not isinstance(delta, (int, float)) or not 0 < delta < float("inf"):
            raise ArgumentError(f"Huber: delta is a number above 0, but got {delta!r}.")
        self.delta = delta

    def vjp(self, prediction: Array, target: Array) -> tuple[Array, Gradient]:
        error = prediction - target.astype(prediction.dtype, copy=False)
        inner = np.clip(error, -self.delta, self.delta)  # the derivative
        values = inner * (error - inner / 2)
        return _mean(values), lambda: inner / _outputs(prediction)

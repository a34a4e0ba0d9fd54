"""Losses over numbers, and over labels that are independent of each other: the mean over a sample's outputs."""

from __future__ import annotations

import numpy as np

from gradwise.errors import ArgumentError, DataError
from gradwise.kernels.activations import sigmoid, softplus
from gradwise.kernels.checks import all_finite
from gradwise.losses.base import Gradient, Loss, check_smoothing
from gradwise.typing import Array, Shape


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
        check_smoothing(label_smoothing, "SigmoidCrossEntropy")
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

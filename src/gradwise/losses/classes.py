"""Losses over classes. Their targets are integer labels (N,), or one-hot or soft rows (N, classes)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gradwise.errors import ArgumentError, DataError, DTypeError, ShapeError
from gradwise.kernels.softmax import label_entropy, log_softmax, softmax
from gradwise.losses.base import Gradient, Loss, batch_shape, check_smoothing
from gradwise.typing import Array, Shape

_FEW = 64  # labels, of so many classes, that are looked at as Python's integers: 16 of them 0.3 us, by a reduction 1.25


class ClassLoss(Loss):
    """What losses over classes have in common: their targets."""

    task = "classes"

    def _fit(self, target: Array, output_shape: Shape) -> Array:
        if len(output_shape) != 1:
            raise ShapeError(
                repr(self),
                f"takes predictions (N, classes), but got {batch_shape((0, *output_shape))}. Put Flatten() before.",
            )
        classes = output_shape[0]
        if target.ndim == 1:
            if target.dtype.kind == "f":
                raise DTypeError(
                    f"{self!r} takes integer labels, or rows (N, {classes}), but got {target.dtype} of shape (N,)."
                    " Whole numbers become labels by y.astype(int)."
                )
            labels = target.astype(np.intp, copy=False)
            if not _all_below(labels, classes):
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
                f" but got {batch_shape(target.shape)}.{hint}",
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


def _all_below(labels: Array, classes: int) -> bool:
    """Whether all labels are from 0 up to, not including, `classes`."""
    if len(labels) <= _FEW and classes <= _FEW:
        return _classes(classes).issuperset(labels.tolist())
    # As unsigned numbers, negative labels are the largest: one pass instead of two.
    return bool(np.maximum.reduce(labels.view(np.uintp), initial=0) < classes)


@lru_cache(maxsize=16)
def _classes(count: int) -> frozenset[int]:
    return frozenset(range(count))


class SoftmaxCrossEntropy(ClassLoss):
    """-sum(y * log_softmax(prediction)): predictions are logits, (N, classes).

    Parameters
    ----------
    label_smoothing : float
        The weight of the uniform distribution that is mixed into each target, from 0 up to 1.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        check_smoothing(label_smoothing, "SoftmaxCrossEntropy")
        self.label_smoothing = label_smoothing

    def vjp(self, prediction: Array, target: Array) -> tuple[Array, Gradient]:
        if target.ndim == 1 and not self.label_smoothing:
            values, gradient = label_entropy(np.ascontiguousarray(prediction.T), target)
            return values, lambda: gradient().T
        log_p = log_softmax(prediction)  # (N, classes)
        rows = target if target.ndim == 2 else _one_hot(target, prediction.shape[1], prediction.dtype)
        rows = _smoothed(rows, self.label_smoothing, prediction.dtype)
        values = -(rows * log_p).sum(axis=1)  # (N,)
        return values, lambda: np.exp(log_p) * rows.sum(axis=1, keepdims=True) - rows

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
        check_smoothing(label_smoothing, "CrossEntropy")
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

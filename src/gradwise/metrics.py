"""Metrics: how good a prediction is, sample by sample. Each takes (prediction, target) and returns (N,) numbers."""

from __future__ import annotations

import numpy as np

from gradwise.typing import Array

__all__ = [
    "accuracy",
    "confusion_matrix",
    "label_accuracy",
    "labels",
    "mean_absolute_error",
    "mean_squared_error",
    "top_5_accuracy",
]


def labels(rows: Array) -> Array:
    """Class labels (N,) of labels (N,) or of rows (N, classes): the first largest entry."""
    return rows if rows.ndim == 1 else rows.argmax(axis=1)


def accuracy(prediction: Array, target: Array) -> Array:
    """1 where the largest output is the target's class. prediction: (N, classes)."""
    return prediction.argmax(axis=1) == labels(target)


def top_5_accuracy(prediction: Array, target: Array) -> Array:
    """1 where fewer than five outputs are larger than that of the target's class. prediction: (N, classes)."""
    own = np.take_along_axis(prediction, labels(target)[:, None], axis=1)
    return (prediction > own).sum(axis=1) < 5


def label_accuracy(prediction: Array, target: Array) -> Array:
    """The share of a sample's yes-or-no labels that are right. prediction: logits (N, labels)."""
    return ((prediction > 0) == (target > 0.5)).reshape(len(prediction), -1).mean(axis=1)


def mean_absolute_error(prediction: Array, target: Array) -> Array:
    """The mean |prediction - target| of a sample's outputs."""
    return np.abs(prediction - target).reshape(len(prediction), -1).mean(axis=1)


def mean_squared_error(prediction: Array, target: Array) -> Array:
    """The mean (prediction - target)^2 of a sample's outputs."""
    return np.square(prediction - target).reshape(len(prediction), -1).mean(axis=1)


def confusion_matrix(prediction: Array, target: Array, classes: int | None = None) -> Array:
    """How often class i was taken for class j: integers (classes, classes), rows the true classes.

    prediction and target: labels (N,) or rows (N, classes).
    """
    taken, true = labels(np.asarray(prediction)), labels(np.asarray(target))
    size = classes or int(max(taken.max(initial=-1), true.max(initial=-1))) + 1
    return np.bincount(true * size + taken, minlength=size * size).reshape(size, size)

"""`Loss`: the protocol of every loss, and the checks of its targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gradwise import config
from gradwise.errors import ArgumentError, DataError, DTypeError, ShapeError
from gradwise.kernels.checks import all_finite
from gradwise.typing import Array, Shape

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
            repr(self), f"takes targets of the predictions' shape, {shown}, but got {batch_shape(target.shape)}.{hint}"
        )


def batch_shape(shape: Shape) -> str:
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


def check_smoothing(value: Any, loss: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise ArgumentError(f"{loss}: label_smoothing is a number from 0 up to, not including, 1, but got {value!r}.")

"""One training step: the gradients of a batch, and the optimiser's step along them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from gradwise.errors import ArgumentError, NonFiniteError
from gradwise.kernels.blas import column_sums
from gradwise.kernels.memory import Aligned
from gradwise.kernels.samples import together
from gradwise.layers.backwards import collect
from gradwise.layers.containers import Chain
from gradwise.losses import Loss
from gradwise.optimizers import Optimizer
from gradwise.optimizers.base import number
from gradwise.training.batches import Batch
from gradwise.training.diagnosis import first_not_finite
from gradwise.typing import Array, Index

_ALIGNED = 1 << 15  # numbers handed on from which arrays begin on cache lines: see `Aligned`

Found = tuple[float, Array, dict[str, Array]]


def gradients(network: Chain, loss: Loss, batch: Batch, rng: np.random.Generator, scale: float) -> Found:
    """Forward and backward: the sum of weight * loss over the batch, its predictions, and path -> gradient.

    The gradients are those of that sum, times `scale`. A batch whose arrays would leave the caches, or be asked of the
    system anew each time, is gone through in parts, which is exact: samples do not know of each other. Layers with
    state get theirs whole.
    """
    samples = len(batch.x)
    if samples * network.largest < _ALIGNED:
        return _gradients(network, loss, batch, rng, scale)
    rows = together(samples, network.largest, network.weights)
    if len(rows) == 1 or network.arrays("state"):
        with Aligned():
            return _gradients(network, loss, batch, rng, scale)
    total, predictions = 0.0, []
    found: dict[str, Array] = {}
    for part in parts(batch, rows):
        with Aligned():
            share, prediction, own = _gradients(network, loss, part, rng, scale)
        # What is kept lies elsewhere: among the memory of the parts' arrays it would keep the next ones from theirs.
        total += share
        predictions.append(prediction.copy())
        for path, gradient in own.items():
            collect(found, path, gradient.copy() if isinstance(gradient, np.ndarray) else gradient)
    return total, np.concatenate(predictions), found


def parts(batch: Batch, rows: Sequence[slice]) -> list[Batch]:
    """A batch in parts of those samples."""
    return [Batch(batch.x[r], batch.y[r], None if batch.weight is None else batch.weight[r]) for r in rows]


def _gradients(network: Chain, loss: Loss, batch: Batch, rng: np.random.Generator, scale: float) -> Found:
    """`gradients` of a batch, or a part of one, in one go."""
    x, y, weight = batch
    total, output = 0.0, x

    def judge(prediction: Array) -> Array:
        """The cotangent, of a loss that is finite."""
        nonlocal total, output
        output = prediction
        values, gradient = loss.vjp(prediction, y)
        total = float(column_sums(values if weight is None else values * weight))
        if not math.isfinite(total):
            raise NonFiniteError(f"the loss is {total}: {first_not_finite(network, loss, batch)}")
        if weight is None:
            return gradient() * number(scale, prediction.dtype)
        share = (weight * scale).astype(prediction.dtype)
        return gradient() * share.reshape(-1, *[1] * (prediction.ndim - 1))

    found = network.sweep(x, rng, judge)
    if not found:
        raise ArgumentError("nothing to train: every layer is frozen (trainable=False) or has no parameters.")
    return total, output, found


def scale_of(factor: float | None, samples: int) -> float:
    """What a batch's gradients are scaled by: to their mean, and by the optimiser's factor where it has one."""
    return (1.0 if factor is None else float(factor)) / samples


def descend(
    network: Chain,
    optimizer: Optimizer,
    found: Mapping[str, Any],
    multiplied: bool,
    where: Mapping[str, Index] = MappingProxyType({}),
) -> None:
    """The optimiser's step along gradients of that scale: each parameter that has one, in place.

    multiplied : whether the scale has the optimiser's factor in it.
    where : the parts of parameters that gradients are of, for those of which they are of a part.
    """
    parameters = network.held(look=False)  # the gradients' sweep has just looked
    if len(parameters) > len(found):
        parameters = {path: parameters[path] for path in found}
    if where:
        parameters |= {path: parameters[path][part] for path, part in where.items()}
    if multiplied:
        optimizer.step_multiplied(parameters, found)
    else:
        optimizer.step(parameters, found)


def step(
    network: Chain, loss: Loss, optimizer: Optimizer, batch: Batch, rng: np.random.Generator
) -> tuple[float, Array]:
    """Forward, backward, update: the batch's mean loss before the step, and its predictions.

    A loss that is not finite changes nothing.
    """
    samples, factor = len(batch.x), optimizer.factor()
    total, prediction, found = gradients(network, loss, batch, rng, scale_of(factor, samples))
    descend(network, optimizer, found, factor is not None)
    return total / samples, prediction

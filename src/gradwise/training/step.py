"""One training step: the gradients of a batch, and the optimiser's step along them."""

from __future__ import annotations

import math

import numpy as np

from gradwise.errors import ArgumentError, NonFiniteError
from gradwise.layers.containers import Chain
from gradwise.losses import Loss
from gradwise.optimizers import Optimizer
from gradwise.training.batches import Batch
from gradwise.training.diagnosis import first_not_finite
from gradwise.typing import Array

# NumPy's elementwise functions copy operands through a buffer where several of their contiguous rows would fit into it,
# 8192 numbers by default: the maximum of two columns of pooling windows, rows of 2304, takes 8.7 us so, and 4.5 with
# this. Network D of the benchmarks at batch 16: 361 -> 314 us; 2048 and 512 give the same.
_BUFFER = 1024


class Computing(np.errstate):
    """The context training runs in: what is not finite is an error of its own, not a warning, and buffers are small."""

    def __init__(self) -> None:
        super().__init__(all="ignore")

    def __enter__(self) -> None:
        super().__enter__()
        np.setbufsize(_BUFFER)  # put back with the rest at the end


def gradients(
    network: Chain, loss: Loss, batch: Batch, rng: np.random.Generator, samples: int
) -> tuple[float, Array, dict[str, Array]]:
    """Forward and backward: the sum of weight * loss over the batch, its predictions, and path -> gradient.

    The gradients are those of that sum divided by `samples`: the whole batch's, where this one is a part of it.
    """
    x, y, weight = batch
    prediction, pullback = network.vjp(x, True, rng)
    values, gradient = loss.vjp(prediction, y)
    if weight is not None:
        values = values * weight
    total = float(np.add.reduce(values))
    if not math.isfinite(total):
        raise NonFiniteError(f"the loss is {total}: {first_not_finite(network, loss, batch)}")
    if weight is None:
        cotangent = gradient() * (1 / samples)
    else:
        share = (weight / samples).astype(prediction.dtype)
        cotangent = gradient() * share.reshape(-1, *[1] * (prediction.ndim - 1))
    _, found = pullback.train(cotangent, needs_input=False)
    if not found:
        raise ArgumentError("nothing to train: every layer is frozen (trainable=False) or has no parameters.")
    return total, prediction, found


def descend(network: Chain, optimizer: Optimizer, found: dict[str, Array]) -> None:
    """The optimiser's step: each parameter that has a gradient, in place."""
    owners = network.owners()
    optimizer.step({path: getattr(*owners[path]) for path in found}, found)


def step(
    network: Chain, loss: Loss, optimizer: Optimizer, batch: Batch, rng: np.random.Generator
) -> tuple[float, Array]:
    """Forward, backward, update: the batch's mean loss before the step, and its predictions.

    A loss that is not finite changes nothing.
    """
    samples = len(batch.x)
    total, prediction, found = gradients(network, loss, batch, rng, samples)
    descend(network, optimizer, found)
    return total / samples, prediction

"""What is done over and over with batches alike, run as programs: a training step, and the prediction of a few samples.

The functions here are those that are traced, each with all that it does: also without a program they are what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradwise.kernels.context import Computing
from gradwise.layers.containers import Chain
from gradwise.tracing import Traced
from gradwise.training import given, loop
from gradwise.training.batches import Arrays, Batch, is_mapped
from gradwise.training.kept import Kept
from gradwise.training.step import step
from gradwise.typing import Array


class Quick:
    """A network's `Traced` functions.

    Attributes
    ----------
    train_step : Traced
        (x.shape, x, y) -> the batch's mean loss, by the network's optimiser; x and y as they are given.
    fit_step : Traced
        (x.shape, x, y, rng) -> the same and the predictions, of a batch that has been checked, within `Computing`.
    batch : Traced
        (x.shape, x, y) -> what is given, checked, in the parameters' dtype.
    predict : Traced
        (x.shape, x) -> the network's output for samples that go as one batch.
    """

    def __init__(self, network: Any) -> None:
        self.train_step = Traced(_train_step, network, lambda given: Kept.of(network, given[0], network.rng))
        self.fit_step = Traced(_fit_step, network, lambda given: Kept.of(network, given[0], given[2]))
        self.batch = Traced(_batch, network)
        self.predict = Traced(_predict, network)


def _train_step(network: Any, x: Any, y: Any) -> float:
    loss = given.loss(network, "train_step")
    batch = _batch(network, x, y)
    with Computing():
        return step(network, loss, network.optimizer, batch, network.rng)[0]


def _batch(network: Any, x: Any, y: Any) -> Batch:
    return Batch(*given.pair(network, x, y), None)


def _fit_step(network: Any, x: Array, y: Array, rng: np.random.Generator) -> tuple[float, Array]:
    return step(network, network.loss, network.optimizer, Batch(x, y, None), rng)


def _predict(network: Any, x: Array) -> Array:
    given.built(network, "predict")
    array = given.inputs(network, x)
    if is_mapped(array):
        return loop.predictions(network, Arrays(array, np.empty(0), None, len(array), network.dtype))
    batch = array.astype(network.dtype, copy=False)  # the dtype has looked at the layers: 1 us less than by forward
    run: Callable[[Array], Array] = network.infer if type(network).forward is Chain.forward else network.forward
    return np.ascontiguousarray(run(batch))

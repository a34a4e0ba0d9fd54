"""What each of several processes makes of its part of a batch, as a program where parts alike come again and again."""

from __future__ import annotations

import numpy as np

from gradwise.layers.containers import Chain
from gradwise.losses import Loss
from gradwise.tracing import Traced
from gradwise.training.batches import Batch
from gradwise.training.kept import Drawn, small
from gradwise.training.step import Found, gradients
from gradwise.typing import Array


class Sharing:
    """`gradients` of a process's parts of batches, within `Computing`.

    Parameters
    ----------
    network : Chain
    loss : Loss
    """

    def __init__(self, network: Chain, loss: Loss) -> None:
        self.network = network
        self.loss = loss
        self._run = Traced(_share, self, lambda given: Drawn(given[3]) if small(network, given[0]) else None)

    def gradients(self, part: Batch, rng: np.random.Generator, scale: float) -> Found:
        """As `training.step.gradients` has them."""
        if part.weight is not None:
            return gradients(self.network, self.loss, part, rng, scale)
        return self._run(part.x.shape, part.x, part.y, scale, rng)


def _share(own: Sharing, x: Array, y: Array, scale: float, rng: np.random.Generator) -> Found:
    return gradients(own.network, own.loss, Batch(x, y, None), rng, scale)

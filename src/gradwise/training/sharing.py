"""What each of several processes makes of its part of a batch, as a program where parts alike come again and again."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwise.layers.containers import Chain
from gradwise.losses import Loss
from gradwise.tracing import Traced
from gradwise.training.batches import Batch
from gradwise.training.step import Found, gradients
from gradwise.typing import Array

_MOST = 1 << 18  # numbers handed on: of larger batches what lies between the calls of NumPy is a hundredth


def small(network: Chain, x: Any) -> bool:
    """Whether programs are worth the while for a batch, all arrays of which are there at once while it is traced; of
    layers that have a state they would change more than can be put back.
    """
    array = isinstance(x, np.ndarray) and x.ndim > 0
    return array and len(x) * network.largest <= _MOST and not network.arrays("state")


class Drawn:
    """What gradients change: the state of a generator, as it is now.

    Parameters
    ----------
    rng : numpy.random.Generator
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._drawn = rng.bit_generator.state

    def settled(self) -> bool:
        """Whether nobody has drawn a random number since: only so it does not matter if a step is begun twice."""
        return bool(self._rng.bit_generator.state == self._drawn)

    def back(self) -> None:
        """Put it back."""
        self._rng.bit_generator.state = self._drawn


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

"""What a traced function of training changes, as it was before: to be put back where tracing breaks off."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwise.layers.containers import Chain

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


class Kept(Drawn):
    """What a step changes, as it is now.

    Parameters
    ----------
    network : Network
    rng : numpy.random.Generator
    """

    def __init__(self, network: Any, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self._network = network
        self._steps = network.optimizer.steps
        self._arrays = {path: array.copy(order="K") for path, array in network.arrays().items()}

    @classmethod
    def of(cls, network: Any, x: Any, rng: np.random.Generator) -> Kept | None:
        """It, where a step of that batch is to be a program."""
        return cls(network, rng) if small(network, x) else None

    def back(self) -> None:
        """Put it back."""
        super().back()
        self._network.optimizer.steps = self._steps
        for path, array in self._network.arrays().items():
            array[...] = self._arrays[path]

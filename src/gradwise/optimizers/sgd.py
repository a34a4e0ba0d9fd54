"""Gradient descent along the gradient itself."""

from __future__ import annotations

from gradwise.errors import ArgumentError
from gradwise.optimizers.base import ALL, Optimizer, bounded
from gradwise.typing import Array, Index


class SGD(Optimizer):
    """Stochastic gradient descent: v = momentum * v + g; parameter -= learning_rate * v.

    Parameters
    ----------
    learning_rate : float
    momentum : float
        From 0 up to 1.
    nesterov : bool
        Step by g + momentum * v instead (Sutskever et al. 2013).
    weight_decay : float
        Adds weight_decay * parameter to the gradient.
    clip_norm : float, optional
        The largest norm over all gradients.
    """

    kinds = ("velocity",)
    by_parts = True
    elementwise = True

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        bounded(self, momentum=momentum, most=1.0)
        bounded(self, weight_decay=weight_decay)
        if nesterov and not momentum:
            raise ArgumentError("SGD: nesterov=True needs a momentum above 0.")
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay

    def factor(self) -> float | None:
        if self.momentum or self.weight_decay or self.clip_norm:
            return None
        kind = type(self)
        plain = kind.update is SGD.update and kind.step is Optimizer.step
        return self.learning_rate if plain else None

    def update(self, path: str, parameter: Array, gradient: Array, part: Index = ALL) -> None:
        values = parameter if part is ALL else parameter[part]
        if self.weight_decay:
            gradient = gradient + self.weight_decay * values
        if self.momentum:
            velocity = self.array("velocity", path, parameter, part)
            velocity *= self.momentum
            velocity += gradient
            self.settle(velocity)
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        values -= self.learning_rate * gradient

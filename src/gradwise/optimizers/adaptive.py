"""Optimisers that scale each number's step by the gradients it has had."""

from __future__ import annotations

import math

import numpy as np

from gradwise.optimizers.base import ALL, Optimizer, bounded, number
from gradwise.typing import Array, Index


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015).

    Parameters
    ----------
    learning_rate : float
    beta_1, beta_2 : float
        How slowly the running means of the gradient and of its square follow, from 0 up to 1.
    epsilon : float
        Added to the root of the mean square.
    weight_decay : float
        Adds weight_decay * parameter to the gradient. `AdamW` decays the parameter itself.
    clip_norm : float, optional
        The largest norm over all gradients.
    """

    kinds = ("mean", "square")
    by_parts = True
    elementwise = True

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        bounded(self, beta_1=beta_1, beta_2=beta_2, most=1.0)
        bounded(self, epsilon=epsilon, weight_decay=weight_decay)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay

    def update(self, path: str, parameter: Array, gradient: Array, part: Index = ALL) -> None:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter[part]
        self._descend(path, parameter, gradient, part)

    def _descend(self, path: str, parameter: Array, gradient: Array, part: Index) -> None:
        values = parameter if part is ALL else parameter[part]
        mean = self.array("mean", path, parameter, part)
        square = self.array("square", path, parameter, part)
        scratch = gradient - mean
        dtype = scratch.dtype
        scratch *= number(1 - self.beta_1, dtype)
        mean += scratch
        self.settle(mean)
        np.multiply(gradient, gradient, out=scratch)
        scratch *= number(1 - self.beta_2, dtype)
        square *= number(self.beta_2, dtype)
        square += scratch
        self.settle_squares(square, self.epsilon)
        # What the root is corrected by is put to epsilon and to the learning rate: a pass less.
        root = math.sqrt(1 - self.beta_2**self.steps)
        np.sqrt(square, out=scratch)
        scratch += number(self.epsilon * root, dtype)
        np.divide(mean, scratch, out=scratch)
        scratch *= number(self.learning_rate * root / (1 - self.beta_1**self.steps), dtype)
        values -= scratch


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov & Hutter 2019).

    Parameters as in `Adam`; each step first takes learning_rate * weight_decay of the parameter away.
    """

    elementwise = True

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, clip_norm)

    def update(self, path: str, parameter: Array, gradient: Array, part: Index = ALL) -> None:
        values = parameter[part]
        if self.weight_decay:
            values *= 1 - self.learning_rate * self.weight_decay
        self._descend(path, parameter, gradient, part)


class RMSprop(Optimizer):
    """Gradients divided by the root of their running mean square (Tieleman & Hinton 2012).

    Parameters
    ----------
    learning_rate : float
    rho : float
        How slowly the running mean follows, from 0 up to 1.
    epsilon : float
        Added to the root of the mean square.
    momentum : float
        From 0 up to 1.
    centered : bool
        Divide by the running deviation instead: the mean square less the square of the mean.
    weight_decay : float
        Adds weight_decay * parameter to the gradient.
    clip_norm : float, optional
        The largest norm over all gradients.
    """

    kinds = ("square", "velocity", "mean")
    by_parts = True
    elementwise = True

    def __init__(
        self,
        learning_rate: float = 0.01,
        rho: float = 0.99,
        epsilon: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        bounded(self, rho=rho, momentum=momentum, most=1.0)
        bounded(self, epsilon=epsilon, weight_decay=weight_decay)
        self.rho = rho
        self.epsilon = epsilon
        self.momentum = momentum
        self.centered = centered
        self.weight_decay = weight_decay

    def update(self, path: str, parameter: Array, gradient: Array, part: Index = ALL) -> None:
        values = parameter[part]
        if self.weight_decay:
            gradient = gradient + self.weight_decay * values
        square = self.array("square", path, parameter, part)
        square *= self.rho
        square += (1 - self.rho) * gradient * gradient
        self.settle_squares(square, self.epsilon)
        spread = square
        if self.centered:
            mean = self.array("mean", path, parameter, part)
            mean += (1 - self.rho) * (gradient - mean)
            self.settle(mean)
            spread = np.maximum(square - mean * mean, 0)  # of one gradient again and again it is rounded to below 0
        step = gradient / (np.sqrt(spread) + self.epsilon)
        if self.momentum:
            velocity = self.array("velocity", path, parameter, part)
            velocity *= self.momentum
            velocity += step
            self.settle(velocity)
            step = velocity
        values -= self.learning_rate * step

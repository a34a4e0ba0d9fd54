"""Optimisers: each steps parameters in place, path by path, and keeps its own arrays under the same paths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from gradwise import config
from gradwise.errors import ArgumentError, ShapeError
from gradwise.kernels.products import Product
from gradwise.typing import Array, Index

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop"]

ALL = slice(None)


def _bounded(optimizer: object, least: float = 0.0, most: float = math.inf, **values: object) -> None:
    """Refuse hyper-parameters that are not finite numbers with least <= value < most."""
    for name, value in values.items():
        number = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
        if not number or not least <= value < most:  # type: ignore[operator]
            upper = f" and less than {most:g}" if most < math.inf else ""
            raise ArgumentError(
                f"{type(optimizer).__name__}: {name} is a number of {least:g} or more{upper}, but got {value!r}."
            )


class Optimizer:
    """Base of all optimisers; a subclass names its arrays in `kinds` and defines `update`.

    Attributes
    ----------
    learning_rate : float
        May be changed between steps.
    clip_norm : float or None
        Gradients are scaled down together when the norm over all of them is larger, as by PyTorch's
        `clip_grad_norm_`.
    state : dict
        Kind -> path -> array, of the parameter's shape and dtype; made at a parameter's first step.
    steps : int
        How many steps were taken.
    by_parts : bool
        Class level: whether `update` takes `part`, and can step a part of a parameter by itself.
    """

    kinds: ClassVar[tuple[str, ...]] = ()
    by_parts: ClassVar[bool] = False

    learning_rate: float
    clip_norm: float | None

    def __init__(self, learning_rate: float, clip_norm: float | None) -> None:
        _bounded(self, learning_rate=learning_rate)
        if clip_norm is not None and (not isinstance(clip_norm, (int, float)) or not 0 < clip_norm < math.inf):
            raise ArgumentError(f"{type(self).__name__}: clip_norm is None or a number above 0, but got {clip_norm!r}.")
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.steps = 0
        self.state: dict[str, dict[str, Array]] = {kind: {} for kind in self.kinds}

    def step(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Change each parameter in place by its gradient. The gradients are left as they are.

        Raises
        ------
        ShapeError
            A parameter without a gradient, or with one of another shape; nothing was changed then.
        """
        for path, parameter in parameters.items():
            gradient = gradients.get(path)
            if gradient is None or gradient.shape != parameter.shape:
                came = "none" if gradient is None else str(gradient.shape)
                raise ShapeError(
                    repr(self), f"needs a gradient of shape {parameter.shape} for {path!r}, but got {came}."
                )
        scale = self._clip(parameters, gradients) if self.clip_norm is not None else 1.0
        self.steps += 1
        for path, parameter in parameters.items():
            gradient = gradients[path]
            if isinstance(gradient, Product):
                if self.by_parts and scale == 1.0:
                    self.update_by_product(path, parameter, gradient)
                    continue
                gradient = np.asarray(gradient)
            self.update(path, parameter, gradient if scale == 1.0 else gradient * scale)

    def update(self, path: str, parameter: Array, gradient: Array, part: Index = ALL) -> None:
        """Change one parameter, or `part` of it, in place; `gradient`, of that part, must not be changed."""
        raise NotImplementedError(f"{type(self).__name__} must define update(path, parameter, gradient)")

    def update_by_product(self, path: str, parameter: Array, gradient: Product) -> None:
        """Change one parameter by a gradient that is not made yet, part by part."""
        for part, block in gradient.blocks(parameter):
            self.update(path, parameter, block, part)

    def array(self, kind: str, path: str, parameter: Array, part: Index = ALL) -> Array:
        """This optimiser's own array of that kind for that parameter, or that part of it; zeros at first."""
        arrays = self.state[kind]
        found = arrays.get(path)
        if found is None:
            found = arrays[path] = np.zeros_like(parameter)
        elif found.shape != parameter.shape:
            raise ShapeError(
                repr(self),
                f"has stepped another network: its {kind} of {path!r} has shape {found.shape}, the parameter"
                f" {parameter.shape}. Make a new optimiser for each network.",
            )
        return found[part]

    def _clip(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> float:
        """The factor that brings the norm over all gradients down to `clip_norm`."""
        squares = 0.0
        for path in parameters:
            flat = np.asarray(gradients[path]).ravel(order="K")
            squares += float(np.dot(flat, flat))
        return min(1.0, self.clip_norm / (math.sqrt(squares) + 1e-6))  # type: ignore[operator]

    def __repr__(self) -> str:
        return config.describe(self)

    def __eq__(self, other: object) -> bool:
        return config.equal(self, other)

    __hash__ = None  # type: ignore[assignment]


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

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        _bounded(self, momentum=momentum, most=1.0)
        _bounded(self, weight_decay=weight_decay)
        if nesterov and not momentum:
            raise ArgumentError("SGD: nesterov=True needs a momentum above 0.")
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay

    def update(self, path: str, parameter: Array, gradient: Array, part: Index = ALL) -> None:
        values = parameter if part is ALL else parameter[part]
        if self.weight_decay:
            gradient = gradient + self.weight_decay * values
        if self.momentum:
            velocity = self.array("velocity", path, parameter, part)
            velocity *= self.momentum
            velocity += gradient
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        values -= self.learning_rate * gradient

    def update_by_product(self, path: str, parameter: Array, gradient: Product) -> None:
        if self.momentum or self.weight_decay:
            super().update_by_product(path, parameter, gradient)
            return
        # The learning rate goes into the small factor: one pass less over the large product.
        for part, block in Product(gradient.left, self.learning_rate * gradient.right).blocks(parameter):
            values = parameter[part]
            values -= block


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
        _bounded(self, beta_1=beta_1, beta_2=beta_2, most=1.0)
        _bounded(self, epsilon=epsilon, weight_decay=weight_decay)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.weight_decay = weight_decay

    def update(self, path: str, parameter: Array, gradient: Array, part: Index = ALL) -> None:
        values = parameter[part]
        if self.weight_decay:
            gradient = gradient + self.weight_decay * values
        self._descend(path, parameter, gradient, part)

    def _descend(self, path: str, parameter: Array, gradient: Array, part: Index) -> None:
        values = parameter[part]
        mean = self.array("mean", path, parameter, part)
        square = self.array("square", path, parameter, part)
        scratch = gradient - mean
        scratch *= 1 - self.beta_1
        mean += scratch
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - self.beta_2
        square *= self.beta_2
        square += scratch
        np.sqrt(square, out=scratch)
        scratch *= 1 / math.sqrt(1 - self.beta_2**self.steps)
        scratch += self.epsilon
        np.divide(mean, scratch, out=scratch)
        scratch *= self.learning_rate / (1 - self.beta_1**self.steps)
        values -= scratch


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov & Hutter 2019).

    Parameters as in `Adam`; each step first takes learning_rate * weight_decay of the parameter away.
    """

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
        _bounded(self, rho=rho, momentum=momentum, most=1.0)
        _bounded(self, epsilon=epsilon, weight_decay=weight_decay)
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
        spread = square
        if self.centered:
            mean = self.array("mean", path, parameter, part)
            mean += (1 - self.rho) * (gradient - mean)
            spread = square - mean * mean
        step = gradient / (np.sqrt(spread) + self.epsilon)
        if self.momentum:
            velocity = self.array("velocity", path, parameter, part)
            velocity *= self.momentum
            velocity += step
            step = velocity
        values -= self.learning_rate * step

"""The types that pass between the floors: arrays, shapes, derivatives, pullbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Index = slice | tuple[slice, slice]  # a part of a matrix
Derivative = Callable[[Array], Array]
RandomState: TypeAlias = "int | np.random.Generator | None"  # in quotes: numpy.random takes 14 ms to import


class Pullback:
    """The derivatives of one pass through a layer, one function each.

    Each takes the cotangent dL/dy, of y's shape, and gives one gradient; whoever does not call it does not pay for it.

    Parameters
    ----------
    input : callable
        dL/dy -> dL/dx, of x's shape.
    **parameters : callable
        dL/dy -> dL/d(parameter), of the parameter's shape, summed over the batch; under the parameter's name.

    Examples
    --------
    >>> import numpy as np
    >>> pullback = Pullback(input=lambda dy: 2 * dy, scale=lambda dy: dy.sum(axis=0))
    >>> pullback.input(np.ones((1, 2)))
    array([[2., 2.]])
    >>> dx, gradients = pullback(np.ones((1, 2)))
    >>> gradients
    {'scale': array([1., 1.])}
    """

    input: Derivative

    def __init__(self, input: Derivative, **parameters: Derivative) -> None:
        self.input = input
        self._parameters = parameters

    @property
    def parameters(self) -> Mapping[str, Derivative]:
        """Name (in a chain: dotted path) -> the function that gives that parameter's gradient."""
        return self._parameters

    def __getattr__(self, name: str) -> Derivative:
        if not name.startswith("_") and name in self.parameters:
            return self.parameters[name]
        raise AttributeError(
            f"this pullback has no derivative by {name!r}, only by input, {', '.join(self.parameters)}"
        )

    def __call__(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Evaluate all derivatives: the input's gradient, and name -> gradient of each parameter."""
        gradients = {name: derivative(dy) for name, derivative in self.parameters.items()}
        return self.input(dy), gradients

    def train(self, dy: Array, needs_input: bool, trains: bool = True) -> tuple[Array | None, dict[str, Array]]:
        """What training asks for: trained parameters' gradients first, then the input's if an earlier layer learns."""
        gradients = {}
        if trains:
            for name, derivative in self._parameters.items():
                gradients[name] = derivative(dy)
        return (self.input(dy) if needs_input else None), gradients

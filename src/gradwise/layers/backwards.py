"""The general way back through a chain: its layers' pullbacks, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradwise.layers.base import Layer
from gradwise.typing import Array, Derivative, Pullback


class ChainPullback(Pullback):
    """The derivatives of a chain: its layers' pullbacks, run backwards.

    Parameters
    ----------
    layers : sequence of Layer
        The chain's.
    tables : sequence of mapping
        Of each layer: its own parameter's path -> that parameter's path in the chain.
    steps : list of (int, Pullback)
        In the order they ran: the layer's index, and its pullback.
    """

    def __init__(
        self, layers: Sequence[Layer], tables: Sequence[Mapping[str, str]], steps: list[tuple[int, Pullback]]
    ) -> None:
        self._layers = layers
        self._tables = tables
        self._steps = steps

    def input(self, dy: Array) -> Array:
        """dL/dy -> dL/dx; no parameter's gradient is computed."""
        for _, pullback in reversed(self._steps):
            dy = pullback.input(dy)
        return dy

    @property
    def parameters(self) -> Mapping[str, Derivative]:
        """Path -> the function that gives that parameter's gradient."""
        uses: dict[str, list[tuple[int, str]]] = {}
        for step, (index, pullback) in enumerate(self._steps):
            for name in pullback.parameters:
                uses.setdefault(self._tables[index][name], []).append((step, name))
        return {path: self._derivative(where) for path, where in uses.items()}

    def _derivative(self, where: list[tuple[int, str]]) -> Callable[[Array], Array]:
        """The gradient of one parameter: the sum over the steps that use it."""
        steps = self._steps

        def gradient(dy: Array) -> Array:
            total: Any = None
            for step in range(len(steps) - 1, where[0][0] - 1, -1):
                for used, name in where:
                    if used == step:
                        share = steps[step][1].parameters[name](dy)
                        total = share if total is None else total + share
                if step > where[0][0]:
                    dy = steps[step][1].input(dy)
            return total

        return gradient

    def __call__(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        """The input's gradient and all parameters' gradients, in one sweep backwards."""
        gradients: dict[str, Array] = {}
        for index, pullback in reversed(self._steps):
            dy, own = pullback(dy)
            for name in own:
                collect(gradients, self._tables[index][name], own[name])
        return dy, gradients

    def train(self, dy: Array, needs_input: bool, trains: bool = True) -> tuple[Array | None, dict[str, Array]]:
        """One sweep backwards that can be run once: each layer's pullback is dropped as soon as it has served."""
        layers, tables, steps = self._layers, self._tables, self._steps
        # Below the first layer that learns there is nothing to do, unless the input's gradient is wanted.
        stop = 0
        if not needs_input:
            while stop < len(steps) and not (trains and learns(layers[steps[stop][0]])):
                stop += 1
        gradients: dict[str, Array] = {}
        cotangent: Any = dy
        while len(steps) > stop:
            index, pullback = steps.pop()
            wanted = needs_input or len(steps) > stop
            cotangent, own = pullback.train(cotangent, wanted, trains and layers[index].trainable)
            for name in own:
                collect(gradients, tables[index][name], own[name])
        return cotangent, gradients


def learns(layer: Layer) -> bool:
    """Whether it has parameters that are trained."""
    names = type(layer).parameters if isinstance(type(layer).parameters, tuple) else ()
    own = any(getattr(layer, name) is not None for name in names)
    return layer.trainable and (own or any(learns(child) for child in layer.children().values()))


def collect(gradients: dict[str, Array], path: str, gradient: Array) -> None:
    """Add a gradient to those of the same parameter, where it serves in several places."""
    gradients[path] = gradients[path] + gradient if path in gradients else gradient

"""`Optimizer`: the protocol of every optimiser, its own arrays and the clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from gradwise import config
from gradwise.errors import ArgumentError, ShapeError
from gradwise.kernels.products import Product, subtract
from gradwise.optimizers.joined import Joined, small
from gradwise.tracing import whole
from gradwise.typing import Array, Index

ALL = slice(None)
_JOINED = "(small parameters)"  # the path of those that are stepped as one: this very object
# Processors take up to 40 times as long for numbers below the smallest normal one, and a running mean ends among them
# where its gradients are 0 from some step on, as those of a unit that no sample reaches: 0.9 of 5.6e-45 is 5.6e-45. So
# every so many steps what is below _LEFT times the smallest normal number becomes 0; in as many steps a mean of 0.9
# falls to 3e-5 of what it was. The benchmarks' network B by Adam, 1000 steps on the same 16 samples on, 133 -> 99 us.
_SELDOM, _LEFT = 100, 1e8
_ROUNDED = 1e-7  # of a number: what adding it to that hardly changes


def bounded(optimizer: object, least: float = 0.0, most: float = math.inf, **values: object) -> None:
    """Refuse hyper-parameters that are not finite numbers with least <= value < most."""
    for name, value in values.items():
        number = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
        if not number or not least <= value < most:  # type: ignore[operator]
            upper = f" and less than {most:g}" if most < math.inf else ""
            raise ArgumentError(
                f"{type(optimizer).__name__}: {name} is a number of {least:g} or more{upper}, but got {value!r}."
            )


@lru_cache(maxsize=256)
def number(value: float, dtype: np.dtype) -> Array:
    """A number as an array of no axes, which NumPy takes sooner than Python's, as the same one: 20 numbers times it 1.2
    us on an AMD EPYC, by Python's 2.1.
    """
    array = np.array(value, dtype)
    array.flags.writeable = False
    return array


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
    elementwise : bool
        Class level: whether `update` steps each number by itself, whatever it is of: then small parameters may come as
        one, under a path of no parameter.
    """

    kinds: ClassVar[tuple[str, ...]] = ()
    by_parts: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    learning_rate: float
    clip_norm: float | None

    def __init__(self, learning_rate: float, clip_norm: float | None) -> None:
        bounded(self, learning_rate=learning_rate)
        if clip_norm is not None and (not isinstance(clip_norm, (int, float)) or not 0 < clip_norm < math.inf):
            raise ArgumentError(f"{type(self).__name__}: clip_norm is None or a number above 0, but got {clip_norm!r}.")
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.steps = 0
        self.state: dict[str, dict[str, Array]] = {kind: {} for kind in self.kinds}
        self._joined: Joined | None = None

    def __init_subclass__(cls) -> None:
        """What a base class says of its own `update` need not hold for the subclass's."""
        super().__init_subclass__()
        if "elementwise" not in cls.__dict__ and not {"update", "array"}.isdisjoint(cls.__dict__):
            cls.elementwise = False

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: the arrays that are parts of rows become arrays by themselves."""
        return self.__dict__ | {"_joined": None}

    def factor(self) -> float | None:
        """The number that a step multiplies each gradient with before it is subtracted, where it does nothing else.

        Training then folds it into the small array that the gradients are made from.
        """
        return None

    def step_multiplied(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """`step`, of an optimiser that has a factor, by gradients that are multiplied by it already."""
        self._check(parameters, gradients)
        self.steps += 1
        for path, parameter in parameters.items():
            subtract(parameter, gradients[path])

    def _check(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Refuse gradients that do not fit."""
        for path, parameter in parameters.items():
            gradient = gradients.get(path)
            if gradient is None or gradient.shape != parameter.shape:
                came = "none" if gradient is None else str(gradient.shape)
                raise ShapeError(
                    repr(self), f"needs a gradient of shape {parameter.shape} for {path!r}, but got {came}."
                )

    @whole
    def step(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Change each parameter in place by its gradient. The gradients are left as they are.

        Raises
        ------
        ShapeError
            A parameter without a gradient, or with one of another shape; nothing was changed then.
        """
        self._check(parameters, gradients)
        scale = self._clip(parameters, gradients) if self.clip_norm is not None else 1.0
        self.steps += 1
        joined = self._step_joined(parameters, gradients, scale) if self.elementwise else ()
        for path, parameter in parameters.items():
            if path in joined:
                continue
            gradient = gradients[path]
            if isinstance(gradient, Product) and not self.by_parts:
                gradient = np.asarray(gradient)
            if scale != 1.0:
                gradient = gradient * scale
            if isinstance(gradient, Product):
                self.update_by_product(path, parameter, gradient)
            else:
                self.update(path, parameter, gradient)

    def _step_joined(
        self, parameters: Mapping[str, Array], gradients: Mapping[str, Array], scale: float
    ) -> Mapping[str, Array]:
        """Step the small parameters as one; which they are."""
        some = small(parameters, gradients)
        if len(some) < 2:
            return {}
        if self._joined is None or not self._joined.holds(some, self.state):
            self._joined = Joined(some)
        self._joined.fill(gradients, scale)
        self.update(_JOINED, self._joined.values, self._joined.gradient)
        self._joined.spread()
        return some

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
        if path is _JOINED and self._joined is not None:
            return self._joined.array(kind, arrays, self.array)
        found = arrays.get(path)
        if found is None:
            found = arrays[path] = np.zeros_like(parameter)
        elif found.shape != parameter.shape:
            raise ShapeError(
                repr(self),
                f"has stepped another network: its {kind} of {path!r} has shape {found.shape}, the parameter"
                f" {parameter.shape}. Make a new optimiser for each network.",
            )
        return found if part is ALL else found[part]

    def settle(self, mean: Array, most: float = 1e-20) -> None:
        """Every so many steps: make 0, in place, of what a running mean, or a part of one, still has of gradients long
        past, where that is below `most`, which no number of float16 is. For `update`.
        """
        if self.steps % _SELDOM == 0:
            mean *= np.abs(mean) >= min(float(np.finfo(mean.dtype).tiny) * _LEFT, most)

    def settle_squares(self, squares: Array, epsilon: float) -> None:
        """`settle`, of a mean whose root is added to epsilon: what is too small to change that sum."""
        self.settle(squares, (_ROUNDED * epsilon) ** 2)

    def _clip(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> float:
        """The factor that brings the norm over all gradients down to `clip_norm`."""
        squares = 0.0
        for path, parameter in parameters.items():
            gradient = gradients[path]
            blocks = gradient.blocks(parameter) if isinstance(gradient, Product) else [(ALL, np.asarray(gradient))]
            for _, block in blocks:
                flat = block.ravel(order="K")
                squares += float(np.dot(flat, flat))
        return min(1.0, self.clip_norm / (math.sqrt(squares) + 1e-6))  # type: ignore[operator]

    def __repr__(self) -> str:
        return config.describe(self)

    def __eq__(self, other: object) -> bool:
        return config.equal(self, other)

    __hash__ = None  # type: ignore[assignment]

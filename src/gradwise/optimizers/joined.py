"""Small parameters, stepped as one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from gradwise.typing import Array

# Numbers of a parameter up to which it goes with others: an update is a dozen calls of NumPy, which for so few take
# longer than the copies there and back. A step of the benchmarks' network B by Adam takes at batch 16 0.91 of the time,
# C 0.87, E 0.98; by 1 << 12, without B's first kernel, B 0.94.
_FEW = 1 << 14

Make = Callable[[str, str, Array], Array]


class Joined:
    """Parameters of one dtype with their gradients, each laid in one row, and an optimiser's arrays for them.

    Parameters
    ----------
    parameters : dict
        Path -> array.
    """

    def __init__(self, parameters: dict[str, Array]) -> None:
        self.parameters = parameters
        sizes = [parameter.size for parameter in parameters.values()]
        dtype = next(iter(parameters.values())).dtype
        self.values, self.gradient = np.empty(sum(sizes), dtype), np.empty(sum(sizes), dtype)
        self._values, self._gradients = self._laid(self.values), self._laid(self.gradient)
        self._state: dict[str, tuple[Array, dict[str, Array]]] = {}

    def _laid(self, row: Array) -> dict[str, Array]:
        """Path -> the parameter's part of a row, of its shape and in its memory order."""
        found, start = {}, 0
        for path, parameter in self.parameters.items():
            order: Literal["C", "F"] = "C" if parameter.flags.c_contiguous else "F"
            found[path] = row[start : start + parameter.size].reshape(parameter.shape, order=order)
            start += parameter.size
        return found

    def holds(self, parameters: Mapping[str, Array], state: Mapping[str, Mapping[str, Array]]) -> bool:
        """Whether it is of these parameters, and the optimiser's arrays are still those it gave."""
        own = self.parameters
        same = own.keys() == parameters.keys() and all(map(operator.is_, own.values(), map(parameters.get, own)))
        return same and all(
            all(map(operator.is_, laid.values(), map(state[kind].get, laid))) for kind, (_, laid) in self._state.items()
        )

    def fill(self, gradients: Mapping[str, Array], scale: float) -> None:
        """Copy the parameters and their gradients, times `scale`, into their rows."""
        for path, parameter in self.parameters.items():
            self._values[path][...] = parameter
            self._gradients[path][...] = gradients[path]
        if scale != 1.0:
            self.gradient *= scale

    def spread(self) -> None:
        """Copy the row of values back to the parameters."""
        for path, parameter in self.parameters.items():
            parameter[...] = self._values[path]

    def array(self, kind: str, state: dict[str, Array], make: Make) -> Array:
        """The optimiser's array of that kind as a row, of which `state` has the parts from now on.

        make : (kind, path, parameter) -> the array that the optimiser has had, or a new one.
        """
        if kind not in self._state:
            row = np.empty_like(self.values)
            laid = self._laid(row)
            for path, parameter in self.parameters.items():
                laid[path][...] = make(kind, path, parameter)
            state.update(laid)
            self._state[kind] = row, laid
        return self._state[kind][0]


def small(parameters: Mapping[str, Array], gradients: Mapping[str, Any]) -> dict[str, Array]:
    """Those of the parameters that can be joined: small ones of the first's dtype, with gradients of it."""
    found: dict[str, Array] = {}
    dtype: np.dtype | None = None
    for path, parameter in parameters.items():
        gradient = gradients[path]
        if parameter.size <= _FEW and type(gradient) is np.ndarray and parameter.flags.forc:
            dtype = dtype or parameter.dtype
            if parameter.dtype == dtype == gradient.dtype:
                found[path] = parameter
    return found

"""Explicit Jacobians and per-sample gradients of any layer, chain or network, from its pullback alone.

A row of a Jacobian is the pullback of a unit vector; a whole Jacobian, the pullback of the identity over the repeated
sample. A per-sample gradient is the gradient of a batch of one; a chain hands each of its layers that layer's own input
and cotangent, and a layer with a closed form (`sample_gradients`: Dense, Conv2D) needs no loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwise.errors import TooLargeError
from gradwise.layers.base import Layer
from gradwise.layers.containers import Chain
from gradwise.typing import Array

LIMIT = 2**31  # bytes of a result, unless the caller says otherwise
_CHUNK = 2**25  # bytes of cotangents worked on at a time


def jacobian(layer: Layer, x: npt.ArrayLike, max_bytes: int = LIMIT) -> Array:
    """The Jacobian of each sample's flattened output by its flattened input: (N, out, in).

    Parameters
    ----------
    layer : Layer
        A built layer, chain or network. It runs as in inference.
    x : array_like, (N, *input_shape)
    max_bytes : int
        The largest result allowed.

    Returns
    -------
    ndarray, (N, out, in)
        Both flattened row-major, in the dtype of the layer's output.

    Raises
    ------
    TooLargeError
        The result would take more than `max_bytes`; nothing was computed.
    """
    batch = layer.admit(x)
    y = layer.forward(batch)
    outputs, inputs = _size(y), _size(batch)
    _afford(f"the Jacobian of {_named(layer)}", (len(batch), outputs, inputs), y.dtype, max_bytes)
    result = np.empty((len(batch), outputs, inputs), y.dtype)
    for sample, rows, repeated, cotangent in _unit_rows(batch, y, max(outputs, inputs)):
        dx = layer.vjp(repeated)[1].input(cotangent)
        result[sample, rows] = dx.reshape(len(dx), inputs)
    return result


def parameter_jacobians(layer: Layer, x: npt.ArrayLike, max_bytes: int = LIMIT) -> dict[str, Array]:
    """The Jacobians of each sample's flattened output by each flattened parameter: path -> (N, out, size).

    Parameters
    ----------
    layer : Layer
        A built layer, chain or network. It runs as in inference.
    x : array_like, (N, *input_shape)
    max_bytes : int
        The largest result allowed, over all parameters.

    Raises
    ------
    TooLargeError
        The result would take more than `max_bytes`; nothing was computed.
    """
    batch = layer.admit(x)
    y = layer.forward(batch)
    outputs = _size(y)
    parameters = layer.arrays()
    total = sum(parameter.size for parameter in parameters.values())
    _afford(f"the parameter Jacobians of {_named(layer)}", (len(batch), outputs, total), y.dtype, max_bytes)
    results = {path: np.empty((len(batch), outputs, array.size), y.dtype) for path, array in parameters.items()}
    for sample, rows, repeated, cotangent in _unit_rows(batch, y, max(total, outputs, _size(batch))):
        for path, gradients in sample_gradients(layer, repeated, cotangent).items():
            results[path][sample, rows] = gradients.reshape(len(gradients), -1)
    return results


def per_sample_gradients(layer: Layer, x: npt.ArrayLike, dy: npt.ArrayLike, max_bytes: int = LIMIT) -> dict[str, Array]:
    """Each sample's own parameter gradients: path -> (N, *shape); their sum over N is the pullback's gradient.

    Parameters
    ----------
    layer : Layer
        A built layer, chain or network. It runs as in inference.
    x : array_like, (N, *input_shape)
    dy : array_like, (N, *output_shape)
        Each sample's cotangent: the gradient of its loss by the layer's output.
    max_bytes : int
        The largest result allowed, over all parameters.

    Raises
    ------
    TooLargeError
        The result would take more than `max_bytes`; nothing was computed.
    """
    batch, cotangent = layer.admit(x), np.asarray(dy)
    total = sum(parameter.size for parameter in layer.arrays().values())
    dtype = np.result_type(batch, cotangent, *{array.dtype for array in layer.arrays().values()})
    _afford(f"the per-sample gradients of {_named(layer)}", (len(batch), total), dtype, max_bytes)
    gradients = sample_gradients(layer, batch, cotangent)
    return {path: gradients[path] for path in layer.arrays()}


def sample_gradients(layer: Layer, x: Array, dy: Array) -> dict[str, Array]:
    """`per_sample_gradients` for a batch that is known to fit."""
    return _sample_gradients(layer, x, dy, needs_input=False)[1]


def _sample_gradients(layer: Layer, x: Array, dy: Array, needs_input: bool) -> tuple[Array | None, dict[str, Array]]:
    """The input's gradient where it is needed, and path -> (N, *shape)."""
    if isinstance(layer, Chain):
        return _chain_gradients(layer, x, dy, needs_input)
    dx = layer.vjp(x)[1].input(dy) if needs_input else None
    if not any(True for _ in layer.slots()):
        return dx, {}
    closed = getattr(layer, "sample_gradients", None)
    if closed is not None:
        return dx, closed(x, dy)
    singles = [layer.vjp(x[n : n + 1])[1](dy[n : n + 1])[1] for n in range(len(x))]
    return dx, {path: np.stack([single[path] for single in singles]) for path in singles[0]}


def _chain_gradients(chain: Chain, x: Array, dy: Array, needs_input: bool) -> tuple[Array | None, dict[str, Array]]:
    """Forward, keeping each layer's input; then backwards, each layer by itself."""
    inputs = [x]
    for layer in chain.layers[:-1]:
        inputs.append(layer.forward(inputs[-1]))
    gradients: dict[str, Array] = {}
    tables = chain.paths()
    lowest = 0 if needs_input else next((i for i, table in enumerate(tables) if table), len(tables))
    cotangent: Any = dy
    for index in range(len(chain.layers) - 1, lowest - 1, -1):
        wanted = needs_input or index > lowest
        cotangent, own = _sample_gradients(chain.layers[index], inputs.pop(), cotangent, wanted)
        for name, gradient in own.items():
            path = tables[index][name]
            gradients[path] = gradients[path] + gradient if path in gradients else gradient
    return cotangent, gradients


def _unit_rows(x: Array, y: Array, width: int) -> Iterator[tuple[int, slice, Array, Array]]:
    """(sample, rows, the sample repeated, as many unit cotangents) that together cover the identity of each sample."""
    outputs = _size(y)
    step = max(1, _CHUNK // (max(1, width) * y.itemsize))
    for sample in range(len(x)):
        for start in range(0, outputs, step):
            count = min(step, outputs - start)
            cotangent = np.zeros((count, outputs), y.dtype)
            cotangent[np.arange(count), np.arange(start, start + count)] = 1
            repeated = np.repeat(x[sample : sample + 1], count, axis=0)
            yield sample, slice(start, start + count), repeated, cotangent.reshape(count, *y.shape[1:])


def _size(batch: Array) -> int:
    """Numbers a sample."""
    return math.prod(batch.shape[1:])


def _named(layer: Layer) -> str:
    """A layer in an error: a chain by its class and length, for its repr can fill a screen."""
    return f"a {type(layer).__name__} of {len(layer.layers)} layers" if isinstance(layer, Chain) else repr(layer)


def _afford(what: str, shape: tuple[int, ...], dtype: np.dtype, max_bytes: int) -> None:
    needed = math.prod(shape) * dtype.itemsize
    if needed > max_bytes:
        raise TooLargeError(
            f"{what} would take {_bytes(needed)}: shape {shape} in {dtype}; the limit is {_bytes(max_bytes)}."
            f" Give fewer samples, or max_bytes={needed} to allow it."
        )


def _bytes(number: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.3g} {unit}"
        number /= 1000
    return ""

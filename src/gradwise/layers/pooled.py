"""What a chain makes of a convolution, the max pooling behind it, and a ReLU behind that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

import numpy as np

from gradwise.kernels import activations, conv, pool, pooled
from gradwise.kernels.windows import Geometry, batch_innermost
from gradwise.layers.convolution import Conv2D
from gradwise.layers.pooling import MaxPooling2D
from gradwise.typing import Array, Derivative, Pullback

Swept = tuple[Array | None, tuple[Array, ...]]


class PooledConvolution:
    """A convolution and a max pooling, run as one where that is faster; no layer of its own, but a way to run several.

    Parameters
    ----------
    convolution : Conv2D
    pooling : MaxPooling2D
    relu : bool
        Whether there is a ReLU behind them.
    flat : bool
        Whether there is a Flatten behind all that.
    """

    def __init__(self, convolution: Conv2D, pooling: MaxPooling2D, relu: bool, flat: bool) -> None:
        self.convolution = convolution
        self.pooling = pooling
        self.relu = relu
        self.flat = flat
        self._known: tuple[tuple[Any, ...], Any] = (), None
        # Of a layer: run one after the other, the pooling looks at its own output again.
        self.memory: Literal["any", "new"] = "new" if relu or convolution.use_bias else "any"

    def numbers(self) -> int:
        """Those of the largest array that is whole, for one sample; known once the layers are built."""
        first, second = self.convolution, self.pooling
        kept = [second.output_shape or ()]
        if first.input_shape and second.input_shape:  # which need not go together, before images have come
            g, p = first.windows(first.input_shape), second.windows(second.input_shape)
            kept += [] if pooled.pays(g, p, first.input_shape[0]) else [first.output_shape or ()]
        return max(math.prod(shape) for shape in kept)

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        """The output, and the derivatives of all together: by kernel, bias and input."""
        x, g, p, together = self._places(x)
        kernel, bias = self.convolution.kernel, self.convolution.bias
        if together:
            y, sweep = _as_one(x, kernel, bias, g, p, self.relu)
        else:
            y, sweep = _one_by_one(x, kernel, bias, g, p, self.relu, self.flat)
        return y, _Joint(sweep, ("kernel",) if bias is None else ("kernel", "bias"))

    def forward(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> Array:
        """The output; nothing is kept for derivatives."""
        x, g, p, together = self._places(x)
        kernel, bias = self.convolution.kernel, self.convolution.bias
        if together:
            return pooled.convolve(x, kernel, bias, g, p, self.relu, False)[0]
        return _finish(pool.highest(conv.convolve(x, kernel, None, g), p, self.flat), bias, self.relu)

    def _places(self, x: Array) -> tuple[Array, Geometry, Geometry, bool]:
        """x checked, where the windows lie on it, and whether the two go together."""
        first, second = self.convolution, self.pooling
        if x.dtype.kind != "f" or x.shape[1:] != first.input_shape:
            x = first.admit(x)
        sizes = first.kernel_size, first.stride, first.padding, second.pool_size, second.stride, second.padding
        asked: tuple[Any, ...] = (x.shape[1:], first.filters, *sizes)
        known, found = self._known
        try:
            same = known == asked
        except ValueError:  # an array, as which nothing is
            same = False
        if not same:
            g = first.windows(x.shape[1:])
            p = second.windows((first.filters, *g.output))
            found = g, p, pooled.pays(g, p, x.shape[1])
            self._known = deepcopy(asked), found  # the last ones: 3 us less for each that asks again
        return x, *found


def _as_one(
    x: Array, kernel: Array, bias: Array | None, g: Geometry, p: Geometry, relu: bool
) -> tuple[Array, Callable[[Array, bool, bool], Swept]]:
    x = batch_innermost(x)
    y, winners = pooled.convolve(x, kernel, bias, g, p, relu, True)

    def sweep(dy: Array, needs_input: bool, trains: bool) -> Swept:
        found = pooled.gradients(x, dy, winners, g, p) if trains else ()
        return pooled.input_gradient(dy, kernel, winners, g, p) if needs_input else None, found

    return y, sweep


def _one_by_one(
    x: Array, kernel: Array, bias: Array | None, g: Geometry, p: Geometry, relu: bool, flat: bool
) -> tuple[Array, Callable[[Array, bool, bool], Swept]]:
    x = conv.laid(x, g, kernel.shape[3])
    highest, saved = pool.max_pool(conv.convolve(x, kernel, None, g), p, flat)
    y = _finish(highest, bias, relu)
    positive = y > 0 if relu else None  # not y itself, which who comes next may write over

    def sweep(dy: Array, needs_input: bool, trains: bool) -> Swept:
        arriving = dy if positive is None else positive.astype(dy.dtype) * dy
        before = conv.laid(pool.max_pool_gradient(arriving, saved, p), g, x.shape[1])
        # Pooling hands each number on to one place: the bias is given the sum behind it, of a quarter of the numbers.
        found = (conv.kernel_gradient(x, before, g), conv.bias_gradient(arriving)) if trains else ()
        return conv.input_gradient(before, kernel, g) if needs_input else None, found

    return y, sweep


def _finish(highest: Array, bias: Array | None, relu: bool) -> Array:
    """The bias added, which is the same behind the pooling and less work, and the ReLU."""
    y = highest if bias is None else highest + bias[:, None, None]
    return activations.relu(y, None if y is highest else y) if relu else y


class _Joint(Pullback):
    """Derivatives that share their work: found by one function, of dL/dy and of what is asked for.

    Parameters
    ----------
    sweep : callable
        (dy, needs_input, trains) -> the input's gradient or None, and the parameters' gradients or none.
    names : sequence of str
        Those of the parameters.
    """

    def __init__(self, sweep: Callable[[Array, bool, bool], Swept], names: Sequence[str]) -> None:
        self._sweep, self._names = sweep, names

    def input(self, dy: Array) -> Array:
        """dL/dy -> dL/dx; no parameter's gradient is computed."""
        return self._sweep(dy, True, False)[0]  # type: ignore[return-value]

    @property
    def parameters(self) -> Mapping[str, Derivative]:
        """Name -> the function that gives that parameter's gradient."""

        def only(place: int) -> Derivative:
            return lambda dy: self._sweep(dy, False, True)[1][place]

        return {name: only(place) for place, name in enumerate(self._names)}

    def __call__(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        dx, found = self.train(dy, True)
        return dx, found  # type: ignore[return-value]

    def train(self, dy: Array, needs_input: bool, trains: bool = True) -> tuple[Array | None, dict[str, Array]]:
        dx, found = self._sweep(dy, needs_input, trains)
        return dx, dict(zip(self._names, found, strict=False))

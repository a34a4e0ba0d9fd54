"""The public gradient checker: for people who write a layer or a loss of their own.

`check_layer` and `check_loss` compare every derivative with central differences in float64, and check the rest of what
a layer promises. A failure says which derivative is wrong, where, and by how much.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gradwise.errors import GradientError
from gradwise.layers.base import Layer, generator, sizes
from gradwise.losses import Loss
from gradwise.typing import Array, RandomState, Shape

__all__ = ["check_layer", "check_loss"]

STEP = 1e-5
TOLERANCE = 1e-6
COORDINATES = 400  # as many entries of an array are checked one by one; beyond, random directions are
DIRECTIONS = 12


def check_layer(
    layer: Layer,
    input_shape: int | Shape,
    *,
    batch_size: int = 3,
    x: npt.ArrayLike | None = None,
    tolerance: float = TOLERANCE,
    random_state: RandomState = 0,
) -> None:
    """Check a layer, chain or network against what the library relies on.

    A copy is built where it is not built yet, and checked in float64, in inference and in training: shapes; every
    derivative by central differences, each entry of arrays up to 400 numbers and random directions of larger ones; that
    a pullback gives the same twice; that the input is left as it was; that a sample's output does not depend on its
    batch.

    Parameters
    ----------
    layer : Layer
        Left as it is.
    input_shape : tuple of int
        Without N.
    batch_size : int
    x : array_like, (N, *input_shape), optional
        The input, instead of a random normal one: for functions with kinks or a limited domain.
    tolerance : float
        The largest difference allowed, times the largest entry of the derivative (at least 1).
    random_state : None, int or Generator

    Raises
    ------
    GradientError
        Naming the derivative, the entry and both values.
    """
    rng = generator(random_state)
    shape = sizes(input_shape, "input_shape")
    name = repr(layer)
    layer = copy.deepcopy(layer)
    if layer.input_shape is None or not layer.accepts(shape):
        layer.build(shape, rng)
    for kind in ("parameters", "state"):
        for _, owner, slot in list(layer.slots(kind)):
            setattr(owner, slot, getattr(owner, slot).astype(np.float64))
    batch = rng.standard_normal((batch_size, *shape)) if x is None else np.array(x, dtype=np.float64)
    for training in (False, True):
        _check_pass(name + (" in training" if training else ""), layer, batch, training, tolerance, rng)
    whole = layer.forward(batch)
    single = np.concatenate([layer.forward(batch[n : n + 1]) for n in range(len(batch))])
    _compare(f"{name}: the output of a batch, against its samples one by one,", whole, single, tolerance)


def _check_pass(name: str, layer: Layer, x: Array, training: bool, tolerance: float, rng: np.random.Generator) -> None:
    """Check one mode's pass. Random layers draw the same each time: from a generator of the same seed."""
    seed = int(rng.integers(2**31))

    def run(batch: Array) -> Array:
        return layer.vjp(batch, training, np.random.default_rng(seed))[0]

    given = x.copy()
    y, pullback = layer.vjp(x, training, np.random.default_rng(seed))
    if layer.output_shape is not None and y.shape != (len(x), *layer.output_shape):
        raise GradientError(
            f"{name}: build promised an output of shape {(len(x), *layer.output_shape)}, but vjp gave {y.shape}."
        )
    cotangent = rng.standard_normal(y.shape)
    dx, gradients = pullback(cotangent)
    again, repeated = pullback(cotangent)
    if not np.array_equal(x, given, equal_nan=True):
        raise GradientError(f"{name}: vjp or its pullback changed the input.")
    if not np.array_equal(run(x), y, equal_nan=True) or not np.array_equal(dx, again, equal_nan=True):
        raise GradientError(f"{name}: called twice, it gives two answers: nothing of a pass may be kept or changed.")
    parameters = layer.arrays()
    if set(gradients) != set(parameters):
        raise GradientError(
            f"{name}: the pullback has gradients of {sorted(gradients)}, the layer has parameters {sorted(parameters)}."
        )

    def objective() -> float:
        return float(np.vdot(run(x), cotangent))

    _check_derivative(f"{name}: the gradient of the input", x, dx, objective, tolerance, rng)
    for path, parameter in parameters.items():
        what = f"{name}: the gradient of {path!r}"
        if not np.array_equal(gradients[path], repeated[path], equal_nan=True):
            raise GradientError(f"{what}, asked for twice, differs: nothing of a pass may be kept or changed.")
        _check_derivative(what, parameter, gradients[path], objective, tolerance, rng)


def check_loss(
    loss: Loss,
    output_shape: int | Shape,
    *,
    batch_size: int = 3,
    prediction: npt.ArrayLike | None = None,
    target: npt.ArrayLike | None = None,
    tolerance: float = TOLERANCE,
    random_state: RandomState = 0,
) -> None:
    """Check a loss's gradient against central differences in float64, for each sample by itself.

    Parameters
    ----------
    loss : Loss
    output_shape : tuple of int
        Of the predictions, without N.
    batch_size : int
    prediction, target : array_like, optional
        Instead of random ones: for losses over classes, rows of probabilities (they serve as logits too), and labels.
    tolerance : float
        The largest difference allowed, times the largest entry of the gradient (at least 1).
    random_state : None, int or Generator

    Raises
    ------
    GradientError
        Naming the entry and both values.
    """
    rng = generator(random_state)
    shape = sizes(output_shape, "output_shape")
    guess, answer = _examples(loss, batch_size, shape, rng)
    p = guess if prediction is None else np.array(prediction, dtype=np.float64)
    t = answer if target is None else np.asarray(target)
    values = loss.forward(p, t)
    if values.shape != (len(p),):
        raise GradientError(f"{loss!r}: forward gave shape {values.shape}, not one value per sample, {(len(p),)}.")
    weights = rng.standard_normal(len(p))  # so that a gradient that mixes samples is found out
    gradient = loss.gradient(p, t)
    if gradient.shape != p.shape:
        raise GradientError(f"{loss!r}: gradient gave shape {gradient.shape}, not the prediction's, {p.shape}.")
    weighted = gradient * weights.reshape(-1, *[1] * (p.ndim - 1))
    _check_derivative(
        f"{loss!r}: the gradient of the prediction",
        p,
        weighted,
        lambda: float(loss.forward(p, t) @ weights),
        tolerance,
        rng,
    )


def _examples(loss: Loss, batch_size: int, shape: Shape, rng: np.random.Generator) -> tuple[Array, Array]:
    if loss.task == "classes":
        raw = rng.random((batch_size, *shape)) + 0.1
        return raw / raw.sum(axis=1, keepdims=True), rng.integers(0, shape[0], batch_size)
    prediction = rng.standard_normal((batch_size, *shape))
    if loss.task == "labels":
        return prediction, rng.random((batch_size, *shape))
    return prediction, rng.standard_normal((batch_size, *shape))


def _check_derivative(
    what: str,
    array: Array,
    gradient: Array,
    objective: Callable[[], float],
    tolerance: float,
    rng: np.random.Generator,
) -> None:
    """Compare dL/d(array) with central differences of `objective`, which reads `array` (moved, then restored)."""
    if gradient.shape != array.shape:
        raise GradientError(f"{what} has shape {gradient.shape}, but it is taken by an array of shape {array.shape}.")
    if array.size <= COORDINATES:
        entries = np.arange(array.size)
    else:
        for _ in range(DIRECTIONS):
            direction = rng.standard_normal(array.shape)
            expected = _difference(array, direction, objective)
            found = float(np.vdot(gradient, direction))
            if not abs(found - expected) <= tolerance * max(1.0, abs(expected)) * np.sqrt(array.size):
                break
        else:
            return
        entries = rng.permutation(array.size)[:COORDINATES]  # something is wrong: find out where
    numeric = np.empty(len(entries))
    for k, entry in enumerate(entries):
        direction = np.zeros(array.size)
        direction[entry] = 1
        numeric[k] = _difference(array, direction.reshape(array.shape), objective)
    found_entries = gradient.reshape(-1)[entries]
    _compare(what, found_entries, numeric, tolerance, entries, array.shape)
    if array.size > COORDINATES:
        raise GradientError(
            f"{what} is wrong along a random direction: pullback {found:.8g}, differences {expected:.8g}."
        )


def _difference(array: Array, direction: Array, objective: Callable[[], float]) -> float:
    """The derivative of `objective` along `direction`, by a central difference."""
    before = array.copy()
    array += STEP * direction
    above = objective()
    array[...] = before - STEP * direction
    below = objective()
    array[...] = before
    return (above - below) / (2 * STEP)


def _compare(
    what: str,
    found: Array,
    expected: Array,
    tolerance: float,
    entries: Array | None = None,
    shape: Shape | None = None,
) -> None:
    """Raise where `found` is off, naming the worst entry."""
    allowed = tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))
    error = np.abs(found - expected)
    wrong = ~(error <= allowed)  # NaN is wrong
    if wrong.any():
        worst = int(np.where(np.isnan(error), np.inf, error).argmax())
        position = np.unravel_index(worst if entries is None else int(entries[worst]), shape or found.shape)
        raise GradientError(
            f"{what} is wrong at {tuple(map(int, position))}: it is {found.reshape(-1)[worst]:.8g},"
            f" expected {expected.reshape(-1)[worst]:.8g}, off by {error.reshape(-1)[worst]:.3g}"
            f" where {allowed:.1g} is allowed; {int(wrong.sum())} of {error.size} entries are wrong."
        )

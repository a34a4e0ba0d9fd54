"""The whole contract of every layer and loss, row by row of cases.py."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

import gradwise
from cases import LAYERS, LOSSES, rows
from gradwise import Chain, Dense, Network
from gradwise import layers as all_layers
from gradwise import losses as all_losses
from gradwise.jacobian import jacobian, parameter_jacobians, per_sample_gradients
from gradwise.layers.base import Layer
from gradwise.testing import check_layer, check_loss

BATCH = 3
layers = pytest.mark.parametrize(("make", "shape"), **rows(LAYERS))
small_layers = pytest.mark.parametrize(
    ("make", "shape"), **rows([(m, [s for s in shapes if math.prod(s) < 200]) for m, shapes in LAYERS])
)
losses = pytest.mark.parametrize(("make", "shape"), **rows(LOSSES))


def built(make, shape, dtype=np.float64):
    """The layer with its arrays, in `dtype`, on shuffled parameters (an initial bias of zeros hides mistakes)."""
    layer = make()
    layer.build(shape, 0)
    draw = np.random.default_rng(1)
    for _, owner, name in list(layer.slots()):
        array = getattr(owner, name)
        setattr(owner, name, (array + 0.1 * draw.standard_normal(array.shape)).astype(dtype))
    return layer


def batch(shape, dtype=np.float64, n=BATCH, seed=2):
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(dtype)


def close(one, other, dtype=np.float64):
    scale = max(1.0, float(np.abs(other).max(initial=0)))
    np.testing.assert_allclose(one, other, rtol=0, atol=scale * (1e-11 if dtype == np.float64 else 2e-5))


def test_the_tables_name_every_layer_and_loss():
    def names(instance):
        yield type(instance).__name__
        for child in instance.children().values() if isinstance(instance, Layer) else ():
            yield from names(child)

    seen = {name for table in (LAYERS, LOSSES) for make, _ in table for name in names(make())}
    assert set(all_layers.__all__) - {"Layer"} <= seen
    assert set(all_losses.__all__) - {"Loss"} <= seen


@layers
def test_derivatives_agree_with_central_differences(make, shape):
    """Also: pullback twice gives the same, inputs unchanged, a batch of N equals N batches of one."""
    check_layer(built(make, shape), shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@layers
def test_shapes_and_dtypes(make, shape, dtype):
    layer = built(make, shape, dtype)
    x = batch(shape, dtype)
    y, pullback = layer.vjp(x, True, np.random.default_rng(0))
    assert y.shape == (BATCH, *layer.output_shape)
    assert y.dtype == dtype
    dx, gradients = pullback(np.ones_like(y))
    assert dx.shape == x.shape
    assert dx.dtype == dtype
    assert {path: (a.shape, a.dtype) for path, a in gradients.items()} == {
        path: (a.shape, a.dtype) for path, a in layer.arrays().items()
    }
    forward = layer.forward(x)
    assert forward.shape == y.shape
    assert forward.dtype == dtype


@layers
def test_computes_in_the_promotion_of_input_and_parameters(make, shape):
    layer = built(make, shape, np.float32)
    y, pullback = layer.vjp(batch(shape, np.float64))
    assert y.dtype == np.float64
    assert pullback.input(np.ones_like(y)).dtype == np.float64
    whole = layer.forward(np.ones((BATCH, *shape), int))
    assert whole.dtype.kind == "f"
    close(whole, layer.forward(np.ones((BATCH, *shape))), np.float32)


@layers
def test_float32_is_float64_rounded(make, shape):
    x = batch(shape, np.float32)
    exact, pullback = built(make, shape).vjp(x.astype(np.float64), True, np.random.default_rng(0))
    single = built(make, shape, np.float32)
    y, single_pullback = single.vjp(x, True, np.random.default_rng(0))
    close(y, exact, np.float32)
    dy = batch(exact.shape[1:], np.float32, seed=3)
    dx, gradients = single_pullback(dy)
    wanted, exact_gradients = pullback(dy.astype(np.float64))
    close(dx, wanted, np.float32)
    for path, gradient in gradients.items():
        close(gradient, exact_gradients[path], np.float32)


@small_layers
def test_jacobians_are_the_pullback_of_unit_vectors(make, shape):
    layer = built(make, shape)
    x = batch(shape)
    y, pullback = layer.vjp(x)
    dy = batch(y.shape[1:], seed=3)
    dx, gradients = pullback(dy)
    flat = dy.reshape(BATCH, -1)
    whole = jacobian(layer, x)
    assert whole.shape == (BATCH, flat.shape[1], math.prod(shape))
    close(np.einsum("no,noi->ni", flat, whole).reshape(x.shape), dx)
    parts = parameter_jacobians(layer, x)
    assert parts.keys() == gradients.keys()
    for path, part in parts.items():
        assert part.shape == (BATCH, flat.shape[1], gradients[path].size)
        close(np.einsum("no,nos->s", flat, part).reshape(gradients[path].shape), gradients[path])


@layers
def test_per_sample_gradients_are_those_of_batches_of_one(make, shape):
    layer = built(make, shape)
    x = batch(shape)
    y, pullback = layer.vjp(x)
    dy = batch(y.shape[1:], seed=3)
    each = per_sample_gradients(layer, x, dy)
    summed = {path: derivative(dy) for path, derivative in pullback.parameters.items()}
    assert list(each) == list(layer.arrays())
    assert each.keys() == summed.keys()
    for path, rows_ in each.items():
        assert rows_.shape == (BATCH, *summed[path].shape)
        close(rows_.sum(axis=0), summed[path])
    for n in range(BATCH):
        alone = layer.vjp(x[n : n + 1])[1].parameters
        for path, rows_ in each.items():
            close(rows_[n], alone[path](dy[n : n + 1]))


@layers
def test_any_memory_order_gives_the_same_numbers(make, shape):
    layer = built(make, shape)
    x = batch(shape)
    y, pullback = layer.vjp(x)
    dy = batch(y.shape[1:], seed=3)
    wanted, gradients = pullback(dy)
    innermost = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    strided = np.repeat(x, 2, axis=0)[::2]
    backwards = np.ascontiguousarray(x[::-1])[::-1]
    for other in (np.asfortranarray(x), innermost, strided, backwards):
        again, pulled = layer.vjp(other)
        close(again, y)
        for cotangent in (dy, np.asfortranarray(dy)):
            dx, others = pulled(cotangent)
            close(dx, wanted)
            for path, gradient in gradients.items():
                close(others[path], gradient)


@layers
def test_given_arrays_are_left_as_they_are(make, shape):
    layer = built(make, shape, np.float32)
    x = batch(shape, np.float32)
    y = layer.forward(x)
    dy = batch(y.shape[1:], np.float32, seed=3)
    before = [a.copy() for a in (x, dy, *layer.arrays().values())]
    for array in (x, dy, *layer.arrays().values()):
        array.flags.writeable = False
    _, pullback = layer.vjp(x, True, np.random.default_rng(0))
    pullback(dy)
    layer.forward(x)
    for array, kept in zip((x, dy, *layer.arrays().values()), before, strict=True):
        np.testing.assert_array_equal(array, kept)


@layers
def test_a_pass_leaves_no_trace(make, shape):
    """One layer serves two inputs at once: the first pullback is not disturbed by the second pass."""
    layer = built(make, shape)
    x, other = batch(shape), batch(shape, seed=9)
    y, pullback = layer.vjp(x)
    dy = batch(y.shape[1:], seed=3)
    wanted = pullback(dy)[0]
    _, first = layer.vjp(x)
    layer.vjp(other)
    np.testing.assert_array_equal(first(dy)[0], wanted)
    assert not set(vars(layer)) - set(vars(built(make, shape))), "the layer keeps something of a pass"


@layers
def test_training_sweep_gives_the_gradients_of_the_pullback(make, shape):
    layer = built(make, shape)
    if not layer.trainable:
        layer.trainable = True
    y, pullback = layer.vjp(batch(shape))
    dy = batch(y.shape[1:], seed=3)
    wanted, gradients = pullback(dy)
    dx, trained = layer.vjp(batch(shape))[1].train(dy, needs_input=True)
    close(dx, wanted)
    assert trained.keys() == gradients.keys()
    for path, gradient in gradients.items():
        close(trained[path], gradient)
    assert layer.vjp(batch(shape))[1].train(dy, needs_input=False)[1].keys() == gradients.keys()


@layers
def test_save_and_load_round_trip(make, shape, tmp_path):
    layer = built(make, shape, np.float32)
    net = Network([layer], input_shape=shape, random_state=0)
    net.save(tmp_path / "net.npz")
    again = gradwise.load(tmp_path / "net.npz")
    assert again.layers == [layer]
    assert again.layers[0].trainable == layer.trainable
    x = batch(shape, np.float32)
    np.testing.assert_array_equal(again.forward(x), net.forward(x))


@layers
def test_repr_makes_an_equal_layer(make, shape):
    layer = make()
    if not isinstance(layer, Network):  # a network's repr has its random state and loss too
        assert eval(repr(layer), {**vars(gradwise.initializers), **vars(gradwise)}) == layer
    assert make() == layer
    assert copy.deepcopy(layer) == layer
    assert layer != Dense(99)


@small_layers
def test_inside_a_chain_it_is_itself(make, shape):
    layer = built(make, shape)
    chain = Chain([layer])
    chain.build(shape, 0)
    x = batch(shape)
    y, pullback = layer.vjp(x)
    z, chained = chain.vjp(x)
    np.testing.assert_array_equal(y, z)
    dy = batch(y.shape[1:], seed=3)
    dx, gradients = pullback(dy)
    again, own = chained(dy)
    np.testing.assert_array_equal(dx, again)
    assert set(own) == {f"0.{path}" for path in gradients}


@losses
def test_loss_gradients_agree_with_central_differences(make, shape):
    check_loss(make(), shape)


def targets(loss, shape, dtype=np.float64):
    """Predictions and targets that fit a loss."""
    draw = np.random.default_rng(5)
    prediction = draw.random((BATCH, *shape)) + 0.1
    if loss.task == "classes":
        return (prediction / prediction.sum(axis=1, keepdims=True)).astype(dtype), draw.integers(0, shape[0], BATCH)
    return prediction.astype(dtype), draw.random((BATCH, *shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@losses
def test_losses_give_one_value_a_sample(make, shape, dtype):
    loss = make()
    prediction, target = targets(loss, shape, dtype)
    values, gradient = loss.forward(prediction, target), loss.gradient(prediction, target)
    assert values.shape == (BATCH,)
    assert gradient.shape == prediction.shape
    assert values.dtype == gradient.dtype == dtype
    for n in range(BATCH):
        one = slice(n, n + 1)
        close(loss.forward(prediction[one], target[one])[0], values[n], dtype)
        close(loss.gradient(prediction[one], target[one])[0], gradient[n], dtype)


@losses
def test_losses_leave_their_arguments_and_repeat(make, shape):
    loss = make()
    prediction, target = targets(loss, shape)
    prediction.flags.writeable = target.flags.writeable = False
    np.testing.assert_array_equal(loss.forward(prediction, target), loss.forward(np.asfortranarray(prediction), target))
    assert eval(repr(loss), vars(gradwise)) == loss

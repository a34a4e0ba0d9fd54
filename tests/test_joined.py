"""Small parameters that an optimiser steps as one: the same numbers as one by one, whatever happens in between."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from gradwise import SGD, Adam, AdamW, Dense, MeanSquaredError, Network, RMSprop, load
from gradwise.errors import ShapeError
from gradwise.kernels.products import Product
from gradwise.optimizers import joined

MAKES = {
    "momentum": (SGD, {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "decay": (SGD, {"learning_rate": 0.1, "weight_decay": 0.1}),
    "clipped SGD": (SGD, {"learning_rate": 0.1, "clip_norm": 0.5}),
    "Adam": (Adam, {}),
    "clipped": (Adam, {"clip_norm": 0.5, "weight_decay": 0.1}),
    "AdamW": (AdamW, {"weight_decay": 0.1}),
    "RMSprop": (RMSprop, {"momentum": 0.5, "centered": True}),
}
SHAPES = {"kernel": (5, 4), "turned": (4, 5), "bias": (4,), "filters": (3, 3, 1, 2), "one": (1,), "large": (130, 130)}


def parameters(dtype=np.float32):
    draw = np.random.default_rng(0)
    found = {path: draw.standard_normal(shape).astype(dtype) for path, shape in SHAPES.items()}
    return found | {"turned": np.asfortranarray(found["turned"])}


def gradients(draw, dtype=np.float32):
    return {path: draw.standard_normal(shape).astype(dtype) for path, shape in SHAPES.items()}


def alone(kind):
    """The same optimiser, that joins nothing."""
    return type(kind.__name__, (kind,), {"elementwise": False})


def stepped(optimizer, given, steps=3, seed=1):
    draw = np.random.default_rng(seed)
    for _ in range(steps):
        optimizer.step(given, gradients(draw, given["bias"].dtype))
    return given


def same(one, other):
    assert one.keys() == other.keys()
    for path, array in one.items():
        np.testing.assert_array_equal(array, other[path], err_msg=path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "options"), MAKES.values(), ids=MAKES)
def test_steps_are_those_of_one_by_one(kind, options, dtype):
    optimizer, plain = kind(**options), alone(kind)(**options)
    same(stepped(optimizer, parameters(dtype), 120), stepped(plain, parameters(dtype), 120))
    assert optimizer._joined is not None
    assert plain._joined is None
    assert optimizer.steps == 120
    for name, arrays in optimizer.state.items():
        same(arrays, plain.state[name])
        for path, array in arrays.items():
            assert (array.shape, array.dtype) == (SHAPES[path], dtype)
            assert array.flags.f_contiguous or path != "turned"


@pytest.mark.parametrize(("kind", "options"), MAKES.values(), ids=MAKES)
def test_a_step_is_one_update_of_the_small_and_one_of_each_other(kind, options, monkeypatch):
    sizes = []
    own = kind.update

    def counted(self, path, parameter, gradient, part=slice(None)):
        sizes.append(gradient.size)
        own(self, path, parameter, gradient, part)

    monkeypatch.setattr(kind, "update", counted)  # on the class itself: it is still its own
    given, came = parameters(), gradients(np.random.default_rng(0))
    kept = copy.deepcopy(came)
    kind(**options).step(given, came)
    few = [path for path, parameter in given.items() if parameter.size <= joined._FEW]
    assert sizes == [sum(given[path].size for path in few), 130 * 130]
    same(came, kept)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize(("kind", "options"), MAKES.values(), ids=MAKES)
def test_copies_go_on_as_the_original_does(kind, options, again):
    optimizer, given = kind(**options), parameters()
    stepped(optimizer, given)
    other, others = again((optimizer, given))  # as with a network that has it
    same(stepped(optimizer, given, seed=2), stepped(other, others, seed=2))
    for name, arrays in optimizer.state.items():
        same(arrays, other.state[name])
        assert not any(np.shares_memory(array, other.state[name][path]) for path, array in arrays.items())


def test_arrays_that_somebody_puts_in_place_of_others_are_the_ones():
    optimizer, plain = Adam(), alone(Adam)()
    given, others = parameters(), parameters()
    for one, arrays in ((optimizer, given), (plain, others)):
        stepped(one, arrays)
        one.state["mean"]["bias"] = np.full(4, 2.0, np.float32)
        stepped(one, arrays)
        one.state["square"]["kernel"][...] = 3.0
        stepped(one, arrays)
        arrays["kernel"] = np.ones((5, 4), np.float32)
        stepped(one, arrays)
        del one.state["mean"]["filters"]
        stepped(one, arrays)
    same(given, others)
    for name, arrays in optimizer.state.items():
        same(arrays, plain.state[name])


def test_others_may_be_stepped_than_before():
    """As where layers are frozen, and trained again."""
    optimizer, plain = Adam(), alone(Adam)()
    for one in (optimizer, plain):
        given, draw = parameters(), np.random.default_rng(1)
        for paths in (SHAPES, ("bias", "one"), ("bias",), ("one", "kernel", "bias"), SHAPES):
            found = gradients(draw)
            one.step({path: given[path] for path in paths}, found)
        one.given = given
    same(optimizer.given, plain.given)


def test_products_and_other_dtypes_go_by_themselves():
    given = {"w": np.ones((3, 2), np.float32), "double": np.ones(2), "b": np.ones(2, np.float32)}
    given |= {"made": np.ones((3, 2), np.float32), "mixed": np.ones(2, np.float32), "c": np.ones(2, np.float32)}
    strided = np.ones((4, 4), np.float32)[::2, ::2]
    left, right = np.ones((3, 1), np.float32), np.ones((1, 2), np.float32)
    found = {path: np.ones_like(array) for path, array in given.items()}
    found |= {"made": Product(left, right), "mixed": np.ones(2), "strided": np.ones((2, 2), np.float32)}
    given |= {"strided": strided}
    assert list(joined.small(given, found)) == ["w", "b", "c"]
    Adam(0.5).step(given, found)
    for path, array in given.items():
        np.testing.assert_allclose(array, 0.5, atol=1e-6, err_msg=path)
    assert given["double"].dtype == np.float64


class ByPath(Adam):
    """Steps kernels only."""

    def update(self, path, parameter, gradient, part=slice(None)):
        if path.endswith("kernel"):
            super().update(path, parameter, gradient, part)


class ByArray(Adam):
    """Has arrays of its own."""

    def array(self, kind, path, parameter, part=slice(None)):
        self.asked = [*getattr(self, "asked", []), path]
        return super().array(kind, path, parameter, part)


@pytest.mark.parametrize("kind", [ByPath, ByArray])
def test_an_update_of_ones_own_is_asked_for_each_parameter(kind):
    net = Network([Dense(3), Dense(2)], MeanSquaredError(), input_shape=4, random_state=0)
    before, optimizer = copy.deepcopy(net.parameters()), kind()
    net.train_step(np.ones((5, 4)), np.ones((5, 2)), optimizer)
    changed = {path for path, array in net.parameters().items() if (array != before[path]).any()}
    assert changed == {"0.kernel", "1.kernel"} | (set() if kind is ByPath else {"0.bias", "1.bias"})
    assert set(getattr(optimizer, "asked", before)) == set(before)


def test_of_another_network_nothing_is_changed():
    optimizer, given = Adam(), parameters()
    stepped(optimizer, given)
    other = {path: np.ones(7, np.float32) for path in ("kernel", "bias")} | {"filters": np.ones(2, np.float32)}
    with pytest.raises(ShapeError, match="has stepped another network: its mean of 'kernel' has shape"):
        optimizer.step(other, {path: np.ones_like(array) for path, array in other.items()})
    for array in other.values():
        np.testing.assert_array_equal(array, 1)
    same(stepped(optimizer, given), stepped(optimizer, given, 0))


def test_trained_networks_are_the_same(tmp_path):
    """By `fit`, with a layer that is frozen for a while, saved and loaded in between."""
    x = np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32)
    y = x[:, :2] * 2
    ends = []
    for kind in (Adam, alone(Adam)):
        net = Network([Dense(6), Dense(2)], MeanSquaredError(), input_shape=4, random_state=0)
        net.fit(x, y, optimizer=kind(0.05), epochs=2, batch_size=8, verbose=False)
        net.layers[0].trainable = False
        net.fit(x, y, epochs=2, batch_size=8, verbose=False)
        net.layers[0].trainable = True
        if kind is Adam:
            net.save(tmp_path / "net.npz", net.optimizer)
            net = load(tmp_path / "net.npz")
        net.fit(x, y, epochs=2, batch_size=8, verbose=False)
        ends.append(net.parameters())
    same(*ends)

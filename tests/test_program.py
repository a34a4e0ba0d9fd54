"""The programs that a chain trains and runs by, against the general way through it."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

from gradwise import (
    SGD,
    Chain,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalMaxPooling2D,
    MaxPooling2D,
    Network,
    ReLU,
    Reshape,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
)
from gradwise.errors import ArgumentError, DTypeError, ShapeError
from gradwise.kernels import samples
from gradwise.layers import containers
from gradwise.layers.base import Layer
from gradwise.layers.formulas import Formulas
from gradwise.typing import Pullback

SHARED = Dense(6)


class Scale(Layer):
    """y = x * scale, by a vjp."""

    parameters = ("scale",)

    def build(self, input_shape, rng):
        self.scale = rng.standard_normal(input_shape)
        return input_shape

    def vjp(self, x, training=False, rng=None):
        return x * self.scale, Pullback(input=lambda dy: dy * self.scale, scale=lambda dy: (dy * x).sum(axis=0))


def program(x, gain):
    return x * gain


def x(dy, gain):
    return dy * gain


def dy(x, dy):
    return (x * dy).sum(axis=0)


class Kept(Layer):
    """y = 2 x, which its derivative looks at again: an array that is not to be written over."""

    def vjp(self, x, training=False, rng=None):
        y = 2 * x
        before = y.copy()

        def gradient(dy):
            np.testing.assert_array_equal(y, before)
            return 2 * dy

        return y, Pullback(input=gradient)


class KeptDense(Dense):
    """A layer whose base class makes new arrays, and which keeps what it hands on."""

    def vjp(self, x, training=False, rng=None):
        y, pullback = super().vjp(x)
        before = y.copy()

        def gradient(dy):
            np.testing.assert_array_equal(y, before)
            return pullback.input(dy)

        return y, Pullback(input=gradient, kernel=pullback.kernel, bias=pullback.bias)


class Bounded(Layer):
    """tanh(x), written over x where that may be, and asked for again."""

    memory = "new"
    formulas = Formulas(
        forward=lambda x, out: np.tanh(x, out=out), input=lambda dy, y, out: np.multiply(dy, 1 - y * y, out=out)
    )

    def accepts(self, shape):
        return True


class Gain(Layer):
    """The same by formulas, with names that a program itself uses."""

    parameters = ("gain",)
    formulas = Formulas(forward=program, input=x, gain=dy)

    def build(self, input_shape, rng):
        self.gain = rng.standard_normal(input_shape)
        return input_shape


CHAINS = {
    "dense": lambda: [Dense(7), ReLU(), Dense(6, use_bias=False), Tanh(), Dense(2)],
    "own layers": lambda: [Scale(), Dense(7), Gain(), Sigmoid(), Scale(), Gain(), Dense(2)],
    "a layer twice": lambda: [Dense(6), SHARED, ReLU(), SHARED, Dense(2)],
    "a chain inside": lambda: [Dense(7), Chain([ReLU(), Dense(5), Chain([Gain()])]), Dense(2)],
    "nothing to learn first": lambda: [Sigmoid(), Tanh(), ReLU(), Dense(3)],
    "images": lambda: [Conv2D(3, 2), ReLU(), MaxPooling2D(2), Conv2D(2, 2), ReLU(), Flatten(), Dense(2)],
    "a large kernel": lambda: [Dense(800), ReLU(), Dense(100), Dense(2)],
    "activations of views": lambda: [Flatten(), Bounded(), Dense(4), Bounded(), Reshape((2, 2)), Bounded()],
    "one after the other": lambda: [Bounded(), Dense(4), Bounded(), Bounded(), Dense(3)],
    "what is looked at again": lambda: [Dense(4), Kept(), ReLU(), KeptDense(5), ReLU(), Dropout(0), ReLU(), Dense(2)],
    "images pooled by themselves": lambda: [Conv2D(9, 2), Conv2D(3, 2), MaxPooling2D(2), ReLU(), Flatten(), Dense(2)],
    "images and what follows": lambda: [Conv2D(9, 2), ReLU(), Conv2D(3, 2), MaxPooling2D(2), Tanh(), ReLU()],
}


def chain(name):
    SHARED.__dict__.pop("kernel", None), SHARED.__dict__.pop("bias", None), SHARED.__dict__.pop("input_shape", None)
    net = Chain(CHAINS[name]())
    net.build((1, 9, 9) if name.startswith("images") else (6,), 0)
    return net


def batch(net, seed=0):
    return np.random.default_rng(seed).standard_normal((5, *net.input_shape))


def swept(net, x, dy):
    """A sweep's gradients, and the output it gave."""
    seen = []

    def judge(y):
        seen.append(y.copy())
        return dy

    return {path: np.asarray(array) for path, array in net.sweep(x, None, judge).items()}, seen[0]


@pytest.mark.parametrize("name", CHAINS)
def test_a_sweep_gives_what_the_pullback_gives(name):
    net = chain(name)
    x = batch(net)
    y, pullback = net.vjp(x)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    _, wanted = pullback(dy)
    found, output = swept(net, x, dy)
    np.testing.assert_allclose(output, y, rtol=1e-12)
    assert found.keys() == wanted.keys()
    for path, gradient in wanted.items():
        np.testing.assert_allclose(found[path], gradient, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(net.forward(x), y, rtol=1e-12)
    y, pullback = net.vjp(x)
    _, found = pullback.train(dy, needs_input=False)
    for path, gradient in wanted.items():
        np.testing.assert_allclose(np.asarray(found[path]), gradient, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(x, batch(net))


@pytest.mark.parametrize("name", CHAINS)
def test_what_is_frozen_between_two_sweeps_has_no_gradient(name):
    net = chain(name)
    x, y = batch(net), net.forward(batch(net))
    whole, _ = swept(net, x, y)
    for index, layer in enumerate(net.layers):
        layer.trainable = False
        part, _ = swept(net, x, y)
        own = {path for path, (owner, _) in net.owners().items() if owner is layer}
        own |= {path for path in whole if path.startswith(f"{index}.")}
        assert part.keys() == whole.keys() - own
        for path, gradient in part.items():
            np.testing.assert_array_equal(gradient, whole[path])
        layer.trainable = True
    again, _ = swept(net, x, y)
    assert again.keys() == whole.keys()


@pytest.mark.parametrize("name", CHAINS)
def test_what_is_held_are_the_parameters_as_they_stand(name):
    net = chain(name)

    def look():
        held, arrays = net.held(), net.arrays()
        assert held.keys() == arrays.keys()
        assert all(held[path] is array for path, array in arrays.items())
        return held

    first = look()
    for owner, attribute in net.owners().values():
        setattr(owner, attribute, getattr(owner, attribute) * 2)
    second = look()
    assert not any(second[path] is array for path, array in first.items())
    for index, layer in enumerate(net.layers):
        net.layers[index] = copy.deepcopy(layer)
        look()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_a_network_that_has_trained_trains_itself(copied):
    net = Network([Dense(4), ReLU(), Dense(3)], SoftmaxCrossEntropy(), input_shape=5, random_state=0)
    x, y = np.ones((2, 5), np.float32), np.array([0, 1])
    net.train_step(x, y, SGD(0.1))
    net.predict(x)
    other = copied(net)
    kept = {path: array.copy() for path, array in net.parameters().items()}
    assert other.train_step(x, y, SGD(0.1)) > other.train_step(x, y, SGD(0.1))
    for path, array in net.parameters().items():
        np.testing.assert_array_equal(array, kept[path])
    assert (other.parameters()["2.kernel"] != net.parameters()["2.kernel"]).any()
    assert (other.predict(x) != net.predict(x)).any()


def test_a_layer_replaced_by_its_like_is_the_one_that_trains_and_runs():
    net = Network([Dense(4), ReLU(), Dense(3)], SoftmaxCrossEntropy(), input_shape=5, random_state=0)
    x, y = np.ones((2, 5), np.float32), np.array([0, 1])
    net.train_step(x, y, SGD(0.1))
    net.predict(x)
    new, old = Dense(4), net.layers[0]
    new.build((5,), np.random.default_rng(7))
    net.layers[0] = new
    before, kept = new.kernel.copy(), old.kernel.copy()
    assert (net.predict(x) == (np.maximum(x @ new.kernel, 0) @ net.layers[2].kernel + net.layers[2].bias)).all()
    net.train_step(x, y, SGD(0.1))
    assert (new.kernel != before).any()
    np.testing.assert_array_equal(old.kernel, kept)


def test_a_subclass_with_a_pass_of_its_own_runs_by_it():
    class Doubled(Dense):
        def vjp(self, x, training=False, rng=None):
            y, pullback = super().vjp(2 * x)
            return y, Pullback(input=lambda dy: 2 * pullback.input(dy), kernel=pullback.kernel, bias=pullback.bias)

    net = Chain([Dense(4), Doubled(3)])
    net.build((5,), 0)
    x = batch(net)
    y, pullback = net.vjp(x)
    np.testing.assert_allclose(net.forward(x), y)
    found, output = swept(net, x, y)
    np.testing.assert_allclose(output, y)
    for path, gradient in pullback(y)[1].items():
        np.testing.assert_allclose(found[path], gradient)


@pytest.mark.parametrize("layer", [Dense(2), ReLU(), Flatten(), Sigmoid()], ids=repr)
def test_layers_of_formulas_are_predicted_by_them(layer, monkeypatch):
    """Without a call of the layer itself."""
    chain = Chain([layer])
    chain.build((3,), 0)
    x = batch(chain)
    wanted = layer.forward(x)

    def never(*given):
        raise AssertionError

    monkeypatch.setattr(Formulas, "run", never)
    np.testing.assert_array_equal(chain.forward(x), wanted)


@pytest.mark.parametrize("base", [Conv2D, MaxPooling2D, GlobalMaxPooling2D])
def test_a_subclass_predicts_by_the_pass_it_has(base):
    """Its own `vjp`, and not the `forward` that its base class has of its own."""

    class Doubled(base):
        def vjp(self, x, training=False, rng=None):
            y, pullback = super().vjp(x)
            return 2 * y, Pullback(input=lambda dy: pullback.input(2 * dy))

    layer = Doubled() if base is GlobalMaxPooling2D else Doubled(2)
    chain = Chain([layer])
    chain.build((2, 6, 6), 0)
    x = batch(chain)
    np.testing.assert_array_equal(layer.forward(x), layer.vjp(x)[0])
    np.testing.assert_array_equal(chain.forward(x), chain.vjp(x)[0])


def test_a_subclass_with_a_forward_of_its_own_predicts_by_it():
    class Doubled(Dense):
        def forward(self, x, training=False, rng=None):
            return 2 * super().forward(x)

    net = Chain([ReLU(), Doubled(3)])
    net.build((5,), 0)
    x = batch(net)
    np.testing.assert_allclose(net.forward(x), 2 * net.vjp(x)[0])


def test_formulas_that_do_not_fit():
    with pytest.raises(DTypeError, match=r"Formulas: forward is a function whose arguments .* but got <ufunc 'tanh'>"):
        Formulas(forward=np.tanh, input=lambda dy, y: dy)
    with pytest.raises(
        ArgumentError, match=r"Half: its formulas give the gradients of \['bias'\], but its parameters are"
    ):

        class Half(Layer):
            parameters = ("kernel", "bias")
            formulas = Formulas(forward=lambda x, bias: x + bias, input=lambda dy: dy, bias=lambda dy: dy.sum(axis=0))


@pytest.mark.parametrize("first", [ReLU, Scale, Flatten])
def test_layers_of_formulas_look_at_what_others_give_them(first):
    net = Chain([first(), ReLU(), Dense(3)])
    net.build((4,), 0)
    wrong = np.ones((2, 5))
    message = "was built for inputs of 4 features, but got 5 features"
    with pytest.raises(ShapeError, match=message):
        net.forward(wrong)
    with pytest.raises(ShapeError, match=message):
        net.sweep(wrong, None, lambda y: y)


def test_what_a_sweep_needs_no_more_is_let_go():
    alive = []

    class Watched(Layer):
        def vjp(self, x, training=False, rng=None):
            y = x + 1
            alive.append(weakref.ref(y))
            return y, Pullback(input=lambda dy: dy)

    net = Chain([Dense(3), Watched(), Watched(), Dropout(0.5), Dense(2)])
    net.build((4,), 0)
    seen = []

    def judge(y):
        seen.extend(ref() is not None for ref in alive)
        return y

    net.sweep(batch(net), np.random.default_rng(0), judge)
    assert seen == [False, False]


@pytest.mark.parametrize("name", CHAINS)
def test_the_arrays_of_a_pass_go_with_it(name):
    """At once, not when the garbage collector finds them: they are large."""
    net = chain(name)
    _, pullback = net.vjp(batch(net))
    steps = [weakref.ref(step) for _, step in pullback._steps]
    gc.collect()
    gc.disable()
    try:
        del pullback
        assert [step() for step in steps] == [None] * len(steps)
    finally:
        gc.enable()


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("count", [1, 8, 9, 16, 23, 40])
def test_inference_in_parts_is_that_of_the_whole(name, count, monkeypatch):
    net = chain(name)
    x = np.random.default_rng(0).standard_normal((count, *net.input_shape))
    whole = net.forward(x)
    monkeypatch.setattr(samples, "_NUMBERS", 1)
    monkeypatch.setattr(samples, "_MOST", 8 * net.largest)
    monkeypatch.setattr(samples, "_READ", 1 << 40)
    monkeypatch.setattr(containers, "_FEW", 1)
    before = np.getbufsize()
    sizes = []
    monkeypatch.setattr(net, "_inference", lambda x, run=net._inference: sizes.append(len(x)) or run(x))
    np.testing.assert_allclose(net.forward(x), whole, rtol=1e-12)
    assert sizes == [8] * (count // 8) + [count % 8] * (count % 8 > 0)
    assert np.getbufsize() == before

"""The same weights, the same numbers as Keras, on channels-last images (its CPU backends know no others)."""

from __future__ import annotations

import os

import numpy as np
import pytest

import gradwise as gw

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own

RNG = np.random.default_rng(0)


def last(x):
    """(N, C, H, W) -> (N, H, W, C)."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def pairs(ours, theirs):
    """The layers of both that have weights, side by side; ours get theirs'."""
    own = [layer for layer in ours.layers if type(layer).parameters]
    other = [layer for layer in theirs.layers if layer.weights]
    for layer, keras_layer in zip(own, other, strict=True):
        layer.kernel, layer.bias = (np.array(w) for w in keras_layer.get_weights())
    return list(zip(own, other, strict=True))


def compare(layers, keras_layers, shape, tolerance=2e-6):
    """Predictions of two networks with the same weights, on the same images."""
    x = RNG.standard_normal((6, *shape)).astype(np.float32)
    theirs = keras.Sequential([keras.Input((*shape[1:], shape[0]) if len(shape) == 3 else shape), *keras_layers])
    ours = gw.Network(layers, input_shape=shape)
    for layer in theirs.layers:
        if layer.weights:
            layer.set_weights([0.3 * RNG.standard_normal(w.shape) for w in layer.get_weights()])
    pairs(ours, theirs)
    wanted = np.asarray(theirs.predict(last(x) if len(shape) == 3 else x, verbose=0))
    found = ours.predict(x)
    found = last(found) if found.ndim == 4 else found
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=tolerance * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("activation", ["relu", "softmax", "gelu", "silu", "elu", "tanh", "sigmoid", "softplus"])
def test_dense_and_activations(activation):
    names = {
        type(a).__name__.lower(): a
        for a in (gw.ReLU(), gw.Softmax(), gw.GELU(), gw.SiLU(), gw.ELU(), gw.Tanh(), gw.Sigmoid(), gw.Softplus())
    }
    own = names[activation]
    compare(
        [gw.Dense(7), own, gw.Dense(3)],
        [keras.layers.Dense(7), keras.layers.Activation(activation), keras.layers.Dense(3)],
        (5,),
        1e-5,
    )


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize("window", [2, 3, (1, 4)])
def test_convolution(window, stride, padding):
    if padding == "same" and stride == (1, 3):
        stride = 3
    compare(
        [gw.Conv2D(4, window, stride, padding)],
        [keras.layers.Conv2D(4, window, strides=stride, padding=padding)],
        (3, 9, 8),
    )


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("window", "stride"), [(2, None), (3, 2), (2, 3), (3, 1), ((2, 3), (2, 1))])
def test_pooling(window, stride, padding):
    compare(
        [gw.MaxPooling2D(window, stride, padding)],
        [keras.layers.MaxPooling2D(window, strides=stride, padding=padding)],
        (2, 7, 8),
    )
    # Keras's backends differ in "same" averages: TensorFlow's, as ours, do not count the padding; torch's repeats the edge.
    if padding == "valid" or keras.backend.backend() == "tensorflow":
        compare(
            [gw.AveragePooling2D(window, stride, padding)],
            [keras.layers.AveragePooling2D(window, strides=stride, padding=padding)],
            (2, 7, 8),
        )


def test_a_whole_network_and_flatten_in_kerass_order():
    compare(
        [
            gw.Conv2D(5, 3, padding="same"),
            gw.ReLU(),
            gw.MaxPooling2D(2),
            gw.Conv2D(6),
            gw.ReLU(),
            gw.Flatten(channels_last=True),
            gw.Dense(4),
            gw.Softmax(),
        ],
        [
            keras.layers.Conv2D(5, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(6, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="softmax"),
        ],
        (2, 10, 10),
    )
    compare(
        [gw.GlobalMaxPooling2D(), gw.Dense(2)], [keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(2)], (3, 5, 5)
    )
    compare(
        [gw.GlobalAveragePooling2D(), gw.Dense(2)],
        [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)],
        (3, 5, 5),
    )


def test_five_training_steps():
    theirs = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    theirs.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ours = gw.Network(
        [gw.Conv2D(4), gw.ReLU(), gw.Flatten(channels_last=True), gw.Dense(3)],
        gw.SoftmaxCrossEntropy(),
        input_shape=(1, 8, 8),
    )
    layers = pairs(ours, theirs)
    optimizer = gw.SGD(0.05)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x, y = rng.random((16, 1, 8, 8), dtype=np.float32), rng.integers(0, 3, 16)
        assert ours.train_step(x, y, optimizer) == pytest.approx(float(theirs.train_on_batch(last(x), y)), abs=1e-2)
    for layer, keras_layer in layers:
        for own, other in zip((layer.kernel, layer.bias), keras_layer.get_weights(), strict=True):
            np.testing.assert_allclose(own, other, atol=1e-5)

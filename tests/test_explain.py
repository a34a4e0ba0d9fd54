"""Jacobians' sizes and limits, and the gradient checker: that it finds what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

import gradwise
from gradwise import (
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Loss,
    MeanSquaredError,
    Network,
    Pullback,
    ReLU,
    SoftmaxCrossEntropy,
    Tanh,
)
from gradwise.errors import GradientError, ShapeError, TooLargeError
from gradwise.jacobian import per_sample_gradients
from gradwise.testing import check_layer, check_loss


def network():
    layers = [Conv2D(4), Tanh(), Flatten(channels_last=True), Dropout(0.5), Dense(5), ReLU(), Dense(3)]
    return Network(layers, SoftmaxCrossEntropy(), input_shape=(2, 7, 6), random_state=0)


def test_a_networks_jacobian_is_the_product_of_its_layers():
    net = network()
    x = np.random.default_rng(0).standard_normal((2, 2, 7, 6))
    product = np.eye(84)[None]
    y = x
    for layer in net.layers:
        product = gradwise.jacobian(layer, y) @ product
        y = layer.forward(y)
    np.testing.assert_allclose(gradwise.jacobian(net, x), product, atol=1e-12)


def test_parameter_jacobians_by_central_differences():
    net = network()
    for _, owner, name in list(net.slots()):
        setattr(owner, name, getattr(owner, name).astype(np.float64))
    x = np.random.default_rng(0).standard_normal((2, 2, 7, 6))
    for path, found in gradwise.parameter_jacobians(net, x).items():
        array = net.parameters()[path]
        for entry in range(0, array.size, 7):
            place = np.unravel_index(entry, array.shape)
            kept = array[place]
            array[place] = kept + 1e-6
            above = net.forward(x)
            array[place] = kept - 1e-6
            below = net.forward(x)
            array[place] = kept
            np.testing.assert_allclose(found[:, :, entry], (above - below) / 2e-6, atol=1e-7)


def test_large_results_are_refused_before_any_work():
    layer = Dense(2000)
    layer.build((3000,), 0)
    x = np.ones((100, 3000), np.float32)
    with pytest.raises(
        TooLargeError,
        match=r"the Jacobian of Dense\(2000\) would take 2.4 GB: shape \(100, 2000, 3000\) in float32; the limit is 2.15 GB",
    ):
        gradwise.jacobian(layer, x)
    with pytest.raises(TooLargeError, match=r"Give fewer samples, or max_bytes="):
        gradwise.parameter_jacobians(layer, x[:1])
    with pytest.raises(TooLargeError, match=r"the per-sample gradients of .* would take 2.4 GB"):
        per_sample_gradients(layer, x, np.ones((100, 2000), np.float32))
    small = Dense(3)
    small.build((4,), 0)
    with pytest.raises(TooLargeError, match=r"max_bytes=48 to allow it"):
        gradwise.jacobian(small, np.ones((1, 4), np.float32), max_bytes=47)
    assert gradwise.jacobian(small, np.ones((1, 4), np.float32), max_bytes=48).shape == (1, 3, 4)


def test_wrong_shapes():
    with pytest.raises(ShapeError, match=r"layer 0|was built for"):
        gradwise.jacobian(network(), np.ones((2, 2, 7)))


def test_dtype_follows_the_input():
    layer = Dense(2)
    layer.build((3,), 0)
    assert gradwise.jacobian(layer, np.ones((1, 3), np.float32)).dtype == np.float32
    assert gradwise.jacobian(layer, np.ones((1, 3))).dtype == np.float64


# The checker


class Scale(Layer):
    """A right layer; each subclass spoils one thing."""

    parameters = ("scale",)

    def build(self, input_shape, rng):
        self.scale = rng.standard_normal(input_shape).astype(np.float32)
        return input_shape

    def vjp(self, x, training=False, rng=None):
        return x * self.scale, Pullback(input=lambda dy: dy * self.scale, scale=lambda dy: (dy * x).sum(axis=0))


class WrongInput(Scale):
    def vjp(self, x, training=False, rng=None):
        def wrong(dy):
            dx = dy * self.scale
            dx[1, 2] *= 1.001
            return dx

        return x * self.scale, Pullback(input=wrong, scale=lambda dy: (dy * x).sum(axis=0))


class WrongParameter(Scale):
    def vjp(self, x, training=False, rng=None):
        return x * self.scale, Pullback(input=lambda dy: dy * self.scale, scale=lambda dy: (dy * x).mean(axis=0))


class WrongShape(Scale):
    def vjp(self, x, training=False, rng=None):
        return x * self.scale, Pullback(input=lambda dy: dy * self.scale, scale=lambda dy: dy * x)


class WrongInTraining(Scale):
    def vjp(self, x, training=False, rng=None):
        factor = 2 if training else 1
        return x * self.scale, Pullback(
            input=lambda dy: factor * dy * self.scale, scale=lambda dy: (dy * x).sum(axis=0)
        )


class ChangesItsInput(Scale):
    def vjp(self, x, training=False, rng=None):
        y = x * self.scale
        x *= 1.5
        return y, Pullback(input=lambda dy: dy * self.scale, scale=lambda dy: (dy * x / 1.5).sum(axis=0))


class Accumulates(Scale):
    def vjp(self, x, training=False, rng=None):
        total = np.zeros_like(self.scale)

        def gradient(dy):
            nonlocal total
            total = total + (dy * x).sum(axis=0)
            return total

        return x * self.scale, Pullback(input=lambda dy: dy * self.scale, scale=gradient)


class MixesSamples(Scale):
    def vjp(self, x, training=False, rng=None):
        n = len(x)
        return x * self.scale + x.mean(axis=0), Pullback(
            input=lambda dy: dy * self.scale + np.broadcast_to(dy.sum(axis=0) / n, dy.shape),
            scale=lambda dy: (dy * x).sum(axis=0),
        )


class NotANumber(Scale):
    def vjp(self, x, training=False, rng=None):
        return x * self.scale, Pullback(input=lambda dy: dy * np.nan, scale=lambda dy: (dy * x).sum(axis=0))


class ForgetsAParameter(Scale):
    def vjp(self, x, training=False, rng=None):
        return x * self.scale, Pullback(input=lambda dy: dy * self.scale)


class PromisesAnotherShape(Scale):
    def build(self, input_shape, rng):
        super().build(input_shape, rng)
        return (7,)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            WrongInput(),
            r"the gradient of the input is wrong at \(1, 2\): it is .*, expected .*, off by .*; 1 of 12 entries",
        ),
        (WrongParameter(), "the gradient of 'scale' is wrong at"),
        (WrongShape(), r"the gradient of 'scale' has shape \(3, 4\), but it is taken by an array of shape \(4,\)"),
        (WrongInTraining(), r"WrongInTraining\(\) in training: the gradient of the input is wrong"),
        (ChangesItsInput(), "changed the input"),
        (Accumulates(), "asked for twice, differs"),
        (MixesSamples(), "the output of a batch, against its samples one by one"),
        (NotANumber(), r"the gradient of the input is wrong at .*: it is nan, expected"),
        (ForgetsAParameter(), r"the pullback has gradients of \[\], the layer has parameters \['scale'\]"),
        (PromisesAnotherShape(), r"build promised an output of shape \(3, 7\), but vjp gave \(3, 4\)"),
    ],
)
def test_the_checker_finds_what_is_wrong(layer, message):
    check_layer(Scale(), 4)
    with pytest.raises(GradientError, match=message):
        check_layer(layer, 4)


def test_large_arrays_are_checked_along_random_directions():
    check_layer(Scale(), 600)
    with pytest.raises(GradientError, match="the gradient of 'scale' is wrong"):
        check_layer(WrongParameter(), 600)


def test_the_checker_leaves_the_layer_alone():
    layer = Scale()
    check_layer(layer, 4)
    assert layer.input_shape is None
    layer.build(4, 0)
    before = layer.scale.copy()
    check_layer(layer, 4)
    np.testing.assert_array_equal(layer.scale, before)
    assert layer.scale.dtype == np.float32


class Doubled(MeanSquaredError):
    def vjp(self, prediction, target):
        values, gradient = super().vjp(prediction, target)
        return values, lambda: gradient() * 2


class Mixed(Loss):
    def vjp(self, prediction, target):
        error = prediction - target
        return (error * error).sum(axis=1), lambda: np.broadcast_to(2 * error.mean(axis=0), error.shape)


class Summed(Loss):
    def vjp(self, prediction, target):
        return np.square(prediction - target).sum(keepdims=True)[0], lambda: prediction - target


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Doubled(), "the gradient of the prediction is wrong at"),
        (Mixed(), "the gradient of the prediction is wrong at"),
        (Summed(), r"forward gave shape \(1,\), not one value per sample, \(3,\)"),
    ],
)
def test_the_checker_finds_wrong_losses(loss, message):
    with pytest.raises(GradientError, match=message):
        check_loss(loss, 4)

"""What layers refuse, and in which words; and what the table of cases does not show."""

from __future__ import annotations

import numpy as np
import pytest

from gradwise import (
    ELU,
    SGD,
    AveragePooling2D,
    Chain,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalMaxPooling2D,
    Layer,
    LeakyReLU,
    MaxPooling2D,
    Network,
    Pullback,
    ReLU,
    Reshape,
    SoftmaxCrossEntropy,
    Standardize,
)
from gradwise.errors import ArgumentError, DTypeError, NotBuiltError, ShapeError


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Dense(0), ArgumentError, "Dense: units is a whole number of 1 or more, but got 0"),
        (lambda: Dense(2.5), ArgumentError, "but got 2.5"),
        (lambda: Dense(True), ArgumentError, "but got True"),
        (lambda: Dense(3, dtype=int), ArgumentError, "takes dtype float32 or float64"),
        (lambda: Dense(3, dtype="float16"), ArgumentError, "takes dtype float32 or float64, but got 'float16'"),
        (lambda: Conv2D(0), ArgumentError, "Conv2D: filters"),
        (lambda: Conv2D(3, 0), ArgumentError, "Conv2D: kernel_size is a whole number of 1 or more, or a pair"),
        (lambda: Conv2D(3, (3, 3, 3)), ArgumentError, "or a pair of them"),
        (lambda: Conv2D(3, stride=0), ArgumentError, "Conv2D: stride"),
        (lambda: Conv2D(3, padding="full"), ArgumentError, 'padding is "valid", "same", .* but got \'full\''),
        (lambda: Conv2D(3, padding=-1), ArgumentError, "padding is a whole number of 0 or more"),
        (lambda: MaxPooling2D(0), ArgumentError, "MaxPooling2D: pool_size"),
        (lambda: MaxPooling2D(2, padding="reflect"), ArgumentError, "MaxPooling2D: padding"),
        (lambda: AveragePooling2D(2, stride=(1, 0)), ArgumentError, "AveragePooling2D: stride"),
        (lambda: Dropout(1.0), ArgumentError, "Dropout"),
        (lambda: Dropout(-0.1), ArgumentError, "Dropout"),
        (lambda: LeakyReLU(-1), ArgumentError, "negative_slope is a number of 0 or more"),
        (lambda: ELU(0), ArgumentError, "alpha is a number above 0"),
        (lambda: Reshape((2, -1, -1)), ArgumentError, "at most one -1"),
        (lambda: Reshape((0, 2)), ArgumentError, "Reshape: shape"),
        (lambda: Standardize(deviation=0.0), ArgumentError, "deviations are above 0"),
        (lambda: Standardize(mean=(1.0, float("nan"))), ArgumentError, "mean is a number, or a row of numbers"),
        (lambda: Chain([]), ArgumentError, "at least one layer"),
        (lambda: Chain([ReLU]), DTypeError, "layer 0 is the class ReLU; make one"),
        (lambda: Chain([Dense(3), "relu"]), DTypeError, "layer 1 is 'relu', not a Layer. Activations are layers too"),
        (lambda: Network(Dense(3)), DTypeError, "takes a list of layers"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Dense(3), (1, 8, 8), r"Dense\(3\) takes \(N, features\), but got images of \(1, 8, 8\). Put Flatten\(\)"),
        (Conv2D(3), (64,), r"takes images .* but got 64 features. Put Reshape"),
        (Conv2D(3), (8, 8), r"Images without channels are x\[:, None\]"),
        (Conv2D(3), (1, 2, 8), "window of 3 x 3, larger than the image of 2 x 8"),
        (Conv2D(3, 9, padding=1), (1, 6, 6), "larger than the image of 8 x 8"),
        (MaxPooling2D(5), (1, 4, 4), "window of 5 x 5, larger than the image of 4 x 4"),
        (GlobalMaxPooling2D(), (7,), "takes images"),
        (Reshape((5, -1)), (12,), r"cannot arrange 12 features, 12 numbers a sample"),
        (Reshape((5,)), (12,), "cannot arrange"),
        (Standardize((1.0, 2.0)), (3,), "has 2 numbers, but got 3 features"),
    ],
)
def test_shapes_that_do_not_fit(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        layer.build(shape, 0)


def test_an_error_in_a_chain_names_the_place_and_what_came_before():
    layers = [Conv2D(24), ReLU(), Chain([MaxPooling2D(4), Conv2D(3, 9)])]
    with pytest.raises(
        ShapeError, match=r"layer 2.1 \(Conv2D\(3, kernel_size=9\)\) .*\nThe layer before it, MaxPooling2D"
    ):
        Network(layers, input_shape=(1, 28, 28))
    net = Network([Flatten(), Dense(3)], input_shape=(1, 4, 4))
    with pytest.raises(
        ShapeError, match=r"layer 1 \(Dense\(3\)\) was built for inputs of 16 features, but got 25"
    ) as caught:
        net.forward(np.zeros((2, 1, 5, 5)))
    assert "The layer before it, Flatten(), gave (N, 25) from images of (1, 5, 5)." in str(caught.value)


def test_inputs_of_the_wrong_kind():
    layer = Dense(2)
    layer.build((3,), 0)
    with pytest.raises(DTypeError, match="computes with numbers, but got an array of <U1"):
        layer.forward(np.array([["a", "b", "c"]]))
    with pytest.raises(DTypeError, match="computes with numbers, but got an array of complex128"):
        layer.forward(np.ones((1, 3), complex))
    with pytest.raises(ShapeError, match=r"One sample is a batch of one: x\[None\]"):
        layer.forward(np.ones(3))
    with pytest.raises(ShapeError, match="got a single number"):
        layer.forward(3.0)
    np.testing.assert_allclose(layer.forward([[1, 2, 3]]), layer.forward(np.array([[1.0, 2, 3]])), rtol=1e-6)


def test_before_it_is_built():
    with pytest.raises(NotBuiltError, match=r"Dense\(3\) has no kernel yet: it is built by"):
        Dense(3).forward(np.ones((1, 2)))
    with pytest.raises(AttributeError, match="'Dense' object has no attribute 'kernels'"):
        _ = Dense(3).kernels
    assert not hasattr(Dense, "kernel")
    with pytest.raises(AttributeError, match="'Dense' has no attribute 'kernel'"):
        _ = Dense.kernel


def test_a_default_of_the_class_is_what_it_is_before_it_is_built():
    class Tilted(Layer):
        parameters = ("slope", "offset")
        offset = None

        def vjp(self, x, training=False, rng=None):
            return x * self.slope, Pullback(input=lambda dy: dy * self.slope, slope=lambda dy: (dy * x).sum(axis=0))

    class Steeper(Tilted):
        parameters = ("slope", "offset", "step")

    for layer in (Tilted(), Steeper()):
        assert layer.offset is None
        with pytest.raises(NotBuiltError, match="has no slope yet"):
            _ = layer.slope
    with pytest.raises(NotBuiltError, match="has no step yet"):
        _ = Steeper().step
    layer.slope = np.ones(2)
    np.testing.assert_array_equal(layer.slope, 1)


def test_given_arrays_are_copied():
    layer = Dense(2)
    layer.build((3,), 0)
    given = np.ones((3, 2), np.float32)
    layer.kernel = given
    layer.kernel -= 1
    np.testing.assert_array_equal(given, 1)
    with pytest.raises(ShapeError, match=r"has a kernel of shape \(3, 2\), but was given \(2, 3\)"):
        layer.kernel = given.T


def test_a_layer_has_one_input_shape():
    layer = Dense(2)
    layer.build((3,), 0)
    with pytest.raises(ShapeError, match="was built for inputs of 3 features, but got 4 features"):
        layer.build((4,), 0)


def test_images_of_any_size_run_where_the_layers_allow():
    net = Network([Conv2D(4), ReLU(), GlobalMaxPooling2D(), Dense(2)], input_shape=(1, 8, 8), random_state=0)
    assert net.forward(np.zeros((2, 1, 13, 9))).shape == (2, 2)


def test_an_own_layer_that_is_not_right():
    with pytest.raises(DTypeError, match=r"Own.parameters is a tuple of names"):

        class Own(Layer):
            parameters = "kernel"

    with pytest.raises(ArgumentError, match=r"Own.memory is 'any', 'new' or 'given', but is 'old'"):

        class Own(Layer):
            memory = "old"

    class Nothing(Layer):
        pass

    with pytest.raises(NotImplementedError, match="Nothing must define vjp"):
        Nothing().forward(np.ones((1, 2)))

    class Forgetful(Layer):
        def __init__(self, size):
            pass

        def vjp(self, x, training=False, rng=None):
            return x, Pullback(input=lambda dy: dy)

    with pytest.raises(ArgumentError, match="takes the argument 'size' but does not keep it"):
        Forgetful(3) == Forgetful(4)  # noqa: B015


def test_a_pullback_names_what_it_has():
    _, pullback = Chain([ReLU()]).vjp(np.ones((1, 2)))
    with pytest.raises(AttributeError, match="no derivative by 'kernel'"):
        _ = pullback.kernel


def test_dropout():
    layer = Dropout(0.25)
    x = np.ones((400, 50))
    np.testing.assert_array_equal(layer.forward(x), x)
    y, pullback = layer.vjp(x, training=True, rng=np.random.default_rng(0))
    assert set(np.unique(y)) == {0, 1 / 0.75}
    assert abs((y == 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(pullback.input(x), y)
    again = layer.vjp(x, training=True, rng=np.random.default_rng(0))[0]
    np.testing.assert_array_equal(again, y)


def test_channels_last_flatten_is_the_transposed_order():
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(Flatten(channels_last=True).forward(x), x.transpose(0, 2, 3, 1).reshape(1, 24))
    np.testing.assert_array_equal(Flatten().forward(x), x.reshape(1, 24))


def test_relu_is_flat_at_zero():
    _, pullback = ReLU().vjp(np.array([[-1.0, 0.0, 2.0]]))
    np.testing.assert_array_equal(pullback.input(np.ones((1, 3))), [[0, 0, 1]])


def test_errors_of_a_convolution_and_its_pooling_name_the_one_that_refuses():
    with pytest.raises(
        ShapeError, match=r"layer 0 \(Conv2D\(2\)\) has a window of 3 x 3, larger than the image of 2 x 2"
    ):
        Chain([Conv2D(2), MaxPooling2D(2)]).build((1, 2, 2))
    net = Chain([Conv2D(2), ReLU(), MaxPooling2D(4)])
    net.build((1, 8, 8))
    with pytest.raises(
        ShapeError, match=r"layer 2 \(MaxPooling2D\(pool_size=4\)\) has a window of 4 x 4, larger than the image"
    ) as caught:
        net.forward(np.zeros((1, 1, 5, 5), np.float32))
    assert "The layer before it, ReLU(), gave (N, 2, 3, 3)" in str(caught.value)
    with pytest.raises(ShapeError, match=r"was built for images of \(1, 8, 8\), but got images of \(3, 8, 8\)"):
        net.vjp(np.zeros((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_convolution_and_its_pooling_train_as_each_by_itself(frozen):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 2, 9, 9)), rng.standard_normal((3, 4, 3, 3))
    first, pooling = Conv2D(4, trainable=not frozen), MaxPooling2D(2)
    net = Chain([first, ReLU(), pooling])
    net.build((2, 9, 9), 0)
    between, one = first.vjp(x)
    _, other = pooling.vjp(np.maximum(between, 0))
    wanted_dx, wanted = one(other.input(dy) * (between > 0))
    dx, gradients = net.vjp(x, training=True)[1].train(dy, needs_input=True)
    np.testing.assert_allclose(dx, wanted_dx, atol=1e-12)
    assert set(gradients) == (set() if frozen else {"0.kernel", "0.bias"})
    for path, gradient in gradients.items():
        np.testing.assert_allclose(gradient, wanted[path[2:]], atol=1e-12)


@pytest.mark.parametrize("behind", [[], [ReLU()]])
@pytest.mark.parametrize("flat", [True, False])
def test_what_is_pooled_lies_as_a_flatten_behind_it_takes_it(behind, flat):
    """Where images lie by rows, that is not of itself."""
    net = Chain([Conv2D(32), Conv2D(32), MaxPooling2D(2), *behind, *([Flatten()] if flat else [])])
    net.build((32, 14, 14), 0)
    (_, first), (_, together), *_ = net._plan()
    between = first.forward(np.random.default_rng(0).standard_normal((2, 32, 14, 14), np.float32))
    for y in (together.forward(between), together.vjp(between, training=True)[0]):
        assert y.transpose(1, 2, 3, 0).flags.c_contiguous == flat


def test_a_pooled_convolution_goes_by_the_images_and_sizes_it_has_now():
    first, pooling = Conv2D(3), MaxPooling2D(2)
    net = Chain([first, pooling])
    net.build((2, 9, 9), 0)
    draw = np.random.default_rng(0)
    changes = [(first, "stride", 2), (first, "kernel_size", (3, 3)), (first, "padding", "same"), (pooling, "stride", 3),
               (pooling, "pool_size", (2, 3)), (pooling, "padding", (1, 1)), (first, "stride", several := [1, 1]),
               (several, 0, 2), (first, "stride", np.array([2, 1])), (None, "", None)]  # fmt: skip
    for layer, name, value in changes:
        for shape in ((2, 9, 9), (2, 12, 11), (2, 9, 9)):
            x = draw.standard_normal((2, *shape))
            wanted = pooling.forward(first.forward(x))
            np.testing.assert_allclose(net.forward(x), wanted, atol=1e-12)
            np.testing.assert_allclose(net.vjp(x, training=True)[0], wanted, atol=1e-12)
        if layer is several:
            several[name] = value
        elif layer is not None:
            setattr(layer, name, value)


def test_layers_may_change_after_a_chain_has_run():
    net = Chain([ReLU(), Flatten()])
    net.build((2, 2))
    x = np.full((1, 2, 2), -1.0)
    assert not net.forward(x).any()
    net.layers[0] = LeakyReLU(0.5)
    np.testing.assert_array_equal(net.forward(x), np.full((1, 4), -0.5))


def test_layers_of_a_chain_inside_another_may_change():
    inner = Chain([Dense(3), ReLU()])
    net = Network([Chain([inner, Dense(4)]), Dense(2)], SoftmaxCrossEntropy(), input_shape=5, random_state=0)
    x, y = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32), np.zeros(6, int)
    net.train_step(x, y, SGD(0.1))
    old, new = inner.layers[0], Dense(3, use_bias=False)
    new.build((5,), 1)
    inner.layers[0] = new
    kept, before = old.kernel.copy(), new.kernel.copy()
    assert "0.0.0.bias" not in net.owners()
    net.train_step(x, y, SGD(0.1))
    np.testing.assert_array_equal(old.kernel, kept)
    assert not np.array_equal(new.kernel, before)


def test_an_equal_layer_in_the_place_of_another_is_another():
    net = Network([Conv2D(2), MaxPooling2D(2), Flatten(), Dense(2)], SoftmaxCrossEntropy(), input_shape=(1, 6, 6))
    x, y = np.random.default_rng(0).standard_normal((5, 1, 6, 6)).astype(np.float32), np.zeros(5, int)
    net.train_step(x, y)
    for index in (0, 3):
        old, new = net.layers[index], type(net.layers[index])(2)
        new.build(old.input_shape, 1)
        assert new == old
        net.layers[index] = new
        kept = old.kernel.copy()
        own = Chain(list(net.layers))
        own.build((1, 6, 6), 0)
        np.testing.assert_array_equal(net.forward(x), own.forward(x))
        before = new.kernel.copy()
        net.train_step(x, y, SGD(0.1))
        assert not np.array_equal(new.kernel, before)
        np.testing.assert_array_equal(old.kernel, kept)

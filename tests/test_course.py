"""The course's interface: its shapes, its central differences as the assignment writes them, its old mistakes."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from gradwise import course
from gradwise.course import *
from gradwise.errors import ArgumentError, DataError, DTypeError, ShapeError

STEP = 1e-5
ALLOWED = 0.01  # the sum of absolute differences


def numeric_x(function, x):
    """The Jacobians (N, out, in) of a function by each sample's input, by central differences."""
    x = np.array(x, dtype=np.float64)
    flat = x.reshape(len(x), -1)
    columns = []
    for entry in range(flat.shape[1]):
        kept = flat[:, entry].copy()
        flat[:, entry] = kept + STEP
        above = function(x).reshape(len(x), -1)
        flat[:, entry] = kept - STEP
        below = function(x).reshape(len(x), -1)
        flat[:, entry] = kept
        columns.append((above - below) / (2 * STEP))
    return np.stack(columns, axis=2)


def numeric_parameter(function, parameter):
    """The Jacobians (N, out, size) of a function by an array, which is moved in place."""
    columns = []
    for index in np.ndindex(*parameter.shape):
        kept = parameter[index]
        parameter[index] = kept + STEP
        above = function()
        parameter[index] = kept - STEP
        below = function()
        parameter[index] = kept
        columns.append(((above - below) / (2 * STEP)).reshape(len(above), -1))
    return np.stack(columns, axis=2)


def agree(found, wanted):
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).sum() < ALLOWED


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(123)


def images(n=2, c=2, side=6):
    return np.random.random((n, c, side, side))


LAYERS = [
    (lambda: DenseLayer(7, 4), (7,)),
    (lambda: Conv2DLayer(3, 2, 3), (2, 6, 6)),
    (lambda: Conv2DLayer(3, 2, 3, stride=2), (2, 7, 6)),
    (lambda: Conv2DLayer((2, 3), 1, 2, stride=3), (1, 6, 8)),
    (lambda: ReLU(), (7,)),
    (lambda: ReLU(), (2, 4, 3)),
    (lambda: Softmax(), (5,)),
    (lambda: FlattenLayer(), (2, 4, 3)),
    (lambda: MaxPooling(), (2, 6, 6)),
    (lambda: MaxPooling((3, 3), 1), (2, 5, 6)),
    (lambda: MaxPooling(pool_size=(2, 2), strides=3), (2, 6, 6)),
    (lambda: MaxPooling((3, 2), (2, 1)), (1, 7, 5)),
]
every = pytest.mark.parametrize(
    ("make", "shape"), LAYERS, ids=lambda v: "x".join(map(str, v)) if isinstance(v, tuple) else v().name
)


@every
def test_central_differences(make, shape):
    layer = make()
    x = np.random.normal(size=(3, *shape))
    agree(layer.grad_x(x), numeric_x(layer.forward, x))
    jacobians = layer.grad_param(x)
    parameters = list(layer.core.arrays().values())
    assert len(jacobians) == len(parameters)
    for jacobian, parameter in zip(jacobians, parameters, strict=True):
        agree(jacobian, numeric_parameter(lambda: layer.forward(x), parameter))
    both = layer.backward(x)
    np.testing.assert_array_equal(both[0], layer.grad_x(x))
    assert len(both[1]) == len(parameters)


@every
def test_the_loss_is_pulled_back_without_the_jacobian(make, shape):
    layer = make()
    x = np.random.normal(size=(3, *shape))
    jacobian = layer.grad_x(x)
    grad = np.random.normal(size=(3, 1, jacobian.shape[1]))
    found = layer.grad_loss_x(x, grad)
    assert found.shape == (3, 1, jacobian.shape[2])
    np.testing.assert_allclose(found, grad @ jacobian, atol=1e-12)
    for own, by in zip(layer.grad_loss_param(x, grad), layer.grad_param(x), strict=True):
        np.testing.assert_allclose(own.reshape(3, -1), (grad @ by)[:, 0], atol=1e-12)
    with pytest.raises(ShapeError, match=r"takes gradients \(3, 1, "):
        layer.grad_loss_x(x, grad[:, :, 1:])


@every
def test_integers_and_doubles_are_computed_in_double(make, shape):
    layer = make()
    assert layer.forward(np.ones((2, *shape), int)).dtype == np.float64
    assert layer.grad_x(np.ones((2, *shape))).dtype == np.float64


def test_shapes_and_names():
    x = np.random.random((5, 7))
    dense = DenseLayer(7, 4)
    assert dense.W.shape == (7, 4)
    assert dense.b.shape == (4,)
    assert dense.grad_W(x).shape == (5, 4, 28)
    assert dense.grad_b(x).shape == (5, 4, 4)
    conv = Conv2DLayer()
    assert conv.kernel.shape == (3, 3, 2, 3)
    assert conv.bias.shape == (3,)
    assert conv.grad_kernel(images()).shape == (2, 3 * 16, 54)
    assert conv.grad_bias(images()).shape == (2, 3 * 16, 3)
    assert ReLU().grad_param(x) == []
    made = [Layer(), dense, ReLU(), Softmax(), FlattenLayer(), MaxPooling(), conv, CrossEntropy(), Network([])]
    names = ["Layer", "Dense", "ReLU", "Softmax", "Flatten", "MaxPooling", "Conv2D", "CrossEntropy", "Network"]
    assert [one.name for one in made] == names
    assert {
        "Layer",
        "DenseLayer",
        "Conv2DLayer",
        "MaxPooling",
        "FlattenLayer",
        "ReLU",
        "Softmax",
        "CrossEntropy",
        "Network",
    } == set(course.__all__)


def test_cross_entropy():
    p = np.random.dirichlet(np.ones(4), 3)
    labels = np.eye(4)[[0, 3, 1]]
    loss = CrossEntropy()
    np.testing.assert_allclose(loss.forward(p, labels), -(labels * np.log(p + 1e-5)).sum(axis=1))
    np.testing.assert_array_equal(loss.calculate_loss(p, labels), loss.forward(p, labels))
    assert loss.grad_x(p, labels).shape == (3, 4)
    agree(loss.grad_x(p, labels)[:, None], numeric_x(lambda q: loss.forward(q, labels), p))


def dense_network():
    return Network([DenseLayer(6, 5), ReLU(), DenseLayer(5, 3), Softmax()], loss=CrossEntropy())


def conv_network():
    layers = [Conv2DLayer(3, 2, 3), ReLU(), MaxPooling((2, 2), 1), FlattenLayer(), DenseLayer(27, 3), Softmax()]
    return Network(layers, loss=CrossEntropy())


LABELS = np.eye(3)[[0, 2, 1, 1]]
networks = pytest.mark.parametrize(("make", "shape"), [(dense_network, (6,)), (conv_network, (2, 6, 6))])


@networks
def test_gradients_of_networks(make, shape):
    net = make()
    x = np.random.normal(size=(4, *shape))
    found = net.grad_x(x, LABELS)
    assert found.shape == (4, np.prod(shape))
    agree(found[:, None], numeric_x(lambda z: net.calculate_loss(z, LABELS), x))
    grads = net.grad_param(x, LABELS)
    assert len(grads) == len(net.layers)
    for layer, own in zip(net.layers, grads, strict=True):
        parameters = list(layer.core.arrays().values())
        assert [g.shape for g in own] == [(4, *p.shape) for p in parameters]
        for grad, parameter in zip(own, parameters, strict=True):
            wanted = numeric_parameter(lambda: net.calculate_loss(x, LABELS), parameter)
            agree(grad.reshape(4, 1, -1), wanted)


@networks
def test_a_step_is_the_mean_over_samples(make, shape):
    net, other = make(), make()
    for layer, again in zip(net.layers, other.layers, strict=True):
        for name, array in layer.core.arrays().items():
            setattr(again.core, name, array)
    x = np.random.normal(size=(4, *shape))
    grads = net.grad_param(x, LABELS)
    before = [[a.copy() for a in layer.core.arrays().values()] for layer in net.layers]
    loss = net.calculate_loss(x, LABELS).mean()
    assert net.train_step(x, LABELS, learning_rate=0.1) == pytest.approx(loss)
    other.update(grads, 0.1)
    for layer, again, kept, own in zip(net.layers, other.layers, before, grads, strict=True):
        for array, updated, was, grad in zip(
            layer.core.arrays().values(), again.core.arrays().values(), kept, own, strict=True
        ):
            np.testing.assert_allclose(array, was - 0.1 * grad.mean(axis=0), atol=1e-12)
            np.testing.assert_allclose(updated, array, atol=1e-12)


def test_updates_take_a_mean_or_one_gradient_a_sample():
    layer = DenseLayer(3, 2, np.zeros((3, 2)), np.zeros(2))
    grads = np.arange(24.0).reshape(4, 3, 2)
    layer.update_W(grads, 0.5)
    np.testing.assert_allclose(layer.W, -0.5 * grads.mean(axis=0))
    layer.W = np.zeros((3, 2))
    layer.update_W(grads.reshape(4, 6), 0.5)
    np.testing.assert_allclose(layer.W, -0.5 * grads.mean(axis=0))
    layer.update_W(grads.mean(axis=0), -0.5)
    np.testing.assert_allclose(layer.W, 0, atol=1e-12)
    layer.update_b(np.ones((4, 2)), 1)
    np.testing.assert_array_equal(layer.b, [-1, -1])
    layer.update_param([np.ones((3, 2)), np.ones(2)], -1)
    np.testing.assert_array_equal(layer.b, [0, 0])
    conv = Conv2DLayer(2, 1, 1, K_init=np.zeros((2, 2, 1, 1)), b_init=np.zeros(1))
    conv.update_kernel(np.ones((5, 2, 2, 1, 1)), 0.5)
    conv.update_bias(np.ones((5, 1)), 0.25)
    np.testing.assert_array_equal(conv.kernel, -0.5)
    np.testing.assert_array_equal(conv.bias, -0.25)
    with pytest.raises(ShapeError, match=r"has a kernel of shape \(3, 2\), but got a gradient \(4, 5\)"):
        layer.update_W(np.ones((4, 5)), 1)


class Scale(course.Layer):
    """A student's own layer: y = x * scale, with Jacobians and no pullback."""

    name = "Scale"

    def __init__(self, size):
        self.scale = np.ones(size)

    def forward(self, input_data):
        return input_data * self.scale

    def grad_x(self, input_data):
        return np.repeat(np.diag(self.scale)[None], len(input_data), axis=0)

    def grad_param(self, input_data):
        return [np.eye(input_data.shape[1])[None] * input_data[:, None, :]]

    def update_param(self, grads, learning_rate):
        self.scale -= learning_rate * grads[0].mean(axis=0)


def test_a_students_own_layer():
    net = Network([DenseLayer(6, 5), Scale(5), DenseLayer(5, 3), Softmax()], loss=CrossEntropy())
    x = np.random.normal(size=(4, 6))
    agree(net.grad_x(x, LABELS)[:, None], numeric_x(lambda z: net.calculate_loss(z, LABELS), x))
    scale = net.layers[1].scale
    grad = net.grad_param(x, LABELS)[1][0]
    agree(grad[:, None], numeric_parameter(lambda: net.calculate_loss(x, LABELS), scale))
    kept = scale.copy()
    net.train_step(x, LABELS, 0.1)
    np.testing.assert_allclose(net.layers[1].scale, kept - 0.1 * grad.mean(axis=0))
    y = np.arange(90) % 3
    data = np.eye(3, 6)[y] * 3 + np.random.normal(size=(90, 6)) * 0.3
    history = net.fit(data, np.eye(3)[y], batch_size=8, nb_epoch=12, learning_rate=0.3)
    assert history["val_accuracy"][-1] > 0.9
    assert history["loss"][-1] < history["loss"][0]


def test_a_layer_that_defines_nothing():
    with pytest.raises(NotImplementedError, match="Layer must define forward"):
        Layer().forward(np.ones((1, 2)))
    with pytest.raises(NotImplementedError, match="Layer must define grad_x"):
        Layer().backward(np.ones((1, 2)))


def test_a_students_own_loss():
    class Squared:
        def forward(self, p, labels):
            return np.square(p - labels).sum(axis=1)

        def grad_x(self, p, labels):
            return 2 * (p - labels)

    net = Network([DenseLayer(6, 3)], loss=Squared())
    x = np.random.normal(size=(4, 6))
    agree(net.grad_x(x, LABELS)[:, None], numeric_x(lambda z: net.calculate_loss(z, LABELS), x))
    before = net.calculate_loss(x, LABELS).mean()
    net.fit(x, LABELS, validation_split=0, batch_size=4, nb_epoch=5, learning_rate=0.05)
    assert net.calculate_loss(x, LABELS).mean() < before


def clusters(n=200):
    y = np.arange(n) % 3
    return np.eye(3, 6)[y] * 3 + np.random.normal(size=(n, 6)), np.eye(3)[y]


def test_fit_reports_and_returns_the_history(capsys):
    x, y = clusters()
    net = dense_network()
    history = net.fit(x, y, batch_size=16, nb_epoch=9, learning_rate=0.1)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{k + 1} epoch: val {value:.2f}" for k, value in enumerate(history["val_accuracy"])]
    assert history["val_accuracy"][-1] > 0.9
    assert net.evaluate(x, y) > 0.9
    net.fit(x, y, validation_split=0.0, batch_size=16, learning_rate=0.1)
    assert capsys.readouterr().out.startswith("1 epoch: loss 0.")


@pytest.mark.parametrize(("samples", "share"), [(10, 0.25), (101, 0.25), (37, 0.5), (7500, 0.1)])
def test_the_split_is_scikit_learns(samples, share):
    split = pytest.importorskip("sklearn.model_selection").train_test_split
    train, held = split(np.arange(samples), test_size=share, random_state=42)
    ours, ours_held = course.training._split(samples, share)
    np.testing.assert_array_equal(ours, train)
    np.testing.assert_array_equal(ours_held, held)


def test_the_split_of_ten_samples():
    """Scikit-learn's, written down: it need not be installed."""
    train, held = course.training._split(10, 0.25)
    assert held.tolist() == [8, 1, 5]
    assert train.tolist() == [0, 7, 2, 9, 4, 3, 6]


def test_fit_goes_in_order_and_trains_the_last_batch():
    """An epoch is train_step over the training part, batch by batch, the smaller last one too."""
    x, y = clusters(50)
    np.random.seed(1)
    net = dense_network()
    np.random.seed(1)
    other = dense_network()
    for one in (net, other):  # given parameters stay in their dtype
        for layer in one.layers:
            layer.drawn = False
    net.fit(x, y, batch_size=16, learning_rate=0.1)
    train, _ = course.training._split(50, 0.25)
    assert len(train) % 16
    for start in range(0, len(train), 16):
        other.train_step(x[train[start : start + 16]], y[train[start : start + 16]], 0.1)
    for layer, again in zip(net.layers, other.layers, strict=True):
        for name, array in layer.core.arrays().items():
            np.testing.assert_allclose(array, again.core.arrays()[name], atol=1e-12)


def test_a_notebook_repeats_by_the_global_seed():
    drawn = []
    for _ in range(2):
        np.random.seed(123)
        net = conv_network()
        drawn.append([array for layer in net.layers for array in layer.core.arrays().values()])
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(DenseLayer(3, 3).W, DenseLayer(3, 3).W)


def test_given_parameters_are_copied_and_keep_their_dtype():
    for dtype in (np.float32, np.float64):
        W, b = np.random.random((6, 3)).astype(dtype), np.random.random(3).astype(dtype)
        kept = W.copy()
        net = Network([DenseLayer(6, 3, W, b), Softmax()], loss=CrossEntropy())
        x, y = clusters()
        net.fit(x, y, batch_size=16)
        assert net.layers[0].W.dtype == dtype
        np.testing.assert_array_equal(W, kept)
        assert not np.array_equal(net.layers[0].W, kept)
    assert DenseLayer(2, 1, [[1], [2]], [0]).W.dtype == np.float64
    drawn = DenseLayer(6, 3)
    assert drawn.W.dtype == np.float64
    Network([drawn, Softmax()], loss=CrossEntropy()).fit(*clusters(), batch_size=16)
    assert drawn.W.dtype == np.float32
    drawn.W[0, 0] = 7
    assert drawn.forward(np.eye(6))[0, 0] == pytest.approx(7 + drawn.b[0])


def test_given_arrays_are_never_changed():
    x, y = clusters()
    x.flags.writeable = y.flags.writeable = False
    net = dense_network()
    net.fit(x, y, batch_size=16)
    net.grad_x(x[:5], y[:5])
    net.grad_param(x[:5], y[:5])


# What was wrong in the assignment's program


def test_flatten_permutes_backwards_too():
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    layer = FlattenLayer()
    np.testing.assert_array_equal(layer.forward(x), x.transpose(0, 2, 3, 1).reshape(1, 24))
    jacobian = layer.grad_x(x)[0]
    np.testing.assert_array_equal(jacobian @ x.ravel(), layer.forward(x)[0])
    np.testing.assert_array_equal(jacobian.sum(axis=0), 1)
    np.testing.assert_array_equal(layer.grad_loss_x(x, layer.forward(x)[:, None])[0, 0], x.ravel())


def test_pooling_has_its_strides_and_adds_where_windows_overlap():
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 1, 1] = 5
    layer = MaxPooling((3, 3), strides=1)
    assert layer.forward(x).shape == (1, 1, 2, 2)
    np.testing.assert_array_equal(layer.grad_loss_x(x, np.ones((1, 1, 4))).reshape(4, 4)[1, 1], 4)
    assert MaxPooling((2, 2), strides=1).forward(x).shape == (1, 1, 3, 3)


def test_convolution_with_strides():
    layer = Conv2DLayer(2, 1, 1, stride=2, K_init=np.arange(4.0).reshape(2, 2, 1, 1), b_init=[0.0])
    jacobian = layer.grad_x(np.zeros((1, 1, 4, 4)))[0].reshape(2, 2, 4, 4)
    np.testing.assert_array_equal(jacobian[1, 0, 2:, :2], [[0, 1], [2, 3]])
    assert jacobian[1, 0].sum() == 6


def test_softmax_of_large_inputs():
    p = Softmax().forward(np.array([[1000.0, 1001.0], [-1e5, 0]]))
    np.testing.assert_allclose(p, [[1 / (1 + np.e), np.e / (1 + np.e)], [0, 1]])
    assert np.isfinite(Softmax().grad_x(np.array([[1000.0, 1001.0]]))).all()


def test_relu_is_flat_at_zero_everywhere():
    x = np.array([[-1.0, 0.0, 2.0]])
    np.testing.assert_array_equal(ReLU().grad_x(x)[0], np.diag([0, 0, 1]))
    np.testing.assert_array_equal(ReLU().grad_loss_x(x, np.ones((1, 1, 3)))[0, 0], [0, 0, 1])


# Misuse


def test_misuse():
    x, y = clusters()
    net = dense_network()
    with pytest.raises(ArgumentError, match=r"needs a loss: Network\(layers, loss=CrossEntropy\(\)\)"):
        Network(net.layers).fit(x, y)
    with pytest.raises(ArgumentError, match="needs a loss"):
        Network(net.layers).train_step(x, y)
    with pytest.raises(DataError, match=r"labels are one-hot rows .*got int64 of shape \(200,\).*np.eye"):
        net.fit(x, y.argmax(axis=1))
    with pytest.raises(DataError, match="one-hot rows"):
        net.train_step(x, y * 2)
    with pytest.raises(DataError, match="one-hot rows"):
        net.evaluate(x, y * 0.5)
    with pytest.raises(DataError, match="one-hot rows"):
        CrossEntropy().forward(np.ones((2, 3)) / 3, [0, 1])
    with pytest.raises(ShapeError, match=r"layer 0 \(Dense\(5.*\)\) was built for inputs of 6 features, but got 5"):
        net.forward(x[:, :5])
    with pytest.raises(ShapeError, match=r"layer 0 .* but got 5 features"):
        net.fit(x[:, :5], y)
    with pytest.raises(ShapeError, match="for 3 outputs"):
        net.fit(x, np.eye(4)[y.argmax(axis=1)])
    with pytest.raises(DataError, match="trainX has 199 samples, and trainY has 200"):
        net.fit(x[1:], y)
    with pytest.raises(DataError, match="NaN or infinite"):
        net.fit(np.where(x > 3, np.nan, x), y)
    with pytest.raises(DTypeError, match="numbers"):
        net.forward(x.astype(str))
    with pytest.raises(ArgumentError, match="batch_size"):
        net.fit(x, y, batch_size=0)
    with pytest.raises(ArgumentError, match="nb_epoch"):
        net.fit(x, y, nb_epoch=0)
    with pytest.raises(ArgumentError, match="validation_split is a number from 0"):
        net.fit(x, y, validation_split=1.5)
    with pytest.raises(DataError, match="leaves none to train on"):
        net.fit(x[:1], y[:1], validation_split=0.5)
    with pytest.raises(ShapeError, match=r"has a kernel of shape \(6, 3\), but was given \(3, 6\)"):
        DenseLayer(6, 3, W_init=np.ones((3, 6)))
    with pytest.raises(ArgumentError, match="DenseLayer: input_dim"):
        DenseLayer(0, 3)
    with pytest.raises(ArgumentError, match=r"layer 1 is 'relu', not a layer of gradwise.course"):
        Network([DenseLayer(2, 2), "relu"])
    with pytest.raises(ShapeError, match="larger than the image"):
        Network([Conv2DLayer(3, 1, 1)]).forward(np.ones((1, 1, 2, 2)))


# Keras


def keras_trained(make, x, y):
    """A Keras model, trained for an epoch."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((28, 28, 1)), *make(keras.layers)])
    model.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy")
    model.fit(x.transpose(0, 2, 3, 1), y, batch_size=16, epochs=1, verbose=0)
    return model


def difference(net, model, x):
    """The sum of absolute differences over all predictions."""
    theirs = np.asarray(model.predict(x.transpose(0, 2, 3, 1), batch_size=500, verbose=0))
    ours = np.concatenate([net.predict(part) for part in np.array_split(x, 20)])
    assert ours.shape == theirs.shape == (len(x), 10)
    return np.abs(ours - theirs).sum()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_predicts_the_same(mnist):
    (x, y), (x_test, _) = mnist
    x, y = x[:4000], np.eye(10, dtype=np.float32)[y[:4000]]
    model = keras_trained(lambda L: [L.MaxPooling2D(2), L.Flatten(), L.Dense(10, activation="softmax")], x, y)
    W, b = (np.array(w) for w in model.layers[-1].get_weights())
    net = Network([MaxPooling(), FlattenLayer(), DenseLayer(196, 10, W_init=W, b_init=b), Softmax()])
    assert difference(net, model, x_test) < ALLOWED

    model = keras_trained(
        lambda L: [
            L.Conv2D(6, 3, activation="relu"),
            L.MaxPooling2D(2),
            L.Flatten(),
            L.Dense(20, activation="relu"),
            L.Dense(10, activation="softmax"),
        ],
        x,
        y,
    )
    weights = [[np.array(w) for w in layer.get_weights()] for layer in model.layers if layer.weights]
    net = Network(
        [
            *(Conv2DLayer(3, 1, 6, 1, *weights[0]), ReLU(), MaxPooling(), FlattenLayer()),
            *(DenseLayer(13 * 13 * 6, 20, *weights[1]), ReLU(), DenseLayer(20, 10, *weights[2]), Softmax()),
        ]
    )
    assert difference(net, model, x_test) < ALLOWED


def test_no_bar_where_there_is_no_terminal():
    code = "from gradwise.course import *; import numpy as np; Network([DenseLayer(2, 2), Softmax()], CrossEntropy()).fit(np.eye(2)[[0, 1] * 8], np.eye(2)[[0, 1] * 8])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert run.stdout.startswith("1 epoch: val ")

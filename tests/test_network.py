"""Network and training: what fit does, what it refuses, what it leaves behind."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import gradwise
from gradwise import (
    SGD,
    Adam,
    Callback,
    Chain,
    Checkpoint,
    Conv2D,
    Dense,
    Dropout,
    EarlyStopping,
    Flatten,
    LearningRateSchedule,
    MaxPooling2D,
    MeanSquaredError,
    Network,
    ReLU,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from gradwise.errors import ArgumentError, DataError, DTypeError, NonFiniteError, NotBuiltError, ShapeError
from gradwise.kernels import samples
from gradwise.layers.base import Layer
from gradwise.training.batches import Arrays
from gradwise.typing import Pullback


class Probe(Layer):
    """Hands everything on, and writes down how many samples came."""

    def __init__(self, sizes):
        self.sizes = sizes

    def build(self, input_shape, rng):
        return input_shape

    def vjp(self, x, training=False, rng=None):
        self.sizes.append(len(x))
        return x, Pullback(input=lambda dy: dy)


def blobs(n=96, features=6, classes=3, seed=0):
    """Classes that can be told apart: points around one centre each."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return (4 * np.eye(classes, features)[y] + rng.standard_normal((n, features))).astype(np.float32), y


def mlp(**options):
    options = {"input_shape": 6, "random_state": 0} | options
    return Network([Dense(16), ReLU(), Dropout(0.1), Dense(3)], SoftmaxCrossEntropy(), **options)


def cnn(seed=0):
    layers = [Conv2D(4, 3), ReLU(), MaxPooling2D(2), Flatten(), Dense(8), ReLU(), Dense(3)]
    return Network(layers, SoftmaxCrossEntropy(), input_shape=(1, 8, 8), random_state=seed)


def images(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, 1, 8, 8), dtype=np.float32), rng.integers(0, 3, n)


def same(one, other):
    a, b = one.parameters(), other.parameters()
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def script(code, *arguments, **environment):
    """Run Python code in a process of its own."""
    source = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
    env = os.environ | {"PYTHONPATH": source} | environment
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=env,
        timeout=300,
    )


# Training


def test_fit_learns_and_reports():
    x, y = blobs()
    net = mlp()
    history = net.fit(x, y, optimizer=Adam(0.01), epochs=20, batch_size=20, validation_split=0.25, verbose=False)
    assert history.epochs == 20
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    assert all(len(values) == 20 for values in history.values())
    assert history["val_accuracy"][-1] > 0.9
    assert history["loss"][-1] < history["loss"][0] / 2
    assert net.evaluate(x, y) == pytest.approx({"loss": 0.0, "accuracy": 1.0}, abs=0.1)


def test_the_last_smaller_batch_is_trained():
    x, y = blobs(5)
    seen = []

    class Count(Callback):
        def on_batch_end(self, training):
            seen.append(training.batch)

    net = mlp()
    optimizer = SGD(0.1)
    net.fit(x, y, batch_size=2, optimizer=optimizer, callbacks=[Count()], verbose=False)
    assert seen == [0, 1, 2]
    assert optimizer.steps == 3


def test_one_step_is_the_formula():
    """A step of SGD on a batch, by hand: softmax regression."""
    x, y = blobs(7)
    x = x.astype(np.float64)
    net = Network([Dense(3, dtype="float64")], SoftmaxCrossEntropy(), input_shape=6, random_state=1)
    kernel, bias = (array.copy() for array in net.parameters().values())
    z = x @ kernel + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(7), y]).mean()
    dz = (p - np.eye(3)[y]) / 7
    assert net.train_step(x, y, SGD(0.5)) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(net.layers[0].kernel, kernel - 0.5 * x.T @ dz, rtol=1e-12)
    np.testing.assert_allclose(net.layers[0].bias, bias - 0.5 * dz.sum(axis=0), rtol=1e-12)


def test_sample_and_class_weights_are_repeated_samples():
    x, y = blobs(12)
    weights = np.where(np.arange(12) < 4, 3, 1)
    rows = np.repeat(np.arange(12), weights)
    weighted, repeated = mlp(), mlp()
    for net in (weighted, repeated):
        net.layers[2].rate = 0
    # Three times a sample is the sample three times; the step is scaled, for means are over the number of samples.
    weighted.fit(x, y, sample_weight=weights, batch_size=12, optimizer=SGD(0.1 / 12), shuffle=False, verbose=False)
    repeated.fit(x[rows], y[rows], batch_size=20, optimizer=SGD(0.1 / 20), shuffle=False, verbose=False)
    scale = {"a": weighted, "b": repeated}
    a, b = (net.parameters() for net in scale.values())
    start = mlp().parameters()
    for path in a:
        np.testing.assert_allclose((a[path] - start[path]) * 12 * 12, (b[path] - start[path]) * 20 * 20, atol=2e-3)

    by_class, by_sample = mlp(), mlp()
    by_class.fit(x, y, class_weight={0: 2.0, 2: 0.5}, optimizer=SGD(0.1), verbose=False)
    by_sample.fit(x, y, sample_weight=np.array([2.0, 1.0, 0.5])[y], optimizer=SGD(0.1), verbose=False)
    assert same(by_class, by_sample)


def test_shared_layer_is_stepped_once_by_the_sum():
    x, y = blobs(9)
    shared = Dense(6, dtype="float64")
    net = Network([shared, ReLU(), shared, ReLU(), Dense(3, dtype="float64")], SoftmaxCrossEntropy(), 6, random_state=0)
    assert list(net.parameters()) == ["0.kernel", "0.bias", "4.kernel", "4.bias"]
    before = shared.kernel.copy()
    gradients = net.per_sample_gradients(x.astype(np.float64), y)
    net.train_step(x, y, SGD(1.0))
    np.testing.assert_allclose(shared.kernel, before - gradients["0.kernel"].mean(axis=0), rtol=1e-10, atol=1e-12)


def test_frozen_layers_stay():
    x, y = blobs()
    net = Network(
        [Dense(8, trainable=False), ReLU(), Chain([Dense(8), ReLU()], trainable=False), Dense(3)],
        SoftmaxCrossEntropy(),
        6,
        random_state=0,
    )
    before = {path: array.copy() for path, array in net.parameters().items()}
    net.fit(x, y, optimizer=SGD(0.1), verbose=False)
    changed = [path for path, array in net.parameters().items() if not np.array_equal(array, before[path])]
    assert changed == ["3.kernel", "3.bias"]
    assert set(net.per_sample_gradients(x[:2], y[:2])) == set(before)
    net.layers[3].trainable = False
    with pytest.raises(ArgumentError, match="nothing to train: every layer is frozen"):
        net.fit(x, y, verbose=False)


def test_max_pooling_before_relu_changes_nothing():
    """In numbers of which there are many ties, and whose sums are exact in any order."""
    x, y = images(6)
    x = np.round(x * 4) / 4 - 0.5
    net = cnn()
    for parameter in net.parameters().values():
        parameter[...] = np.round(parameter * 16) / 16
    plain = net.admit(x)
    for layer in net.layers:
        plain = layer.forward(plain)
    np.testing.assert_array_equal(net.forward(x), plain)
    layers = [*net.layers[:1], Chain([ReLU()]), *net.layers[2:]]  # not next to each other: not swapped
    apart = Network(layers, SoftmaxCrossEntropy(), input_shape=(1, 8, 8), random_state=0)
    dy = np.random.default_rng(1).integers(-3, 4, (6, 3)).astype(np.float32)
    given, other = (one.vjp(one.admit(x))[1].input(dy) for one in (net, apart))
    assert given.any()
    np.testing.assert_array_equal(given, other)
    np.testing.assert_allclose(net.input_gradient(x, y), apart.input_gradient(x, y), rtol=1e-5, atol=1e-7)


def test_regression_and_labels():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    y = x @ [[1.0], [2.0], [-1.0]] + 0.5
    net = Network([Dense(1)], MeanSquaredError(), random_state=0)
    history = net.fit(x, y, optimizer=SGD(0.1), epochs=30, metrics=["mean_absolute_error"], verbose=False)
    assert list(history) == ["loss", "mean_absolute_error", "seconds"]
    assert net.evaluate(x, y)["loss"] < 1e-6
    with pytest.raises(
        ShapeError, match=r"takes targets of the predictions' shape, \(N, 1\), but got \(N,\).*y\[:, None\]"
    ):
        net.fit(x, y[:, 0], verbose=False)
    with pytest.raises(ArgumentError, match=r"metrics: 'accuracy' does not fit MeanSquaredError\(\)"):
        net.evaluate(x, y, metrics=["accuracy"])
    with pytest.raises(ArgumentError, match="metrics: 'f1' is not a metric; there are accuracy"):
        net.evaluate(x, y, metrics="f1")
    binary = Network([Dense(1)], SigmoidCrossEntropy(), random_state=0)
    binary.fit(x, (y[:, 0] > 0).astype(int), optimizer=Adam(0.05), epochs=40, verbose=False)
    assert binary.evaluate(x, y > 0)["accuracy"] > 0.97


def test_own_metric_and_early_stopping_and_schedule():
    x, y = blobs()

    def confidence(prediction, target):
        return prediction.max(axis=1)

    rates = []
    history = mlp().fit(
        x,
        y,
        epochs=50,
        optimizer=SGD(0.5),
        validation_split=0.3,
        metrics=["accuracy", confidence],
        callbacks=[
            LearningRateSchedule(lambda epoch, rate: rate * 0.5),
            EarlyStopping("val_accuracy", patience=2),
            lambda training: rates.append(training.optimizer.learning_rate),
        ],
        verbose=False,
    )
    assert "val_confidence" in history
    assert rates[:3] == [0.25, 0.125, 0.0625]
    best = int(np.argmax(history["val_accuracy"]))
    assert history.epochs == best + 4 < 50
    with pytest.raises(ArgumentError, match=r"EarlyStopping monitors 'val_loss', which this run does not report"):
        mlp().fit(x, y, callbacks=[EarlyStopping()], verbose=False)

    def mean(prediction, target):
        return prediction.mean()

    with pytest.raises(ShapeError, match=r"metrics: mean gives one number a sample, \(\d+,\), but gave \(\)"):
        mlp().fit(x, y, metrics=[mean], verbose=False)


def test_early_stopping_gives_the_best_back():
    x, y = blobs()
    net = mlp()
    kept = []

    def remember(training):
        kept.append({path: array.copy() for path, array in training.network.parameters().items()})

    stopping = EarlyStopping("val_loss", patience=1)
    history = net.fit(
        x,
        y,
        epochs=30,
        optimizer=SGD(2.0),
        validation_split=0.3,
        callbacks=[remember, stopping],
        verbose=False,
    )
    best = kept[int(np.argmin(history["val_loss"]))]
    assert all(np.array_equal(array, best[path]) for path, array in net.parameters().items())


def test_callback_stops_the_run():
    x, y = blobs()

    class Stop(Callback):
        def on_batch_end(self, training):
            if training.batch == 1:
                training.stop()

    optimizer = SGD()
    history = mlp().fit(x, y, batch_size=10, epochs=5, optimizer=optimizer, callbacks=[Stop()], verbose=False)
    assert optimizer.steps == 2
    assert history.epochs == 0


# What it reads from


def test_stream_equals_arrays():
    x, y = blobs(50)
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 50, 16)]
    one, two, three = mlp(), mlp(), mlp()
    one.fit(x, y, batch_size=16, shuffle=False, epochs=2, optimizer=SGD(0.1), verbose=False)
    two.fit(batches, epochs=2, optimizer=SGD(0.1), verbose=False)
    three.fit(lambda: iter(batches), epochs=2, optimizer=SGD(0.1), verbose=False)
    assert same(one, two)
    assert same(one, three)
    unbuilt = mlp(input_shape=None)
    unbuilt.fit(((a, b, np.ones(len(a))) for a, b in batches), optimizer=SGD(0.1), verbose=False)
    assert unbuilt.input_shape == (6,)


@pytest.mark.parametrize(
    ("source", "epochs", "error", "message"),
    [
        (lambda x, y: iter([(x, y)]), 2, DataError, "x is an iterator, list_iterator, which can be gone through once"),
        (lambda x, y: [x, y], 1, DataError, r"batch 0 of x is ndarray, not \(x, y\)"),
        (lambda x, y: [], 1, DataError, "gave none"),
        (lambda x, y: [(x, y), (x[:, :5], y)], 1, ShapeError, "has samples of 5 features, but the network was built"),
        (lambda x, y: [(x, y), (x, y[1:])], 1, DataError, "x has 96 samples, but y has 95"),
        (lambda x, y: [(x, y, -np.ones(96))], 1, DataError, "sample_weight has numbers below 0"),
    ],
)
def test_bad_streams(source, epochs, error, message):
    with pytest.raises(error, match=message):
        mlp().fit(source(*blobs()), epochs=epochs, verbose=False)


def test_memory_mapped_array(tmp_path):
    x, y = blobs(64)
    mapped = np.memmap(tmp_path / "x.dat", np.float64, "w+", shape=x.shape)
    mapped[:] = x
    mapped.flush()
    for mode in ("r", "c", "r+"):
        again = np.memmap(tmp_path / "x.dat", np.float64, mode, shape=x.shape)
        one, two = mlp(), mlp()
        one.fit(x, y, epochs=2, validation_split=0.2, optimizer=SGD(0.1), verbose=False)
        two.fit(again, y, epochs=2, validation_split=0.2, optimizer=SGD(0.1), verbose=False)
        assert same(one, two)
        np.testing.assert_array_equal(one.predict(x, batch_size=10), two.predict(again, batch_size=10))
    mapped[40, 2] = np.nan
    with pytest.raises(DataError, match="among the samples 32 to 63 as read, has NaN"):
        mlp().fit(mapped, y, shuffle=False, verbose=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from the kernel")
def test_memory_stays_small(tmp_path):
    """A network of six convolutions at batch 16 under 300 MB; a memory-mapped gigabyte under 250 MB."""
    run = script(
        """
        import sys
        from pathlib import Path
        import numpy as np
        from gradwise import *
        peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000
        layers = [layer for _ in range(6) for layer in (Conv2D(16), ReLU())]
        net = Network([*layers, MaxPooling2D(16), Flatten(), Dense(10)], SoftmaxCrossEntropy(), (1, 28, 28))
        x, y = np.random.rand(16, 1, 28, 28).astype("float32"), np.arange(16) % 10
        for _ in range(5):
            net.train_step(x, y, SGD(0.01))
        first = peak()
        n = 2**30 // 3136
        big = np.memmap(sys.argv[1], np.float32, "w+", shape=(n, 1, 28, 28))
        small = Network([MaxPooling2D(4), Flatten(), Dense(10)], SoftmaxCrossEntropy())
        small.fit(big, np.zeros(n, int), batch_size=512, optimizer=SGD(0.01), verbose=False)
        print(first, peak())
        """,
        tmp_path / "big.dat",
    )
    assert run.returncode == 0, run.stderr
    six, mapped = map(float, run.stdout.split())
    assert six < 300
    assert mapped < 250


# What it refuses, before any work


X, Y = blobs()
BAD_DATA = {
    "feature count": (X[:, :4], Y, ShapeError, r"has samples of 4 features, but the network was built for inputs of 6"),
    "rank": (X[:, :, None], Y, ShapeError, r"has samples of shape \(6, 1\)"),
    "no batch": (X[0], Y[:1], ShapeError, r"is a batch of samples, \(N, \.\.\.\), but got shape \(6,\).*x\[None\]"),
    "empty": (X[:0], Y[:0], DataError, r"x is empty: shape \(0, 6\)"),
    "NaN": (np.where(np.arange(6) == 3, np.nan, X), Y, DataError, "x has NaN or infinite entries"),
    "infinity": (np.where(np.arange(6) == 3, np.inf, X), Y, DataError, "x has NaN or infinite entries"),
    "text": (X.astype(str), Y, DTypeError, "x is an array of numbers, but got one of <U"),
    "objects": ([[1, None]] * 3, [0, 1, 2], DTypeError, "x is an array of numbers, but got one of object"),
    "lengths": (X, Y[1:], DataError, "x has 96 samples, but y has 95"),
    "labels out of range": (X, Y + 1, DataError, "takes labels from 0 to 2, for 3 outputs, but got labels from 1 to 3"),
    "negative labels": (X, Y - 1, DataError, "got labels from -1 to 1"),
    "floating labels": (X, Y.astype(float), DTypeError, "takes integer labels.*astype"),
    "rows of other width": (X, np.eye(4)[Y], ShapeError, r"rows \(N, 3\), for 3 outputs, but got \(N, 4\)"),
    "labels as a column": (X, Y[:, None], ShapeError, r"Labels are y\[:, 0\]"),
    "rows that are none": (X, 2 * np.eye(3)[Y], DataError, "takes one-hot or soft rows"),
    "no targets": (X, None, DataError, r"is ndarray, not \(x, y\)|y is missing"),
    "text labels": (X, Y.astype(str), DTypeError, "takes numbers as targets"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(case):
    x, y, error, message = BAD_DATA[case]
    net = mlp()
    before = {path: array.copy() for path, array in net.parameters().items()}
    calls = [net.fit, net.train_step, net.evaluate]
    for call in calls:
        options = {"verbose": False} if call == net.fit else {}
        with pytest.raises(error, match=message):
            call(x, y, **options)
    assert all(np.array_equal(array, before[path]) for path, array in net.parameters().items())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ArgumentError, "batch_size is a whole number of 1 or more, but got 0"),
        ({"batch_size": 2.0}, ArgumentError, "batch_size is a whole number of 1 or more, but got 2.0"),
        ({"epochs": 0}, ArgumentError, "epochs is a whole number of 1 or more, but got 0"),
        ({"validation_split": 1.0}, ArgumentError, "validation_split is a number from 0 up to"),
        ({"validation_split": 0.001}, DataError, "leaves one of the two parts empty"),
        ({"validation_split": 0.1, "validation_data": (X, Y)}, ArgumentError, "not both"),
        ({"validation_data": X}, ArgumentError, r"validation_data is \(x, y\)"),
        ({"validation_data": (X[:, :2], Y)}, ShapeError, "validation_data has samples of 2 features"),
        ({"optimizer": "adam"}, DTypeError, r"optimizer is an Optimizer such as Adam\(1e-3\), but got 'adam'"),
        ({"optimizer": Adam}, DTypeError, r"Make one: Adam\(\)"),
        ({"sample_weight": np.ones(3)}, ShapeError, r"one number a sample, \(96,\), but got shape \(3,\)"),
        ({"sample_weight": np.full(96, np.nan)}, DataError, "sample_weight has numbers below 0, NaN"),
        ({"class_weight": {3: 1.0}}, DataError, "class_weight names class 3, but there are the classes 0 to 2"),
        ({"class_weight": {0: -1.0}}, DataError, "gives class 0 the weight -1.0"),
        ({"random_state": "zero"}, ArgumentError, "random_state takes None, an integer"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        mlp().fit(X, Y, verbose=False, **options)
    if "optimizer" in options:
        with pytest.raises(error, match=message):
            mlp().train_step(X, Y, **options)


def test_before_build_and_without_loss():
    net = mlp(input_shape=None)
    for call in (net.predict, net.forward):
        with pytest.raises(NotBuiltError, match="built"):
            call(X)
    for call in (net.evaluate, net.input_gradient, net.per_sample_gradients):
        with pytest.raises(NotBuiltError, match="not built yet"):
            call(X, Y)
    for call in (net.parameters, net.summary, lambda: net.save("never.npz")):
        with pytest.raises(NotBuiltError, match="not built yet"):
            call()
    lossless = Network([Dense(3)], input_shape=6)
    for call in (lossless.fit, lossless.train_step, lossless.evaluate, lossless.input_gradient):
        with pytest.raises(ArgumentError, match="needs a loss"):
            call(X, Y)
    assert lossless.predict(X).shape == (96, 3)
    with pytest.raises(DTypeError, match=r"Make one: SoftmaxCrossEntropy\(\)"):
        Network([Dense(3)], SoftmaxCrossEntropy)


def test_a_larger_image_is_refused_where_it_matters():
    net = Network([Conv2D(24), ReLU(), MaxPooling2D(2), Flatten(), Dense(32)], input_shape=(1, 28, 28))
    with pytest.raises(ShapeError) as caught:
        net.predict(np.zeros((2, 1, 14, 14)))
    assert str(caught.value) == (
        "layer 4 (Dense(32)) was built for inputs of 4056 features, but got 864 features.\n"
        "The layer before it, Flatten(), gave (N, 864) from images of (24, 6, 6)."
    )


@pytest.mark.parametrize("cut", [lambda x: x, lambda x: np.repeat(x, 2, axis=0)[::2]])  # in one piece, or with gaps
def test_shuffled_batches_hold_each_sample_with_its_label(cut):
    x = cut(np.arange(70, dtype=np.float32).reshape(35, 1, 2))
    batches = list(Arrays(x, np.arange(35), None, 8, x.dtype).epoch(np.random.default_rng(0)))
    assert [len(batch.x) for batch in batches] == [8, 8, 8, 8, 3]
    order = np.concatenate([batch.y for batch in batches])
    assert sorted(order) == list(range(35)) != list(order)
    np.testing.assert_array_equal(np.concatenate([batch.x for batch in batches]), x[order])


def test_a_network_with_a_forward_of_its_own_predicts_by_it():
    class Doubled(Network):
        def forward(self, x, training=False, rng=None):
            return 2 * super().forward(x, training, rng)

    x, _ = blobs(20)
    layers = [Dense(4), ReLU(), Dense(3)]
    one, other = (kind(layers, input_shape=6, random_state=0) for kind in (Network, Doubled))
    np.testing.assert_array_equal(other.predict(x), 2 * one.predict(x))
    np.testing.assert_array_equal(other.predict(x, batch_size=7), 2 * one.predict(x, batch_size=7))


# What is not finite


@pytest.mark.parametrize("weights", [False, True])
def test_a_large_batch_is_gone_through_in_parts(monkeypatch, weights):
    """Which changes nothing but the rounding."""
    x, y = images(45)
    sample_weight = np.linspace(0, 2, 45) if weights else None
    made = []
    for numbers, most, wanted in (
        (1 << 40, 1, {45}),
        (20 * 4000, 1, {16, 13}),
        (1, 16 * 4000, {16, 13}),  # of 16 where there can be so many
        (1, 16 * 4000 - 1, {8, 5}),
        (1, 4 * 4000, {4, 1}),
        (1, 1, {2, 1}),
    ):
        monkeypatch.setattr(samples, "_NUMBERS", numbers)
        monkeypatch.setattr(samples, "_MOST", most)
        monkeypatch.setattr(samples, "_READ", 1 << 40)
        sizes = []
        layers = [Conv2D(4, 3), ReLU(), MaxPooling2D(2), Flatten(), Dense(4000), Probe(sizes), ReLU(), Dense(3)]
        net = Network(layers, SoftmaxCrossEntropy(), input_shape=(1, 8, 8), random_state=0)
        assert net.largest == 4000
        history = net.fit(x, y, sample_weight=sample_weight, optimizer=SGD(0.1), batch_size=45, epochs=3, verbose=False)
        made.append((net, history))
        assert set(sizes) == wanted
    one, first = made[0]
    for other, second in made[1:]:
        np.testing.assert_allclose(first.history["loss"], second.history["loss"], rtol=1e-5)
        assert first.history["accuracy"] == second.history["accuracy"]
        for path, array in one.arrays().items():
            np.testing.assert_allclose(array, other.arrays()[path], atol=1e-5, err_msg=path)


@pytest.mark.parametrize(("features", "wanted"), [(3, [2] * 5), (8, [4, 4, 2]), (16, [8, 2]), (20, [10])])
def test_large_kernels_are_read_for_several_samples(monkeypatch, features, wanted):
    monkeypatch.setattr(samples, "_NUMBERS", 1)
    monkeypatch.setattr(samples, "_MOST", 1)
    sizes = []
    layers = [Dense(4000), Probe(sizes), Dense(3)]
    net = Network(layers, SoftmaxCrossEntropy(), input_shape=features, random_state=0)
    assert net.weights == features * net.largest
    x = np.random.default_rng(0).random((10, features))
    net.train_step(x, np.arange(10) % 3, SGD(0.1))
    assert sizes == wanted


def test_a_large_batch_of_layers_with_state_stays_whole(monkeypatch):
    class Counting(Probe):
        state = ("seen",)

        def build(self, input_shape, rng):
            self.seen = np.zeros(1, np.float32)
            return input_shape

    monkeypatch.setattr(samples, "_NUMBERS", 1)
    x, y = blobs(50)
    sizes = []
    net = Network([Counting(sizes), Dense(3)], SoftmaxCrossEntropy(), input_shape=6, random_state=0)
    net.train_step(x, y, SGD(0.1))
    assert sizes == [50]


def test_a_large_batch_with_dropout_repeats_by_the_seed(monkeypatch):
    monkeypatch.setattr(samples, "_NUMBERS", 1)
    x, y = blobs(50)
    one, other = mlp(), mlp()
    for net in (one, other):
        net.fit(x, y, optimizer=SGD(0.1), batch_size=50, epochs=2, verbose=False)
    same(one, other)


def test_a_large_batch_that_diverges_changes_nothing(monkeypatch):
    """Also where only its last part does."""
    monkeypatch.setattr(samples, "_NUMBERS", 1)
    x, y = blobs(50)
    x[-1] = 3e38
    net = mlp()
    before = {path: array.copy() for path, array in net.arrays().items()}
    with pytest.raises(NonFiniteError):
        net.train_step(x, y, SGD(0.1))
    for path, array in net.arrays().items():
        np.testing.assert_array_equal(array, before[path])


def test_divergence_stops_with_the_last_finite_weights():
    x, y = blobs()
    net = mlp()
    snapshots = [{path: array.copy() for path, array in net.parameters().items()}]

    def remember(training):
        snapshots.append({path: array.copy() for path, array in training.network.parameters().items()})

    class Explode(Callback):
        def on_epoch_begin(self, training):
            if training.epoch == 2:
                training.optimizer.learning_rate = 1e30

    with pytest.raises(
        NonFiniteError, match=r"(?s)epoch 3, batch \d.*layer \d \(Dense.*of the end of epoch 2"
    ) as caught:
        net.fit(x, y, epochs=5, batch_size=16, optimizer=SGD(0.1), callbacks=[remember, Explode()], verbose=False)
    assert "clip_norm" in str(caught.value)
    assert all(np.array_equal(array, snapshots[-1][path]) for path, array in net.parameters().items())


def test_last_step_of_an_epoch_that_overflows_is_found():
    x, y = blobs()
    net = mlp()
    before = {path: array.copy() for path, array in net.parameters().items()}
    with pytest.raises(NonFiniteError, match=r"epoch 1, batch 1: the (kernel|bias) of layer \d .* after the step"):
        net.fit(x, y, batch_size=96, optimizer=SGD(1e38), class_weight={0: 1e3, 1: 1e3, 2: 1e3}, verbose=False)
    assert all(np.array_equal(array, before[path]) for path, array in net.parameters().items())


def test_training_leaves_numpy_as_it_was():
    """Its errors and buffers are set for training alone, also where that ends in an error."""
    x, y = blobs()
    before = np.geterr(), np.getbufsize()
    mlp().train_step(x, y, SGD(0.1))
    inside = []
    mlp().fit(x, y, verbose=False, callbacks=[lambda _: inside.append((np.geterr()["over"], np.getbufsize()))])
    assert inside == [("ignore", 1024)]
    with pytest.raises(NonFiniteError):
        mlp().fit(x, y, optimizer=SGD(1e38), verbose=False)
    assert (np.geterr(), np.getbufsize()) == before


def test_train_step_that_is_not_finite_changes_nothing():
    x, y = blobs(8)
    net = mlp()
    net.layers[0].kernel[0, 0] = np.inf
    before = {path: array.copy() for path, array in net.parameters().items()}
    with pytest.raises(NonFiniteError, match=r"that of layer 0 \(Dense\(16\)\) because its kernel is not"):
        net.train_step(x, y, SGD(0.1))
    assert all(np.array_equal(array, before[path]) for path, array in net.parameters().items())


# Repeating


def test_the_same_seed_gives_the_same_bits_in_two_processes():
    code = """
        import hashlib, sys
        import numpy as np
        from gradwise import *
        net = Network([Conv2D(8), ReLU(), MaxPooling2D(2), Flatten(), Dropout(0.2), Dense(32), ReLU(), Dense(10)],
                      SoftmaxCrossEntropy(), random_state=7)
        rng = np.random.default_rng(0)
        net.fit(rng.random((300, 1, 16, 16)), rng.integers(0, 10, 300), epochs=2, verbose=False)
        print(hashlib.sha256(b"".join(a.tobytes() for a in net.parameters().values())).hexdigest())
    """
    first, second = script(code), script(code)
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.strip()) == 64
    assert first.stdout == second.stdout


def test_numpy_global_seed_repeats_a_script():
    def run():
        np.random.seed(3)
        net = Network([Dense(8), ReLU(), Dense(3)], SoftmaxCrossEntropy())
        net.fit(X, Y, verbose=False)
        return net

    assert same(run(), run())
    np.random.seed(4)
    other = Network([Dense(8), ReLU(), Dense(3)], SoftmaxCrossEntropy())
    other.fit(X, Y, verbose=False)
    assert not same(run(), other)


# Interrupting and showing


@pytest.fixture
def interruptible():
    """Python's own handler of Ctrl-C, which is missing where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_control_c_stops_after_the_batch(interruptible):
    x, y = blobs()

    class Interrupt(Callback):
        def on_batch_end(self, training):
            if training.epoch == 1 and training.batch == 2:
                os.kill(os.getpid(), signal.SIGINT)

    net = mlp()
    optimizer = SGD(0.1)
    history = net.fit(x, y, epochs=9, batch_size=16, optimizer=optimizer, callbacks=[Interrupt()], verbose=False)
    assert history.interrupted
    assert history.epochs == 1
    assert optimizer.steps == 6 + 3
    assert np.isfinite(net.predict(x)).all()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_second_control_c_stops_at_once(interruptible):
    class Impatient(Callback):
        def on_batch_end(self, training):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        mlp().fit(X, Y, callbacks=[Impatient()], verbose=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_line_per_epoch_and_silence(capsys):
    net = mlp()
    net.fit(X, Y, epochs=2, validation_split=0.2)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2: loss ")
    assert "val_accuracy" in lines[1]
    net.fit(X, Y, verbose=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
def test_a_bar_on_a_terminal():
    import fcntl
    import pty
    import struct
    import termios

    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    source = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
    code = (
        "import numpy as np; from gradwise import *;"
        "Network([Dense(3)], SoftmaxCrossEntropy()).fit(np.ones((64, 4)), np.arange(64) % 3, epochs=2)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=terminal, env=os.environ | {"PYTHONPATH": source}
    ) as run:
        os.close(terminal)
        shown = b""
        try:
            while chunk := os.read(reader, 4096):
                shown += chunk
        except OSError:
            pass  # the terminal is gone
        assert run.wait(60) == 0
    os.close(reader)
    assert b"epoch 2/2: 100%" in shown
    assert b"accuracy" in shown


def test_summary(capsys):
    cnn().summary()
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "input (N, 1, 8, 8)"
    assert [line.split() for line in shown if line.startswith("4")] == [["4", "Dense(8)", "(N,", "8)", "296"]]
    assert shown[-1] == "363 parameters, 0.00 MB"
    net = Network([Chain([Dense(4)], trainable=False), Dense(2)], input_shape=3)
    net.summary()
    assert capsys.readouterr().out.splitlines()[-1] == "26 parameters, 10 of them trained, 0.00 MB"


# Explaining


def test_gradients_by_input_and_sample():
    x, y = images(5)
    net = cnn()
    x = x.astype(np.float64)
    dx = net.input_gradient(x, y)
    assert dx.shape == x.shape
    assert dx.dtype == np.float64
    for k in (3, 17, 40):
        step = np.zeros((1, 64))
        step[0, k] = 1e-5
        moved = [net.loss.forward(net.forward(x + s * step.reshape(1, 1, 8, 8)), y) for s in (1, -1)]
        np.testing.assert_allclose((moved[0] - moved[1]) / 2e-5, dx.reshape(5, -1)[:, k], rtol=1e-5, atol=1e-8)
    gradients = net.per_sample_gradients(x, y)
    for n in range(5):
        single = net.per_sample_gradients(x[n : n + 1], y[n : n + 1])
        for path, array in net.parameters().items():
            assert gradients[path].shape == (5, *array.shape)
            np.testing.assert_allclose(gradients[path][n], single[path][0], rtol=1e-10, atol=1e-14)


def test_predict_in_batches_is_predict_at_once():
    x, y = images(70)
    net = cnn()
    whole = net.predict(x, batch_size=100)
    np.testing.assert_allclose(net.predict(x, batch_size=9), whole, rtol=1e-5, atol=1e-6)
    assert whole.flags.c_contiguous
    assert whole.dtype == np.float32
    with pytest.raises(ArgumentError, match="batch_size is a whole number"):
        net.predict(x, batch_size=0)
    assert net.evaluate(x, y, batch_size=7)["loss"] == pytest.approx(net.evaluate(x, y)["loss"], rel=1e-5)


def test_given_arrays_are_never_changed():
    x, y = images(20)
    net = cnn()
    rows = np.eye(3)[y]
    weight = np.ones(20)
    copies = [array.copy() for array in (x, rows, weight)]
    for array in (x, rows, weight):
        array.flags.writeable = False
    net.fit(x, rows, sample_weight=weight, validation_split=0.2, epochs=2, verbose=False)
    net.predict(x), net.evaluate(x, rows), net.input_gradient(x, rows)
    for array, copy in zip((x, rows, weight), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# Importing


def test_import_needs_numpy_and_tqdm_alone():
    run = script(
        """
        import json, sys
        import numpy
        before = set(sys.modules)
        import gradwise
        new = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
        print(json.dumps(sorted(name for name in new if name != "numpy" and "cython" not in name)))
        """
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == ["gradwise"]


def test_everything_works_without_the_extras(tmp_path):
    """Train, save and load in a process in which no optional package can be imported."""
    run = script(
        """
        import sys
        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {"matplotlib", "pooch", "scipy", "sklearn", "threadpoolctl", "h5py", "pandas"}:
                    raise ImportError(name)
        sys.meta_path.insert(0, Refuse())
        import numpy as np, gradwise
        from gradwise import *
        net = Network([Dense(3)], SoftmaxCrossEntropy())
        net.fit(np.eye(3), [0, 1, 2], epochs=3)
        net.save(sys.argv[1])
        print(gradwise.load(sys.argv[1]).predict(np.eye(3)).shape)
        """,
        tmp_path / "net.npz",
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "(3, 3)"


def test_checkpoint(tmp_path):
    x, y = blobs()
    net = mlp()
    net.fit(x, y, epochs=3, callbacks=[Checkpoint(tmp_path / "net-{epoch}.npz")], verbose=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net-1.npz", "net-2.npz", "net-3.npz"]
    resumed = gradwise.load(tmp_path / "net-2.npz")
    resumed.fit(x, y, verbose=False)
    assert same(net, resumed)
    best = tmp_path / "best"
    best.mkdir()
    mlp().fit(
        x,
        y,
        epochs=5,
        validation_split=0.2,
        callbacks=[Checkpoint(best / "{epoch}.npz", best_only=True)],
        verbose=False,
    )
    assert (best / "1.npz").exists()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="it is CPython's way of keeping attributes")
def test_attributes_are_looked_up_the_quick_way():
    """Whoever is asked for its `__dict__` gets one, and Python 3.11 looks up all of its attributes the slow way then."""
    layers = [Dense(4), ReLU(), Dense(3)]
    net, steps = Network(layers, SoftmaxCrossEntropy(), input_shape=2, random_state=0), SGD(0.1)
    x, y = np.zeros((5, 2), np.float32), np.zeros(5, int)
    net._quick.train_step.after = net._quick.predict.after = 1
    for _ in range(3):
        net.train_step(x, y, steps)
        net.predict(x)
    net.fit(x, y, epochs=1, verbose=0)
    assert len(net._quick.train_step.programs) == len(net._quick.predict.programs) == 1
    for one in (net, *layers, net.loss, steps):
        known = [name for part in gc.get_referents(one) if isinstance(part, dict) for name in part]
        assert not {"layers", "trainable", "label_smoothing", "learning_rate"}.intersection(known)

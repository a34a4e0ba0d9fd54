"""Losses, optimisers, initialisers and metrics: formulas, extremes, and what they refuse."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest

from gradwise import (
    SGD,
    Adam,
    AdamW,
    Constant,
    CrossEntropy,
    Dense,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Huber,
    LecunNormal,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Network,
    Ones,
    Orthogonal,
    RandomNormal,
    ReLU,
    RMSprop,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
    Workers,
    Zeros,
    metrics,
)
from gradwise.errors import ArgumentError, DataError, DTypeError, ShapeError
from gradwise.kernels.context import Computing
from gradwise.kernels.products import Product
from gradwise.optimizers import Optimizer, base
from gradwise.training.loop import Means

LABELS = np.array([0, 2, 1])
LOGITS = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0], [2.0, 2.0, 2.0]])


def test_softmax_cross_entropy_by_hand():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    rows = np.eye(3)[LABELS]
    np.testing.assert_allclose(SoftmaxCrossEntropy().forward(LOGITS, LABELS), -np.log((p * rows).sum(axis=1)))
    np.testing.assert_allclose(SoftmaxCrossEntropy().gradient(LOGITS, LABELS), p - rows)
    for targets in (rows, rows.astype(int), rows.astype(bool)):
        np.testing.assert_allclose(SoftmaxCrossEntropy().forward(LOGITS, targets), -np.log((p * rows).sum(axis=1)))
    smooth = SoftmaxCrossEntropy(label_smoothing=0.3)
    np.testing.assert_allclose(smooth.forward(LOGITS, LABELS), smooth.forward(LOGITS, rows))
    np.testing.assert_allclose(smooth.gradient(LOGITS, LABELS), p - (0.7 * rows + 0.1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0, 60.0, 1000.0])
@pytest.mark.parametrize("classes", [1, 7, 30])  # the sums over few are made once for each
def test_softmax_cross_entropy_in_training_is_the_same(classes, spread, dtype):
    """By differences from the label's logit, whose exponentials overflow where the loss is large."""
    draw = np.random.default_rng(0)
    logits = (draw.uniform(-1, 1, (40, classes)) * spread).astype(dtype)
    labels = draw.integers(0, classes, 40)
    wide = logits.astype(np.longdouble)
    e = np.exp(wide - wide.max(axis=1, keepdims=True))
    picked = wide[np.arange(40), labels] - wide.max(axis=1)
    wanted, p = np.log(e.sum(axis=1)) - picked, e / e.sum(axis=1, keepdims=True)
    near = {"rtol": 4 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps * max(spread, 1)}
    for context in (contextlib.nullcontext(), Computing()):
        with context:
            values, gradient = SoftmaxCrossEntropy().vjp(logits, labels)
            found = gradient()
        assert (values.dtype, found.dtype) == (dtype, dtype)
        np.testing.assert_allclose(values, wanted, **near)
        np.testing.assert_allclose(found, p - np.eye(classes)[labels], **near)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_softmax_cross_entropy_in_training_hides_nothing(bad):
    for place in (0, 1):  # of the label, and of another
        logits = np.zeros((2, 3), np.float32)
        logits[1, place] = bad
        with Computing():
            values = SoftmaxCrossEntropy().vjp(logits, np.array([0, 0]))[0]
        assert np.isfinite(values[1]) == (bad == -np.inf and place == 1)
        np.testing.assert_allclose(values[0], np.log(3), rtol=1e-6)


def test_cross_entropy_has_its_eps():
    p = np.array([[0.7, 0.3], [0.0, 1.0]])
    np.testing.assert_allclose(CrossEntropy().forward(p, [0, 0]), [-math.log(0.7 + 1e-5), -math.log(1e-5)])
    np.testing.assert_allclose(CrossEntropy().gradient(p, [0, 0]), [[-1 / 0.70001, 0], [-1e5, 0]])


def test_losses_over_values_by_hand():
    prediction, target = np.array([[1.0, 4.0]]), np.array([[0.0, 4.5]])
    assert MeanSquaredError().forward(prediction, target) == pytest.approx([(1 + 0.25) / 2])
    assert MeanAbsoluteError().forward(prediction, target) == pytest.approx([0.75])
    assert Huber(0.6).forward(prediction, target) == pytest.approx([(0.6 * (1 - 0.3) + 0.125) / 2])
    np.testing.assert_array_equal(MeanAbsoluteError().gradient(prediction, prediction), [[0, 0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits(dtype):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    for loss, target in ((SoftmaxCrossEntropy(), [0, 0]), (SigmoidCrossEntropy(), np.eye(2)[[0, 0]])):
        values, gradient = loss.forward(logits, target), loss.gradient(logits, target)
        assert values[0] == 0
        assert values[1] == pytest.approx(2e4 if loss.task == "classes" else 1e4)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("loss", "target", "error", "message"),
    [
        (SoftmaxCrossEntropy(), [0, 3, 1], DataError, "labels from 0 to 2, for 3 outputs, but got labels from 0 to 3"),
        (SoftmaxCrossEntropy(), [0, -1, 1], DataError, "but got labels from -1 to 1"),
        (SoftmaxCrossEntropy(), [0.0, 1.0, 2.0], DTypeError, r"integer labels, .* by y.astype\(int\)"),
        (SoftmaxCrossEntropy(), ["a", "b", "c"], DTypeError, "takes numbers as targets"),
        (SoftmaxCrossEntropy(), [[0], [1], [2]], ShapeError, r"Labels are y\[:, 0\]"),
        (SoftmaxCrossEntropy(), np.ones((3, 3)), DataError, "one-hot or soft rows"),
        (SoftmaxCrossEntropy(), np.eye(3) * np.nan, DataError, "NaN or infinite"),
        (SoftmaxCrossEntropy(), [0, 1], DataError, "3 predictions and 2 targets"),
        (CrossEntropy(), np.eye(4)[:3], ShapeError, r"rows \(N, 3\), for 3 outputs, but got \(N, 4\)"),
        (SigmoidCrossEntropy(), np.full((3, 3), 2), DataError, "targets from 0 to 1, but got 2"),
        (
            MeanSquaredError(),
            [1.0, 2.0, 3.0],
            ShapeError,
            r"targets of the predictions' shape, \(N, 3\), but got \(N,\)",
        ),
        (MeanSquaredError(), np.full((3, 3), np.inf), DataError, "NaN or infinite"),
        (Huber(), 3.0, ShapeError, "one target per sample"),
    ],
)
def test_targets_that_do_not_fit(loss, target, error, message):
    with pytest.raises(error, match=message):
        loss.forward(LOGITS, target)


@pytest.mark.parametrize("classes", [3, 100])  # few are looked at in another way than many
@pytest.mark.parametrize("samples", [3, 100])
def test_labels_out_of_range_are_found_anywhere(classes, samples):
    loss, prediction = SoftmaxCrossEntropy(), np.zeros((samples, classes))
    labels = np.arange(samples) % 3
    np.testing.assert_allclose(loss.forward(prediction, labels), np.log(classes))
    for place in (0, samples - 1):
        for wrong in (-1, classes, -(2**40), 2**40):
            bad = labels.copy()
            bad[place] = wrong
            with pytest.raises(DataError, match=f"but got labels from {bad.min()} to {bad.max()}"):
                loss.forward(prediction, bad)
    assert loss.forward(prediction[:0], labels[:0]).shape == (0,)


def test_nothing_is_broadcast():
    with pytest.raises(ShapeError, match=r"Nothing is broadcast: give the targets as y\[:, None\]"):
        MeanSquaredError().forward(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ShapeError, match=r"Nothing is broadcast: give the targets as y\[:, 0\]"):
        MeanSquaredError().forward(np.zeros(3), np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftmaxCrossEntropy(label_smoothing=1.0), "SoftmaxCrossEntropy: label_smoothing"),
        (lambda: SigmoidCrossEntropy(label_smoothing=-0.1), "SigmoidCrossEntropy: label_smoothing"),
        (lambda: CrossEntropy(eps=-1), "CrossEntropy: eps"),
        (lambda: Huber(delta=0), "Huber: delta is a number above 0"),
        (lambda: SGD(-0.1), "SGD: learning_rate is a number of 0 or more, but got -0.1"),
        (lambda: SGD(float("nan")), "SGD: learning_rate"),
        (lambda: SGD(0.1, momentum=1.0), "SGD: momentum is a number of 0 or more and less than 1"),
        (lambda: SGD(0.1, nesterov=True), "nesterov=True needs a momentum"),
        (lambda: Adam(beta_1=1.5), "Adam: beta_1"),
        (lambda: AdamW(weight_decay=-1), "AdamW: weight_decay"),
        (lambda: RMSprop(rho="0.9"), "RMSprop: rho"),
        (lambda: Adam(clip_norm=0), "Adam: clip_norm is None or a number above 0"),
        (lambda: Constant("1"), "Constant: value is a finite number"),
        (lambda: RandomNormal(deviation=-1), "RandomNormal: deviation is a number of 0 or more"),
        (lambda: Orthogonal(float("inf")), "Orthogonal: gain"),
        (lambda: Orthogonal()((3,), np.random.default_rng(0)), "kernels of two axes or more"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(), AdamW(), RMSprop(centered=True, momentum=0.5)])
def test_optimisers_step_in_place_and_leave_gradients(optimizer):
    parameter = np.ones((3, 2), np.float32)
    gradient = np.full((3, 2), 0.5, np.float32)
    given = {"w": parameter}
    optimizer.step(given, {"w": gradient, "unused": gradient})
    assert given["w"] is parameter
    assert (parameter < 1).all()
    assert parameter.dtype == np.float32
    np.testing.assert_array_equal(gradient, 0.5)
    for kind in optimizer.state.values():
        for array in kind.values():
            assert (array.shape, array.dtype) == ((3, 2), np.float32)
    with pytest.raises(ShapeError, match=r"needs a gradient of shape \(3, 2\) for 'w', but got none"):
        optimizer.step(given, {})
    with pytest.raises(ShapeError, match=r"but got \(3,\)"):
        optimizer.step(given, {"w": np.ones(3)})
    with pytest.raises(ShapeError, match="has stepped another network"):
        optimizer.step({"w": np.ones(5)}, {"w": np.ones(5)})


class Sides(Loss):
    """The distance to each target, whose gradient is of whole numbers."""

    def vjp(self, prediction, target):
        return np.abs(prediction - target).sum(axis=1), lambda: np.where(prediction > target, 1, -1)


@pytest.mark.parametrize("optimizer", [SGD(0.5), Adam(0.5)], ids=["SGD", "Adam"])
def test_a_loss_may_have_a_gradient_of_integers(optimizer):
    net = Network([Dense(1)], Sides(), input_shape=1, random_state=0)
    first = net.train_step(np.ones((2, 1)), np.full((2, 1), 9.0), optimizer)
    assert net.train_step(np.ones((2, 1)), np.full((2, 1), 9.0), optimizer) < first - 0.9


WITH_MEANS = {
    "momentum": lambda: SGD(0.1, momentum=0.9),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "Adam": lambda: Adam(beta_2=0.9),
    "AdamW": lambda: AdamW(beta_2=0.9, weight_decay=0.0),
    "RMSprop": lambda: RMSprop(rho=0.9, momentum=0.9),
    "centered": lambda: RMSprop(rho=0.9, momentum=0.9, centered=True),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", WITH_MEANS.values(), ids=WITH_MEANS)
def test_running_means_do_not_end_among_subnormal_numbers(make, dtype, monkeypatch):
    """Where gradients are 0 from some step on; the others, and all parameters, are those of the plain formulas."""
    ends = []
    for seldom in (base._SELDOM, 10**9):
        monkeypatch.setattr(base, "_SELDOM", seldom)
        optimizer, draw = make(), np.random.default_rng(0)
        parameters = {"w": draw.standard_normal((6, 4)).astype(dtype)}
        for step in range(1000 if dtype is np.float32 else 7300):
            gradient = draw.standard_normal((6, 4)).astype(dtype)
            gradient[:, 1:] *= step < 50
            gradient[:, 3:] = 0
            optimizer.step(parameters, {"w": gradient})
        ends.append((optimizer, parameters["w"]))
    (settled, parameter), (plain, wanted) = ends
    np.testing.assert_array_equal(parameter, wanted)
    tiny, found = np.finfo(dtype).tiny, 0
    for kind, arrays in settled.state.items():
        for path, array in arrays.items():
            np.testing.assert_array_equal(array[:, :1], plain.state[kind][path][:, :1])
            assert not array[:, 1:].any()
            before = np.abs(plain.state[kind][path])
            found += np.count_nonzero((before > 0) & (before < tiny))
    assert found  # without it there are


def test_squares_that_epsilon_does_not_hide_are_kept():
    parameter, optimizer = {"w": np.zeros(3, np.float32)}, Adam(1.0, epsilon=1e-25)
    for _ in range(100):
        optimizer.step(parameter, {"w": np.array([1e-16, 0, 1e-17], np.float32)})
    np.testing.assert_allclose(parameter["w"], [-100, 0, -100], rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_settled_means_hide_nothing(bad):
    parameter, optimizer = {"w": np.zeros(3, np.float32)}, SGD(0.1, momentum=0.9)
    for step in range(100):
        optimizer.step(parameter, {"w": np.array([bad if step == 50 else 0, 0, 1], np.float32)})
    np.testing.assert_array_equal(optimizer.state["velocity"]["w"][0], bad)


def test_settled_means_of_few_digits_keep_all():
    """The smallest normal number of float16 is 6e-5."""
    parameter, optimizer = {"w": np.zeros(2, np.float16)}, SGD(0.1, momentum=0.5)
    for _ in range(100):
        optimizer.step(parameter, {"w": np.full(2, 1e-3, np.float16)})
    np.testing.assert_allclose(optimizer.state["velocity"]["w"], 2e-3, rtol=1e-2)


def test_centered_rmsprop_of_one_gradient_again_and_again_is_finite():
    """The mean square less the square of the mean is rounded to below 0 then."""
    parameter, gradient = {"w": np.zeros(1000, np.float32)}, np.random.default_rng(0).standard_normal(1000)
    optimizer = RMSprop(1e-12, centered=True)
    for _ in range(2000):
        optimizer.step(parameter, {"w": gradient.astype(np.float32)})
    assert np.isfinite(parameter["w"]).all()


def test_clipping_is_over_all_gradients():
    parameters = {"a": np.zeros(2), "b": np.zeros(1)}
    SGD(1.0, clip_norm=1.0).step(parameters, {"a": np.array([3.0, 0.0]), "b": np.array([4.0])})
    np.testing.assert_allclose(parameters["a"], [-0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(parameters["b"], [-0.8], rtol=1e-6)


@pytest.mark.parametrize("shape", [(300, 200), (3, 3, 40, 60)])
@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        (HeNormal(), lambda i, o: 2 / i),
        (HeUniform(), lambda i, o: 2 / i),
        (GlorotNormal(), lambda i, o: 2 / (i + o)),
        (GlorotUniform(), lambda i, o: 2 / (i + o)),
        (LecunNormal(), lambda i, o: 1 / i),
        (RandomNormal(0.0, 0.3), lambda i, o: 0.09),
    ],
)
def test_initialisers_have_their_variance(initializer, variance, shape):
    window = math.prod(shape[:-2])
    wanted = variance(window * shape[-2], window * shape[-1])
    drawn = initializer(shape, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    assert drawn.shape == shape
    assert drawn.var() == pytest.approx(wanted, rel=0.05)
    assert abs(drawn.mean()) < 0.05 * math.sqrt(wanted)
    if "Uniform" in repr(initializer):
        assert np.abs(drawn).max() <= math.sqrt(3 * wanted) * (1 + 1e-6)
    np.testing.assert_array_equal(drawn, initializer(shape, np.random.default_rng(0)))
    assert initializer(shape, np.random.default_rng(0), np.float64).dtype == np.float64


def test_constants_and_orthogonal_matrices():
    rng = np.random.default_rng(0)
    assert (Zeros()((2, 3), rng) == 0).all()
    assert (Ones()((2, 3), rng) == 1).all()
    assert (Constant(0.5)((2, 3), rng) == 0.5).all()
    tall = Orthogonal(2.0)((6, 4), rng, np.float64)
    np.testing.assert_allclose(tall.T @ tall, 4 * np.eye(4), atol=1e-12)
    kernel = Orthogonal()((3, 3, 2, 30), rng, np.float64).reshape(18, 30)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(18), atol=1e-12)


def test_metrics():
    prediction = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]])
    np.testing.assert_array_equal(metrics.accuracy(prediction, np.array([1, 1, 0])), [1, 0, 1])
    np.testing.assert_array_equal(metrics.accuracy(prediction, np.eye(2)[[1, 1, 0]]), [1, 0, 1])
    np.testing.assert_array_equal(metrics.confusion_matrix(prediction, np.array([1, 1, 0])), [[1, 0], [1, 1]])
    assert metrics.confusion_matrix(np.array([0, 1]), np.array([1, 1]), classes=4).shape == (4, 4)
    many = np.arange(7.0)[None]
    np.testing.assert_array_equal(
        [metrics.top_5_accuracy(many, np.array([k]))[0] for k in range(7)], [0, 0, 1, 1, 1, 1, 1]
    )


def test_means_are_of_all_samples_so_far():
    """Whatever the batches' sizes, also where a batch is made in the place of the one before."""
    draw = np.random.default_rng(0)
    means = Means({"accuracy": metrics.accuracy})
    prediction, target = np.empty((1000, 10)), np.empty(1000, int)
    losses, hits = [], []
    for count in (7, 900, 1, 33, 1000, 5):
        prediction[:count], target[:count] = draw.standard_normal((count, 10)), draw.integers(0, 10, count)
        losses += [float(count)] * count
        hits += list(prediction[:count].argmax(axis=1) == target[:count])
        means.add(float(count), prediction[:count], target[:count])
        if count != 33:
            assert means.result() == pytest.approx({"loss": np.mean(losses), "accuracy": np.mean(hits)})
    assert means.samples == 1946


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(530, 510), (3100, 130)])
@pytest.mark.parametrize("depth", [1, 3, 200])
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize(
    "make",
    [
        lambda **o: SGD(0.1, **o),
        lambda **o: SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1, **o),
        lambda **o: Adam(0.1, weight_decay=0.1, **o),
        lambda **o: AdamW(0.1, weight_decay=0.1, **o),
        lambda **o: RMSprop(0.1, momentum=0.5, centered=True, weight_decay=0.1, **o),
    ],
)
def test_a_large_gradient_is_used_part_by_part(make, clip, depth, shape, order):
    """A product that is not made yet steps a parameter as the array does."""
    draw = np.random.default_rng(0)
    left, right = draw.standard_normal((shape[0], depth)), draw.standard_normal((depth, shape[1]))
    gradient = Product(left, right)
    assert gradient.shape == shape
    whole = np.empty(shape, order=order)
    count = 0
    for part, block in gradient.blocks(whole):
        assert block.flags.c_contiguous == (order == "C")
        whole[part] = block
        count += 1
    assert count > 1 or depth > 100
    np.testing.assert_allclose(whole, left @ right, atol=1e-12)
    np.testing.assert_allclose(gradient * 0.5, 0.5 * (left @ right), atol=1e-12)
    np.testing.assert_allclose(gradient + left @ right, 2 * (left @ right), atol=1e-12)
    both = gradient + Product(np.asfortranarray(left), right.copy())
    assert isinstance(both, Product)
    np.testing.assert_allclose(both, 2 * (left @ right), atol=1e-12)
    several = gradient + both + (both + gradient)
    assert several.shape == shape
    assert (several.left.shape, several.right.shape) == ((shape[0], 6 * depth), (6 * depth, shape[1]))
    np.testing.assert_allclose(several.left @ several.right, 6 * (left @ right), atol=1e-11)
    ones, others = np.ones(shape, order=order), np.ones(shape)
    one, other = make(clip_norm=clip), make(clip_norm=clip)
    for _ in range(3):
        one.step({"kernel": ones}, {"kernel": gradient})
        other.step({"kernel": others}, {"kernel": left @ right})
    np.testing.assert_allclose(ones, others, atol=1e-12)


def test_an_optimiser_of_ones_own_gets_arrays():
    class Sign(Optimizer):
        def __init__(self, learning_rate=0.1):
            super().__init__(learning_rate, None)

        def update(self, path, parameter, gradient):
            parameter -= self.learning_rate * np.sign(gradient)

    net = Network([Dense(600), Dense(500), Dense(2)], SoftmaxCrossEntropy(), input_shape=500, random_state=0)
    before = net.layers[1].kernel.copy()
    net.train_step(np.ones((4, 500)), [0, 1, 1, 0], Sign())
    np.testing.assert_allclose(np.abs(net.layers[1].kernel - before).max(), 0.1, atol=1e-6)


def test_large_dense_layers_train_as_small_ones_do():
    """One step of SGD is the pullback's own gradient, also where training makes it row by row."""
    net = Network(
        [Dense(700, dtype=np.float64), Dense(3, dtype=np.float64)],
        SoftmaxCrossEntropy(),
        input_shape=600,
        random_state=0,
    )
    x, y = np.random.default_rng(0).standard_normal((5, 600)), np.array([0, 1, 2, 0, 1])
    before = {path: array.copy() for path, array in net.parameters().items()}
    prediction, pullback = net.vjp(x)
    _, gradients = pullback(net.loss.gradient(prediction, y) / 5)
    assert isinstance(gradients["0.kernel"], np.ndarray)
    net.train_step(x, y, SGD(0.1))
    for path, array in net.parameters().items():
        np.testing.assert_allclose(array, before[path] - 0.1 * gradients[path], atol=1e-14)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("rate", "options"),
    [
        (0.1, {}),
        (np.float64(0.1), {}),
        (0.0, {}),
        (0.1, {"momentum": 0.5}),
        (0.1, {"weight_decay": 0.1}),
        (0.1, {"clip_norm": 0.01}),
    ],
)
def test_a_step_is_the_optimisers_whether_or_not_its_rate_is_folded_in(rate, options, workers):
    if workers > 1:
        pytest.importorskip("threadpoolctl")
    x, y = np.random.default_rng(0).standard_normal((6, 300)).astype(np.float32), np.arange(6) % 3
    net, other = (
        Network([Dense(300), ReLU(), Dense(3)], SoftmaxCrossEntropy(), input_shape=300, random_state=0)
        for _ in range(2)
    )
    folded, plain = SGD(rate, **options), SGD(rate, **options)
    assert folded.factor() == (None if options else rate)
    with Workers(net, 2, 6) if workers > 1 else contextlib.nullcontext() as team:
        for _ in range(3):
            net.train_step(x, y, folded, team)
            prediction, pullback = other.vjp(x, True)
            _, gradients = pullback(other.loss.gradient(prediction, y) / 6)
            plain.step(other.parameters(), gradients)
    assert folded.steps == plain.steps == 3
    for path, array in net.parameters().items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, other.parameters()[path], rtol=1e-4, atol=1e-6)


class NoUpdate(SGD):
    def update(self, path, parameter, gradient, part=()):
        pass


class NoStep(SGD):
    def step(self, parameters, gradients):
        pass


@pytest.mark.parametrize("make", [NoUpdate, NoStep])
def test_a_subclass_of_sgd_with_an_update_of_its_own_steps_by_it(make):
    net = Network([Dense(3)], SoftmaxCrossEntropy(), input_shape=4, random_state=0)
    before = net.layers[0].kernel.copy()
    net.train_step(np.ones((2, 4)), np.array([0, 1]), make(0.5))
    np.testing.assert_array_equal(net.layers[0].kernel, before)


@pytest.mark.parametrize("gradients", [{}, {"kernel": np.ones(3)}])
def test_gradients_that_do_not_fit_change_nothing(gradients):
    for step in (SGD(0.1).step, SGD(0.1).step_multiplied):
        kernel = np.ones(2)
        with pytest.raises(ShapeError, match=r"needs a gradient of shape \(2,\) for 'kernel', but got (none|\(3,\))"):
            step({"kernel": kernel}, gradients)
        np.testing.assert_array_equal(kernel, 1)

"""Functions that run as programs: the same numbers, bit for bit, and the function itself wherever a program does not hold."""

from __future__ import annotations

import copy
import inspect
import pickle
import textwrap
from contextvars import ContextVar

import numpy as np
import pytest

import gradwise as gw
from gradwise import errors
from gradwise.tracing import Traced, whole
from gradwise.tracing import traced as wrapper
from gradwise.tracing.contexts import Setting
from gradwise.training import kept

SOON = 3  # calls alike before one is traced


def written(function):
    """A function of this file, to be traced as the library's own are."""
    function.source = textwrap.dedent(inspect.getsource(function))
    return function


def traced(function, owner=None, keep=None):
    return Traced(written(function), owner, keep, after=SOON)


def often(function, *arguments, times=SOON + 3, key=0):
    return [function(key, *arguments) for _ in range(times)]


def holds(function, key=0):
    return key in function.programs and not function._missed.get(key)


def data(shape, classes=4, samples=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((samples, *shape)).astype(np.float32), rng.integers(0, classes, samples)


def soon(net, after=SOON):
    for function in (net._quick.train_step, net._quick.fit_step, net._quick.predict):
        function.after = after
    return net


def never(net):
    return soon(net, 10**9)


def network(layers=None, shape=(5,), loss=None):
    given = layers() if layers else [gw.Dense(7), gw.ReLU(), gw.Dense(4)]
    return gw.Network(given, loss or gw.SoftmaxCrossEntropy(), input_shape=shape, random_state=1)


NETWORKS = {
    "one": (lambda: [gw.Dense(4)], (5,)),
    "dense": (lambda: [gw.Dense(9), gw.ReLU(), gw.Dense(6, use_bias=False), gw.Tanh(), gw.Dense(4)], (5,)),
    "large": (lambda: [gw.Dense(250), gw.ReLU(), gw.Dense(200), gw.Sigmoid(), gw.Dense(4)], (300,)),
    "elementwise": (lambda: [gw.Dense(6), gw.GELU(), gw.ELU(), gw.LeakyReLU(), gw.SiLU(), gw.Softplus(), gw.Dense(4)], (5,)),
    "pooled": (lambda: [gw.Conv2D(3, 3), gw.ReLU(), gw.MaxPooling2D(2), gw.Flatten(), gw.Dense(4)], (1, 9, 9)),
    "convolutions": (
        lambda: [gw.Conv2D(4, 3, padding="same"), gw.ReLU(), gw.Conv2D(4, 3, stride=2), gw.AveragePooling2D(2), gw.Flatten(), gw.Dense(4)],
        (2, 9, 8),
    ),
    "channels last": (lambda: [gw.Conv2D(3, 2), gw.Flatten(channels_last=True), gw.Dense(4)], (2, 5, 5)),
    "nested": (lambda: [gw.Chain([gw.Dense(6), gw.ReLU()]), gw.Dense(4)], (5,)),
    "frozen": (lambda: [gw.Dense(6, trainable=False), gw.ReLU(), gw.Dense(4)], (5,)),
}  # fmt: skip
OPTIMIZERS = {
    "SGD": lambda: gw.SGD(0.1),
    "momentum": lambda: gw.SGD(0.1, momentum=0.9, nesterov=True),
    "clipped": lambda: gw.SGD(0.1, clip_norm=0.5),
    "Adam": lambda: gw.Adam(0.01),
}


def same_arrays(one, other):
    assert one.parameters().keys() == other.parameters().keys()
    for path, array in one.parameters().items():
        np.testing.assert_array_equal(array, other.parameters()[path], err_msg=path)


def trained_alike(layers, optimizer, steps):
    """Two networks after the same steps: one that may have programs, one that never has; and the batch."""
    one, other = soon(network(layers)), never(network(layers))
    ways = [optimizer(), optimizer()]
    x, y = data((5,))
    for _ in range(steps):
        assert one.train_step(x, y, ways[0]) == other.train_step(x, y, ways[1])
    same_arrays(one, other)
    return one, other, x


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_are_the_same_bit_for_bit(name, optimizer):
    layers, shape = NETWORKS[name]
    one, other = soon(network(layers, shape)), never(network(layers, shape))
    ways = [OPTIMIZERS[optimizer]() for _ in range(2)]
    for step in range(SOON + 6):
        x, y = data(shape, seed=step)
        assert one.train_step(x, y, ways[0]) == other.train_step(x, y, ways[1]), step
    assert holds(one._quick.train_step, x.shape), "no program, or one that did not hold"
    assert not other._quick.train_step.programs
    assert ways[0].steps == ways[1].steps == SOON + 6
    same_arrays(one, other)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("samples", [1, 2, 40])
def test_predictions_are_the_same_bit_for_bit(name, samples):
    layers, shape = NETWORKS[name]
    one, other = soon(network(layers, shape)), never(network(layers, shape))
    for turn in range(SOON + 4):
        x, _ = data(shape, samples=samples, seed=turn)
        y = one.predict(x)
        np.testing.assert_array_equal(y, other.predict(x))
        y[...] = 7  # the caller's own
    assert holds(one._quick.predict, x.shape)


LOSSES = {
    "CrossEntropy": (lambda: [gw.Dense(4), gw.Softmax()], gw.CrossEntropy, lambda y: y),
    "smoothed": (None, lambda: gw.SoftmaxCrossEntropy(label_smoothing=0.1), lambda y: y),
    "rows": (None, gw.SoftmaxCrossEntropy, lambda y: np.eye(4, dtype=np.float32)[y]),
    "MeanSquaredError": (None, gw.MeanSquaredError, lambda y: np.eye(4, dtype=np.float32)[y]),
    "SigmoidCrossEntropy": (None, gw.SigmoidCrossEntropy, lambda y: np.eye(4, dtype=np.float32)[y]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name):
    layers, loss, targets = LOSSES[name]
    one, other = soon(network(layers, loss=loss())), never(network(layers, loss=loss()))
    ways = [gw.SGD(0.1), gw.SGD(0.1)]
    for step in range(SOON + 4):
        x, y = data((5,), seed=step)
        assert one.train_step(x, targets(y), ways[0]) == other.train_step(x, targets(y), ways[1])
    assert holds(one._quick.train_step, x.shape)
    same_arrays(one, other)


def test_fit_is_the_same_bit_for_bit():
    x, y = data((1, 9, 9), samples=70)
    layers, shape = NETWORKS["pooled"]
    one, other = soon(network(layers, shape)), never(network(layers, shape))

    def slower(training):
        training.optimizer.learning_rate *= 0.7

    for net in (one, other):
        net.fit(x, y, optimizer=gw.SGD(0.05), epochs=5, batch_size=16, verbose=False, callbacks=[slower])
    assert holds(one._quick.fit_step, (16, *shape))
    assert not other._quick.fit_step.programs
    same_arrays(one, other)


def test_a_fit_goes_on_with_its_own_optimizer_and_loss():
    x, y = data((5,), samples=40)

    def meddles(training):
        training.network.optimizer = gw.SGD(5.0)
        training.network.loss = gw.SoftmaxCrossEntropy(label_smoothing=0.5)

    one, other = soon(network()), soon(network())
    for net, callbacks in ((one, [meddles]), (other, [])):
        net.fit(x, y, optimizer=gw.SGD(0.05), epochs=4, batch_size=8, verbose=False, callbacks=callbacks)
    same_arrays(one, other)


class _Named(gw.Layer):
    """A parameter named as a program names what it makes."""

    parameters = ("v900",)

    def build(self, input_shape, rng):
        self.v900 = np.ones(input_shape, np.float32)
        return input_shape

    def vjp(self, x, training=False, rng=None):
        return x * self.v900, gw.Pullback(input=lambda dy: dy * self.v900, v900=lambda dy: (dy * x).sum(axis=0))


def test_names_of_parameters_are_not_a_programs():
    one, _, x = trained_alike(lambda: [gw.Dense(6), _Named(), gw.Dense(4)], lambda: gw.Adam(0.1), SOON + 4)
    assert holds(one._quick.train_step, x.shape)


def test_weighted_batches_train_beside_programs():
    x, y = data((5,), samples=40)
    weight = np.linspace(0, 2, 40)
    one, other = soon(network()), never(network())
    for net in (one, other):
        net.fit(x, y, optimizer=gw.SGD(0.05), epochs=3, batch_size=8, verbose=False)
        net.fit(x, y, epochs=2, batch_size=8, verbose=False, sample_weight=weight)
    same_arrays(one, other)


def ready(optimizer=None):
    """A network with a program for its steps, one that never has one, and what both are trained with."""
    one, other = soon(network()), never(network())
    ways = [copy.deepcopy(optimizer or gw.SGD(0.1)) for _ in range(2)]
    x, y = data((5,))
    for _ in range(SOON + 2):
        assert one.train_step(x, y, ways[0]) == other.train_step(x, y, ways[1])
    assert holds(one._quick.train_step, x.shape)
    return one, other, ways, x, y


def _rate(net, way):
    way.learning_rate = 0.03


def _whole_rate(net, way):
    way.learning_rate = 1


def _momentum(net, way):
    way.momentum = 0.5


def _clipped(net, way):
    way.clip_norm = 0.1


def _kernel(net, way):
    net.layers[0].kernel = np.ones((5, 7), np.float32)


def _in_place(net, way):
    net.layers[2].kernel *= 2
    net.layers[2].bias += 1


def _frozen(net, way):
    net.layers[0].trainable = False


def _layer(net, way):
    net.layers[1] = gw.Tanh()


def _dtype(net, way):
    net.layers[0].kernel = net.layers[0].kernel.astype(np.float64)


def _smoothing(net, way):
    net.loss.label_smoothing = 0.2


def _loss(net, way):
    net.loss = gw.SoftmaxCrossEntropy(label_smoothing=0.3)


def _bias(net, way):
    net.layers[0].bias = np.full(7, 0.5, np.float32)


@pytest.mark.parametrize(
    "change",
    [_rate, _whole_rate, _momentum, _clipped, _kernel, _in_place, _frozen, _layer, _dtype, _smoothing, _loss, _bias],
)
def test_what_is_changed_between_steps_counts(change):
    one, other, ways, x, y = ready()
    for net, way in zip((one, other), ways, strict=True):
        change(net, way)
    for _ in range(wrapper._MISSES + 2 * SOON + 4):
        assert one.train_step(x, y, ways[0]) == other.train_step(x, y, ways[1])
    same_arrays(one, other)
    assert holds(one._quick.train_step, x.shape), "after some misses there is a program of what holds now"


@pytest.mark.parametrize(
    "other_x",
    [
        lambda x: x.astype(np.float64),
        lambda x: np.asfortranarray(x),
        lambda x: np.concatenate([x, x])[::2],
        lambda x: (x * 100).astype(int),
        lambda x: x[:3],
        lambda x: x.tolist(),
        lambda x: x[:, ::-1],
        lambda x: 200 * x,  # its logits are far apart
    ],
)
def test_other_data_than_the_program_was_written_for(other_x):
    one, other, ways, x, y = ready()
    x = other_x(x)
    y = y[: len(x)]
    for _ in range(3):
        assert one.train_step(x, y, ways[0]) == other.train_step(x, y, ways[1])
        assert one.train_step(x, list(y), ways[0]) == other.train_step(x, list(y), ways[1])
        assert one.train_step(x, y.astype(np.int8), ways[0]) == other.train_step(x, y.astype(np.int8), ways[1])
    same_arrays(one, other)


def test_lists_of_another_length_than_the_program_was_written_for():
    one, other = soon(network()), never(network())
    ways = [gw.SGD(0.1), gw.SGD(0.1)]
    for count in [6] * (SOON + 3) + [3, 5, 6]:
        x, y = data((5,), samples=count)
        assert one.train_step(x.tolist(), y.tolist(), ways[0]) == other.train_step(x.tolist(), y.tolist(), ways[1])
    same_arrays(one, other)


def _nan(x, y):
    x = x.copy()
    x[2, 3] = np.nan
    return x, y


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        (_nan, errors.DataError, "NaN"),
        (lambda x, y: (x, y + 10), errors.DataError, "labels from 0 to 3"),
        (lambda x, y: (x, y - 9), errors.DataError, "labels from 0 to 3"),
        (lambda x, y: (x, y[:-1]), errors.DataError, "one by one"),
        (lambda x, y: (x, None), errors.DataError, "y is missing"),
        (lambda x, y: (x, y.astype(float)), errors.DTypeError, "integer labels"),
        (lambda x, y: (x.astype(str), y), errors.DTypeError, "numbers"),
        (lambda x, y: (x[:, :4], y), errors.ShapeError, "5 features"),
    ],
)
def test_bad_input_has_its_error_and_changes_nothing(bad, error, words):
    one, _, ways, x, y = ready()
    before = {path: array.copy() for path, array in one.parameters().items()}
    with pytest.raises(error, match=words):
        one.train_step(*bad(x, y), ways[0])
    for path, array in one.parameters().items():
        np.testing.assert_array_equal(array, before[path])
    assert ways[0].steps == SOON + 2
    assert np.isfinite(one.train_step(x, y, ways[0]))
    assert holds(one._quick.train_step, x.shape) or one._quick.train_step._missed


@pytest.mark.parametrize("x", [5.0, np.array(5.0), "words", None, [[1.0], [1.0, 2.0]]])
def test_what_is_no_batch_has_the_same_error_however_often_it_comes(x):
    net, way = soon(network()), gw.SGD(0.1)
    net.train_step(*data((5,)), way)
    told = set()
    for _ in range(2 * SOON):
        with pytest.raises((errors.ShapeError, errors.DTypeError, ValueError)) as error:
            net.train_step(x, np.array([0, 1]), way)
        told.add(str(error.value))
    assert len(told) == 1


def test_a_loss_that_is_not_finite_changes_nothing():
    one, _, ways, x, y = ready()
    one.layers[2].bias[...] = [0, np.inf, 0, 0]
    before = {path: array.copy() for path, array in one.parameters().items()}
    with pytest.raises(errors.NonFiniteError, match="the loss is"):
        one.train_step(x, y, ways[0])
    for path, array in one.parameters().items():
        np.testing.assert_array_equal(array, before[path])
    assert ways[0].steps == SOON + 2


def test_layers_that_draw_numbers_draw_the_same_ones():
    one, *_ = trained_alike(lambda: [gw.Dense(9), gw.Dropout(0.5), gw.Dense(4)], lambda: gw.SGD(0.1), 3 * SOON)
    assert not one._quick.train_step.programs


class _Mean(gw.Layer):
    """A layer that remembers the mean of what it has seen, and takes it off."""

    state = ("mean",)

    def build(self, input_shape, rng):
        self.mean = np.zeros(input_shape, np.float32)
        return input_shape

    def vjp(self, x, training=False, rng=None):
        if training:
            self.mean += 0.1 * (x.mean(axis=0) - self.mean)
        return x - self.mean, gw.Pullback(input=lambda dy: dy)


def test_layers_with_a_state_keep_it_as_they_should():
    one, other, x = trained_alike(lambda: [gw.Dense(9), _Mean(), gw.Dense(4)], lambda: gw.SGD(0.1), 3 * SOON)
    assert not one._quick.train_step.programs
    for path, array in one.arrays("state").items():
        np.testing.assert_array_equal(array, other.arrays("state")[path])
    np.testing.assert_array_equal(one.predict(x), other.predict(x))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_have_programs_of_their_own(copied):
    one, other, ways, x, y = ready()
    twin = soon(copied(one))
    assert not twin._quick.train_step.programs
    for _ in range(SOON + 3):
        twin.train_step(x, y, gw.SGD(0.1))
    same_arrays(one, other)
    assert one.train_step(x, y, ways[0]) == other.train_step(x, y, ways[1])


class _Doubled(gw.Layer):
    """A layer of one's own, of which nothing is known."""

    def vjp(self, x, training=False, rng=None):
        return x * 2, gw.Pullback(input=lambda dy: dy * 2)


class _Halved(gw.SGD):
    def update(self, path, parameter, gradient, part=slice(None)):
        parameter[part] -= 0.5 * self.learning_rate * gradient


class _Absolute(gw.Loss):
    task = "values"

    def _fit(self, target, output_shape):
        return target

    def vjp(self, prediction, target):
        difference = prediction - target
        return np.abs(difference).sum(axis=1), lambda: np.sign(difference)


def test_layers_losses_and_optimizers_of_ones_own():
    def layers():
        return [gw.Dense(6), _Doubled(), gw.Dense(4)]

    one, other = soon(network(layers, loss=_Absolute())), never(network(layers, loss=_Absolute()))
    ways = [_Halved(0.1), _Halved(0.1)]
    x, y = data((5,))
    y = np.eye(4, dtype=np.float32)[y]
    for _ in range(SOON + 4):
        assert one.train_step(x, y, ways[0]) == other.train_step(x, y, ways[1])
    assert holds(one._quick.train_step, x.shape)
    same_arrays(one, other)


# The tracer itself


def _branches(owner, x, flag):
    total = 0.0
    for row in range(3):
        if row == 1:
            continue
        total += float(x[row].sum())
        if row > 5:
            break
    if flag:
        return total
    return -total if total > 0 else None


def _closures(owner, x):
    count, seen = 0, []

    def add(value, times=2):
        nonlocal count
        count += 1
        return value * times

    y = add(x) + add(x, times=3)
    first, *rest = [y, x, *(part for part in (x, y))]
    lists = [one + two for one, two in zip((x, y), (y, x), strict=True) if one is not None]
    table = {"b": first, "c": x} if len(rest) == 9 else {"a": first}
    table["b"] = lists[0]
    for name, value in table.items():
        seen = [*seen, value.sum() if name == "a" else value.max()]
    del table
    return seen[0] + seen[1] + count + len(seen) + len(rest), (lambda z: z - 1)(y)


def _in_place_of_its_own(owner, x):
    y = np.empty(x.shape, x.dtype)
    y[...] = x
    y[0] += 1
    y *= 2
    np.add(y, x, out=y)
    return y.T.T[1:], y.reshape(-1)[::2], y.astype(x.dtype, copy=False) @ x.T


def _of_the_owner(owner, x):
    return x * float(owner["array"][0]) + np.add.reduce(owner["array"]) + owner["array"].max() + len(owner["array"])


@pytest.mark.parametrize("function", [_closures, _in_place_of_its_own])
def test_what_a_function_may_do(function):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    run = traced(function)
    for turn in range(SOON + 3):
        found, wanted = run(0, x + turn), function(None, x + turn)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    assert holds(run)


def test_conditions_that_turn_out_otherwise():
    run = traced(_branches)
    x = np.ones((3, 4))
    assert often(run, x, True) == [8.0] * (SOON + 3)
    assert holds(run)
    assert run(0, x, False) == -8.0
    assert run(0, -x, False) is None
    assert run(0, -x, True) == -8.0
    assert run._missed[0] == 2


def test_arrays_of_the_owner_are_read_each_time():
    owner = {"array": np.ones(3)}
    run = traced(_of_the_owner, owner)
    x = np.ones(2)
    assert often(run, x)[-1].tolist() == [8.0, 8.0]
    assert holds(run)
    owner["array"] *= 2
    assert run(0, x).tolist() == [13.0, 13.0]


class _Owner:
    """An object whose methods are not the library's own."""

    def __init__(self):
        self.array = np.ones(2)
        self.table = {1.0: 5.0}
        self.list = [1.0, 2.0]
        self.seen = None

    def parts(self):
        return list(self.list)

    def generated(self):
        yield from self.list


def _numbers_of_the_owner(owner, x):
    array = owner.array
    return max(array) + min(array) + np.add.reduce(array) + array.sum() + (array + x).sum()


def _perhaps(owner, x):
    found = owner.table.get(float(x[0]))
    return -1.0 if found is None else found


def _sum_of_parts(owner, x):
    total = x.sum()
    for part in owner.parts():
        total = total + part
    return total


def _by_order(owner, x):
    return 1 if x.flags.c_contiguous else 2


def _copied(owner, x):
    y = x.astype(x.dtype, copy=True)
    y += 1
    return float((y - x).sum())


@pytest.mark.parametrize(
    ("function", "x", "change", "other"),
    [
        (_numbers_of_the_owner, np.ones(2), lambda owner: owner.array.__imul__(3), np.ones(2)),
        (_perhaps, np.ones(1), lambda owner: None, np.zeros(1)),
        (_perhaps, np.zeros(1), lambda owner: owner.table.update({0.0: 2.0}), np.zeros(1)),
        (_sum_of_parts, np.ones(1), lambda owner: owner.list.append(4.0), np.ones(1)),
        (_sum_of_parts, np.ones(1), lambda owner: owner.list.__setitem__(0, 4.0), np.ones(1)),
        (_by_order, np.ones((2, 3)), lambda owner: None, np.ones((3, 2)).T),
        (_copied, np.ones(4), lambda owner: None, np.zeros(4)),
    ],
)
def test_what_turns_out_otherwise_is_noticed(function, x, change, other):
    owner = _Owner()
    run = traced(function, owner)
    assert set(often(run, x)) == {function(owner, x)}
    assert holds(run)
    change(owner)
    assert run(0, other) == function(owner, other)


def _fills(owner, x):
    if owner.seen is None:
        owner.seen = x.shape
        owner.filled = [part * 2 for part in owner.generated()]
    return owner.filled


def test_what_is_begun_is_not_left_half_done():
    owner = _Owner()
    run = Traced(written(_fills), owner, lambda arguments: _Nothing(), after=0)
    assert run(0, np.ones(2)) == [2.0, 4.0]


class _Counter:
    def __init__(self):
        self.array = np.zeros(3)
        self.count = 0


def _counts(owner, x):
    owner.count += 1
    owner.array += x
    return owner.count if x.sum() > 0 else -1  # asks when something has been changed


def test_what_asks_behind_a_change_is_not_traced():
    owner = _Counter()

    class Keep:
        def __init__(self):
            self.kept = owner.array.copy(), owner.count

        def settled(self):
            return True

        def back(self):
            owner.array[...], owner.count = self.kept

    run = traced(_counts, owner, lambda arguments: Keep())
    assert often(run, np.ones(3)) == list(range(1, SOON + 4))
    assert not run.programs
    assert owner.array.tolist() == [SOON + 3.0] * 3


@whole
def _kept_whole(owner, x):
    owner.append(float(x))


def _calls_whole(owner, x):
    y = x * 2
    _kept_whole(owner, y)
    return y


def test_functions_that_are_called_as_they_are():
    owner = []

    class Keep:
        def __init__(self):
            self.kept = list(owner)

        def settled(self):
            return True

        def back(self):
            owner[:] = self.kept

    without = traced(_calls_whole, owner)
    often(without, np.float64(1))
    assert owner == [2.0] * (SOON + 3)
    assert not without.programs, "what it changes could not be put back"
    owner.clear()
    run = traced(_calls_whole, owner, lambda arguments: Keep())
    for value in range(SOON + 4):
        assert run(0, np.float64(value)) == 2 * value
    assert holds(run)
    assert owner == [2.0 * value for value in range(SOON + 4)]


class _Remembers:
    seen = None


def _remembers(owner, x):
    if owner.seen is None or owner.seen != x.shape:
        owner.seen = x.shape
    return len(owner.seen)


def test_what_is_remembered_is_remembered_by_the_function():
    owner = _Remembers()
    run = traced(_remembers, owner)
    x = np.ones((2, 3))
    assert often(run, x) == [2] * (SOON + 3)
    assert holds(run)
    assert run(0, np.ones(4)) == 1
    assert owner.seen == (4,)
    owner = _Remembers()
    fresh = Traced(_remembers, owner, after=0)
    assert fresh(0, x) == 2
    assert owner.seen == (2, 3)
    assert not fresh.programs


def _raises(owner, x):
    if x.sum() < 0:
        raise ValueError("negative")
    return x


def test_an_error_is_the_functions_own():
    run = traced(_raises)
    often(run, np.ones(2))
    assert holds(run)
    for _ in range(2):
        with pytest.raises(ValueError, match="negative"):
            run(0, -np.ones(2))
    fresh = traced(_raises)
    for _ in range(SOON + 2):
        with pytest.raises(ValueError, match="negative"):
            fresh(0, -np.ones(2))
    assert not fresh.programs


def test_large_batches_are_not_traced(monkeypatch):
    one, other = soon(network()), never(network())
    ways = [gw.SGD(0.1), gw.SGD(0.1)]
    monkeypatch.setattr(kept, "_MOST", 7 * 10)
    for samples, is_traced in ((11, False), (10, True), (11, False)):
        x, y = data((5,), samples=samples)
        for _ in range(2 * SOON):
            assert one.train_step(x, y, ways[0]) == other.train_step(x, y, ways[1])
        assert (x.shape in one._quick.train_step.programs) is is_traced
    same_arrays(one, other)


def test_programs_are_few_and_are_made_a_few_times():
    run = traced(_raises)
    for size in range(1, 30):
        often(run, np.ones(size), key=size)
    assert len(run.programs) <= wrapper._KEPT
    assert run._left == 0


def test_without_its_source_a_function_is_called_as_it_is():
    names = {}
    exec("def plain(owner, x):\n    return x + 1\n", names)
    run = Traced(names["plain"], None, after=SOON)
    assert [y.item() for y in often(run, np.ones(1))] == [2.0] * (SOON + 3)


_MODE = ContextVar("mode", default="outside")


class _Inside(Setting):
    variable, value = _MODE, "inside"


class _Deep(Setting):
    variable, value = _MODE, "deep"


def _modes():
    return _MODE.get()


def _by_mode(owner, x):
    first = x * (2 if _MODE.get() == "outside" else 3)
    with _Inside():
        second = x + (10 if _MODE.get() == "inside" else 20)
        with _Deep():
            third = x + (100 if _MODE.get() == "deep" else 200)
        with _Deep():
            pass
        if x.sum() > 1000:
            return first
        fourth = second * (5 if _MODE.get() == "inside" else 7)
        noted = owner.note()
    return first + third + fourth, noted, _MODE.get()


class _Notes:
    """What a function that is not gone into sees of the variable."""

    note = staticmethod(whole(_modes))


def test_contexts_that_set_a_variable_are_set_by_programs():
    """Nested, left by a return, by a program that does not hold, and by an error; and looked at outside of them."""
    watched = traced(_by_mode, _Notes(), keep=lambda given: _Nothing())
    x = np.arange(3.0)
    for _ in range(SOON + 3):
        made, noted, after = watched(0, x)
        np.testing.assert_array_equal(made, 2 * x + x + 100 + 5 * (x + 10))
        assert (noted, after, _MODE.get()) == ("inside", "outside", "outside")
    source = written_by(watched)
    assert source.count(".set(") == source.count(".reset(") == 3
    assert "_Inside" not in source
    np.testing.assert_array_equal(watched(0, x + 1000), 2 * (x + 1000))  # not the program's way
    assert _MODE.get() == "outside"
    with _Deep():
        assert watched(0, x)[2] == "deep"
    with pytest.raises(TypeError):
        watched(0, None)
    assert _MODE.get() == "outside"


class _Nothing:
    """Nothing to be put back."""

    def settled(self):
        return True

    def back(self):
        pass


def written_by(watched):
    (program,) = watched.programs.values()
    return program.source


def _turned_twice(owner, x):
    return x.T.dot(x) + x.T[:, :3].sum() + x.T.T.sum()


def test_an_array_is_turned_once():
    watched = traced(_turned_twice)
    x = np.arange(12.0).reshape(3, 4)
    for _ in range(SOON + 3):
        np.testing.assert_array_equal(watched(0, x), _turned_twice(None, x))
    assert written_by(watched).count(".T") == 1

"""Several processes that train one network: the same result, no orphan, no hang, whatever happens."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import gradwise as gw
from gradwise import Callback, Conv2D, Dense, Dropout, Flatten, Layer, MaxPooling2D, Network, Pullback, ReLU
from gradwise.errors import ArgumentError, DataError, MissingExtraError, NonFiniteError, ShapeError, WorkerError
from gradwise.kernels import products
from gradwise.tracing import Traced
from gradwise.training import shared, sharing

pytest.importorskip("threadpoolctl")
METHODS = [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]


@pytest.fixture(params=METHODS)
def method(request):
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert not [process for process in multiprocessing.active_children() if process.name.startswith("gradwise")]


def network(*more):
    layers = [Conv2D(4, 3), ReLU(), MaxPooling2D(2), Flatten(), *more, Dense(8), ReLU(), Dense(3)]
    return Network(layers, gw.SoftmaxCrossEntropy(), input_shape=(1, 8, 8), random_state=0)


def images(n=50):
    rng = np.random.default_rng(0)
    return rng.random((n, 1, 8, 8), dtype=np.float32), rng.integers(0, 3, n)


def close(one, other):
    for path, array in one.parameters().items():
        np.testing.assert_allclose(other.parameters()[path], array, rtol=0, atol=2e-6)


def test_fit_gives_what_one_worker_gives(method):
    x, y = images()
    weight = np.linspace(0.5, 2, len(x))
    runs = []
    for workers in (1, 2):
        net = network()
        history = net.fit(
            x, y, optimizer=gw.Adam(0.01), epochs=2, batch_size=16, validation_split=0.2, sample_weight=weight,
            workers=workers, verbose=False,
        )  # fmt: skip
        runs.append((net, history))
    close(runs[0][0], runs[1][0])
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(runs[1][1][name], runs[0][1][name], atol=1e-5)


def test_three_workers_and_batches_of_any_size():
    x, y = images()
    one, three = network(), network()
    steps = [gw.SGD(0.1, momentum=0.9), gw.SGD(0.1, momentum=0.9)]
    with gw.Workers(three, 3, batch_size=8) as team:
        for size in (8, 7, 2, 1, 50, 8, 50, 50, 8):  # 50 is larger than was said, 2 and 1 are smaller than a part each
            wanted = one.train_step(x[:size], y[:size], steps[0])
            assert three.train_step(x[:size], y[:size], steps[1], workers=team) == pytest.approx(wanted, abs=1e-5)
    close(one, three)


def test_a_stream_of_batches():
    x, y = images()
    batches = [(x[k : k + 10], y[k : k + 10]) for k in range(0, 50, 10)]
    one, two = network(), network()
    one.fit(batches, optimizer=gw.SGD(0.1), verbose=False)
    two.fit(batches, optimizer=gw.SGD(0.1), workers=2, verbose=False)
    close(one, two)


def test_the_arrays_are_the_networks_own_again():
    x, y = images()
    net = network()
    before = net.parameters()
    values = {path: array.copy() for path, array in before.items()}
    net.fit(x, y, optimizer=gw.SGD(0.1), workers=2, verbose=False)
    for path, array in net.parameters().items():
        assert array is before[path]
        assert not np.array_equal(array, values[path])


def test_parameters_assigned_while_it_trains():
    x, y = images()
    one, two = network(), network()
    kernel = np.full(one.layers[-1].kernel.shape, 0.1, np.float32)
    with gw.Workers(two, 2, 50) as team:
        for net, workers in ((one, None), (two, team)):
            net.train_step(x, y, gw.SGD(0.1), workers=workers)
            net.layers[-1].kernel = kernel
            net.train_step(x, y, gw.SGD(0.1), workers=workers)
    close(one, two)


def test_random_layers_repeat_by_the_seed():
    x, y = images()
    nets = [network(Dropout(0.5)) for _ in range(2)]
    for net in nets:
        net.fit(x, y, optimizer=gw.SGD(0.1), epochs=2, workers=2, verbose=False)
    for path, array in nets[0].parameters().items():
        np.testing.assert_array_equal(array, nets[1].parameters()[path])


class Mortal(Layer):
    """Ends its process in the worker, where told to."""

    def __init__(self, where="worker"):
        self.where = where

    def accepts(self, shape):
        return True

    def vjp(self, x, training=False, rng=None):
        if training and multiprocessing.parent_process() is not None:
            if self.where == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.where == "exception":
                raise ShapeError("Mortal", "does not like this.")
            os._exit(7)
        return x, Pullback(input=lambda dy: dy)


@pytest.mark.skipif("fork" not in METHODS, reason="signals and fork")
@pytest.mark.parametrize(("where", "code"), [("worker", 7), ("killed", -9)])
def test_a_worker_that_dies(where, code):
    x, y = images()
    net = network(Mortal(where))
    before = {path: array.copy() for path, array in net.parameters().items()}
    with pytest.raises(WorkerError, match=rf"worker 2 of 2 has died \(exit code {code}\): training has ended"):
        net.fit(x, y, workers=2, verbose=False)
    for path, array in net.parameters().items():
        np.testing.assert_array_equal(array, before[path])
    assert net.predict(x).shape == (50, 3)


@pytest.mark.skipif("fork" not in METHODS, reason="fork")
def test_an_error_in_a_worker_is_the_parents():
    with pytest.raises(ShapeError, match="does not like this"):
        network(Mortal("exception")).fit(*images(), workers=2, verbose=False)


def wide(n=12):
    """A network of large kernels, one in each memory order, whose gradients are never made whole."""
    rng = np.random.default_rng(0)
    layers = [Dense(600), ReLU(), Dense(64), ReLU(), Dense(3)]
    net = Network(layers, gw.SoftmaxCrossEntropy(), input_shape=400, random_state=0)
    large = [array for array in net.parameters().values() if array.size >= products.LEAST]
    assert [array.flags.c_contiguous for array in large] == [False, True]
    return net, rng.random((n, 400), dtype=np.float32), rng.integers(0, 3, n)


@pytest.mark.parametrize(
    "make", [lambda: gw.SGD(0.1), lambda: gw.Adam(0.01, epsilon=1e-3), lambda: gw.SGD(0.1, clip_norm=0.1)]
)
@pytest.mark.parametrize("innermost", [False, True])
@pytest.mark.parametrize("workers", [2, 3])
def test_large_kernels(make, innermost, workers, method):
    """Each process steps its part of them, where a step is a subtraction; the optimiser counts one step."""
    one, x, y = wide()
    several, _, _ = wide()
    if innermost:
        x = np.asfortranarray(x)
    steps = [make(), make()]
    with gw.Workers(several, workers, 9) as team:
        for size in (9, 9, 4, 12):  # the last is larger than was said
            wanted = one.train_step(x[:size], y[:size], steps[0])
            assert several.train_step(x[:size], y[:size], steps[1], workers=team) == pytest.approx(wanted, abs=1e-5)
    for path, array in one.parameters().items():
        np.testing.assert_allclose(several.parameters()[path], array, rtol=0, atol=1e-4)
    assert steps[1].steps == 4


def test_a_large_kernel_that_is_used_twice():
    rng = np.random.default_rng(0)
    x, y = rng.random((20, 200), dtype=np.float32), rng.integers(0, 3, 20)
    nets = []
    for workers in (1, 2):
        twice = Dense(200)
        layers = [twice, ReLU(), twice, ReLU(), Dense(3)]
        net = Network(layers, gw.SoftmaxCrossEntropy(), input_shape=200, random_state=0)
        net.fit(x, y, optimizer=gw.SGD(0.1), epochs=2, batch_size=10, workers=workers, shuffle=False, verbose=False)
        nets.append(net)
    close(*nets)


@pytest.fixture
def forked():
    """Workers start by fork: they have what is patched here."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.skipif("fork" not in METHODS, reason="fork")
@pytest.mark.usefixtures("forked")
def test_a_worker_that_dies_while_it_steps(monkeypatch):
    parent, part = os.getpid(), shared.Factors.part
    monkeypatch.setattr(shared.Factors, "part", lambda *a: part(*a) if os.getpid() == parent else os._exit(3))
    net, x, y = wide()
    with gw.Workers(net, 2, len(x)) as team, pytest.raises(WorkerError) as caught:
        net.train_step(x, y, gw.SGD(0.1), workers=team)
    assert "worker 2 of 2 has died (exit code 3)" in str(caught.value)
    assert "the network has the parameters of a step that is not whole" in str(caught.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.usefixtures("forked")
def test_a_forked_worker_has_one_thread():
    """BLAS starts its others anew when it is told their number, and they keep a processor busy for a while."""
    net, x, y = wide()
    with gw.Workers(net, 2, len(x)) as team:
        net.train_step(x, y, gw.SGD(0.1), workers=team)
        (worker,) = [p for p in multiprocessing.active_children() if p.name.startswith("gradwise")]
        assert len(list(Path(f"/proc/{worker.pid}/task").iterdir())) == 1


@pytest.mark.skipif("fork" not in METHODS, reason="fork")
@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("weighted", [False, True])
def test_each_process_runs_a_program_of_the_same_bits(weighted, monkeypatch):
    """Where parts alike have come often enough; parts with weights go without."""
    x, y = images()
    weight = np.linspace(0.5, 2, len(x)) if weighted else None
    nets, made, parent = [], [], os.getpid()
    for after in (3, 10**9):
        programs = multiprocessing.RawArray("i", 2)

        class Counted(Traced):
            def __call__(self, *arguments, programs=programs):
                result = super().__call__(*arguments)
                programs[os.getpid() != parent] = len(self.programs)
                return result

        monkeypatch.setattr(sharing, "Traced", functools.partial(Counted, after=after))
        net, optimizer = network(Dense(200)), gw.SGD(0.1)
        with gw.Workers(net, 2, 10) as team:
            for rate in (0.1, 0.05, 0.2):
                optimizer.learning_rate = rate
                net.fit(x, y, optimizer=optimizer, batch_size=10, sample_weight=weight, workers=team, verbose=False)
        made.append(list(programs))
        nets.append(net)
    assert made == [[0, 0] if weighted else [1, 1], [0, 0]]
    for path, array in nets[0].parameters().items():
        np.testing.assert_array_equal(nets[1].parameters()[path], array)


def test_batches_are_looked_through_however_often_they_come():
    x, y = images(10)
    net, wrong = network(), x.copy()
    wrong[9, 0, 7, 7] = np.nan
    net._quick.batch.after = 3
    with gw.Workers(net, 2, 10) as team:
        for _ in range(6):
            net.train_step(x, y, gw.SGD(0.1), workers=team)
        assert net._quick.batch.programs
        with pytest.raises(DataError, match="x has NaN"):
            net.train_step(wrong, y, gw.SGD(0.1), workers=team)
        assert np.isfinite(net.train_step(x, y, gw.SGD(0.1), workers=team))


class Wrong(Layer):
    """Says of its derivative what is not so."""

    parameters = ("scale",)

    def build(self, input_shape, rng):
        self.scale = np.ones(input_shape, np.float32)
        return input_shape

    def vjp(self, x, training=False, rng=None):
        return x * self.scale, Pullback(input=lambda dy: dy * self.scale, scale=lambda dy: (dy * x).sum(keepdims=True))


def test_a_gradient_of_another_shape_changes_nothing():
    x, y = images()
    net = network(Wrong())
    before = {path: array.copy() for path, array in net.parameters().items()}
    with pytest.raises(
        ShapeError, match=r"the gradient of '4.scale' has the shape \(1, 1\): .* the parameter's, \(36,\)"
    ):
        net.fit(x, y, workers=2, verbose=False)
    for path, array in net.parameters().items():
        np.testing.assert_array_equal(array, before[path])


def test_an_optimizers_error_breaks_nothing_off():
    x, y = images()
    optimizer = gw.Adam()
    Network([Dense(2)], gw.MeanSquaredError(), input_shape=7).train_step(np.ones((2, 7)), np.ones((2, 2)), optimizer)
    net = network()
    with gw.Workers(net, 2, 50) as team:
        with pytest.raises(ShapeError, match="has stepped another network"):
            net.train_step(x, y, optimizer, workers=team)
        assert np.isfinite(net.train_step(x, y, gw.SGD(0.1), workers=team))


def test_a_step_that_was_broken_off_is_not_gone_on_with(monkeypatch):
    x, y = images()
    net = network()
    with gw.Workers(net, 2, 50) as team:
        with monkeypatch.context() as patch:
            patch.setattr("gradwise.training.sharing.gradients", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                net.train_step(x, y, gw.SGD(0.1), workers=team)
        with pytest.raises(WorkerError, match="was broken off, so they do not go on: start new Workers"):
            net.train_step(x, y, gw.SGD(0.1), workers=team)


def test_a_line_wakes_who_sleeps_and_keeps_its_messages():
    counters = shared.Line.counters(multiprocessing)
    pipes = multiprocessing.Pipe()
    here, there = shared.Line(counters, True, pipes[0]), shared.Line(counters, False, pipes[1])
    never, _held = multiprocessing.Pipe()
    waiting = threading.Thread(target=lambda: heard.append(there.wait(never, spin=False)))
    heard = []
    waiting.start()
    time.sleep(0.1)  # it sleeps by now
    here.send({"task": 1})
    here.ring()
    waiting.join(10)
    assert heard == [True]
    assert there.message() == {"task": 1}
    there.ring()
    assert here.wait(never, spin=True)
    pipes[1].close()
    assert not here.wait(never, spin=False)


def test_blocks_hold_arrays_in_their_own_order():
    block = shared.Block(multiprocessing, {"a": 64, "b": 24})
    for array in (np.arange(6.0).reshape(2, 3).T, np.arange(6, dtype=np.int32)):
        of = block.put("a", array)
        held = block.view("a", of)
        np.testing.assert_array_equal(held, array)
        assert held.flags.c_contiguous == array.flags.c_contiguous
    assert block.put("b", np.zeros(4)) is None
    np.testing.assert_array_equal(block.view("a", of), np.arange(6))


def test_divergence():
    x, y = images()
    net = network()
    with pytest.raises(NonFiniteError, match="training stopped in epoch 1"):
        net.fit(x * 1e3, y, optimizer=gw.SGD(1e20), workers=2, verbose=False)
    assert np.isfinite(net.predict(x)).all()


def test_what_is_refused(monkeypatch):
    x, y = images()
    for workers in (0, -1, 1.5, "two"):
        with pytest.raises(ArgumentError, match="workers is a whole number of 1 or more"):
            network().fit(x, y, workers=workers)
    with pytest.raises(ArgumentError, match="has a loss and is built"):
        gw.Workers(Network([Dense(3)]), 2)

    class Counting(Layer):
        state = ("count",)

        def build(self, input_shape, rng):
            self.count = np.zeros(1)
            return input_shape

        def vjp(self, x, training=False, rng=None):
            return x, Pullback(input=lambda dy: dy)

    with pytest.raises(ArgumentError, match=r"layers with state \(4.count\) are trained by one process"):
        network(Counting()).fit(x, y, workers=2)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with pytest.raises(
        MissingExtraError, match=r"several workers needs threadpoolctl: pip install 'gradwise\[parallel\]'"
    ):
        network().fit(x, y, workers=2)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_control_c_ends_it_after_the_batch():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:

        class Interrupt(Callback):
            def on_batch_end(self, training):
                if training.batch == 2:
                    os.kill(os.getpid(), signal.SIGINT)

        x, y = images()
        optimizer = gw.SGD(0.1)
        history = network().fit(
            x, y, optimizer=optimizer, batch_size=10, callbacks=[Interrupt()], workers=2, verbose=False
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert history.interrupted
    assert optimizer.steps == 3


def children(pid):
    """The processes that name `pid` as their parent."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("method", METHODS)
def test_no_orphan_where_the_parent_is_killed(tmp_path, method):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, sys
            import numpy as np
            import gradwise as gw

            if __name__ == "__main__":
                multiprocessing.set_start_method({method!r})
                net = gw.Network([gw.Dense(4)], gw.MeanSquaredError(), input_shape=4)
                with gw.Workers(net, 2, 8) as team:
                    print("up", flush=True)
                    while True:
                        net.train_step(np.ones((8, 4)), np.ones((8, 4)), gw.SGD(0.01), workers=team)
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    workers = children(process.pid)
    assert workers
    process.kill()
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, workers))

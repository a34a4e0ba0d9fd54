"""Parts of a batch side by side: in order, in the caller's context, with the first error, and BLAS as it was."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwise import Conv2D, Dense, Flatten, Layer, MaxPooling2D, Network, ReLU, SoftmaxCrossEntropy, Tanh
from gradwise.errors import ShapeError
from gradwise.kernels import library, memory, samples, side
from gradwise.kernels.samples import together

asked = pytest.mark.skipif(
    library._GET is None or library._SET is None, reason="this BLAS's number of threads is not known"
)


@pytest.fixture
def two_threads(monkeypatch):
    """A BLAS of two threads, whatever it has here, and batches that are large enough for parts side by side."""
    number = [2]
    monkeypatch.setattr(library, "_GET", lambda: number[0])
    monkeypatch.setattr(library, "_SET", lambda count: number.__setitem__(0, count))
    monkeypatch.setattr(side, "_PAYS", 1)
    monkeypatch.setattr(samples, "_EACH", 2000)
    return number


def test_parts_come_in_order_whoever_makes_them():
    who = set()

    def run(part):
        who.add(threading.get_ident())
        time.sleep(0.002 * (part % 3))
        return part * part

    assert side.by_side(run, range(20), 3) == [part * part for part in range(20)]
    assert 2 <= len(who) <= 3
    assert side.by_side(run, [], 2) == []
    who.clear()
    assert side.by_side(run, range(5), 1) == side.by_side(run, range(5), 1) == [0, 1, 4, 9, 16]
    assert who == {threading.get_ident()}


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("inside", [True, False])
def test_the_first_part_with_an_error_is_the_one_that_is_told(kind, inside):
    """Parts 2 and 3 fail, of which part 3 does so first, in a helper or in the thread that asked."""
    here, seen, begun = threading.get_ident(), [], threading.Barrier(2, timeout=10)

    def run(part):
        seen.append(part)
        if part in (0, 1):
            begun.wait()  # each has one
        if part in (2, 3):
            begun.wait()
            if (threading.get_ident() == here) == inside:
                time.sleep(0.02)
            raise kind(part)

    with pytest.raises(kind) as error:
        side.by_side(run, range(50), 2)
    assert error.value.args == (2,)
    assert sorted(seen) == [0, 1, 2, 3]


def test_where_no_thread_can_be_had_one_does_it_all(monkeypatch):
    def refused(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert side.by_side(lambda part: part + 1, range(4), 3) == [1, 2, 3, 4]


def test_helpers_compute_in_the_context_of_the_one_who_asks():
    both = threading.Barrier(2, timeout=10)

    def run(part):
        both.wait()
        return np.getbufsize(), np.geterr()["over"], memory.Aligned.variable.get(None)

    before = np.setbufsize(4096)
    try:
        with np.errstate(over="raise"), memory.Aligned():
            found = side.by_side(run, range(2), 2)
    finally:
        np.setbufsize(before)
    assert found == [(4096, "raise", memory.Aligned.value)] * 2


def test_each_makes_its_products_alone_and_then_all_is_as_it_was(two_threads):
    found = side.by_side(lambda part: (two_threads[0], library.threads()), range(4), 2)
    assert found == [(1, 1)] * 4
    assert two_threads == [2]
    with pytest.raises(ZeroDivisionError):
        side.by_side(lambda part: 1 / part, range(3), 2)
    assert (two_threads, library.threads()) == ([2], 2)
    two_threads[0] = 1  # somebody limits it
    assert library.threads() == 1


def test_others_are_told_the_number_that_they_would_have(two_threads):
    """While one is alone, and while a second one is; the last one out sets it back."""
    told = []

    def elsewhere(do):
        thread = threading.Thread(target=do)
        thread.start()
        thread.join()

    def second():
        with library.Alone():
            told.append(library.threads())
        told.append(library.threads())

    with library.Alone():
        elsewhere(lambda: told.append(library.threads()))
        elsewhere(second)
        with library.Alone():
            pass
        told.append((library.threads(), two_threads[0]))
    assert told == [2, 1, 2, (1, 1)]
    assert (two_threads, library.threads()) == ([2], 2)


@asked
def test_the_real_number_is_set_and_set_back():
    before = library._GET()
    with library.Alone():
        assert library._GET() == 1
    assert library._GET() == before == library.threads()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_nobody_in_it(two_threads):
    with library.Alone(), library._Number.lock:
        child = os.fork()
        if not child:  # no assertion here: it would run the rest of the tests
            free = library._Number.lock.acquire(timeout=5)
            os._exit(0 if free and (library._Number.users, library._Number.before) == (0, 0) else 1)
    assert os.waitpid(child, 0)[1] == 0


class Watching(Layer):
    """Hands on what it is given, and notes who asked; fails for a sample that begins with this number."""

    def __init__(self, bad=None):
        self.who, self.bad = set(), bad

    def vjp(self, x, training=False, rng=None):
        raise NotImplementedError

    def forward(self, x, training=False, rng=None):
        self.who.add(threading.get_ident())
        time.sleep(0.005)
        if self.bad is not None and (x.reshape(len(x), -1)[:, 0] == self.bad).any():
            raise ShapeError(repr(self), f"refuses {self.bad}.")
        return x


def watched(*layers, bad=None):
    watching = Watching(bad)
    network = Network([watching, *layers], SoftmaxCrossEntropy(), input_shape=(2, 12, 12), random_state=0)
    return network, watching.who


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Conv2D(4), ReLU(), MaxPooling2D(2), Conv2D(3, padding="same"), Tanh(), Flatten(), Dense(5)],
        lambda: [Conv2D(32), ReLU(), Conv2D(32), Flatten(), Dense(5)],  # by Winograd's algorithm
        lambda: [Flatten(), Dense(9), ReLU(), Dense(5)],
    ],
)
def test_a_large_batch_is_predicted_by_several_threads(two_threads, layers):
    network, who = watched(*layers())
    x = np.random.default_rng(0).standard_normal((250, 2, 12, 12)).astype(np.float32)
    alone = np.concatenate([network.predict(one) for one in np.split(x, range(7, 250, 7))])
    who.clear()
    made = network.predict(x)
    assert len(who) == 2
    np.testing.assert_allclose(made, alone, rtol=1e-4, atol=1e-5)
    for _ in range(5):
        np.testing.assert_array_equal(network.predict(x), made)


def test_an_error_of_a_layer_says_where_from_any_thread(two_threads):
    network, _ = watched(Flatten(), Dense(5), bad=7)
    x = np.zeros((250, 2, 12, 12), np.float32)
    network.predict(x)
    for sample in (0, 100, 249):
        wrong = x.copy()
        wrong[sample] = 7
        with pytest.raises(ShapeError, match=r"layer 0 \(Watching\(bad=7\)\) refuses 7\."):
            network.predict(wrong)
    assert (two_threads, library.threads()) == ([2], 2)


def test_several_threads_predict_at_once(two_threads):
    network, _ = watched(Conv2D(4), ReLU(), Flatten(), Dense(5))
    x = np.random.default_rng(0).standard_normal((250, 2, 12, 12)).astype(np.float32)
    wanted, found = network.predict(x), []
    several = [threading.Thread(target=lambda: found.append(network.predict(x))) for _ in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    for one in found:
        np.testing.assert_array_equal(one, wanted)
    assert (len(found), two_threads, library.threads()) == (4, [2], 2)


def test_small_batches_are_not_worth_it(monkeypatch):
    monkeypatch.setattr(library, "threads", lambda: 16)
    assert side.threads(side._PAYS - 1) == 1
    assert side.threads(side._PAYS) == side._MOST
    monkeypatch.setattr(library, "threads", lambda: 1)
    assert side.threads(10**9) == 1


@given(st.integers(1, 3000), st.integers(1, 1 << 20), st.integers(2, 4))
def test_threads_have_as_many_parts_each(count, largest, threads):
    rows = together(count, largest, 0, threads)
    sizes = [part.stop - part.start for part in rows]
    assert sum(sizes) == count
    most = samples._EACH // largest
    if len(rows) > 1 and most >= 16:
        assert max(sizes) <= most
        if count >= 16 * (len(rows) + threads):
            assert len(rows) % threads == 0

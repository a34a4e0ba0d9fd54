"""Where arrays begin, and that they live and end as others do."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import sysconfig
import threading
from contextvars import ContextVar

import numpy as np
import pytest

from gradwise import SGD, Conv2D, Dense, Flatten, Layer, Network, Pullback, ReLU, SoftmaxCrossEntropy
from gradwise.kernels import memory
from gradwise.layers import containers
from gradwise.training import step

SIZES = (1, 7, 100, 1023, 5000, 100_000)
had = pytest.mark.skipif(memory.Aligned.value is None, reason="arrays begin where NumPy has them here")


def beginnings(arrays):
    return {array.__array_interface__["data"][0] % memory._PAIR for array in arrays}


@had
def test_arrays_begin_on_pairs_of_cache_lines_for_as_long_as_that_is_asked():
    with memory.Aligned():
        with memory.Aligned():
            pass
        arrays = [np.full(size, 1.0, np.float32) for size in SIZES]
        arrays += [array + 1 for array in arrays] + [np.arange(size)[::2].copy() for size in SIZES]
        assert beginnings(arrays) == {0}
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.extend(np.empty(size, np.float32) for size in SIZES))
        thread.start()
        thread.join()
    several = [[np.empty(size + more, np.int8) for size in SIZES] for more in range(4)]
    assert beginnings(elsewhere + [array for some in several for array in some]) != {0}


def test_arrays_are_used_as_others_are():
    """Grown, viewed, of objects and text, kept beyond the context, let go within it and outside."""
    with memory.Aligned():
        inside = [np.full(size, size) for size in SIZES]
        inside[-1].resize(200_000, refcheck=False)
        zeros, objects, text = np.zeros(50_000), np.array([1, "x", None], object), np.array(["abc", "d"])
    outside = [np.full(size, size) for size in SIZES]
    with memory.Aligned():
        assert all((array == size).all() for array, size in zip(outside, SIZES, strict=True))
        del outside
    assert (inside[-1][:100_000] == 100_000).all()
    assert not inside[-1][100_000:].any()
    assert not zeros.any()
    assert objects.tolist() == [1, "x", None]
    assert text.tolist() == ["abc", "d"]
    assert all((array == size).all() for array, size in zip(inside[:-1], SIZES, strict=False))


def test_an_error_ends_the_context():
    with pytest.raises(ZeroDivisionError), memory.Aligned():
        1 / 0  # noqa: B018
    assert beginnings(np.empty(size + more, np.int8) for size in SIZES for more in range(4)) != {0}


def test_arrays_may_outlive_everything():
    program = """
import builtins, sys
import numpy as np
from gradwise.kernels.memory import Aligned
with Aligned():
    builtins.kept = [np.ones(size) for size in (3, 1000, 100_000)]
sys.modules["kept"] = builtins.kept
"""
    ended = subprocess.run([sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("what", "value"),
    [("ctypes", None), ("_NAME", b"another"), ("sys", None), ("np", None)],
)
def test_where_anything_is_other_than_known_nothing_changes(what, value, monkeypatch):
    if what == "sys":
        monkeypatch.setattr(memory.sys, "platform", "other")
    elif what == "np":
        monkeypatch.setattr(np, "__version__", "3.0.0")
    else:
        monkeypatch.setattr(memory, what, value)
    variable, found = memory._aligned()
    assert found is None
    assert isinstance(variable, ContextVar)
    monkeypatch.setattr(memory.Aligned, "variable", variable)
    monkeypatch.setattr(memory.Aligned, "value", found)
    with memory.Aligned():
        assert np.ones(10).sum() == 10


FREEING = """
import ctypes
from gradwise.kernels import memory

fields = [(name, ctypes.c_void_p) for name in ("given", "malloc", "calloc", "realloc", "free")]
functions = type("Functions", (ctypes.Structure,), {"_fields_": fields})()
memory.LINE = NUMBER
print(memory._freeing(ctypes.pythonapi, ctypes.CDLL(None), functions) is not None)
"""
MIMALLOC = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@had
@pytest.mark.parametrize(
    ("name", "line", "wanted"), [("default", 64, not MIMALLOC), ("debug", 64, False), ("default", -64, False)]
)
def test_python_frees_arrays_where_its_memory_is_the_c_librarys(name, line, wanted):
    """Not where it looks for mistakes, or what it gives is of another size than was asked for."""
    command = [sys.executable, "-c", FREEING.replace("NUMBER", str(line))]
    environment = os.environ | {"PYTHONMALLOC": name}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (ended.returncode, ended.stderr, ended.stdout.strip()) == (0, "", str(wanted))


@had
def test_small_arrays_that_begin_there_are_not_kept_for_others():
    """NumPy gives the one that it kept last."""
    fields = [(name, ctypes.c_void_p) for name in ("given", "malloc", "calloc", "realloc", "free")]
    table = type("Functions", (ctypes.Structure,), {"_fields_": fields})()
    if memory._freeing(ctypes.pythonapi, ctypes.CDLL(None), table) is None:
        pytest.skip("NumPy frees arrays here")
    kept = [np.empty(1000, np.uint8) for _ in range(3)]
    del kept
    with memory.Aligned():
        aligned = np.empty(1000, np.uint8)
    place = aligned.__array_interface__["data"][0]
    del aligned
    assert np.empty(1000, np.uint8).__array_interface__["data"][0] != place


def test_no_step_keeps_arrays_that_the_next_makes_anew():
    """They would come to lie between large ones, which then find other gaps each time, and a process would grow."""
    layers = [layer for _ in range(6) for layer in (Conv2D(4, 3), ReLU())]
    network = Network([*layers, Flatten(), Dense(3)], SoftmaxCrossEntropy(), input_shape=(1, 28, 28), random_state=0)
    x, y = np.random.default_rng(0).random((700, 1, 28, 28), np.float32), np.arange(700) % 3
    modules = [module for name, module in sys.modules.items() if name.startswith("gradwise.")]
    kept = [value for module in modules for value in vars(module).values() if hasattr(value, "cache_info")]
    network.train_step(x, y, SGD(0.01))
    made = [value.cache_info().misses for value in kept]
    network.train_step(x, y, SGD(0.01))
    assert [value.cache_info().misses for value in kept] == made


class Looks(Layer):
    """Passes on what it is given, and keeps arrays that it makes."""

    def __init__(self):
        self.made = []

    def vjp(self, x, training=False, rng=None):
        self.made += [np.empty(size, np.float32) for size in SIZES]
        return x, Pullback(input=lambda dy: dy)


@had
def test_large_batches_are_trained_and_run_in_it(monkeypatch):
    looks = Looks()
    network = Network([looks, Flatten(), Dense(3)], SoftmaxCrossEntropy(), input_shape=(1, 12, 12), random_state=0)
    x, y = np.random.default_rng(0).random((64, 1, 12, 12), np.float32), np.arange(64) % 3
    for numbers, wanted in ((0, True), (1 << 40, False)):
        monkeypatch.setattr(step, "_ALIGNED", numbers)
        looks.made.clear()
        for _ in range(4):
            network.train_step(x, y, SGD(0.01))
        assert len(looks.made) == 4 * len(SIZES)
        assert (beginnings(looks.made) == {0}) is wanted
    for few, wanted in ((0, True), (1 << 40, False)):
        monkeypatch.setattr(containers, "_FEW", few)
        looks.made.clear()
        for _ in range(4):
            network.predict(x)
        assert (beginnings(looks.made) == {0}) is wanted

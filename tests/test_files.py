"""Saving and loading: exact, whole or not at all, and deaf to hostile files."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile

import numpy as np
import pytest

import gradwise
from gradwise import (
    SGD,
    Adam,
    AdamW,
    Chain,
    Constant,
    Conv2D,
    CrossEntropy,
    Dense,
    Dropout,
    Flatten,
    HeNormal,
    LeakyReLU,
    MaxPooling2D,
    Network,
    Orthogonal,
    Pullback,
    ReLU,
    RMSprop,
    Softmax,
    SoftmaxCrossEntropy,
)
from gradwise.errors import ArgumentError, LoadError, ShapeError
from gradwise.layers import Layer

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")


class Scale(Layer):
    """A layer of a user's own, with a parameter, a state and an argument."""

    parameters = ("scale",)
    state = ("seen",)

    def __init__(self, start=1.0):
        self.start = start

    def build(self, input_shape, rng):
        self.scale = np.full(input_shape, self.start, np.float32)
        self.seen = np.zeros((), np.int64)
        return input_shape

    def vjp(self, x, training=False, rng=None):
        return x * self.scale, Pullback(input=lambda dy: dy * self.scale, scale=lambda dy: (dy * x).sum(axis=0))


def data(n=60):
    rng = np.random.default_rng(0)
    return rng.random((n, 1, 8, 8), dtype=np.float32), rng.integers(0, 4, n)


def make(seed=0):
    layers = [
        Conv2D(4, (3, 2), padding="same", kernel_initializer=HeNormal()),
        LeakyReLU(0.2),
        MaxPooling2D(2),
        Flatten(channels_last=True),
        Dropout(0.3),
        Chain([Dense(8, kernel_initializer=Orthogonal(1.5), bias_initializer=Constant(0.1)), ReLU()]),
        Dense(4, dtype=np.float64, use_bias=False),
    ]
    return Network(layers, SoftmaxCrossEntropy(label_smoothing=0.1), input_shape=(1, 8, 8), random_state=seed)


def equal(one, other):
    a, b = one.arrays(), other.arrays()
    return a.keys() == b.keys() and all(
        np.array_equal(a[path], b[path]) and a[path].dtype == b[path].dtype for path in a
    )


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.npz"
    make().save(path, optimizer=Adam())
    return path


# What comes back


def test_round_trip(tmp_path):
    x, y = data()
    net = make()
    net.fit(x, y, verbose=False)
    net.save(tmp_path / "net.npz")
    again = gradwise.load(tmp_path / "net.npz")
    assert again == net
    assert repr(again) == repr(net)
    assert equal(again, net)
    assert again.optimizer is None
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    with np.load(tmp_path / "net.npz", allow_pickle=False) as archive:  # an ordinary .npz
        assert "parameters/0.kernel" in archive
        assert json.loads(archive["gradwise.json"].item())["version"] == 1


def test_shared_and_frozen_layers(tmp_path):
    shared = Dense(5)
    net = Network([shared, Softmax(), shared, Dense(5, trainable=False)], CrossEntropy(eps=0.01), 5, random_state=0)
    net.layers[1].trainable = False
    net.save(tmp_path / "net.npz")
    again = gradwise.load(tmp_path / "net.npz")
    assert again.layers[0] is again.layers[2]
    assert [layer.trainable for layer in again.layers] == [True, False, True, False]
    assert equal(again, net)


def test_own_layer(tmp_path):
    path = tmp_path / "net.npz"
    net = Network([Scale(2.0), Dense(3)], SoftmaxCrossEntropy(), 4, random_state=0)
    net.layers[0].seen = np.array(7)
    net.save(path)
    with pytest.raises(LoadError, match=r"unknown layer 'Scale'.*custom_layers=\[Scale\]"):
        gradwise.load(path)
    again = gradwise.load(path, custom_layers=[Scale])
    assert again == net
    assert again.layers[0].seen == 7
    assert equal(again, net)
    with pytest.raises(ArgumentError, match="custom_layers is a list of classes, but has Scale"):
        gradwise.load(path, custom_layers=[Scale()])


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.05),
        SGD(0.05, momentum=0.9, nesterov=True),
        Adam(0.01),
        AdamW(0.01),
        RMSprop(0.001, momentum=0.5, centered=True, clip_norm=1.0),
    ],
    ids=repr,
)
def test_resuming_in_a_new_process_is_exact(tmp_path, optimizer):
    """Two epochs, saved, loaded in a new process, two more: bit for bit four epochs in one go."""
    x, y = data()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    whole = make(3)
    whole.fit(x, y, epochs=2, optimizer=optimizer, verbose=False)
    whole.save(tmp_path / "half.npz", optimizer=optimizer)
    whole.fit(x, y, epochs=2, verbose=False)
    whole.save(tmp_path / "whole.npz", optimizer=optimizer)
    code = """
        import sys
        import numpy as np, gradwise
        data = np.load("data.npz")
        net = gradwise.load("half.npz")
        net.fit(data["x"], data["y"], epochs=2, verbose=False)
        net.save("resumed.npz", optimizer=net.optimizer)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    one, two = (np.load(tmp_path / name) for name in ("whole.npz", "resumed.npz"))
    assert sorted(one.files) == sorted(two.files)
    for name in one.files:
        assert np.array_equal(one[name], two[name]), name
    again = gradwise.load(tmp_path / "resumed.npz")
    assert again.optimizer == optimizer
    assert again.optimizer.steps == optimizer.steps == 8


def test_what_cannot_be_saved(tmp_path):
    class Odd(Layer):
        def __init__(self, function):
            self.function = function

        def vjp(self, x, training=False, rng=None):
            return x, Pullback(input=lambda dy: dy)

    path = tmp_path / "net.npz"
    path.write_bytes(b"before")
    with pytest.raises(ArgumentError, match="cannot save the argument <built-in function abs>"):
        Network([Odd(abs)], input_shape=3).save(path)
    assert path.read_bytes() == b"before"
    with pytest.raises(FileNotFoundError):
        make().save(tmp_path / "nowhere" / "net.npz")
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.npz"]


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        make(1).save(saved)
    assert saved.read_bytes() == before
    assert [entry.name for entry in saved.parent.iterdir()] == ["net.npz"]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path):
    code = """
        import sys
        import numpy as np
        from gradwise import *
        net = Network([Dense(600), Dense(600)], input_shape=600, random_state=0)
        while True:
            net.layers[0].kernel[:] = net.layers[1].kernel[:] = np.float32(np.random.rand())
            net.save(sys.argv[1])
            print("saved", flush=True)
    """
    path = tmp_path / "net.npz"
    for wait in (0.0, 0.003, 0.007, 0.011, 0.02):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), path],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": SOURCE},
        ) as run:
            run.stdout.readline()
            time.sleep(wait)
            run.send_signal(signal.SIGKILL)
        net = gradwise.load(path)
        assert net.layers[0].kernel.min() == net.layers[1].kernel.max()  # all of one save


# What is refused


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        gradwise.load(tmp_path / "missing.npz")
    path = tmp_path / "file"
    for content in (b"", b"Dear reader,\n", os.urandom(3000)):
        path.write_bytes(content)
        with pytest.raises(LoadError, match="is not a gradwise file, or is damaged"):
            gradwise.load(path)
    np.savez(tmp_path / "arrays.npz", x=np.ones(3))
    with pytest.raises(LoadError, match=r"is an \.npz file, but not one of gradwise's"):
        gradwise.load(tmp_path / "arrays.npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(LoadError, match=r"'notes\.txt' is not an array"):
        gradwise.load(path)


def test_truncated_anywhere(saved):
    whole = saved.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        saved.write_bytes(whole[:length])
        with pytest.raises(LoadError):
            gradwise.load(saved)


def test_a_flipped_bit_in_the_numbers(saved):
    content = bytearray(saved.read_bytes())
    value = gradwise.load(saved).parameters()["0.kernel"].tobytes()
    content[content.index(value) + 5] ^= 1
    saved.write_bytes(content)
    with pytest.raises(LoadError, match="Bad CRC-32"):
        gradwise.load(saved)


def rewritten(path, change):
    """The file's arrays, description parsed, changed by `change(arrays, description)` and written back."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    description = json.loads(arrays.pop("gradwise.json").item())
    change(arrays, description)
    if description is not None:
        arrays["gradwise.json"] = np.array(json.dumps(description))
    np.savez(path, **arrays)


def first(description):
    return description["network"]["arguments"]["layers"][0]


def put(mapping, key, value):
    mapping[key] = value


HOSTILE = {
    "newer version": (lambda a, d: put(d, "version", 2), "has format version 2, newer.*upgrade"),
    "other format": (lambda a, d: put(d, "format", "other"), "is not a gradwise file"),
    "part missing": (lambda a, d: d.pop("random"), "description lacks random"),
    "unknown layer": (lambda a, d: put(first(d), "class", "Eval"), "unknown layer 'Eval'"),
    "a builtin": (lambda a, d: put(first(d), "class", "__import__"), "unknown layer '__import__'"),
    "unknown argument": (lambda a, d: put(first(d)["arguments"], "os", 1), "does not describe a network.*'os'"),
    "bad argument": (lambda a, d: put(first(d)["arguments"], "filters", -1), "filters is a whole number"),
    "no network": (lambda a, d: put(d, "network", 3), "holds a int, not a network"),
    "layer for a network": (lambda a, d: put(d, "network", first(d)), "holds a Conv2D, not a network"),
    "bad input shape": (lambda a, d: put(d, "input_shape", [0]), "input_shape is a tuple of positive integers"),
    "other input shape": (
        lambda a, d: put(d, "input_shape", [1, 10, 10]),
        r"5\.0\.kernel has shape \(64, 8\), but the",
    ),
    "array missing": (lambda a, d: a.pop("parameters/0.bias"), r"lacks parameters/0\.bias"),
    "array too many": (lambda a, d: put(a, "parameters/9.kernel", np.ones(2)), r"has parameters/9\.kernel besides"),
    "wrong shape": (lambda a, d: put(a, "parameters/0.bias", np.ones(5, "f4")), r"0\.bias has shape \(5,\)"),
    "wrong dtype": (lambda a, d: put(a, "parameters/0.bias", np.ones(4, "c8")), "is an array of complex64"),
    "integers": (lambda a, d: put(a, "parameters/0.bias", np.ones(4, int)), "is an array of int64"),
    "objects": (lambda a, d: put(a, "parameters/0.bias", np.array([print] * 4)), "holds Python objects"),
    "enormous layer": (
        lambda a, d: put(d["network"]["arguments"]["layers"][-1]["arguments"], "units", 10**15),
        r"6\.kernel has shape \(8, 4\), but the network needs \(8, 1000000000000000\)",
    ),
    "optimizer is a layer": (lambda a, d: put(d["optimizer"], "made", first(d)), "holds a Conv2D, not an optimiser"),
    "random state": (lambda a, d: put(d["random"], "bit_generator", "system"), "its random state cannot be restored"),
    "a layer that is not there": (lambda a, d: put(d["network"]["arguments"]["layers"], 0, {"again": 7}), "KeyError"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hostile_files(saved, case):
    change, message = HOSTILE[case]
    rewritten(saved, change)
    with pytest.raises(LoadError, match=message):
        gradwise.load(saved)


def test_deeply_nested_description(saved):
    depth = 100_000
    with np.load(saved) as archive:
        arrays = dict(archive)
    text = arrays["gradwise.json"].item()
    arrays["gradwise.json"] = np.array(text.replace('"layers": [', '"layers": [' + "[" * depth + "]" * depth + ", "))
    np.savez(saved, **arrays)
    with pytest.raises(LoadError):
        gradwise.load(saved)


def header(shape, descr="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_zip_bombs(saved, tmp_path):
    """Small files that claim to be large: none is unpacked or allocated."""
    with zipfile.ZipFile(saved) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        archive.writestr("parameters/x.npy", header((10**7,)) + bytes(4 * 10**7))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(LoadError, match="claims to hold more than its own"):
        gradwise.load(bomb)
    with zipfile.ZipFile(bomb, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if name == "parameters/0.bias.npy" else None)
    with pytest.raises(LoadError, match="compressed part"):
        gradwise.load(bomb)
    with zipfile.ZipFile(bomb, "w") as archive:
        for name, content in parts.items():
            if name == "parameters/0.bias.npy":
                content = header((10**12,))
            archive.writestr(name, content)
    with pytest.raises(LoadError, match=r"says it has shape \(1000000000000,\) in float32, but there are 0 bytes"):
        gradwise.load(bomb)


def test_a_failed_load_says_the_file(saved):
    rewritten(saved, lambda a, d: a.clear())
    with pytest.raises(
        LoadError, match=r"net\.npz does not hold the arrays of its network: it lacks parameters/0\.bias"
    ):
        gradwise.load(saved)


def test_optimizer_for_another_network(saved):
    net = gradwise.load(saved)
    optimizer = SGD(0.1, momentum=0.9)
    net.train_step(*data(8), optimizer)
    with pytest.raises(ShapeError, match=r"has stepped another network"):
        optimizer.step({"0.kernel": np.ones((2, 2))}, {"0.kernel": np.ones((2, 2))})

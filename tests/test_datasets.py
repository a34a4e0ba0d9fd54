"""The digits that are shipped, MNIST from files, and what is said of files that are not right."""

from __future__ import annotations

import gzip
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from gradwise.datasets import digits, downloaded, mnist
from gradwise.errors import LoadError, MissingExtraError

NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx(array):
    """An array of bytes as an IDX file."""
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def contents(train=5, test=3, side=28):
    draw = np.random.default_rng(0)
    made = {}
    for part, n in (("train", train), ("t10k", test)):
        made[f"{part}-images-idx3-ubyte"] = idx(draw.integers(0, 256, (n, side, side)).astype(np.uint8))
        made[f"{part}-labels-idx1-ubyte"] = idx(draw.integers(0, 10, n).astype(np.uint8))
    return made


@pytest.fixture
def folder(tmp_path):
    for name, data in contents().items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No GRADWISE_DATA, and an empty cache."""
    monkeypatch.delenv("GRADWISE_DATA", raising=False)
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    return tmp_path


def test_digits():
    (x_train, y_train), (x_test, y_test) = digits()
    assert x_train.shape == (1437, 1, 8, 8)
    assert x_test.shape == (360, 1, 8, 8)
    assert x_train.dtype == x_test.dtype == np.float32
    assert y_train.dtype.kind == y_test.dtype.kind == "i"
    assert (x_train.min(), x_train.max()) == (0, 1)
    assert np.bincount(y_test).min() >= 34
    assert set(y_train) == set(range(10))


def test_digits_are_those_of_the_repository():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    theirs = load_digits()
    (x_train, y_train), (x_test, y_test) = digits()
    ours = np.concatenate([x_train, x_test]).reshape(1797, 64) * 16
    labels = np.concatenate([y_train, y_test])
    order, own = np.lexsort(theirs.data.T), np.lexsort(ours.T)
    np.testing.assert_array_equal(theirs.data[order], ours[own])
    np.testing.assert_array_equal(theirs.target[order], labels[own])


def test_the_credit_is_shipped():
    text = Path(downloaded.__file__).with_name("DIGITS-LICENSE.txt").read_text()
    assert "10.24432/C50P49" in text
    assert "CC BY 4.0" in text


def test_mnist_from_a_folder(folder):
    (x_train, y_train), (x_test, _) = mnist(folder)
    assert x_train.shape == (5, 1, 28, 28)
    assert x_test.shape == (3, 1, 28, 28)
    assert x_train.dtype == np.float32
    raw = np.frombuffer((folder / NAMES[0]).read_bytes(), np.uint8, offset=16)
    np.testing.assert_allclose(x_train.ravel(), raw / 255, rtol=1e-6)
    np.testing.assert_array_equal(y_train, np.frombuffer((folder / NAMES[1]).read_bytes(), np.uint8, offset=8))


def test_mnist_compressed(folder):
    plain = mnist(folder)
    for name in NAMES[:3]:
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    for (x, y), (again, labels) in zip(plain, mnist(str(folder)), strict=True):
        np.testing.assert_array_equal(x, again)
        np.testing.assert_array_equal(y, labels)


def test_mnist_from_the_environment_and_the_cache(folder, nowhere, monkeypatch):
    wanted = mnist(folder)[0][0]
    monkeypatch.setenv("GRADWISE_DATA", str(folder))
    np.testing.assert_array_equal(mnist()[0][0], wanted)
    inner = nowhere / "data" / "mnist"
    inner.mkdir(parents=True)
    for name in NAMES:
        (inner / name).write_bytes((folder / name).read_bytes())
    monkeypatch.setenv("GRADWISE_DATA", str(inner.parent))
    np.testing.assert_array_equal(mnist()[0][0], wanted)
    monkeypatch.delenv("GRADWISE_DATA")
    cache = downloaded._cache()
    cache.parent.mkdir(parents=True)
    inner.rename(cache)
    np.testing.assert_array_equal(mnist()[0][0], wanted)


@pytest.mark.parametrize("platform", ["win32", "darwin", "linux"])
def test_the_cache_is_below_the_users_home(nowhere, monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: nowhere / "home")
    assert nowhere / "home" in downloaded._cache().parents


def test_files_that_are_missing(folder, nowhere):
    (folder / NAMES[2]).unlink()
    with pytest.raises(LoadError, match=r"t10k-images-idx3-ubyte \(or \.gz\) not found in .*Put them there"):
        mnist(folder)
    with pytest.raises(LoadError, match=r"not found in .*nothing, which is not a folder"):
        mnist(nowhere / "nothing")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (NAMES[0], b"", "is not an IDX file .* it begins with nothing"),
        (NAMES[0], b"<html>404 Not Found</html>", "is not an IDX file .* it begins with 3c 68 74 6d"),
        (NAMES[0], contents()[NAMES[1]], "is not an IDX file of unsigned bytes with 3 axes"),
        (NAMES[1], contents()[NAMES[0]], "is not an IDX file of unsigned bytes with 1 axis"),
        (NAMES[0], contents()[NAMES[0]][:-1], r"says it holds 3920 bytes, \(5, 28, 28\), but there are 3919"),
        (NAMES[0], contents()[NAMES[0]] + b"x", "but there are 3921"),
        (NAMES[0], idx(np.zeros((0, 28, 28), np.uint8)), "0 images .* 5 labels"),
        (NAMES[1], idx(np.zeros(4, np.uint8)), "5 images .* 4 labels"),
        (NAMES[3], idx(np.full(3, 11, np.uint8)), "label 11"),
        (NAMES[2], idx(np.zeros((3, 27, 28), np.uint8)), "do not belong together"),
        (NAMES[0], bytes((0, 0, 8, 3)) + b"\xff" * 12, "says it holds 7922816"),
    ],
)
def test_files_that_are_wrong(folder, name, data, message):
    (folder / name).write_bytes(data)
    with pytest.raises(LoadError, match=message):
        mnist(folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not gzip at all", "not a gzip file, or is damaged"),
        (gzip.compress(contents()[NAMES[0]])[:-9], "not a gzip file, or is damaged"),
        (gzip.compress(contents()[NAMES[0]] + b"x"), "but there are more"),
        (gzip.compress(contents()[NAMES[0]][:-1]), "but there are 3919"),
        (gzip.compress(bytes((0, 0, 8, 3)) + b"\xff" * 12), "are the most that is read"),
    ],
)
def test_compressed_files_that_are_wrong(folder, data, message):
    (folder / NAMES[0]).unlink()
    (folder / f"{NAMES[0]}.gz").write_bytes(data)
    with pytest.raises(LoadError, match=message):
        mnist(folder)


class Mirrors:
    """A stand-in for pooch: what each mirror answers."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    def retrieve(self, url, known_hash, fname, path, progressbar):
        self.asked.append((url, known_hash))
        answer = self.answers[len(self.answers) > 1 and "googleapis" in url]
        if isinstance(answer, Exception):
            raise answer
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(gzip.compress(answer[fname.removesuffix(".gz")]))
        return str(path / fname)


def fake(monkeypatch, *answers):
    mirrors = Mirrors(answers)
    monkeypatch.setitem(sys.modules, "pooch", types.SimpleNamespace(retrieve=mirrors.retrieve))
    return mirrors


def test_download_from_the_second_mirror(nowhere, monkeypatch):
    mirrors = fake(monkeypatch, ConnectionError("no route"), contents())
    assert mnist()[0][0].shape == (5, 1, 28, 28)
    assert mirrors.asked[0] == (
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    )
    assert len(mirrors.asked) == 8
    mnist()
    assert len(mirrors.asked) == 8, "what is in the cache is not downloaded again"


def test_no_network(nowhere, monkeypatch):
    fake(monkeypatch, ConnectionError("no route"))
    with pytest.raises(
        LoadError, match=r"could not be downloaded:\n.*amazonaws.*\n.*googleapis.*ConnectionError\nPut train-images"
    ) as caught:
        mnist()
    assert str(downloaded._cache()) in str(caught.value)


def test_another_checksum(nowhere, monkeypatch):
    fake(monkeypatch, ValueError("MD5 hash of downloaded file does not match"))
    with pytest.raises(LoadError, match="ValueError"):
        mnist()


def test_without_pooch(nowhere, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match=r"Put its four IDX files there.*pip install 'gradwise\[mnist\]'"):
        mnist()


def test_a_given_folder_is_never_filled_from_the_network(nowhere, monkeypatch):
    mirrors = fake(monkeypatch, contents())
    with pytest.raises(LoadError, match="not found"):
        mnist(nowhere)
    assert not mirrors.asked


def test_the_real_images(mnist):
    (x_train, _), (x_test, y_test) = mnist
    assert x_train.shape[1:] == x_test.shape[1:] == (1, 28, 28)
    assert len(x_test) == 10_000
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert 0.12 < x_train.mean() < 0.14

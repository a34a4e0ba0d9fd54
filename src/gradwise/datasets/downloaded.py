"""MNIST: from a folder, from the user's cache, or from the network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from gradwise.datasets.idx import read_idx
from gradwise.errors import LoadError, MissingExtraError
from gradwise.typing import Array

_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_FILES = {  # name -> MD5 of NAME.gz, as published
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}


def mnist(folder: str | os.PathLike[str] | None = None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The MNIST digits (LeCun, Cortes & Burges 1998): 60,000 and 10,000 images of 28 x 28.

    Parameters
    ----------
    folder : str or path, optional
        Where the four IDX files lie (train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte,
        t10k-labels-idx1-ubyte), each as it is or as .gz; they may hold any number of images. Without it: the folder
        named by the environment variable GRADWISE_DATA (or `mnist` inside it), then the user's cache; what is in
        neither is downloaded into the cache, about 11 MB (this needs pooch: the extra `mnist`).

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        float32 images (N, 1, 28, 28) from 0 to 1; integer labels 0 to 9.

    Raises
    ------
    LoadError
        Files are missing, damaged or do not belong together, or cannot be downloaded; the message says where to put
        them.
    MissingExtraError
        They are to be downloaded, and pooch is not installed.
    """
    found = _find(folder)
    train, test = _pair(found, "train"), _pair(found, "t10k")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise LoadError(
            f"the training images are {train[0].shape[2:]}, the test images {test[0].shape[2:]}: these files do not"
            " belong together."
        )
    return train, test


def _pair(found: dict[str, Path], part: str) -> tuple[Array, Array]:
    """Images (N, 1, H, W) and labels (N,) of one of the two sets."""
    of_images, of_labels = found[f"{part}-images-idx3-ubyte"], found[f"{part}-labels-idx1-ubyte"]
    images, labels = read_idx(of_images, 3), read_idx(of_labels, 1)
    if len(images) != len(labels) or not images.size:
        raise LoadError(
            f"{of_images} has {len(images)} images of {images.shape[1:]} and {of_labels} has {len(labels)} labels:"
            " they go together one by one, and there must be some."
        )
    if labels.max() > 9:
        raise LoadError(f"{of_labels} has the label {labels.max()}; MNIST's labels are 0 to 9.")
    return images[:, None] / np.float32(255), labels.astype(np.int64)


def _find(folder: str | os.PathLike[str] | None) -> dict[str, Path]:
    """Where each of the four files is: all in the first place that has any."""
    if folder is not None:
        return _all_in(Path(folder)) or _missing(Path(folder), list(_FILES))
    places = [_cache()]
    if given := os.environ.get("GRADWISE_DATA"):
        places = [Path(given), Path(given, "mnist"), *places]
    for place in places[:-1]:
        if there := _all_in(place):
            return there
    return {name: _seen(places[-1], name) or _download(name, places) for name in _FILES}


def _seen(place: Path, name: str) -> Path | None:
    for candidate in (place / name, place / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def _all_in(place: Path) -> dict[str, Path]:
    """The four files in one folder; nothing where none of them is there; an error where some are missing."""
    there = {name: path for name in _FILES if (path := _seen(place, name))}
    if there and len(there) < len(_FILES):
        _missing(place, [name for name in _FILES if name not in there])
    return there


def _missing(place: Path, names: list[str]) -> dict[str, Path]:
    what = "" if place.is_dir() else ", which is not a folder"
    raise LoadError(f"MNIST: {', '.join(names)} (or .gz) not found in {place}{what}. Put them there.")


def _cache() -> Path:
    """The user's cache folder, as each system has it."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gradwise" / "mnist"


def _download(name: str, places: list[Path]) -> Path:
    """Fetch one file from the first mirror that gives it; its checksum is verified before it takes its name."""
    where = " or ".join(str(place) for place in places)
    try:
        import pooch
    except ImportError:
        raise MissingExtraError(
            f"MNIST is not in {where}. Put its four IDX files there (any mirror has them), or have them downloaded:"
            " this",
            "pooch",
            "mnist",
        ) from None
    bar = sys.stderr is not None and sys.stderr.isatty()
    problems = []
    for mirror in _MIRRORS:
        try:
            md5 = f"md5:{_FILES[name]}"
            return Path(pooch.retrieve(f"{mirror}{name}.gz", md5, f"{name}.gz", places[-1], progressbar=bar))
        except (OSError, ValueError) as error:  # no connection, no such file, or another checksum
            problems.append(f"  {mirror}: {type(error).__name__}")
    raise LoadError(
        f"MNIST: {name}.gz could not be downloaded:\n" + "\n".join(problems) + f"\nPut {', '.join(_FILES)}"
        f" (each as it is or as .gz) in {where}, or in a folder of your own and call mnist(folder)."
    )

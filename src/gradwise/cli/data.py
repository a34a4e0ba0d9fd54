"""What a command trains a network on, or runs one on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gradwise import datasets
from gradwise.datasets import tables
from gradwise.errors import ArgumentError, DataError
from gradwise.layers import Standardize
from gradwise.network import Network
from gradwise.typing import Array

DATASETS = {"digits": datasets.digits, "mnist": datasets.mnist}


class Data(NamedTuple):
    """What is trained on and what is tested on; labels are indices into `classes`."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array
    classes: list[str]
    standard: list[Standardize]  # the layer that files' numbers need before all others


def training_data(options: argparse.Namespace) -> Data:
    rng = np.random.default_rng(options.seed)
    if options.data in DATASETS:
        if options.label is not None:
            raise ArgumentError("--label names a column of a .csv file.")
        (x, y), (x_test, y_test) = DATASETS[options.data]()
        order = rng.permutation(len(x))
        return Data(x[order], y[order], x_test, y_test, [str(k) for k in range(10)], [])
    path = Path(options.data)
    table = tables.read(path, options.label)
    if table.y is None:
        raise DataError(f"{path} has no array y: training needs a label for each sample.")
    classes = tables.classes(table.y)
    if len(classes) < 2:
        raise DataError(f"{path}: all {len(table.y)} labels in {table.column!r} are {classes[0]!r}; there must be two.")
    print(f"{path}: {len(table.x)} samples, {len(classes)} classes in {table.column!r}")
    order = rng.permutation(len(table.x))
    x, y = table.x[order], _indices(table.y, classes, path)[order]
    tested = round(len(x) * options.test_split)
    if not 0 < tested < len(x):
        raise DataError(
            f"{path}: --test-split {options.test_split:g} of {len(x)} samples leaves one of the two parts empty."
        )
    x_test, y_test, x, y = x[:tested], y[:tested], x[tested:], y[tested:]
    axes = (0, *range(2, x.ndim))
    mean, deviation = x.mean(axis=axes, dtype=np.float64), x.std(axis=axes, dtype=np.float64)
    deviation[deviation < 1e-12] = 1.0
    standard = [Standardize(tuple(mean.tolist()), tuple(deviation.tolist()))]
    return Data(x, y, x_test, y_test, classes, standard)


def test_data(net: Network, options: argparse.Namespace, labelled: bool) -> tuple[Array, Array | None]:
    """Samples and labels to run a saved network on; labels, where they are wanted, as indices into its classes."""
    shape = net.input_shape or ()
    if options.data in DATASETS:
        x, y = DATASETS[options.data]()[1]
        return x, y
    path = Path(options.data)
    table = tables.read(path, options.label, features=shape[0] if len(shape) == 1 else None)
    if table.y is None or not labelled:
        return table.x, None
    classes = net.classes or [str(k) for k in range((net.output_shape or (0,))[0])]
    return table.x, _indices(table.y, classes, path)


def _indices(labels: Array, classes: list[str], path: Path) -> Array:
    """Labels as indices into the classes."""
    index = {name: k for k, name in enumerate(classes)}
    unknown = set(np.unique(labels).tolist()) - index.keys()
    if unknown:
        raise DataError(
            f"{path} has the label {min(unknown)!r}, which the network does not know; it knows {', '.join(classes)}."
        )
    return np.array([index[name] for name in labels.tolist()])

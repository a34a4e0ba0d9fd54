"""The networks that are raced, and the arithmetic in them. Input 1 x 28 x 28; convolutions 3 x 3 without padding."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Layer(NamedTuple):
    """kind: "dense" (size units), "conv" (size filters), "pool" (size window), "relu", "flatten"."""

    kind: str
    size: int = 0


def _layers(text: str) -> list[Layer]:
    """The layers of a line such as "conv 24, relu"."""
    parts = (part.split() for part in text.split(","))
    return [Layer(part[0], int(part[1]) if len(part) > 1 else 0) for part in parts]


NETWORKS = {
    "A": _layers("dense 10"),
    "B": _layers("dense 20, relu, dense 10"),
    "C": _layers("dense 80, relu, dense 40, relu, dense 20, relu, dense 10"),
    "D": _layers("pool 2, conv 24, relu, pool 2, flatten, dense 20, dense 10"),
    "E": _layers("conv 24, relu, pool 2, flatten, dense 32, dense 10"),
    "F": _layers(", ".join(["conv 16, relu"] * 6) + ", pool 16, flatten, dense 10"),
    "G": _layers("conv 32, relu, conv 64, relu, pool 2, flatten, dense 128, relu, dense 10"),
    "H": _layers("dense 1024, relu, dense 1024, relu, dense 10"),
}

SHARED = "FG"  # those for which two workers pay


def images(name: str) -> bool:
    """Whether the network takes images, not rows."""
    return any(layer.kind in ("conv", "pool") for layer in NETWORKS[name])


def shapes(name: str) -> list[tuple[Layer, tuple[int, ...], tuple[int, ...]]]:
    """(layer, input shape, output shape) of each layer, channels first."""
    shape: tuple[int, ...] = (1, 28, 28) if images(name) else (784,)
    found = []
    for layer in NETWORKS[name]:
        given = shape
        if layer.kind == "dense":
            shape = (layer.size,)
        elif layer.kind == "conv":
            shape = (layer.size, given[1] - 2, given[2] - 2)
        elif layer.kind == "pool":
            shape = (given[0], given[1] // layer.size, given[2] // layer.size)
        elif layer.kind == "flatten":
            shape = (math.prod(given),)
        found.append((layer, given, shape))
    return found


def multiplications(name: str, training: bool) -> int:
    """Multiply-adds a sample in dense and convolution layers: once forward, once for each gradient a step needs."""
    total, first = 0, True
    for layer, given, made in shapes(name):
        if layer.kind in ("dense", "conv"):
            once = math.prod(made) * (given[0] * 9 if layer.kind == "conv" else given[0])
            total += once * (1 if not training else 2 if first else 3)
            first = False
    return total


def data(name: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch, channels first, and its labels."""
    rng = np.random.default_rng(0)
    x = rng.random((batch, 1, 28, 28) if images(name) else (batch, 784), dtype=np.float32)
    return x, rng.integers(0, 10, batch)

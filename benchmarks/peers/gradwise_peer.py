"""gradwise itself: `Network.train_step`, `predict` and `fit`, as anybody calls them."""

from __future__ import annotations

import numpy as np

import gradwise as gw
from gradwise.kernels.context import Computing
from gradwise.kernels.memory import Aligned

from ..layers import LAYERS
from ..networks import NETWORKS, data, images


def versions() -> dict[str, str]:
    import numpy

    return {"gradwise": gw.__version__, "numpy": numpy.__version__}


def network(name: str) -> gw.Network:
    make = {
        "dense": lambda size: gw.Dense(size),
        "conv": lambda size: gw.Conv2D(size),
        "pool": lambda size: gw.MaxPooling2D(size),
        "relu": lambda size: gw.ReLU(),
        "flatten": lambda size: gw.Flatten(),
    }
    layers = [make[layer.kind](layer.size) for layer in NETWORKS[name]]
    shape = (1, 28, 28) if images(name) else (784,)
    return gw.Network(layers, gw.SoftmaxCrossEntropy(), input_shape=shape, random_state=0)


def train(name: str, batch: int, optimizer: str, option: str):
    net, (x, y) = network(name), data(name, batch)
    steps = {"sgd": gw.SGD(0.001), "adam": gw.Adam(0.001)}[optimizer]
    if option == "workers":
        team = _together(net, batch)
        return lambda: net.train_step(x, y, steps, workers=team)
    return lambda: net.train_step(x, y, steps)


_team: list[gw.Workers] = []


def _together(net: gw.Network, batch: int) -> gw.Workers:
    """Two workers; those of the row before have ended."""
    while _team:
        _team.pop().close()
    _team.append(gw.Workers(net, 2, batch).__enter__())
    return _team[0]


def infer(name: str, batch: int, option: str):
    if option == "workers":
        raise NotImplementedError("training only")
    net, (x, _) = network(name), data(name, batch)
    return lambda: net.predict(x)


def fit(name: str, x, y, batch: int, option: str):
    net = network(name)
    optimizer, workers = gw.SGD(0.01), 2 if option == "workers" else 1
    return lambda: net.fit(x, y, optimizer=optimizer, batch_size=batch, validation_split=0.1, workers=workers)


def layer(name: str, which: str, option: str):
    """As a chain runs it: what comes and what arrives lies batch innermost."""
    if option == "workers":
        raise NotImplementedError("networks only")
    kind, shape, size, filters, stride, padding = LAYERS[name]
    made = {
        "conv": lambda: gw.Conv2D(filters, size, stride, padding),
        "max": lambda: gw.MaxPooling2D(size, stride, padding),
        "average": lambda: gw.AveragePooling2D(size, stride, padding),
        "dense": lambda: gw.Dense(filters),
        "relu": gw.ReLU,
        "sigmoid": gw.Sigmoid,
        "tanh": gw.Tanh,
        "gelu": gw.GELU,
    }[kind]()
    made.build(shape[1:], 0)
    rng = np.random.default_rng(0)
    with Aligned():
        x, dy = (
            np.moveaxis(rng.standard_normal((*some[1:], some[0]), np.float32), -1, 0)
            for some in (shape, (shape[0], *made.output_shape))
        )

    def step():
        with Computing(), Aligned():
            if which == "forward":
                made.forward(x)
            else:
                made.vjp(x)[1].train(dy, True)

    return step

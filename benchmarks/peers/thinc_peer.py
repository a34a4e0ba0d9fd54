"""thinc: dense networks."""

from __future__ import annotations

import numpy as np
import thinc
from thinc import api

from ..networks import NETWORKS, data


def versions() -> dict[str, str]:
    return {"thinc": thinc.__version__}


def _model(name: str):
    layers = NETWORKS[name]
    if any(layer.kind not in ("dense", "relu") for layer in layers):
        raise NotImplementedError("dense networks only")
    sizes = [layer.size for layer in layers if layer.kind == "dense"]
    made = [api.Relu(size) for size in sizes[:-1]] + [api.Softmax(sizes[-1])]
    model = api.chain(*made) if len(made) > 1 else made[0]
    x, y = data(name, 4)
    model.initialize(X=x, Y=np.eye(10, dtype=np.float32)[y])
    return model


def train(name: str, batch: int, optimizer: str, option: str):
    model, (x, y) = _model(name), data(name, batch)
    rows, places = np.eye(10, dtype=np.float32)[y], np.arange(batch)
    steps = {"sgd": api.SGD, "adam": api.Adam}[optimizer](0.001)

    def step():
        prediction, backprop = model.begin_update(x)
        loss = -np.log(prediction[places, y]).mean()
        backprop((prediction - rows) / len(x))
        model.finish_update(steps)
        return loss

    return step


def infer(name: str, batch: int, option: str):
    model, (x, _) = _model(name), data(name, batch)
    return lambda: model.predict(x)

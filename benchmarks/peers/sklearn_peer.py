"""scikit-learn's MLPClassifier: dense networks with a ReLU between any two layers."""

from __future__ import annotations

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from ..networks import NETWORKS, data


def versions() -> dict[str, str]:
    return {"scikit-learn": sklearn.__version__}


def _model(name: str, batch: int, optimizer: str):
    layers = NETWORKS[name]
    if any(layer.kind not in ("dense", "relu") for layer in layers):
        raise NotImplementedError("dense networks only")
    hidden = [layer.size for layer in layers if layer.kind == "dense"][:-1]
    return MLPClassifier(
        hidden,
        solver=optimizer,
        alpha=0,
        batch_size=batch,
        learning_rate_init=0.001,
        momentum=0,
        nesterovs_momentum=False,
    )


def train(name: str, batch: int, optimizer: str, option: str):
    model, (x, y) = _model(name, batch, optimizer), data(name, batch)
    model.partial_fit(x, y, classes=np.arange(10))
    return lambda: model.partial_fit(x, y).loss_


def infer(name: str, batch: int, option: str):
    model, (x, y) = _model(name, batch, "sgd"), data(name, batch)
    model.partial_fit(x, y, classes=np.arange(10))
    return lambda: model.predict_proba(x)

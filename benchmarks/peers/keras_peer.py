"""Keras on the backend that KERAS_BACKEND names; images channels last."""

from __future__ import annotations

import sys

import keras

from ..networks import NETWORKS, data, images


def versions() -> dict[str, str]:
    return {"keras": keras.__version__}


def network(name: str, optimizer: str, rate: float = 0.001):
    made = [keras.Input((28, 28, 1) if images(name) else (784,))]
    for layer in NETWORKS[name]:
        if layer.kind == "dense":
            made.append(keras.layers.Dense(layer.size))
        elif layer.kind == "conv":
            made.append(keras.layers.Conv2D(layer.size, 3))
        elif layer.kind == "pool":
            made.append(keras.layers.MaxPooling2D(layer.size))
        else:
            made.append(keras.layers.ReLU() if layer.kind == "relu" else keras.layers.Flatten())
    model = keras.Sequential(made)
    steps = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[optimizer](rate)
    model.compile(steps, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def _last(name: str, x):
    return x.transpose(0, 2, 3, 1).copy() if images(name) else x


def train(name: str, batch: int, optimizer: str, option: str):
    model, (x, y) = network(name, optimizer), data(name, batch)
    x = _last(name, x)
    return lambda: model.train_on_batch(x, y)[0]


def infer(name: str, batch: int, option: str):
    model, (x, _) = network(name, "sgd"), data(name, batch)
    x = _last(name, x)
    return lambda: model.predict_on_batch(x)


def fit(name: str, x, y, batch: int, option: str):
    model, x = network(name, "sgd", 0.01), _last(name, x)
    verbose = 1 if sys.stderr.isatty() else 2

    def epoch():
        sys.stdout, kept = sys.stderr, sys.stdout
        model.fit(x, y, batch_size=batch, validation_split=0.1, verbose=verbose)
        sys.stdout = kept

    return epoch

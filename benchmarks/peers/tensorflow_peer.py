"""Raw TensorFlow: the step as one `tf.function`, images channels last."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ..networks import data, images, shapes


def versions() -> dict[str, str]:
    return {"tensorflow": tf.__version__}


def _parameters(name: str):
    rng = np.random.default_rng(0)
    made = []
    for layer, given, _ in shapes(name):
        if layer.kind in ("dense", "conv"):
            shape = (given[0], layer.size) if layer.kind == "dense" else (3, 3, given[0], layer.size)
            made.append(tf.Variable((0.05 * rng.standard_normal(shape)).astype(np.float32)))
            made.append(tf.Variable(np.zeros(layer.size, np.float32)))
    return made


def _forward(name: str, parameters, x):
    rest = iter(parameters)
    for layer, _, made in shapes(name):
        if layer.kind == "dense":
            x = tf.matmul(x, next(rest)) + next(rest)
        elif layer.kind == "conv":
            x = tf.nn.bias_add(tf.nn.conv2d(x, next(rest), 1, "VALID"), next(rest))
        elif layer.kind == "pool":
            x = tf.nn.max_pool2d(x, layer.size, layer.size, "VALID")
        else:
            x = tf.nn.relu(x) if layer.kind == "relu" else tf.reshape(x, (-1, made[0]))
    return x


def _inputs(name: str, batch: int):
    x, y = data(name, batch)
    return tf.constant(x.transpose(0, 2, 3, 1) if images(name) else x), tf.constant(y)


def train(name: str, batch: int, optimizer: str, option: str):
    (x, y), parameters = _inputs(name, batch), _parameters(name)
    adam = tf.keras.optimizers.Adam(0.001) if optimizer == "adam" else None
    if adam is not None:
        adam.build(parameters)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            logits = _forward(name, parameters, x)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        gradients = tape.gradient(loss, parameters)
        if adam is not None:
            adam.apply_gradients(zip(gradients, parameters, strict=True))
        else:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.assign_sub(0.001 * gradient)
        return loss

    return lambda: step(x, y).numpy()


def infer(name: str, batch: int, option: str):
    (x, _), parameters = _inputs(name, batch), _parameters(name)
    forward = tf.function(lambda x: _forward(name, parameters, x))
    return lambda: forward(x).numpy()

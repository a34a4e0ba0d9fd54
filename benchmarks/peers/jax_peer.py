"""JAX, jit: the whole step compiled, parameters donated; images channels last, as XLA's CPU convolution wants them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..networks import data, images, shapes


def versions() -> dict[str, str]:
    return {"jax": jax.__version__}


def _parameters(name: str):
    rng = np.random.default_rng(0)
    made = []
    for layer, given, _ in shapes(name):
        if layer.kind in ("dense", "conv"):
            shape = (given[0], layer.size) if layer.kind == "dense" else (3, 3, given[0], layer.size)
            made.append((jnp.asarray(0.05 * rng.standard_normal(shape), jnp.float32), jnp.zeros(layer.size)))
    return made


def _forward(name: str, parameters, x):
    rest = iter(parameters)
    for layer, _, _ in shapes(name):
        if layer.kind == "dense":
            kernel, bias = next(rest)
            x = x @ kernel + bias
        elif layer.kind == "conv":
            kernel, bias = next(rest)
            x = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
        elif layer.kind == "pool":
            window = (1, layer.size, layer.size, 1)
            x = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
        else:
            x = jax.nn.relu(x) if layer.kind == "relu" else x.reshape(len(x), -1)
    return x


def _inputs(name: str, batch: int):
    x, y = data(name, batch)
    return jnp.asarray(x.transpose(0, 2, 3, 1) if images(name) else x), jnp.asarray(y)


def train(name: str, batch: int, optimizer: str, option: str):
    x, y = _inputs(name, batch)

    def loss(parameters, x, y):
        logits = jax.nn.log_softmax(_forward(name, parameters, x))
        return -jnp.take_along_axis(logits, y[:, None], axis=1).mean()

    def sgd(state, x, y):
        parameters, _, count = state
        value, gradients = jax.value_and_grad(loss)(parameters, x, y)
        return (jax.tree.map(lambda p, g: p - 0.001 * g, parameters, gradients), (), count), value

    def adam(state, x, y):
        parameters, (mean, square), count = state
        value, gradients = jax.value_and_grad(loss)(parameters, x, y)
        count = count + 1
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradients)
        square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, square, gradients)
        rate = 0.001 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        moved = jax.tree.map(lambda p, m, s: p - rate * m / (jnp.sqrt(s) + 1e-8), parameters, mean, square)
        return (moved, (mean, square), count), value

    first = _parameters(name)
    zeros = [jax.tree.map(jnp.zeros_like, first) for _ in range(2)]
    state = (first, tuple(zeros) if optimizer == "adam" else (), jnp.zeros(()))
    compiled = jax.jit({"sgd": sgd, "adam": adam}[optimizer], donate_argnums=0)

    def step():
        nonlocal state
        state, value = jax.block_until_ready(compiled(state, x, y))
        return value

    return step


def infer(name: str, batch: int, option: str):
    x, _ = _inputs(name, batch)
    parameters = _parameters(name)
    compiled = jax.jit(lambda parameters, x: _forward(name, parameters, x))
    return lambda: compiled(parameters, x).block_until_ready()

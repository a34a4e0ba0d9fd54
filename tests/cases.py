"""The table of layers and losses: one row each, put through the whole contract by test_contract.py."""

from __future__ import annotations

from gradwise import (
    ELU,
    GELU,
    AveragePooling2D,
    Chain,
    Conv2D,
    CrossEntropy,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Huber,
    LeakyReLU,
    LogSoftmax,
    MaxPooling2D,
    MeanAbsoluteError,
    MeanSquaredError,
    Network,
    ReLU,
    Reshape,
    Sigmoid,
    SigmoidCrossEntropy,
    SiLU,
    Softmax,
    SoftmaxCrossEntropy,
    Softplus,
    Standardize,
    Tanh,
)
from gradwise.initializers import Constant, HeNormal, Orthogonal

# (how to make it, its input shapes: tiny ones, where every coordinate is checked, and a real one)
LAYERS = [
    (lambda: Dense(4), [(5,), (1,), (400,)]),
    (lambda: Dense(3, use_bias=False, kernel_initializer=Orthogonal(2.0)), [(5,)]),
    (lambda: Dense(3, bias_initializer=Constant(0.5), trainable=False), [(2,)]),
    (lambda: Conv2D(3), [(2, 6, 5), (1, 3, 3), (8, 20, 21)]),
    (lambda: Conv2D(3, (3, 2), (2, 1), "same"), [(2, 7, 5), (1, 1, 1)]),
    (lambda: Conv2D(3, 3, stride=2, padding=1, kernel_initializer=HeNormal()), [(2, 7, 6)]),
    (lambda: Conv2D(2, 1), [(3, 4, 4)]),
    (lambda: Conv2D(2, 3, padding=3), [(2, 4, 4)]),
    (lambda: Conv2D(2, (2, 4), (3, 2), (1, 0), use_bias=False), [(2, 8, 7)]),
    (lambda: MaxPooling2D(2), [(2, 6, 4), (2, 7, 5), (6, 24, 24)]),
    (lambda: MaxPooling2D(3, 2, "same"), [(2, 6, 5)]),
    (lambda: MaxPooling2D(3, 1, 1), [(2, 4, 5)]),
    (lambda: MaxPooling2D((1, 3), (2, 1)), [(2, 5, 5)]),
    (lambda: MaxPooling2D(4, 2), [(2, 10, 8)]),
    (lambda: AveragePooling2D(2), [(2, 6, 4), (2, 7, 5)]),
    (lambda: AveragePooling2D(3, 2, 1), [(2, 6, 5), (6, 24, 24)]),
    (lambda: AveragePooling2D((2, 3), (1, 2), "same"), [(2, 5, 6)]),
    (lambda: GlobalAveragePooling2D(), [(2, 3, 4)]),
    (lambda: GlobalMaxPooling2D(), [(2, 3, 4), (1, 1, 1)]),
    # A convolution and the pooling behind it run as one: any stride, padding and pooling window, with rows left over.
    (lambda: Chain([Conv2D(3), MaxPooling2D(2)]), [(2, 6, 8), (1, 9, 7), (1, 28, 28)]),
    (lambda: Chain([Conv2D(2, (3, 2), (2, 1), (1, 0)), ReLU(), MaxPooling2D((3, 2))]), [(2, 12, 7)]),
    (lambda: Chain([Conv2D(2, 2, (1, 2), "same", use_bias=False), ReLU(), MaxPooling2D((1, 3))]), [(3, 3, 14)]),
    (lambda: Chain([Conv2D(3, (3, 5), padding=2), MaxPooling2D((2, 3))]), [(1, 5, 8)]),
    (lambda: Flatten(), [(2, 3, 4), (5,), (3, 2)]),
    (lambda: Flatten(channels_last=True), [(2, 3, 4), (5,), (3, 2)]),
    (lambda: Reshape((6, -1)), [(2, 3, 4)]),
    (lambda: Reshape((2, 2, 3)), [(12,)]),
    (lambda: Dropout(0.5), [(7,), (2, 3, 4)]),
    (lambda: Standardize((1.0, 2.0), (0.5, 3.0)), [(2,), (2, 3, 3)]),
    (lambda: Standardize(0.3, 2), [(4,), (2, 3, 3)]),
    *(
        (activation, [(5,), (2, 3, 4), (500,)])
        for activation in (ReLU, LeakyReLU, ELU, GELU, SiLU, Sigmoid, Tanh, Softplus, Softmax, LogSoftmax)
    ),
    (lambda: LeakyReLU(0.3), [(5,)]),
    (lambda: ELU(0.5), [(5,)]),
    (lambda: Chain([Conv2D(3), ReLU(), MaxPooling2D(2), Chain([Flatten(True), Dense(4), Tanh()])]), [(2, 8, 8)]),
    (
        lambda: Network([Conv2D(2, 3, 2, "same"), GELU(), Flatten(), Dropout(0.2), Dense(3)], SoftmaxCrossEntropy()),
        [(1, 6, 6)],
    ),
]

# (how to make it, its prediction shapes)
LOSSES = [
    (lambda: SoftmaxCrossEntropy(), [(4,), (2,)]),
    (lambda: SoftmaxCrossEntropy(label_smoothing=0.1), [(4,)]),
    (lambda: CrossEntropy(), [(4,)]),
    (lambda: CrossEntropy(eps=1e-3, label_smoothing=0.2), [(4,)]),
    (lambda: SigmoidCrossEntropy(), [(3,), (1,), (2, 2)]),
    (lambda: SigmoidCrossEntropy(label_smoothing=0.1), [(3,)]),
    (lambda: MeanSquaredError(), [(3,), (2, 2)]),
    (lambda: MeanAbsoluteError(), [(3,), (2, 2)]),
    (lambda: Huber(0.5), [(3,), (2, 2)]),
]


def rows(table):
    """One (make, shape) for each shape of each row, and a readable name for each."""
    pairs = [(make, shape) for make, shapes in table for shape in shapes]
    return {"argvalues": pairs, "ids": [f"{make()!r}-{'x'.join(map(str, shape))}" for make, shape in pairs]}

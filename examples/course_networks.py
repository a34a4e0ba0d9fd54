"""The assignment's six networks in the course's interface, on 10,000 MNIST images: the table of docs/course.md.

    python examples/course_networks.py [FOLDER]

FOLDER holds the four IDX files; without it they are looked for as `gradwise.datasets.mnist` says.
"""

import sys

import numpy as np

from gradwise.course import (
    Conv2DLayer,
    CrossEntropy,
    DenseLayer,
    FlattenLayer,
    Layer,
    MaxPooling,
    Network,
    ReLU,
    Softmax,
)
from gradwise.datasets import mnist


def networks() -> dict[str, tuple[int, list[Layer]]]:
    """Name -> epochs, and layers; A to C take rows of 784 numbers, D to F images."""
    six = [layer for channels in (1, 16, 16, 16, 16, 16) for layer in (Conv2DLayer(3, channels, 16), ReLU())]
    return {
        "A": (5, [DenseLayer(784, 10)]),
        "B": (5, [DenseLayer(784, 20), ReLU(), DenseLayer(20, 10)]),
        "C": (
            5,
            [DenseLayer(784, 80), ReLU(), DenseLayer(80, 40), ReLU(), DenseLayer(40, 20), ReLU(), DenseLayer(20, 10)],
        ),
        "D": (
            10,
            [
                *(MaxPooling(), Conv2DLayer(3, 1, 24), ReLU(), MaxPooling()),
                *(FlattenLayer(), DenseLayer(864, 20), DenseLayer(20, 10)),
            ],
        ),
        "E": (
            10,
            [Conv2DLayer(3, 1, 24), ReLU(), MaxPooling(), FlattenLayer(), DenseLayer(4056, 32), DenseLayer(32, 10)],
        ),
        "F": (10, [*six, MaxPooling((16, 16), 16), FlattenLayer(), DenseLayer(16, 10)]),
    }


def main(folder: str | None = None, names: str = "ABCDEF") -> None:
    """Train each, and print its row."""
    (x, y), _ = mnist(folder)
    x, y = x[:10_000], np.eye(10)[y[:10_000]]
    for name in names:
        np.random.seed(123)
        epochs, layers = networks()[name]
        net = Network([*layers, Softmax()], loss=CrossEntropy())
        history = net.fit(x.reshape(-1, 784) if name in "ABC" else x, y, batch_size=16, nb_epoch=epochs)
        accuracies = " ".join(f"{value:.3f}" for value in history["val_accuracy"])
        print(f"| {name} | {np.median(history['seconds']):.2f} | {accuracies} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""Train a small convolution network on MNIST and print its test accuracy.

    python examples/mnist_cnn.py [FOLDER]

FOLDER holds the four IDX files; without it they are looked for as `gradwise.datasets.mnist` says. On the first 10,000
training images it reaches at least 98.5 % on the 10,000 test images, in under a minute on two cores.
"""

import sys
import time

from gradwise import (
    Adam,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LearningRateSchedule,
    MaxPooling2D,
    Network,
    ReLU,
    SoftmaxCrossEntropy,
)
from gradwise.datasets import mnist


def main(folder: str | None = None) -> float:
    """Train, print, and return the test accuracy."""
    (x_train, y_train), (x_test, y_test) = mnist(folder)
    net = Network(
        [
            *(Conv2D(16, 3, padding="same"), ReLU(), MaxPooling2D(2)),
            *(Conv2D(32, 3, padding="same"), ReLU(), MaxPooling2D(2)),
            *(Flatten(), Dropout(0.4), Dense(128), ReLU(), Dropout(0.4), Dense(10)),
        ],
        loss=SoftmaxCrossEntropy(),
        input_shape=x_train.shape[1:],
        random_state=0,
    )
    net.summary()
    began = time.monotonic()
    net.fit(
        x_train[:10_000],
        y_train[:10_000],
        optimizer=Adam(2e-3),
        epochs=16,
        batch_size=64,
        callbacks=[LearningRateSchedule(lambda epoch, rate: 2e-3 * 0.85**epoch)],
    )
    accuracy = net.evaluate(x_test, y_test)["accuracy"]
    print(f"trained in {time.monotonic() - began:.0f} s, test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main(*sys.argv[1:2])

"""The course assignment's network E, with plain SGD on 7,500 MNIST images: time and validation accuracy per epoch.

    python examples/network_e.py [FOLDER]

The assignment's own program took 15 hours for its ten epochs and ended at 0.90.
"""

import sys

from gradwise import SGD, Conv2D, Dense, Flatten, HeNormal, MaxPooling2D, Network, ReLU, SoftmaxCrossEntropy
from gradwise.datasets import mnist


def main(folder: str | None = None) -> float:
    """Train, print each epoch, and return the last validation accuracy."""
    (x, y), _ = mnist(folder)
    x = (x - x[:7_500].mean()) / x[:7_500].std()
    he = HeNormal()
    net = Network(
        [
            *(Conv2D(24, 3, kernel_initializer=he), ReLU(), MaxPooling2D(2), Flatten(channels_last=True)),
            *(Dense(32, kernel_initializer=he), Dense(10, kernel_initializer=he)),
        ],
        loss=SoftmaxCrossEntropy(),
        input_shape=(1, 28, 28),
        random_state=0,
    )
    history = net.fit(
        x[:7_500],
        y[:7_500],
        optimizer=SGD(0.01),
        batch_size=16,
        epochs=10,
        validation_data=(x[7_500:10_000], y[7_500:10_000]),
        verbose=False,
        callbacks=[
            lambda training: print(
                f"epoch {training.epoch + 1}: {training.history['seconds'][-1]:.2f} s,"
                f" validation accuracy {training.history['val_accuracy'][-1]:.4f}",
                flush=True,
            )
        ],
    )
    print(f"validation accuracy {history['val_accuracy'][-1]:.4f}")
    return history["val_accuracy"][-1]


if __name__ == "__main__":
    main(*sys.argv[1:2])

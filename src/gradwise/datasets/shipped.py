"""Data that lies in the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gradwise.typing import Array

_TRAINED = 1437  # of 1,797: four fifths, each digit in its share


def digits() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The UCI handwritten digits: 1,797 images of 8 x 8.

    The images are those of Alpaydin & Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, doi:10.24432/C50P49, under CC BY 4.0; DIGITS-LICENSE.txt beside them has the credit. Their order was
    drawn once, so that the first 1,437 are a training set and the last 360 a test set with the digits in equal shares.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        float32 images (1437, 1, 8, 8) and (360, 1, 8, 8) from 0 to 1; integer labels 0 to 9.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        x = file["images"][:, None] / np.float32(16)  # (N, 1, 8, 8): gray levels from 0 to 16
        y = file["labels"].astype(np.int64)
    return (x[:_TRAINED], y[:_TRAINED]), (x[_TRAINED:], y[_TRAINED:])

"""Data to try networks on: `digits()` is shipped with the package, `mnist()` is read from files or downloaded.

Both return (x_train, y_train), (x_test, y_test): float32 images (N, 1, H, W) from 0 to 1, and integer labels (N,).
"""

from gradwise.datasets.downloaded import mnist
from gradwise.datasets.shipped import digits

__all__ = ["digits", "mnist"]

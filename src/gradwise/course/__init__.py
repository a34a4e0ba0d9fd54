"""The course's interface: the classes, names and shapes of the assignment gradwise began as, on the library's layers.

Images are (N, C, H, W), labels one-hot rows (N, classes). A Jacobian is that of each sample's flattened output by its
flattened input, (N, out, in), or by a flattened parameter, (N, out, size). Inputs of float64 or integers are computed
with in float64. Parameters given as `W_init`, `K_init`, ... are copied and keep their dtype; drawn ones come from
NumPy's global state, are float64, and become float32 when `Network.fit` first trains them.
"""

from gradwise.course.layers import (
    Conv2DLayer,
    DenseLayer,
    FlattenLayer,
    Layer,
    MaxPooling,
    ReLU,
    Softmax,
)
from gradwise.course.training import CrossEntropy, Network

__all__ = [
    "Conv2DLayer",
    "CrossEntropy",
    "DenseLayer",
    "FlattenLayer",
    "Layer",
    "MaxPooling",
    "Network",
    "ReLU",
    "Softmax",
]

"""The order in which a chain's layers run, which need not be the one they stand in."""

from __future__ import annotations

from collections.abc import Sequence

from gradwise.layers.activations import ReLU
from gradwise.layers.base import Layer
from gradwise.layers.convolution import Conv2D
from gradwise.layers.pooled import PooledConvolution
from gradwise.layers.pooling import MaxPooling2D
from gradwise.layers.reshaping import Flatten

# With the index of each layer; of several that run as one, that of the first.
Plan = list[tuple[int, Layer | PooledConvolution]]


def arranged(layers: Sequence[Layer]) -> Plan:
    """The layers in the order they run.

    A max pooling runs before the ReLU in front of it: the two commute, in values and in gradients, and pooling first
    leaves the ReLU a quarter of the work. With a convolution before it, the three run as one.
    """
    plan: Plan = list(enumerate(layers))
    for index in range(len(plan) - 1):
        if type(layers[index]) is ReLU and type(layers[index + 1]) is MaxPooling2D:
            plan[index], plan[index + 1] = plan[index + 1], plan[index]
    for place in range(len(plan) - 2, -1, -1):
        (index, first), (_, second) = plan[place : place + 2]
        if type(first) is Conv2D and type(second) is MaxPooling2D:
            behind = [type(layer) for _, layer in plan[place + 2 : place + 4]]
            relu = behind[:1] == [ReLU]
            flat = behind[relu : relu + 1] == [Flatten]
            plan[place : place + 2 + relu] = [(index, PooledConvolution(first, second, relu, flat))]
    return plan

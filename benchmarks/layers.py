"""Layers by themselves, in sizes that are large for gradwise: where another way is wanted, it shows here."""

from __future__ import annotations

from typing import NamedTuple


class Alone(NamedTuple):
    """A layer, and the shape (N, ...) of what it is given. Convolutions and poolings are square."""

    kind: str
    shape: tuple[int, ...]
    size: int = 0  # of a window
    filters: int = 0  # or units
    stride: int = 1
    padding: int = 0


_IMAGES = {"28": (32, 16, 28, 28), "56": (8, 32, 56, 56), "12": (64, 64, 12, 12)}
_FIRST = {"color": (32, 3, 32, 32), "large color": (2, 3, 224, 224), "gray": (64, 1, 28, 28)}


def _made() -> dict[str, Alone]:
    layers = {}
    for name, shape in _IMAGES.items():
        channels = shape[1]
        for size in (1, 3, 5):
            layers[f"conv {size} on {name}"] = Alone("conv", shape, size, channels, padding=size // 2)
        layers[f"conv 3 by 2 on {name}"] = Alone("conv", shape, 3, 2 * channels, stride=2, padding=1)
        for kind in ("max", "average"):
            for size, stride in ((2, 2), (4, 4), (3, 2)):
                layers[f"{kind} {size} by {stride} on {name}"] = Alone(kind, shape, size, stride=stride)
        layers[f"max 3 by 1 on {name}"] = Alone("max", shape, 3, padding=1)
        for kind in ("relu", "sigmoid", "tanh", "gelu"):
            layers[f"{kind} on {name}"] = Alone(kind, shape)
    for name, shape in _FIRST.items():
        layers[f"first conv 3 on {name}"] = Alone("conv", shape, 3, 32, padding=1)
        layers[f"first conv 7 by 2 on {name}"] = Alone("conv", shape, 7, 64, stride=2, padding=3)
    for samples, given, units in ((16, 784, 256), (128, 784, 256), (512, 256, 128), (64, 2048, 512)):
        layers[f"dense {given} to {units}, {samples}"] = Alone("dense", (samples, given), filters=units)
    return layers


LAYERS = _made()
PASSES = ("both", "forward")  # there and back, with the gradients of all parameters and of the input; or inference

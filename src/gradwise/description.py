"""A network, a loss or an optimiser as JSON, and made of it again: classes by name, with what made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gradwise import initializers, layers, losses, optimizers
from gradwise.config import arguments
from gradwise.errors import ArgumentError, LoadError
from gradwise.layers.base import Layer
from gradwise.layers.containers import Chain
from gradwise.optimizers import Optimizer


def encode(value: Any, seen: dict[int, int]) -> Any:
    """A constructor's argument as JSON; a layer that was written before, as its number."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, tuple):
        return {"tuple": [encode(item, seen) for item in value]}
    if isinstance(value, list):
        return [encode(item, seen) for item in value]
    if isinstance(value, (np.dtype, type)):
        return {"dtype": np.dtype(value).name}
    if isinstance(value, np.random.Generator):
        return None
    if isinstance(value, (Layer, losses.Loss, initializers.Initializer, Optimizer)):
        if id(value) in seen:
            return {"again": seen[id(value)]}
        made = {name: encode(argument, seen) for name, argument in arguments(value).items()}
        encoded: dict[str, Any] = {"class": type(value).__name__, "arguments": made}
        if isinstance(value, Layer):
            seen[id(value)] = len(seen)
            if not value.trainable:
                encoded["trainable"] = False
        return encoded
    raise ArgumentError(
        f"cannot save the argument {value!r}: a layer's arguments are numbers, strings, tuples, lists, layers and"
        " initialisers."
    )


def decode(value: Any, classes: Mapping[str, type], seen: dict[int, Any]) -> Any:
    """What `encode` wrote, made again."""
    if isinstance(value, list):
        return [decode(item, classes, seen) for item in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(decode(item, classes, seen) for item in value["tuple"])
    if "dtype" in value:
        return np.dtype(value["dtype"]).type
    if "again" in value:
        return seen[value["again"]]
    name = value["class"]
    if name not in classes:
        raise LoadError(
            f"unknown layer {name!r}. If it is one of your own: gradwise.load(path, custom_layers=[{name}])."
        )
    made = {key: decode(argument, classes, seen) for key, argument in value["arguments"].items()}
    cls = classes[name]
    if issubclass(cls, Chain) and "input_shape" in made:
        made["input_shape"] = None  # built once it is known that its arrays are there
    instance = cls(**made)
    if isinstance(instance, Layer):
        seen[len(seen)] = instance
        if value.get("trainable") is False:
            instance.trainable = False
    return instance


def known_classes(network_class: type[Chain], custom: Iterable[type]) -> dict[str, type]:
    """Every class that a description may name."""
    parts = (layers, losses, initializers, optimizers)
    known = {name: getattr(part, name) for part in parts for name in part.__all__}
    known[network_class.__name__] = network_class
    for cls in custom:
        if not isinstance(cls, type):
            raise ArgumentError(f"custom_layers is a list of classes, but has {cls!r}.")
        known[cls.__name__] = cls
    return known

"""Networks by name, and networks written down in a JSON file: what the command line trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gradwise import initializers, layers
from gradwise.errors import ArgumentError, LoadError
from gradwise.layers import Conv2D, Dense, Dropout, Flatten, Layer, MaxPooling2D, ReLU
from gradwise.typing import Shape


def named(model: str, input_shape: Shape, classes: int) -> list[Layer]:
    """The layers of "mlp", "cnn" or of a JSON file, for samples of `input_shape` and logits for `classes`.

    Raises
    ------
    ArgumentError, LoadError
    """
    if model == "mlp":
        return [Flatten(), Dense(128), ReLU(), Dropout(0.2), Dense(64), ReLU(), Dense(classes)]
    if model == "cnn":
        return cnn(input_shape, classes)
    if model.endswith(".json"):
        return described(Path(model))
    raise ArgumentError(f"--model is mlp, cnn or a .json file, but got {model!r}.")


def cnn(input_shape: Shape, classes: int) -> list[Layer]:
    """Two convolutions, each pooled where the image is large enough, and two dense layers; wider on small images."""
    if len(input_shape) != 3:
        raise ArgumentError(f"--model cnn takes images, but a sample here has {input_shape[0]} features: use mlp.")
    made: list[Layer] = []
    side = min(input_shape[1:])
    width = 16 if side >= 16 else 32
    for filters in (width, 2 * width):
        made += [Conv2D(filters, 3, padding="same"), ReLU()]
        if side >= 16 or (filters > width and side >= 2):
            made.append(MaxPooling2D(2))
            side //= 2
    return [*made, Dropout(0.3), Flatten(), Dense(128), ReLU(), Dropout(0.3), Dense(classes)]


def described(path: Path) -> list[Layer]:
    """The layers that a JSON file lists: "ReLU", or {"layer": "Dense", "units": 32}; arguments by their names.

    Raises
    ------
    LoadError
        The file is missing, is no JSON list, or names what does not exist; saying which entry.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise LoadError(f'{path} holds a list of layers, such as ["Flatten", {{"layer": "Dense", "units": 10}}].')
    return [_made(entry, f"{path}, layer {index}") for index, entry in enumerate(entries)]


def _made(entry: Any, place: str) -> Any:
    """A layer or initialiser from its entry; anything else as it is."""
    if isinstance(entry, str):
        entry = {"layer": entry}
    kind = next((kind for kind in ("layer", "initializer") if isinstance(entry, dict) and kind in entry), None)
    if kind is None:
        raise LoadError(f'{place}: a layer is "ReLU" or {{"layer": "Dense", "units": 32}}, but this is {entry!r}.')
    part: Any = layers if kind == "layer" else initializers
    name = entry[kind]
    if name not in part.__all__ or name in ("Layer", "Initializer"):
        raise LoadError(f"{place}: there is no {kind} {name!r}; there are {', '.join(sorted(part.__all__))}.")
    arguments = {key: _value(value, place) for key, value in entry.items() if key != kind}
    try:
        return getattr(part, name)(**arguments)
    except (TypeError, ValueError) as error:
        raise LoadError(f"{place}: {error}") from None


def _value(value: Any, place: str) -> Any:
    """An argument: lists are tuples, or layers where they hold any; initialisers are made."""
    if isinstance(value, dict):
        return _made(value, place)
    if isinstance(value, list):
        if any(isinstance(item, (dict, str)) for item in value):
            return [_made(item, place) for item in value]
        return tuple(value)
    return value

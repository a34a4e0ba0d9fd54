"""Pictures of data, training and networks, by matplotlib (the extra `plot`).

Each function draws into the `ax` it is given, or into a new figure's, and returns it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwise import metrics
from gradwise.errors import ArgumentError, DataError, MissingExtraError, ShapeError
from gradwise.layers import Conv2D, Layer
from gradwise.network import Network
from gradwise.typing import Array
from gradwise.writing import replacing

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
_MOST = 16  # tiles of a mosaic in one direction


def available() -> None:
    """Raise MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib.pyplot  # noqa: F401
    except ImportError:
        raise MissingExtraError("gradwise.plot", "matplotlib", "plot") from None


def _axes(ax: Any, size: tuple[float, float]) -> Any:
    """The axes given, or those of a new figure of `size` inches."""
    available()
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def history(history: Mapping[str, Sequence[float]], ax: Any = None) -> Any:
    """The course of training: losses on the left axis, accuracies on the right; validation dashed.

    Parameters
    ----------
    history : History
        What `Network.fit` returned, or any mapping name -> one number per epoch.
    ax : matplotlib Axes, optional

    Raises
    ------
    DataError
        No epoch was finished.
    """
    names = [name for name in history if name != "seconds"]
    if not names or not len(history[names[0]]):
        raise DataError("this history has no finished epoch to draw.")
    ax = _axes(ax, (6.4, 4.0))
    right = None
    kinds = list(dict.fromkeys(name.removeprefix("val_") for name in names))
    lines = []
    for name in names:
        kind = name.removeprefix("val_")
        if "accuracy" in kind and right is None and any("accuracy" not in other for other in kinds):
            right = ax.twinx()
            right.set_ylabel("accuracy")
        target = right if "accuracy" in kind and right is not None else ax
        values = history[name]
        lines += target.plot(
            range(1, len(values) + 1),
            values,
            color=_COLOURS[kinds.index(kind) % len(_COLOURS)],
            linestyle="--" if name != kind else "-",
            marker="o" if len(values) == 1 else "",
            label=name.replace("val_", "validation ").replace("_", " "),
        )
    ax.set_xlabel("epoch")
    ax.set_ylabel("accuracy" if all("accuracy" in kind for kind in kinds) else "loss")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(handles=lines, loc="center right")
    return ax


def confusion_matrix(
    prediction: npt.ArrayLike, target: npt.ArrayLike, labels: Sequence[str] | None = None, ax: Any = None
) -> Any:
    """How often each class was taken for each: rows the true classes, columns the predicted ones.

    Parameters
    ----------
    prediction, target : array_like
        Labels (N,), or rows (N, classes).
    labels : sequence of str, optional
        The classes' names.
    ax : matplotlib Axes, optional

    Raises
    ------
    DataError
        Nothing to compare, or predictions and targets of different length.
    ArgumentError
        Not one name for each class.
    """
    taken, true = np.asarray(prediction), np.asarray(target)
    if not len(taken) or len(taken) != len(true):
        raise DataError(f"{len(taken)} predictions and {len(true)} targets: they go together one by one.")
    width = max(array.shape[1] if array.ndim == 2 else 0 for array in (taken, true))
    counts = metrics.confusion_matrix(taken, true, width or None)
    names = [str(k) for k in range(len(counts))] if labels is None else list(labels)
    if len(names) < len(counts):
        raise ArgumentError(f"labels has {len(names)} names, but there are {len(counts)} classes.")
    counts = np.pad(counts, (0, len(names) - len(counts)))
    side = 2 + 0.45 * len(names)
    ax = _axes(ax, (side + 0.5, side))
    ax.imshow(counts, cmap="Blues")
    half = counts.max() / 2
    for (row, column), count in np.ndenumerate(counts):
        if count:
            ax.text(column, row, str(count), ha="center", va="center", color="white" if count > half else "black")
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 3 else {}
    ax.set_xticks(range(len(names)), names, **slanted)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.set_title(f"{counts.trace()} of {counts.sum()} right")
    return ax


def filters(network: Layer, ax: Any = None) -> Any:
    """The kernels of the first convolution: a row a filter, a column an input channel; one channel's in a square.

    Each filter has its own scale, with 0 in the middle: red adds, blue takes away.

    Parameters
    ----------
    network : Layer
        A built Conv2D, or a chain or network that has one.
    ax : matplotlib Axes, optional

    Raises
    ------
    ArgumentError
        It has no Conv2D.
    """
    layer = _first_convolution(network)
    if layer is None:
        raise ArgumentError(f"filters draws the kernels of a Conv2D, but {network!r} has none.")
    kernel = layer.kernel.transpose(3, 2, 0, 1)  # (O, C, kh, kw)
    total, channels = kernel.shape[:2]
    tiles = kernel / np.maximum(np.abs(kernel).max(axis=(1, 2, 3), keepdims=True), 1e-30)
    if channels == 1:
        tiles = tiles[: _MOST * _MOST, 0]
        columns = math.ceil(math.sqrt(len(tiles)))
    else:
        columns = min(channels, _MOST)
        tiles = tiles[:_MOST, :columns].reshape(-1, *kernel.shape[2:])
    rows = -(-len(tiles) // columns)
    ax = _axes(ax, (1 + 0.5 * columns, 1.2 + 0.5 * rows))
    ax.imshow(_mosaic(tiles, columns, np.nan), cmap="RdBu_r", vmin=-1, vmax=1)
    shown = f"{len(tiles)} of {total * channels}" if len(tiles) < total * channels else str(len(tiles))
    ax.set_title(f"{shown} kernels of {kernel.shape[2]} x {kernel.shape[3]}")
    ax.set_axis_off()
    return ax


def predictions(
    x: npt.ArrayLike, target: npt.ArrayLike, prediction: npt.ArrayLike, count: int = 16, ax: Any = None
) -> Any:
    """Images with their true and predicted class below; red where they differ.

    Parameters
    ----------
    x : array_like
        Images (N, H, W), (N, 1, H, W) or (N, 3, H, W).
    target, prediction : array_like
        Labels (N,), or rows (N, classes).
    count : int
        How many are drawn, from the first.
    ax : matplotlib Axes, optional

    Raises
    ------
    ShapeError
        x has no images.
    DataError
        Nothing to draw, or x, targets and predictions of different length.
    """
    images = _pictures(np.asarray(x))
    true, taken = metrics.labels(np.asarray(target)), metrics.labels(np.asarray(prediction))
    if not len(images) == len(true) == len(taken) or not len(images):
        raise DataError(
            f"{len(images)} images, {len(true)} targets and {len(taken)} predictions: they go together one by one."
        )
    if count < 1:
        raise ArgumentError(f"count is a whole number of 1 or more, but got {count!r}.")
    images = images[:count]
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    high, wide = images.shape[1:3]
    label = 0.35 * high  # the room below an image for its words
    ax = _axes(ax, (1.3 * columns, 1.3 * rows * (high + label) / wide))
    for index, image in enumerate(images):
        left, top = index % columns * 1.15 * wide, index // columns * (high + label)
        ax.imshow(image, cmap="gray", vmin=images.min(), vmax=images.max(), extent=(left, left + wide, top + high, top))
        right = true[index] == taken[index]
        ax.text(
            left + wide / 2,
            top + high + label / 2,
            f"{true[index]}" if right else f"{true[index]}, taken for {taken[index]}",
            ha="center",
            va="center",
            fontsize=8,
            color="dimgray" if right else "red",
        )
    ax.set_xlim(-0.05 * wide, columns * 1.15 * wide - 0.1 * wide)
    ax.set_ylim(rows * (high + label), -0.05 * high)
    ax.set_axis_off()
    return ax


def saliency(network: Network, x: npt.ArrayLike, y: npt.ArrayLike, ax: Any = None) -> Any:
    """How strongly the loss of one image depends on each of its pixels: |dL/dx| in red over the image in gray.

    Parameters
    ----------
    network : Network
        Built, with its loss.
    x : array_like
        One image, (C, H, W) or (1, C, H, W); the largest derivative over its channels is drawn.
    y : array_like
        Its target: a label, or a row.
    ax : matplotlib Axes, optional

    Raises
    ------
    ShapeError
        x is not one image.
    """
    image = np.asarray(x)
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or len(image) != 1:
        raise ShapeError("saliency", f"takes one image, (C, H, W), but got shape {np.shape(x)}.")
    target = np.asarray(y)
    row = network.output_shape if network.loss is not None and network.loss.task != "classes" else None
    target = target[None] if target.ndim == 0 or target.shape in (row, (network.output_shape or ())) else target
    strength = np.abs(network.input_gradient(image, target)).max(axis=1)[0]  # (H, W)
    ax = _axes(ax, (4.4, 3.6))
    ax.imshow(_pictures(image).mean(axis=-1)[0] if image.shape[1] == 3 else image[0].mean(axis=0), cmap="gray")
    shown = ax.imshow(strength, cmap="Reds", vmin=0, alpha=0.9 * strength / max(strength.max(), 1e-30))
    ax.figure.colorbar(shown, ax=ax, label="|dL/dx|")
    if network.loss is not None and network.loss.task == "classes":
        predicted = network.predict(image).argmax()
        ax.set_title(f"true {metrics.labels(target)[0]}, predicted {predicted}")
    ax.set_axis_off()
    return ax


def save_all(folder: Path, network: Network, run: Mapping[str, Sequence[float]], x: Array, y: Array) -> None:
    """Every picture that fits a trained network over classes and its test data, as PNG files in a folder."""
    available()
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    logits = network.predict(x)
    wrong_first = np.argsort(logits.argmax(axis=1) == y, kind="stable")
    drawn: dict[str, Any] = {"confusion_matrix": lambda ax: confusion_matrix(logits, y, network.classes, ax=ax)}
    if len(run):
        drawn["history"] = lambda ax: history(run, ax=ax)
    if x.ndim == 4 and x.shape[1] in (1, 3):
        drawn["predictions"] = lambda ax: predictions(x[wrong_first], y[wrong_first], logits[wrong_first], ax=ax)
        drawn["saliency"] = lambda ax: saliency(network, x[0], y[0], ax=ax)
    if _first_convolution(network) is not None:
        drawn["filters"] = lambda ax: filters(network, ax=ax)
    for name, draw in drawn.items():
        figure = Figure(figsize=(7, 6), layout="constrained")
        draw(figure.add_subplot())
        with replacing(folder / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=110)


def _first_convolution(layer: Layer) -> Conv2D | None:
    if isinstance(layer, Conv2D):
        return layer
    found = (_first_convolution(child) for child in layer.children().values())
    return next((one for one in found if one is not None), None)


def _pictures(x: Array) -> Array:
    """Images as matplotlib takes them: (N, H, W), or (N, H, W, 3) from 0 to 1."""
    if x.ndim == 4 and x.shape[1] == 3:
        low, high = x.min(initial=0), x.max(initial=1)
        return (np.moveaxis(x, 1, -1) - low) / (high - low)
    if x.ndim == 4 and x.shape[1] == 1:
        return x[:, 0]
    if x.ndim != 3:
        raise ShapeError("x", f"holds images (N, H, W), (N, 1, H, W) or (N, 3, H, W), but has shape {x.shape}.")
    return x


def _mosaic(tiles: Array, columns: int, gap: float) -> Array:
    """Tiles (n, h, w) side by side, with a line of `gap` between them."""
    n, high, wide = tiles.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (high + 1) - 1, columns * (wide + 1) - 1), gap)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (high + 1), index % columns * (wide + 1)
        canvas[top : top + high, left : left + wide] = tile
    return canvas

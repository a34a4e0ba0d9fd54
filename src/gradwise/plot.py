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
from gradwise.layers.base import positive
from gradwise.network import Network
from gradwise.typing import Array
from gradwise.writing import replacing

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
_MOST = 16  # tiles of a mosaic in one direction
_PIXEL = 5  # a mosaic's gaps are one in this many of a weight's side: thin


def available() -> None:
    """Raise MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
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

    Returns
    -------
    matplotlib Axes
        Where the losses are; the accuracies' axes are its twin.

    Raises
    ------
    DataError
        No epoch was finished.
    """
    if not isinstance(history, Mapping):
        raise DataError(
            "history is what Network.fit returned, or a mapping name -> one number per epoch,"
            f" but got {type(history).__name__}."
        )
    courses = {name: np.asarray(values, float) for name, values in history.items() if name != "seconds"}
    if misshapen := next((name for name, values in courses.items() if values.ndim != 1), None):
        raise DataError(f"history has one number per epoch under each name, but {misshapen!r} is no list of numbers.")
    courses = {name: values for name, values in courses.items() if len(values)}
    if not courses:
        raise DataError("this history has no finished epoch to draw: train for one epoch or more, then draw it.")
    ax = _axes(ax, (6.4, 4.0))
    from matplotlib.ticker import MaxNLocator

    kinds = list(dict.fromkeys(name.removeprefix("val_") for name in courses))
    accuracies = [kind for kind in kinds if "accuracy" in kind]
    right = ax.twinx() if 0 < len(accuracies) < len(kinds) else ax
    epochs = max(map(len, courses.values()))
    lines = []
    for name, values in courses.items():
        kind = name.removeprefix("val_")
        validation = name != kind
        lines += (right if kind in accuracies else ax).plot(
            range(1, len(values) + 1),
            values,
            color=_COLOURS[kinds.index(kind) % len(_COLOURS)],
            linestyle="--" if validation else "-",
            marker="o" if len(values) == 1 else "",
            fillstyle="none" if validation else "full",
            label=name.replace("val_", "validation ").replace("_", " "),
        )
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss" if len(accuracies) < len(kinds) else "accuracy")
    if right is not ax:
        right.set_ylabel("accuracy")
    if epochs == 1:
        ax.set_xlim(0.5, 1.5)
        ax.set_xticks([1])
        right.margins(y=0.3)  # or points of the two scales would fall on each other
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.legend(handles=lines, loc="center right")  # of the upper axes: no line runs across it
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
        The classes' names. Where prediction and target are labels, there may be names of classes that do not occur.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        The one drawn in.

    Raises
    ------
    DataError
        Nothing to compare, predictions and targets of different length, or labels that are none.
    ShapeError
        They are neither labels nor rows.
    ArgumentError
        Not one name for each class.
    """
    taken, true = np.asarray(prediction), np.asarray(target)
    rows = [array.shape[1] for array in (taken, true) if array.ndim == 2]
    taken, true = _labels(taken, "prediction"), _labels(true, "target")
    if not len(taken) or len(taken) != len(true):
        raise DataError(
            f"{len(taken)} predictions and {len(true)} targets: give as many of one as of the other, and at least one."
        )
    classes = max([*rows, 1 + max(taken.max(), true.max())])
    if rows and classes != min(rows):
        raise DataError(
            f"prediction and target are of {min(rows)} and of {classes} classes: give labels and rows of the same ones."
        )
    names = [str(k) for k in (range(classes) if labels is None else labels)]
    if len(names) < classes or (rows and len(names) > classes):
        raise ArgumentError(f"labels has {len(names)} names, but there are {classes} classes: give each its name.")
    counts = metrics.confusion_matrix(taken, true, len(names))
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

    Each filter has its own scale, with 0 in the middle: red adds, blue takes away. No more than 16 rows and 16 columns
    are drawn; the title says of how many.

    Parameters
    ----------
    network : Layer
        A built Conv2D, or a chain or network that has one.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        The one drawn in.

    Raises
    ------
    ArgumentError
        It has no Conv2D.
    """
    layer = _first_convolution(network) if isinstance(network, Layer) else None
    if layer is None:
        raise ArgumentError(
            f"filters draws the kernels of a Conv2D layer, but {network!r} has none: give a network that has one."
        )
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
    import matplotlib

    colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="darkgrey")  # a weight of 0 is white, a gap is not
    ax.imshow(_mosaic(tiles, columns), cmap=colours, vmin=-1, vmax=1)
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

    Returns
    -------
    matplotlib Axes
        The one drawn in.

    Raises
    ------
    ShapeError
        x has no images, or target or prediction neither labels nor rows.
    DataError
        Nothing to draw, x, targets and predictions of different length, or labels that are none.
    ArgumentError
        count is not a whole number of 1 or more.
    """
    positive(count, "predictions: count")
    images = _pictures(np.asarray(x))
    true, taken = _labels(np.asarray(target), "target"), _labels(np.asarray(prediction), "prediction")
    if not len(images) == len(true) == len(taken) or not images.size:
        raise DataError(
            f"{len(images)} images, {len(true)} targets and {len(taken)} predictions:"
            " give as many of each, and at least one."
        )
    images = images[:count]
    words = [f"true {true[k]}, predicted {taken[k]}" for k in range(len(images))]
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    high, wide = images.shape[1:3]
    label = 0.35 * high  # the room below an image for its words
    ax = _axes(ax, (1.4 * columns, 1.4 / 1.15 * rows * (high + label) / wide))
    box = ax.get_window_extent()  # in pixels
    pixels = min(box.width / columns, box.height / rows * 1.15 * wide / (high + label))  # for an image and its gap
    points = 72 * pixels / ax.figure.dpi
    longest = max(map(len, words))
    if points / longest < 0.55 * 7:  # too little for a line of 7 points: break it in two
        words = [line.replace(", ", ",\n") for line in words]
        longest = max(len(part) for line in words for part in line.split("\n"))
    room = points / 1.15 * label / wide / (1 + words[0].count("\n"))  # the height of a line
    size = min(9.0, points / (0.55 * longest), room / 1.3)  # a letter is 0.55 of its size wide, a line 1.3 high
    for index, image in enumerate(images):
        left, top = index % columns * 1.15 * wide, index // columns * (high + label)
        ax.imshow(image, cmap="gray", vmin=images.min(), vmax=images.max(), extent=(left, left + wide, top + high, top))
        ax.text(
            left + wide / 2,
            top + high + label / 2,
            words[index],
            ha="center",
            va="center",
            fontsize=size,
            color="dimgray" if true[index] == taken[index] else "red",
        )
    ax.set_xlim(-0.05 * wide, columns * 1.15 * wide - 0.1 * wide)
    ax.set_ylim(rows * (high + label), -0.05 * high)
    ax.set_axis_off()
    return ax


def saliency(network: Network, x: npt.ArrayLike, y: npt.ArrayLike, ax: Any = None) -> Any:
    """How strongly the loss of one image depends on each of its pixels: |dL/dx| in red over the image in grey.

    Parameters
    ----------
    network : Network
        Built, with its loss.
    x : array_like
        One image, (C, H, W) or (1, C, H, W); the largest derivative over its channels is drawn.
    y : array_like
        Its target: a label, or a row.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        The one drawn in; its colour bar stands beside it.

    Raises
    ------
    ShapeError
        x is not one image, or not of the network's shape.
    DataError
        y is not one target of the network's loss.
    ArgumentError
        network is no Network, or has no loss.
    """
    if not isinstance(network, Network):
        raise ArgumentError(
            f"saliency explains a Network with its loss, but got {network!r}: make one by Network([...], loss=...)."
        )
    image = np.asarray(x)
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or len(image) != 1:
        hint = " Draw one of them: x[0], y[0]." if image.ndim == 4 else ""
        raise ShapeError("saliency", f"takes one image, (C, H, W) or (1, C, H, W), but got shape {np.shape(x)}.{hint}")
    target = np.asarray(y)
    target = target[None] if target.shape in ((), network.output_shape) else target
    strength = np.abs(network.input_gradient(image, target)).max(axis=1)[0]  # (H, W)
    ax = _axes(ax, (4.4, 3.6))
    from matplotlib.colors import LinearSegmentedColormap

    red = LinearSegmentedColormap.from_list("transparent to red", [(1, 0, 0, 0), (1, 0, 0, 0.9)])
    ax.imshow(image[0].mean(axis=0), cmap="gray")
    shown = ax.imshow(strength, cmap=red, vmin=0)
    ax.figure.colorbar(shown, ax=ax, label="|dL/dx|")
    if network.loss is not None and network.loss.task == "classes":  # values have no class to name
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


def _labels(values: Array, what: str) -> Array:
    """Class labels (N,) of labels or of rows (N, classes), checked."""
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] < 2):
        hint = f" Labels are {what}[:, 0]." if values.ndim == 2 and values.dtype.kind in "biu" else ""
        raise ShapeError(what, f"holds labels (N,) or rows (N, classes), but has shape {values.shape}.{hint}")
    if values.ndim == 2:
        if values.dtype.kind not in "biuf" or np.isnan(values).any():
            raise DataError(f"{what} holds rows of numbers, but some are NaN or no numbers at all.")
    elif values.size and (values.dtype.kind not in "biu" or values.min() < 0):
        came = f"a smallest one of {values.min()}" if values.dtype.kind == "i" else f"an array of {values.dtype}"
        mend = (
            f"Whole numbers become labels by {what}.astype(int)." if values.dtype.kind == "f" else "Number the classes."
        )
        raise DataError(f"{what} holds labels, whole numbers from 0, but got {came}. {mend}")
    return metrics.labels(values).astype(np.intp)


def _pictures(x: Array) -> Array:
    """Images as matplotlib takes them: (N, H, W), or (N, H, W, 3) from 0 to 1."""
    if x.ndim == 4 and x.shape[1] == 3:
        x = np.asarray(x, float)
        low, high = x.min(initial=0), x.max(initial=1)
        return (np.moveaxis(x, 1, -1) - low) / (high - low)
    if x.ndim == 4 and x.shape[1] == 1:
        return x[:, 0]
    if x.ndim != 3:
        raise ShapeError("x", f"holds images (N, H, W), (N, 1, H, W) or (N, 3, H, W), but has shape {x.shape}.")
    return x


def _mosaic(tiles: Array, columns: int) -> Array:
    """Tiles (n, h, w) side by side, each number as `_PIXEL` x `_PIXEL` pixels, with lines of NaN around them."""
    tiles = tiles.repeat(_PIXEL, axis=1).repeat(_PIXEL, axis=2)
    n, high, wide = tiles.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (high + 1) + 1, columns * (wide + 1) + 1), np.nan)
    for index, tile in enumerate(tiles):
        top, left = 1 + index // columns * (high + 1), 1 + index % columns * (wide + 1)
        canvas[top : top + high, left : left + wide] = tile
    return canvas

"""Pictures of networks and images: filters, predictions, saliency."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwise import metrics
from gradwise.errors import ArgumentError, DataError, ShapeError
from gradwise.layers import Conv2D, Layer
from gradwise.layers.base import positive
from gradwise.network import Network
from gradwise.plot.axes import axes, class_labels
from gradwise.typing import Array

_MOST = 16  # tiles of a mosaic in one direction
_PIXEL = 5  # a mosaic's gaps are one in this many of a weight's side: thin


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
    layer = first_convolution(network) if isinstance(network, Layer) else None
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
    ax = axes(ax, (1 + 0.5 * columns, 1.2 + 0.5 * rows))
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
    true, taken = class_labels(np.asarray(target), "target"), class_labels(np.asarray(prediction), "prediction")
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
    ax = axes(ax, (1.4 * columns, 1.4 / 1.15 * rows * (high + label) / wide))
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
    ax = axes(ax, (4.4, 3.6))
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


def first_convolution(layer: Layer) -> Conv2D | None:
    if isinstance(layer, Conv2D):
        return layer
    found = (first_convolution(child) for child in layer.children().values())
    return next((one for one in found if one is not None), None)


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

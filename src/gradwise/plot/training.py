"""Pictures of training and of its results: histories, confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwise import metrics
from gradwise.errors import ArgumentError, DataError
from gradwise.plot.axes import axes, class_labels

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")


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
    ax = axes(ax, (6.4, 4.0))
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
    taken, true = class_labels(taken, "prediction"), class_labels(true, "target")
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
    ax = axes(ax, (side + 0.5, side))
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

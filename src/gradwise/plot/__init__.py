"""Pictures of data, training and networks, by matplotlib (the extra `plot`).

Each function draws into the `ax` it is given, or into a new figure's, and returns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradwise.network import Network
from gradwise.plot.axes import available
from gradwise.plot.images import filters, first_convolution, predictions, saliency
from gradwise.plot.training import confusion_matrix, history
from gradwise.typing import Array
from gradwise.writing import replacing

__all__ = ["available", "confusion_matrix", "filters", "history", "predictions", "saliency", "save_all"]


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
    if first_convolution(network) is not None:
        drawn["filters"] = lambda ax: filters(network, ax=ax)
    for name, draw in drawn.items():
        figure = Figure(figsize=(7, 6), layout="constrained")
        draw(figure.add_subplot())
        with replacing(folder / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=110)

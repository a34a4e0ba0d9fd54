"""Where pictures are drawn, and what all of them are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradwise import metrics
from gradwise.errors import DataError, MissingExtraError, ShapeError
from gradwise.typing import Array


def available() -> None:
    """Raise MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError("gradwise.plot", "matplotlib", "plot") from None


def axes(ax: Any, size: tuple[float, float]) -> Any:
    """The axes given, or those of a new figure of `size` inches."""
    available()
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def class_labels(values: Array, what: str) -> Array:
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

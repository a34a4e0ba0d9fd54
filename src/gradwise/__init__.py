"""gradwise builds, trains, runs and explains neural networks with NumPy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradwise import initializers, layers, losses, metrics, optimizers
from gradwise.initializers import *  # noqa: F403
from gradwise.jacobian import jacobian, parameter_jacobians
from gradwise.layers import *  # noqa: F403
from gradwise.layers.formulas import Formulas
from gradwise.loading import load
from gradwise.losses import *  # noqa: F403
from gradwise.network import Network
from gradwise.optimizers import *  # noqa: F403
from gradwise.training.callbacks import Callback, Checkpoint, EarlyStopping, LearningRateSchedule
from gradwise.training.parallel import Workers
from gradwise.typing import Pullback

if TYPE_CHECKING:
    from gradwise import datasets

__version__ = "0.1.0"

__all__ = [
    *initializers.__all__,
    *layers.__all__,
    *losses.__all__,
    *optimizers.__all__,
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Formulas",
    "LearningRateSchedule",
    "Network",
    "Pullback",
    "Workers",
    "datasets",
    "jacobian",
    "load",
    "metrics",
    "parameter_jacobians",
]


def __getattr__(name: str) -> Any:
    """`gradwise.datasets`, imported when it is first asked for: most programs bring their own data."""
    if name == "datasets":
        import importlib

        return importlib.import_module("gradwise.datasets")
    raise AttributeError(f"module 'gradwise' has no attribute {name!r}")

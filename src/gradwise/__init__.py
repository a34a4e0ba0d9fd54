"""gradwise builds, trains, runs and explains neural networks with NumPy alone."""

from gradwise import datasets, initializers, layers, losses, metrics, optimizers
from gradwise.initializers import *  # noqa: F403
from gradwise.jacobian import jacobian, parameter_jacobians
from gradwise.layers import *  # noqa: F403
from gradwise.losses import *  # noqa: F403
from gradwise.network import Network, load
from gradwise.optimizers import *  # noqa: F403
from gradwise.training.callbacks import Callback, Checkpoint, EarlyStopping, LearningRateSchedule
from gradwise.training.parallel import Workers
from gradwise.typing import Pullback

__version__ = "0.1.0"

__all__ = [
    *initializers.__all__,
    *layers.__all__,
    *losses.__all__,
    *optimizers.__all__,
    "Callback",
    "Checkpoint",
    "EarlyStopping",
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

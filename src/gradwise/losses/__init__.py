"""Losses: one value per sample, and the gradient of each value by its own prediction.

The mean over the batch, and sample weights, are the training loop's.
"""

from gradwise.losses.base import Loss
from gradwise.losses.classes import CrossEntropy, SoftmaxCrossEntropy
from gradwise.losses.values import Huber, MeanAbsoluteError, MeanSquaredError, SigmoidCrossEntropy

__all__ = [
    "CrossEntropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
]

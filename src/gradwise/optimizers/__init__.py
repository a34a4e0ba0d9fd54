"""Optimisers: each steps parameters in place, path by path, and keeps its own arrays under the same paths."""

from gradwise.optimizers.adaptive import Adam, AdamW, RMSprop
from gradwise.optimizers.base import Optimizer
from gradwise.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop"]

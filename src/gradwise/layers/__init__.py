"""The layers."""

from gradwise.layers.activations import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from gradwise.layers.base import Layer
from gradwise.layers.containers import Chain
from gradwise.layers.convolution import Conv2D
from gradwise.layers.dense import Dense
from gradwise.layers.dropout import Dropout
from gradwise.layers.normalization import Standardize
from gradwise.layers.pooling import AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, MaxPooling2D
from gradwise.layers.reshaping import Flatten, Reshape

__all__ = [
    "ELU",
    "GELU",
    "AveragePooling2D",
    "Chain",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Layer",
    "LeakyReLU",
    "LogSoftmax",
    "MaxPooling2D",
    "ReLU",
    "Reshape",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "Tanh",
]

"""Regularisation by noise."""

from __future__ import annotations

import numpy as np

from gradwise.errors import ArgumentError
from gradwise.layers.base import Layer
from gradwise.typing import Array, Pullback, Shape


class Dropout(Layer):
    """In training, each number is 0 with probability `rate`, and else divided by 1 - rate (Srivastava et al. 2014).

    Otherwise x itself.

    Parameters
    ----------
    rate : float
        From 0 up to, not including, 1.
    """

    memory = "given"

    def __init__(self, rate: float) -> None:
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate < 1:
            raise ArgumentError(f"Dropout: rate is a number from 0 up to, not including, 1, but got {rate!r}.")
        self.rate = rate

    def accepts(self, shape: Shape) -> bool:
        """Any shape."""
        return True

    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        if not training or self.rate == 0:
            return x, Pullback(input=lambda dy: dy)
        if rng is None:
            raise ArgumentError(f"{self!r} draws at random in training: give vjp or forward an rng.")
        # Drawn batch innermost, the order images have in memory; so the draw does not depend on x's own order.
        kept = rng.random((*x.shape[1:], x.shape[0]), dtype=np.float32) >= self.rate
        mask = np.moveaxis(kept.astype(x.dtype) / x.dtype.type(1 - self.rate), -1, 0)  # (N, ...)
        return x * mask, Pullback(input=lambda dy: dy * mask)

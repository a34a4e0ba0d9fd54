"""Checks that run over whole arrays, in little time and memory."""

from __future__ import annotations

import math

import numpy as np

from gradwise.typing import Array

_CHUNK = 1 << 20  # numbers looked at in one go


def all_finite(x: Array) -> bool:
    """Whether every number of x is finite."""
    if x.dtype.kind != "f":
        return True
    if x.flags.forc:
        if x.size <= _CHUNK:
            # A sum of squares that overflows is looked at again. By `vdot`, for `dot` warns of that: 1.2 us for 16
            # images of 28 x 28, np.isfinite(x).all() 2.8; for 10,000 of them 1.1 ms, 1.6.
            lying = x if x.flags.c_contiguous else x.T
            return math.isfinite(np.vdot(lying, lying)) or bool(np.isfinite(x).all())
        flat = x.ravel("K")
        return all(all_finite(flat[start : start + _CHUNK]) for start in range(0, x.size, _CHUNK))
    rows = max(1, _CHUNK * len(x) // x.size)
    return all(bool(np.isfinite(x[start : start + rows]).all()) for start in range(0, len(x), rows))

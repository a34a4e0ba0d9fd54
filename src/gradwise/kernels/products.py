"""Matrix products that are made as they are used up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradwise.kernels import blas, gemm
from gradwise.typing import Array, Index, Shape

LEAST = 1 << 15  # numbers of a product from which it is worth the while: 784 x 80, 16 samples, 31 -> 28 us
_CACHED = 1 << 17  # numbers of a block that stays in the cache
_ALL = slice(None)
# Where rows are that short, blocks are best made by two threads: 4056 x 32, 128 samples, 330 -> 220 us, 9216 x 128, 16
# samples, 560 -> 420; but 1024 x 1024, 16 samples, 610 -> 1400.
_NARROW = 128
_MANY = 512  # rows at a time of products too large for that
# Where columns are contiguous, and rows so many times as many, tiles of so many of both. Gradient and step by Adam of
# 9216 x 128, 16 samples, take 1.09 of the time that they take where rows are, 128 samples 1.02, by 16 whole columns
# 1.00 and 1.30; of 12544 x 256 1.15 and 0.76.
_TALL, _TILE = 4, (64, 3072)


class Product:
    """left @ right, (m, k) @ (k, n), not made yet.

    A large kernel's gradient is used once, to step the kernel: by BLAS, in place, or, where more is to be done with it,
    a few rows at a time, which stay in the cache. For 1024 x 1024 at batch 16 gradient and step take 0.3 and 0.6 ms, by
    way of an array 2.1.

    Attributes
    ----------
    pairs : list of (array, array)
        The factors; of a sum of products, those of each.
    """

    def __init__(self, left: Array, right: Array, *more: tuple[Array, Array]) -> None:
        self.pairs = [(left, right), *more]

    @property
    def left(self) -> Array:
        """(m, k); of a sum of products, their left factors side by side."""
        return self._one()[0]

    @property
    def right(self) -> Array:
        """(k, n); of a sum of products, their right factors one below the other."""
        return self._one()[1]

    @property
    def shape(self) -> Shape:
        """Of the product: (m, n)."""
        left, right = self.pairs[0]
        return len(left), right.shape[1]

    @property
    def depth(self) -> int:
        """The sum's terms of each number: k, of all products."""
        return sum(len(right) for _, right in self.pairs)

    def _one(self) -> tuple[Array, Array]:
        """The factors; those of several products are joined once, when they are asked for."""
        if len(self.pairs) > 1:
            lefts, rights = zip(*self.pairs, strict=True)
            self.pairs = [(_beside(lefts), _beside([right.T for right in rights]).T)]
        return self.pairs[0]

    def blocks(self, like: Array) -> Iterator[tuple[Index, Array]]:
        """Parts of the product, which they are and they, in the memory order of `like`. Each is to be used before the
        next is asked for.
        """
        left, right = self.left, self.right
        if not like.flags.f_contiguous or like.flags.c_contiguous:
            yield from _rows(left, right)
        elif len(left) < _TALL * right.shape[1]:
            for part, block in _rows(right.T, left.T):
                yield (_ALL, part), block.T
        else:
            yield from _tiles(left, right)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(blas.multiply(self.left, self.right), dtype)

    def __mul__(self, number: float) -> Product:
        """The product times a number, not made yet either."""
        pairs = [(left, right * number) for left, right in self.pairs]
        return Product(*pairs[0], *pairs[1:])

    def __add__(self, other: Any) -> Any:
        """The sum; of two products one product again, of their factors side by side."""
        if isinstance(other, Product):
            return Product(*self.pairs[0], *self.pairs[1:], *other.pairs)
        return np.asarray(self) + np.asarray(other)


def _rows(left: Array, right: Array) -> Iterator[tuple[slice, Array]]:
    """left (m, k) @ right (k, n), some rows at a time: which, and they, contiguous."""
    width, depth = right.shape[1], len(right)
    most = _CACHED
    if width > _NARROW or len(left) * width * depth <= blas.SEVERAL:
        most = min(most, blas.SMALL // depth)
    rows = min(most // width // 16 * 16 or _MANY, len(left))
    right = np.ascontiguousarray(right)  # 1024 x 1024, 16 samples: 780 -> 580 us, with the step
    # All blocks in one place, which stays in the cache: 4056 x 32, 16 samples, with the step, 65 -> 60.
    place = np.empty((rows, width), np.result_type(left, right))
    multiply = np.multiply if depth == 1 else np.matmul
    for start in range(0, len(left), rows):
        part = slice(start, start + rows)
        yield part, multiply(left[part], right, out=place[: len(left) - start])


def _tiles(left: Array, right: Array) -> Iterator[tuple[Index, Array]]:
    """left (m, k) @ right (k, n), of many rows and a few columns, which are contiguous: tile by tile."""
    turned, (high, wide) = np.ascontiguousarray(right.T), _TILE
    place = np.empty(high * wide, np.result_type(left, right))
    multiply = np.multiply if len(right) == 1 else np.matmul
    for start in range(0, len(left), wide):
        rows = left[start : start + wide].T
        for first in range(0, len(turned), high):
            columns = turned[first : first + high]
            shape = len(columns), rows.shape[1]
            block = multiply(columns, rows, out=place[: math.prod(shape)].reshape(shape))
            yield (slice(start, start + wide), slice(first, first + high)), block.T


def _beside(matrices: Sequence[Array]) -> Array:
    """The columns of several matrices in one, in the memory order of the first."""
    if matrices[0].flags.c_contiguous:
        return np.concatenate(matrices, axis=1)
    return np.concatenate([matrix.T for matrix in matrices]).T


def subtract(target: Array, share: Array | Product) -> None:
    """target -= share, in place."""
    if not isinstance(share, Product):
        target -= share
    elif not gemm.subtract(target, share.left, share.right):
        for part, block in share.blocks(target):
            values = target[part]
            values -= block

"""Matrix products that are made as they are used up."""

from __future__ import annotations

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
        """Parts of the product, which they are and they: rows, or columns where `like` has those contiguous. Each is
        to be used before the next is asked for.
        """
        columns = like.flags.f_contiguous and not like.flags.c_contiguous
        left, right = (self.right.T, self.left.T) if columns else (self.left, self.right)
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
            block = multiply(left[part], right, out=place[: len(left) - start])
            yield ((_ALL, part), block.T) if columns else (part, block)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(blas.multiply(self.left, self.right), dtype)

    def __add__(self, other: Any) -> Any:
        """The sum; of two products one product again, of their factors side by side."""
        if isinstance(other, Product):
            return Product(*self.pairs[0], *self.pairs[1:], *other.pairs)
        return np.asarray(self) + np.asarray(other)


def _beside(matrices: Sequence[Array]) -> Array:
    """The columns of several matrices in one, in the memory order of the first."""
    if matrices[0].flags.c_contiguous:
        return np.concatenate(matrices, axis=1)
    return np.concatenate([matrix.T for matrix in matrices]).T


def subtract(target: Array, share: Array | Product) -> None:
    """target -= share, in place."""
    if isinstance(share, Product):
        if gemm.subtract(target, share.left, share.right):
            return
        for part, block in share.blocks(target):
            values = target[part]
            values -= block
    else:
        target -= share

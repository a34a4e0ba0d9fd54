"""Matrix products, as BLAS likes them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gradwise.kernels import library
from gradwise.typing import Array

# Whether small matrices are packed before they are multiplied, as large ones are: OpenBLAS leaves that out for
# x86 processors with AVX-512 (its pull request 3335); of others, and other libraries, it is not known. Rules that
# differ are measured with OpenBLAS and NumPy told to leave it alone, or on an AMD EPYC that has none.
_CORE = library.core()
PACKS = _CORE not in ("SkylakeX", "Cooperlake", "SapphireRapids")
# OpenBLAS packs them into blocks of 32 MB, and its products fetch ahead what lies behind: pages that are not there
# until a product of this size has been made, and are looked for in vain each time, which takes long on a virtual
# machine. On an AMD EPYC without AVX-512 (16 x 144) @ (144 x 192) goes from 12 to 28 GFLOP/s, (256 x 256) @ (256 x 256)
# on one thread from 10 to 36; the product itself takes 1 to 2 ms.
if _CORE:
    np.ones((128, 384), np.float32).dot(np.ones((384, 384), np.float32))
# Multiply-adds from which it shares a product between two threads, where it packs; for it asks 1 << 18 of each.
SHARED = 1 << 19
# Multiply-adds up to which a product goes as one by OpenBLAS's one thread, unpacked: 95 against 50 GFLOP/s for a
# convolution of 16 -> 16 channels, 100 against 75 for 32 -> 64. Where it packs, two threads share 500,000 already, and
# pieces only pack more often: with 1,000,000 there C at 16 takes 1.09 of the time, A at 128 1.10, G at 128 1.08.
SMALL = 4_000_000 if PACKS else 1_000_000
# Products a little larger than that are made of pieces of that size: 4056 -> 32, 16 samples, forwards 78 -> 42;
# 784 -> 10, 128 samples, forwards 32 -> 23, the kernel's gradient 29 -> 24. Others lose up to a fifth, but no second
# thread is waited for, which can take three times as long. Where BLAS packs, small ones are larger than these.
SEVERAL = 2_500_000
# Numbers of a cache line, where they have 4 bytes. Sums along rows, (16 x 664) @ (664 x 48), take 1.5 times as long
# where both factors begin between two lines: a kernel's gradient of 20 x 84, 16 samples, 54 -> 44 ns a pixel of one.
LINE = 16


def shares() -> bool:
    """Whether it packs what it multiplies, and several threads may share that: products are best wide enough then."""
    return PACKS and library.threads() > 1


def parts(size: int, work: int, limit: int | None = None, unit: int = 1) -> tuple[slice, ...]:
    """An axis of `size` in parts of about the same size, such that each part's share of a product of `work`
    multiply-adds is at most `limit`, by default a small product; where they are not tiny, of whole units.
    """
    return _parts(size, work, limit or SMALL, unit)


@lru_cache(maxsize=4096)
def _parts(size: int, work: int, limit: int, unit: int) -> tuple[slice, ...]:
    """`parts`, looked up: 0.1 us, worked out 0.9."""
    most = max(1, size * limit // work)
    if most < unit:
        unit = 1
    most -= most % unit
    step = -(-size // -(-size // most))
    step += -step % unit
    return tuple(slice(start, min(start + step, size)) for start in range(0, size, step))


def multiply(left: Array, right: Array) -> Array:
    """left (m, k) @ right (k, n); where k is 1 as an outer product: 9216 x 128, 380 us, by BLAS 1300."""
    return left * right if len(right) == 1 else left.dot(right)  # `dot` reaches BLAS 0.6 us sooner than `@`


def rows_by_rows(left: Array, right: Array) -> Array:
    """left (..., m, n) @ right (..., k, n), turned, summed over the axes in front: (m, k).

    A BLAS that packs is given the matrix of more rows first: 12 rows by 48, sums of 1,664, 31 -> 45 GFLOP/s, on one
    thread 23 -> 26; 9 by 16 14.6 -> 16.1, 9 by 32 16.0 -> 18.4. 48 by 16, not the other way, F at batch 16 takes 0.97
    of the time, at 128 0.90; with a BLAS that does not pack 1.01.
    """
    if PACKS and left.shape[-2] < right.shape[-2]:
        return rows_by_rows(right, left).T
    products = np.matmul(left, right.swapaxes(-1, -2))
    return np.add.reduce(products, axis=tuple(range(products.ndim - 2)))


# Numbers that are summed as a product with ones: of (1024, 16) along the rows 4.1 us, by add.reduce 21, of (20, 16) 0.4
# and 1.3. Of 590,000 BLAS would wake its second thread.
FEW = 1 << 18


def column_sums(rows: Array) -> Array:
    """(m, ...) -> (...), one axis less."""
    if rows.size > FEW:
        return np.add.reduce(rows, axis=0)
    return _ones(len(rows), rows.dtype).dot(rows)


def row_sums(rows: Array) -> Array:
    """(..., n) -> (...), one axis less."""
    if rows.size > FEW:
        return np.einsum("...n->...", rows)  # 590 KB 12 us, .sum(axis=1) 32
    ones = _ones(rows.shape[-1], rows.dtype)
    # (24, 576) 1.5, by einsum 3.6. Of more axes `dot` goes row by row: (13, 2, 24, 416) 28, by `matmul` 19.
    return rows.dot(ones) if rows.ndim == 2 else np.matmul(rows, ones)


@lru_cache(maxsize=1024)
def _ones(count: int, dtype: np.dtype) -> Array:
    """Part of one array for all counts up to a power of two: one that is made anew each step comes to lie in another
    gap between large arrays each time, which then find others. F at batch 128 asks for 19 lengths.
    """
    ones = _many_ones(1 << (count - 1).bit_length(), dtype)[:count]
    ones.flags.writeable = False
    return ones


@lru_cache(maxsize=64)
def _many_ones(count: int, dtype: np.dtype) -> Array:
    return np.ones(count, dtype)

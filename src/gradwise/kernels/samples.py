"""Which samples of a large batch go together: so many that each pixel's numbers begin on a cache line, and so few that
the arrays between layers stay near the caches and are not asked of the system anew each time.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

from gradwise.kernels import blas

# Of the largest array between two layers: numbers up to which a batch goes as one. A sample takes in training F of the
# benchmarks' networks at batch 512 549 -> 411 us, E at 1024 73 -> 51, G at 128 800 -> 700; in four parts E at 128 1.25
# of the time. Inference of G at 256 takes 53 -> 43 ms, of E 3.5 -> 2.9; by 1 << 18 E 1.03 of that, by 1 << 20 1.24.
# Where BLAS packs, wider products lose less by it, and share more with its second thread: on an AMD EPYC with 512 KB of
# L2 a step takes by 1,300,000 for F at 128 0.90 to 0.94 of the time, G 0.85 to 0.88, for E at 1024 1.01, for D 0.89,
# inference of F at 256 0.92, of G 0.97, of E at 1024 1.06. By 1,800,000 F at 128 takes 0.87, but peaks at 78 to 86 MB.
_NUMBERS = 1_300_000 if blas.PACKS else 640_000
# Likewise where several threads have parts of their own: two convolutions of 24 and 48 filters of 5 x 5 take at batch
# 256 0.80 to 1.01 of one thread's time, by 650,000 1.2 to 1.6; three of 16, 32 and 32 channels on 32 x 32 0.72 to 0.80
# and 0.67 to 0.78.
_EACH = 450_000
# Samples of which each pixel's numbers begin on a cache line: F at 128, by 32 and not by 43, 0.88 of the time, its
# inference at 256, by 48 and not by 43, 28.7 -> 25.5 ms.
_ROW = 16
# Numbers up to which 16, 8 or 4 samples go together, and not fewer. A step of three convolutions of 16 channels and 16
# samples takes on 79 x 79 by 16 samples 29.6 ms, by 8 32.2; on 84 x 84 36.9 and 35.9; on 160 x 160 by 8 147, by 4 134,
# by 2 133; on 224 x 224 350, 281 and 270; of 8 channels on 160 x 160 49, 52 and 57. Inference on 160 x 160 by 16 80, by
# 8 45, by 4 45, by 2 49. Where BLAS packs, products of fewer samples are too small for two threads: the same step takes
# there on 84 x 84 by 16 samples, and not by 8, 0.66 to 0.95 of the time, on 150 x 150 and 224 x 224 by 8 and 4, and not
# by 4 and 2, 0.77 to 1.09 and 0.77 to 1.02; inference on 84 x 84 to 224 x 224 0.79 to 1.04.
_MOST = 3_300_000 if blas.PACKS else 1_650_000
# What a part reads of the largest parameter for one number of its largest array, at the most: a dense layer reads its
# kernel for each part anew. Two of 4096 units at batch 1024, in 8 parts and in one, 495 and 365 ms; 150,528 -> 256 at
# batch 32, in 4 parts and in one, 82 and 33. With 1 for it G at 128 goes by 32 samples, which takes 1.06 of the time.
# But no part has more numbers than _FAR for that: convolutions on 224 x 224 with 100,352 -> 256 behind them take by 2,
# 4, 8 and 16 samples 449, 417, 402 and 433 ms.
_READ, _FAR = 2, 10_000_000


def together(samples: int, largest: int, weights: int, threads: int = 1) -> tuple[slice, ...]:
    """The samples of a batch that go together.

    Parameters
    ----------
    samples : int
    largest : int
        The numbers of the largest array between two layers, for one sample.
    weights : int
        Those of the largest parameter.
    threads : int
        How many go through parts at the same time.
    """
    numbers = max(_NUMBERS if threads == 1 else _EACH, min(weights // _READ, _FAR))
    if samples * largest <= numbers:
        return (slice(0, samples),)
    most = numbers // largest
    if most < _ROW:
        least = next((few for few in (_ROW, 8, 4) if few * largest <= _MOST), 2)
        most = max(least, 1 << most.bit_length() >> 1)
    most -= most % min(most, _ROW)
    rounds = -(-samples // (most * threads))
    return cut(samples, rounds * threads, min(most, _ROW))


@lru_cache(maxsize=1024)
def cut(samples: int, count: int, unit: int = 1) -> tuple[slice, ...]:
    """Samples in up to `count` shares of about the same size, all but the last of whole units; worked out once."""
    cuts = sorted({min(-(-samples * k // (count * unit)) * unit, samples) for k in range(count + 1)})
    return tuple(slice(*pair) for pair in itertools.pairwise(cuts))

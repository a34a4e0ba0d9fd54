"""Parts of a large batch side by side: on several of Python's threads, each of which makes its products alone.

NumPy lets go of Python's lock while it computes, so calls on large arrays run at the same time. Two threads of BLAS
share products and nothing else, and what one has written the other reads; of threads with parts of their own each keeps
its arrays near itself. Training has processes for that (`gradwise.training.parallel`): by two threads F of the
benchmarks' networks takes at batch 128 0.84 to 0.99 of the time, by two processes 0.77, but G 1.1 to 1.4, E 1.4 to 1.6
and D 1.4 to 2.1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from threading import Thread
from typing import TypeVar

from gradwise.kernels import library

_Part = TypeVar("_Part")
_Made = TypeVar("_Made")

# Numbers that a batch hands on between two layers, from which this pays: on two cores of an AMD EPYC without AVX-512
# inference takes by it of G at 256, 9.4 million, 1.00 of the time in good minutes and 0.76 in others, of two layers
# with tanh and average pooling, 512 samples, 0.56 to 0.62, of three convolutions with pooling on 32 x 32, 1024 samples,
# 0.71 to 0.82, of E at 2048 and F at 1024 1.00. Where a step was trained just before, BLAS's second thread keeps awake
# for a tenth of a second, and takes turns with ours: then G takes 140 ms instead of 100, and those three at 256, 2.1
# million, would take 54 and not 43, but 31 later.
_PAYS = 8_000_000
_MOST = 4  # threads; more were not measured


def threads(numbers: int) -> int:
    """How many threads are best for a batch that hands on so many numbers between two layers: as many as BLAS has."""
    return min(library.threads(), _MOST) if numbers >= _PAYS else 1


def by_side(run: Callable[[_Part], _Made], parts: Sequence[_Part], count: int) -> list[_Made]:
    """What `run` makes of each part, in order, by up to `count` threads in the context of this one.

    Parts are taken in order, and after an error none any more: the error of the first part that has one is raised, as
    if they ran one after the other.
    """
    if count == 1 or len(parts) == 1:
        return [run(part) for part in parts]
    waiting = deque(enumerate(parts))
    made: dict[int, _Made] = {}
    errors: dict[int, BaseException] = {}

    def work() -> None:
        while True:
            try:
                index, part = waiting.popleft()
            except IndexError:
                return
            try:
                made[index] = run(part)
            except BaseException as error:  # with Ctrl-C
                errors[index] = error
                waiting.clear()

    helpers: list[Thread] = []
    with library.Alone():
        try:
            for _ in range(min(count, len(parts)) - 1):
                helper = Thread(target=copy_context().run, args=(work,))
                try:
                    helper.start()
                except RuntimeError:  # the system gives no more of them
                    break
                helpers.append(helper)
            work()
        finally:
            waiting.clear()
            for helper in helpers:
                helper.join()
    if errors:
        raise errors[min(errors)]
    return [made[index] for index in range(len(parts))]

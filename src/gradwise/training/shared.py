"""Between processes that train together: arrays in shared memory, and a line that says when they are there."""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from gradwise.kernels.products import Product
from gradwise.typing import Array, Shape

_SPIN = 2e-3  # seconds of looking at a counter before sleep: a counter is seen after 1 us, who sleeps is up after 60
_NAP = 0.05  # seconds of sleep after which the counter is looked at again, whatever came
_LINE = 8  # words of 8 bytes in a cache line; each counter has one of its own
_WAKE = "wake"  # the message that wakes whoever sleeps


class Spec(NamedTuple):
    """An array that lies in shared memory, or is to lie there."""

    shape: Shape
    dtype: str
    order: Literal["C", "F"]

    @property
    def nbytes(self) -> int:
        """Bytes of it."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


NEWS = Spec((1,), "<i8", "C")  # whether a message comes with a ring
Kept = tuple[Spec, ...]  # where a gradient lies, or the two factors whose product it is


def spec(array: Array) -> Spec:
    """The array's spec; column-major arrays stay so, all others become row-major."""
    columns = array.flags.f_contiguous and not array.flags.c_contiguous
    return Spec(array.shape, array.dtype.str, "F" if columns else "C")


class Block:
    """Shared memory in named places, each on cache lines of its own. Goes to a new process as an argument."""

    def __init__(self, context: Any, places: Mapping[str, int]) -> None:
        self.sizes = dict(places)
        self._offsets: dict[str, int] = {}
        end = 0
        for name, size in places.items():
            self._offsets[name] = end
            end += -(-size // 64) * 64
        self._memory = context.RawArray(ctypes.c_byte, max(end, 1))

    def view(self, name: str, of: Spec, after: int = 0) -> Array:
        """The array of that spec that lies in a place, `after` bytes from its start."""
        start = self._offsets[name] + after
        return np.ndarray(of.shape, of.dtype, self._memory, start, order=of.order)

    def put(self, name: str, array: Array) -> Spec | None:
        """Copy an array to a place; None where it is too large for that."""
        of = spec(array)
        if of.nbytes > self.sizes[name]:
            return None
        self.view(name, of)[...] = array
        return of


class Line:
    """One end of a line to another process: counters in shared memory, and a pipe for messages and for who sleeps.

    Parameters
    ----------
    counters : shared memory of `counters(context)`
    parent : bool
        Which end this is.
    pipe : Connection
    """

    def __init__(self, counters: Any, parent: bool, pipe: Any) -> None:
        self._words = memoryview(counters).cast("B").cast("q")
        own, other = (0, 2) if parent else (2, 0)
        self._rung, self._asleep = own * _LINE, (own + 1) * _LINE
        self._heard, self._sleeps = other * _LINE, (other + 1) * _LINE
        self._sent = self._seen = 0
        self._messages: list[Any] = []
        self._fence = threading.Lock()
        self.pipe = pipe

    @staticmethod
    def counters(context: Any) -> Any:
        """Shared memory for one line."""
        return context.RawArray(ctypes.c_longlong, 4 * _LINE)

    def ring(self) -> None:
        """Tell the other end that what it waits for is there."""
        self._sent += 1
        self._order()
        self._words[self._rung] = self._sent
        self._order()
        if self._words[self._sleeps]:
            self.pipe.send(_WAKE)

    def wait(self, sentinel: Any, spin: bool) -> bool:
        """Until the other end rings; False where its process has ended."""
        from multiprocessing import connection

        self._seen += 1
        if spin and self._spun():
            return True
        self._words[self._asleep] = 1
        self._order()
        try:
            while self._words[self._heard] < self._seen:
                ready = connection.wait([self.pipe, sentinel], _NAP)
                if self.pipe in ready:
                    self._receive()
                elif ready:
                    return False
        except (EOFError, OSError):
            return False
        finally:
            self._words[self._asleep] = 0
        self._order()
        return True

    def send(self, message: Any) -> None:
        """A message for `message` at the other end; to be followed by `ring`."""
        self.pipe.send(message)

    def message(self) -> Any:
        """The next message of the other end, which has rung."""
        while not self._messages:
            self._receive()
        return self._messages.pop(0)

    def _receive(self) -> None:
        came = self.pipe.recv()
        if not (isinstance(came, str) and came == _WAKE):
            self._messages.append(came)

    def _spun(self) -> bool:
        """Look at the counter for a while, leaving the processor to others in between."""
        words, place, wanted = self._words, self._heard, self._seen
        end = time.perf_counter() + _SPIN
        pause = getattr(os, "sched_yield", None) or (lambda: time.sleep(0))
        while True:
            for _ in range(100):
                if words[place] >= wanted:
                    self._order()
                    return True
            if time.perf_counter() > end:
                return False
            pause()

    def _order(self) -> None:
        """Let no access to memory pass: processors other than x86 may else show a counter before what it stands for."""
        for _ in range(2):
            with self._fence:
                pass


def place(path: str) -> str:
    """Where in a worker's block the gradient of a parameter lies."""
    return f"gradient of {path}"


def tell(line: Line, block: Block, what: str, *message: Any) -> None:
    """Ring, with a message or without."""
    block.view(what, NEWS)[0] = len(message)
    if message:
        line.send(message[0])
    line.ring()


def keep(block: Block, path: str, gradient: Any, dtype: str) -> Kept:
    """Put a gradient, in its parameter's dtype, where the parent finds it; of a product the factors, if smaller."""
    where = place(path)
    if isinstance(gradient, Product):
        left, right = spec(gradient.left), spec(gradient.right)
        if 2 * (left.nbytes + right.nbytes) <= block.sizes[where]:
            block.view(where, left)[...] = gradient.left
            block.view(where, right, left.nbytes)[...] = gradient.right
            return left, right
    array = np.asarray(gradient).astype(dtype, copy=False)
    block.put(where, array)
    return (spec(array),)


def held(block: Block, path: str, kept: Kept) -> Any:
    """What `keep` put there."""
    where = place(path)
    if len(kept) == 1:
        return block.view(where, kept[0])
    return Product(block.view(where, kept[0]), block.view(where, kept[1], kept[0].nbytes))


def added(own: Any, other: Any) -> Any:
    """The sum of two gradients, in the memory of the other where that is an array."""
    if isinstance(own, Product) and isinstance(other, Product):
        return own + other
    array = np.asarray(other)
    return np.add(np.asarray(own), array, out=array)

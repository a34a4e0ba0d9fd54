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

from gradwise.errors import ShapeError
from gradwise.kernels.products import Product
from gradwise.typing import Array, Index, Shape

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


LOSS = Spec((1,), "<f8", "C")
NEWS = Spec((1,), "<i8", "C")  # what a ring says:
SAME, MESSAGE, STEP = range(3)  # as the last message; a new message comes; step your parts of the large kernels


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
        self._views: dict[tuple[str, Spec], Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What a new process is given: its views are its own."""
        return self.__dict__ | {"_views": {}}

    def view(self, name: str, of: Spec) -> Array:
        """The array of that spec that lies in a place, made once: found in 0.15 us, made in 0.54."""
        found = self._views.get((name, of))
        if found is None:
            made = np.ndarray(of.shape, of.dtype, self._memory, self._offsets[name], order=of.order)
            found = self._views[name, of] = made
        return found

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


class Factors:
    """The factors of large kernels' gradients: of all processes, side by side. Nobody makes the gradient itself.

    Each writes its samples' columns of the left factor and rows of the right. Goes to a new process as an argument.

    Parameters
    ----------
    context : multiprocessing context
    layout : mapping
        Path -> the spec of that parameter.
    capacity : int
        How many samples there can be.
    """

    def __init__(self, context: Any, layout: Mapping[str, Spec], capacity: int) -> None:
        self._layout = {path: of for path, of in layout.items() if len(of.shape) == 2}
        ends = {(path, end): self._factor(path, end, capacity) for path in self._layout for end in (0, 1)}
        self._block = Block(context, {_end(*which): of.nbytes for which, of in ends.items()})
        self._capacity = capacity

    def take(self, found: dict[str, Any], own: slice, samples: int) -> tuple[str, ...]:
        """Keep the products among a process's gradients, and take them out of `found`; which those are.

        own : its samples, of so many that all have. A kernel that is used twice has more rows, and stays where it is.
        """
        if samples > self._capacity:
            return ()
        taken = []
        for path, gradient in list(found.items()):
            if isinstance(gradient, Product) and gradient.depth == own.stop - own.start:
                left, right = self._views(path, samples)
                first = own.start
                for own_left, own_right in gradient.pairs:
                    last = first + len(own_right)
                    left[:, first:last], right[first:last] = own_left, own_right
                    first = last
                del found[path]
                taken.append(path)
        return tuple(taken)

    def part(self, path: str, samples: int, number: int, count: int) -> tuple[Index, Product]:
        """Which rows of a kernel process `number` of `count` steps, or columns where those are contiguous; and their
        gradient.
        """
        left, right = self._views(path, samples)
        of = self._layout[path]
        size = of.shape[1 if of.order == "F" else 0]
        own = slice(size * number // count, size * (number + 1) // count)
        if of.order == "F":
            return (slice(None), own), Product(left, right[:, own])
        return own, Product(left[own], right)

    def _views(self, path: str, samples: int) -> tuple[Array, Array]:
        left, right = (self._block.view(_end(path, end), self._factor(path, end, samples)) for end in (0, 1))
        return left, right

    def _factor(self, path: str, end: int, samples: int) -> Spec:
        of = self._layout[path]
        return Spec((samples, of.shape[1]) if end else (of.shape[0], samples), of.dtype, "C")


def _end(path: str, end: int) -> str:
    return f"{('left', 'right')[end]} of {path}"


def tell(line: Line, block: Block, what: str, news: int, message: Any = None) -> None:
    """Ring, with news, of which `MESSAGE` brings one."""
    block.view(what, NEWS)[0] = news
    if news == MESSAGE:
        line.send(message)
    line.ring()


def place(path: str) -> str:
    """Where in a worker's block the gradient of a parameter lies."""
    return f"gradient of {path}"


def gradients_in(block: Block, layout: Mapping[str, Spec]) -> dict[str, Array]:
    """Path -> where in a worker's block the gradient of that parameter lies, as the parameter itself does."""
    return {path: block.view(place(path), of) for path, of in layout.items()}


def keep(target: Array, path: str, gradient: Any) -> None:
    """Put a gradient where the parent finds it."""
    if gradient.shape != target.shape:
        raise ShapeError(
            f"the gradient of {path!r}",
            f"has the shape {gradient.shape}: the layer's pullback is to give one of the parameter's, {target.shape}.",
        )
    target[...] = gradient


def added(own: Any, kept: Array) -> Array:
    """The sum of a gradient and what `keep` put there, in the memory of that."""
    return np.add(own, kept, out=kept)

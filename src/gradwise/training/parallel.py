"""Training in several processes: each takes its part of every batch, and the gradients are summed.

Parameters, batches, predictions and gradients lie in shared memory. Each process has one BLAS thread: two processes
with half a batch each train a network of convolutions up to 1.9 times as fast as one with two threads, for most of its
time goes into elementwise steps and small products, which BLAS does not share out.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np

from gradwise.errors import ArgumentError, MissingExtraError, NonFiniteError, WorkerError
from gradwise.kernels.samples import cut
from gradwise.layers.base import positive
from gradwise.layers.containers import Chain
from gradwise.losses import Loss
from gradwise.optimizers import Optimizer
from gradwise.training.batches import Batch
from gradwise.training.serving import Shared, Task, serve
from gradwise.training.shared import (
    LOSS,
    MESSAGE,
    NEWS,
    SAME,
    STEP,
    Block,
    Factors,
    Line,
    Spec,
    added,
    gradients_in,
    place,
    spec,
    tell,
)
from gradwise.training.sharing import Sharing
from gradwise.training.step import descend, parts, scale_of, step
from gradwise.typing import Array

_PATIENCE = 5.0  # seconds that a worker is given to end by itself


class _Worker:
    """What the parent knows of a worker: its process, the line to it, what they share, and what was said last."""

    def __init__(self, process: Any, line: Line, block: Block, layout: dict[str, Spec]) -> None:
        self.process = process
        self.line = line
        self.block = block
        self.gradients = gradients_in(block, layout)
        self.task: Any = None
        self.reply: Any = None


class Workers:
    """Processes that train one network together, for as long as the `with` block lasts.

    Parameters
    ----------
    network : Network
        Built, with its loss. Its parameters move to shared memory, and back at the end.
    count : int
        How many processes work, this one among them.
    batch_size : int
        Of the batches to come; of larger ones the parts go through pipes, which is slower.

    Raises
    ------
    MissingExtraError
        threadpoolctl is not installed (the extra `parallel`).

    Notes
    -----
    Without random layers the result is that of one process, up to rounding. With them it repeats by the seed, but each
    number of workers draws its own. Processes are started by `multiprocessing`'s method of the system, or the one set;
    a script that starts them by "spawn" or "forkserver" has its work under ``if __name__ == "__main__":``.
    """

    def __init__(self, network: Any, count: int = 2, batch_size: int = 32) -> None:
        positive(count, "Workers: count")
        positive(batch_size, "Workers: batch_size")
        if network.loss is None or network.input_shape is None:
            raise ArgumentError("Workers takes a network that has a loss and is built: Network(..., input_shape=...).")
        if network.arrays("state"):
            raise ArgumentError(
                f"layers with state ({', '.join(network.arrays('state'))}) are trained by one process: workers=1."
            )
        self._limit = _one_blas_thread()
        self.network: Chain = network
        self._rng: np.random.Generator = network.rng
        self.loss: Loss = network.loss
        self._sharing = Sharing(network, network.loss)
        self.count = count
        self._batch, self._capacity = batch_size, math.ceil(batch_size / count)
        self._spin = _processors() >= count  # whoever waits may not take a processor from one that works
        self._workers: list[_Worker] = []
        self._within = False  # a step, which something may have broken off
        self._own: dict[str, Array] = {}

    def __enter__(self) -> Workers:
        import multiprocessing

        context = multiprocessing.get_context()
        layout = {path: spec(array) for path, array in self.network.arrays().items()}
        sizes = {path: of.nbytes for path, of in layout.items()}
        parameters = Block(context, sizes)
        self._views = {path: parameters.view(path, of) for path, of in layout.items()}
        shapes = (self.network.input_shape or (), self.network.output_shape or (), ())
        inputs, outputs, numbers = (8 * self._capacity * math.prod(shape) for shape in shapes)
        room = {"x": inputs, "y": outputs, "weight": numbers, "prediction": outputs, "loss": 8, "task": 8, "reply": 8}
        room |= {place(path): size for path, size in sizes.items()}
        self._factors = Factors(context, layout, self._batch)
        shared = Shared(parameters, layout, self._factors, self.count, self._spin)
        seed = _seed(self._rng)
        self._limited = self._limit(limits=1, user_api="blas")
        try:
            for number in range(1, self.count):
                block, counters = Block(context, room), Line.counters(context)
                here, there = context.Pipe()
                arguments = (self.network, self.loss, shared, number, block, (counters, there), [*seed, number])
                process = context.Process(target=serve, args=arguments, daemon=True, name=f"gradwise-{number}")
                process.start()
                there.close()
                self._workers.append(_Worker(process, Line(counters, True, here), block, layout))
            for path, (owner, name) in self.network.owners().items():
                self._own[path] = getattr(owner, name)
                self._views[path][...] = self._own[path]
                object.__setattr__(owner, name, self._views[path])
            for number in range(len(self._workers)):  # they are up: what is wrong with the start shows here
                self._wait(number)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; the network has its own arrays again, with the values they have come to."""
        for worker in self._workers:
            with suppress(OSError):
                tell(worker.line, worker.block, "task", MESSAGE)
        for worker in self._workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
            worker.line.pipe.close()
        self._workers = []
        for path, array in self._own.items():
            owner, name = self.network.owners()[path]
            array[...] = getattr(owner, name)
            object.__setattr__(owner, name, array)
        self._own = {}
        self._limited.restore_original_limits()

    def step(self, optimizer: Optimizer, batch: Batch, rng: np.random.Generator) -> tuple[float, Array]:
        """As `step` of one process: the batch's mean loss before it, and its predictions."""
        samples = len(batch.x)
        if not self._workers or samples < self.count:
            return step(self.network, self.loss, optimizer, batch, rng)
        if self._within:
            raise WorkerError("a step of these workers was broken off, so they do not go on: start new Workers.")
        self._within = True
        self._share()
        rows, factor = cut(samples, self.count), optimizer.factor()
        shares, scale = parts(batch, rows), scale_of(factor, samples)
        for number in range(len(self._workers)):
            self._send(number, shares[number + 1], scale, rows[number + 1], samples)
        error: Exception | None = None
        total, predictions = 0.0, []
        found: dict[str, Any] = {}
        products: tuple[str, ...] = ()
        try:
            total, prediction, found = self._sharing.gradients(shares[0], rng, scale)
            products = self._factors.take(found, rows[0], samples)
            predictions.append(prediction)
        except (ValueError, TypeError) as own:
            error = own
        for number, worker in enumerate(self._workers):
            reply = self._reply(number)
            if isinstance(reply, Exception):
                error = error or reply
            elif error is None:
                total += float(worker.block.view("loss", LOSS)[0])
                at = reply.prediction
                predictions.append(worker.block.view("prediction", at) if isinstance(at, Spec) else at)
                for path in reply.gradients:
                    found[path] = added(found[path], worker.gradients[path])
        if error is None and not math.isfinite(total):
            error = NonFiniteError(f"the loss is {total}.")
        if error is None:
            try:
                self._descend(optimizer, found, products, samples, factor is not None)
            except (ValueError, TypeError) as own:
                error = own
        self._within = False
        if error is not None:
            raise error
        return total / samples, np.concatenate(predictions)

    def _descend(
        self, optimizer: Optimizer, found: dict[str, Any], products: tuple[str, ...], samples: int, multiplied: bool
    ) -> None:
        """The optimiser's step. Where it is but a subtraction, each process steps its part of the large kernels."""
        together = self.count if products and multiplied else 1
        for number in range(together - 1):
            worker = self._workers[number]
            try:
                tell(worker.line, worker.block, "task", STEP)
            except OSError:
                raise self._gone(number, stepping=True) from None
        shares = {path: self._factors.part(path, samples, 0, together) for path in products}
        found |= {path: gradient for path, (_, gradient) in shares.items()}
        where = {path: part for path, (part, _) in shares.items()}
        try:
            descend(self.network, optimizer, found, multiplied, where)
        finally:
            for number in range(together - 1):
                self._wait(number, stepping=True)

    def _share(self) -> None:
        """Parameters that somebody has assigned anew move to shared memory again."""
        for path, (owner, name) in self.network.owners().items():
            if getattr(owner, name) is not self._views[path]:
                self._views[path][...] = getattr(owner, name)
                object.__setattr__(owner, name, self._views[path])

    def _send(self, number: int, part: Batch, scale: float, rows: slice, samples: int) -> None:
        """Put a part where the worker finds it; a message tells what lies there only where that has changed."""
        worker = self._workers[number]
        arrays: dict[str, Any] = {"x": part.x, "y": part.y, "weight": part.weight}
        for name, array in arrays.items():
            if array is not None:
                arrays[name] = worker.block.put(name, array) or array  # what is too large goes by the message itself
        task = Task(arrays, scale, rows, samples)
        lies = not any(isinstance(array, np.ndarray) for array in arrays.values())
        try:
            tell(worker.line, worker.block, "task", SAME if lies and task == worker.task else MESSAGE, task)
        except OSError:
            raise self._gone(number) from None
        worker.task = task if lies else None

    def _reply(self, number: int) -> Any:
        """What a worker has made of its part, or its error."""
        self._wait(number)
        worker = self._workers[number]
        if worker.block.view("reply", NEWS)[0] == MESSAGE:
            worker.reply = worker.line.message()
        return worker.reply

    def _wait(self, number: int, stepping: bool = False) -> None:
        worker = self._workers[number]
        if not worker.line.wait(worker.process.sentinel, self._spin):
            raise self._gone(number, stepping)

    def _gone(self, number: int, stepping: bool = False) -> WorkerError:
        process = self._workers[number].process
        process.join(_PATIENCE)
        state = "the last whole step" if not stepping else "a step that is not whole: its part may be of the one before"
        return WorkerError(
            f"worker {number + 2} of {self.count} has died (exit code {process.exitcode}): training has ended, and the"
            f" network has the parameters of {state}. Out of memory? Then train with fewer workers."
        )


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _seed(rng: np.random.Generator) -> list[int]:
    """Numbers that follow from a generator's state, which is left as it is."""
    import hashlib
    import json

    state = json.dumps(rng.bit_generator.state, default=lambda value: value.tolist(), sort_keys=True)
    return list(hashlib.sha256(state.encode()).digest())


def _one_blas_thread() -> Any:
    """threadpoolctl's function that limits BLAS to so many threads."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise MissingExtraError("training with several workers", "threadpoolctl", "parallel") from None
    return threadpool_limits

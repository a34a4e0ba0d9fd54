"""Training in several processes: each takes its part of every batch, and the gradients are summed.

Parameters, images and gradients lie in shared memory; small things go through a pipe. Each process has one BLAS thread:
two processes with half a batch each train a network of convolutions up to 1.9 times as fast as one with two threads,
for most of its time goes into elementwise steps and small products, which BLAS does not share out.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import signal
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np

from gradwise.errors import ArgumentError, MissingExtraError, NonFiniteError, WorkerError
from gradwise.layers.base import Layer, positive
from gradwise.layers.containers import Chain
from gradwise.losses import Loss
from gradwise.optimizers import Optimizer
from gradwise.training.batches import Batch
from gradwise.training.step import descend, gradients, step
from gradwise.typing import Array, Shape

_PATIENCE = 5.0  # seconds that a worker is given to end by itself


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
        self.count = count
        self._capacity = math.ceil(batch_size / count)
        self._processes: list[Any] = []
        self._pipes: list[Any] = []
        self._own: dict[str, Array] = {}

    def __enter__(self) -> Workers:
        import multiprocessing

        context = multiprocessing.get_context()
        self._layout = {path: _Place(array) for path, array in self.network.arrays().items()}
        parameters = _block(context, self._layout)
        self._views = _views(parameters, self._layout)
        images = (self._capacity, *(self.network.input_shape or ()))
        self._gradients, self._images = [], []
        seed = _seed(self._rng)
        self._limited = self._limit(limits=1, user_api="blas")
        try:
            for number in range(1, self.count):
                grads, x = _block(context, self._layout), context.RawArray(ctypes.c_byte, 8 * math.prod(images))
                here, there = context.Pipe()
                arguments = (
                    there,
                    self.network,
                    self.loss,
                    self._layout,
                    parameters,
                    grads,
                    x,
                    images,
                    [*seed, number],
                )
                process = context.Process(target=_serve, args=arguments, daemon=True, name=f"gradwise-{number}")
                process.start()
                there.close()
                self._processes.append(process)
                self._pipes.append(here)
                self._gradients.append(_views(grads, self._layout))
                self._images.append((x, images))
            for path, (owner, name) in self.network.owners().items():
                self._own[path] = getattr(owner, name)
                self._views[path][...] = self._own[path]
                object.__setattr__(owner, name, self._views[path])
            for worker in range(self.count - 1):  # they are up: what is wrong with the start shows here
                self._answer(worker)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; the network has its own arrays again, with the values they have come to."""
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []
        for path, array in self._own.items():
            owner, name = self.network.owners()[path]
            array[...] = getattr(owner, name)
            object.__setattr__(owner, name, array)
        self._own = {}
        self._limited.restore_original_limits()

    def step(self, optimizer: Optimizer, batch: Batch, rng: np.random.Generator) -> tuple[float, Array]:
        """As `step` of one process: the batch's mean loss before it, and its predictions."""
        samples = len(batch.x)
        if not self._processes or samples < self.count:
            return step(self.network, self.loss, optimizer, batch, rng)
        self._share()
        parts = _parts(batch, self.count)
        for worker, part in enumerate(parts[1:]):
            self._send(worker, part, samples)
        error: Exception | None = None
        total, predictions = 0.0, []
        found: dict[str, Array] = {}
        try:
            total, prediction, found = gradients(self.network, self.loss, parts[0], rng, samples)
            predictions.append(prediction)
        except (ValueError, TypeError) as own:
            error = own
        for worker in range(self.count - 1):
            answer = self._answer(worker)
            if isinstance(answer, Exception):
                error = error or answer
            else:
                total += answer[0]
                predictions.append(answer[1])
        if error is not None:
            raise error
        if not math.isfinite(total):
            raise NonFiniteError(f"the loss is {total}.")
        for views in self._gradients:
            for path in found:
                found[path] = np.add(found[path], views[path], out=views[path])
        descend(self.network, optimizer, found)
        return total / samples, np.concatenate(predictions)

    def _share(self) -> None:
        """Parameters that somebody has assigned anew move to shared memory again."""
        for path, (owner, name) in self.network.owners().items():
            if getattr(owner, name) is not self._views[path]:
                self._views[path][...] = getattr(owner, name)
                object.__setattr__(owner, name, self._views[path])

    def _send(self, worker: int, part: Batch, samples: int) -> None:
        block, shape = self._images[worker]
        x: Any = part.x
        if len(part.x) <= shape[0] and part.x.shape[1:] == shape[1:]:
            _image_view(block, part.x.shape, part.x.dtype)[...] = part.x
            x = (part.x.shape, part.x.dtype)
        try:
            self._pipes[worker].send((x, part.y, part.weight, samples))
        except OSError:
            raise self._gone(worker) from None

    def _answer(self, worker: int) -> Any:
        """What a worker says; an error where it has died."""
        from multiprocessing import connection

        pipe, process = self._pipes[worker], self._processes[worker]
        connection.wait([pipe, process.sentinel])
        try:
            if pipe.poll():
                return pipe.recv()
        except (EOFError, OSError):
            pass
        raise self._gone(worker)

    def _gone(self, worker: int) -> WorkerError:
        process = self._processes[worker]
        process.join(_PATIENCE)
        return WorkerError(
            f"worker {worker + 2} of {self.count} has died (exit code {process.exitcode}): training has ended, and the"
            " network has the parameters of the last whole step. Out of memory? Then train with fewer workers."
        )


class _Place:
    """Where an array lies in a block: its shape, dtype and memory order; its offset is set by the block."""

    def __init__(self, array: Array) -> None:
        self.shape, self.dtype, self.strides = array.shape, array.dtype, array.copy(order="K").strides
        self.nbytes, self.offset = array.nbytes, 0


def _block(context: Any, layout: Mapping[str, _Place]) -> Any:
    """Shared memory for all the arrays of a layout, each on a cache line of its own."""
    end = 0
    for place in layout.values():
        place.offset = end
        end += -(-place.nbytes // 64) * 64
    return context.RawArray(ctypes.c_byte, max(end, 1))


def _views(block: Any, layout: Mapping[str, _Place]) -> dict[str, Array]:
    return {p: np.ndarray(a.shape, a.dtype, block, a.offset, a.strides) for p, a in layout.items()}


def _image_view(block: Any, shape: Shape, dtype: np.dtype) -> Array:
    return np.ndarray(shape, dtype, block)


def _parts(batch: Batch, count: int) -> list[Batch]:
    """A batch in `count` parts of about the same size."""
    cuts = [len(batch.x) * k // count for k in range(count + 1)]
    rows = [slice(*pair) for pair in itertools.pairwise(cuts)]
    return [Batch(batch.x[r], batch.y[r], None if batch.weight is None else batch.weight[r]) for r in rows]


def _seed(rng: np.random.Generator) -> list[int]:
    """Numbers that follow from a generator's state, which is left as it is."""
    import hashlib
    import json

    state = json.dumps(rng.bit_generator.state, default=lambda value: value.tolist(), sort_keys=True)
    return list(hashlib.sha256(state.encode()).digest())


def _one_blas_thread() -> Any:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise MissingExtraError("training with several workers", "threadpoolctl", "parallel") from None
    return threadpool_limits


def _serve(
    pipe: Any,
    network: Layer,
    loss: Loss,
    layout: Mapping[str, _Place],
    parameters: Any,
    grads: Any,
    images: Any,
    shape: Shape,
    seed: list[int],
) -> None:
    """A worker's life: gradients of each part it is sent, until it is told to end or its parent has gone."""
    import multiprocessing
    from multiprocessing import connection

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    _one_blas_thread()(limits=1, user_api="blas")
    chain: Any = network
    shared, own = _views(parameters, layout), _views(grads, layout)
    for path, (owner, name) in chain.owners().items():
        object.__setattr__(owner, name, shared[path])
    rng = np.random.default_rng(seed)
    parent: Any = multiprocessing.parent_process()
    pipe.send("ready")
    while pipe in connection.wait([pipe, parent.sentinel]):
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        if task is None:
            return
        x, y, weight, samples = task
        if isinstance(x, tuple):
            x = _image_view(images, *x)
        try:
            with np.errstate(all="ignore"):
                total, prediction, found = gradients(chain, loss, Batch(x, y, weight), rng, samples)
            for path, gradient in found.items():
                own[path][...] = np.asarray(gradient)
            pipe.send((total, np.ascontiguousarray(prediction)))
        except (ValueError, TypeError) as error:
            pipe.send(error)

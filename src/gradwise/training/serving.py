"""A worker's side of training in several processes: what each of them does, from its start to its end."""

from __future__ import annotations

import signal
from typing import Any, NamedTuple

import numpy as np

from gradwise.kernels.context import Computing
from gradwise.kernels.products import subtract
from gradwise.layers.containers import Chain
from gradwise.losses import Loss
from gradwise.training.batches import Batch
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
    gradients_in,
    keep,
    tell,
)
from gradwise.training.sharing import Sharing
from gradwise.typing import Array


class Shared(NamedTuple):
    """What all processes that train together know."""

    parameters: Block
    layout: dict[str, Spec]  # path -> how that parameter lies there
    factors: Factors
    processes: int
    spin: bool  # whether each has a processor of its own


class Task(NamedTuple):
    """What a worker is to make gradients of."""

    arrays: dict[str, Any]  # "x", "y" and "weight": where they lie, or those that are too large for that, or None
    scale: float
    rows: slice  # its samples among those of the batch
    samples: int  # of the whole batch


class Reply(NamedTuple):
    """What a worker has made of its part: where its prediction lies, or that itself, and which gradients there are."""

    prediction: Spec | Array
    gradients: tuple[str, ...]
    products: tuple[str, ...]  # those whose factors lie beside the others'


def _calm() -> None:
    """One BLAS thread, where there may be more. After a fork there is one already: to say so again has OpenBLAS start
    its threads anew, and they take the processors for some 80 ms before they sleep: 40 steps of E at batch 32.
    """
    from threadpoolctl import threadpool_info, threadpool_limits

    if any(pool["user_api"] == "blas" and pool["num_threads"] > 1 for pool in threadpool_info()):
        threadpool_limits(limits=1, user_api="blas")


def serve(
    network: Chain, loss: Loss, shared: Shared, number: int, block: Block, ends: tuple[Any, Any], seed: list[int]
) -> None:
    """A worker's life: gradients of each part it is sent, until it is told to end or its parent has gone."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    _calm()
    counters, pipe = ends
    line = Line(counters, False, pipe)
    parameters = {path: shared.parameters.view(path, of) for path, of in shared.layout.items()}
    for path, (owner, name) in network.owners().items():
        object.__setattr__(owner, name, parameters[path])
    kept, sharing = gradients_in(block, shared.layout), Sharing(network, loss)
    rng = np.random.default_rng(seed)
    parent: Any = multiprocessing.parent_process()
    task: Task | None = None
    reply: Any = None
    said: Any = None
    line.ring()
    while line.wait(parent.sentinel, shared.spin):
        news = block.view("task", NEWS)[0]
        if news == MESSAGE:
            task = line.message()
        if task is None:
            return
        if news == STEP:
            with Computing():
                for path in reply.products:
                    where, share = shared.factors.part(path, task.samples, number, shared.processes)
                    subtract(parameters[path][where], share)
            line.ring()
            continue
        batch = Batch(*(block.view(name, at) if isinstance(at, Spec) else at for name, at in task.arrays.items()))
        try:
            with Computing():
                total, prediction, found = sharing.gradients(batch, rng, task.scale)
            block.view("loss", LOSS)[0] = total
            at = block.put("prediction", prediction) or np.ascontiguousarray(prediction)
            products = shared.factors.take(found, task.rows, task.samples)
            for path, gradient in found.items():
                keep(kept[path], path, gradient)
            reply = Reply(at, tuple(found), products)
        except (ValueError, TypeError) as error:
            reply = error
        same = isinstance(reply, Reply) and isinstance(reply.prediction, Spec) and reply == said
        said = reply if isinstance(reply, Reply) and isinstance(reply.prediction, Spec) else None
        tell(line, block, "reply", SAME if same else MESSAGE, reply)

"""One step, one epoch, one run; and one pass of evaluation."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np

from gradwise import metrics as metric
from gradwise.errors import ArgumentError, NonFiniteError, ShapeError
from gradwise.kernels.context import Computing
from gradwise.layers.containers import Chain
from gradwise.losses import Loss
from gradwise.optimizers import Optimizer
from gradwise.training.batches import Arrays, Batch
from gradwise.training.callbacks import Callback, EveryEpoch, Training
from gradwise.training.diagnosis import finite_parameters
from gradwise.training.history import History
from gradwise.training.parallel import Workers
from gradwise.training.progress import Progress
from gradwise.training.step import step
from gradwise.typing import Array

Metric = Callable[[Array, Array], Array]
Step = Callable[[Batch], tuple[float, Array]]

# Numbers of predictions that metrics look at together: an epoch of E in batches of 32 takes 0.99 of the time.
_TOGETHER = 1 << 13


class Batches(Protocol):
    """What the loop reads from: `Arrays` or `Stream`."""

    def __len__(self) -> int: ...

    def epoch(self, rng: np.random.Generator | None = None) -> Iterator[Batch]: ...


class Means:
    """Running means of the loss and of metrics over an epoch's samples. Metrics look at small batches together."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self.metrics = metrics
        self.samples = 0
        self.sums = dict.fromkeys(("loss", *metrics), 0.0)
        self._waiting: list[tuple[Array, Array]] = []
        self._numbers = 0

    def add(self, mean_loss: float, prediction: Array, target: Array) -> None:
        """Count one batch in."""
        count = len(prediction)
        self.samples += count
        self.sums["loss"] += mean_loss * count
        if not self.metrics:
            return
        self._numbers += prediction.size
        if self._numbers >= _TOGETHER:
            self._waiting.append((prediction, target))
            self._look()
        else:  # as copies: whoever made the arrays may make the next ones in their place
            self._waiting.append((prediction.copy("K"), target.copy()))

    def result(self) -> dict[str, float]:
        """Name -> mean."""
        self._look()
        return {name: total / max(1, self.samples) for name, total in self.sums.items()}

    def _look(self) -> None:
        """Have the metrics look at the batches that wait."""
        if not self._waiting:
            return
        predictions, targets = zip(*self._waiting, strict=True)
        prediction, target = (part[0] if len(part) == 1 else np.concatenate(part) for part in (predictions, targets))
        for name, function in self.metrics.items():
            values = np.asarray(function(prediction, target))
            if values.shape != (len(prediction),):
                raise ShapeError(
                    f"metrics: {name}", f"gives one number a sample, ({len(prediction)},), but gave {values.shape}."
                )
            self.sums[name] += float(np.add.reduce(values))
        self._waiting, self._numbers = [], 0


def predictions(network: Chain, source: Arrays) -> Array:
    """The network's output for all batches, (N, *output_shape), as in inference."""
    outputs: Array | None = None
    start = 0
    for x, _, _ in source.epoch():
        y = network.forward(x)
        if outputs is None:
            outputs = np.empty((len(source.x), *y.shape[1:]), y.dtype)
        outputs[start : start + len(y)] = y
        start += len(y)
    return outputs  # type: ignore[return-value]


def evaluate(network: Chain, loss: Loss, batches: Batches, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Mean loss and metrics over all batches, as in inference."""
    means = Means(metrics)
    for x, y, weight in batches.epoch():
        prediction = network.forward(x)
        values = loss.vjp(prediction, y)[0]
        if weight is not None:
            values = values * weight
        means.add(float(np.add.reduce(values)) / len(values), prediction, y)
    return means.result()


def fit(
    network: Chain,
    loss: Loss,
    optimizer: Optimizer,
    batches: Batches,
    *,
    epochs: int,
    rng: np.random.Generator,
    shuffle: bool,
    validation: Batches | None,
    metrics: Mapping[str, Metric],
    callbacks: Sequence[Callback | Callable[[Training], object]],
    verbose: bool,
    workers: int | Workers = 1,
    batch_size: int = 1,
    quick: Callable[..., Any],
) -> History:
    """Train for some epochs. Ctrl-C ends the run after the batch under way; a loss that is not finite ends it with an
    error, and the network is given back the arrays of its last finite epoch.
    """
    training = Training(network, optimizer, epochs)
    watchers = [watcher if isinstance(watcher, Callback) else EveryEpoch(watcher) for watcher in callbacks]
    progress = Progress(verbose, epochs, len(batches))
    with ExitStack() as stack:
        stack.enter_context(Computing())
        team = workers if isinstance(workers, Workers) else None
        if isinstance(workers, int) and workers > 1:
            team = stack.enter_context(Workers(network, workers, batch_size))
        stack.enter_context(_stop_on_interrupt(training))

        def take(batch: Batch) -> tuple[float, Array]:
            if team is not None:
                return team.step(optimizer, batch, rng)
            # A program is of the network's own loss and optimiser, which a callback may have changed since.
            own = getattr(network, "loss", None) is loss and getattr(network, "optimizer", None) is optimizer
            if batch.weight is not None or not own:
                return step(network, loss, optimizer, batch, rng)
            return quick(batch.x.shape, batch.x, batch.y, rng)

        try:
            _each(watchers, "on_train_begin", training)
            for training.epoch in range(epochs):
                if training.stopped:
                    break
                record = _epoch(training, take, batches, rng if shuffle else None, metrics, watchers, progress)
                if record is None:
                    break
                finite_parameters(network)
                if validation is not None:
                    scores = evaluate(network, loss, validation, metrics)
                    record |= {f"val_{name}": value for name, value in scores.items()}
                record["seconds"] = time.monotonic() - training.began
                training.history.append(record)
                progress.end(record)
                _each(watchers, "on_epoch_end", training)
            _each(watchers, "on_train_end", training)
        except NonFiniteError as error:
            _restore(network, training.kept)
            raise NonFiniteError(
                f"training stopped in epoch {training.epoch + 1}, batch {training.batch + 1}: {error}\n"
                f"The network has the weights {_which(training.history.epochs)}. Try a smaller learning rate than"
                f" {optimizer.learning_rate:g}, or clip_norm."
            ) from None
        finally:
            progress.close()
    return training.history


def _which(epochs: int) -> str:
    return f"of the end of epoch {epochs}" if epochs else "it had before training"


def _epoch(
    training: Training,
    take: Step,
    batches: Batches,
    order: np.random.Generator | None,
    metrics: Mapping[str, Metric],
    watchers: list[Callback],
    progress: Progress,
) -> dict[str, float] | None:
    """One pass over the batches; None where it was stopped before its end."""
    training.began = time.monotonic()
    _each(watchers, "on_epoch_begin", training)
    progress.begin(training.epoch)
    means = Means(metrics)
    for training.batch, batch in enumerate(batches.epoch(order)):
        if training.stopped:
            return None
        if training.batch == 0:
            training.kept = _snapshot(training.network)
        training.loss, prediction = take(batch)
        means.add(training.loss, prediction, batch.y)
        progress.batch(means.result)
        for watcher in watchers:
            watcher.on_batch_end(training)
    return None if training.history.interrupted else means.result()


def _each(watchers: list[Callback], event: str, training: Training) -> None:
    for watcher in watchers:
        getattr(watcher, event)(training)


def _snapshot(network: Chain) -> dict[str, dict[str, Array]]:
    return {
        kind: {path: array.copy(order="K") for path, array in network.arrays(kind).items()}
        for kind in ("parameters", "state")
    }


def _restore(network: Chain, kept: dict[str, dict[str, Array]]) -> None:
    for kind, arrays in kept.items():
        for path, array in network.arrays(kind).items():
            array[...] = arrays[path]


@contextmanager
def _stop_on_interrupt(training: Training) -> Iterator[None]:
    """Ctrl-C stops the run after its batch; a second one, at once. A handler of the user's own stays."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        if training.history.interrupted:
            raise KeyboardInterrupt
        training.history.interrupted = True
        training.stop()

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def resolve(metrics: Any, loss: Loss) -> dict[str, Metric]:
    """The metrics asked for, by name: "auto" is accuracy for classes and labels, nothing for values."""
    if metrics == "auto":
        metrics = () if loss.task == "values" else ("accuracy",)
    named: dict[str, Metric] = {}
    for given in () if metrics is None else (metrics,) if isinstance(metrics, str) or callable(metrics) else metrics:
        if callable(given):
            named[getattr(given, "__name__", type(given).__name__)] = given
            continue
        known = _METRICS.get(given)
        if known is None or loss.task not in known:
            reason = f"is not a metric; there are {', '.join(_METRICS)}" if known is None else f"does not fit {loss!r}"
            raise ArgumentError(f"metrics: {given!r} {reason}, and functions (prediction, target) -> (N,).")
        named[given] = known[loss.task]
    return named


_METRICS: Mapping[str, Mapping[str, Metric]] = {
    "accuracy": {"classes": metric.accuracy, "labels": metric.label_accuracy},
    "top_5_accuracy": {"classes": metric.top_5_accuracy},
    "mean_absolute_error": {"values": metric.mean_absolute_error},
    "mean_squared_error": {"values": metric.mean_squared_error},
}

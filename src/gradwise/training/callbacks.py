"""What can look on and step in while a network is trained."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gradwise.errors import ArgumentError
from gradwise.optimizers import Optimizer
from gradwise.training.history import History
from gradwise.typing import Array

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "LearningRateSchedule", "Training"]


@dataclass
class Training:
    """A training run, as callbacks see it.

    Attributes
    ----------
    network : Network
    optimizer : Optimizer
    history : History
        The finished epochs; at an epoch's end, that one too.
    epoch, epochs : int
        Which epoch it is, from 0, and how many there are to be.
    batch : int
        Which batch of the epoch it is, from 0.
    loss : float
        The last batch's mean loss.
    began : float
        When the epoch began, by `time.monotonic`.
    kept : dict
        The network's parameters and state as the epoch found them.
    """

    network: Any
    optimizer: Optimizer
    epochs: int
    history: History = field(default_factory=History)
    epoch: int = 0
    batch: int = 0
    loss: float = float("nan")
    began: float = 0.0
    kept: dict[str, dict[str, Array]] = field(default_factory=dict)
    stopped: bool = False

    def stop(self) -> None:
        """End training after the batch or epoch under way."""
        self.stopped = True


class Callback:
    """Base of all callbacks: override what is wanted. A plain function serves as `on_epoch_end`."""

    def on_train_begin(self, training: Training) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, training: Training) -> None:
        """Before each epoch."""

    def on_batch_end(self, training: Training) -> None:
        """After each step."""

    def on_epoch_end(self, training: Training) -> None:
        """After each epoch and its validation."""

    def on_train_end(self, training: Training) -> None:
        """After the last epoch, also when training was stopped early."""


class EveryEpoch(Callback):
    """A plain function as a callback: called at each epoch's end."""

    def __init__(self, function: Callable[[Training], object]) -> None:
        self.function = function

    def on_epoch_end(self, training: Training) -> None:
        self.function(training)


def latest(training: Training, monitor: str, callback: str) -> float:
    """The last epoch's number of that name."""
    if monitor not in training.history:
        names = ", ".join(training.history)
        raise ArgumentError(
            f"{callback} monitors {monitor!r}, which this run does not report; it reports {names}."
            " Names with val_ need validation data."
        )
    return training.history[monitor][-1]


def improves(monitor: str, value: float, best: float | None, by: float = 0.0) -> bool:
    """Whether `value` is better: larger for accuracies, smaller for losses and errors."""
    if best is None:
        return True
    return value > best + by if "accuracy" in monitor else value < best - by


class EarlyStopping(Callback):
    """Stop when a number has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        A name in the history.
    patience : int
        Epochs without improvement that are allowed.
    minimum_change : float
        What counts as an improvement.
    restore_best : bool
        Give the network back the parameters of its best epoch at the end.
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 3, minimum_change: float = 0.0, restore_best: bool = True
    ) -> None:
        if not isinstance(patience, int) or patience < 0:
            raise ArgumentError(f"EarlyStopping: patience is a whole number of 0 or more, but got {patience!r}.")
        self.monitor = monitor
        self.patience = patience
        self.minimum_change = minimum_change
        self.restore_best = restore_best
        self.best: float | None = None

    def on_train_begin(self, training: Training) -> None:
        self.best, self._since = None, 0
        self._kept: dict[str, Array] = {}

    def on_epoch_end(self, training: Training) -> None:
        value = latest(training, self.monitor, "EarlyStopping")
        if improves(self.monitor, value, self.best, self.minimum_change):
            self.best, self._since = value, 0
            if self.restore_best:
                self._kept = {
                    path: array.copy(order="K")
                    for kind in ("parameters", "state")
                    for path, array in training.network.arrays(kind).items()
                }
        else:
            self._since += 1
            if self._since > self.patience:
                training.stop()

    def on_train_end(self, training: Training) -> None:
        for kind in ("parameters", "state"):
            for path, array in training.network.arrays(kind).items():
                if path in self._kept:
                    array[...] = self._kept[path]


class Checkpoint(Callback):
    """Save the network, its optimiser and its random state at the end of each epoch, or of each best one.

    Parameters
    ----------
    path : str or path
        "{epoch}" in it becomes the epoch's number, from 1.
    best_only : bool
        Save only when `monitor` has improved.
    monitor : str
        A name in the history.
    """

    def __init__(self, path: str | os.PathLike[str], best_only: bool = False, monitor: str = "val_loss") -> None:
        self.path = path
        self.best_only = best_only
        self.monitor = monitor
        self.best: float | None = None

    def on_epoch_end(self, training: Training) -> None:
        if self.best_only:
            value = latest(training, self.monitor, "Checkpoint")
            if not improves(self.monitor, value, self.best):
                return
            self.best = value
        path = os.fspath(self.path).replace("{epoch}", str(training.epoch + 1))
        training.network.save(path, optimizer=training.optimizer)


class LearningRateSchedule(Callback):
    """Set the learning rate at the start of each epoch.

    Parameters
    ----------
    schedule : callable
        (epoch from 0, learning rate so far) -> learning rate.
    """

    def __init__(self, schedule: Callable[[int, float], float]) -> None:
        self.schedule = schedule

    def on_epoch_begin(self, training: Training) -> None:
        rate = self.schedule(training.epoch, training.optimizer.learning_rate)
        if not isinstance(rate, (int, float)) or not 0 <= rate < float("inf"):
            raise ArgumentError(f"LearningRateSchedule: epoch {training.epoch} got the learning rate {rate!r}.")
        training.optimizer.learning_rate = float(rate)

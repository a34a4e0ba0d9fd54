"""What a person sees of training: a bar per epoch on a terminal, a line per epoch elsewhere, nothing if silent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

_INTERVAL = 0.1  # seconds between two looks of a bar


class Progress:
    """Reports on standard error.

    Parameters
    ----------
    verbose : bool
    epochs : int
    batches : int
        In an epoch; 0 where that is not known.
    """

    def __init__(self, verbose: bool, epochs: int, batches: int) -> None:
        self.verbose = verbose
        self.epochs = epochs
        self.batches = batches
        self._terminal = verbose and sys.stderr is not None and sys.stderr.isatty()
        self._bar: Any = None

    def begin(self, epoch: int) -> None:
        """An epoch starts."""
        self._label = f"epoch {epoch + 1}/{self.epochs}"
        self._done, self._shown, self._next = 0, 0, 0.0
        if self._terminal:
            from tqdm import tqdm

            self._bar = tqdm(total=self.batches or None, desc=self._label, unit="batch", file=sys.stderr)

    def batch(self, numbers: Callable[[], Mapping[str, float]]) -> None:
        """A batch is done; `numbers` gives the epoch's means so far, and is asked ten times a second."""
        if self._bar is None:
            return
        self._done += 1
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _INTERVAL
            self._bar.set_postfix_str(shown(numbers()), refresh=False)
            self._bar.update(self._done - self._shown)
            self._shown = self._done

    def end(self, record: Mapping[str, float]) -> None:
        """The epoch is over."""
        if self._bar is not None:
            self._bar.update(self._done - self._shown)
            self._bar.set_postfix_str(shown(record))
            self.close()
        elif self.verbose:
            print(f"{self._label}: {shown(record)}  {record['seconds']:.1f} s", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away from the cursor, also when training ended in an error."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def shown(numbers: Mapping[str, float]) -> str:
    """Losses and metrics in one line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in numbers.items() if name != "seconds")

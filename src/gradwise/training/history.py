"""What a training run leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class History(Mapping[str, list[float]]):
    """The course of a training run: name -> one number per finished epoch.

    Names are "loss" and each metric's, the same with "val_" where there is validation data, and "seconds". Losses and
    metrics of an epoch are means over its samples as they were trained; those of the validation data come after it.

    Attributes
    ----------
    history : dict
        The same as a plain dictionary.
    interrupted : bool
        Whether Ctrl-C ended the run; the epoch it fell into is not in the history.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.interrupted = False

    def append(self, record: Mapping[str, float]) -> None:
        """Add one epoch's numbers."""
        for name, value in record.items():
            self.history.setdefault(name, []).append(value)

    @property
    def epochs(self) -> int:
        """How many epochs were finished."""
        return max(map(len, self.history.values()), default=0)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.history)

    def __len__(self) -> int:
        return len(self.history)

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.history.items() if name != "seconds")
        return f"<History of {self.epochs} epochs{': ' + last if last else ''}>"

"""The errors of gradwise: each names the place, what was expected, what came, and the mend."""

from __future__ import annotations


class ShapeError(ValueError):
    """An array's shape does not fit the layer, network or loss it was given to.

    A `Chain` completes the message on its way up with the layer's index and with what the layer before it gave.

    Parameters
    ----------
    subject : str
        The layer or function that refuses, as its repr.
    problem : str
        What was expected, what came, and the mend; continues the sentence that `subject` begins.
    """

    def __init__(self, subject: str, problem: str) -> None:
        super().__init__(subject, problem)
        self.subject = subject
        self.problem = problem
        self.path = ""
        self.before = ""

    def locate(self, index: int, before: str = "") -> None:
        """Say that the refusing layer stands at `index` of a chain, behind what `before` describes."""
        self.path = f"{index}.{self.path}" if self.path else str(index)
        self.before = self.before or before

    def __str__(self) -> str:
        place = f"layer {self.path} ({self.subject})" if self.path else self.subject
        return f"{place} {self.problem}" + (f"\n{self.before}" if self.before else "")


class DataError(ValueError):
    """The data's values or lengths make no sense: empty, not finite, labels out of range, x and y of two lengths."""


class DTypeError(TypeError):
    """An array or argument is of a type that cannot be computed with."""


class ArgumentError(ValueError):
    """A hyper-parameter or option is not among those that exist."""


class NotBuiltError(ValueError):
    """A layer or network was used before it had its arrays."""


class NonFiniteError(ValueError):
    """Training met a NaN or an infinity; the message names the epoch, the batch and the first layer where it shows."""


class GradientError(ValueError, AssertionError):
    """A derivative disagrees with its central difference; the message says which, where and by how much."""


class TooLargeError(ValueError):
    """A result would not fit the memory limit given; the message has the estimate and the limit."""


class LoadError(ValueError):
    """A file cannot be loaded: damaged, foreign, newer than this gradwise, or not matching its own description."""


class WorkerError(RuntimeError):
    """A process that trains has died; the message says what became of the network."""


class MissingExtraError(ImportError):
    """A feature needs a package that is not installed; the message names the extra to install."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"{feature} needs {package}: pip install 'gradwise[{extra}]'")

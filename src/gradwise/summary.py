"""The table that shows a network: layers, output shapes, parameters."""

from __future__ import annotations

from gradwise.layers.base import Layer
from gradwise.layers.containers import Chain
from gradwise.typing import Shape

_WIDEST = 60  # characters of a column


def table(network: Chain) -> str:
    """A built chain as a table: a row a layer with its output's shape and number of parameters, and their totals."""
    rows = [("", "layer", "output shape", "parameters")]
    shape = network.input_shape or ()
    for index, layer in enumerate(network.layers):
        shape = layer.output_shape or shape
        count = sum(array.size for array in layer.arrays().values())
        note = "" if layer.trainable or not count else " (frozen)"
        rows.append((str(index), repr(layer) + note, _batch(shape), f"{count:,}"))
    widths = [min(_WIDEST, max(len(row[column]) for row in rows)) for column in range(4)]
    lines = [f"{a:>{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in rows]
    rule = "-" * max(map(len, lines))
    arrays = network.arrays().values()
    total, size, frozen = sum(a.size for a in arrays), sum(a.nbytes for a in arrays), _frozen(network)
    trained = f", {total - frozen:,} of them trained" if frozen else ""
    foot = f"{total:,} parameters{trained}, {size / 1e6:.2f} MB"
    return "\n".join([f"input {_batch(network.input_shape or ())}", lines[0], rule, *lines[1:], rule, foot])


def _batch(shape: Shape) -> str:
    return f"(N, {', '.join(map(str, shape))})"


def _frozen(layer: Layer) -> int:
    """How many numbers are in frozen layers."""
    if not layer.trainable:
        return sum(array.size for array in layer.arrays().values())
    return sum(_frozen(child) for child in layer.children().values())

"""Where a NaN or an infinity first shows, once there is one."""

from __future__ import annotations

from gradwise.errors import NonFiniteError
from gradwise.kernels.checks import all_finite
from gradwise.layers.base import Layer
from gradwise.layers.containers import Chain
from gradwise.losses import Loss
from gradwise.training.batches import Batch
from gradwise.typing import Array


def first_not_finite(network: Chain, loss: Loss, batch: Batch) -> str:
    """The first layer whose output is not finite on this batch, else the last whose gradient is not; in words."""
    if not all_finite(batch.x):
        return "x has NaN or infinite entries."
    y = batch.x
    passes = []
    for place, layer in _leaves(network):
        y, pullback = layer.vjp(y)
        if not all_finite(y):
            bad = [name for name, array in layer.arrays().items() if not all_finite(array)]
            reason = f" because its {bad[0]} is not, after the step before" if bad else ""
            return f"the first output that is not finite is that of layer {place} ({layer!r}){reason}."
        passes.append((place, layer, pullback))
    values, gradient = loss.vjp(y, batch.y)
    dy: Array = gradient()
    if not all_finite(values) or not all_finite(dy):
        return f"every layer's output is finite, but {loss!r} is not."
    for place, layer, pullback in reversed(passes):
        dy, gradients = pullback(dy)
        for name, array in {"input": dy, **gradients}.items():
            if not all_finite(array):
                return f"the first gradient that is not finite is that of the {name} of layer {place} ({layer!r})."
    return "it cannot be seen again in inference: a random layer's draw made it."


def finite_parameters(network: Chain) -> None:
    """Raise where a parameter is not finite: the last step of an epoch made it so, and no loss has shown it yet."""
    for path, array in network.arrays().items():
        if not all_finite(array):
            place, name = path.rsplit(".", 1)
            layer = dict(_leaves(network)).get(place)
            raise NonFiniteError(f"the {name} of layer {place} ({layer!r}) is not finite after the step.")


def _leaves(chain: Chain, prefix: str = "") -> list[tuple[str, Layer]]:
    """(dotted index, layer) of all layers that are no chains, in order."""
    found: list[tuple[str, Layer]] = []
    for index, layer in enumerate(chain.layers):
        place = f"{prefix}{index}"
        found += _leaves(layer, f"{place}.") if isinstance(layer, Chain) else [(place, layer)]
    return found

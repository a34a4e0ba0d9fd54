"""What a network is given, checked before any work, and fit for that network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradwise.errors import ArgumentError, DTypeError, NotBuiltError
from gradwise.losses import Loss
from gradwise.optimizers import Adam, Optimizer
from gradwise.training import batches as data
from gradwise.typing import Array

INFERENCE_BATCH = 256  # samples that are run at a time where nobody says how many


def loss(network: Any, what: str) -> Loss:
    """The network's loss, which `what` needs."""
    if network.loss is None:
        raise ArgumentError(f"{what} needs a loss: Network(layers, loss=SoftmaxCrossEntropy()), or net.loss = ...")
    return network.loss


def built(network: Any, what: str) -> None:
    """Refuse a network that has no parameters yet, which `what` needs."""
    if network.input_shape is None:
        raise NotBuiltError(
            f"{what}: this network is not built yet, so it has no parameters. Give Network(..., input_shape=...),"
            " call net.build(input_shape), or train it first."
        )


def optimizer(network: Any, chosen: Optimizer | None) -> Optimizer:
    """The optimiser that is chosen, else the network's, else a new `Adam()`."""
    if chosen is not None and not isinstance(chosen, Optimizer):
        hint = f" Make one: {chosen.__name__}()." if isinstance(chosen, type) else ""
        raise DTypeError(f"optimizer is an Optimizer such as Adam(1e-3), but got {chosen!r}.{hint}")
    return chosen or network.optimizer or Adam()


def to_fit(
    network: Any,
    x: Any,
    y: Any,
    epochs: int,
    batch_size: int,
    sample_weight: Any,
    class_weight: Mapping[int, float] | None,
    validation_split: float,
    validation_data: tuple[Any, ...] | None,
) -> tuple[data.Arrays | data.Stream, data.Arrays | None]:
    """The arguments of `Network.fit` as what to train on, and what to evaluate after each epoch."""
    if not isinstance(validation_split, (int, float)) or not 0 <= validation_split < 1:
        raise ArgumentError(
            f"validation_split is a number from 0 up to, not including, 1, but got {validation_split!r}."
        )
    source: data.Arrays | data.Stream
    validation: data.Arrays | None = None
    if data.is_stream(x, y):
        if validation_split or sample_weight is not None or class_weight is not None:
            raise ArgumentError(
                "validation_split, sample_weight and class_weight go with arrays x and y; x is an iterable of"
                " batches. Give validation_data=(x, y), and weights as a batch's third part."
            )
        source = data.Stream(x, lambda some, targets: pair(network, some, targets), epochs)
    else:
        source = arrays(network, x, y, sample_weight, class_weight, batch_size)
        if validation_split:
            if validation_data is not None:
                raise ArgumentError("give validation_split or validation_data, not both.")
            source, validation = source.split(validation_split)
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise ArgumentError("validation_data is (x, y) or (x, y, sample_weight).")
        weight = validation_data[2] if len(validation_data) == 3 else None
        held, targets = validation_data[:2]
        validation = arrays(network, held, targets, weight, None, INFERENCE_BATCH, "validation_data")
    if validation is not None:
        validation.batch_size = max(batch_size, INFERENCE_BATCH)
    return source, validation


def inputs(network: Any, x: Any) -> Array:
    """X checked, (N, *input_shape), of a network that is built."""
    array = data.inputs(x)
    data.fits(array, network, "x")
    return array


def arrays(
    network: Any,
    x: Any,
    y: Any,
    weight: Any,
    class_weight: Mapping[int, float] | None,
    batch_size: int,
    what: str = "x",
) -> data.Arrays:
    """x, y and weights checked, and x in the parameters' dtype; builds a network that has not been."""
    array, target = _checked(network, x, y, what)
    weights = None if weight is None else data.sample_weights(weight, len(array))
    if class_weight is not None:
        by_class = data.class_weights(class_weight, target, network.loss, network.output_shape)
        weights = by_class if weights is None else weights * by_class
    return data.Arrays(array, target, weights, batch_size, network.dtype)


def pair(network: Any, x: Any, y: Any) -> tuple[Array, Array]:
    """One batch checked, in the parameters' dtype; builds a network that has not been."""
    array, target = _checked(network, x, y, "x")
    return array.astype(network.dtype, copy=False), target


def explained(network: Any, x: Any, y: Any, what: str) -> tuple[Loss, Array, Array]:
    """The loss, and one batch checked, in the dtype it came in, which `what` needs: float64 in, float64 through."""
    own = loss(network, what)
    built(network, what)
    array = network.admit(inputs(network, x))
    return own, array, data.pairs(array, y, own, network.output_shape)


def _checked(network: Any, x: Any, y: Any, what: str) -> tuple[Array, Array]:
    """x and y checked; builds a network that has not been."""
    array = data.inputs(x, what)
    if network.input_shape is None:
        network.build(array.shape[1:], network.rng)
    data.fits(array, network, what)
    return array, data.pairs(array, y, network.loss, network.output_shape)

"""Layers made of layers."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradwise.errors import ArgumentError, DTypeError, ShapeError
from gradwise.kernels import BUFFER, side
from gradwise.kernels.memory import Aligned
from gradwise.kernels.samples import together
from gradwise.layers import program
from gradwise.layers.backwards import ChainPullback, learns
from gradwise.layers.base import Layer, features
from gradwise.layers.order import Plan, arranged
from gradwise.layers.pooled import PooledConvolution
from gradwise.typing import Array, Pullback, Shape

_FEW = 1 << 16  # numbers that go together without a further look


class Chain(Layer):
    """Layers one after the other. A chain is a layer, so chains nest; a layer may stand in several places.

    Parameters
    ----------
    layers : sequence of Layer
    trainable : bool
        False freezes all layers inside.

    Attributes
    ----------
    largest : int
        The numbers of the largest array that goes from one layer to the next, for one sample.
    weights : int
        The numbers of the largest parameter.
    """

    def __init__(self, layers: Sequence[Layer], trainable: bool = True) -> None:
        self.layers = _listed(layers, type(self).__name__)
        self.trainable = trainable
        self._paths: list[dict[str, str]] | None = None
        self._owners: dict[str, tuple[Layer, str]] = {}
        self._held: program.Held | None = None
        self._planned: Plan = []
        self._known: tuple[Layer, ...] = ()
        self._all: tuple[Layer, ...] = ()
        self._chains: tuple[Chain, ...] = ()
        self._inside = 0
        self._changes = 0
        self.largest = 1
        self.weights = 0
        self._inference: program.Forward | None = None
        self._training: program.Sweep | None = None
        self._trains: tuple[bool, ...] = ()

    def children(self) -> dict[str, Layer]:
        """Index -> layer."""
        return {str(index): layer for index, layer in enumerate(self.layers)}

    def build(self, input_shape: Shape, rng: np.random.Generator) -> Shape:
        shape, before = input_shape, ""
        for index, layer in enumerate(self.layers):
            try:
                if layer.input_shape == shape and any(True for _ in layer.slots()):
                    given = layer.output_shape or shape  # it has its arrays: trained before, or standing here twice
                else:
                    given = layer.build(shape, rng)
            except ShapeError as error:
                error.locate(index, before)
                raise
            before = _gave(layer, shape, given)
            shape = given
        self._forget()
        self._arrange()
        return shape

    def accepts(self, shape: Shape) -> bool:
        """What the first layer accepts; the others say for themselves."""
        return self.layers[0].accepts(shape)

    def vjp(
        self, x: Array, training: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Array, ChainPullback]:
        steps: list[tuple[int, Pullback]] = []
        y = x
        try:
            for index, layer in self._plan():
                y, pullback = layer.vjp(y, training, rng)
                steps.append((index, pullback))
        except ShapeError as error:
            raise self._located(error, x) from None
        return y, ChainPullback(self.layers, self._tables(), steps)

    def forward(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> Array:
        """The last layer's output for a batch, (N, *input_shape); what each layer saves is dropped as it goes."""
        plan = self._plan()
        if not training:
            return self.infer(x)
        y = x
        try:
            for _, layer in plan:
                y = layer.forward(y, training, rng)
            return y
        except ShapeError as error:
            raise self._located(error, x) from None

    def infer(self, x: Array) -> Array:
        """`forward` outside training, of x that has been checked and of layers that have just been looked at."""
        if self._inference is None:
            self._inference = program.inference([layer for _, layer in self._planned])
        try:
            return self._inference(x) if len(x) * self.largest <= _FEW else self._in_parts(self._inference, x)
        except ShapeError as error:
            raise self._located(error, x) from None

    def _in_parts(self, run: program.Forward, x: Array) -> Array:
        """The inference of a large batch, whose arrays would leave the caches."""
        threads = side.threads(len(x) * self.largest)
        parts = together(len(x), self.largest, self.weights, threads)
        before = np.setbufsize(BUFFER)  # with the default, the benchmarks' network D takes 1.2 times as long, E 1.1
        try:
            with Aligned():
                made = side.by_side(lambda part: run(x[part]), parts, threads)
        finally:
            np.setbufsize(before)
        return made[0] if len(made) == 1 else np.concatenate(made)

    def sweep(self, x: Array, rng: np.random.Generator | None, judge: program.Judge) -> dict[str, Array]:
        """Once forwards, as in training, and once backwards: the gradients of the parameters that are trained.

        Parameters
        ----------
        x : array (N, *input_shape), of floating point numbers
        rng : numpy.random.Generator or None
        judge : callable
            Is given the output, (N, *output_shape), and returns the cotangent dL/dy, of its shape.

        Returns
        -------
        dict
            Path -> gradient; of a large kernel a `Product`, which is not made yet.
        """
        self._refresh()
        trains = tuple([layer.trainable for layer in self._all])
        if self._training is None or trains != self._trains:
            plan, tables = self._planned, self._tables()
            learning = [learns(self.layers[index]) for index, _ in plan]
            self._training = program.training(
                [layer for _, layer in plan], [tables[index] for index, _ in plan], learning
            )
            self._trains = trains
        try:
            return self._training(x, rng, judge)
        except ShapeError as error:
            raise self._located(error, x) from None

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: programs name the layers they were written for."""
        return self.__dict__ | {"_inference": None, "_training": None, "_held": None}

    def _plan(self) -> Plan:
        """The layers in the order they run, each with its index."""
        self._refresh()
        return self._planned

    def _refresh(self) -> int:
        """Forget what was worked out for other layers than are here now, in this chain or in one inside it: `layers` is
        the user's to change. How often there was something to forget.
        """
        layers, known = self.layers, self._known
        same = len(layers) == len(known) and all(map(operator.is_, layers, known))
        if same and not self._chains:
            return self._changes
        if not same:
            self._known = tuple(layers)
            self._chains = tuple([layer for layer in layers if isinstance(layer, Chain)])
        inside = sum(chain._refresh() for chain in self._chains)
        if not same or inside != self._inside:
            self._forget()
            self._all = tuple(_inside(self))
            self._arrange()
            self._inside = inside
            self._changes += 1
        return self._changes

    def _forget(self) -> None:
        """Forget what was worked out for the layers."""
        self._paths, self._owners = None, {}
        self._inference = self._training = self._held = None

    def _arrange(self) -> None:
        """Find the order in which the layers run, `largest` and `weights`."""
        self._planned = arranged(self.layers)
        self.largest = max(_numbers(layer) for _, layer in self._planned)
        parameters = (getattr(owner, name, None) for _, owner, name in self.slots())
        self.weights = max((parameter.size for parameter in parameters if parameter is not None), default=0)

    def _located(self, error: ShapeError, x: Array) -> ShapeError:
        """The error with the layer it comes from, and what that was given: all are run again, one by one."""
        y, before = self.admit(x), ""
        for index, layer in enumerate(self.layers):
            try:
                made = layer.forward(y)
            except ShapeError as again:
                again.locate(index, before)
                return again
            before = _gave(layer, y.shape[1:], made.shape[1:])
            y = made
        return error

    def paths(self) -> list[dict[str, str]]:
        """For each layer: its own parameter's path -> that parameter's path in the chain.

        A parameter of a layer that stands in several places goes by its first path everywhere.
        """
        self._refresh()
        return self._tables()

    def _tables(self) -> list[dict[str, str]]:
        """`paths` of the layers as they were last looked at."""
        if self._paths is None:
            first: dict[tuple[int, str], str] = {}
            self._paths = []
            for prefix, layer in self.children().items():
                table = {}
                for path, owner, name in layer.places():
                    table[path] = first.setdefault((id(owner), name), f"{prefix}.{path}")
                self._paths.append(table)
        return self._paths

    def owners(self) -> dict[str, tuple[Layer, str]]:
        """Each parameter's path -> the layer that has it, and its name there."""
        self._refresh()
        if not self._owners:
            self._owners = {path: (owner, name) for path, owner, name in self.slots()}
        return self._owners

    def held(self, look: bool = True) -> dict[str, Array]:
        """`arrays()`, the parameters, in less time.

        `look` says whether to look first if layers have been replaced, which takes as long as the rest: 0.3 us.
        """
        if look:
            self._refresh()
        if self._held is None:
            self._held = program.lookup(self.slots())
        return self._held()


def _numbers(layer: Layer | PooledConvolution) -> int:
    """Those of the largest array that a layer hands on, or one inside it does, for one sample."""
    if isinstance(layer, PooledConvolution):
        return layer.numbers()
    if isinstance(layer, Chain):
        return layer.largest
    return max([math.prod(one.output_shape or ()) for one in (layer, *_inside(layer))])


def _inside(layer: Layer) -> Iterator[Layer]:
    """The layers in a layer, and in those, and so on."""
    for child in layer.children().values():
        yield child
        yield from _inside(child)


def _listed(layers: Sequence[Layer], container: str) -> list[Layer]:
    if isinstance(layers, Layer) or not isinstance(layers, (list, tuple)):
        raise DTypeError(f"{container} takes a list of layers, but got {layers!r}.")
    for index, layer in enumerate(layers):
        if isinstance(layer, type) and issubclass(layer, Layer):
            raise DTypeError(
                f"{container}: layer {index} is the class {layer.__name__}; make one: {layer.__name__}(...)."
            )
        if not isinstance(layer, Layer):
            raise DTypeError(
                f"{container}: layer {index} is {layer!r}, not a Layer. Activations are layers too: ReLU(), Softmax()."
            )
    if not layers:
        raise ArgumentError(f"{container} takes at least one layer, but got none.")
    return list(layers)


def _gave(layer: Layer, given: Shape, shape: Shape) -> str:
    """What a layer made of its input: the last line of the error of the layer behind it."""
    made = f" from {features(given)}" if given != shape else ""
    return f"The layer before it, {layer!r}, gave (N, {', '.join(map(str, shape))}){made}."

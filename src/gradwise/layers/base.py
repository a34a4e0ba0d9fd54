"""`Layer`: the protocol of every layer, chain and network; parameters by path; shape checks and their wording."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from gradwise import config
from gradwise.errors import ArgumentError, DTypeError, ShapeError
from gradwise.initializers import Placeholder
from gradwise.kernels.memory import aligned_like
from gradwise.layers.formulas import Formulas
from gradwise.layers.unbuilt import Unbuilt, held
from gradwise.typing import Array, Pullback, RandomState, Shape


def _recorded(build: Callable[..., Shape]) -> Callable[..., Shape]:
    """A layer's `build`, which then also records the shapes."""

    @functools.wraps(build)
    def recorded(self: Layer, input_shape: Shape, rng: RandomState = None) -> Shape:
        shape = sizes(input_shape, "input_shape")
        if self.input_shape is not None and self.input_shape != shape and any(True for _ in self.slots()):
            raise ShapeError(
                repr(self),
                f"was built for {expected(self.input_shape)}, but got {features(shape)}."
                " A layer that serves in several places has one input shape.",
            )
        output_shape = sizes(build(self, shape, generator(rng)), f"the output shape of {self!r}")
        self.input_shape, self.output_shape = shape, output_shape
        return output_shape

    return recorded


def _guarded(run: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's `vjp` or `forward`, behind the checks of its input; three comparisons where all is well."""

    @functools.wraps(run)
    def guarded(self: Layer, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> Any:
        if type(x) is not np.ndarray or x.dtype.kind != "f" or x.shape[1:] != self.input_shape:
            x = self.admit(x)
        return run(self, x, training, rng)

    return guarded


class Layer:
    """A differentiable function with parameters: y, pullback = layer.vjp(x).

    A subclass defines `vjp`, or `formulas` from which it follows, and, where it has parameters or changes the shape,
    `build`; its constructor, if any, keeps its arguments under their own names. `repr`, equality and saving follow.
    Samples do not know of each other: training may go through a batch in parts, but for networks that have a state.
    The layer keeps nothing from a pass: inference may go through parts of a batch by several threads at once.

    Attributes
    ----------
    parameters, state : tuple of str
        Class level: the names of the trained arrays, and of those that are saved but never stepped. An array that a
        layer does without (`use_bias=False`) is None.
    trainable : bool
        False freezes the layer: training leaves its parameters alone. Its derivatives stay available.
    memory : {"any", "new", "given"}
        Class level: where the output and dL/dx lie. "new": in arrays that nobody else looks at, the layer's derivatives
        neither; "given": in that of x and dy, or new. Such arrays may be written over by the layer they go to.
    input_shape, output_shape : tuple of int, or None before the layer is built
        Per sample, without N.

    Examples
    --------
    A layer of one's own, y = x * scale:

    >>> class Scale(Layer):
    ...     parameters = ("scale",)
    ...     def build(self, input_shape, rng):
    ...         self.scale = np.ones(input_shape, np.float32)
    ...         return input_shape
    ...     def vjp(self, x, training=False, rng=None):
    ...         return x * self.scale, Pullback(
    ...             input=lambda dy: dy * self.scale,
    ...             scale=lambda dy: (dy * x).sum(axis=0),
    ...         )
    """

    formulas: ClassVar[Formulas | None] = None
    parameters: ClassVar[tuple[str, ...]] = ()
    state: ClassVar[tuple[str, ...]] = ()
    memory: ClassVar[Literal["any", "new", "given"]] = "any"
    _own: ClassVar[frozenset[str]] = frozenset()

    trainable: bool = True
    input_shape: Shape | None = None
    output_shape: Shape | None = None

    def __init_subclass__(cls) -> None:
        """Give the subclass's own `build`, `vjp` and `forward` the checks that all layers share, and its arrays, which
        are missing until the layer is built, their error.
        """
        super().__init_subclass__()
        for kind in ("parameters", "state"):
            names = getattr(cls, kind)
            if isinstance(names, tuple) and all(isinstance(name, str) and name.isidentifier() for name in names):
                cls._own = cls._own | frozenset(names)
                for name in names:
                    if not hasattr(cls, name):
                        setattr(cls, name, Unbuilt(name))
            elif not callable(names):
                raise DTypeError(f"{cls.__name__}.{kind} is a tuple of names, such as ('kernel',), but is {names!r}.")
        given: Formulas | None = cls.__dict__.get("formulas")
        if given is not None and set(given.parameters) != set(cls.parameters):
            raise ArgumentError(
                f"{cls.__name__}: its formulas give the gradients of {sorted(given.parameters)}, but its"
                f" parameters are {sorted(cls.parameters)}: each has one."
            )
        if cls.memory not in ("any", "new", "given"):
            raise ArgumentError(f"{cls.__name__}.memory is 'any', 'new' or 'given', but is {cls.memory!r}.")
        if "memory" not in cls.__dict__ and not {"formulas", "vjp", "forward"}.isdisjoint(cls.__dict__):
            cls.memory = "any"  # what the base class says of it need not hold
        if "build" in cls.__dict__:
            cls.build = _recorded(cls.build)  # type: ignore[method-assign]
        for name in ("vjp", "forward"):
            if name in cls.__dict__:
                setattr(cls, name, _guarded(cls.__dict__[name]))
        if "forward" not in cls.__dict__ and not {"formulas", "vjp"}.isdisjoint(cls.__dict__):
            cls.forward = Layer.forward  # type: ignore[method-assign]  # a base class's is of what the base class does

    # What a layer is

    @_recorded
    def build(self, input_shape: Shape, rng: RandomState = None) -> Shape:
        """Make the layer's arrays for inputs of `input_shape` and return the output's shape (both without N)."""
        return input_shape

    @_guarded
    def vjp(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        """Run the layer on a batch, (N, *input_shape): its output, and the pullback that holds its derivatives."""
        if self.formulas is None:
            raise NotImplementedError(f"{type(self).__name__} must define vjp(x, training, rng)")
        return self.formulas.vjp(self, x)

    @_guarded
    def forward(self, x: Array, training: bool = False, rng: np.random.Generator | None = None) -> Array:
        """The layer's output for a batch, (N, *input_shape). A subclass may say how that goes with less work."""
        if self.formulas is None or type(self).vjp is not Layer.vjp:
            return self.vjp(x, training, rng)[0]
        return self.formulas.run(self, x)

    def accepts(self, shape: Shape) -> bool:
        """Whether the layer, once built, can run on samples of this shape."""
        return shape == self.input_shape

    # Its arrays

    def children(self) -> dict[str, Layer]:
        """The layers inside this one: name -> layer."""
        return {}

    def slots(self, kind: str = "parameters") -> Iterator[tuple[str, Layer, str]]:
        """(dotted path, the layer that has it, its name there) of each array; `kind` is "parameters" or "state".

        An array seen twice, because a layer serves in several places, goes by its first path.
        """
        seen: set[tuple[int, str]] = set()
        for path, owner, name in self.places(kind):
            if (id(owner), name) not in seen:
                seen.add((id(owner), name))
                yield path, owner, name

    def places(self, kind: str = "parameters") -> Iterator[tuple[str, Layer, str]]:
        """As `slots`, with every path of an array that is seen several times."""
        names = getattr(type(self), kind)
        for name in names if isinstance(names, tuple) else ():
            if getattr(self, name) is not None:
                yield name, self, name
        for prefix, child in self.children().items():
            for path, owner, name in child.places(kind):
                yield f"{prefix}.{path}", owner, name

    def arrays(self, kind: str = "parameters") -> dict[str, Array]:
        """Dotted path -> array, of the parameters or of the state. The layer's own arrays, not copies."""
        return {path: getattr(owner, name) for path, owner, name in self.slots(kind)}

    def __setattr__(self, name: str, value: Any) -> None:
        """Parameters and state are the layer's own: an array assigned is copied, in their memory order."""
        if isinstance(value, np.ndarray) and name in self._own:
            present = held(self, name)
            if not isinstance(present, np.ndarray) or isinstance(present, Placeholder):
                present = value
            elif present.shape != value.shape:
                raise ShapeError(repr(self), f"has a {name} of shape {present.shape}, but was given {value.shape}.")
            if not isinstance(present, Placeholder):
                own = aligned_like(present, value.dtype)
                own[...] = value
                value = own
        object.__setattr__(self, name, value)

    # What follows from the constructor's arguments

    def __repr__(self) -> str:
        return config.describe(self)

    def __eq__(self, other: object) -> bool:
        return config.equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    # The checks

    def admit(self, x: npt.ArrayLike) -> Array:
        """X as a floating point batch that the layer can run on; a clear error otherwise."""
        array = np.asarray(x)
        if array.dtype.kind in "biu":
            array = array.astype(np.result_type(array, np.float32))
        elif array.dtype.kind != "f":
            raise DTypeError(f"{self!r} computes with numbers, but got an array of {array.dtype}.")
        if array.ndim == 0:
            raise ShapeError(repr(self), "takes a batch, (N, ...), but got a single number.")
        shape = array.shape[1:]
        if self.input_shape is not None and not self.accepts(shape):
            hint = ""
            if array.shape == self.input_shape:
                hint = " One sample is a batch of one: x[None]."
            raise ShapeError(
                repr(self), f"was built for {expected(self.input_shape)}, but got {features(shape)}.{hint}"
            )
        return array


def generator(random_state: RandomState) -> np.random.Generator:
    """The generator of a seed; of None, one seeded from NumPy's global state, so that np.random.seed(0) repeats."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if random_state is None:
        return np.random.default_rng(np.random.randint(0, 2**31, size=4))
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool) and random_state >= 0:
        return np.random.default_rng(random_state)
    raise ArgumentError(f"random_state takes None, an integer >= 0 or a numpy Generator, but got {random_state!r}.")


def features(shape: Shape) -> str:
    """A sample's shape in words: "4056 features", "images of (24, 6, 6)"."""
    if len(shape) == 1:
        return f"{shape[0]} features"
    return f"images of {shape}" if len(shape) == 3 else f"shape {shape}"


def expected(shape: Shape) -> str:
    """What a layer was built for: "inputs of 4056 features", "images of (24, 6, 6)"."""
    return f"inputs of {features(shape)}" if len(shape) == 1 else features(shape)


def sizes(shape: object, what: str) -> Shape:
    """A shape as a tuple of positive integers; an int is the shape of that many features."""
    given = (shape,) if isinstance(shape, (int, np.integer)) else shape
    if not isinstance(given, (tuple, list)) or not all(
        isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size > 0 for size in given
    ):
        raise ArgumentError(
            f"{what} is a tuple of positive integers without the batch, such as (784,) or (1, 28, 28),"
            f" but got {shape!r}."
        )
    return tuple(int(size) for size in given)


def positive(value: object, what: str) -> int:
    """A whole number of 1 or more."""
    if type(value) is int and value >= 1:  # as mostly, and 1 us sooner so: each prediction asks
        return value
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{what} is a whole number of 1 or more, but got {value!r}.")
    return int(value)


def pair(value: object, what: str, least: int = 1) -> tuple[int, int]:
    """An int, or a pair of ints (height, width), as a pair."""
    both = (value, value) if isinstance(value, (int, np.integer)) else value
    if (
        not isinstance(both, (tuple, list))
        or len(both) != 2
        or not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) and v >= least for v in both)
    ):
        raise ArgumentError(f"{what} is a whole number of {least} or more, or a pair of them, but got {value!r}.")
    return int(both[0]), int(both[1])


def floating(dtype: npt.DTypeLike, what: str) -> np.dtype:
    """float32 or float64 as a numpy dtype."""
    try:
        resolved = np.dtype(dtype)
    except TypeError:
        resolved = None
    if resolved not in (np.float32, np.float64):
        raise ArgumentError(f"{what} takes dtype float32 or float64, but got {dtype!r}.")
    return resolved

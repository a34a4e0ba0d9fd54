"""A layer by its formulas: functions of arrays, from which its passes follow, and the programs of its chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradwise.errors import DTypeError
from gradwise.typing import Array, Derivative, Pullback

Function = Callable[..., Any]
_PASS = {"x", "y", "dy", "out"}


class Formulas:
    """What a layer computes: its output, and each derivative.

    By their names the arguments of a function say what it is given: x and y, the layer's input and output; dy, the
    cotangent dL/dy; else an attribute of the layer, such as kernel. `out` is an array of the result's shape and dtype
    which nobody needs any more, and which may be one of the others: the result may be written there; or it is None.
    For layers whose derivatives share no other work.

    Parameters
    ----------
    forward : callable
        -> y
    input : callable
        -> dL/dx, of x's shape.
    training : mapping, optional
        Name of a parameter -> what gives its gradient in training instead: that may be a `Product`, not made yet.
    **parameters : callable
        Name of a parameter -> what gives dL/d(parameter), of its shape, summed over the batch.

    Examples
    --------
    A layer of one's own, y = x * scale:

    >>> from gradwise import Layer
    >>> class Scale(Layer):
    ...     parameters = ("scale",)
    ...     formulas = Formulas(
    ...         forward=lambda x, scale: x * scale,
    ...         input=lambda dy, scale: dy * scale,
    ...         scale=lambda dy, x: (dy * x).sum(axis=0),
    ...     )
    ...     def build(self, input_shape, rng):
    ...         self.scale = np.ones(input_shape, np.float32)
    ...         return input_shape
    """

    def __init__(
        self,
        forward: Function,
        input: Function,
        training: Mapping[str, Function] | None = None,
        **parameters: Function,
    ) -> None:
        for name, function in {"forward": forward, "input": input, **parameters, **(training or {})}.items():
            if not hasattr(function, "__code__"):
                raise DTypeError(
                    f"Formulas: {name} is a function whose arguments are named after what it is given, such as"
                    f" lambda x: ..., but got {function!r}."
                )
        self.forward = forward
        self.input = input
        self.parameters = parameters
        self.training = {**parameters, **(training or {})}

    def run(self, layer: Any, x: Array) -> Array:
        """The layer's output."""
        given = {"x": x, "out": None}
        names = arguments(self.forward)
        return self.forward(*[given[name] if name in given else getattr(layer, name) for name in names])

    def vjp(self, layer: Any, x: Array) -> tuple[Array, FormulaPullback]:
        """The layer's output, and its derivatives with the arrays they need."""
        y = self.run(layer, x)
        present = {name for name in self.parameters if getattr(layer, name) is not None}
        named = set(arguments(self.input)).union(*[arguments(self.training[name]) for name in present])
        held = {"x": x, "y": y, "out": None} | {name: getattr(layer, name) for name in named.difference(_PASS)}
        return y, FormulaPullback(self, {name: held[name] for name in named if name != "dy"}, present)


class FormulaPullback(Pullback):
    """The derivatives of a pass through a layer that is given by formulas."""

    def __init__(self, formulas: Formulas, held: Mapping[str, Any], present: set[str]) -> None:
        def bound(function: Function) -> Derivative:
            return lambda dy: function(*[dy if name == "dy" else held[name] for name in arguments(function)])

        derivatives = {name: bound(function) for name, function in formulas.parameters.items() if name in present}
        super().__init__(bound(formulas.input), **derivatives)
        self._training = {name: bound(function) for name, function in formulas.training.items() if name in present}

    def train(self, dy: Array, needs_input: bool, trains: bool = True) -> tuple[Array | None, dict[str, Array]]:
        gradients = {name: derivative(dy) for name, derivative in self._training.items()} if trains else {}
        return (self.input(dy) if needs_input else None), gradients


def arguments(function: Function) -> tuple[str, ...]:
    """The names of a function's arguments."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount]

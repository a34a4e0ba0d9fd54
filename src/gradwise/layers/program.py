"""A chain's passes as programs: straight lines of Python, one call after the other, written for the layers it has.

The general way through a chain makes a pullback for each layer and looks up what to ask of it; beside small arrays that
takes as long as their arithmetic. Training and inference know beforehand what they will ask. Of two dense layers with a
ReLU between them, training does

    a1 = forward(a0, layer0.kernel, layer0.bias)
    a2 = relu(a1, a1)
    a3 = forward(a2, layer2.kernel, layer2.bias)
    dy = judge(a3)
    gradients['2.kernel'] = kernel_gradient(a2, dy, layer2.kernel)
    gradients['2.bias'] = bias_gradient(dy)
    dy = input_gradient(dy, layer2.kernel)
    dy = relu_gradient(dy, a2, dy)
    gradients['0.kernel'] = kernel_gradient(a0, dy, layer0.kernel)
    gradients['0.bias'] = bias_gradient(dy)

A layer that is not given by `Formulas` runs by its own `vjp` and `forward`. Networks of the benchmarks, at batch 16:
A 44 -> 40 us, B 69 -> 61, C 165 -> 146.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gradwise.layers.backwards import collect
from gradwise.layers.base import Layer
from gradwise.layers.formulas import Formulas, Function, arguments
from gradwise.typing import Array

Judge = Callable[[Array], Array]
Forward = Callable[[Array], Array]
Sweep = Callable[[Array, np.random.Generator | None, Judge], dict[str, Array]]
Held = Callable[[], dict[str, Array]]


# What the lines call their own; their arrays are a0, a1, ...
_OWN = ("program", "x", "rng", "judge", "dy", "own", "name", "gradients")


class _Program:
    """Lines of Python, and the objects they name."""

    def __init__(self, head: str) -> None:
        self._lines = [head]
        self._names: dict[str, Any] = dict.fromkeys(_OWN)

    def line(self, text: str) -> None:
        self._lines.append("    " + text)

    def name(self, value: Any, name: str) -> str:
        """The name by which the lines know an object: `name`, or one like it where that is another's."""
        base, count = name if name.isidentifier() else "function", 1
        name = base
        while self._names.setdefault(name, value) is not value:
            count += 1
            name = f"{base}_{count}"
        return name

    def call(self, function: Function, layer: str, **arrays: str) -> str:
        """A function of formulas, called with what its arguments name."""
        given = [arrays.get(name, f"{layer}.{name}") for name in arguments(function)]
        return f"{self.name(function, function.__name__)}({', '.join(given)})"

    def made(self) -> Any:
        """The function."""
        source = "\n".join(self._lines) + "\n"
        exec(compile(source, "<a chain's program>", "exec"), self._names)
        made = self._names["program"]
        made.source = source
        return made


def formulas(layer: Any) -> Formulas | None:
    """A layer's formulas, where they are what its class runs by."""
    return layer.formulas if isinstance(layer, Layer) and type(layer).vjp is Layer.vjp else None


class _Guard:
    """Which layers of formulas have their input's shape looked at: those behind a layer that does not vouch for it."""

    def __init__(self, program: _Program) -> None:
        self._program = program
        self._vouched = False

    def before(self, layer: Any, name: str, given: str) -> None:
        if formulas(layer) is None:
            self._vouched = False  # it looks by itself
        elif not self._vouched:
            self._program.line(f"if {given}.shape[1:] != {name}.input_shape: {given} = {name}.admit({given})")
            self._vouched = type(layer).accepts is Layer.accepts


class _Free:
    """Whether the array on its way through the layers is one that nobody needs but the layer it goes to."""

    def __init__(self) -> None:
        self._free = False

    def out(self, name: str) -> str:
        """What a formula is given as `out`: that array, or None."""
        return name if self._free else "None"

    def behind(self, layer: Any, kept: bool = False) -> None:
        """Go on to what the layer makes of it; `kept` says whether its formulas ask for that again."""
        self._free = not kept and (layer.memory == "new" or (layer.memory == "given" and self._free))


def inference(layers: Sequence[Any]) -> Forward:
    """x -> the output of layers in a row."""
    program = _Program("def program(x):")
    guard, free = _Guard(program), _Free()
    for index, layer in enumerate(layers):
        name = program.name(layer, f"layer{index}")
        guard.before(layer, name, "x")
        own = formulas(layer) if type(layer).forward is Layer.forward else None
        made = program.call(own.forward, name, x="x", out=free.out("x")) if own else f"{name}.forward(x)"
        program.line(f"x = {made}")
        free.behind(layer)
    program.line("return x")
    return program.made()


def training(layers: Sequence[Any], tables: Sequence[Mapping[str, str]], learning: Sequence[bool]) -> Sweep:
    """(x, rng, judge) -> path -> gradient; `judge` is given the output and returns the cotangent.

    Parameters
    ----------
    layers : sequence
        In the order they run.
    tables : sequence of mapping
        Of each layer: a parameter's name -> its path.
    learning : sequence of bool
        Whether the layer has parameters that are trained.
    """
    program = _Program("def program(a0, rng, judge):")
    add, guard, count = program.name(collect, "collect"), _Guard(program), len(layers)
    uses = Counter(path for table in tables for path in table.values())
    stop = next((index for index, learns in enumerate(learning) if learns), count)
    # a0 is the batch, a1 the first layer's output, and so on; one that backwards nobody asks for is let go.
    kept = [_asks(layer, "y") or _asks(behind, "x") for layer, behind in zip(layers, [*layers[1:], None], strict=True)]
    kept, free = [False, *kept], _Free()
    for index, layer in enumerate(layers):
        own, name, x, y = formulas(layer), program.name(layer, f"layer{index}"), f"a{index}", f"a{index + 1}"
        guard.before(layer, name, x)
        if own:
            program.line(f"{y} = {program.call(own.forward, name, x=x, out=free.out(x))}")
        else:
            program.line(f"{y}, pullback{index} = {name}.vjp({x}, True, rng)")
        if index and not kept[index]:
            program.line(f"del {x}")
        free.behind(layer, kept[index + 1])
    program.line("gradients = {}")
    program.line(f"dy = judge(a{count})")
    free = _Free()
    for index in range(count - 1, stop - 1, -1):
        layer, own, name = layers[index], formulas(layers[index]), f"layer{index}"
        arrays = {"x": f"a{index}", "y": f"a{index + 1}", "dy": "dy", "out": "None"}
        if own:
            for parameter, function in own.training.items() if learning[index] else ():
                if getattr(layer, parameter) is not None:
                    gradient = program.call(function, name, **arrays)
                    path = tables[index][parameter]
                    again = f"{add}(gradients, {path!r}, {gradient})"
                    program.line(f"gradients[{path!r}] = {gradient}" if uses[path] == 1 else again)
            if index > stop:
                program.line(f"dy = {program.call(own.input, name, **arrays | {'out': free.out('dy')})}")
        else:
            program.line(f"dy, own = pullback{index}.train(dy, {index > stop}, {learning[index]})")
            program.line(f"del pullback{index}")
            if learning[index]:
                table = program.name(tables[index], f"paths{index}")
                program.line(f"for name in own: {add}(gradients, {table}[name], own[name])")
        free.behind(layer)
        if kept[index + 1]:
            program.line(f"del a{index + 1}")
    program.line("return gradients")
    return program.made()


def lookup(slots: Iterable[tuple[str, Layer, str]]) -> Held:
    """() -> path -> array, of (path, the layer that has it, its name there)."""
    program = _Program("def program():")
    entries = [f"{path!r}: {program.name(owner, f'layer{at}')}.{name}" for at, (path, owner, name) in enumerate(slots)]
    program.line(f"return {{{', '.join(entries)}}}")
    return program.made()


def _asks(layer: Any, what: str) -> bool:
    """Whether a derivative of the layer's formulas takes x or y."""
    own = formulas(layer)
    return own is not None and any(what in arguments(function) for function in (own.input, *own.training.values()))

"""Who may import whom: a file imports only from floors below its own (a package's own files know each other)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gradwise

SOURCE = Path(gradwise.__file__).parent
FLOORS = [
    ["errors", "typing", "writing"],
    ["config", "tracing"],
    ["kernels", "initializers"],
    ["layers.formulas", "layers.unbuilt"],
    ["layers.base"],
    ["layers.sliding"],  # what convolution and pooling say alike
    [
        "layers.activations",
        "layers.convolution",
        "layers.dense",
        "layers.dropout",
        "layers.normalization",
        "layers.pooling",
        "layers.reshaping",
        "losses",
        "optimizers",
        "metrics",
    ],
    ["layers.pooled"],  # two of them run as one
    ["layers.backwards", "layers.order"],
    ["layers.program"],
    ["layers.containers"],
    ["layers.__init__"],  # the layers under one name
    ["description", "jacobian", "testing"],
    ["training", "files", "summary"],
    ["network"],
    ["architectures", "course", "datasets", "loading", "plot"],
    ["__init__"],
    ["cli"],  # the face of the whole: it may use the others
    ["__main__"],
]
TOGETHER = (
    "kernels",
    "tracing",
    "losses",
    "optimizers",
    "training",
    "datasets",
    "course",
    "plot",
    "cli",
)  # packages whose files may import each other
BARE = {"numpy", "tqdm"}  # what may be imported at run time beside the standard library


def floor_of(module):
    """The floor of a dotted module name below gradwise."""
    for floor, names in enumerate(FLOORS):
        for name in names:
            if module == name or (name in TOGETHER and module.split(".")[0] == name):
                return floor
    raise LookupError(f"{module} is on no floor: add it to FLOORS")


def module_of(path):
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def imports(path):
    """(dotted name below gradwise or top-level package, whether inside a function) of each import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [
                f"{node.module}.{alias.name}"
                if (SOURCE.parent / node.module.replace(".", "/")).is_dir()
                else node.module
                for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) in inside


def resolved(name):
    """A name as it is written in FLOORS: a package stands for its __init__, a name inside a module for the module."""
    parts = name.split(".")[1:]
    while parts:
        path = SOURCE.joinpath(*parts)
        if path.with_suffix(".py").is_file():
            return ".".join(parts)
        if path.is_dir():
            return ".".join([*parts, "__init__"])
        parts.pop()
    return "__init__"


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_arrow_goes_up(path):
    module = module_of(path)
    own = floor_of(module)
    for name, _ in imports(path):
        if name.split(".")[0] != "gradwise":
            continue
        other = resolved(name)
        together = module.split(".")[0] == other.split(".")[0] in TOGETHER
        assert together or floor_of(other) < own, f"{module} (floor {own}) imports {other} (floor {floor_of(other)})"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_other_packages_are_imported_where_they_are_used(path):
    import sys

    for name, inside in imports(path):
        top = name.split(".")[0]
        if top in {"gradwise", "__future__"} | BARE or top in sys.stdlib_module_names:
            continue
        assert inside, f"{module_of(path)} imports {top} at its head: an extra is imported by the function that uses it"


def test_the_table_has_no_dead_rows():
    modules = [module_of(path) for path in FILES]
    for floor in FLOORS:
        for name in floor:
            assert any(m == name or m.startswith(f"{name}.") for m in modules), name


def test_inheritance_is_at_most_two_deep():
    from gradwise.layers.base import Layer

    def depth(cls):
        return max((1 + depth(sub) for sub in cls.__subclasses__() if sub.__module__.startswith("gradwise")), default=0)

    assert depth(Layer) == 2


def test_no_bare_assert_and_no_pickle():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text))), path
        assert "allow_pickle=True" not in text, path

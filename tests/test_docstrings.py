"""The examples in docstrings run, and give what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import gradwise

MODULES = [
    module.name
    for module in pkgutil.walk_packages(gradwise.__path__, "gradwise.")
    if not module.name.endswith("__main__")
]


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        module = importlib.import_module(name)
        known = {"np": np, **{public: getattr(gradwise, public) for public in gradwise.__all__}}
        for found in finder.find(module, name, extraglobs=known):
            if found.examples:
                yield pytest.param(found, id=found.name)


@pytest.mark.parametrize("example", list(examples()))
def test_example_of_a_docstring(example):
    failed, tried = doctest.DocTestRunner(verbose=False).run(example)
    assert tried
    assert not failed

"""What all tests share: reproducible draws, and one place for skipping what needs the real MNIST."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("gradwise", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("gradwise")


@pytest.fixture(scope="session")
def mnist():
    """(x_train, y_train), (x_test, y_test): the real images, where GRADWISE_DATA says they are."""
    if "GRADWISE_DATA" not in os.environ:
        pytest.skip("GRADWISE_DATA is not set")
    from gradwise.datasets import mnist

    return mnist()


@pytest.fixture
def rng():
    return np.random.default_rng(0)

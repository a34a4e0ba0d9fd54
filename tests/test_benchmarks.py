"""What the benchmarks are asked for and is not there is an error before any work. (Their figures are no tests.)"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["train", "--networks", "F,G"], "--networks is some of ABCDEFGH, such as ABE, but has ','"),
        (["train", "--batches", "16,x"], "--batches is numbers by commas, such as 16,128, but is '16,x'"),
        (["train", "--batches", "0"], "--batches is numbers by commas, such as 16,128, but is '0'"),
        (["train", "--only", "gradwise,toast"], "by commas, but has 'toast'"),
        (
            ["train", "--only", "torch,jax"],
            "--only has gradwise or gradwise-2 among them, whose time is compared, but is 'torch,jax'",
        ),
        (["scale", "--avx2"], "--avx2 is for train, infer, fit and layers, but asked for is scale"),
        (["train", "--avx2", "--only", "gradwise,thinc"], "--avx2 is nothing that thinc can be told"),
    ],
)
def test_options_that_name_nothing(options, message):
    command = [sys.executable, "-m", "benchmarks", *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert not ended.stdout

"""What the README says is run: every Python block, in one session, and the command that the checks use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_every_python_block_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    found = blocks("python")
    assert len(found) >= 3
    for number, block in enumerate(found):
        exec(compile(block, f"README.md, Python block {number + 1}", "exec"), namespace)
    assert "'accuracy': 0.9" in capsys.readouterr().out
    assert namespace["logits"].shape == (360, 10)
    assert namespace["probabilities"].sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert namespace["saliency"].shape == (5, 1, 8, 8)
    assert namespace["each"]["0.kernel"].shape == (5, 3, 3, 1, 16)
    assert namespace["J"].shape == (5, 10, 64)
    assert namespace["by_parameter"]["0.kernel"].shape == (5, 10, 144)
    assert (tmp_path / "own.npz").is_file()


def test_the_checks_run_the_readmes_test_command():
    commands = [line for block in blocks("sh") for line in block.splitlines() if "pytest" in line]
    assert len(commands) == 1
    assert commands[0] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_table_names_every_layer():
    import gradwise

    for name in set(gradwise.layers.__all__) - {"Layer"}:
        assert f"`{name}" in README, name
    for names in (gradwise.losses.__all__, gradwise.optimizers.__all__, gradwise.initializers.__all__):
        for name in set(names) - {"Loss", "Optimizer", "Initializer"}:
            assert f"`{name}`" in README or f"`{name}(" in README, name


def test_what_the_readme_points_at_is_there():
    for path in re.findall(r"`(examples/[^`]+)`", README) + re.findall(r"\]\(([^)h#][^)]*)\)", README):
        assert (ROOT / path).exists(), path

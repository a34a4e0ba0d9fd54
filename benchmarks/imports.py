"""What it costs to import a library, and to import it and make one prediction; and how much it puts on the disk."""

from __future__ import annotations

import importlib.metadata
import statistics
import subprocess
import sys
import time

from .race import CONTESTANTS, environment

_IMPORT = {
    "numpy": ("numpy", "import numpy", None),
    "gradwise": ("numpy", "import gradwise", "gradwise"),
    "torch": ("torch", "import torch", "torch"),
    "jax": ("jax", "import jax", "jax"),
    "tensorflow": ("tensorflow", "import tensorflow", "tensorflow"),
    "sklearn": ("scikit-learn", "import sklearn.neural_network", "sklearn"),
    "thinc": ("thinc", "import thinc.api", "thinc"),
    "onnxruntime": ("onnxruntime", "import onnxruntime", "onnxruntime"),
}
_PEAK = "\nfrom benchmarks.child import peak_memory\nprint(peak_memory())"


def _once(code: str, name: str) -> tuple[float, float] | None:
    """(seconds, peak MB) of one process; None where it fails."""
    start = time.perf_counter()
    entry = CONTESTANTS.get(name, CONTESTANTS["gradwise"])
    run = subprocess.run(
        [sys.executable, "-c", code + _PEAK], capture_output=True, text=True, env=environment(entry), check=False
    )
    seconds = time.perf_counter() - start
    return (seconds, float(run.stdout.split()[-1])) if run.returncode == 0 else None


def installed(distribution: str) -> float:
    """MB on the disk of a distribution and all that it requires."""
    seen: set[str] = set()
    waiting, total = [distribution], 0
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        total += sum(path.locate().stat().st_size for path in found.files or () if path.locate().is_file())  # type: ignore[attr-defined]
        for requirement in found.requires or ():
            if "extra ==" not in requirement:
                waiting.append(
                    requirement.split(";")[0]
                    .split("[")[0]
                    .split("<")[0]
                    .split(">")[0]
                    .split("=")[0]
                    .split("!")[0]
                    .split("~")[0]
                    .strip()
                )
    return total / 1e6


def run(rounds: int) -> list[dict[str, object]]:
    """A row a library: seconds and MB to import, to import and predict, and MB installed."""
    codes: dict[str, tuple[str, str | None]] = {}
    for name, (_, statement, peer) in _IMPORT.items():
        first = None
        if peer:
            first = f"from benchmarks.peers.{peer}_peer import infer\ninfer('B', 1, '')()"
        codes[name] = (statement, first)
    times: dict[str, list[list[tuple[float, float]]]] = {name: [[], []] for name in codes}
    for _ in range(rounds):
        for name, pair in codes.items():
            for kind, code in enumerate(pair):
                if code and (found := _once(code, name)):
                    times[name][kind].append(found)
    rows = []
    for name, (imported, predicted) in times.items():
        if imported:
            row: dict[str, object] = {"library": name, "installed MB": installed(_IMPORT[name][0])}
            for kind, values in (("import", imported), ("first prediction", predicted)):
                if values:
                    row[f"{kind} s"] = statistics.median(value[0] for value in values)
                    row[f"{kind} MB"] = statistics.median(value[1] for value in values)
            rows.append(row)
    return rows

"""Contestants in processes of their own, asked in turn, round by round; medians, and ratios to the best peer."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from numpy._core._multiarray_umath import __cpu_dispatch__

ROOT = Path(__file__).parents[1]
NOTHING: Mapping[str, str] = MappingProxyType({})


class Entry(NamedTuple):
    """A contestant: its file in peers/, the option it is called with, and variables of its environment."""

    peer: str
    option: str = ""
    environment: tuple[tuple[str, str], ...] = ()


CONTESTANTS = {
    "gradwise": Entry("gradwise"),
    "gradwise-2": Entry("gradwise", "workers"),
    "torch": Entry("torch"),
    "torch-last": Entry("torch", "channels_last"),
    "jax": Entry("jax"),
    "tensorflow": Entry("tensorflow"),
    "keras-torch": Entry("keras", "", (("KERAS_BACKEND", "torch"),)),
    "keras-jax": Entry("keras", "", (("KERAS_BACKEND", "jax"),)),
    "keras-tf": Entry("keras", "", (("KERAS_BACKEND", "tensorflow"),)),
    "sklearn": Entry("sklearn"),
    "thinc": Entry("thinc"),
    "onnxruntime": Entry("onnxruntime"),
}
PAUSE = 0.25  # seconds in which the threads of the one before stop to wait for work by spinning
OURS = ("gradwise", "gradwise-2")
# By these libraries are told to run as on a processor without AVX-512: OpenBLAS, PyTorch, oneDNN (in PyTorch and
# TensorFlow), MKL (in PyTorch), XLA (what JAX compiles; its matrix products go on as before), and NumPy.
AVX2 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if name == "X86_V4" or "AVX512" in name),
}
DEAF = ("thinc", "onnxruntime")  # there is no such word for them


def environment(entry: Entry, more: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """A user's environment, and what `more` says: nothing else pins OpenBLAS or the number of threads."""
    pinned = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in pinned}
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), kept.get("PYTHONPATH", "")])
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
    return kept | quiet | {"PYTHONPATH": path} | dict(entry.environment) | dict(more)


def alone(module: str, call: str, more: Mapping[str, str] = NOTHING) -> Any:
    """What a function of a module of the benchmarks, called in a process of its own, returns."""
    code = f"import json, {module}; print(json.dumps({module}.{call}))"
    command, env = [sys.executable, "-c", code], environment(CONTESTANTS["gradwise"], more)
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, check=True)
    return json.loads(done.stdout)


class Contestant:
    """A running child."""

    def __init__(self, name: str, more: Mapping[str, str] = NOTHING) -> None:
        self.name = name
        entry = CONTESTANTS[name]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", entry.peer, entry.option],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(entry, more),
            cwd=ROOT,
        )

    def ask(self, **task: Any) -> dict[str, Any]:
        """The child's answer; {"absent": reason} where it has gone."""
        try:
            print(json.dumps(task), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline() if self._process.stdout else ""
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"absent": "not installed, or failed"}

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=60)


def start(names: list[str], more: Mapping[str, str] = NOTHING) -> tuple[list[Contestant], dict[str, str]]:
    """The contestants that run, and the versions of all; a word for each that does not."""
    running, versions = [], {}
    for name in names:
        contestant = Contestant(name, more)
        answer = contestant.ask(do="versions")
        if "absent" in answer:
            print(f"skipped: {name}, {answer['absent']}", file=sys.stderr)
            continue
        running.append(contestant)
        versions |= answer
    return running, versions


def row(contestants: list[Contestant], job: str, arguments: list[Any], rounds: int, seconds: float) -> dict[str, float]:
    """Name -> the median over the rounds of a step's median seconds, all contestants in turn in each round."""
    racing = []
    for contestant in contestants:
        answer = contestant.ask(do="prepare", job=job, arguments=arguments, warm=0 if job == "fit" else 0.2)
        if "absent" not in answer:
            racing.append(contestant)
    times: dict[str, list[float]] = {contestant.name: [] for contestant in racing}
    least = 1 if job == "fit" else 3
    for _ in range(rounds):
        for contestant in racing:
            time.sleep(PAUSE)
            answer = contestant.ask(do="run", seconds=seconds, least=least)
            if "absent" not in answer:
                times[contestant.name].append(answer["median"])
    return {name: statistics.median(values) for name, values in times.items() if values}


def ratio(times: dict[str, float], among: tuple[str, ...] = OURS) -> tuple[float, str]:
    """Our time, the best `among` our contestants, over the best peer's, and that peer."""
    ours = min(times[name] for name in among if name in times)
    peers = {name: value for name, value in times.items() if name not in OURS}
    best = min(peers, key=peers.__getitem__, default="")
    return (ours / peers[best], best) if best else (float("nan"), "")

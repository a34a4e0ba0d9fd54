"""What the race is run on, and the limits of it."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from pathlib import Path

import numpy as np


def processor() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def describe() -> dict[str, str]:
    """Processor, cores, system, Python, and the BLAS that NumPy uses."""
    found = {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return found
    np.ones((2, 2)) @ np.ones((2, 2))
    for library in threadpool_info():
        if library["user_api"] == "blas":
            core = library.get("architecture", "")
            found["blas"] = f"{library['internal_api']} {library['version']} {core}, {library['num_threads']} threads"
    return found


def _best(step, seconds: float = 0.5) -> float:
    end, best = time.perf_counter() + seconds, float("inf")
    while time.perf_counter() < end:
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    return best


def limits() -> dict[str, float]:
    """GFLOP/s of a large product and of one of 16 -> 16 channels' size; GB/s of copying in three caches' sizes."""
    rng = np.random.default_rng(0)
    large, small = rng.random((1536, 1536), dtype=np.float32), rng.random((16, 144), dtype=np.float32)
    columns, out = rng.random((144, 384), dtype=np.float32), np.empty((16, 384), np.float32)
    found = {
        "gemm GFLOP/s": 2 * 1536**3 / _best(lambda: large @ large) / 1e9,
        "small gemm GFLOP/s": 2 * 16 * 144 * 384 / _best(lambda: np.matmul(small, columns, out=out)) / 1e9,
    }
    for name, size in (("256 KB", 1 << 16), ("8 MB", 1 << 21), ("256 MB", 1 << 26)):
        source, target = np.ones(size, np.float32), np.ones(size, np.float32)
        found[f"copy {name} GB/s"] = 8 * size / _best(lambda s=source, t=target: np.copyto(t, s)) / 1e9
    return found

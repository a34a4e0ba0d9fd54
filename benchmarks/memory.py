"""The peak memory of a process that trains network F at batch 128, after some steps and after many more."""

from __future__ import annotations

from .race import alone

STEPS = [20, 1020]


def measure() -> list[float]:
    """The peak of this process in MB, after each number of steps."""
    from .child import peak_memory
    from .peers import gradwise_peer

    step = gradwise_peer.train("F", 128, "sgd", "")
    peaks, done = [], 0
    for count in STEPS:
        for _ in range(count - done):
            step()
        done = count
        peaks.append(peak_memory())
    return peaks


def run() -> list[dict[str, object]]:
    """A row a number of steps."""
    peaks = alone("benchmarks.memory", "measure()")
    return [{"network": "F", "batch": 128, "steps": steps, "MB": mb} for steps, mb in zip(STEPS, peaks, strict=True)]

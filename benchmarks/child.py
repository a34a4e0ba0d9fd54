"""A contestant's process: reads tasks from its input, a line of JSON each, and answers with a line of JSON.

{"do": "versions"}
{"do": "prepare", "job": "train", "arguments": [...]}     sets up, warms up, and sees that a step returns its loss
{"do": "run", "seconds": 0.2}                             times single steps for that long
{"do": "memory"}                                          the process's peak so far, in MB
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any


def peak_memory() -> float:
    """The peak of this process's memory, in MB: Linux's own count, which a parent's memory does not enter."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def timed(step: Any, seconds: float, least: int = 3) -> list[float]:
    """Seconds of each of the steps that fit in `seconds`."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < least:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def main(peer: str, option: str) -> None:
    """Serve until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    module = importlib.import_module(f"benchmarks.peers.{peer}_peer")
    step: Any = None
    for line in sys.stdin:
        task = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if task["do"] == "versions":
                answer = module.versions()
            elif task["do"] == "memory":
                answer["peak"] = peak_memory()
            elif task["do"] == "prepare":
                step = None
                make = getattr(module, task["job"], None)
                if make is None:
                    raise NotImplementedError(f"{peer} has no {task['job']}")
                arguments = task["arguments"]
                if task["job"] == "fit":
                    from gradwise.datasets import mnist

                    (x, y), _ = mnist()
                    arguments = [arguments[0], x[:10_000], y[:10_000], *arguments[1:]]
                step = make(*arguments, option)
                timed(step, task["warm"], 1 if task["job"] == "fit" else 3)
                if task["job"] == "train" and not math.isfinite(float(step())):
                    raise ValueError("a training step returns the loss of its batch: that is part of the work")
            else:
                times = timed(step, task["seconds"], task.get("least", 3))
                answer = {"median": statistics.median(times), "steps": len(times)}
        except NotImplementedError as reason:
            answer = {"absent": str(reason)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""How time and memory of a training step grow with batch, width, depth and the image's side."""

from __future__ import annotations

import numpy as np

from .race import alone

# axis -> values, from the first that is large enough for arithmetic to outweigh calls
AXES = {
    "batch": [1, 4, 16, 64, 256, 1024],
    "width": [4, 8, 16, 32, 64],
    "depth": [1, 2, 4, 8],
    "side": [12, 20, 28, 44, 68, 100, 150, 224],
}


def _multiplications(batch: int, width: int, depth: int, side: int) -> float:
    total, channels = 0, 1
    for _ in range(depth):
        total += (3 if channels > 1 else 2) * batch * side * side * 9 * channels * width
        channels = width
    return total + 3 * batch * width * 10


def measure(batch: int = 16, width: int = 16, depth: int = 3, side: int = 28) -> dict[str, float]:
    """Median seconds of a step of `depth` convolutions of `width` filters, "same", and the process's peak in MB."""
    import statistics

    import gradwise as gw

    from .child import peak_memory, timed

    layers = [layer for _ in range(depth) for layer in (gw.Conv2D(width, 3, padding="same"), gw.ReLU())]
    net = gw.Network(
        [*layers, gw.GlobalAveragePooling2D(), gw.Dense(10)],
        gw.SoftmaxCrossEntropy(),
        input_shape=(1, side, side),
        random_state=0,
    )
    rng = np.random.default_rng(0)
    x, y = rng.random((batch, 1, side, side), dtype=np.float32), rng.integers(0, 10, batch)
    before = peak_memory()
    optimizer = gw.SGD(0.001)
    timed(lambda: net.train_step(x, y, optimizer), 0.2)
    times = timed(lambda: net.train_step(x, y, optimizer), 1.0)
    return {"seconds": statistics.median(times), "MB": peak_memory() - before}


def run(rounds: int) -> list[dict[str, object]]:
    """A row an axis and value; the exponents are of time, memory and arithmetic over its three last values.

    Each round measures all values in turn, for the machine is faster in one minute than in another.
    """
    tries: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for axis, values in AXES.items():
            for value in values:
                tries.setdefault((axis, value), []).append(alone("benchmarks.scale", f"measure({axis}={value})"))
    rows: list[dict[str, object]] = []
    for axis, values in AXES.items():
        found = []
        for value in values:
            seconds, memory = (float(np.median([t[key] for t in tries[axis, value]])) for key in ("seconds", "MB"))
            work = _multiplications(**({"batch": 16, "width": 16, "depth": 3, "side": 28} | {axis: value}))
            found.append((value, seconds, memory, work))
            rows.append(
                {"axis": axis, "value": value, "ms": seconds * 1e3, "MB": memory, "GFLOP/s": 2 * work / seconds / 1e9}
            )
        large = np.log(found[-3:])
        slopes = [float(np.polyfit(large[:, 0], large[:, column], 1)[0]) for column in (1, 2, 3)]
        rows.append({"axis": axis, "value": "exponent", "ms": slopes[0], "MB": slopes[1], "arithmetic": slopes[2]})
    return rows

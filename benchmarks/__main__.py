"""python -m benchmarks train|infer|fit|layers|import|scale|memory: a table as text; with --json FILE, as JSON, too."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from . import imports, memory, race, scale
from .layers import LAYERS, PASSES
from .networks import NETWORKS, SHARED, multiplications


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="gradwise beside its peers.")
    parser.add_argument("what", choices=("train", "infer", "fit", "layers", "import", "scale", "memory"))
    parser.add_argument("--networks", default="", help="such as ABE; by default those the benchmark is about")
    parser.add_argument("--batches", default="", help="such as 16,128")
    parser.add_argument("--only", default="", help="contestants, by commas: " + ", ".join(race.CONTESTANTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each contestant in each round")
    parser.add_argument(
        "--avx2", action="store_true", help="as on a processor without AVX-512 (train, infer, fit, layers)"
    )
    parser.add_argument("--json", type=Path, help="write the table there, too")
    options = parser.parse_args()
    check(parser, options)

    about = race.alone("benchmarks.machine", "describe()", told(options))
    for name, value in about.items():
        print(f"{name}: {value}", file=sys.stderr)
    result: dict[str, Any] = {"what": options.what, "machine": about}
    if options.what == "import":
        result["rows"] = imports.run(options.rounds)
    elif options.what == "scale":
        result["rows"] = scale.run(min(options.rounds, 3))
    elif options.what == "memory":
        result["rows"] = memory.run()
    elif options.what == "layers":
        result |= compete_by_layers(options)
    else:
        result |= compete(options)
    print(text(result["rows"]))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """An error before any work where an option names what there is not."""
    unknown = sorted(set(options.networks) - set(NETWORKS))
    if unknown:
        parser.error(f"--networks is some of {''.join(NETWORKS)}, such as ABE, but has {', '.join(map(repr, unknown))}")
    if not all(number.isdecimal() and int(number) > 0 for number in options.batches.split(",") if options.batches):
        parser.error(f"--batches is numbers by commas, such as 16,128, but is {options.batches!r}")
    unknown = [name for name in options.only.split(",") if options.only and name not in race.CONTESTANTS]
    if unknown:
        known = ", ".join(race.CONTESTANTS)
        parser.error(f"--only is some of {known}, by commas, but has {', '.join(map(repr, unknown))}")
    ours = race.OURS if options.what in ("train", "fit") else race.OURS[:1]  # those that have what is raced
    if options.only and not set(options.only.split(",")) & set(ours):
        parser.error(f"--only has {' or '.join(ours)} among them, whose time is compared, but is {options.only!r}")
    if options.avx2 and options.what not in ("train", "infer", "fit", "layers"):
        parser.error(f"--avx2 is for train, infer, fit and layers, but asked for is {options.what}")
    deaf = sorted(set(options.only.split(",")) & set(race.DEAF))
    if options.avx2 and deaf:
        parser.error(f"--avx2 is nothing that {' and '.join(deaf)} can be told: leave it out of --only")


def told(options: argparse.Namespace) -> dict[str, str]:
    """What the contestants' environment has besides."""
    return race.AVX2 if options.avx2 else {}


def tasks(options: argparse.Namespace) -> list[tuple[str, int, str]]:
    """(network, batch, optimiser) of each row."""
    default = {"train": ("ABCDEFGH", "16,128"), "infer": ("BEFG", "1,256"), "fit": ("E", "32")}[options.what]
    names, batches = options.networks or default[0], [int(b) for b in (options.batches or default[1]).split(",")]
    rows = [(name, batch, "sgd") for batch in batches for name in names]
    if options.what == "train" and not options.networks:
        rows += [(name, batch, "adam") for batch in batches for name in "BE"]
    return rows


def compete(options: argparse.Namespace) -> dict[str, Any]:
    """Race every contestant over every row."""
    able = [name for name in race.CONTESTANTS if not (options.avx2 and name in race.DEAF)]
    names = options.only.split(",") if options.only else able
    limits = race.alone("benchmarks.machine", "limits()", told(options))
    print(", ".join(f"{name} {value:.0f}" for name, value in limits.items()), file=sys.stderr)
    wanted, rows, versions = tasks(options), {}, {}
    for network in dict.fromkeys(task[0] for task in wanted):  # a network's contestants start anew, as its users do
        contestants, found = race.start(names, told(options))
        versions |= found
        for task in wanted:
            if task[0] == network:
                rows[task] = measured(options, contestants, *task)
                print(text([rows[task]]), file=sys.stderr, flush=True)
        for contestant in contestants:
            contestant.close()
    print(", ".join(f"{name} {version}" for name, version in versions.items()), file=sys.stderr)
    return {"versions": versions, "limits": limits, "unit": "us", "rows": [rows[task] for task in wanted]}


def compete_by_layers(options: argparse.Namespace) -> dict[str, Any]:
    """Race the contestants that have layers over each of them; times in us."""
    names = options.only.split(",") if options.only else ["gradwise", "torch", "torch-last"]
    contestants, versions = race.start(names, told(options))
    rows = []
    for name in LAYERS:
        for which in PASSES:
            times = race.row(contestants, "layer", [name, which], options.rounds, options.seconds)
            best, peer = race.ratio(times)
            us = {key: value * 1e6 for key, value in times.items()}
            rows.append({"layer": name, "pass": which, "ratio": best, "best peer": peer} | us)
            print(text(rows[-1:]), file=sys.stderr, flush=True)
    for contestant in contestants:
        contestant.close()
    return {"versions": versions, "unit": "us", "rows": rows}


def measured(
    options: argparse.Namespace, contestants: list[race.Contestant], name: str, batch: int, optimizer: str
) -> dict[str, Any]:
    """One row: the ratio to the best peer, each contestant's time in us, and our rate."""
    arguments: list[Any] = [name, batch, optimizer] if options.what == "train" else [name, batch]
    times = race.row(contestants, options.what, arguments, options.rounds, options.seconds)
    # Only networks that are large enough are compared by what two workers make of them.
    ours = race.OURS if options.what != "train" or name in SHARED else race.OURS[:1]
    ours = tuple(key for key in ours if key in times) or race.OURS
    best, peer = race.ratio(times, ours)
    row: dict[str, Any] = {"network": name, "batch": batch}
    if options.what == "train":
        row["optimiser"] = optimizer
    row |= {"ratio": best, "best peer": peer} | {key: value * 1e6 for key, value in times.items()}
    if options.what != "fit":
        work = 2e-9 * batch * multiplications(name, options.what == "train")
        row["GFLOP/s"] = work / min(times[key] for key in ours if key in times)
    return row


def text(rows: list[dict[str, Any]]) -> str:
    """Rows as a table; numbers with three figures or more."""

    def shown(value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"

    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = [columns, *([shown(row.get(key, "")) for key in columns] for row in rows)]
    widths = [max(len(line[k]) for line in table) for k in range(len(columns))]
    return "\n".join("  ".join(f"{cell:>{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in table)


if __name__ == "__main__":
    main()

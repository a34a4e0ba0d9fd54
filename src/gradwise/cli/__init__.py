"""The command line: train, evaluate, predict, summary."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

import gradwise
from gradwise.cli import commands as run
from gradwise.errors import NonFiniteError


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"gradwise: {message} ({self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 2 for bad usage or data, 1 for any other failure."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (NonFiniteError, ImportError, OSError, MemoryError) as error:
        return run.failed(error, 1)
    except (ValueError, TypeError) as error:
        if type(error).__module__ != "gradwise.errors":
            raise
        return run.failed(error, 2)
    except KeyboardInterrupt:
        return run.failed("interrupted", 1)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gradwise", description="Train, evaluate and run neural networks.")
    parser.add_argument("--version", action="version", version=f"gradwise {gradwise.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    data = "digits, mnist, a .csv file (a header, one label column, numbers elsewhere) or an .npz file (arrays x, y)"
    label = "the label column of a .csv file; by default one called label, class or target, else the last"

    train = commands.add_parser("train", help="train a network on data and save it", description="Train a network.")
    train.set_defaults(command=run.train)
    train.add_argument("data", metavar="DATA", help=data)
    train.add_argument("--model", metavar="mlp|cnn|FILE.json", help="by default cnn for images, else mlp")
    train.add_argument("--epochs", type=_whole, default=None, help="by default 20 for digits, 10 for mnist, else 50")
    train.add_argument("--batch-size", type=_whole, default=32, metavar="N", help="32")
    train.add_argument(
        "--learning-rate", type=_positive, metavar="RATE", help="at first; it falls to 0 as a cosine does"
    )
    train.add_argument("--optimizer", choices=run.OPTIMIZERS, default="adam", help="adam; sgd has momentum 0.9")
    train.add_argument("--seed", type=_seed, default=0, help="of the split, the parameters and the order; 0")
    train.add_argument(
        "--validation-split", type=_share, default=0.1, metavar="SHARE", help="of the training data; 0.1"
    )
    train.add_argument("--test-split", type=_share, default=0.2, metavar="SHARE", help="of a file's data; 0.2")
    train.add_argument("--label", metavar="COLUMN", help=label)
    train.add_argument("--out", type=Path, metavar="MODEL.npz", help="by default DATA-model.npz, in this folder")
    train.add_argument("--plots", type=Path, metavar="DIR", help="save pictures there (the extra gradwise[plot])")

    evaluate = commands.add_parser("evaluate", help="a saved network's loss and accuracy on data")
    evaluate.set_defaults(command=run.evaluate)
    predict = commands.add_parser("predict", help="a saved network's predictions, as CSV")
    predict.set_defaults(command=run.predict)
    for command in (evaluate, predict):
        command.add_argument("model", metavar="MODEL", type=Path, help="what train saved")
        command.add_argument("data", metavar="DATA", help=data + "; digits and mnist: their test images")
        command.add_argument("--label", metavar="COLUMN", help=label)
    predict.add_argument("--out", type=Path, metavar="FILE.csv", help="by default, standard output")

    summary = commands.add_parser("summary", help="a saved network's layers")
    summary.set_defaults(command=run.summary)
    summary.add_argument("model", metavar="MODEL", type=Path, help="what train saved")
    return parser


def _number(text: str, kind: type, what: str, least: float, most: float = float("inf")) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not least <= value < most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def _whole(text: str) -> int:
    return int(_number(text, int, "a whole number of 1 or more", 1))


def _seed(text: str) -> int:
    return int(_number(text, int, "a whole number of 0 or more", 0))


def _positive(text: str) -> float:
    return _number(text, float, "a number above 0", np.nextafter(0, 1))


def _share(text: str) -> float:
    return _number(text, float, "a number from 0 up to, not including, 1", 0, 1)

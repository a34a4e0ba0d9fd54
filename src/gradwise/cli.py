"""The command line: train, evaluate, predict, summary."""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

import gradwise
from gradwise import architectures, datasets, metrics
from gradwise.datasets import tables
from gradwise.errors import ArgumentError, DataError, LoadError, NonFiniteError
from gradwise.layers import Standardize
from gradwise.losses.classes import ClassLoss, SoftmaxCrossEntropy
from gradwise.network import Network
from gradwise.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from gradwise.training.callbacks import LearningRateSchedule
from gradwise.typing import Array
from gradwise.writing import replacing

_DATASETS = {"digits": datasets.digits, "mnist": datasets.mnist}
_OPTIMIZERS = {
    "sgd": lambda rate: SGD(rate or 0.05, momentum=0.9),
    "adam": lambda rate: Adam(rate or 0.003),
    "adamw": lambda rate: AdamW(rate or 0.003),
    "rmsprop": lambda rate: RMSprop(rate or 0.001),
}


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
        return _failed(error, 1)
    except (ValueError, TypeError) as error:
        if type(error).__module__ != "gradwise.errors":
            raise
        return _failed(error, 2)
    except KeyboardInterrupt:
        return _failed("interrupted", 1)


def _failed(error: object, code: int) -> int:
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"gradwise: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gradwise", description="Train, evaluate and run neural networks.")
    parser.add_argument("--version", action="version", version=f"gradwise {gradwise.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    data = "digits, mnist, a .csv file (a header, one label column, numbers elsewhere) or an .npz file (arrays x, y)"
    label = "the label column of a .csv file; by default one called label, class or target, else the last"

    train = commands.add_parser("train", help="train a network on data and save it", description="Train a network.")
    train.set_defaults(command=_train)
    train.add_argument("data", metavar="DATA", help=data)
    train.add_argument("--model", metavar="mlp|cnn|FILE.json", help="by default cnn for images, else mlp")
    train.add_argument("--epochs", type=_whole, default=None, help="by default 20 for digits, 10 for mnist, else 50")
    train.add_argument("--batch-size", type=_whole, default=32, metavar="N", help="32")
    train.add_argument(
        "--learning-rate", type=_positive, metavar="RATE", help="at first; it falls to 0 as a cosine does"
    )
    train.add_argument("--optimizer", choices=_OPTIMIZERS, default="adam", help="adam; sgd has momentum 0.9")
    train.add_argument("--seed", type=_seed, default=0, help="of the split, the parameters and the order; 0")
    train.add_argument(
        "--validation-split", type=_share, default=0.1, metavar="SHARE", help="of the training data; 0.1"
    )
    train.add_argument("--test-split", type=_share, default=0.2, metavar="SHARE", help="of a file's data; 0.2")
    train.add_argument("--label", metavar="COLUMN", help=label)
    train.add_argument("--out", type=Path, metavar="MODEL.npz", help="by default DATA-model.npz, in this folder")
    train.add_argument("--plots", type=Path, metavar="DIR", help="save pictures there (the extra gradwise[plot])")

    evaluate = commands.add_parser("evaluate", help="a saved network's loss and accuracy on data")
    evaluate.set_defaults(command=_evaluate)
    predict = commands.add_parser("predict", help="a saved network's predictions, as CSV")
    predict.set_defaults(command=_predict)
    for command in (evaluate, predict):
        command.add_argument("model", metavar="MODEL", type=Path, help="what train saved")
        command.add_argument("data", metavar="DATA", help=data + "; digits and mnist: their test images")
        command.add_argument("--label", metavar="COLUMN", help=label)
    predict.add_argument("--out", type=Path, metavar="FILE.csv", help="by default, standard output")

    summary = commands.add_parser("summary", help="a saved network's layers")
    summary.set_defaults(command=_summary)
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


class _Data(NamedTuple):
    """What is trained on and what is tested on; labels are indices into `classes`."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array
    classes: list[str]
    standard: list[Standardize]  # the layer that files' numbers need before all others


def _training_data(options: argparse.Namespace) -> _Data:
    rng = np.random.default_rng(options.seed)
    if options.data in _DATASETS:
        if options.label is not None:
            raise ArgumentError("--label names a column of a .csv file.")
        (x, y), (x_test, y_test) = _DATASETS[options.data]()
        order = rng.permutation(len(x))
        return _Data(x[order], y[order], x_test, y_test, [str(k) for k in range(10)], [])
    path = Path(options.data)
    table = tables.read(path, options.label)
    if table.y is None:
        raise DataError(f"{path} has no array y: training needs a label for each sample.")
    classes = tables.classes(table.y)
    if len(classes) < 2:
        raise DataError(f"{path}: all {len(table.y)} labels in {table.column!r} are {classes[0]!r}; there must be two.")
    print(f"{path}: {len(table.x)} samples, {len(classes)} classes in {table.column!r}")
    order = rng.permutation(len(table.x))
    x, y = table.x[order], _indices(table.y, classes, path)[order]
    tested = round(len(x) * options.test_split)
    if not 0 < tested < len(x):
        raise DataError(
            f"{path}: --test-split {options.test_split:g} of {len(x)} samples leaves one of the two parts empty."
        )
    x_test, y_test, x, y = x[:tested], y[:tested], x[tested:], y[tested:]
    axes = (0, *range(2, x.ndim))
    mean, deviation = x.mean(axis=axes, dtype=np.float64), x.std(axis=axes, dtype=np.float64)
    deviation[deviation < 1e-12] = 1.0
    standard = [Standardize(tuple(mean.tolist()), tuple(deviation.tolist()))]
    return _Data(x, y, x_test, y_test, classes, standard)


def _indices(labels: Array, classes: list[str], path: Path) -> Array:
    """Labels as indices into the classes."""
    index = {name: k for k, name in enumerate(classes)}
    unknown = set(np.unique(labels).tolist()) - index.keys()
    if unknown:
        raise DataError(
            f"{path} has the label {min(unknown)!r}, which the network does not know; it knows {', '.join(classes)}."
        )
    return np.array([index[name] for name in labels.tolist()])


def _train(options: argparse.Namespace) -> int:
    out = options.out or Path(f"{Path(options.data).stem}-model.npz")
    _writable(out, options.data)
    if options.plots is not None:
        import gradwise.plot

        gradwise.plot.available()
        if options.plots.exists() and not options.plots.is_dir():
            raise ArgumentError(f"--plots {options.plots} is not a folder.")
    data = _training_data(options)
    shape = data.x.shape[1:]
    model = options.model or ("cnn" if len(shape) == 3 else "mlp")
    layers = architectures.named(model, shape, len(data.classes))
    net = Network([*data.standard, *layers], SoftmaxCrossEntropy(), input_shape=shape, random_state=options.seed)
    if net.output_shape != (len(data.classes),):
        raise ArgumentError(
            f"--model {model} gives {net.output_shape}, but there are {len(data.classes)} classes:"
            f" end it in Dense({len(data.classes)})."
        )
    net.classes = data.classes
    net.summary()
    optimizer: Optimizer = _OPTIMIZERS[options.optimizer](options.learning_rate)
    epochs = options.epochs or {"digits": 20, "mnist": 10}.get(options.data, 50)
    rate = optimizer.learning_rate
    schedule = LearningRateSchedule(lambda epoch, _: rate * (1 + math.cos(math.pi * epoch / epochs)) / 2)
    history = net.fit(
        data.x,
        data.y,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=options.batch_size,
        validation_split=options.validation_split,
        callbacks=[schedule],
    )
    optimizer.learning_rate = rate
    net.save(out, optimizer=optimizer)
    prediction = net.predict(data.x_test)
    print(_confusion_table(prediction, data.y_test, data.classes))
    if options.plots is not None:
        gradwise.plot.save_all(options.plots, net, history, data.x_test, data.y_test)
        print(f"pictures in {options.plots}")
    print(f"saved {out}")
    print(f"test accuracy {metrics.accuracy(prediction, data.y_test).mean():.4f}", flush=True)
    if history.interrupted:
        return _failed(f"interrupted after {history.epochs} epochs; {out} has what was trained.", 1)
    return 0


def _writable(out: Path, data: str) -> None:
    """Refuse, before any work, a place that nothing can be written to or that holds the data."""
    if out.suffix != ".npz":
        raise ArgumentError(f"--out {out}: a model is saved as .npz.")
    if not out.parent.is_dir() or out.is_dir():
        raise ArgumentError(f"--out {out}: {'that is a folder' if out.is_dir() else 'there is no such folder'}.")
    if not os.access(out.parent, os.W_OK):
        raise ArgumentError(f"--out {out}: its folder cannot be written to.")
    if out.exists() and Path(data).exists() and out.samefile(data):
        raise ArgumentError(f"--out {out} is the data file itself.")


def _confusion_table(prediction: Array, target: Array, classes: list[str]) -> str:
    """The confusion matrix as text: a row a true class, a column a predicted one."""
    counts = metrics.confusion_matrix(prediction, target, len(classes))
    width = max(3, *(len(name) for name in classes), len(str(counts.max()))) + 1
    lines = [
        "confusion matrix (rows: true, columns: predicted)",
        " " * width + "".join(f"{n:>{width}}" for n in classes),
    ]
    for name, row in zip(classes, counts, strict=True):
        lines.append(f"{name:>{width}}" + "".join(f"{count or '.':>{width}}" for count in row))
    return "\n".join(lines)


def _load(path: Path) -> Network:
    if not path.is_file():
        raise LoadError(f"{path}: no such file.")
    return gradwise.load(path)


def _test_data(net: Network, options: argparse.Namespace) -> tuple[Array, Array | None]:
    """Samples and labels to run a saved network on; labels as indices into its classes."""
    shape = net.input_shape or ()
    if options.data in _DATASETS:
        x, y = _DATASETS[options.data]()[1]
        return x, y
    path = Path(options.data)
    table = tables.read(path, options.label, features=shape[0] if len(shape) == 1 else None)
    if table.y is None:
        return table.x, None
    classes = net.classes or [str(k) for k in range((net.output_shape or (0,))[0])]
    if options.command is _predict:
        return table.x, None
    return table.x, _indices(table.y, classes, path)


def _evaluate(options: argparse.Namespace) -> int:
    net = _load(options.model)
    x, y = _test_data(net, options)
    if y is None:
        raise DataError(f"{options.data} has no labels to compare with.")
    for name, value in net.evaluate(x, y).items():
        print(f"{name} {value:.4f}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    net = _load(options.model)
    x, _ = _test_data(net, options)
    prediction = net.predict(x)
    buffer = io.StringIO(newline="")
    table = csv.writer(buffer, lineterminator="\n")
    if isinstance(net.loss, ClassLoss):
        probability = net.loss.probabilities(prediction)
        classes = net.classes or range(prediction.shape[1])
        table.writerow(["prediction", "probability"])
        table.writerows((classes[k], f"{row[k]:.6f}") for k, row in zip(prediction.argmax(1), probability, strict=True))
    else:
        rows = prediction.reshape(len(prediction), -1)
        table.writerow([f"output_{k}" for k in range(rows.shape[1])])
        table.writerows([f"{value:.8g}" for value in row] for row in rows)
    if options.out is None:
        sys.stdout.write(buffer.getvalue())
        sys.stdout.flush()
    else:
        if options.out.resolve() in (Path(options.data).resolve(), options.model.resolve()):
            raise ArgumentError(f"--out {options.out} is a file that is read.")
        with replacing(options.out) as file:
            file.write(buffer.getvalue().encode())
        print(f"saved {options.out}")
    return 0


def _summary(options: argparse.Namespace) -> int:
    net = _load(options.model)
    net.summary()
    if net.loss is not None:
        print(f"loss {net.loss!r}")
    if net.classes:
        print(f"classes {', '.join(net.classes)}")
    return 0

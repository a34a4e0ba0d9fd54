"""The commands: train, evaluate, predict, summary. Each returns its exit code."""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
import sys
from pathlib import Path

import gradwise
from gradwise import architectures, metrics
from gradwise.cli.data import test_data, training_data
from gradwise.errors import ArgumentError, DataError, LoadError
from gradwise.losses.classes import ClassLoss, SoftmaxCrossEntropy
from gradwise.network import Network
from gradwise.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from gradwise.training.callbacks import LearningRateSchedule
from gradwise.typing import Array
from gradwise.writing import replacing

OPTIMIZERS = {
    "sgd": lambda rate: SGD(rate or 0.05, momentum=0.9),
    "adam": lambda rate: Adam(rate or 0.003),
    "adamw": lambda rate: AdamW(rate or 0.003),
    "rmsprop": lambda rate: RMSprop(rate or 0.001),
}


def train(options: argparse.Namespace) -> int:
    out = options.out or Path(f"{Path(options.data).stem}-model.npz")
    _writable(out, options.data)
    if options.plots is not None:
        import gradwise.plot

        gradwise.plot.available()
        if options.plots.exists() and not options.plots.is_dir():
            raise ArgumentError(f"--plots {options.plots} is not a folder.")
    data = training_data(options)
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
    optimizer: Optimizer = OPTIMIZERS[options.optimizer](options.learning_rate)
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
        return failed(f"interrupted after {history.epochs} epochs; {out} has what was trained.", 1)
    return 0


def evaluate(options: argparse.Namespace) -> int:
    net = _load(options.model)
    x, y = test_data(net, options, labelled=True)
    if y is None:
        raise DataError(f"{options.data} has no labels to compare with.")
    for name, value in net.evaluate(x, y).items():
        print(f"{name} {value:.4f}")
    return 0


def predict(options: argparse.Namespace) -> int:
    net = _load(options.model)
    x, _ = test_data(net, options, labelled=False)
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


def summary(options: argparse.Namespace) -> int:
    net = _load(options.model)
    net.summary()
    if net.loss is not None:
        print(f"loss {net.loss!r}")
    if net.classes:
        print(f"classes {', '.join(net.classes)}")
    return 0


def _load(path: Path) -> Network:
    if not path.is_file():
        raise LoadError(f"{path}: no such file.")
    return gradwise.load(path)


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


def failed(error: object, code: int) -> int:
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"gradwise: {message}", file=sys.stderr)
    return code

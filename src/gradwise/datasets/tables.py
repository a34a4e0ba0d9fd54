"""Data of the user's own: .csv tables and .npz archives, as numbers and class labels."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gradwise.errors import ArgumentError, DataError, LoadError
from gradwise.typing import Array

_LABELS = ("label", "labels", "class", "target", "species", "digit", "y")  # what a label column is often called
_ROWS = 4096  # of a table, turned into numbers at a time


class Table(NamedTuple):
    """Samples x, (N, features) or images (N, C, H, W), float32; and each one's class as a string (N,), or None."""

    x: Array
    y: Array | None
    column: str  # what the classes were read from


def read(path: Path, label: str | None = None, features: int | None = None) -> Table:
    """Read a .csv or .npz file.

    Parameters
    ----------
    path : Path
    label : str, optional
        The label column of a .csv file; by default one with a usual name (label, class, target, ...), else the last.
    features : int, optional
        How many columns of numbers there are to be: a table with just so many has no label column.

    Raises
    ------
    LoadError, DataError, ArgumentError
        What is wrong with the file, and in which line and column.
    """
    if not path.is_file():
        raise LoadError(f"{path}: no such file.")
    if path.suffix == ".csv":
        return _read_csv(path, label, features)
    if path.suffix != ".npz":
        raise LoadError(f"{path} is neither .csv nor .npz.")
    if label is not None:
        raise ArgumentError("--label names a column of a .csv file; an .npz file has arrays x and y.")
    return _read_npz(path)


def _read_npz(path: Path) -> Table:
    try:
        with np.load(path, allow_pickle=False) as file:
            if "x" not in file:
                raise LoadError(f"{path} has no array x; it has {', '.join(file.files) or 'none'}.")
            x, y = file["x"], file.get("y")
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, LoadError):
            raise
        raise LoadError(f"{path} is not an .npz file of plain arrays, or is damaged: {error}") from None
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path}: x is an array of {x.dtype}, not of numbers.")
    if x.ndim not in (2, 3, 4) or not x.size:
        raise DataError(
            f"{path}: x has samples as rows (N, features) or images (N, H, W) or (N, C, H, W), but has shape {x.shape}."
        )
    with np.errstate(over="ignore"):
        x = x.astype(np.float32, copy=False)
    if not np.isfinite(x).all():
        raise DataError(f"{path}: x has entries that are NaN, infinite or too large for float32.")
    if y is not None:
        if y.ndim not in (1, 2) or len(y) != len(x) or y.dtype.kind not in "biufU":
            raise DataError(f"{path}: y has one label for each of the {len(x)} samples, but is {y.dtype} {y.shape}.")
        if y.ndim == 2:  # one-hot rows
            y = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
        y = _names(y, f"{path}: y")
    return Table(x[:, None] if x.ndim == 3 else x, y, "y")


def _read_csv(path: Path, label: str | None, features: int | None) -> Table:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            header = [name.strip() for name in next(lines, [])]
            position = _label_column(path, header, label, features)
            columns = [name for index, name in enumerate(header) if index != position]
            parts: list[Array] = []
            rows: dict[int, list[str]] = {}
            labels: list[str] = []
            for row in lines:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, line {lines.line_num}: {len(row)} fields, but the header has {len(header)}."
                    )
                if position is not None:
                    labels.append(row.pop(position).strip())
                    if not labels[-1]:
                        raise DataError(f"{path}, line {lines.line_num}: the label, {header[position]!r}, is empty.")
                rows[lines.line_num] = row
                if len(rows) == _ROWS:
                    parts.append(_numbers(path, rows, columns))
                    rows = {}
            if rows:
                parts.append(_numbers(path, rows, columns))
    except UnicodeDecodeError:
        raise LoadError(f"{path} is not text in UTF-8.") from None
    except csv.Error as error:
        raise LoadError(f"{path}, line {lines.line_num}: {error}") from None
    if not parts:
        raise DataError(f"{path} has a header, but no rows.")
    name = "" if position is None else header[position]
    return Table(
        np.concatenate(parts), None if position is None else _names(np.array(labels), f"{path}: {name!r}"), name
    )


def _label_column(path: Path, header: Sequence[str], label: str | None, features: int | None) -> int | None:
    """Where the labels are; None in a table that is just the numbers wanted."""
    if len(header) < 2 and any(other in "".join(header) for other in ";\t"):
        raise DataError(f"{path}: columns are separated by commas, but the header is {header[0]!r}.")
    if not header or all(_is_number(name) for name in header):
        raise DataError(
            f"{path}: the first line is a header, a name for each column, but is {','.join(header)[:60]!r}."
        )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path}: two columns are called {twice!r}.")
    if label is not None:
        if label not in header:
            raise ArgumentError(f"{path} has no column {label!r}; it has {', '.join(header[:20])}.")
        position = header.index(label)
    elif features is not None and len(header) == features:
        return None
    else:
        usual = [index for index, name in enumerate(header) if name.lower() in _LABELS]
        position = usual[0] if usual else len(header) - 1
    if len(header) < 2:
        raise DataError(f"{path} has the label column {header[0]!r} alone; there must be columns of numbers too.")
    return position


def _numbers(path: Path, rows: dict[int, list[str]], columns: Sequence[str]) -> Array:
    """Rows by line as float32; an error that names the line and column of the first field that is no finite number."""
    try:
        with np.errstate(over="ignore"):
            x = np.array(list(rows.values()), dtype=np.float32)
        if np.isfinite(x).all():
            return x
    except ValueError:
        pass
    for line, row in rows.items():
        for name, field in zip(columns, row, strict=True):
            if not _is_number(field) or not abs(float(field)) <= float(np.finfo(np.float32).max):
                raise DataError(
                    f"{path}, line {line}, column {name!r}: {field!r} is not a finite number. Every column but the"
                    " label is numbers; --label says which that is."
                )
    raise DataError(f"{path}: lines {min(rows)} to {max(rows)} are not numbers.")


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _names(labels: Array, what: str) -> Array:
    """Class labels as strings: whole numbers without a point."""
    if labels.dtype.kind in "bu":
        labels = labels.astype(np.int64)
    numbers = labels
    if labels.dtype.kind == "U":
        if not all(map(_is_number, np.unique(labels))):
            return labels
        numbers = labels.astype(np.float64)
    if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
        odd = numbers[~(numbers == np.round(numbers))][0]
        raise DataError(f"{what} has labels of classes, names or whole numbers, but among them is {odd}.")
    return numbers.astype(np.int64).astype(str)


def classes(labels: Array) -> list[str]:
    """The different labels: numbers by size, names by the alphabet."""
    different = [str(name) for name in np.unique(labels)]
    if all(name.lstrip("-").isdigit() for name in different):
        different.sort(key=int)
    return different

"""The IDX format of MNIST: two zero bytes, a type, a number of axes, each axis's size, the numbers; all big-endian."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np

from gradwise.errors import LoadError
from gradwise.typing import Array

_BYTES = 8  # the type of unsigned bytes
_MOST = 1 << 30  # bytes that a compressed file may unpack to


def read_idx(path: Path, axes: int) -> Array:
    """The unsigned bytes of an IDX file, plain or compressed by gzip.

    Parameters
    ----------
    path : Path
        Compressed where its name ends in .gz.
    axes : int
        How many axes it must have: 1 for labels, 3 for images.

    Raises
    ------
    LoadError
        It is no such file, is damaged, or is not as long as its header says. Nothing larger than what it holds is
        allocated.
    """
    try:
        if path.suffix == ".gz":
            return _unpacked(path, axes)
        with open(path, "rb") as file:
            shape = _shape(file.read(4 + 4 * axes), path, axes)
            length = path.stat().st_size - file.tell()
            if length != math.prod(shape):
                raise LoadError(_wrong_length(path, shape, str(length)))
            data = file.read()
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror or error}") from None
    return np.frombuffer(data, np.uint8).reshape(shape)


def _unpacked(path: Path, axes: int) -> Array:
    import gzip

    try:
        with gzip.open(path, "rb") as file:
            shape = _shape(file.read(4 + 4 * axes), path, axes)
            size = math.prod(shape)
            if size > _MOST:
                raise LoadError(f"{path} says it unpacks to {size} bytes; {_MOST} are the most that is read.")
            data = file.read(size + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise LoadError(f"{path} is not a gzip file, or is damaged: {error}") from None
    if len(data) != size:
        raise LoadError(_wrong_length(path, shape, "more" if len(data) > size else str(len(data))))
    return np.frombuffer(data, np.uint8).reshape(shape)


def _shape(header: bytes, path: Path, axes: int) -> tuple[int, ...]:
    if len(header) < 4 + 4 * axes or header[:4] != bytes((0, 0, _BYTES, axes)):
        raise LoadError(
            f"{path} is not an IDX file of unsigned bytes with {axes} {'axis' if axes == 1 else 'axes'}:"
            f" it begins with {header[:4].hex(' ') or 'nothing'}, not {bytes((0, 0, _BYTES, axes)).hex(' ')}."
        )
    return tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))


def _wrong_length(path: Path, shape: tuple[int, ...], length: str) -> str:
    return f"{path} says it holds {math.prod(shape)} bytes, {shape}, but there are {length}: is it whole?"

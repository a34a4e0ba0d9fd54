"""Saving and loading: one .npz without pickles, that holds the architecture as JSON and every array.

The archive's members are stored, not compressed, so a file is as large as what it unpacks to. `gradwise.json` describes
the network, the optimiser and the random state; the arrays are parameters/PATH, state/PATH and optimizer/KIND/PATH.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from gradwise.description import decode, encode, known_classes
from gradwise.errors import LoadError
from gradwise.initializers import shapes_only
from gradwise.layers.base import Layer, sizes
from gradwise.layers.containers import Chain
from gradwise.optimizers import Optimizer
from gradwise.typing import Array, Shape
from gradwise.writing import replacing

if TYPE_CHECKING:
    import zipfile  # imported where it is used: it takes 4 ms, and most programs load no network

VERSION = 1
_DESCRIPTION = "gradwise.json"
_LONGEST_DESCRIPTION = 1 << 26  # bytes
_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def save(
    path: str | os.PathLike[str],
    network: Chain,
    optimizer: Optimizer | None = None,
    rng: np.random.Generator | None = None,
) -> None:
    """Write a built network, and what is needed to go on training it, to `path`."""
    description = {
        "format": "gradwise",
        "version": VERSION,
        "network": encode(network, {}),
        "input_shape": network.input_shape,
        "classes": getattr(network, "classes", None),
        "optimizer": None if optimizer is None else {"made": encode(optimizer, {}), "steps": optimizer.steps},
        "random": None if rng is None else rng.bit_generator.state,
    }
    import json

    arrays: dict[str, Array] = {_DESCRIPTION: np.array(json.dumps(description, default=_plain))}
    for kind in ("parameters", "state"):
        arrays |= {f"{kind}/{name}": array for name, array in network.arrays(kind).items()}
    for kind, own in optimizer.state.items() if optimizer is not None else ():
        arrays |= {f"optimizer/{kind}/{name}": array for name, array in own.items()}
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


class Loaded(NamedTuple):
    """What a file held: the network, and what was saved with it."""

    network: Chain
    optimizer: Optimizer | None
    rng: np.random.Generator | None
    classes: list[str] | None


def load(path: str | os.PathLike[str], network_class: type[Chain], custom: Iterable[type] = ()) -> Loaded:
    """Read what `save` wrote.

    Everything is checked against the file's own sizes before an array is made. No code of the file's is run.

    Raises
    ------
    LoadError
        The file is missing parts, damaged, foreign, written by a newer version, or does not match its own description.
    """
    import zipfile

    try:
        with open(path, "rb") as file:
            return _load(file, os.fspath(path), network_class, custom)
    except (zipfile.BadZipFile, EOFError) as error:
        raise LoadError(f"{os.fspath(path)} is not a gradwise file, or is damaged: {error}.") from None
    except (RecursionError, MemoryError, OverflowError) as error:
        raise LoadError(
            f"{os.fspath(path)} describes a network that cannot be made ({type(error).__name__})."
        ) from None


def _load(file: BinaryIO, path: str, network_class: type[Chain], custom: Iterable[type]) -> Loaded:
    members = _members(file, path)
    description = _description(file, members, path)
    classes = known_classes(network_class, custom)
    try:
        network = decode(description["network"], classes, {})
        if not isinstance(network, Chain):
            raise LoadError(f"{path} holds a {type(network).__name__}, not a network.")
        output_shape = network.build(sizes(description["input_shape"], "input_shape"), shapes_only())
        names = _names(description.get("classes"), output_shape)
        optimizer = None
        if description["optimizer"] is not None:
            optimizer = decode(description["optimizer"]["made"], classes, {})
            if not isinstance(optimizer, Optimizer):
                raise LoadError(f"{path} holds a {type(optimizer).__name__}, not an optimiser.")
            optimizer.steps = int(description["optimizer"]["steps"])
    except LoadError as error:
        raise LoadError(f"{path}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise LoadError(f"{path} does not describe a network: {type(error).__name__}: {error}") from error

    expected: dict[str, tuple[Shape, tuple[Layer, str] | None]] = {}
    for kind in ("parameters", "state"):
        for place, owner, name in network.slots(kind):
            expected[f"{kind}/{place}"] = (getattr(owner, name).shape, (owner, name))
    wanted = {name: shape for name, (shape, _) in expected.items()}
    if optimizer is not None:
        parameters = network.arrays()
        for name in members:
            prefix, _, rest = name.partition("/")
            kind, _, place = rest.partition("/")
            if prefix == "optimizer" and kind in optimizer.state and place in parameters:
                wanted[name] = parameters[place].shape
    _check(members, wanted, path)
    for name, (_, slot) in expected.items():
        if slot is not None:
            setattr(*slot, _read(file, members[name]))
    if optimizer is not None:
        for name in wanted.keys() - expected.keys():
            _, kind, place = name.split("/", 2)
            optimizer.state[kind][place] = _read(file, members[name])
    return Loaded(network, optimizer, _generator(description["random"], path), names)


def _names(names: Any, output_shape: Shape) -> list[str] | None:
    """The classes' names that the file has."""
    if names is None or (
        isinstance(names, list) and all(isinstance(n, str) for n in names) and (len(names),) == output_shape
    ):
        return names
    raise LoadError(f"it names classes, but not one for each of the {output_shape} outputs.")


# The archive


class _Member:
    """An array in the archive: where it lies, and what its own header says."""

    def __init__(self, info: zipfile.ZipInfo, offset: int, shape: Shape, fortran: bool, dtype: np.dtype) -> None:
        self.info = info
        self.offset = offset
        self.shape = shape
        self.fortran = fortran
        self.dtype = dtype


def _members(file: BinaryIO, path: str) -> dict[str, _Member]:
    """All arrays of the archive by name, their headers read and checked against the bytes there are."""
    import zipfile

    archive = zipfile.ZipFile(file)
    size = os.fstat(file.fileno()).st_size
    infos = archive.infolist()
    if sum(info.file_size for info in infos) > size:
        raise LoadError(f"{path} claims to hold more than its own {size} bytes: it is damaged or made to do harm.")
    members: dict[str, _Member] = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise LoadError(f"{path} has a compressed part, {name!r}; gradwise stores arrays as they are.")
        if name in members:
            raise LoadError(f"{path} holds {name!r} twice.")
        with archive.open(info) as stream:
            try:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(stream)
            except (ValueError, UnicodeDecodeError) as error:
                raise LoadError(f"{path}: {name!r} is not an array: {error}") from None
            offset = stream.tell()
        if dtype.hasobject:
            raise LoadError(f"{path}: {name!r} holds Python objects, which could run code; gradwise never reads them.")
        if offset + math.prod(shape) * dtype.itemsize != info.file_size:
            raise LoadError(
                f"{path}: {name!r} says it has shape {shape} in {dtype}, but there are {info.file_size - offset} bytes."
            )
        members[name] = _Member(info, offset, shape, fortran, dtype)
    return members


def _read(file: BinaryIO, member: _Member) -> Array:
    """One array, its checksum verified."""
    import zipfile

    with zipfile.ZipFile(file).open(member.info) as stream:
        data = stream.read()
    flat = np.frombuffer(data, member.dtype, offset=member.offset)
    return flat.reshape(member.shape, order="F" if member.fortran else "C").copy(order="K")


def _description(file: BinaryIO, members: Mapping[str, _Member], path: str) -> dict[str, Any]:
    """The file's JSON, its format and version checked."""
    member = members.get(_DESCRIPTION)
    if member is None or member.shape != () or member.dtype.kind != "U":
        raise LoadError(f"{path} is an .npz file, but not one of gradwise's: it has no {_DESCRIPTION}.")
    if member.info.file_size > _LONGEST_DESCRIPTION:
        raise LoadError(f"{path} has a description of {member.info.file_size} bytes, which no network needs.")
    import json

    try:
        description = json.loads(_read(file, member).item())
    except ValueError as error:
        raise LoadError(f"{path}: its description is not JSON: {error}") from None
    if not isinstance(description, dict) or description.get("format") != "gradwise":
        raise LoadError(f"{path} is not a gradwise file.")
    version = description.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise LoadError(
            f"{path} has format version {version}, newer than this gradwise reads (up to {VERSION}): upgrade gradwise."
        )
    missing = {"network", "input_shape", "optimizer", "random"} - description.keys()
    if missing:
        raise LoadError(f"{path}: its description lacks {', '.join(sorted(missing))}.")
    return description


def _check(members: Mapping[str, _Member], wanted: Mapping[str, Shape], path: str) -> None:
    """The arrays there are must be those that the description asks for."""
    there = set(members) - {_DESCRIPTION}
    if there != set(wanted):
        missing, extra = sorted(set(wanted) - there), sorted(there - set(wanted))
        told = [f"lacks {', '.join(missing[:5])}"] if missing else []
        told += [f"has {', '.join(extra[:5])} besides"] if extra else []
        raise LoadError(f"{path} does not hold the arrays of its network: it {' and '.join(told)}.")
    for name, shape in wanted.items():
        member = members[name]
        if member.shape != shape:
            raise LoadError(f"{path}: {name} has shape {member.shape}, but the network needs {shape}.")
        if member.dtype not in (np.float32, np.float64) and not name.startswith("state/"):
            raise LoadError(f"{path}: {name} is an array of {member.dtype}; parameters are float32 or float64.")


def _plain(value: Any) -> Any:
    """A generator's state as JSON: it holds numpy numbers and arrays."""
    return value.tolist()


def _generator(state: Any, path: str) -> np.random.Generator | None:
    if state is None:
        return None
    try:
        name = state["bit_generator"]
        if name not in _GENERATORS:
            raise ValueError(f"unknown generator {name!r}")
        bits = getattr(np.random, name)()
        bits.state = state
    except (ValueError, TypeError, KeyError) as error:
        raise LoadError(f"{path}: its random state cannot be restored: {error}") from None
    return np.random.Generator(bits)

"""`load`: a network from the file that it was saved to."""

from __future__ import annotations

import os
from collections.abc import Iterable

from gradwise import files
from gradwise.network import Network


def load(path: str | os.PathLike[str], custom_layers: Iterable[type] = ()) -> Network:
    """Read a network that `Network.save` wrote.

    Parameters
    ----------
    path : str or path
    custom_layers : iterable of class
        The classes of layers, losses and initialisers of your own that the network uses.

    Returns
    -------
    Network
        Where an optimiser was saved, it is `net.optimizer`, and `net.rng` goes on where it was.

    Raises
    ------
    LoadError
        The file is damaged, foreign, written by a newer version, or does not match its own description.
    FileNotFoundError
    """
    held = files.load(path, Network, custom_layers)
    network = held.network
    if not isinstance(network, Network):
        network = Network([network], input_shape=network.input_shape)
    network.optimizer, network.classes = held.optimizer, held.classes
    if held.rng is not None:
        network.rng = held.rng
    return network

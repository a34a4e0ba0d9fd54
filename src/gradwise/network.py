"""`Network`: a chain with a loss, that trains, predicts, evaluates, explains, saves and loads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gradwise import files
from gradwise.errors import DTypeError
from gradwise.jacobian import LIMIT, per_sample_gradients
from gradwise.kernels.context import Computing
from gradwise.layers.base import Layer, generator, positive, sizes
from gradwise.layers.containers import Chain
from gradwise.losses import Loss
from gradwise.optimizers import Optimizer
from gradwise.summary import table
from gradwise.training import given, loop
from gradwise.training.batches import Arrays
from gradwise.training.callbacks import Callback, Training
from gradwise.training.history import History
from gradwise.training.parallel import Workers
from gradwise.training.quick import Quick
from gradwise.typing import Array, RandomState, Shape


class Network(Chain):
    """Layers one after the other, and how to train them.

    Parameters
    ----------
    layers : sequence of Layer
    loss : Loss, optional
        Needed to train, to evaluate and for gradients by data; not to run.
    input_shape : int or tuple of int, optional
        A sample's shape without N: (784,) or (1, 28, 28). Without it the network is built by the first data it is
        trained on.
    random_state : None, int or numpy.random.Generator
        Where the first parameters, the order of samples and dropout come from. None draws a seed from NumPy's global
        state, so that np.random.seed(0) makes a script repeat.

    Attributes
    ----------
    optimizer : Optimizer or None
        The one the network was last trained with, or was loaded with.
    rng : numpy.random.Generator
    classes : list of str, or None
        The classes' names, in the order of their labels, where somebody has set them; saved with the network.

    Examples
    --------
    >>> from gradwise import Dense, Network, ReLU, SoftmaxCrossEntropy
    >>> net = Network([Dense(16), ReLU(), Dense(3)], loss=SoftmaxCrossEntropy(), input_shape=4, random_state=0)
    >>> net.predict(np.zeros((2, 4))).shape
    (2, 3)
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        loss: Loss | None = None,
        input_shape: int | Shape | None = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(layers)
        if loss is not None and not isinstance(loss, Loss):
            hint = f" Make one: {loss.__name__}()." if isinstance(loss, type) else ""
            raise DTypeError(f"Network takes a loss such as SoftmaxCrossEntropy(), but got {loss!r}.{hint}")
        self.loss = loss
        self.random_state = random_state
        self.rng = generator(random_state)
        self.optimizer: Optimizer | None = None
        self.classes: list[str] | None = None
        self._quick = Quick(self)
        if input_shape is not None:
            self.build(sizes(input_shape, "input_shape"), self.rng)

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: all but the programs, which are of this network."""
        return {name: value for name, value in super().__getstate__().items() if name != "_quick"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._quick = Quick(self)

    # Training

    def fit(
        self,
        x: npt.ArrayLike | Iterable[Any] | Callable[[], Iterable[Any]],
        y: npt.ArrayLike | None = None,
        *,
        optimizer: Optimizer | None = None,
        epochs: int = 1,
        batch_size: int = 32,
        validation_split: float = 0.0,
        validation_data: tuple[Any, ...] | None = None,
        shuffle: bool = True,
        sample_weight: npt.ArrayLike | None = None,
        class_weight: Mapping[int, float] | None = None,
        callbacks: Sequence[Callback | Callable[[Training], object]] = (),
        metrics: Any = "auto",
        verbose: bool = True,
        random_state: RandomState = None,
        workers: int | Workers = 1,
    ) -> History:
        """Train on data.

        Parameters
        ----------
        x : array_like (N, *input_shape), or an iterable of batches
            A memory-mapped array is read batch by batch. An iterable (y is None then) yields (x, y) or
            (x, y, sample_weight); or x is a function that returns such an iterable.
        y : array_like
            Targets, as the loss takes them.
        optimizer : Optimizer, optional
            By default `self.optimizer`, the one used or loaded before, else a new `Adam()`.
        epochs, batch_size : int
            The last, smaller batch of an epoch is trained too.
        validation_split : float
            The share of the samples, taken from the end before any shuffling, that is evaluated and not trained.
        validation_data : tuple
            (x, y) or (x, y, sample_weight), to be evaluated after each epoch.
        shuffle : bool
            Take the samples in a new order each epoch. An iterable's batches keep theirs.
        sample_weight : array_like (N,), optional
            Each sample's loss is multiplied by its weight; means are taken over the number of samples.
        class_weight : mapping, optional
            Label -> weight, for losses over classes; 1 for labels that are not named.
        callbacks : sequence of Callback or function
            A function is called with the `Training` after each epoch.
        metrics : "auto", None, or a sequence of names and functions
            Names: "accuracy", "top_5_accuracy", "mean_absolute_error", "mean_squared_error". Functions:
            (prediction, target) -> (N,), of several small batches at once. "auto" is accuracy, or nothing for a loss
            over values.
        verbose : bool
            A bar per epoch on a terminal, a line per epoch elsewhere, on standard error.
        random_state : None, int or Generator
            For the samples' order and random layers of this call; by default the network's own generator.
        workers : int or Workers
            More than 1: so many processes share each batch (the extra `parallel`). It pays for most networks of
            convolutions; see `Workers`.

        Returns
        -------
        History
            Ctrl-C ends training after the batch under way; the history then has `interrupted` set.

        Raises
        ------
        DataError, ShapeError, DTypeError, ArgumentError
            Bad data or arguments, before any work.
        NonFiniteError
            The loss or a parameter became NaN or infinite. The network has the arrays of its last finite epoch.
        WorkerError
            One of several workers has died.
        """
        loss = given.loss(self, "fit")
        positive(epochs, "epochs")
        if not isinstance(workers, Workers):
            workers = positive(workers, "workers")
        positive(batch_size, "batch_size")
        optimizer = given.optimizer(self, optimizer)
        source, validation = given.to_fit(
            self, x, y, epochs, batch_size, sample_weight, class_weight, validation_split, validation_data
        )
        self.optimizer = optimizer
        return loop.fit(
            self,
            loss,
            optimizer,
            source,
            epochs=epochs,
            rng=self.rng if random_state is None else generator(random_state),
            shuffle=shuffle,
            validation=validation,
            metrics=loop.resolve(metrics, loss),
            callbacks=callbacks,
            verbose=verbose,
            workers=workers,
            batch_size=batch_size,
            quick=self._quick.fit_step,
        )

    def train_step(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        optimizer: Optimizer | None = None,
        workers: Workers | None = None,
    ) -> float:
        """One step of the optimiser on one batch: the batch's mean loss before the step.

        Parameters
        ----------
        x : array_like (N, *input_shape)
        y : array_like
            Targets, as the loss takes them.
        optimizer : Optimizer, optional
            By default `self.optimizer`, else a new `Adam()`.
        workers : Workers, optional
            Processes that share the batch.

        Raises
        ------
        NonFiniteError
            The loss is NaN or infinite; nothing was changed.
        """
        known = self.optimizer is not None and (optimizer is None or optimizer is self.optimizer)
        if not known or workers is not None:
            given.loss(self, "train_step")
            batch = self._quick.batch(getattr(x, "shape", None), x, y)
            self.optimizer = given.optimizer(self, optimizer)
            if workers is not None:
                with Computing():
                    return workers.step(self.optimizer, batch, self.rng)[0]
        return self._quick.train_step(getattr(x, "shape", None), x, y)

    def predict(self, x: npt.ArrayLike, batch_size: int = given.INFERENCE_BATCH) -> Array:
        """The network's output, (N, *output_shape), computed batch by batch: the last layer's numbers.

        Those are logits where the network ends in Dense and has `SoftmaxCrossEntropy`; `net.loss.probabilities(...)`
        makes probabilities of them, `.argmax(axis=1)` labels.
        """
        positive(batch_size, "batch_size")
        if isinstance(x, np.ndarray) and x.ndim and len(x) <= batch_size:
            return self._quick.predict(x.shape, x)
        given.built(self, "predict")
        return loop.predictions(self, Arrays(given.inputs(self, x), np.empty(0), None, batch_size, self.dtype))

    def evaluate(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        batch_size: int = given.INFERENCE_BATCH,
        sample_weight: npt.ArrayLike | None = None,
        metrics: Any = "auto",
    ) -> dict[str, float]:
        """The mean loss and metrics over data: {"loss": ..., "accuracy": ...}. Parameters as in `fit`."""
        loss = given.loss(self, "evaluate")
        positive(batch_size, "batch_size")
        given.built(self, "evaluate")
        source = given.arrays(self, x, y, sample_weight, None, batch_size)
        return loop.evaluate(self, loss, source, loop.resolve(metrics, loss))

    # Explaining

    def input_gradient(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
        """Each sample's gradient of its own loss by its input: an array of x's shape. As in inference."""
        loss, batch, target = given.explained(self, x, y, "input_gradient")
        prediction, pullback = self.vjp(batch)
        return pullback.input(loss.vjp(prediction, target)[1]())

    def per_sample_gradients(self, x: npt.ArrayLike, y: npt.ArrayLike, max_bytes: int = LIMIT) -> dict[str, Array]:
        """Each sample's gradient of its own loss by each parameter: path -> (N, *shape). As in inference.

        Raises
        ------
        TooLargeError
            The result would take more than `max_bytes`; nothing was computed.
        """
        loss, batch, target = given.explained(self, x, y, "per_sample_gradients")
        cotangent = loss.vjp(self.forward(batch), target)[1]()
        return per_sample_gradients(self, batch, cotangent, max_bytes)

    def parameters(self) -> dict[str, Array]:  # type: ignore[override]
        """Dotted path -> the parameter itself: {"0.kernel": ..., "0.bias": ...}."""
        given.built(self, "parameters")
        return self.arrays()

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the parameters, in which data is trained on."""
        found = None
        for parameter in self.held().values():
            dtype = parameter.dtype
            if dtype is not found:  # dtypes of one kind are one object: asked each step, so no set is made
                found = dtype if found is None else np.result_type(found, dtype)
        return np.dtype(np.float32) if found is None else found

    def summary(self) -> None:
        """Print a table: layer, output shape, parameters; and their totals."""
        given.built(self, "summary")
        print(table(self))

    def save(self, path: str | os.PathLike[str], optimizer: Optimizer | None = None) -> None:
        """Write the network to one .npz file, beside `path` first and then renamed.

        Parameters
        ----------
        path : str or path
        optimizer : Optimizer, optional
            Saved with its state, together with the network's random state: loaded again, training goes on bit for bit.
        """
        given.built(self, "save")
        files.save(path, self, optimizer, self.rng if optimizer is not None else None)

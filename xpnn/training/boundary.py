"""Recording how a decision boundary forms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._typing import Array
from ..arguments import is_count
from ..backend import to_numpy
from ..errors import OptionError, ShapeError
from ..plots.boundary import boundary_grid, plane_samples
from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["BoundaryRecorder"]


class BoundaryRecorder(Callback):
    """Keep the probabilities over the plane at some epochs, for `xpnn.plots.animate_training`.

    Parameters
    ----------
    X : array of shape (n, 2)
        The samples to be drawn; they span the plane.
    y : array of shape (n,), (n, 1) or (n, n_classes)
        Their classes.
    epochs : int or sequence of int, default=(10, 100, 1000)
        After which epochs; 0 is before the first; an int records every so many epochs.
    resolution : int, default=150
        Grid points along each axis.

    Attributes
    ----------
    frames : list of (int, numpy.ndarray)
        The epoch, and what ``predict_proba`` gave for the grid: (resolution**2, n_out), float32.
    points, labels : numpy.ndarray of shapes (n, 2) and (n,)
        The samples on the host.

    Raises
    ------
    ShapeError, DataError, LabelError
        If X and y are not samples with two features and class labels.
    OptionError
        If `epochs` or `resolution` is out of range, or (when training begins) the loss has no classes.

    Examples
    --------
    >>> import xpnn
    >>> X, y = xpnn.data.make_moons(60, seed=0)
    >>> recorder = xpnn.BoundaryRecorder(X, y, epochs=(0, 2), resolution=20)
    >>> trainer = xpnn.Trainer(xpnn.mlp([2, 8, 2]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[recorder])
    >>> _ = trainer.fit(X, y, epochs=3)
    >>> [(epoch, shares.shape) for epoch, shares in recorder.frames]
    [(0, (400, 2)), (2, (400, 2))]
    """

    def __init__(
        self, X: Array, y: Array, *, epochs: int | Iterable[int] = (10, 100, 1000), resolution: int = 150
    ) -> None:
        where = "BoundaryRecorder"
        self.points, self.labels = plane_samples(X, y, where)
        if not is_count(resolution) or resolution < 2:
            raise OptionError(f"{where}: expected resolution of at least 2, got {resolution!r}. Try 150.")
        self.resolution = int(resolution)
        chosen: list[Any] | int = list(epochs) if isinstance(epochs, Iterable) else epochs
        listed = chosen if isinstance(chosen, list) else [chosen or None]
        if not listed or not all(is_count(e) or (type(e) is int and e == 0) for e in listed):
            raise OptionError(
                f"{where}: expected epochs to be whole numbers of at least 0, or how often to record, got {epochs!r}. "
                "Try (10, 100, 1000)."
            )
        self.epochs = chosen
        self.frames: list[tuple[int, np.ndarray]] = []

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Record epoch 0, if asked for."""
        if not trainer.loss.classifies:
            raise OptionError(
                f"BoundaryRecorder: expected a loss over classes, got {trainer.loss}. Regression has no boundary."
            )
        if trainer.net.n_in != 2 or trainer.net.store.replicas:
            raise ShapeError(
                f"BoundaryRecorder: expected one network with 2 inputs, got {trainer.net.n_in} inputs and "
                f"{(len(trainer.net.store.replicas) and trainer.net.store.replicas[0]) or 'no'} replicas. "
                "Draw two features of one network."
            )
        if trainer.epoch == 0:
            self.on_epoch_end(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Record the epoch, if asked for."""
        wanted = trainer.epoch in self.epochs if isinstance(self.epochs, list) else trainer.epoch % self.epochs == 0
        if wanted:
            grid = trainer.backend.asarray(boundary_grid(self.points, self.resolution))
            self.frames.append((trainer.epoch, np.array(to_numpy(trainer.predict_proba(grid)), dtype=np.float32)))

"""The history as TensorBoard shows it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arguments import count
from ..backend import to_numpy
from ..errors import DataError
from ..files import PathLike
from ..optional import needs
from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["TensorBoard"]

# Columns that have no twin in validation share a group of charts.
_ABOUT_TRAINING = ("lr", "grad_norm", "penalty", "seconds")
# Seconds after which TensorBoard sees an epoch that is over.
_DELAY = 5


class TensorBoard(Callback):
    """Write the history, and the weights on request, as event files: look at them with ``tensorboard --logdir DIR``.

    Training and validation are two runs, ``train`` and ``validation``, so loss and each metric are one chart with
    two curves; the learning rate, the gradients' norm, the penalty and the seconds are the charts ``training/…``.
    Each of K replicas has runs of its own, ``train/replica-0`` and so on, beside the mean of all.  Files are
    closed however training ends.  A second fit, or one of a loaded trainer, goes on where the first ended; of what
    an earlier run in the same folder had written for later epochs, TensorBoard then shows no more.

    Parameters
    ----------
    logdir : path, default="runs/tensorboard"
        The folder; one for each experiment, in one common folder, can be compared.
    histograms : int, default=0
        Write a histogram of every parameter after each so many epochs; 0 for none.

    Raises
    ------
    BackendUnavailableError
        If tensorboardX is not installed.
    DataError
        At the beginning of a fit, if the folder cannot be written to.

    Examples
    --------
    >>> import tempfile, xpnn
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> X, y = xpnn.data.make_moons(100, seed=0)
    >>> trainer = xpnn.Trainer(xpnn.mlp([2, 8, 2]), xpnn.CrossEntropy(), xpnn.Adam())
    >>> trainer.callbacks.append(TensorBoard(folder.name, histograms=5))
    >>> _ = trainer.fit(X, y, epochs=10, validation_fraction=0.2)
    >>> sorted(path.name for path in Path(folder.name).iterdir())
    ['train', 'validation']
    >>> folder.cleanup()
    """

    on_every_rank = False

    def __init__(self, logdir: PathLike = "runs/tensorboard", *, histograms: int = 0) -> None:
        with needs("tensorboardX", "TensorBoard"):
            from tensorboardX import SummaryWriter
        self._writer_class = SummaryWriter
        self.logdir = logdir
        self.histograms = 0 if histograms == 0 else count(histograms, "TensorBoard", "histograms")
        self._writers: dict[str, Any] = {}
        self._begins_at = 1

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_writers": {}}  # of open files

    def on_fit_begin(self, trainer: Trainer) -> None:
        self.on_fit_end(trainer)  # of a fit that another trainer began and has not ended
        self._begins_at = trainer.epoch + 1
        self._run("train")

    def on_epoch_end(self, trainer: Trainer) -> None:
        epoch = trainer.epoch
        for name, value in trainer.history.rows[-1].items():
            column = name.removesuffix("_replicas")
            run = "validation" if column.startswith("val_") else "train"
            tag = f"training/{column}" if column in _ABOUT_TRAINING else column.removeprefix("val_")
            if isinstance(value, list):
                for k, own in enumerate(value):
                    self._run(f"{run}/replica-{k}").add_scalar(tag, own, epoch)
            elif isinstance(value, float):
                self._run(run).add_scalar(tag, value, epoch)
        if self.histograms and epoch % self.histograms == 0:
            replicated = bool(trainer.net.store.replicas)
            for name, array in trainer.net.params.items():
                host = to_numpy(array)
                for k, values in enumerate(host if replicated else [host]):
                    run = f"train/replica-{k}" if replicated else "train"
                    self._run(run).add_histogram(f"weights/{name}", values, epoch)

    def on_fit_end(self, trainer: Trainer) -> None:
        with contextlib.ExitStack() as stack:
            while self._writers:
                _, writer = self._writers.popitem()
                stack.callback(writer.close)

    def _run(self, name: str) -> Any:
        """Return the writer of a run; open it at its first value."""
        if name not in self._writers:
            folder = Path(self.logdir).expanduser() / name
            try:
                self._writers[name] = self._writer_class(
                    str(folder),
                    purge_step=self._begins_at,
                    flush_secs=_DELAY,
                    # Files are named by the second and read in the order of their names; two fits may begin in one.
                    filename_suffix=f".{time.time_ns()}",
                )
            except OSError as error:
                raise DataError(
                    f"TensorBoard: expected a folder that can be written to, got {folder}: {error.strerror or error}. "
                    "Choose another logdir, or mend the folder's permissions."
                ) from error
        return self._writers[name]

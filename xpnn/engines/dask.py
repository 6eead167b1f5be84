"""Training and predictions on a Dask cluster.

Dask starts the processes, holds the data and brings them to where they are needed; gradients travel over connections
of xpnn's own.  A worker that is lost costs the time since the last checkpoint, and no bit of the result.

Examples
--------
::

    from dask.distributed import Client, LocalCluster

    with LocalCluster(n_workers=4, threads_per_worker=1) as cluster, Client(cluster) as client:
        rows = dask.dataframe.read_parquet("rows/")
        encoder = xpnn.distributed.dask.fit_encoder(TableEncoder(), rows.drop(columns="y"))
        net = xpnn.mlp([len(encoder.feature_names_out), 64, 2], seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam())
        trained = xpnn.distributed.dask.fit(trainer, rows, target="y", encoder=encoder, checkpoint="run.safetensors")
        labels = xpnn.distributed.dask.predict(trained, rows, encoder=encoder)
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import pickle
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arguments import count, number
from ..backend import to_numpy
from ..data import TableEncoder, TableSummary
from ..data.scaling import gather_moments
from ..distributed import Alone, Group
from ..distributed.group import words_of
from ..distributed.sockets import SocketGroup, join, listen
from ..distributed.tree import ranges
from ..errors import DataError, DTypeError, OptionError, ProcessError
from ..files import PathLike
from ..frames import is_collection, table_names
from ..jobs import carried
from ..optional import needs
from ..training import Checkpoint, Trainer
from .pieces import Pieces, client_of, pieces_of, read_pieces

__all__ = ["fit", "fit_encoder", "predict"]

_LOG = logging.getLogger("xpnn")
_WHERE = "dask.fit"
# Seconds: between looks at the ranks, and at the workers; until a worker that is gone is known to be.
_LOOK, _LOOK_AT_WORKERS, _SETTLED = 0.05, 1.0, 5.0
_SHARDS = 16  # of an estimator, where nothing else is said
# In a worker: where it waits for the others, and the group that it is in, by training.
_DOORS: dict[tuple[str, str], socket.socket] = {}
_GROUPS: dict[tuple[str, str], SocketGroup] = {}


class _WorkerLostError(Exception):
    """A worker of a training is gone."""


# -- in a worker ------------------------------------------------------------------------------------------------------
@dataclass
class _Job:
    """What each process is to do."""

    trainer: Trainer
    data: Pieces  # without its pieces
    epochs: int  # in all
    options: dict[str, Any]
    checkpoint: str | None
    seconds: float
    custom: Any

    def run(self, group: Group, held: dict[int, Any]) -> bytes | None:
        """Train, from the checkpoint if there is one; return the trainer, from rank 0."""
        trainer, own = self.trainer, list(self.trainer.callbacks)
        if self.checkpoint is not None:
            keeper = Checkpoint(self.checkpoint, None, trainer=True, every_seconds=self.seconds)
            if Path(self.checkpoint).exists():
                trainer = self._resumed([*own, keeper])
            else:
                trainer.callbacks.append(keeper)
        if trainer.epoch < self.epochs or trainer.suspended is not None:
            rows = self.data.here(held)
            trainer.fit(rows, epochs=self.epochs - trainer.epoch, group=group, **self.options)
            if self.checkpoint is not None and group.rank == 0:
                trainer.save(self.checkpoint)
        trainer.callbacks = own
        return carried(trainer, _WHERE) if group.rank == 0 else None

    def _resumed(self, callbacks: list[Any]) -> Trainer:
        backend = self.trainer.backend
        trainer = type(self.trainer).load(
            self.checkpoint or "", backend=backend, callbacks=callbacks, custom=self.custom
        )
        if trainer.net.config() != self.trainer.net.config() or trainer.epoch < self.trainer.epoch:
            raise DataError(
                f"{_WHERE}: expected the checkpoint of this training in {self.checkpoint}, got that of another "
                "network. Choose another name, or remove the file."
            )
        return trainer


@dataclass
class _EstimatorJob:
    """The same for an estimator: each process has all pieces."""

    model: Any
    target: Any
    column: str | None  # of the weights
    paired: bool  # whether the targets are an array beside the rows
    options: dict[str, Any]

    def run(self, group: Group, held: dict[int, Any]) -> bytes | None:
        """Fit; return the estimator, from rank 0."""
        pieces, target, given = list(held.values()), self.target, dict(self.options)
        if isinstance(pieces[0], tuple):
            X, *rest = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
            target = rest.pop(0) if self.paired else target
            given |= {"sample_weight": rest[0]} if rest else {}
        else:
            from dask.dataframe.dispatch import concat

            X = concat(pieces)
            if self.column is not None:
                given["sample_weight"], X = X[self.column].to_numpy(), X.drop(columns=self.column)
            if not isinstance(target, str):
                target, X = X[list(target)], X.drop(columns=list(target))
        given |= {} if group.size == 1 else {"group": group}
        self.model.fit(X, target, **given)
        return carried(self.model, _WHERE) if group.rank == 0 else None


def _open(token: str, dask_worker: Any) -> tuple[str, int]:
    """Listen for the other processes of a training; return where."""
    listener = listen()
    _DOORS[token, dask_worker.address] = listener
    return dask_worker.ip, listener.getsockname()[1]


def _close(token: str, dask_worker: Any) -> None:
    """Let the process of a training end that waits for others."""
    key = token, dask_worker.address
    listener, group = _DOORS.pop(key, None), _GROUPS.pop(key, None)
    if listener is not None:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # which wakes who waits for it
        listener.close()
    if group is not None:
        group.close()


def _work(
    payload: bytes, token: str, rank: int, addresses: list[tuple[str, int]], held: dict[int, Any]
) -> bytes | None:
    """Be one process of a training."""
    import distributed

    group: Group = Alone()
    worker = distributed.get_worker()
    key = token, worker.address
    if len(addresses) > 1:
        if key not in _DOORS:
            raise ProcessError(f"{_WHERE}: rank {rank} came after the training had ended.")
        group = _GROUPS[key] = join(_DOORS[key], rank, addresses, bytes.fromhex(token))
    try:
        job: _Job | _EstimatorJob = pickle.loads(payload)
        return job.run(group, held)
    except BaseException as error:
        group.fail(words_of(error))
        raise
    finally:
        _close(token, worker)


# -- in the client -----------------------------------------------------------------------------------------------------
def fit(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    target: str | Sequence[str] | None = None,
    client: Any = None,
    features: Sequence[str] | None = None,
    weight: Any = None,
    encoder: Any = None,
    target_encoder: Any = None,
    epochs: int = 10,
    processes: int | None = None,
    checkpoint: PathLike | None = None,
    checkpoint_seconds: float = 30.0,
    restarts: int = 3,
    custom: Any = (),
    **options: Any,
) -> Any:
    """Train on the workers of a Dask cluster; return the trained trainer, or the fitted estimator.

    A piece (a partition of a frame, a chunk of rows of an array, a file) is a shard, so what is learnt depends on how
    the data are cut, and not on how many workers there are, nor on which of them were lost meanwhile: on NumPy it is
    the same to the bit.  Each worker that takes part is given the pieces that fall to it.

    Parameters
    ----------
    model : Trainer or estimator
        Is copied to the workers; the one that is given does not change.  An estimator of tables, such as
        `xpnn.tabular.TabularClassifier`, needs the whole table in the memory of each worker; it is trained as its
        ``fit(…, shards=16)`` does, whatever the number of workers.  One that takes no ``group`` is fitted by one.
    data : Dask frame, Dask array of shape (n, n_in), or ShardedRows
        The rows; or `xpnn.distributed.parquet` and the like, which the workers read by themselves.
    y : Dask array of shape (n,) or (n, n_targets)
        Targets beside an array.
    target : str or sequence of str
        In a frame, the column to predict, or several.
    client : distributed.Client, optional
        By default the one that was made last.
    features : sequence of str, optional
        Columns of a frame to predict from; by default all others.
    weight : str, or Dask array of shape (n,), optional
        Weights of the rows: of a frame a column, by name.
    encoder : TableEncoder, Standardizer or MinMax, optional
        Fitted, see `fit_encoder`; encodes the rows where they are.
    target_encoder : ClassTarget or NumberTarget, optional
        Fitted; encodes the targets.
    epochs : int, default=10
        Epochs to train for.
    processes : int, optional
        Workers that take part, at most; by default all, and no more than there are pieces.
    checkpoint : path, optional
        A file, at a place that all workers see, to keep the training in.  After a loss it goes on from there; called
        again with the same arguments too.
    checkpoint_seconds : float, default=30.0
        So often it is written.
    restarts : int, default=3
        How often workers may be lost.  Without a checkpoint training then begins anew.
    custom : class or sequence of classes
        As in `Trainer.load`, to read the checkpoint.
    **options
        Further arguments of `Trainer.fit`, such as ``batch_size``, ``X_val`` and ``shuffle``; or of the estimator's.

    Returns
    -------
    Trainer or estimator

    Raises
    ------
    MissingPackageError
        If Dask is not installed.
    OptionError, DataError, DTypeError
        If arguments or data do not fit.
    ProcessError
        If workers are lost more often than `restarts` says.
    """
    client = client_of(client, _WHERE)
    most = None if processes is None else count(processes, _WHERE, "processes")
    if not number(restarts) >= 0:
        raise OptionError(f"{_WHERE}: expected restarts >= 0, got {restarts!r}. Try 3.")
    path = None if checkpoint is None else str(Path(checkpoint).expanduser().absolute())
    encoders = {"encoder": encoder, "target_encoder": target_encoder}
    if isinstance(model, Trainer):
        total = model.epoch + count(epochs, _WHERE, "epochs")
        given = read_pieces(client, data, y, target=target, features=features, weight=weight, **encoders)
        shared = replace(given, pieces=[])
        job: Any = _Job(model, shared, total, options, path, float(checkpoint_seconds), custom)
        work = _Work(carried(job, _WHERE), given.pieces, len(given.lengths), whole=False)
    else:
        own = {"checkpoint": path, "features": features, **encoders}
        work = _estimator_work(client, model, data, y, target, weight, options, own)
    for left in range(restarts, -1, -1):
        workers = _workers(client, work.shards, most)
        try:
            try:
                return pickle.loads(_attempt(client, workers, work))
            except (OSError, TimeoutError):  # a worker may be lost while it is talked to
                _expect_there(client, workers)
                raise
        except _WorkerLostError as lost:
            if not left:
                raise ProcessError(
                    f"{_WHERE}: expected workers that stay, got the loss of {lost} after {restarts} restarts. Look "
                    "into its log; a worker that takes too much memory is ended by Dask."
                ) from lost
            going = "goes on from the checkpoint" if path is not None and Path(path).exists() else "begins anew"
            _LOG.warning("%s: worker %s was lost; training %s, %d restarts are left.", _WHERE, lost, going, left)
    raise AssertionError  # the last round returns or raises


class _Work(NamedTuple):
    """What workers are given: what they are to do, and all pieces (`whole`) or those of their shards."""

    payload: bytes
    pieces: list[Any]
    shards: int
    whole: bool


def _estimator_work(
    client: Any, model: Any, data: Any, y: Any, target: Any, weight: Any, options: dict[str, Any], own: dict[str, Any]
) -> _Work:
    """Return what workers are given of an estimator; refuse what only trainers take."""
    if not is_collection(data):
        raise DTypeError(
            f"{_WHERE}: expected a Dask frame or array, got {type(data).__name__}. What is in memory, fit by "
            f"{type(model).__name__}.fit."
        )
    alien = [name for name, value in own.items() if value is not None]
    if alien:
        raise OptionError(
            f"{_WHERE}: expected no {' and '.join(alien)} with an estimator, got some. Select columns of the frame; "
            "it encodes by itself."
        )
    shares = "group" in inspect.signature(model.fit).parameters
    options = {"shards": _SHARDS, **options} if shares else options
    column = weight if isinstance(weight, str) else None
    pieces = pieces_of(client, data, y, None if column is not None else weight)
    job = _EstimatorJob(model, target, column, y is not None, options)
    return _Work(carried(job, _WHERE), pieces, int(options.get("shards", 1)), whole=True)


def _workers(client: Any, shards: int, most: int | None) -> list[str]:
    """Return the addresses of the workers that take part."""
    client.wait_for_workers(1)
    found = sorted(client.nthreads())
    return found[: min(len(found), shards, most or len(found))]


def _attempt(client: Any, workers: list[str], work: _Work) -> Any:
    """Train on some workers; raise _WorkerLostError if one of them is gone."""
    import distributed

    if work.pieces:
        # A process waits for the others: none may begin that still waits for a piece.
        distributed.wait(work.pieces)
    token = secrets.token_hex(16)
    parts = ranges(work.shards, len(workers))
    addresses = [("", 0)] if len(workers) == 1 else _opened(client, token, workers)
    [content] = client.scatter([work.payload], broadcast=True, hash=False)
    ranks = []
    for rank, worker in enumerate(workers):
        own = range(len(work.pieces)) if work.whole else parts[rank]
        held = {k: work.pieces[k] for k in own} if work.pieces else {}
        at = {"workers": [worker], "allow_other_workers": False, "pure": False, "key": f"xpnn-rank-{rank}-{token}"}
        ranks.append(client.submit(_work, content, token, rank, addresses, held, **at))
    try:
        return _watched(client, ranks, workers)
    finally:
        there = [worker for worker in workers if worker in client.nthreads()]
        if there:
            client.run(_close, token, workers=there, on_error="ignore")
        client.cancel(ranks)


def _opened(client: Any, token: str, workers: list[str]) -> list[tuple[str, int]]:
    found = client.run(_open, token, workers=workers, on_error="ignore")
    absent = [worker for worker in workers if worker not in found]
    if absent:
        raise _WorkerLostError(absent[0])
    return [found[worker] for worker in workers]


def _watched(client: Any, ranks: list[Any], workers: list[str]) -> Any:
    """Return what rank 0 returns; raise what a rank raises, or _WorkerLostError."""
    looked = time.monotonic()
    while True:
        states = [rank.status for rank in ranks]
        if set(states) == {"finished"}:
            return ranks[0].result()
        if set(states) & {"error", "cancelled", "lost"}:
            break
        if time.monotonic() - looked > _LOOK_AT_WORKERS:
            _expect_there(client, workers)
            looked = time.monotonic()
        time.sleep(_LOOK)
    # One that fails ends the others, which say so; what has a cause of its own is told.
    end = time.monotonic() + _SETTLED
    while True:
        errors = [rank.exception() for rank in ranks if rank.status == "error"]
        own = next((error for error in errors if not isinstance(error, ProcessError)), None)
        if own is not None:
            _expect_there(client, workers)
            raise own
        _expect_there(client, workers)
        if time.monotonic() > end:
            raise errors[0] if errors else _WorkerLostError(workers[0])
        time.sleep(_LOOK)


def _expect_there(client: Any, workers: list[str]) -> None:
    there = client.nthreads()
    gone = [worker for worker in workers if worker not in there]
    if gone:
        raise _WorkerLostError(", ".join(gone))


def fit_encoder(encoder: Any, data: Any, *, client: Any = None, sample: int = 50_000, seed: int = 0) -> Any:
    """Fit an encoder or a scaler over the rows of a collection, where they are; return it.

    Parameters
    ----------
    encoder : TableEncoder, Standardizer or MinMax
        Not fitted yet; see their `fit_blocks`.
    data : Dask frame, or for a scaler also a Dask array
        The training rows, without the target.
    client : distributed.Client, optional
        By default the one that was made last.
    sample : int, default=50_000
        Rows of the sample from which a `TableEncoder` takes quantiles.
    seed : int, default=0
        Draws it.

    Returns
    -------
    TableEncoder, Standardizer or MinMax
        The same to the bit however many workers there are; for a `TableEncoder` the pieces matter where there are more
        rows than the sample has.
    """
    where = "dask.fit_encoder"
    client = client_of(client, where)
    if not is_collection(data):
        raise DTypeError(f"{where}: expected a Dask frame or array, got {type(data).__name__}. In memory, call fit.")
    pieces = pieces_of(client, data, None, None)
    table = isinstance(encoder, TableEncoder)
    options = (sample, seed, encoder.categorical) if isinstance(encoder, TableEncoder) else ()
    gather = _summary if table else _moments
    found = [client.submit(gather, piece, part, *options, pure=False) for part, piece in enumerate(pieces)]
    while len(found) > 1:  # in pairs, so that no worker holds more than two
        pairs = [found[k : k + 2] for k in range(0, len(found), 2)]
        found = [client.submit(_both, *pair, pure=False) if len(pair) == 2 else pair[0] for pair in pairs]
    encoder.fit_blocks(found[0].result())
    if not table:
        encoder.feature_names_in = table_names(data)
    return encoder


def _summary(piece: Any, part: int, sample: int, seed: int, categorical: Sequence[str]) -> TableSummary:
    summary = TableSummary(sample=sample, seed=seed, categorical=categorical)
    if len(piece):
        summary.add(piece, part=part)
    return summary


def _moments(piece: Any, part: int) -> Any:
    block = piece[0] if isinstance(piece, tuple) else piece
    return gather_moments([block], f"dask.fit_encoder (piece {part})")[0]


def _both(one: Any, other: Any) -> Any:
    one = pickle.loads(pickle.dumps(one))  # what a task is given belongs to the cluster
    one.merge(other)
    return one


def predict(model: Any, data: Any, *, method: str = "predict", encoder: Any = None, target_encoder: Any = None) -> Any:
    """Return predictions for the rows of a collection, piece by piece, where the rows are; lazy, as Dask is.

    Parameters
    ----------
    model : Trainer, network, Predictor or estimator
        Trained; the bits are those that it gives in one process.
    data : Dask frame or Dask array of shape (n, n_in)
        Rows; a frame may have further columns where an encoder, or the model, knows those that it needs.
    method : str, default="predict"
        What is called: also ``"predict_proba"``.
    encoder : TableEncoder, Standardizer or MinMax, optional
        With which the model was trained.
    target_encoder : ClassTarget or NumberTarget, optional
        Likewise; brings predictions back to labels or units.

    Returns
    -------
    Dask array of shape (n,) or (n, n_out)
        To be computed, or written, piece by piece.

    Raises
    ------
    DTypeError
        If `data` is no collection of Dask.
    OptionError
        If the model has no such method.
    """
    where = "dask.predict"
    if not is_collection(data):
        raise DTypeError(
            f"{where}: expected a Dask frame or array, got {type(data).__name__}. In memory, call {method} itself."
        )
    if not callable(getattr(model, method, None)):
        raise OptionError(f"{where}: expected a method of {type(model).__name__}, got {method!r}. Try 'predict'.")
    with needs("dask", where):
        import dask
        import dask.array
    content = carried((model, method, encoder, target_encoder), where)
    if table_names(data) is not None:
        pieces, sample = data.to_delayed(), data.head(1, npartitions=-1)
    else:
        data = data.rechunk({1: -1})
        pieces, sample = data.to_delayed().reshape(-1), data[:1].compute()
    if not len(sample):
        raise DataError(f"{where}: expected rows, got none. Look at what is read.")
    first = _answers(content, sample, None)
    shared = dask.delayed(content, name=f"xpnn-model-{secrets.token_hex(8)}")
    lengths = [None] * len(pieces) if table_names(data) is not None else list(data.chunks[0])
    parts = [
        dask.array.from_delayed(
            dask.delayed(_answers)(shared, piece, first[:0]),
            (np.nan if n is None else n, *first.shape[1:]),
            dtype=first.dtype,
        )
        for piece, n in zip(pieces, lengths, strict=True)
    ]
    return dask.array.concatenate(parts, axis=0, allow_unknown_chunksizes=True)


def _answers(content: bytes, piece: Any, none: Any) -> Any:
    """Return the predictions of a model for some rows; `none` are those for no rows."""
    if none is not None and not len(piece):
        return none
    model, method, encoder, target_encoder = pickle.loads(content)
    rows = piece if encoder is None else encoder.transform(piece)
    found = to_numpy(getattr(model, method)(rows))
    return found if target_encoder is None else target_encoder.decode(found)

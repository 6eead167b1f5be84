"""The search itself."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ..arguments import as_rows, count, number, suggest
from ..backend import Backend, get_backend, to_numpy
from ..crossover import mlp_params
from ..errors import OptionError
from ..files import PathLike
from ..jobs import read_jobs
from ..losses import Loss
from ..metrics import Metric, mode_of
from ..schedules import Constant
from ..training import Trainer
from ..training.checks import expect, names_seen
from ..training.progress import open_bar
from ..training.signals import DeferredSignals
from .checkpoint import SearchFile, asked_for
from .climb import Climb
from .configuration import BATCH_SIZE, Common, Plan, build, read
from .group import Progress, ReplicaGroup, SingleGroup, Start
from .halving import Halving
from .result import RESULTS, SearchResult, Trial
from .together import Ahead, AsBefore, MeasuredSizes, Size, trials_on

__all__ = ["run"]

_WHERE = "search.run"
# Parameters that are best trained together on a processor, outputs of layers for a batch, and networks at most:
# measured (benchmarks/replicas.py).  In powers of two, for an odd number leaves one of two threads without work.
_TOGETHER_PARAMS, _TOGETHER_OUTPUTS, _TOGETHER, _TOGETHER_COMPILED = 1 << 17, 1 << 20, 64, 16

Make = Callable[[dict[str, Any]], Trainer]


def run(
    configurations: Iterable[Mapping[str, Any]],
    X: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    make: Make | None = None,
    epochs: int = 20,
    halving: Halving | None = None,
    monitor: str = "val_loss",
    mode: Literal["auto", "min", "max"] = "auto",
    metrics: Sequence[str | Metric] = ("accuracy",),
    X_val: Any = None,
    y_val: Any = None,
    validation_fraction: float = 0.2,
    sample_weight: Any = None,
    sample_weight_val: Any = None,
    class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
    n_out: int | None = None,
    backend: str | Backend = "numpy",
    dtype: str | None = None,
    seed: int = 0,
    together: int | Literal["auto"] = "auto",
    max_seconds: float | None = None,
    checkpoint: PathLike | None = None,
    checkpoint_seconds: float = 30.0,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> SearchResult:
    """Train a network for each configuration and compare them.

    Networks that differ only in ``lr``, ``weight_decay``, ``dropout`` and ``seed`` are trained at once, as replicas:
    one batched product in place of many small ones.  Others are trained one after the other, as are networks with a
    schedule that watches a column (`Plateau`) or a penalty that remembers vectors (`SpectralNorm`).  On NumPy both
    give the same bits as training each network alone.

    A configuration may name

    * the network: ``hidden`` (widths of the hidden layers, default (64,)), or ``width`` and ``n_layers``;
      ``activation``, ``norm``, ``dropout`` (a rate, or a tuple of one for each hidden layer), ``residual``, ``init``,
      as in `mlp`;
    * the optimizer: ``optimizer`` ("adam" by default; "sgd", "momentum", "rmsprop", "adagrad", "adamw", "nadam",
      "lion", "muon", or a class) and its options: ``lr``, ``weight_decay``, ``momentum``, …;
    * training: ``batch_size`` (default 128), ``schedule``, ``regularizer``, ``clip_norm``, ``clip_value``, as in
      `Trainer`;
    * ``seed`` (default 0), which draws the network's initial weights and dropout masks.

    The *trainers'* seed, which draws the order of the rows and the validation split, is the argument `seed` of this
    function, the same for all: every configuration sees the same batches in the same order.  `Trial.make` builds the
    trainer of one trial alone, with both seeds.

    Parameters
    ----------
    configurations : iterable of dict
        From `grid` or `random`, or written by hand.
    X : array of shape (n, n_in), or function of a configuration
        Of any library.  A function returns the array for a configuration, where these say how rows are encoded; only
        with `make`.  Configurations with the same rows are to be given the same array.
    y : array of shape (n,) or (n, n_targets)
        What the loss takes.
    loss : Loss
        For all networks; not with `make`.
    make : callable, optional
        For what the names above do not cover: is called with a configuration, in which it may read any names, and
        returns a fresh `Trainer` of a single network.  These are trained one by one.  ``batch_size`` in a
        configuration is the fit's, as above.  Then `loss`, `metrics`, `n_out`, `backend`, `dtype` and `seed` are the
        trainer's own, and not used here.
    epochs : int, default=20
        Epochs of a network that is trained to the end.
    halving : Halving, optional
        Successive halving: train all for a few epochs, and only the best for `epochs`.  A survivor has the same bits
        as a network trained for that many epochs without pause.  Schedules that ask for the length of training
        (``CosineDecay()``) know `epochs` from the beginning, so early rungs see rates near the peak.  Callbacks of
        trainers from `make` go on from rung to rung, as in one fit; only the hooks at a fit's beginning and end are
        called at each.
    monitor : str, default="val_loss"
        Column of the history to rank by: ``loss`` or a metric, with or without ``val_``.
    mode : {"auto", "min", "max"}, default="auto"
        Which direction is better; "auto" knows the losses and metrics of xpnn.
    metrics : sequence of str or Metric, default=("accuracy",)
        As in `Trainer`.
    X_val, y_val, validation_fraction, sample_weight, sample_weight_val, class_weight
        As in `Trainer.fit`, but for the fraction's default, 0.2.  `X_val` may be a function as `X` is.
    n_out : int, optional
        Outputs of the networks; by default as loss and targets need.
    backend, dtype
        As in `mlp`.
    seed : int, default=0
        The trainers'.
    together : int or "auto", default="auto"
        Most networks of one group; 1 trains each alone.  Memory grows with it, the results are the same.
        ``"auto"`` takes a power of two of networks that have at most 130,000 parameters together, and a million outputs
        of layers for a batch: beyond that a processor's cache no longer holds them, and training together loses
        (docs/performance.md).  At most 64, or 16 where compiled loops are in use; on a GPU 32.  Before a search on
        NumPy that takes some seconds, steps are made on trial with more, with fewer and with one network at a time, for
        about a fiftieth of its time, and what was clearly quicker is taken.
    max_seconds : float, optional
        Wall-clock time; at the end of the epoch in which it is over, the search ends.  With `checkpoint` that of all
        parts of the search together; called again with more, it goes on.
    checkpoint : path, optional
        A file to keep the search in (``.safetensors`` is the usual ending): all trials, and the trainers that are still
        needed.  It is written at the end of each group and rung, and while networks are trained.  Whatever ends the
        search, Ctrl-C, SIGTERM, an error or ``kill -9``: called again with the same arguments it goes on from there,
        and its results are those of one that was not cut off, to the bit but for seconds.  Of a search that has ended
        the results are read from it.  `make` must return equal trainers for equal configurations.
    checkpoint_seconds : float, default=30.0
        So often it is written while networks are trained.
    n_jobs : int, optional
        Processes to train in, -1 for one on each core, through joblib (``pip install joblib``); the results are those
        of one.  None: what ``joblib.parallel_config`` says, where one is open, else 1; so a search runs on a cluster
        within ``with joblib.parallel_config("dask"):`` [1]_.  A process is given a group of networks (`together`) at a
        time, up to the next rung, and with a `checkpoint` the file is written when it comes back.  `make` and what it
        returns must pass between processes.
    verbose : bool, default=False
        Show progress through tqdm: epochs of all networks, and the best value so far.

    Returns
    -------
    SearchResult
        One trial for each configuration.  A network that diverges ends as "diverged" and disturbs no other.

    Raises
    ------
    OptionError
        If there are no configurations, or a name or value in one is unknown; nothing has been trained then.
    ShapeError, LabelError, DataError
        If the data do not fit.
    DataError, OptionError, FileFormatError
        If `checkpoint` is the file of a search of other data, configurations or options, which are named; or damaged.
    ProcessError
        If a process of `n_jobs` ends by itself, as when it is killed.

    References
    ----------
    .. [1] https://joblib.readthedocs.io/en/stable/generated/joblib.parallel_config.html

    Examples
    --------
    >>> import xpnn
    >>> X, y = xpnn.data.make_circles(200, noise=0.05, seed=0)
    >>> space = {"lr": [0.0003, 0.03], "seed": [0, 1], "width": 16, "activation": "tanh", "batch_size": 32}
    >>> result = xpnn.search.run(
    ...     xpnn.search.grid(space), X, y, loss=xpnn.CrossEntropy(), epochs=10, monitor="val_accuracy"
    ... )
    >>> result.best.config["lr"]
    0.03
    >>> best = result.best
    >>> history = best.make().fit(X, y, epochs=10, **best.fit_options)
    >>> history["val_accuracy"] == best.history["val_accuracy"]
    True
    """
    epochs = count(epochs, _WHERE, "epochs")
    jobs = _check_numbers(together, max_seconds, checkpoint_seconds, n_jobs)
    _check(mode, halving, make, loss, monitor, X_val is not None or bool(validation_fraction))
    given = _checked(configurations)
    weights = {"sample_weight": sample_weight, "sample_weight_val": sample_weight_val}
    data: dict[str, Any] = {"X": X, "y": y, "X_val": X_val, "y_val": y_val, **weights}
    options: dict[str, Any] = {} if X_val is not None else {"validation_fraction": validation_fraction}
    options |= {} if class_weight is None else {"class_weight": class_weight}
    if make is not None:
        found = _own(given, make, options, data, epochs)
    elif loss is not None:  # one of the two is given
        expect(loss, Loss, "loss", "a loss object such as xpnn.CrossEntropy()")
        data |= _as_arrays(data)
        outputs = _n_out(loss, data["y"], data["y_val"]) if n_out is None else count(n_out, _WHERE, "n_out")
        common = Common(data["X"].shape[-1], outputs, loss, metrics, seed, backend, dtype)
        found = _trials(given, common, options, monitor)
    rungs = [(len(given), epochs)] if halving is None else halving.rungs(len(given), epochs)
    direction = mode_of(monitor) if mode == "auto" else mode
    progress = Progress(monitor, direction, math.inf if max_seconds is None else float(max_seconds))
    file = None
    if checkpoint is not None:
        shared = {"make": make, "loss": loss, "metrics": metrics, "n_out": n_out, "backend": backend, "dtype": dtype}
        course = {"epochs": epochs, "halving": halving, "monitor": monitor, "mode": direction, "together": together}
        asked = asked_for(given, _contents(data, given), {**shared, **course, **options, "seed": seed})
        file = SearchFile(checkpoint, asked, float(checkpoint_seconds))
    if make is None:
        ahead = Ahead(data["X"].shape[0], len(given), _network_epochs(rungs), progress.seconds)
        found = _grouped(found, common, together, ahead, jobs, file, data=data, epochs=epochs)
    _climb(Climb(found.trials, found.starts, rungs, progress, jobs), file, found, verbose)
    return SearchResult(found.trials, monitor, direction)


# -- climbing ---------------------------------------------------------------------------------------------------
def _climb(climb: Climb, file: SearchFile | None, found: _Prepared, verbose: bool) -> None:
    """Train, from where the file says a search was cut off, and show progress."""
    progress = climb.progress
    if file is not None:
        file.restore(climb)
        found.resolve_schedules()
    with contextlib.ExitStack() as stack:
        if file is not None:
            if climb.jobs == 1:
                # Signals are answered within fits, where it is known what is whole.
                stack.enter_context(DeferredSignals())
            else:
                stack.callback(file.write)  # whatever ends it: what has come back is whole
            file.attach(climb)
        if verbose:
            total = climb.total() - progress.skipped
            done = sum(trial.epochs for trial in climb.trials)
            progress.bar = stack.enter_context(contextlib.closing(open_bar({"desc": "search"}, total, done)))
        climb.run(file.note if file is not None else lambda climb: None)
        if file is not None and climb.jobs == 1:
            file.write()


# -- grouping and making ----------------------------------------------------------------------------------------
class _Prepared(NamedTuple):
    """Trials that have not begun, with what begins their groups, and a plan of each unless they are the user's own."""

    trials: list[Trial]
    starts: list[Start]
    plans: list[Plan]

    def resolve_schedules(self) -> None:
        """Note with which schedules trials were trained whose lengths a file has told."""
        for trial, plan in zip(self.trials, self.plans, strict=False):
            if trial.length is not None:
                trial.schedule = (plan.training.get("schedule") or Constant()).resolve(trial.length)


def _own(
    given: Sequence[dict[str, Any]], make: Make, options: dict[str, Any], data: Mapping[str, Any], epochs: int
) -> _Prepared:
    """Prepare trainers of the user's own making."""
    sizes = [count(c.get("batch_size", BATCH_SIZE), _WHERE, "batch_size") for c in given]
    made = functools.partial(_made, make)
    trials = [Trial(c, {"batch_size": size, **options}, made) for c, size in zip(given, sizes, strict=True)]
    starts: list[Start] = [
        functools.partial(SingleGroup, [trial], data=_data_of(data, trial.config), epochs=epochs) for trial in trials
    ]
    return _Prepared(trials, starts, [])


def _data_of(data: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return the data of one configuration, which may say itself how rows are encoded."""
    return {name: value(dict(config)) if callable(value) else value for name, value in data.items()}


def _trials(given: Sequence[dict[str, Any]], common: Common, options: dict[str, Any], monitor: str) -> _Prepared:
    """Prepare trials, which are in no groups yet; what no network can have is found before any trains."""
    plans = [read(c) for c in given]
    for plan in {plan.key: plan for plan in plans}.values():
        _check_monitor(build([plan], common, replicated=False, kind=Trainer), monitor)
    trials = [
        Trial(c, {"batch_size": p.batch_size, **options}, functools.partial(_alone, p, common))
        for c, p in zip(given, plans, strict=True)
    ]
    return _Prepared(trials, [], plans)


def _grouped(
    found: _Prepared,
    common: Common,
    together: int | Literal["auto"],
    ahead: Ahead,
    jobs: int,
    file: SearchFile | None,
    **fixed: Any,
) -> _Prepared:
    """Prepare groups of networks."""
    sizes = _sizes(common, fixed["data"], ahead, jobs, file) if together == "auto" else int(together)
    return found._replace(starts=_group_starts(found.trials, found.plans, common, sizes, **fixed))


def _network_epochs(rungs: Sequence[tuple[int, int]]) -> int:
    """Return the epochs of all networks together."""
    reached = [0, *(epochs for _, epochs in rungs)]
    return sum(n * (b - a) for (n, b), a in zip(rungs, reached[:-1], strict=True))


def _sizes(common: Common, data: Mapping[str, Any], ahead: Ahead, jobs: int, file: SearchFile | None) -> Size:
    """Return what says how many networks are trained together: the file of a search that has begun, trials, or a rule.

    Trials in this process would not tell how quick several are.
    """
    before = None if file is None else file.sizes()
    if before is not None:
        return AsBefore(before)
    rule = functools.partial(_fitting, common)
    return MeasuredSizes(rule, trials_on(data, common), ahead, common) if jobs == 1 else lambda plan, n: rule(plan)


def _fitting(common: Common, plan: Plan) -> int:
    """Return how many networks like that of `plan` are best trained together, by a rule."""
    backend = get_backend(common.backend)
    if backend.name == "cupy":
        return 32
    widths = [*plan.hidden, common.n_out]
    fitting = min(
        _TOGETHER_PARAMS // mlp_params([common.n_in, *widths]),
        _TOGETHER_OUTPUTS // (plan.batch_size * sum(widths)),
        _TOGETHER_COMPILED if getattr(backend.ops, "compiled", False) else _TOGETHER,
    )
    return 1 << max(fitting.bit_length() - 1, 0)


def _group_starts(
    trials: Sequence[Trial], plans: Sequence[Plan], common: Common, sizes: int | Size, **options: Any
) -> list[Start]:
    """Return what begins each group of networks that are trained together."""
    starts: list[Start] = []
    for places in _groups(plans, sizes):
        own, of_plans = [trials[i] for i in places], [plans[i] for i in places]
        starts.append(functools.partial(ReplicaGroup, own, plans=of_plans, common=common, **options))
    return starts


def _groups(plans: Sequence[Plan], together: int | Size) -> list[list[int]]:
    """Return the places of the plans that are trained together, at most so many, which may go by plan and number.

    Dropout numbers its masks by layer, so networks share a trainer only if it follows the same layers in all.  One
    without any draws no masks, and may join.
    """
    dropped = {plan.key: plan.pattern for plan in reversed(plans) if any(plan.pattern)}
    found: dict[Any, list[int]] = {}
    for i, plan in enumerate(plans):
        pattern = plan.pattern if any(plan.pattern) else dropped.get(plan.key, plan.pattern)
        found.setdefault((plan.key, pattern, i if plan.alone else None), []).append(i)
    groups = []
    for places in found.values():
        size = together if isinstance(together, int) else together(plans[places[0]], len(places))
        groups += [places[a : a + size] for a in range(0, len(places), size)]
    return groups


def _alone(plan: Plan, common: Common, trial: Trial) -> Trainer:
    """Return the trainer of one trial."""
    trainer = build([plan], common, replicated=False, kind=Trainer)
    trainer.schedule = trial.schedule or trainer.schedule
    return trainer


def _made(make: Make, trial: Trial) -> Trainer:
    """Return the trainer that the user's own `make` makes of a configuration, checked."""
    trainer = make(dict(trial.config))
    if not isinstance(trainer, Trainer):
        raise OptionError(
            f"{_WHERE}: expected make to return a Trainer, got {type(trainer).__name__}. "
            "Return xpnn.Trainer(net, loss, optimizer)."
        )
    if trainer.net.store.replicas or trainer.epoch:
        what = "replicas" if trainer.net.store.replicas else f"one that has trained for {trainer.epoch} epochs"
        raise OptionError(
            f"{_WHERE}: expected make to return a fresh trainer of one network, got {what}. Make everything anew in it."
        )
    return trainer


# -- checking ---------------------------------------------------------------------------------------------------
def _check_numbers(together: Any, max_seconds: Any, checkpoint_seconds: Any, n_jobs: Any) -> int:
    """Refuse numbers that nothing can be done with; return that of processes."""
    if together != "auto":
        count(together, _WHERE, "together")
    if max_seconds is not None and not number(max_seconds) > 0:
        raise OptionError(f"{_WHERE}: expected max_seconds > 0 or None, got {max_seconds!r}. Try 60.")
    if not number(checkpoint_seconds) >= 0:
        raise OptionError(f"{_WHERE}: expected checkpoint_seconds >= 0, got {checkpoint_seconds!r}. Try 30.")
    return read_jobs(n_jobs, _WHERE)


def _check(mode: str, halving: Any, make: Any, loss: Any, monitor: str, validated: bool) -> None:
    """Refuse arguments that nothing can be done with."""
    if mode not in ("auto", "min", "max"):
        raise OptionError(f"{_WHERE}: expected mode 'auto', 'min' or 'max', got {mode!r}. Choose one of these.")
    if halving is not None and not isinstance(halving, Halving):
        raise OptionError(f"{_WHERE}: expected halving to be a Halving or None, got {halving!r}. Try Halving(eta=3).")
    if make is not None and not callable(make):
        raise OptionError(
            f"{_WHERE}: expected make to be a function, got {make!r}. It takes a configuration and returns a Trainer."
        )
    if monitor.startswith("val_") and not validated:
        raise OptionError(
            f"{_WHERE}: {monitor!r} needs validation data, got none. "
            "Pass X_val and y_val, or a validation_fraction, or choose monitor='loss'."
        )
    if (make is None) == (loss is None):
        raise OptionError(f"{_WHERE}: expected loss or make, got {'neither' if make is None else 'both'}. Pass one.")


def _checked(configurations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(configurations, Mapping) or not isinstance(configurations, Iterable):
        raise OptionError(
            f"{_WHERE}: expected a list of configurations, got {type(configurations).__name__}. "
            "Make one with search.grid(space) or search.random(space, n)."
        )
    given = list(configurations)
    if not given:
        raise OptionError(f"{_WHERE}: expected at least one configuration, got none. Try search.grid(space).")
    for c in given:
        if not isinstance(c, Mapping):
            raise OptionError(f"{_WHERE}: expected each configuration to be a dict, got {c!r}. Try {{'lr': 0.01}}.")
        for name in RESULTS:
            if name in c:
                hint = "Pass epochs= to the search." if name == "epochs" else "Choose another name."
                raise OptionError(f"{_WHERE}: expected no {name!r} in a configuration: results have a {name}. {hint}")
    return [dict(c) for c in given]


def _check_monitor(trainer: Trainer, monitor: str) -> None:
    known = [prefix + name for prefix in ("", "val_") for name in ("loss", *(m.name for m in trainer.metrics))]
    if monitor not in known:
        raise OptionError(
            f"{_WHERE}: expected monitor to be one of {', '.join(known)}, got {monitor!r}. {suggest(monitor, known)}"
        )


def _as_arrays(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return inputs and targets as arrays, which all trainers share; the columns of frames in the order of training."""
    if any(map(callable, data.values())):
        raise OptionError(f"{_WHERE}: expected X and X_val as arrays beside loss, got a function. Pass make.")
    names = names_seen({}, data["X"], data["y"])
    given = (name for name, value in data.items() if value is not None or name in ("X", "y"))
    return {name: as_rows(data[name], _WHERE, name, fitted=names.get(name.removesuffix("_val"))) for name in given}


def _contents(data: Mapping[str, Any], given: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return all arrays that a search looks at by a name each: those of every encoding, where there are several."""
    if not any(map(callable, data.values())):
        return _as_arrays(data)
    found: dict[str, Any] = {}
    for k, config in enumerate(given):
        for name, array in _as_arrays(_data_of(data, config)).items():
            if not any(array is known for known in found.values()):
                found[name if name not in found else f"{name} of configuration {k + 1}"] = array
    return found


def _n_out(loss: Loss, y: Any, y_val: Any) -> int:
    """Return how many outputs the networks need; what does not fit, the trainer refuses."""
    if loss.takes_labels and len(y.shape) == 1:
        labels = [to_numpy(as_rows(a, _WHERE, "y")) for a in (y, y_val) if a is not None]
        # Labels may be floats that are whole; of others there are no classes to count.
        numbers = [a for a in labels if a.dtype.kind in "iuf" and a.size and np.isfinite(a).all()]
        return max([2, *(int(a.max()) + 1 for a in numbers if (a == np.trunc(a)).all())])
    targets = 1 if len(y.shape) == 1 else int(y.shape[-1])
    return targets * len(getattr(loss, "quantiles", (None,)))

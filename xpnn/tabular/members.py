"""From a recipe to trained networks: one, or several whose predictions are averaged."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arguments import number
from ..backend import Backend, get_backend, to_numpy
from ..data.batching import folds
from ..data.encoded import EncodedRows
from ..data.encoder import TableEncoder
from ..distributed import Alone, Group
from ..distributed.group import ToAll
from ..errors import DivergenceError, OptionError, XpnnError
from ..jobs import in_order, read_jobs
from ..losses import Loss, MeanSquaredError
from ..model import Sequential
from ..random import stream
from ..training import Callback, EarlyStopping, History, Trainer
from .network import make_layers, make_loss, make_network, make_trainer
from .recipe import Recipe

__all__ = ["TOO_SHORT", "Fitted", "Follows", "HeldOut", "Member", "Train", "fit_members", "make_encoder"]

Rows: TypeAlias = "npt.NDArray[np.int64]"
ClassWeight: TypeAlias = "Mapping[int, float] | Literal['balanced'] | None"
#: Trains the network of some number, given its trainer and the arguments of `Trainer.fit`, and says what follows.
Follows: TypeAlias = Literal["next", "last", "none"]
Train: TypeAlias = "Callable[[int, Trainer, dict[str, Any]], Follows]"

_IS_OVER = "the time limit is over"
#: Why a fit ended whose first epoch had no time to end.
TOO_SHORT = "the time limit was over within the first epoch"
# A trial of so many steps tells how long an epoch takes; the first of them find their memory.
_TRIAL_STEPS = 20
# Steps between looks at the clock.
_LOOK_STEPS = 16
# Of numbers with next to no noise a network leaves less than this share of the variance.
_NOISE = 0.005
# A network in less than this share of its epochs is worth less than a network fewer.
_LEAST_SHARE = 0.4


class HeldOut(NamedTuple):
    """Outputs for rows that the networks behind them have not been trained on.

    `rows` are numbers of rows of `X_val`, or of `X` where networks were trained on folds.  `outputs` are raw, of shape
    (len(rows), n_out), or (K, len(rows), n_out) of K networks whose links are to be averaged.
    """

    rows: Rows
    outputs: npt.NDArray[Any]


class Member(NamedTuple):
    """How one network was trained: its epochs, that whose weights it has, and why it ended early, if it did."""

    history: History
    epoch: int
    stopped: str | None


class Fitted(NamedTuple):
    """What `fit_members` returns.

    `net` is one network, or K of them on the replica axis: of their outputs (K, n, n_out) the `loss` makes predictions,
    and the predictions are averaged.  `history`, `epoch` and `stopped` are those of the first; `longer` is the number
    of epochs of the others, where they have more.
    """

    net: Sequential
    loss: Loss
    history: History
    epoch: int
    stopped: str | None
    members: tuple[Member, ...]
    held_out: HeldOut | None
    longer: int | None = None


def make_encoder(recipe: Recipe, *, categorical: Sequence[str] = (), numeric: Sequence[str] = ()) -> TableEncoder:
    """Return the encoder that a recipe asks for, not fitted yet; its first columns are those to be embedded.

    Parameters
    ----------
    recipe : Recipe
        What `choose_recipe` returned.
    categorical, numeric : sequence of str, default=()
        Columns to read so whatever they look like.

    Returns
    -------
    TableEncoder
        Fit it on the training rows.

    Examples
    --------
    >>> from xpnn.tabular.recipe import TableShape, choose_recipe
    >>> make_encoder(choose_recipe("good", TableShape("regression", rows=900, numbers=3))).values_first
    True
    """
    return TableEncoder(
        clip=recipe.clip,
        bins=recipe.bins,
        min_count=recipe.min_count,
        max_categories=recipe.max_categories,
        categorical=categorical,
        numeric=numeric,
        values_first=True,
    )


def fit_members(
    recipe: Recipe,
    X: npt.NDArray[Any] | EncodedRows,
    y: npt.NDArray[Any],
    *,
    X_val: npt.NDArray[Any] | EncodedRows | None = None,
    y_val: npt.NDArray[Any] | None = None,
    n_out: int,
    n_values: int = 0,
    seed: int = 0,
    backend: str | Backend = "numpy",
    dtype: str = "float32",
    sample_weight: npt.NDArray[Any] | None = None,
    sample_weight_val: npt.NDArray[Any] | None = None,
    class_weight: ClassWeight = None,
    time_limit: float | None = None,
    callbacks: Sequence[Callback] | Callable[[int], Sequence[Callback]] = (),
    train: Train | None = None,
    n_jobs: int | None = 1,
    sharing: Mapping[str, Any] | None = None,
) -> Fitted:
    """Train the networks of a recipe, one after the other or in several processes.

    Where the recipe has folds, each network is trained on all rows of `X` but those of its fold, on which its best
    epoch is found.  Else the best epoch is found on `X_val`; without such rows the last one counts.

    Parameters
    ----------
    recipe : Recipe
        What `choose_recipe` returned.
    X, y : arrays of shape (n, n_in) and (n,) or (n, n_out)
        Encoded rows and what the loss takes.
    X_val, y_val : arrays, optional
        Held-out rows; none where the recipe has folds.
    n_out : int
        Number of classes, or of targets.
    n_values : int, default=0
        How many of the first columns are scaled numbers: the encoder's `n_values`.
    seed : int, default=0
        Draws folds, weights, shuffles and masks.
    backend, dtype : str or Backend, and str
        Where and in which precision the networks live; see `xpnn.get_backend`.
    sample_weight, sample_weight_val : arrays of shape (n,) and (m,), optional
        Weights of the rows, and of those of `X_val`; they count in the validation loss, which chooses the epoch.
    class_weight : dict of class to weight, or "balanced", optional
        As in `Trainer.fit`.
    time_limit : float, optional
        Seconds for all of it.  There are fewer epochs then, or networks, as many as a trial of some steps says;
        training ends when the time is over, and the best weights so far are kept.
    callbacks : sequence of Callback, or function of the network's number that returns one
        Called in each fit.  An object that keeps something from fit to fit wants a function that makes a new one.
    train : function of (number, trainer, arguments), optional
        Is called in place of ``trainer.fit(**arguments)``: for fits that go on where an earlier one was cut off.  It
        returns what follows: ``"next"``, the next network; ``"last"``, this one is the last; ``"none"``, it does not
        count, and those before it are all.
    n_jobs : int or None, default=1
        Processes to train in, a network at a time, as in `xpnn.search.run`; the result is that of one.  With a time
        limit, callbacks, `train` or `sharing` all are trained here.
    sharing : dict, optional
        What `Trainer.fit` is told to share the work: ``"shards"``, and a ``"group"`` of processes that all call this
        alike.  A time limit is then that of rank 0's clock.

    Returns
    -------
    Fitted
        Networks, loss, histories and what they say of rows they have not seen.

    Raises
    ------
    OptionError
        If the recipe and the rows do not go together, or `time_limit` is not positive.
    DivergenceError
        If the loss of the first network is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.tabular.recipe import Recipe
    >>> X = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    >>> y = (X[:, :1] * X[:, 1:2]).astype("float32")
    >>> recipe = Recipe("regression", hidden=(32,), epochs=8, folds=2, members=2)
    >>> fitted = fit_members(recipe, X, y, n_out=1, n_values=3)
    >>> fitted.net.predict(X).shape, fitted.held_out.rows.shape, fitted.held_out.outputs.shape
    ((2, 200, 1), (200,), (200, 1))
    """
    if time_limit is not None and not number(time_limit) > 0:
        raise OptionError(f"fit_members: expected time_limit > 0 or None, got {time_limit!r}. Try 60.")
    if recipe.folds and X_val is not None:
        raise OptionError(
            f"fit_members: expected no X_val for a recipe with {recipe.folds} folds, got some. Pass all rows as X."
        )
    sharing = sharing or {}
    clock = _Clock(time_limit, sharing.get("group") or Alone())
    data = _Data(X, y, X_val, y_val, sample_weight, sample_weight_val, class_weight)
    fit = _Fit(recipe, data, n_out, n_values, get_backend(backend, dtype), sharing)
    plans = list(_plans(recipe, y, seed))
    if time_limit is not None:
        fit, plans = fit.within(clock, plans)
    jobs = read_jobs(n_jobs, "fit_members")
    made: list[tuple[Sequential, Member]] = []
    if jobs != 1 and len(plans) > 1 and time_limit is None and train is None and not (callbacks or sharing):
        if recipe.noiseless_length > 1:  # the first tells how long the others are
            made = fit.in_processes(plans[:1], 1)
            fit = fit.after(made[0][1], clock, len(plans) - 1)
        return fit.gathered([*made, *fit.in_processes(plans[len(made) :], jobs)], plans)
    for k, plan in enumerate(plans):
        if made and clock.over:
            break
        given = callbacks(k) if callable(callbacks) else callbacks
        net, member, follows = fit.member(k, plan, [*given, *clock.callbacks(len(plans) - k)], train)
        if follows != "none" or not made:
            made.append((net, member))
        if follows != "next":
            break
        if k == 0:
            fit = fit.after(member, clock, len(plans) - 1)
    return fit.gathered(made, plans[: len(made)])


class _Plan(NamedTuple):
    """One network: its seed, and the rows it is not trained on."""

    seed: int
    left_out: Rows | None


def _plans(recipe: Recipe, y: npt.NDArray[Any], seed: int) -> Iterator[_Plan]:
    """Yield what tells the networks apart; each time through the folds they are drawn anew."""
    labels = y if y.ndim == 1 and y.dtype.kind in "iu" else len(y)
    for k in range(recipe.members):
        own = seed if k == 0 else int(stream(seed, "members", k).integers(2**31))
        if not recipe.folds:
            yield _Plan(own, None)
            continue
        if k % recipe.folds == 0:
            parts = folds(labels, recipe.folds, seed + k)
        yield _Plan(own, parts[k % recipe.folds])


class _TimeIsOverError(XpnnError, ToAll):
    """Ends a fit between two steps."""


class _Clock:
    """What is left of a time; of processes that share the work that of rank 0 counts, which all of them ask."""

    def __init__(self, seconds: float | None, group: Group) -> None:
        self._end = None if seconds is None else time.monotonic() + float(seconds)
        self.group = group

    @property
    def left(self) -> float:
        return float("inf") if self._end is None else self._end - time.monotonic()

    @property
    def over(self) -> bool:
        return self._end is not None and bool(self.group.broadcast(self.left <= 0))

    def callbacks(self, fits: int) -> list[Callback]:
        """Return what ends the next of so many fits when its share is used up."""
        return [] if self._end is None else [_Deadline(time.monotonic() + max(self.left, 0.0) / fits, self.group)]


class _Deadline(Callback):
    """Ends a fit at a moment, within an epoch or at its end."""

    def __init__(self, end: float, group: Group) -> None:
        self._end, self._group, self._looks = end, group, 0

    def most_steps(self) -> int | None:
        return _LOOK_STEPS

    def between_steps(self, trainer: Trainer) -> None:
        """Leave, if time is over."""
        self._looks += 1
        if self._group.size > 1 and self._looks % _LOOK_STEPS:  # asking rank 0 at each step would take its time
            return
        if self._group.broadcast(time.monotonic() >= self._end):
            raise _TimeIsOverError(_IS_OVER if len(trainer.history) else TOO_SHORT)

    def on_epoch_end(self, trainer: Trainer) -> None:
        if time.monotonic() >= self._end:  # rank 0 decides for all, as of all that callbacks stop
            trainer.stop(_IS_OVER)


class _Data(NamedTuple):
    """The rows of all networks."""

    X: npt.NDArray[Any] | EncodedRows
    y: npt.NDArray[Any]
    X_val: npt.NDArray[Any] | EncodedRows | None
    y_val: npt.NDArray[Any] | None
    sample_weight: npt.NDArray[Any] | None
    sample_weight_val: npt.NDArray[Any] | None
    class_weight: ClassWeight

    def arguments(self, left_out: Rows | None) -> dict[str, Any]:
        """Return what `Trainer.fit` is given of them."""
        given = {"X": self.X, "y": self.y, "sample_weight": self.sample_weight, "class_weight": self.class_weight}
        if left_out is not None:
            return given | {"validation_rows": left_out}
        if self.X_val is None:
            return given
        return given | {"X_val": self.X_val, "y_val": self.y_val, "sample_weight_val": self.sample_weight_val}


class _Fit(NamedTuple):
    """What the fits of all networks have in common."""

    recipe: Recipe
    data: _Data
    n_out: int
    n_values: int
    backend: Backend
    sharing: Mapping[str, Any]
    shortened: str | None = None  # why there are fewer epochs than the recipe has
    longer: int | None = None  # epochs after the first network, if there are more of them

    def member(
        self, k: int, plan: _Plan, callbacks: Sequence[Callback], train: Train | None
    ) -> tuple[Sequential, Member, Follows]:
        """Train one network, and say what follows."""
        recipe, given = self.recipe, self.data.arguments(plan.left_out)
        keeper = _keeper(recipe) if given.keys() & {"X_val", "validation_rows"} else None
        trainer = self._trainer(plan.seed, [*([] if keeper is None else [keeper]), *callbacks])
        why: str | None = None
        follows: Follows = "next"
        try:
            given |= {"epochs": recipe.epochs, "batch_size": self._batch_size(given)}
            if train is None:
                trainer.fit(**given, **self.sharing)
            else:
                follows = train(k, trainer, given)
        except _TimeIsOverError as error:
            why = str(error)
            if not len(trainer.history):
                self._note_steps(trainer, plan)
        except DivergenceError as error:
            if not len(trainer.history):
                raise
            why = str(error)
        best = keeper.best_epoch if keeper is not None else None
        epoch = len(trainer.history) if best is None else best
        member = Member(trainer.history, epoch, why or trainer.stop_reason or self.shortened)
        return trainer.net, member, follows

    def _note_steps(self, trainer: Trainer, plan: _Plan) -> None:
        """Let the steps of a first epoch that had no time to end be told as one."""
        data, left = self.data, trainer.suspended
        if left is None:
            return
        X, y, weight = data.X_val, data.y_val, data.sample_weight_val
        if plan.left_out is not None:
            weight = None if data.sample_weight is None else data.sample_weight[plan.left_out]
            X, y = data.X[plan.left_out], data.y[plan.left_out]
        scores = {} if X is None else trainer.evaluate(X, y, sample_weight=weight)
        few = slice(0, self._batch_size({}))
        loss = left.tables[0].mean() if left.slot else trainer.evaluate(data.X[few], data.y[few])["loss"]
        scored = {f"val_{name}": value for name, value in scores.items()}
        trainer.history.append({"epoch": 1, "loss": float(loss), **scored, "seconds": left.seconds})

    def in_processes(self, plans: Sequence[_Plan], jobs: int) -> list[tuple[Sequential, Member]]:
        """Train all networks in other processes."""
        on_disk = isinstance(self.data.X, np.memmap)
        tasks = [(self, on_disk, k, plan) for k, plan in enumerate(plans)]
        return in_order(_member, tasks, jobs, "fit")

    def _trainer(self, seed: int, callbacks: Sequence[Callback]) -> Trainer:
        net = make_network(
            self.recipe, self.data.X.shape[1], self.n_out, n_values=self.n_values, seed=seed, backend=self.backend
        )
        return make_trainer(self.recipe, net, callbacks=callbacks, seed=seed)

    def _batch_size(self, given: Mapping[str, Any]) -> int:
        rows = len(self.data.X) - len(given.get("validation_rows", ()))
        return min(self.recipe.batch_size, rows)

    def within(self, clock: _Clock, plans: list[_Plan]) -> tuple[_Fit, list[_Plan]]:
        """Return the fit and the plans with fewer epochs, or networks, if there is no time for all."""
        recipe, given = self.recipe, self.data.arguments(plans[0].left_out)
        size = self._batch_size(given)
        few = slice(0, _TRIAL_STEPS * size)
        trial = self._trainer(0, [])
        for _ in range(2):  # the first fit loads and finds its memory
            began = time.monotonic()
            trial.fit(self.data.X[few], self.data.y[few], epochs=1, batch_size=size, **self.sharing)
            seconds = time.monotonic() - began
            if clock.over:
                break
        rows = len(self.data.X) - len(given.get("validation_rows", ()))
        epoch = seconds * rows / len(self.data.X[few])
        possible = max(clock.left, 0.0) / epoch  # epochs in all
        members = min(len(plans), max(1, int(possible / (_LEAST_SHARE * recipe.epochs))))
        epochs = min(recipe.epochs, max(1, int(possible / members)))
        members, epochs = clock.group.broadcast([members, epochs])
        changes = recipe.replace(epochs=epochs) if epochs != recipe.epochs else recipe
        why = None if changes is recipe else f"the time limit leaves {epochs} of {recipe.epochs} epochs"
        return self._replace(recipe=changes, shortened=why), plans[:members]

    def after(self, first: Member, clock: _Clock, more: int) -> _Fit:
        """Return the fit of the networks after the first, of more epochs where that one shows next to no noise."""
        recipe, history = self.recipe, first.history
        if recipe.noiseless_length == 1 or not more or "val_loss" not in history:
            return self
        # The squared error of standardized targets is a share of their variance.
        if not isinstance(make_loss(recipe), MeanSquaredError) or min(history["val_loss"]) >= _NOISE:
            return self
        epochs = round(recipe.epochs * recipe.noiseless_length)
        if clock.left < float("inf"):
            possible = clock.left / more / statistics.fmean(history["seconds"])
            epochs = clock.group.broadcast(max(recipe.epochs, min(epochs, int(possible))))
        return self._replace(recipe=recipe.replace(epochs=epochs), longer=epochs if epochs > recipe.epochs else None)

    def gathered(self, made: Sequence[tuple[Sequential, Member]], plans: Sequence[_Plan]) -> Fitted:
        """Return the networks as one, on the replica axis if there are several."""
        nets, members = [net for net, _ in made], tuple(member for _, member in made)
        first = members[0]
        net = nets[0] if len(nets) == 1 else self._together(nets, plans)
        held_out = self._held_out(net, nets, plans)
        loss, told = make_loss(self.recipe), (first.history, first.epoch, first.stopped)
        return Fitted(net, loss, *told, members, held_out, self.longer)

    def _together(self, nets: Sequence[Sequential], plans: Sequence[_Plan]) -> Sequential:
        states = [net.state_dict() for net in nets]
        n_in = nets[0].n_in
        return Sequential.from_state(
            make_layers(self.recipe, n_in, self.n_out, n_values=self.n_values),
            {name: np.stack([state[name] for state in states]) for name in states[0]},
            n_in=n_in,
            backend=self.backend,
            seed=[plan.seed for plan in plans],
        )

    def _held_out(self, net: Sequential, nets: Sequence[Sequential], plans: Sequence[_Plan]) -> HeldOut | None:
        X, X_val = self.data.X, self.data.X_val
        if not self.recipe.folds:
            return None if X_val is None else HeldOut(np.arange(len(X_val)), to_numpy(net.predict(X_val)))
        folds = self.recipe.folds
        rounds = [range(k, k + folds) for k in range(0, len(nets) - folds + 1, folds)] or [range(len(nets))]
        outputs = []
        for numbers in rounds:
            rows = np.concatenate([plans[k].left_out for k in numbers])
            parts = [to_numpy(nets[k].predict(X[plans[k].left_out])) for k in numbers]
            order = np.argsort(rows)
            outputs.append(np.concatenate(parts)[order])
        rows = np.sort(np.concatenate([plans[k].left_out for k in rounds[0]]))
        return HeldOut(rows, outputs[0] if len(outputs) == 1 else np.stack(outputs))


def _member(fit: _Fit, on_disk: bool, k: int, plan: _Plan) -> tuple[Sequential, Member]:
    """Train one network, in a process of its own."""
    if not on_disk:  # joblib shares arrays by maps of memory, which are rows at hand
        data: list[Any] = [np.asarray(a) if isinstance(a, np.memmap) else a for a in fit.data]
        fit = fit._replace(data=_Data(*data))
    net, member, _ = fit.member(k, plan, [], None)
    return net, member


def _keeper(recipe: Recipe) -> EarlyStopping:
    """Return what keeps the best weights, and ends training where the recipe has a patience."""
    loss = make_loss(recipe)
    monitor = "val_accuracy" if recipe.select_by == "accuracy" and loss.classifies else "val_loss"
    return EarlyStopping(monitor, recipe.patience or recipe.epochs, ties="last")

"""What a search found: one trial for each configuration, as rows, as a table and as a picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..arguments import suggest
from ..errors import DataError, OptionError
from ..files import PathLike
from ..optional import needs
from ..plots import plot_search
from ..schedules import Schedule
from ..training import History, Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RESULTS", "SearchResult", "Status", "Trial"]

Status = Literal["not started", "running", "finished", "eliminated", "diverged", "out of time"]
#: The columns that a search adds to the names of a configuration.
RESULTS = ("score", "best_epoch", "epochs", "seconds", "status")


@dataclass(eq=False)
class Trial:
    """One configuration and what became of it.

    Attributes
    ----------
    config : dict
        As given.
    score : float
        The best value of the monitored column over the epochs; NaN where there is none, or training diverged.
    best_epoch : int or None
        The epoch of that value, from 1.
    epochs : int
        Epochs trained.
    seconds : float
        Wall-clock time of its training; networks trained together share theirs equally.
    status : str
        "finished": trained for all epochs, or ended by a callback of its own.  "eliminated": halving gave its
        epochs to others.  "diverged": a loss or a weight was not finite.  "out of time": `max_seconds` was over
        before its last epoch.  "not started": it was over before its first.
    history : History
        Losses, metrics and learning rate of each epoch, as the trainer of this network alone writes them.
    fit_options : dict
        What `Trainer.fit` got beside data and epochs.
    schedule : Schedule or None
        The one it trained with, its length filled in; None before, and for networks of a `make` of your own.
    length : int or None
        Of training to the end, in what the schedule counts: epochs or steps.
    """

    config: dict[str, Any]
    fit_options: dict[str, Any]
    _make: Callable[[Trial], Trainer]
    history: History = field(default_factory=History)
    score: float = math.nan
    best_epoch: int | None = None
    seconds: float = 0.0
    status: Status = "not started"
    schedule: Schedule | None = None
    length: int | None = field(default=None, repr=False)

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return len(self.history)

    @property
    def row(self) -> dict[str, Any]:
        """The configuration and the results, in one dict."""
        return {**self.config, **{name: getattr(self, name) for name in RESULTS}}

    def make(self) -> Trainer:
        """Return a fresh trainer of this network alone, with the same initial weights, streams and schedule.

        Fitted on the same data it repeats the trial, on NumPy to the bit::

            trainer = result.best.make()
            trainer.fit(X, y, epochs=result.best.best_epoch, **result.best.fit_options)

        with ``X_val=``, ``y_val=`` and sample weights beside, where the search had them.  A schedule that asks
        for the length of training has that of the search, however many epochs are fitted.

        Returns
        -------
        Trainer
            Not trained yet.
        """
        return self._make(self)

    def __repr__(self) -> str:
        return f"Trial({self.config}, score={self.score:.4g}, epochs={self.epochs}, status={self.status!r})"


class SearchResult:
    """All trials of a search.

    Attributes
    ----------
    trials : list of Trial
        In the order of the configurations.
    monitor : str
        The column that was ranked by.
    mode : {"min", "max"}
        Which direction is better.

    Examples
    --------
    >>> import xpnn
    >>> X, y = xpnn.data.make_moons(200, noise=0.2, seed=0)
    >>> space = {"lr": [0.0001, 0.03], "dropout": [0.0, 0.2], "hidden": (16,)}
    >>> result = xpnn.search.run(xpnn.search.grid(space), X, y, loss=xpnn.CrossEntropy(), epochs=5)
    >>> result.best.config["lr"], len(result.rows), result.rows[0]["status"]
    (0.03, 4, 'finished')
    """

    def __init__(self, trials: list[Trial], monitor: str, mode: Literal["min", "max"]) -> None:
        self.trials, self.monitor, self.mode = trials, monitor, mode

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict for each trial: its options, then ``score``, ``best_epoch``, ``epochs``, ``seconds``, ``status``."""
        return [trial.row for trial in self.trials]

    @property
    def ranking(self) -> list[Trial]:
        """The trials that have a score, best first; equal ones in the order of the configurations."""
        sign = 1.0 if self.mode == "min" else -1.0
        return sorted((t for t in self.trials if math.isfinite(t.score)), key=lambda t: sign * t.score)

    @property
    def best(self) -> Trial:
        """The best trial.

        Raises
        ------
        DataError
            If none has a score.
        """
        ranking = self.ranking
        if not ranking:
            counts = dict(Counter(trial.status for trial in self.trials))
            raise DataError(
                f"SearchResult: expected a trial with a finite {self.monitor}, got {counts}. "
                "Try lower learning rates, scaled inputs, or more time."
            )
        return ranking[0]

    @property
    def epochs(self) -> int:
        """Epochs of all trials together: what the search cost."""
        return sum(trial.epochs for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Training time of all trials together."""
        return sum(trial.seconds for trial in self.trials)

    def averaged(self, over: str | Sequence[str] = "seed") -> list[dict[str, Any]]:
        """Return one row for each configuration apart from some names, best mean first.

        Parameters
        ----------
        over : str or sequence of str, default="seed"
            The names that distinguish repetitions.

        Returns
        -------
        list of dict
            The other options, ``score`` (mean), ``std`` (standard deviation, divisor n), ``n`` (repetitions).  A
            configuration of which one repetition has no score gets NaN, and stands last.

        Raises
        ------
        OptionError
            If no configuration has one of the names.
        """
        names = [over] if isinstance(over, str) else list(over)
        known = {name for trial in self.trials for name in trial.config}
        for name in names:
            if name not in known:
                listed, hint = ", ".join(sorted(known)), suggest(name, known)
                raise OptionError(f"SearchResult: expected names among {listed}, got {name!r}. {hint}")
        groups: dict[str, tuple[dict[str, Any], list[float]]] = {}
        for trial in self.trials:
            rest = {name: value for name, value in trial.config.items() if name not in names}
            groups.setdefault(repr(rest), (rest, []))[1].append(trial.score)
        rows = [
            {**rest, "score": float(np.mean(scores)), "std": float(np.std(scores)), "n": len(scores)}
            for rest, scores in groups.values()
        ]
        sign = 1.0 if self.mode == "min" else -1.0
        return sorted(rows, key=lambda row: math.inf if math.isnan(row["score"]) else sign * row["score"])

    def to_csv(self, path: PathLike) -> None:
        """Write the rows as CSV, to a temporary name first."""
        History(self.rows).to_csv(path)

    def plot(
        self, x: str, y: str | None = None, *, ax: Axes | None = None, reduce: Literal["mean", "min", "max"] = "mean"
    ) -> Axes:
        """Draw the scores over one option as bars, or over two as a heat map; see `xpnn.plots.plot_search`."""
        return plot_search(self, x, y, ax=ax, reduce=reduce)

    def summary(self, n: int = 10) -> str:
        """Return a table of the best trials.

        Parameters
        ----------
        n : int, default=10
            How many at most.
        """
        with needs("tabulate", "SearchResult"):
            from tabulate import tabulate

        rows = [trial.row for trial in self.ranking[:n]]
        cells = [{name: v if isinstance(v, int | float) else str(v) for name, v in row.items()} for row in rows]
        return tabulate(cells, headers="keys", floatfmt=".4g")

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        ranking = self.ranking
        best = f"best {self.monitor} {ranking[0].score:.4g}" if ranking else "none with a score"
        return f"SearchResult({len(self)} trials, {self.epochs} epochs, {best})"

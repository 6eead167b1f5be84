r"""What a trained model leans on, and where it fails: importance of columns, and the groups of rows it serves worst.

Both take the columns that a person knows, those of the table, not the inputs that an encoder made of them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .arguments import is_count
from .confidence import mean_interval, wilson, z_of
from .data.arrays import some_rows
from .data.columns import as_columns, as_numbers, as_texts, is_text
from .data.dates import read_column
from .data.encoder import TableEncoder
from .data.targets import ClassTarget, NumberTargets
from .errors import OptionError, ShapeError
from .metrics import Score, get_score
from .predictor import Predictor, check_predictor
from .random import stream

__all__ = ["Group", "Importance", "permutation_importance", "worst_groups"]

#: What is measured: (truth, answers) -> one number, of which larger is better.
Measure: TypeAlias = Callable[[np.ndarray, np.ndarray], float]


# -- what it leans on -----------------------------------------------------------------------------------------------
class Importance(NamedTuple):
    """How much worse a model becomes where one column tells it nothing.

    Attributes
    ----------
    names : tuple of str
        The columns that the model uses, the most important first.
    mean, std : ndarray of shape (n_columns,)
        By how much the metric got worse, and the standard deviation of that over the repeats.
    values : ndarray of shape (n_columns, n_repeats)
        By how much it got worse in each of them.
    metric : str
        What was measured.
    score : float
        The metric with all columns as they are.
    rows : int
        Rows that it was measured on.
    """

    names: tuple[str, ...]
    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    metric: str
    score: float
    rows: int


def permutation_importance(
    predictor: Predictor,
    X: Any,
    y: Any,
    metric: str | Score | Measure | None = None,
    *,
    n_repeats: int = 5,
    max_rows: int | None = None,
    seed: int = 0,
) -> Importance:
    r"""Return by how much a metric gets worse where the values of one column are shuffled among the rows [1]_.

    .. math:: I_j = \pm \left( s - \frac{1}{R} \sum_{r=1}^{R} s_{jr} \right)

    with the metric :math:`s` on the rows as they are, and :math:`s_{jr}` with column j in the r-th shuffled order; the
    sign is that with which larger is more important.  All inputs that an encoder made of a column, its bins or its
    categories, move together.  Columns that say the same share their importance: where one is shuffled the model
    still reads the other.

    Parameters
    ----------
    predictor : Predictor
        The trained model.
    X : table, frame, mapping of columns, or array of shape (n, ...)
        Rows as the predictor takes them, best such as it was not trained on.
    y : array of shape (n,), or (n, k) of several targets
        Their target in its own terms; what has a name is measured of several in units of their standard deviations.
    metric : str, Score or callable, optional
        A name that `xpnn.metrics.get_score` knows, of classes ``"logloss"`` (the default), ``"accuracy"``, ``"auc"`` …,
        of numbers ``"rmse"`` (the default), ``"mae"``, ``"r2"`` …; or a function of (truth, answers), of which larger
        is better.  It is given class numbers (n,) and probabilities (n, n_classes), or the true and the predicted
        numbers.
    n_repeats : int, default=5
        Orders R that each column is shuffled into; the same ones for all columns.
    max_rows : int, optional
        Of more rows so many are drawn.
    seed : int, default=0
        Draws rows and orders.

    Returns
    -------
    Importance
        Of every column that the model uses.

    Raises
    ------
    OptionError
        If the metric is not known, or `n_repeats` is no whole number from 1 on.
    ShapeError
        If there are no rows, or X and y differ in their number.

    References
    ----------
    .. [1] Breiman, "Random forests", Machine Learning 45, 2001, section 10; on models of any kind, Fisher, Rudin and
       Dominici, "All models are wrong, but many are useful", JMLR 20, 2019.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn.data.targets import NumberTarget
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> net = xpnn.mlp([3, 1])
    >>> net.params["0.weight"][...] = [[3.0], [1.0], [0.0]]
    >>> y = net.predict(X)[:, 0]
    >>> predictor = Predictor(net, xpnn.MeanSquaredError(), NumberTarget())
    >>> found = permutation_importance(predictor, X, y, n_repeats=10)
    >>> found.names, found.mean.round(1).tolist()
    (('x1', 'x2', 'x3'), [4.6, 1.4, 0.0])
    """
    where = "permutation_importance"
    if not is_count(n_repeats):
        raise OptionError(f"{where}: expected n_repeats to be a whole number from 1 on, got {n_repeats!r}. Try 5.")
    check_predictor(predictor, where)
    target = predictor.target
    classes = isinstance(target, ClassTarget)
    if not callable(metric) or isinstance(metric, Score):
        usual = "logloss" if classes else "rmse"
        metric = get_score(usual if metric is None else metric, "classes" if classes else "numbers")
    inputs, y = predictor.inputs(X), np.asarray(y)
    if len(inputs) != len(y) or not len(y):
        raise ShapeError(
            f"{where}: expected rows with one target each, got {len(inputs)} rows and {len(y)} targets. Pass them "
            "together."
        )
    rng = stream(seed, "permutation importance")
    if max_rows is not None and len(y) > max_rows:
        drawn = some_rows(len(y), max_rows, rng)
        inputs, y = inputs[drawn], y[drawn]
    inputs = np.asarray(inputs)
    # Of several quantities none is to weigh more for its unit.
    unit = target.std if isinstance(target, NumberTargets) and isinstance(metric, Score) else 1.0
    truth = target.encode(y) if isinstance(target, ClassTarget) else target.numbers(y) / unit
    after = dataclasses.replace(predictor, encoder=None)  # from the encoded rows on

    def measured(matrix: np.ndarray) -> float:
        out = after.predict_proba(matrix)
        if not isinstance(metric, Score):
            return metric(truth, out if classes else predictor.decode(out))
        if not classes:
            return metric.gain(truth, predictor.decode(out) / unit)
        return metric.gain(truth, out if metric.takes == "probabilities" else predictor.codes(out))

    orders = [rng.permutation(len(y)) for _ in range(n_repeats)]
    columns, whole = _places(predictor, X, inputs.shape[1]), measured(inputs)
    values, moved = np.empty((len(columns), n_repeats)), np.array(inputs)
    for i, part in enumerate(columns.values()):
        for r, order in enumerate(orders):
            moved[:, part] = inputs[np.ix_(order, part)]
            values[i, r] = whole - measured(moved)
        moved[:, part] = inputs[:, part]
    mean, spread = values.mean(axis=1), values.std(axis=1)
    ranked = np.argsort(-mean, kind="stable")
    names = tuple(list(columns)[i] for i in ranked)
    falls = isinstance(metric, Score) and metric.mode == "min"
    name = metric.name if isinstance(metric, Score) else getattr(metric, "__name__", type(metric).__name__)
    whole = -whole if falls else whole
    return Importance(names, mean[ranked], spread[ranked], values[ranked], name, whole, len(y))


def _places(predictor: Predictor, X: Any, width: int) -> dict[str, npt.NDArray[np.int64]]:
    """Return the inputs that come of each column."""
    if isinstance(predictor.encoder, TableEncoder):
        return predictor.encoder.feature_places
    names = [str(name) for name in getattr(X, "columns", ())]  # of a frame, where scalers take one
    known = names if len(names) == width else [f"x{j + 1}" for j in range(width)]
    return {name: np.array([j]) for j, name in enumerate(known)}


# -- where it fails -------------------------------------------------------------------------------------------------
class Group(NamedTuple):
    """Rows that have one value of a column, or values from one part of its range, and how wrong the model is on them.

    Attributes
    ----------
    column, value : str
        Which rows: those whose `column` is `value`, a category, a range such as ``"12 to 40"``, or ``"missing"``.
    rows : int
        How many.
    error : float
        Their mean error.
    low, high : float
        Between these it lies on new rows of the kind, for all groups looked at together with 95 % confidence.
    rest, rest_high : float
        The mean error of all other rows, and the upper end of its interval.
    """

    column: str
    value: str
    rows: int
    error: float
    low: float
    high: float
    rest: float
    rest_high: float

    @property
    def stands_out(self) -> bool:
        """Whether the error is larger than that of the other rows by more than chance [1]_.

        References
        ----------
        .. [1] Newcombe, "Interval estimation for the difference between independent proportions", Statistics in
           Medicine 17, 1998, method 10: both distances to the ends are added as standard errors are.
        """
        return self.error - self.rest > math.hypot(self.error - self.low, self.rest_high - self.rest)


_BINS, _VALUES, _CATEGORIES = 5, 10, 50
_LEAST_ROWS = 5


def worst_groups(columns: Any, error: npt.ArrayLike) -> list[Group]:
    r"""Return for each column the group of rows with the largest error, those that stand out most first.

    Groups are the categories of a column (the 50 most frequent, the others together), the values of a column of at
    most ten numbers, or the fifths of a column of more; missing cells are a group too.  The worst of a column is not
    that with the largest mean error, which would be a group of few rows by chance, but that whose error is largest
    *at least*: the lower end of its interval,

    .. math:: \bar e \pm t \, \frac{s}{\sqrt n},

    of Wilson's for errors that are 0 or 1.  It widens with the number of groups looked at (Bonferroni's correction),
    so that it holds for all of them together.

    Parameters
    ----------
    columns : table, frame, or mapping of str to array of shape (n,)
        The rows.
    error : array of shape (n,)
        How wrong the model is on each, such as 0 or 1, or a distance; not negative.

    Returns
    -------
    list of Group
        One for each column that has a group of at least five rows whose error is above that of the others.

    Raises
    ------
    ShapeError
        If there is not one error for each row.

    Examples
    --------
    >>> town = np.asarray(["Ulm"] * 50 + ["Bern"] * 50, dtype=object)
    >>> wrong = np.asarray([1, 0] * 25 + [0] * 49 + [1])
    >>> worst, *_ = worst_groups({"town": town, "age": np.arange(100.0)}, wrong)
    >>> worst.column, worst.value, worst.rows, worst.error, worst.rest, worst.stands_out
    ('town', 'Ulm', 50, 0.5, 0.02, True)
    """
    error = np.asarray(error, dtype=np.float64)
    table = as_columns(columns, "worst_groups")
    divided = {str(name): list(_groups(str(name), values, len(error))) for name, values in table.items()}
    z = z_of(sum(len(groups) for groups in divided.values()))
    binary = bool(np.isin(error, (0.0, 1.0)).all())
    found = []
    for name, groups in divided.items():
        measured = [_measure(name, value, error, inside, binary, z) for value, inside in groups]
        worse = [group for group in measured if group.error > group.rest]
        if worse:
            found.append(max(worse, key=lambda group: group.low))
    return sorted(found, key=lambda group: (group.rest - group.low, group.column))


def _groups(name: str, values: Any, n: int) -> Iterator[tuple[str, np.ndarray]]:
    """Return the groups of a column that are worth a look: what they are called, and which rows are in them."""
    column = read_column(name, values)
    if len(column) != n:
        raise ShapeError(
            f"worst_groups: expected one error for each row, got {n} for {len(column)} rows in column {name!r}. Pass "
            "them together."
        )
    if is_text(column) or column.dtype.kind == "b":
        labels, codes = _by_category(as_texts(column))
    elif column.dtype.kind == "M":
        labels, codes = _by_time(column)
    else:
        labels, codes = _by_range(as_numbers(name, column))
    for code, label in enumerate(labels):
        inside = codes == code
        if _LEAST_ROWS <= inside.sum() <= n - _LEAST_ROWS:
            yield label, inside


def _by_category(texts: list[str | None]) -> tuple[list[str], np.ndarray]:
    names = np.asarray(["" if text is None else text for text in texts], dtype=object)
    gaps = np.asarray([text is None for text in texts])
    known, codes, counts = np.unique(names, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(known), dtype=np.int64)
    rank[order] = np.arange(len(known))
    labels = [str(name) for name in known[order][:_CATEGORIES]]
    codes = np.minimum(rank[codes], _CATEGORIES)
    if len(known) > _CATEGORIES:
        labels.append("other values")
    codes[gaps] = len(labels)
    return [*labels, "missing"], codes


def _by_time(times: np.ndarray) -> tuple[list[str], np.ndarray]:
    present = np.sort(times[~np.isnat(times)])
    edges = np.unique(present[[len(present) * part // _BINS for part in range(1, _BINS)]])
    codes = np.searchsorted(edges, times, side="left")
    ends = np.asarray([present[0], *edges, present[-1]], dtype="datetime64[us]")
    days = ends.astype("datetime64[D]") if ends[-1] - ends[0] > np.timedelta64(3 * _BINS, "D") else ends
    labels = [f"{a} to {b}".replace("T", " ").replace(".000000", "") for a, b in itertools.pairwise(days)]
    codes[np.isnat(times)] = len(labels)
    return [*labels, "missing"], codes


def _by_range(numbers: np.ndarray) -> tuple[list[str], np.ndarray]:
    gaps = np.isnan(numbers)
    present = numbers[~gaps]
    distinct = np.unique(present)
    if len(distinct) <= _VALUES:
        labels, codes = [f"{value:.6g}" for value in distinct], np.searchsorted(distinct, numbers)
    else:
        inner = np.quantile(present, np.linspace(0, 1, _BINS + 1)[1:-1])
        edges = np.unique(inner)
        codes = np.searchsorted(edges, numbers, side="left")
        ends = [distinct[0], *edges, distinct[-1]]
        labels = [f"{a:.4g} to {b:.4g}" if a < b else f"{a:.6g}" for a, b in itertools.pairwise(ends)]
    codes[gaps] = len(labels)
    return [*labels, "missing"], codes


def _measure(column: str, value: str, error: np.ndarray, inside: np.ndarray, binary: bool, z: float) -> Group:
    rest = error[~inside]
    error = error[inside]

    def ends(of: np.ndarray) -> tuple[float, float]:
        return wilson(float(of.mean()), len(of), z) if binary else mean_interval(of, z)

    low, high = ends(error)
    mean = float(error.mean())
    return Group(column, value, len(error), mean, max(low, 0.0), high, float(rest.mean()), ends(rest)[1])

"""Is a network worth its while? A constant, a linear model and a tree ensemble on the same rows tell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .confidence import difference_interval
from .data.arrays import some_rows, take_rows
from .data.encoder import TableEncoder
from .data.scaling import Standardizer
from .data.targets import ClassTarget, NumberTargets
from .errors import DataError, ShapeError
from .losses import CrossEntropy, Loss, MeanSquaredError
from .model import mlp
from .optim import LBFGS
from .predictor import Predictor, check_predictor
from .random import stream
from .regularizers import L2

__all__ = ["ROWS", "Baseline", "Comparison", "compare_baselines"]

#: A baseline is trained on at most so many rows.
ROWS = 10_000
# What they may cost, in inputs times rows (of a linear model), and times trees (about a second in all).
_LINEAR_WORK, _TREE_WORK = 2 * 10**7, 15 * 10**7
_FEWEST, _TREE_ROWS = 500, 8_000  # a tree of 31 leaves costs as much as about so many rows, however few there are
_TREES, _FEWEST_TREES = 100, 30
_ITERATIONS = 100
_LEAST = 1e-12  # probability that a logarithm is taken of


class Baseline(NamedTuple):
    """A simple model, and by how much the network is better.

    Attributes
    ----------
    name : str
        ``"constant"``, ``"linear"`` or ``"trees"``.
    what : str
        What it is, for a person; of the constant, what it always answers.
    rows : int
        Rows that it was trained on.
    scores : dict of str to float
        ``accuracy`` and ``cross_entropy``, or ``rmse`` and ``mae`` in the target's own units.
    gains : dict of str to (float, float, float)
        By how much the network's ``accuracy`` and ``cross_entropy``, or ``rmse``, are better, with the ends of the 95 %
        confidence interval; of errors row by row, so that it is narrow where both err on the same rows.
    learns : bool
        Whether it is better than the constant by more than chance.
    """

    name: str
    what: str
    rows: int
    scores: dict[str, float]
    gains: dict[str, tuple[float, float, float]]
    learns: bool = False

    def verdict(self, metric: str) -> str:
        """Return whether the network is ``"better"``, ``"worse"``, or ``"alike"`` by what may be chance."""
        _, low, high = self.gains[metric]
        return "better" if low > 0 else "worse" if high < 0 else "alike"


class Comparison(NamedTuple):
    """A network beside its baselines.

    Attributes
    ----------
    rows : int
        Rows that all of them were scored on.
    trained : int
        Rows that the network was trained on.
    scores : dict of str to float
        The network's.
    baselines : list of Baseline
        The simplest first.
    """

    rows: int
    trained: int
    scores: dict[str, float]
    baselines: list[Baseline]

    def __str__(self) -> str:
        return " ".join(self.sentences())

    @property
    def useful(self) -> bool:
        """Whether the network is better than the constant, by more than chance, in its answers or its probabilities."""
        constant = next((each for each in self.baselines if each.name == "constant"), None)
        return constant is None or any(constant.verdict(metric) == "better" for metric in constant.gains)

    def sentences(self) -> list[str]:
        """Say what the comparison means: first whether the network is of any use.

        Examples
        --------
        >>> constant = Baseline("constant", "always “no”", 90, {}, {"accuracy": (0, 0, 0), "cross_entropy": (0, -1, 1)})
        >>> print(Comparison(10, 90, {}, [constant]))
        The network is no better than always answering “no”: either the columns do not tell the target, or the training
        went wrong.
        """
        return _sentences(self)


def compare_baselines(
    predictor: Predictor,
    X: Any,
    y: Any,
    X_test: Any,
    y_test: Any,
    *,
    answers: npt.NDArray[Any] | None = None,
    trained: int | None = None,
    max_rows: int = ROWS,
    seed: int = 0,
) -> Comparison:
    """Compare a trained network with simple models of the same rows.

    They are the most common class, or the mean; a logistic, or a linear, regression of scaled numbers and 0/1
    categories with a ridge as scikit-learn's ``C=1``; and where scikit-learn is installed, its gradient-boosted trees
    with default settings on the same inputs (of many classes fewer trees; none where there are so many inputs and
    classes that it would take more than seconds).

    Parameters
    ----------
    predictor : Predictor
        The trained network.
    X, y : rows of shape (n, ...) as the predictor takes them, and their target of shape (n,)
        What the network was trained on; of more than `max_rows` the simple models are given so many, drawn at random.
    X_test, y_test : rows, and their target
        What all are scored on; none of them was trained on, or the trees will look perfect.
    answers : array of shape (n_test, n_out), optional
        What ``predictor.predict_proba(X_test)`` returned, where that is known already.
    trained : int, optional
        Rows that the network was trained on, where `X` are only some of them.
    max_rows : int, default=10000
        See `X`.
    seed : int, default=0
        Draws the rows.

    Returns
    -------
    Comparison
        Printed, it says what it means.

    Raises
    ------
    ShapeError
        If there are no rows.

    Examples
    --------
    >>> import xpnn
    >>> X, y = xpnn.data.make_moons(900, noise=0.2, seed=0)
    >>> net = xpnn.mlp([2, 16, 2], "tanh", seed=0)
    >>> history = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.02)).fit(X[:450], y[:450], epochs=50)
    >>> predictor = Predictor(net, xpnn.CrossEntropy(), ClassTarget().fit(y))
    >>> found = compare_baselines(predictor, X[:450], y[:450], X[450:], y[450:])
    >>> [(baseline.name, baseline.verdict("accuracy")) for baseline in found.baselines[:2]]
    [('constant', 'better'), ('linear', 'better')]
    """
    check_predictor(predictor, "compare_baselines")
    if isinstance(predictor.target, NumberTargets):
        raise ShapeError(
            f"compare_baselines: expected one target, got {len(predictor.target.targets)}. Compare each by itself: "
            "pass predictor.only(0), and the first column of y."
        )
    y, y_test = np.asarray(y).reshape(-1), np.asarray(y_test).reshape(-1)
    if not len(y) or not len(y_test):
        raise ShapeError("compare_baselines: expected rows to train on and to test on, got none. Pass both.")
    answers = predictor.predict_proba(X_test) if answers is None else answers
    errors = _errors(predictor, y_test, answers)
    rows = some_rows(len(y), max_rows, stream(seed, "baselines"))
    plain, tested = _plain(predictor, X), _plain(predictor, X_test)
    found, constant = [], None
    for name, what, n, out in _fitted(predictor, take_rows(plain, rows), y[rows], tested, len(y_test), seed):
        theirs = _errors(predictor, y_test, out)
        constant = constant or theirs
        learns = any(low > 0 for _, low, _ in _gains(constant, theirs).values())
        found.append(Baseline(name, what, n, _scores(theirs), _gains(theirs, errors), learns))
    return Comparison(len(y_test), len(y) if trained is None else trained, _scores(errors), found)


# -- the models -----------------------------------------------------------------------------------------------------
def _plain(predictor: Predictor, X: Any) -> Any:
    """Return the columns that the predictor uses as a mapping, or rows as an array of two axes."""
    if not isinstance(predictor.encoder, TableEncoder):
        return predictor.inputs(X) if predictor.encoder is None else np.asarray(X).reshape(len(X), -1)
    return predictor.encoder.read(X)


def _fitted(
    predictor: Predictor, X: Any, y: np.ndarray, X_test: Any, n_test: int, seed: int
) -> Iterator[tuple[str, str, int, np.ndarray]]:
    """Return each baseline's name, what it is, rows it was trained on, and what it answers, as `predict_proba` does."""
    what, out = _constant(predictor, y)
    yield "constant", what, len(y), np.broadcast_to(out, (n_test, len(out)))
    if len(np.unique(y)) < 2:
        return
    try:
        encoder = _encoder(predictor.encoder, X)
    except DataError:  # of the rows drawn no column varies
        return
    inputs, tested = np.asarray(encoder.transform(X)), np.asarray(encoder.transform(X_test))
    some = some_rows(len(y), max(_LINEAR_WORK // (inputs.shape[1] * _n_out(predictor)), _FEWEST), stream(seed, "some"))
    yield "linear", "a linear model", len(some), _linear(predictor, inputs[some], y[some], tested)
    with contextlib.suppress(ImportError):
        trees = _trees(predictor, inputs, y, tested, seed)
        if trees is not None:
            yield "trees", "gradient-boosted trees", len(y), trees


def _n_out(predictor: Predictor) -> int:
    return len(predictor.target.classes) if isinstance(predictor.target, ClassTarget) else 1


def _constant(predictor: Predictor, y: np.ndarray) -> tuple[str, np.ndarray]:
    target = predictor.target
    if not isinstance(target, ClassTarget):
        mean = float(target.numbers(y).mean())
        return f"always {mean:,.6g} (the mean)", target.encode([mean])[0]
    counts = np.bincount(target.encode(y), minlength=len(target.classes))
    common = target.classes[int(counts.argmax())]
    return f"always “{common}”", (counts + 1) / (counts.sum() + len(counts))  # no class is impossible


def _encoder(encoder: Any, X: Any) -> TableEncoder | Standardizer:
    """Fit the plainest encoding: scaled numbers, and categories as 0/1 columns."""
    if not isinstance(encoder, TableEncoder):
        return Standardizer().fit(X)
    categorical, numeric = ([name for name in given if name in X] for given in (encoder.categorical, encoder.numeric))
    return TableEncoder(categorical=categorical, numeric=numeric).fit(X)


def _linear(predictor: Predictor, inputs: np.ndarray, y: np.ndarray, tested: np.ndarray) -> np.ndarray:
    loss: Loss = CrossEntropy() if isinstance(predictor.target, ClassTarget) else MeanSquaredError()
    net = mlp([inputs.shape[1], _n_out(predictor)], init="zeros", dtype="float64")
    x, ridge = inputs.astype(np.float64), L2(0.5 / len(y))
    target: np.ndarray = predictor.target.encode(y)
    target = target if target.dtype.kind == "i" else target.astype(np.float64)

    def evaluate() -> np.ndarray:
        pred, caches = net.forward(x)
        value, d_pred = loss.value_and_grad(pred, target)
        net.backward(d_pred, caches)
        return np.asarray(value + ridge.add(net.store))

    LBFGS(_ITERATIONS).minimize(net.store, evaluate)
    return np.asarray(loss.link(net.predict(tested)))


def _trees(predictor: Predictor, inputs: np.ndarray, y: np.ndarray, tested: np.ndarray, seed: int) -> np.ndarray | None:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    target, n_out = predictor.target, _n_out(predictor)
    n_trees = n_out if n_out > 2 else 1  # in each round
    rounds = min(_TREES, _TREE_WORK // (inputs.shape[1] * (len(y) + _TREE_ROWS) * n_trees))
    if rounds < _FEWEST_TREES:
        return None
    options = {"max_iter": int(rounds), "random_state": seed % 2**32, "early_stopping": False}
    with threadpool_limits(1, user_api="openmp"):  # on a busy machine its threads wait for one another
        if isinstance(target, ClassTarget):
            model = HistGradientBoostingClassifier(**options).fit(inputs, target.encode(y))
            out = np.zeros((len(tested), n_out))
            out[:, model.classes_] = model.predict_proba(tested)
            return out
        regressor = HistGradientBoostingRegressor(**options).fit(inputs, target.encode(y)[:, 0])
        return np.asarray(regressor.predict(tested))[:, None]


# -- scores ---------------------------------------------------------------------------------------------------------
def _errors(predictor: Predictor, y: np.ndarray, out: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each row adds to the scores: right or not and the cross-entropy, or the error."""
    target = predictor.target
    if not isinstance(target, ClassTarget):
        return {"error": predictor.decode(out) - target.numbers(y)}
    codes = target.encode(y)
    likely = np.maximum(out[np.arange(len(codes)), codes].astype(np.float64), _LEAST)
    return {"right": (out.argmax(axis=-1) == codes).astype(np.float64), "loss": -np.log(likely)}


def _scores(errors: Mapping[str, np.ndarray]) -> dict[str, float]:
    if "error" in errors:
        error = errors["error"]
        return {"rmse": float(np.sqrt(np.square(error).mean())), "mae": float(np.abs(error).mean())}
    return {"accuracy": float(errors["right"].mean()), "cross_entropy": float(errors["loss"].mean())}


def _gains(theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float, float]]:
    if "error" not in ours:
        return {
            "accuracy": difference_interval(ours["right"], theirs["right"]),
            "cross_entropy": difference_interval(theirs["loss"], ours["loss"]),
        }
    # The difference of two roots, from that of the mean squares: a² - b² = (a - b)(a + b).
    both = _scores(theirs)["rmse"] + _scores(ours)["rmse"]
    gain, low, high = difference_interval(np.square(theirs["error"]), np.square(ours["error"]))
    return {"rmse": (gain / both, low / both, high / both) if both else (0.0, 0.0, 0.0)}


# -- words ----------------------------------------------------------------------------------------------------------
def _sentences(found: Comparison) -> list[str]:
    by_name = {baseline.name: baseline for baseline in found.baselines}
    constant, linear, trees = (by_name.get(name) for name in ("constant", "linear", "trees"))
    metric = "accuracy" if constant and "accuracy" in constant.gains else "rmse"
    if constant is not None and constant.verdict(metric) != "better":
        return [_useless(constant, metric, [other for other in (linear, trees) if other is not None])]
    said = _others(metric, linear, trees)
    if said:
        return said
    alike = trees is not None and trees.verdict(metric) == "alike"
    beaten = [b for b in (constant, linear, trees) if b is not None and b.verdict(metric) == "better"]
    names = [_answering(baseline) for baseline in beaten]
    text = f"The network is better than {_listed(names)}"
    return [f"{text}, and as good as gradient-boosted trees." if alike else f"{text}."] if names else []


def _useless(constant: Baseline, metric: str, others: Sequence[Baseline]) -> str:
    worse = constant.verdict(metric) == "worse"
    if constant.gains.get("cross_entropy", (0, 0, 0))[1] > 0 and not worse:
        return (
            f"The network is right no more often than {_answering(constant)}, but its probabilities tell more than the "
            "shares of the classes: use those, or another threshold."
        )
    learning = [other.what for other in others if other.learns]
    if learning:
        verb = "do" if len(learning) > 1 or learning[0].endswith("s") else "does"
        why = f"{_listed(learning)} {verb} learn from the same rows, so the training went wrong."
    elif others:
        names = [other.what for other in others]
        verb = "learns" if names == ["a linear model"] else "learn"
        why = f"{_listed(names)} {verb} nothing either, so the columns hardly tell the target."
    else:
        why = "either the columns do not tell the target, or the training went wrong."
    return f"The network is {'worse' if worse else 'no better'} than {_answering(constant)}: {why}"


def _others(metric: str, linear: Baseline | None, trees: Baseline | None) -> list[str]:
    """Say which of the two better-known kinds of model would do."""
    said = []
    if linear is not None and linear.verdict(metric) != "better":
        how = "does better" if linear.verdict(metric) == "worse" else "does as well"
        said.append(f"A linear model {how}, and is simpler.")
    if trees is not None and trees.verdict(metric) == "worse":
        said.append("Gradient-boosted trees with default settings do better.")
    return said


def _answering(baseline: Baseline) -> str:
    return baseline.what.replace("always", "always answering", 1)


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last

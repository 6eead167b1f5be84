"""Scores of finished predictions against scikit-learn's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn import metrics
from xpnn.errors import DataError, LabelError, OptionError, ShapeError
from xpnn.metrics import get_score

RNG = np.random.default_rng(0)


def classes(k, n=200, ties=True):
    """Labels, probabilities (with ties), answers and weights."""
    y = np.concatenate([np.arange(k), RNG.integers(0, k, n - k)])
    z = RNG.normal(size=(n, k)) + 1.5 * np.eye(k)[y]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    if ties:
        p = np.maximum(np.round(p, 1), 0.01)
        p /= p.sum(axis=1, keepdims=True)
    return y, p, p.argmax(axis=1), RNG.uniform(0, 2, n)


LABELS = {
    "accuracy_score": {},
    "balanced_accuracy_score": {},
    "matthews_corrcoef": {},
    "f1_score": {"average": "macro"},
}


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LABELS)
def test_scores_of_answers_are_scikit_learns(name, k, weighted):
    sk = pytest.importorskip("sklearn.metrics")
    y, _, answers, weight = classes(k)
    options = {**LABELS[name], "sample_weight": weight if weighted else None}
    words = np.asarray(["cat", "dog", "eel", "fox", "gnu", "hen"])
    expected = getattr(sk, name)(y, answers, **options)
    assert getattr(metrics, name)(y, answers, **options) == pytest.approx(expected, rel=1e-12)
    assert getattr(metrics, name)(words[y], list(words[answers]), **options) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("average", ["binary", "macro", "weighted", "micro"])
@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
@settings(deadline=None)
def test_f1_is_scikit_learns(average, pairs):
    sk = pytest.importorskip("sklearn.metrics")
    y, answers = np.asarray(pairs).T
    expected = sk.f1_score(y, answers, average=average, zero_division=0)
    assert metrics.f1_score(y, answers, average=average) == pytest.approx(expected, rel=1e-12)


def test_f1_of_other_labels():
    assert metrics.f1_score(["no", "yes", "yes"], ["no", "no", "yes"]) == pytest.approx(2 / 3)
    assert metrics.f1_score(["no", "yes", "yes"], ["no", "no", "yes"], pos_label="no") == pytest.approx(2 / 3)
    assert metrics.f1_score([1, 2, 2], [1, 1, 2], pos_label=2) == pytest.approx(2 / 3)
    assert metrics.f1_score([-1, 1, 1], [-1, -1, 1]) == pytest.approx(2 / 3)
    assert metrics.f1_score([True, False], [True, True]) == pytest.approx(2 / 3)
    assert metrics.f1_score([0, 0], [0, 0]) == 0.0
    assert metrics.f1_score([1, 1], [1, 1]) == 1.0
    with pytest.raises(OptionError, match=r"expected two classes under average='binary', got 3\. Pass average='macro'"):
        metrics.f1_score([0, 1, 2], [0, 1, 2])
    with pytest.raises(OptionError, match=r"expected pos_label to be one of \['a', 'b'\], got 'c'"):
        metrics.f1_score(["a", "b"], ["a", "b"], pos_label="c")
    with pytest.raises(OptionError, match=r"expected average among binary, macro, weighted, micro, got 'mean'"):
        metrics.f1_score([0, 1], [0, 1], average="mean")


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("name", ["roc_auc_score", "average_precision_score"])
def test_scores_of_rankings_are_scikit_learns(name, average, weighted, ties, k):
    sk = pytest.importorskip("sklearn.metrics")
    y, p, _, weight = classes(k, ties=ties)
    options = {"average": average, "sample_weight": weight if weighted else None}
    if k == 2:
        expected = getattr(sk, name)(y, p[:, 1], sample_weight=options["sample_weight"])
        for scores in (p, p[:, 1], p[:, 1:], np.log(p[:, 1] / p[:, 0])):
            assert getattr(metrics, name)(y, scores, **options) == pytest.approx(expected, rel=1e-12)
        assert getattr(metrics, name)(np.asarray(["n", "y"])[y], p, **options) == pytest.approx(expected, rel=1e-12)
    else:
        more = {"multi_class": "ovr"} if name == "roc_auc_score" else {}
        expected = getattr(sk, name)(y, p, **options, **more)
        assert getattr(metrics, name)(y, p, **options) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=12))
def test_auc_counts_pairs(rows):
    y, s = np.asarray([y for y, _ in rows]), np.asarray([s for _, s in rows])
    if y.all() or not y.any():
        with pytest.raises(LabelError, match="two classes in y_true, got 1"):
            metrics.roc_auc_score(y, s)
        return
    wins = [(a > b) + 0.5 * (a == b) for a in s[y] for b in s[~y]]
    assert metrics.roc_auc_score(y, s) == pytest.approx(np.mean(wins))


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_of_probabilities_are_scikit_learns(k, weighted):
    sk = pytest.importorskip("sklearn.metrics")
    y, p, _, weight = classes(k)
    weight = weight if weighted else None
    assert metrics.log_loss(y, p, sample_weight=weight) == pytest.approx(sk.log_loss(y, p, sample_weight=weight))
    each = np.square(p - np.eye(k)[y]).sum(axis=1) * (0.5 if k == 2 else 1.0)
    assert metrics.brier_score_loss(y, p, sample_weight=weight) == pytest.approx(np.average(each, weights=weight))
    if k == 2:
        expected = sk.brier_score_loss(y, p[:, 1], sample_weight=weight)
        assert metrics.brier_score_loss(y, p[:, 1], sample_weight=weight) == pytest.approx(expected)
        assert metrics.log_loss(np.asarray(["a", "b"])[y], p[:, 1]) == pytest.approx(sk.log_loss(y, p))


def test_log_loss_of_sure_answers():
    sk = pytest.importorskip("sklearn.metrics")
    sure = np.asarray([[1.0, 0.0], [0.0, 1.0]])
    assert metrics.log_loss([0, 1], sure) == pytest.approx(0.0, abs=1e-12)
    assert metrics.log_loss([1, 0], sure) == pytest.approx(sk.log_loss([1, 0], sure))
    assert metrics.log_loss([1, 1], [0.8, 0.9]) == pytest.approx(-np.log([0.8, 0.9]).mean()), "rows of one class"
    assert metrics.log_loss([0.0, 1.0], [0.2, 0.9]) == metrics.log_loss([0, 1], [0.2, 0.9])


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["mean_absolute_error", "mean_squared_error", "root_mean_squared_error", "r2_score"])
def test_scores_of_numbers_are_scikit_learns(name, weighted, shape):
    sk = pytest.importorskip("sklearn.metrics")
    y = RNG.normal(size=shape) * 3 + 1e3
    guess, weight = y + RNG.normal(size=shape), RNG.uniform(0, 2, 40) if weighted else None
    if not hasattr(sk, name):
        pytest.skip(f"{name} is newer than this scikit-learn")
    expected = getattr(sk, name)(y, guess, sample_weight=weight)
    assert getattr(metrics, name)(y, guess, sample_weight=weight) == pytest.approx(expected, rel=1e-9)


def test_r2_of_a_target_without_variance():
    assert metrics.r2_score([2.0, 2.0], [2.0, 2.0]) == 1.0
    assert metrics.r2_score([2.0, 2.0], [2.0, 3.0]) == 0.0


# -- by name --------------------------------------------------------------------------------------------------------
def test_every_score_by_its_name():
    y, p, answers, _ = classes(2)
    given = {"labels": answers, "probabilities": p, "values": p[:, 1]}
    names = ["accuracy", "balanced_accuracy", "f1", "f1_macro", "mcc", "auc", "ap", "logloss", "brier"]
    for name in [*names, "mae", "mse", "rmse", "r2"]:
        score = get_score(name)
        value = score(y, given[score.takes])
        assert type(value) is float
        assert score.gain(y, given[score.takes]) == (value if score.mode == "max" else -value)
        exact = {"labels": y, "probabilities": np.eye(2)[y], "values": y}[score.takes]
        assert score.gain(y, exact) > score.gain(y, given[score.takes]), name
        assert get_score(score) is score
        assert get_score(name, "numbers" if score.takes == "values" else "classes") is score
    assert get_score("roc_auc") is get_score("auc")
    assert get_score("cross_entropy") is get_score("log_loss") is get_score("logloss")
    with pytest.raises(OptionError, match=r"expected a score among accuracy, .*, r2, got 'acuracy'\..*accuracy"):
        get_score("acuracy")
    with pytest.raises(OptionError, match=r"expected a score of numbers among mae, mse, rmse, r2, got 'auc'"):
        get_score("auc", "numbers")


# -- the threshold --------------------------------------------------------------------------------------------------
OF_CUTS = {
    "f1": metrics.f1_score,
    "f1_macro": lambda y, a, **o: metrics.f1_score(y, a, average="macro", **o),
    "accuracy": metrics.accuracy_score,
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "mcc": metrics.matthews_corrcoef,
}


@pytest.mark.parametrize("name", OF_CUTS)
@pytest.mark.parametrize("weighted", [False, True])
@given(rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(1, 3)), min_size=2, max_size=14))
@settings(deadline=None)
def test_no_cut_is_better_than_the_best(name, weighted, rows):
    y, p, weight = np.asarray(rows).T
    p, weight = p / 6, weight if weighted else None
    if len(set(y)) < 2:
        return
    best = metrics.best_threshold(y, p, name, sample_weight=weight)
    assert 0.0 < best < 1.0

    def value(cut):
        return OF_CUTS[name](y, (p >= cut).astype(int), sample_weight=weight)

    others = [value(cut) for cut in np.linspace(1e-9, 1 - 1e-9, 300)]
    assert value(best) >= max(others) - 1e-12
    if value(0.5) >= max(others) - 1e-12:
        assert best == 0.5, "nothing is better, so nothing changes"
    if not weighted:
        own = metrics.best_threshold(y, p, OF_CUTS[name])
        assert value(own) == pytest.approx(value(best))


def test_a_threshold_helps_a_rare_class():
    y = (RNG.uniform(size=4000) < 0.05).astype(int)
    z = RNG.normal(size=4000) + 2.0 * y
    p = 1 / (1 + np.exp(-(2.0 * z - 2.0 + np.log(0.05 / 0.95))))
    fit, held = slice(0, 2000), slice(2000, None)
    cut = metrics.best_threshold(y[fit], p[fit])
    before, after = (metrics.f1_score(y[held], (p[held] >= t).astype(int)) for t in (0.5, cut))
    assert cut < 0.5
    assert after > before


def test_labels_of_a_threshold():
    assert metrics.best_threshold(["n", "n", "y"], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]) == pytest.approx(0.25)


# -- bad input ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: metrics.accuracy_score([0, 1], [0]), ShapeError, r"accuracy_score: expected equally many rows"),
        (lambda: metrics.accuracy_score([[0, 1]], [[0, 1]]), ShapeError, r"of shape \(n,\), got \(1, 2\).*argmax"),
        (lambda: metrics.accuracy_score([], []), DataError, r"expected at least one row, got none"),
        (lambda: metrics.f1_score([0, 1], [0.2, 0.9]), LabelError, r"labels in y_pred, got fractions"),
        (lambda: metrics.f1_score(["0", "1"], [0, 1]), LabelError, r"labels of one sort, got <U1 and int64"),
        (lambda: metrics.roc_auc_score([0, 1], [0.5]), ShapeError, r"got 2 in y_true and 1 scores"),
        (lambda: metrics.roc_auc_score([0, 0], [0.5, 0.1]), LabelError, r"rows of two classes in y_true, got 1"),
        (lambda: metrics.roc_auc_score([0, 1, 2], [0.5, 0.1, 0.2]), LabelError, r"rows of two classes .* got 3"),
        (lambda: metrics.roc_auc_score([0, 1], np.eye(3)[:2]), LabelError, r"rows of each class, got none of 2"),
        (
            lambda: metrics.roc_auc_score([0, 5, 1], np.eye(3)),
            LabelError,
            r"numbers of the columns, 0 to 2, got 0 to 5",
        ),
        (lambda: metrics.roc_auc_score([0, 1], [0.5, np.nan]), DataError, r"finite numbers in y_score, got NaN"),
        (lambda: metrics.roc_auc_score([0, 1], [0.5, 1], average="micro"), OptionError, r"'macro' or 'weighted', got"),
        (lambda: metrics.roc_auc_score([0, 1], [0, 1], sample_weight=[0, 1]), DataError, r"rows of both classes with"),
        (lambda: metrics.log_loss([0, 1], [2.0, 0.5]), DataError, r"probabilities in \[0, 1\], got -1 to 2"),
        (
            lambda: metrics.log_loss([0, 1], [[0.5, 0.1], [0.5, 0.5]]),
            DataError,
            r"add up to 1, got sums from 0\.6 to 1",
        ),
        (lambda: metrics.log_loss([0, 1, 1], [0.5, 0.5]), ShapeError, r"got 3 in y_true and 2 of probabilities"),
        (lambda: metrics.log_loss([0, 1], [0.5, 0.5], sample_weight=[1]), ShapeError, r"of shape \(2,\), got \(1,\)"),
        (lambda: metrics.log_loss([0, 1], [0.5, 0.5], sample_weight=[-1, 2]), DataError, r"weights >= 0, some above"),
        (lambda: metrics.r2_score([1.0, 2.0], [1.0]), ShapeError, r"of one shape, got \(2,\) and \(1,\)"),
        (lambda: metrics.mean_absolute_error([1.0, np.inf], [1.0, 1.0]), DataError, r"finite numbers in y_true"),
        (lambda: metrics.best_threshold([0, 1], [-1.0, 2.0]), DataError, r"probabilities in \[0, 1\], got -1 to 2"),
        (lambda: metrics.best_threshold([0, 1], [0.1, 0.2], "auc"), OptionError, r"among accuracy, .*, got 'auc'"),
        (lambda: metrics.best_threshold([0, 1], [0.1, 0.2], 3), OptionError, r"got 3\. Choose one of these"),
        (
            lambda: metrics.best_threshold([0, 1], [0.1, 0.2], metrics.f1_score, sample_weight=[1, 1]),
            OptionError,
            r"no sample_weight beside a function",
        ),
    ],
)
def test_bad_input(call, error, text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=text):
            call()


# -- weights that are odd --------------------------------------------------------------------------------------------
def test_the_highest_scores_may_be_of_rows_of_weight_0():
    y, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.6, 0.2])
    weight = np.array([0.0, 0.0, 1.0, 1.0])
    found = metrics.average_precision_score(y, scores, sample_weight=weight)
    assert found == metrics.average_precision_score(y[2:], scores[2:]) == 1.0


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_a_correlation_does_not_depend_on_the_size_of_weights(factor):
    y, answers = np.array([0, 1, 2, 1, 0, 2]), np.array([0, 1, 2, 2, 0, 1])
    expected = metrics.matthews_corrcoef(y, answers)
    assert metrics.matthews_corrcoef(y, answers, sample_weight=np.full(6, factor)) == pytest.approx(expected)

"""Splits, orders and batches: every row once, classes kept, the same on every library."""

from __future__ import annotations

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.backend import to_numpy
from xpnn.data.arrays import open_memmap
from xpnn.data.batching import batches, epoch_order, folds, split_off, stratified_indices, train_test_split
from xpnn.errors import DataError, LabelError, OptionError, ShapeError

try:
    import torch
except ImportError:
    torch = None
needs_torch = pytest.mark.skipif(torch is None, reason="needs torch: pip install torch")

DEVICE1, NO_FLOAT64 = strict.Device("device1"), strict.Device("no_float64")
LIBRARIES = {
    "numpy": np.asarray,
    "strict-device1": lambda a: strict.asarray(a, device=DEVICE1),
    "strict-no_float64": lambda a: strict.asarray(a, device=NO_FLOAT64),
    "torch": lambda a: torch.asarray(a),
}


@pytest.fixture(params=[pytest.param(name, marks=needs_torch if name == "torch" else ()) for name in LIBRARIES])
def asarray(request):
    return LIBRARIES[request.param]


def rows(n, width=3):
    return np.arange(n * width, dtype=np.float32).reshape(n, width), np.arange(n) % 3


@given(n=st.integers(1, 50), seed=st.integers(-3, 2**70), epoch=st.integers(0, 1000))
def test_epoch_order_is_a_permutation(n, seed, epoch):
    order = epoch_order(n, seed, epoch)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(order, epoch_order(n, seed, epoch))


def test_epoch_order_differs_by_epoch_and_seed_but_not_unshuffled():
    assert not np.array_equal(epoch_order(50, 0, 0), epoch_order(50, 0, 1))
    assert not np.array_equal(epoch_order(50, 0, 0), epoch_order(50, 1, 0))
    np.testing.assert_array_equal(epoch_order(50, 7, 3, shuffle=False), np.arange(50))
    with pytest.raises(OptionError, match=r"epoch_order: expected epoch >= 0, got -1\. Epochs count from 0"):
        epoch_order(5, 0, -1)


@settings(deadline=None)
@given(n=st.integers(1, 60), batch_size=st.integers(1, 70), epoch=st.integers(0, 5), shuffle=st.booleans())
def test_batches_cover_each_row_once_and_keep_pairs(n, batch_size, epoch, shuffle):
    X = np.arange(n, dtype=np.float64)[:, None] * [1.0, 10.0]
    y = np.arange(n)
    parts = list(batches(X, y, batch_size, 4, epoch, shuffle=shuffle))
    assert [len(p) for _, p in parts[:-1]] == [batch_size] * (len(parts) - 1)
    assert 1 <= len(parts[-1][1]) <= batch_size
    together = np.concatenate([p for _, p in parts])
    np.testing.assert_array_equal(together, epoch_order(n, 4, epoch, shuffle))
    np.testing.assert_array_equal(np.concatenate([p for p, _ in parts]), X[together])


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_the_same_on_every_library(asarray, shuffle):
    X, y = rows(11)
    expected = list(batches(X, y, 4, 1, 2, shuffle=shuffle))
    given_x, given_y = asarray(X), asarray(y)
    got = list(batches(given_x, given_y, 4, 1, 2, shuffle=shuffle))
    assert len(got) == len(expected) == 3
    for (x_got, y_got), (x_want, y_want) in zip(got, expected, strict=True):
        assert type(x_got) is type(given_x)
        assert x_got.device == given_x.device
        assert x_got.dtype == given_x.dtype
        assert y_got.dtype == given_y.dtype
        np.testing.assert_array_equal(to_numpy(x_got), x_want)
        np.testing.assert_array_equal(to_numpy(y_got), y_want)


@needs_torch
def test_targets_may_be_of_another_library():
    X, y = rows(5)
    (x_batch, y_batch), *_ = batches(torch.asarray(X), y.tolist(), 3)
    assert isinstance(x_batch, torch.Tensor)
    assert isinstance(y_batch, np.ndarray)


def test_unshuffled_batches_are_views():
    X, y = rows(6)
    x_batch, y_batch = next(batches(X, y, 4, shuffle=False))
    assert np.shares_memory(x_batch, X)
    assert np.shares_memory(y_batch, y)


def test_memory_maps_are_read_batch_by_batch(tmp_path):
    X, y = rows(9)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    x_map, y_map = open_memmap(tmp_path / "X.npy", tmp_path / "y.npy")
    for (x_got, y_got), (x_want, y_want) in zip(batches(x_map, y_map, 4), batches(X, y, 4), strict=True):
        assert type(x_got) is np.ndarray
        np.testing.assert_array_equal(x_got, x_want)
        np.testing.assert_array_equal(y_got, y_want)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda X, y: batches(X, y[:4], 2), ShapeError, r"batches: .*but X has 5, y has 4\. Pass one target"),
        (lambda X, y: batches(X[:0], y[:0], 2), DataError, r"batches: expected rows, got none\. Check how"),
        (
            lambda X, y: batches(X, y, 0),
            OptionError,
            r"expected batch_size >= 1, got 0\. For one batch pass 5",
        ),
        (lambda X, y: batches(X, 3.0, 2), ShapeError, "batches: expected y with rows, got a single value"),
        (lambda X, y: batches(X, y, 2, epoch=-1), OptionError, "expected epoch >= 0, got -1"),
    ],
)
def test_batches_refuse_at_the_call(call, error, words):
    with pytest.raises(error, match=words):
        call(*rows(5))


labels = st.lists(st.integers(0, 4), min_size=2, max_size=80)


@given(y=labels, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_a_split_is_disjoint_and_complete(y, fraction, seed):
    train, valid = stratified_indices(np.array(y), fraction, seed)
    assert len(train) >= 1
    assert len(valid) >= 1
    assert train.dtype == valid.dtype == np.int64
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), np.arange(len(y)))
    again = stratified_indices(np.array(y), fraction, seed)
    np.testing.assert_array_equal(valid, again[1])


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_classes_are_kept_within_one_row_and_never_emptied(counts, fraction, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train, valid = stratified_indices(y, fraction, seed)
    n = len(y)
    wanted = min(max(round(n * fraction), 1), n - 1)
    got = np.bincount(y[valid], minlength=len(counts))
    assert (np.abs(got - np.array(counts) * wanted / n) <= 1.0).all()
    assert set(y[train]) == set(range(len(counts)))
    # Only where each class must keep a training row can the drawn part be short.
    assert len(valid) == wanted or (got == np.array(counts) - 1).any()


@pytest.mark.parametrize(
    "y",
    [
        np.array([0, 0, 1, 1] * 5),
        np.array([True, True, False, False] * 5),
        np.array(["no", "no", "yes", "yes"] * 5),
        np.array(["no", "no", "yes", "yes"] * 5, dtype=object),
        pytest.param(torch and torch.asarray([0, 0, 1, 1] * 5), marks=needs_torch),
        strict.asarray([0, 0, 1, 1] * 5, device=DEVICE1),
        [0, 0, 1, 1] * 5,
    ],
    ids=["int", "bool", "str", "object", "torch", "strict", "list"],
)
def test_each_kind_of_label_is_stratified(y):
    _, valid = stratified_indices(y, 0.4, 1)
    assert sorted(to_numpy(y)[valid].tolist()) == sorted(to_numpy(y)[[0, 2] * 4].tolist())
    np.testing.assert_array_equal(valid, stratified_indices([0, 0, 1, 1] * 5, 0.4, 1)[1])


@pytest.mark.parametrize(
    "y", [np.linspace(0, 1, 20), np.eye(20, dtype=int), np.arange(20)], ids=["float", "one-hot", "singletons"]
)
def test_what_is_no_label_is_split_like_a_number_of_rows(y):
    np.testing.assert_array_equal(stratified_indices(y, 0.3, 2)[1], stratified_indices(20, 0.3, 2)[1])
    assert len(stratified_indices(20, 0.3, 2)[1]) == 6


@pytest.mark.parametrize(
    ("y", "fraction", "options", "error", "words"),
    [
        (1, 0.5, {}, DataError, r"expected at least 2 rows, got 1\. One row cannot be split"),
        ([], 0.5, {}, DataError, "stratified_indices: expected rows, got none"),
        (10, 3, {}, OptionError, r"expected a share between 0 and 1, got 3\. For k rows of 10 pass k / 10"),
        (10, 0.0, {}, OptionError, "expected a share between 0 and 1, got 0.0"),
        (
            np.array(["a", None, "b", float("nan")], dtype=object),
            0.5,
            {},
            LabelError,
            r"expected a label in each row, got 2 missing of 4\. Drop these rows",
        ),
        (
            [0.5, 1.5],
            0.5,
            {"stratify": True},
            LabelError,
            r"got float64 of shape \(2,\)\. Only labels have classes",
        ),
        (
            [0, 0, 7],
            0.5,
            {"stratify": True},
            LabelError,
            r"two rows or more of each class, got one of class 7",
        ),
    ],
)
def test_splits_refuse(y, fraction, options, error, words):
    with pytest.raises(error, match=words):
        stratified_indices(y, fraction, **options)


def test_train_test_split_keeps_pairs_and_weights(asarray):
    X, y = rows(40)
    parts = train_test_split(asarray(X), asarray(y), test_size=0.25, seed=3, sample_weight=np.arange(40.0))
    X_train, X_test, y_train, y_test, w_train, w_test = (to_numpy(p) for p in parts)
    assert type(parts[0]) is type(asarray(X))
    assert X_test.shape == (10, 3)
    picked = np.concatenate([w_train, w_test]).astype(int)
    np.testing.assert_array_equal(np.sort(picked), np.arange(40))
    np.testing.assert_array_equal(np.concatenate([X_train, X_test]), X[picked])
    np.testing.assert_array_equal(np.concatenate([y_train, y_test]), y[picked])
    assert (np.abs(np.bincount(y_test) - np.bincount(y) / 4) <= 1).all()
    assert (np.diff(picked[:30]) < 0).any(), "rows are shuffled"


def test_train_test_split_takes_the_same_rows_on_every_library(asarray):
    X, y = rows(20)
    for got, want in zip(train_test_split(asarray(X), asarray(y)), train_test_split(X, y), strict=True):
        np.testing.assert_array_equal(to_numpy(got), want)


def test_unshuffled_split_takes_the_last_rows_and_leaves_maps_lazy(tmp_path):
    X, y = rows(10)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    maps = open_memmap(tmp_path / "X.npy", tmp_path / "y.npy")
    X_train, X_test, _, y_test = train_test_split(*maps, test_size=0.3, shuffle=False)
    assert isinstance(X_train, np.memmap)
    assert isinstance(X_test, np.memmap)
    np.testing.assert_array_equal(X_test, X[7:])
    np.testing.assert_array_equal(y_test, y[7:])


def test_train_test_split_refuses():
    X, y = rows(10)
    with pytest.raises(ShapeError, match=r"but X has 10, y has 9\."):
        train_test_split(X, y[:9])
    with pytest.raises(ShapeError, match="sample_weight has 4"):
        train_test_split(X, y, sample_weight=np.ones(4))
    with pytest.raises(OptionError, match="expected shuffle=True with stratify=True, got shuffle=False"):
        train_test_split(X, y, stratify=True, shuffle=False)
    with pytest.raises(OptionError, match="expected a share between 0 and 1, got 5"):
        train_test_split(X, y, test_size=5)


def test_a_split_without_stratify_ignores_the_labels():
    X, y = rows(30)
    test = train_test_split(X, y, seed=5, stratify=False)[1]
    np.testing.assert_array_equal(np.sort(test[:, 0]) / 3, stratified_indices(30, 0.2, 5)[1])


def test_rows_are_split_off_by_their_numbers(asarray):
    rest, off = split_off(6, asarray(np.array([4, 0, 3])), "x")
    assert (rest.tolist(), off.tolist()) == ([1, 2, 5], [0, 3, 4])
    assert rest.dtype == off.dtype == np.int64
    assert [part.tolist() for part in split_off(3, [2], "x")] == [[0, 1], [2]]
    rest, off = stratified_indices(20, 0.3, 1)
    assert [part.tolist() for part in split_off(20, off[::-1], "x")] == [rest.tolist(), off.tolist()]


@pytest.mark.parametrize("bad", [[], [0, 0], [-1], [6], [0, 1, 2, 3, 4, 5], [[1]], [1.0], [True], 3])
def test_what_is_no_part_of_the_rows_is_refused(bad):
    with pytest.raises(DataError, match=r"^x: expected different numbers of rows, from 1 to 5 of 0 to 5, got"):
        split_off(6, bad, "x")


# folds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(10, 2), (11, 4), (7, 7)])
def test_folds_divide_the_rows_into_parts_of_one_size(n, k):
    parts = folds(n, k, seed=3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all((np.diff(part) > 0).all() for part in parts)
    assert [p.tolist() for p in parts] == [p.tolist() for p in folds(n, k, seed=3)]
    assert n == k or [p.tolist() for p in parts] != [p.tolist() for p in folds(n, k, seed=4)]


def test_folds_have_each_class_alike():
    y = np.array([0] * 30 + [1] * 15 + [2] * 5)
    assert [np.bincount(y[part]).tolist() for part in folds(y, 5)] == [[6, 3, 1]] * 5


def test_folds_of_other_numbers_than_there_can_be():
    for k in (1, 4):
        with pytest.raises(OptionError, match=rf"folds: expected 2 to 3 parts of 3 rows, got {k}"):
            folds(3, k)

"""Which rows, in which order: splits into parts, shuffles of epochs, cuts into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import array_api_compat
import numpy as np
import numpy.typing as npt

from .._typing import Array
from ..arguments import as_array, check_seed, is_count, number, same_length, shown
from ..backend import to_numpy
from ..errors import DataError, LabelError, OptionError, ShapeError
from ..frames import is_gap
from ..random import stream

__all__ = ["batches", "epoch_order", "folds", "hold_out", "split_off", "stratified_indices", "train_test_split"]

Indices: TypeAlias = "npt.NDArray[np.int64]"


def epoch_order(n: int, seed: int = 0, epoch: int = 0, shuffle: bool = True) -> Indices:
    """Return the order in which an epoch visits the rows.

    Parameters
    ----------
    n : int
        Number of rows.
    seed : int
        The user's seed.
    epoch : int
        Number of the epoch, from 0; each has an order of its own.
    shuffle : bool
        False: as they lie.

    Returns
    -------
    ndarray of shape (n,), int64
        A permutation of 0..n-1, the same for every backend.

    Raises
    ------
    OptionError
        If `epoch` is negative.

    Examples
    --------
    >>> epoch_order(5, seed=0, epoch=1).tolist() == epoch_order(5, seed=0, epoch=1).tolist()
    True
    >>> epoch_order(3, shuffle=False)
    array([0, 1, 2])
    """
    if not (number(epoch) >= 0 and number(epoch) % 1 == 0):
        raise OptionError(f"epoch_order: expected epoch >= 0, got {shown(epoch)}. Epochs count from 0.")
    check_seed(seed, "epoch_order")
    if not shuffle:
        return np.arange(n, dtype=np.int64)
    order: Indices = stream(seed, "shuffle", int(epoch)).permutation(n)
    return order


def batches(
    X: Any, y: Any, batch_size: int = 32, seed: int = 0, epoch: int = 0, *, shuffle: bool = True
) -> Iterator[tuple[Array, Array]]:
    """Cut one epoch into batches.

    Parameters
    ----------
    X : array of shape (n, ...)
        Inputs, of any array library; a memory map is read batch by batch.
    y : array of shape (n, ...)
        Targets, of the same or another library.
    batch_size : int
        Rows in a batch; the last one has the rows that are left.
    seed : int
        Seed of the shuffle.
    epoch : int
        Number of the epoch, from 0.
    shuffle : bool
        False: in the order of the rows, and without a copy where the library has views.

    Returns
    -------
    iterator of (X_batch, y_batch)
        Arrays of the library and device that `X` and `y` are on; each row comes exactly once.

    Raises
    ------
    DataError
        If there are no rows.
    OptionError
        If `batch_size` or `epoch` is out of range.
    ShapeError
        If `X` and `y` differ in their number of rows.

    Examples
    --------
    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> [len(y_batch) for _, y_batch in batches(X, y, 2)]
    [2, 2, 1]
    """
    X, y = as_array(X, "batches", "X"), as_array(y, "batches", "y")
    n = _common_length("batches", X=X, y=y)
    if not is_count(batch_size):
        raise OptionError(f"batches: expected batch_size >= 1, got {shown(batch_size)}. For one batch pass {n}.")
    order = epoch_order(n, seed, epoch) if shuffle else None
    cut_x, cut_y = _cutter(X, order), _cutter(y, order)
    # A generator expression, so that the checks above run at the call and not at the first batch.
    return (
        (cut_x(start, min(start + batch_size, n)), cut_y(start, min(start + batch_size, n)))
        for start in range(0, n, batch_size)
    )


def stratified_indices(
    y_or_n: Any, fraction: float, seed: int = 0, *, stratify: bool | Literal["auto"] = "auto"
) -> tuple[Indices, Indices]:
    r"""Draw a share of the rows, of each class alike.

    With :math:`n_k` rows of class *k* and *m* rows to draw of *n*, a class gives
    :math:`\lfloor m\, n_k / n \rfloor` rows or one more; the classes with the largest remainders give one
    more (Hamilton's method, ties at random), but never their last row.

    Parameters
    ----------
    y_or_n : array of shape (n,) or (n, ...), or int
        The targets; or the number of rows, for a plain random draw.
    fraction : float
        Share to draw, in (0, 1); at least one row is drawn and one is left.
    seed : int
        Seed of the draw.
    stratify : bool or "auto"
        "auto": by class where the targets are labels (whole numbers, booleans or strings, one for each row)
        and each class has two rows or more; True makes it an error where they are not.

    Returns
    -------
    rest : ndarray of int64
        Rows to train on, ascending.
    drawn : ndarray of int64
        Rows held out, ascending.

    Raises
    ------
    DataError
        If there are fewer than two rows.
    LabelError
        If a label is missing; or with ``stratify=True`` if the targets are no labels, or a class has one row.
    OptionError
        If `fraction` is not in (0, 1).

    Examples
    --------
    >>> y = np.array([0, 0, 0, 0, 1, 1])
    >>> train, valid = stratified_indices(y, 0.5)
    >>> np.bincount(y[valid]).tolist(), len(train)
    ([2, 1], 3)
    """
    labels = None if isinstance(y_or_n, int) else to_numpy(y_or_n)
    n = int(y_or_n) if labels is None else _common_length("stratified_indices", y=labels)
    if n < 2:
        raise DataError(f"stratified_indices: expected at least 2 rows, got {n}. One row cannot be split.")
    _check_stratify(stratify, "stratified_indices")
    if not 0.0 < number(fraction) < 1.0:
        raise OptionError(
            f"stratified_indices: expected a share between 0 and 1, got {shown(fraction)}. "
            f"For k rows of {n} pass k / {n}."
        )
    check_seed(seed, "stratified_indices")
    m = min(max(round(n * fraction), 1), n - 1)
    rng = stream(seed, "split")
    order = rng.permutation(n)
    codes = None if labels is None or stratify is False else _classes(labels, required=stratify is True)
    if codes is None:
        drawn = order[:m].copy()
    else:
        counts = np.bincount(codes)
        quota = _quotas(counts, m, rng)
        # Rows class by class, in random order within each; the first rows of each class are drawn.
        order = order[np.argsort(codes[order], kind="stable")]
        rank = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
        drawn = order[rank < np.repeat(quota, counts)]
    del order
    return split_off(n, drawn, "stratified_indices")


def hold_out(among: Indices, labels: Any, fraction: float, seed: int = 0) -> tuple[Indices, Indices]:
    """Divide some row numbers into those to keep and those to hold out, of each class alike if there are labels.

    Labels are class numbers of all rows, None for a plain draw; a fraction of 0 holds none out.

    Examples
    --------
    >>> hold_out(np.arange(4), None, 0.0)
    (array([0, 1, 2, 3]), array([], dtype=int64))
    """
    if not fraction:
        return among, among[:0]
    rest, drawn = stratified_indices(len(among) if labels is None else labels[among], fraction, seed)
    return among[rest], among[drawn]


def folds(y_or_n: Any, k: int, seed: int = 0, *, stratify: bool | Literal["auto"] = "auto") -> list[Indices]:
    """Divide the rows into `k` parts of sizes as equal as can be, of each class alike.

    Parameters
    ----------
    y_or_n : array of shape (n,) or (n, ...), or int
        The targets; or the number of rows, for a plain random division.
    k : int
        Number of parts, at least 2 and at most n.
    seed : int
        Seed of the draw.
    stratify : bool or "auto"
        As for `stratified_indices`.

    Returns
    -------
    list of ndarray of int64
        The rows of each part, ascending; each row is in one of them.

    Raises
    ------
    OptionError
        If `k` is out of its range.
    LabelError
        As for `stratified_indices`.

    Examples
    --------
    >>> y = np.array([0, 0, 0, 0, 1, 1])
    >>> [np.bincount(y[part]).tolist() for part in folds(y, 2)]
    [[2, 1], [2, 1]]
    """
    labels = None if isinstance(y_or_n, int) else to_numpy(y_or_n)
    n = y_or_n if labels is None else _common_length("folds", y=labels)
    if not 2 <= k <= n:
        raise OptionError(f"folds: expected 2 to {n} parts of {n} rows, got {k}. Try k={min(5, n)}.")
    rest, parts = np.arange(n, dtype=np.int64), []
    for left in range(k, 1, -1):
        keep, drawn = stratified_indices(
            len(rest) if labels is None else labels[rest], 1.0 / left, seed, stratify=stratify
        )
        parts.append(rest[drawn])
        rest = rest[keep]
    return [*parts, rest]


def split_off(n: int, rows: Any, where: str) -> tuple[Indices, Indices]:
    """Return the numbers 0 to n-1 but `rows`, and `rows`, both ascending; `where` names the caller in errors.

    Examples
    --------
    >>> split_off(4, [3, 1], "example")
    (array([0, 2]), array([1, 3]))
    """
    numbers = np.asarray(to_numpy(rows))
    ascending = np.sort(numbers.reshape(-1))
    whole = numbers.ndim == 1 and numbers.dtype.kind in "iu" and 0 < len(numbers) < n
    if not whole or ascending[0] < 0 or ascending[-1] >= n or (np.diff(ascending) == 0).any():
        raise DataError(
            f"{where}: expected different numbers of rows, from 1 to {n - 1} of 0 to {n - 1}, got {numbers.size} of "
            f"dtype {numbers.dtype} and shape {numbers.shape}. Name the rows to hold out, and leave some to train on."
        )
    held_out = np.zeros(n, dtype=np.bool_)
    held_out[ascending] = True
    np.logical_not(held_out, out=held_out)
    return np.flatnonzero(held_out).astype(np.int64, copy=False), ascending.astype(np.int64, copy=False)


def train_test_split(
    X: Any,
    y: Any,
    *,
    test_size: float = 0.2,
    seed: int = 0,
    stratify: bool | Literal["auto"] = "auto",
    shuffle: bool = True,
    sample_weight: Any = None,
) -> tuple[Array, ...]:
    """Split inputs and targets into a part to train on and a part to test on.

    Parameters
    ----------
    X : array of shape (n, ...)
        Inputs, of any array library.
    y : array of shape (n, ...)
        Targets.
    test_size : float
        Share of the test part, in (0, 1).
    seed : int
        Seed of the split.
    stratify : bool or "auto"
        Keep the shares of the classes, see `stratified_indices`.
    shuffle : bool
        False: the last rows are the test part, for rows in order of time.  The parts are then views (a memory
        map stays one); shuffled parts are copies, so for maps larger than memory use `stratified_indices`.
    sample_weight : array of shape (n,), optional
        Split along with the rows.

    Returns
    -------
    X_train, X_test, y_train, y_test : array
        Of the library and device of `X` and `y`; then w_train and w_test if `sample_weight` is given.

    Raises
    ------
    DataError
        If there are fewer than two rows.
    LabelError
        See `stratified_indices`.
    OptionError
        If `test_size` is not in (0, 1), or ``stratify=True`` goes with ``shuffle=False``.
    ShapeError
        If the arrays differ in their number of rows.

    Examples
    --------
    >>> X, y = np.arange(20.0).reshape(10, 2), np.array([0, 1] * 5)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4)
    >>> X_train.shape, sorted(y_test.tolist())
    ((6, 2), [0, 0, 1, 1])
    """
    _check_stratify(stratify, "train_test_split")
    given = {"X": X, "y": y} | ({} if sample_weight is None else {"sample_weight": sample_weight})
    parts = {name: as_array(a, "train_test_split", name) for name, a in given.items()}
    n = _common_length("train_test_split", **parts)
    if not shuffle and stratify is True:
        raise OptionError(
            "train_test_split: expected shuffle=True with stratify=True, got shuffle=False. "
            "The last rows cannot be chosen by class: leave one of the two out."
        )
    by_class = stratify if shuffle else False
    train, test = stratified_indices(parts["y"] if by_class else n, test_size, seed, stratify=by_class)
    order = None
    if shuffle:
        rng = stream(seed, "split", 1)
        order = np.concatenate([rng.permutation(train), rng.permutation(test)])
    cuts = [_cutter(a, order) for a in parts.values()]
    return tuple(part for cut in cuts for part in (cut(0, len(train)), cut(len(train), n)))


def _common_length(where: str, **arrays: Array) -> int:
    for name, a in arrays.items():
        if a.ndim == 0:
            raise ShapeError(
                f"{where}: expected {name} with rows, got a single value. Pass an array of shape (n, ...)."
            )
    n = same_length(where, **arrays)
    if n == 0:
        raise DataError(f"{where}: expected rows, got none. Check how the data was selected.")
    return n


def _cutter(a: Array, order: Indices | None) -> Callable[[int, int], Array]:
    """Return a function of (start, stop) that gives these rows of `a`, counted in `order` if there is one."""
    if order is None:
        return lambda start, stop: a[start:stop, ...]
    if isinstance(a, np.ndarray):
        return lambda start, stop: a[order[start:stop]]
    xp, device = array_api_compat.array_namespace(a), array_api_compat.device(a)
    dtype = xp.__array_namespace_info__().default_dtypes(device=device)["indexing"]
    # The whole order moves to the device once; then each batch is a gather there, without a transfer.
    rows = xp.asarray(order, dtype=dtype, device=device)
    return lambda start, stop: xp.take(a, rows[start:stop], axis=0)


def _check_stratify(stratify: Any, where: str) -> None:
    if not (isinstance(stratify, bool | np.bool_) or (isinstance(stratify, str) and stratify == "auto")):
        raise OptionError(
            f"{where}: expected stratify to be True, False or 'auto', got {shown(stratify)}. True keeps the shares of "
            "the classes of y itself."
        )


def _classes(y: npt.NDArray[Any], required: bool) -> Indices | None:
    """Return the class number of each row; None if `y` is not labels or a class has a single row."""
    if y.dtype.kind == "O":
        gaps = sum(is_gap(v) or v != v for v in y.ravel())
        if gaps:
            raise LabelError(
                f"stratified_indices: expected a label in each row, got {gaps} missing of {y.size}. "
                f"Drop these rows first, for example with keep = [v is not None for v in y]."
            )
        y = y.astype(str) if all(isinstance(v, str) for v in y.ravel()) else y
    if y.ndim != 1 or y.dtype.kind not in "biuUT":
        if required:
            raise LabelError(
                f"stratified_indices: expected whole numbers, booleans or strings of shape (n,), got "
                f"{y.dtype} of shape {y.shape}. Only labels have classes: pass stratify=False."
            )
        return None
    classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        if required:
            lonely = classes[counts.argmin()]
            raise LabelError(
                f"stratified_indices: expected two rows or more of each class, got one of class {lonely}. "
                f"Drop or merge the class, or pass stratify=False."
            )
        return None
    return codes.astype(np.int64, copy=False)


def _quotas(counts: Indices, m: int, rng: np.random.Generator) -> Indices:
    """Divide `m` drawn rows over the classes, in whole numbers (floats would round 3 down to 2)."""
    n = int(counts.sum())
    quota, remainder = np.divmod(counts * m, n)
    rank = np.lexsort((rng.random(len(counts)), -remainder))
    rank = rank[quota[rank] + 1 < counts[rank]]
    quota[rank[: m - int(quota.sum())]] += 1
    return quota

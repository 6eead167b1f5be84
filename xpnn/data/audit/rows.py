"""Rows that repeat, and two files side by side: what is to be learnt from, and what is to be tested on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..targets import label_advice
from .column import Column, alike, many, many_do, quoted, rows_alike, share
from .features import is_identifier
from .findings import AuditFinding

__all__ = ["check_labels_of_both", "check_repeats", "check_shift", "check_test_columns"]

# Thresholds, each a judgement.
_OFTEN = 0.01  # share of repeated rows that is more than chance
_SHIFT, _SURE = 0.25, 5.0  # difference of means in standard deviations, and in its own standard error
_SHIFT_SHARES = 0.1  # total variation between shares of categories, or difference of shares of gaps
_UNSEEN = 0.05  # share of test rows with unseen categories


# -- repeats ------------------------------------------------------------------------------------------------------
def check_repeats(
    features: Sequence[Column], target: Column | None, test: Sequence[Column] | None
) -> Iterator[AuditFinding]:
    """Look for rows that stand twice in the table, and for rows of it that stand in the test table too.

    Parameters
    ----------
    features : sequence of Column
        All columns but the target.
    target : Column or None
        The target.
    test : sequence of Column or None
        The same features of the test table.

    Yields
    ------
    AuditFinding
        What is wrong or worth knowing.
    """
    compared = [column for column in features if not is_identifier(column)]
    if not compared:
        return
    n = compared[0].n
    rows = rows_alike(compared if target is None else [*compared, target])
    repeats = n - len(np.unique(rows))
    if repeats:
        seen = f"{many_do(repeats, 'row', 'repeat', f'({share(repeats, n)})')} an earlier one in every column."
        often = repeats >= _OFTEN * n
        advice = "Drop repeats before you split: they land on both sides." if often else "Perhaps chance; look at some."
        yield AuditFinding("warning" if often else "note", "duplicate rows", None, repeats, seen, advice)
    if test is None:
        return
    by_name = {column.name: column for column in test}
    compared = [column for column in compared if column.name in by_name]
    if not compared:
        return
    rows = rows_alike(compared, [by_name[column.name] for column in compared])
    known = np.isin(rows[n:], rows[:n])
    shared, n_test = int(known.sum()), len(known)
    if not shared:
        return
    # A coarse table repeats itself, and then also across files.
    repeated = 1 - len(np.unique(rows[:n])) / n
    coarse = repeated >= 0.5 * shared / n_test
    leak = shared >= _OFTEN * n_test and not coarse
    both = many_do(shared, "row", "stand", f"of the test table ({share(shared, n_test)})")
    seen = f"{both} in the training table too"
    seen += f"; of the training rows {share(repeated, 1)} repeat each other." if coarse else "."
    advice = "Take them out of one of the tables: the score counts what was learnt by heart."
    yield AuditFinding("error" if leak else "warning", "shared rows", None, shared, seen, advice)


# -- two tables -----------------------------------------------------------------------------------------------------
def check_test_columns(train: Sequence[Column], test: Sequence[Column]) -> Iterator[AuditFinding]:
    """Compare the columns of two tables: which are there, and whether they hold the same kind of value."""
    by_name = {column.name: column for column in test}
    absent = [column.name for column in train if column.name not in by_name]
    if absent:
        seen = f"The test table has no {quoted(absent)}."
        advice = "Take the same columns in both, under the same names."
        yield AuditFinding("error", "columns of the test table", None, len(absent), seen, advice)
    more = [column.name for column in test if column.name not in {c.name for c in train}]
    if more:
        seen = f"Only the test table has {quoted(more)}."
        yield AuditFinding(
            "note", "columns of the test table", None, len(more), seen, "Nothing: they are not looked at."
        )
    for column in train:
        other = by_name.get(column.name)
        if other is None or not other.present.any() or not column.present.any():
            continue
        if (column.numbers is None) != (other.numbers is None):
            kinds = ["numbers" if c.numbers is not None else "text" for c in (column, other)]
            words = quoted(other.levels if other.numbers is None else column.levels)
            seen = f"{kinds[0].capitalize()} in training, {kinds[1]} in the test table; such as {words}."
            advice = "Mend the cells that are no numbers, or name them (--missing)."
            yield AuditFinding("error", "columns of the test table", column.name, 1, seen, advice)


def check_labels_of_both(target: Column, test: Column) -> Iterator[AuditFinding]:
    """Compare the labels of two tables."""
    rows = dict(zip(test.keys, test.counts.tolist(), strict=True))
    known = set(target.keys)
    unseen = {label for label in rows if label not in known}
    n, n_test = sum(rows[label] for label in unseen), sum(rows.values())
    if unseen:
        pairs = [
            group for group in alike([*sorted(unseen), *sorted(known)]) if unseen & set(group) and known & set(group)
        ]
        who = many_do(n, "row", "have", f"of the test table ({share(n, n_test)})")
        if pairs:
            seen = f"Labels of the test table look like others of training: {quoted(pairs[0])}; {who} such."
            yield AuditFinding("error", "labels alike", target.name, n, seen, label_advice(unseen, known))
        else:
            seen = f"{who} labels that training never saw: {quoted(sorted(unseen))}."
            yield AuditFinding("error", "unseen labels", target.name, n, seen, label_advice(unseen, known))
        return  # whoever counts further, counts apart what belongs together
    absent = [label for label in target.keys if label not in rows]
    if absent:
        seen = f"{many(len(absent), 'label')} of training never occur in the test table: {quoted(absent)}."
        advice = "The test says nothing of them: split anew, by class."
        yield AuditFinding("note", "labels not tested", target.name, len(absent), seen, advice)


def check_shift(train: Sequence[Column], test: Sequence[Column]) -> Iterator[AuditFinding]:
    """Compare the values of two tables, column by column."""
    by_name: Mapping[str, Column] = {column.name: column for column in test}
    for column in train:
        other = by_name.get(column.name)
        if other is None or is_identifier(column):
            continue
        yield from _shift_of_gaps(column, other)
        if not column.present.any() or not other.present.any():
            continue
        if column.numbers is not None and other.numbers is not None:
            yield from _shift_of_means(column, other)
        elif column.numbers is None and other.numbers is None:
            yield from _shift_of_shares(column, other)


_LIKE_TRAINING = "See where the tables come from: the score holds for rows like those of the test table."


def _shift_of_gaps(column: Column, other: Column) -> Iterator[AuditFinding]:
    shares = [1.0 - float(c.present.mean()) for c in (column, other)]
    if abs(shares[1] - shares[0]) >= _SHIFT_SHARES and min(column.n, other.n) >= 20:
        seen = f"{share(shares[0], 1)} miss it in training, {share(shares[1], 1)} in the test table."
        yield AuditFinding("warning", "shift", column.name, shares[1] - shares[0], seen, _LIKE_TRAINING)


def _shift_of_means(column: Column, other: Column) -> Iterator[AuditFinding]:
    a, b = column.finite, other.finite
    if min(len(a), len(b)) < 2:
        return
    spread = float(a.std())
    off = float(b.mean() - a.mean())
    error = math.sqrt(float(a.var()) / len(a) + float(b.var()) / len(b))
    if abs(off) <= _SHIFT * spread or abs(off) <= _SURE * error:
        return
    size = off / spread if spread else math.copysign(math.inf, off)
    off_by = f"{abs(size):.2f} standard deviations {'higher' if off > 0 else 'lower'}"
    seen = f"Its mean is {off_by} in the test table: {b.mean():.4g} and {a.mean():.4g}."
    yield AuditFinding("warning", "shift", column.name, size, seen, _LIKE_TRAINING)


def _shift_of_shares(column: Column, other: Column) -> Iterator[AuditFinding]:
    names = sorted({*column.keys, *other.keys})
    p, q = (_shares(c, names) for c in (column, other))
    n, m = int(column.counts.sum()), int(other.counts.sum())
    known = set(column.keys)
    unseen = [name for name in other.keys if name not in known]
    if unseen:
        rows = int(
            sum(count for name, count in zip(other.keys, other.counts.tolist(), strict=True) if name not in known)
        )
        often = rows >= _UNSEEN * m
        who = many_do(rows, "row", "hold", f"of the test table ({share(rows, m)})")
        seen = f"{who} categories that training never saw: {quoted(unseen)}."
        advice = "See whether they are misspelt." if not often else _LIKE_TRAINING
        yield AuditFinding("warning" if often else "note", "unseen categories", column.name, rows, seen, advice)
    distance = 0.5 * float(np.abs(p - q).sum())
    mean = (n * p + m * q) / (n + m)
    chance = 0.5 * float(np.sqrt(2 / math.pi * mean * (1 - mean) * (1 / n + 1 / m)).sum())  # of equal distributions
    if distance > _SHIFT_SHARES and distance > 3 * chance:
        k = int(np.abs(p - q).argmax())
        both = f"{share(p[k], 1)} in training, {share(q[k], 1)} in the test table"
        seen = f"Shares of categories differ: {names[k]!r} has {both}."
        yield AuditFinding("warning", "shift", column.name, distance, seen, _LIKE_TRAINING)


def _shares(column: Column, names: Sequence[str]) -> npt.NDArray[np.float64]:
    found = dict(zip(column.keys, column.counts.tolist(), strict=True))
    rows = np.array([found.get(name, 0) for name in names], dtype=np.float64)
    rows /= rows.sum()
    return rows

"""Rows that repeat, and two files side by side: what is to be learnt from, and what is to be tested on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..columns import quote
from ..targets import label_advice
from .column import Codes, Column, alike, many, many_do, rows_alike, share
from .findings import AuditFinding, Severity
from .text import hardly_repeats

__all__ = ["check_labels_of_both", "check_repeats", "check_shift", "check_test_columns"]

# Thresholds, each a judgement.
_OFTEN = 0.01  # share of repeated rows that is more than chance
_SHIFT, _SURE = 0.25, 5.0  # difference of means in standard deviations, and in its own standard error
_SHIFT_SHARES = 0.1  # total variation between shares of categories, or difference of shares of gaps
_UNSEEN = 0.05  # share of test rows with unseen categories


# Columns of the table beside those of the test table with the same names.
Pairs: TypeAlias = Sequence[tuple[Column, Column]]


# -- repeats ------------------------------------------------------------------------------------------------------
def check_repeats(
    features: Sequence[Column], target: Column | None, pairs: Pairs, held_out: npt.ArrayLike | None = None
) -> Iterator[AuditFinding]:
    """Look for rows that stand twice in the table, and for rows of it that stand in the test table too.

    `held_out` are the numbers of the rows that will be tested on.
    """
    compared = [column for column in features if not column.identifies]
    if not compared:
        return
    n = compared[0].n
    rows = rows_alike(compared if target is None else [*compared, target])
    repeats = n - len(np.unique(rows))
    if repeats:
        seen = f"{many_do(repeats, 'row', 'repeat', f'({share(repeats, n)})')} an earlier one in every column"
        seen += f"{_on_both_sides(rows, held_out)}."
        often = repeats >= _OFTEN * n
        advice = "Drop repeats before you split: they land on both sides." if often else "Perhaps chance; look at some."
        yield AuditFinding("warning" if often else "note", "duplicate rows", None, repeats, seen, advice)
    chosen = set(compared)
    pairs = [pair for pair in pairs if pair[0] in chosen]
    if not pairs:
        return
    rows = rows_alike([column for column, _ in pairs], [other for _, other in pairs])
    known = np.isin(rows[n:], rows[:n])
    shared, n_test = int(known.sum()), len(known)
    if not shared:
        return
    # A coarse table repeats itself, and then also across files.
    repeated = 1 - len(np.unique(rows[:n])) / n
    coarse = repeated >= 0.5 * shared / n_test
    often = shared >= _OFTEN * n_test
    both = many_do(shared, "row", "stand", f"of the test table ({share(shared, n_test)})")
    seen = f"{both} in the training table too"
    seen += f"; of the training rows {share(repeated, 1)} repeat each other." if coarse else "."
    advice = "Take them out of one of the tables: the score counts what was learnt by heart."
    severity: Severity = "note" if not often else "warning" if coarse else "error"
    yield AuditFinding(severity, "shared rows", None, shared, seen, advice)


def _on_both_sides(rows: Codes, held_out: npt.ArrayLike | None) -> str:
    """Say how many of the rows held out equal one of the others."""
    drawn = np.zeros(len(rows), dtype=bool)
    drawn[np.asarray([] if held_out is None else held_out, dtype=np.int64)] = True
    both = int(np.isin(rows[drawn], rows[~drawn]).sum())
    return f"; {many_do(both, 'row', 'equal', f'of the {drawn.sum():,} held out')} one trained on" if both else ""


# -- two tables -----------------------------------------------------------------------------------------------------
def check_test_columns(train: Sequence[Column], test: Sequence[Column], pairs: Pairs) -> Iterator[AuditFinding]:
    """Compare the columns of two tables: which are there, and whether they hold the same kind of value."""
    names, names_of_test = (dict.fromkeys(column.name for column in columns) for columns in (train, test))
    if absent := [name for name in names if name not in names_of_test]:
        seen = f"The test table has no {quote(absent, 3)}."
        advice = "Take the same columns in both, under the same names."
        yield AuditFinding("error", "columns of the test table", None, len(absent), seen, advice)
    if more := [name for name in names_of_test if name not in names]:
        seen, advice = f"Only the test table has {quote(more, 3)}.", "Nothing: they are not looked at."
        yield AuditFinding("note", "columns of the test table", None, len(more), seen, advice)
    for column, other in pairs:
        if not other.present.any() or not column.present.any():
            continue
        if (column.numbers is None) != (other.numbers is None):
            kinds = ["numbers" if c.numbers is not None else "text" for c in (column, other)]
            words = quote(other.levels if other.numbers is None else column.levels, 3)
            seen = f"{kinds[0].capitalize()} in training, {kinds[1]} in the test table; such as {words}."
            advice = "Mend the cells that are no numbers, or name them (--missing)."
            yield AuditFinding("error", "columns of the test table", column.name, 1, seen, advice)


def check_labels_of_both(target: Column, test: Column) -> Iterator[AuditFinding]:
    """Compare the labels of two tables."""
    rows, known = test.rows, set(target.rows)
    unseen = rows.keys() - known
    n, n_test = sum(rows[label] for label in unseen), sum(rows.values())
    if unseen:
        groups = alike([*sorted(unseen), *sorted(known)])
        like = next((group for group in groups if unseen & set(group) and known & set(group)), None)
        who = many_do(n, "row", "have", f"of the test table ({share(n, n_test)})")
        if like:
            seen = f"Labels of the test table look like others of training: {quote(like, 3)}; {who} such."
            yield AuditFinding("error", "labels alike", target.name, n, seen, label_advice(unseen, known))
        else:
            seen = f"{who} labels that training never saw: {quote(sorted(unseen), 3)}."
            yield AuditFinding("error", "unseen labels", target.name, n, seen, label_advice(unseen, known))
        return  # whoever counts further, counts apart what belongs together
    if absent := [label for label in target.rows if label not in rows]:
        seen = f"{many(len(absent), 'label')} of training never occur in the test table: {quote(absent, 3)}."
        advice = "The test says nothing of them: split anew, by class."
        yield AuditFinding("note", "labels not tested", target.name, len(absent), seen, advice)


def check_shift(pairs: Pairs) -> Iterator[AuditFinding]:
    """Compare the values of two tables, column by column."""
    for column, other in pairs:
        if column.identifies:
            continue
        yield from _shift_of_gaps(column, other)
        if column.dates or hardly_repeats(column):
            continue  # most words are new anywhere
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
    names = sorted({*column.rows, *other.rows})
    n, m = int(column.counts.sum()), int(other.counts.sum())
    p, q = (np.array([c.rows.get(name, 0) for name in names]) / c.counts.sum() for c in (column, other))
    if unseen := [name for name in other.rows if name not in column.rows]:
        rows = sum(other.rows[name] for name in unseen)
        often = rows >= _UNSEEN * m
        who = many_do(rows, "row", "hold", f"of the test table ({share(rows, m)})")
        seen = f"{who} categories that training never saw: {quote(unseen, 3)}."
        advice = _LIKE_TRAINING if often else "See whether they are misspelt."
        yield AuditFinding("warning" if often else "note", "unseen categories", column.name, rows, seen, advice)
    distance = 0.5 * float(np.abs(p - q).sum())
    mean = (n * p + m * q) / (n + m)
    chance = 0.5 * float(np.sqrt(2 / math.pi * mean * (1 - mean) * (1 / n + 1 / m)).sum())  # of equal distributions
    if distance > _SHIFT_SHARES and distance > 3 * chance:
        k = int(np.abs(p - q).argmax())
        both = f"{share(p[k], 1)} in training, {share(q[k], 1)} in the test table"
        seen = f"Shares of categories differ: {names[k]!r} has {both}."
        yield AuditFinding("warning", "shift", column.name, distance, seen, _LIKE_TRAINING)

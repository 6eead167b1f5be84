"""Faults of single columns, and of columns side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..columns import as_option
from .column import FEW_ROWS, Column, many, many_do, share
from .findings import AuditFinding
from .text import check_words, check_written

__all__ = ["check_feature", "check_numbers", "check_side_by_side"]

# Thresholds, each a judgement: high enough that ordinary tables stay silent.
_MOSTLY = 0.5  # share of missing values from which a column is in doubt
_NEARLY = 0.99  # share of one value from which a column tells next to nothing
_FAR, _VERY_FAR = 10.0, 100.0  # interquartile ranges from the middle half of the values
_SKEWED = 3.0  # standardized third moment; an exponential distribution has 2
_SCALES = 1000.0  # ratio of standard deviations
_HEAP = 3.0  # rows of a value at the end, compared with frequent others


def check_feature(column: Column, *, numeric: bool = False) -> Iterator[AuditFinding]:
    """Look at one column by itself; if it is said to be `numeric`, text in it is an error."""
    present = int(column.present.sum())
    missing, leave_out = column.n - present, f"Leave it out (--drop {as_option(column.name)})."
    if not present:
        seen = f"All {many(column.n, 'row')} miss it."
        yield AuditFinding("warning", "no values", column.name, column.n, seen, leave_out)
        return
    yield from check_written(column, numeric=numeric)
    if missing:
        mostly = missing >= _MOSTLY * column.n
        seen = f"{many_do(missing, 'row', 'miss', f'of {column.n:,} ({share(missing, column.n)})')} it."
        advice = "TableEncoder fills and flags gaps; elsewhere impute them."
        advice = f"See why, or leave it out (--drop {as_option(column.name)})." if mostly else advice
        yield AuditFinding("warning" if mostly else "note", "missing values", column.name, missing, seen, advice)
    if len(column.levels) == 1:
        seen = f"Every value{' that is there' if missing else ''} is {column.levels[0]!r}."
        advice = "That it is there is all it tells: make it a yes or no." if missing else leave_out
        yield AuditFinding("warning", "constant", column.name, 1, seen, advice)
        return
    top = int(column.counts.argmax())
    if column.counts[top] >= _NEARLY * present:
        others = present - int(column.counts[top])
        seen = f"All but {many(others, 'row')} hold {column.levels[top]!r} ({share(column.counts[top], present)})."
        yield AuditFinding("note", "nearly constant", column.name, others, seen, "See whether the score misses it.")
    if column.numbers is not None:
        yield from check_numbers(column)
    elif column.doubt is None:
        yield from check_words(column, numeric=numeric)
    if column.identifies:
        seen = f"Each of the {many(present, 'row')} has a value of its own."
        if column.numbers is not None:
            ends = f"{column.finite.min():.15g} to {column.finite.max():.15g}"
            seen = f"It numbers the rows from {ends}: each of the {many(present, 'row')} has a value of its own."
        yield AuditFinding("warning", "identifier", column.name, present, seen, leave_out)


# -- numbers ----------------------------------------------------------------------------------------------------
def check_numbers(column: Column) -> Iterator[AuditFinding]:
    """Look at the distribution of a column of numbers."""
    finite = column.finite
    if infinite := int(column.present.sum()) - len(finite):
        seen = f"{many_do(infinite, 'row', 'hold')} infinity or more than 1e100."
        advice = "Replace them, or leave the cells empty to have them imputed."
        yield AuditFinding("error", "infinite", column.name, infinite, seen, advice)
    if (code := _stand_in(finite)) is not None:
        rows = int((finite == code).sum())
        seen = f"{many_do(rows, 'row', 'hold')} {code:g}, apart from all others: perhaps a code for no value, or a cap."
        advice = f"If it is a code, name it beside the other words for nothing (--missing={code:g},NA,?)."
        yield AuditFinding("warning", "stand-in value", column.name, rows, seen, advice)
        finite = finite[finite != code]
    if len(finite) < FEW_ROWS:
        return
    low, high = np.quantile(finite, [0.25, 0.75])
    if high > low:
        off = np.maximum(low - finite, finite - high) / (high - low)
        if far := int((off > _FAR).sum()):
            worst = int(off.argmax())
            very = off[worst] > _VERY_FAR
            seen = (
                f"{many_do(far, 'value', 'lie')} more than {_FAR:g} interquartile ranges outside the middle half; the "
                f"farthest is {finite[worst]:g}, where that half is {low:g} to {high:g}."
            )
            advice = "Keep the clip of TableEncoder on."
            advice = "Look for a slip of the unit or the decimal point." if very else advice
            yield AuditFinding("warning" if very else "note", "outliers", column.name, far, seen, advice)
    yield from _check_ends(column.name, finite)
    spread = float(finite.std())
    if spread > 0 and len(np.unique(finite)) > 10:
        skew = float((((finite - finite.mean()) / spread) ** 3).mean())
        if abs(skew) > _SKEWED:
            tail = "right" if skew > 0 else "left"
            log = skew > 0 and finite.min() >= 0
            advice = "Take log(1 + x), or bins (--bins)." if log else "Take quantile bins (--bins)."
            seen = f"Its skewness is {skew:.1f}: a long tail to the {tail}."
            yield AuditFinding("note", "skew", column.name, skew, seen, advice)


def _stand_in(finite: npt.NDArray[np.float64]) -> float | None:
    """Return the value at one end that repeats far off all others, such as -999 or 99999."""
    values, counts = np.unique(finite, return_counts=True)
    if len(values) < 5:
        return None
    for end, near, rest in ((-1, -2, values[:-1]), (0, 1, values[1:])):
        if counts[end] >= 2 and abs(values[end] - values[near]) > rest[-1] - rest[0]:
            return float(values[end])
    # One below zero among many that are not is as usual a code, though not far.
    return -1.0 if values[0] == -1 and counts[0] >= 2 and values[1] >= 0 and len(values) > 10 else None


def _check_ends(name: str, finite: npt.NDArray[np.float64]) -> Iterator[AuditFinding]:
    """Look for values heaped up at the largest or smallest: what lay beyond was cut off."""
    values, counts = np.unique(finite, return_counts=True)
    if len(values) < 50:
        return
    usual = float(np.quantile(counts, 0.9))
    for end, word in ((-1, "largest"), (0, "smallest")):
        # Much of nothing at all is no heap: many amounts are 0.
        if values[end] != 0 and counts[end] >= max(_HEAP * usual, 0.005 * len(finite)):
            rows = int(counts[end])
            who = many_do(rows, "row", "hold", f"({share(rows, len(finite))})")
            seen = f"{who} the {word} value, {values[end]:.10g}, many more than others: perhaps cut off there."
            yield AuditFinding("note", "capped", name, rows, seen, "Beyond it nothing can be learnt or tested: say so.")


# -- side by side -----------------------------------------------------------------------------------------------
def check_side_by_side(columns: Sequence[Column]) -> Iterator[AuditFinding]:
    """Look at the scales of all columns, and for columns that tell the same."""
    varied = [c for c in columns if len(c.finite) and c.finite.max() > c.finite.min()]
    spreads = {c.name: spread for c in varied if (spread := float(c.finite.std())) > 0}
    if len(spreads) > 1:
        wide, narrow = max(spreads, key=spreads.__getitem__), min(spreads, key=spreads.__getitem__)
        ratio = spreads[wide] / spreads[narrow]
        if ratio > _SCALES:
            both = f"{wide} has {spreads[wide]:.3g}, {narrow} {spreads[narrow]:.3g}"
            seen = f"Standard deviations differ {ratio:,.0f}-fold: {both}."
            advice = "Scale columns (TableEncoder does; Standardizer for arrays)."
            yield AuditFinding("note", "scales", None, ratio, seen, advice)
    for first, second in _pairs(columns):
        seen = f"Given {first}, this is known, and the other way round."
        yield AuditFinding("note", "same columns", second, 2, seen, f"Leave one out (--drop {as_option(second)}).")


def _pairs(columns: Sequence[Column]) -> Iterator[tuple[str, str]]:
    """Yield columns that are one-to-one with an earlier one, and that one; where values hardly repeat, in order."""
    seen: dict[bytes, str] = {}  # by digest: keys of all columns would be another table
    for column in columns:
        codes, levels = column.codes, len(column.levels)
        if levels < 2 or column.n < FEW_ROWS:
            continue
        if 2 * levels <= column.n:
            _, first, which = np.unique(codes, return_index=True, return_inverse=True)
            key = np.argsort(np.argsort(first))[which]  # levels in the order of their first rows
        elif column.numbers is None or column.identifies:
            continue
        else:  # any two columns without repeats are one-to-one: ask for the same order, up or down
            up = codes[column.present]
            key = np.where(codes < 0, -1, codes if up[0] <= up[-1] else levels - 1 - codes)
        digest = hashlib.sha256(np.ascontiguousarray(key, dtype=np.int64).data).digest()
        earlier = seen.setdefault(digest, column.name)
        if earlier != column.name:
            yield earlier, column.name

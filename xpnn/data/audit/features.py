"""Faults of single columns, and of columns side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..columns import is_number, quote
from .column import Column, alike, many, many_do, share
from .findings import AuditFinding, Severity

__all__ = ["check_feature", "check_numbers", "check_side_by_side", "is_identifier", "number_words"]

# Thresholds, each a judgement: high enough that ordinary tables stay silent.
_MOSTLY = 0.5  # share of missing values from which a column is in doubt
_NEARLY = 0.99  # share of one value from which a column tells next to nothing
_FAR, _VERY_FAR = 10.0, 100.0  # interquartile ranges from the middle half of the values
_SKEWED = 3.0  # standardized third moment; an exponential distribution has 2
_SCALES = 1000.0  # ratio of standard deviations
_HEAP = 3.0  # rows of a value at the end, compared with frequent others
_FEW_ROWS = 20  # below, repeats and their absence are chance
_CATEGORIES = 100  # `TableEncoder` makes at most so many columns of one

_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\d{1,2}[./-]\d{1,2}[./-](\d{2}|\d{4})")
_NUMBER = re.compile(
    r"(?P<before>[$€£¥]?)\s*[+-]?(?P<digits>\d{1,3}(?P<thousands>[,.' \u00a0]\d{3})+([.,]\d+)?|\d+([.,]\d+)?)"
    r"\s*(?P<after>%|[A-Za-z°µ€$£/²³]{0,6})"
)


def check_feature(column: Column, *, numeric: bool = False) -> Iterator[AuditFinding]:
    """Look at one column by itself; if it is said to be `numeric`, text in it is an error."""
    present = int(column.present.sum())
    missing, leave_out = column.n - present, f"Leave it out (--drop {column.name})."
    if not present:
        seen = f"All {many(column.n, 'row')} miss it."
        yield AuditFinding("warning", "no values", column.name, column.n, seen, leave_out)
        return
    if missing:
        mostly = missing >= _MOSTLY * column.n
        seen = f"{many_do(missing, 'row', 'miss', f'of {column.n:,} ({share(missing, column.n)})')} it."
        advice = "TableEncoder fills and flags gaps; elsewhere impute them."
        advice = f"See why, or leave it out (--drop {column.name})." if mostly else advice
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
    else:
        yield from _check_words(column, numeric=numeric)
    if is_identifier(column):
        seen = f"Each of the {many(present, 'row')} has a value of its own."
        yield AuditFinding("warning", "identifier", column.name, present, seen, leave_out)


def is_identifier(column: Column) -> bool:
    """Whether a column numbers or names the rows: words without a repeat, or whole numbers close together."""
    present = int(column.present.sum())
    if present < _FEW_ROWS or len(column.levels) < present:
        return False
    if column.numbers is None:
        return number_words(column) is None and not _are_dates(column)
    return column.whole and float(column.finite.max() - column.finite.min()) < 2 * present


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
    if len(finite) < _FEW_ROWS:
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


# -- words ------------------------------------------------------------------------------------------------------
def _check_words(column: Column, *, numeric: bool) -> Iterator[AuditFinding]:
    if (found := number_words(column)) is not None:
        severity: Severity = "error" if numeric else "warning"
        yield AuditFinding(severity, "text numbers", column.name, *found)
        return
    present, levels = int(column.present.sum()), len(column.levels)
    if numeric:
        seen = f"It is said to hold numbers and holds words such as {quote(column.levels, 3)}."
        yield AuditFinding("error", "text numbers", column.name, present, seen, "Take it out of --numeric.")
    if _are_dates(column):
        seen = f"Dates as text, such as {column.levels[0]!r}: {levels:,} categories without an order."
        advice = "Make them a number of days, a month, a weekday."
        yield AuditFinding("note", "dates", column.name, levels, seen, advice)
        return
    if groups := alike(column.spellings):
        extra = sum(len(group) - 1 for group in groups)
        more = f", and {len(groups) - 1} more" if groups[1:] else ""
        seen = f"Categories that look alike: {quote(groups[0], 3)}{more}."
        one = len({s.strip() for s in groups[0]}) == 1
        advice = "TableEncoder cuts blanks off; elsewhere do so." if one else "Write them alike."
        yield AuditFinding("note" if one else "warning", "spellings", column.name, extra, seen, advice)
    if levels > _CATEGORIES and not is_identifier(column):
        hardly = 2 * levels > present
        seen = f"{levels:,} different categories in {many(present, 'row')}."
        advice = (
            "TableEncoder leaves it out: draw something from it that repeats."
            if hardly
            else f"TableEncoder keeps {_CATEGORIES - 1} and pools the rest: group them by meaning, or use Embedding."
        )
        yield AuditFinding("warning" if hardly else "note", "many categories", column.name, levels, seen, advice)


def _are_dates(column: Column) -> bool:
    levels = column.levels[:: max(len(column.levels) // 200, 1)]
    return len(levels) > 2 and sum(_DATE.fullmatch(level) is not None for level in levels) >= 0.9 * len(levels)


def number_words(column: Column) -> tuple[int, str, str] | None:
    """Tell a column of text that holds numbers: rows concerned, what is seen, what to do; None if it holds none."""
    if not column.levels:
        return None
    present, counts = int(column.present.sum()), column.counts
    plain = np.array([is_number(word) for word in column.levels], dtype=bool)
    if counts[plain].sum() >= 0.5 * present and int(plain.sum()) > 2:
        stray = int(counts[~plain].sum())
        words = [word for word, is_plain in zip(column.levels, plain, strict=True) if not is_plain]
        if not words:
            return None  # numbers that somebody asked to read as categories
        seen = f"All but {many(stray, 'row')} hold numbers; the others hold {quote(words, 3)}."
        return stray, seen, f"Say that they mean no value (--missing={','.join(words[:3])}), or mend them."
    matches = [_NUMBER.fullmatch(word) for word in column.levels]
    fits = np.array([match is not None for match in matches], dtype=bool)
    signs = {(m["before"], m["after"]) for m in matches if m is not None}
    if counts[fits].sum() < 0.9 * present or len(signs) != 1 or int(fits.sum()) < 3:
        return None
    rows = int(counts[fits].sum())
    (before, after), example = next(iter(signs)), column.levels[int(fits.argmax())]
    if before or after:
        what, advice = "a number with a sign", f"Cut {before or after!r} off."
    else:
        what = "numbers that are read as text"
        advice = "Write numbers without separators of thousands, and with a decimal point."
    return rows, f"{many_do(rows, 'row', 'hold')} {what}, such as {example!r}.", advice


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
        yield AuditFinding("note", "same columns", second, 2, seen, f"Leave one out (--drop {second}).")


def _pairs(columns: Sequence[Column]) -> Iterator[tuple[str, str]]:
    """Yield columns that are one-to-one with an earlier one, and that one; where values hardly repeat, in order."""
    seen: dict[bytes, str] = {}
    for column in columns:
        codes, levels = column.codes, len(column.levels)
        if levels < 2 or column.n < _FEW_ROWS:
            continue
        if 2 * levels <= column.n:
            _, first, which = np.unique(codes, return_index=True, return_inverse=True)
            key = np.argsort(np.argsort(first))[which]  # levels in the order of their first rows
        elif column.numbers is None or is_identifier(column):
            continue
        else:  # any two columns without repeats are one-to-one: ask for the same order, up or down
            up = codes[column.present]
            key = np.where(codes < 0, -1, codes if up[0] <= up[-1] else levels - 1 - codes)
        earlier = seen.setdefault(key.astype(np.int64).tobytes(), column.name)
        if earlier != column.name:
            yield earlier, column.name

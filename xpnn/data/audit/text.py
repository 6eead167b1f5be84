"""Text in a table: numbers written as text, dates, categories spelt in two ways, free text that tells the target."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..columns import Floats, as_option, label_key, quote
from ..dates import DateFormat, find_dates
from ..targets import Task
from .column import Column, Written, alike, many, many_do, share
from .findings import AuditFinding, Severity

__all__ = ["check_free_text", "check_words", "check_written", "hardly_repeats"]

_CATEGORIES = 100  # `TableEncoder` makes at most so many columns of one
_COMPARED = 20_000  # categories that are compared with each other
# Thresholds, each a judgement.
_READ = 5000  # rows of free text that are read
_OFTEN = 0.01  # share of rows that hold a word, and that do not, from which it is looked at
_TELLS, _SURE = 0.05, 30.0  # share of the target's variance that a word explains; the same times the rows (chi-squared)

_WORD = re.compile(r"[^\W\d_]{2,}")
_INITIAL = re.compile(r"[^\W\d_]+(?=[\W_]*\d)")


def check_written(column: Column, *, numeric: bool, target: bool = False) -> Iterator[AuditFinding]:
    """Tell of numbers that stood in text, whether they could be read or not."""
    if column.written is not None:
        yield _check_read(column.name, int(column.present.sum()), column.written)
    elif column.doubt is not None:
        doubt, seen = column.doubt, column.doubt.seen
        if target:
            seen = f"A quantity, read as classes: {seen}"
        elif doubt.candidates:
            seen += " It is read as text."
        severity: Severity = "error" if numeric or target else "warning"
        yield AuditFinding(severity, "text numbers", column.name, doubt.rows, seen, doubt.advice)


def _check_read(name: str, rows: int, written: Written) -> AuditFinding:
    """Tell of numbers in text that were read, and of words that were taken for no value."""
    seen, advice = [], f"If they are categories, say --categorical {as_option(name)}."
    if not written.spelling.plain:
        how = f"{written.spelling.describe()}, such as {written.example!r}: read as numbers"
        seen.append(f"{many_do(rows, 'row', 'hold')} {how}.")
    if not written.missing:
        return AuditFinding("note", "text numbers", name, rows, " ".join(seen), advice)
    stray, words = sum(written.missing.values()), list(written.missing)
    seen.append(f"All but {many(stray, 'row')} hold numbers; the others hold {quote(words, 3)}: read as missing.")
    advice = f"Nothing, if they mean no value (as --missing={','.join(words[:3])} would say). {advice}"
    return AuditFinding("warning", "text numbers", name, stray, " ".join(seen), advice)


def hardly_repeats(column: Column) -> bool:
    """Whether it holds so many different words that `TableEncoder` leaves it out."""
    levels = len(column.levels)
    return column.numbers is None and levels > _CATEGORIES and 2 * levels > int(column.present.sum())


def check_words(column: Column, *, numeric: bool) -> Iterator[AuditFinding]:
    """Look at a column of text that holds no numbers; if it is said to be `numeric`, that is an error."""
    present, levels = int(column.present.sum()), len(column.levels)
    if numeric:
        seen = f"It is said to hold numbers and holds words such as {quote(column.levels, 3)}."
        yield AuditFinding("error", "text numbers", column.name, present, seen, "Take it out of --numeric.")
    if column.dates:
        yield _check_dates(column)
        return
    if levels <= _COMPARED and (groups := alike(column.spellings)):
        extra = sum(len(group) - 1 for group in groups)
        more = f", and {len(groups) - 1} more" if groups[1:] else ""
        seen = f"Categories that look alike: {quote(groups[0], 3)}{more}."
        one = len({s.strip() for s in groups[0]}) == 1
        advice = "TableEncoder cuts blanks off; elsewhere do so." if one else "Write them alike."
        yield AuditFinding("note" if one else "warning", "spellings", column.name, extra, seen, advice)
    if levels > _CATEGORIES and not column.identifies:
        hardly = hardly_repeats(column)
        seen = f"{levels:,} different categories in {many(present, 'row')}."
        advice = (
            "TableEncoder leaves it out: draw something from it that repeats."
            if hardly
            else f"TableEncoder keeps {_CATEGORIES - 1} and pools the rest: group them by meaning, or use Embedding."
        )
        yield AuditFinding("warning" if hardly else "note", "many categories", column.name, levels, seen, advice)


def _check_dates(column: Column) -> AuditFinding:
    """Tell how dates as text are read, or why they are not."""
    levels = len(column.levels)
    found = find_dates(np.array(column.levels, dtype=object), dayfirst=column.dayfirst)
    if isinstance(found, DateFormat):
        seen = f"Dates as text, such as {column.levels[0]!r}: read as days elapsed, and what varies of year to hour."
        advice = f"If they are categories, say --categorical {as_option(column.name)}."
        return AuditFinding("note", "dates", column.name, levels, seen, advice)
    what, advice = found or (f"Dates as text, such as {column.levels[0]!r}, beside other text.", "Make two columns.")
    seen = f"{what} They are read as {levels:,} categories without an order."
    return AuditFinding("warning", "dates", column.name, levels, seen, advice)


# -- free text ----------------------------------------------------------------------------------------------------
def check_free_text(column: Column, target: Column, task: Task) -> Iterator[AuditFinding]:
    """Look whether text that is left out would have told the target: by a word in it, its first letters, or a gap."""
    known = np.flatnonzero(target.present & (np.abs(target.numbers) < np.inf if target.numbers is not None else True))
    if not hardly_repeats(column) or column.dates or len(target.levels) < 2:
        return
    rows = known[np.linspace(0, len(known) - 1, min(_READ, len(known))).astype(np.int64)]
    holders: dict[str, list[int]] = {}
    for place, code in enumerate(column.codes[rows].tolist()):
        text = "" if code < 0 else column.levels[code]
        signs = {f"rows with {word!r} in it" for word in _WORD.findall(text)}
        if initial := _INITIAL.match(text):
            signs.add(f"rows where it begins with {initial[0]!r}")
        for sign in signs if text else {"rows without it"}:
            holders.setdefault(sign, []).append(place)
    values = _values(target, rows, task)
    best, told = max(
        ((_explained(values, places), sign) for sign, places in holders.items()),
        key=lambda pair: (pair[0], pair[1]),
        default=(0.0, ""),
    )
    if best < _TELLS or best * len(rows) < _SURE + 2 * values.shape[1]:
        return
    held = np.zeros(len(rows), dtype=bool)
    held[holders[told]] = True
    if task == "classification":
        off = values[held].mean(axis=0) - values.mean(axis=0)
        k = int(off.argmax())
        there, of_all = (share(float(v[:, k].mean()), 1) for v in (values[held], values))
        what = f"have {target.name} {label_key(target.levels[k])!r} in {there}, all rows in {of_all}"
    else:
        y = np.asarray(target.numbers)[rows]
        what = f"have a median {target.name} of {np.median(y[held]):.4g}, all rows of {np.median(y):.4g}"
    seen = f"TableEncoder leaves this text out, and it tells something: {told} {what}."
    advice = "Make a column of it that repeats, such as whether it holds this."
    yield AuditFinding("warning", "text left out", column.name, best, seen, advice)


def _values(target: Column, rows: npt.NDArray[np.int64], task: Task) -> Floats:
    """Return the target of rows as indicators of its classes, or, of a quantity, as its ranks; of shape (n, k)."""
    codes = target.codes[rows]
    if task == "classification":
        return np.equal.outer(codes, np.arange(len(target.levels))).astype(np.float64)
    return np.argsort(np.argsort(codes, kind="stable"))[:, None].astype(np.float64)


def _explained(values: Floats, places: list[int]) -> float:
    """Return the share of the variance that one mark explains; of classes, chi-squared by the number of rows."""
    n, m = len(values), len(places)
    if not _OFTEN * n <= m <= (1 - _OFTEN) * n:
        return 0.0
    mean, variance = values.mean(axis=0), values.var(axis=0)
    off = values[places].mean(axis=0) - mean
    between = off**2 * m / (n - m)
    if values.shape[1] == 1:
        return float(between[0] / variance[0])
    return float((between[mean > 0] / mean[mean > 0]).sum())

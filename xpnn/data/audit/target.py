"""Faults of the target: its labels, what kind it is, and columns that give it away."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..columns import as_option, quote
from ..targets import Task
from .column import FEW_ROWS, Column, alike, many, many_do, rows_alike, share
from .features import check_numbers
from .findings import AuditFinding, Severity
from .text import check_written

__all__ = ["check_leaks", "check_target"]

# Thresholds, each a judgement.
_RARE, _VERY_RARE = 10.0, 100.0  # rows of the largest class for each of the smallest
_FEW_CLASSES, _MANY_CLASSES = 20, 50
_ROWS_A_CLASS = 5
_LIKE = 0.85  # similarity of two spellings (difflib)
_ALMOST, _AT_MOST = 0.995, 0.95  # share of rows that one column explains, where the largest class is not more than this
_LINEAR = 0.9999  # correlation
_OFTEN = 0.01  # share of rows that must be wrong because others contradict them, from which it is more than a slip


def check_target(target: Column, features: Sequence[Column], task: Task, *, chosen: bool) -> Iterator[AuditFinding]:
    """Look at the target by itself, and for the one-hot columns of which it may be one.

    `task` is what training takes it for, and `chosen` whether somebody chose that.
    """
    name, present = target.name, int(target.present.sum())
    if not present:
        seen = "No row has a target."
        yield AuditFinding("error", "missing target", name, target.n, seen, "Check the target column.")
        return
    if present < target.n:
        missing = target.n - present
        seen = f"{many_do(missing, 'row', 'have', f'of {target.n:,} ({share(missing, target.n)})')} no target."
        yield AuditFinding("error", "missing target", name, missing, seen, "Leave these rows out of training.")
    if len(target.levels) < 2:
        seen = f"All {many(present, 'row')} hold {quote(target.levels, 3)}: there is nothing to learn."
        yield AuditFinding("error", "single value", name, len(target.levels), seen, "Check the column and the rows.")
        return
    # Labels that are numbers but not plain ones are kept as they are written.
    if task == "regression" or (not chosen and target.written is None):
        yield from check_written(target, numeric=False, target=True)
        if target.doubt is not None:
            return
    yield from _check_kind(target, task, chosen=chosen)
    if task == "classification":
        yield from _check_labels(target)
        yield from _check_one_hot(target, features)
    elif target.numbers is not None:
        yield from check_numbers(target)
        if target.identifies:
            ends = f"{target.finite.min():.15g} to {target.finite.max():.15g}"
            seen = f"It numbers the rows from {ends}, each once."
            advice = "If it is an identifier, there is nothing to learn: name another target."
            yield AuditFinding("warning", "identifier", name, present, seen, advice)


# -- classes or a quantity ----------------------------------------------------------------------------------------
def _check_kind(target: Column, task: Task, *, chosen: bool) -> Iterator[AuditFinding]:
    name, present, levels = target.name, int(target.present.sum()), len(target.levels)
    check = "classes or quantity"
    if task == "regression":
        if target.numbers is None:
            seen = f"Regression is asked for, and the target holds words such as {quote(target.levels, 3)}."
            yield AuditFinding("error", check, name, levels, seen, "Take --task classification, or another target.")
        elif levels <= _FEW_CLASSES and present >= _ROWS_A_CLASS * levels:
            seen = f"A quantity with only {levels} different values, in {many(present, 'row')}."
            yield AuditFinding("note", check, name, levels, seen, "If they are classes, take --task classification.")
        elif target.whole and levels <= _MANY_CLASSES and present >= _ROWS_A_CLASS * levels and not chosen:
            seen = f"{levels} different whole numbers are taken for a quantity."
            yield AuditFinding("note", check, name, levels, seen, "If they name classes, take --task classification.")
        return
    if present > FEW_ROWS and 2 * levels > present:
        kind = "numbers" if target.numbers is not None else "labels"
        seen = f"{levels:,} different {kind} in {many(present, 'row')}: as classes they hardly repeat."
        advice = "Take --task regression." if target.numbers is not None else "Check the target column."
        yield AuditFinding("error", check, name, levels, seen, advice)
    elif target.numbers is not None and not target.whole:
        seen = f"{levels} numbers with fractions, such as {target.levels[0]:g}, are to be classes."
        yield AuditFinding("warning", check, name, levels, seen, "If they are a quantity, take --task regression.")
    elif target.numbers is not None and not chosen and _looks_counted(target.counts):
        seen = f"{levels} whole numbers are taken for classes, and the ones in the middle are the most frequent."
        advice = "If they are counts or grades, take --task regression."
        yield AuditFinding("note", check, name, levels, seen, advice)


def _looks_counted(counts: npt.NDArray[np.int64]) -> bool:
    """Whether frequencies rise to one top and fall again, as those of counts and grades do."""
    top = int(counts.argmax())
    if len(counts) < 4 or not 0 < top < len(counts) - 1:
        return False
    rises, falls = np.diff(counts[: top + 1]), np.diff(counts[top:])
    return bool((rises >= 0).all() and (falls <= 0).all() and counts.max() >= 3 * counts.min())


# -- labels -------------------------------------------------------------------------------------------------------
def _check_labels(target: Column) -> Iterator[AuditFinding]:
    name, counts, rows = target.name, target.counts, target.rows
    for group in alike(target.spellings):
        known = sorted({spelling.strip() for spelling in group})
        if len(known) == 1:
            seen = f"{quote(group, 3)} differ in blanks at their ends."
            advice = "xpnn cuts them off; others count two classes."
            yield AuditFinding("note", "labels alike", name, len(group), seen, advice)
            continue
        seen = " and ".join(f"{label!r} ({many(rows.get(label, 0), 'row')})" for label in known)
        ending = next((b[len(a) :] for a in known for b in known if b != a and b.startswith(a)), "")
        advice = f"Strip the ending (--strip-target {ending!r})." if ending else "Write them alike."
        yield AuditFinding("error", "labels alike", name, len(known), f"{seen} look like one label.", advice)
    yield from _check_misspelt(name, rows)
    single = [label for label, n in rows.items() if n == 1]
    if single and len(rows) < 0.5 * target.n:
        seen = f"{many(len(single), 'label')} with a single row: {quote(single, 3)}."
        advice = "It cannot be trained and tested both: leave it out, or join it to another."
        yield AuditFinding("warning", "rare labels", name, len(single), seen, advice)
    ratio = float(counts.max() / counts.min())
    if ratio >= _RARE:
        low, high = min(rows, key=rows.__getitem__), max(rows, key=rows.__getitem__)
        seen = (
            f"{high!r} has {ratio:,.0f} rows for each of {low!r} ({many(int(counts.min()), 'row')}); to guess the "
            f"largest class is right in {share(int(counts.max()), int(counts.sum()))}."
        )
        advice = "Compare with that share, and try --class-weight balanced."
        yield AuditFinding("warning" if ratio >= _VERY_RARE else "note", "class balance", name, ratio, seen, advice)


def _check_misspelt(name: str, rows: dict[str, int]) -> Iterator[AuditFinding]:
    """Look for rare labels that are spelt nearly like a frequent one."""
    total = sum(rows.values())
    if len(rows) > 1000:
        return  # each pair is compared
    for label, n in rows.items():
        if n > max(1, 0.01 * total) or len(label) < 5 or any(c.isdigit() for c in label):
            continue
        near = difflib.get_close_matches(label, [other for other in rows if rows[other] >= 10 * n], 1, _LIKE)
        if near and not alike([label, near[0]]):
            seen = f"{label!r} ({many(n, 'row')}) is spelt nearly like {near[0]!r} ({many(rows[near[0]], 'row')})."
            yield AuditFinding("warning", "labels alike", name, n, seen, "If it is a slip, correct it.")


def _check_one_hot(target: Column, features: Sequence[Column]) -> Iterator[AuditFinding]:
    """Look for further 0/1 columns that with the target make one 1 in each row."""

    def is_flag(column: Column) -> bool:
        return column.numbers is not None and list(column.levels[:3]) == [0.0, 1.0] and bool(column.present.all())

    if not is_flag(target):
        return
    covered, group = target.codes.copy(), [target.name]
    for column in features:
        if is_flag(column) and not (covered & column.codes).any():
            covered |= column.codes
            group.append(column.name)
    if covered.all() and len(group) > 2:
        seen = f"It is one of {len(group)} columns of which each row has just one 1: {quote(group)}."
        advice = "Join them to one column of labels; else the others give it away."
        yield AuditFinding("error", "one-hot target", target.name, len(group), seen, advice)


# -- leaks --------------------------------------------------------------------------------------------------------
def check_leaks(target: Column, features: Sequence[Column], task: Task) -> Iterator[AuditFinding]:
    """Look for columns that tell the target by themselves, and for rows that contradict each other."""
    rows = target.present & (np.abs(target.numbers) < np.inf if target.numbers is not None else True)
    if int(rows.sum()) < FEW_ROWS or len(target.levels) < 2:
        return
    for column in features:
        gaps = not column.present.all()
        if column.identifies or len(column.levels) + gaps < 2:
            continue
        if task == "regression" and target.numbers is not None:
            yield from _gives_number_away(column, target, target.numbers, rows)
        else:
            yield from _gives_label_away(column, target, rows)
    if features and task == "classification":
        yield from _check_contradictions(target, features)


def _leak(column: Column, rows: float, seen: str, *, sure: bool = True) -> AuditFinding:
    advice = f"If it is not known when one predicts, leave it out (--drop {as_option(column.name)})."
    return AuditFinding("error" if sure else "warning", "leak", column.name, rows, seen, advice)


def _gives_label_away(column: Column, target: Column, rows: npt.NDArray[np.bool_]) -> Iterator[AuditFinding]:
    labels, codes = target.codes[rows], column.codes[rows] + 1  # a gap tells too
    n, k = len(labels), len(target.levels)
    if 5 * len(column.levels) <= n:
        table = np.zeros((len(column.levels) + 1, k), dtype=np.int64)
        np.add.at(table, (codes, labels), 1)
        right, usual = int(table.max(axis=1).sum()), int(table.sum(axis=0).max())
        if right == n:
            yield _leak(
                column, n, f"It alone determines {target.name}: in 100% of the rows its value goes with one label."
            )
        elif right >= _ALMOST * n and usual <= _AT_MOST * n:
            most = f"the largest class has {share(usual, n)}"
            seen = f"It alone tells {target.name} in {share(right, n)} of the rows; {most}."
            yield _leak(column, right, seen, sure=False)
    elif column.numbers is not None and bool(column.present[rows].all()):
        order = np.lexsort((labels, codes))
        changes = int((np.diff(labels[order]) != 0).sum())
        # Within one value labels are sorted, so a change there would count as one between values.
        if changes == k - 1 and len(np.unique(codes * k + labels)) == len(np.unique(codes)):
            seen = f"Thresholds on it alone separate all labels of {target.name}."
            yield _leak(column, n, seen, sure=False)


def _gives_number_away(
    column: Column, target: Column, numbers: npt.NDArray[np.float64], rows: npt.NDArray[np.bool_]
) -> Iterator[AuditFinding]:
    y, codes = numbers[rows], column.codes[rows] + 1
    n = len(y)
    if y.max() == y.min():
        return
    order = np.lexsort((y, codes))
    ends = np.flatnonzero(np.diff(codes[order], append=-1))  # the last row of each value: the largest target there
    starts = np.concatenate([[0], ends[:-1] + 1])
    low, high = y[order][starts], y[order][ends]
    if bool((low == high).all()):
        steps = np.diff(low)
        monotone = bool((steps >= 0).all() or (steps <= 0).all())
        if 5 * len(column.levels) <= n or (column.numbers is not None and monotone):
            yield _leak(
                column, n, f"It alone determines {target.name}: in 100% of the rows its value goes with one number."
            )
            return
    if column.numbers is None:
        return
    both = column.present[rows] & (np.abs(column.numbers[rows]) < np.inf)
    x, y = column.numbers[rows][both], y[both]
    if len(x) >= FEW_ROWS and x.std() > 0 and y.std() > 0:
        r = float(np.corrcoef(x, y)[0, 1])
        if abs(r) > _LINEAR:
            yield _leak(column, r, f"It is {target.name} but for scale and a little noise: correlation {r:.5f}.")


def _check_contradictions(target: Column, features: Sequence[Column]) -> Iterator[AuditFinding]:
    present = target.present
    groups, labels = rows_alike(features)[present], target.codes[present]
    pairs, rows = np.unique(groups * len(target.levels) + labels, return_counts=True)
    owner = pairs // len(target.levels)
    _, start, labels_each = np.unique(owner, return_index=True, return_counts=True)
    best = np.maximum.reduceat(rows, start)
    rows_each = np.add.reduceat(rows, start)
    clash = labels_each > 1
    if clash.any():
        n, most = int(rows_each[clash].sum()), int(best.sum())
        seen = (
            f"{many(n, 'row')} agree with another in all columns and not in the target; at best "
            f"{share(most, len(labels))} of all can be right."
        )
        severity: Severity = "warning" if len(labels) - most >= _OFTEN * len(labels) else "note"
        yield AuditFinding(severity, "contradicting rows", None, n, seen, "Look at some of them, and correct labels.")

"""What is wrong with a table, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ...arguments import suggest
from ...errors import DataError, OptionError
from ..columns import quote
from ..csv import Table
from ..targets import Task, infer_task
from .column import Column, Written, read_columns
from .features import check_feature, check_side_by_side
from .findings import SEVERITIES, Audit, AuditFinding
from .rows import check_labels_of_both, check_repeats, check_shift, check_test_columns
from .target import check_leaks, check_target
from .text import check_free_text

__all__ = ["audit"]


def audit(
    table: Table | Mapping[str, npt.ArrayLike],
    target: str | None = None,
    *,
    test: Table | Mapping[str, npt.ArrayLike] | None = None,
    task: Literal["auto", "classification", "regression"] = "auto",
    strip_target: str = "",
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    dayfirst: bool | None = None,
    held_out: npt.ArrayLike | None = None,
) -> Audit:
    """Look a table over: its columns, its target, its rows, and a test table beside it.

    Nothing is trained and nothing is changed.  Thresholds are judgements, chosen so that ordinary tables stay
    nearly silent; each finding tells the number behind it.

    Parameters
    ----------
    table : Table or mapping of str to array of shape (n,)
        From `load_csv`, or columns by name: numbers with NaN for missing values, or text with None.
    target : str, optional
        The column to predict; the table's own ``target_name`` by default.  Without one, labels and leaks are not
        looked for.
    test : Table or mapping of str to array of shape (m,), optional
        The table to be tested on; it may lack the target.
    task : {"auto", "classification", "regression"}, default="auto"
        What the target is; "auto" as `infer_task` has it.
    strip_target : str, default=""
        Ending to take off every label of both tables.
    drop : sequence of str, default=()
        Columns not to look at.
    categorical, numeric : sequence of str, default=()
        Columns of numbers that are categories; columns in which text is an error.
    dayfirst : bool, optional
        Whether the day stands first in dates such as ``1/2/2020``, where all cells of a column leave it open.
    held_out : array of int, optional
        Numbers of the rows of the table that are to be tested on.

    Returns
    -------
    Audit
        The findings.

    Raises
    ------
    OptionError
        If a named column is not there, or `task` is none of these.
    DataError, ShapeError, DTypeError
        If there are no rows, or columns cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> words = np.array(["no", "yes", "yes.", "no"] * 10, dtype=object)
    >>> x = np.random.default_rng(0).normal(size=40)
    >>> found = audit({"x": x, "shop": np.full(40, 3.0), "buys": words}, "buys")
    >>> for finding in found:  # doctest: +ELLIPSIS
    ...     print(finding)
    error: buys: labels alike: 'yes' (10 rows) and 'yes.' (10 rows) look like one label. Strip the ending ...
    warning: shop: constant: Every value is 3.0. Leave it out (--drop shop).
    """
    if task not in ("auto", "classification", "regression"):
        kinds = ("auto", "classification", "regression")
        raise OptionError(f"audit: expected task among {', '.join(kinds)}, got {task!r}. {suggest(task, kinds)}")
    if isinstance(table, Table) and target is None:
        target = table.target_name
    columns = _mapping(table)
    names = list(columns)
    for option, chosen in (("drop", drop), ("categorical", categorical), ("numeric", numeric)):
        for name in chosen:
            if name not in columns:
                raise OptionError(
                    f"audit: expected columns in {option}, got {name!r}. {suggest(name, names)} "
                    f"There are {quote(names, 20)}."
                )
    if target is not None and target not in columns:
        raise DataError(f"audit: expected the target to be a column, got {target!r}. {suggest(target, names)}")
    if target is not None and target in drop:
        raise DataError(f"audit: expected the target to be kept, got {target!r} in drop. Take it out of drop.")
    strip = {} if target is None else {target: strip_target}
    as_text = frozenset(categorical)
    kept = [c for c in read_columns(columns, as_text, strip, _written(table)) if c.name not in drop]
    kept = [replace(column, dayfirst=dayfirst) for column in kept]
    if not kept:
        raise DataError(f"audit: expected a column to look at, got all {len(names)} dropped. Keep one.")
    other, n_test = None, 0
    if test is not None:
        read = read_columns(_mapping(test), as_text, strip, {})
        other, n_test = [c for c in read if c.name not in drop], read[0].n
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of sizes far apart
        return _audit(kept, target, other, n_test, task, frozenset(numeric), held_out)


def _mapping(table: Table | Mapping[str, npt.ArrayLike]) -> dict[str, npt.ArrayLike]:
    columns = table.columns if isinstance(table, Table) else table
    return {str(name): columns[name] for name in columns}


def _written(table: Table | Mapping[str, npt.ArrayLike]) -> dict[str, Written]:
    """Return how the numbers of a file stood in it, where `float` would not have read them."""
    written: dict[str, Written] = {}
    if not isinstance(table, Table):
        return written
    for name, spelling in table.spellings.items():
        present = ~np.isnan(table.columns[name])
        if table.respelt(name) and present.any():
            written[name] = Written(spelling, table.cells[name][int(present.argmax())], table.missing_words(name))
    return written


def _audit(
    columns: list[Column],
    target_name: str | None,
    test: list[Column] | None,
    n_test: int,
    task: Literal["auto", "classification", "regression"],
    numeric: frozenset[str],
    held_out: npt.ArrayLike | None,
) -> Audit:
    target = next((column for column in columns if column.name == target_name), None)
    features = [column for column in columns if column is not target]
    found: list[AuditFinding] = []
    kind: Task | None = None
    if target is not None:
        kind = _task_of(target) if task == "auto" else task
        found += check_target(target, features, kind, chosen=task != "auto")
        found += check_leaks(target, features, kind)
    for column in features:
        found += check_feature(column, numeric=column.name in numeric)
        if target is not None and kind is not None:
            found += check_free_text(column, target, kind)
    found += check_side_by_side(features)
    pairs: list[tuple[Column, Column]] = []
    if test is not None:
        by_name = {column.name: column for column in test}
        test_target = None if target_name is None else by_name.pop(target_name, None)
        pairs = [(column, by_name[column.name]) for column in features if column.name in by_name]
        found += check_test_columns(features, list(by_name.values()), pairs)
        if target is not None and test_target is not None:
            labels = list(check_labels_of_both(target, test_target)) if kind == "classification" else []
            found += labels
            if not any(finding.severity == "error" for finding in labels):
                found += check_shift([(_as_words(target, kind), _as_words(test_target, kind))])
        found += check_shift(pairs)
    found += check_repeats(features, target, pairs, held_out)
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))  # stable: else as they were found
    numbers = sum(column.numbers is not None for column in features)
    return Audit(found, columns[0].n, n_test, numbers, len(features) - numbers, target_name, kind)


def _task_of(target: Column) -> Task:
    """What training would take the target for, gaps and infinities left aside."""
    if target.numbers is None or not len(target.finite):
        return "classification"
    return infer_task(target.finite).task


def _as_words(target: Column, task: Task | None) -> Column:
    """Read class numbers as categories, whose shares are to be compared and not their mean."""
    if task != "classification" or target.numbers is None:
        return target
    return Column(target.name, list(target.rows), target.codes)

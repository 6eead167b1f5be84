"""What a command is to learn from: the data, read and divided once, with what encodes them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..baselines import ROWS
from ..data.arrays import SomeRows, some_rows, take_rows
from ..data.audit import Audit, AuditFinding
from ..data.columns import is_text, quote
from ..data.encoder import TableEncoder
from ..data.scaling import Standardizer
from ..data.targets import ClassTarget, NumberTarget, NumberTargets, Task, infer_task
from ..errors import DataError, OptionError, ShapeError, XpnnError
from ..predictor import Predictor, Target
from ..random import stream
from ..report import Trained
from ..tabular.fit import fit_target
from .findings import look_over, refuse_doubts, refuse_small, say, worded
from .options import dayfirst_of
from .recipe import check_task
from .sources import Source, names, open_source

__all__ = ["Problem", "Scored", "check_test_file", "findings_in", "open_data", "read_problem", "told_findings"]

# Rows of a table that are looked over before training: of more, so many drawn at random.
_LOOKED_AT = 300_000
# Rows of a table that are copied out of it at once, to score on.
_SCORED = 1 << 18


class Problem(NamedTuple):
    """What is to be learned: the data, divided once, with what encodes them."""

    source: Source
    parts: dict[str, np.ndarray]  # numbers of the rows for "train", "valid" and "test"
    target: Target
    encoder: TableEncoder | Standardizer | None
    y: np.ndarray | None  # the whole target as the loss takes it; None: a part of it is encoded when it is asked for
    findings: list[AuditFinding] | None  # of the audit of a table

    @property
    def n_out(self) -> int:
        """Outputs of the network."""
        if isinstance(self.target, ClassTarget):
            return len(self.target.classes)
        return len(self.target.targets) if isinstance(self.target, NumberTargets) else 1

    def _targets(self, rows: np.ndarray | slice) -> np.ndarray:
        return self.target.encode(self.source.y[rows]) if self.y is None else self.y[rows]

    def encoded(self, part: str) -> tuple[Any, np.ndarray]:
        """Return rows as the network takes them; a stream whole, for the trainer leaves its validation rows out."""
        if self.source.kind == "stream":
            return self.source.raw, self._targets(slice(None))
        rows = self.parts[part]
        if isinstance(self.encoder, TableEncoder):
            return self.encoder.encode(self.source.raw, rows), self._targets(rows)
        raw = take_rows(self.source.raw, rows)
        return (raw if self.encoder is None else np.asarray(self.encoder.transform(raw))), self._targets(rows)

    def validation(self) -> dict[str, Any]:
        """Return what tells `Trainer.fit` the validation rows."""
        rows = self.parts["valid"]
        if not len(rows):
            return {}
        if self.source.kind == "stream":
            return {"validation_rows": rows}
        return dict(zip(("X_val", "y_val"), self.encoded("valid"), strict=True))

    def trained(self, seed: int) -> Trained:
        """Return rows that are trained on, as many as simple models beside the network are given."""
        rows = self.parts["train"]
        some = rows[some_rows(len(rows), ROWS, stream(seed, "trained"))]
        return Trained(take_rows(self.source.raw, some), self.source.y[some], len(rows))

    def scored(self) -> Scored:
        """Return the rows to score on: test rows, else validation rows, else training rows."""
        source, parts = self.source, self.parts
        if source.raw_test is not None and source.y_test is not None:
            name = "test file" if source.kind != "mnist" else "test images"
            return Scored(source.raw_test, source.y_test, name, None)
        part = next(part for part in ("test", "valid", "train") if len(parts[part]))
        name = {"test": "test rows", "valid": "validation rows", "train": "training rows"}[part]
        if len(parts[part]) == len(source.y):  # all: a stream need not be copied
            return Scored(source.raw, source.y, name, None)
        large = isinstance(source.raw, Mapping) and len(parts[part]) > _SCORED
        raw = SomeRows(source.raw, parts[part]) if large else take_rows(source.raw, parts[part])
        return Scored(raw, source.y[parts[part]], name, parts[part] + 1)


class Scored(NamedTuple):
    """Rows to score on."""

    raw: Any
    y: np.ndarray
    name: str
    numbers: np.ndarray | None  # places of the rows in the data, from 1; None where they are all of them

    def outputs(self, predictor: Predictor) -> np.ndarray:
        """Return what `Predictor.predict_proba` does, of very many rows of a table a part at a time."""
        if not isinstance(self.raw, SomeRows):
            return predictor.predict_proba(self.raw)
        return np.concatenate([predictor.predict_proba(part) for part in self.raw.parts(_SCORED)])


def open_data(settings: argparse.Namespace, note: Callable[..., None]) -> tuple[Source, Task]:
    """Open the data, refuse what cannot be learned from, and decide the task."""
    source = open_source(settings)
    refuse_small(settings, source)
    with worded(settings.source):
        refuse_doubts(settings, source)
        task: Task = settings.task
        if source.several:
            task = _of_several(settings, source, note)
        elif settings.task == "auto":
            task, why = infer_task(source.y)
            note(f"{task}: {why}")
        check_task(settings, task)
        note(*source.notes)
    return source, task


def _of_several(settings: argparse.Namespace, source: Source, note: Callable[..., None]) -> Task:
    """Refuse several targets that are not all numbers: only those are predicted together."""
    targets = source.targets
    if settings.task == "classification":
        raise OptionError(
            f"--target: expected one column of labels, got {len(targets)}: {quote(targets)}. {_one_by_one(targets)}"
        )
    for name, column in targets.items():
        if is_text(column):
            raise DataError(
                f"--target: expected numbers in each of several targets, got text in {name!r}. {_one_by_one(targets)}"
            )
        if settings.task == "auto":
            try:
                found = infer_task(column)
            except XpnnError as error:  # of gaps
                raise type(error)(str(error).replace("target:", f"target {name!r}:", 1)) from None
            if found.task == "classification":
                why = found.why.replace("the target", name, 1)
                note(f"{why}; beside other targets they are predicted as numbers")
    note(f"regression: {len(targets)} targets, {quote(targets)}")
    return "regression"


def _one_by_one(targets: Collection[str]) -> str:
    """Say how a model is trained for each of several targets, the others not being known to it."""
    commands = []
    for k, name in enumerate(targets, 1):
        others = ['"' + each.replace('"', '""') + '"' if set(each) & set(',"') else each for each in targets]
        del others[k - 1]
        commands.append(f"--target {shlex.quote(name)} --drop {shlex.quote(','.join(others))} --out runs/{k}")
    return f"Train a model for each, without the others: {'; '.join(commands[:2])}{'; …' * (len(commands) > 2)}."


def findings_in(
    settings: argparse.Namespace, source: Source, tested: np.ndarray, note: Callable[..., None]
) -> Audit | None:
    """Look a table over, of a very large one some rows; None of arrays.  This takes memory: do it before encoding."""
    if source.table is None:
        return None
    table, test, n = source.table, source.test_table, source.table.n_rows
    some = some_rows(n, _LOOKED_AT, stream(settings.seed, "audit"))
    if len(some) < n:
        table, tested = table.take(some), np.flatnonzero(np.isin(some, tested))
        asked = f"xpnn check {shlex.quote(settings.source)}"
        note(f"{len(some):,} of {n:,} rows, drawn at random, are looked over; {asked} looks at all of them")
    if test is not None and test.n_rows > _LOOKED_AT:
        test = test.take(some_rows(test.n_rows, _LOOKED_AT, stream(settings.seed, "audit of the test file")))
    return look_over(settings, table, test, source.target_columns, held_out=tested)


def told_findings(
    found: Audit | None, source: Source, encoder: Any, target: Target, note: Callable[..., None]
) -> list[AuditFinding] | None:
    """Tell what was found and the unit of the losses, and return the findings; None of arrays."""
    findings: list[AuditFinding] | None = None
    if found is not None and isinstance(encoder, TableEncoder):
        note(*say(found, [*encoder.feature_names_in, *source.target_columns], encoder.notes))
        findings = found.folded()
    if isinstance(target, NumberTarget):
        unit = f"{target.std:.6g}"
        note(f"losses are in units of the target's standard deviation, {unit}; scores in the target's own")
    if isinstance(target, NumberTargets):
        units = ", ".join(f"{name} {one.std:.6g}" for name, one in zip(target.called, target.targets, strict=True))
        note(f"losses are in units of the targets' standard deviations ({units}); scores in the targets' own")
    return findings


def read_problem(settings: argparse.Namespace, note: Callable[..., None]) -> Problem:
    """Read the data, divide them, and fit what encodes them to the training rows."""
    source, task = open_data(settings, note)
    with worded(settings.source):
        sizes = settings.test_size, settings.validation_size, settings.seed
        target: Target
        if task == "classification":
            source.y = source.labels
            target = ClassTarget(strip=settings.strip_target or "").fit(source.y)
            y: np.ndarray | None = target.encode(source.y)
            parts = source.split(y, *sizes)
        else:
            parts = source.split(None, *sizes)
            own: dict[str, Any] = {"spellings": source.spellings, "names": source.target_columns}
            target, encoded = fit_target("regression", source.y, parts["train"], **own)
            y = None if source.kind == "table" else encoded
            del encoded
        found = findings_in(settings, source, parts["test"], note)
        encoder = fit_encoder(source, parts["train"], settings)
        note(*getattr(encoder, "notes", []), *check_test_file(source, encoder, target))
    findings = told_findings(found, source, encoder, target, note)
    return Problem(source, parts, target, encoder, y, findings)


def fit_encoder(source: Source, rows: np.ndarray, args: argparse.Namespace) -> TableEncoder | Standardizer | None:
    """Fit the encoding on training rows alone; images (0 to 1) and streams are taken as they are."""
    if source.kind == "table":
        chosen = [
            [name for name in names(text, source.raw) if name not in source.target_columns]
            for text in (args.categorical, args.numeric)
        ]
        encoder = TableEncoder(bins=args.bins, categorical=chosen[0], numeric=chosen[1], dayfirst=dayfirst_of(args))
        return encoder.fit(source.raw, spellings=source.table.spellings if source.table else None, rows=rows)
    if source.kind in ("points", "arrays"):
        return Standardizer().fit(take_rows(source.raw, rows))
    return None


def check_test_file(source: Source, encoder: Any, target: Target) -> list[str]:
    """Encode the test data before training, so that what does not fit is said at once; return remarks."""
    if source.raw_test is None:
        return []
    target.encode(np.asarray(source.y_test))
    if isinstance(encoder, TableEncoder):
        return [f"test file: {remark}" for remark in encoder.remarks(source.raw_test)]
    if source.raw_test.shape[1:] != source.raw.shape[1:]:
        raise ShapeError(
            f"--test-file: expected {source.raw.shape[1]} columns as in training, got {source.raw_test.shape[1]}. "
            "Pass data of the same kind."
        )
    return []

"""What an audit tells: its findings, and all of them as a table to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from ..targets import Task
from .column import many

__all__ = ["SEVERITIES", "Audit", "AuditFinding", "Severity", "leaks"]

Severity: TypeAlias = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
# Of a finding that many columns share, so many are printed one by one.
_PRINTED = 4


class AuditFinding(NamedTuple):
    """One thing that an audit found.

    Attributes
    ----------
    severity : {"error", "warning", "note"}
        An error keeps training from working or makes its score untrue; a warning probably costs accuracy; a note
        is worth knowing.
    check : str
        Which kind of fault, such as ``"constant"``.
    column : str or None
        The column; None for the table as a whole.
    value : float
        The number behind it: a count of rows, a share, a ratio.
    seen : str
        A sentence with that number.
    advice : str
        One thing to try.
    """

    severity: Severity
    check: str
    column: str | None
    value: float
    seen: str
    advice: str

    def __str__(self) -> str:
        where = f"{self.column}: " if self.column is not None else ""
        return f"{self.severity}: {where}{self.check}: {self.seen} {self.advice}"


@dataclass(eq=False)
class Audit:
    """What `audit` found, worst first.

    Attributes
    ----------
    findings : list of AuditFinding
        One for each fault and column.
    n_rows, n_test : int
        Rows of the table and of the test table (0 without one).
    n_numbers, n_categories : int
        Columns to learn from.
    target : str or None
        The column to predict.
    task : {"classification", "regression"} or None
        What training would take it for; None without a target.
    """

    findings: list[AuditFinding]
    n_rows: int
    n_test: int
    n_numbers: int
    n_categories: int
    target: str | None
    task: Task | None

    @property
    def errors(self) -> list[AuditFinding]:
        """The findings that keep training from working or make its score untrue."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def __iter__(self) -> Iterator[AuditFinding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {
            "rows": self.n_rows,
            "test_rows": self.n_test,
            "numbers": self.n_numbers,
            "categories": self.n_categories,
            "target": self.target,
            "task": self.task,
            "counts": self._counts(),
            "findings": [finding._asdict() for finding in self.findings],
        }

    def _counts(self) -> dict[str, int]:
        return {f"{name}s": sum(f.severity == name for f in self.findings) for name in SEVERITIES}

    def __str__(self) -> str:
        from tabulate import tabulate

        kinds = f"{many(self.n_numbers, 'column')} of numbers, {self.n_categories} of categories"
        head = f"{many(self.n_rows, 'row')}; {kinds}"
        if self.target is not None:
            head += f"; target {self.target!r} ({self.task})"
        if self.n_test:
            head += f"; {many(self.n_test, 'test row')}"
        if not self.findings:
            return f"{head}.\nNothing found."
        rows = [[f.severity, f.column or "", f"{f.check}: {f.seen}", f.advice] for f in self.folded()]
        table = tabulate(
            rows, headers=["", "column", "found", "to try"], maxcolwidths=[None, 20, 60, 36], disable_numparse=True
        )
        counts = ", ".join(many(n, name.removesuffix("s")) for name, n in self._counts().items())
        return f"{head}.\n\n{table}\n\n{counts}."

    def folded(self) -> list[AuditFinding]:
        """Return the findings, those that many columns share cut short."""
        groups: dict[tuple[str, str], list[AuditFinding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.severity, finding.check), []).append(finding)
        out = []
        for group in groups.values():
            if len(group) > _PRINTED + 1:
                first, rest = group[_PRINTED], f"and {len(group) - _PRINTED} more"
                group = [*group[:_PRINTED], first._replace(column=rest, seen=f"such as {first.column}.", advice="")]
            out += group
        return out


def leaks(findings: Iterable[AuditFinding]) -> list[str]:
    """Say what stands beside a score that may be too good: which columns tell the target by themselves.

    Examples
    --------
    >>> leaks([AuditFinding("error", "leak", "alive", 9, "It alone determines survived.", "Drop it.")])
    ['leak?: alive: It alone determines survived. Drop it.']
    """
    return [f"leak?: {f.column}: {f.seen} {f.advice}" for f in findings if f.check == "leak"]

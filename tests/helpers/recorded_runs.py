"""Runs of known condition, kept as plain numbers, and what `xpnn.diagnose` finds in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from places import PROJECT

import xpnn
from xpnn.training.diagnosis import judge
from xpnn.training.look import Look

FILE, PAGE = PROJECT / "tests" / "files" / "runs.json", PROJECT / "docs" / "diagnosis.md"


#: One run of each kind was looked at while `diagnose` was mended, one kept aside, and a third made after that.
PARTS = ("seen", "aside", "third")


class Recorded(NamedTuple):
    """A run, what must be found in it, what may be, and what is."""

    condition: str
    part: str
    must: frozenset[str]
    may: frozenset[str]
    epochs: int
    findings: list[xpnn.training.Finding]

    @property
    def found(self) -> set[str]:
        return {finding.name for finding in self.findings}

    @property
    def missed(self) -> set[str]:
        return set(self.must - self.found)

    @property
    def false(self) -> set[str]:
        return self.found - self.must - self.may


def load(parts: Sequence[str] = PARTS[:2]) -> list[Recorded]:
    """Return the runs of some parts that are kept, diagnosed now."""
    return [recorded(kept) for kept in json.loads(FILE.read_text(encoding="utf-8")) if kept["part"] in parts]


def recorded(kept: dict[str, Any]) -> Recorded:
    columns = kept["history"]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    history = xpnn.History([{"epoch": epoch, **row} for epoch, row in enumerate(rows, start=1)])
    history.restored = kept["restored"]
    look = Look(**kept["look"])
    must, may = frozenset(kept["must"]), frozenset(kept["may"])
    return Recorded(kept["condition"], kept["part"], must, may, len(history), judge(history, look))


#: What was right of the runs looked at, and of those kept aside, before anything was mended; and of the latter when
#: they were looked at for the first time.
BEFORE, FIRST = {"seen": 36, "aside": 32}, 38

_HEAD = """# What `diagnose` finds

[`diagnose`][xpnn.diagnose] reads the history of a run, and looks at its network and some rows if they are given. It
was tried on {runs} runs of known condition, {kinds} kinds with two runs each: real trainings on toy data and on the
tables that scikit-learn brings (digits, breast cancer, wine, iris, diabetes). `ci/make_runs.py` trains them; what
they show is kept in `tests/files/runs.json`, and the suite diagnoses it anew.

What must be found in each kind, and what may be found besides, was written down first. Runs whose curves showed
that they were not what they are called were then made with other options, all but one of them before they were
diagnosed. For three kinds, what may be found was corrected where a run looked at showed that it was wrong:
saturated units do make gradients vanish, a strong penalty does switch units off, and an R² below 0 after a short
training is useless. Two kinds were added on the way (as good as can be from the first epoch; trained further). Of
each kind one run was looked at while `diagnose` was mended, and one was kept aside.

| | runs | right before | right when first looked at | right now | with a false alarm | with something missed |
|---|--:|--:|--:|--:|--:|--:|
"""

_BETWEEN = """
A run is right if all is found that must be, and nothing else but what may be. When the runs kept aside were looked
at, {first} of {aside} were right. Their errors then led to three more changes (no word of overfitting while the
loss jumps, none where next to nothing is left to learn, and no oscillation that validation rows do not see), so
that the figure of now is no longer one of unseen runs.

## Each kind

*must* stands for what has to be found, *may* for what is true as well. **Bold** is an error of `diagnose` that is
left.

| kind of run | must | may | looked at | kept aside |
|---|---|---|---|---|
"""

_TAIL = """
## What it cannot tell

- Dropout, small batches and a rate too large make waves alike; only their size, and whether validation rows see them,
  is judged. Slow waves of several epochs are not found.
- A network too weak from the start looks like a rate too small: in both the loss hardly moves.
- Without a network (`diagnose(history)` alone) chance is not known, so that a useless classifier is not called so.
- Units that are off for the rows given may be on for others: they are told from four in ten on.

What to do about each is shown by code in [troubleshooting](troubleshooting.md).
"""


def _cell(run: Recorded) -> str:
    names = [f"**{name}**" if name in run.false else name for name in dict.fromkeys(f.name for f in run.findings)]
    return ", ".join([*names, *(f"**no {name}**" for name in sorted(run.missed))]) or "nothing"


def render(runs: list[Recorded]) -> str:
    """Return the page of the runs."""
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    text = _HEAD.format(runs=len(runs), kinds=len(pairs))
    for part, name in (("seen", "looked at"), ("aside", "kept aside")):
        own = [run for run in runs if run.part == part]
        right = sum(not run.missed and not run.false for run in own)
        first = FIRST if part == "aside" else ""
        wrong = f"{sum(bool(run.false) for run in own)} | {sum(bool(run.missed) for run in own)}"
        text += f"| {name} | {len(own)} | {BEFORE[part]} | {first} | {right} | {wrong} |\n"
    text += _BETWEEN.format(first=FIRST, aside=len(pairs))
    for seen, aside in pairs:
        must, may = (", ".join(sorted(names)) or "nothing" for names in (seen.must, seen.may))
        text += f"| {seen.condition} | {must} | {may} | {_cell(seen)} | {_cell(aside)} |\n"
    return text + _TAIL

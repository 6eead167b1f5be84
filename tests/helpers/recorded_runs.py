"""Runs of known condition, kept as plain numbers, and what `xpnn.diagnose` finds in them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from places import PROJECT

import xpnn
from xpnn.training.diagnosis import judge
from xpnn.training.look import Look

FILE, PAGE = PROJECT / "tests" / "files" / "runs.json", PROJECT / "docs" / "diagnosis.md"


#: One run of each kind was looked at while `diagnose` was mended, one kept aside, and a third made after that.
PARTS = {"seen": "looked at", "aside": "kept aside", "third": "made later"}


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


def load() -> list[Recorded]:
    """Return the runs that are kept, diagnosed now."""
    return [recorded(kept) for kept in json.loads(FILE.read_text(encoding="utf-8"))]


def recorded(kept: dict[str, Any]) -> Recorded:
    columns = kept["history"]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    history = xpnn.History([{"epoch": epoch, **row} for epoch, row in enumerate(rows, start=1)])
    history.restored = kept["restored"]
    look = Look(**kept["look"])
    must, may = frozenset(kept["must"]), frozenset(kept["may"])
    return Recorded(kept["condition"], kept["part"], must, may, len(history), judge(history, look))


#: What was right of each part before `diagnose` was mended for the runs at hand, and when it was looked at for the
#: first time.
BEFORE = {"seen": 36, "aside": 32, "third": 42}
FIRST = {"aside": 38, "third": 43}

_HEAD = """# What `diagnose` finds

[`diagnose`][xpnn.diagnose] reads the history of a run, and looks at its network and some rows if they are given. It
was tried on {runs} runs of known condition, {kinds} kinds with three runs each: real trainings on toy data and on the
tables that scikit-learn brings (digits, breast cancer, wine, iris, diabetes). `ci/make_runs.py` trains them; what
they show is kept in `tests/files/runs.json`, and the suite diagnoses it anew.

What must be found in each kind, and what may be found besides, was written down first. Runs whose curves showed
that they were not what they are called were then made with other options, all but one of them before they were
diagnosed. For four kinds, what may be found was corrected where a run looked at showed that it was wrong:
saturated units do make gradients vanish, a strong penalty does switch units off, an R² below 0 after a short
training is useless, and a rate too large does drive tanh units to their ends. Two kinds were added on the way (as
good as can be from the first epoch; trained further).

Of each kind one run was looked at while `diagnose` was mended, and one was kept aside. Those were looked at in the
end, and `diagnose` was mended once more. So that there is a figure of unseen runs again, a third of each kind was
made later, from other data, other networks and other optimizers, and was diagnosed once, when `diagnose` had been
mended for the others; for these, *before* is before the last changes. One was made after that, for the examples (slow
waves are told only where more than a tenth is left to learn); it changed nothing in the table.

| | runs | right before | right when first looked at | right now | with a false alarm | with something missed |
|---|--:|--:|--:|--:|--:|--:|
"""

_BETWEEN = """
A run is right if all is found that must be, and nothing else but what may be. **The last line is the one to go by:
of {later} runs that nothing was mended for, {first} are right, and none has a false alarm.** What was mended for the
other two lines: no word of overfitting while the loss jumps, where next to nothing is left to learn, or where the
rise is no larger than what the curve moves anyway; no oscillation that validation rows do not see; slow waves that
they see are one; a loss that goes up and down from epoch to epoch is not held back by a rate too small; units that
do nothing are told where they are most of a layer, or where something is wrong that they would explain.

## Each kind

*must* stands for what has to be found, *may* for what is true as well. **Bold** is an error of `diagnose` that is
left.

| kind of run | must | may | looked at | kept aside | made later |
|---|---|---|---|---|---|
"""

_TAIL = """
The suite also runs every [example](gallery.md), diagnoses each training in it, and compares with a list of those that
are made to go wrong: the others get no alarm.

## What it cannot tell

- Dropout, small batches and a rate too large make waves alike; only their size, and whether validation rows see them,
  is judged. Without validation rows, slow waves of several epochs are not found.
- A network too weak from the start looks like a rate too small where all rows make one batch: in both the loss falls
  by next to nothing. With smaller batches it goes up and down, and that tells them apart.
- Where the pace of a loss has fallen below about half of its mean, training is taken to have come to its end, though
  there may be something left.
- Without a network (`diagnose(history)` alone) chance is not known, so that a useless classifier is not called so.
  Chance is taken to be alike for all classes: where one is somewhat more frequent, a useless network may look better
  than it is.
- Units that are off for the rows given may be on for others: they are told from half of a layer on, from four in ten
  where something is wrong that they would explain.

What to do about each is shown by code in [troubleshooting](troubleshooting.md).
"""


def _cell(run: Recorded) -> str:
    names = [f"**{name}**" if name in run.false else name for name in dict.fromkeys(f.name for f in run.findings)]
    return ", ".join([*names, *(f"**no {name}**" for name in sorted(run.missed))]) or "nothing"


def render(runs: list[Recorded]) -> str:
    """Return the page of the runs."""
    kinds = [runs[k : k + len(PARTS)] for k in range(0, len(runs), len(PARTS))]
    text = _HEAD.format(runs=len(runs), kinds=len(kinds))
    for part, name in PARTS.items():
        own = [run for run in runs if run.part == part]
        right = sum(not run.missed and not run.false for run in own)
        wrong = f"{sum(bool(run.false) for run in own)} | {sum(bool(run.missed) for run in own)}"
        text += f"| {name} | {len(own)} | {BEFORE[part]} | {FIRST.get(part, '')} | {right} | {wrong} |\n"
    text += _BETWEEN.format(first=FIRST["third"], later=len(kinds))
    for same in kinds:
        must, may = (", ".join(sorted(names)) or "nothing" for names in (same[0].must, same[0].may))
        text += f"| {same[0].condition} | {must} | {may} | {' | '.join(_cell(run) for run in same)} |\n"
    return text + _TAIL

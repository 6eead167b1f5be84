"""How often rows that nothing has moved in are said to have moved, and how much of a shift is found.

    python benchmarks/drift.py
    python benchmarks/drift.py --draws 1000

Both tables of docs/new-data.md: each draw is a table to learn from and a new one, of ten columns of unlike kinds.
"""

from __future__ import annotations

import argparse

import numpy as np

from xpnn.data import InputSchema, TableEncoder, drift

SIZES = ((2000, 500), (500, 40), (200, 200), (300, 2000), (10_000, 1), (20_000, 3000))
SHIFTS = (0.1, 0.2, 0.3, 0.5, 1.0)
WORDS = np.array([f"w{k}" for k in range(40)], dtype=object)
CHANCES = 1 / np.arange(1, 41) / (1 / np.arange(1, 41)).sum()


def table(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Ten columns: normal, heavy tails, mostly zero, few values, gaps, frequent and rare words, dates, flags."""
    rare = np.array([f"z{k}" for k in np.minimum(rng.zipf(1.6, n), 2000)], dtype=object)
    gaps = rng.normal(size=n)
    gaps[rng.random(n) < 0.03] = np.nan
    return {
        "normal": rng.normal(size=n),
        "lognormal": rng.lognormal(0, 2, n),
        "zero": np.where(rng.random(n) < 0.9, 0, rng.random(n)),
        "few": rng.integers(0, 4, n).astype(float),
        "gaps": gaps,
        "words": rng.choice(WORDS, n, p=CHANCES),
        "rare": rare,
        "day": np.datetime64("2020-01-01") + rng.integers(0, 1000, n),
        "flag": rng.random(n) < 0.02,
        "cauchy": rng.standard_cauchy(n),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--draws", type=int, default=200)
    draws = options.parse_args().draws
    print(f"of {draws} pairs of tables drawn alike, said to have moved:\n")
    print("| rows then, now | PSI above 0.1 alone | as xpnn counts | warned of with predictions |\n|---|---|---|---|")
    for then, now in SIZES:
        fixed = moved = warned = 0
        for seed in range(draws):
            rng = np.random.default_rng(seed)
            columns = table(rng, then)
            encoder = TableEncoder(max_categories=50, min_count=2).fit(columns)
            found = drift(InputSchema.of(encoder, columns), table(rng, now), encoder=encoder)
            fixed += found.psi > 0.1
            moved += bool(found.above(0.1))
            warned += found.warning() is not None
        print(f"| {then:,}, {now:,} | {fixed} | {moved} | {warned} |", flush=True)
    print(f"\nof {draws} columns whose mean moved by so many standard deviations, found (2,000 rows then):\n")
    print(f"| rows now | {' | '.join(map(str, SHIFTS))} |\n|---|{'---|' * len(SHIFTS)}")
    for now in (50, 200, 1000):
        print(f"| {now:,} | {' | '.join(str(found_of(shift, now, draws)) for shift in SHIFTS)} |", flush=True)


def found_of(shift: float, now: int, draws: int) -> int:
    """Return in how many draws a shift is told as moderate or large."""
    found = 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        columns = {"x": rng.normal(size=2000), "y": rng.normal(size=2000)}
        schema = InputSchema.of(TableEncoder().fit(columns), columns)
        told = drift(schema, {"x": rng.normal(shift, 1, now), "y": rng.normal(size=now)})
        found += "x" in told.above(0.1)
    return found


if __name__ == "__main__":
    main()

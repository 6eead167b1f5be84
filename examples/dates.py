"""A frame with dates: how many shares are traded today?  What is held out is the future, not rows drawn at random.

The table is real: 1,047 trading days of one share, 2004 to 2008, as matplotlib carries them among its samples.  A day
is described by its date and by what is known before the exchange opens; dates go into `TabularRegressor` as they are.

Run: python examples/dates.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import xpnn
from xpnn.tabular import TabularRegressor


def read_days() -> pd.DataFrame:
    """Return a row for each day: its date, what is known of the days before, and what was traded, in millions."""
    path = matplotlib.cbook.get_sample_data("goog.npz", asfileobj=False)
    raw = pd.DataFrame(np.load(path)["price_data"])
    traded, spread = raw["volume"] / 1e6, 100 * (raw["high"] - raw["low"]) / raw["close"]
    days = {
        "date": raw["date"],
        "gap": 100 * (raw["open"] / raw["close"].shift(1) - 1).abs(),  # overnight, in percent
        "traded_yesterday": traded.shift(1),
        "traded_week": traded.rolling(5).mean().shift(1),
        "spread_yesterday": spread.shift(1),
        "spread_week": spread.rolling(5).mean().shift(1),
        "traded": traded,
    }
    return pd.DataFrame(days).iloc[5:].reset_index(drop=True)


def main() -> None:
    """Learn from four years, predict the fifth, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer networks and epochs, for tests")
    parser.add_argument("--out", default="runs/dates", help="folder for the picture")
    args = parser.parse_args()

    days = read_days()
    future = days["date"] >= "2008-01-01"
    known, new = days[~future], days[future]
    drawn = np.random.default_rng(0).permutation(len(days)) < len(new)  # as many, of all years
    given = [name for name in days.columns if name != "traded"]
    without_date = [name for name in given if name != "date"]
    options = {"preset": "quick", "ensemble": 3 if args.quick else 8, "backend": args.backend}
    if args.quick:
        options |= {"epochs": 60}

    def fit(rows: pd.DataFrame, columns: list[str]) -> TabularRegressor:
        return TabularRegressor(**options).fit(rows[columns], rows["traded"])

    def off(answers: np.ndarray, rows: pd.DataFrame) -> float:
        return float(np.abs(answers - rows["traded"]).mean())

    # 1. The latest days held out: with the date, without it, and by the rule "as many as yesterday".
    model = fit(known, given)
    answers = model.predict(new[given])
    errors = {
        "as yesterday": off(new["traded_yesterday"].to_numpy(), new),
        "without the date": off(fit(known, without_date).predict(new[without_date]), new),
        "with the date": off(answers, new),
    }
    print("Mean error on 2008, in millions: " + ", ".join(f"{name} {error:.2f}" for name, error in errors.items()))

    # 2. Rows drawn at random are neighbours of days that were learnt.
    at_random = off(fit(days[~drawn], given).predict(days.loc[drawn, given]), days[drawn])
    rule = off(days.loc[drawn, "traded_yesterday"].to_numpy(), days[drawn])
    print(f"Held out at random instead: {at_random:.2f}, as yesterday {rule:.2f}")

    # 3. How sure, and by what?
    low, high = model.predict_interval(new[given], coverage=0.8).T
    inside = float(((low <= new["traded"]) & (new["traded"] <= high)).mean())
    importance = model.feature_importance(new[given], new["traded"])

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[5, 2, 2.4])
    left.fill_between(new["date"], low, high, color=xpnn.plots.OKABE_ITO[4], alpha=0.35, label="80 % intervals")
    left.plot(new["date"], new["traded"], ".", color="black", markersize=4, label="traded")
    left.plot(new["date"], answers, color=xpnn.plots.OKABE_ITO[0], linewidth=1.2, label="predicted")
    left.set(title="2008, which training never saw", ylabel="million shares", ylim=(0, None))
    left.legend(frameon=False)
    left.tick_params(axis="x", rotation=30)
    middle.bar(range(3), list(errors.values()), color=xpnn.plots.OKABE_ITO[:3])
    middle.set_xticks(range(3), [name.replace(" ", "\n", 1) for name in errors])
    middle.set(title="Mean error on 2008", ylabel="million shares")
    places = np.arange(len(importance.names))[::-1]
    right.barh(places, importance.mean, xerr=importance.std, color=xpnn.plots.OKABE_ITO[0])
    right.set_yticks(places, importance.names)
    right.set(title="Rise of the RMSE when shuffled")
    if not errors["with the date"] < errors["as yesterday"]:
        raise SystemExit(f"expected the answers to be better than the rule, got {errors}")
    if not inside > 0.7:
        raise SystemExit(f"expected about 80 % of the days inside their intervals, got {inside:.0%}")
    print("A frame with dates goes in as it is: on days after all that were learnt its answers are nearer than")
    print(f"the rule 'as many as yesterday', and {inside:.0%} of the days lie in their 80 % intervals.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'dates.png')}")


if __name__ == "__main__":
    main()

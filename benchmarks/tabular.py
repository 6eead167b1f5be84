"""Errors and times on tables: the presets of xpnn.tabular beside other libraries with their default settings.

    python benchmarks/tabular.py --data FOLDER --presets quick,good,best --seeds 3
    python benchmarks/tabular.py --data FOLDER --peers saved.jsonl --models "" --plot docs/images/tabular.png

FOLDER holds a folder for each table, with train.csv and test.csv whose last column is the target; without it the
tables that come with scikit-learn are taken.  Everything is fitted on the training rows and judged on the test rows:
root mean squared error, or the share of wrong classes, log-loss and area under the ROC curve.  Results are written
after each fit, and what is there already is not done again.  The peers come with xpnn[bench-tables]; who is not here
is named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness import PROJECT, MissingError, begin, parser, reason, write

sys.path.insert(0, str(PROJECT))

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from xpnn.data.targets import infer_task
from xpnn.tabular import TabularClassifier, TabularRegressor

PRESETS = ("quick", "good", "best")
# A share of wrong rows below half a row of the test table is taken as that, so that ratios stay finite.
LEAST_ROWS = 0.5


class Problem(NamedTuple):
    """A table, divided."""

    name: str
    train: pd.DataFrame
    y: pd.Series
    test: pd.DataFrame
    y_test: pd.Series
    classes: bool


def read_folder(folder: Path, numbers: Collection[str]) -> Iterator[Problem]:
    """Yield the tables of a folder; the targets of some are said to be numbers, though they look like classes."""
    for path in sorted(folder.iterdir()):
        if not (path / "train.csv").is_file():
            continue
        train, test = (pd.read_csv(path / f"{part}.csv") for part in ("train", "test"))
        target = train.columns[-1]
        # A column of text that looks like numbers in one of the two files alone is text in both.
        for name in train.columns[:-1]:
            if train[name].dtype != test[name].dtype and "object" in (str(train[name].dtype), str(test[name].dtype)):
                train[name], test[name] = train[name].astype(str), test[name].astype(str)
        y, y_test = train.pop(target), test.pop(target)
        classes = path.name not in numbers and infer_task(y).task == "classification"
        yield Problem(path.name, train, y, test, y_test, classes)


def bundled() -> Iterator[Problem]:
    """Yield the tables that come with scikit-learn."""
    for name in ("breast_cancer", "diabetes", "digits", "wine"):
        frame = getattr(datasets, f"load_{name}")(as_frame=True)
        X, y, classes = frame.data, frame.target, name != "diabetes"
        parts = train_test_split(X, y, test_size=0.2, random_state=0, stratify=y if classes else None)
        yield Problem(name, parts[0], parts[2], parts[1], parts[3], classes)


# -- models: each takes a problem and a seed and returns a fitted estimator --------------------------------------
def _numbers_and_words(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    numbers = make_column_selector(dtype_include=np.number)(frame)
    return numbers, [name for name in frame.columns if name not in numbers]


def _dense(frame: pd.DataFrame) -> ColumnTransformer:
    """Scaled numbers and one-hot categories, as most people prepare a table for a network."""
    numbers, words = _numbers_and_words(frame)
    one_hot = OneHotEncoder(handle_unknown="ignore", min_frequency=5, sparse_output=False)
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            ("words", make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), one_hot), words),
        ]
    )


def _ordinal(frame: pd.DataFrame) -> ColumnTransformer:
    numbers, words = _numbers_and_words(frame)
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return ColumnTransformer([("numbers", "passthrough", numbers), ("words", codes, words)])


def sk_mlp(problem: Problem, seed: int, **options: Any) -> Any:
    """scikit-learn's MLP on scaled numbers and one-hot categories."""
    kind = MLPClassifier if problem.classes else MLPRegressor
    model = make_pipeline(_dense(problem.train), kind(random_state=seed, **options))
    if problem.classes:
        return model.fit(problem.train, problem.y)
    return _Scaled(model, problem.y).fit(problem.train)


class _Scaled:
    """A regressor that learns the standardized target."""

    def __init__(self, model: Any, y: pd.Series) -> None:
        self.model, self.y, self.mean, self.std = model, y, float(y.mean()), float(y.std()) or 1.0

    def fit(self, X: pd.DataFrame) -> _Scaled:
        self.model.fit(X, (self.y - self.mean) / self.std)
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.model.predict(X)) * self.std + self.mean


def sk_hgb(problem: Problem, seed: int) -> Any:
    """scikit-learn's boosted trees."""
    kind = HistGradientBoostingClassifier if problem.classes else HistGradientBoostingRegressor
    return make_pipeline(_ordinal(problem.train), kind(random_state=seed)).fit(problem.train, problem.y)


def _needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingError(f"{package} is not installed: pip install {package}")


def lightgbm(problem: Problem, seed: int) -> Any:
    """LightGBM."""
    _needs("lightgbm")
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMClassifier if problem.classes else LGBMRegressor
    model = kind(random_state=seed, n_jobs=1, verbose=-1)
    return make_pipeline(_ordinal(problem.train), model).fit(problem.train, problem.y)


def catboost(problem: Problem, seed: int) -> Any:
    """CatBoost, which is told the categorical columns."""
    _needs("catboost")
    from catboost import CatBoostClassifier, CatBoostRegressor

    _, words = _numbers_and_words(problem.train)

    def filled(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(**{name: frame[name].astype(str) for name in words})

    kind = CatBoostClassifier if problem.classes else CatBoostRegressor
    options = {"random_seed": seed, "thread_count": 1, "verbose": False, "allow_writing_files": False}
    model = kind(cat_features=words, **options).fit(filled(problem.train), problem.y)
    return _Through(model, filled)


class _Through:
    """A model that is given frames through a function."""

    def __init__(self, model: Any, way: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        self.model, self.way = model, way
        if hasattr(model, "predict_proba"):
            self.predict_proba = lambda X: model.predict_proba(way(X))
            self.classes_ = model.classes_

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.model.predict(self.way(X))).reshape(len(X))


def realmlp(problem: Problem, seed: int, *, small: bool) -> Any:
    """RealMLP of pytabkit, tuned defaults, the small variant or the whole one."""
    _needs("pytabkit")
    import pytabkit

    kind = getattr(pytabkit, f"RealMLP_TD_{'S_' if small else ''}{'Classifier' if problem.classes else 'Regressor'}")
    numbers, words = _numbers_and_words(problem.train)
    means = problem.train[numbers].mean()

    def filled(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(
            **{n: frame[n].fillna(means[n]) for n in numbers}, **{n: frame[n].astype(str) for n in words}
        )

    model = kind(random_state=seed, device="cpu", n_threads=1)
    return _Through(model.fit(filled(problem.train), problem.y, cat_col_names=words), filled)


def ours(problem: Problem, seed: int, *, preset: str) -> Any:
    """One of the presets."""
    kind = TabularClassifier if problem.classes else TabularRegressor
    return kind(preset=preset, random_state=seed).fit(problem.train, problem.y)


MODELS: dict[str, Callable[[Problem, int], Any]] = {
    "sk_mlp_default": sk_mlp,
    "sk_mlp_256x3_es": lambda p, s: sk_mlp(p, s, hidden_layer_sizes=(256, 256, 256), early_stopping=True),
    "sk_hgb": sk_hgb,
    "lgbm": lightgbm,
    "catboost": catboost,
    "realmlp_td_s": lambda p, s: realmlp(p, s, small=True),
    "realmlp_td": lambda p, s: realmlp(p, s, small=False),
}


def measure(model: Callable[[Problem, int], Any], problem: Problem, seed: int) -> dict[str, Any]:
    """Fit a model, and return its time and what it is worth on the test rows."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = model(problem, seed)
    seconds = time.perf_counter() - began
    row: dict[str, Any] = {"seconds": round(seconds, 3), "test_rows": len(problem.y_test)}
    if not problem.classes:
        residual = np.asarray(fitted.predict(problem.test), dtype=float).reshape(-1) - problem.y_test.to_numpy()
        return row | {"error": float(np.sqrt(np.square(residual).mean()))}
    answers = np.asarray(fitted.predict(problem.test)).astype(str)
    wrong = (answers != problem.y_test.to_numpy().astype(str)).mean()
    p, classes = np.asarray(fitted.predict_proba(problem.test), dtype=float), [str(c) for c in fitted.classes_]
    y = [str(label) for label in problem.y_test]
    order = np.argsort(classes)
    p = np.clip(p[:, order], 1e-12, 1.0)
    p /= p.sum(axis=1, keepdims=True)
    row |= {"error": float(wrong), "log_loss": float(log_loss(y, p, labels=sorted(classes)))}
    if len(classes) == 2:
        row["auc"] = float(roc_auc_score([label == sorted(classes)[1] for label in y], p[:, 1]))
    return row


# -- results ------------------------------------------------------------------------------------------------------
def saved_peers(path: Path) -> Iterator[dict[str, Any]]:
    """Yield results that were measured earlier: JSON lines of ds, model, seed, fit_s, ntest, and rmse or acc."""
    for line in path.read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        error = found["rmse"] if "rmse" in found else 1.0 - found["acc"]
        row = {"table": found["ds"], "model": found["model"], "seed": found["seed"], "error": error}
        names = {"seconds": "fit_s", "log_loss": "logloss", "auc": "auc", "test_rows": "ntest"}
        yield row | {name: found[key] for name, key in names.items() if found.get(key) is not None}


Scores = dict[str, dict[str, dict[str, float]]]  # model, table, score: the mean over seeds


def means(rows: Iterable[dict[str, Any]]) -> Scores:
    """Average over seeds; beside the error, what is judged of probabilities, small values being good."""
    gathered: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        if "log_loss" in row:
            least = LEAST_ROWS / row.get("test_rows", 1000)
            row = row | {"error": max(row["error"], least)}
        if "auc" in row:
            row = row | {"1-auc": max(1.0 - row["auc"], 1e-6)}
        for name in ("error", "log_loss", "1-auc", "seconds"):
            if name in row:
                gathered[row["model"]][row["table"]][name].append(row[name])
    return {
        model: {table: {n: statistics.fmean(v) for n, v in scores.items()} for table, scores in tables.items()}
        for model, tables in gathered.items()
    }


def ratio(scores: Scores, model: str, peer: str, what: str) -> tuple[float, int]:
    """Return the geometric mean of the model's score by the peer's over the tables that both have, and how many."""
    logs = [
        math.log(scores[model][table][what] / scores[peer][table][what])
        for table in scores[model].keys() & scores[peer].keys()
        if what in scores[model][table] and what in scores[peer][table]
    ]
    return (math.exp(statistics.fmean(logs)), len(logs)) if logs else (math.nan, 0)


def worst(scores: Scores, model: str, peers: Iterable[str]) -> tuple[float, str]:
    """Return the largest ratio of the model's error to that of the table's best peer, and the table."""
    found = [
        (own["error"] / min(scores[peer][table]["error"] for peer in peers if table in scores[peer]), table)
        for table, own in scores[model].items()
        if any(table in scores[peer] for peer in peers)
    ]
    return max(found, default=(math.nan, ""))


def page(scores: Scores) -> str:
    """Return tables in Markdown: ratios to each peer, then the error of each on each table."""
    own = [f"xpnn {preset}" for preset in PRESETS if f"xpnn {preset}" in scores]
    peers = [model for model in scores if model not in own]
    lines = []
    if own:
        lines += [
            f"| error by the peer's (log-loss, 1 - AUC; tables) | {' | '.join(own)} |",
            f"|---|{'---|' * len(own)}",
        ]
        for peer in peers:
            cells = []
            for model in own:
                values = [ratio(scores, model, peer, what) for what in ("error", "log_loss", "1-auc")]
                others = ", ".join(f"{value:.2f}" if n else "-" for value, n in values[1:])
                cells.append(f"{values[0][0]:.3f} ({others}; {values[0][1]})" if values[0][1] else "-")
            lines.append(f"| {peer} | {' | '.join(cells)} |")
        if peers:
            found = [worst(scores, model, peers) for model in own]
            lines.append(f"| best of all, worst table | {' | '.join(f'{v:.2f} {table}' for v, table in found)} |")
        seconds = [sum(t.get("seconds", 0.0) for t in scores[model].values()) for model in own]
        lines += [f"| seconds in all | {' | '.join(f'{s:.0f}' for s in seconds)} |", ""]
    tables = sorted({table for tables in scores.values() for table in tables})
    shown = [*own, *peers]
    lines += [f"| table | {' | '.join(shown)} |", f"|---|{'---|' * len(shown)}"]
    for table in tables:
        cells = [f"{scores[m][table]['error']:.4g}" if table in scores[m] else "-" for m in shown]
        lines.append(f"| {table} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(scores: Scores, path: Path) -> None:
    """Draw time against error: geometric means over the tables that every model drawn has, least error 1."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    own = [model for model in scores if model.startswith("xpnn ")]
    most = max(len(tables) for tables in scores.values())
    drawn = [model for model, tables in scores.items() if len(tables) >= 0.7 * most]
    shared = set.intersection(*(set(scores[model]) for model in drawn))
    best = {table: min(scores[model][table]["error"] for model in drawn) for table in shared}

    def place(model: str) -> tuple[float, float]:
        logs = [math.log(scores[model][table]["error"] / best[table]) for table in shared]
        seconds = [math.log(max(scores[model][table]["seconds"], 0.05)) for table in shared]
        return math.exp(statistics.fmean(seconds)), math.exp(statistics.fmean(logs))

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    axes.set(xscale="log", xlabel="seconds to fit, geometric mean", ylabel="error by the best of each table")
    axes.set_title(f"{len(shared)} tables", loc="left")
    axes.grid(alpha=0.3)
    for model in drawn:
        x, y = place(model)
        ours_too = model in own
        axes.plot(x, y, "o", color="C3" if ours_too else "C0", markersize=8 if ours_too else 6)
        axes.annotate(model, (x, y), textcoords="offset points", xytext=(6, 5), fontweight="bold" if ours_too else None)
    line = [place(model) for preset in PRESETS for model in [f"xpnn {preset}"] if model in drawn]
    axes.plot(*zip(*line, strict=True), color="C3", alpha=0.5) if len(line) > 1 else None
    axes.margins(x=0.2, y=0.15)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"picture in {path}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    made = parser(__doc__, seconds=0.0)
    made.add_argument("--data", type=Path, help="folder of tables (those that come with scikit-learn)")
    made.add_argument("--numbers", default="", help="tables whose target of few whole numbers is no class, by commas")
    made.add_argument("--presets", default=",".join(PRESETS), help="of xpnn.tabular (%(default)s)")
    made.add_argument("--models", default=",".join(MODELS), help="peers to measure (%(default)s)")
    made.add_argument("--peers", type=Path, help="file of peers' results measured before, JSON lines")
    made.add_argument("--seeds", type=int, default=3, help="how many, for each of xpnn's presets (%(default)s)")
    made.add_argument("--peer-seeds", type=int, default=1, help="how many, for each peer (%(default)s)")
    made.add_argument("--plot", type=Path, help="draw time against error into this file")
    made.add_argument("--again", action="store_true", help="measure also what is in the file of results already")
    return made.parse_args()


def plan(args: argparse.Namespace) -> dict[str, tuple[Callable[[Problem, int], Any], int]]:
    """Return what is to be measured: the models by name, and over how many seeds."""
    chosen: dict[str, tuple[Callable[[Problem, int], Any], int]] = {}
    for preset in filter(None, args.presets.split(",")):
        chosen[f"xpnn {preset}"] = (lambda p, s, preset=preset: ours(p, s, preset=preset), args.seeds)
    for name in filter(None, args.models.split(",")):
        if name not in MODELS:
            sys.exit(f"--models: expected names among {', '.join(MODELS)}, got {name!r}.")
        chosen[name] = MODELS[name], args.peer_seeds
    if args.only:
        chosen = {name: model for name, model in chosen.items() if any(part in name for part in args.only.split(","))}
    if not args.quick:
        return chosen
    return {name: (model, 1) for name, (model, _) in chosen.items() if name not in ("xpnn good", "xpnn best")}


def main() -> None:
    args = arguments()
    path, results = begin("tabular", args)
    rows: list[dict[str, Any]] = []
    if path.is_file() and not args.again:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    del results["problems"]
    results |= {"rows": rows, "missing": {}}
    done = {(row["table"], row["model"], row["seed"]) for row in rows}
    for problem in read_folder(args.data, args.numbers.split(",")) if args.data else bundled():
        if args.problem not in problem.name or (args.quick and problem.name not in ("wine", "diabetes")):
            continue
        for name, (model, seeds) in plan(args).items():
            for seed in range(seeds):
                if name in results["missing"] or (problem.name, name, seed) in done:
                    continue
                try:
                    row = {"table": problem.name, "model": name, "seed": seed, **measure(model, problem, seed)}
                except Exception as error:
                    where = name if isinstance(error, MissingError) else f"{name} on {problem.name}"
                    results["missing"][where] = reason(error)
                    print(f"{where} skipped: {reason(error)}", flush=True)
                    continue
                rows.append(row)
                print(f"{problem.name:<20}{name:<18}{seed:>3}{row['error']:>14.6g}{row['seconds']:>9.1f} s", flush=True)
                write(path, results)
    write(path, results)
    scores = means([*rows, *(saved_peers(args.peers) if args.peers else ())])
    print(f"\n{page(scores)}\n\nin {path}")
    if args.plot:
        plot(scores, args.plot)


if __name__ == "__main__":
    main()

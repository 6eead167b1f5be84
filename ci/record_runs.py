"""Record runs of known condition for `xpnn.diagnose`, and make the table of docs/diagnosis.md.

Each run is a training of a few seconds whose condition is made: a rate too small, labels by lot, weights too large, or
nothing wrong.  Kept are its curves, its last weights, and a few of its rows, in tests/data/recorded_runs.json.

Run: python ci/record_runs.py [--table-only]
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import xpnn
from xpnn.initializers import Normal

PROJECT = Path(__file__).resolve().parents[1]
sys.path.append(str(PROJECT / "tests" / "helpers"))

from recorded_runs import PAGE, RECORDED, render  # noqa: E402

COLUMNS = ("loss", "val_loss", "accuracy", "val_accuracy", "r2", "val_r2", "grad_norm")
KEPT_ROWS = 40


class Case(NamedTuple):
    """One run: what is made of it, what it must be called, and how it is trained."""

    condition: str
    expected: tuple[str, ...]
    data: str
    widths: tuple[int, ...]
    optimizer: xpnn.Optimizer
    epochs: int = 40
    activation: str = "tanh"
    batch_size: int = 32
    options: Mapping[str, Any] = MappingProxyType({})
    stop: bool = False


def rows(name):
    """Training and validation rows: 'moons', 'moons noise 0.3', 'circles 100', ... or a variation of them."""
    rng = np.random.default_rng(7)
    kind, *words = name.split()
    if kind == "line":
        x = rng.standard_normal((300, 2))
        y = (x @ np.asarray([[1.0], [-2.0]])) + 0.1 * rng.standard_normal((300, 1))
        y = rng.permutation(y) if "shuffled" in words else y
        return x[:200], y[:200], x[200:], y[200:]
    if kind == "wave":
        x = rng.uniform(-3, 3, (300, 1))
        y = np.sin(2 * x) + 0.05 * rng.standard_normal((300, 1))
        return x[:200], y[:200], x[200:], y[200:]
    if kind == "columns":  # one of forty tells
        x = rng.standard_normal((300, 40))
        y = x[:, :1] + 0.5 * rng.standard_normal((300, 1))
        return x[:30], y[:30], x[200:], y[200:]
    if kind == "digits":
        x, y = xpnn.data.load_digits()
        order = rng.permutation(len(x))
        few = 150 if "few" in words else 900
        labels = y[order[:few]].copy()
        if "wrong" in words:
            labels[: few // 4] = rng.integers(0, 10, few // 4)
        return x[order[:few]], labels, x[order[900:1400]], y[order[900:1400]]
    make = {"moons": xpnn.data.make_moons, "circles": xpnn.data.make_circles, "spirals": xpnn.data.make_spirals}[kind]
    x, y = make(600, noise=0.3 if "noisy" in words else 0.1, seed=0)
    if "unscaled" in words:
        x = x * 1000.0 + 5000.0
    y = rng.integers(0, 2, 600) if "by-lot" in words else y
    if "rare" in words:  # 19 of 20 rows are of class 0, and no column tells which
        x, y = rng.standard_normal((600, 2)), (np.arange(600) % 20 == 0).astype(y.dtype)
    few = 60 if "few" in words else 400
    labels = y[:few].copy()
    if "wrong" in words:
        labels[: few // 5] = 1 - labels[: few // 5]
    return x[:few], labels, x[400:], y[400:]


def adam(lr=0.01):
    return xpnn.Adam(lr=lr)


def sgd(lr, momentum=0.0):
    return xpnn.SGD(lr=lr, momentum=momentum)


DEEP, WIDE = (2, *[12] * 12, 2), (2, 128, 2)
CASES = {
    "moons": Case("well", (), "moons", (2, 16, 16, 2), adam()),
    "moons, ReLU": Case("well", (), "moons", (2, 16, 16, 2), adam(), activation="relu"),
    "moons, noise 0.3": Case("well: nine of ten is what can be had", (), "moons noisy", (2, 16, 2), adam()),
    "circles": Case("well", (), "circles", (2, 12, 2), adam(0.03)),
    "spirals": Case("well", (), "spirals", (2, 24, 24, 2), adam(0.02), 80),
    "digits": Case("well", (), "digits", (64, 32, 10), adam(0.005), 20),
    "a line of two columns": Case("well", (), "line", (2, 8, 1), adam(0.02)),
    "a wave": Case("well", (), "wave", (1, 24, 1), adam(0.02), 60),
    "moons to the end": Case("well: waves of a loss next to nothing", (), "moons", (2, 24, 24, 2), sgd(0.3, 0.9), 80),
    "moons with dropout": Case("well", (), "moons", (2, 32, 2), adam(0.02), options={"dropout": 0.2}),
    "circles, batch norm": Case("well", (), "circles", (2, 16, 2), adam(0.02), options={"norm": "batch"}),
    "wrong labels, stopped early": Case(
        "well: EarlyStopping brought the best back", (), "moons few wrong", WIDE, adam(0.03), 80, "relu", 20, stop=True
    ),
    "moons, rate 1e-5": Case("rate far too small", ("too slow", "useless"), "moons", (2, 16, 16, 2), sgd(1e-5)),
    "digits, rate 1e-7": Case("rate far too small", ("too slow",), "digits", (64, 32, 10), adam(1e-7), 15),
    "a line, rate 1e-5": Case("rate far too small", ("too slow", "useless"), "line", (2, 8, 1), sgd(1e-5)),
    "moons, rate 2e-4": Case("ended long before it was done", ("unfinished",), "moons", (2, 16, 2), adam(2e-4), 30),
    "digits, 20 epochs": Case("ended long before it was done", ("unfinished",), "digits", (64, 16, 10), sgd(0.01), 20),
    "one unit, rate 15": Case("rate too large", ("oscillating",), "moons", (2, 2), sgd(15.0), batch_size=400),
    "moons, rate 3": Case("well, after a rough start", (), "moons", (2, 16, 16, 2), sgd(3.0), 30),
    "digits, Adam at 0.3": Case("kills ReLUs", ("dead units",), "digits", (64, 16, 10), adam(0.3), 30, "relu"),
    "a line, rate 1.2": Case("rate far too large", ("diverging",), "line", (2, 1), sgd(1.2), 8, batch_size=200),
    "60 rows, a fifth wrong": Case("by heart", ("overfitting",), "moons few wrong", WIDE, adam(), 80, "relu", 20),
    "digits, a quarter wrong": Case("by heart", ("overfitting",), "digits few wrong", (64, 64, 10), adam(), 40),
    "30 rows of 40 columns": Case("by heart", ("useless",), "columns", (40, 20, 1), adam(), 60, "relu", 10),
    "circles, one unit": Case("too small a network", ("underfitting",), "circles", (2, 1, 2), adam(0.1)),
    "spirals, a line": Case("too small a network", ("underfitting",), "spirals", (2, 2), adam(0.1)),
    "labels by lot": Case("nothing to learn", ("useless",), "moons by-lot", (2, 4, 2), sgd(0.01), 20),
    "shuffled targets": Case("nothing to learn", ("useless",), "line shuffled", (2, 8, 1), adam(0.01), 30),
    "one row in twenty": Case("says one class", ("useless",), "moons rare", (2, 4, 2), sgd(0.05), 20),
    "13 layers of sigmoids": Case(
        "too deep for sigmoids", ("too slow", "useless", "vanishing gradients", "constant prediction"),
        "moons", DEEP, sgd(0.1), 20, "sigmoid",
    ),
    "N(0, 5²), 12 layers": Case(
        "first weights too large", ("exploding gradients",), "moons", DEEP, sgd(1e-30), 6, "relu",
        options={"init": Normal(5.0)},
    ),
    "columns times 1,000, ReLU": Case(
        "unscaled", ("useless", "dead units", "constant prediction"),
        "moons unscaled", (2, 16, 2), sgd(0.1), 15, "relu",
    ),
    "columns times 1,000, tanh": Case("unscaled", ("saturated units",), "moons unscaled", (2, 16, 2), adam(), 15),
}  # fmt: skip


def record(case):
    """Train one case; return what is kept of it."""
    X, y, X_val, y_val = rows(case.data)
    regression = y.ndim == 2
    net = xpnn.mlp(list(case.widths), case.activation, seed=0, **case.options)
    loss = xpnn.MeanSquaredError() if regression else xpnn.CrossEntropy()
    callbacks = [xpnn.EarlyStopping(patience=10)] if case.stop else []
    trainer = xpnn.Trainer(net, loss, case.optimizer, metrics=["r2" if regression else "accuracy"], callbacks=callbacks)
    history = trainer.fit(X, y, epochs=case.epochs, batch_size=case.batch_size, X_val=X_val, y_val=y_val)
    kept = {
        "condition": case.condition,
        "expected": list(case.expected),
        "restored": history.restored,
        "history": {name: [shortened(v) for v in history[name]] for name in COLUMNS if name in history},
    }
    if net.n_params < 2000:
        some = np.arange(min(KEPT_ROWS, len(X)))
        kept["net"] = {
            "widths": list(case.widths),
            "activation": case.activation,
            "options": {name: given for name, given in case.options.items() if name != "init"},
            "state": {name: shortened_array(value, 3) for name, value in net.state_dict().items()},
        }
        kept["rows"] = {"X": shortened_array(X[some]), "y": shortened_array(y[some])}
    return kept


def shortened(value, digits=4):
    return float(f"{value:.{digits}g}")


def shortened_array(values, digits=4):
    values = xpnn.to_numpy(values)
    if values.dtype.kind in "iu":
        return values.tolist()
    return np.vectorize(lambda value: shortened(value, digits))(values.astype(float)).tolist()


def main() -> None:
    """Record every case, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table-only", action="store_true", help="only write the page, from what was recorded")
    args = parser.parse_args()
    if not args.table_only:
        recorded = {name: record(case) for name, case in CASES.items()}
        lines = [f"{json.dumps(name)}: {json.dumps(run)}" for name, run in recorded.items()]
        RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        print(f"{len(recorded)} runs, {RECORDED.stat().st_size / 1e3:.0f} kB")
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()

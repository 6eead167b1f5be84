"""Train runs of known condition for `xpnn.diagnose` to be tried on, and keep what they show in tests/files/runs.json.

Run: python ci/make_runs.py          # trains them all (needs scikit-learn, for its tables) and writes the page
     python ci/make_runs.py --page   # writes docs/diagnosis.md of the runs that are kept

What must be found, and what may be, was written down before the runs were made. Of each kind of run one was looked at
while `diagnose` was being mended, one was kept aside and looked at later, and a third was made after that.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from recorded_runs import FILE, PAGE, PARTS, load, render

import xpnn
from xpnn.initializers import Normal
from xpnn.training.look import look_at

Data = tuple[Any, Any, Any, Any]


class Kind(NamedTuple):
    """A condition, what `diagnose` must find, what it may find besides, and a run of each set."""

    condition: str
    must: tuple[str, ...]
    may: tuple[str, ...]
    seen: Callable[[], tuple[xpnn.Trainer, Any]]
    aside: Callable[[], tuple[xpnn.Trainer, Any]]
    third: Callable[[], tuple[xpnn.Trainer, Any]]


# -- data -----------------------------------------------------------------------------------------------------------
def split(X, y, rows, others=None, seed=0) -> Data:
    """So many rows to train on and others to validate on, scaled by those to train on."""
    order = np.random.default_rng(seed).permutation(len(X))
    train, rest = order[:rows], order[rows : None if others is None else rows + others]
    scaler = xpnn.data.Standardizer().fit(X[train])
    return scaler.transform(X[train]), y[train], scaler.transform(X[rest]), y[rest]


def table(name, rows, others=None, seed=0) -> Data:
    """One of scikit-learn's tables."""
    from sklearn import datasets

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if y.dtype.kind == "f":
        y = y.reshape(-1, 1)
    return split(X, y, rows, others, seed)


def moons(rows=200, others=200, noise=0.2, seed=0) -> Data:
    return split(*xpnn.data.make_moons(rows + others, noise=noise, seed=seed), rows, seed=seed)


def circles(rows=200, others=200, noise=0.1, seed=0) -> Data:
    return split(*xpnn.data.make_circles(rows + others, noise=noise, seed=seed), rows, seed=seed)


def spirals(rows=300, others=150, seed=0) -> Data:
    return split(*xpnn.data.make_spirals(rows + others, seed=seed), rows, seed=seed)


def blobs(rows=150, others=150, noise=0.15, seed=0) -> Data:
    return split(*xpnn.data.make_blobs(rows + others, noise=noise, seed=seed), rows, seed=seed)


def waves(rows=200, others=100, unit=1.0, noise=0.1, seed=0) -> Data:
    """A smooth function of three numbers, in any unit."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows + others, 3))
    y = np.sin(X[:, 0]) + 0.5 * X[:, 1] + noise * rng.normal(size=rows + others)
    return split(X, unit * y.reshape(-1, 1), rows, seed=seed)


def flipped(data: Data, share, seed=7) -> Data:
    """Some labels wrong, of both parts; all of them drawn anew if `share` is 1."""
    rng = np.random.default_rng(seed)

    def turn(y):
        wrong = rng.random(len(y)) < share
        return np.where(wrong, rng.permutation(y), y)

    X, y, X_val, y_val = data
    return X, turn(y), X_val, turn(y_val)


def rare(data: Data, every) -> Data:
    """Of class 1 only one row in so many is kept."""

    def keep(X, y):
        chosen = (y != 1) | (np.cumsum(y == 1) % every == 0)
        return X[chosen], (y[chosen] == 1).astype(int)

    X, y, X_val, y_val = data
    return *keep(X, y), *keep(X_val, y_val)


def leaking(data: Data) -> Data:
    """A column more that tells the class by itself."""
    X, y, X_val, y_val = data
    return np.column_stack([X, 2 * y - 1]), y, np.column_stack([X_val, 2 * y_val - 1]), y_val


def constant(data: Data) -> Data:
    """Inputs that say nothing: all rows alike."""
    X, y, X_val, y_val = data
    return np.zeros_like(X), y, np.zeros_like(X_val), y_val


def hill(rows, seed=0):
    """What no line follows well: the target is high in the middle, and on one side."""
    X = np.random.default_rng(seed).normal(size=(rows, 2))
    return X, 2 * np.exp(-np.square(X).sum(axis=1)).reshape(-1, 1) + 0.4 * X[:, :1]


def friedman(rows, others=200, noise=1.0, unit=1.0, seed=0) -> Data:
    """Friedman's first function, of five numbers out of ten."""
    from sklearn.datasets import make_friedman1

    X, y = make_friedman1(rows + others, noise=noise, random_state=seed)
    return split(X, unit * y.reshape(-1, 1), rows, seed=seed)


def normals(rows, others, apart=1.0, seed=0) -> Data:
    """Two clouds that overlap, so far apart in standard deviations."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows + others)
    return split(rng.normal(size=(rows + others, 2)) + apart * np.asarray([[0.5, 0.0]]) * (2 * y - 1)[:, None], y, rows)


def raw(name, rows) -> Data:
    """A table as it is: columns in hundredths, and columns in thousands."""
    from sklearn import datasets

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    return X[order[:rows]], y[order[:rows]], X[order[rows:]], y[order[rows:]]


def plane(rows, noise=0.0, seed=0):
    """What a line follows."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 4))
    return X, X @ np.asarray([[1.0], [-2.0], [0.5], [0.0]]) + noise * rng.normal(size=(rows, 1))


def saddle(rows, seed=0):
    """A product of two numbers, of which neither says anything alone."""
    X = np.random.default_rng(seed).normal(size=(rows, 2))
    return X, X[:, :1] * X[:, 1:]


def xor(noise) -> Data:
    return split(*xpnn.data.make_xor(400, noise=noise), 200)


def blobs2() -> Data:
    X, y = xpnn.data.make_blobs(400, n_classes=2, seed=5)
    return split(X, y, 200)


# -- runs -----------------------------------------------------------------------------------------------------------
def classes(data: Data, sizes, optimizer, *, epochs=40, batch=32, val=True, seed=0, net=None, fit=None, **options):
    """Train a classifier; `sizes` are of the hidden layers."""
    X, y, X_val, y_val = data
    made = {name: options.pop(name) for name in ("activation", "dropout", "norm", "init") if name in options}
    one = isinstance(options.get("loss"), xpnn.BinaryCrossEntropy)
    n_out = 1 if one else int(max(y.max(), y_val.max())) + 1
    if one:
        y, y_val = y.reshape(-1, 1), y_val.reshape(-1, 1)
    net = net or xpnn.mlp([X.shape[1], *sizes, n_out], seed=seed, **made)
    trainer = xpnn.Trainer(net, options.pop("loss", xpnn.CrossEntropy()), optimizer, seed=seed, **options)
    more = {"X_val": X_val, "y_val": y_val} if val else {}
    trainer.fit(X, y, epochs=epochs, batch_size=batch, **more, **(fit or {}))
    return trainer, (X_val if val else X)[:300]


def numbers(data: Data, sizes, optimizer, *, epochs=40, batch=32, val=True, seed=0, r2=True, activation="relu", **more):
    """Train a regression."""
    X, y, X_val, y_val = data
    net = xpnn.mlp([X.shape[1], *sizes, y.shape[1]], activation, seed=seed)
    trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), optimizer, metrics=["r2"] if r2 else [], seed=seed, **more)
    trainer.fit(X, y, epochs=epochs, batch_size=batch, **({"X_val": X_val, "y_val": y_val} if val else {}))
    return trainer, (X_val if val else X)[:300]


def scaled(data: Data) -> Data:
    """Targets in standard deviations of those to train on."""
    X, y, X_val, y_val = data
    mean, spread = y.mean(), y.std()
    return X, (y - mean) / spread, X_val, (y_val - mean) / spread


def shuffled(data: Data, seed=3) -> Data:
    """The targets of a regression in another order."""
    X, y, X_val, y_val = data
    rng = np.random.default_rng(seed)
    return X, rng.permutation(y), X_val, rng.permutation(y_val)


def biased(n_in, sizes, n_out, value, names, activation="relu", seed=0):
    """A network whose first biases push its units where they do nothing."""
    net = xpnn.mlp([n_in, *sizes, n_out], activation, seed=seed)
    for name in names:
        net.params[name][...] = value
    return net


def good(data: Data):
    """A network that has learnt these rows."""
    return classes(data, [32], adam(0.01), epochs=25)[0].net


def adam(lr=0.01):
    return xpnn.Adam(lr)


def sgd(lr, momentum=0.0):
    return xpnn.SGD(lr, momentum=momentum)


def stop(patience=8):
    return [xpnn.EarlyStopping(patience=patience)]


DEEP = [16] * 10
# fmt: off
KINDS = [
    # -- nothing is wrong
    Kind("trains well, with validation", (), (),
         lambda: classes(moons(), [16, 16], adam(), epochs=60),
         lambda: classes(table("digits", 1200), [32], adam(0.003), epochs=25, batch=64),
         lambda: classes(spirals(400, 300, seed=5), [48, 48], adam(), epochs=60)),
    Kind("trains well, without validation", (), (),
         lambda: classes(table("digits", 1200), [32], adam(0.003), epochs=20, batch=64, val=False),
         lambda: classes(table("breast_cancer", 400), [16], adam(0.003), epochs=30, val=False),
         lambda: numbers(scaled(friedman(400)), [32], adam(0.005), epochs=60, val=False)),
    Kind("stopped early, best weights back", (), (),
         lambda: classes(flipped(moons(80), 0.2), [64, 64], adam(), epochs=150, callbacks=stop()),
         lambda: classes(table("digits", 300, 300), [64], adam(0.003), epochs=200, callbacks=stop()),
         lambda: numbers(scaled(friedman(150, seed=1)), [64, 64], adam(0.005), epochs=200, callbacks=stop(10))),
    Kind("one epoch, or a few", (), (),
         lambda: classes(table("digits", 1200), [32], adam(0.003), epochs=1),
         lambda: classes(table("wine", 120), [16], adam(), epochs=3, batch=16),
         lambda: numbers(scaled(waves(400, seed=8)), [16], adam(0.02), epochs=4)),
    Kind("a long plateau, then a fall", (), (),
         lambda: classes(circles(noise=0.03), [16] * 3, adam(0.006), epochs=100, activation="sigmoid", seed=1),
         lambda: classes(xor(0.1), [16] * 3, adam(0.003), epochs=120, activation="sigmoid"),
         lambda: classes(circles(noise=0.05, seed=6), [12] * 3, adam(), epochs=120, activation="sigmoid")),
    Kind("noisy steps of one or two rows", (), (),
         lambda: classes(moons(), [16], sgd(0.02), epochs=30, batch=1),
         lambda: classes(table("wine", 120), [16], sgd(0.01), epochs=30, batch=2),
         lambda: classes(circles(400, 300, seed=9), [16], sgd(0.05), epochs=30, batch=1, activation="tanh")),
    Kind("warm-up, one cycle", (), (),
         lambda: classes(table("digits", 1200), [32], adam(0.005), epochs=25, batch=64,
                         schedule=xpnn.Warmup(xpnn.CosineDecay(), duration=5)),
         lambda: classes(table("breast_cancer", 400), [16], sgd(0.05, 0.9), epochs=12, schedule=xpnn.OneCycle()),
         lambda: numbers(scaled(friedman(400, seed=2)), [32], sgd(0.02, 0.9), epochs=30, schedule=xpnn.OneCycle())),
    Kind("warm restarts", (), (),
         lambda: classes(table("digits", 1200), [32], adam(0.01), epochs=30, batch=64,
                         schedule=xpnn.WarmRestarts(10)),
         lambda: classes(moons(noise=0.15), [16, 16], sgd(0.5), epochs=60, schedule=xpnn.WarmRestarts(10)),
         lambda: classes(spirals(seed=6), [32, 32], adam(), epochs=40, activation="tanh",
                         schedule=xpnn.WarmRestarts(10))),
    Kind("a loss next to nothing", (), (),
         lambda: classes(blobs(noise=0.1), [16], adam(0.03), epochs=80, batch=16),
         lambda: numbers(waves(noise=0.0), [32], adam(0.01), epochs=100, batch=16, activation="tanh"),
         lambda: numbers(scaled(split(*plane(300), 200)), [], sgd(0.1), epochs=60)),
    Kind("a regression in large units", (), (),
         lambda: numbers(table("diabetes", 300), [16], adam(0.03), epochs=100),
         lambda: numbers(waves(unit=1e4), [32], adam(0.3), epochs=150, activation="tanh"),
         lambda: numbers(friedman(300, unit=100.0, seed=3), [32], adam(0.1), epochs=100)),
    Kind("a scaled regression", (), (),
         lambda: numbers(scaled(table("diabetes", 300)), [8], adam(0.002), epochs=40),
         lambda: numbers(scaled(waves(noise=0.5)), [16], adam(0.003), epochs=60),
         lambda: numbers(scaled(friedman(300, seed=4)), [16], adam(0.003), epochs=60)),
    Kind("a regression without r2", (), (),
         lambda: numbers(scaled(waves()), [16], adam(), epochs=30, r2=False),
         lambda: numbers(scaled(table("diabetes", 300)), [8], adam(0.002), epochs=40, r2=False, callbacks=stop()),
         lambda: numbers(split(*hill(400, 5), 250), [16], adam(), epochs=50, r2=False)),
    Kind("dropout: validation is easier", (), (),
         lambda: classes(table("digits", 1200), [64], adam(0.003), epochs=40, batch=64, dropout=0.5),
         lambda: classes(table("breast_cancer", 400), [32, 32], adam(0.003), epochs=15, dropout=0.4),
         lambda: classes(table("wine", 110, seed=5), [64], adam(0.003), epochs=40, batch=16, dropout=0.5)),
    Kind("some labels are wrong, and it learns the rest", (), ("underfitting",),
         lambda: classes(flipped(moons(400, 400), 0.3), [8], adam(), epochs=30),
         lambda: classes(flipped(table("digits", 1200), 0.2), [16], adam(0.002), epochs=20, batch=64),
         lambda: classes(flipped(table("breast_cancer", 400, seed=2), 0.15), [4], adam(0.003), epochs=15)),
    Kind("a column tells the class", (), (),
         lambda: classes(leaking(moons()), [16], adam(), epochs=40),
         lambda: classes(leaking(table("breast_cancer", 400)), [16], adam(0.003), epochs=60),
         lambda: classes(leaking(circles(seed=3)), [8], sgd(0.3), epochs=40)),
    Kind("a rare class, and it is found", (), (),
         lambda: classes(rare(moons(1000, 600), 10), [16], adam(), epochs=40, fit={"class_weight": "balanced"}),
         lambda: classes(rare(table("digits", 1200), 1), [16], adam(0.003), epochs=25),
         lambda: classes(rare(circles(1500, 800, noise=0.05, seed=2), 10), [16], adam(), epochs=40)),
    Kind("a rare class seldom likelier than not", (), ("one class",),
         lambda: classes(rare(moons(2000, 1500, noise=0.6), 12), [8], adam(), epochs=30),
         lambda: classes(rare(circles(2000, 1500, noise=0.4), 8), [16], adam(), epochs=40),
         lambda: classes(rare(normals(2000, 1500, apart=1.0), 12), [8], adam(), epochs=20)),
    Kind("deep, with norm layers", (), (),
         lambda: classes(moons(), [16] * 5, adam(0.003), epochs=40, norm="layer"),
         lambda: classes(table("digits", 1200), [32] * 4, adam(0.003), epochs=20, batch=64, norm="batch"),
         lambda: classes(spirals(seed=4), [24] * 4, adam(0.005), epochs=40, norm="rms")),
    Kind("tanh units", (), (),
         lambda: classes(table("digits", 1200), [32], adam(0.003), epochs=25, batch=64, activation="tanh"),
         lambda: classes(spirals(seed=2), [32, 32], adam(0.02), epochs=30, activation="tanh"),
         lambda: classes(table("iris", 100, seed=3), [16], adam(), epochs=40, batch=16, activation="tanh")),
    Kind("two classes, one output", (), (),
         lambda: classes(moons(), [16], adam(), epochs=50, loss=xpnn.BinaryCrossEntropy()),
         lambda: classes(table("breast_cancer", 400), [16], adam(0.003), epochs=25, loss=xpnn.BinaryCrossEntropy()),
         lambda: classes(circles(seed=7), [16], adam(), epochs=50, loss=xpnn.BinaryCrossEntropy())),
    Kind("at rest for long, and good", (), (),
         lambda: classes(moons(noise=0.05), [16], adam(0.02), epochs=120, regularizer=xpnn.L2(1e-3)),
         lambda: classes(table("iris", 100), [16], adam(), epochs=80, batch=16, regularizer=xpnn.L2(1e-3)),
         lambda: numbers(scaled(split(*plane(400, noise=0.2), 250)), [8], sgd(0.05), epochs=100)),
    Kind("at rest for long, as good as can be", (), ("underfitting",),
         lambda: classes(moons(600, 400, noise=0.5), [8], sgd(0.1), epochs=60),
         lambda: numbers(scaled(waves(noise=1.0)), [4], sgd(0.02), epochs=40, activation="tanh"),
         lambda: classes(normals(800, 800, apart=1.0), [4], adam(), epochs=40)),
    Kind("as good as can be from the first epoch", (), ("underfitting",),
         lambda: classes(blobs(4000, 1000, noise=0.6), [16], adam(0.02), epochs=10, batch=8),
         lambda: numbers(scaled(waves(6000, 1000, noise=1.0)), [16], adam(0.01), epochs=8, batch=8),
         lambda: classes(flipped(moons(4000, 1000, noise=0.1, seed=3), 0.6), [8], adam(0.02), epochs=8, batch=8)),
    Kind("trained further, from good weights", (), (),
         lambda: classes(table("digits", 1200), [], adam(0.0003), epochs=10, net=good(table("digits", 1200))),
         lambda: classes(moons(600, 300), [], adam(0.0003), epochs=20, net=good(moons(600, 300))),
         lambda: classes(table("breast_cancer", 400), [], adam(0.0001), epochs=15,
                         net=good(table("breast_cancer", 400)))),
    # -- something is wrong
    Kind("learns its few rows by heart", ("overfitting",), (),
         lambda: classes(flipped(moons(60), 0.2), [128, 128], adam(), epochs=80, batch=20),
         lambda: classes(flipped(table("digits", 200, 400), 0.2), [128], adam(), epochs=60),
         lambda: classes(flipped(table("wine", 90, seed=3), 0.3), [128], adam(0.005), epochs=80, batch=16)),
    Kind("a regression learnt by heart", ("overfitting",), ("useless",),
         lambda: numbers(scaled(table("diabetes", 100)), [128, 128], adam(0.005), epochs=80),
         lambda: numbers(scaled(waves(60, 200, noise=0.7)), [128, 128], adam(0.005), epochs=100),
         lambda: numbers(scaled(friedman(60, noise=3.0)), [128, 128], adam(0.003), epochs=120)),
    Kind("too weak for the task", ("underfitting",), ("useless", "one class"),
         lambda: classes(circles(), [1], adam(0.05), epochs=60, activation="tanh"),
         lambda: classes(xor(0.2), [], adam(0.03), epochs=60),
         lambda: classes(spirals(400, 200, seed=8), [], sgd(0.5), epochs=60)),
    Kind("held back by a strong penalty", ("underfitting",), ("useless", "dead units"),
         lambda: classes(moons(noise=0.3), [16], adam(), epochs=60, regularizer=xpnn.L2(3.0)),
         lambda: classes(table("digits", 1200), [16], adam(0.005), epochs=40, regularizer=xpnn.L2(0.3)),
         lambda: classes(table("wine", 120, seed=2), [16], adam(), epochs=60, regularizer=xpnn.L2(1.0))),
    Kind("too weak for a regression", ("underfitting",), ("useless",),
         lambda: numbers(scaled(split(*hill(400), 250)), [], adam(0.02), epochs=60),
         lambda: numbers(scaled(split(*hill(400, 1), 250)), [8], adam(0.02), epochs=60, regularizer=xpnn.L2(0.2)),
         lambda: numbers(scaled(split(*saddle(400), 250)), [1], adam(0.02), epochs=60)),
    Kind("a rate too large: to and fro", ("oscillating",), ("underfitting", "saturated units", "dead units"),
         lambda: classes(moons(), [], sgd(15.0), epochs=40, batch=200),
         lambda: classes(flipped(table("wine", 120), 0.2), [8], sgd(10.0), epochs=40, batch=120, activation="tanh",
                         seed=1),
         lambda: classes(flipped(table("iris", 100, seed=1), 0.2), [], sgd(8.0), epochs=40, batch=100)),
    Kind("a rate too large: to and fro, regression", ("oscillating",), ("useless", "saturated units"),
         lambda: numbers(scaled(waves()), [16], adam(2.0), epochs=30, activation="tanh"),
         lambda: numbers(scaled(table("diabetes", 300)), [16], adam(0.5), epochs=40, activation="tanh"),
         lambda: numbers(scaled(friedman(300, seed=6)), [16], adam(1.0), epochs=40, activation="tanh")),
    Kind("a rate too large: it rises", ("diverging",), ("useless", "exploding gradients", "dead units",
                                                        "constant prediction", "saturated units"),
         lambda: numbers(scaled(waves()), [], sgd(1.06), epochs=12, batch=200),
         lambda: numbers(scaled(table("diabetes", 300)), [], sgd(0.27), epochs=12, batch=300),
         lambda: numbers(scaled(friedman(300, seed=7)), [], sgd(0.9), epochs=12, batch=300)),
    Kind("a rate too small", ("too slow",), ("useless", "one class"),
         lambda: classes(moons(), [16, 16], sgd(1e-5), epochs=30),
         lambda: classes(table("digits", 1200), [32], sgd(1e-5), epochs=20),
         lambda: classes(spirals(seed=9), [32], adam(1e-6), epochs=30)),
    Kind("a rate too small, without validation", ("too slow",), ("useless", "one class"),
         lambda: numbers(scaled(waves()), [16], adam(1e-6), epochs=30, val=False),
         lambda: classes(table("wine", 120), [16], adam(1e-6), epochs=30, val=False),
         lambda: numbers(scaled(friedman(300, seed=8)), [16], sgd(1e-5), epochs=30, val=False)),
    Kind("cut off while it still learns", ("still improving",), ("underfitting",),
         lambda: classes(table("digits", 1200), [32], sgd(0.02), epochs=8, batch=64),
         lambda: classes(spirals(), [32, 32], adam(0.001), epochs=25),
         lambda: classes(circles(400, 200, seed=4), [16], sgd(0.05), epochs=15)),
    Kind("cut off while it still learns, regression", ("still improving",), ("useless",),
         lambda: numbers(scaled(waves()), [16], adam(0.001), epochs=12),
         lambda: numbers(scaled(table("diabetes", 300)), [16], adam(0.0003), epochs=20),
         lambda: numbers(scaled(friedman(300, seed=9)), [32], adam(0.0005), epochs=15)),
    Kind("units are off for every row", ("dead units",), ("too slow", "useless", "constant prediction",
                                                          "underfitting", "one class", "still improving"),
         lambda: classes(moons(), [], sgd(0.01), epochs=10, net=biased(2, [16, 16], 2, -10, ["0.bias", "2.bias"])),
         lambda: classes(table("digits", 600), [], sgd(0.01), epochs=10, net=biased(64, [32], 10, -50, ["0.bias"])),
         lambda: classes(table("wine", 120), [], sgd(0.01), epochs=10,
                         net=biased(13, [16, 16], 3, -20, ["0.bias", "2.bias"]))),
    Kind("units are at their ends", ("saturated units",), ("too slow", "useless", "underfitting",
                                                           "constant prediction", "one class", "still improving",
                                                           "vanishing gradients"),
         lambda: classes(moons(), [], sgd(0.01), epochs=10, net=biased(2, [16, 16], 2, 8.0, ["0.bias"], "tanh")),
         lambda: classes(table("digits", 600), [32, 32], sgd(0.01), epochs=10, activation="sigmoid",
                         init=Normal(6.0)),
         lambda: classes(raw("wine", 120), [16], sgd(0.001), epochs=10, activation="tanh")),
    Kind("gradients vanish", ("vanishing gradients",), ("too slow", "useless", "constant prediction",
                                                        "underfitting", "one class"),
         lambda: classes(moons(), DEEP, sgd(0.05), epochs=10, activation="sigmoid"),
         lambda: classes(table("digits", 600), DEEP, sgd(0.05), epochs=10, activation="sigmoid", seed=3),
         lambda: classes(spirals(seed=2), [16] * 12, sgd(0.05), epochs=10, activation="sigmoid")),
    Kind("gradients explode", ("exploding gradients",), ("too slow", "useless", "diverging", "oscillating",
                                                         "dead units"),
         lambda: classes(moons(), [8] * 8, sgd(1e-30), epochs=6, activation="identity", init=Normal(8.0)),
         lambda: classes(table("digits", 600), [32] * 6, sgd(1e-30), epochs=6, init=Normal(3.0)),
         lambda: classes(table("wine", 120), [32] * 7, sgd(1e-30), epochs=6, init=Normal(2.0))),
    Kind("inputs say nothing: all rows alike", ("useless", "constant prediction"),
         ("too slow", "underfitting", "one class", "dead units"),
         lambda: classes(constant(moons()), [16], adam(), epochs=20),
         lambda: classes(constant(table("digits", 600)), [16], adam(), epochs=20),
         lambda: numbers(scaled(constant(waves())), [16], adam(), epochs=20)),
    Kind("labels shuffled", ("useless",), ("overfitting", "underfitting", "too slow"),
         lambda: classes(flipped(moons(), 1.0), [64], adam(), epochs=40),
         lambda: classes(flipped(table("digits", 800, 500), 1.0), [64], adam(0.003), epochs=30),
         lambda: classes(flipped(spirals(400, 300, seed=3), 1.0), [64], adam(), epochs=30)),
    Kind("labels shuffled, one output", ("useless",), ("overfitting", "underfitting", "too slow"),
         lambda: classes(flipped(moons(seed=4), 1.0), [64], adam(), epochs=40, loss=xpnn.BinaryCrossEntropy()),
         lambda: classes(flipped(blobs2(), 1.0), [64], adam(), epochs=40, loss=xpnn.BinaryCrossEntropy()),
         lambda: classes(flipped(table("breast_cancer", 350), 1.0), [32], adam(0.003), epochs=30,
                         loss=xpnn.BinaryCrossEntropy())),
    Kind("targets of a regression shuffled", ("useless",), ("overfitting", "underfitting", "too slow"),
         lambda: numbers(scaled(shuffled(waves())), [32], adam(), epochs=40),
         lambda: numbers(scaled(shuffled(table("diabetes", 300))), [32], adam(0.003), epochs=40),
         lambda: numbers(scaled(shuffled(friedman(300, seed=5))), [32], adam(0.005), epochs=40)),
    Kind("always the common class, from noise", ("useless",), ("too slow", "underfitting", "overfitting"),
         lambda: classes(rare(flipped(moons(1000, 600), 1.0), 15), [4], sgd(0.05), epochs=15),
         lambda: classes(rare(flipped(circles(1000, 600), 1.0), 15), [4], sgd(0.05), epochs=15,
                         loss=xpnn.BinaryCrossEntropy()),
         lambda: classes(rare(flipped(normals(1500, 900), 1.0), 12), [8], adam(0.003), epochs=15)),
]
# fmt: on


def short(value):
    """Return a number with six digits."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def record(kind: Kind, part: str) -> dict[str, Any]:
    """Train one run, that of the part ``"seen"``, ``"aside"`` or ``"third"``, and return what is kept of it."""
    trainer, X = getattr(kind, part)()
    history = trainer.history
    names = [name for name in history.names if name not in ("epoch", "seconds")]
    look = look_at(trainer.net, X)._asdict()
    for name in ("gradients", "weights"):
        look[name] = {key: short(value) for key, value in look[name].items()}
    look["idle"] = [[label, what, short(share)] for label, what, share in look["idle"]]
    look |= {name: short(look[name]) for name in ("spread", "size")}
    return {
        "condition": kind.condition,
        "part": part,
        "must": list(kind.must),
        "may": list(kind.may),
        "restored": history.restored,
        "history": {name: [short(value) for value in history[name]] for name in names},
        "look": look,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the page alone, of the runs that are kept")
    args = parser.parse_args()
    if not args.page:
        lines = [json.dumps(record(kind, part)) for kind in KINDS for part in PARTS]
        FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    PAGE.write_text(render(load()), encoding="utf-8")


if __name__ == "__main__":
    main()

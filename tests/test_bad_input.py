"""Wrong calls that people make, and the sentence that each gives: where, expected what, got what, what to do."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from places import backend_or_skip

import xpnn
from xpnn import data
from xpnn.errors import (
    BackendUnavailableError,
    DataError,
    DTypeError,
    FileFormatError,
    LabelError,
    OptionError,
    ShapeError,
    XpnnError,
)

N, N_IN, CLASSES = 20, 4, 3
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, N_IN)).astype(np.float32)
Y = np.arange(N) % CLASSES
T = X[:, :1] + 1.0
ONE_HOT = np.eye(CLASSES, dtype=np.float32)[Y]
WITH_NAN, WITH_INF = X.copy(), X.copy()
WITH_NAN[3, 2], WITH_INF[5, 1] = np.nan, -np.inf


class Wrong(NamedTuple):
    """A wrong call, the class of its error, and what its message must say."""

    error: type[XpnnError]
    words: str
    call: Callable[[Path], Any]


def classes(net=None, loss=None, optimizer=None, **options):
    net = net or xpnn.mlp([N_IN, 5, CLASSES])
    return xpnn.Trainer(net, loss or xpnn.CrossEntropy(), optimizer or xpnn.Adam(), **options)


def numbers(n_out=1, loss=None):
    return xpnn.Trainer(xpnn.mlp([N_IN, n_out]), loss or xpnn.MeanSquaredError(), xpnn.Adam())


def binary(n_out=1):
    return numbers(n_out, xpnn.BinaryCrossEntropy())


def categories():
    return classes(xpnn.Sequential(xpnn.Embedding(5, 2), xpnn.Linear(CLASSES), n_in=2))


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def csv_file(tmp: Path, text: str, **options):
    return data.load_csv(written(tmp / "table.csv", text), **options)


def saved(tmp: Path) -> Path:
    xpnn.save(xpnn.mlp([4, 3]), tmp / "net.safetensors")
    return tmp / "net.safetensors"


def cut(path: Path, keep: int) -> Path:
    return written(path, path.read_bytes()[:keep])


def idx(tmp: Path, keep: int | None = None) -> Path:
    data.idx.write_idx(tmp / "a.idx", np.zeros((3, 4), np.uint8))
    return cut(tmp / "a.idx", keep) if keep is not None else tmp / "a.idx"


def other_mnist(tmp: Path) -> None:
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        data.idx.write_idx(tmp / f"{name}-ubyte", np.zeros(7, np.uint8))
    data.load_mnist(tmp, download=False)


def twice() -> None:
    layer = xpnn.Linear(3)
    xpnn.Sequential(layer, xpnn.ReLU(), layer, n_in=3)


def two_networks() -> None:
    layer = xpnn.Linear(3)
    xpnn.Sequential(layer, n_in=3)
    xpnn.Sequential(layer, n_in=3)


def shared_optimizer() -> None:
    optimizer = xpnn.Adam()
    for _ in range(2):
        classes(optimizer=optimizer).fit(X, Y, epochs=1)


def two_replicas(lr):
    return classes(xpnn.mlp([N_IN, CLASSES], replicas=2), optimizer=xpnn.Adam(lr))


WRONG: dict[str, Wrong] = {
    # -- shapes
    "X of one axis": Wrong(
        ShapeError,
        r"expected x of shape \(batch, 4\), got \(4,\)\. .*x\.reshape\(1, -1\)",
        lambda _: classes().fit(X[0], Y),
    ),
    "X transposed": Wrong(
        ShapeError, r"0\.Linear: expected .*\(batch, 4\), got \(4, 20\)\. .*X\.T", lambda _: classes().fit(X.T, Y[:4])
    ),
    "X too narrow": Wrong(
        ShapeError,
        r"0\.Linear: expected x of shape \(batch, 4\), got \(20, 3\)\. Pass 4 features a row, or .* n_in=3\.",
        lambda _: classes().fit(X[:, :3], Y),
    ),
    "X of three axes": Wrong(
        ShapeError,
        r"Sequential: expected x of shape \(batch, 4\), got \(1, 20, 4\)\. .*X\.reshape\(-1, 4\)",
        lambda _: classes().fit(X[None], Y[:1]),
    ),
    "images": Wrong(
        ShapeError,
        r"0\.Linear: expected x of shape \(batch, 4\), got \(20, 2, 2\)\. Flatten .*: X\.reshape\(len\(X\), -1\)\.$",
        lambda _: classes().fit(X.reshape(20, 2, 2), Y),
    ),
    "images of another size": Wrong(
        ShapeError,
        r"got \(10, 2, 2, 2\)\. Flatten each sample: .* Pass 4 features a row, or .* n_in=8\.",
        lambda _: classes().fit(X.reshape(10, 2, 2, 2), Y[:10]),
    ),
    "sets of rows for other replicas": Wrong(
        ShapeError,
        r"Sequential: expected x of shape \(2, batch, 4\), got \(3, 20, 4\)\. Give each replica",
        lambda _: two_replicas(0.1).net.predict(np.stack([X] * 3)),
    ),
    "X to predict too narrow": Wrong(
        ShapeError, r"0\.Linear: expected .* got \(20, 2\)\. .*n_in=2", lambda _: classes().predict_proba(X[:, :2])
    ),
    "X to predict ragged": Wrong(
        ShapeError, r"predict: expected rows of equal length in X", lambda _: xpnn.mlp([2, 1]).predict([[1, 2], [1]])
    ),
    "X to predict of strings": Wrong(
        DTypeError,
        r"predict: expected real numbers in X, got dtype <U1\. Encode text",
        lambda _: xpnn.mlp([2, 1]).predict([["a", "b"]]),
    ),
    "X ragged": Wrong(
        ShapeError, r"fit: expected rows of equal length in X", lambda _: classes().fit([[1, 2, 3, 4], [1]], [0, 1])
    ),
    "X and y of different length": Wrong(
        ShapeError, r"fit: expected equally many rows, but X has 20, y has 19\.", lambda _: classes().fit(X, Y[:-1])
    ),
    "X_val and y_val of different length": Wrong(
        ShapeError,
        r"fit \(validation\): expected equally many rows",
        lambda _: classes().fit(X, Y, X_val=X, y_val=Y[:2]),
    ),
    "y of one axis for one output": Wrong(
        ShapeError,
        r"MeanSquaredError\(\): expected targets of shape \(20, 1\).* got \(20,\)\. .*y\.reshape\(-1, 1\)",
        lambda _: numbers().fit(X, T[:, 0]),
    ),
    "labels in a column": Wrong(
        ShapeError,
        r"CrossEntropy\(\): .*integer labels \(20,\).* got \(20, 1\)\. Use y\[:, 0\] \(or y\.ravel\(\)\)\.",
        lambda _: classes().fit(X, Y[:, None]),
    ),
    "one output for classes": Wrong(
        ShapeError,
        r"expected at least 2 outputs, got 1\. .*BinaryCrossEntropy",
        lambda _: numbers(loss=xpnn.CrossEntropy()).fit(X, Y),
    ),
    "two outputs for three quantiles": Wrong(
        ShapeError,
        r"Pinball\(\): .* got 2\. End the network with Linear\(3\)\.",
        lambda _: numbers(2, xpnn.Pinball()).fit(X, T),
    ),
    "sample_weight too short": Wrong(
        ShapeError,
        r"fit: expected sample_weight of shape \(20,\), got \(3,\)\.",
        lambda _: classes().fit(X, Y, sample_weight=[1, 2, 3]),
    ),
    "residual of another width": Wrong(
        ShapeError,
        r"Residual: expected layers that map 2 features to 2, got 3\. End the block with Linear\(2\)",
        lambda _: xpnn.Sequential(xpnn.Residual(xpnn.Linear(3)), n_in=2),
    ),
    "features that do not fit": Wrong(
        ShapeError,
        r"0\.Linear: expected 4 features, would be given 7\. .*n_in=7",
        lambda _: xpnn.mlp([4, 3]).check_shapes(7),
    ),
    "data of its own for each replica": Wrong(
        ShapeError,
        r"fit: expected X of shape \(n, 4\), rows shared by all replicas, got \(2, 20, 4\)\.",
        lambda _: two_replicas(0.1).fit(np.stack([X, X]), np.stack([Y, Y])),
    ),
    # -- kinds of data
    "X of strings": Wrong(
        DTypeError,
        r"fit: expected real numbers in X, got dtype <U\d+\. Encode text with xpnn\.data\.TableEncoder",
        lambda _: classes().fit(X.astype(str), Y),
    ),
    "X of objects": Wrong(
        DTypeError,
        r"fit: expected real numbers in X, got dtype object\. .*X\.astype\(float\)",
        lambda _: classes().fit(X.astype(object), Y),
    ),
    "X complex": Wrong(
        DTypeError, r"in X, got dtype complex64\. Split real and imaginary", lambda _: classes().fit(X + 1j, Y)
    ),
    "y of strings": Wrong(
        DTypeError,
        r"CrossEntropy.*expected numbers as targets, got dtype <U\d\. .*numpy\.unique\(y, return_inverse=True\)",
        lambda _: classes().fit(X, np.array(["a", "b"] * 10)),
    ),
    "y complex": Wrong(
        DTypeError,
        r"expected numbers as targets, got dtype complex64\. Take the real part: y\.real\.",
        lambda _: numbers().fit(X, T + 1j),
    ),
    "integer network": Wrong(
        OptionError,
        r"expected dtype float32, float64, bfloat16 or float16, got 'int32'",
        lambda _: xpnn.mlp([2, 2], dtype="int32"),
    ),
    "categories out of range": Wrong(
        LabelError,
        r"0\.Embedding: expected category numbers 0\.\.4, found 0\.\.6\. Renumber",
        lambda _: categories().fit(np.arange(14).reshape(7, 2) % 7, Y[:7]),
    ),
    "categories with fractions": Wrong(
        DTypeError,
        r"0\.Embedding: expected whole category numbers, got fractions\. Convert with X\.astype\(int\)\.",
        lambda _: categories().fit(X[:, :2], Y),
    ),
    "infinite categories": Wrong(
        DTypeError, r"0\.Embedding: expected whole", lambda _: categories().predict_proba([[np.inf, 1.0]])
    ),
    "categories of text": Wrong(
        DTypeError,
        r"0\.Embedding: expected real numbers in X, got dtype <U1\. Encode text",
        lambda _: categories().net.check_categories([["a", "b"]]),
    ),
    "categories to predict out of range": Wrong(
        LabelError, r"0\.Embedding: expected .* found -1\.\.1", lambda _: categories().predict_proba([[0, 1], [-1, 0]])
    ),
    # -- labels
    "labels from 1": Wrong(
        LabelError,
        r"expected class numbers 0\.\.2 for 3 outputs, found 1\.\.3\. Use y - 1",
        lambda _: classes().fit(X, Y + 1),
    ),
    "labels out of range": Wrong(
        LabelError, r"0\.\.2 for 3 outputs, found 0\.\.20\. .*21 outputs", lambda _: classes().fit(X, Y * 10)
    ),
    "labels below 0": Wrong(
        LabelError,
        r"found -1\.\.1\. Use numpy\.unique\(y, return_inverse=True\)\[1\]\.$",
        lambda _: classes().fit(X, Y - 1),
    ),
    "labels with fractions": Wrong(
        LabelError,
        r"expected whole class numbers, got 0\.5\. .*MeanSquaredError",
        lambda _: classes().fit(X, Y + 0.5),
    ),
    "one-hot rows as independent labels": Wrong(
        LabelError,
        r"looks one-hot.* Use CrossEntropy, or BinaryCrossEntropy\(multilabel=True\)",
        lambda _: binary(3).fit(X, ONE_HOT),
    ),
    "probabilities that do not sum to 1": Wrong(
        LabelError,
        r"rows of probabilities that sum to 1, got a row that sums to 2",
        lambda _: classes().fit(X, ONE_HOT * 2),
    ),
    "binary targets of -1 and 1": Wrong(
        LabelError, r"between 0 and 1, found -1.*\.\.1.* Hinge", lambda _: binary().fit(X, np.sign(X[:, :1]))
    ),
    "hinge targets of 0 and 1": Wrong(
        LabelError,
        r"expected targets -1 and \+1.* Use 2 \* y - 1",
        lambda _: numbers(loss=xpnn.Hinge()).fit(X, (T > 1) * 1.0),
    ),
    "negative counts": Wrong(
        LabelError,
        r"PoissonNLL.*expected counts >= 0, got -3",
        lambda _: numbers(loss=xpnn.PoissonNLL()).fit(X, 0 * T - 3),
    ),
    "focal loss of rows": Wrong(
        LabelError, r"Focal.* \(n,\), got \(20, 3\)\. Use y\.argmax", lambda _: numbers(3, xpnn.Focal()).fit(X, ONE_HOT)
    ),
    "NaN in y": Wrong(
        LabelError,
        r"expected finite targets, got nan in row 3, column 0\. Drop or impute",
        lambda _: numbers().fit(X, WITH_NAN[:, 2:3]),
    ),
    # -- values
    "NaN in X": Wrong(
        DataError,
        r"fit: expected finite float32 numbers in X, got 1 that are not, first nan in row 3, column 2\. Impute or drop",
        lambda _: classes().fit(WITH_NAN, Y),
    ),
    "inf in X": Wrong(
        DataError, r"in X, got 1 that are not, first -inf in row 5, column 1", lambda _: classes().fit(WITH_INF, Y)
    ),
    "NaN in X_val": Wrong(
        DataError,
        r"fit \(validation\): expected finite .* row 3, column 2",
        lambda _: classes().fit(X, Y, X_val=WITH_NAN, y_val=Y),
    ),
    "NaN in X to evaluate": Wrong(
        DataError, r"evaluate: expected finite .* row 3, column 2", lambda _: classes().evaluate(WITH_NAN, Y)
    ),
    "too large for float32": Wrong(
        DataError, r"expected finite float32 numbers in X", lambda _: classes().fit(X.astype(float) * 1e60, Y)
    ),
    "no rows": Wrong(
        DataError, r"fit: expected at least one row in X, got shape \(0, 4\)", lambda _: classes().fit(X[:0], Y[:0])
    ),
    "None for X": Wrong(DataError, r"fit: expected at least one row in X", lambda _: classes().fit(None, Y)),
    "no rows to evaluate": Wrong(
        DataError, r"evaluate: expected at least one row", lambda _: classes().evaluate(X[:0], Y[:0])
    ),
    "one row to split": Wrong(
        DataError,
        r"fit: validation_fraction needs 2 rows, got 1\.",
        lambda _: classes().fit(X[:1], Y[:1], validation_fraction=0.5),
    ),
    "NaN for the Standardizer": Wrong(
        DataError,
        r"Standardizer\.fit: expected finite numbers, got nan in row 3, column 2\. Impute",
        lambda _: data.Standardizer().fit(WITH_NAN),
    ),
    "a Standardizer not fitted": Wrong(
        DataError, r"Standardizer\.transform: expected a fitted scaler", lambda _: data.Standardizer().transform(X)
    ),
    "negative sample weights": Wrong(
        DataError,
        r"fit: expected sample weights that are finite, at least 0 and not all 0, got -1 to 1",
        lambda _: classes().fit(X, Y, sample_weight=np.resize([1.0, -1.0], N)),
    ),
    "sample weights all 0": Wrong(
        DataError, r"not all 0, got 0 to 0", lambda _: classes().evaluate(X, Y, sample_weight=np.zeros(N))
    ),
    "held-out rows all of weight 0": Wrong(
        DataError,
        r"fit: expected a held-out row of weight above 0, got 2 rows of weight 0",
        lambda _: classes().fit(X, Y, validation_fraction=0.1, sample_weight=np.arange(N) == 0),
    ),
    "class weights all 0": Wrong(
        DataError,
        r"fit: expected a row of weight above 0, got 20 rows",
        lambda _: classes().fit(X, Y, class_weight={0: 0, 1: 0, 2: 0}),
    ),
    # -- names and options
    "unknown activation": Wrong(
        OptionError,
        r"activation: expected one of identity, relu, .* got 'rleu'\. Did you mean 'relu'\?",
        lambda _: xpnn.mlp([2, 2, 2], "rleu"),
    ),
    "class of an activation": Wrong(
        OptionError,
        r"mlp: expected activation to be a name or a layer object, got .*ReLU.* Write ReLU\(\)\.",
        lambda _: xpnn.mlp([2, 2, 2], xpnn.ReLU),
    ),
    "number as an activation": Wrong(
        OptionError, r"mlp: expected activation .* got 5\. Try 'relu'", lambda _: xpnn.mlp([2, 2, 2], 5)
    ),
    "unknown initializer": Wrong(
        OptionError,
        r"get_initializer: .* got 'he_norml'\. Did you mean 'he_normal'",
        lambda _: xpnn.mlp([2, 2], init="he_norml"),
    ),
    "unknown norm": Wrong(
        OptionError,
        r"mlp: expected norm to be None or one of batch, layer, rms, got 'bach'\. Did you mean 'batch'\?",
        lambda _: xpnn.mlp([2, 2, 2], norm="bach"),
    ),
    "unknown metric": Wrong(
        OptionError, r"get_metric: .* got 'acuracy'\. Did you mean 'accuracy'", lambda _: classes(metrics=["acuracy"])
    ),
    "unknown backend": Wrong(
        OptionError,
        r"get_backend: expected one of numpy, cupy, torch, strict or auto, got 'numpi'",
        lambda _: xpnn.get_backend("numpi"),
    ),
    "a device that is not there": Wrong(
        BackendUnavailableError,
        r"get_backend\('numpy:1'\): NumPy has no device '1'",
        lambda _: xpnn.get_backend("numpy:1"),
    ),
    "learning rate below 0": Wrong(
        OptionError, r"Adam: expected lr >= 0 and finite, got -1\. Try lr=0\.001\.", lambda _: xpnn.Adam(lr=-1)
    ),
    "beta1 of 1": Wrong(
        OptionError, r"Adam: expected 0 <= beta1 < 1, got 1\. Try 0\.9\.", lambda _: xpnn.Adam(beta1=1)
    ),
    "momentum of text": Wrong(
        OptionError, r"SGD: expected 0 <= momentum < 1, got 'high'\. Try", lambda _: xpnn.SGD(momentum="high")
    ),
    "eps of 0": Wrong(OptionError, r"RMSProp: expected eps > 0, got 0\. Try eps=1e-8\.", lambda _: xpnn.RMSProp(eps=0)),
    "Nesterov without momentum": Wrong(
        OptionError,
        r"SGD: nesterov=True expects momentum > 0, got 0\. Try momentum=0\.9",
        lambda _: xpnn.SGD(nesterov=True),
    ),
    "weight decay below 0": Wrong(
        OptionError, r"AdamW: expected weight_decay >= 0, got -0\.1\. Try", lambda _: xpnn.AdamW(weight_decay=-0.1)
    ),
    "dropout of 1": Wrong(
        OptionError,
        r"Dropout: expected 0 <= rate < 1 .*got 1\. 0\.5 drops half; 0 drops none\.",
        lambda _: xpnn.Dropout(1),
    ),
    "dropout of text": Wrong(OptionError, r"Dropout: expected .*got 'a'\.", lambda _: xpnn.Dropout("a")),
    "dropout of text in mlp": Wrong(
        OptionError, r"Dropout: expected .*got 'a'\.", lambda _: xpnn.mlp([2, 2, 2], dropout="a")
    ),
    "a width with a fraction": Wrong(
        OptionError, r"mlp: expected .* got \[4\.5, 3\]\. Try whole numbers", lambda _: xpnn.mlp([4.5, 3])
    ),
    "one number for all widths": Wrong(
        OptionError, r"mlp: expected at least two .* got \[5\]\. Try", lambda _: xpnn.mlp(5)
    ),
    "a seed with a fraction": Wrong(
        OptionError,
        r"Sequential: expected seed to be an integer, or one for each replica, got 1\.5\. Try seed=0\.",
        lambda _: xpnn.mlp([2, 2], seed=1.5),
    ),
    "a seed with a fraction for the trainer": Wrong(
        OptionError, r"Trainer: expected seed to be an integer, got 1\.5\. Try", lambda _: classes(seed=1.5)
    ),
    "a layer of no units": Wrong(
        OptionError, r"Linear: expected n_out to be a positive integer, got 0\. Try n_out=", lambda _: xpnn.Linear(0)
    ),
    "a network of one width": Wrong(
        OptionError, r"mlp: expected at least two positive widths.* got \[2\]\. Try", lambda _: xpnn.mlp([2])
    ),
    "a network of no layers": Wrong(
        OptionError, r"Sequential: expected at least one layer", lambda _: xpnn.Sequential(n_in=2)
    ),
    "dropout for too many layers": Wrong(
        OptionError,
        r"mlp: expected one dropout, or one for each of 1 hidden layers, got 2",
        lambda _: xpnn.mlp([4, 8, 3], dropout=[0.1, 0.2]),
    ),
    "softmax under cross-entropy": Wrong(
        OptionError,
        r"Trainer: loss CrossEntropy.* takes logits, but the last layer is Softmax\. Remove it; predict_proba",
        lambda _: classes(xpnn.Sequential(xpnn.Linear(3), xpnn.Softmax(), n_in=4)),
    ),
    "sigmoid under binary cross-entropy": Wrong(
        OptionError,
        r"takes logits, but the last layer is Sigmoid\. Remove it",
        lambda _: classes(xpnn.Sequential(xpnn.Linear(1), xpnn.Sigmoid(), n_in=4), xpnn.BinaryCrossEntropy()),
    ),
    "class of a loss": Wrong(
        OptionError,
        r"Trainer: expected loss .* got the class Huber\. Write Huber\(\.\.\.\)",
        lambda _: classes(loss=xpnn.Huber),
    ),
    "class of an optimizer": Wrong(
        OptionError,
        r"Trainer: expected optimizer .* got the class SGD\. Write SGD",
        lambda _: classes(optimizer=xpnn.SGD),
    ),
    "name of an optimizer": Wrong(
        OptionError,
        r"Trainer: expected optimizer .*xpnn\.Adam\(lr=0\.001\), got 'adam'",
        lambda _: classes(optimizer="adam"),
    ),
    "data instead of a network": Wrong(
        OptionError,
        r"Trainer: expected net to be a network, got ndarray object",
        lambda _: xpnn.Trainer(X, xpnn.Huber(), xpnn.Adam()),
    ),
    "class of a layer": Wrong(
        OptionError,
        r"Sequential: expected layers, got .*ReLU.* Write ReLU\(\)",
        lambda _: xpnn.Sequential(xpnn.Linear(3), xpnn.ReLU, n_in=2),
    ),
    "class of a callback": Wrong(
        OptionError,
        r"Trainer: expected each callback .* got the class EarlyStopping\. Write EarlyStopping",
        lambda _: classes(callbacks=[xpnn.EarlyStopping]),
    ),
    "one callback without a list": Wrong(
        OptionError,
        r"Trainer: expected callbacks to be a list .*got TimeLimit object\. .*brackets",
        lambda _: classes(callbacks=xpnn.TimeLimit(9)),
    ),
    "class of a schedule": Wrong(
        OptionError,
        r"Trainer: expected schedule .* got the class CosineDecay",
        lambda _: classes(schedule=xpnn.CosineDecay),
    ),
    "name of a schedule": Wrong(
        OptionError, r"Trainer: expected schedule .* got 'cosine'", lambda _: classes(schedule="cosine")
    ),
    "number as a regularizer": Wrong(
        OptionError, r"Trainer: expected regularizer .* got 0\.1", lambda _: classes(regularizer=0.1)
    ),
    "regularizer below 0": Wrong(OptionError, r"L2: expected lam >= 0, got -1", lambda _: xpnn.L2(-1)),
    "clip_norm of 0": Wrong(
        OptionError, r"Trainer: expected clip_norm > 0 or None, got 0", lambda _: classes(clip_norm=0)
    ),
    "one layer in two places": Wrong(
        OptionError, r"Sequential: .*Linear.* in more than one place.* Make a layer object for each", lambda _: twice()
    ),
    "one layer in two networks": Wrong(OptionError, r"in more than one place or network", lambda _: two_networks()),
    "one optimizer for two networks": Wrong(
        OptionError,
        r"Adam: expected the network it began with, got another.* Make a new optimizer",
        lambda _: shared_optimizer(),
    ),
    "three rates for two replicas": Wrong(
        OptionError,
        r"Adam: got 3 learning rates for \(2,\) replicas\. Pass one",
        lambda _: two_replicas([0.1] * 3).fit(X, Y),
    ),
    "two seeds for three replicas": Wrong(
        OptionError, r"Sequential: got 2 seeds for 3 replicas", lambda _: xpnn.mlp([2, 2], seed=[1, 2], replicas=3)
    ),
    # -- fit
    "no epochs": Wrong(
        OptionError,
        r"fit: expected epochs to be a positive integer, got 0",
        lambda _: classes().fit(X, Y, epochs=0),
    ),
    "half an epoch": Wrong(
        OptionError, r"epochs .* got 1\.5\. Try epochs=2", lambda _: classes().fit(X, Y, epochs=1.5)
    ),
    "batches of 0": Wrong(
        OptionError, r"fit: expected batch_size .* got 0", lambda _: classes().fit(X, Y, batch_size=0)
    ),
    "validation_fraction of 1.5": Wrong(
        OptionError,
        r"fit: expected 0 <= validation_fraction < 1, got 1\.5",
        lambda _: classes().fit(X, Y, validation_fraction=1.5),
    ),
    "validation_fraction in words": Wrong(
        OptionError, r"validation_fraction < 1, got '20%'", lambda _: classes().fit(X, Y, validation_fraction="20%")
    ),
    "X_val without y_val": Wrong(
        OptionError, r"fit: expected X_val and y_val together, got only X_val", lambda _: classes().fit(X, Y, X_val=X)
    ),
    "y_val without X_val": Wrong(OptionError, r"got only y_val", lambda _: classes().fit(X, Y, y_val=Y)),
    "weight of an unknown class": Wrong(
        OptionError,
        r"fit: expected class_weight for classes 0\.\.2 .* got 7: 1",
        lambda _: classes().fit(X, Y, class_weight={7: 1}),
    ),
    "class weight below 0": Wrong(OptionError, r"got 1: -2", lambda _: classes().fit(X, Y, class_weight={1: -2})),
    "class weight of text": Wrong(OptionError, r"got 1: 'a'", lambda _: classes().fit(X, Y, class_weight={1: "a"})),
    "class weights in a list": Wrong(
        OptionError,
        r"class_weight to be a dict, 'balanced' or None, got \[1, 2, 3\]",
        lambda _: classes().fit(X, Y, class_weight=[1, 2, 3]),
    ),
    "class weights by another name": Wrong(
        OptionError, r"'balanced' or None, got 'balance'", lambda _: classes().fit(X, Y, class_weight="balance")
    ),
    "class weights without classes": Wrong(
        LabelError,
        r"fit: class_weight expects a loss over classes.* sample_weight",
        lambda _: numbers().fit(X, T, class_weight="balanced"),
    ),
    "class weights of signs": Wrong(
        LabelError,
        r"fit: class_weight expects .* 0\.\.1.* sample_weight",
        lambda _: numbers(loss=xpnn.Hinge()).fit(X, np.sign(T), class_weight={0: 1.0, 1: 2.0}),
    ),
    "class weights of soft labels": Wrong(
        LabelError,
        r"fit: class_weight expects",
        lambda _: classes().fit(X, 0.4 * ONE_HOT + 0.2, class_weight="balanced"),
    ),
    "early stopping without validation data": Wrong(
        OptionError,
        r"EarlyStopping: expected a column 'val_loss', got epoch, loss, .*validation_fraction",
        lambda _: classes(callbacks=[xpnn.EarlyStopping()]).fit(X, Y),
    ),
    "plateau without validation data": Wrong(
        OptionError,
        r"Plateau: expected a column 'val_loss', got .*validation_fraction",
        lambda _: classes(schedule=xpnn.Plateau()).fit(X, Y),
    ),
    "a column not in the history": Wrong(
        OptionError,
        r"History: expected one of epoch, loss, .* got 'val_loss'",
        lambda _: classes().fit(X, Y, epochs=1)["val_loss"],
    ),
    "patience of 0": Wrong(
        OptionError,
        r"EarlyStopping: expected patience to be a positive integer, got 0",
        lambda _: xpnn.EarlyStopping(patience=0),
    ),
    "mode by another name": Wrong(OptionError, r"'min' or 'max', got 'low'", lambda _: xpnn.EarlyStopping(mode="low")),
    "min_delta below 0": Wrong(
        OptionError, r"EarlyStopping: expected min_delta >= 0, got -1", lambda _: xpnn.EarlyStopping(min_delta=-1)
    ),
    "decay of 1": Wrong(OptionError, r"EMA: expected 0 < decay < 1, got 1", lambda _: xpnn.EMA(1)),
    "no time": Wrong(OptionError, r"TimeLimit: expected seconds > 0, got 0", lambda _: xpnn.TimeLimit(0)),
    "slices of 0 rows": Wrong(
        OptionError,
        r"predict: expected batch_size to be a positive integer, got 0",
        lambda _: xpnn.mlp([4, 3]).predict(X, batch_size=0),
    ),
    # -- files
    "a network file that is not there": Wrong(
        DataError, r"load: expected .*none\.safetensors", lambda tmp: xpnn.load(tmp / "none.safetensors")
    ),
    "a network file cut short": Wrong(
        FileFormatError,
        r"load: expected a whole safetensors file.* truncated",
        lambda tmp: xpnn.load(cut(saved(tmp), 200)),
    ),
    "a network file of another kind": Wrong(
        FileFormatError,
        r"load: expected a whole safetensors file",
        lambda tmp: xpnn.load(written(tmp / "a.pkl", b"\x80\x04K\x01.")),
    ),
    "an empty network file": Wrong(
        FileFormatError, r"load: expected a whole safetensors file", lambda tmp: xpnn.load(written(tmp / "a", b""))
    ),
    "a folder that is a file": Wrong(
        DataError,
        r"expected a folder that can be written to.* Choose another path",
        lambda tmp: xpnn.save(xpnn.mlp([2, 2]), written(tmp / "file", b"") / "net.safetensors"),
    ),
    "weights of another network": Wrong(
        FileFormatError,
        r"load_state_dict: expected the names of this network; missing \[\], unknown \['2\.bias', '2\.weight'\]",
        lambda _: xpnn.mlp([4, 3]).load_state_dict(xpnn.mlp([4, 3, 3]).state_dict()),
    ),
    "weights of another shape": Wrong(
        ShapeError,
        r"load_state_dict: expected 0\.\w+ of shape .*3\S*\), got .*2\S*\)\. Build the network with the same sizes\.",
        lambda _: xpnn.mlp([4, 3]).load_state_dict(xpnn.mlp([4, 2]).state_dict()),
    ),
    "weights that are none": Wrong(
        OptionError,
        r"load_state_dict: expected a dict of arrays by name, got int\. Pass what state_dict",
        lambda _: xpnn.mlp([4, 3]).load_state_dict(5),
    ),
    "an IDX file cut short": Wrong(
        FileFormatError,
        r"read_idx: expected 24 bytes .*got 20\. The file is truncated",
        lambda tmp: data.idx.read_idx(idx(tmp, 20)),
    ),
    "an IDX file of another kind": Wrong(
        FileFormatError,
        r"read_idx: expected .* to begin with bytes 00 00",
        lambda tmp: data.idx.read_idx(written(tmp / "a", b"PNG!")),
    ),
    "a gzip file cut short": Wrong(
        FileFormatError,
        r"read_idx: expected a whole gzip file",
        lambda tmp: data.idx.read_idx(written(tmp / "a.gz", gzip.compress(bytes(999))[:-9])),
    ),
    "MNIST with another checksum": Wrong(
        FileFormatError, r"load_mnist: expected MD5 [0-9a-f]{32} .* got [0-9a-f]{32} \(15 bytes\)", other_mnist
    ),
    "MNIST that is not there": Wrong(
        DataError,
        r"load_mnist: expected train-images-idx3-ubyte .*download=True",
        lambda tmp: data.load_mnist(tmp, download=False),
    ),
    "a CSV file that is not there": Wrong(
        DataError, r"load_csv: expected the file .*gone\.csv", lambda tmp: data.load_csv(tmp / "gone.csv")
    ),
    "a CSV file without the target": Wrong(
        DataError,
        r"load_csv: expected the target to be a column, got 'prise'\. Did you mean 'price'.* Columns: size, price",
        lambda tmp: csv_file(tmp, "size,price\n1,2\n", target="prise"),
    ),
    "a ragged CSV file": Wrong(
        DataError,
        r"load_csv: expected 2 cells in line 3 of .*, got 3\.",
        lambda tmp: csv_file(tmp, "a,b\n1,2\n1,2,3\n"),
    ),
    "an empty CSV file": Wrong(DataError, r"load_csv: expected rows in .* empty file", lambda tmp: csv_file(tmp, "")),
    "a CSV file that is none": Wrong(
        FileFormatError,
        r"load_csv: expected UTF-8 text .*byte 0xff",
        lambda tmp: data.load_csv(written(tmp / "a.csv", b"a\xff")),
    ),
    "an npz file cut short": Wrong(
        FileFormatError,
        r"load_arrays: expected a whole \.npz file",
        lambda tmp: data.load_arrays(written(tmp / "a.npz", b"PK\3\4")),
    ),
    "an npy file cut short": Wrong(
        FileFormatError,
        r"open_memmap: expected a whole \.npy file",
        lambda tmp: data.open_memmap(written(tmp / "a.npy", b"\x93NUMPY\1\0"), tmp / "a.npy"),
    ),
}

# These do not yet tell what to do; the others must.
TERSE = {
    "integer network",
    "regularizer below 0",
    "a device that is not there",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_told_in_one_plain_sentence(name, tmp_path):
    wrong = WRONG[name]
    with pytest.raises(XpnnError) as caught:
        wrong.call(tmp_path)
    assert type(caught.value) is wrong.error
    message = str(caught.value)
    assert re.search(wrong.words, message), message
    message = message.replace(str(tmp_path), "...").replace(os.getcwd(), "...")
    assert len(message) <= 400, message
    assert "\n" not in message
    assert re.match(r"[\w.() ,='/:-]+: \S", message), f"names no place: {message}"
    assert message.endswith((".", "?")), message
    if name not in TERSE:
        assert re.search(r"[.?;] \S", message), f"does not tell what to do: {message}"


def test_the_table_is_large():
    assert len(WRONG) >= 100


def test_nothing_has_been_trained_after_a_wrong_call():
    run = classes()
    before = run.net.state_dict()
    for wrong in ({"epochs": 0}, {"validation_fraction": 2}, {"class_weight": {9: 1}}, {"X_val": X}):
        with pytest.raises(OptionError):
            run.fit(X, Y, **wrong)
    with pytest.raises(DataError):
        run.fit(WITH_NAN, Y)
    with pytest.raises(ShapeError):
        xpnn.mlp([4, 3]).load_state_dict(xpnn.mlp([4, 2]).state_dict())
    for name, value in run.net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert (run.epoch, run.step, len(run.history)) == (0, 0, 0)
    assert np.isfinite(run.fit(X, Y, epochs=1)["loss"]).all()


def test_weights_are_untouched_by_weights_that_do_not_fit():
    net, other = xpnn.mlp([4, 3], seed=1), xpnn.mlp([4, 3], seed=2).state_dict()
    before = net.state_dict()
    other["0.bias"] = np.zeros(7)
    with pytest.raises(ShapeError, match=r"expected 0\.bias of shape \(3,\), got \(7,\)"):
        net.load_state_dict(other)
    np.testing.assert_array_equal(net.params["0.weight"], before["0.weight"])


@pytest.mark.parametrize("options", [{"callbacks": True}, {"schedule": xpnn.Plateau()}], ids=lambda o: next(iter(o)))
def test_missing_validation_data_are_found_before_the_first_epoch(options):
    ended = []
    if "callbacks" in options:
        first = xpnn.LambdaCallback(on_fit_end=ended.append)
        options = {"callbacks": [first, xpnn.EarlyStopping(), xpnn.LambdaCallback(on_fit_begin=ended.append)]}
    run = classes(**options)
    before = run.net.state_dict()
    with pytest.raises(OptionError, match=r"expected a column 'val_loss', got epoch, loss, accuracy, lr"):
        run.fit(X, Y)
    assert (run.epoch, run.step, len(run.history)) == (0, 0, 0)
    for name, value in run.net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert ended == ([run] if "callbacks" in options else []), "who began, ends; who did not begin, does not"
    run.fit(X, Y, epochs=2, validation_fraction=0.2)


@pytest.mark.parametrize("path", ["/proc/nope/net", "/dev/full/net"])
def test_places_that_the_system_refuses_are_told(path):
    if not Path(path).parent.parent.exists():
        pytest.skip("the system has no such place")
    with pytest.raises(DataError, match=rf"^writing {path}: expected a folder that can be written to, got: ") as caught:
        xpnn.save(xpnn.mlp([2, 2]), path)
    assert isinstance(caught.value.__cause__, OSError)


def test_integers_of_numpy_are_integers():
    three = np.int64(3)
    net = xpnn.Sequential(xpnn.Embedding(three, np.uint8(2)), xpnn.Linear(three), n_in=np.int32(4), seed=np.int64(7))
    assert [type(n) for n in (net.n_in, net.seed, net.layers[0].dim, net.layers[1].n_out)] == [int] * 4
    assert repr(xpnn.mlp(np.asarray([4, 3, 2]))) == repr(xpnn.mlp([4, 3, 2]))
    assert xpnn.mlp([2, 2], seed=np.arange(3)).seed == xpnn.mlp([2, 2], replicas=three).seed == (0, 1, 2)
    assert net.predict(np.zeros((5, 4)), batch_size=three).shape == (5, 3)
    run = classes(callbacks=[xpnn.EarlyStopping("loss", patience=three)])
    assert len(run.fit(X, Y, epochs=three, batch_size=np.int16(8))) == 3


def test_a_constant_column_becomes_zero_and_trains():
    constant = X.copy()
    constant[:, 1] = 7.25
    scaled = data.Standardizer().fit_transform(constant)
    assert (scaled[:, 1] == 0).all()
    assert np.isfinite(scaled).all()
    assert np.isfinite(classes().fit(scaled, Y, epochs=2)["loss"]).all()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(DataError, match=r"expected a folder that can be written to, got: Permission denied"):
        xpnn.save(xpnn.mlp([2, 2]), folder / "net.safetensors")


@pytest.mark.parametrize("spec", ["torch:cpu", "strict:device1"])
def test_other_libraries_give_the_same_words(spec):
    backend = backend_or_skip(spec)
    x, y = backend.asarray(X), backend.asarray(Y, dtype=backend.index_dtype)
    nan = backend.asarray(WITH_NAN)
    calls = {
        r"expected x of shape \(batch, 4\), got \(4, 20\)\. .*X\.T": lambda: classes().fit(x.T, y[:4]),
        r"found 1\.\.3\. Use y - 1": lambda: classes().fit(x, y + 1),
        r"row 3, column 2": lambda: classes(xpnn.mlp([4, 3], backend=backend)).fit(nan, y),
        r"use y\.reshape\(-1, 1\)": lambda: numbers().fit(x, x[:, 0]),
        r"X has 20, y has 4": lambda: classes().fit(x, y[:4]),
    }
    for words, call in calls.items():
        with pytest.raises(XpnnError, match=words):
            call()


def test_losses_refuse_wrong_shapes_by_themselves():
    with pytest.raises(ShapeError, match=r"expected outputs of shape \(batch, n_out\), got \(20,\)"):
        xpnn.MeanSquaredError().value_and_grad(T[:, 0], T[:, 0])
    with pytest.raises(ShapeError, match=r"expected sample_weight of shape \(20,\), got \(20, 1\)"):
        xpnn.MeanSquaredError().value_and_grad(T, T, T)

"""One thing in the place of another: each is understood, or told in a sentence with the way out."""

from __future__ import annotations

import operator
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import xpnn
from xpnn import testing
from xpnn.arguments import class_for
from xpnn.data.targets import ClassTarget
from xpnn.errors import DataError
from xpnn.estimators import MLPClassifier, MLPRegressor
from xpnn.predictor import MODEL, Predictor, model_file

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 4)).astype(np.float32)
Y = np.arange(20) % 3
COLOURS = pd.DataFrame({"size": range(20), "colour": ["red", "blue"] * 10})


def net(*sizes: int) -> xpnn.Sequential:
    return xpnn.mlp(sizes or (4, 3))


def trainer(**options: Any) -> xpnn.Trainer:
    parts = {"net": net(), "loss": xpnn.CrossEntropy(), "optimizer": xpnn.Adam(), **options}
    return xpnn.Trainer(**parts)


def fit(x: Any = X, y: Any = Y, **options: Any) -> Any:
    return trainer().fit(x, y, **{"epochs": 1, **options})


def classify(x: Any = X, y: Any = Y, **options: Any) -> Any:
    return MLPClassifier(**{"hidden_layer_sizes": (4,), "max_iter": 1, **options}).fit(x, y)


#: What somebody does, and what the message says; every one of them is a ValueError or a TypeError.
MISTAKES = {
    # -- words and classes where objects are meant
    "schedule by a word": (lambda: trainer(schedule="cosine"), r"got 'cosine'\. Write xpnn\.CosineDecay\(\)\."),
    "schedule of another library": (lambda: trainer(schedule="linear"), r"expected schedule to be .* got 'linear'"),
    "schedule by a function": (lambda: trainer(schedule=lambda t: 1.0), r"expected schedule to be .* function object"),
    "optimizer by a word": (lambda: trainer(optimizer="adam"), r"got 'adam'\. Write xpnn\.Adam\(\)\."),
    "optimizer's class": (lambda: trainer(optimizer=xpnn.Adam), r"the class Adam\. Write Adam\(\.\.\.\)\."),
    "loss by a word": (lambda: trainer(loss="cross_entropy"), r"got 'cross_entropy'\. Write xpnn\.CrossEntropy\(\)\."),
    "loss by its initials": (lambda: trainer(loss="mse"), r"Write xpnn\.MeanSquaredError\(\)\."),
    "loss's class": (lambda: trainer(loss=xpnn.CrossEntropy), r"the class CrossEntropy\. Write CrossEntropy"),
    "penalty by a word": (lambda: trainer(regularizer="l2"), r"got 'l2'\. Write xpnn\.L2\(lam=\.\.\.\)\."),
    "penalty by a number": (
        lambda: trainer(regularizer=0.1),
        r"expected regularizer to be a penalty object .* got 0\.1",
    ),
    "callback by a word": (lambda: trainer(callbacks=["early_stopping"]), r"Write xpnn\.EarlyStopping\(\)\."),
    "callback's class": (
        lambda: trainer(callbacks=[xpnn.EarlyStopping]),
        r"the class EarlyStopping\. Write EarlyStopping",
    ),
    "callback alone": (lambda: trainer(callbacks=xpnn.EarlyStopping()), r"Put it in brackets"),
    "callbacks None": (lambda: trainer(callbacks=None), r"expected callbacks to be a list of callbacks, got None"),
    "no callback": (lambda: trainer(callbacks=[print]), r"Derive its class from xpnn\.Callback"),
    "metric by a nickname": (lambda: trainer(metrics=["acc"]), r"get_metric: expected one of accuracy, .* got 'acc'"),
    "metric by a function": (lambda: trainer(metrics=[len]), r"expected a name or a metric"),
    "metrics None": (lambda: trainer(metrics=None), r"expected metrics to be a list .* got None"),
    "loss and optimizer swapped": (
        lambda: trainer(loss=xpnn.Adam(), optimizer=xpnn.CrossEntropy()),
        r"expected loss .* The order is net, loss, optimizer",
    ),
    "layers for a network": (
        lambda: trainer(net=[xpnn.Linear(3)]),
        r"got list object\. Write xpnn\.Sequential\(\*layers",
    ),
    "trainer for a network": (lambda: trainer(net=trainer()), r"expected net to be a network, .* its network, \.net"),
    "seed None": (lambda: trainer(seed=None), r"expected seed to be an integer, got None\. Try seed=0"),
    # -- networks
    "a list of layers": (lambda: xpnn.Sequential([xpnn.Linear(3)], n_in=2), r"Unpack the list: Sequential\(\*layers"),
    "a layer's class": (lambda: xpnn.Sequential(xpnn.Linear, n_in=2), r"Write Linear\(\)"),
    "a layer by a word": (lambda: xpnn.Sequential("relu", n_in=2), r"got 'relu'\. Pass layers such as"),
    "a layer by its width": (lambda: xpnn.Sequential(4, 3, n_in=2), r"got 4\. Pass layers such as"),
    "a list in a residual": (lambda: xpnn.Sequential(xpnn.Residual([xpnn.Linear(2)]), n_in=2), r"Unpack the list"),
    "an empty residual": (lambda: xpnn.Residual(), r"at least one layer, got none\. Try Residual\("),
    "widths with fractions": (lambda: xpnn.mlp([4, 8.5, 3]), r"mlp: expected at least two positive widths"),
    "widths as text": (lambda: xpnn.mlp("4,8,3"), r"mlp: expected at least two positive widths"),
    "widths in lists": (lambda: xpnn.mlp([4, [8, 8], 3]), r"mlp: expected at least two positive widths"),
    "dropout above 1": (lambda: xpnn.mlp([4, 8, 3], dropout=50), r"0 <= rate < 1 .* got 50"),
    "a width as text": (lambda: xpnn.Linear("3"), r"Linear: expected n_out to be a positive integer, got '3'"),
    "backend by a nickname": (lambda: xpnn.mlp([2, 2], backend="gpu"), r"expected one of numpy, cupy, .* got 'gpu'"),
    "backend's module": (lambda: xpnn.mlp([2, 2], backend=np), r"got module\. Pass a name such as 'numpy'"),
    "dtype of NumPy": (lambda: xpnn.mlp([2, 2], dtype=np.float32), r"Pass one of these names as text"),
    "rate below 0": (lambda: xpnn.Adam(-0.1), r"Adam: expected lr >= 0 and finite, got -0\.1\. Try lr=0\.001"),
    "rate NaN": (lambda: xpnn.Adam(np.nan), r"expected lr >= 0 and finite, got nan"),
    "rate as text": (lambda: xpnn.Adam("0.1"), r"expected lr >= 0 and finite, got '0\.1'"),
    "parameters for a rate": (lambda: xpnn.Adam(net().params), r"expected lr >= 0 and finite, got a dict\. Try lr"),
    "iterations of L-BFGS": (lambda: xpnn.LBFGS("9"), r"LBFGS: expected max_iter >= 1, got '9'"),
    "penalty NaN": (lambda: xpnn.L2(np.nan), r"L2: expected lam >= 0, got nan\. Try lam=1e-4"),
    # -- data
    "X and y swapped": (lambda: fit(Y, X), r"expected X of shape \(n, 4\), got \(20,\), .* They look swapped"),
    "sizes reversed": (
        lambda: xpnn.Trainer(net(3, 8, 4), xpnn.CrossEntropy(), xpnn.Adam()).fit(X, Y),
        r"expected x of shape \(batch, 3\), got \(20, 4\)\. .* are its sizes reversed\? It maps 3 features to 4",
    ),
    "validation of another width": (
        lambda: fit(X_val=X[:, :2], y_val=Y),
        r"fit \(validation\): expected X_val of shape \(n, 4\), like X, got \(20, 2\)",
    ),
    "validation swapped": (lambda: fit(X_val=Y, y_val=X), r"They look swapped: X_val comes first"),
    "X_val alone": (lambda: fit(X_val=X), r"expected X_val and y_val together"),
    "validation in per cent": (lambda: fit(validation_fraction=20), r"Pass 0\.2 for a fifth"),
    "epochs 0": (lambda: fit(epochs=0), r"fit: expected epochs to be a positive integer, got 0"),
    "epochs as text": (lambda: fit(epochs="3"), r"fit: expected epochs to be a positive integer, got '3'"),
    "batch_size None": (lambda: fit(batch_size=None), r"fit: expected batch_size to be a positive integer"),
    "rows ragged": (lambda: fit([[1, 2, 3, 4], [1]], [0, 1]), r"expected rows of equal length in X"),
    "labels as text": (lambda: fit(y=np.array(list("ab") * 10)), r"expected numbers as targets, .* numpy\.unique"),
    "labels from 1": (lambda: fit(y=Y + 1), r"found 1\.\.3\. Use y - 1"),
    "a frame of two targets": (lambda: fit(y=pd.DataFrame({"a": Y, "b": Y})), r"got \(20, 2\)"),
    "a frame of one target": (lambda: fit(y=pd.DataFrame({"a": Y})), r"Use y\[:, 0\] \(or y\.ravel\(\)\)"),
    "class weight by text": (lambda: fit(class_weight={"1": 2}), r"got '1': 2.* Name classes by their numbers"),
    # -- options of layers, losses, optimizers and callbacks
    "a slope as text": (lambda: xpnn.LeakyReLU("0.1"), r"LeakyReLU: expected slope to be a finite number, got '0\.1'"),
    "alpha None": (lambda: xpnn.ELU(None), r"ELU: expected alpha to be a finite number, got None\. Try alpha=1"),
    "alpha NaN": (lambda: xpnn.ELU(np.nan), r"expected alpha to be a finite number, got nan"),
    "a rate's factor below 0": (
        lambda: xpnn.Linear(3, lr_mult=-1.0),
        r"Linear: expected lr_mult to be a finite number >= 0, got -1\.0\. Try lr_mult=1",
    ),
    "a decay's factor as text": (lambda: xpnn.Scale(decay_mult="no"), r"Scale: expected decay_mult to be .* got 'no'"),
    "a bias's factor NaN": (lambda: xpnn.Linear(3, bias_lr_mult=np.nan), r"expected bias_lr_mult .* got nan"),
    "bias by a word": (lambda: xpnn.Linear(3, bias="zeros"), r"expected bias to be True or False, got 'zeros'"),
    "bias None": (lambda: xpnn.Linear(3, bias=None), r"expected bias to be True or False, got None"),
    "residual by a number": (lambda: xpnn.mlp([4, 4, 3], residual=2), r"mlp: expected residual to be True or False"),
    "eps infinite": (lambda: xpnn.LayerNorm(np.inf), r"LayerNorm: expected eps > 0, got inf"),
    "one quantile by itself": (lambda: xpnn.Pinball(0.5), r"Pinball: expected quantiles .* got 0\.5\. Try \("),
    "half an iteration": (lambda: xpnn.LBFGS(1.5), r"LBFGS: expected max_iter >= 1, got 1\.5\. Try a whole number"),
    "looks as text": (lambda: xpnn.Diagnose(every="2"), r"Diagnose: expected every to be a positive integer, got '2'"),
    "restoring by a word": (
        lambda: xpnn.EarlyStopping(restore_best="yes"),
        r"EarlyStopping: expected restore_best to be True or False, got 'yes'",
    ),
    # -- data
    "points as text": (lambda: xpnn.data.make_moons("300"), r"make_moons: expected n to be a positive integer"),
    "points by a fraction": (lambda: xpnn.data.make_blobs(1e2), r"make_blobs: expected n to be .* got 100\.0"),
    "noise None": (lambda: xpnn.data.make_moons(noise=None), r"make_moons: expected noise >= 0, got None"),
    "points of no seed": (lambda: xpnn.data.make_moons(seed=None), r"make_moons: expected seed to be an integer"),
    "batches of text": (lambda: xpnn.data.batches(X, Y, "5"), r"batches: expected batch_size >= 1, got '5'"),
    "batches of no size": (lambda: xpnn.data.batches(X, Y, None), r"batches: expected batch_size >= 1, got None"),
    "labels to stratify by": (
        lambda: xpnn.data.train_test_split(X, Y, stratify=Y),
        r"train_test_split: expected stratify to be True, False or 'auto', got .* True keeps the shares",
    ),
    "labels in a list to stratify by": (
        lambda: xpnn.data.train_test_split(X, Y, stratify=Y.tolist()),
        r"expected stratify to be True, False or 'auto', got a list|got \[",
    ),
    "a test part as text": (lambda: xpnn.data.train_test_split(X, Y, test_size="0.2"), r"a share .* got '0\.2'"),
    "a split of no seed": (lambda: xpnn.data.train_test_split(X, Y, seed=None), r"expected seed to be an integer"),
    "classes as text": (lambda: xpnn.data.one_hot(Y, "3"), r"one_hot: expected n_classes to be a positive integer"),
    "NaN to predict classes of": (
        lambda: trainer().predict(np.where(X[3, 1] == X, np.nan, X)),
        r"predict: expected outputs that are numbers, got NaN for 1 rows, the first row 3\. Is X finite",
    ),
    "complex numbers": (lambda: fit(X + 1j), r"got dtype complex64\. Split real and imaginary parts\.$"),
    "targets of other columns": (
        lambda: xpnn.Trainer(net(4, 1), xpnn.MeanSquaredError(), xpnn.Adam()).fit(X, X),
        r"expected targets of shape \(20, 1\) .* Give the network an output for each of the 4 columns",
    ),
    # -- passes by hand
    "a list of targets": (
        lambda: xpnn.CrossEntropy().value_and_grad(X[:, :3], Y.tolist()),
        r"CrossEntropy\(\): expected y as an array of the library of pred, ndarray, got a list of 20",
    ),
    "no targets": (lambda: xpnn.CrossEntropy().value_and_grad(X[:, :3], None), r"expected y as an array .* got None"),
    "one weight for all": (
        lambda: xpnn.CrossEntropy().value_and_grad(X[:, :3], Y, sample_weight=2.0),
        r"expected sample_weight as an array .* got 2\.0 of type float",
    ),
    "targets of another library": (
        lambda: xpnn.CrossEntropy().value_and_grad(X[:, :3], xpnn.get_backend("strict").asarray(X[:, :3])),
        r"expected y as an array of the library of pred, ndarray, got .* of type Array",
    ),
    "backward before forward": (
        lambda: net().backward(X[:, :3], None),
        r"backward: expected the caches of a forward pass, a list of 1, got None\. Write y, caches = net\.forward",
    ),
    "caches of another network": (
        lambda: net().backward(X[:, :3], net(4, 8, 3).forward(X, train=True)[1]),
        r"expected the caches of a forward pass, a list of 1, got a list of 3",
    ),
    "a gradient of another width": (
        lambda: net().backward(X, net().forward(X, train=True)[1]),
        r"backward: expected dy of shape \(20, 3\), like the network's output, got \(20, 4\)",
    ),
    "a gradient of other rows": (
        lambda: net().backward(X[:7, :3], net().forward(X, train=True)[1]),
        r"backward: expected dy of shape \(20, 3\), like the network's output, got \(7, 3\)",
    ),
    "a parameter replaced": (
        lambda: net().params.__setitem__("0.weight", np.zeros((4, 3))),
        r"params: .* got another array for its name, .* Write net\.params\['0\.weight'\]\[\.\.\.\] = values",
    ),
    "parameters replaced by others": (
        lambda: net().params.update({"0.weight": np.zeros((4, 3))}),
        r"params: .* got another array for its name, .* Write net\.params\['0\.weight'\]\[\.\.\.\] = values",
    ),
    "parameters merged with others": (
        lambda: operator.ior(net().params, {"0.weight": np.zeros((4, 3))}),
        r"params: .* got another array for its name, ",
    ),
    "a step of a network": (
        lambda: xpnn.Adam().step(net()),
        r"Adam\.step: expected the store of a network, got a? ?Sequential.* Write optimizer\.step\(net\.store\)",
    ),
    "an embedding behind a layer": (
        lambda: xpnn.Sequential(xpnn.Linear(3), xpnn.Embedding(3, 2), n_in=4),
        r"expected 1\.Embedding, which takes numbers of categories, as the first layer, got it behind 0\.Linear",
    ),
    "first weights of a trainer": (
        lambda: xpnn.init_from_data(trainer(), X),
        r"init_from_data: expected a network, got .* pass its network, trainer\.net",
    ),
    "importance of a trainer": (
        lambda: xpnn.inspection.permutation_importance(trainer(), X, Y),
        r"permutation_importance: expected a Predictor, got a Trainer\. Pass the predictor_",
    ),
    "simple models beside a network": (
        lambda: xpnn.baselines.compare_baselines(net(), X, Y, X, Y),
        r"compare_baselines: expected a Predictor, got a Sequential",
    ),
    # -- files
    "a file None": (lambda: xpnn.load(None), r"load: expected a path, text or a pathlib\.Path, got None"),
    "a file by a number": (lambda: xpnn.save(net(), 3), r"expected a path, text or a pathlib\.Path, got 3"),
    "a network for a file": (lambda: xpnn.load_predictor(net()), r"load: expected a path, .* got .*Sequential"),
    # -- tools
    "find_lr of a trainer": (lambda: xpnn.find_lr(trainer(), X, Y), r"got a Trainer\. Write find_lr\(trainer\.net"),
    "find_lr of a loss's class": (
        lambda: xpnn.find_lr(net(), xpnn.CrossEntropy, xpnn.Adam(), X, Y),
        r"find_lr: expected loss .* the class CrossEntropy",
    ),
    "gradients of a trainer": (
        lambda: testing.check_gradients(trainer(), xpnn.CrossEntropy(), X, Y),
        r"check_gradients: expected net to be a network, .* Pass its network, \.net",
    ),
    "gradients by a word": (lambda: testing.check_gradients(net(), "mse", X, Y), r"Write xpnn\.MeanSquaredError\(\)"),
    "backends of a trainer": (
        lambda: testing.compare_backends(trainer(), xpnn.CrossEntropy(), xpnn.Adam(), X, Y),
        r"compare_backends: expected make_net to be a function of a backend, or a network",
    ),
    "backends by a word": (
        lambda: testing.compare_backends(net(), xpnn.CrossEntropy(), "adam", X, Y),
        r"compare_backends: expected optimizer .* Write xpnn\.Adam\(\)",
    ),
    "a maker without a return": (
        lambda: testing.compare_backends(lambda backend: None, xpnn.CrossEntropy(), xpnn.Adam(), X, Y),
        r"expected make_net to return a network on numpy, got None",
    ),
    "a maker of one backend": (
        lambda: testing.compare_backends(
            lambda backend: net(), xpnn.CrossEntropy(), xpnn.Adam(), X, Y, backends=("numpy", "strict")
        ),
        r"expected make_net to return a network on strict.*, got one on numpy",
    ),
    "save a trainer": (
        lambda: xpnn.save(trainer(), "nowhere"),
        r"save: expected a network, got a Trainer\. Its own save",
    ),
    "save to a network": (
        lambda: xpnn.save("nowhere", net()),
        r"save: expected a network, got a str\. The network comes first",
    ),
    "diagnose a trainer": (
        lambda: xpnn.diagnose(trainer()),
        r"expected a History, got Trainer\. Pass trainer\.history",
    ),
    # -- estimators
    "estimator: schedule by a word": (
        lambda: classify(schedule="cosine"),
        r"MLPClassifier must be .* Write xpnn\.CosineDecay",
    ),
    "estimator: optimizer by a word": (
        lambda: classify(optimizer="adam"),
        r"MLPClassifier must be .* Write xpnn\.Adam\(\)",
    ),
    "estimator: optimizer's class": (lambda: classify(optimizer=xpnn.Adam), r"Write Adam\(\.\.\.\)\."),
    "estimator: loss's class": (lambda: classify(loss=xpnn.Hinge), r"Write Hinge\(\.\.\.\)\."),
    "estimator: activation's class": (lambda: classify(activation=xpnn.ReLU), r"Write ReLU\(\.\.\.\)\."),
    "estimator: callback alone": (lambda: classify(callbacks=xpnn.EarlyStopping()), r"Put it in brackets"),
    "estimator: loss of numbers": (lambda: classify(loss=xpnn.Huber()), r"expected a loss over classes"),
    "estimator: text": (lambda: classify(COLOURS), r"expected (real )?numbers in .*X"),
    "estimator: text in an array": (
        lambda: classify(np.array([["red", "1"]] * 20), Y),
        r"could not convert .*: expected numbers in X, got the text 'red' in column 0\. .*from_dtype",
    ),
    "estimator: width with a fraction": (lambda: classify(hidden_layer_sizes=(2.5,)), r"whole numbers, .* got 2\.5"),
    "estimator: widths in lists": (lambda: classify(hidden_layer_sizes=[(5, 5)]), r"whole numbers, .* got \(5, 5\)"),
    "estimator: widths as text": (lambda: classify(hidden_layer_sizes=("8",)), r"whole numbers, .* got '8'"),
    "estimator: widths in one text": (lambda: classify(hidden_layer_sizes="64,32"), r"'hidden_layer_sizes' .*'64,32'"),
    "estimator: width True": (lambda: classify(hidden_layer_sizes=(True,)), r"whole numbers, .* got True"),
    "estimator: width NaN": (lambda: classify(hidden_layer_sizes=(np.nan,)), r"whole numbers, .* got nan"),
    "estimator: width 0": (lambda: classify(hidden_layer_sizes=(0,)), r"hidden_layer_sizes must be > 0"),
    "estimator: width below 0": (lambda: classify(hidden_layer_sizes=-3), r"'hidden_layer_sizes' .*-3"),
    "estimator: classes to a regressor": (
        lambda: MLPRegressor(loss=xpnn.CrossEntropy()).fit(X, Y),
        r"Use MLPClassifier",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(name):
    call, words = MISTAKES[name]
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    message = str(caught.value)
    assert re.search(words, message), message
    assert "object at 0x" not in message


def test_the_table_is_large():
    assert len(MISTAKES) >= 60


# -- what is meant is done ------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_widths_of_numpy_are_widths():
    for sizes in (np.int64(4), np.asarray([4, 3]), [np.int32(4), np.uint8(3)]):
        classify(hidden_layer_sizes=sizes)


def test_a_network_is_compared_as_it_is():
    made = net(4, 5, 3)
    before = made.store.values.copy()
    for optimizer in (xpnn.Adam(), xpnn.Adam):
        report = testing.compare_backends(
            made, xpnn.CrossEntropy(), optimizer, X, Y, backends=("numpy", "strict"), steps=2
        )
        assert report.ok
    np.testing.assert_array_equal(made.store.values, before)


def test_one_metric_needs_no_list():
    assert [m.name for m in trainer(metrics=xpnn.metrics.TopK(2)).metrics] == ["top2"]


def test_one_hot_rows_are_targets():
    fit(y=np.eye(3)[Y])
    fit(y=np.eye(3, dtype=np.int64)[Y])


def test_the_folder_of_a_run_stands_for_its_model(tmp_path):
    Predictor(net(), xpnn.CrossEntropy(), ClassTarget().fit(["a", "b", "c"])).save(tmp_path / MODEL)
    assert model_file(tmp_path) == tmp_path / MODEL
    np.testing.assert_array_equal(Predictor.load(tmp_path).predict(X), Predictor.load(tmp_path / MODEL).predict(X))
    with pytest.raises(DataError, match=r"load: expected a model, or a run's folder with model\.safetensors, got"):
        Predictor.load(tmp_path.parent)


@pytest.mark.parametrize(
    ("kind", "spellings"),
    [
        (xpnn.Loss, {"MSE": "MeanSquaredError", "mae": "MeanAbsoluteError", "bce": "BinaryCrossEntropy"}),
        (xpnn.Loss, {"categorical_crossentropy": "CrossEntropy", "huber_loss": "Huber", "poisson": "PoissonNLL"}),
        (xpnn.schedules.Schedule, {"step": "StepDecay", "one_cycle": "OneCycle", "restarts": "WarmRestarts"}),
        (xpnn.Optimizer, {"sgd": "SGD", "AdamW": "AdamW", "rmsprop": "RMSProp", "nadam": "NAdam", "l-bfgs": "LBFGS"}),
        (xpnn.regularizers.Regularizer, {"L1": "L1", "spectral_norm": "SpectralNorm"}),
    ],
)
def test_words_of_other_libraries_are_known(kind, spellings):
    assert {word: class_for(word, kind).__name__ for word in spellings} == spellings
    assert class_for("zzz", kind) is None


# -- predictions ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("loss", "n_out", "shape", "values"),
    [
        (xpnn.CrossEntropy(), 3, (20,), {0, 1, 2}),
        (xpnn.Focal(), 3, (20,), {0, 1, 2}),
        (xpnn.Hinge(), 3, (20,), {0, 1, 2}),
        (xpnn.Hinge(), 1, (20,), {-1, 1}),
        (xpnn.BinaryCrossEntropy(), 1, (20,), {0, 1}),
        (xpnn.BinaryCrossEntropy(multilabel=True), 2, (20, 2), {0, 1}),
    ],
    ids=repr,
)
def test_predict_gives_classes(loss, n_out, shape, values):
    run = xpnn.Trainer(xpnn.mlp([4, 8, n_out]), loss, xpnn.Adam())
    answers = run.predict(X)
    assert answers.shape == shape
    assert answers.dtype == np.int64
    assert set(np.unique(answers).tolist()) <= values
    scores = run.net.predict(X)
    expected = scores.argmax(axis=1) if loss.takes_labels and n_out > 1 else (scores > 0).reshape(shape)
    np.testing.assert_array_equal(answers, 2 * expected - 1 if -1 in values else expected)


@pytest.mark.parametrize("loss", [xpnn.MeanSquaredError(), xpnn.PoissonNLL()], ids=repr)
def test_predict_gives_values(loss):
    run = xpnn.Trainer(net(4, 2), loss, xpnn.Adam())
    np.testing.assert_array_equal(run.predict(X), run.predict_proba(X))


def test_predict_of_replicas():
    run = trainer(net=xpnn.mlp([4, 3], replicas=2))
    np.testing.assert_array_equal(run.predict(X), run.predict_proba(X).argmax(axis=-1))


# -- what objects show ----------------------------------------------------------------------------------------------
def test_objects_show_themselves():
    run = trainer(schedule=xpnn.CosineDecay(), callbacks=[xpnn.LambdaCallback(on_fit_end=lambda trainer: None)])
    run.fit(X, Y, epochs=2)
    text = repr(run)
    for part in (
        "Trainer(Sequential(Linear(n_out=3)",
        "CrossEntropy()",
        "Adam(lr=0.001",
        "CosineDecay(",
        "epoch=2, step=2)",
    ):
        assert part in text
    assert repr(xpnn.EarlyStopping("loss", 3)) == "EarlyStopping(monitor='loss', patience=3, mode='min')"
    assert repr(run.callbacks[0]) == "LambdaCallback(on_fit_end=...)"
    table = xpnn.data.csv.Table(["a", "b"], {"a": np.zeros(3), "b": np.ones(3)}, "b")
    assert repr(table) == "Table(3 rows, 2 columns: 'a', 'b'; target='b')"
    target = ClassTarget().fit(["no", "yes"])
    assert repr(target) == "ClassTarget(2 classes: 'no', 'yes')"
    shown = repr(Predictor(net(), xpnn.CrossEntropy(), target, xpnn.data.Standardizer(), {"long": "facts"}))
    assert shown.startswith("Predictor(net=Sequential(Linear(n_out=3)")
    assert "facts" not in shown
    for thing in (run, table, target, xpnn.data.TableEncoder(), xpnn.data.Standardizer(), xpnn.data.MinMax()):
        assert "object at 0x" not in repr(thing)

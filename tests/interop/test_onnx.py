"""ONNX: every part of the library and whole models, run by onnxruntime and by ONNX's own reference."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import warnings

import numpy as np
import onnx
import pytest
from any_networks import any_network
from cases import LAYERS, LOSSES
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator
from sklearn.exceptions import NotFittedError

import xpnn
from xpnn.data import MinMax, Standardizer, TableEncoder
from xpnn.data.targets import ClassTarget, NumberTarget, NumberTargets
from xpnn.errors import MissingPackageError, OptionError, ShapeError
from xpnn.estimators import MLPClassifier, MLPRegressor
from xpnn.interop.checked import compare
from xpnn.interop.graph import run
from xpnn.interop.onnx import IR_VERSION, ML_OPSET, OPSET, onnx_model
from xpnn.interop.subject import subject_of
from xpnn.tabular import TabularClassifier, TabularRegressor

runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'xpnn[onnx]'")


def shaken(net, seed=0):
    """The network with other values everywhere, so that nothing is hidden by ones and zeros."""
    rng = np.random.default_rng(seed)
    state = {name: 0.5 * rng.standard_normal(array.shape) for name, array in net.state_dict().items()}
    net.load_state_dict({name: np.abs(array) + 0.1 if "var" in name else array for name, array in state.items()})
    return net


def checked(model, rows, path, *, slow=True, **options):
    """Export a model, and have the file run by ONNX's reference and the graph by NumPy as well."""
    check = model.to_onnx(path, rows=rows, **options)
    assert check.by.startswith("onnxruntime ")
    subject = subject_of(model, **options)
    compare(subject, rows, lambda columns: run(subject.graph, columns), by="NumPy")
    if slow:
        session = ReferenceEvaluator(str(path))

        def reference(columns):
            feeds = {
                each.name: np.asarray(columns[each.name]).reshape(-1, *each.shape) for each in subject.graph.inputs
            }
            feeds = {each.name: feeds[each.name].astype(object if each.dtype == "text" else each.dtype)
                     for each in subject.graph.inputs}  # fmt: skip
            return dict(zip(subject.graph.outputs, session.run(None, feeds), strict=True))

        compare(subject, rows, reference, by="the reference")
    return check


# -- every part ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_every_layer(case, tmp_path):
    for options in ({}, {"dtype": "float64", "replicas": 2}):
        net = shaken(case.net(**options))
        check = checked(net, case.x(20), tmp_path / "net.onnx", slow=not options)
        assert check.rows == 20
        assert check.differences["outputs"] < (1e-6 if not options else 1e-14)


@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_every_link(case, tmp_path):
    rows = np.random.default_rng(0).standard_normal((20, 3))
    for replicas in (None, 2):
        net = shaken(xpnn.mlp([3, case.n_out], dtype="float64", replicas=replicas))
        check = checked(net, rows, tmp_path / "net.onnx", slow=replicas is None, loss=case.loss)
        assert check.differences["predictions"] < 1e-14


@settings(max_examples=12)
@any_network
def test_networks_of_any_shape(tmp_path_factory, sizes, activation, norm, residual, replicas):
    net = xpnn.mlp(sizes, activation, norm=norm, residual=residual, dropout=0.1, replicas=replicas)
    rows = np.random.default_rng(1).standard_normal((7, sizes[0]))
    checked(shaken(net), rows, tmp_path_factory.getbasetemp() / "any.onnx", slow=False)


def test_replicas_that_look_categories_up_in_rows_of_their_own(tmp_path):
    rows = np.random.default_rng(0).integers(0, 5, (20, 3)).astype(float)
    net = xpnn.Sequential(xpnn.Columns((2, xpnn.Embedding(5, 3))), xpnn.Linear(2), n_in=3, replicas=2)
    checked(net, rows, tmp_path / "net.onnx")


class OwnBlock(xpnn.Layer):
    """A gate and a sum over pairs, written by somebody else."""

    def forward(self, x, *, train=False, key=None):
        xp = x.__array_namespace__()
        pairs = xp.reshape(x, (*x.shape[:-1], x.shape[-1] // 2, 2))
        y = xp.empty_like(x)
        y[..., ::1] = xp.clip(x, -1.0, 1.0)
        y[..., : x.shape[-1] // 2] += xp.sum(pairs, axis=-1)
        return xp.where(x > 0, y, xp.sign(x) * xp.square(y)), None

    def backward(self, dy, cache, *, need_dx=True):
        raise NotImplementedError


def test_a_layer_of_somebodys_own_is_exported_like_any_other(tmp_path):
    net = xpnn.Sequential(xpnn.Linear(8), OwnBlock(), xpnn.Residual(OwnBlock()), xpnn.Linear(2), n_in=4)
    checked(net, np.random.default_rng(0).standard_normal((30, 4)), tmp_path / "net.onnx")


# -- whole models ----------------------------------------------------------------------------------------------------
def test_a_classifier_of_tables(classifier, tmp_path):
    model, table = classifier
    path = tmp_path / "model.onnx"
    check = checked(model, table, path)
    assert (check.rows, check.labels_differ) == (300, 0)
    assert check.differences["probabilities"] < 1e-6
    assert checked(model, None if False else subject_of(model).rows(200), path).labels_differ == 0
    made = onnx.load(path)
    assert [each.name for each in made.graph.input] == list(table)
    facts = {each.key: each.value for each in made.metadata_props}
    assert facts["task"] == "classification"
    assert facts["classes"] == '["high", "low", "mid"]'
    assert made.ir_version == IR_VERSION
    assert {each.domain: each.version for each in made.opset_import} == {"": OPSET, "ai.onnx.ml": ML_OPSET}


def test_a_person_feeds_columns(classifier, tmp_path):
    """As the page says: columns by name, shape (n, 1), gaps as NaN and as empty text."""
    model, table = classifier
    model.to_onnx(tmp_path / "model.onnx", rows=table)
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    feeds = {name: np.asarray([[value]]) for name, value in
             {"size": np.nan, "rooms": 2.0, "code": 30.0, "garden": 1.0, "sold": np.nan}.items()}  # fmt: skip
    feeds |= {"town": np.array([[""]], dtype=object), "kind": np.array([["castle"]], dtype=object)}
    label, probabilities = session.run(["label", "probabilities"], feeds)
    row = {"size": [np.nan], "rooms": [2.0], "town": [None], "kind": ["castle"], "code": ["30"], "garden": [True]}
    row["sold"] = np.array(["NaT"], dtype="datetime64[s]")
    assert label[0] == model.predict(row)[0]
    np.testing.assert_allclose(probabilities, model.predict_proba(row), atol=1e-6)


def test_a_regressor_of_tables_with_intervals(regressor, tmp_path):
    model, table = regressor
    check = checked(model, table, tmp_path / "model.onnx")
    assert sorted(check.differences) == ["lower", "prediction", "upper"]
    assert max(check.differences.values()) < 1e-6
    wide = checked(model, table, tmp_path / "wide.onnx", slow=False, coverage=0.95)
    assert sorted(wide.differences) == ["lower", "prediction", "upper"]


@pytest.mark.parametrize("preset", ["quick", "good"])
def test_presets_as_they_are(preset, tmp_path):
    rng = np.random.default_rng(0)
    table = {"x": rng.standard_normal(120), "kind": rng.choice(np.array(["u", "v", "w"], dtype=object), 120)}
    y = table["x"] * 2.0 + (table["kind"] == "v")
    for model, target in ((TabularRegressor, y), (TabularClassifier, y > 0.5)):
        fitted = model(preset=preset, epochs=1).fit(table, target)
        assert fitted.to_onnx(tmp_path / "model.onnx", rows=table).rows == 120


def test_a_threshold_and_labels_of_any_kind(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 3))
    for labels in ([False, True], [3, 7], [0.5, 1.5], ["a", "ü"], [2**63, 2**63 + 1]):
        target = ClassTarget()
        target.classes = tuple(labels)
        for threshold in (None, 0.3):
            predictor = xpnn.Predictor(
                shaken(xpnn.mlp([3, 2])), xpnn.CrossEntropy(), target, Standardizer().fit(X), threshold=threshold
            )
            assert checked(predictor, X, tmp_path / "p.onnx", slow=False).labels_differ == 0


def test_predictors_of_arrays(tmp_path):
    rng = np.random.default_rng(0)
    X, y = 100.0 + 10.0 * rng.standard_normal((50, 4)), rng.standard_normal((50, 2))
    several, one = NumberTargets().fit(y), NumberTarget().fit(y[:, 0])
    for encoder in (None, Standardizer().fit(X), MinMax(-1.0, 2.0).fit(X)):
        for target, n in ((several, 2), (one, 1)):
            predictor = xpnn.Predictor(shaken(xpnn.mlp([4, 6, n], replicas=2)), xpnn.Huber(), target, encoder)
            checked(predictor, X, tmp_path / "p.onnx", slow=False)
    counts = xpnn.Predictor(shaken(xpnn.mlp([4, 1])), xpnn.PoissonNLL(), one, Standardizer().fit(X))
    checked(counts, X, tmp_path / "p.onnx", slow=False)


@pytest.mark.parametrize(("backend", "dtype"), [("torch", "float32"), ("torch", "bfloat16"), ("strict", "float32")])
def test_networks_of_other_libraries_and_precisions(backend, dtype, tmp_path):
    pytest.importorskip({"strict": "array_api_strict"}.get(backend, backend))
    net = xpnn.mlp([3, 5, 2], norm="batch", backend=backend, dtype=dtype)
    assert net.to_onnx(tmp_path / "net.onnx", rows=np.ones((4, 3))).differences["outputs"] < 1e-6


def test_estimators(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4))
    fits = [
        (MLPClassifier((5,), max_iter=2), X[:, 0] > 0),
        (MLPClassifier((5,), max_iter=2, standardize=True, n_ensemble=2), rng.choice(["x", "y", "z"], 60)),
        (MLPClassifier((5,), max_iter=2), rng.integers(0, 2, (60, 3))),
        (MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, norm="layer"), X[:, 0]),
        (MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, standardize=True), X[:, :2]),
    ]
    for model, y in fits:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two epochs do not converge
            model.fit(X, y)
        check = checked(model, X, tmp_path / "model.onnx", slow=False)
        assert check.labels_differ in (None, 0)


def test_an_estimator_with_categories(tmp_path):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {"x": rng.standard_normal(60), "kind": pandas.Categorical(rng.choice(["u", "v", "w"], 60))}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPClassifier((5,), max_iter=2, categorical_features="from_dtype").fit(frame, frame["x"] > 0)
    checked(model, frame, tmp_path / "model.onnx")
    assert model.to_onnx(tmp_path / "model.onnx").rows == 500  # made-up rows


def test_names_of_columns_are_taken_as_they_are(tmp_path):
    """Also those that outputs, values or another language have."""
    rng = np.random.default_rng(0)
    names = ["label", "probabilities", "xpnn.v1", "größe (m²)", 'a"b\\c', "x0", "class"]
    table = {name: rng.standard_normal(40) for name in names}
    model = TabularClassifier(preset="quick", epochs=1).fit(table, table["x0"] > 0)
    model.to_onnx(tmp_path / "model.onnx", rows=table)
    made = onnx.load(tmp_path / "model.onnx")
    assert [each.name for each in made.graph.input] == names
    assert [each.name for each in made.graph.output] == ["label_", "probabilities_"]


def test_no_rows_are_rows_too(classifier, tmp_path):
    model, table = classifier
    model.to_onnx(tmp_path / "model.onnx", rows=table)
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    none = {each.name: np.empty((0, 1), object if "string" in each.type else float) for each in session.get_inputs()}
    label, probabilities = session.run(None, none)
    assert (label.shape, probabilities.shape) == ((0,), (0, 3))


def test_real_tables(tabular_dir, tmp_path):
    """California housing and Adult, from the CSV to labels, prices and bounds."""
    houses = xpnn.data.load_csv(tabular_dir / "california_housing.csv", target="median_house_value")
    adult = xpnn.data.load_csv(tabular_dir / "adult-train.csv", target=-1)
    for table, kind in ((houses, TabularRegressor), (adult, TabularClassifier)):
        columns = {name: column[:1500] for name, column in table.read().items() if name != table.target_name}
        target = np.asarray(table.cells[table.target_name][:1500])
        target = target.astype(float) if kind is TabularRegressor else target
        model = kind(preset="quick", epochs=1).fit(columns, target)
        check = model.to_onnx(tmp_path / "model.onnx", rows=columns)
        assert check.rows == 1500
        assert check.labels_differ in (None, 0)
        assert max(check.differences.values()) < 1e-5


KINDS = st.sampled_from(["number", "whole", "text", "two words", "numbers as words", "truth", "date"])


def column(kind, n, rng):
    """A column of a kind, with gaps."""
    made = {
        "number": lambda: rng.standard_normal(n) * 10.0 ** rng.integers(-8, 9),
        "whole": lambda: rng.integers(-3, 4, n).astype(float),
        "text": lambda: rng.choice(np.array(["a", "B", "ß ä", "-", "nan", "0x"], dtype=object), n),
        "two words": lambda: rng.choice(np.array(["no", "yes"], dtype=object), n),
        "numbers as words": lambda: rng.choice(np.array(["1", "-2", "0.5", "1e9"], dtype=object), n),
        "truth": lambda: (rng.random(n) < 0.5).astype(object),
        "date": lambda: np.datetime64("1990-06-30T12:00") + rng.integers(0, 9**9, n).astype("timedelta64[s]"),
    }[kind]()
    gaps = rng.random(n) < rng.choice([0.0, 0.2])
    return np.where(gaps, np.datetime64("NaT") if kind == "date" else np.nan if made.dtype.kind == "f" else None, made)


@settings(max_examples=12)
@given(
    st.lists(KINDS, min_size=1, max_size=6),
    st.sampled_from(["classes", "numbers"]),
    st.fixed_dictionaries(
        {
            "bins": st.sampled_from([0, 4, "auto"]),
            "clip": st.sampled_from([None, 3.0]),
            "max_categories": st.sampled_from([2, 3, 100]),
            "values_first": st.booleans(),
            "impute": st.sampled_from(["median", "mean"]),
        }
    ),
    st.integers(0, 2**16),
)
def test_tables_of_any_columns(tmp_path_factory, kinds, task, options, seed):
    rng = np.random.default_rng(seed)
    seen, new = ({f"{kind} {k}": column(kind, 60, rng) for k, kind in enumerate(kinds)} for _ in range(2))
    categorical = [name for name in seen if name.startswith("numbers as words")]
    encoder = TableEncoder(categorical=categorical, **options).fit(seen | {"one more": rng.standard_normal(60)})
    new["one more"] = rng.standard_normal(60)
    target = NumberTarget().fit(rng.standard_normal(9)) if task == "numbers" else ClassTarget().fit(["x", "y", "z"] * 3)
    net = shaken(xpnn.mlp([len(encoder.feature_names_out), 5, 1 if task == "numbers" else 3]), seed)
    loss = xpnn.Huber() if task == "numbers" else xpnn.CrossEntropy()
    temperature = None if task == "numbers" else 1.7
    predictor = xpnn.Predictor(net, loss, target, encoder, temperature=temperature)
    path = tmp_path_factory.getbasetemp() / "table.onnx"
    checked(predictor, new, path, slow=False)
    predictor.to_onnx(path)


# -- what is refused --------------------------------------------------------------------------------------------------
class Reads(xpnn.Layer):
    """It looks at a number."""

    def forward(self, x, *, train=False, key=None):
        return (x if float(x[0, 0]) > 0 else -x), None


class Sorts(xpnn.Layer):
    """It calls what no graph has."""

    def forward(self, x, *, train=False, key=None):
        return x.__array_namespace__().sort(x, axis=-1), None


class Mixes(xpnn.Layer):
    """Its answer for a row depends on the others."""

    def forward(self, x, *, train=False, key=None):
        return x - x.__array_namespace__().mean(x, axis=-2, keepdims=True), None


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (Reads, "got 1.Reads, which takes a float of an array"),
        (Sorts, r"got 1.Sorts, which calls xp.sort, which has no counterpart"),
        (Mixes, "expected onnxruntime .* to answer as the model does"),
    ],
)
def test_what_a_graph_cannot_say_is_refused_by_name(layer, told, tmp_path):
    net = xpnn.Sequential(xpnn.Linear(3), layer(), n_in=2)
    path = tmp_path / "net.onnx"
    path.write_text("what was there")
    with pytest.raises(OptionError, match=told):
        net.to_onnx(path)
    assert path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_other_refusals(classifier, tmp_path, monkeypatch):
    path, net = tmp_path / "m.onnx", xpnn.mlp([2, 2])
    with pytest.raises(OptionError, match="expected a fitted model, got TabularRegressor"):
        TabularRegressor().to_onnx(path)
    with pytest.raises(OptionError, match="expected a network, a predictor or an estimator"):
        subject_of(object())
    predictor = classifier[0].predictor_
    with pytest.raises(NotFittedError):
        MLPClassifier().to_onnx(path)
    with pytest.raises(OptionError, match="has a loss already"):
        predictor.to_onnx(path, loss=xpnn.CrossEntropy())
    with pytest.raises(OptionError, match="coverage= expects a model of numbers"):
        xpnn.Predictor(xpnn.mlp([2, 1]), xpnn.Huber(), NumberTarget().fit([0.0, 1.0])).to_onnx(path, coverage=0.9)
    with pytest.raises(OptionError, match="expected a TableEncoder, a Standardizer or a MinMax"):
        dataclasses.replace(predictor, encoder=object()).to_onnx(path)
    subject = subject_of(net)
    nameless = dataclasses.replace(subject.graph, inputs=(dataclasses.replace(subject.graph.inputs[0], name=""),))
    with pytest.raises(OptionError, match="expected columns with names"):
        onnx_model(nameless)
    monkeypatch.setattr("xpnn.interop.onnx._MOST_BYTES", 10)
    with pytest.raises(OptionError, match="less than 2 GB"):
        net.to_onnx(path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'xpnn\[onnx\]'"):
        net.to_onnx(path)
    assert not path.exists()


class OwnLoss(xpnn.losses.Loss):
    """Its link asks NumPy."""

    def link(self, pred):
        return np.tanh(pred)


class OwnSums(xpnn.losses.Loss):
    """Its link has a function that no graph has."""

    def link(self, pred):
        return pred.__array_namespace__().cumulative_sum(pred)


@pytest.mark.parametrize(
    ("loss", "told"), [(OwnLoss(), "OwnLoss.link, which fails"), (OwnSums(), "OwnSums.link calls xp")]
)
def test_links_of_ones_own_are_refused_by_name(loss, told, tmp_path):
    with pytest.raises(OptionError, match=told):
        xpnn.mlp([2, 2]).to_onnx(tmp_path / "m.onnx", loss=loss)


def test_what_the_runtime_cannot_run_is_told(tmp_path, monkeypatch):
    with pytest.raises(ShapeError, match=r"expected rows of shape \(n, 2\) to compare on, got \(2, 5, 2\)"):
        xpnn.mlp([2, 2], replicas=2).to_onnx(tmp_path / "m.onnx", rows=np.ones((2, 5, 2)))
    monkeypatch.setattr("xpnn.interop.onnx.IR_VERSION", 10_000)
    monkeypatch.setattr(onnx.checker, "check_model", lambda *args, **options: None)
    with pytest.raises(OptionError, match=r"expected onnxruntime .* to run the model, got .*Nothing was written"):
        xpnn.mlp([2, 2]).to_onnx(tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_onnxruntime_the_reference_compares(monkeypatch, tmp_path):
    real = importlib.import_module

    def absent(name, *rest):
        if name == "onnxruntime":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr("xpnn.interop.onnx.importlib.import_module", absent)
    check = xpnn.mlp([2, 3, 2]).to_onnx(tmp_path / "net.onnx")
    assert check.by == "onnx's reference evaluator"

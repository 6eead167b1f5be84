"""A network with the encoding before it and the labels after it: scores by hand, and files that come back whole."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn import model
from xpnn import predictor as predictors
from xpnn.checkpoint import read, write
from xpnn.config import from_config, known_classes, to_config
from xpnn.data.encoder import TableEncoder
from xpnn.data.scaling import Standardizer
from xpnn.data.targets import ClassTarget, NumberTarget
from xpnn.errors import DataError, FileFormatError, LabelError, OptionError, ShapeError
from xpnn.predictor import Predictor

X = np.asarray([[0.0, 2.0], [1.0, 0.0], [3.0, 1.0], [0.0, 5.0]])


def identity(n=2, backend="numpy", dtype=None):
    """A network whose outputs are its inputs."""
    net = xpnn.mlp([n, n], init="zeros", backend=backend, dtype=dtype)
    net.load_state_dict({"0.weight": np.eye(n), "0.bias": np.zeros(n)})
    return net


def classifier(**options):
    return Predictor(identity(**options), xpnn.CrossEntropy(), ClassTarget().fit(["left", "right"]))


def quantity():
    net = xpnn.mlp([1, 1], init="zeros")
    net.load_state_dict({"0.weight": np.ones((1, 1)), "0.bias": np.zeros(1)})
    return Predictor(net, xpnn.MeanSquaredError(), NumberTarget().fit([0.0, 10.0]), Standardizer().fit([[0.0], [10.0]]))


def table():
    columns = {"a": np.asarray([1.0, 2.0, np.nan, 4.0]), "b": np.asarray(["x", "y", "x", "y"], dtype=object)}
    encoder = TableEncoder(bins=0).fit(columns)
    net = xpnn.mlp([len(encoder.feature_names_out), 4, 2], "tanh", norm="batch", seed=3)
    info = {"source": "t.csv", "target": "y"}
    return Predictor(net, xpnn.CrossEntropy(label_smoothing=0.1), ClassTarget().fit([2, 7]), encoder, info), columns


def test_classes_and_their_scores():
    predictor = classifier()
    np.testing.assert_allclose(predictor.predict_proba(X)[0], [1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))], rtol=1e-6)
    assert predictor.predict(X).tolist() == ["right", "left", "left", "right"]
    scores = predictor.score(X, ["right", "right", "left", "right"])
    assert scores["accuracy"] == 0.75
    assert scores["confusion"] == [[1, 0], [1, 2]]
    assert scores["rows"] == 4
    expected = np.mean(np.log1p(np.exp([-2.0, 1.0, -2.0, -5.0])))
    assert scores["cross_entropy"] == pytest.approx(expected, rel=1e-6)
    # a sure mistake costs much, but stays a number
    sure = predictor.score(np.asarray([[200.0, 0.0]]), ["right"])
    assert sure["cross_entropy"] == pytest.approx(-np.log(1e-12))


def test_an_ending_of_the_labels():
    predictor = classifier()
    with pytest.raises(LabelError, match=r"The labels end in '!'; strip it with --strip-target '!'"):
        predictor.score(X[:2], ["right!", "left!"])
    assert predictor.score(X[:2], ["right!", "left!"], strip="!")["accuracy"] == 1.0


def test_numbers_and_their_scores():
    predictor = quantity()
    assert predictor.predict([[2.0], [9.0]]).tolist() == pytest.approx([2.0, 9.0])
    # no larger than anything seen in training
    assert predictor.predict([[-50.0], [50.0]]).tolist() == [0.0, 10.0]
    scores = predictor.score([[2.0], [9.0], [4.0]], [3.0, 9.0, 2.0])
    assert scores["rmse"] == pytest.approx(np.sqrt(5 / 3), rel=1e-6)
    assert scores["mae"] == pytest.approx(1.0, rel=1e-6)
    assert scores["r2"] == pytest.approx(1 - 5 / np.square(np.asarray([3, 9, 2]) - 14 / 3).sum(), rel=1e-6)
    # a column of a table holds objects where any cell is text or missing
    assert predictor.score([[2.0]], np.asarray(["2"], dtype=object))["rmse"] == pytest.approx(0, abs=1e-6)
    assert np.isnan(predictor.score([[2.0], [4.0]], [3.0, 3.0])["r2"])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["1", "many"], "column 'target': expected a number, got 'many' in data row 2"),
        ([1.0, np.nan], "target: expected a value in every row, got none in 1 of 2 rows"),
        ([1.0, np.inf], "column 'target': expected finite numbers"),
        (np.asarray([1.0, None], dtype=object), "target: expected a value in every row"),
    ],
    ids=["text", "nan", "inf", "none"],
)
def test_no_number(y, message):
    with pytest.raises(DataError, match=message):
        quantity().score([[2.0], [9.0]], y)


@pytest.mark.parametrize("make", [classifier, quantity])
def test_as_many_targets_as_rows(make):
    rows, y = (X, ["left"] * 3) if make is classifier else (X[:, :1], [1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="expected one target for each row, got 3 for 4 rows"):
        make().score(rows, y)


def test_the_wrong_kind_of_data():
    predictor, columns = table()
    with pytest.raises(ShapeError, match=r"trained on a table\. Pass a dict of columns"):
        predictor.predict(X)
    with pytest.raises(ShapeError, match=r"trained on arrays, not on a table\. Pass an array"):
        classifier().predict(columns)
    with pytest.raises(ShapeError, match="expected 2 features in each row, got 3"):
        classifier().predict(np.ones((4, 3)))
    assert classifier().predict(X.reshape(4, 1, 2)).shape == (4,)


def test_files_bring_everything_back(tmp_path):
    predictor, columns = table()
    predictor.net.forward(predictor.inputs(columns), train=True)  # moves the running statistics
    predictor.save(tmp_path / "m.safetensors")
    again = Predictor.load(tmp_path / "m.safetensors")
    assert (again.predict_proba(columns) == predictor.predict_proba(columns)).all()
    assert again.predict(columns).tolist() == predictor.predict(columns).tolist()
    assert set(again.predict(columns).tolist()) <= {2, 7}
    assert again.info == predictor.info
    assert repr(again.loss) == repr(predictor.loss)
    assert again.encoder.notes == predictor.encoder.notes
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()

    quantity().save(tmp_path / "q.safetensors")
    assert Predictor.load(tmp_path / "q.safetensors").predict([[2.0]]).tolist() == pytest.approx([2.0])
    classifier().save(tmp_path / "c.safetensors")
    assert Predictor.load(tmp_path / "c.safetensors").encoder is None


def test_on_every_backend(backend, tmp_path):
    predictor, columns = table()
    predictor.save(tmp_path / "m.safetensors")
    there = Predictor.load(tmp_path / "m.safetensors", backend=backend)
    assert there.net.backend.name == backend.name
    proba = there.predict_proba(columns)
    assert isinstance(proba, np.ndarray)
    np.testing.assert_allclose(proba, predictor.predict_proba(columns), rtol=1e-5)


def test_dtype_is_the_saved_one_unless_a_backend_says_otherwise(tmp_path):
    classifier(dtype="float64").save(tmp_path / "m.safetensors")
    assert Predictor.load(tmp_path / "m.safetensors").net.backend.dtype_name == "float64"
    single = xpnn.get_backend("numpy", "float32")
    assert Predictor.load(tmp_path / "m.safetensors", backend=single).net.backend.dtype_name == "float32"


def test_a_bare_network_is_no_predictor(tmp_path):
    xpnn.save(identity(), tmp_path / "net.safetensors")
    with pytest.raises(
        FileFormatError, match=r"expected a model from `xpnn train`, got .*net.safetensors, which holds"
    ):
        Predictor.load(tmp_path / "net.safetensors")
    with pytest.raises(DataError, match="expected the file"):
        Predictor.load(tmp_path / "absent.safetensors")


def test_damaged_files(tmp_path):
    predictor, _ = table()
    path = tmp_path / "m.safetensors"
    predictor.save(path)

    def damage(change):
        tensors, meta = read(path)
        meta = {name: meta[name] for name in ("network", "extra")}
        change(meta["extra"]["predictor"])
        write(tmp_path / "bad.safetensors", tensors, meta)
        return tmp_path / "bad.safetensors"

    message = "expected what Predictor.save writes, got a bad entry in .*bad.safetensors .*train again"
    for change in (
        lambda state: state.pop("loss"),
        lambda state: state.pop("encoder"),
        lambda state: state.pop("info"),
        lambda state: state["encoder"].pop("state"),
        lambda state: state["loss"].update(surprise=1),
    ):
        with pytest.raises(FileFormatError, match=message):
            Predictor.load(damage(change))
    # only losses are made from a name, whatever else their module holds
    with pytest.raises(OptionError, match=r"^Predictor.load: the file contains 'Any', which is not xpnn's\."):
        Predictor.load(damage(lambda state: state["loss"].update(type="Any")))
    with pytest.raises(OptionError, match="contains 'Evil', which is not xpnn's"):
        Predictor.load(damage(lambda state: state["encoder"].update(type="Evil")))
    with pytest.raises(FileFormatError, match="target_from_dict: expected what to_dict"):
        Predictor.load(damage(lambda state: state["target"].update(task="none")))


@pytest.mark.parametrize(
    "loss",
    [
        xpnn.CrossEntropy(label_smoothing=0.2),
        xpnn.Huber(delta=3.0),
        xpnn.Pinball(quantiles=(0.1, 0.9)),
        xpnn.Focal(gamma=1.0),
        xpnn.BinaryCrossEntropy(),
    ],
    ids=repr,
)
def test_losses_come_back(loss, tmp_path):
    assert repr(from_config(to_config(loss), known_classes((xpnn.losses, xpnn.Loss)))) == repr(loss)
    Predictor(identity(), loss, ClassTarget().fit([0, 1])).save(tmp_path / "m.safetensors")
    assert repr(Predictor.load(tmp_path / "m.safetensors").loss) == repr(loss)


class _Doubled(xpnn.MeanSquaredError):
    """Keeps another number than it is given."""

    def __init__(self, factor):
        self.factor = 2.0 * factor


class _Picky(xpnn.MeanSquaredError):
    """Takes no number that it keeps."""

    def __init__(self, power):
        if not isinstance(power, str):
            raise ValueError(f"power {power}")
        self.power = float(power)


@pytest.mark.parametrize(
    ("loss", "seen"),
    [
        (_Doubled(1.5), r"come back as \{'type': '_Doubled', 'factor': 3\.0\}, got"),
        (_Picky("2"), r"ValueError\('power 2\.0'\)"),
    ],
)
def test_a_loss_that_a_file_cannot_hold_is_refused_before_it_is_written(tmp_path, loss, seen):
    """A trained model would be lost, or answer by another loss."""
    predictor = Predictor(xpnn.mlp([2, 1]), loss, NumberTarget().fit([1.0, 2.0]))
    with pytest.raises(
        OptionError, match=rf"^Predictor\.save: expected {type(loss).__name__} to .*{seen}.* config\(\) and"
    ):
        predictor.save(tmp_path / "model.safetensors")
    with pytest.raises(OptionError, match=r"MemberMean to come back as .*_Doubled"):
        Predictor(xpnn.mlp([2, 2]), xpnn.MemberMean(_Doubled(1.0), 2), predictor.target).save(tmp_path / "nested")
    assert not list(tmp_path.iterdir())


def test_rows_of_an_array_are_scaled_a_slice_at_a_time(monkeypatch):
    X = np.random.default_rng(0).normal(5.0, 3.0, size=(50, 4))
    scaler = Standardizer().fit(X)
    net = xpnn.mlp([4, 8, 1], seed=0)
    predictor = Predictor(net, xpnn.MeanSquaredError(), NumberTarget().fit(X[:, 0]), scaler)
    whole = net.predict(scaler.transform(X))
    sizes = []
    transform = scaler.transform
    monkeypatch.setattr(scaler, "transform", lambda rows, **given: sizes.append(len(rows)) or transform(rows, **given))
    monkeypatch.setattr(model, "_SLICE_ELEMENTS", 8 * 20)
    monkeypatch.setattr(predictors, "_LARGE", 1)
    np.testing.assert_allclose(predictor.predict_proba(X), whole, rtol=1e-5, atol=1e-6)
    assert sizes == [20, 20, 10]
    X[43, 2] = np.nan
    with pytest.raises(DataError, match="got nan in row 43, column 2"):
        predictor.predict(X)

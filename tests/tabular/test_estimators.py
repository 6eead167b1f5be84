"""One object for a table: what people hold goes in, answers come out, files give it back."""

from __future__ import annotations

import datetime
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

import xpnn
from xpnn.checkpoint import read
from xpnn.errors import DataError, FileFormatError, OptionError, ShapeError
from xpnn.predictor import Predictor
from xpnn.tabular import TabularClassifier, TabularRegressor
from xpnn.tabular.fit import Request, prepare
from xpnn.tabular.rows import read_training_rows
from xpnn.training import LambdaCallback

FAST = {"preset": "quick", "hidden": (16,), "epochs": 6, "batch_size": 32}
N = 160
RNG = np.random.default_rng(0)
SIZE, KIND = RNG.normal(size=N), RNG.choice(["oak", "fir", "elm"], N)
DAY = np.datetime64("2024-01-01") + RNG.integers(0, 400, N)
PRICE = np.where(KIND == "oak", 3.0, 1.0) * SIZE + (DAY - DAY.min()).astype(float) / 100
LABEL = np.where(np.median(PRICE) < PRICE, "dear", "cheap")


def columns():
    size, kind = SIZE.copy(), KIND.astype(object)
    size[::11], kind[::13] = np.nan, None
    return {
        "size": size,
        "kind": kind,
        "day": DAY,
        "wait": (np.arange(N) % 7).astype("m8[h]"),
        "flag": np.arange(N) % 3 == 0,
        "code": np.array([f"{1000 * k:,}.50 €" for k in range(N)], dtype=object),
    }


def regressor(**options):
    return TabularRegressor(**(FAST | options))


def classifier(**options):
    return TabularClassifier(**(FAST | options))


# -- what goes in ---------------------------------------------------------------------------------------------------
def frames():
    """The same table as people hold it."""
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    pl = pytest.importorskip("polars", reason="needs polars: pip install polars")
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    table = columns()
    polars = pl.DataFrame(
        {
            **{name: table[name].tolist() for name in ("kind", "flag", "code")},
            "size": table["size"],
            "day": [datetime.date.fromisoformat(str(day)) for day in DAY],
            "wait": [datetime.timedelta(hours=k % 7) for k in range(N)],
        }
    ).select(list(table))
    return {
        "columns": table,
        "pandas": pd.DataFrame(table),
        "categories": pd.DataFrame(table).astype({"kind": "category"}),
        "polars": polars,
        "pyarrow": pa.Table.from_pandas(pd.DataFrame(table)),
        "lists": {name: column.tolist() for name, column in table.items()},
    }


def test_every_library_gives_the_same_model():
    tables = frames()
    expected = regressor().fit(tables["columns"], PRICE).predict(tables["columns"])
    for name, table in tables.items():
        model = regressor().fit(table, PRICE)
        np.testing.assert_array_equal(model.predict(table), expected, err_msg=name)
        np.testing.assert_array_equal(model.predict(tables["columns"]), expected, err_msg=name)
        assert model.feature_names_in_.tolist() == list(tables["columns"])


def test_columns_are_found_by_name_and_the_target_may_be_one():
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    frame = pd.DataFrame(columns()).assign(price=PRICE)
    model = regressor().fit(frame, "price")
    expected = regressor().fit(frame.drop(columns="price"), frame["price"]).predict(frame.drop(columns="price"))
    np.testing.assert_array_equal(model.predict(frame[frame.columns[::-1]]), expected)
    np.testing.assert_array_equal(model.predict(frame.rename(index=lambda k: k + 7)), expected)
    assert model.predictor_.info["target"] == "price"
    with pytest.raises(DataError, match=r"expected y to be an array or the name of a column of X, got 'cost'"):
        regressor().fit(frame, "cost")


def test_arrays_of_numbers_text_and_records():
    plain = np.column_stack([SIZE, np.arange(N) % 5])
    model = classifier().fit(plain, LABEL)
    assert model.n_features_in_ == 2
    assert not hasattr(model, "feature_names_in_")
    assert set(model.predict(plain)) <= {"cheap", "dear"}
    np.testing.assert_array_equal(model.predict(plain.tolist()), model.predict(plain))
    mixed = np.column_stack([SIZE.astype(object), KIND.astype(object)])
    assert classifier().fit(mixed, LABEL).predictor_.encoder.feature_names_in == ["x0", "x1"]
    records = np.rec.fromarrays([SIZE, KIND], names=["size", "kind"])
    assert classifier().fit(records, LABEL).feature_names_in_.tolist() == ["size", "kind"]


def test_numbers_written_as_text_are_numbers():
    model = regressor().fit({"price": [f"{k},50 €" for k in range(N)], "size": SIZE}, PRICE)
    assert model.notes_[0] == "price: a number with '€' and a decimal comma, such as '0,50 €': read as numbers."
    assert model.predictor_.encoder.feature_names_out[0] == "price"
    assert model.predict({"price": ["3,50 €"], "size": [0.0]}) == model.predict({"price": [3.5], "size": [0.0]})
    words = regressor(categorical=["price"]).fit({"price": [f"{k % 4},50 €" for k in range(N)], "size": SIZE}, PRICE)
    assert "price=1,50 €" in words.predictor_.encoder.feature_names_out


def test_targets_of_any_kind():
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    for labels in (LABEL, LABEL == "dear", (LABEL == "dear").astype(np.int8), pd.Series(LABEL, dtype="category")):
        model = classifier().fit(columns(), labels)
        assert model.classes_.tolist() == sorted(set(np.asarray(labels).tolist()))
        assert model.predict(columns()).tolist() != []
        assert set(model.predict(columns()).tolist()) <= set(np.asarray(labels).tolist())
    big = np.where(LABEL == "dear", 2**60 + 1, 2**60)
    assert classifier().fit(columns(), big).classes_.tolist() == [2**60, 2**60 + 1]
    spelt = np.array([f"{p:.2f}".replace(".", ",") + " €" for p in PRICE], dtype=object)
    close = regressor().fit(columns(), spelt).predict(columns())
    np.testing.assert_allclose(close, regressor().fit(columns(), np.round(PRICE, 2)).predict(columns()))


def test_several_targets():
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    both = np.column_stack([PRICE, 100 * SIZE])
    model = regressor().fit(columns(), both)
    assert model.predict(columns()).shape == (N, 2)
    assert model.predict_interval(columns(), 0.8).shape == (N, 2, 2)
    assert model.validation_scores_["rows"] == 16
    frame = regressor().fit(columns(), pd.DataFrame(both, columns=["a", "b"]))
    np.testing.assert_array_equal(frame.predict(columns()), model.predict(columns()))
    assert np.isfinite(model.score(columns(), both))


# -- what comes out -------------------------------------------------------------------------------------------------
def test_attributes_and_words():
    model = classifier().fit(columns(), LABEL)
    assert model.predict_proba(columns()).shape == (N, 2)
    np.testing.assert_allclose(model.predict_proba(columns()).sum(axis=1), 1, rtol=1e-5)
    assert model.n_iter_ == 6
    assert 1 <= model.best_epoch_ <= 6
    assert model.validation_score_ == model.validation_scores_["accuracy"]
    assert (model.recipe_.hidden, model.recipe_.preset, model.recipe_.task) == ((16,), "quick", "classification")
    summary = model.summary().splitlines()
    assert summary[0] == "TabularClassifier (preset 'quick'): 2 classes, from 160 rows"
    assert "hidden layers [16]" in summary[1]
    assert any(line.startswith("note: day: dates from 2024-01-0") for line in summary)


def test_the_same_seed_gives_the_same_bits():
    first, second = (classifier().fit(columns(), LABEL).predict_proba(columns()) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = classifier(random_state=1).fit(columns(), LABEL).predict_proba(columns())
    assert (other != first).any()
    for state in (np.random.RandomState(3), np.random.default_rng(3), None):
        classifier(random_state=state, epochs=1).fit(columns(), LABEL)


def test_backends_agree(backend):
    expected = regressor().fit(columns(), PRICE)
    model = regressor(backend=backend).fit(columns(), PRICE)
    np.testing.assert_allclose(model.predict(columns()), expected.predict(columns()), rtol=1e-3, atol=1e-3)
    found, wanted = model.predict_interval(columns(), 0.8), expected.predict_interval(columns(), 0.8)
    np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_ensembles_are_averaged(make):
    y = LABEL if make is classifier else PRICE
    model = make(ensemble=3).fit(columns(), y)
    assert model.recipe_.members == 3
    assert model.predictor_.net.store.replicas == (3,)
    assert len(model.predict(columns())) == N
    folded = make(folds=2, members=2).fit(columns(), y)
    assert folded.validation_scores_["rows"] == N
    best = make(preset="best", ensemble=2, epochs=2).fit(columns(), y)
    assert (best.recipe_.folds, best.recipe_.members) == (2, 2)


def test_rows_of_ones_own_are_held_out():
    X, y = {name: column[:40] for name, column in columns().items()}, PRICE[:40]
    for given in ((X, y), [(X, y)]):
        model = regressor(preset="best", ensemble=2).fit(columns(), PRICE, eval_set=given)
        assert model.recipe_.folds == 0
        assert model.validation_scores_["rows"] == 40
    with pytest.raises(OptionError, match=r"expected eval_set=\(X, y\), got dict"):
        regressor().fit(columns(), PRICE, eval_set=X)


def test_held_out_rows_count_by_their_weights():
    """In the validation loss, calibration, threshold and metric: a row of weight 0 is none."""
    rare = np.where(np.quantile(PRICE, 0.8) < PRICE, "dear", "cheap")
    first = {name: column[:40] for name, column in columns().items()}, rare[:40]
    weight = np.where(np.arange(80) < 40, 2.0, 0.0)
    every = {name: column[:80] for name, column in columns().items()}, rare[:80], weight
    models = [classifier(metric="f1", epochs=6).fit(columns(), rare, eval_set=given) for given in (first, every)]
    plain, weighted = (model.predictor_ for model in models)
    np.testing.assert_allclose(models[1].history_["val_loss"], models[0].history_["val_loss"], rtol=1e-5)
    assert weighted.temperature == pytest.approx(plain.temperature, rel=1e-5)
    assert plain.threshold is not None
    assert weighted.threshold == pytest.approx(plain.threshold, rel=1e-4)
    assert models[1].validation_scores_["f1"] == models[0].validation_scores_["f1"]
    other = classifier(epochs=6).fit(columns(), rare, eval_set=every[:2])
    assert not np.allclose(other.history_["val_loss"], models[0].history_["val_loss"], rtol=1e-3)
    with pytest.raises(ShapeError, match=r"eval_set: expected sample_weight of shape \(40,\)"):
        classifier().fit(columns(), rare, eval_set=(*first, weight))


def test_rows_that_are_held_out_of_a_weighted_table_keep_their_weights():
    weight = np.arange(1.0, N + 1)
    labels, ones = LABEL[0] == LABEL, np.ones(N)
    found = [classifier(epochs=3).fit(columns(), labels, w).history_["val_loss"] for w in (None, ones, weight)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    request = Request("classification", preset="quick")
    prepared = prepare(request, read_training_rows(columns(), "here"), labels, where="here", weight=weight)
    given = prepared.arguments()
    np.testing.assert_array_equal(given["sample_weight"], weight[prepared.train])
    np.testing.assert_array_equal(given["sample_weight_val"], weight[prepared.valid])


def test_weights():
    weight = np.ones(N)
    weight[:30] = 0
    without = {name: column[30:] for name, column in columns().items()}
    np.testing.assert_array_equal(
        regressor().fit(columns(), PRICE, weight).predict(columns()),
        regressor().fit(without, PRICE[30:], np.ones(N - 30)).predict(columns()),
    )
    rare = classifier(class_weight={"dear": 50.0}).fit(columns(), LABEL).predict(columns())
    plain = classifier().fit(columns(), LABEL).predict(columns())
    assert (rare == "dear").mean() > (plain == "dear").mean()
    classifier(class_weight="balanced").fit(columns(), LABEL)
    with pytest.raises(OptionError, match=r"expected class_weight for the classes 'cheap', 'dear', got 'none'"):
        classifier(class_weight={"none": 1.0}).fit(columns(), LABEL)


def rare(n=1200, seed=0):
    """One row in ten is of the second class, and no column says which for sure."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    return X, (rng.random(n) < 0.25 / (1 + np.exp(-2 * X[:, 0]))).astype(int)


def test_a_metric_of_labels_sets_the_threshold(tmp_path):
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    (X, y), (new, truth) = rare(), rare(seed=1)
    plain = classifier(validation_fraction=0.3).fit(X, y)
    model = classifier(validation_fraction=0.3, metric="f1").fit(X, y)
    assert plain.predictor_.threshold is None
    assert 0 < model.predictor_.threshold < 0.4
    np.testing.assert_array_equal(model.predict(new) == 1, model.predict_proba(new)[:, 1] >= model.predictor_.threshold)
    assert metrics.f1_score(truth, model.predict(new)) > metrics.f1_score(truth, plain.predict(new)) + 0.1
    assert model.validation_score_ == model.validation_scores_["f1"]
    assert model.score(new, truth) == metrics.accuracy_score(truth, model.predict(new))
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(xpnn.load_predictor(tmp_path / "m.safetensors").predict(new), model.predict(new))
    assert "threshold: 0." in model.summary()


def test_metrics_of_probabilities_and_numbers():
    auc = classifier(metric="roc_auc").fit(columns(), LABEL)
    assert auc.validation_score_ == auc.validation_scores_["auc"]
    assert regressor(metric="mae").fit(columns(), PRICE).validation_score_ > 0
    for make, y, metric in ((classifier, LABEL, "rmse"), (regressor, PRICE, "auc"), (regressor, PRICE, "rsme")):
        with pytest.raises(OptionError, match=rf"expected a score of \w+ among .*, got '{metric}'"):
            make(metric=metric).fit(columns(), y)


def test_probabilities_are_calibrated():
    (X, y), (new, truth) = rare(), rare(5000, seed=1)
    options = {"epochs": 60, "hidden": (128, 128), "validation_fraction": 0.3, "random_state": 1}
    plain, model = (classifier(**options, calibrate=on).fit(X, y) for on in (False, True))
    assert plain.predictor_.temperature is None
    assert model.predictor_.temperature is not None
    np.testing.assert_array_equal(plain.predict(new), model.predict(new))

    def loss(out):
        return -np.log(np.maximum(out[np.arange(len(truth)), truth], 1e-12)).mean()

    assert loss(model.predict_proba(new)) <= loss(plain.predict_proba(new)) + 1e-3
    assert model.validation_scores_["cross_entropy"] <= plain.validation_scores_["cross_entropy"]


def test_callbacks_are_called():
    epochs = []
    regressor(callbacks=[LambdaCallback(on_epoch_end=lambda t: epochs.append(t.epoch))]).fit(columns(), PRICE)
    assert epochs == [1, 2, 3, 4, 5, 6]


def test_importance_is_by_column():
    model = regressor(epochs=40).fit(columns(), PRICE)
    found = model.feature_importance(columns(), PRICE, n_repeats=3)
    assert set(found.names) == {"size", "kind", "day", "wait", "flag", "code"}
    assert found.names[0] in ("size", "day", "code")
    assert found.mean[0] > 0
    assert found.values.shape == (6, 3)
    assert found.metric == "rmse"
    model = classifier(epochs=40, metric="auc").fit(columns(), LABEL)
    for metric, name in ((None, "auc"), ("f1", "f1"), ("logloss", "logloss"), ("accuracy", "accuracy")):
        found = model.feature_importance(columns(), LABEL, metric=metric, n_repeats=2)
        assert found.metric == name
        assert found.mean[0] > 0


def test_cross_validation():
    model = classifier()
    found = model.cross_validate(columns(), LABEL, cv=4)
    assert found.fold.tolist().count(-1) == 0
    assert {name: len(values) for name, values in found.scores.items()} == {"accuracy": 4, "cross_entropy": 4}
    assert found.mean["accuracy"] == pytest.approx(np.mean(found.predictions == LABEL), abs=0.02)
    assert found.probabilities.shape == (N, 2)
    assert str(found).startswith("accuracy 0.")
    assert not hasattr(model, "predictor_")
    halves = [(np.arange(80), np.arange(80, N))]
    found = regressor().cross_validate(columns(), PRICE, cv=halves)
    assert (found.fold[:80] == -1).all()
    assert np.isnan(found.predictions[:80]).all()
    np.testing.assert_array_equal(
        found.predictions[80:],
        regressor()
        .fit({n: c[:80] for n, c in columns().items()}, PRICE[:80])
        .predict({n: c[80:] for n, c in columns().items()}),
    )
    with pytest.raises(OptionError, match=r"expected cv to be a number of folds, a splitter"):
        model.cross_validate(columns(), LABEL, cv=2.5)


@pytest.mark.parametrize("state", [lambda: 3, lambda: np.random.default_rng(3)], ids=["number", "generator"])
def test_cross_validation_in_processes_has_the_results_of_one(state):
    one, two = (classifier(random_state=state()).cross_validate(columns(), LABEL, cv=3, n_jobs=k) for k in (1, 2))
    assert one.scores["cross_entropy"].tolist() == two.scores["cross_entropy"].tolist()
    assert one.probabilities.tobytes() == two.probabilities.tobytes()
    assert one.predictions.tolist() == two.predictions.tolist()
    assert one.fold.tolist() == two.fold.tolist()


def test_numbers_without_noise_have_more_epochs_unless_their_number_is_given():
    table = {"x": SIZE}
    options = {"ensemble": 2, "batch_size": 32, "hidden": (16,), "lr": 0.05, "schedule": "cosine", "bins": 0}
    model = TabularRegressor(**options).fit(table, 2.0 * SIZE)
    assert model.recipe_.noiseless_length == 2.0
    (note,) = (note for note in model.notes_ if note.startswith("epochs: "))
    assert note.endswith("there is next to no noise, and the others have 256 epochs, not 128.")
    given = TabularRegressor(**options, epochs=20).fit(table, 2.0 * SIZE)
    assert given.recipe_.noiseless_length == 1.0
    assert not [note for note in given.notes_ if note.startswith("epochs: ")]


@pytest.mark.parametrize("options", [{"folds": 3, "members": 3}, {"ensemble": 2}], ids=["folds", "ensemble"])
def test_networks_trained_in_processes_are_those_of_one(options, tmp_path):
    one, two = (regressor(n_jobs=k, **options).fit(columns(), PRICE) for k in (1, 2))
    assert one.predict(columns()).tobytes() == two.predict(columns()).tobytes()
    assert one.validation_scores_ == two.validation_scores_
    assert [row["loss"] for row in one.history_.rows] == [row["loss"] for row in two.history_.rows]
    two.save(tmp_path / "model.safetensors")
    assert TabularRegressor.load(tmp_path / "model.safetensors").n_jobs is None
    with pytest.raises(OptionError, match=r"^fit_members: expected n_jobs to be a number of processes"):
        regressor(n_jobs=0, **options).fit(columns(), PRICE)


@pytest.mark.parametrize("case", ["labels", "numbers"])
def test_cross_validation_goes_on_where_it_was_cut_off(tmp_path, monkeypatch, case):
    model, y = (classifier(), LABEL) if case == "labels" else (regressor(), np.stack([PRICE, SIZE], axis=1))
    whole = model.cross_validate(columns(), y, cv=3)
    judged, made = type(model).judged, []

    def counted(self, *args):
        made.append(len(args[-1]))
        if len(made) == 3:
            raise KeyboardInterrupt
        return judged(self, *args)

    monkeypatch.setattr(type(model), "judged", counted)
    with pytest.raises(KeyboardInterrupt):
        model.cross_validate(columns(), y, cv=3, checkpoint=tmp_path / "folds")
    found = model.cross_validate(columns(), y, cv=3, checkpoint=tmp_path / "folds")
    assert len(made) == 4, "two folds, the third, and the third again"
    assert found.mean == whole.mean
    assert found.predictions.dtype == whole.predictions.dtype
    np.testing.assert_array_equal(found.predictions, whole.predictions)
    other = {**columns(), "size": SIZE + 1}
    for table, settings in ((other, model), (columns(), model.set_params(random_state=1))):
        with pytest.raises(DataError, match="expected folds of these rows, targets and settings in"):
            settings.cross_validate(table, y, cv=3, checkpoint=tmp_path / "folds")
    (tmp_path / "folds" / "fold-1.safetensors").write_bytes(b"damaged")
    with pytest.raises(FileFormatError):
        model.cross_validate(columns(), y, cv=3, checkpoint=tmp_path / "folds")


def test_a_fold_that_is_cut_off_goes_on_with_its_epochs(tmp_path):
    """Of two networks in each of two folds, the second of the second fold is cut off."""

    def model(stop_at=None):
        epochs = []

        def count(trainer):
            epochs.append(1)
            if len(epochs) == stop_at:
                raise KeyboardInterrupt

        return regressor(ensemble=2, callbacks=lambda k: [LambdaCallback(on_epoch_end=count)]), epochs

    (straight, _), (cut, _), (again, rest) = model(), model(21), model()
    whole = straight.cross_validate(columns(), PRICE, cv=2)
    with pytest.raises(KeyboardInterrupt):
        cut.cross_validate(columns(), PRICE, cv=2, checkpoint=tmp_path / "folds")
    (folder,) = (each for each in (tmp_path / "folds").iterdir() if each.is_dir())
    assert sorted(file.name for file in folder.iterdir()) == ["network-0.safetensors", "network-1.safetensors"]
    found = again.cross_validate(columns(), PRICE, cv=2, checkpoint=tmp_path / "folds")
    assert len(rest) in (3, 4), "of 24 epochs those that are left"
    assert found.predictions.tobytes() == whole.predictions.tobytes()
    assert found.scores["rmse"].tolist() == whole.scores["rmse"].tolist()
    assert not folder.exists()


def test_several_targets_by_name():
    """A list of names, and a frame of columns, name the targets of a model."""
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    frame = pd.DataFrame({"day": DAY, "kind": KIND, "size": SIZE, "price": PRICE * 1000})
    model = regressor().fit(frame, ["size", "price"])
    assert model.predictor_.target_names == ("size", "price")
    assert model.feature_names_in_.tolist() == ["day", "kind"]
    same = regressor().fit(frame[["day", "kind"]], frame[["size", "price"]])
    np.testing.assert_array_equal(model.predict(frame), same.predict(frame[["day", "kind"]]))
    scores = model.predictor_.score(frame, frame[["size", "price"]].to_numpy())
    assert [each["target"] for each in scores["targets"]] == ["size", "price"]
    importance = model.feature_importance(frame, ["size", "price"])
    assert importance.score < 10, "in standard deviations: no target weighs more for its unit"
    with pytest.raises(DataError, match=r"name of a column of X, got 'prize'"):
        regressor().fit(frame, ["size", "prize"])
    texts = regressor().fit(frame[["size"]], [f"{price:.3f}" for price in PRICE])
    assert texts.predict(frame[["size"]]).shape == (N,)


@pytest.mark.parametrize("how", ["column", "array", "splitter"])
def test_cross_validation_holds_groups_out_together(how):
    model_selection = pytest.importorskip(
        "sklearn.model_selection", reason="needs scikit-learn: pip install 'xpnn[sklearn]'"
    )
    visits = np.repeat([f"p{k}" for k in range(20)], 8)
    cv = model_selection.GroupKFold(3) if how == "splitter" else 3
    table = columns() | ({"patient": visits} if how == "column" else {})
    found = regressor(epochs=2).cross_validate(table, PRICE, cv=cv, groups="patient" if how == "column" else visits)
    for patient in np.unique(visits):
        assert len(np.unique(found.fold[visits == patient])) == 1
    assert sorted(np.bincount(found.fold).tolist()) == [48, 56, 56]
    with pytest.raises(OptionError, match=r"cross_validate: expected 2 to 20 folds of 20 groups, got 21\. Try 5\."):
        regressor().cross_validate(columns(), PRICE, cv=21, groups=visits)
    with pytest.raises(
        OptionError, match=r"expected cv to divide these 160 rows, got: The 'groups' parameter .* Pass g"
    ):
        regressor().cross_validate(columns(), PRICE, cv=model_selection.GroupKFold(3))
    with pytest.raises(ShapeError, match=r"expected a group for each of 160 rows, got groups of shape \(5,\)"):
        regressor().cross_validate(columns(), PRICE, groups=visits[:5])
    with pytest.raises(DataError, match=r"expected groups to be an array or the name of a column of X, got 'patiend'"):
        regressor().cross_validate(columns() | {"patient": visits}, PRICE, groups="patiend")


def test_cross_validation_of_classes_that_a_fold_has_not_seen():
    kinds = np.array(["a", "b"] * 60 + ["c"] * 40)
    early, late = np.arange(60), np.arange(60, 120)
    table = {"size": SIZE, "even": np.arange(N) % 2 == 0}
    found = classifier(epochs=2).cross_validate(
        table, kinds, cv=[(early, late), (np.arange(0, N, 2), np.arange(120, N, 2))][:1]
    )
    assert found.probabilities.shape == (N, 3)
    assert (found.probabilities[late, 2] == 0).all()
    assert found.probabilities[late].sum(1) == pytest.approx(1, abs=1e-5)
    with pytest.raises(
        DataError, match=r"expected each class .* got none of 'c' in fold 1, which holds all its rows out"
    ):
        classifier().cross_validate(table, kinds, cv=[(early, np.arange(100, N))])


def test_cross_validation_takes_frames_and_splitters():
    model_selection = pytest.importorskip(
        "sklearn.model_selection", reason="needs scikit-learn: pip install 'xpnn[sklearn]'"
    )
    tables = frames()
    expected = regressor(epochs=2).cross_validate(tables["columns"], PRICE, cv=model_selection.KFold(2)).predictions
    for name, table in tables.items():
        found = regressor(epochs=2).cross_validate(table, PRICE, cv=model_selection.KFold(2))
        np.testing.assert_array_equal(found.predictions, expected, err_msg=name)


# -- files ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [classifier, regressor])
def test_files_give_the_model_back(make, tmp_path):
    y = LABEL if make is classifier else np.column_stack([PRICE, SIZE])
    model = make(ensemble=2, categorical=("flag",)).fit(columns(), y)
    for path in (tmp_path / "model.safetensors", tmp_path / "runs" / "trees"):
        model.save(path)
        same = type(model).load(path)
        np.testing.assert_array_equal(same.predict(columns()), model.predict(columns()))
        assert repr(same) == repr(model)
        assert same.recipe_ == model.recipe_
        assert same.summary() == model.summary()
    predictor = xpnn.load_predictor(tmp_path / "runs" / "trees")
    np.testing.assert_array_equal(predictor.predict(columns()), model.predict(columns()))
    if make is regressor:
        np.testing.assert_array_equal(
            predictor.predict_interval(columns(), 0.7), model.predict_interval(columns(), 0.7)
        )
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(columns()), model.predict(columns()))
    other = TabularRegressor if make is classifier else TabularClassifier
    with pytest.raises(FileFormatError, match=f"Use {type(model).__name__}.load"):
        other.load(tmp_path / "model.safetensors")
    with pytest.raises(FileFormatError, match=r"Read it with xpnn.load_predictor"):
        xpnn.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("entry", [[], "TabularRegressor", None, {}, {"class": "TabularRegressor"}, {"class": ["a"]}])
def test_a_file_whose_estimator_is_none_is_refused(tmp_path, entry):
    regressor().fit(columns(), PRICE).save(tmp_path / "m.safetensors")
    predictor = Predictor.load(tmp_path / "m.safetensors")
    predictor.info["estimator"] = entry
    predictor.save(tmp_path / "m.safetensors")
    with pytest.raises(FileFormatError, match=r"expected what TabularRegressor\.save writes"):
        TabularRegressor.load(tmp_path / "m.safetensors")


def test_what_was_decided_can_be_read_in_the_file(tmp_path):
    model = classifier().fit(columns(), LABEL)
    model.save(tmp_path / "model.safetensors")
    kept = read(tmp_path / "model.safetensors")[1]["extra"]["predictor"]
    assert kept["info"]["recipe"]["hidden"] == [16]
    assert kept["info"]["estimator"] == json.loads(json.dumps(kept["info"]["estimator"]))
    assert {"preset", "random_state", "hidden"} <= kept["info"]["estimator"]["params"].keys()
    assert next(column["name"] for column in kept["encoder"]["state"]["columns"]) == "size"
    assert kept["target"]["classes"] == ["cheap", "dear"]


def test_tables_from_files(tmp_path):
    rows = "\n".join(f"{DAY[k]},{SIZE[k]:.3f},{KIND[k]},{PRICE[k]:.3f}" for k in range(N))
    (tmp_path / "trees.csv").write_text(f"day,size,kind,price\n{rows}\n")
    table = xpnn.data.load_csv(tmp_path / "trees.csv", target="price")
    model = regressor().fit(table, "price")
    assert model.notes_[0].startswith("day: dates from 2024-01-0")
    assert model.feature_names_in_.tolist() == ["day", "size", "kind"]
    assert model.predictor_.info["target"] == "price"
    expected = model.predict({"day": DAY, "size": SIZE.round(3), "kind": KIND})
    np.testing.assert_allclose(model.predict(table), expected, rtol=1e-5)
    model.save(tmp_path / "run")
    again = xpnn.data.load_csv(tmp_path / "trees.csv", like=table)
    np.testing.assert_array_equal(xpnn.load_predictor(tmp_path / "run").predict(again), model.predict(table))


def test_arrays_come_back_by_position(tmp_path):
    X = np.column_stack([SIZE, np.arange(N) % 5])
    model = regressor().fit(X, PRICE)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(TabularRegressor.load(tmp_path / "m.safetensors").predict(X), model.predict(X))
    np.testing.assert_array_equal(Predictor.load(tmp_path / "m.safetensors").predict(X), model.predict(X))


def test_a_bare_predictor_is_no_estimator(tmp_path):
    model = regressor().fit(columns(), PRICE)
    model.predictor_.info.pop("estimator")
    model.save(tmp_path / "m.safetensors")
    with pytest.raises(FileFormatError, match=r"got a model of no estimator .* Use xpnn.load_predictor"):
        TabularRegressor.load(tmp_path / "m.safetensors")


def test_scikit_learn_is_not_needed():
    """In a process of its own, where it cannot be imported: all but what scikit-learn itself asks for."""
    code = """
import sys
sys.modules.update(dict.fromkeys(("sklearn", "scipy", "pandas")))
import numpy as np
from xpnn.tabular import TabularRegressor
X = {"a": np.arange(60.0) % 7, "b": ["u", "v"] * 30}
try:
    TabularRegressor().predict(X)
except ValueError as error:
    print(type(error).__name__, error)
model = TabularRegressor(preset="quick", hidden=(4,), epochs=2).fit(X, np.arange(60.0) ** 2)
print(model.predict_interval(X, 0.5).shape, model.get_params()["hidden"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "DataError TabularRegressor.predict: expected a fitted estimator, got one that is not fitted yet. "
        "Call fit first.",
        "(60, 2) (4,)",
    ]

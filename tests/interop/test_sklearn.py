"""Pipelines of scikit-learn that come in, and estimators that go out as Pipelines: equal predictions, against it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
sparse = pytest.importorskip("scipy.sparse")
pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")

from sklearn import preprocessing  # noqa: E402
from sklearn.compose import ColumnTransformer, make_column_selector  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402

import xpnn  # noqa: E402
from xpnn import estimators  # noqa: E402
from xpnn.errors import OptionError  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Found unknown categories"),
]
RNG = np.random.default_rng(0)
N = 90
FRAME = pd.DataFrame(
    {
        "size": RNG.normal(50, 20, N),
        "age": RNG.integers(0, 99, N),
        "town": RNG.choice(["Aa", "Bb", "Cc", "Dd"], N, p=[0.5, 0.3, 0.15, 0.05]),
        "sex": RNG.choice(["f", "m"], N),
        "code": RNG.integers(1, 4, N),
    }
)
GAPS = FRAME.copy()
GAPS.loc[::7, "size"] = np.nan
GAPS.loc[::9, "town"] = None
Y = 0.1 * FRAME["size"].to_numpy() + (FRAME["town"] == "Aa").to_numpy() * 3 + FRAME["code"].to_numpy()
LABELS = np.array(["no", "perhaps", "yes"])[np.digitize(Y, [6, 8])]
#: Rows that training did not have.
NEW = pd.DataFrame(
    {
        "size": [1.0, 900.0, -900.0],
        "age": [3, 4, 5],
        "town": ["Zz", "Aa", "Bb"],
        "sex": ["x", "f", "m"],
        "code": [2, 9, 1],
    }
)
X = FRAME[["size", "age", "code"]].to_numpy(float)
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 8, "random_state": 0}
HOT = preprocessing.OneHotEncoder


def same(ours, theirs, rows):
    """Compare predictions and, of classifiers, probabilities to 1e-6 of their size."""
    found, expected = ours.predict(rows), theirs.predict(rows)
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    else:
        assert found.tolist() == expected.tolist()
        np.testing.assert_allclose(ours.predict_proba(rows), theirs.predict_proba(rows), atol=1e-6)


# -- in ----------------------------------------------------------------------------------------------------------------
SCALERS = {
    "standard": [preprocessing.StandardScaler()],
    "centred": [preprocessing.StandardScaler(with_std=False)],
    "divided": [preprocessing.StandardScaler(with_mean=False)],
    "min max": [preprocessing.MinMaxScaler((-1, 2))],
    "largest": [preprocessing.MaxAbsScaler()],
    "robust": [preprocessing.RobustScaler()],
    "two": [preprocessing.RobustScaler(with_centering=False), "passthrough", preprocessing.MinMaxScaler()],
    "inner": [make_pipeline(preprocessing.StandardScaler(), preprocessing.FunctionTransformer())],
    "by column": [ColumnTransformer([("all", preprocessing.StandardScaler(), slice(0, 3))])],
}


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("name", SCALERS)
def test_scalers_come_in_as_standardize(name, kind):
    y = Y if kind is MLPRegressor else LABELS
    theirs = Pipeline([(f"s{j}", step) for j, step in enumerate([*SCALERS[name], kind(**SMALL)])]).fit(X, y)
    ours = xpnn.from_sklearn(theirs)
    assert ours.standardize
    same(ours, theirs, X)
    before = ours.predict(X)
    scale = ours.scaler_.scale.copy()
    ours.partial_fit(X, y)
    assert (ours.scaler_.scale == scale).all()
    assert type(before) is np.ndarray


NUMBERS, WORDS = ["size", "age"], ["town", "sex", "code"]
TABLES = {
    "columns": ColumnTransformer(
        [("n", preprocessing.StandardScaler(), NUMBERS), ("c", HOT(handle_unknown="ignore"), WORDS)]
    ),
    "first dropped": ColumnTransformer(
        [("c", HOT(drop="first", handle_unknown="ignore"), WORDS), ("n", preprocessing.MinMaxScaler(), NUMBERS)]
    ),
    "binary dropped": ColumnTransformer(
        [("c", HOT(drop="if_binary", handle_unknown="ignore"), ["sex", "town"])], remainder="passthrough"
    ),
    "rare": ColumnTransformer(
        [("c", HOT(min_frequency=15, handle_unknown="infrequent_if_exist"), WORDS), ("n", "passthrough", NUMBERS)]
    ),
    "rare, unknown left out": ColumnTransformer([("c", HOT(max_categories=2, handle_unknown="ignore"), WORDS)]),
    "kinds": ColumnTransformer(
        [
            (
                "n",
                make_pipeline(SimpleImputer(), preprocessing.StandardScaler()),
                make_column_selector(dtype_include="number"),
            ),
            ("c", HOT(handle_unknown="ignore", sparse_output=False), ["town"]),
        ],
        remainder="drop",
    ),
    "scaled behind": make_pipeline(
        ColumnTransformer([("c", HOT(sparse_output=False, handle_unknown="ignore"), WORDS)], remainder="passthrough"),
        preprocessing.StandardScaler(),
    ),
    "one-hot alone": HOT(handle_unknown="ignore"),
}


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("name", TABLES)
def test_categories_come_in_as_an_encoder(name, kind):
    y = Y if kind is MLPRegressor else LABELS
    frame = FRAME[WORDS] if name == "one-hot alone" else FRAME
    theirs = make_pipeline(TABLES[name], kind(**SMALL))
    theirs.fit(frame, y)
    ours = xpnn.from_sklearn(theirs)
    same(ours, theirs, frame)
    same(ours, theirs, NEW[frame.columns])
    assert ours.feature_names_in_.tolist() == list(frame.columns)
    ours.partial_fit(frame, y)
    assert ours.predict(NEW[frame.columns]).shape == (3,)


def test_missing_numbers_are_filled_before_and_behind_a_scaler():
    for steps in (
        (SimpleImputer(strategy="median"), preprocessing.StandardScaler()),
        (preprocessing.StandardScaler(), SimpleImputer()),
    ):
        theirs = make_pipeline(
            ColumnTransformer([("n", make_pipeline(*steps), NUMBERS), ("c", HOT(handle_unknown="ignore"), ["sex"])]),
            MLPRegressor(**SMALL),
        ).fit(GAPS, Y)
        same(xpnn.from_sklearn(theirs), theirs, GAPS)


def fitted(*steps, rows=FRAME, y=Y):
    return make_pipeline(*steps, MLPRegressor(**SMALL)).fit(rows, y)


REFUSED = {
    "clipped": (lambda: fitted(preprocessing.MinMaxScaler(clip=True), rows=X), r"got MinMaxScaler\(clip=True\)"),
    "quantiles": (
        lambda: fitted(preprocessing.QuantileTransformer(n_quantiles=9), rows=X),
        "the step 'quantiletransformer': expected a scaler, .* got QuantileTransformer",
    ),
    "function": (lambda: fitted(preprocessing.FunctionTransformer(np.cbrt), rows=X), "got FunctionTransformer"),
    "no names": (lambda: fitted(HOT(), rows=FRAME[WORDS].to_numpy()), "fitted on a frame, got one without names"),
    "missing words": (lambda: fitted(HOT(), rows=GAPS[["town", "sex"]]), "got one for missing cells of 'town'"),
    "filled words": (
        lambda: fitted(SimpleImputer(strategy="most_frequent"), HOT(), rows=FRAME[["town"]]),
        "expected a SimpleImputer of numbers",
    ),
    "scaled codes": (
        lambda: fitted(preprocessing.MaxAbsScaler(), HOT(), rows=FRAME[["code"]]),
        "got one behind a scaler",
    ),
    "twice": (
        lambda: fitted(
            ColumnTransformer(
                [
                    ("a", "passthrough", ["size"]),
                    ("b", preprocessing.StandardScaler(), ["size"]),
                    ("c", HOT(), ["sex"]),
                ]
            )
        ),
        "got the column 'size' twice",
    ),
    "rare and dropped": (lambda: fitted(HOT(drop="first", min_frequency=15), rows=FRAME[["town"]]), "got both"),
    "not fitted": (
        lambda: make_pipeline(preprocessing.StandardScaler(), MLPRegressor()),
        "expected a fitted estimator",
    ),
    "another end": (
        lambda: Pipeline([("scale", preprocessing.StandardScaler())]).fit(X),
        "expected a MLPClassifier or MLPRegressor of scikit-learn, got StandardScaler",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pipelines_that_cannot_come_in_are_refused_by_their_step(name):
    make, message = REFUSED[name]
    with pytest.raises(OptionError, match=f"from_sklearn: .*{message}"):
        xpnn.from_sklearn(make())


# -- out ---------------------------------------------------------------------------------------------------------------
def test_standardize_goes_out_as_a_scaler():
    ours = estimators.MLPClassifier(standardize=True, **SMALL).fit(X, LABELS)
    theirs = ours.to_sklearn()
    assert list(theirs.named_steps) == ["standardscaler", "mlpclassifier"]
    same(ours, theirs, X)
    same(xpnn.from_sklearn(theirs), theirs, X)
    frame = FRAME[NUMBERS]
    named = estimators.MLPRegressor(standardize=True, **SMALL).fit(frame, Y)
    same(named, named.to_sklearn(), frame)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("rows", [FRAME, GAPS], ids=["whole", "with gaps"])
def test_categories_go_out_as_a_column_transformer(rows, standardize):
    options = {"categorical_features": WORDS, "standardize": standardize, "dtype": "float64", **SMALL}
    for kind, y in ((estimators.MLPClassifier, LABELS), (estimators.MLPRegressor, Y)):
        ours = kind(**options).fit(rows, y)
        theirs = ours.to_sklearn()
        assert list(theirs.named_steps) == ["columntransformer", f"mlp{'regressor' if y is Y else 'classifier'}"]
        same(ours, theirs, rows)
        same(ours, theirs, NEW)
        same(ours, theirs, NEW.assign(code=["2", "9", "1"]))


def test_what_goes_out_is_scikit_learns_own(tmp_path):
    import joblib

    ours = estimators.MLPRegressor(categorical_features="from_dtype", **SMALL).fit(GAPS, Y)
    joblib.dump(ours.to_sklearn(), tmp_path / "model.joblib")
    GAPS.to_pickle(tmp_path / "rows.pkl")
    code = "import joblib, pandas, sys; m = joblib.load('model.joblib'); print(float(m.predict(pandas.read_pickle("
    code += "'rows.pkl')).sum()), 'xpnn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    total, loaded = done.stdout.split()
    assert float(total) == pytest.approx(ours.predict(GAPS).sum(), rel=1e-6)
    assert loaded == "False"


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (pd.date_range("2020-01-01", periods=N).astype(str), "a column of dates"),
        (np.where(np.arange(N) % 3, "word", "1"), "a category of numbers and words"),
        (np.where(np.arange(N) % 3, "True", "False"), "a category of truth values"),
        ([f"w{j % 60 if j > 59 else j // 2}" + "x" * (j // 2 % 2) for j in range(N)], None),
    ],
    ids=["dates", "numbers and words", "truth", "words"],
)
def test_columns_that_scikit_learn_cannot_encode_are_refused(column, problem):
    ours = estimators.MLPRegressor(categorical_features="from_dtype", **SMALL).fit(FRAME.assign(new=column), Y)
    if problem is None:
        same(ours, ours.to_sklearn(), FRAME.assign(new=column))
        return
    with pytest.raises(OptionError, match=f"to_sklearn: .* got 'new', {problem}"):
        ours.to_sklearn()


def test_networks_have_no_scikit_learn():
    with pytest.raises(OptionError, match=r"to_sklearn: expected a MLPClassifier .*, got Sequential"):
        xpnn.mlp([2, 1]).to_sklearn()


def test_sparse_rows_and_labels_of_their_own_cross_too():
    rows = sparse.random(60, 5, 0.4, format="csr", random_state=0)
    labels = np.stack([np.arange(60) % 2, np.arange(60) % 3 > 0], axis=1).astype(int)
    theirs = make_pipeline(preprocessing.StandardScaler(with_mean=False), MLPClassifier(**SMALL)).fit(rows, labels)
    ours = xpnn.from_sklearn(theirs)
    same(ours, theirs, rows)
    ours.partial_fit(rows, labels)
    same(ours, ours.to_sklearn(), rows)

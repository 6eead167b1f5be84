"""scikit-learn's own checks of an estimator, and its tools around ours."""

from __future__ import annotations

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")

from sklearn.base import clone, is_classifier, is_regressor  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from xpnn.errors import OptionError  # noqa: E402
from xpnn.tabular import TabularClassifier, TabularRegressor  # noqa: E402
from xpnn.tabular.params import RECIPE  # noqa: E402

# Answers of float32 depend on the rows beside them in the last digit, and the checks compare closer than that.
FAST = {"preset": "quick", "hidden": (32,), "epochs": 30, "batch_size": 16, "dtype": "float64"}
#: What does not pass, with the reason.
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "a weight of two is no second row: rows are held out, scaled and "
    "put into batches by number",
}
each = pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])


# scikit-learn's suite does not turn warnings into errors, ours does.
@pytest.mark.filterwarnings("ignore")
@each
def test_the_checks_pass(kind):
    found = check_estimator(kind(**FAST), on_fail=None, expected_failed_checks=EXPECTED)
    failed = {result["check_name"]: repr(result["exception"])[:500] for result in found if result["status"] == "failed"}
    assert failed == {}
    known = {result["check_name"] for result in found if result["status"] == "xfail"}
    assert known == set(EXPECTED), "no longer an exception"
    assert len(found) > 50


@each
def test_parameters_are_shown_and_changed(kind):
    model = kind(preset="quick", epochs=3)
    assert repr(model) == f"{kind.__name__}(preset='quick', epochs=3)"
    assert set(RECIPE) <= set(model.get_params())
    same = clone(model).set_params(hidden=(8,))
    assert (same.epochs, same.hidden, model.hidden) == (3, (8,), "auto")
    assert "hidden=(8,)" in repr(same)
    with pytest.raises(OptionError, match=r"Invalid parameter 'epoch' for estimator .* Did you mean 'epochs'"):
        model.set_params(epoch=3)
    with pytest.raises(OptionError, match=r"or entries of a recipe, got 'hiden'. Did you mean 'hidden'"):
        kind(hiden=(8,))


def test_kinds():
    assert is_classifier(TabularClassifier())
    assert is_regressor(TabularRegressor())
    with pytest.raises(NotFittedError, match=r"TabularClassifier.predict: expected a fitted estimator"):
        TabularClassifier().predict([[1.0]])


def test_searches_and_pipelines():
    X = np.random.default_rng(0).normal(size=(80, 2))
    y = np.where(X[:, 0] > 0, "up", "down")
    quick = TabularClassifier(preset="quick", hidden=(8,), epochs=4, batch_size=16)
    found = GridSearchCV(quick, {"lr": [0.001, 0.1]}, cv=2).fit(X, y)
    assert found.best_params_["lr"] in (0.001, 0.1)
    pipeline = make_pipeline(FunctionTransformer(), quick)
    assert len(cross_val_score(pipeline, X, y, cv=2)) == 2

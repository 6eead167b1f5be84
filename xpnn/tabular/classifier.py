"""Tables with a class to predict."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..data.targets import ClassTarget
from ..errors import LabelError, OptionError
from ..frames import listed, table_names
from .estimator import TabularModel
from .inputs import read_weights

__all__ = ["TabularClassifier"]


# What to do about several columns of labels.
_SEVERAL = (
    "Fit a classifier for each column, which sklearn.multioutput.MultiOutputClassifier does: it takes the columns to "
    "learn from, and a frame of the labels."
)


class TabularClassifier(TabularModel):
    """Classify the rows of a table: a frame goes in, labels and calibrated probabilities come out.

    Numbers, text, categories, booleans, dates, durations and missing cells are taken as they are.  A share of the rows
    is held out to choose the best epoch and to calibrate the probabilities.  It is an estimator of scikit-learn's kind,
    and does not need scikit-learn.

    Parameters
    ----------
    preset : {"quick", "good", "best"}, default="good"
        How much time is spent; see `choose_recipe`.
    time_limit : float, optional
        Seconds after which training ends; the best so far is kept.
    ensemble : int, optional
        Number of networks whose probabilities are averaged; by default the recipe's.
    metric : str, optional
        What the answers will be judged by: ``"accuracy"``, ``"balanced_accuracy"``, ``"f1"``, ``"f1_macro"``,
        ``"mcc"``, ``"auc"``, ``"ap"``, ``"logloss"`` or ``"brier"``.  The recipe goes by it; and where it judges labels
        of two classes, so does the probability from which on the second is called.
    categorical, numeric : sequence of str, default=()
        Columns to read so whatever they look like.
    dayfirst : bool, optional
        Whether 1/2/2020 in text is the first of February, where the column leaves it open.
    decimal : {".", ","}, optional
        The decimal mark of numbers in text, where the column leaves it open, as 1,234 does.
    class_weight : dict of label to weight, "balanced" or None, default=None
        Weights of the classes, multiplied with `sample_weight`.
    random_state : int, generator or None, default=0
        Draws the split, weights, shuffles and masks: the same number gives the same bits. None draws anew.
    backend, dtype : str or Backend, and str, default="numpy", "float32"
        Where and in which precision to compute.
    callbacks : sequence of Callback, or function of a network's number, optional
        Of xpnn, called in each training.
    n_jobs : int, optional
        Processes in which the networks of an ensemble are trained, through joblib; the answers are those of one.  None:
        what ``joblib.parallel_config`` says, where one is open, else 1.
    **recipe
        Entries of `Recipe` that are not to be chosen, such as ``hidden=(256, 128)``, ``epochs=30``, ``lr=0.002`` or
        ``validation_fraction=0.2``.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels.
    predictor_ : Predictor
        Encoder, network and labels; what is saved.
    recipe_ : Recipe
        All that decided the fit.
    history_ : History
        Of the first network, epoch by epoch.
    n_iter_, best_epoch_ : int, int
        Epochs that were made, and whose weights are kept.
    stopped_ : str or None
        Why training ended early, if it did.
    validation_scores_, validation_score_ : dict, float
        Scores of the rows that were held out, and their accuracy; None where there were none.
    n_features_in_, feature_names_in_ : int, array of str
        The columns; names only where the table had them.
    notes_ : list of str
        What was decided of the columns, in sentences.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.tabular import TabularClassifier
    >>> rng = np.random.default_rng(0)
    >>> size, kind = rng.normal(size=300), rng.choice(["oak", "fir"], 300)
    >>> label = np.where((size > 0) == (kind == "oak"), "keep", "cut")
    >>> model = TabularClassifier(preset="quick").fit({"size": size, "kind": kind}, label)
    >>> model.predict({"size": [1.5, 1.5], "kind": ["oak", "fir"]}).tolist()
    ['keep', 'cut']
    """

    _kind: ClassVar[str] = "classifier"

    def __init__(
        self,
        *,
        preset: Any = "good",
        time_limit: float | None = None,
        ensemble: int | None = None,
        metric: str | None = None,
        categorical: Any = (),
        numeric: Any = (),
        dayfirst: bool | None = None,
        decimal: Any = None,
        class_weight: Any = None,
        random_state: Any = 0,
        backend: Any = "numpy",
        dtype: str = "float32",
        callbacks: Any = None,
        n_jobs: int | None = None,
        **recipe: Any,
    ) -> None:
        self._keep(locals(), recipe)

    def _apart(self, X: Any, y: Any, where: str) -> tuple[Any, Any, str | list[str] | None]:
        names = table_names(X) or (list(X) if isinstance(X, dict) else [])
        if isinstance(y, list | tuple) and len(y) > 1 and all(isinstance(name, str) and name in names for name in y):
            raise LabelError(
                f"{where}: expected one column of labels, got the names of {len(y)}: {listed(list(y))}. {_SEVERAL}"
            )
        return super()._apart(X, y, where)

    def _targets(self, y: Any, where: str) -> npt.NDArray[Any]:
        array = super()._targets(y, where)
        if array.ndim == 2:
            raise LabelError(f"{where}: expected one label for each row, got y of shape {array.shape}. {_SEVERAL}")
        if array.dtype.kind == "f" and not (array == np.trunc(array)).all():
            raise LabelError(
                f"{where}: expected labels in y, got numbers with fractions. Unknown label type: continuous. Maybe you "
                "are trying to fit a classifier, which expects discrete classes, on a regression target with "
                "continuous values: use TabularRegressor."
            )
        return array

    def _learn_labels(self, dtype: np.dtype[Any]) -> None:
        target = self.predictor_.target
        if isinstance(target, ClassTarget):
            self.classes_ = target.decode(np.arange(len(target.classes)))
            if dtype.kind in "biufU":
                self.classes_ = self.classes_.astype(dtype if dtype.kind != "U" else str)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the likeliest label of each row, or that which the threshold decides.

        Parameters
        ----------
        X : frame, mapping of columns, table, or array of shape (n_samples, n_features)
            Rows with the columns of the training, which are found by name; others are not used.

        Returns
        -------
        array of shape (n_samples,)
        """
        return self._answers(self._outputs(X, "predict"))

    def _answers(self, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(self.classes_[self.predictor_.codes(out)])

    def predict_proba(self, X: Any) -> npt.NDArray[Any]:
        """Return the probability of each class.

        Parameters
        ----------
        X : frame, mapping of columns, table, or array of shape (n_samples, n_features)
            Rows with the columns of the training.

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of `classes_`; rows sum to 1.
        """
        return self._outputs(X, "predict_proba")

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy, the weighted share of rows with the right label."""
        self._fitted("score")
        truth = self._targets(y, f"{type(self).__name__}.score")
        target = self.predictor_.target
        if not isinstance(target, ClassTarget):
            raise OptionError("TabularClassifier.score: expected a model of classes, got one of numbers.")
        right = self.predictor_.codes(self.predict_proba(X)) == target.encode(truth)
        weight = read_weights(sample_weight, len(truth), f"{type(self).__name__}.score")
        return float(np.average(right, weights=weight))

"""Tables with a number to predict."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..data.targets import ClassTarget
from ..errors import OptionError
from .estimator import TabularModel
from .inputs import read_weights

__all__ = ["TabularRegressor"]


class TabularRegressor(TabularModel):
    """Predict a number, or several, for the rows of a table, with intervals that hold what they promise.

    Numbers, text, categories, booleans, dates, durations and missing cells are taken as they are.  A share of the rows
    is held out to choose the best epoch and to vouch for the intervals.  It is an estimator of scikit-learn's kind, and
    does not need scikit-learn.

    Parameters
    ----------
    preset : {"quick", "good", "best"}, default="good"
        How much time is spent; see `choose_recipe`.
    time_limit : float, optional
        Seconds after which training ends; the best so far is kept.
    ensemble : int, optional
        Number of networks whose answers are averaged; by default the recipe's.
    metric : str, optional
        What the answers will be judged by: ``"rmse"``, ``"mse"``, ``"mae"`` or ``"r2"``; the recipe goes by it.
    categorical, numeric : sequence of str, default=()
        Columns to read so whatever they look like.
    dayfirst : bool, optional
        Whether 1/2/2020 in text is the first of February, where the column leaves it open.
    decimal : {".", ","}, optional
        The decimal mark of numbers in text, where the column leaves it open, as 1,234 does.
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
    predictor_ : Predictor
        Encoder, network and the target's scale; what is saved.
    recipe_ : Recipe
        All that decided the fit.
    history_ : History
        Of the first network, epoch by epoch.
    n_iter_, best_epoch_ : int, int
        Epochs that were made, and whose weights are kept.
    stopped_ : str or None
        Why training ended early, if it did.
    validation_scores_, validation_score_ : dict, float
        Scores of the rows that were held out, and their R²; None where there were none.
    n_features_in_, feature_names_in_ : int, array of str
        The columns; names only where the table had them.
    notes_ : list of str
        What was decided of the columns, in sentences.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.tabular import TabularRegressor
    >>> rng = np.random.default_rng(0)
    >>> size, kind = rng.uniform(1, 5, 400), rng.choice(["oak", "fir"], 400)
    >>> price = np.where(kind == "oak", 3.0, 1.0) * size
    >>> model = TabularRegressor(preset="quick").fit({"size": size, "kind": kind}, price)
    >>> low, high = model.predict_interval({"size": [4.0], "kind": ["oak"]}, coverage=0.9)[0]
    >>> bool(low < model.predict({"size": [4.0], "kind": ["oak"]})[0] < high)
    True
    """

    _kind: ClassVar[str] = "regressor"

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
        random_state: Any = 0,
        backend: Any = "numpy",
        dtype: str = "float32",
        callbacks: Any = None,
        n_jobs: int | None = None,
        **recipe: Any,
    ) -> None:
        self._keep(locals(), recipe)

    def predict_interval(self, X: Any, coverage: float = 0.9) -> npt.NDArray[np.float64]:
        """Return lower and upper bounds that hold the truth in a share `coverage` of rows like those of the training.

        They are as wide as the errors near a row are large, by a network that learnt it, and as wide altogether as
        rows ask for that were held out (split conformal prediction, see `xpnn.intervals`).

        Parameters
        ----------
        X : frame, mapping of columns, table, or array of shape (n_samples, n_features)
            Rows with the columns of the training.
        coverage : float, default=0.9
            The share, between 0 and 1.

        Returns
        -------
        array of shape (n_samples, 2), of several targets (n_samples, n_targets, 2)
            In the target's own units; each target has that coverage by itself.

        Raises
        ------
        OptionError
            If too few rows were held out to vouch for the coverage.
        """
        predictor = self._fitted("predict_interval")
        return predictor.predict_interval(self._columns(X, "predict_interval"), coverage)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R², 1 for what is always right and 0 for the mean; of several targets the mean of theirs."""
        predictor, where = self._fitted("score"), f"{type(self).__name__}.score"
        target = predictor.target
        if isinstance(target, ClassTarget):
            raise OptionError(f"{where}: expected a model of numbers, got one of classes.")
        truth = target.numbers(self._targets(y, where))
        weight = read_weights(sample_weight, len(truth), where)
        mean = np.average(truth, axis=0, weights=weight)
        lost = np.average(np.square(truth - self.predict(X)), axis=0, weights=weight)
        return float(np.mean(1.0 - lost / np.average(np.square(truth - mean), axis=0, weights=weight)))

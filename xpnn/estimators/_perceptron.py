"""Rosenblatt's perceptron."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..random import stream
from ._inputs import admitted, targets_of

__all__ = ["Perceptron"]


class Perceptron(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    r"""The perceptron with Rosenblatt's rule, for two classes [1]_.

    Predict the second class where :math:`z = x \cdot w + b \ge 0`.  For each row that comes out wrong, add it
    to the weights if it should have been the second class, else subtract it:

    .. math:: w \leftarrow w \pm x, \qquad b \leftarrow b \pm 1.

    If a line separates the classes, the number of updates is finite, at most :math:`(R/\gamma)^2` with the
    largest :math:`\lVert x \rVert = R` and the margin γ [2]_; if none does, updates never end.

    Parameters
    ----------
    max_iter : int, default=1000
        Epochs at most; training ends with the first epoch without an update.
    shuffle : bool, default=False
        Whether each epoch takes the rows in a new order; without it the classic runs by hand come out.
    random_state : int, default=0
        Draws the orders.

    Attributes
    ----------
    coef_ : array of shape (1, n_features)
        The weights.
    intercept_ : array of shape (1,)
        The bias.
    updates_per_epoch_ : list of int
        How many rows came out wrong in each epoch.
    n_iter_ : int
        Epochs made.
    converged_ : bool
        Whether the last epoch needed no update.
    classes_ : array of shape (2,)
        The labels.

    References
    ----------
    .. [1] Rosenblatt, "The perceptron: a probabilistic model for information storage and organization in the
       brain", Psychological Review 65, 1958.
    .. [2] Novikoff, "On convergence proofs for perceptrons", 1962.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.asarray([[0, 0], [0, 1], [1, 0], [1, 1]]), np.asarray([0, 0, 0, 1])
    >>> model = Perceptron().fit(X, y)
    >>> model.converged_, model.score(X, y)
    (True, 1.0)
    >>> Perceptron(max_iter=50).fit(X, [0, 1, 1, 0]).converged_  # no line separates XOR
    False
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(self, *, max_iter: int = 1000, shuffle: bool = False, random_state: int = 0) -> None:
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any) -> Perceptron:
        """Run the rule until an epoch needs no update.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Inputs.
        y : array of shape (n_samples,)
            Labels of two classes.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there are not two classes.
        """
        where = type(self).__name__
        y = targets_of(y, where, numbers=False)
        X, y = validate_data(self, admitted(X, where), y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) > 2:
            raise ValueError(
                "Only binary classification is supported. Perceptron: expected two classes, got "
                f"{len(self.classes_)}. Use xpnn.estimators.MLPClassifier."
            )
        if len(self.classes_) < 2:
            raise ValueError(f"Perceptron: expected two classes, got only one class, {self.classes_[0]!r}.")
        w, b = np.zeros(X.shape[1]), 0.0
        self.updates_per_epoch_: list[int] = []
        for epoch in range(self.max_iter):
            order = np.arange(len(X))
            if self.shuffle:
                order = stream(int(self.random_state), "shuffle", epoch).permutation(len(X))
            updates = 0
            for i in order:
                error = codes[i] - int(X[i] @ w + b >= 0)  # +1, 0 or -1
                if error:
                    w += error * X[i]
                    b += error
                    updates += 1
            self.updates_per_epoch_.append(updates)
            if not updates:
                break
        self.coef_, self.intercept_ = w[None, :], np.asarray([b], dtype=np.float64)
        self.n_iter_, self.converged_ = len(self.updates_per_epoch_), not self.updates_per_epoch_[-1]
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return :math:`x \\cdot w + b` of each row, of shape (n_samples,)."""
        check_is_fitted(self)
        X = validate_data(self, admitted(X, type(self).__name__), dtype=np.float64, reset=False)
        return np.asarray(X @ self.coef_[0] + self.intercept_[0])

    def predict(self, X: Any) -> np.ndarray:
        """Return labels, of shape (n_samples,)."""
        check_is_fitted(self)
        return np.asarray(self.classes_[(self.decision_function(X) >= 0).astype(np.int64)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.poor_score = True
        return tags

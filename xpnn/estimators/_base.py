"""What classifier and regressor share, seen from outside."""

from __future__ import annotations

from typing import Any

from sklearn.base import _fit_context

from ._callbacks import CallbackSupportMixin, with_callbacks
from ._fit import Fitted

__all__ = ["BaseMLP"]


class BaseMLP(CallbackSupportMixin, Fitted):  # type: ignore[misc]
    """Fit and predict, in scikit-learn's manner, on any array library.

    It is built in layers, one to a file: `Arguments`, their network (`Networked`), what that says (`Inspected`), and
    how it is trained (`Fitted`).
    """

    @with_callbacks  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Inputs: NumPy, lists, data frames, SciPy sparse; with array API dispatch on also CuPy or PyTorch
            arrays, which stay on their device.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array of shape (n_samples,), optional
            Weights of the rows.
        X_val, y_val : arrays, optional
            Validation data of your own: their loss is recorded in ``history_``, and with ``early_stopping=True``
            they take the place of a held-out fraction.
        sample_weight_val : array of shape (n_val,), optional
            Weights of the validation rows.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, X_val, y_val, sample_weight_val)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

"""The arguments of the estimators: their names, what they may be, and what follows from them alone."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn import neural_network
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions

from ..arguments import number
from ..backend import Backend
from ..errors import OptionError
from ..layers import Layer
from ..losses import Loss
from ..optim import Optimizer
from ..schedules import Schedule
from ..training import Callback
from ..training.checks import way_out

__all__ = ["Arguments", "keep"]

ACTIVATIONS = {
    *("identity", "logistic", "tanh", "relu", "sigmoid", "leaky_relu", "prelu", "elu", "selu"),
    *("gelu", "silu", "swish", "mish", "softplus"),
}

#: Arguments that are objects, by the class of these.
_OBJECTS = {"schedule": Schedule, "optimizer": Optimizer, "loss": Loss, "activation": Layer, "callbacks": Callback}


def keep(estimator: BaseEstimator, given: Mapping[str, Any]) -> None:
    """Keep the arguments of an ``__init__``, its ``locals()``, as scikit-learn wants them: unchanged, by name."""
    for name, value in given.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)


class Arguments(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor are given; each has an ``__init__`` of its own, for scikit-learn reads it."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **neural_network.MLPClassifier._parameter_constraints,
        "activation": [StrOptions(ACTIVATIONS), Layer, "array-like"],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "norm": [StrOptions({"batch", "layer", "rms"}), None],
        "residual": ["boolean"],
        "init": [str, object],
        "optimizer": [Optimizer, None],
        "schedule": [Schedule, None],
        "callbacks": ["array-like", None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "standardize": ["boolean"],
        "max_seconds": [Interval(Real, 0, None, closed="neither"), None],
        "n_ensemble": [Interval(Integral, 1, None, closed="left"), None],
        "n_layers": [Interval(Integral, 0, None, closed="left"), None],
        "width": [Interval(Integral, 1, None, closed="left"), None],
        "backend": [str, Backend, None],
        "dtype": [StrOptions({"float32", "float64"}), None],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
    }

    def _validate_params(self) -> None:
        """Say what to write where words and classes stand in the place of objects."""
        try:
            super()._validate_params()
        except InvalidParameterError as error:
            for name, kind in _OBJECTS.items():
                value = getattr(self, name, None)
                if f"'{name}' parameter" in str(error) and isinstance(value, str | type | Callback):
                    raise InvalidParameterError(f"{error} {way_out(value, kind)}") from None
            raise

    def _check_solver(self) -> bool:
        if self.solver not in ("sgd", "adam"):
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def _check_options(self, X_val: Any, y_val: Any, *, incremental: bool) -> None:
        """Refuse what would otherwise be ignored without a word."""
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True. Set early_stopping=False, or call fit.")
        if (X_val is None) != (y_val is None):
            raise ValueError(
                f"fit: expected X_val and y_val together, got only {'X_val' if y_val is None else 'y_val'}. Pass both."
            )
        if self.solver != "lbfgs":
            return
        stochastic = {
            "optimizer": self.optimizer is not None,
            "schedule": self.schedule is not None,
            "callbacks": bool(self.callbacks),
            "clip_norm": self.clip_norm is not None,
            "dropout": self._drops(),
            "norm='batch'": self.norm == "batch",
            "n_ensemble": self.n_ensemble is not None,
        }
        found = [name for name, there in stochastic.items() if there]
        if found:
            raise OptionError(
                f"fit: solver='lbfgs' takes all rows at once by a line search and has no use for {', '.join(found)}. "
                f"Use solver='adam' or 'sgd', or leave {'it' if len(found) == 1 else 'them'} out."
            )

    def _drops(self) -> bool:
        return bool(np.any(np.asarray(self.dropout, dtype=np.float64) > 0))

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if self.n_layers is not None or self.width is not None:
            width = self.width if self.width is not None else (sizes[0] if sizes else 100)
            count = self.n_layers if self.n_layers is not None else max(len(sizes), 1)
            sizes = [width] * count
        odd = [size for size in sizes if isinstance(size, bool) or not number(size).is_integer()]
        if odd:
            raise OptionError(
                f"{type(self).__name__}: expected hidden_layer_sizes to be whole numbers, the widths of the hidden "
                f"layers, got {odd[0]!r}. Try hidden_layer_sizes=(100, 50)."
            )
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

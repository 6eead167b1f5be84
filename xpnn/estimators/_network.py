"""The estimator's network: made for the data, drawn as scikit-learn draws, its weights under scikit-learn's names."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import scipy.sparse

from .._typing import Array
from ..backend import Backend, backend_of, get_backend
from ..crossover import mlp_params, work_of
from ..data import Standardizer, TableEncoder
from ..errors import ShapeError
from ..layers import Layer, Linear, Residual
from ..model import Sequential, mlp
from ..optim import Optimizer
from ..training import History
from ._arguments import Arguments
from ._inputs import float_name
from ._stopping import fresh_record
from ._warm import FIXED, OBJECTIVE, REBUILT, carry_over, changed, options_of, refuse

__all__ = ["Networked", "start"]

_SKLEARN_ACTIVATIONS = {"identity", "logistic", "tanh", "relu"}


class Networked(Arguments):
    """Holds the network, and what belongs to it."""

    n_outputs_: int
    out_activation_: str
    net_: Sequential
    encoder_: TableEncoder
    _fitted_with: dict[str, Any]

    def _start(self, X: Any, hidden: list[int], rng: np.random.RandomState) -> None:
        """Make the network and empty records."""
        # From a copy: scikit-learn's own draws (weights, then the validation split) come out the same here.
        self._seed = int(copy.deepcopy(rng).randint(np.iinfo(np.int32).max))
        widths = [int(X.shape[1]), *hidden, self.n_outputs_]
        seeds = self._seed if self.n_ensemble is None else self._seeds_of_members()
        self.net_ = self._make_network(widths, self._choose_backend(X, widths), seeds)
        activation = self.activation
        if self.init == "auto" and isinstance(activation, str) and activation in _SKLEARN_ACTIVATIONS:
            self._draw_as_sklearn(activation, rng)
        self.scaler_: Standardizer | None = None
        if self.categorical_features is None:
            self.__dict__.pop("encoder_", None)  # of an earlier fit
        self.history_ = History()
        self._epoch = self._step = 0
        self._optimizer_: Optimizer | None = None
        self.n_iter_ = self.t_ = 0
        if self.solver != "lbfgs":
            self.__dict__.update(fresh_record(early_stopping=self.early_stopping))
        self.n_layers_ = len(hidden) + 2
        self._fitted_with = options_of(self)

    def _make_network(self, widths: Sequence[int], backend: Backend, seed: int | Sequence[int]) -> Sequential:
        """Return a new network as the arguments say."""
        return mlp(
            widths,
            self.activation if isinstance(self.activation, str | Layer) else list(self.activation),
            norm=self.norm,
            dropout=list(self.dropout) if hasattr(self.dropout, "__iter__") else float(self.dropout),
            residual=self.residual,
            init=self.init,
            backend=backend,
            seed=seed,
        )

    # -- going on from an earlier fit -----------------------------------------------------------------------
    def _check_unchanged(self, hidden: list[int]) -> set[str]:
        """Return the names of arguments changed since the last fit; refuse those that the weights depend on."""
        before = vars(self).get("_fitted_with", {})  # absent from pickles of earlier versions
        new = changed(self, before)
        for name in FIXED:
            if name in new:
                raise refuse(self, name, before[name], getattr(self, name))
        made = [int(weight.shape[-1]) for weight in self.coefs_[:-1]]
        if hidden != made:
            names = [n for n in ("hidden_layer_sizes", "n_layers", "width") if n in new] or ["hidden_layer_sizes"]
            raise refuse(self, names[0], before.get(names[0], tuple(made)), getattr(self, names[0]))
        return new

    def _check_outputs(self, before: dict[str, Any], new: set[str]) -> None:
        """Refuse targets that need other outputs than the network has; put back what was known `before` of them."""
        had_labels = before["out_activation_"] == "logistic" and before["n_outputs_"] > 1
        has_labels = self.out_activation_ == "logistic" and self.n_outputs_ > 1
        if self.n_outputs_ == self.net_.n_out and has_labels == had_labels:
            return
        needed = self.n_outputs_
        self.__dict__.update(before)
        for name in ("loss", "label_smoothing", "multilabel"):
            if name in new:
                raise refuse(self, name, self._fitted_with[name], getattr(self, name))
        raise ShapeError(
            f"{type(self).__name__}: expected y for the {self.net_.n_out} outputs of the fit that this one goes on "
            f"from, got y for {needed}{' independent labels' if has_labels else ''}. "
            "Set warm_start=False and call fit to begin anew."
        )

    def _take_up(self, new: set[str]) -> None:
        """Let changed arguments take effect on the network, and on what is followed from epoch to epoch."""
        self._fitted_with = options_of(self)
        if new & {"learning_rate", "learning_rate_init", "optimizer"} and self._optimizer_ is not None:
            self._optimizer_.lr = self.learning_rate_init if self.optimizer is None else self.optimizer.lr
        if new & set(REBUILT):
            old = self.net_
            widths = [old.n_in, *(int(weight.shape[-1]) for weight in self.coefs_)]
            self.net_ = self._make_network(widths, old.backend, old.seed)
            if not carry_over(old, self.net_):
                self._optimizer_ = None
        if new & set(OBJECTIVE) and self.solver != "lbfgs":
            record = fresh_record(early_stopping=self.early_stopping)
            names = ("best_loss_", "best_validation_score_", "validation_scores_", "_no_improvement_count")
            self.__dict__.update({name: record[name] for name in names})

    def _choose_backend(self, X: Any, widths: Sequence[int]) -> Backend:
        """The backend that was asked for, else the one the data live on; the dtype of the data likewise."""
        dtype = self.dtype or float_name(X)
        if self.backend is not None:
            n_params = (self.n_ensemble or 1) * mlp_params(widths)
            rows = min(int(X.shape[0]), 200 if self.batch_size == "auto" else int(self.batch_size))
            return get_backend(self.backend, dtype, work=work_of(n_params, rows))  # "auto" goes by the work
        return backend_of(X).with_dtype(dtype) if not scipy.sparse.issparse(X) else get_backend("numpy", dtype)

    def _draw_as_sklearn(self, activation: str, rng: np.random.RandomState) -> None:
        """Draw weights and biases from scikit-learn's law, in its order: one seed, equal networks.

        Uniform within ±√(6 / (n_in + n_out)), or ±√(2 / …) for the logistic function (Glorot and Bengio, 2010).
        The further members of an ensemble draw from seeds of their own.
        """
        factor = 2.0 if activation == "logistic" else 6.0
        weights, biases = self._weights("weight"), self._weights("bias")
        draws = [rng] if self.n_ensemble is None else [np.random.RandomState(s) for s in self._seeds_of_members()]
        for weight, bias in zip(weights, biases, strict=True):
            n_in, n_out = weight.shape[-2:]
            bound = math.sqrt(factor / (n_in + n_out))
            drawn = [(r.uniform(-bound, bound, (n_in, n_out)), r.uniform(-bound, bound, n_out)) for r in draws]
            with self.net_.backend.active():
                for view, parts in zip((weight, bias), zip(*drawn, strict=True), strict=True):
                    view[...] = self.net_.backend.asarray(np.reshape(parts, tuple(view.shape)))

    def _seeds_of_members(self) -> list[int]:
        return [(self._seed + k) % 2**32 for k in range(self.n_ensemble or 1)]

    def _adopt(self, X: Any, hidden: list[int], rng: np.random.RandomState) -> None:
        """Build the network around weights that were assigned to `coefs_` and `intercepts_` by hand."""
        coefs, intercepts = self._given["weight"], self._given["bias"]
        kept = {name: getattr(self, name) for name in ("t_", "loss_curve_", "best_loss_") if hasattr(self, name)}
        self._start(X, hidden, rng)
        self.coefs_, self.intercepts_ = coefs, intercepts
        self.__dict__.update(kept)

    def _weights(self, kind: str) -> list[Array]:
        if "net_" in vars(self):
            return [view for name, view in self.net_.params.items() if name.endswith(kind) and self._is_linear(name)]
        given: list[Array] | None = vars(self).get("_given", {}).get(kind)
        if given is None:
            raise AttributeError(f"{type(self).__name__} is not fitted yet: it has no weights.")
        return given

    def _is_linear(self, name: str) -> bool:
        first, *rest = name.split(".")
        layer: Layer = self.net_.layers[int(first)]
        if isinstance(layer, Residual):
            layer = layer.layers[int(rest[0])]
        return isinstance(layer, Linear)

    def _assign(self, kind: str, values: Sequence[Any]) -> None:
        if "net_" not in vars(self):
            self._given = {**getattr(self, "_given", {}), kind: values}
            return
        with self.net_.backend.active():
            for view, value in zip(self._weights(kind), values, strict=True):
                view[...] = self.net_.backend.asarray(value)

    @property
    def _flat(self) -> Array:
        return self.net_.store.values

    @property
    def _optimizer(self) -> SimpleNamespace:
        """The present learning rate, where scikit-learn keeps it."""
        return SimpleNamespace(learning_rate=self._optimizer_.lr if self._optimizer_ is not None else None)

    @property
    def coefs_(self) -> list[Array]:
        """Weight matrices (n_in, n_out) of the Linear layers: views, so that changes take effect."""
        return self._weights("weight")

    @coefs_.setter
    def coefs_(self, values: Sequence[Any]) -> None:
        self._assign("weight", values)

    @property
    def intercepts_(self) -> list[Array]:
        """Bias vectors (n_out,) of the Linear layers."""
        return self._weights("bias")

    @intercepts_.setter
    def intercepts_(self, values: Sequence[Any]) -> None:
        self._assign("bias", values)


def start(estimator: Networked, X: Any, hidden: list[int]) -> None:
    """Make the network of an estimator that is not fitted, whose weights will be given."""
    estimator._start(X, hidden, np.random.RandomState(0))

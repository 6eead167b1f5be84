"""What a fitted network says: outputs, spreads of an ensemble, activations as features, gradients to inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._array_api import check_same_namespace
from sklearn.utils.validation import check_is_fitted

from .._typing import Array
from ..backend import like, to_numpy
from ..layers import Linear, Residual
from ..losses import Loss
from ._inputs import dense, read_inputs, scaled
from ._network import Networked
from ._text import told_of_text

__all__ = ["SLICE_ROWS", "Inspected"]

# Rows of one slice where all rows count at once: bounds the memory, and sparse rows become dense here.
SLICE_ROWS = 8192


class Inspected(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Networked):  # type: ignore[misc]
    """Reads the network."""

    def _make_loss(self) -> Loss:
        """Return the loss: classifier and regressor know it."""
        raise NotImplementedError

    def trained_loss(self) -> Loss:
        """Return the loss that a fitted network was trained on; its link turns raw outputs into predictions."""
        check_is_fitted(self)
        return self._make_loss()

    def _inputs(self, X: Any, method: str) -> Any:
        """Check inputs of a fitted estimator and scale them as in training."""
        check_is_fitted(self)
        if self.backend is None and "net_" in vars(self):
            check_same_namespace(X, self, attribute="_flat", method=method)
        with told_of_text(X):
            X = read_inputs(self, X)
        if "net_" not in vars(self):
            self._adopt(X, self._hidden_sizes(), check_random_state(self.random_state))
        if isinstance(X, dict):
            X = self.encoder_.transform(X)
        return scaled(X, getattr(self, "scaler_", None))

    def _raw(self, X: Any) -> Array:
        """Return the raw outputs for inputs from `_inputs`, in their library; replicas in front."""
        if not scipy.sparse.issparse(X):
            return self.net_.predict(X)
        X = X.tocsr()
        parts = [self.net_.predict(X[a : a + SLICE_ROWS].toarray()) for a in range(0, X.shape[0], SLICE_ROWS)]
        return np.concatenate(parts, axis=-2)

    def _linked(self, X: Any, reduce: str = "mean") -> Array:
        """Return probabilities or values for inputs from `_inputs`; of an ensemble the mean, or what else is named."""
        net = self.net_
        with net.backend.active():
            out = self._make_loss().link(net.backend.asarray(self._raw(X)))
            if net.store.replicas:
                out = getattr(net.backend.xp, reduce)(out, axis=0)
            return to_numpy(out) if scipy.sparse.issparse(X) else like(out, X)

    def _spread(self, X: Any, method: str) -> Array:
        """Return the standard deviation over an ensemble's networks, for inputs from `_inputs`."""
        if not self.net_.store.replicas:
            raise ValueError(f"{method}: return_std=True expects an ensemble. Pass n_ensemble=8, say, and fit again.")
        return self._linked(X, "std")

    def transform(self, X: Any, layer: int = -2) -> Array:
        """Return the activations of a layer, as features for something else.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Inputs.
        layer : int, default=-2
            As Python indexes ``n_layers_`` layers of units: -1 is the output, -2 the last hidden layer, 0 the
            input.

        Returns
        -------
        array of shape (n_samples, n_units)
            In the library of `X`; the features of an ensemble's networks stand side by side.
        """
        X, net = dense(self._inputs(X, "transform")), self.net_
        if not -self.n_layers_ <= layer < self.n_layers_:
            raise ValueError(f"transform: expected a layer in -{self.n_layers_}..{self.n_layers_ - 1}, got {layer}.")
        x = net.backend.asarray(X)
        for current in net.layers[: self._block_ends()[layer % self.n_layers_]]:
            x, _ = current.forward(x)
        if len(x.shape) == 3:  # an ensemble's features side by side
            xp = net.backend.xp
            x = xp.reshape(xp.permute_dims(x, (1, 0, 2)), (x.shape[1], x.shape[0] * x.shape[2]))
        return like(x, X)

    @property
    def _n_features_out(self) -> int:
        """Width of what `transform` returns: the last hidden layer."""
        if self.n_layers_ == 2:
            return self.net_.n_in
        return self.net_.layers[self._block_ends()[-2] - 1].n_out * (self.n_ensemble or 1)

    def _block_ends(self) -> list[int]:
        """How many layers of the network lie at or below each layer of units."""
        starts = [i for i, layer in enumerate(self.net_.layers) if isinstance(layer, Linear | Residual)]
        return [0, *starts[1:], len(self.net_.layers)]

    def input_gradient(self, X: Any, output: int = 0) -> Array:
        r"""Return the gradient of one raw output to the inputs, :math:`\partial z_k / \partial x`.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Inputs.
        output : int, default=0
            Number `k` of the output; of a binary classifier there is only 0, the log-odds of the second class.

        Returns
        -------
        array of shape (n_samples, n_features)
            In the library of `X`; for an ensemble with its axis in front.
        """
        X = dense(self._inputs(X, "input_gradient"))
        net = self.net_.copy()  # backward writes gradients; predictions may run beside
        pred, caches = net.forward(X)
        if not 0 <= output < net.n_out:
            raise ValueError(f"input_gradient: expected an output in 0..{net.n_out - 1}, got {output}.")
        pick = np.zeros(tuple(pred.shape))
        pick[..., output] = 1.0
        dx = net.backward(net.backend.asarray(pick), caches, need_dx=True)
        if self.scaler_ is not None:
            dx = dx * net.backend.asarray(1.0 / np.asarray(self.scaler_.scale))
        return like(dx, X)

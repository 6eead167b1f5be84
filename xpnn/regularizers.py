r"""Penalties on the weights: a value, and a gradient added to the store.

They act on the decayed parameters (weights, not biases or norms) with a gradient through the optimizer; weight
decay, which does not pass through the optimizer's scaling, is an option of the optimizers.
"""

from __future__ import annotations

import math
from typing import Any

from ._typing import Array
from .arguments import describe, is_count, number
from .errors import FileFormatError, MissingMethodError, OptionError
from .params import ParamStore
from .random import stream
from .recordable import Recordable, RecordingMode

__all__ = ["L1", "L2", "Regularizer", "SpectralNorm"]


class Regularizer(Recordable):
    """A penalty with strength `lam`.

    Parameters
    ----------
    lam : float
        The factor λ, at least 0.
    """

    def __init__(self, lam: float) -> None:
        if not 0 <= number(lam) < math.inf:
            raise OptionError(f"{type(self).__name__}: expected lam >= 0, got {lam!r}. Try lam=1e-4.")
        self.lam = float(lam)

    def add(self, store: ParamStore, lam: float | Array | None = None) -> Array:
        """Add the penalty's gradient to ``store.grads`` and return its value.

        Parameters
        ----------
        store : ParamStore
            After the backward pass.
        lam : float or 0-d array, optional
            In the place of the penalty's own λ; an array is one of a recorded step's numbers.

        Returns
        -------
        0-d array, or of the shape of the replica axes
            The penalty.
        """
        raise MissingMethodError(
            f"{type(self).__name__}: expected a penalty that adds its gradient, got none. Define add(store, lam=None)."
        )

    def unrecordable(self, mode: RecordingMode) -> str | None:
        """Return that one call leaves arrays to the next, if it does: they lie elsewhere in each step."""
        if type(self).state is not Regularizer.state:
            return f"{type(self).__name__} makes new arrays in each step"
        return super().unrecordable(mode)

    @property
    def state(self) -> dict[str, Array]:
        """Arrays that one call leaves to the next; none for most."""
        return {}

    def resume(self, store: ParamStore, state: dict[str, Array]) -> None:
        """Take up the `state` of an earlier run, on the store it belongs to."""

    def __repr__(self) -> str:
        return describe(self)


class L1(Regularizer):
    r"""Sum of absolute weights, :math:`\lambda \sum |w|`, gradient :math:`\lambda\,\mathrm{sign}(w)`.

    Examples
    --------
    >>> from xpnn import Linear, Sequential
    >>> net = Sequential(Linear(1), n_in=2)
    >>> net.params["0.weight"][...] = [[2], [-3]]
    >>> net.store.grads[...] = 0
    >>> float(L1(0.1).add(net.store)), net.grads["0.weight"].ravel().tolist()
    (0.5, [0.10000000149011612, -0.10000000149011612])
    """

    def add(self, store: ParamStore, lam: float | Array | None = None) -> Array:
        xp, lam = store.backend.xp, self.lam if lam is None else lam
        w = store.values[..., : store.n_decay]
        sign = xp.astype(w > 0, w.dtype)
        sign -= xp.astype(w < 0, w.dtype)
        sign *= lam
        grads = store.grads[..., : store.n_decay]
        grads += sign
        return xp.sum(xp.abs(w), axis=-1) * lam


class L2(Regularizer):
    r"""Sum of squared weights, :math:`\lambda \sum w^2`, gradient :math:`2 \lambda w`."""

    def add(self, store: ParamStore, lam: float | Array | None = None) -> Array:
        lam = self.lam if lam is None else lam
        w = store.values[..., : store.n_decay]
        grads = store.grads[..., : store.n_decay]
        grads += w * (2.0 * lam)
        return store.backend.xp.sum(w * w, axis=-1) * lam


class SpectralNorm(Regularizer):
    r"""Sum of the largest singular values of the weight matrices, :math:`\lambda \sum_k \sigma_1(W_k)` [1]_.

    The gradient is :math:`\lambda\, u v^\top` with the leading singular vectors, found by power iteration that
    goes on from the previous step's vectors: while the weights move slowly, a few iterations a step suffice.

    Parameters
    ----------
    lam : float
        The factor λ.
    n_iter : int, default=4
        Power iterations for each call; the first call makes 50.

    References
    ----------
    .. [1] Yoshida and Miyato, "Spectral norm regularization", arXiv:1705.10941; the norm itself here, half its
       square there.
    """

    def __init__(self, lam: float, *, n_iter: int = 4) -> None:
        super().__init__(lam)
        if not is_count(n_iter):
            raise OptionError(f"SpectralNorm: expected n_iter >= 1, got {n_iter!r}. Try n_iter=4.")
        self.n_iter = int(n_iter)
        self._starts: dict[str, Array] = {}
        self._vectors: dict[str, Array] = {}
        self._store: ParamStore | None = None

    @property
    def state(self) -> dict[str, Array]:
        return self._vectors

    def resume(self, store: ParamStore, state: dict[str, Array]) -> None:
        for name, vector in state.items():
            expected = (store.params[name].shape[-1], 1) if name in store.matrices() else None
            if tuple(vector.shape[-2:]) != expected:
                raise FileFormatError(
                    f"SpectralNorm: expected vectors of weight matrices, got {name} of shape {tuple(vector.shape)}. "
                    "The file is damaged, or of another version: begin the training anew."
                )
        self._store, self._starts, self._vectors = store if state else None, {}, state

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_store": None}  # the network takes its parameters along, in memory of its own

    def add(self, store: ParamStore, lam: float | Array | None = None) -> Array:
        lam = self.lam if lam is None else lam
        backend, xp = store.backend, store.backend.xp
        n_iter = self.n_iter
        if self._store is None and self._vectors:  # from a pickle
            self._store = store
        if self._store is not store:
            self._store, self._starts, self._vectors, n_iter = store, {}, {}, 50
        value = backend.zeros(store.replicas)
        for index, name in enumerate(store.matrices()):
            w = store.params[name]  # (..., n_in, n_out)
            if name not in self._starts:
                drawn = stream(0, "spectral", index).standard_normal((w.shape[-1], 1))
                self._starts[name] = backend.asarray(drawn)
                self._vectors.setdefault(name, self._starts[name])
            v = self._vectors[name]
            for _ in range(n_iter):
                u = _unit(w @ v, xp)
                v = _unit(w.mT @ u, xp)
            # weights of zero leave no direction to go on from: begin anew, by a factor, not by a branch
            lost = xp.astype(xp.sum(v * v, axis=-2, keepdims=True) == 0.0, v.dtype)
            self._vectors[name] = v + self._starts[name] * lost
            sigma = xp.sum(u * (w @ v), axis=-2)[..., 0]
            store.param_grads[name][...] = store.param_grads[name] + (u @ v.mT) * lam
            value = value + sigma * lam
        return value


def _unit(column: Array, xp: object) -> Array:
    """Scale columns (..., n, 1) to length 1; a zero column stays zero."""
    norm = xp.sqrt(xp.sum(column * column, axis=-2, keepdims=True))  # type: ignore[attr-defined]
    return column / (norm + 1e-30)

"""Learned vectors for categories."""

from __future__ import annotations

import numpy as np

from .._typing import Array
from ..arguments import count
from ..errors import DTypeError, LabelError
from ..initializers import Initializer, Normal, get_initializer
from ..params import ParamSpec
from ..random import StepKey
from .base import Layer

__all__ = ["Embedding"]


class Embedding(Layer):
    r"""Replace each category number by a learned row of a table.

    An input of `n_in` integer columns becomes ``n_in * dim`` features: row :math:`E_{x_{ij}}` for each column
    `j`, side by side.  All columns share the table.  Backward: :math:`\bar E = \sum_j O_j^\top \bar Y_j` with
    the one-hot rows :math:`O_j`: the Array API has no scatter-add, so the cost grows with `n_categories`;
    beyond some thousands prefer hashing the categories first.

    Parameters
    ----------
    n_categories : int
        Numbers run from 0 to ``n_categories - 1``; checked on the host where data enter (`Trainer.fit`,
        `Sequential.predict`).
    dim : int
        Length of each vector.
    init : str or Initializer, optional
        Of the table; normal with variance 1 by default.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Embedding, Linear, Sequential
    >>> net = Sequential(Embedding(5, 3), Linear(1), n_in=2)
    >>> net.forward(np.asarray([[0, 4], [2, 2]]))[0].shape
    (2, 1)
    """

    takes_integers = True

    def __init__(self, n_categories: int, dim: int, *, init: str | Initializer | None = None) -> None:
        self.n_categories = count(n_categories, "Embedding", "n_categories")
        self.dim = count(dim, "Embedding", "dim")
        self.init = Normal(std=1.0) if init is None else get_initializer(init)

    def out_size(self, n_in: int) -> int:
        return n_in * self.dim

    def param_specs(self) -> tuple[ParamSpec, ...]:
        return (ParamSpec("weight", (self.n_categories, self.dim), self.init, True),)

    def check_categories(self, rows: np.ndarray) -> None:
        """Raise DTypeError or LabelError unless all are whole numbers from 0 to n_categories - 1."""
        if not rows.size:
            return
        where = self.label or repr(self)
        if rows.dtype.kind == "f" and not (np.isfinite(rows) & (rows == np.floor(rows))).all():
            raise DTypeError(f"{where}: expected whole category numbers, got fractions. Convert with X.astype(int).")
        lowest, highest = int(rows.min()), int(rows.max())
        if lowest < 0 or highest >= self.n_categories:
            raise LabelError(
                f"{where}: expected category numbers 0..{self.n_categories - 1}, "
                f"found {lowest}..{highest}. Renumber the categories or raise n_categories."
            )

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Look rows up: integer ``x`` (..., batch, n_in) to (..., batch, n_in * dim); the cache is ``x``."""
        xp = self.ops.xp
        self.check_input(x)
        table = self.params["weight"]
        flat = xp.reshape(x, (-1,))
        replicas = tuple(table.shape[:-2])
        if not replicas:
            y = xp.take(table, flat, axis=0)
        elif len(x.shape) == 2:
            y = xp.take(table, flat, axis=-2)
        else:
            y = self.ops.product(self._one_hot(x), table)
        return xp.reshape(y, (*replicas, x.shape[-2], self.n_out)), x

    def _one_hot(self, x: Array) -> Array:
        """One-hot rows (..., batch * n_in, n_categories) of the category numbers."""
        ops = self.ops
        numbers = ops.xp.arange(self.n_categories, dtype=x.dtype, device=ops.device)
        column = ops.xp.reshape(x, (*x.shape[:-2], x.shape[-2] * self.n_in, 1))
        return ops.xp.astype(column == numbers, self.params["weight"].dtype)

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> None:
        """Assign the gradient of the table; whole numbers have no gradient, so there is no ``dx``."""
        rows = self.ops.xp.reshape(dy, (*dy.shape[:-2], dy.shape[-2] * self.n_in, self.dim))
        self.grads["weight"][...] = self.ops.product(self._one_hot(cache).mT, rows)

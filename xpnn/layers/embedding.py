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
    `j`, side by side.  All columns share the table.  Backward: :math:`\bar E_c = \sum_{ij} [x_{ij} = c]\, \bar Y_{ij}`,
    each row of the table collects the gradients of the places that used it.  NumPy sums them one by one; the other
    libraries by a product with one-hot rows, whose cost grows with `n_categories`: beyond some thousands prefer
    hashing the categories first.

    In a table, where categories stand beside numbers, it is one group of `Columns`.

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
        xp, table = self.ops.xp, self.params["weight"]
        self.check_input(x)
        replicas, index = tuple(table.shape[:-2]), self._numbers(x)
        if not replicas:
            y = self.ops.take_rows(table, index)
        elif len(x.shape) == 2:
            y = xp.take(table, index, axis=-2)
        else:
            places = xp.broadcast_to(index[..., None], (*index.shape, self.dim))
            y = xp.take_along_axis(table, places, axis=-2)
        return xp.reshape(y, (*replicas, x.shape[-2], self.n_out)), x

    def _numbers(self, x: Array) -> Array:
        """Return the category numbers of all columns in a row, (..., batch * n_in)."""
        return self.ops.xp.reshape(x, (*x.shape[:-2], x.shape[-2] * self.n_in))

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> None:
        """Assign the gradient of the table; whole numbers have no gradient, so there is no ``dx``."""
        rows = self.ops.xp.reshape(dy, (*dy.shape[:-2], dy.shape[-2] * self.n_in, self.dim))
        self.ops.sum_rows(rows, self._numbers(cache), self.grads["weight"])

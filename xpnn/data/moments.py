"""Means and variances of columns, exact whatever the order of the rows and wherever they are cut."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ShapeError
from .columns import Floats

__all__ = ["Moments"]

# A float64 is M * 2**(e - 53) with |M| < 2**53 and e >= -1073.  Sums are kept in units of 2**-1126, those of squares in
# units of its square, so that all numbers are whole.
_MANTISSA, _UNIT = 53, 1126
# M in three parts of 18 bits: their sums, and those of their products, over a block are whole numbers below 2**53.
_BITS, _MASK, _BLOCK = 18, (1 << 18) - 1, 1 << 15


class Moments:
    r"""The sums :math:`n`, :math:`\sum x`, :math:`\sum x^2`, the least and the greatest value of columns, in integers.

    Nothing is rounded before the end, so the result is the same to the bit however rows are ordered, cut into blocks
    or divided among processes; mean and variance are the numbers nearest to the exact ones (Shewchuk's idea [1]_ of
    sums without error, here by fixed point).

    Parameters
    ----------
    shape : tuple of int
        Shape of a row.

    References
    ----------
    .. [1] Shewchuk, "Adaptive precision floating-point arithmetic and fast robust geometric predicates", Discrete &
       Computational Geometry 18, 1997.

    Examples
    --------
    >>> one, two = Moments((1,)), Moments((1,))
    >>> one.add(np.array([[1e16], [1.0]]))
    >>> two.add(np.array([[-1e16], [3.0]]))
    >>> one.merge(two)
    >>> one.n, one.mean().tolist()
    (4, [1.0])
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        width = math.prod(shape)
        self.shape, self.n = tuple(shape), 0
        self.low, self.high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._sums, self._squares = [0] * width, [0] * width

    def add(self, block: npt.NDArray[Any]) -> None:
        """Take in rows.

        Parameters
        ----------
        block : array of shape (n, *shape)
            Finite numbers, taken as float64.

        Raises
        ------
        ShapeError
            If rows have another shape.
        """
        if block.shape[1:] != self.shape:
            raise ShapeError(
                f"Moments.add: expected rows of shape {self.shape}, as before, got {tuple(block.shape[1:])}. "
                "Give each block the same columns."
            )
        for start in range(0, block.shape[0], _BLOCK):
            part = block[start : start + _BLOCK].astype(np.float64)
            np.minimum(self.low, part.min(axis=0), out=self.low)
            np.maximum(self.high, part.max(axis=0), out=self.high)
            self._add(part.reshape(part.shape[0], -1))
        self.n += block.shape[0]

    def _add(self, x: Floats) -> None:
        fraction, exponent = np.frexp(x)
        whole = (fraction * float(1 << _MANTISSA)).astype(np.int64)
        a, b, c = whole >> (2 * _BITS), (whole >> _BITS) & _MASK, whole & _MASK
        first, width = int(exponent.min()), int(exponent.max()) - int(exponent.min()) + 1
        place = ((exponent - first) * x.shape[1] + np.arange(x.shape[1])).reshape(-1)

        def add(to: list[int], values: npt.NDArray[np.int64], scale: int, shift: int) -> None:
            if not values.any():
                return
            found = np.bincount(place, values.reshape(-1), width * x.shape[1])
            for k in np.flatnonzero(found).tolist():
                power, column = divmod(k, x.shape[1])
                to[column] += int(found[k]) << (scale * (first + power - _MANTISSA + _UNIT) + shift)

        for part, shift in ((a, 2 * _BITS), (b, _BITS), (c, 0)):
            add(self._sums, part, 1, shift)
        products = (a * a, 2 * a * b, 2 * a * c + b * b, 2 * b * c, c * c)
        for power, product in enumerate(reversed(products)):
            add(self._squares, product, 2, power * _BITS)

    def merge(self, other: Moments) -> None:
        """Take in what another one has seen.

        Raises
        ------
        ShapeError
            If its rows have another shape.
        """
        if other.shape != self.shape:
            raise ShapeError(
                f"Moments.merge: expected rows of shape {self.shape}, got {other.shape}. Give all the same columns."
            )
        self.n += other.n
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)
        self._sums = [a + b for a, b in zip(self._sums, other._sums, strict=True)]
        self._squares = [a + b for a, b in zip(self._squares, other._squares, strict=True)]

    def mean(self) -> Floats:
        """Return the mean of each column, of shape `shape`; infinite where it does not fit into float64."""
        return self._each(lambda s, q: (s, self.n << _UNIT))

    def variance(self) -> Floats:
        """Return the variance of each column, with divisor n, of shape `shape`."""
        return self._each(lambda s, q: (self.n * q - s * s, self.n**2 << (2 * _UNIT)))

    def _each(self, ratio: Any) -> Floats:
        found = np.full(len(self._sums), np.nan)
        for k, sums in enumerate(zip(self._sums, self._squares, strict=True)):
            top, bottom = ratio(*sums)
            if bottom:
                try:
                    found[k] = top / bottom  # of integers, rounded once
                except OverflowError:
                    found[k] = math.inf if top > 0 else -math.inf
        return found.reshape(self.shape)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain numbers and text, for another process or a file."""
        return {
            "shape": list(self.shape),
            "n": self.n,
            "low": self.low.reshape(-1).tolist(),
            "high": self.high.reshape(-1).tolist(),
            "sums": [f"{s:x}" for s in self._sums],
            "squares": [f"{s:x}" for s in self._squares],
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Moments:
        """Return what `to_dict` described."""
        made = cls(tuple(state["shape"]))
        made.n = state["n"]
        made.low = np.asarray(state["low"], np.float64).reshape(made.shape)
        made.high = np.asarray(state["high"], np.float64).reshape(made.shape)
        made._sums = [int(text, 16) for text in state["sums"]]
        made._squares = [int(text, 16) for text in state["squares"]]
        return made

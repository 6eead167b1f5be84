"""Rows with targets and weights, the order in which scikit-learn would take them, numbers made of their content."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from ..backend import to_numpy
from ..data.arrays import take_rows
from ..errors import DataError
from ..random import splitmix64

__all__ = ["Rows", "Shuffles", "row_numbers"]

# Values hashed at once: with their bits they stay in a core's cache.
_BLOCK_ELEMENTS = 1 << 16


class Rows(NamedTuple):
    """Inputs, encoded targets, and weights where there are any."""

    X: Any
    targets: np.ndarray
    weight: np.ndarray | None

    def take(self, index: np.ndarray) -> Rows:
        """Return some of them."""
        return Rows(take_rows(self.X, index), self.targets[index], None if self.weight is None else self.weight[index])

    def counted(self) -> Rows:
        """Leave out those of weight 0, before anything is made of the others; if none is left, refuse the weights."""
        if self.weight is None or self.weight.all():
            return self
        index = np.flatnonzero(self.weight)
        if not len(index):
            raise DataError(
                f"fit: expected a row of weight above 0, got {len(self.weight)} rows of weight 0. "
                "Look at sample_weight."
            )
        return self.take(index)


class Shuffles:
    """The orders of the epochs, drawn as scikit-learn's perceptrons draw theirs: each shuffles the one before.

    `rng` has drawn the weights and the held-out rows before.
    """

    def __init__(self, rng: np.random.RandomState) -> None:
        self.rng, self._order = rng, np.arange(0)

    def next(self, n: int) -> np.ndarray:
        """Return the next order of `n` rows; another `n` than before begins from the rows as they lie."""
        if len(self._order) != n:
            self._order = np.arange(n)
        drawn = np.arange(n)
        self.rng.shuffle(drawn)
        self._order = self._order[drawn]
        return self._order


def row_numbers(X: Any, dtype: str) -> np.ndarray:
    r"""Return a 32-bit hash of each row's values: equal rows, equal numbers, wherever they lie.

    .. math:: h_i = \sum_j c_j\,b(x_{ij}) \bmod 2^{64}

    with fixed odd 64-bit factors :math:`c_j` and the bits `b` of a number, scrambled, of which 32 are returned: two
    different rows meet by chance, in one pair of :math:`2^{32}` [1]_.  The bits of 0 are 0, so a sparse row has the
    number of its dense form.

    `X`, of any library, is read in blocks of rows on the host.  Rows that are equal in the network's `dtype` get equal
    numbers, the same for every library.

    References
    ----------
    .. [1] Carter and Wegman, "Universal classes of hash functions", Journal of Computer and System Sciences 18,
       1979; here with fixed factors.
    """
    n, width = X.shape
    factors: np.ndarray = splitmix64(np.arange(width, dtype=np.uint64)) | np.uint64(1)
    sums = np.empty(n, np.uint64)
    if scipy.sparse.issparse(X):
        X = X.tocsr()
        if not X.has_canonical_format:  # one cell may be stored in parts
            X = X.copy()
            X.sum_duplicates()
        terms = _bits(X.data, dtype) * factors[X.indices]
        ends = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
        sums[:] = ends[X.indptr[1:]] - ends[X.indptr[:-1]]  # modulo 2**64, as the sums are
    else:
        rows = max(_BLOCK_ELEMENTS // width, 1)
        for a in range(0, n, rows):
            sums[a : a + rows] = _bits(to_numpy(X[a : min(a + rows, n), ...]), dtype) @ factors
    numbers: np.ndarray = (splitmix64(sums) >> 32).astype(np.uint32).view(np.int32)
    return numbers


def _bits(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return the bits of floating numbers as uint64; 0.0 and -0.0 are equal, so their bits are."""
    with np.errstate(over="ignore"):  # what is too large for float32 is refused where it is fed
        values = np.ascontiguousarray(values.astype(dtype, copy=False) + np.zeros((), dtype))
    if dtype == "float32":
        return values.view(np.uint32).astype(np.uint64)
    bits = values.view(np.uint64)
    bits ^= bits >> 32  # short numbers differ in the upper half alone, which products would push out at the top
    return bits

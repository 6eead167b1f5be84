"""Columns brought to one scale, and labels to rows of zeros and ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Self

import array_api_compat
import numpy as np
import numpy.typing as npt

from .._typing import Array
from ..arguments import as_array, as_real, constructor, count, describe
from ..backend import to_numpy
from ..config import options_of, reading
from ..errors import DataError, FileFormatError, LabelError, OptionError, ShapeError
from ..frames import column_names, places, plain_names
from .columns import Floats
from .moments import Moments

__all__ = ["MinMax", "Standardizer", "gather_moments", "one_hot"]

# A smaller spread would become zero, or lose its digits, in float32.
_SMALLEST_SPREAD = float(np.finfo(np.float32).tiny)
# Values at once: a megabyte or more to measure; to scale on a processor, what stays in a core's cache.
_BLOCK_ELEMENTS, _SCALED_ELEMENTS = 1 << 20, 1 << 15


class _Affine:
    """What both scalers share: ``(X - shift) / scale``, per column, and its state."""

    kind: ClassVar[str]
    #: Names of the columns, where a data frame was fitted.
    feature_names_in: list[Any] | None = None

    def __init__(self) -> None:
        self.shift: Floats | None = None
        self.scale: Floats | None = None

    def __repr__(self) -> str:
        return describe(self)

    def fit(self, X: Any) -> Self:
        """Measure the columns of the training rows, on the host, in float64, block by block; return itself.

        Parameters
        ----------
        X : array or data frame of shape (n, ...)
            Rows of any array library; memory maps are not loaded whole.

        Raises
        ------
        DataError
            If there are no rows, a value is missing, masked, NaN or infinite, a spread overflows, or a frame has a
            name twice.
        DTypeError
            If they are no real numbers: text, dates, complex numbers, records.
        ShapeError
            If `X` has no rows axis.
        """
        where = f"{type(self).__name__}.fit"
        names = column_names(X, where, "X")
        X = as_array(X, where, "X")
        if X.ndim == 0:
            raise ShapeError(f"{where}: expected X of shape (n, ...), got a single value. Pass an array of rows.")
        if X.shape[0] == 0:
            raise DataError(f"{where}: expected rows, got none. Fit on the training rows.")
        X = as_real(X, where, "X", objects=True)
        low = np.full(X.shape[1:], np.inf)
        high = np.full(X.shape[1:], -np.inf)
        for start, block in _blocks(X):
            _check_finite(where, block, start)
            np.minimum(low, block.min(axis=0), out=low)
            np.maximum(high, block.max(axis=0), out=high)
        with np.errstate(over="ignore", invalid="ignore"):
            shift, scale = self._measure(X, low, high)
        self._keep(where, low, high, shift, scale)
        self.feature_names_in = names
        return self

    def fit_blocks(self, blocks: Iterable[Any] | Moments) -> Self:
        """Measure the columns of rows that come in blocks, in one pass, without rounding; return itself.

        The result does not depend on the order of the rows, nor on where they are cut, to the bit; `fit` agrees with it
        to rounding.

        Parameters
        ----------
        blocks : iterable of arrays or data frames of shape (n, ...), or Moments
            Rows of any array library, a block at a time; or what was gathered of them, such as the merged moments of
            several processes.

        Raises
        ------
        DataError, DTypeError, ShapeError
            As for `fit`; blocks of frames must have the same names, in any order.

        Examples
        --------
        >>> import numpy as np
        >>> rows = np.random.default_rng(0).normal(size=(1000, 2))
        >>> one = Standardizer().fit_blocks([rows])
        >>> two = Standardizer().fit_blocks(rows[a : a + 300] for a in (900, 0, 600, 300))
        >>> bool((one.scale == two.scale).all())
        True
        """
        where = f"{type(self).__name__}.fit_blocks"
        names: list[Any] | None = None
        if isinstance(blocks, Moments):
            moments = blocks
        else:
            moments, names = gather_moments(blocks, where)
        if not moments.n:
            raise DataError(f"{where}: expected rows, got none. Fit on the training rows.")
        self._keep(where, moments.low, moments.high, *self._of_moments(moments))
        self.feature_names_in = names
        return self

    def _keep(self, where: str, low: Floats, high: Floats, shift: Floats, scale: Floats) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(shift + scale).all()
        if not finite:
            raise DataError(
                f"{where}: expected columns whose spread fits into float64, got values up to {high.max()}. "
                f"Take logarithms, or choose another unit."
            )
        # A constant column has no scale; its shift is set too, as a mean of equal numbers may round.
        constant = (low == high) | (scale < _SMALLEST_SPREAD)
        self.shift, self.scale = np.where(constant, low, shift), np.where(constant, 1.0, scale)

    def _of_moments(self, moments: Moments) -> tuple[Floats, Floats]:
        raise NotImplementedError

    def _measure(self, X: Array, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        raise NotImplementedError

    def transform(self, X: Any, *, first: int = 0) -> Array:
        """Scale rows: in float64, whatever the dtype, so that whole numbers and large offsets keep their digits.

        Parameters
        ----------
        X : array or data frame of shape (n, ...)
            Rows with the columns that were fitted, of any library.
        first : int, default=0
            Number of the first row, for messages, where these are some of more.

        Returns
        -------
        array of shape (n, ...)
            Of the library, device and floating dtype of `X`; whole numbers and booleans become float32.

        Raises
        ------
        DataError
            If the scaler is not fitted, a value is missing, masked, NaN or infinite, or a frame has other columns, or
            the same in another order.
        DTypeError
            If they are no real numbers.
        ShapeError
            If the columns are not those that were fitted.
        """
        where = f"{type(self).__name__}.transform"
        x = self._rows(where, X)
        xp = array_api_compat.array_namespace(x)
        if not xp.isdtype(x.dtype, ("integral", "bool")):
            for start, stop in _ranges(x, _BLOCK_ELEMENTS << 2):
                part = x[start:stop, ...]
                if not bool(xp.all(xp.isfinite(part))):
                    _check_finite(where, to_numpy(part), first + start)
        return _affine(x, *self._fitted(where), inverse=False)

    def fit_transform(self, X: Any) -> Array:
        """Fit on rows and scale them; see `fit` and `transform`."""
        return self.fit(X).transform(X)

    def inverse_transform(self, X: Any) -> Array:
        """Bring scaled rows back.

        Parameters
        ----------
        X : array of shape (n, ...)
            Scaled rows, of any library, such as predictions of a scaled target.

        Returns
        -------
        array of shape (n, ...)
            In the unit of the rows that were fitted.

        Raises
        ------
        DataError
            If the scaler is not fitted, or as for `transform`.
        DTypeError
            If they are no real numbers.
        ShapeError
            If the columns are not those that were fitted.
        """
        where = f"{type(self).__name__}.inverse_transform"
        return _affine(self._rows(where, X), *self._fitted(where), inverse=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain lists and numbers, which JSON keeps to the last bit.

        Raises
        ------
        DataError
            If the scaler is not fitted.
        """
        shift, scale = self._fitted(f"{type(self).__name__}.to_dict")
        state = {"kind": self.kind, **options_of(self), "shift": shift.tolist(), "scale": scale.tolist()}
        names = plain_names(self.feature_names_in)
        return state if names is None else state | {"feature_names_in": names}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Return the scaler of which `to_dict` gave the state.

        Raises
        ------
        FileFormatError
            If it is not the state of such a scaler.
        """
        with reading(
            f"{cls.__name__}.from_dict",
            f"a state with kind {cls.kind!r}, shift and scale",
            got="something else",
            hint="Pass what to_dict() returned.",
            passing=FileFormatError,
        ):
            if state["kind"] != cls.kind:
                raise ValueError(f"its kind is {state['kind']!r}")
            scaler = cls(**{name: float(state[name]) for name in constructor(cls)})
            scaler.shift = np.asarray(state["shift"], dtype=np.float64)
            scaler.scale = np.asarray(state["scale"], dtype=np.float64)
            if scaler.shift.shape != scaler.scale.shape:
                raise ValueError(f"shift has shape {scaler.shift.shape}, scale {scaler.scale.shape}")
            if not (np.isfinite(scaler.shift).all() and (scaler.scale > 0.0).all()):
                raise ValueError("shift is not finite or scale not positive")
            scaler.feature_names_in = state.get("feature_names_in")
            if scaler.feature_names_in is not None and len(scaler.feature_names_in) != scaler.shift.shape[-1]:
                raise ValueError(f"{len(scaler.feature_names_in)} names for {scaler.shift.shape[-1]} columns")
        return scaler

    def _fitted(self, where: str) -> tuple[Floats, Floats]:
        if self.shift is None or self.scale is None:
            raise DataError(f"{where}: expected a fitted scaler, got a new one. Call fit(X) with the training rows.")
        return self.shift, self.scale

    def _rows(self, where: str, X: Any) -> Array:
        """Return rows of the columns that were fitted."""
        shift, _ = self._fitted(where)
        names = None if self.feature_names_in is None else column_names(X, where, "X")
        if names is not None and places(names, self.feature_names_in or (), where, "X") is not None:
            raise DataError(
                f"{where}: expected the columns in the order of fit, got them in another. Scaled rows have no names to "
                "tell: pass X[scaler.feature_names_in]."
            )
        x = as_real(X, where, "X", objects=True)
        if x.ndim == 0 or tuple(x.shape[1:]) != shift.shape:
            raise ShapeError(
                f"{where}: expected rows of shape {('n', *shift.shape)}, as fitted, got {tuple(x.shape)}. "
                f"Pass the same columns in the same order.".replace("'n'", "n")
            )
        return x


class Standardizer(_Affine):
    r"""Scale each column to mean 0 and standard deviation 1.

    .. math:: z = \frac{x - \bar x}{s}, \qquad s^2 = \frac1n \sum_i (x_i - \bar x)^2

    Constant columns become 0.  NaN and infinite values are refused.

    Attributes
    ----------
    shift : ndarray of shape X.shape[1:], float64, or None
        Means; None before `fit`.
    scale : ndarray of shape X.shape[1:], float64, or None
        Standard deviations (1 for constant columns).
    feature_names_in : list or None
        Names of the columns, where a data frame was fitted.

    Examples
    --------
    >>> scaler = Standardizer().fit([[1.0, 7.0], [3.0, 7.0]])
    >>> scaler.transform([[1.0, 7.0], [5.0, 7.0]]).tolist()
    [[-1.0, 0.0], [3.0, 0.0]]
    """

    kind = "standardizer"

    def _measure(self, X: Array, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        n = X.shape[0]
        mean = np.zeros_like(low)
        for _, block in _blocks(X):
            mean += block.sum(axis=0) / n
        # A second pass: the mean of squares less the squared mean loses all digits where the mean is large.
        variance = np.zeros_like(low)
        for _, block in _blocks(X):
            variance += ((block - mean) ** 2).sum(axis=0) / n
        return mean, np.sqrt(variance)

    def _of_moments(self, moments: Moments) -> tuple[Floats, Floats]:
        return moments.mean(), np.sqrt(moments.variance())


class MinMax(_Affine):
    r"""Scale each column so that the training rows fill an interval, [0, 1] by default.

    .. math:: z = \text{low} + (\text{high} - \text{low}) \frac{x - \min x}{\max x - \min x}

    Constant columns become 0.  NaN and infinite values are refused.  Rows outside the training range come to
    lie outside the interval.

    Parameters
    ----------
    low, high : float
        Ends of the interval.

    Attributes
    ----------
    shift, scale : ndarray of shape X.shape[1:], float64, or None
        With ``z = (x - shift) / scale``; None before `fit`.
    feature_names_in : list or None
        Names of the columns, where a data frame was fitted.

    Raises
    ------
    OptionError
        If `low` is not below `high`.

    Examples
    --------
    >>> MinMax().fit_transform([[10.0, 5.0], [20.0, 5.0], [12.5, 5.0]]).tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.25, 0.0]]
    >>> MinMax(-1.0, 1.0).fit_transform([[0.0], [1.0], [4.0]]).tolist()
    [[-1.0], [-0.5], [1.0]]
    """

    kind = "minmax"

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise OptionError(f"MinMax: expected low < high, got {low} and {high}. Try MinMax(0.0, 1.0).")
        self.low, self.high = float(low), float(high)

    def _measure(self, X: Array, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        scale = (high - low) / (self.high - self.low)
        return low - self.low * scale, scale

    def _of_moments(self, moments: Moments) -> tuple[Floats, Floats]:
        with np.errstate(over="ignore", invalid="ignore"):
            return self._measure(None, moments.low, moments.high)


def gather_moments(blocks: Iterable[Any], where: str) -> tuple[Moments, list[Any] | None]:
    """Return the moments of blocks, and the names of their columns where they are frames."""
    moments: Moments | None = None
    names: list[Any] | None = None
    start = 0
    for given in blocks:
        found = column_names(given, where, "a block")
        names = found if moments is None else names
        order = None if names is None or found is None else places(found, names, where, "a block")
        X = as_real(as_array(given, where, "a block"), where, "a block", objects=True)
        if X.ndim == 0:
            raise ShapeError(f"{where}: expected blocks of shape (n, ...), got a single value. Pass arrays of rows.")
        moments = Moments(tuple(X.shape[1:])) if moments is None else moments
        for at, block in _blocks(X):
            _check_finite(where, block, start + at)
            if len(block):
                moments.add(block if order is None else block[:, order])
        start += X.shape[0]
    return (Moments(()) if moments is None else moments), names


def one_hot(y: Any, n_classes: int | None = None) -> Array:
    r"""Return a row of zeros with a single one for each label.

    .. math:: h_{ik} = [y_i = k]

    Parameters
    ----------
    y : array of shape (n,), whole numbers or booleans
        Labels from 0, of any array library.
    n_classes : int, optional
        Length of a row; default: the largest label and one.

    Returns
    -------
    array of shape (n, n_classes), float32
        Of the library and device of `y`.

    Raises
    ------
    DataError
        If there are no labels and `n_classes` is not given.
    LabelError
        If a label is no whole number, or not in 0..n_classes-1.
    ShapeError
        If `y` does not have one axis.

    Examples
    --------
    >>> one_hot([0, 2, 1]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    y = as_array(y, "one_hot", "y")
    if y.ndim != 1:
        raise ShapeError(f"one_hot: expected labels of shape (n,), got {tuple(y.shape)}. For (n, 1) pass y[:, 0].")
    xp, device = array_api_compat.array_namespace(y), array_api_compat.device(y)
    if isinstance(y, np.ndarray) and y.dtype.kind not in "biufc":
        raise LabelError(
            f"one_hot: expected whole numbers, got {y.dtype}. Number the classes first: "
            f"classes, y = numpy.unique(y, return_inverse=True)."
        )
    if not xp.isdtype(y.dtype, ("integral", "bool")):
        raise LabelError(f"one_hot: expected whole numbers, got {y.dtype}. If they are whole, convert: y.astype(int).")
    if y.shape[0] == 0 and n_classes is None:
        raise DataError("one_hot: expected labels, got none. Pass n_classes for an empty result.")
    # Not the dtype of y: the classes need not fit into uint8, nor do all libraries compare it.
    labels = xp.astype(y, xp.__array_namespace_info__().default_dtypes(device=device)["indexing"])
    low, high = (int(xp.min(labels)), int(xp.max(labels))) if y.shape[0] else (0, -1)
    n = high + 1 if n_classes is None else count(n_classes, "one_hot", "n_classes")
    if low < 0 or high >= n:
        raise LabelError(
            f"one_hot: expected labels in 0..{n - 1}, got {low}..{high}. "
            f"Pass n_classes={high + 1}, or number the classes from 0."
            if low >= 0
            else f"one_hot: expected labels from 0, got {low}..{high}. Number the classes from 0."
        )
    classes = xp.arange(n, dtype=labels.dtype, device=device)
    return xp.astype(xp.expand_dims(labels, axis=1) == xp.expand_dims(classes, axis=0), xp.float32)


def _affine(x: Array, shift: Floats, scale: Floats, *, inverse: bool) -> Array:
    """Return ``(x - shift) / scale``, or `x` brought back, computed in float64 in slices of rows, rounded once."""
    if isinstance(x, np.ndarray):
        return _affine_numpy(x, shift, scale, inverse=inverse)
    xp, device = array_api_compat.array_namespace(x), array_api_compat.device(x)
    dtype = x.dtype if xp.isdtype(x.dtype, "real floating") else xp.float32
    if "float64" not in xp.__array_namespace_info__().dtypes(device=device, kind="real floating"):
        host = _affine_numpy(to_numpy(x), shift, scale, inverse=inverse)
        return xp.asarray(host, dtype=dtype, device=device)
    wide = {"dtype": xp.float64, "device": device}
    a, b = xp.asarray(shift, **wide), xp.asarray(scale, **wide)
    out = xp.empty(x.shape, dtype=dtype, device=device)
    for start, stop in _ranges(x, _BLOCK_ELEMENTS << 2):  # large ones: a device is to be busy with each
        part = xp.astype(x[start:stop, ...], xp.float64)
        out[start:stop, ...] = xp.astype(part * b + a if inverse else (part - a) / b, dtype)
    return out


def _affine_numpy(x: npt.NDArray[Any], shift: Floats, scale: Floats, *, inverse: bool) -> npt.NDArray[Any]:
    dtype = x.dtype if x.dtype.kind == "f" and x.dtype.isbuiltin != 2 else np.dtype(np.float32)
    wide = np.promote_types(dtype, np.float64)
    out = np.empty(x.shape, dtype.newbyteorder("="))
    for start, stop in _ranges(x, _SCALED_ELEMENTS):
        part = x[start:stop].astype(wide)
        if inverse:
            part *= scale
            part += shift
        else:
            part -= shift
            part /= scale
        out[start:stop] = part
    return out


def _ranges(X: Array, elements: int) -> Iterator[tuple[int, int]]:
    """Give the beginnings and ends of slices of rows that hold so many elements; the last one may be empty."""
    step = max(1, elements // max(1, int(np.prod(X.shape[1:], dtype=np.int64))))
    # The standard leaves a stop beyond the end undefined.
    return ((start, min(start + step, X.shape[0])) for start in range(0, max(X.shape[0], 1), step))


def _blocks(X: Array) -> Iterator[tuple[int, Floats]]:
    """Give float64 host copies of a few rows at a time, and where they start."""
    for start, stop in _ranges(X, _BLOCK_ELEMENTS):
        yield start, to_numpy(X[start:stop, ...]).astype(np.float64)


def _check_finite(where: str, block: npt.NDArray[Any], start: int) -> None:
    finite = np.isfinite(block)
    if finite.all():
        return
    row, *column = np.argwhere(~finite)[0].tolist()
    at = f"row {start + row}" + (f", column {column[0] if len(column) == 1 else tuple(column)}" if column else "")
    value = block[(row, *column)]
    mend = (
        "Impute missing values first (for example with the column's median), or drop the rows."
        if np.isnan(value)
        else "Clip or drop infinite values first."
    )
    raise DataError(f"{where}: expected finite numbers, got {value} in {at}. {mend}")

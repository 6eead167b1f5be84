r"""From a table to a matrix and back: columns of numbers and categories in, one float32 matrix out.

Everything is fitted on the training rows alone and kept in plain numbers and strings, so a model file can
carry it as JSON.  `TableEncoder` makes the features, `ClassTarget` and `NumberTarget` the targets, and
`infer_task` says which of the two a target needs.

The recipe is the preprocessing of RealMLP [1]_ (robust scaling and a smooth clip, one-hot categories) with a
flag for missing numbers and, on request, the piecewise-linear encoding of [2]_ with quantile bins, which has
no trainable part and so is preprocessing too.

References
----------
.. [1] Holzmüller, Grinsztajn, Steinwart, "Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on
       Tabular Data", NeurIPS 2024, section 3.
.. [2] Gorishniy, Rubachev, Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning",
       NeurIPS 2022, section 3.2; here both ends are clipped, because the scaled value stands beside the
       encoding and extrapolates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arguments import suggest
from ..config import options_of, reading
from ..errors import DataError, DTypeError, LabelError, OptionError, ShapeError

__all__ = ["ClassTarget", "InferredTask", "NumberTarget", "TableEncoder", "infer_task", "target_from_dict"]

Floats: TypeAlias = npt.NDArray[np.float64]
Label: TypeAlias = str | int | float | bool
Task: TypeAlias = Literal["classification", "regression"]

# Beyond this a difference or a square of two values may overflow float64; no measured quantity is as large.
_LARGEST = 1e100

# bins="auto": fewer rows a bin made small tables worse, more bins no table better.
_ROWS_PER_BIN, _MOST_BINS = 30, 64


# reading one column -----------------------------------------------------------------------------------------


def _column(name: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return one column as a 1-D array of booleans, numbers or objects."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ShapeError(f"column {name!r}: expected shape (n,), got {array.shape}. Give one array a column.")
    if array.dtype.kind not in "biufOUT":
        raise DTypeError(
            f"column {name!r}: expected numbers or text, got dtype {array.dtype}. "
            "Convert it first, dates for example to a number of days."
        )
    return array.astype(object) if array.dtype.kind in "UT" else array


def _missing(value: object) -> bool:
    """Whether one cell of an object array holds nothing: None, NaN or an empty string."""
    return value is None or value == "" or value != value


def _is_text(array: npt.NDArray[Any]) -> bool:
    """Whether a column holds any text, as opposed to numbers and gaps alone."""
    return array.dtype.kind == "O" and any(isinstance(v, str) and v != "" for v in array)


def _numbers(name: str, array: npt.NDArray[Any]) -> Floats:
    """Return a column as float64 with NaN for missing values, or say which row is no number."""
    if array.dtype.kind != "O":
        numbers = array.astype(np.float64)
    else:
        numbers = np.empty(array.shape[0])
        for i, value in enumerate(array):
            try:
                numbers[i] = np.nan if _missing(value) else float(value)
            except (TypeError, ValueError):
                raise DataError(
                    f"column {name!r}: expected a number, got {value!r} in data row {i + 1}. Correct "
                    "the value, leave it empty if it is missing, or train with this column as categorical."
                ) from None
    bad = np.flatnonzero(np.abs(numbers) > _LARGEST)
    if bad.size:
        raise DataError(
            f"column {name!r}: expected finite numbers (at most {_LARGEST:g}), got "
            f"{numbers[bad[0]]:g} in data row {bad[0] + 1} ({_plural(bad.size, 'such row')}). "
            "Replace it, or leave the cell empty to have it imputed."
        )
    return numbers


def _key(value: object) -> str:
    """Return the text by which a category or label is known, so that 1, 1.0 and "1" are the same."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, float, np.integer, np.floating)):
        number = float(value)
        return str(int(value)) if number.is_integer() else repr(number)
    return str(value).strip()


def _texts(array: npt.NDArray[Any]) -> list[str | None]:
    """Return a column as text with None for missing values."""
    return [None if _missing(v) else _key(v) for v in array.tolist()]


def _quote(values: Iterable[object], most: int = 5) -> str:
    """List values for a message, at most `most` of them."""
    values = list(values)
    return ", ".join(repr(v) for v in values[:most]) + (", ..." if len(values) > most else "")


def _plural(n: int, noun: str) -> str:
    """Return ``1 value`` or ``3 values``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


# one fitted column ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Number:
    """A numeric column: its scaled value, then its missing flag and its bins, each where there is one."""

    name: str
    fill: float
    center: float
    spread: float  # 0 for a column that is constant but for its gaps: the flag alone is left
    flagged: bool
    edges: tuple[float, ...]

    @property
    def feature_names(self) -> list[str]:
        value = [self.name] if self.spread > 0 else []
        flag = [f"{self.name}:missing"] if self.flagged else []
        return value + flag + [f"{self.name}:bin{t}" for t in range(1, len(self.edges))]

    def encode(self, array: npt.NDArray[Any], clip: float | None) -> Floats:
        x = _numbers(self.name, array)
        gaps = np.isnan(x)
        x = np.where(gaps, self.fill, x)
        parts = []
        if self.spread > 0:
            with np.errstate(over="ignore"):  # a subnormal spread; the bound below keeps the ratio finite
                z = np.clip((x - self.center) / self.spread, -1e30, 1e30)
            parts.append((z if clip is None else z / np.hypot(1.0, z / clip))[:, None])
        if self.flagged:
            parts.append(gaps[:, None].astype(np.float64))
        if self.edges:
            low, high = np.asarray(self.edges[:-1]), np.asarray(self.edges[1:])
            parts.append(np.clip((x[:, None] - low) / (high - low), 0.0, 1.0))
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, slots=True)
class _Category:
    """A categorical column: one 0/1 column a category, or one -1/+1 column for two of them."""

    name: str
    categories: tuple[str, ...]
    pooled: bool  # a last 0/1 column for the rare ones

    @property
    def binary(self) -> bool:
        return len(self.categories) == 2 and not self.pooled

    @property
    def feature_names(self) -> list[str]:
        if self.binary:
            return [f"{self.name}={self.categories[1]}"]
        rare = [f"{self.name}:rare"] if self.pooled else []
        return [f"{self.name}={c}" for c in self.categories] + rare

    def codes(self, array: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the position of each row's category, -1 for an unknown one and -2 for a missing one."""
        where: dict[str | None, int] = {c: i for i, c in enumerate(self.categories)}
        where[None] = -2
        texts = _texts(array)
        codes = np.fromiter((where.get(t, -1) for t in texts), dtype=np.int64, count=len(texts))
        known, present = codes >= 0, codes > -2
        if array.dtype.kind != "O" and present.any() and not known.any():
            i = int(np.flatnonzero(present)[0])
            raise DataError(
                f"column {self.name!r}: expected the categories {_quote(self.categories)}, got numbers such "
                f"as {texts[i]} in data row {i + 1}. Give the column that the model was trained on."
            )
        return codes

    def encode(self, array: npt.NDArray[Any]) -> Floats:
        codes = self.codes(array)
        if self.binary:
            return np.where(codes < 0, 0.0, 2.0 * codes - 1.0).reshape(-1, 1)
        if self.pooled:
            codes[codes == -1] = len(self.categories)
        one_hot: Floats = np.equal.outer(codes, np.arange(len(self.feature_names))).astype(np.float64)
        return one_hot


_KINDS: dict[str, type[_Number] | type[_Category]] = {"number": _Number, "category": _Category}


def _spread(x: Floats, center: float) -> float:
    """Return the interquartile range of all values, or of those off the center, or half the range."""
    for part in (x, x[x != center]):
        if part.size:
            q25, q75 = np.quantile(part, [0.25, 0.75])
            if q75 > q25:
                return float(q75 - q25)
    return float(x.max() - x.min()) / 2


def _edges(x: Floats, bins: int) -> tuple[float, ...]:
    """Return the bin edges: the values themselves when there are few, else quantiles without repeats."""
    distinct = np.unique(x)
    if distinct.size > bins + 1:
        edges = np.quantile(x, np.linspace(0.0, 1.0, bins + 1))
        edges, times = np.unique(edges, return_counts=True)
        spare = bins + 1 - edges.size
        if spare:  # one value, such as 0 in an amount, took several edges: hand them to the rest
            rest = x[~np.isin(x, edges[times > 1])]
            if rest.size:
                more = np.quantile(rest, np.linspace(0.0, 1.0, spare + 2)[1:-1], method="nearest")
                edges = np.unique(np.concatenate([edges, more]))
        distinct = edges
    # Two edges would repeat the scaled value.
    return tuple(float(e) for e in distinct) if distinct.size > 2 else ()


# the whole table --------------------------------------------------------------------------------------------


class TableEncoder:
    r"""Turn named columns of numbers and categories into one float32 matrix.

    A numeric column becomes, with the median :math:`m` and the quartiles :math:`q` of the training rows,

    .. math:: z = \frac{x - m}{q_{75} - q_{25}}, \qquad v = \frac{z}{\sqrt{1 + (z / c)^2}} \in (-c, c)

    (where half the rows hold one value, the quartiles of the others; if those agree too, half the range).
    Missing numbers are imputed; if the training rows had any, a 0/1 column flags them. With ``bins=T`` there
    follow up to T columns

    .. math:: e_t = \min(\max((x - b_{t-1}) / (b_t - b_{t-1}), 0), 1)

    with quantiles :math:`b_t` as edges, or with all the values if there are few. A constant column is
    left out.

    A categorical column becomes one 0/1 column a category, most frequent first, or a single -1/+1 column when
    there are two. A missing or unknown category is all zeros; where rare categories were pooled, an unknown
    one joins the pool. Text that hardly repeats is left out.

    Parameters
    ----------
    impute : {"median", "mean"}, default="median"
        What stands for a missing number.
    clip : float or None, default=3.0
        Bound :math:`c` of the smooth clip; None for none.
    bins : int or "auto", default=0
        Number of bins of the piecewise-linear encoding of each numeric column; 0 for none, else at least 2.
        "auto": one for each 30 training rows in which the column has a value, at most 64.
    min_count : int, default=1
        Categories seen in fewer training rows than this are pooled.
    max_categories : int, default=100
        At most this many columns for one categorical column; the rarest categories share the last of them.
    categorical, numeric : sequence of str, default=()
        Columns to read so whatever they look like. By default a column that holds text is categorical.

    Attributes
    ----------
    notes : list of str
        What `fit` did, in sentences.
    feature_names_out : list of str
        Names of the d columns of the matrix.
    feature_names_in : list of str
        The columns that are used; others given to `transform` are ignored.

    Examples
    --------
    >>> import numpy as np
    >>> sex = np.array(["f", "m", "m", None], dtype=object)
    >>> table = {"age": np.array([31.0, np.nan, 45.0, 38.0]), "sex": sex}
    >>> encoder = TableEncoder().fit(table)
    >>> encoder.feature_names_out
    ['age', 'age:missing', 'sex=f']
    >>> encoder.transform(table).round(2)
    array([[-0.95,  0.  ,  1.  ],
           [ 0.  ,  1.  , -1.  ],
           [ 0.95,  0.  , -1.  ],
           [ 0.  ,  0.  ,  0.  ]], dtype=float32)
    >>> print("\n".join(encoder.notes))
    age: 1 missing value imputed with the median 38, flagged by a 0/1 column.
    sex: 1 missing value encoded as zeros.
    """

    def __init__(
        self,
        *,
        impute: Literal["median", "mean"] = "median",
        clip: float | None = 3.0,
        bins: int | Literal["auto"] = 0,
        min_count: int = 1,
        max_categories: int = 100,
        categorical: Sequence[str] = (),
        numeric: Sequence[str] = (),
    ) -> None:
        if impute not in ("median", "mean"):
            raise OptionError(f"TableEncoder: expected impute to be 'median' or 'mean', got {impute!r}.")
        if clip is not None and not clip > 0:
            raise OptionError(f"TableEncoder: expected clip > 0 or None, got {clip!r}. 3 is usual.")
        for option, value, least in (("min_count", min_count, 1), ("max_categories", max_categories, 2)):
            if value < least:
                raise OptionError(f"TableEncoder: expected {option} of at least {least}, got {value}.")
        if bins != "auto" and (not isinstance(bins, int) or bins < 0 or bins == 1):
            raise OptionError(
                f"TableEncoder: expected bins to be 0 (none), at least 2, or 'auto', got {bins!r}. Try 'auto'."
            )
        both = sorted(set(categorical) & set(numeric))
        if both:
            raise OptionError(
                f"TableEncoder: expected each column in one of categorical= and numeric=, got {_quote(both)} "
                "in both. Take it out of one."
            )
        self.impute = impute
        self.clip = clip
        self.bins = bins
        self.min_count = min_count
        self.max_categories = max_categories
        self.categorical = tuple(categorical)
        self.numeric = tuple(numeric)
        self.notes: list[str] = []
        self._columns: list[_Number | _Category] = []

    @property
    def feature_names_in(self) -> list[str]:
        """Names of the columns that `transform` needs."""
        return [column.name for column in self._columns]

    @property
    def feature_names_out(self) -> list[str]:
        """Names of the columns of the matrix."""
        return [name for column in self._columns for name in column.feature_names]

    def fit(self, columns: Mapping[str, npt.ArrayLike]) -> TableEncoder:
        """Learn fills, scales, bins and categories from the training rows.

        Parameters
        ----------
        columns : mapping of str to array of shape (n,)
            Numbers with NaN for missing values, or text with None.

        Returns
        -------
        TableEncoder
            Itself.

        Raises
        ------
        OptionError
            If `categorical` or `numeric` names a column that is not there.
        ShapeError
            If the columns have different lengths.
        DataError
            If there is no row, a number is infinite, or no column is of use.
        """
        for name in (*self.categorical, *self.numeric):
            if name not in columns:
                raise OptionError(
                    f"TableEncoder: expected column names, got {name!r}. {suggest(name, columns)} "
                    f"There are {_quote(columns, 20)}."
                )
        arrays = self._arrays(columns, list(columns))
        if not arrays or next(iter(arrays.values())).shape[0] == 0:
            raise DataError(
                "TableEncoder.fit: expected at least one column and one row, got none. Give it training rows."
            )
        self.notes, self._columns = [], []
        for name, array in arrays.items():
            as_text = name in self.categorical or (name not in self.numeric and _is_text(array))
            fitted = self._fit_category(name, array) if as_text else self._fit_number(name, array)
            if fitted is not None:
                self._columns.append(fitted)
        if not self._columns:
            raise DataError(f"TableEncoder.fit: expected a column that varies, got none. {' '.join(self.notes)}")
        return self

    def transform(self, columns: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float32]:
        """Encode rows with what `fit` learnt.

        Parameters
        ----------
        columns : mapping of str to array of shape (n,)
            All of `feature_names_in`; further columns are ignored.

        Returns
        -------
        array of shape (n, d), float32
            Finite; its columns are `feature_names_out`.

        Raises
        ------
        DataError
            If a column is missing, or holds text or infinity where numbers are due, or numbers that match
            no category.
        """
        arrays = self._present(columns)
        n = next(iter(arrays.values())).shape[0]
        matrix = np.empty((n, len(self.feature_names_out)), dtype=np.float32)
        start = 0
        for column in self._columns:
            array = arrays[column.name]
            part = column.encode(array, self.clip) if isinstance(column, _Number) else column.encode(array)
            matrix[:, start : start + part.shape[1]] = part
            start += part.shape[1]
        return matrix

    def remarks(self, columns: Mapping[str, npt.ArrayLike]) -> list[str]:
        """Say in sentences what `transform` does to gaps and unknown categories in these rows.

        Parameters
        ----------
        columns : mapping of str to array of shape (n,)
            As for `transform`.

        Returns
        -------
        list of str
            Empty when every value is present and known.
        """
        arrays, remarks = self._present(columns), []
        for column in self._columns:
            array = arrays[column.name]
            if isinstance(column, _Number):
                gaps = int(np.isnan(_numbers(column.name, array)).sum())
                how = f"imputed with {column.fill:g}"
            else:
                codes = column.codes(array)
                gaps, how = int((codes == -2).sum()), "encoded as zeros"
                new = Counter(t for t, code in zip(_texts(array), codes, strict=True) if code == -1)
                if new:
                    pool = "put with the rare ones" if column.pooled else "encoded as zeros"
                    what = f"categories that training did not keep ({_quote(k for k, _ in new.most_common())})"
                    remarks.append(f"{column.name}: {_plural(new.total(), 'value')} in {what}, {pool}.")
            if gaps:
                remarks.append(f"{column.name}: {_plural(gaps, 'missing value')} {how}.")
        return remarks

    def to_dict(self) -> dict[str, Any]:
        """Return options, notes and fitted state as JSON-able values."""
        kinds = {kind: name for name, kind in _KINDS.items()}
        columns = [{"kind": kinds[type(column)], **options_of(column)} for column in self._columns]
        return {**options_of(self), "notes": list(self.notes), "columns": columns}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> TableEncoder:
        """Rebuild an encoder from `to_dict`, also after a round trip through JSON.

        Raises
        ------
        FileFormatError
            If an entry is missing or of no known kind.
        """
        rest = dict(state)
        with reading("TableEncoder.from_dict", "what to_dict() returns"):
            notes, fitted = rest.pop("notes"), rest.pop("columns")
            encoder = cls(**rest)
            encoder.notes = list(notes)
            for entry in fitted:
                make: Any = _KINDS[entry["kind"]]
                options = {name: tuple(v) if isinstance(v, list) else v for name, v in entry.items() if name != "kind"}
                encoder._columns.append(make(**options))
        return encoder

    def _arrays(self, columns: Mapping[str, npt.ArrayLike], names: list[str]) -> dict[str, npt.NDArray[Any]]:
        """Read the named columns and check that they have one length."""
        arrays = {name: _column(name, columns[name]) for name in names}
        lengths = {array.shape[0]: name for name, array in arrays.items()}
        if len(lengths) > 1:
            (a, first), (b, second) = list(lengths.items())[:2]
            raise ShapeError(
                f"TableEncoder: expected columns of one length, got {a} rows in {first!r} and {b} in "
                f"{second!r}. Give each column the same rows."
            )
        return arrays

    def _present(self, columns: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
        """Read the columns that were fitted, or list those that are not there."""
        if not self._columns:
            raise DataError("TableEncoder: expected a fitted encoder, got one that never saw data. Call fit first.")
        absent = [name for name in self.feature_names_in if name not in columns]
        if absent:
            raise DataError(
                f"TableEncoder.transform: expected the training columns, got none named "
                f"{_quote(absent, 20)}. There are {_quote(columns, 20)}. Check the header, or train "
                "without the missing ones."
            )
        return self._arrays(columns, self.feature_names_in)

    def _fit_number(self, name: str, array: npt.NDArray[Any]) -> _Number | None:
        x = _numbers(name, array)
        present = x[~np.isnan(x)]
        gaps = x.size - present.size
        if present.size == 0:
            self.notes.append(f"{name}: left out, every value is missing.")
            return None
        center = float(np.median(present))
        fill = center if self.impute == "median" else float(present.mean())
        constant = present.min() == present.max()
        if constant:
            rest = "; a 0/1 column flags the missing values" if gaps else ""
            self.notes.append(f"{name}: left out, every value is {present[0]:g}{rest}.")
            return _Number(name, fill, center, 0.0, True, ()) if gaps else None
        if gaps:
            flag = "flagged by a 0/1 column"
            self.notes.append(
                f"{name}: {_plural(gaps, 'missing value')} imputed with the {self.impute} {fill:g}, {flag}."
            )
        elif x.size > 20 and np.ptp(x) == x.size - 1 and np.unique(x).size == x.size and (x == np.trunc(x)).all():
            self.notes.append(
                f"{name}: numbers the rows from {x.min():g} to {x.max():g}; if it is an identifier, train without it."
            )
        bins = min(_MOST_BINS, present.size // _ROWS_PER_BIN) if self.bins == "auto" else self.bins
        edges = _edges(present, bins) if bins >= 2 else ()
        return _Number(name, fill, center, _spread(present, center), gaps > 0, edges)

    def _fit_category(self, name: str, array: npt.NDArray[Any]) -> _Category | None:
        texts = _texts(array)
        counts = Counter(t for t in texts if t is not None)
        gaps = len(texts) - counts.total()
        if not counts:
            self.notes.append(f"{name}: left out, every value is missing.")
            return None
        if len(counts) == 1 and not gaps:
            self.notes.append(f"{name}: left out, every value is {next(iter(counts))!r}.")
            return None
        if len(counts) > self.max_categories and 2 * len(counts) > counts.total():
            self.notes.append(
                f"{name}: left out, {len(counts)} different values in {counts.total()} rows look like an "
                "identifier or free text."
            )
            return None
        # Equal counts by name, so that the order of the rows does not decide the order of the columns.
        ranked = sorted(counts, key=lambda c: (-counts[c], c))
        kept = [c for c in ranked if counts[c] >= self.min_count]
        if len(kept) < len(ranked) or len(kept) > self.max_categories:
            kept = kept[: self.max_categories - 1]
        if not kept:
            self.notes.append(f"{name}: left out, no category has {self.min_count} rows.")
            return None
        # A pool of one is that category under another name.
        if len(ranked) - len(kept) == 1:
            kept = ranked
        pooled = len(kept) < len(ranked)
        if pooled:
            rows = counts.total() - sum(counts[c] for c in kept)
            self.notes.append(
                f"{name}: of {len(ranked)} categories the {len(ranked) - len(kept)} rarest "
                f"({_plural(rows, 'row')}) share one column."
            )
        if gaps:
            self.notes.append(f"{name}: {_plural(gaps, 'missing value')} encoded as zeros.")
        return _Category(name, tuple(kept), pooled)


# targets ----------------------------------------------------------------------------------------------------


def _target(y: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return the target as a 1-D array in which every row has a value."""
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    array = _column("target", array)
    if array.shape[0] == 0:
        raise DataError("target: expected at least one row, got none.")
    gaps = np.fromiter((_missing(v) for v in array.tolist()), dtype=bool, count=array.shape[0])
    if gaps.any():
        raise DataError(
            f"target: expected a value in every row, got none in {gaps.sum()} of {gaps.size} rows (the first "
            f"is data row {int(gaps.argmax()) + 1}). Remove these rows or fill them in."
        )
    return array


class InferredTask(NamedTuple):
    """What a target asks for, and the sentence that says why."""

    task: Task
    why: str


def infer_task(y: npt.ArrayLike) -> InferredTask:
    """Tell classification from regression by looking at the target.

    In this order: text and booleans are classes; numbers with fractions are quantities; of whole numbers, one
    or two different ones are classes, and so are up to 20 if there are at least 5 rows for each; all others
    are quantities.

    Parameters
    ----------
    y : array of shape (n,) or (n, 1)
        Numbers, booleans or text; no value may be missing.

    Returns
    -------
    InferredTask
        ``(task, why)`` with `task` ``"classification"`` or ``"regression"``.

    Raises
    ------
    DataError
        If a value is missing.

    Examples
    --------
    >>> infer_task([1.5, 2.0, 3.25]).task
    'regression'
    >>> infer_task(["yes", "no", "yes"])
    InferredTask(task='classification', why='the target holds text: 2 classes')
    """
    array = _target(y)
    if _is_text(array) or array.dtype.kind == "b":
        kind = "text" if array.dtype.kind == "O" else "booleans"
        return InferredTask("classification", f"the target holds {kind}: {len(set(_texts(array)))} classes")
    numbers = _numbers("target", array)
    if (numbers != np.trunc(numbers)).any():
        return InferredTask("regression", "the target holds numbers with fractions")
    k, n = np.unique(numbers).size, numbers.size
    what = f"the target holds {_plural(k, 'different whole number')} in {_plural(n, 'row')}"
    if k <= 2 or (k <= 20 and n >= 5 * k):
        return InferredTask("classification", f"{what}: few enough to be classes")
    return InferredTask("regression", f"{what}: too many to be classes")


class ClassTarget:
    r"""Labels of any kind as class numbers 0 … C-1.

    Numbers are ordered by value and text alphabetically. Labels compare as text without surrounding blanks,
    and 1, 1.0 and "1" are one label, so that two files agree whichever way their columns were read.

    Parameters
    ----------
    strip : str, default=""
        Ending taken off every label that has it, in `fit` and in `encode`.

    Attributes
    ----------
    classes : tuple of str, int, float or bool
        Label of each class number.
    strip : str
        As given.

    Examples
    --------
    >>> target = ClassTarget().fit(["no", "yes", "no"])
    >>> target.encode(["yes", "no"])
    array([1, 0])
    >>> target.decode([1, 1, 0]).tolist()
    ['yes', 'yes', 'no']
    """

    task: Task = "classification"

    def __init__(self, *, strip: str = "") -> None:
        self.strip = strip
        self.classes: tuple[Label, ...] = ()

    def fit(self, y: npt.ArrayLike) -> ClassTarget:
        """Learn the classes.

        Parameters
        ----------
        y : array of shape (n,) or (n, 1)
            Labels.

        Returns
        -------
        ClassTarget
            Itself.

        Raises
        ------
        DataError
            If a label is missing.
        LabelError
            If there is a single class, or if, of more than 20 rows, most have a class of their own.
        """
        array = _target(y)
        if _is_text(array):
            self.classes = tuple(sorted(set(self._labels(array, self.strip))))
        else:
            values = np.unique(array.astype(bool) if array.dtype.kind == "b" else _numbers("target", array)).tolist()
            whole = all(float(v).is_integer() and not isinstance(v, bool) for v in values)
            self.classes = tuple(int(v) for v in values) if whole else tuple(values)
        if len(self.classes) < 2:
            raise LabelError(
                f"target: expected at least two classes, got only {self.classes[0]!r} in all "
                f"{array.shape[0]} rows. Check the target column and the rows."
            )
        if array.shape[0] > 20 and 2 * len(self.classes) > array.shape[0]:
            raise LabelError(
                f"target: expected labels that repeat, got {len(self.classes)} different ones in "
                f"{array.shape[0]} rows. Check the target column; a quantity needs the regression task."
            )
        return self

    def encode(self, y: npt.ArrayLike, *, strip: str | None = None) -> npt.NDArray[np.int64]:
        """Return class numbers.

        Parameters
        ----------
        y : array of shape (n,)
            Labels.
        strip : str, optional
            Ending to take off these labels, instead of the `strip` of the constructor.

        Returns
        -------
        array of shape (n,), int64
            Values in 0 … C-1.

        Raises
        ------
        DataError
            If a label is missing.
        LabelError
            If a label is none of the classes; the message names an ending that makes all the difference, if
            there is one.
        """
        where = {_key(c): i for i, c in enumerate(self._known())}
        labels = self._labels(_target(y), self.strip if strip is None else strip)
        codes = np.fromiter((where.get(label, -1) for label in labels), dtype=np.int64, count=len(labels))
        unknown = np.flatnonzero(codes < 0)
        if unknown.size:
            i = int(unknown[0])
            raise LabelError(
                f"target: expected one of the {len(where)} classes {_quote(self.classes)}, got {labels[i]!r} "
                f"in data row {i + 1} ({unknown.size} of {_plural(len(labels), 'row')} with unknown labels). "
                + _advice({labels[j] for j in unknown}, set(where))
            )
        return codes

    def decode(self, codes: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the labels of class numbers; same shape, text as an object array of str."""
        classes = self._known()
        labels = np.asarray(classes, dtype=object if isinstance(classes[0], str) else None)
        return np.asarray(labels.take(np.asarray(codes)))

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON-able values."""
        return {"task": self.task, "classes": list(self.classes), "strip": self.strip}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> ClassTarget:
        """Rebuild from `to_dict`."""
        target = cls(strip=state["strip"])
        target.classes = tuple(state["classes"])
        return target

    def _known(self) -> tuple[Label, ...]:
        if not self.classes:
            raise LabelError("ClassTarget: expected fitted classes, got none. Call fit first.")
        return self.classes

    @staticmethod
    def _labels(array: npt.NDArray[Any], strip: str) -> list[str]:
        return [_key(v).removesuffix(strip).strip() for v in array.tolist()]


def _advice(unknown: set[str], known: set[str]) -> str:
    """Say what would make unknown labels known, if one ending or the case does."""
    endings = {u[len(k) :] for u in unknown for k in known if k and u.startswith(k)}
    for ending in sorted(endings, key=len):
        if all(u.endswith(ending) and u.removesuffix(ending) in known for u in unknown):
            return f"The labels end in {ending!r}; strip it with --strip-target {ending!r}."
    endings = {k[len(u) :] for u in unknown for k in known if u and k.startswith(u)}
    for ending in sorted(endings, key=len):
        if all(u + ending in known for u in unknown):
            return f"The labels seen in training end in {ending!r}; train again with --strip-target {ending!r}."
    folded = {k.casefold() for k in known}
    if all(u.casefold() in folded for u in unknown):
        return "They differ in upper and lower case; write them alike."
    return "Check that this is the right target column, or train on rows that hold these labels."


class NumberTarget:
    r"""A quantity, standardised for training.

    .. math:: z = (y - \bar y) / s, \qquad s^2 = \tfrac1n \sum_i (y_i - \bar y)^2

    Attributes
    ----------
    mean, std : float
        Of the training rows. An error in training units times `std` is in the target's own units.
    low, high : float
        Range of the training rows.

    Examples
    --------
    >>> target = NumberTarget().fit([10.0, 20.0, 30.0])
    >>> target.encode([20.0, 40.0])
    array([[0.       ],
           [2.4494898]], dtype=float32)
    >>> target.decode([[0.0], [2.449]], clip=True).tolist()
    [20.0, 30.0]
    """

    task: Task = "regression"

    def __init__(self) -> None:
        self.mean, self.std = 0.0, 1.0
        self.low, self.high = -np.inf, np.inf

    def fit(self, y: npt.ArrayLike) -> NumberTarget:
        """Learn mean, standard deviation and range.

        Parameters
        ----------
        y : array of shape (n,) or (n, 1)
            Numbers.

        Returns
        -------
        NumberTarget
            Itself.

        Raises
        ------
        DataError
            If a value is missing, infinite or text, or if all are equal.
        """
        numbers = _numbers("target", _target(y))
        self.low, self.high = float(numbers.min()), float(numbers.max())
        self.mean, self.std = float(numbers.mean()), float(numbers.std())
        # Rounding can leave equal values a tiny deviation, and tiny differences none.
        if self.low == self.high or self.std == 0:
            raise DataError(
                f"target: expected values that vary, got {self.low:g} in all {numbers.size} rows. "
                "Check the target column."
            )
        return self

    def encode(self, y: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Standardise values of shape (n,) to float32 of shape (n, 1), the shape of a network's output."""
        numbers = _numbers("target", _target(y))
        return ((numbers - self.mean) / self.std).astype(np.float32)[:, None]

    def decode(self, z: npt.ArrayLike, *, clip: bool = False) -> Floats:
        """Undo `encode`.

        Parameters
        ----------
        z : array of shape (n,) or (n, 1)
            Standardised values.
        clip : bool, default=False
            Whether to hold the result within the range of the training rows.

        Returns
        -------
        array of shape (n,), float64
            Values in the target's own units.
        """
        y = np.asarray(z, dtype=np.float64).reshape(-1) * self.std + self.mean
        return np.clip(y, self.low, self.high) if clip else y

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON-able values."""
        return {"task": self.task, "mean": self.mean, "std": self.std, "low": self.low, "high": self.high}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> NumberTarget:
        """Rebuild from `to_dict`."""
        target = cls()
        target.mean, target.std, target.low, target.high = (float(state[k]) for k in ("mean", "std", "low", "high"))
        return target


def target_from_dict(state: Mapping[str, Any]) -> ClassTarget | NumberTarget:
    """Rebuild either kind of target from its `to_dict`.

    Raises
    ------
    FileFormatError
        If the state is not one that `to_dict` returned.

    Examples
    --------
    >>> target_from_dict(ClassTarget().fit([3, 5]).to_dict()).classes
    (3, 5)
    """
    kinds: dict[str, type[ClassTarget] | type[NumberTarget]]
    kinds = {"classification": ClassTarget, "regression": NumberTarget}
    with reading("target_from_dict", "what to_dict() returns"):
        return kinds[state["task"]].from_dict(state)

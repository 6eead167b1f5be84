r"""From a table to a matrix: columns of numbers and categories in, one float32 matrix out.

Everything is fitted on the training rows alone and kept in plain numbers and strings, so a model file can
carry it as JSON.

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
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..accel.memory import return_freed_memory
from ..arguments import describe, suggest
from ..coding import Code
from ..config import options_of, reading
from ..errors import DataError, OptionError, ShapeError
from ..schema import expect
from .columns import (
    Floats,
    as_columns,
    as_texts,
    is_missing,
    is_text,
    plural,
    quote,
)
from .csv import Table
from .dates import DateColumn, DateFormat, Mixed, date_texts, find_dates, read_column
from .encoded import EncodedRows
from .fitted import COLUMN, column_from_dict, column_to_dict, edges_of, spread_of
from .fitted import CategoryColumn as _Category
from .fitted import NumberColumn as _Number
from .kinds import read_numbers
from .packing import Layout, PackedLater, Understood, kind_of, understood
from .row_encoder import RowEncoder
from .spelling import PLAIN, Spelling, find_spelling
from .summary import MOST_DISTINCT, Seen, TableSummary
from .written import Written

__all__ = ["Columns", "TableEncoder"]

#: A table from a file, or columns by name: a mapping of arrays, or a frame of pandas, polars or the like.
Columns: TypeAlias = Table | Mapping[str, npt.ArrayLike] | Any

_SCHEMA = {"notes": [str], "columns": [COLUMN]}
# bins="auto": fewer rows a bin made small tables worse, more bins no table better.
_ROWS_PER_BIN, _MOST_BINS = 30, 64
# Elements of a matrix from which on rows stay packed: half a GiB or less is made at once.
_LARGE = 1 << 25
# Numbers of packed rows from which on they are made when they are asked for: a GiB.
_LATER = 1 << 28


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

    A column of dates, of any library's or as text in one format, becomes the days elapsed since the earliest, and of
    year, month, day, weekday and hour those that vary, encoded as numbers; month, weekday and hour also stand on a
    circle, as sine and cosine. Durations become numbers of days.

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
        Columns to read so whatever they look like. By default a column of text that holds no dates is categorical; of
        dates that are numeric the days elapsed are taken alone.
    dayfirst : bool, optional
        Whether 1/2/2020, as text, is the first of February, where the training rows leave it open. Left open, such a
        column is text.
    values_first : bool, default=False
        Put the scaled values of all numeric columns before everything else, for a layer that takes the first columns
        (`xpnn.NumericalEmbedding` in `xpnn.Columns`).

    Attributes
    ----------
    n_values : int
        Number of columns of the matrix that are scaled values.
    notes : list of str
        What `fit` did, in sentences.
    feature_names_out : list of str
        Names of the d columns of the matrix.
    feature_names_in : list of str
        The columns that are used; others given to `transform` are ignored.
    feature_places : dict of str to array of int
        By the names of these, which columns of the matrix come of them.

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

    dayfirst: bool | None = None  # pickles from before have neither
    values_first: bool = False
    _made: Layout | None = None
    _few: tuple[tuple[Layout, list[str], float | None], RowEncoder | None] | None = None

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
        dayfirst: bool | None = None,
        values_first: bool = False,
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
                f"TableEncoder: expected each column in one of categorical= and numeric=, got {quote(both)} "
                "in both. Take it out of one."
            )
        self.impute = impute
        self.clip = clip
        self.bins = bins
        self.min_count = min_count
        self.max_categories = max_categories
        self.categorical = tuple(categorical)
        self.numeric = tuple(numeric)
        self.dayfirst = dayfirst
        self.values_first = values_first
        self.notes: list[str] = []
        self._columns: list[_Number | _Category | DateColumn] = []

    def __repr__(self) -> str:
        return describe(self)

    @property
    def feature_names_in(self) -> list[str]:
        """Names of the columns that `transform` needs."""
        return [column.name for column in self._columns]

    @property
    def kinds(self) -> dict[str, Literal["number", "boolean", "date", "category"]]:
        """What each column is read as, by its name."""
        return {column.name: kind_of(column) for column in self._columns}

    @property
    def feature_names_out(self) -> list[str]:
        """Names of the columns of the matrix."""
        return list(self._layout.names)

    @property
    def fitted_columns(self) -> tuple[_Number | _Category | DateColumn, ...]:
        """What was learnt of each column that is used."""
        return tuple(self._columns)

    @property
    def n_values(self) -> int:
        """Number of columns of the matrix that are scaled values."""
        return self._layout.n_values

    @property
    def _layout(self) -> Layout:
        """Where everything stands, found out once for each fit."""
        made = self._made
        if made is None or made.columns is not self._columns or made.values_first != self.values_first:
            made = self._made = Layout(self._columns, self.values_first)
        return made

    @property
    def feature_places(self) -> dict[str, npt.NDArray[np.int64]]:
        """Which columns of the matrix come of each column of the table, by its name."""
        return dict(self._layout.places)

    def few_rows(self, names: Sequence[str]) -> RowEncoder | None:
        """Return what encodes a few rows at once, of tables with columns of these names; None where it cannot."""
        kept, key = self._few, (self._layout, list(names), self.clip)
        if kept is None or kept[0] != key:
            made = RowEncoder.of(self._columns, self._layout.places, names, self.clip)
            kept = self._few = key, made
        return kept[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_made", "_few")}

    def fit(
        self,
        columns: Columns,
        *,
        spellings: Mapping[str, Spelling] | None = None,
        rows: npt.NDArray[np.integer] | None = None,
    ) -> TableEncoder:
        """Learn fills, scales, bins and categories from the training rows, and return itself.

        Parameters
        ----------
        columns : Table, frame, or mapping of str to array of shape (n,)
            Numbers with NaN for missing values, or text with None; a frame of pandas or polars; or what `load_csv`
            returned.
        spellings : mapping of str to Spelling, optional
            How `transform` reads the text of columns of numbers; a `Table` brings its own, and of a column that is said
            to be `numeric` it is found out.
        rows : array of int, optional
            Numbers of the rows to learn from, by default all: a copy of one column at a time, not of the table.

        Raises
        ------
        OptionError
            If `categorical` or `numeric` names a column that is not there.
        ShapeError
            If the columns have different lengths.
        DataError
            If there is no row, a number is infinite, two columns have one name, or no column is of use.
        DTypeError
            If these are no columns by name.
        """
        spelt = columns.spellings if isinstance(columns, Table) else spellings or {}
        given = (
            columns.read(self.categorical) if isinstance(columns, Table) else as_columns(columns, "TableEncoder.fit")
        )
        self._expect_names(given)
        arrays = self._arrays(given, list(given))
        if not arrays or next(iter(arrays.values())).shape[0] == 0 or (rows is not None and not len(rows)):
            raise DataError(
                "TableEncoder.fit: expected at least one column and one row, got none. Give it training rows."
            )
        self._fit_columns(arrays, spelt, {}, rows)
        return self

    def fit_blocks(self, blocks: Iterable[Any] | TableSummary, *, sample: int = 50_000, seed: int = 0) -> TableEncoder:
        """Learn from training rows that come in blocks, in one pass; return itself.

        Categories are counted, and gaps, extremes and means taken, over all rows, exactly.  Medians, quartiles, edges
        of bins, and what dates there are, come from a *sample* of the rows; of no more rows than `sample` all are in
        it, and then the result is that of `fit`.  It does not depend on where the rows are cut.

        Parameters
        ----------
        blocks : iterable of frames or mappings of str to array, or TableSummary
            The training rows, a block at a time; or what was gathered of them, such as the merged summaries of several
            processes.
        sample : int, default=50_000
            Rows of the sample.
        seed : int, default=0
            Draws the sample.

        Raises
        ------
        OptionError, ShapeError, DataError, DTypeError
            As for `fit`; or if a column holds something else in one block than in another.

        Examples
        --------
        >>> import numpy as np
        >>> size, town = np.arange(100.0), np.array(["a", "b", "b", "c"] * 25, dtype=object)
        >>> blocks = [{"size": size[a : a + 30], "town": town[a : a + 30]} for a in range(0, 100, 30)]
        >>> TableEncoder().fit_blocks(blocks).feature_names_out
        ['size', 'town=b', 'town=a', 'town=c']
        """
        if isinstance(blocks, TableSummary):
            summary = blocks
        else:
            summary = TableSummary(sample=sample, seed=seed, categorical=self.categorical)
            for block in blocks:
                summary.add(block)
        drawn = summary.drawn()
        self._expect_names(summary.columns)
        if not drawn or not summary.rows:
            raise DataError(
                "TableEncoder.fit_blocks: expected at least one column and one row, got none. Give it training rows."
            )
        if summary.rows > summary.sample:
            many = f"{summary.sample:,} of {summary.rows:,} rows"
            self._fit_columns(drawn, {}, summary.columns)
            self.notes.append(f"Medians, quartiles, bins and dates are those of {many}, drawn by seed {summary.seed}.")
        else:
            self._fit_columns(drawn, {}, {})
        return self

    def transform(self, columns: Columns) -> npt.NDArray[np.float32]:
        """Encode rows with what `fit` learnt.

        Parameters
        ----------
        columns : Table, frame, or mapping of str to array of shape (n,)
            All of `feature_names_in`; further columns are ignored. Text in a column of numbers is read as in training.

        Returns
        -------
        array of shape (n, d), float32
            Finite; its columns are `feature_names_out`.

        Raises
        ------
        DataError
            If a column is missing, or holds words or infinity where numbers are due, or numbers where all categories
            are words.
        """
        return np.asarray(self.rows(columns))

    def rows(
        self, columns: Columns, rows: npt.NDArray[np.integer] | None = None, *, later: bool = False
    ) -> EncodedRows:
        """Return what `transform` does, but keep the rows packed: a batch is encoded when it is asked for.

        Parameters
        ----------
        columns : Table, frame, or mapping of str to array of shape (n,)
            As for `transform`.
        rows : array of int, optional
            Numbers of the rows to encode, by default all: a copy of one column at a time, not of the table.
        later : bool, default=False
            Pack rows when they are asked for, too: for rows that are asked for once.  Those of a table of a GiB when it
            is packed are so always.

        Returns
        -------
        EncodedRows
            Stands for the matrix of `transform`, to train on and to predict for.

        Raises
        ------
        DataError
            As `transform`.

        Examples
        --------
        >>> table = {"size": np.arange(100.0)}
        >>> TableEncoder(bins=16).fit(table).rows(table)
        EncodedRows(100 rows of 17 columns, packed in 3)
        """
        arrays, code, places = self._present(columns), self._layout.code, self._layout.packed
        n = len(next(iter(arrays.values()))) if rows is None else len(rows)
        read = [Understood.of(c, arrays.pop(c.name), rows, places[c.name]) for c in self._columns]
        packed = PackedLater(read, self.clip, n, code.packed_width)
        if later or n * code.packed_width < _LATER:
            return EncodedRows(packed if later else packed.all(), code)
        return_freed_memory()  # of what was read and learnt before: there is little left
        return EncodedRows(packed, code)

    def encode(
        self, columns: Columns, rows: npt.NDArray[np.integer] | None = None, *, later: bool = False
    ) -> npt.NDArray[np.float32] | EncodedRows:
        """Return what `transform` does, or where that would be large and `rows` is not half as large, what that does.

        Parameters
        ----------
        columns : Table, frame, or mapping of str to array of shape (n,)
            As for `transform`.
        rows, later : array of int, bool, optional
            As for `rows`.
        """
        made = self.rows(columns, rows, later=later)
        return np.asarray(made) if self.stored_width(len(made)) == made.code.width else made

    def stored_width(self, n: int) -> int:
        """Return how many numbers `encode` keeps of each row of a table of `n` rows."""
        code = self._layout.code
        width, packed = code.width, code.packed_width
        return packed if n * width >= _LARGE and 2 * packed <= width else width

    @property
    def code(self) -> Code:
        """How rows are packed."""
        return self._layout.code

    def read(self, columns: Columns, only: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Return the columns that are used as they are understood, before they are encoded.

        Parameters
        ----------
        columns : Table, frame, or mapping of str to array of shape (n,)
            As for `transform`.
        only : collection of str, optional
            Names of some of the columns that are used; the others need not be there.

        Returns
        -------
        dict of str to array of shape (n,)
            Numbers as float64 with NaN for missing ones, dates as ``datetime64[us]``, categories as they came.

        Examples
        --------
        >>> table = {"size": np.array([1.0, 2.0, 4.0]), "town": np.array(["a", "b", "a"], dtype=object)}
        >>> TableEncoder().fit(table).read({"town": table["town"][:1], "size": np.array(["1.50"], dtype=object)})
        {'size': array([1.5]), 'town': array(['a'], dtype=object)}
        """
        arrays, read = self._present(columns, only), {}
        for column in self._columns:
            if column.name not in arrays:
                continue
            array = arrays[column.name]
            read[column.name] = array if isinstance(column, _Category) else understood(column, array)
        return read

    def remarks(self, columns: Columns) -> list[str]:
        """Say in sentences what `transform` does to gaps and unknown categories in these rows.

        Parameters
        ----------
        columns : Table, frame, or mapping of str to array of shape (n,)
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
                gaps = int(np.isnan(column.numbers(array)).sum())
                how = f"imputed with {column.fill:g}"
            elif isinstance(column, DateColumn):
                gaps, how = int(np.isnat(column.times(array)).sum()), "imputed"
            else:
                codes = column.codes(array)
                gaps, how = int((codes == -2).sum()), "encoded as zeros"
                new = Counter(as_texts(array[codes == -1]))
                if new:
                    pool = "put with the rare ones" if column.pooled else "encoded as zeros"
                    what = f"categories that training did not keep ({quote(k for k, _ in new.most_common())})"
                    remarks.append(f"{column.name}: {plural(new.total(), 'value')} in {what}, {pool}.")
            if gaps:
                remarks.append(f"{column.name}: {plural(gaps, 'missing value')} {how}.")
        return remarks

    def to_dict(self) -> dict[str, Any]:
        """Return options, notes and fitted state as JSON-able values."""
        options = options_of(self)
        for name, default in (("dayfirst", None), ("values_first", False)):
            if options[name] is default:
                del options[name]  # older versions read such an encoder too
        return {**options, "notes": list(self.notes), "columns": [column_to_dict(column) for column in self._columns]}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> TableEncoder:
        """Rebuild an encoder from `to_dict`, also after a round trip through JSON.

        Raises
        ------
        FileFormatError
            If an entry is missing or of no known kind.
        """
        with reading("TableEncoder.from_dict", "what to_dict() returns"):
            expect(state, _SCHEMA)
            rest = dict(state)
            notes, fitted = rest.pop("notes"), rest.pop("columns")
            encoder = cls(**rest)
            encoder.notes = list(notes)
            encoder._columns = [column_from_dict(entry) for entry in fitted]
            if not all(column.feature_names for column in encoder._columns):
                raise ValueError("a column of which nothing is used")
        return encoder

    def _arrays(self, columns: Mapping[str, npt.ArrayLike], names: list[str]) -> dict[str, npt.NDArray[Any]]:
        """Read the named columns and check that they have one length."""
        arrays = {name: read_column(name, columns[name]) for name in names}
        lengths = {array.shape[0]: name for name, array in arrays.items()}
        if len(lengths) > 1:
            (a, first), (b, second) = list(lengths.items())[:2]
            raise ShapeError(
                f"TableEncoder: expected columns of one length, got {a} rows in {first!r} and {b} in "
                f"{second!r}. Give each column the same rows."
            )
        return arrays

    def _present(self, columns: Columns, only: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Read the columns that were fitted, or only some of them, or list those that are not there."""
        if not self._columns:
            raise DataError("TableEncoder: expected a fitted encoder, got one that never saw data. Call fit first.")
        columns = as_columns(columns.written if isinstance(columns, Table) else columns, "TableEncoder.transform")
        wanted = [name for name in self.feature_names_in if only is None or name in only]
        absent = [name for name in wanted if name not in columns]
        if absent:
            raise DataError(
                f"TableEncoder.transform: expected the training columns, got none named {quote(absent, 20)}. "
                f"There are {quote(columns, 20)}. Check the header, or train without the missing ones."
            )
        return self._arrays(columns, wanted)

    def _expect_names(self, given: Iterable[str]) -> None:
        """Refuse options for columns that are not there."""
        given = list(given)
        for name in (*self.categorical, *self.numeric):
            if name not in given:
                raise OptionError(
                    f"TableEncoder: expected column names, got {name!r}. {suggest(name, given)} "
                    f"There are {quote(given, 20)}."
                )

    def _fit_columns(
        self,
        arrays: dict[str, npt.NDArray[Any]],
        spelt: Mapping[str, Spelling],
        seen: Mapping[str, Seen],
        rows: npt.NDArray[np.integer] | None = None,
    ) -> None:
        """Fit all columns, on some rows; where arrays are a sample, `seen` is what all rows say."""
        self.notes, self._columns = [], []
        for name in list(arrays):  # a copy of one column at a time
            fitted = self._fit_column(name, _some(arrays.pop(name), rows), spelt.get(name), seen.get(name))
            if fitted is not None:
                self._columns.append(fitted)
        if not self._columns:
            raise DataError(f"TableEncoder.fit: expected a column that varies, got none. {' '.join(self.notes)}")

    def _fit_column(
        self, name: str, array: npt.NDArray[Any], spelling: Spelling | None, seen: Seen | None
    ) -> _Number | _Category | DateColumn | None:
        if name in self.categorical:
            return self._fit_category(name, date_texts(array) if array.dtype.kind == "M" else array, seen)
        if array.dtype.kind == "M":
            return self._fit_date(name, array, DateFormat())
        if name in self.numeric or not (is_text(array) or (seen is not None and seen.kind == "text")):
            return self._fit_number(name, array, spelling, seen)
        found = find_dates(array, dayfirst=self.dayfirst)
        if isinstance(found, DateFormat):
            return self._fit_date(name, array, found)
        if isinstance(found, Mixed):
            self.notes.append(f"{name}: taken as text. {found.seen} {found.advice}")
        return self._fit_category(name, array, seen)

    def _fit_date(self, name: str, array: npt.NDArray[Any], written: DateFormat) -> DateColumn | None:
        times = array if array.dtype.kind == "M" else written.parse(array, name)

        def fit_number(part: str, values: Floats) -> _Number:
            notes, self.notes = self.notes, []  # of the column one thing is said
            number = self._fit_number(part, values, PLAIN)
            self.notes = notes
            if number is None:
                raise DataError(f"column {part!r}: expected numbers, got none.")
            elapsed, day = (part == f"{name}:{which}" for which in ("elapsed", "day"))
            # One flag is enough, and days of a month need no bins.
            return replace(number, flagged=number.flagged and elapsed, edges=() if day else number.edges)

        made = DateColumn.fit(name, times, written, fit_number, elapsed_alone=name in self.numeric)
        if isinstance(made, str):
            self.notes.append(f"{name}: left out, {made}.")
            return None
        self.notes.append(made.describe(times))
        return made

    def _fit_number(
        self, name: str, array: npt.NDArray[Any], spelling: Spelling | None, seen: Seen | None = None
    ) -> _Number | None:
        if spelling is None:
            found = find_spelling(as_texts(array), name=name, numeric=True) if is_text(array) else None
            spelling = found if isinstance(found, Spelling) else Spelling()
        x = read_numbers(name, array, spelling)
        boolean = array.dtype.kind == "b" or (
            array.dtype.kind == "O" and all(isinstance(value, bool | np.bool_) or is_missing(value) for value in array)
        )
        missing = np.isnan(x)
        present = x[~missing] if missing.any() else x
        gaps = x.size - present.size if seen is None else seen.gaps
        if present.size == 0:
            self.notes.append(f"{name}: left out, every value is missing.")
            return None
        many, low, high, mean = present.size, present.min(), present.max(), float(present.mean())
        if seen is not None and seen.kind == "numbers":
            many, low, high, mean = seen.moments.n, seen.low, seen.high, float(seen.moments.mean())
        center = float(np.median(present))
        fill = center if self.impute == "median" else mean
        if low == high:
            rest = "; a 0/1 column flags the missing values" if gaps else ""
            self.notes.append(f"{name}: left out, every value is {low:g}{rest}.")
            return _Number(name, fill, center, 0.0, True, (), spelling, boolean) if gaps else None
        if gaps:
            how = f"imputed with the {self.impute} {fill:g}, flagged by a 0/1 column"
            self.notes.append(f"{name}: {plural(gaps, 'missing value')} {how}.")
        elif many > 20 and high - low == many - 1 and np.unique(x).size == x.size and (x == np.trunc(x)).all():
            self.notes.append(
                f"{name}: numbers the rows from {low:g} to {high:g}; if it is an identifier, train without it."
            )
        bins = min(_MOST_BINS, many // _ROWS_PER_BIN) if self.bins == "auto" else self.bins
        edges = edges_of(present, bins) if bins >= 2 else ()
        spread = spread_of(present, center) or float(high - low) / 2  # a sample may be constant where not all rows are
        return _Number(name, fill, center, spread, gaps > 0, edges, spelling, boolean)

    def _fit_category(self, name: str, array: npt.NDArray[Any], seen: Seen | None = None) -> _Category | None:
        counts, gaps = _counted(array) if seen is None else (seen.counts, seen.gaps)
        why = _tells_nothing(counts, gaps, self.max_categories)
        kept, rest = ((), 0) if why or counts is None else self._categories_kept(counts)
        if why is None and not kept:
            why = f"no category has {self.min_count} rows"
        if why is not None or counts is None:
            self.notes.append(f"{name}: left out, {why}.")
            return None
        if rest:
            rows = plural(counts.total() - sum(counts[c] for c in kept), "row")
            self.notes.append(f"{name}: of {len(counts)} categories the {rest} rarest ({rows}) share one column.")
        if gaps:
            self.notes.append(f"{name}: {plural(gaps, 'missing value')} encoded as zeros.")
        return _Category(name, kept, rest > 0)

    def _categories_kept(self, counts: Counter[str]) -> tuple[tuple[str, ...], int]:
        """Return the categories that get a column each, the most frequent first, and how many others there are."""
        # Equal counts by name, so that the order of the rows does not decide the order of the columns.
        ranked = sorted(counts, key=lambda c: (-counts[c], c))
        kept = [c for c in ranked if counts[c] >= self.min_count]
        if len(kept) < len(ranked) or len(kept) > self.max_categories:
            kept = kept[: self.max_categories - 1]
        if kept and len(ranked) - len(kept) == 1:  # a pool of one is that category under another name
            kept = ranked
        return tuple(kept), len(ranked) - len(kept)


def _counted(array: npt.NDArray[Any]) -> tuple[Counter[str], int]:
    """Return how many rows each word of a column has, and how many have none."""
    if isinstance(array, Written) and array.numbers is None:
        counts = Counter({word: n for word, n in array.counts().items() if word})
    else:
        counts = Counter(text for text in as_texts(array) if text is not None)
    return counts, len(array) - counts.total()


def _tells_nothing(counts: Counter[str] | None, gaps: int, most: int) -> str | None:
    """Return why nothing can be learned from words that have so many rows; None where something can."""
    if counts is None:
        return f"more than {MOST_DISTINCT:,} different values look like an identifier or free text"
    if not counts:
        return "every value is missing"
    if len(counts) == 1 and not gaps:
        return f"every value is {next(iter(counts))!r}"
    if len(counts) > most and 2 * len(counts) > counts.total():
        return f"{len(counts)} different values in {counts.total()} rows look like an identifier or free text"
    return None


def _some(array: Any, rows: npt.NDArray[np.integer] | None) -> Any:
    """Return some rows of a column, by default all."""
    if rows is None:
        return array
    if isinstance(array, Written) and array.numbers is None:
        return array.take(rows)
    return np.asarray(array)[rows]

"""Workbooks (.xlsx): the cells of one sheet as the text that a CSV file of it would hold."""

from __future__ import annotations

import datetime
import warnings
import zipfile
import zlib
from typing import Any
from xml.etree.ElementTree import ParseError

from ..arguments import suggest
from ..errors import DataError, FileFormatError
from ..files import EXPANSION, PathLike, existing_file
from ..optional import needs
from .arrow import spelt_time
from .columns import label_key, quote
from .rows import Rows, columns_of

__all__ = ["read_sheet"]

# What openpyxl raises for what is no workbook: XML is parsed, and its values are looked up and converted.
_DAMAGED: tuple[type[Exception], ...] = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(AssertionError, MemoryError, ParseError, zipfile.BadZipFile, zlib.error),
)


def read_sheet(path: PathLike, sheet: str | None = None) -> tuple[Rows, list[str]]:
    """Read the cells of a sheet, the first if none is named, a header included; and in sentences what was decided.

    Rows and columns that are empty are left out.  Dates are text, as in 2020-01-31, or 2020-01-31 12:00:00.

    Raises
    ------
    FileFormatError
        If the file is damaged, or would unpack to very much more than it holds.
    DataError
        If there is no such sheet, or it is empty.
    """
    file = existing_file(path, "load_table")
    with needs("openpyxl", "load_table"):
        import openpyxl
    most = EXPANSION[0] + EXPANSION[1] * file.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(info.file_size for info in archive.infolist()) > most:
                raise _too_large(path, most)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that do not matter here
            book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            try:
                name = _chosen(path, [each.title for each in book.worksheets], sheet)
                cells = _cells(path, book[name], most)
            finally:
                book.close()
    except (DataError, FileFormatError):
        raise
    except _DAMAGED as error:
        raise FileFormatError(
            f"load_table: expected a whole .xlsx workbook, got {path}, which cannot be read ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}). Open it in a spreadsheet, and save it again."
        ) from error
    if not cells:
        raise DataError(f"load_table: expected rows in sheet {name!r} of {path}, got an empty one. Name another sheet.")
    notes = []
    if len(book.worksheets) > 1 and sheet is None:
        notes.append(f"the first of {len(book.worksheets)} sheets is read, {name!r}; sheet= names another")
    return Rows(columns_of(cells)), notes


def _too_large(path: PathLike, most: int) -> FileFormatError:
    return FileFormatError(
        f"load_table: expected at most {most:,} bytes from {path}, got more. It is damaged or made to fill memory; if "
        "it is right, save the sheet as CSV."
    )


def _chosen(path: PathLike, names: list[str], sheet: str | None) -> str:
    if not names:
        raise DataError(f"load_table: expected a sheet of cells in {path}, got none. Save the table as CSV.")
    if sheet is not None and sheet not in names:
        raise DataError(
            f"load_table: expected a sheet of {path}, got {sheet!r}. {suggest(sheet, names)} There are "
            f"{quote(names, 20)}."
        )
    return sheet if sheet is not None else names[0]


def _cells(path: PathLike, sheet: Any, most: int) -> list[list[str]]:
    """Return the rows that hold something, without the columns at both sides that hold nothing."""
    rows: list[list[str]] = []
    taken, first, last = 0, None, 0
    for row in sheet.iter_rows(values_only=True):
        taken += 8 * (len(row) + 1)
        if taken > 8 * most:
            raise _too_large(path, most)
        cells = [_text(value) for value in row]
        filled = [k for k, cell in enumerate(cells) if cell]
        if filled:
            first = filled[0] if first is None else min(first, filled[0])
            last = max(last, filled[-1])
            rows.append(cells)
    return [[*cells, *[""] * (last + 1 - len(cells))][first : last + 1] for cells in rows]


def _text(value: Any) -> str:
    """Return a cell as text."""
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return spelt_time(value)
    if isinstance(value, datetime.timedelta):
        return label_key(value.total_seconds())
    return label_key(value)

"""Tables from files of any kind: text, Parquet, Arrow, workbooks; told by their first bytes, not by their names."""

from __future__ import annotations

import codecs
import dataclasses
import re
import zipfile
from collections.abc import Collection
from typing import Literal

from ..errors import FileFormatError
from ..files import PathLike, existing_file
from .arrow import read_arrow, read_parquet
from .csv import MISSING, Layout, Table, load_csv, named_table, table_of
from .sheets import read_sheet

__all__ = ["load_table"]

_FORMS = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow", b"FEA1": "old feather"}
_FORMS |= {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "old workbook",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"SQLite format 3": "SQLite",
    **dict.fromkeys((b"<stata_dta>", b"r\x01\x01", b"r\x02\x01", b"s\x01\x01", b"s\x02\x01"), "Stata"),
    b"$FL2": "SPSS",
    b"\x80\x04": "pickle",
    b"\x80\x05": "pickle",
    b"version https://git-lfs": "Git LFS",
}
# Text that is no table by rows.
_TEXTS = {
    "JSON": re.compile(rb"\s*(?:\[\s*\{|\{\s*\")"),
    "HTML": re.compile(rb"\s*<(?:!doctype html|html)\b", re.IGNORECASE),
    "XML": re.compile(rb"\s*<\?xml\b"),
}
_INSTEAD = {
    "old feather": "Write it with pyarrow.feather.write_feather, or as Parquet.",
    "old workbook": "Save it as .xlsx or as CSV.",
    "OpenDocument": "Save it as .xlsx or as CSV.",
    "HDF5": "Write the table as Parquet or CSV.",
    "SQLite": "Write the table as Parquet or CSV.",
    "Git LFS": "Fetch the table itself with git lfs pull.",
    "HTML": "It may be an error page: fetch the table again.",
    **{
        form: f"Write the table as Parquet or CSV: pandas reads it with {reader}."
        for form, reader in {
            "JSON": "read_json",
            "Stata": "read_stata",
            "SPSS": "read_spss",
            "XML": "read_xml",
        }.items()
    },
    "pickle": "Nothing is read that could run code: write the table as Parquet or CSV.",
}


def load_table(
    path: PathLike,
    *,
    target: str | int | None = None,
    sheet: str | None = None,
    header: bool | Literal["auto"] = "auto",
    delimiter: str = "auto",
    encoding: str | None = None,
    comment: str = "",
    missing: Collection[str] = MISSING,
    decimal: Literal[".", ","] | None = None,
    categorical: Collection[str] = (),
    numeric: Collection[str] = (),
    like: Table | None = None,
) -> Table:
    """Read a table from a file: CSV and its like, plain or compressed, Parquet, Arrow (Feather), or .xlsx.

    What kind of file it is, its first bytes say.  Parquet and Arrow need pyarrow, workbooks openpyxl: ``pip install
    'xpnn[files]'``.  A typed column becomes what a CSV file of the same table would hold: whole numbers keep all their
    digits, booleans are ``True`` and ``False``, dates and times text such as ``2020-01-31 12:00:00+01:00``, durations
    seconds; a dictionary of numbers is categorical.  Lists, records and bytes are left out, with a note.

    Parameters
    ----------
    path : path
        The file.
    target : str or int, optional
        The column to predict, as for `load_csv`.
    sheet : str, optional
        The sheet of a workbook, by default its first.
    header, delimiter, encoding, comment : optional
        As for `load_csv`; a workbook takes `header` of these, a file of typed columns none.
    missing, decimal, categorical, numeric, like : optional
        As for `load_csv`.

    Returns
    -------
    Table
        The columns, and in ``notes`` what was decided.

    Raises
    ------
    DataError, FileFormatError, OptionError
        As `load_csv`, and if the file is of a kind that is not read.
    MissingPackageError
        If a package is needed that is not installed.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "people.tsv"
    ...     _ = path.write_text("age\\twork\\n39\\tState-gov\\n?\\tPrivate\\n")
    ...     table = load_table(path)
    >>> table.columns["age"]
    array([39., nan])
    """
    form = _form_of(path)
    if form == "text":
        return load_csv(
            path,
            target=target,
            header=header,
            delimiter=delimiter,
            encoding=encoding,
            comment=comment,
            missing=missing,
            decimal=decimal,
            categorical=categorical,
            numeric=numeric,
            like=like,
        )
    layout = Layout(target, header, frozenset(missing), decimal, categorical, numeric, like)
    if form == "workbook":
        rows, notes = read_sheet(path, sheet)
        return table_of(rows, layout, path, notes)
    if form in ("parquet", "arrow"):
        typed = read_parquet(path) if form == "parquet" else read_arrow(path)
        layout = dataclasses.replace(layout, categorical=[*categorical, *typed.categorical])
        return named_table(typed.rows, typed.names, layout, typed.notes)
    raise FileFormatError(f"load_table: expected a table, got {path}, which is {_article(form)}. {_INSTEAD[form]}")


def _form_of(path: PathLike) -> str:
    """Tell by its first bytes what a file is."""
    file = existing_file(path, "load_table")
    with file.open("rb") as content:
        head = content.read(32)
    form = next((form for magic, form in _FORMS.items() if head.startswith(magic)), "text")
    if form == "text":
        head = head.removeprefix(codecs.BOM_UTF8)
        form = next((form for form, begins in _TEXTS.items() if begins.match(head)), "text")
    if head.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(file) as archive:
                names = set(archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return "text"  # which says that it is damaged
        return "workbook" if "[Content_Types].xml" in names else "OpenDocument" if "content.xml" in names else "text"
    return form


def _article(form: str) -> str:
    return {"old feather": "a Feather file of version 1", "old workbook": "a workbook of old (.xls)"}.get(
        form, f"of kind {form}"
    )

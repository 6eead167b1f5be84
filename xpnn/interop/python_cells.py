"""How a Python file that stands alone reads cells: the text of its functions, each as the encoder of a table reads."""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from typing import Any

from ..data.dates import MONTHS
from ..data.spelling import ALIKE, MISSING_WORDS, PLAIN, Spelling

__all__ = ["cell_readers", "number_options"]

_GONE = '''
def _gone(cell):
    """Return whether a cell holds nothing: None, NaN, NaT, NA, or a word for no value."""
    if isinstance(cell, str):
        return cell.strip().translate(ALIKE).casefold() in MISSING_WORDS
    try:
        return cell is None or bool(cell != cell)
    except (TypeError, ValueError):
        return True
'''
#: Functions that read a cell, by kind of input.
_READERS = {
    "_text": '''
def _text(cell, numbers=False):
    """Return text without spaces around it, empty where it is missing; `numbers`: each in one spelling."""
    if not isinstance(cell, str) and _gone(cell):
        return ""
    if isinstance(cell, np.datetime64):
        cell = str(cell.astype("M8[us]")).removesuffix(".000000").removesuffix("T00:00:00")
    text = str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
    if numbers and (whole := re.fullmatch("([+-]?)0*([0-9]+)(?:[.]0*)?", text)):
        return "-" * (whole[1] == "-" and whole[2] != "0") + whole[2]
    return text
''',
    "_number": '''
def _number(cell, decimal=".", thousands="", affix="", parentheses=False, truth=False, pattern=NUMBER):
    """Return a number, NaN where it is missing."""
    if _gone(cell):
        return math.nan
    if not isinstance(cell, str):
        return _finite(cell)
    text = cell.strip().translate(ALIKE)
    if truth and text.casefold() in ("true", "false"):
        return float(text.casefold() == "true")
    if pattern == NUMBER and not parentheses and "_" not in text:
        try:
            return _finite(text)
        except ValueError:
            pass
    enclosed = re.fullmatch("([^0-9()]*)[(]([^()]*)[)]([^0-9()]*)", text) if parentheses else None
    found = re.fullmatch(pattern, "".join(enclosed.groups()).strip() if enclosed else text)
    if found is None:
        raise ValueError(f"expected a number as in training, got {cell!r}")
    part = found.groupdict()
    number = _finite((part["body"].replace(thousands, "") if thousands else part["body"]).replace(decimal, "."))
    signs, signed = part["sign"] + part["inner"], bool(part["before"]) + bool(part["after"])
    if len(signs) > 1 or (enclosed and signs) or signed != (affix != "") and (number or signed):
        raise ValueError(f"expected a number as in training, got {cell!r}")
    return -number if enclosed or signs == "-" else number


def _finite(cell):
    number = float(cell)
    if abs(number) > 1e100:
        raise ValueError(f"expected a finite number (at most 1e100), got {cell!r}")
    return number
''',
    "_code": '''
def _code(cell):
    """Return the number of a category, NaN where it is missing, and infinity where it is no number."""
    if cell == "" if isinstance(cell, str) else _gone(cell):
        return math.nan
    try:
        return math.inf if isinstance(cell, (bool, np.bool_)) or "_" in str(cell) else float(cell)
    except ValueError:
        return math.inf
''',
    "_time": '''
def _time(cell, pattern=""):
    """Return the seconds since 1970-01-01T00:00, NaN where it is missing."""
    if _gone(cell):
        return math.nan
    if not isinstance(cell, str):
        if isinstance(cell, (int, float, np.integer, np.floating)):
            return float(cell)
        time = np.datetime64(cell.replace(tzinfo=None) if getattr(cell, "tzinfo", None) else cell, "us")
        return int(time.astype(np.int64)) / 1e6
    found = re.fullmatch(pattern, cell.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"expected a date as in training, got {cell!r}")
    part = {name: text or "" for name, text in found.groupdict().items()}
    month = MONTHS.index(part["name"].lower()) + 1 if part.get("name") else int(part["month"])
    hour = int(part["hour"] or 0)
    if part["half"]:
        hour = hour % 12 + (12 if part["half"].lower().startswith("p") else 0)
    day = f"{part['year']}-{month:02}-{int(part['day'] or 1):02}T{hour:02}:{part['minute'] or '00'}"
    time = np.datetime64(f"{day}:{part['second'] or '00'}.{part['part'].ljust(6, '0')[:6]}", "us")
    return int(time.astype(np.int64)) / 1e6
''',
}
_COLUMNS = '''
def _column(columns, name, read, dtype, **options):
    """Return a column as the model takes it."""
    if name not in columns:
        raise KeyError(f"expected the column {name!r}, got {list(columns)}")
    cells = columns[name]
    kind = getattr(getattr(cells, "dtype", None), "kind", "")
    if kind == "M":  # what the clock shows
        cells = cells.dt.tz_localize(None) if getattr(cells.dtype, "tz", None) is not None else cells
        cells = list(np.asarray(cells, "M8[us]"))
    elif kind == "m":
        spans = np.asarray(cells, "m8[us]")
        cells = np.where(np.isnat(spans), np.nan, spans.astype(np.int64) / 86400e6).tolist()
    elif kind == "f" and cells.dtype.itemsize < 8:  # with the digits of their own precision
        cells = [cell if _gone(cell) else float(str(cell)) for cell in np.asarray(cells)]
    else:
        cells = cells.tolist() if hasattr(cells, "tolist") else list(cells)
    made = np.empty((len(cells), 1), dtype)
    for row, cell in enumerate(cells):
        try:
            made[row] = read(cell, **options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"column {name!r}, row {row + 1}: {error}") from None
    return made
'''


def cell_readers(names: Collection[str]) -> str:
    """Return the text of functions that read cells of these kinds, such as ``_number``, and of `_column`.

    Examples
    --------
    >>> "def _time" in cell_readers(["_number"])
    False
    """
    words = textwrap.wrap(", ".join(map(ascii, sorted(MISSING_WORDS))), 110, break_long_words=False)
    inner = "\n".join(f"    {line.rstrip()}" for line in words)
    head = f"MISSING_WORDS = {{\n{inner},\n}}\nALIKE = {ALIKE!a}\nMONTHS = {list(MONTHS)!a}\nNUMBER = {PLAIN.pattern!a}"
    readers = (text for name, text in _READERS.items() if name in names)
    return "\n\n\n".join(text.strip("\n") for text in (head, _GONE, *readers, _COLUMNS))


def number_options(spelling: Spelling) -> dict[str, Any]:
    """Return what ``_number`` is told of how a column's numbers are written; nothing where as Python has them.

    Examples
    --------
    >>> number_options(Spelling()), sorted(number_options(Spelling(affix="%")))
    ({}, ['affix', 'pattern'])
    """
    if spelling.plain:
        return {}
    spelt, plain = spelling.to_dict(), PLAIN.to_dict()
    options = {name: value for name, value in spelt.items() if value != plain[name] and name != "minus"}
    return options | {"pattern": spelling.pattern}

"""Cells of text as a Python file on its own reads them, beside how the encoder of a table does."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.data.dates import DateFormat
from xpnn.data.spelling import Spelling
from xpnn.errors import DataError
from xpnn.interop.python import to_python
from xpnn.interop.python_cells import cell_readers, number_options
from xpnn.tabular import TabularRegressor

NAMES = {"math": math, "np": np, "re": re}
exec(cell_readers(["_number", "_text", "_code", "_time"]), NAMES)

MARKS = [(".", ""), (",", ""), (".", ","), (".", " "), (".", "'"), (",", "."), (",", " "), (",", "'")]
SPELLINGS = [
    Spelling(decimal, thousands, affix, parentheses=enclosed)  # type: ignore[arg-type]
    for decimal, thousands in MARKS
    for affix in ("", "%", "$", "kg", "EUR")
    for enclosed in (False, True)
]
PIECES = [
    "0",
    "1",
    "12",
    "123",
    "000",
    ".",
    ",",
    " ",
    "'",
    "-",
    "+",
    "\u2212",
    "(",
    ")",
    "%",
    "$",
    "kg",
    "EUR",
    "e5",
    "_",
]
PIECES += ["\u00a0", "nan", "NA", "inf", "\u0661"]


def same(own, theirs):
    return own is theirs or (None not in (own, theirs) and (own == theirs or (own != own and theirs != theirs)))


@settings(max_examples=300)
@given(st.sampled_from(SPELLINGS), st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
def test_numbers_are_read_or_refused_as_in_training(spelling, cell):
    try:
        theirs = float(spelling.parse([cell])[0])
    except DataError:
        theirs = None
    if theirs is not None and abs(theirs) > 1e100:  # which the encoder refuses
        theirs = None
    try:
        own = NAMES["_number"](cell, **number_options(spelling))
    except ValueError:
        own = None
    assert same(own, theirs), (own, theirs)


@pytest.mark.parametrize(
    ("spelling", "cell", "value"),
    [
        (Spelling(thousands=","), "1,5", None),  # no thousands: 15 would be wrong
        (Spelling(affix="$"), "12", None),
        (Spelling(affix="$"), "0", 0.0),
        (Spelling(affix="$", thousands=","), "-$ 1,234.5", -1234.5),
        (Spelling(affix="$", parentheses=True), "$(3)", -3.0),
        (Spelling(",", "."), "1.234", 1234.0),
        (Spelling(), "1e101", None),
    ],
)
def test_numbers_with_marks(spelling, cell, value):
    try:
        own = NAMES["_number"](cell, **number_options(spelling))
    except ValueError:
        own = None
    assert own == value


@settings(max_examples=100)
@given(
    st.sampled_from(["ymd", "dmy", "mdy", "day name year"]),
    st.lists(
        st.sampled_from(["2020", "01", "1", "29", "2", "-", "/", ".", " ", "Feb", "T10:30", " 1:05 pm", "Z", "—"])
    ),
)
def test_dates_are_read_or_refused_as_in_training(order, pieces):
    cell, form = "".join(pieces), DateFormat(order)
    try:
        theirs = form.parse(np.asarray([cell], dtype=object), "day")[0]
    except DataError:
        theirs = None
    else:
        theirs = math.nan if np.isnat(theirs) else theirs.astype(np.int64) / 1e6
    try:
        own = NAMES["_time"](cell, pattern=form.pattern)
    except ValueError:
        own = None
    assert same(own, theirs), (own, theirs)


def test_frames_of_pandas_go_in_as_they_are(tmp_path):
    """With NaT, NA, time zones, durations, booleans, and dates and numbers that are categories."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    hours = pandas.to_timedelta(rng.integers(0, 9000, 120), unit="h")
    day = pandas.Timestamp("2020-01-01") + hours
    frame = pandas.DataFrame(
        {
            "day": day.where(rng.random(120) < 0.9),
            "zone": day.tz_localize("Europe/Berlin", ambiguous=True, nonexistent="shift_forward"),
            "wait": hours.where(rng.random(120) < 0.9),
            "rooms": pandas.array(rng.choice(np.array([1, 2, None], dtype=object), 120), dtype="Int64"),
            "code": rng.choice(np.array([0.1, 2.0], dtype=np.float32), 120),
            "id": rng.choice(np.array(["9007199254740993", "9007199254740995"]), 120),
            "garden": rng.random(120) < 0.5,
            "month": day.to_series(index=range(120)).dt.floor("30D"),
        }
    )
    options = {
        "preset": "quick",
        "epochs": 1,
        "hidden": (8,),
        "categorical": ["code", "month", "id"],
        "random_state": 0,
    }
    model = TabularRegressor(**options).fit(frame, rng.standard_normal(120))
    to_python(model, tmp_path / "predict.py", rows=frame)
    names = {"__name__": "predict"}
    exec((tmp_path / "predict.py").read_text(encoding="ascii"), names)
    other = frame.assign(id=frame["id"] + ".0")  # is the same number
    for rows in (frame, other):
        np.testing.assert_allclose(names["predict"](rows)["prediction"], model.predict(rows), rtol=1e-5, atol=1e-6)

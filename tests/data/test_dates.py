"""Dates and durations: read from any library and from text in one format, taken apart, and encoded by hand."""

from __future__ import annotations

import datetime
import json
import pickle

import numpy as np
import pytest

from xpnn.data.dates import DateFormat, Mixed, date_texts, find_dates
from xpnn.data.encoder import TableEncoder
from xpnn.errors import DataError, DTypeError, FileFormatError
from xpnn.frames import times_of

DAYS = ["2020-01-31", "2020-03-01", None, "2021-12-24"]
TIMES = np.array([d or "NaT" for d in DAYS], dtype="datetime64[us]")


def texts(*cells):
    return np.array(cells, dtype=object)


# -- columns of any library -----------------------------------------------------------------------------------------
def test_dates_of_any_library_are_one():
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    pl = pytest.importorskip("polars", reason="needs polars: pip install polars")
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    objects = [None if d is None else datetime.date.fromisoformat(d) for d in DAYS]
    series = pd.Series(pd.to_datetime(pd.Series(DAYS)))
    for values in (
        TIMES,
        TIMES.astype("M8[D]"),
        TIMES.astype("M8[ns]"),
        objects,
        np.ma.array(TIMES.astype("M8[D]"), mask=[0, 0, 1, 0]),
        series,
        series.dt.tz_localize("Asia/Tokyo"),
        series.astype(object),
        series.dt.date,
        pl.Series(objects),
        pl.Series(objects).cast(pl.Datetime("ms")),
        pl.Series(objects).cast(pl.Datetime("us")).dt.replace_time_zone("Asia/Tokyo"),
        pa.chunked_array([objects[:2], objects[2:]]),
        pa.array(objects).cast(pa.timestamp("s")),
    ):
        np.testing.assert_array_equal(times_of(values, "f"), TIMES)


def test_a_zone_shows_its_own_clock():
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    noon = datetime.datetime(2020, 7, 1, 12, tzinfo=datetime.UTC)
    there = pd.Series([noon]).dt.tz_convert("Asia/Tokyo")
    for values in (there, there.astype(object), pa.array([noon]).cast(pa.timestamp("us", "Asia/Tokyo"))):
        assert date_texts(times_of(values, "f")).tolist() == ["2020-07-01T21:00:00"]


def test_durations_and_times_of_the_day():
    pl = pytest.importorskip("polars", reason="needs polars: pip install polars")
    hours = [datetime.timedelta(hours=36), None]
    for values in (hours, np.array([36, "NaT"], dtype="m8[h]"), pl.Series(hours)):
        found = times_of(values, "f")
        assert found.dtype == "m8[us]"
        assert found.tolist() == hours
    for values in ([datetime.time(18, 30)], pl.Series([datetime.time(18, 30)])):
        assert times_of(values, "f").tolist() == [datetime.datetime(1970, 1, 1, 18, 30)]


def test_periods_are_the_times_at_which_they_begin():
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    months = pd.Series(pd.PeriodIndex(["2020-03", None], freq="M"))
    assert date_texts(times_of(months, "f")).tolist() == ["2020-03-01", None]


@pytest.mark.parametrize("values", [[1.5], ["2020-01-31"], [None], [], np.ones(2), np.array(["a", None], object)])
def test_what_is_no_date(values):
    assert times_of(values, "f") is None


def test_dates_beside_other_things():
    with pytest.raises(DTypeError, match=r"f: expected dates, or durations, alone, got date, timedelta\. Make two"):
        times_of([datetime.date(2020, 1, 1), datetime.timedelta(1)], "f")
    with pytest.raises(DTypeError, match="got date, int"):
        times_of([datetime.date(2020, 1, 1), 5], "f")


# -- text -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["2020-01-31", "2020-02-01", "2020-3-5"], "ymd"),
        (["2020/01/31 18:30", "2020/02/01 18:30:15.25", "2020/02/02T08:00:00Z"], "ymd"),
        (["2020-01", "2020-02", "2020-12"], "ymd"),
        (["31.01.2020", "1.2.2020", "NULL", None, "2.2.2020"], "dmy"),
        (["1/31/2020", "2/1/2020 6:30 PM", "2/2/2020"], "mdy"),
        (["3 Jan 2020", "04-February-2020", "5 Mar. 2020"], "day name year"),
        (["Jan 3, 2020", "February 4 2020", "Mar. 5, 2020"], "name day, year"),
    ],
)
def test_the_order_is_found(cells, order):
    found = find_dates(texts(*cells))
    assert found == DateFormat(order)
    read = found.parse(texts(*cells), "day")
    assert np.isnat(read).tolist() == [cell in (None, "NULL") for cell in cells]


def test_what_a_cell_says():
    read = {
        ("ymd", "2020-01-31T18:30:15.25+02:00"): "2020-01-31T18:30:15.250000",
        ("mdy", "2/1/2020 12:05 am"): "2020-02-01T00:05:00",
        ("mdy", "2/1/2020 12:05 p.m."): "2020-02-01T12:05:00",
        ("ymd", "2020-01"): "2020-01-01",
        ("name day, year", "dec 24, 2021"): "2021-12-24",
    }
    for (order, cell), expected in read.items():
        assert date_texts(DateFormat(order).parse(texts(cell), "day")).tolist() == [expected]


@pytest.mark.parametrize(
    "cells",
    [
        ["2020-01-31", "2024-02-29", "0001-01-01"],
        ["2020-01-31 18:30:15", "2020-01-31T00:00:59"],
        ["2020-01-31", "2020-02-30"],
        ["2020-01-31", "2020-1-31"],
        ["2020-01-31", "20200-1-31"],
        ["2020-01-31 18:30:15", "2020-01-31 24:00:00"],
        ["2020-01-31 18:30:15", "2020-01-31x18:30:15"],
    ],
)
def test_many_cells_at_once_are_read_as_each_is(cells):
    def outcome(parse):
        try:
            return parse().tolist()
        except DataError as error:
            return str(error)

    alone = [outcome(lambda c=c: DateFormat().parse(texts(c, " "), "day")[:1]) for c in cells]
    together = outcome(lambda: DateFormat().parse(texts(*cells), "day"))
    if isinstance(together, str):
        assert any(isinstance(each, str) for each in alone)
    else:
        assert together == [each for one in alone for each in one]


@pytest.mark.parametrize(
    "cells", [["a", "b", "c"], ["1.5", "2.5", "3.5"], ["10.0.0.1"] * 3, ["2020-13-01", "2020-14-01", "2020-15-01"]]
)
def test_what_is_no_date_in_text(cells):
    assert find_dates(texts(*cells)) is None


def test_two_formats_are_told():
    mixed = texts("2020-01-31", "2020-02-01", "31.12.2020")
    assert find_dates(mixed).seen == "Dates in two formats, such as '2020-01-31' and '31.12.2020'."
    hidden = texts("1/2/2020", "31/1/2020", "2/1/2020", "1/31/2020")
    assert find_dates(hidden).seen == "Dates in two formats, such as '31/1/2020' and '1/31/2020'."
    stray = texts(*[f"2020-01-{d:02}" for d in range(1, 29)], "someday")
    assert find_dates(stray).seen == "Dates, such as '2020-01-01', beside 'someday'."


def test_day_or_month_first_is_not_guessed():
    cells = texts("1/2/2020", "2/1/2020", "3/1/2020")
    assert isinstance(find_dates(cells), Mixed)
    assert find_dates(cells, dayfirst=True) == DateFormat("dmy")
    assert find_dates(cells, dayfirst=False) == DateFormat("mdy")
    encoder = TableEncoder().fit({"day": cells})
    assert encoder.notes == [
        "day: taken as text. Dates such as '1/2/2020' have the day or the month first. Write them as 2020-01-31, "
        "or say --dayfirst yes or no, in Python dayfirst=True or False."
    ]
    assert encoder.feature_names_out == ["day=1/2/2020", "day=2/1/2020", "day=3/1/2020"]
    assert TableEncoder(dayfirst=True).fit({"day": cells}).notes[0].startswith("day: dates from 2020-01-02 to 2020-02-")


# -- what becomes of them -------------------------------------------------------------------------------------------
def test_parts_by_hand():
    encoder = TableEncoder(clip=None).fit({"when": TIMES})
    parts = ("elapsed", "elapsed:missing", "year", "month", "month:sin", "month:cos", "day", "weekday")
    assert encoder.feature_names_out == [f"when:{part}" for part in (*parts, "weekday:sin", "weekday:cos")]
    got = dict(zip(encoder.feature_names_out, encoder.transform({"when": TIMES}).T, strict=True))
    days = np.array([0.0, 30.0, 693.0])  # median 30, quartiles 15 and 361.5
    np.testing.assert_allclose(got["when:elapsed"], [*((days - 30) / 346.5)[:2], 0.0, 663 / 346.5], rtol=1e-6)
    assert got["when:elapsed:missing"].tolist() == [0, 0, 1, 0]
    month = 2 * np.pi * np.array([1, 3, 12]) / 12
    np.testing.assert_allclose(got["when:month:sin"], [*np.sin(month[:2]), 0, np.sin(month[2])], atol=1e-6)
    weekday = 2 * np.pi * np.array([5, 7, 5]) / 7  # Friday, Sunday, Friday
    np.testing.assert_allclose(got["when:weekday:cos"], [*np.cos(weekday[:2]), 0, np.cos(weekday[2])], atol=1e-6)
    assert encoder.notes == [
        "when: dates from 2020-01-31 to 2021-12-24, read as elapsed, year, month, day and weekday; 1 missing value "
        "imputed, flagged by a 0/1 column."
    ]
    assert encoder.remarks({"when": TIMES}) == ["when: 1 missing value imputed."]


def test_only_parts_that_vary():
    hours = np.datetime64("2020-01-31", "h") + np.arange(20)
    found = TableEncoder(bins=4).fit({"when": hours})
    assert {name.split(":")[1] for name in found.feature_names_out} == {"hour"}
    years = np.array(["2018-07-01", "2019-07-01", "2020-07-01"], dtype="M8[D]")
    names = TableEncoder().fit({"when": years}).feature_names_out
    assert {name.split(":")[1] for name in names} == {"elapsed", "year", "weekday"}
    alone = TableEncoder(numeric=["when"]).fit({"when": years}).feature_names_out
    assert alone == ["when:elapsed"]
    words = TableEncoder(categorical=["when"]).fit({"when": years})
    assert words.feature_names_out == [f"when=20{y}-07-01" for y in (18, 19, 20)]
    np.testing.assert_array_equal(
        words.transform({"when": years}), words.transform({"when": texts("2018-07-01", "2019-07-01", "2020-07-01")})
    )


def test_a_model_of_frames_reads_files_and_the_other_way_round():
    written = texts("31.01.2020", "01.03.2020", None, "24.12.2021")
    for fitted in (TIMES, written, texts(*DAYS)):
        encoder = TableEncoder(bins=2).fit({"when": fitted})
        expected = encoder.transform({"when": fitted})
        np.testing.assert_array_equal(encoder.transform({"when": TIMES}), expected)
        loaded = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
        np.testing.assert_array_equal(loaded.transform({"when": fitted}), expected)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform({"when": fitted}), expected)
    np.testing.assert_array_equal(
        encoder.transform({"when": np.full(2, np.nan)}), encoder.transform({"when": texts(None, None)})
    )


def test_durations_are_days():
    waits = np.array([12, 36, "NaT"], dtype="m8[h]")
    encoder = TableEncoder(clip=None).fit({"wait": waits})
    np.testing.assert_allclose(encoder.transform({"wait": waits}), [[-1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(
        encoder.transform({"wait": np.array([0.5, 1.5, np.nan])}), encoder.transform({"wait": waits})
    )


@pytest.mark.parametrize(
    ("fitted", "given", "message"),
    [
        (
            TIMES,
            texts("31.12.2020"),
            r"expected a date \(year-month-day, as in training\), got '31.12.2020' in data ro",
        ),
        (TIMES, np.array([np.nan, 7.0]), "expected dates, as in training, got numbers such as 7. Give the column"),
        (np.arange(3.0), TIMES, "expected numbers, got dates such as 2020-01-31. Give the column that the model"),
        (texts("a", "b", "c"), np.arange(3), "expected the categories 'a', 'b', 'c', got numbers such as 0"),
    ],
)
def test_another_kind_of_column(fitted, given, message):
    encoder = TableEncoder().fit({"when": fitted})
    with pytest.raises(DataError, match=f"column 'when': {message}"):
        encoder.transform({"when": given})


@pytest.mark.parametrize(
    "change", [{"order": "dym"}, {"origin": "NaT"}, {"parts": ["elapsed", "week"]}, {"numbers": []}]
)
def test_a_damaged_state(change):
    state = TableEncoder().fit({"when": TIMES}).to_dict()
    state["columns"][0] |= change
    with pytest.raises(FileFormatError, match=r"TableEncoder.from_dict: expected what to_dict\(\) returns"):
        TableEncoder.from_dict(state)


def test_pyarrow_tables():
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    table = pa.table(
        {
            "big": pa.array([2**60 + 1, None, 5]),
            "few": pa.array([1, None, 2]),
            "text": pa.array(["u", None, "v"]).dictionary_encode(),
            "flag": pa.array([True, False, None]),
            "day": pa.array([datetime.date(2020, 1, 31), None, datetime.date(2020, 3, 1)]),
        }
    )
    columns = {
        "big": np.array([2.0**60 + 1, np.nan, 5]),
        "few": np.array([1, np.nan, 2]),
        "text": texts("u", None, "v"),
        "flag": texts(True, False, None),
        "day": TIMES[[0, 2, 1]],
    }
    for given in (table, table.to_batches()[0]):
        encoder = TableEncoder().fit(given)
        np.testing.assert_array_equal(encoder.transform(given), TableEncoder().fit(columns).transform(columns))

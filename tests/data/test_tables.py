"""Files of every kind hold the same table; compressed, encoded, commented, damaged."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import io
import lzma
import zipfile

import numpy as np
import pytest

from xpnn.data import TableEncoder, arrow, load_csv, load_table
from xpnn.errors import DataError, FileFormatError, OptionError

TEXT = "size,kind,price\n3,red,1.50\n,green,2.25\n5,red,-4.00\n"


def zipped(*names):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, "" if name.endswith("/") else TEXT)
    return made.getvalue()


def described(table):
    return (
        table.names,
        [table.cells[name].tolist() for name in table.names],
        [table.columns[n].dtype for n in table.names],
    )


@pytest.fixture
def write(tmp_path):
    def _write(content, name="table.bin"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


PACKED = {
    "gzip": gzip.compress(TEXT.encode()),
    "bzip2": bz2.compress(TEXT.encode()),
    "xz": lzma.compress(TEXT.encode()),
    "zip": zipped("folder/", "folder/t.csv", "__MACOSX/t.csv"),
}


@pytest.mark.parametrize("kind", PACKED)
def test_compressed_files_are_told_by_their_first_bytes(write, kind):
    path = write(PACKED[kind])
    assert described(load_table(path)) == described(load_csv(write(TEXT, "t.csv")))
    with pytest.raises(FileFormatError, match=f"expected a whole {kind} file, got .* Fetch or copy the file again"):
        load_table(write(PACKED[kind][:-9]))


@pytest.mark.parametrize(
    ("pack", "tool"), [(gzip.compress, "gunzip"), (bz2.compress, "bunzip2"), (lzma.compress, "unxz")]
)
def test_what_unpacks_to_very_much_is_refused(write, pack, tool):
    path = write(pack(b"1,2,3,4,5,6\n" * 4_000_000))
    with pytest.raises(
        FileFormatError, match=f"expected at most .* bytes from .*; if it is right, unpack it with {tool}"
    ):
        load_table(path)


def test_an_archive_of_several_files_is_refused(write):
    with pytest.raises(DataError, match=r"expected an archive of one file, got 2 files in .* Unpack it"):
        load_table(write(zipped("a.csv", "b.csv")))


def test_encodings_are_named(write):
    path = write("größe;x\nä;1\n".encode("cp1252"))
    with pytest.raises(FileFormatError, match=r"or pass encoding='cp1252' if it comes from Windows"):
        load_table(path)
    table = load_table(path, encoding="cp1252")
    assert table.names == ["größe", "x"]
    assert table.notes[0] == "the file is in cp1252"
    assert load_table(path, encoding="cp1252", delimiter=";").cells["größe"].tolist() == ["ä"]
    with pytest.raises(OptionError, match=r"expected the name of an encoding, got 'nope'. Usual are utf-8, cp1252"):
        load_table(path, encoding="nope")
    with pytest.raises(OptionError, match=r"expected the name of an encoding, got 'hex'"):
        load_table(path, encoding="hex")


def test_the_first_line_of_a_spreadsheet_names_the_delimiter(write):
    table = load_csv(write("sep=;\r\na;b\r\n1,5;x\r\n2,25;y,z\r\n"))
    assert table.columns["a"].tolist() == [1.5, 2.25]
    assert table.cells["b"].tolist() == ["x", "y,z"]
    assert table.notes[0] == "the first line says sep=;"


def test_comments_above_a_table_are_left_out(write):
    table = load_csv(write("# made, by hand, in May\n#\na,b\n1,2\n3,4\n"))
    assert (table.names, table.n_rows) == (["a", "b"], 2)
    assert table.notes[0] == "the first 2 lines, which begin with #, are left out"
    assert load_csv(write("#a,b\n1,2\n")).names == ["#a", "b"]  # as many cells: a header
    with pytest.raises(DataError, match=r"expected 2 cells in line 4 of .*, got 1"):
        load_csv(write("# x\na,b\n1,2\n3\n"))


def test_comments_everywhere_where_they_are_named(write):
    text = 'a,b\n%x\n1,"u\n%v"\n% 2,3\n3,y\n'
    table = load_csv(write(text), comment="%")
    assert [table.cells[name].tolist() for name in table.names] == [["1", "3"], ["u\n%v", "y"]]
    assert load_csv(write("a,b\n%x\n1,2\n"), comment="%").n_rows == 1
    assert load_csv(write("%exported\na;b\n1;2\n"), comment="%").names == ["a", "b"]  # the delimiter is told below it
    with pytest.raises(OptionError, match=r"expected a comment of one character, or '', got '//'"):
        load_csv(write(text), comment="//")


# -- typed columns ------------------------------------------------------------------------------------------------
pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'xpnn[files]'")
pytest.importorskip("openpyxl", reason="needs openpyxl: pip install 'xpnn[files]'")

N = 6
NOON = datetime.datetime(2020, 1, 31, 12)
TYPED = {
    "int": (pa.array([1, 2, None, -4, 5, 6]), ["1", "2", None, "-4", "5", "6"], True),
    "small": (pa.array([-128, 0, 1, 2, 3, 127], pa.int8()), ["-128", "0", "1", "2", "3", "127"], True),
    "huge": (pa.array([2**64 - 1, *range(5)], pa.uint64()), [str(2**64 - 1), "0", "1", "2", "3", "4"], False),
    "float": (pa.array([1.0, 0.1, None, float("nan"), 1e-7, 2.5]), ["1", "0.1", None, None, "1e-07", "2.5"], True),
    "single": (pa.array([0.1, 0.5] * 3, pa.float32()), ["0.1", "0.5"] * 3, True),
    "flag": (pa.array([True, False, None] * 2), ["True", "False", None] * 2, False),
    "text": (pa.array(["x", " y ", "NA", None, "", "z"]), ["x", "y", None, None, None, "z"], False),
    "number in text": (pa.array(["1,5", "2,25"] * 3), ["1,5", "2,25"] * 3, True),
    "date": (pa.array([datetime.date(2020, 1, 31)] * N), ["2020-01-31"] * N, False),
    "stamp": (pa.array([NOON, None] * 3, pa.timestamp("ns")), ["2020-01-31 12:00:00", None] * 3, False),
    "midnight": (pa.array([NOON.replace(hour=0)] * N, pa.timestamp("ms")), ["2020-01-31"] * N, False),
    "zone": (pa.array([NOON] * N, pa.timestamp("us", "+02:00")), ["2020-01-31 14:00:00+02:00"] * N, False),
    "far": (pa.array([10**12] * N, pa.timestamp("s")), None, False),
    "time": (pa.array([datetime.time(1, 2, 3)] * N), ["01:02:03"] * N, False),
    "duration": (pa.array([datetime.timedelta(minutes=1.5), None] * 3), ["90", None] * 3, True),
    "decimal": (pa.array([decimal.Decimal("1.50"), None] * 3), ["1.50", None] * 3, True),
    "dictionary": (pa.array(["a", "b", None] * 2).dictionary_encode(), ["a", "b", None] * 2, False),
    "codes": (pa.array([7, 8, None] * 2).dictionary_encode(), ["7", "8", None] * 2, False),
    "nothing": (pa.nulls(N), [None] * N, True),
}


@pytest.mark.parametrize("kind", ["feather", "stream", "parquet"])
def test_typed_columns_are_what_a_csv_file_would_hold(tmp_path, kind):
    table = pa.table({name: array for name, (array, _, _) in TYPED.items()} | {"list": [[1]] * N, "raw": [b"x"] * N})
    path = tmp_path / "t"
    if kind == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file:
            make = pa.ipc.new_file if kind == "feather" else pa.ipc.new_stream
            with make(file, table.schema) as writer:
                writer.write_table(table, 4)
    read = load_table(path)
    assert read.names == list(TYPED)
    for name, (_, cells, number) in TYPED.items():
        if cells is not None:
            assert read.cells[name].tolist() == cells, name
        if name != "codes" or kind != "parquet":  # Parquet forgets that numbers were a dictionary
            assert (read.columns[name].dtype == np.float64) == number, name
    assert read.columns["int"][3] == -4.0
    assert read.columns["number in text"].tolist() == [1.5, 2.25] * 3
    left_out = [note for note in read.notes if note.endswith("which is neither a number, text nor a date: left out")]
    assert [note.split()[1] for note in left_out] == ["'list'", "'raw'"]


def test_a_model_reads_every_kind_of_file_alike(tmp_path):
    import pyarrow.parquet as pq
    from openpyxl import Workbook

    train = load_csv(_written(tmp_path / "train.csv", TEXT), target="price")
    encoder = TableEncoder(bins=2).fit(train)
    expected = encoder.transform(train)
    arrays = {"size": [3, None, 5], "kind": ["red", "green", "red"], "price": [1.5, 2.25, -4.0]}
    pq.write_table(pa.table(arrays), tmp_path / "t.parquet")
    book = Workbook()
    book.active.append([])
    for row in (list(arrays), *zip(*arrays.values(), strict=True)):
        book.active.append([None, *row])
    book.create_sheet("other").append(["x"])
    book.save(tmp_path / "t.xlsx")
    for name in ("t.parquet", "t.xlsx"):
        for like in (None, train):
            table = load_table(tmp_path / name, like=like)
            assert table.names == train.names
            np.testing.assert_array_equal(encoder.transform(table), expected)
    assert load_table(tmp_path / "t.xlsx").notes[0] == "the first of 2 sheets is read, 'Sheet'; sheet= names another"
    assert load_table(tmp_path / "t.xlsx", sheet="other", header=False).cells["0"].tolist() == ["x"]
    with pytest.raises(DataError, match=r"expected a sheet of .*, got 'othr'. Did you mean 'other'?"):
        load_table(tmp_path / "t.xlsx", sheet="othr")


def _written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"PAR1" + bytes(100), FileFormatError, "expected a whole Parquet file, got .* which cannot be read"),
        (b"ARROW1\0\0" + bytes(100), FileFormatError, "expected a whole Arrow file, got .* which cannot be read"),
        (b"FEA1" + bytes(9), FileFormatError, "which is a Feather file of version 1. Write it with"),
        (bytes.fromhex("d0cf11e0a1b11ae1"), FileFormatError, r"which is a workbook of old \(.xls\). Save it as .xlsx"),
        (
            zipped("[Content_Types].xml"),
            FileFormatError,
            "expected a whole .xlsx workbook, got .* which cannot be read",
        ),
        (
            zipped("content.xml", "mimetype"),
            FileFormatError,
            "which is of kind OpenDocument. Save it as .xlsx or as CSV",
        ),
        (
            b'[\n {"a": 1},',
            FileFormatError,
            "which is of kind JSON. Write the table as .*: pandas reads it with read_json",
        ),
        (b'{"a": 1}\n{"a": 2}\n', FileFormatError, "which is of kind JSON. "),
        (b"\xef\xbb\xbf<!DOCTYPE HTML><html>", FileFormatError, "of kind HTML. It may be an error page: fetch"),
        (b'<?xml version="1.0"?>', FileFormatError, "which is of kind XML. Write"),
        (b"version https://git-lfs.github.com/spec/v1\n", FileFormatError, "kind Git LFS. Fetch .* with git lfs pull"),
        (b"\x80\x05\x95", FileFormatError, "which is of kind pickle. Nothing is read that could run code: write the"),
        (b"r\x02\x01\0\0\xc8\0\0", FileFormatError, "which is of kind Stata. .* read_stata"),
    ],
)
def test_what_is_no_table_is_refused(write, content, error, words):
    with pytest.raises(error, match=f"^load_table: .*{words}"):
        load_table(write(content))


@pytest.mark.parametrize("first", ["[x],y", "{x},y", "<a>,y", "html,y"])
def test_names_that_only_look_like_another_kind_are_names(write, first):
    assert load_table(write(f"{first}\n1,2\n", "t.csv")).names == first.split(",")


def test_few_bytes_that_say_they_hold_very_many_cells_are_refused(tmp_path):
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({f"c{k}": pa.nulls(3_000_000, pa.float64()) for k in range(20)}), path)
    with pytest.raises(
        FileFormatError, match=r"expected at most .* cells from .* got 60,000,000. It is damaged or made"
    ):
        load_table(path)


def test_a_sheet_that_says_it_is_very_wide_and_long_is_refused(tmp_path):
    from openpyxl import Workbook

    book = Workbook()
    book.active["A1"], book.active["XFD1048576"] = "x", 1
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(
        FileFormatError, match=r"expected at most .* bytes from .*, got more. It is damaged or made to fill"
    ):
        load_table(tmp_path / "t.xlsx")


def test_names_that_stand_twice_and_tables_without_rows_are_refused(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"expected different names in .*, got 'a' twice. Rename one"):
        load_table(tmp_path / "t.parquet")
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"expected rows of numbers or text in .*, got none"):
        load_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("rows", [7, 3000, 100_000])
def test_groups_of_rows_are_read_one_after_the_other(rows, tmp_path, monkeypatch):
    """pyarrow holds the groups that it is asked for until all are read, so it is asked for few at once."""
    import pyarrow.parquet as pq

    n = 200_000 if rows > 7 else 3000
    monkeypatch.setattr(arrow, "_BATCH", 6000)
    rng = np.random.default_rng(0)
    values, words = rng.normal(size=(6, n)), rng.choice(["a", "b", "c"], n)
    table = pa.table({**{f"x{k}": column for k, column in enumerate(values)}, "word": words})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=rows, use_dictionary=["word"], compression="none")
    before, held = pa.total_allocated_bytes(), []
    part = arrow._part
    monkeypatch.setattr(arrow, "_part", lambda array: (held.append(pa.total_allocated_bytes()), part(array))[1])
    found = load_table(tmp_path / "t.parquet")
    for k, column in enumerate(values):
        assert np.array_equal(np.asarray(found.columns[f"x{k}"]), column)
    assert found.columns["word"].tolist() == words.tolist()
    assert max(held) - before < 8 * 6 * max(3 * rows, 20_000)

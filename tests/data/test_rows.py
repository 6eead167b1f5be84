"""Cutting by blocks, by array work or compiled code, against Python's `csv`: the same cells, kinds, notes and lines."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.accel.native.cutter import load_cutter
from xpnn.data import blocks, cutting
from xpnn.data.cells import CellReader, decode, find_preamble, guess_delimiter
from xpnn.data.csv import Layout, load_csv, table_of
from xpnn.data.rows import Rows
from xpnn.data.written import Written
from xpnn.errors import XpnnError

CELLS = (
    *(
        "",
        "",
        " ",
        "1",
        "0",
        "-3",
        "2.50",
        "-0.0",
        "12345.678",
        "100",
        "1e5",
        "-1.5E-3",
        "inf",
        "nan",
        "+4",
        ".5",
        "5.",
    ),
    *("0.1234567890123", "0.49671415301123267", "9007199254740993", "123456789012345678", "01", "007", "1_000"),
    *("1,5", "1.234,50 €", "12%", "NA", "?", "null", "n/a", "NULL", "None", "-", "red", "green", "a b", " x", "y\t"),
    *(
        '"',
        'a"b',
        'say "no"',
        "a,b",
        "a;b",
        "line\nend",
        "cr\r\nlf",
        "ä",
        "\u00a01\u00a0",
        "\uff11",
        "x" * 70,
        "x" * 70 + "y",
    ),
    *("2020-01-02", "#1", "-", "\u22127", "99999999999999999999999", "1" * 400, "12345678", "abcdefgh", "abcdefghi"),
)


def spelt(cell: str, delimiter: str, end: str, quote: bool) -> str:
    if quote or any(mark in cell for mark in ('"', delimiter, "\n", "\r")):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def careful(content: bytes, **options) -> object:
    """A table whose cells all are words, cut by `csv`."""
    text, encoding = decode(content, "t.csv")
    preamble = find_preamble(text)
    text = text[preamble.characters :]
    delimiter = guess_delimiter(text, ())
    reader = CellReader(text, delimiter, "t.csv", preamble.lines)
    cells, left_out = reader.rows()
    names = {";": "semicolon", "\t": "tab", "|": "bar"}
    notes = [] if encoding == "UTF-8" else [f"the file is in {encoding}"]
    notes += [*preamble.notes, *([] if delimiter == "," else [f"the delimiter is a {names[delimiter]}"]), *left_out]
    columns = [Written.of([cell.strip() for cell in column]) for column in zip(*cells, strict=True)]
    return table_of(Rows(columns, reader), Layout(**options), "t.csv", notes)


def described(read) -> object:
    try:
        table = read()
    except XpnnError as error:
        return type(error), str(error).replace("\\", "/").rsplit("/", 1)[-1]
    return (
        table.names,
        table.notes,
        table.header,
        table.gaps,
        [list(gaps.items()) for gaps in table.gaps.values()],
        table.spellings,
        {name: table.cells[name].tolist() for name in table.names},
        {name: repr(table.columns[name].tolist()) for name in table.names},
        {name: table.columns[name].dtype for name in table.names},
        {name: table.missing_words(name) for name in table.names},
    )


def same(folder, content: bytes, **options) -> None:
    path = folder / "t.csv"
    path.write_bytes(content)
    there = described(lambda: careful(content, **options))
    here = described(lambda: load_csv(path, **options))
    if isinstance(there[0], type):  # the words after the path
        assert (here[0], here[1].partition("t.csv")[2]) == (there[0], there[1].partition("t.csv")[2])
    else:
        assert here == there


def use(monkeypatch, *, compiled: bool, size: int) -> None:
    """Cut blocks of some size, by compiled code or not."""
    cutter = load_cutter(compiling=True) if compiled else None
    if compiled and cutter is None:
        pytest.skip("there is no numba")
    monkeypatch.setattr(blocks, "cutter_for", lambda size: cutter)
    monkeypatch.setattr(blocks, "_BLOCK", size)
    monkeypatch.setattr(blocks, "_LARGEST", max(size, 1 << 12))
    monkeypatch.setattr(cutting, "_FIRST", size)
    monkeypatch.setattr(cutting, "_SMALLEST", size)
    monkeypatch.setattr(cutting, "_LARGEST", max(size, 1 << 12))
    monkeypatch.setattr(cutting, "_ROWS", 4 if size < 1000 else 1 << 15)


WAYS = {
    "one block": {"compiled": False, "size": 1 << 20},
    "many blocks": {"compiled": False, "size": 64},
    "compiled, one block": {"compiled": True, "size": 1 << 20},
    "compiled, many blocks": {"compiled": True, "size": 64},
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def block(request, monkeypatch):
    use(monkeypatch, **request.param)


@pytest.mark.parametrize("seed", range(150))
def test_random_tables_are_read_as_csv_reads_them(tmp_path, block, seed):
    rng = random.Random(seed)
    width, height, delimiter = rng.randint(1, 5), rng.randint(1, 60), rng.choice(",,;\t|")
    end, quote = rng.choice(["\n", "\r\n"]), rng.random() < 0.2
    pools = [rng.sample(CELLS, rng.randint(1, 6)) for _ in range(width)]
    for k in range(width):
        if rng.random() < 0.6:
            places, mark = rng.choice([3, rng.randint(0, 18)]), rng.choice("..,")
            pool = [f"{rng.gauss(0, 100):.{places}f}".replace(".", mark) for _ in range(30)]
            pools[k] = pool + rng.sample(CELLS, rng.randint(0, 1))
    lines = []
    for k in range(height):
        cells = [f"c{j}" for j in range(width)] if k == 0 and seed % 2 else [rng.choice(pool) for pool in pools]
        lines.append(delimiter.join(spelt(cell, delimiter, end, quote and rng.random() < 0.5) for cell in cells))
        if rng.random() < 0.02:
            lines.append(rng.choice(["", "  ", delimiter * (width - 1), "#x", "a" + delimiter + "b"]))
    text = end.join(lines) + rng.choice(["", end])
    content = text.encode(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    options = rng.choice([{}, {}, {"missing": frozenset(["-3", "0", "red", "2.50"])}, {"numeric": ["c0", "0"]}])
    options |= rng.choice([{}, {}, {"categorical": ["c0", "0"]}, {"decimal": ","}])
    same(tmp_path, content, **options)


@settings(max_examples=150)
@given(st.text(st.sampled_from('ab1.5,;"\n\r \t-#é'), max_size=40))
def test_any_text_is_read_as_csv_reads_it(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    for way in WAYS.values():
        if not way["compiled"] or load_cutter(compiling=True) is not None:
            with pytest.MonkeyPatch.context() as patch:
                use(patch, **way)
                same(folder, text.encode())

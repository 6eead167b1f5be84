"""Files of every kind through the command line, and standard input."""

from __future__ import annotations

import gzip
import io
import sys

import pytest
from commands import refused, run, train

from xpnn.cli.sources import stem_of

pytestmark = pytest.mark.usefixtures("no_pictures")

ROWS = [(k % 17 / 4, ["red", "grün", "blue"][k % 3], k % 17 + 10 * (k % 3 == 1)) for k in range(120)]
TEXT = "size,colour,price\n" + "".join(f"{a},{b},{c}\n" for a, b, c in ROWS)
SEMI = "sep=;\r\nsize;colour;price\r\n" + "".join(f"{a};{b};{c}\r\n".replace(".", ",") for a, b, c in ROWS)
FAST = ("--target", "price", "--epochs", "2", "--hidden", "4", "--task", "regression")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables of one content, a model, and its predictions."""
    path = tmp_path_factory.mktemp("sources")
    (path / "t.csv").write_text(TEXT, encoding="utf-8")
    (path / "t.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    (path / "windows.csv").write_bytes(TEXT.encode("cp1252"))
    (path / "semi.csv").write_bytes(SEMI.encode("cp1252"))
    assert run("train", path / "t.csv", *FAST, "--out", path / "run", "--quiet").status == 0
    assert run("predict", path / "run/model.safetensors", path / "t.csv", "--out", path / "p.csv").status == 0
    return path


def predicted(folder, file, *options):
    ran = run("predict", folder / "run/model.safetensors", file, "--out", "-", *options)
    assert ran.status == 0, ran.err
    return ran.out


def stdin(monkeypatch, content):
    class Stdin:
        buffer = io.BytesIO(content)

    monkeypatch.setattr(sys, "stdin", Stdin())


def test_a_compressed_or_encoded_file_is_predicted_alike(folder):
    expected = (folder / "p.csv").read_text()
    assert predicted(folder, folder / "t.csv.gz") == expected
    assert predicted(folder, folder / "windows.csv", "--encoding", "cp1252") == expected
    ran = run("predict", folder / "run/model.safetensors", folder / "windows.csv", "--out", "-")
    refused(ran, r"got byte 0xfc .* or pass --encoding cp1252 if it comes from Windows\.$")


@pytest.mark.parametrize("kind", ["parquet", "feather", "xlsx"])
def test_a_typed_file_is_predicted_and_learnt_alike(folder, kind, tmp_path):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'xpnn[files]'")
    pytest.importorskip("openpyxl", reason="needs openpyxl: pip install 'xpnn[files]'")
    frame = pd.DataFrame(ROWS, columns=["size", "colour", "price"])
    path = tmp_path / f"t.{kind}"
    {"parquet": frame.to_parquet, "feather": frame.to_feather}.get(kind, lambda p: frame.to_excel(p, index=False))(path)
    assert predicted(folder, path) == (folder / "p.csv").read_text()
    train(path, *FAST, "--out", tmp_path / "run")
    ran = run("predict", tmp_path / "run/model.safetensors", folder / "t.csv", "--out", "-")
    assert ran.out == (folder / "p.csv").read_text()
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(path.read_bytes()[:-40])
    refused(run("check", cut), r"^xpnn check: expected a whole ")


def test_standard_input_is_a_table(folder, monkeypatch, tmp_path):
    for content in (TEXT.encode(), gzip.compress(TEXT.encode())):
        stdin(monkeypatch, content)
        assert predicted(folder, "-") == (folder / "p.csv").read_text()
    stdin(monkeypatch, TEXT.encode())
    monkeypatch.chdir(tmp_path)
    train("-", *FAST)
    assert (tmp_path / "runs/stdin/model.safetensors").read_bytes()
    stdin(monkeypatch, TEXT.encode())
    assert run("evaluate", "runs/stdin/model.safetensors", "-").status == 0
    refused(
        run("train", "-", *FAST, "--resume"), "--resume: expected a file, got - for standard input, which is not kept"
    )
    stdin(monkeypatch, b"")
    refused(run("check", "-"), "^xpnn check: expected rows in standard input, got an empty file")


def test_a_file_of_a_spreadsheet_is_learnt_and_its_options_are_kept(folder, tmp_path):
    out = tmp_path / "run"
    ran = train(folder / "semi.csv", *FAST, "--encoding", "cp1252", "--out", out)
    assert "the first line says sep=;" in ran.out
    ran = run("evaluate", out / "model.safetensors", folder / "semi.csv", "--json")  # in the encoding of the training
    assert ran.json["rows"] == len(ROWS)


def test_comments_and_sheets_are_options(folder, tmp_path):
    (tmp_path / "t.csv").write_text(TEXT.replace("\n", "\n% a note\n", 3), encoding="utf-8")
    assert run("check", tmp_path / "t.csv", "--comment", "%").status == 0
    refused(run("check", tmp_path / "t.csv"), "expected 3 cells in line 2 of .*, got 1")
    refused(run("train", "digits", "--sheet", "x"), "--sheet: expected a table, got digits")
    refused(
        run("train", "nothing"), r"expected a file \(\.csv, \.parquet, .*\), - for standard input, or one of digits"
    )


def test_names_of_runs_have_no_endings():
    assert [stem_of(path) for path in ("a/b.csv.gz", "b.csv.bz2", "b.zip", "b.parquet", "-")] == ["b"] * 4 + ["stdin"]

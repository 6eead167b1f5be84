"""Data that no process has whole: each reads its own shards, and what is learnt of all rows is the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from ranks import together

import xpnn
from xpnn.data import MinMax, Standardizer, TableEncoder
from xpnn.distributed import FrameShards, encoded, fit_encoder, fit_target, npy, parquet
from xpnn.errors import DataError, DTypeError, FileFormatError, OptionError
from xpnn.tabular import TabularClassifier

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'xpnn[files]'")
pq = pytest.importorskip("pyarrow.parquet")

SIZES = [40, 0, 25, 61]
RNG = np.random.default_rng(0)
N = sum(SIZES)
TABLE = {
    "size": np.where(np.arange(N) % 9 == 0, np.nan, RNG.normal(size=N)),
    "age": RNG.integers(0, 90, N),
    "town": RNG.choice(["a", "b", "b", "c"], N).astype(object),
    "weight": RNG.integers(1, 4, N).astype(np.float64),
    "label": RNG.choice(["yes", "no"], N).astype(object),
    "price": RNG.normal(size=N),
}
EDGES = np.cumsum([0, *SIZES])


def piece(k, names=tuple(TABLE)):
    return {name: TABLE[name][EDGES[k] : EDGES[k + 1]] for name in names}


@pytest.fixture
def folder(tmp_path):
    for k in range(len(SIZES)):
        pq.write_table(pa.table(piece(k)), tmp_path / f"{k}.parquet", row_group_size=16)
    return tmp_path


def test_parquet_reads_the_files_that_it_is_asked_for(folder, monkeypatch):
    rows = parquet(folder, "price", features=["age"], weight="weight")
    assert rows.lengths == SIZES
    asked = []
    monkeypatch.setattr(
        "xpnn.distributed.sources.parquet_columns",
        lambda path, names, where: (asked.append(path.name), pq.read_table(path, columns=names))[1],
    )
    part = rows.part(2)
    assert set(asked) == {"2.parquet"}
    assert part.X.tolist() == piece(2)["age"][:, None].tolist()
    assert part.y.tolist() == piece(2)["price"].tolist()
    assert part.weight.tolist() == piece(2)["weight"].tolist()
    several = parquet(str(folder / "*.parquet"), ["price", "age"])
    assert several.targets(0)[0].shape == (40, 2)
    assert several.names == {"X": ["size", "town", "weight", "label"]}
    assert parquet([folder / "3.parquet"], "price").lengths == [61]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_encoders_are_fitted_over_all_rows_and_are_the_same_everywhere(folder, size):
    def work(group):
        rows = parquet(folder, "label", features=["size", "age", "town"])
        encoder = fit_encoder(TableEncoder(bins="auto"), rows, group, sample=50)
        target = fit_target(rows, group)
        part = encoded(rows, encoder, target).part(3)
        scaler = fit_encoder(Standardizer(), parquet(folder, "price", features=["age", "weight"]), group)
        return encoder.to_dict(), target.classes, part.X.tobytes(), part.y.tolist(), scaler.to_dict()

    found = together(size, work)
    assert all(repr(one) == repr(found[0]) for one in found)
    state, classes, _, y, scaler = found[0]
    assert classes == ("no", "yes")
    assert y == [int(label == "yes") for label in piece(3)["label"]]
    alone = together(1, work)[0]
    assert repr(alone) == repr(found[0])
    notes = state["notes"]
    assert notes[-1].startswith("Medians, quartiles, bins and dates are those of 50 of 126 rows")
    both = np.stack([TABLE["age"], TABLE["weight"]], axis=1)
    assert scaler == Standardizer().fit_blocks([both]).to_dict()


def test_few_rows_give_the_encoder_that_fit_gives(folder):
    rows = parquet(folder, "label", features=["size", "age", "town"])
    whole = TableEncoder().fit({name: TABLE[name] for name in ("size", "age", "town")})
    assert fit_encoder(TableEncoder(), rows).to_dict() == whole.to_dict()


def test_an_error_of_one_process_is_raised_on_all(folder):
    table = pa.table(piece(3) | {"size": np.full(SIZES[3], np.inf)})
    pq.write_table(table, folder / "3.parquet")

    def work(group):
        return fit_encoder(TableEncoder(), parquet(folder, "label", features=["size"]), group)

    found = together(2, work)
    assert all(isinstance(error, DataError) for error in found)
    assert str(found[0]).startswith("rank 1 of 2: ")


def test_memory_maps_stay_on_disk(tmp_path):
    for k in range(3):
        x = piece(k)["age"].astype(np.float32)[:, None]
        np.save(tmp_path / f"X{k}.npy", x)
        np.save(tmp_path / f"y{k}.npy", piece(k)["price"])
    rows = npy(tmp_path / "X*.npy", tmp_path / "y*.npy", tmp_path / "y*.npy")
    assert rows.lengths == SIZES[:3]
    part = rows.part(2)
    assert isinstance(part.X, np.memmap)
    assert part.weight.tolist() == piece(2)["price"].tolist()
    scaler = fit_encoder(MinMax(), rows)
    assert encoded(rows, scaler).part(0).X.max() <= 1.0
    np.save(tmp_path / "X1.npy", np.ones((0, 3), np.float32))
    with pytest.raises(
        DataError, match=r"^npy: expected rows of shape \(1,\) and dtype float32 in .*X1\.npy, as in the"
    ):
        npy(tmp_path / "X*.npy", tmp_path / "y*.npy")
    (tmp_path / "X1.npy").unlink()
    with pytest.raises(DataError, match=r"^npy: expected as many files of targets as of inputs, got 2 and 3"):
        npy(tmp_path / "X*.npy", tmp_path / "y*.npy")


def test_what_files_lack_is_told(folder):
    with pytest.raises(DataError, match=r"^parquet: expected files, got none for .*nowhere"):
        parquet(folder / "nowhere", "price")
    with pytest.raises(DataError, match=r"^parquet: expected a column named 'cost', got 'size', 'age'"):
        parquet(folder, "cost")
    (folder / "4.parquet").write_bytes(b"PAR1" + bytes(30))
    with pytest.raises(FileFormatError, match=r"^parquet: expected a whole Parquet file, got .*4\.parquet"):
        parquet(folder, "price")
    pq.write_table(pa.table(piece(0) | {"age": piece(0)["age"] * 1.0}), folder / "4.parquet")
    with pytest.raises(
        DataError, match=r"^parquet: expected age: int64 in .*4\.parquet, as in .*0\.parquet, got double"
    ):
        parquet(folder, "price")
    pq.write_table(pa.table(piece(0, ("size", "price"))), folder / "4.parquet")
    with pytest.raises(DataError, match=r"expected age: int64 in .*4\.parquet, as in .*0\.parquet, got no such column"):
        parquet(folder, "price")
    (folder / "4.parquet").unlink()
    rows = parquet(folder, "label")
    with pytest.raises(DTypeError, match=r"^parquet: expected numbers in every column, got others in 'town', shard 0"):
        rows.part(0)
    with pytest.raises(DTypeError, match=r"^parquet: expected numbers as targets, got text in 'label', shard 0"):
        parquet(folder, "label", features=["age"]).part(0)
    pq.write_table(pa.table(piece(2)), folder / "0.parquet")
    with pytest.raises(FileFormatError, match=r"^parquet: expected 40 rows in .*0\.parquet, got 25\. It has changed"):
        rows.part(0)


def test_frames_that_a_process_does_not_hold_are_told():
    frames = {0: piece(0), 1: piece(2)}
    rows = FrameShards(frames, [40, 25, 61], "price", columns=TABLE, features=["age"])
    assert rows.part(1).X.shape == (25, 1)
    with pytest.raises(OptionError, match=r"^FrameShards: expected shard 2 on this process, got \[0, 1\] alone"):
        rows.part(2)
    arrays = xpnn.distributed.ArrayShards([(np.ones((2, 1)), np.ones(2))])
    with pytest.raises(OptionError, match=r"^fit_encoder: expected rows with columns by name for a TableEncoder"):
        fit_encoder(TableEncoder(), arrays)


@pytest.mark.parametrize("options", [{}, {"members": 2, "folds": 2}], ids=["one", "ensemble"])
def test_an_estimator_of_tables_is_the_same_on_any_number_of_processes(options):
    table = {name: TABLE[name] for name in ("size", "age", "town")}
    small = {"preset": "quick", "hidden": (8,), "epochs": 3, "batch_size": 32, **options}

    def work(group):
        model = TabularClassifier(**small).fit(table, TABLE["label"], shards=4, group=group)
        return model.predict_proba(table).tobytes(), model.validation_scores_

    expected = TabularClassifier(**small).fit(table, TABLE["label"], shards=4)
    for found in together(3, work):
        assert found == (expected.predict_proba(table).tobytes(), expected.validation_scores_)

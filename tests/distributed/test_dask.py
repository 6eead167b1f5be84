"""A real Dask cluster of processes: the bits of one process, also when a worker is killed."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time

import numpy as np
import pytest

import xpnn
from xpnn.data import ClassTarget, Standardizer, TableEncoder
from xpnn.distributed import ArrayShards, encoded, parquet
from xpnn.errors import DataError, DTypeError, OptionError, ProcessError
from xpnn.tabular import TabularRegressor

dask = pytest.importorskip("dask", reason="needs Dask: pip install 'xpnn[dask]'")
distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'xpnn[dask]'")
pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")

import dask.array as da  # noqa: E402
import dask.dataframe as dd  # noqa: E402

from xpnn.distributed import dask as engine  # noqa: E402

# What clusters warn of as they start and end is not xpnn's.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif("XPNN_ENGINES" not in os.environ, reason="starts many processes: ci/distributed.sh"),
]
SIZES = [150, 0, 90, 211]
EDGES = np.cumsum([0, *SIZES])
RNG = np.random.default_rng(0)
N = sum(SIZES)
FRAME = pd.DataFrame({name: RNG.normal(size=N).astype(np.float32) for name in "abc"})
FRAME["y"] = (FRAME["a"] * FRAME["b"] > 0).astype(np.int64)
FRAME["town"] = RNG.choice(["oak", "elm", "elm", "fir"], N)
FRAME["label"] = np.where(FRAME["y"] == 1, "yes", "no")
PIECES = [FRAME[a:b] for a, b in itertools.pairwise(EDGES)]
WATCHDOG = 60.0


def cluster(n_workers):
    options = {"n_workers": n_workers, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as made, distributed.Client(made, timeout=WATCHDOG) as client:
        yield client


@pytest.fixture(scope="module")
def client():
    yield from cluster(4)


@pytest.fixture
def doomed():
    """A cluster whose workers are killed."""
    yield from cluster(2)


@pytest.fixture
def frame():
    return dd.concat([dd.from_pandas(piece, npartitions=1) for piece in PIECES])


def trainer(n_in=3, **options):
    net = xpnn.mlp([n_in, 12, 2], norm="batch", dropout=0.2, seed=1)
    return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01), clip_norm=1.0, seed=3, **options)


def shards():
    return ArrayShards([(p[["a", "b", "c"]].to_numpy(), p["y"].to_numpy()) for p in PIECES])


def alone(epochs, rows=None, **options):
    made = trainer(**options)
    made.fit(shards() if rows is None else rows, epochs=epochs, batch_size=64)
    return bits(made)


def bits(made):
    losses = [row["loss"] for row in made.history.rows]
    return made.net.store.values.tobytes(), made.net.store.buffers.tobytes(), made.epoch, made.step, losses


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_a_frame_gives_the_bits_of_one_process(client, frame, processes):
    given = trainer()
    found = engine.fit(given, frame, target="y", features=["a", "b", "c"], epochs=3, batch_size=64, processes=processes)
    assert bits(found) == alone(3)
    assert given.epoch == 0
    assert not given.callbacks
    assert not found.callbacks


def test_arrays_and_files_give_the_bits_of_one_process(client, tmp_path):
    x, y = FRAME[["a", "b", "c"]].to_numpy(), FRAME["y"].to_numpy()
    rows = tuple(n for n in SIZES if n)
    found = engine.fit(
        trainer(), da.from_array(x, chunks=(rows, 2)), da.from_array(y, chunks=200), epochs=2, batch_size=64
    )
    held = ArrayShards([(x[a:b], y[a:b]) for a, b in itertools.pairwise(EDGES) if a < b])
    assert bits(found) == alone(2, held)
    for k, piece in enumerate(PIECES):
        piece.to_parquet(tmp_path / f"{k}.parquet")
    files = parquet(tmp_path, "y", features=["a", "b", "c"])
    assert bits(engine.fit(trainer(), files, epochs=2, batch_size=64)) == alone(2, files)


def test_encoders_are_fitted_where_the_rows_are(client, frame):
    columns = ["a", "b", "town"]
    encoder = engine.fit_encoder(TableEncoder(bins=4), frame[columns])
    assert encoder.to_dict() == TableEncoder(bins=4).fit(FRAME[columns]).to_dict()
    scaler = engine.fit_encoder(Standardizer(), frame[["a", "b"]])
    assert scaler.to_dict() == Standardizer().fit_blocks([FRAME[["a", "b"]]]).to_dict()
    target = ClassTarget().fit(FRAME["label"].to_numpy())
    made = trainer(len(encoder.feature_names_out))
    options = {"features": columns, "encoder": encoder, "target_encoder": target}
    found = engine.fit(made, frame, target="label", epochs=2, batch_size=64, **options)
    pieces = [(encoder.transform(p[columns]), target.encode(p["label"])) for p in PIECES if len(p)]
    pieces.insert(1, (np.zeros((0, made.net.n_in), np.float32), np.zeros(0, np.int64)))
    assert bits(found) == alone(2, ArrayShards(pieces), n_in=made.net.n_in)
    labels = engine.predict(found, frame[columns], encoder=encoder).compute()
    assert labels.tolist() == found.predict(encoder.transform(FRAME[columns])).tolist()


def test_predictions_have_the_bits_of_one_process(client, frame):
    made = trainer()
    made.fit(shards(), epochs=1)
    x = FRAME[["a", "b", "c"]].to_numpy()
    found = engine.predict(made, da.from_array(x, chunks=(100, 2)), method="predict_proba")
    assert found.shape == (N, 2)
    assert found.compute().tobytes() == made.predict_proba(x).tobytes()
    lazy = da.from_array(x, chunks=(100, 3)).map_blocks(made.net.predict, dtype=np.float32, chunks=(100, 2))
    assert lazy.compute().tobytes() == made.net.predict(x).tobytes()


def test_estimators_of_tables(client, frame):
    model = TabularRegressor(preset="quick", hidden=(8,), epochs=3, random_state=0)
    table, whole = frame[["a", "town", "b"]], FRAME[["a", "town", "b"]]
    here = model.fit(table, "b")
    expected = TabularRegressor(**model.get_params()).fit(whole, "b").predict(whole)
    assert here.predict(table).tobytes() == expected.tobytes()
    alike = [TabularRegressor(**model.get_params()).fit(whole, "b", shards=16)]
    alike += [engine.fit(TabularRegressor(**model.get_params()), table, target="b", processes=n) for n in (1, 2)]
    assert len({one.predict(whole).tobytes() for one in alike}) == 1
    pieces = [alike[0].predict(piece[["a", "town", "b"]]) for piece in PIECES if len(piece)]
    assert engine.predict(alike[1], table).compute().tobytes() == np.concatenate(pieces).tobytes()
    with pytest.raises(OptionError, match=r"^dask\.fit: expected no checkpoint with an estimator"):
        engine.fit(model, table, target="b", checkpoint="model.safetensors")


# -- what goes wrong ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kept", [True, False], ids=["checkpoint", "anew"])
def test_a_killed_worker_changes_no_bit(doomed, frame, tmp_path, kept):
    path = tmp_path / "run.safetensors"
    victim = sorted(doomed.run(os.getpid).items())[1][1]
    ended = threading.Event()

    def kill():
        began = time.monotonic()
        while not (path.exists() if kept else time.monotonic() - began > 1.0) and not ended.is_set():
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    options = {"checkpoint": path, "checkpoint_seconds": 0.05} if kept else {}
    began = time.monotonic()
    found = engine.fit(
        trainer(),
        frame,
        target="y",
        features=["a", "b", "c"],
        client=doomed,
        epochs=60,
        batch_size=64,
        restarts=1,
        **options,
    )
    ended.set()
    killer.join()
    assert time.monotonic() - began < WATCHDOG
    assert bits(found) == alone(60)


class Bad(xpnn.Callback):
    """An error on every process, in the second epoch; or the end of one."""

    def __init__(self, how):
        self.how = how

    def on_epoch_begin(self, trainer):
        if trainer.epoch == 1:
            if self.how == "error":
                raise RuntimeError("the disk is full")
            os.kill(os.getpid(), signal.SIGKILL)


def test_an_error_is_told_and_the_cluster_stays(client, frame):
    began = time.monotonic()
    options = {"target": "y", "features": ["a", "b", "c"], "epochs": 3}
    with pytest.raises(RuntimeError, match="the disk is full"):
        engine.fit(trainer(callbacks=[Bad("error")]), frame, **options)
    bad = frame.assign(a=frame["a"].where(frame["b"] < 0.0))
    with pytest.raises(DataError, match=r"NaN|nan"):
        engine.fit(trainer(), bad, **options)
    assert time.monotonic() - began < 20
    assert len(client.nthreads()) == 4
    assert engine.fit(trainer(), frame, **options | {"epochs": 1}).epoch == 1


def test_workers_that_are_lost_again_and_again_are_told(doomed, frame):
    options = {"client": doomed, "target": "y", "features": ["a", "b", "c"], "epochs": 3, "restarts": 1}
    with pytest.raises(ProcessError, match=r"^dask\.fit: expected workers that stay, got the loss of tcp://.* after 1"):
        engine.fit(trainer(callbacks=[Bad("kill")]), frame, **options)


def test_what_cannot_be_trained_on_is_told(client, frame):
    fit = engine.fit
    with pytest.raises(DTypeError, match=r"^dask\.fit: expected a Dask frame or array, or rows such as"):
        fit(trainer(), FRAME, target="y")
    with pytest.raises(DataError, match=r"^dask\.fit: expected target, the name of a column of the frame, got none"):
        fit(trainer(), frame)
    with pytest.raises(DataError, match=r"^dask\.fit: expected y beside an array, also of Dask, got NoneType"):
        fit(trainer(), da.ones((4, 3)))
    with pytest.raises(DataError, match=r"^FrameShards: expected a column named 'z'"):
        fit(trainer(), frame, target="z")
    with pytest.raises(DTypeError, match=r"expected numbers in every column, got others in 'town', 'label', shard 0"):
        fit(trainer(5), frame, target="y")
    with pytest.raises(OptionError, match=r"^dask\.fit: expected restarts >= 0, got -1"):
        fit(trainer(), frame, target="y", restarts=-1)
    with pytest.raises(DTypeError, match=r"^dask\.predict: expected a Dask frame or array, got DataFrame"):
        engine.predict(trainer(), FRAME)
    with pytest.raises(OptionError, match=r"^dask\.predict: expected a method of Trainer, got 'guess'"):
        engine.predict(trainer(), frame, method="guess")
    with pytest.raises(DTypeError, match=r"^dask\.fit_encoder: expected a Dask frame or array, got DataFrame"):
        engine.fit_encoder(TableEncoder(), FRAME)


def test_a_file_of_another_training_is_told(client, frame, tmp_path):
    other = xpnn.Trainer(xpnn.mlp([3, 4, 2]), xpnn.CrossEntropy(), xpnn.Adam())
    other.fit(shards(), epochs=1)
    other.save(tmp_path / "run.safetensors")
    with pytest.raises(DataError, match=r"expected the checkpoint of this training in .*run\.safetensors, got that of"):
        engine.fit(trainer(), frame, target="y", features=["a", "b", "c"], checkpoint=tmp_path / "run.safetensors")


# -- joblib -------------------------------------------------------------------------------------------------------
def test_a_search_on_a_cluster_has_the_results_of_one_process(client):
    joblib = pytest.importorskip("joblib", reason="needs joblib: pip install joblib")
    x, y = FRAME[["a", "b", "c"]].to_numpy(), FRAME["y"].to_numpy()
    space = xpnn.search.grid({"lr": [0.003, 0.03], "width": [4, 8]})
    options = {"loss": xpnn.CrossEntropy(), "epochs": 4, "halving": xpnn.search.Halving(eta=2), "together": 1}
    one = xpnn.search.run(space, x, y, **options)
    with joblib.parallel_config("dask"):
        two = xpnn.search.run(space, x, y, **options)
    for a, b in zip(one.trials, two.trials, strict=True):
        assert (a.status, a.score, a.best_epoch) == (b.status, b.score, b.best_epoch)
        assert a.history["val_loss"] == b.history["val_loss"]


def test_encoded_rows_are_those_of_the_table(frame):
    rows = encoded(shards(), Standardizer().fit(FRAME[["a", "b", "c"]].to_numpy()))
    assert rows.part(2).X.shape == (90, 3)

"""Training by shards: the number of processes changes nothing, and what fails on one ends on all."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from sharded import Failing, N, bits, table
from thread_group import agreed, on_threads

import xpnn
from xpnn.distributed import Alone, ArrayShards, Part, ShardedRows, agree, together
from xpnn.distributed.group import words_of
from xpnn.errors import DataError, DivergenceError, OptionError, ProcessError


def make(callbacks=(), dtype="float32", backend="numpy", replicas=None, **options):
    net = xpnn.mlp([4, 16, 8, 2], norm=options.pop("norm", None), dropout=options.pop("dropout", 0.0), seed=1,
                   dtype=dtype, backend=backend)  # fmt: skip
    if replicas:
        net = xpnn.Sequential(xpnn.Linear(8), xpnn.Tanh(), xpnn.Linear(2), n_in=4, replicas=replicas)
    optimizer = options.pop("optimizer", None) or xpnn.Adam(0.02)
    return xpnn.Trainer(net, xpnn.CrossEntropy(), optimizer, callbacks=callbacks, **options)


CASES = {
    "plain": {},
    "batch norm": {"norm": "batch"},
    "dropout": {"dropout": 0.3},
    "clipped, with a penalty": {"clip_norm": 0.2, "clip_value": 0.05, "regularizer": "L2"},
    "spectral": {"regularizer": "spectral"},
    "replicas": {"replicas": 3},
    "all": {"norm": "batch", "dropout": 0.2, "clip_norm": 0.3, "regularizer": "L2"},
}


def of_case(name):
    options = dict(CASES[name])
    kinds = {"L2": lambda: xpnn.L2(1e-3), "spectral": lambda: xpnn.SpectralNorm(1e-3)}
    if "regularizer" in options:
        options["regularizer"] = kinds[options["regularizer"]]()
    return make(**options)


def fit(trainer, group=None, shards=6, **options):
    X, y = table()
    given = {"epochs": 2, "batch_size": 50, "validation_fraction": 0.2} | options
    trainer.fit(X, y, shards=shards, group=group, **given)
    return bits(trainer)


@pytest.mark.parametrize("name", CASES)
def test_the_bits_are_those_of_one_process(name):
    alone = fit(of_case(name))
    for size in (2, 3, 4):
        assert agreed(size, lambda group: fit(of_case(name), group)) == alone


@pytest.mark.parametrize("name", ["plain", "clipped, with a penalty", "spectral", "replicas"])
def test_shards_are_the_plain_training_to_rounding(name):
    """No shard, and one: the same bits.  Six: the same but for the order of sums."""
    trainers = []
    for shards in (None, 1, 6):
        trainers.append(of_case(name))
        fit(trainers[-1], shards=shards)
    plain, one, six = (trainer.net.store.values for trainer in trainers)
    np.testing.assert_array_equal(plain, one)
    np.testing.assert_allclose(six, plain, rtol=2e-3, atol=2e-4)
    plain, _, six = (trainer.history.rows[-1] for trainer in trainers)
    for column in ("loss", "accuracy", "val_loss", "grad_norm"):
        assert six[column] == pytest.approx(plain[column], rel=2e-3)


def test_float64_shards_are_the_plain_training_closely():
    plain, six = make(dtype="float64", regularizer=xpnn.L2(0.01)), make(dtype="float64", regularizer=xpnn.L2(0.01))
    fit(plain, shards=None)
    fit(six)
    np.testing.assert_allclose(six.net.store.values, plain.net.store.values, rtol=1e-9, atol=1e-11)


def test_ragged_batches_weights_and_order():
    """More shards than rows in the last batch; rows and whole shards of weight 0; in the order in which rows lie."""
    weight = np.where(np.arange(N) % 3 == 0, 0.0, np.arange(N) / N)
    weight[:30] = 0.0
    options = {"batch_size": 100, "validation_fraction": 0.0, "sample_weight": weight, "shuffle": False, "shards": 8}
    options["class_weight"] = {0: 1.0, 1: 2.0}
    alone = fit(make(norm="batch"), **options)
    for size in (2, 5, 8):
        assert agreed(size, lambda group: fit(make(norm="batch"), group, **options)) == alone
    plain, eight = make(dtype="float64"), make(dtype="float64")
    fit(plain, **options | {"shards": None})
    fit(eight, **options)
    np.testing.assert_allclose(eight.net.store.values, plain.net.store.values, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backend", ["torch", "strict"])
def test_other_libraries(backend):
    if backend == "torch":
        pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    alone = fit(make(norm="batch", backend=backend), epochs=1)
    assert agreed(2, lambda group: fit(make(norm="batch", backend=backend), group, epochs=1)) == alone


def test_memory_maps(tmp_path):
    X, y = table()
    np.save(tmp_path / "X.npy", X)
    expected = fit(make(dropout=0.1), validation_fraction=0.0)

    def work(group):
        trainer = make(dropout=0.1)
        trainer.fit(np.load(tmp_path / "X.npy", mmap_mode="r"), y, epochs=2, batch_size=50, shards=6, group=group)
        return bits(trainer)

    assert agreed(3, work) == expected


# -- data of which each process reads its own alone --------------------------------------------------------------
class Watched(ShardedRows):
    """Shards of unequal and of no length, which note who read them."""

    lengths = (40, 0, 7, 90, 66)

    def __init__(self, weighted=False):
        self.seen, self.weighted = [], weighted
        self.names = {"X": list("abcd")}

    def read(self, number):
        self.seen.append(number)
        start = sum(self.lengths[:number])
        X, y = table()
        rows = slice(start, start + self.lengths[number])
        return Part(X[rows], y[rows], np.arange(start, rows.stop) / N if self.weighted else None)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_process_reads_its_own_shards(weighted):
    def work(group):
        rows, trainer = Watched(weighted), make(norm="batch", dropout=0.1)
        options = {"class_weight": {0: 1.0, 1: 2.0}} if weighted else {}
        trainer.fit(rows, epochs=2, batch_size=50, X_val=Watched(weighted), group=group, **options)
        assert trainer.column_names == {"X": list("abcd")}
        return rows.seen, bits(trainer)

    seen, alone = work(Alone())
    assert seen == [0, 2, 3, 4]
    for size in (2, 3, 5):
        found = on_threads(size, work)
        assert [one[1] for one in found] == [alone] * size
        assert sorted(number for one in found for number in one[0]) == [0, 2, 3, 4]


def test_shards_of_arrays_see_every_row_once():
    X, y = table(60)
    seen = []

    class Noting(xpnn.Trainer):
        def data_gradients(self, x, target, weight, step):
            seen.extend(x[:, 0].tolist())
            return super().data_gradients(x, target, weight, step)

    trainer = Noting(make().net, xpnn.CrossEntropy(), xpnn.Adam())
    trainer.fit(ArrayShards([(X[:10], y[:10]), (X[10:], y[10:])]), epochs=1, batch_size=16, X_val=X, y_val=y)
    assert sorted(seen) == sorted(X[:, 0].tolist())
    assert trainer.step == 4
    assert trainer.history.rows[-1]["val_loss"] > 0


def test_wrong_shards_are_refused():
    X, y = table(20)
    rows = ArrayShards([(X, y)])
    for options, text in [
        ({"y": y}, "bring their targets and weights.*got y"),
        ({"validation_fraction": 0.1}, "got validation_fraction"),
        ({"class_weight": "balanced"}, "got class_weight"),
        ({"shards": 4}, "expected shards to be left out, or 1"),
    ]:
        with pytest.raises(OptionError, match=text):
            make().fit(rows, **options)
    with pytest.raises(DataError, match="expected shards with rows, got 1 shards of 0 rows"):
        make().fit(ArrayShards([(X[:0], y[:0])]))

    class Changed(ArrayShards):
        def read(self, number):
            return Part(X[:5], y[:5])

    with pytest.raises(DataError, match="expected 20 rows in shard 0, got 5"):
        make().fit(Changed([(X, y)]))


def test_options_that_do_not_fit():
    X, y = table(20)
    with pytest.raises(OptionError, match="expected shards with a group, got none"):
        make().fit(X, y, group=Alone())
    with pytest.raises(OptionError, match="expected shards to be a positive integer"):
        make().fit(X, y, shards=0)
    with pytest.raises(OptionError, match=r"expected group to be a group such as xpnn.distributed.mpi\(\)"):
        make().fit(X, y, shards=2, group="mpi")
    with pytest.warns(RuntimeWarning, match="steps are not recorded: batches are cut into shards"):
        make().fit(X, y, shards=2, graph=True, epochs=1, sync_every=2)

    class Own(xpnn.Trainer):
        def gradients(self, x, y, weight, step):
            return super().gradients(x, y, weight, step)

    with pytest.raises(OptionError, match="expected a trainer that leaves train_step and gradients as they are"):
        Own(make().net, xpnn.CrossEntropy(), xpnn.Adam()).fit(X, y, shards=2)


# -- what fails on one -------------------------------------------------------------------------------------------
def test_a_bad_row_on_one_process_is_raised_by_all():
    X, y = table(60)

    def work(group):
        mine = X.copy()
        if group.rank == 2:
            mine[7, 1] = np.nan
        trainer = make()
        with pytest.raises(DataError) as caught:
            trainer.fit(mine, y, shards=4, group=group)
        trainer.fit(X, y, shards=4, group=group, epochs=1)  # the group goes on
        return str(caught.value).removeprefix("rank 2 of 3: ")

    assert "first nan in row 7, column 1" in agreed(3, work)


def test_a_bad_row_in_a_shard_of_one_process_is_raised_by_all():
    """Also where another one has shards that are good, and shares what it knows of them."""
    X, y = table(60)
    bad = X.copy()
    bad[7, 1] = np.nan

    def work(group):
        trainer = make()
        with pytest.raises(DataError) as caught:
            trainer.fit(ArrayShards([(bad, y), (X, y), (X, y)]), group=group)
        trainer.fit(ArrayShards([(X, y), (X, y), (X, y)]), group=group, epochs=1)  # the group goes on
        return str(caught.value).removeprefix("rank 0 of 3: ")

    assert "shard 0): expected finite" in agreed(3, work)


def test_a_shard_may_weigh_nothing_but_not_all():
    X, y = table(60)

    def rows(*weights):
        return ArrayShards([(X, y, np.full(60, weight)) for weight in weights])

    def work(group):
        trainer = make(norm="batch")
        with pytest.raises(DataError, match="expected rows of weight above 0, got none in any shard"):
            trainer.fit(rows(0.0, 0.0, 0.0), group=group)
        trainer.fit(rows(0.0, 1.0, 2.0), X_val=rows(1.0, 0.0, 0.0), group=group, epochs=2)
        return bits(trainer)

    assert agreed(3, work) == work(Alone())


def test_other_weights_or_options_are_told_before_the_first_step():
    def weights(group):
        trainer = make()
        trainer.net.store.values[3] += group.rank == 1
        return fit(trainer, group)

    def epochs(group):
        return fit(make(), group, epochs=1 + group.rank)

    for work, text in ((weights, "same weights on rank 1 as on rank 0"), (epochs, "same epochs on rank 1")):
        for error in on_threads(2, work):
            assert isinstance(error, ProcessError)
            assert text in str(error)


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("loss", {"loss": xpnn.Focal()}),
        ("seed", {"seed": 5}),
        ("clip_norm", {"clip_norm": 0.1}),
        ("schedule", {"schedule": xpnn.CosineDecay()}),
        ("regularizer", {"regularizer": xpnn.L2(1e-3)}),
        ("metrics", {"metrics": ()}),
    ],
)
def test_another_way_to_train_is_told_before_the_first_step(what, options):
    """Some of them would change no weight of this process alone: its gradients are those of all."""

    def work(group):
        given = {"loss": xpnn.CrossEntropy()} | (options if group.rank == 1 else {})
        trainer = xpnn.Trainer(xpnn.mlp([4, 8, 2], seed=1), given.pop("loss"), xpnn.Adam(), **given)
        return fit(trainer, group)

    for error in on_threads(2, work):
        assert isinstance(error, ProcessError)
        assert re.search(rf"expected the same [\w ,]*\b{what}\b[\w ,]* on rank 1 as on rank 0", str(error))


def test_other_rows_are_told_before_the_first_step():
    """Of the same number, as where each process is given its own part."""

    def work(group, which):
        X, y = table()
        given = {"X_val": X, "y_val": y, "validation_fraction": 0.0}
        if group.rank == 1:
            given |= {"X_val": X + 1} if which == "validation data" else {}
            X, y = (X[::-1], y[::-1]) if which == "data" else (X, y)
        trainer = make()
        trainer.fit(X, y, epochs=1, shards=4, group=group, **given)

    for which in ("data", "validation data"):
        for error in on_threads(2, lambda group: work(group, which)):  # noqa: B023
            assert isinstance(error, ProcessError)
            assert f"expected the same {which} on rank 1 as on rank 0" in str(error)
            assert "rows of its own alone go into xpnn.distributed.ShardedRows" in str(error)


def test_more_processes_than_shards_of_data_are_told_what_to_change():
    X, y = table()
    for error in on_threads(3, lambda group: make().fit(ArrayShards([(X, y)]), group=group)):
        assert isinstance(error, OptionError)
        assert "got data in 1 for 3 processes. Start fewer, or cut the data into more shards" in str(error)


def test_weights_that_drift_apart_are_told_after_the_epoch():
    def work(group):
        def drift(trainer):
            if group.rank == 1 and trainer.epoch == 2:
                trainer.net.store.values[0] += 1e-3

        return fit(make([xpnn.LambdaCallback(on_epoch_trained=drift)]), group, epochs=4)

    for error in on_threads(3, work):
        assert "same weights on rank 1 as on rank 0 after epoch 2" in str(error)


@pytest.mark.parametrize("error", [ValueError("no disk"), KeyboardInterrupt()])
def test_an_error_on_one_ends_on_all_and_training_goes_on_to_the_bit(error):
    expected = fit(make(norm="batch", dropout=0.1), epochs=3)
    kept = {}

    def work(group):
        trainer = make([Failing(group.rank == 1, error, 6)], norm="batch", dropout=0.1)
        try:
            fit(trainer, group, epochs=3)
        finally:
            kept[group.rank] = trainer

    began = time.monotonic()
    first, second, third = on_threads(3, work)
    assert time.monotonic() - began < 10
    assert second is error
    assert "This is rank 1 of 3." in second.__notes__
    for other in (first, third):
        assert isinstance(other, ProcessError)
        assert f"rank 1 of 3 has failed: {words_of(error)}" in str(other)

    trainer = kept[0]  # where it stopped: no step is lost
    assert trainer.step in (6, 7)
    trainer.callbacks = []
    fit(trainer, epochs=3 - trainer.epoch)
    assert bits(trainer) == expected


def test_divergence_is_raised_by_all_with_one_sentence():
    X, y = table(60)

    def work(group):
        trainer = make(optimizer=xpnn.SGD(1e30))
        with pytest.raises(DivergenceError) as caught:
            trainer.fit(X, y, shards=4, group=group, epochs=2, batch_size=20)
        return str(caught.value), bits(trainer)

    text, _ = agreed(3, work)
    assert "First tensor that is not finite" in text
    assert agreed(1, work)[0] == text


def test_a_slow_process_changes_no_bit():
    class Slow(xpnn.Callback):
        def __init__(self, rank):
            self.rank = rank

        def on_batch_end(self, trainer):
            time.sleep(0.01 * (self.rank == 1))

    assert agreed(2, lambda group: fit(make([Slow(group.rank)]), group)) == fit(make())


# -- callbacks ---------------------------------------------------------------------------------------------------
def test_a_clock_is_read_on_rank_0_alone():
    class Stop(xpnn.Callback):
        def __init__(self, rank):
            self.rank = rank

        def on_epoch_end(self, trainer):
            if trainer.epoch == 2 + self.rank:
                trainer.stop(f"rank {self.rank}")

    def work(group):
        trainer = make([Stop(group.rank), xpnn.TimeLimit(1e9 if group.rank == 0 else 1e-9)])
        fit(trainer, group, epochs=6)
        return trainer.stop_reason, trainer.epoch, trainer.history["seconds"]

    assert agreed(3, work)[:2] == ("rank 0", 2)


def test_only_rank_0_writes(tmp_path):
    def work(group):
        folder = tmp_path / str(group.rank)
        folder.mkdir()
        stop = xpnn.EarlyStopping(patience=1)
        fit(
            make([xpnn.CSVLogger(folder / "log.csv"), xpnn.Checkpoint(folder / "a.safetensors"), stop]), group, epochs=4
        )
        return stop.best_epoch, group.rank, len(list(folder.iterdir()))

    found = on_threads(3, work)
    assert [(rank, files) for _, rank, files in found] == [(0, 2), (1, 0), (2, 0)]
    assert len({best for best, _, _ in found}) == 1


@pytest.mark.parametrize("sizes", [(2, 3), (3, 1), (1, 4)])
def test_a_checkpoint_goes_on_with_another_number_of_processes(tmp_path, sizes):
    """From within an epoch."""
    expected = fit(make(norm="batch", dropout=0.1), epochs=3)
    path, (before, after) = tmp_path / "run.safetensors", sizes

    def cut_off(group):
        keep = xpnn.Checkpoint(path, None, trainer=True, every_steps=2)
        stop = Failing(group.rank == before - 1, ValueError("cut off"), 6)
        stop.rank = group.rank == before - 1
        return fit(make([keep, stop], norm="batch", dropout=0.1), group, epochs=3)

    assert any(isinstance(error, ValueError) for error in on_threads(before, cut_off))

    def go_on(group):
        trainer = xpnn.Trainer.load(path)
        return fit(trainer, group, epochs=3 - trainer.epoch)

    assert agreed(after, go_on) == expected


def test_another_number_of_shards_does_not_go_on_within_an_epoch(caplog):
    trainer = make([Failing(1, ValueError(), 6)])
    with pytest.raises(ValueError, match=r"^$"):
        fit(trainer)
    trainer.callbacks = []
    fit(trainer, shards=4, epochs=1)
    assert "rows, their weights, or the batch size are others" in caplog.text


# -- what is said ------------------------------------------------------------------------------------------------
def test_what_fails_on_some_fails_on_all():
    def work(group):
        with together(group):
            if group.rank:
                raise KeyError(group.rank)

    first, second, third = on_threads(3, work)
    assert isinstance(first, ProcessError)
    assert "rank 1 of 3: KeyError: 1" in str(first)
    assert isinstance(second, KeyError)
    assert isinstance(third, ProcessError)


def test_facts_are_compared():
    errors = on_threads(3, lambda group: agree(group, {"a": "1", "b": str(group.rank // 2)}, "here", "Look."))
    assert {str(error) for error in errors} == {
        "here: expected the same b on rank 2 as on rank 0, got others (b: 1 and 0). Look."
    }

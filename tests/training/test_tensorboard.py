"""The event files of TensorBoard, read back."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
from places import backend_or_skip

import xpnn
from xpnn.errors import BackendUnavailableError, DataError, DivergenceError, OptionError
from xpnn.training import Callback, LambdaCallback, TensorBoard


@pytest.fixture
def read():
    """Return a reader of event files: run -> tag -> {step: value}, as TensorBoard shows them."""
    needed = "needs tensorboardX: pip install 'xpnn[tensorboard]'"
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason=needed)
    crc32c = pytest.importorskip("tensorboardX.crc32c", reason=needed).crc32c

    def masked(data):
        crc = crc32c(data)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    def events(path):
        content = path.read_bytes()
        while content:
            head, (length,) = content[:8], struct.unpack("<Q", content[:8])
            data = content[12 : 12 + length]
            assert len(content) >= 16 + length, "a record was cut off"
            assert struct.unpack("<I", content[8:12])[0] == masked(head)
            assert struct.unpack("<I", content[12 + length : 16 + length])[0] == masked(data)
            yield event_pb2.Event.FromString(data)
            content = content[16 + length :]

    def look(folder):
        runs = {}
        for path in sorted(folder.rglob("events*")):
            tags = runs.setdefault(path.parent.relative_to(folder).as_posix(), {})
            for event in events(path):
                if event.HasField("session_log"):  # a run that began anew hides what came later
                    for steps in tags.values():
                        for step in [s for s in steps if s >= event.step]:
                            del steps[step]
                for value in event.summary.value:
                    kind = value.WhichOneof("value")
                    assert kind in ("simple_value", "histo")
                    tags.setdefault(value.tag, {})[event.step] = getattr(value, kind)
        return runs

    return look


X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)


def make(*callbacks, net=None, **options):
    net = net or xpnn.mlp([3, 4, 2], seed=1)
    return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.05), callbacks=callbacks, **options)


def column(history, name, first=1):
    return {step: pytest.approx(v, rel=1e-6) for step, v in enumerate(history[name][first - 1 :], first)}


def test_scalars_of_training_and_validation_share_their_charts(tmp_path, read):
    trainer = make(TensorBoard(tmp_path), regularizer=xpnn.L2(0.01), schedule=xpnn.CosineDecay())
    history = trainer.fit(X, Y, epochs=4, batch_size=10, validation_fraction=0.25)
    runs = read(tmp_path)
    assert set(runs) == {"train", "validation"}
    about = {f"training/{name}": column(history, name) for name in ("lr", "grad_norm", "penalty", "seconds")}
    assert runs["train"] == {**{name: column(history, name) for name in ("loss", "accuracy")}, **about}
    assert runs["validation"] == {name: column(history, f"val_{name}") for name in ("loss", "accuracy")}


def test_without_validation_there_is_one_run(tmp_path, read):
    make(TensorBoard(str(tmp_path / "new" / "folder"))).fit(X, Y, epochs=1)
    assert set(read(tmp_path / "new" / "folder")) == {"train"}


def test_columns_of_other_callbacks_are_told(tmp_path, read):
    class Adds(Callback):
        def on_epoch_end(self, trainer):
            trainer.history.rows[-1] |= {"own": float(trainer.epoch), "val_own": -1.0, "words": "no number"}

    make(Adds(), TensorBoard(tmp_path)).fit(X, Y, epochs=2)
    runs = read(tmp_path)
    assert runs["train"]["own"] == {1: 1.0, 2: 2.0}
    assert runs["validation"] == {"own": {1: -1.0, 2: -1.0}}
    assert "words" not in runs["train"]


@pytest.mark.parametrize("spec", ["numpy", "torch"])
def test_histograms_of_the_weights(tmp_path, read, spec):
    net = xpnn.mlp([3, 4, 2], norm="batch", seed=1, backend=backend_or_skip(spec))
    seen = {}
    look = LambdaCallback(on_epoch_end=lambda t: seen.update({t.epoch: t.net.state_dict()}))
    make(TensorBoard(tmp_path, histograms=2), look, net=net).fit(X, Y, epochs=5)
    train = read(tmp_path)["train"]
    assert {tag for tag in train if tag.startswith("weights/")} == {f"weights/{name}" for name in net.params}
    for name in net.params:
        found = train[f"weights/{name}"]
        assert set(found) == {2, 4}
        for epoch, histogram in found.items():
            values = seen[epoch][name]
            assert histogram.num == sum(histogram.bucket) == values.size
            assert histogram.min == pytest.approx(values.min())
            assert histogram.max == pytest.approx(values.max())
            assert histogram.sum == pytest.approx(values.sum(), rel=1e-4, abs=1e-6)


def test_replicas_have_runs_of_their_own(tmp_path, read):
    net = xpnn.mlp([3, 4, 2], replicas=2)
    trainer = xpnn.Trainer(
        net, xpnn.CrossEntropy(), xpnn.Adam([0.1, 0.01]), callbacks=[TensorBoard(tmp_path, histograms=1)]
    )
    history = trainer.fit(X, Y, epochs=3, validation_fraction=0.25)
    runs = read(tmp_path)
    replicas = [f"{part}/replica-{k}" for part in ("train", "validation") for k in (0, 1)]
    assert set(runs) == {"train", "validation", *replicas}
    for run, prefix in (("train", ""), ("validation", "val_")):
        for name in ("loss", "accuracy"):
            assert runs[run][name] == column(history, prefix + name)
            for k in (0, 1):
                own = {step: pytest.approx(v[k]) for step, v in enumerate(history[f"{prefix}{name}_replicas"], 1)}
                assert runs[f"{run}/replica-{k}"][name] == own
    assert runs["train/replica-1"]["training/lr"] == dict.fromkeys((1, 2, 3), pytest.approx(0.01))
    assert not any(tag.startswith("weights/") for tag in runs["train"])
    last = net.state_dict()["0.weight"]
    for k in (0, 1):
        assert runs[f"train/replica-{k}"]["weights/0.weight"][3].max == pytest.approx(last[k].max())


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ZeroDivisionError, DivergenceError])
def test_files_are_whole_and_closed_however_training_ends(tmp_path, read, error):
    def end(trainer):
        if trainer.epoch == 2:
            if error is None:
                trainer.stop("enough")
            elif error is DivergenceError:
                trainer.net.params["0.weight"][0, 0] = np.nan
            else:
                raise error

    board = TensorBoard(tmp_path)
    trainer = make(board, LambdaCallback(on_epoch_end=end))
    if error is None:
        trainer.fit(X, Y, epochs=9)
    else:
        with pytest.raises(error):
            trainer.fit(X, Y, epochs=9)
    assert board._writers == {}
    assert read(tmp_path)["train"]["loss"] == column(trainer.history, "loss")
    assert len(trainer.history) == 2


def test_a_later_fit_goes_on(tmp_path, read):
    trainer = make(TensorBoard(tmp_path))
    trainer.fit(X, Y, epochs=3)
    trainer.fit(X, Y, epochs=2)  # within the same second
    assert len(list(tmp_path.rglob("events*"))) == 2, "no file was written over"
    assert read(tmp_path)["train"]["loss"] == column(trainer.history, "loss")


def test_a_loaded_trainer_goes_on_where_it_stood(tmp_path, read):
    """What the lost run had written after the checkpoint is not shown beside what comes in its place."""
    trainer = make(TensorBoard(tmp_path / "board"))
    trainer.fit(X, Y, epochs=2)
    trainer.save(tmp_path / "run")
    trainer.fit(X, Y, epochs=4)
    again = xpnn.Trainer.load(tmp_path / "run", callbacks=[TensorBoard(tmp_path / "board")])
    again.optimizer.lr = 0.001
    again.fit(X, Y, epochs=2)
    shown = read(tmp_path / "board")["train"]
    assert shown["loss"] == column(again.history, "loss")
    assert shown["training/lr"][4] == pytest.approx(0.001)


def test_values_that_are_no_numbers_do_not_stop_training(tmp_path, read):
    class Adds(Callback):
        def on_epoch_end(self, trainer):
            trainer.history.rows[-1] |= {"val_loss": float("nan")}

    make(Adds(), TensorBoard(tmp_path)).fit(X, Y, epochs=2)
    assert np.isnan(list(read(tmp_path)["validation"]["loss"].values())).tolist() == [True, True]


def test_errors(tmp_path, read, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    trainer = make(TensorBoard(tmp_path / "file"))
    with pytest.raises(DataError, match=r"^TensorBoard: expected a folder that can be written to, got .*\. Choose"):
        trainer.fit(X, Y, epochs=1)
    assert trainer.step == 0
    with pytest.raises(OptionError, match=r"^TensorBoard: expected histograms to be a positive integer, got -1"):
        TensorBoard(histograms=-1)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        BackendUnavailableError, match=r"^TensorBoard: needs .* Run: pip install 'xpnn\[tensorboard\]'$"
    ):
        TensorBoard()

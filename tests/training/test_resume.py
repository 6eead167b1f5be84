"""Saved and loaded in between: not a bit of training changes."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

import xpnn
from xpnn.errors import DataError, FileFormatError, OptionError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4))
Y = RNG.integers(0, 3, 50)

OPTIMIZERS = [
    xpnn.SGD(0.1, 0.9, nesterov=True, weight_decay=0.01),
    xpnn.Momentum(0.1),
    xpnn.RMSProp(0.01),
    xpnn.AdaGrad(0.1),
    xpnn.Adam(0.01, 0.8),
    xpnn.AdamW(0.01, weight_decay=0.1),
    xpnn.NAdam(0.01),
    xpnn.Lion(0.001),
    xpnn.Muon(0.01, weight_decay=0.1, matrices="hidden"),
]


def make(backend="numpy", optimizer=None, **options):
    net = xpnn.mlp([4, 8, 8, 3], "gelu", norm="batch", dropout=0.2, residual=True, backend=backend, seed=3)
    options = {"schedule": xpnn.StepDecay(2, 0.5), "regularizer": xpnn.SpectralNorm(1e-3), "clip_norm": 1.0} | options
    return xpnn.Trainer(net, xpnn.CrossEntropy(label_smoothing=0.1), optimizer or xpnn.Adam(0.01), seed=5, **options)


def assert_same(a, b):
    for name, value in a.net.state_dict().items():
        np.testing.assert_array_equal(value, b.net.state_dict()[name], err_msg=name)
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in t.history] for t in (a, b)]
    assert rows[0] == rows[1]
    assert (a.epoch, a.step, a.optimizer.t) == (b.epoch, b.step, b.optimizer.t)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_going_on_from_a_file_is_going_on(tmp_path, optimizer):
    optimizer.reset()
    straight = make(optimizer=optimizer, regularizer=xpnn.L2(1e-3))
    straight.fit(X, Y, epochs=2, batch_size=16, validation_fraction=0.2)
    straight.save(tmp_path / "run.safetensors")
    resumed = xpnn.Trainer.load(tmp_path / "run.safetensors")
    assert repr(resumed.optimizer) == repr(straight.optimizer)
    for trainer in (straight, resumed):
        trainer.fit(X, Y, epochs=3, batch_size=16, validation_fraction=0.2)
    assert_same(straight, resumed)


def test_on_every_backend(tmp_path, backend):
    straight = make(backend)
    straight.fit(X, Y, epochs=2, batch_size=16)
    straight.save(tmp_path / "run")
    resumed = xpnn.Trainer.load(tmp_path / "run", backend=backend)
    for trainer in (straight, resumed):
        trainer.fit(X, Y, epochs=2, batch_size=16)
    assert_same(straight, resumed)


def test_in_another_process(tmp_path):
    straight = make()
    straight.fit(X, Y, epochs=2, batch_size=16)
    straight.save(tmp_path / "run")
    np.savez(tmp_path / "data.npz", X=X, y=Y)
    code = (
        "import numpy as np, xpnn; d = np.load('data.npz'); t = xpnn.Trainer.load('run');"
        "t.fit(d['X'], d['y'], epochs=2, batch_size=16); t.save('done')"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True, timeout=60)
    straight.fit(X, Y, epochs=2, batch_size=16)
    assert_same(straight, xpnn.Trainer.load(tmp_path / "done"))


@pytest.mark.parametrize(
    "schedule",
    [
        xpnn.Constant(),
        xpnn.Warmup(xpnn.CosineDecay(total=4), duration=1.0, start=0.1),
        xpnn.OneCycle(total=16, unit="step"),
        xpnn.Plateau("loss", patience=0, min_delta=1.0),
    ],
    ids=lambda s: type(s).__name__,
)
def test_schedules_go_on(tmp_path, schedule):
    straight = make(
        schedule=schedule, regularizer=None, clip_norm=None, clip_value=0.5, metrics=("accuracy", "mse")[:1]
    )
    straight.fit(X, Y, epochs=2, batch_size=16)
    straight.save(tmp_path / "run")
    resumed = xpnn.Trainer.load(tmp_path / "run")
    assert resumed.schedule == schedule
    assert resumed.clip_value == 0.5
    for trainer in (straight, resumed):
        trainer.fit(X, Y, epochs=2, batch_size=16)
    assert_same(straight, resumed)


@pytest.mark.parametrize("backend", ["numpy", "strict"])
def test_schedules_of_dropout_and_decay_go_on(tmp_path, backend):
    options = {
        "schedule": xpnn.CosineLog(total=4, cycles=2),
        "dropout_schedule": xpnn.FlatCosine(total=4),
        "weight_decay_schedule": xpnn.Plateau("loss", patience=0, min_delta=1.0),
        "optimizer": xpnn.AdamW(0.01, weight_decay=0.5),
    }
    straight = make(backend, **options)
    straight.fit(X, Y, epochs=2, batch_size=16)
    straight.save(tmp_path / "run")
    resumed = xpnn.Trainer.load(tmp_path / "run", backend=backend)
    assert (resumed.dropout_schedule, resumed.weight_decay_schedule) == (
        options["dropout_schedule"],
        options["weight_decay_schedule"],
    )
    pickled = pickle.loads(pickle.dumps(straight))
    for trainer in (straight, resumed, pickled):
        trainer.fit(X, Y, epochs=2, batch_size=16)
    assert_same(straight, resumed)
    assert_same(straight, pickled)


def test_replicas_with_rates_of_their_own(tmp_path):
    net = xpnn.mlp([4, 8, 3], replicas=3, seed=1)
    straight = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam([0.1, 0.01, 0.001]))
    straight.fit(X, Y, epochs=1, batch_size=16)
    straight.save(tmp_path / "run")
    resumed = xpnn.Trainer.load(tmp_path / "run")
    for trainer in (straight, resumed):
        trainer.fit(X, Y, epochs=1, batch_size=16)
    assert_same(straight, resumed)


def test_regression_with_other_parts(tmp_path):
    y = RNG.normal(size=(50, 1))
    net = xpnn.Sequential(xpnn.Linear(6), xpnn.PReLU(), xpnn.Linear(3), n_in=4, dtype="float64")
    straight = xpnn.Trainer(net, xpnn.Pinball((0.1, 0.5, 0.9)), xpnn.SGD(0.01), metrics=())
    straight.fit(X, y, epochs=1)
    straight.save(tmp_path / "run")
    resumed = xpnn.Trainer.load(tmp_path / "run")
    assert resumed.loss.quantiles == (0.1, 0.5, 0.9)
    assert resumed.net.backend.dtype_name == "float64"
    for trainer in (straight, resumed):
        trainer.fit(X, y, epochs=1)
    assert_same(straight, resumed)


def test_callbacks_are_given_anew(tmp_path):
    trainer = make()
    trainer.fit(X, Y, epochs=1)
    trainer.save(tmp_path / "run")
    stopping = xpnn.EarlyStopping(patience=1, min_delta=100.0)
    resumed = xpnn.Trainer.load(tmp_path / "run", callbacks=[stopping])
    resumed.fit(X, Y, epochs=10, validation_fraction=0.2)
    assert resumed.epoch == 3
    assert stopping.best_epoch == 2


class Sevenfold(xpnn.MeanSquaredError):
    """A loss of one's own."""

    def __init__(self, factor=7.0):
        self.factor = factor

    def rows(self, xp, pred, y):
        losses, d = super().rows(xp, pred, y)
        return losses * self.factor, d * self.factor


def test_classes_of_ones_own(tmp_path):
    net = xpnn.mlp([4, 3, 1])
    trainer = xpnn.Trainer(net, Sevenfold(3.0), xpnn.SGD(0.01), metrics=())
    trainer.fit(X, X[:, :1], epochs=1)
    trainer.save(tmp_path / "run")
    with pytest.raises(OptionError, match=r"contains 'Sevenfold', which is not xpnn's.*Sevenfold"):
        xpnn.Trainer.load(tmp_path / "run")
    for custom in ((Sevenfold,), [Sevenfold], Sevenfold):
        assert xpnn.Trainer.load(tmp_path / "run", custom=custom).loss.factor == 3.0
    for wrong in (Sevenfold(), (Sevenfold(),), "Sevenfold"):
        with pytest.raises(OptionError, match=r"expected classes of your own, got .* Pass the class, not an object"):
            xpnn.Trainer.load(tmp_path / "run", custom=wrong)


def test_errors(tmp_path):
    with pytest.raises(DataError, match=r"expected the file .*nothing"):
        xpnn.Trainer.load(tmp_path / "nothing")
    xpnn.save(xpnn.mlp([2, 1]), tmp_path / "net")
    with pytest.raises(FileFormatError, match=r"Trainer.load: .*net holds a network without its training"):
        xpnn.Trainer.load(tmp_path / "net")
    trainer = make()
    trainer.save(tmp_path / "run")
    from xpnn.checkpoint import read, write

    tensors, meta = read(tmp_path / "run")
    del meta["trainer"]["loss"]
    write(tmp_path / "bad", tensors, {k: v for k, v in meta.items() if k not in ("version", "written_by")})
    with pytest.raises(FileFormatError, match=r"Trainer.load: expected what trainer.save writes, got a bad entry"):
        xpnn.Trainer.load(tmp_path / "bad")
    content = (tmp_path / "run").read_bytes()
    for size in (0, 7, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:size])
        with pytest.raises(FileFormatError):
            xpnn.Trainer.load(tmp_path / "cut")


def test_the_file_is_data_that_others_can_read(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    trainer = make()
    trainer.fit(X, Y, epochs=1)
    trainer.save(tmp_path / "run")
    with safetensors.safe_open(str(tmp_path / "run"), framework="numpy") as file:
        assert "optimizer/m" in file.keys()  # noqa: SIM118
        assert json.loads(file.metadata()["xpnn"])["trainer"]["epoch"] == 1


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))], ids=["copy", "pickle"]
)
def test_a_trainer_is_copied_after_a_fit(way):
    x, y = xpnn.data.make_moons(60, seed=0)
    trainer = xpnn.Trainer(xpnn.mlp([2, 6, 2], seed=0), xpnn.CrossEntropy(label_smoothing=0.1), xpnn.Adam(0.01))
    trainer.fit(x, y, epochs=2, batch_size=10)
    other = way(trainer)
    for run in (trainer, other):
        run.fit(x, y, epochs=2, batch_size=10)
    assert other.net is not trainer.net
    np.testing.assert_array_equal(other.net.store.values, trainer.net.store.values)
    assert other.history["loss"] == trainer.history["loss"]


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))], ids=["copy", "pickle"]
)
def test_a_penalty_with_vectors_is_copied_with_its_trainer(way):
    trainer = make()
    trainer.fit(X, Y, epochs=2, batch_size=16)
    other = way(trainer)
    for run in (trainer, other):
        run.fit(X, Y, epochs=2, batch_size=16)
    assert_same(trainer, other)


def test_what_is_to_be_written_later_does_not_change(tmp_path):
    kept = []
    trainer = xpnn.Trainer(xpnn.mlp([2, 4, 2]), xpnn.CrossEntropy(), xpnn.Adam())
    X, y = xpnn.data.make_moons(60, seed=0)
    trainer.fit(X, y, epochs=1)
    trainer.save(tmp_path / "run", lambda *content: kept.append(content))
    _, tensors, meta = kept[0]
    before = {name: array.copy() for name, array in tensors.items()}, repr(meta)
    trainer.fit(X, y, epochs=2)
    assert repr(meta) == before[1]
    assert all((array == before[0][name]).all() for name, array in tensors.items())
    assert not (tmp_path / "run").exists()

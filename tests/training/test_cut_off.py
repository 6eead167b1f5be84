"""Training that is cut off at any moment goes on to the bit."""

from __future__ import annotations

import _thread
import copy
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cutoff
import numpy as np
import pytest

import xpnn
from xpnn import checkpoint
from xpnn.errors import DataError, FileFormatError, OptionError
from xpnn.training import signals
from xpnn.training.signals import DeferredSignals

TRIES = 50

each_kind = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "traces"])


# -- at random moments ---------------------------------------------------------------------------------------------
@each_kind
@pytest.mark.parametrize("way", cutoff.WAYS)
def test_cut_off_at_random_moments(way, compiled):
    for seed in range(3):  # load that comes or goes puts moments behind the end: measure again, with other moments
        found = cutoff.cut_off(way, TRIES, compiled=compiled, seed=seed)
        assert found.equal == found.made
        if found.cut_off > 0.8 * found.made:
            return
        cutoff.seconds.cache_clear()
    pytest.fail(f"too few were cut off: {found}")


@each_kind
def test_killed_at_random_moments(compiled):
    """By ``kill -9``, in a process of its own, whose children begin without threads."""
    one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    paths = os.pathsep.join([str(Path(xpnn.__file__).parents[1]), *sys.path])
    command = [sys.executable, cutoff.__file__, str(int(compiled)), str(TRIES), "0"]
    done = subprocess.run(
        command, env={**os.environ, **one, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=120, check=True
    )
    made, killed, equal = map(int, done.stdout.split())
    assert equal == made == TRIES
    assert killed > 0.5 * made


# -- where it stands -----------------------------------------------------------------------------------------------
def raise_once(hook, when, error=KeyboardInterrupt):
    left = [error]

    def call(trainer):
        if left and when(trainer):
            raise left.pop()

    return xpnn.LambdaCallback(**{hook: call})


def cut(hook="on_batch_end", when=lambda trainer: trainer.step == 11, **options):
    """Return a trainer after a fit that was cut off there."""
    trainer = cutoff.make(raise_once(hook, when), **{"compiled": False, **options})
    with pytest.raises(KeyboardInterrupt):
        cutoff.fit(trainer)
    return trainer


def test_within_an_epoch_it_stands_between_two_steps():
    trainer = cut()
    assert (trainer.epoch, trainer.step, len(trainer.history)) == (1, 11, 1)
    assert (trainer.suspended.moment, trainer.suspended.slot) == ("on_batch_end", 3)
    cutoff.fit(trainer)
    assert cutoff.outcome(trainer) == cutoff.straight(compiled=False, ema=False)
    assert trainer.suspended is None


def test_in_validation_only_validation_is_left(monkeypatch):
    trainer, steps, evaluate = cutoff.make(compiled=False), [], xpnn.Trainer.evaluate_feed

    def interrupted(self, *args):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(xpnn.Trainer, "evaluate_feed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cutoff.fit(trainer)
    assert (trainer.epoch, trainer.step, len(trainer.history)) == (0, 8, 0)
    assert xpnn.Trainer.evaluate_feed is evaluate
    trainer.callbacks.append(xpnn.LambdaCallback(on_batch_end=lambda t: steps.append(t.step)))
    cutoff.fit(trainer)
    assert steps[0] == 9
    assert cutoff.outcome(trainer) == cutoff.straight(compiled=False, ema=False)


def test_the_best_weights_are_in_the_network_and_the_last_go_on():
    rng = np.random.default_rng(0)
    trainer = cut(when=lambda t: t.step == 30)
    best = trainer.callbacks[0].best
    assert trainer.evaluate(cutoff.X_VAL, cutoff.Y_VAL)["loss"] == best
    other = copy.deepcopy(trainer)
    other.net.params["0.weight"][...] = rng.normal(size=(5, 12))
    cutoff.fit(trainer)
    assert cutoff.outcome(trainer) == cutoff.straight(compiled=False, ema=False)
    cutoff.fit(other)
    assert cutoff.outcome(other) != cutoff.outcome(trainer)


@pytest.mark.parametrize("ema", [False, True])
def test_a_fit_that_pauses_after_each_epoch_goes_on(ema):
    def pause(trainer):
        if trainer.stop_reason is None and trainer.epoch < cutoff.EPOCHS:
            trainer.stop("a pause", pause=True)

    trainer = cutoff.make(xpnn.LambdaCallback(on_epoch_end=pause), compiled=False, ema=ema)
    for fits in range(1, cutoff.EPOCHS + 1):
        cutoff.fit(trainer)
        assert trainer.epoch == fits
        if trainer.suspended is None:
            break
        assert trainer.stop_reason == "a pause"
    assert fits > 2
    assert cutoff.outcome(trainer) == cutoff.straight(compiled=False, ema=ema)


@pytest.mark.parametrize("what", ["weights", "rows", "batch size", "sample weights", "optimizer"])
def test_what_cannot_be_gone_on_with_is_told(what, caplog):
    trainer = cut(when=lambda t: t.step == 11)
    options = {"batch_size": cutoff.BATCH, "X_val": cutoff.X_VAL, "y_val": cutoff.Y_VAL}
    x, y = cutoff.X, cutoff.Y
    if what == "weights":
        trainer.net.params["0.weight"][0, 0] += 1.0
    elif what == "rows":
        x, y = x[:-1], y[:-1]
    elif what == "batch size":
        options["batch_size"] = 9
    elif what == "sample weights":
        options["sample_weight"] = np.linspace(0.5, 1.0, len(y))
    else:
        trainer.optimizer.reset()
    with caplog.at_level(logging.WARNING, logger="xpnn"):
        trainer.fit(x, y, epochs=1, **options)
    reason = (
        "weights or counts were changed" if what in ("weights", "optimizer") else "rows, their weights, or the batch"
    )
    assert f"a new epoch begins, for the fit that was cut off cannot be gone on with: {reason}" in caplog.text
    assert len(trainer.history) == trainer.epoch == 2


def test_at_the_end_only_what_callbacks_do_is_left(tmp_path):
    trainer = cut("on_epoch_end", lambda t: t.epoch == cutoff.EPOCHS, ema=True)
    assert trainer.epoch == cutoff.EPOCHS
    trainer.save(tmp_path / "run")
    trainer = xpnn.Trainer.load(tmp_path / "run", callbacks=cutoff.callbacks(ema=True))
    trainer.fit(cutoff.X, cutoff.Y, epochs=0, batch_size=cutoff.BATCH, X_val=cutoff.X_VAL, y_val=cutoff.Y_VAL)
    assert cutoff.outcome(trainer) == cutoff.straight(compiled=False, ema=True)
    with pytest.raises(OptionError, match="epochs"):
        trainer.fit(cutoff.X, cutoff.Y, epochs=0)


def test_an_error_at_the_end_of_a_fit_keeps_it(tmp_path):
    around = raise_once("on_fit_end", lambda trainer: True)
    trainer = cutoff.make(around, compiled=False)
    with pytest.raises(KeyboardInterrupt):
        cutoff.fit(trainer)
    assert trainer.suspended is not None
    cutoff.fit(trainer)
    assert cutoff.outcome(trainer) == cutoff.straight(compiled=False, ema=False)


def test_an_order_of_ones_own_is_kept(tmp_path):
    class Drawing(xpnn.Trainer):
        """Draws each order from a stream that goes on."""

        rng = np.random.default_rng(1)

        def epoch_rows(self, n):
            return self.rng.permutation(n)

    def run(*around):
        Drawing.rng = np.random.default_rng(1)
        return Drawing(xpnn.mlp([5, 4, 3]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=around)

    straight = run()
    straight.fit(cutoff.X, cutoff.Y, epochs=2, batch_size=8)
    trainer = run(raise_once("on_batch_end", lambda t: t.step == 5))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(cutoff.X, cutoff.Y, epochs=2, batch_size=8)
    trainer.save(tmp_path / "run")
    trainer = Drawing.load(tmp_path / "run")
    trainer.fit(cutoff.X, cutoff.Y, epochs=2, batch_size=8)
    assert trainer.history["loss"] == straight.history["loss"]


def test_on_every_library(backend, tmp_path):
    def run(*around):
        net = xpnn.mlp([5, 8, 3], norm="batch", dropout=0.2, backend=backend, seed=1)
        return xpnn.Trainer(
            net, xpnn.CrossEntropy(), xpnn.Adam(0.01), callbacks=[xpnn.EMA(0.9), xpnn.EarlyStopping("loss"), *around]
        )

    straight = run()
    straight.fit(cutoff.X, cutoff.Y, epochs=3, batch_size=8)
    trainer = run(raise_once("on_batch_end", lambda t: t.step == 13))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(cutoff.X, cutoff.Y, epochs=3, batch_size=8)
    trainer.save(tmp_path / "run")
    loaded = xpnn.Trainer.load(tmp_path / "run", backend=backend, callbacks=[xpnn.EMA(0.9), xpnn.EarlyStopping("loss")])
    for other in (trainer, copy.deepcopy(loaded), loaded):
        other.fit(cutoff.X, cutoff.Y, epochs=2, batch_size=8)
        assert other.history["loss"] == straight.history["loss"]
        for key, value in straight.net.state_dict().items():
            np.testing.assert_array_equal(other.net.state_dict()[key], value)


@pytest.mark.parametrize("moment", range(1, 40, 3))
def test_lbfgs_goes_on_from_an_epoch(moment, monkeypatch):
    def run():
        net = xpnn.mlp([5, 4, 3], "tanh", seed=1)
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.LBFGS(), callbacks=[xpnn.EarlyStopping("loss")])

    straight = run()
    straight.fit(cutoff.X, cutoff.Y, epochs=12)
    trainer, calls, backward = run(), [], xpnn.Sequential.backward

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == moment:
            raise KeyboardInterrupt
        return backward(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(xpnn.Sequential, "backward", interrupted)
        try:
            trainer.fit(cutoff.X, cutoff.Y, epochs=12)
        except KeyboardInterrupt:
            assert trainer.epoch == len(trainer.history)
            trainer = pickle.loads(pickle.dumps(trainer))
    if trainer.epoch < 12:
        trainer.fit(cutoff.X, cutoff.Y, epochs=12 - trainer.epoch)
    assert trainer.history["loss"] == straight.history["loss"]
    assert (trainer.net.store.values == straight.net.store.values).all()


# -- what is lost --------------------------------------------------------------------------------------------------
class Broken(xpnn.SGD):
    """Raises an error once, in the middle of a step that has moved some weights."""

    broken = False

    def rule(self, store, scalars):
        super().rule(store, scalars)
        if self.t == 11 and not Broken.broken:
            Broken.broken = True
            store.values *= 2.0
            raise MemoryError("of a rule")


@pytest.mark.parametrize("copied", [True, False])
def test_a_step_that_is_torn_is_undone(copied, monkeypatch, caplog):
    def run():
        return xpnn.Trainer(xpnn.mlp([5, 4, 3], norm="batch"), xpnn.CrossEntropy(), Broken(0.1, momentum=0.9))

    Broken.broken = True
    straight = run()
    straight.fit(cutoff.X, cutoff.Y, epochs=3, batch_size=8)
    Broken.broken = False
    if not copied:
        monkeypatch.setattr("xpnn.training.state._COPIED_ELEMENTS", 0)
    trainer = run()
    with pytest.raises(MemoryError), caplog.at_level(logging.WARNING, logger="xpnn"):
        trainer.fit(cutoff.X, cutoff.Y, epochs=3, batch_size=8)
    lost = (
        "in a step that is undone. The trainer is left as it was at the beginning of epoch 2. The optimizer, too large"
    )
    assert (lost in caplog.text) != copied
    assert (trainer.epoch, trainer.step, trainer.optimizer.t) == (1, 8, 8 if copied else 0)
    trainer.fit(cutoff.X, cutoff.Y, epochs=2, batch_size=8)
    assert (trainer.history["loss"] == straight.history["loss"]) == copied


def mapped(path, x):
    x.tofile(path)
    return np.memmap(path, x.dtype, "r+", shape=x.shape)


@pytest.mark.parametrize("what", ["training", "validation"])
@pytest.mark.parametrize("fault", ["nan", "cut short"])
def test_rows_that_cannot_be_read_undo_the_epoch(what, fault, tmp_path, monkeypatch):
    monkeypatch.setattr("xpnn.training.feed._STAGE_ELEMENTS", 40)
    path = tmp_path / "rows"
    x = mapped(path, cutoff.X)

    def spoil(trainer):
        if trainer.epoch == 1 and not spoilt:
            spoilt.append(trainer.net.state_dict())
            if fault == "nan":
                x[60, 3] = np.nan
            else:
                os.truncate(path, 61 * 20)

    spoilt = []
    trainer = xpnn.Trainer(
        xpnn.mlp([5, 4, 3], norm="batch"),
        xpnn.CrossEntropy(),
        xpnn.Adam(),
        callbacks=[xpnn.EMA(), xpnn.LambdaCallback(on_epoch_begin=spoil)],
    )
    data = {"X": x, "y": cutoff.Y} if what == "training" else {"X": cutoff.X, "y": cutoff.Y}
    if what == "validation":
        data |= {"X_val": x, "y_val": cutoff.Y}
    words = r"(got 1 that are not|cut short while it was mapped).* The trainer is left as it was at the beginning of ep"
    with pytest.raises(DataError, match=words):
        trainer.fit(**data, epochs=3, batch_size=8)
    assert (trainer.epoch, trainer.step, trainer.optimizer.t, len(trainer.history)) == (1, 8, 8, 1)
    cutoff.X.tofile(path)
    trainer.fit(**data, epochs=2, batch_size=8)
    straight = xpnn.Trainer(xpnn.mlp([5, 4, 3], norm="batch"), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[xpnn.EMA()])
    straight.fit(**data, epochs=3, batch_size=8)
    assert trainer.history["loss"] == straight.history["loss"]
    for name, value in straight.net.state_dict().items():
        np.testing.assert_array_equal(trainer.net.state_dict()[name], value)


def test_a_part_of_a_map_needs_no_more_than_its_own_bytes(tmp_path):
    x = mapped(tmp_path / "rows", cutoff.X)[:20]
    os.truncate(tmp_path / "rows", 30 * 20)
    xpnn.Trainer(xpnn.mlp([5, 3]), xpnn.CrossEntropy(), xpnn.SGD(0.1)).fit(x, cutoff.Y[:20], epochs=1)


# -- signals -------------------------------------------------------------------------------------------------------
def test_a_signal_waits_for_the_end_of_a_step():
    seen = []

    class Slow(xpnn.SGD):
        def rule(self, store, scalars):
            if self.t == 4:
                signal.raise_signal(signal.SIGINT)
            super().rule(store, scalars)
            seen.append(self.t)

    handler = signal.getsignal(signal.SIGINT)
    trainer = xpnn.Trainer(xpnn.mlp([5, 3]), xpnn.CrossEntropy(), Slow(0.1))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(cutoff.X, cutoff.Y, epochs=2, batch_size=8)
    assert seen == [0, 1, 2, 3, 4]
    assert (trainer.step, trainer.suspended.slot) == (5, 5)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_fit_within_a_fit_is_left_at_once():
    inner = xpnn.Trainer(xpnn.mlp([5, 3]), xpnn.CrossEntropy(), xpnn.SGD(0.1))
    inner.callbacks.append(xpnn.LambdaCallback(on_epoch_end=lambda t: _thread.interrupt_main()))
    around = xpnn.LambdaCallback(on_epoch_end=lambda t: inner.fit(cutoff.X, cutoff.Y, epochs=50))
    outer = xpnn.Trainer(xpnn.mlp([5, 3]), xpnn.CrossEntropy(), xpnn.SGD(0.1), callbacks=[around])
    with pytest.raises(KeyboardInterrupt):
        outer.fit(cutoff.X, cutoff.Y, epochs=50)
    assert (inner.epoch, outer.epoch) == (1, 1)


def test_a_signal_that_comes_again_does_not_wait(monkeypatch):
    monkeypatch.setattr(signals, "_PATIENCE", 0.01)

    def come_again():
        with DeferredSignals() as deferred:
            signal.raise_signal(signal.SIGINT)
            assert deferred.pending
            time.sleep(0.02)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it waits")

    with pytest.raises(KeyboardInterrupt):
        come_again()


def test_handlers_of_the_system_and_other_threads_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    assert before is signal.SIG_DFL
    found = []

    def fit():
        cutoff.fit(cutoff.make(compiled=False))
        found.append(signal.getsignal(signal.SIGINT))

    with DeferredSignals():
        assert signal.getsignal(signal.SIGTERM) is before
    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def test_a_handler_put_in_place_meanwhile_stays():
    def own(*given):
        """Do nothing."""

    before = signal.getsignal(signal.SIGINT)
    try:
        with DeferredSignals():
            signal.signal(signal.SIGINT, own)
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


# -- states of callbacks, checkpoints ------------------------------------------------------------------------------
class Summing(xpnn.Callback):
    """Keeps what it has seen: a number and an array."""

    def __init__(self):
        self.losses, self.counts = 0.0, np.zeros(2, np.int64)

    def on_epoch_end(self, trainer):
        self.losses += trainer.history.rows[-1]["loss"]
        self.counts = self.counts + 1

    def state_dict(self):
        return {"losses": self.losses, "counts": self.counts}

    def load_state_dict(self, state):
        self.losses, self.counts = state["losses"], state["counts"]


def test_a_callback_of_ones_own_goes_on(tmp_path):
    straight = cutoff.make(Summing(), compiled=False)
    cutoff.fit(straight)
    trainer = cutoff.make(Summing(), raise_once("on_batch_end", lambda t: t.step == 13), compiled=False)
    with pytest.raises(KeyboardInterrupt):
        cutoff.fit(trainer)
    trainer.save(tmp_path / "run")
    own = Summing()
    cutoff.fit(xpnn.Trainer.load(tmp_path / "run", callbacks=[own, *cutoff.callbacks(ema=False)]))
    assert own.losses == straight.callbacks[-1].losses
    assert own.counts.tolist() == straight.callbacks[-1].counts.tolist() == [cutoff.EPOCHS] * 2


def test_a_state_that_no_file_holds_is_told(tmp_path):
    class Odd(Summing):
        def state_dict(self):
            return {"losses": object()}

    trainer = cutoff.make(Odd(), raise_once("on_batch_end", lambda t: t.step == 3), compiled=False)
    with pytest.raises(KeyboardInterrupt):
        cutoff.fit(trainer)
    with pytest.raises(OptionError, match=r"Odd\.state_dict: expected values to be numbers, text"):
        trainer.save(tmp_path / "run")


@each_kind
def test_checkpoints_within_an_epoch(compiled, tmp_path, monkeypatch):
    path, steps, save = tmp_path / "run", [], xpnn.Trainer.save

    def noted(self, *args):
        steps.append(self.step)
        save(self, *args)

    monkeypatch.setattr(xpnn.Trainer, "save", noted)
    trainer = cutoff.make(xpnn.Checkpoint(path, None, trainer=True, every_steps=5), compiled=compiled)
    cutoff.fit(trainer)
    assert steps == [*range(5, cutoff.EPOCHS * 8, 5), cutoff.EPOCHS * 8]
    steps.clear()
    cutoff.fit(cutoff.make(xpnn.Checkpoint(path, None, trainer=True, every_seconds=0), compiled=compiled))
    assert len(steps) > cutoff.EPOCHS
    steps.clear()
    cutoff.fit(cutoff.make(xpnn.Checkpoint(path, None, trainer=True, every_seconds=1e6), compiled=compiled))
    assert steps == [cutoff.EPOCHS * 8]


def test_a_checkpoint_of_the_trainer_at_its_best(tmp_path):
    keep = xpnn.Checkpoint(tmp_path / "{epoch}", trainer=True)
    trainer = cutoff.make(keep, compiled=False)
    cutoff.fit(trainer)
    loaded = xpnn.Trainer.load(tmp_path / str(keep.best_epoch), callbacks=cutoff.callbacks(ema=False))
    assert loaded.epoch == keep.best_epoch
    cutoff.fit(loaded)
    assert cutoff.outcome(loaded) == cutoff.straight(compiled=False, ema=False)


def test_checkpoints_that_make_no_sense(tmp_path):
    for options in ({"every_steps": 5}, {"monitor": None, "every_seconds": 5}, {"trainer": True, "every_steps": 5}):
        with pytest.raises(OptionError, match=r"Checkpoint: expected monitor=None and trainer=True with every_steps"):
            xpnn.Checkpoint(tmp_path / "run", **options)
    with pytest.raises(OptionError, match=r"Checkpoint: expected every_seconds >= 0, got -1"):
        xpnn.Checkpoint(tmp_path / "run", None, trainer=True, every_seconds=-1)
    with pytest.raises(OptionError, match=r"every_steps"):
        xpnn.Checkpoint(tmp_path / "run", None, trainer=True, every_steps=0)


# -- copies --------------------------------------------------------------------------------------------------------
@each_kind
def test_trainers_are_copied_after_a_fit(compiled):
    trainer = cutoff.make(xpnn.TimeLimit(100), compiled=compiled)
    trainer.fit(cutoff.X, cutoff.Y, epochs=2, batch_size=8, X_val=cutoff.X_VAL, y_val=cutoff.Y_VAL)
    for other in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
        other.fit(cutoff.X, cutoff.Y, epochs=1, batch_size=8, X_val=cutoff.X_VAL, y_val=cutoff.Y_VAL)
        assert other.epoch == 3
    bar = xpnn.ProgressBar(disable=True)
    shown = xpnn.Trainer(xpnn.mlp([5, 3]), xpnn.CrossEntropy(), xpnn.SGD(0.1), callbacks=[bar])
    shown.fit(cutoff.X, cutoff.Y, epochs=1)
    pickle.loads(pickle.dumps(shown)).fit(cutoff.X, cutoff.Y, epochs=1)


def test_within_a_fit_a_trainer_is_copied_where_it_stands():
    kept = []
    look = xpnn.LambdaCallback(on_batch_end=lambda t: kept.append(copy.deepcopy(t)) if t.step == 13 else None)
    trainer = cutoff.make(look, compiled=False)
    cutoff.fit(trainer)
    (other,) = kept
    assert other.step == 13
    cutoff.fit(other)
    assert cutoff.outcome(other) == cutoff.outcome(trainer)


def test_a_pickle_of_an_earlier_version_is_read():
    trainer = cutoff.make(compiled=False)
    new = {"suspended", "column_names", "position", "rows_key", "_between", "_fitting"}
    old = xpnn.Trainer.__new__(xpnn.Trainer)
    old.__setstate__({name: value for name, value in vars(trainer).items() if name not in new})
    vars(old.callbacks[0]).pop("_noted", None)
    assert old.callbacks[0].best_epoch is None
    assert old.column_names == {}
    cutoff.fit(old)
    assert cutoff.outcome(old) == cutoff.straight(compiled=False, ema=False)


class Stops(xpnn.Callback):
    """Cuts a fit off after some steps."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, trainer):
        if trainer.step == self.step:
            raise KeyboardInterrupt


def cut_off_at(step, kind=xpnn.Trainer, *callbacks):
    """A trainer that was cut off in its first epoch, and its rows."""
    rows = xpnn.data.make_moons(100, seed=0)
    trainer = kind(xpnn.mlp([2, 4, 2]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[Stops(step), *callbacks])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(*rows, epochs=1, batch_size=10)
    trainer.callbacks[0].step = -1
    return trainer, rows


def test_a_second_error_before_the_next_step_loses_no_step():
    class Fails(xpnn.Trainer):
        failing = False

        def penalty_strengths(self, weights):
            if self.failing:
                raise RuntimeError("once")
            return None

    trainer, rows = cut_off_at(5, Fails)
    trainer.failing = True
    with pytest.raises(RuntimeError, match="once"):
        trainer.fit(*rows, epochs=1, batch_size=10)
    trainer.failing = False
    alone = xpnn.Trainer(xpnn.mlp([2, 4, 2]), xpnn.CrossEntropy(), xpnn.Adam())
    alone.fit(*rows, epochs=1, batch_size=10)
    assert trainer.fit(*rows, epochs=1, batch_size=10)["loss"] == alone.history["loss"]


def forged(trainer, path, change):
    """Save a trainer with changed arrays and description, under a digest that fits."""
    trainer.save(path)
    tensors, meta = checkpoint.read(path)
    tensors = {name: array.copy() for name, array in tensors.items()}
    change(tensors, meta["trainer"])
    checkpoint.write(path, tensors, {"network": meta["network"], "trainer": meta["trainer"]})
    return path


@pytest.mark.parametrize(
    "entries",
    [
        *({"slot": slot} for slot in (10**9, -5, "x")),
        *({"waiting": waiting} for waiting in ([99], "ab")),
        *({"moment": "evil"}, {"epoch": -7}, {"seconds": "x"}, {"stop_reason": [1]}, {"rows": 5}),
        {"states": [["Stops", 3]]},
    ],
    ids=str,
)
def test_a_damaged_position_is_refused(tmp_path, entries):
    trainer, _ = cut_off_at(5)
    path = forged(trainer, tmp_path / "t", lambda _, described: described["suspended"].update(entries))
    with pytest.raises(FileFormatError, match=r"Trainer\.load: expected what trainer\.save writes"):
        xpnn.Trainer.load(path, callbacks=[Stops(-1)])


@pytest.mark.parametrize("name", ["last/net", "last/fit", "suspended/live/values"])
def test_a_file_sets_nothing_but_what_a_trainer_saves(tmp_path, name):
    trainer, _ = cut_off_at(5, xpnn.Trainer, xpnn.EMA())
    path = forged(trainer, tmp_path / "t", lambda tensors, _: tensors.update({name: np.full(1, 7.0, np.float32)}))
    with pytest.raises(FileFormatError, match=r"Trainer\.load: expected what trainer\.save writes"):
        xpnn.Trainer.load(path, callbacks=[Stops(-1), xpnn.EMA()])

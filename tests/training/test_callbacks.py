"""What happens around training: stopping, saving, averaging, showing, and telling what looks wrong."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import warnings

import numpy as np
import pytest
from places import backend_or_skip

import xpnn
from xpnn.errors import DataError, DivergenceError, OptionError
from xpnn.training import (
    EMA,
    Callback,
    Checkpoint,
    CSVLogger,
    Diagnose,
    DiagnosisWarning,
    EarlyStopping,
    Finding,
    History,
    LambdaCallback,
    ProgressBar,
    TimeLimit,
    Trainer,
    callbacks,
    diagnose,
)


def table(n=40, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(np.int64)


def make(*around, lr=0.05, net=None, **options):
    net = net or xpnn.mlp([3, 8, 2], norm="batch", seed=1)
    return Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=lr), callbacks=around, **options)


class Script(Callback):
    """Writes given values over the column ``val_loss``, and keeps the weights of every epoch."""

    def __init__(self, values, column="val_loss"):
        self.values, self.column, self.weights = values, column, []

    def on_fit_begin(self, trainer):
        trainer.columns.append(self.column)

    def on_epoch_end(self, trainer):
        trainer.history.rows[-1][self.column] = self.values[trainer.epoch - 1]
        self.weights.append(trainer.net.state_dict())


def assert_holds(net, weights):
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, weights[name], err_msg=name)


# -- hooks ------------------------------------------------------------------------------------------------------
HOOKS = ("on_fit_begin", "on_epoch_begin", "on_batch_end", "on_epoch_trained", "on_epoch_end", "on_fit_end")


class Recorder(Callback):
    def __init__(self, log, name):
        self.log, self.name = log, name

    def __getattribute__(self, hook):
        if hook in HOOKS:
            return lambda trainer: self.log.append((hook, self.name, trainer.epoch, trainer.step, len(trainer.history)))
        return object.__getattribute__(self, hook)

    def on_batch_end(self, trainer):
        raise NotImplementedError  # replaced above; defined, because the trainer asks the class for it


def test_hooks_come_in_order_and_callbacks_in_theirs():
    log = []
    X, y = table(20)
    make(Recorder(log, "a"), Recorder(log, "b")).fit(X, y, epochs=2, batch_size=10)
    assert log[::2] == [
        ("on_fit_begin", "a", 0, 0, 0),
        ("on_epoch_begin", "a", 0, 0, 0),
        ("on_batch_end", "a", 0, 1, 0),
        ("on_batch_end", "a", 0, 2, 0),
        ("on_epoch_trained", "a", 1, 2, 0),
        ("on_epoch_end", "a", 1, 2, 1),
        ("on_epoch_begin", "a", 1, 2, 1),
        ("on_batch_end", "a", 1, 3, 1),
        ("on_batch_end", "a", 1, 4, 1),
        ("on_epoch_trained", "a", 2, 4, 1),
        ("on_epoch_end", "a", 2, 4, 2),
        ("on_fit_end", "a", 2, 4, 2),
    ]
    assert [(hook, *rest) for hook, name, *rest in log[1::2] if name == "b"] == [
        (hook, *rest) for hook, name, *rest in log[::2]
    ]


def test_lambda_callback_takes_any_hook():
    seen = []
    X, y = table(20)
    hooks = {hook: (lambda trainer, hook=hook: seen.append(hook)) for hook in HOOKS}
    make(LambdaCallback(**hooks)).fit(X, y, epochs=1, batch_size=20)
    assert seen == list(HOOKS)
    make(LambdaCallback()).fit(X, y, epochs=1)
    with pytest.raises(OptionError, match=r"expected hooks among on_batch_end, .*, got on_epoch, on_stop\. Choose"):
        LambdaCallback(on_epoch=print, on_stop=print)


# -- early stopping ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "options", "stops", "best"),
    [
        ([5, 4, 3, 4, 4, 4, 4], {"patience": 2}, 5, 3),
        ([5, 4, 3, 4, 4, 2, 4, 4, 4], {"patience": 3}, 9, 6),  # an improvement begins the wait anew
        ([5, 4, 3, 2, 1], {"patience": 1}, None, 5),
        ([5, 5, 5, 5], {"patience": 2}, 3, 1),  # equal is no improvement
        ([5, 4.95, 4.9, 4.85, 4.8, 4.8], {"patience": 3, "min_delta": 0.1}, None, 4),  # below 5 - 0.1 at last
        ([5, 4.95, 4.92, 4.91], {"patience": 3, "min_delta": 0.1}, 4, 1),
        ([1, 2, 3, 2, 2], {"patience": 2, "mode": "max"}, 5, 3),
        ([math.nan, 3, math.nan, math.nan], {"patience": 2}, 4, 2),  # NaN never is the best
        ([math.inf, 3, 2, 3], {"patience": 2}, None, 3),
    ],
)
def test_early_stopping(values, options, stops, best):
    script, stopping = Script(values), EarlyStopping(**options)
    run = make(script, stopping)
    history = run.fit(*table(), epochs=len(values), batch_size=20)
    assert len(history) == (stops or len(values))
    assert (stopping.best_epoch, stopping.best) == (best, values[best - 1])
    assert_holds(run.net, script.weights[best - 1])  # weights and running statistics
    if stops and stops == len(history):
        patience = options["patience"]
        assert run.stop_reason == (
            f"val_loss has not improved for {patience} epochs; restored epoch {best} ({values[best - 1]:.4g})"
        )
    else:
        assert run.stop_reason is None


@pytest.mark.parametrize(
    ("values", "options", "stops", "best"),
    [
        ([3, 2, 3, 2, 3, 3], {"ties": "last", "patience": 2}, 6, 4),  # an equal value begins the wait anew
        ([3, 2, 3, 2, 3, 3], {"ties": "first", "patience": 3}, 5, 2),
        ([3, 3, 3], {"ties": "last"}, None, 3),
        ([1, 2, 2, 0], {"ties": "last", "mode": "max"}, None, 3),
        ([5, 4, 3.5, 3, 3], {"ties": "last", "min_delta": 1.0}, None, 4),
        ([math.nan, 2, math.nan, 2], {"ties": "last"}, None, 4),
        ([1, 2, 3, 4, 5], {"patience": 2, "patience_growth": 1.0}, 4, 1),  # after 1 + 2 + 1
        ([2, 2, 1, 3, 3, 3, 3, 3, 3, 3, 3], {"patience": 2, "patience_growth": 2.0}, 11, 3),  # after 3 + 2 + 6
        ([2, 1, 3, 3, 3], {"patience": 1, "patience_growth": 0.5}, 4, 2),  # after 2 + 1 + 1
        ([2, 1, 3, 3, 3], {"patience": 1, "patience_growth": 0.6}, 5, 2),  # 2.2 epochs are over after 3
    ],
)
def test_ties_and_growing_patience(values, options, stops, best):
    script, stopping = Script(values), EarlyStopping(**options)
    run = make(script, stopping)
    history = run.fit(*table(), epochs=len(values), batch_size=20)
    assert len(history) == (stops or len(values))
    assert (run.stop_reason is not None) == (stops is not None)
    assert (stopping.best_epoch, stopping.best) == (best, values[best - 1])
    assert_holds(run.net, script.weights[best - 1])


@pytest.mark.parametrize("best", [1, 2, 10])
def test_the_rule_of_realmlp(best):
    values = [1.0 / epoch for epoch in range(1, best + 1)] + [9.0] * 80
    stopping = EarlyStopping(patience=41, patience_growth=2, ties="last")
    history = make(Script(values), stopping).fit(*table(), epochs=len(values), batch_size=20)
    assert len(history) == 3 * best + 41 if 3 * best + 41 < len(values) else len(history) == len(values)
    assert stopping.best_epoch == best


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ties": "both"}, r"EarlyStopping: expected ties to be 'first' or 'last', got 'both'"),
        ({"patience_growth": -1}, r"EarlyStopping: expected patience_growth >= 0, got -1"),
        ({"patience_growth": math.inf}, r"expected patience_growth >= 0, got inf"),
        ({"patience_growth": None}, r"expected patience_growth >= 0, got None"),
    ],
)
def test_bad_options_of_early_stopping(options, text):
    with pytest.raises(OptionError, match=text):
        EarlyStopping(**options)


# -- early stopping of each replica -------------------------------------------------------------------------------
class ScriptOfEach(Script):
    """Writes given values of each replica over ``val_loss_replicas``."""

    def on_epoch_end(self, trainer):
        trainer.history.rows[-1]["val_loss_replicas"] = list(self.values[trainer.epoch - 1])
        super().on_epoch_end(trainer)


def make_each(script, *around, **options):
    net = xpnn.mlp([3, 8, 2], norm="batch", seed=[1, 2, 3])
    return make(script, EarlyStopping(**{"patience": 2, "per_replica": True, **options}), *around, net=net)


def assert_each_holds(net, weights, epochs):
    for name, value in net.state_dict().items():
        for k, epoch in enumerate(epochs):
            np.testing.assert_array_equal(value[k], weights[epoch - 1][name][k], err_msg=f"{name} of {k}")


EACH = [(5.0, 1.0, 4.0), (4.0, 2.0, 3.0), (6.0, 3.0, 2.0), (6.0, 0.5, 1.0), (6.0, 0.1, 3.0), (1.0, 0.1, 3.0), (0, 0, 0)]


def test_each_replica_has_a_best_epoch_of_its_own():
    """The second was out of patience when it had its best value; the first too, later."""
    script = ScriptOfEach(EACH)
    run = make_each(script)
    stopping = run.callbacks[1]
    history = run.fit(*table(), epochs=7, batch_size=20, validation_fraction=0.2)
    assert len(history) == 6
    assert (stopping.best_epoch, stopping.best) == ([2, 1, 4], [4.0, 1.0, 1.0])
    assert run.stop_reason == ("val_loss of no replica has improved for 2 epochs; restored epoch 2, 1, 4 (4, 1, 1)")
    assert_each_holds(run.net, script.weights, [2, 1, 4])


def test_of_each_replica_likewise_with_other_options():
    script = ScriptOfEach([(0.5, 0.5, math.nan), (0.7, 0.5, 0.1), (0.7, 0.2, 0.1)])
    run = make_each(script, mode="max", ties="last", restore_best=False)
    run.fit(*table(), epochs=3, batch_size=20, validation_fraction=0.2)
    assert run.callbacks[1].best_epoch == [3, 2, 3]
    assert_each_holds(run.net, script.weights, [3, 3, 3])


@pytest.mark.parametrize("average", [False, True], ids=["", "EMA"])
def test_each_replica_ends_as_it_would_alone(average):
    X, y = table(120)
    X_val, y_val = X[80:], np.random.default_rng(3).integers(0, 2, 40)

    def fitted(seed):
        each = isinstance(seed, list)
        stopping = EarlyStopping(patience=4, ties="last", per_replica=each)
        around = [EMA(0.8), stopping] if average else [stopping]
        run = make(*around, lr=0.03, net=xpnn.mlp([3, 8, 2], dropout=0.1, dtype="float64", seed=seed))
        run.fit(X[:80], y[:80], epochs=40, batch_size=20, X_val=X_val, y_val=y_val)
        return run.net.store.values, stopping

    together, of_all = fitted([4, 5, 6, 7])
    assert len(set(of_all.best_epoch)) > 1, "there is something to tell apart"
    for k, seed in enumerate((4, 5, 6, 7)):
        alone, own = fitted(seed)
        assert (own.best_epoch, own.best) == (of_all.best_epoch[k], pytest.approx(of_all.best[k]))
        np.testing.assert_allclose(together[k], alone, rtol=1e-9, atol=1e-12)


def test_each_replicas_best_survives_a_cut(tmp_path):
    straight = make_each(ScriptOfEach(EACH))
    straight.fit(*table(), epochs=7, batch_size=20, validation_fraction=0.2)

    cut = make_each(ScriptOfEach(EACH), raiser(KeyboardInterrupt(), 3, "on_batch_end"))
    with pytest.raises(KeyboardInterrupt):
        cut.fit(*table(), epochs=7, batch_size=20, validation_fraction=0.2)
    assert cut.epoch == 3
    cut.save(tmp_path / "run")
    again = [ScriptOfEach(EACH), EarlyStopping(patience=2, per_replica=True), LambdaCallback()]
    resumed = Trainer.load(tmp_path / "run", callbacks=again)
    resumed.fit(*table(), epochs=4, batch_size=20, validation_fraction=0.2)
    assert resumed.callbacks[1].best_epoch == straight.callbacks[1].best_epoch == [2, 1, 4]
    np.testing.assert_array_equal(resumed.net.store.values, straight.net.store.values)
    np.testing.assert_array_equal(resumed.net.store.buffers, straight.net.store.buffers)


def test_each_replica_needs_replicas():
    with pytest.raises(OptionError, match=r"EarlyStopping: expected a network of replicas with per_replica=True, got"):
        make(EarlyStopping("loss", per_replica=True)).fit(*table(), epochs=2)


def test_early_stopping_may_leave_the_last_weights():
    script = Script([1, 2, 3, 4])
    run = make(script, EarlyStopping(patience=2, restore_best=False))
    run.fit(*table(), epochs=4)
    assert run.stop_reason == "val_loss has not improved for 2 epochs (1)"
    assert_holds(run.net, script.weights[-1])


def test_early_stopping_knows_directions_and_other_columns():
    assert EarlyStopping("val_accuracy").mode == EarlyStopping("r2").mode == "max"
    assert EarlyStopping("val_rmse").mode == EarlyStopping("loss").mode == "min"
    script, stopping = Script([0.1, 0.9, 0.5, 0.5], "share"), EarlyStopping("share", 2, mode="max")
    make(script, stopping).fit(*table(), epochs=9)
    assert (stopping.best, stopping.best_epoch) == (0.9, 2)
    with pytest.raises(OptionError, match=r"monitor: expected loss or one of .* got 'share'\. For another column pass"):
        EarlyStopping("share")


def raiser(error, epoch, hook="on_epoch_end"):
    def fail(trainer):
        if trainer.epoch == epoch:
            raise error

    return LambdaCallback(**{hook: fail})


def spoil(trainer):
    if trainer.epoch == 3:
        trainer.net.params["0.weight"][...] = np.nan


ENDS = {
    "last epoch": (None, lambda: Callback()),
    "stop by another": (None, lambda: LambdaCallback(on_epoch_end=lambda t: t.stop("so") if t.epoch == 4 else None)),
    "time limit": (None, lambda: TimeLimit(1e-9)),
    "Ctrl-C": (KeyboardInterrupt, lambda: raiser(KeyboardInterrupt(), 3, "on_batch_end")),
    "divergence": (DivergenceError, lambda: LambdaCallback(on_epoch_begin=spoil)),
    "error of the user": (ZeroDivisionError, lambda: raiser(ZeroDivisionError("user"), 4)),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("first", [True, False], ids=["stopping first", "stopping last"])
def test_the_best_weights_are_restored_however_training_ended(end, first):
    error, other = ENDS[end]
    values = [1.0, 9.0, 9.0, 9.0, 9.0] if end == "time limit" else [3.0, 1.0, 2.0, 2.0, 2.0]
    script, stopping = Script(values), EarlyStopping(patience=50)
    around = (script, stopping, other()) if first else (script, other(), stopping)
    run = make(*around)
    if error is None:
        run.fit(*table(), epochs=5, batch_size=10)
    else:
        with pytest.raises(error):
            run.fit(*table(), epochs=5, batch_size=10)
    assert stopping.best == 1.0
    assert_holds(run.net, script.weights[stopping.best_epoch - 1])


def test_each_fit_has_a_best_of_its_own():
    script, stopping = Script([1.0, 2.0, 3.0, 2.5, 2.6]), EarlyStopping()
    run = make(script, stopping)
    run.fit(*table(), epochs=2)
    assert stopping.best_epoch == 1
    run.fit(*table(), epochs=3)
    assert (stopping.best, stopping.best_epoch) == (2.5, 4)
    assert_holds(run.net, script.weights[3])


def test_early_stopping_without_validation_data_says_so():
    words = r"^EarlyStopping: expected a column 'val_loss', got epoch, loss, .*\. Pass X_val and y_val \(or validation"
    with pytest.raises(OptionError, match=words):
        make(EarlyStopping()).fit(*table(), epochs=3)


def test_early_stopping_learns_when_to_stop():
    X, y = table(60)
    y = np.random.default_rng(0).permutation(y)  # nothing to learn: the validation loss soon rises
    stopping = EarlyStopping(patience=5)
    run = make(stopping, lr=0.02, net=xpnn.mlp([3, 32, 2]))
    history = run.fit(X, y, epochs=200, batch_size=16, validation_fraction=0.3)
    assert len(history) == stopping.best_epoch + 5 < 200
    assert stopping.best == min(history["val_loss"])


# -- files ------------------------------------------------------------------------------------------------------
def test_checkpoint_keeps_the_best(tmp_path):
    path = tmp_path / "new folder" / "best.safetensors"
    script, saved = Script([3.0, 1.0, 2.0, 0.5, 0.7]), []

    def look(trainer):
        saved.append(path.stat().st_mtime_ns)

    keep = Checkpoint(path)
    make(script, keep, LambdaCallback(on_epoch_end=look)).fit(*table(), epochs=5)
    assert (keep.best, keep.best_epoch) == (0.5, 4)
    assert_holds(xpnn.load(path), script.weights[3])
    assert [a != b for a, b in itertools.pairwise(saved)] == [True, False, True, False]
    assert [file.name for file in path.parent.iterdir()] == ["best.safetensors"]  # nothing temporary is left


def test_checkpoint_of_every_epoch(tmp_path):
    script = Script([3.0, 1.0, 2.0])
    run = make(script, Checkpoint(tmp_path / "net-{epoch}.safetensors", monitor=None))
    run.fit(*table(), epochs=3)
    for epoch in (1, 2, 3):
        assert_holds(xpnn.load(tmp_path / f"net-{epoch}.safetensors"), script.weights[epoch - 1])
    run = make(Checkpoint(tmp_path / "acc.safetensors", monitor="val_accuracy"))
    history = run.fit(*table(), epochs=3, validation_fraction=0.3)
    assert run.callbacks[0].mode == "max"
    assert run.callbacks[0].best == max(history["val_accuracy"])


def test_checkpoint_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"expected a folder that can be written to, got: "):
        make(Checkpoint(tmp_path / "file" / "net.safetensors", monitor=None)).fit(*table(), epochs=1)
    assert (tmp_path / "file").read_text() == "in the way"


def test_csv_logger_writes_whole_files(tmp_path):
    path, seen = tmp_path / "history.csv", []

    def look(trainer):
        with path.open(newline="") as file:
            seen.append(list(csv.DictReader(file)))
        assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]

    run = make(CSVLogger(path), LambdaCallback(on_epoch_end=look), regularizer=xpnn.L2(0.1))
    history = run.fit(*table(), epochs=3, validation_fraction=0.3)
    assert [len(rows) for rows in seen] == [1, 2, 3]
    assert list(seen[-1][0]) == history.names
    for shown, row in zip(seen[-1], history, strict=True):
        assert {name: float(value) for name, value in shown.items()} == row  # to the last digit


def test_history_files_and_columns(tmp_path):
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_loss": 0.75}]
    history = History(rows)
    history.to_csv(tmp_path / "a" / "h.csv")
    assert (tmp_path / "a" / "h.csv").read_text() == "epoch,loss,val_loss\n1,0.5,\n2,0.25,0.75\n"
    history.to_json(tmp_path / "h.json")
    assert json.loads((tmp_path / "h.json").read_text()) == rows
    assert history.names == ["epoch", "loss", "val_loss"]
    assert history["val_loss"] == [0.75]
    assert "val_loss" in history
    assert "accuracy" not in history
    assert list(history) == rows
    assert repr(history) == "History(2 epochs; last: loss=0.25, val_loss=0.75)"
    assert repr(History()) == "History(no epochs)"
    assert History()["loss"] == []
    with pytest.raises(OptionError, match=r"History: expected one of epoch, loss, val_loss, got 'acc'"):
        history["acc"]


def test_time_limit(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: clock[0])

    def pass_time(trainer):
        clock[0] += 10.0

    run = make(LambdaCallback(on_epoch_end=pass_time), TimeLimit(25))
    history = run.fit(*table(), epochs=50)
    assert len(history) == 3
    assert run.stop_reason == "the time limit of 25 seconds is over"
    assert len(run.fit(*table(), epochs=50)) == 6  # the limit is one of each fit


# -- averages ---------------------------------------------------------------------------------------------------
def test_ema_is_the_bias_corrected_average(backend):
    raw, validated, decay = [], [], 0.8

    def note(trainer):
        raw.append(xpnn.to_numpy(trainer.net.store.values).copy())

    def look(trainer):
        validated.append(xpnn.to_numpy(trainer.net.store.values).copy())

    X, y = table(30)
    X_val, y_val = table(30, seed=1)
    shape = {"backend": backend, "seed": 1}
    run = make(EMA(decay), LambdaCallback(on_batch_end=note, on_epoch_end=look), net=xpnn.mlp([3, 8, 2], **shape))
    history = run.fit(X, y, epochs=4, batch_size=8, X_val=X_val, y_val=y_val)

    plain = make(net=xpnn.mlp([3, 8, 2], **shape))
    single = plain.fit(X, y, epochs=4, batch_size=8, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(raw[-1], xpnn.to_numpy(plain.net.store.values))  # raw weights train on
    assert history["loss"] == single["loss"]
    assert history["val_loss"] != single["val_loss"]

    for epoch in range(1, 5):
        t = 4 * epoch
        share = decay ** np.arange(t - 1, -1, -1)
        average = (share[:, None] * np.array(raw[:t], dtype=float)).sum(axis=0) / share.sum()
        np.testing.assert_allclose(validated[epoch - 1], average, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(xpnn.to_numpy(run.net.store.values), validated[-1])  # training leaves the average
    assert run.evaluate(X_val, y_val)["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)


def test_ema_within_early_stopping_and_checkpoint(tmp_path):
    shown = Script([3.0, 1.0, 2.0, 2.0])
    run = make(EMA(0.5), shown, EarlyStopping(patience=2), Checkpoint(tmp_path / "best"))
    run.fit(*table(), epochs=4, batch_size=10)
    assert_holds(run.net, shown.weights[1])
    assert_holds(xpnn.load(tmp_path / "best"), shown.weights[1])


def test_ema_of_an_epoch_that_was_interrupted():
    raw = []
    note = LambdaCallback(on_batch_end=lambda t: raw.append(t.net.store.values.copy()))
    run = make(EMA(0.5), note, raiser(KeyboardInterrupt(), 1, "on_batch_end"))
    with pytest.raises(KeyboardInterrupt):
        run.fit(*table(), epochs=3, batch_size=10)  # 4 steps of the first epoch, 1 of the second
    share = 0.5 ** np.arange(4, -1, -1)
    average = (share[:, None] * np.array(raw, dtype=float)).sum(axis=0) / share.sum()
    np.testing.assert_allclose(run.net.store.values, average, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("when", [1, 3])
def test_ema_of_an_epoch_that_diverged(when):
    shown = Script([1.0] * 9)

    def spoil(trainer):
        if trainer.epoch == when - 1:
            trainer.net.params["0.weight"][0, 0] = np.inf

    run = make(EMA(0.5), shown, LambdaCallback(on_batch_end=spoil))
    start = run.net.state_dict()
    with pytest.raises(DivergenceError):
        run.fit(*table(), epochs=5, batch_size=10)
    assert_holds(run.net, shown.weights[-1] if when > 1 else start)  # the average of the last whole epoch


# -- the progress bar -------------------------------------------------------------------------------------------
def test_progress_bar_shows_epochs_and_metrics_and_closes():
    file = io.StringIO()
    bar = ProgressBar(file=file, mininterval=0, ncols=200, dynamic_ncols=False)
    stop = LambdaCallback(on_epoch_end=lambda t: t.stop("seen enough") if t.epoch == 3 else None)
    run = make(bar, stop)
    history = run.fit(*table(), epochs=5, batch_size=20, validation_fraction=0.3)
    text = file.getvalue()
    assert "3/5" in text
    row = history.rows[2]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert f"{name}={row[name]:.4g}" in text
    assert "grad_norm" not in text
    assert text.rstrip().endswith("Stopped after epoch 3: seen enough.")
    run.callbacks.pop()
    file.truncate(0)
    run.fit(*table(), epochs=2)  # goes on from where it was
    assert "5/5" in file.getvalue()
    assert "Stopped" not in file.getvalue()
    assert bar._bar.disable  # tqdm marks a closed bar so


def test_progress_bar_closes_after_an_error():
    file = io.StringIO()
    bar = ProgressBar(file=file)
    with pytest.raises(ZeroDivisionError):
        make(bar, raiser(ZeroDivisionError(), 2)).fit(*table(), epochs=5)
    assert bar._bar.disable


def test_progress_bar_where_nobody_watches(capsys):
    run = make(ProgressBar(disable=True), LambdaCallback(on_epoch_end=lambda t: t.stop("so")))
    run.fit(*table(), epochs=2)
    assert capsys.readouterr() == ("", "")


# -- diagnosis --------------------------------------------------------------------------------------------------
def curves(loss, **columns):
    columns = {"loss": loss, **columns}
    return History([{"epoch": e + 1, **{k: v[e] for k, v in columns.items()}} for e in range(len(loss))])


def names(findings):
    assert all(isinstance(finding, Finding) for finding in findings)
    assert all(finding.evidence.endswith(".") and finding.advice.endswith(".") for finding in findings)
    return [finding.name for finding in findings]


FALLING = [1 / e for e in range(1, 11)]
CURVES = {
    "nothing": (curves(FALLING, val_loss=[1.1 / e for e in range(1, 11)]), []),
    "nothing yet": (curves([1.0, 1.0, 1.0, 1.0]), []),
    "overfitting": (curves(FALLING, val_loss=[0.5 + 0.05 * e for e in range(10)]), ["overfitting"]),
    "val_loss rises with the loss": (curves(FALLING[::-1], val_loss=FALLING[::-1]), ["diverging"]),
    "oscillating": (curves([1.0, 0.5] * 5), ["oscillating"]),
    "small waves": (curves([1.0 / e + 0.001 * (-1) ** e for e in range(1, 11)]), []),
    "too slow": (curves([2.303 - 0.0001 * e for e in range(10)]), ["too slow"]),
    "underfitting": (
        curves(
            [0.7, 0.65, 0.64, *[0.64 - 0.0001 * e for e in range(7)]],
            accuracy=[0.6] * 10,
            val_accuracy=[0.6] * 10,
        ),
        ["underfitting"],
    ),
    "well fitted and done": (curves([0.7, 0.3, 0.1, *[0.05] * 7], accuracy=[0.99] * 10), []),
    "no loss": (History([{"epoch": 1}]), []),
    "no epochs": (History(), []),
}


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_diagnosed(name):
    history, expected = CURVES[name]
    assert names(diagnose(history)) == expected


def test_the_evidence_names_the_numbers():
    (finding,) = diagnose(CURVES["overfitting"][0])
    assert str(finding) == (
        "overfitting: val_loss was best at epoch 1 (0.5) and is 0.95 now, while the loss fell on to 0.1. "
        "Try EarlyStopping, dropout, weight decay, a simpler model or more data."
    )
    (finding,) = diagnose(CURVES["oscillating"][0])
    assert finding.evidence == "the loss turned 8 times in 9 epochs and moves by 67% an epoch."


def test_waves_of_a_loss_next_to_nothing_are_no_oscillation():
    falling = [0.7, 0.2, 0.05, 0.01]
    waves = [1e-4 * (1.0 + 0.5 * (-1) ** e) for e in range(10)]
    assert names(diagnose(curves(falling + waves, accuracy=[1.0] * 14))) == []
    assert names(diagnose(curves(falling + [0.2, 0.05] * 5, accuracy=[0.9] * 14))) == ["oscillating"]


def overfitted(*callbacks, epochs=40):
    X, y = table()
    run = Trainer(xpnn.mlp([3, 64, 2], seed=2), xpnn.CrossEntropy(), xpnn.Adam(lr=0.03), callbacks=callbacks)
    run.fit(X, np.random.default_rng(1).permutation(y), epochs=epochs, batch_size=8, validation_fraction=0.3)
    return run


def test_who_stopped_early_is_not_told_to():
    run = overfitted(xpnn.EarlyStopping(patience=6))
    assert run.stop_reason is not None
    assert names(diagnose(run.history)) == []
    assert names(diagnose(overfitted(xpnn.EarlyStopping(patience=100)).history)) == [], "the best weights are back"
    assert names(diagnose(overfitted(xpnn.EarlyStopping(patience=100, restore_best=False)).history)) == ["overfitting"]
    look = Diagnose()
    overfitted(xpnn.EarlyStopping(patience=20), look)  # warnings are errors
    assert look.findings == []


def test_epochs_after_the_best_weights_came_back_count_again():
    run = overfitted(xpnn.EarlyStopping(patience=6))
    assert run.history.restored
    run.callbacks.clear()
    X, y = table()
    run.fit(X, np.random.default_rng(1).permutation(y), epochs=30, batch_size=8, validation_fraction=0.3)
    assert not run.history.restored
    assert names(diagnose(run.history)) == ["overfitting"]


def test_a_network_that_guesses_is_useless():
    X, y = table(200)
    noise = np.random.default_rng(0).integers(0, 2, 200)
    run = Trainer(xpnn.mlp([3, 8, 2], seed=1), xpnn.CrossEntropy(), xpnn.SGD(lr=0.01))
    run.fit(X, noise, epochs=10, batch_size=50, X_val=X, y_val=1 - noise)
    (finding,) = [f for f in diagnose(run.history, run.net, X) if f.name == "useless"]
    assert "guessing among 2 classes has 0.6931." in finding.evidence
    run = Trainer(xpnn.mlp([3, 8, 2], seed=1), xpnn.CrossEntropy(), xpnn.Adam(lr=0.03))
    run.fit(X, y, epochs=10, batch_size=50)
    assert names(diagnose(run.history, run.net, X)) == []


def test_a_network_that_says_one_class_is_useless():
    X, _ = table(200)
    rare = (np.arange(200) % 20 == 0).astype(int)
    run = Trainer(xpnn.mlp([3, 8, 2], seed=1), xpnn.CrossEntropy(), xpnn.SGD(lr=0.05))
    run.fit(X, rare, epochs=10, batch_size=50)
    (finding,) = [f for f in diagnose(run.history, run.net, X) if f.name == "useless"]
    assert finding.evidence == "all 200 rows are given class 0, so accuracy (0.950) is that class's share."
    assert "class_weight" in finding.advice


@pytest.mark.parametrize(("score", "found"), [(-0.3, ["useless"]), (0.01, ["useless"]), (0.5, [])])
def test_a_regression_no_better_than_the_mean_is_useless(score, found):
    assert names(diagnose(curves(FALLING, r2=[0.9] * 10, val_r2=[score] * 10))) == found


def trained(net, X=None, y=None, lr=0.05, epochs=6, optimizer=None):
    X, y = (table()[0] if X is None else X), (table()[1] if y is None else y)
    run = Trainer(net, xpnn.CrossEntropy(), optimizer or xpnn.SGD(lr=lr))
    run.fit(X, y, epochs=epochs, batch_size=16)
    return diagnose(run.history, net, X)


def test_a_healthy_run_finds_nothing():
    X, y = table(300)
    net = xpnn.mlp([3, 32, 32, 2])
    assert names(trained(net, X, y, epochs=20, optimizer=xpnn.Adam(lr=0.01))) == []


def test_dead_units_are_found():
    net = xpnn.mlp([3, 10, 10, 2])
    net.params["0.bias"][:8] = -100.0
    findings = trained(net)
    assert "dead units" in names(findings)
    finding = next(f for f in findings if f.name == "dead units")
    assert finding.evidence == "80% of the units of 1.ReLU."
    assert "LeakyReLU" in finding.advice


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_saturated_units_are_found(activation):
    net = xpnn.mlp([3, 10, 2], activation=activation)
    net.params["0.bias"][:6] = 50.0
    net.params["0.bias"][3:6] = -50.0
    findings = trained(net)
    assert "saturated units" in names(findings)
    assert next(f for f in findings if f.name == "saturated units").evidence == (
        f"60% of the units of 1.{activation.title()}."
    )


def test_vanishing_gradients_are_found():
    net = xpnn.mlp([3, *[8] * 12, 2], activation="sigmoid")
    findings = trained(net)
    assert "vanishing gradients" in names(findings)
    evidence = next(f for f in findings if f.name == "vanishing gradients").evidence
    assert "gradients of 0.weight are" in evidence
    assert "of 24.weight" in evidence


def test_exploding_gradients_are_found():
    net = xpnn.mlp([3, *[8] * 8, 2], activation="identity", init=xpnn.initializers.Normal(8.0))
    assert "exploding gradients" in names(trained(net, lr=1e-30))


def test_residuals_are_looked_into():
    net = xpnn.Sequential(xpnn.Residual(xpnn.Linear(3), xpnn.ReLU(), xpnn.Linear(3)), xpnn.Linear(2), n_in=3)
    net.params["0.0.bias"][...] = -50.0
    found = {finding.name: finding.evidence for finding in diagnose(xpnn.History(), net, table()[0])}
    assert found["dead units"] == "100% of the units of 0.1.ReLU."


def test_a_constant_prediction_is_found():
    net = xpnn.mlp([3, 8, 2])
    net.params["2.weight"][...] = 0.0
    findings = trained(net, lr=0.0)
    assert "constant prediction" in names(findings)
    assert "over 40 rows the outputs vary by 0.0e+00." in [f.evidence for f in findings]


def regression(lr, epochs=12):
    X = table()[0]
    run = Trainer(xpnn.mlp([3, 16, 1], activation="tanh", seed=2), xpnn.MeanSquaredError(), xpnn.SGD(lr=lr))
    return run.fit(X, X.sum(axis=1, keepdims=True), epochs=epochs, batch_size=40)


@pytest.mark.parametrize(
    ("lr", "expected"), [(1e-5, ["too slow"]), (0.1, []), (0.47, ["oscillating"]), (0.6, ["diverging"])]
)
def test_learning_rates_are_diagnosed(lr, expected):
    assert names(diagnose(regression(lr))) == expected


def test_overfitting_and_underfitting_are_found_in_real_runs():
    X, y = table()
    noise = np.random.default_rng(1).permutation(y)
    run = Trainer(xpnn.mlp([3, 64, 2], seed=2), xpnn.CrossEntropy(), xpnn.Adam(lr=0.03))
    run.fit(X, noise, epochs=30, batch_size=8, validation_fraction=0.3)
    assert names(diagnose(run.history)) == ["overfitting"]
    run = Trainer(xpnn.mlp([2, 2]), xpnn.CrossEntropy(), xpnn.Adam(lr=0.03))  # no line divides XOR
    run.fit(*xpnn.data.make_xor(200, noise=0.1), epochs=30, batch_size=200)
    assert "underfitting" in names(diagnose(run.history))


def test_networks_of_categories_and_replicas_are_looked_at_too():
    X = np.random.default_rng(0).integers(0, 4, (30, 2))
    y = X[:, 0] % 2
    net = xpnn.Sequential(xpnn.Embedding(4, 3), xpnn.Linear(2), n_in=2)
    run = Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.1))
    run.fit(X, y, epochs=20)
    assert names(diagnose(run.history, net, X)) == []
    many = xpnn.mlp([3, 6, 6, 2], replicas=2)
    many.params["0.bias"][:, :4] = -100.0
    run = Trainer(many, xpnn.CrossEntropy(), xpnn.Adam())
    run.fit(*table(), epochs=2)
    assert names(diagnose(run.history, many, table()[0])) == ["dead units"]


def test_diagnosis_of_other_libraries():
    net = xpnn.mlp([3, 10, 10, 2], backend=backend_or_skip("torch"))
    net.params["0.bias"][:8] = -100.0
    assert "dead units" in names(trained(net))


def test_diagnose_warns_once_of_each_finding():
    X, y = table()
    net = xpnn.mlp([3, 10, 10, 2])
    net.params["0.bias"][:8] = -100.0
    look = Diagnose(X, every=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(look, net=net, lr=1e-9).fit(X, y, epochs=10)
    told = [str(w.message) for w in caught if w.category is DiagnosisWarning]
    assert told[0] == (
        "epoch 2: dead units: 80% of the units of 1.ReLU. Try LeakyReLU, a smaller learning rate, or He initialization."
    )
    assert told[1].startswith("epoch 6: too slow: the loss fell from ")
    assert len(told) == len(look.findings) == len(set(names(look.findings)))


def test_diagnose_of_a_healthy_run_is_silent():
    X, y = table(300)
    look = Diagnose(X)
    make(look, net=xpnn.mlp([3, 32, 32, 2]), lr=0.01).fit(X, y, epochs=20, batch_size=32)  # warnings are errors
    assert look.findings == []

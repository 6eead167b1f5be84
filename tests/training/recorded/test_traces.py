"""Steps replayed from a trace: equal to the last bit to those of `Trainer.train_step`, and only where they are."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import gc
import logging
import threading
import warnings
import weakref

import numpy as np
import pytest
import steps
from steps import BATCH, N, outcome

import xpnn
from xpnn import Linear
from xpnn.accel.native import support
from xpnn.accel.native.openblas import NO_POOL
from xpnn.accel.native.trace import Trace, Traced, TraceError
from xpnn.training import state
from xpnn.training.recorded import find_runner, traces

N_IN = 4


@pytest.fixture(name="backend")
def fixture_backend(compiled):
    return compiled


@pytest.fixture(name="reasons")
def fixture_reasons(caplog):
    """What was said of steps that are not replayed."""
    caplog.set_level(logging.DEBUG, logger="xpnn")
    return lambda: [r.getMessage() for r in caplog.records if "made in Python" in r.getMessage()]


def data(n_out=3, n=N):
    return steps.data(n_out, n, N_IN)


def plain(backend, net=None, **options):
    net = xpnn.mlp([N_IN, 7, 5, 3], backend=backend, **{"seed": 1, **(net or {})})
    return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01), **options)


def replayed(trainer):
    return trainer._runner is not None and trainer._runner._found is not None


def assert_equal_to_the_bit(make, backend, x, y, *, epochs=3, graph="auto", used=True, batch_size=BATCH, **fit):
    """Train without a trace and with one; return the second trainer."""
    one, other = make(backend), make(backend)
    one.fit(x, y, epochs=epochs, batch_size=batch_size, graph=False, **fit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.fit(x, y, epochs=epochs, batch_size=batch_size, graph=graph, **fit)
    assert not replayed(one)
    assert outcome(one) == outcome(other)
    assert replayed(other) == used
    assert all(type(a) is np.ndarray for a in (*other.net.params.values(), *other.optimizer.state.values()))
    return other


def test_float64(backend):
    backend = dataclasses.replace(backend, dtype=np.float64, dtype_name="float64")
    made = assert_equal_to_the_bit(lambda b: plain(b, {"dropout": 0.2}), backend, *data())
    assert made.net.store.values.dtype == np.float64


OFF = {
    "half precision": lambda b: plain(b.with_dtype("float16")),
    "portable": lambda b: plain(xpnn.get_backend("numpy", ops="portable")),
    "singular values": lambda b: plain(b, regularizer=xpnn.SpectralNorm(0.1)),
    "TopK": lambda b: plain(b, metrics=[xpnn.metrics.TopK(2)]),
}


@pytest.mark.parametrize("name", OFF)
def test_what_is_not_traced_is_trained_as_ever(name, backend):
    one, other = OFF[name](backend), OFF[name](backend)
    one.fit(*data(), epochs=2, batch_size=BATCH, graph=False)
    other.fit(*data(), epochs=2, batch_size=BATCH)
    assert not replayed(other)
    assert repr(one.history["loss"]) == repr(other.history["loss"])


@pytest.mark.parametrize(("n", "epochs"), [(24, 9), (32, 3)], ids=["too few steps in an epoch", "too few in all"])
def test_short_fits_are_not_traced(n, epochs, backend):
    assert_equal_to_the_bit(plain, backend, *data(n=n), epochs=epochs, used=False)


def test_memory_that_does_not_lie_row_by_row(backend):
    x, y = data()
    assert_equal_to_the_bit(plain, backend, np.asfortranarray(x), y, shuffle=False)  # it does, once the fit has begun
    assert_equal_to_the_bit(plain, backend, np.asfortranarray(x), y)


def autoencoder(backend):
    net = xpnn.mlp([N_IN, 3, N_IN], backend=backend, seed=1)
    return xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(0.01))


@pytest.mark.parametrize("shuffle", [True, False])
def test_inputs_that_are_the_targets(shuffle, backend):
    x, _ = data()
    # as they lie they are one memory, of which a trace cannot tell what moves; gathered they are two
    assert_equal_to_the_bit(autoencoder, backend, x, x, shuffle=shuffle, used=shuffle)


def test_columns_of_one_array(backend):
    both = data()[0]
    both = np.concatenate([both, both * 0.5], axis=1)
    assert_equal_to_the_bit(autoencoder, backend, both[:, :N_IN], both[:, N_IN:])


@pytest.mark.parametrize("broken_off", [1, 2, 7, 11, 12, 25])
def test_a_fit_that_is_broken_off(broken_off, backend):
    def stop(trainer):
        if trainer.step == broken_off:
            raise KeyboardInterrupt

    found = []
    for graph in (False, True):
        trainer = plain(backend, {"dropout": 0.2}, callbacks=[xpnn.LambdaCallback(on_batch_end=stop)])
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(*data(), epochs=3, batch_size=BATCH, graph=graph)
        trainer.callbacks.clear()
        trainer.fit(*data(), epochs=1, batch_size=BATCH, graph=graph)
        found.append(outcome(trainer))
    assert found[0] == found[1]


def test_ctrl_c_while_many_steps_are_replayed(backend, monkeypatch):
    """It comes when they have been: the counters are those of the weights."""
    x, y = data()
    trainer, play, calls = plain(backend), Trace.play, []

    def interrupted(self, count, places):
        play(self, count, places)
        calls.append(count)
        if count > 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(traces, "_PATIENCE", 10.0)
    monkeypatch.setattr(Trace, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=2, batch_size=BATCH)
    assert calls == [1, 11]
    assert (trainer.step, trainer.optimizer.t) == (11, 11)
    steps, other = [], plain(backend)

    def stop(trainer):
        steps.append(trainer.net.store.values.tobytes())

    other.callbacks.append(xpnn.LambdaCallback(on_batch_end=stop))
    other.fit(x, y, epochs=1, batch_size=BATCH, graph=False)
    assert trainer.net.store.values.tobytes() == steps[10]


@pytest.mark.parametrize("moment", ["traced", "replayed", "compared"])
def test_a_trace_that_was_not_compared_is_not_used(moment, backend, monkeypatch):
    """Ctrl-C may come at any time."""
    x, y = data()
    trainer = plain(backend)

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        owner, name = {
            "traced": (Trace, "finish"),
            "replayed": (Trace, "play"),
            "compared": (state, "digest"),
        }[moment]
        patch.setattr(owner, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(x, y, epochs=2, batch_size=BATCH)
    assert not replayed(trainer)
    assert not trainer._runner._failed
    untouched = plain(backend)
    untouched.optimizer.bind(untouched.net.store)
    assert outcome(trainer)[1][0] == outcome(untouched)[1][0]
    assert outcome(trainer)[2] == outcome(untouched)[2] == (0, 0, 0)


def test_a_state_that_is_not_copied_each_epoch_is_copied_for_a_new_trace(backend, monkeypatch):
    monkeypatch.setattr("xpnn.training.state._COPIED_ELEMENTS", 0)
    x, y = data()
    trainer = both(backend, (x, y, {}), (x, y, {"batch_size": 9}))
    assert replayed(trainer)
    assert trainer._runner.batch_size == 9


@pytest.mark.parametrize("patience", [0.0, 10.0])
def test_python_has_its_turn_now_and_then(patience, backend, monkeypatch):
    """Many steps are replayed at once, but not for longer than Ctrl-C should wait."""
    monkeypatch.setattr(traces, "_PATIENCE", patience)
    counts, play = [], Trace.play
    monkeypatch.setattr(Trace, "play", lambda self, n, places: counts.append(n) or play(self, n, places))
    assert_equal_to_the_bit(plain, backend, *data())
    assert counts == ([1] * (1 + 3 * 11) if patience == 0.0 else [1, 11, 11, 11])


@pytest.mark.parametrize("elements", [1, 3 * BATCH * N_IN])
def test_blocks_of_few_batches(elements, backend, monkeypatch, tmp_path):
    monkeypatch.setattr("xpnn.training.feed._STAGE_ELEMENTS", elements)
    x, y = data()
    assert_equal_to_the_bit(plain, backend, mapped(tmp_path, x), y)
    assert_equal_to_the_bit(plain, backend, np.asfortranarray(x), y)


def mapped(folder, x):
    x.tofile(folder / "x")
    return np.memmap(folder / "x", np.float32, mode="r", shape=x.shape)


def test_rows_from_disk(backend, tmp_path):
    x, y = data()
    assert_equal_to_the_bit(plain, backend, mapped(tmp_path, x), y)


# -- Python that must be seen ---------------------------------------------------------------------------------------
class Counting(xpnn.Tanh):
    """A layer that counts, and changes after some steps."""

    calls = 0

    def forward(self, x, *, train=False, key=None):
        self.calls += train
        y, cache = super().forward(x, train=train, key=key)
        return (y * 0.5 if self.calls > 6 else y), cache


def counting(backend):
    net = xpnn.Sequential(Linear(5), Counting(), Linear(3), n_in=N_IN, backend=backend)
    return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01))


def test_a_layer_of_ones_own_is_run_at_every_step(backend, reasons):
    trainer = assert_equal_to_the_bit(counting, backend, *data(), used=False)
    assert trainer.net.layers[1].calls == 3 * 12
    assert reasons() == [
        "fit: each step is made in Python: Counting may do more than array work; fit(graph=True) says that it does not"
    ]


class Scaled(xpnn.Tanh):
    """A layer of one's own that does array work alone."""

    def forward(self, x, *, train=False, key=None):
        y, cache = super().forward(x * 0.5, train=train, key=key)
        return y, cache


def test_graph_true_vouches_for_a_layer_of_ones_own(backend):
    def make(backend):
        net = xpnn.Sequential(Linear(5), Scaled(), Linear(3), n_in=N_IN, backend=backend)
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01))

    assert_equal_to_the_bit(make, backend, *data(), graph=True)


def test_a_trial_leaves_no_gradients_between_the_parameters(backend):
    """Parts of a step that add to all gradients add to the gaps, too, which no layer assigns anew."""

    class Noisy(xpnn.Trainer):
        def exchange(self, step):
            self.net.store.grads[...] = self.net.store.grads + 0.01

    def make(backend):
        return Noisy(
            xpnn.mlp([N_IN, 7, 5, 3], backend=backend, seed=1), xpnn.CrossEntropy(), xpnn.SGD(0.1), clip_norm=0.1
        )

    assert_equal_to_the_bit(make, backend, *data(), graph=True)


def test_a_pass_exchanged_on_a_layer_is_run_at_every_step(backend, reasons):
    calls = []

    def make(backend):
        trainer = plain(backend)
        layer = trainer.net.layers[-1]
        forward = layer.forward
        layer.forward = lambda x, **options: (calls.append(1), forward(x, **options))[1]
        return trainer

    assert_equal_to_the_bit(make, backend, *data(), used=False)
    assert len(calls) == 2 * 3 * 12
    assert "Linear has a forward of its own" in reasons()[0]


class Late(xpnn.Trainer):
    """Does nothing in its first steps."""

    def train_step(self, x, y, weight, row):
        if self.step < 5:
            self.step += 1
            return np.float32(0.0), np.zeros((len(x), 3), np.float32)
        return super().train_step(x, y, weight, row)


class Net(xpnn.Sequential):
    """A network that counts."""

    calls = 0

    def forward(self, x, **options):
        self.calls += 1
        return super().forward(x, **options)


def test_a_network_of_ones_own_is_run_at_every_step(backend, reasons):
    net = Net(Linear(5), xpnn.ReLU(), Linear(3), n_in=N_IN, backend=backend)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam())
    trainer.fit(*data(), epochs=3, batch_size=BATCH)
    assert net.calls == 36
    assert "Net may do more than array work" in reasons()[0]


@pytest.mark.parametrize(
    ("kind", "name"),
    [(xpnn.ReLU, "forward"), (xpnn.Tanh, "backward"), (xpnn.CrossEntropy, "rows"), (xpnn.Trainer, "train_step")],
)
def test_any_method_exchanged_on_a_class_is_called(kind, name, backend, monkeypatch):
    method, calls = getattr(kind, name), []

    @functools.wraps(method)
    def traced(*args, **options):
        calls.append(1)
        return method(*args, **options)

    monkeypatch.setattr(kind, name, traced)
    net = xpnn.Sequential(Linear(5), xpnn.ReLU(), Linear(5), xpnn.Tanh(), Linear(3), n_in=N_IN, backend=backend)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam())
    trainer.fit(*data(), epochs=3, batch_size=BATCH)
    assert not replayed(trainer)
    assert len(calls) == 36


def test_a_layer_that_keeps_arrays_of_its_own(backend):
    """They would be kept on a copy of the layer."""

    class Averaging(xpnn.Tanh):
        mean = 0.0

        def forward(self, x, *, train=False, key=None):
            if train:
                self.mean = self.mean * 0.9 + x.sum(axis=0) * 0.1
            return super().forward(x, train=train, key=key)

    class Writing(Averaging):
        def __init__(self):
            self.mean = np.zeros(5, np.float32)

        def forward(self, x, *, train=False, key=None):
            if train:
                self.mean[...] = x.sum(axis=0)
            return xpnn.Tanh.forward(self, x, train=train, key=key)

    for kind in (Averaging, Writing):
        found = []
        for graph in (False, True):
            net = xpnn.Sequential(Linear(5), kind(), Linear(3), n_in=N_IN, backend=backend)
            trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01))
            with pytest.warns(RuntimeWarning, match="made in Python") if graph else contextlib.nullcontext():
                trainer.fit(*data(), epochs=2, batch_size=BATCH, graph=graph)
            assert not replayed(trainer)
            found.append((outcome(trainer), net.layers[1].mean.tobytes()))
        assert found[0] == found[1]


def test_any_method_exchanged_on_an_object_is_called(backend):
    for part, name in (("loss", "value_and_grad"), ("optimizer", "update"), ("net", "backward")):
        trainer = plain(backend)
        whole = getattr(trainer, part)
        calls, method = [], getattr(whole, name)
        setattr(whole, name, lambda *a, calls=calls, method=method, **o: (calls.append(1), method(*a, **o))[1])
        trainer.fit(*data(), epochs=3, batch_size=BATCH)
        assert not replayed(trainer)
        assert len(calls) == 36, name


def test_a_train_step_of_ones_own_is_run(backend, reasons):
    def make(backend):
        made = plain(backend)
        return Late(made.net, made.loss, made.optimizer)

    assert_equal_to_the_bit(make, backend, *data(), used=False)
    assert "Late has a train_step of its own" in reasons()[0]


@pytest.mark.parametrize("graph", ["auto", True])
def test_a_callback_of_ones_own_sees_every_step(graph, backend):
    seen = []

    class Watch(xpnn.Callback):
        def on_batch_end(self, trainer):
            seen.append((trainer.step, trainer.net.store.values.tobytes()))

    assert_equal_to_the_bit(lambda b: plain(b, callbacks=[Watch()]), backend, *data(), graph=graph, used=graph is True)
    assert len(seen) == 2 * 3 * 12
    assert seen[: 3 * 12] == seen[3 * 12 :]


def test_a_function_that_looks_at_steps(backend, reasons):
    steps = []
    watch = xpnn.LambdaCallback(on_batch_end=lambda trainer: steps.append(trainer.step))
    assert_equal_to_the_bit(lambda b: plain(b, callbacks=[watch]), backend, *data(), used=False)
    assert steps == [*range(1, 37)] * 2
    assert "a function of yours looks at every step" in reasons()[0]
    assert_equal_to_the_bit(lambda b: plain(b, callbacks=[watch]), backend, *data(), graph=True)
    assert steps == [*range(1, 37)] * 4


def test_graph_true_in_vain(backend):
    for make, why in (
        (lambda: plain(xpnn.get_backend("numpy", ops="portable")), "compiled loops are not in use"),
        (lambda: plain(backend, regularizer=xpnn.SpectralNorm(0.1)), "SpectralNorm makes new arrays in each step"),
    ):
        trainer = make()
        with pytest.warns(RuntimeWarning, match=f"fit: each step is made in Python: {why}") as warned:
            trainer.fit(*data(), epochs=1, batch_size=BATCH, graph=True)
        assert warned[0].filename == __file__
        assert trainer.step == 12
    x, _ = data()
    with pytest.warns(RuntimeWarning, match="two moving arrays in one memory"):
        autoencoder(backend).fit(x, x, epochs=1, batch_size=BATCH, shuffle=False, graph=True)


# -- what changes between epochs and fits ---------------------------------------------------------------------------
CHANGES = {
    "clip_norm": lambda t: setattr(t, "clip_norm", 0.05),
    "clip_value": lambda t: setattr(t, "clip_value", 0.01),
    "dropout": lambda t: setattr(t.net.layers[2], "rate", 0.8),
    "lr": lambda t: setattr(t.optimizer, "lr", 0.1),
    "beta1": lambda t: setattr(t.optimizer, "beta1", 0.5),
    "decay": lambda t: setattr(t.optimizer, "weight_decay", 0.5),
    "penalty": lambda t: setattr(t, "regularizer", xpnn.L2(0.1)),
    "weights": lambda t: t.net.store.values.__imul__(0.5),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_callback_changes_is_seen(name, backend):
    def make(backend):
        change = xpnn.LambdaCallback(on_epoch_end=lambda t: CHANGES[name](t) if t.epoch == 2 else None)
        return plain(backend, {"dropout": 0.3}, callbacks=[change])

    def unchanged(backend):
        return plain(backend, {"dropout": 0.3})

    changed = assert_equal_to_the_bit(make, backend, *data(), epochs=5)
    assert outcome(changed)[1] != outcome(assert_equal_to_the_bit(unchanged, backend, *data(), epochs=5))[1]


@pytest.mark.parametrize("rates", [(0.01, [0.1, 0.02, 0.3]), ([0.1, 0.02, 0.3], 0.01)], ids=["to own", "to common"])
def test_replicas_whose_rates_become_their_own_or_common(rates, backend):
    first, second = rates

    def make(backend):
        change = xpnn.LambdaCallback(
            on_epoch_end=lambda t: setattr(t.optimizer, "lr", copy.copy(second)) if t.epoch == 2 else None
        )
        net = xpnn.mlp([N_IN, 7, 3], backend=backend, seed=[1, 2, 3])
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.AdamW(first), callbacks=[change])

    assert_equal_to_the_bit(make, backend, *data(), epochs=4)


def test_factors_that_are_exchanged_are_seen(backend):
    def make(backend):
        def change(trainer):
            if trainer.epoch == 2:
                trainer.net.store.lr_factors = trainer.net.store.lr_factors * 0.1

        net = xpnn.Sequential(Linear(7, lr_mult=0.5), xpnn.ReLU(), Linear(3), n_in=N_IN, backend=backend)
        changes = [xpnn.LambdaCallback(on_epoch_end=change)]
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01), callbacks=changes)

    assert_equal_to_the_bit(make, backend, *data(), epochs=4)


def test_a_state_that_was_set_by_hand_is_kept(backend):
    def make(backend):
        trainer = plain(backend)
        trainer.optimizer.bind(trainer.net.store)
        trainer.optimizer.state["v"][...] = 4.0
        return trainer

    trainer = assert_equal_to_the_bit(make, backend, *data(), epochs=2)
    assert (trainer.optimizer.state["v"] > 3.0).all()


def both(backend, *fits):
    """Two trainers through the same fits, without traces and with."""
    found = []
    for graph in (False, "auto"):
        trainer = plain(backend)
        for x, y, options in fits:
            trainer.fit(x, y, graph=graph, **{"epochs": 2, "batch_size": BATCH, **options})
        found.append((outcome(trainer), trainer))
    assert found[0][0] == found[1][0]
    return found[1][1]


def test_fits_of_other_kinds_follow_each_other(backend):
    x, y = data()
    rows = np.eye(3, dtype=np.float32)[y]
    weight = np.linspace(0.0, 2.0, N)
    trainer = both(
        backend,
        (x, y, {}),
        (x, rows, {}),
        (x, y, {"sample_weight": weight}),
        (x, y, {"batch_size": 5}),
        (x[:20], y[:20], {"epochs": 1}),
        (x.astype(np.float64), y.astype(np.int8), {}),
        (x[:60], y[:60], {}),
        (x, y, {"shuffle": False}),
        (x, y, {"validation_fraction": 0.2}),
    )
    assert replayed(trainer)


def test_one_trace_serves_fit_after_fit(backend, monkeypatch):
    made = []
    record = traces.TraceRunner._record
    monkeypatch.setattr(traces.TraceRunner, "_record", lambda *args: made.append(1) or record(*args))
    x, y = data()
    trainer = both(backend, *[(x, y, {}), (x[::-1].copy(), y[::-1].copy(), {}), (x, y, {"epochs": 5})])
    assert replayed(trainer)
    assert len(made) == 1


def test_rows_may_go_after_a_fit(backend):
    x, y = data()
    trainer = plain(backend)
    trainer.fit(x, y, epochs=2, batch_size=BATCH, shuffle=False)
    assert replayed(trainer)
    gone = weakref.ref(x)
    del x
    gc.collect()
    assert gone() is None


def test_a_copy_of_a_trainer_makes_a_trace_of_its_own(backend):
    x, y = data()
    trainer = plain(backend)
    trainer.fit(x, y, epochs=2, batch_size=BATCH)
    other = copy.copy(trainer)
    assert other._runner is None
    assert replayed(trainer)
    other.fit(x, y, epochs=1, batch_size=BATCH)
    assert (trainer.step, other.step) == (24, 36)


def test_resume(backend, tmp_path):
    x, y = data()
    trainer = plain(backend, {"dropout": 0.2})
    trainer.fit(x, y, epochs=2, batch_size=BATCH)
    trainer.save(tmp_path / "run.safetensors")
    again = xpnn.Trainer.load(tmp_path / "run.safetensors", backend=backend)
    for t in (trainer, again):
        t.fit(x, y, epochs=2, batch_size=BATCH)
        assert replayed(t)
    assert outcome(trainer) == outcome(again)


def test_a_diverging_fit_tells_the_same(backend):
    x, y = data()
    x = x * 1e18
    messages = []
    for graph in (False, "auto"):
        trainer = plain(backend)
        trainer.optimizer.lr = 1e30
        with pytest.raises(xpnn.errors.DivergenceError) as error:
            trainer.fit(x, y, epochs=3, batch_size=BATCH, graph=graph)
        messages.append((str(error.value), outcome(trainer)[1][0], trainer.step))
    assert messages[0] == messages[1]


# -- where a trace cannot be made or trusted -------------------------------------------------------------------------
@pytest.mark.parametrize("after", [0, 3, 17])
def test_a_step_that_breaks_off_while_it_is_traced_leaves_no_trace(after, backend, monkeypatch, reasons):
    put, calls = Trace._put, []

    def breaks(self, row, arrays):
        calls.append(1)
        if len(calls) > after:
            raise TraceError("enough")
        put(self, row, arrays)

    monkeypatch.setattr(Trace, "_put", breaks)
    assert_equal_to_the_bit(plain, backend, *data(), used=False)
    assert reasons() == ["fit: each step is made in Python: enough"]


def test_a_trace_that_does_something_else_is_not_trusted(backend, monkeypatch, reasons):
    play = Trace.play

    def other(self, count, places):
        self._table = self._table[:-1]  # without the last call
        self._moved = self._moved[self._moved[:, 0] < len(self._table)]
        play(self, count, places)

    monkeypatch.setattr(Trace, "play", other)
    assert_equal_to_the_bit(plain, backend, *data(), used=False)
    assert reasons() == ["fit: each step is made in Python: replayed, they give other results"]


def test_a_number_that_changes_from_step_to_step_is_found_out(backend):
    """What a vouched-for class freezes shows in the second step."""

    class Fading(xpnn.Tanh):
        steps = 0

        def forward(self, x, *, train=False, key=None):
            self.steps += train
            y, cache = super().forward(x * (1.0 / self.steps) if train else x, train=train, key=key)
            return y, cache

    def make(backend):
        net = xpnn.Sequential(Linear(5), Fading(), Linear(3), n_in=N_IN, backend=backend)
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01))

    trainer = make(backend)
    with pytest.warns(RuntimeWarning, match="made in Python: replayed, they give other results") as warned:
        trainer.fit(*data(), epochs=2, batch_size=BATCH, graph=True)
    assert warned[0].filename == __file__
    assert not replayed(trainer)


def test_a_layer_that_decides_by_a_value_is_trained_as_ever(backend):
    class Deciding(xpnn.Tanh):
        def forward(self, x, *, train=False, key=None):
            if float(x.sum()) > 0:
                x = x * 0.5
            return super().forward(x, train=train, key=key)

    found = []
    for graph in (False, True):
        net = xpnn.Sequential(Linear(5), Deciding(), Linear(3), n_in=N_IN, backend=backend)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            trainer.fit(*data(), epochs=2, batch_size=BATCH, graph=graph)
        assert [str(w.message) for w in warned] == [
            "fit: each step is made in Python: a decision by the value of an array."
        ] * graph
        found.append(outcome(trainer))
    assert found[0] == found[1]


def test_the_network_is_untouched_while_a_step_is_traced(backend, monkeypatch):
    """Another thread may predict meanwhile."""
    trainer = plain(backend)
    seen = []
    finish = Trace.finish

    def look(self):
        seen.extend(type(a) for layer in trainer.net.layers for a in (*layer.params.values(), *layer.grads.values()))
        seen.append(type(trainer.net.predict(data()[0])))
        finish(self)

    monkeypatch.setattr(Trace, "finish", look)
    trainer.fit(*data(), epochs=2, batch_size=BATCH)
    assert replayed(trainer)
    assert seen
    assert Traced not in seen


# -- whole tools ----------------------------------------------------------------------------------------------------
def test_estimators(backend, monkeypatch):
    estimators = pytest.importorskip("xpnn.estimators", reason="needs scikit-learn")
    x, y = data(n=300)
    used = []
    find = find_runner
    for name in ("MLPClassifier", "MLPRegressor"):
        found = []
        for on in (True, False):

            def planned(*args, on=on, **options):
                made = find(*args, **options) if on else None
                used.append(made)
                return made

            monkeypatch.setattr("xpnn.training.trainer.find_runner", planned)
            options = {"max_iter": 4, "batch_size": 16, "random_state": 0, "backend": backend}
            model = getattr(estimators, name)(hidden_layer_sizes=(8,), **options)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # four epochs are not enough
                model.fit(x, y)
            found.append([*(w.tobytes() for w in model.coefs_), model.loss_curve_])
            if on:
                assert used[-1]._found is not None
        assert found[0] == found[1]


@pytest.mark.parametrize("alpha", [0.0, 1e-3])
def test_an_estimator_with_weights(alpha, backend, monkeypatch):
    estimators = pytest.importorskip("xpnn.estimators", reason="needs scikit-learn")
    x, y = data(n=300)
    weight = np.linspace(0.5, 2.0, 300)
    found, used, find = [], [], find_runner
    monkeypatch.setattr("xpnn.training.trainer.find_runner", lambda *args: used.append(find(*args)) or used[-1])
    for own in (backend, xpnn.get_backend("numpy", ops="portable")):
        model = estimators.MLPClassifier((8,), max_iter=4, batch_size=16, random_state=0, backend=own, alpha=alpha)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # four epochs are not enough
            model.fit(x, y, sample_weight=weight)
        found.append([*(w.tobytes() for w in model.coefs_), model.loss_curve_])
    assert used[0]._found is not None
    assert used[1] is None
    assert found[0] == found[1]


@pytest.mark.parametrize("own", [{}, {"lr_mult": 0.5}], ids=["", "factors"])
def test_on_the_threads_of_the_products(own, backend, monkeypatch):
    """A network large enough for its loops to be shared, and for NumPy's passes to be, too."""
    monkeypatch.setattr("xpnn.accel.numpy_adam._THREADED", 1 << 12)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    x, y = data(n=150)
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    for pool in {support.find_pool(), NO_POOL}:
        ops = copy.copy(backend.ops)
        ops._pool = pool
        monkeypatch.setattr("xpnn.accel.numpy_ops.find_pool", lambda pool=pool: pool)

        def make(backend):
            layers = Linear(300, **own), xpnn.ReLU(), Linear(300), xpnn.ReLU(), Linear(3)
            net = xpnn.Sequential(*layers, n_in=N_IN, backend=backend)
            return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.001))

        with limits(2, user_api="blas"):
            assert_equal_to_the_bit(make, dataclasses.replace(backend, ops=ops), x, y, batch_size=32, epochs=5)


def test_two_fits_at_once(backend):
    x, y = data(n=400)
    trainers = [plain(backend, {"seed": k, "dropout": 0.2}) for k in range(4)]
    threads = [threading.Thread(target=t.fit, args=(x, y), kwargs={"epochs": 6, "batch_size": BATCH}) for t in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for k, trainer in enumerate(trainers):
        alone = plain(backend, {"seed": k, "dropout": 0.2})
        alone.fit(x, y, epochs=6, batch_size=BATCH, graph=False)
        assert replayed(trainer)
        assert outcome(trainer) == outcome(alone)


def test_long_steps_are_not_worth_a_trace(backend, monkeypatch, reasons):
    monkeypatch.setattr(traces, "_LONG", 10)
    assert_equal_to_the_bit(plain, backend, *data(), used=False)
    assert reasons() == ["fit: each step is made in Python: steps are long"]
    assert_equal_to_the_bit(plain, backend, *data(), graph=True)


def test_a_trainer_goes_with_its_last_name(backend):
    """Large arrays do not wait for the collector of cycles."""
    trainer = plain(backend)
    trainer.fit(*data(), epochs=2, batch_size=BATCH)
    assert replayed(trainer)
    gone = weakref.ref(trainer)
    gc.disable()
    try:
        del trainer
        assert gone() is None
    finally:
        gc.enable()


def test_mnist_reaches_the_same_bits(backend, mnist_dir):
    mnist = xpnn.data.load_mnist(mnist_dir, download=False)
    x, y = mnist.X_train[:4000], mnist.y_train[:4000]

    def make(backend):
        net = xpnn.mlp([784, 64, 32, 10], dropout=0.1, backend=backend, seed=0)
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.AdamW(1e-3), clip_norm=1.0)

    trainer = assert_equal_to_the_bit(make, backend, x, y, batch_size=128, epochs=2)
    assert trainer.history["accuracy"][-1] > 0.7

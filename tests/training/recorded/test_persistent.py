"""Fits whose steps one kernel makes: history, schedules, dropout and short batches as step by step, to rounding."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from fake_cupy import bare
from places import PROJECT, backend_or_skip
from steps import BATCH, N_IN, N, data, mlp

import xpnn
from xpnn import Linear
from xpnn.accel.cuda.persistent import Steps
from xpnn.training.feed import _Streamed
from xpnn.training.recorded import persistent

STEPS = -(-N // BATCH)  # the last is short


@pytest.fixture
def on_kernels(on_gpu, monkeypatch):
    """A backend whose fits may use the kernel, with launches of five steps, and without graphs."""
    monkeypatch.setattr(persistent, "_STEPS", 5)
    monkeypatch.setattr("xpnn.training.recorded.graphs.find_capturer", lambda name, ops: "there are none here")
    return xpnn.get_backend(on_gpu, persistent=True)


def simple(backend, rule=xpnn.Adam, **options):
    net = mlp(backend, dropout=0.1)
    return xpnn.Trainer(net, xpnn.CrossEntropy(), rule(0.01), **options)


def both(make, backend, epochs=3, x_y=None, **fit):
    """Train on the kernel and by portable NumPy; return both trainers."""
    x, y = data() if x_y is None else x_y
    trainers = []
    for own in (backend, xpnn.get_backend("numpy", ops="portable")):
        trainers.append(make(own))
        graph = "auto" if own is backend else False
        trainers[-1].fit(x, y, **{"epochs": epochs, "batch_size": BATCH, "graph": graph, **fit})
    return trainers


def assert_alike(kernel, eager):
    """All columns of the history, counters and weights."""
    assert kernel.history.rows[0].keys() == eager.history.rows[0].keys()
    for mine, theirs in zip(kernel.history.rows, eager.history.rows, strict=True):
        for name in mine.keys() - {"seconds"}:
            assert mine[name] == pytest.approx(theirs[name], rel=2e-4, abs=1e-6), name
    assert (kernel.step, kernel.optimizer.t, kernel.epoch) == (eager.step, eager.optimizer.t, eager.epoch)
    scale = np.abs(eager.net.store.values).max()
    np.testing.assert_allclose(
        xpnn.to_numpy(kernel.net.store.values), eager.net.store.values, rtol=0, atol=1e-3 * scale
    )


def launches(cupy):
    return cupy.launched.count("train_steps")


OPTIONS = {
    "plain": {},
    "scheduled": {"schedule": xpnn.CosineDecay(), "dropout_schedule": xpnn.CosineDecay()},
    "clipped": {"clip_norm": 0.1},
    "momentum": {"rule": xpnn.Momentum},
    "no metric": {"metrics": ()},
}
FITS = {
    "weighted": {"sample_weight": np.linspace(0.5, 2.0, N)},
    "validated": {"validation_fraction": 0.2},
    "in order": {"shuffle": False},
    "whole batches": {"batch_size": 9},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_fits(name, on_kernels, cupy):
    assert_alike(*both(lambda backend: simple(backend, **OPTIONS[name]), on_kernels))
    # The trial takes two steps and both at once; then eleven steps in launches of five, in each epoch.
    assert launches(cupy) == 3 + 3 * 3


@pytest.mark.parametrize("name", FITS)
def test_rows_of_a_fit(name, on_kernels, cupy):
    assert_alike(*both(simple, on_kernels, **FITS[name]))
    assert launches(cupy) > 3


@pytest.mark.parametrize("loss", [xpnn.MeanSquaredError(), xpnn.BinaryCrossEntropy(multilabel=True)], ids=str)
def test_other_losses(loss, on_kernels, cupy):
    x, labels = data()
    y = (labels[:, None] >= np.arange(3)).astype(np.float32)
    assert_alike(*both(lambda backend: xpnn.Trainer(mlp(backend), loss, xpnn.Adam(0.01)), on_kernels, x_y=(x, y)))
    assert launches(cupy) == 3 + 3 * 3


def test_a_second_run_gives_the_same_bits(on_kernels):
    found = [both(simple, on_kernels)[0] for _ in range(2)]
    assert bare(found[0].net.store.values).tobytes() == bare(found[1].net.store.values).tobytes()
    assert found[0].history["loss"] == found[1].history["loss"]


def test_fits_one_after_the_other_and_changes_between_epochs(on_kernels, cupy):
    """An option that a callback changes needs another trial."""

    class Clips(xpnn.Callback):
        def on_epoch_end(self, trainer):
            if trainer.epoch == 2:
                trainer.clip_norm = 0.05

    def make(backend):
        trainer = simple(backend)
        trainer.callbacks = [Clips()]
        trainer.fit(*data(), epochs=1, batch_size=BATCH, graph="auto" if backend is on_kernels else False)
        return trainer

    assert_alike(*both(make, on_kernels))
    assert launches(cupy) == (3 + 3) + (3 + 3) + (3 + 3 + 3)


def assert_cut_off_goes_on(on_kernels, x, y):
    """A fit that Ctrl-C ends between launches, within an epoch, comes to what one comes to that is left alone."""
    whole, cut = simple(on_kernels), simple(on_kernels)
    whole.fit(x, y, epochs=2, batch_size=BATCH)
    real, count = xpnn.Trainer.pause, [0]

    def pause(self):
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt
        real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xpnn.Trainer, "pause", pause)
        with pytest.raises(KeyboardInterrupt):
            cut.fit(x, y, epochs=2, batch_size=BATCH)
    assert 0 < cut.step < STEPS
    cut.fit(x, y, epochs=2, batch_size=BATCH)
    np.testing.assert_allclose(bare(cut.net.store.values), bare(whole.net.store.values), rtol=0, atol=1e-4)
    assert cut.history["loss"] == pytest.approx(whole.history["loss"], rel=1e-5)


def test_a_fit_that_was_cut_off_goes_on(on_kernels):
    """An interrupt is answered between launches, and the epoch goes on where it was."""
    assert_cut_off_goes_on(on_kernels, *data())


def test_divergence_is_told_as_everywhere(on_kernels):
    x, y = data()
    trainer = simple(on_kernels, rule=lambda lr: xpnn.SGD(1e20))
    with pytest.raises(xpnn.errors.DivergenceError, match="First tensor that is not finite"):
        trainer.fit(x, y, epochs=3, batch_size=BATCH)


@pytest.mark.parametrize("spec", ["cupy", "cupy:1"])
def test_a_fit_on_cupy_itself(spec, monkeypatch):
    """Where there is a GPU, or an emulation of one; without graphs in its place."""
    backend = xpnn.get_backend(backend_or_skip(spec), persistent=True)
    monkeypatch.setattr(persistent, "_STEPS", 5)
    made = []
    real = Steps.launch
    monkeypatch.setattr(
        Steps, "launch", lambda self, rows, first, count: made.append(count) or real(self, rows, first, count)
    )
    assert_alike(*both(lambda own: simple(own, clip_norm=1.0), backend))
    assert made == [1, 1, 2, *[5, 5, 1] * 3]


# -- who is not taken, and how that is told -----------------------------------------------------------------------
def of(*layers, loss=None, rule=None, **options):
    def make(backend):
        net = xpnn.Sequential(*(layer() for layer in layers), n_in=N_IN, backend=backend)
        return xpnn.Trainer(net, loss or xpnn.CrossEntropy(), rule or xpnn.Adam(0.01), **options)

    return make


class Looks(xpnn.Callback):
    def on_batch_end(self, trainer):
        """Look at every step."""


def end():
    return Linear(3)


REFUSED = {
    "1.Tanh is not one of its layers": of(lambda: Linear(4), xpnn.Tanh, end),
    "there is a penalty": of(end, regularizer=xpnn.L2(0.1)),
    "clip_value is set": of(end, clip_value=0.1),
    "the rule is RMSProp": of(end, rule=xpnn.RMSProp(0.01)),
    "the loss is Focal": of(end, loss=xpnn.losses.Focal()),
    "there are other metrics than accuracy": of(end, metrics=["accuracy", "top5"]),
    "Looks looks at every step": of(end, callbacks=[Looks()]),
    "there are replicas": lambda backend: xpnn.Trainer(
        xpnn.mlp([N_IN, 5, 3], backend=backend, replicas=2), xpnn.CrossEntropy(), xpnn.Adam(0.01)
    ),
    "the network is not small": of(lambda: Linear(200_000), end),
    "there is no Linear": of(xpnn.ReLU, loss=xpnn.MeanSquaredError()),
    "the dtype is float64": lambda backend: of(end)(backend.with_dtype("float64")),
    "Exchanged has a train_step of its own": lambda backend: exchanged(backend),
}


def exchanged(backend):
    """A trainer with a step of its own."""

    class Exchanged(xpnn.Trainer):
        def train_step(self, *args):
            return super().train_step(*args)

    return Exchanged(mlp(backend), xpnn.CrossEntropy(), xpnn.Adam(0.01))


def test_the_docs_list_what_is_not_taken():
    """A row for each reason, with the words that are said; those below belong to what shows when rows come."""
    page = (PROJECT / "docs" / "gpu.md").read_text(encoding="utf-8").split("## Many steps as one kernel")[1]
    rows = [row.strip("| ").split(" | ") for row in page.split("\n## ")[0].splitlines() if row.startswith("|")][2:]
    later = {"rows have numbers of their own for their masks", "rows do not lie one after the other in memory"}
    later |= {"an epoch has fewer than 2 whole batches", "in step 1 it gives other gradients of 0.weight"}
    assert {why for _, why in rows} == {*REFUSED, *later}


def test_an_epoch_may_be_too_short(on_kernels):
    plan = persistent.Plan(1, BATCH, 2 * BATCH - 1, N_IN, weighted=False, requested=False)
    said = persistent.plan_persistent(simple(on_kernels), plan, None)
    assert said == "an epoch has fewer than 2 whole batches"


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_taken_says_so(why, on_kernels, cupy, caplog):
    with caplog.at_level(logging.INFO, "xpnn"):
        found = persistent.plan_persistent(
            REFUSED[why](on_kernels), persistent.Plan(1, BATCH, N, N_IN, weighted=False, requested=False), None
        )
    assert isinstance(found, str)
    assert found.startswith(why)


def test_a_method_of_somebody_is_not_passed_over(on_kernels, monkeypatch):
    trainer = simple(on_kernels)
    monkeypatch.setattr(trainer.net.layers[1], "forward", lambda x, *, train=False, key=None: (x, None))
    plan = persistent.Plan(1, BATCH, N, N_IN, weighted=False, requested=False)
    assert "has a forward of its own" in persistent.plan_persistent(trainer, plan, None)


@pytest.fixture
def unpinned(monkeypatch):
    """Blocks of rows go to the device as they are read: the fake one has no page-locked memory."""
    made = _Streamed.__init__

    def init(self, *args):
        made(self, *args)
        self.pinned = False

    monkeypatch.setattr(_Streamed, "__init__", init)


ELSEWHERE = {
    "on disk": lambda x, folder: on_disk(x, folder),
    "sparse": lambda x, folder: scipy_sparse().csr_matrix(x),
}


def on_disk(x, folder):
    found = np.memmap(folder / f"x{len(list(folder.iterdir()))}", dtype=np.float32, mode="w+", shape=x.shape)
    found[...] = x
    return found


def scipy_sparse():
    return pytest.importorskip("scipy.sparse", reason="needs SciPy: pip install scipy")


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("place", ELSEWHERE)
def test_rows_that_are_elsewhere_come_in_stages(place, weighted, on_kernels, cupy, unpinned, tmp_path):
    x, y = data()
    fit = {"sample_weight": np.linspace(0.5, 2.0, N)} if weighted else {}
    rows = ELSEWHERE[place](x, tmp_path)
    assert_alike(*both(simple, on_kernels, x_y=(rows, y), **fit))
    # The trial takes two steps and both at once; then a launch for each stage of five steps or what is left of them.
    assert launches(cupy) == 3 + 3 * 3


def test_a_stage_has_at_least_the_steps_of_a_trial(on_kernels, cupy, unpinned, tmp_path, monkeypatch):
    monkeypatch.setattr(persistent, "STAGE_ELEMENTS", 1)
    x, y = data()
    assert_alike(*both(simple, on_kernels, x_y=(on_disk(x, tmp_path), y), batch_size=9))
    assert launches(cupy) == 3 + 3 * 5


def test_a_fit_of_rows_on_disk_goes_on_within_a_stage(on_kernels, unpinned, tmp_path):
    x, y = data()
    assert_cut_off_goes_on(on_kernels, on_disk(x, tmp_path), y)


class Numbered(xpnn.Trainer):
    """Its rows carry numbers that pick their masks."""

    def row_numbers(self, order):
        return self.backend.asarray(np.arange(N) if order is None else order, dtype=self.backend.xp.int32)


def test_rows_that_it_does_not_take_are_told(on_kernels, cupy, caplog):
    """Which ones they are shows when they come; steps are made as without the option then."""
    trainer = Numbered(mlp(on_kernels, dropout=0.1), xpnn.CrossEntropy(), xpnn.Adam(0.01))
    with caplog.at_level(logging.INFO, "xpnn"):
        trainer.fit(*data(), epochs=2, batch_size=BATCH)
    said = "not made by one persistent kernel: rows have numbers of their own for their masks"
    assert caplog.text.count(said) == 1
    assert launches(cupy) == 0


@pytest.mark.parametrize("place", ["on disk", "on the device, apart"])
def test_rows_from_elsewhere_on_cupy_itself(place, tmp_path, monkeypatch, caplog):
    """Through page-locked memory; rows that lie apart on the device are not taken as they lie."""
    backend = xpnn.get_backend(backend_or_skip("cupy"), persistent=True)
    monkeypatch.setattr(persistent, "_STEPS", 5)
    made, real = [], Steps.launch
    monkeypatch.setattr(
        Steps, "launch", lambda self, rows, first, count: made.append(count) or real(self, rows, first, count)
    )
    x, y = data()
    with caplog.at_level(logging.INFO, "xpnn"):
        if place == "on disk":
            assert_alike(*both(simple, backend, x_y=(on_disk(x, tmp_path), y)))
            assert made == [1, 1, 2, *[5, 5, 1] * 3]
        else:
            apart = backend.asarray(np.repeat(x, 2, axis=1))[:, ::2]
            simple(backend).fit(apart, y, epochs=2, batch_size=BATCH, shuffle=False)
            assert caplog.text.count("rows do not lie one after the other in memory") == 1
            assert made == []


def test_a_kernel_that_is_wrong_is_found_and_not_used(on_kernels, cupy, caplog, monkeypatch):
    """The fit is that of the operations, to the bit."""
    expected = simple(on_kernels)
    expected.fit(*data(), epochs=2, batch_size=BATCH, graph=False)
    real = Steps.launch

    def wrong(steps, *args):
        real(steps, *args)
        trainer.net.store.grads *= 1.01

    monkeypatch.setattr(Steps, "launch", wrong)
    trainer = simple(on_kernels)
    with caplog.at_level(logging.INFO, "xpnn"):
        trainer.fit(*data(), epochs=2, batch_size=BATCH)
    assert "not made by one persistent kernel: in step 1 it gives other gradients of" in caplog.text
    assert launches(cupy) == 1
    assert bare(trainer.net.store.values).tobytes() == bare(expected.net.store.values).tobytes()
    assert trainer.history["loss"] == expected.history["loss"]

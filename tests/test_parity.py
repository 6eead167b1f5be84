"""One seed, one training: the same on every library, to the bit or to rounding, and without a host sync."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import backend_or_skip

import xpnn
from xpnn import SGD, AdaGrad, Adam, AdamW, Lion, Momentum, NAdam, RMSProp, params, to_numpy
from xpnn.errors import BackendUnavailableError, OptionError
from xpnn.ops import Ops
from xpnn.testing import BackendReport, _ulp, compare_backends
from xpnn.training.step import Tally

OTHERS = ["strict", "strict:no_float64", "torch", "cupy"]
RULES = [
    SGD(0.05),
    SGD(0.05, 0.9, nesterov=True, weight_decay=0.01),
    Momentum(0.05),
    RMSProp(0.01),
    AdaGrad(0.05),
    Adam(0.01, weight_decay=0.01),
    AdamW(0.01),
    NAdam(0.01),
    Lion(0.001, weight_decay=0.1),
]
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def busy_net(backend, **options):
    """Dropout, all norms, a skip and factors of single layers.

    A Linear before a batch norm has no bias: its gradient is zero but for rounding, which Adam would blow up.
    """
    return xpnn.Sequential(
        xpnn.Linear(8, bias=False),
        xpnn.BatchNorm(),
        xpnn.Tanh(),
        xpnn.Dropout(0.2),
        xpnn.Residual(xpnn.Linear(8), xpnn.RMSNorm(), xpnn.GELU(), xpnn.Dropout(0.3)),
        xpnn.LayerNorm(),
        xpnn.Linear(3, lr_mult=0.5, decay_mult=2.0),
        n_in=4,
        backend=backend,
        **{"seed": 3, **options},
    )


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 4))
    return X, np.argmax(X[:, :3] + 0.1 * rng.normal(size=(50, 3)), axis=1)


# -- what a seed decides -------------------------------------------------------------------------------------
@pytest.mark.parametrize("spec", OTHERS)
@pytest.mark.parametrize("seed", [3, -1, [0, 1, 2]])
def test_initial_weights_are_equal_to_the_bit(spec, seed):
    here, there = busy_net("numpy", seed=seed), busy_net(backend_or_skip(spec), seed=seed)
    assert to_numpy(there.store.values).tobytes() == here.store.values.tobytes()
    assert to_numpy(there.store.buffers).tobytes() == here.store.buffers.tobytes()


@pytest.mark.parametrize("spec", OTHERS)
def test_splits_shuffles_and_masks_are_equal_to_the_bit(spec, data):
    """What reaches the loss in each step of a fit: rows, targets and weights; and the masks of its dropouts."""
    X, y = data

    class Watching(xpnn.Trainer):
        def train_step(self, x, y, weight, row):
            self.seen.append(tuple(to_numpy(a).tobytes() for a in (x, y, weight)))
            _, caches = self.net.forward(x, train=True, step=row.step)
            self.seen.append((to_numpy(caches[3]).tobytes(), to_numpy(caches[4][3]).tobytes()))
            return super().train_step(x, y, weight, row)

    seen = []
    for backend in ("numpy", backend_or_skip(spec)):
        trainer = Watching(busy_net(backend), xpnn.CrossEntropy(), SGD(0.0), seed=5)
        trainer.seen = []
        weight = np.linspace(1, 2, len(X))
        trainer.fit(X, y, epochs=2, batch_size=8, validation_fraction=0.2, sample_weight=weight)
        seen.append(trainer.seen)
    assert len(seen[0]) == 2 * 2 * 5
    assert seen[0] == seen[1]


# -- ten steps ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_ten_steps_on_strict_are_those_of_numpy_to_the_bit(rule, dtype, data):
    backend_or_skip("strict")
    report = compare_backends(
        busy_net, xpnn.CrossEntropy(label_smoothing=0.1), rule, *data, backends=("numpy", "strict"), dtype=dtype
    )
    assert report.ok
    assert all(row["identical"] for row in report.rows)
    assert report.losses["strict"] == report.losses["numpy"]
    assert len(report.losses["numpy"]) == 10
    assert len(report.rows) == len(busy_net("numpy").params)
    assert rule.t == 0, "the optimizer was copied"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("spec", ["torch", "cupy"])
def test_ten_steps_elsewhere_are_those_of_numpy_to_rounding(spec, rule, dtype, data):
    backend_or_skip(spec)
    report = compare_backends(
        busy_net, xpnn.CrossEntropy(label_smoothing=0.1), rule, *data, backends=("numpy", spec), dtype=dtype
    )
    assert report.tolerance == TOLERANCE[dtype]
    assert report.ok, str(report)
    np.testing.assert_allclose(report.losses[spec], report.losses["numpy"], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("spec", OTHERS)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_whole_fit_is_the_same_elsewhere(spec, rule, data):
    """With everything a trainer has: schedule, penalty, clipping, weights, validation and replicas."""
    X, y = data

    def fit(backend):
        net = busy_net(backend, seed=[3, 4])
        trainer = xpnn.Trainer(
            net,
            xpnn.CrossEntropy(),
            copy.deepcopy(rule),
            schedule=xpnn.CosineDecay(),
            regularizer=xpnn.L2(1e-3),
            clip_norm=1.0,
            clip_value=0.5,
        )
        history = trainer.fit(X, y, epochs=2, batch_size=16, validation_fraction=0.2, class_weight="balanced")
        return net, history

    (here, expected), (there, got) = fit("numpy"), fit(backend_or_skip(spec))
    for name in ("loss", "accuracy", "val_loss", "lr", "grad_norm", "penalty"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, err_msg=name)
    if spec == "strict":
        assert to_numpy(there.store.values).tobytes() == here.store.values.tobytes()
        assert to_numpy(there.store.buffers).tobytes() == here.store.buffers.tobytes()
    scale = np.abs(here.store.values).max()
    np.testing.assert_allclose(to_numpy(there.store.values), here.store.values, rtol=0, atol=1e-4 * scale)


# -- the report --------------------------------------------------------------------------------------------------
def test_a_report_says_all_there_is(data):
    backend_or_skip("strict")
    report = compare_backends(busy_net, xpnn.CrossEntropy(), Adam, *data, backends=("numpy", "strict"), steps=3)
    assert isinstance(report, BackendReport)
    assert report.reference == "numpy"
    assert report.skipped == {}
    names = list(busy_net("numpy").params)
    assert [(row["backend"], row["parameter"]) for row in report.rows] == [("strict", name) for name in names]
    measures = {f"{kind}_max_{of}" for kind in ("grad", "value") for of in ("abs", "rel", "ulp")}
    assert all(set(row) == {"backend", "parameter", "identical", "ok", *measures} for row in report.rows)
    text = str(report)
    for word in ("backend", "parameter", "gradient rel", "weight rel", "verdict", "4.0.weight", "identical"):
        assert word in text
    assert "against numpy; gradients of step 1, weights after 3 steps; tolerance 1.0e-04: ok" in text


def test_backends_that_are_not_there_are_skipped_with_the_reason(data, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cupy", None)
    report = compare_backends(busy_net, xpnn.CrossEntropy(), SGD(0.1), *data, backends=("numpy", "cupy"), steps=1)
    assert report.skipped == {
        "cupy": "get_backend('cupy'): not installed: pip install 'xpnn[cuda13]' (or [cuda12], to match the driver)"
    }
    assert report.rows == []
    assert report.ok, "nothing that could be used differs"
    assert "cupy skipped: get_backend('cupy'): not installed" in str(report)
    with pytest.raises(BackendUnavailableError, match="not installed"):
        compare_backends(busy_net, xpnn.CrossEntropy(), SGD(0.1), *data, backends=("cupy", "numpy"))


class OneBitOff(Ops):
    """Operations in which one product is wrong by what `error` says."""

    error = 1e-3

    def linear_backward(self, x, dy, affine, *, need_dx):
        dx = super().linear_backward(x, dy, affine, need_dx=need_dx)
        d_weight = affine.d_weight
        d_weight *= 1.0 + self.error
        return dx


class SlowAdam(Ops):
    """An update that moves a little too little: gradients agree, weights do not."""

    def adam(self, update, m, v, scalars):
        beta1, beta2, eps, rate = scalars
        super().adam(update, m, v, (beta1, beta2, eps, rate * 0.9))


def sabotaged(backend, ops):
    return dataclasses.replace(backend, ops=ops(backend.xp, backend.device)) if backend.name == "strict" else backend


def test_a_wrong_gradient_is_found(data):
    backend_or_skip("strict")
    report = compare_backends(
        lambda backend: busy_net(sabotaged(backend, OneBitOff)),
        xpnn.CrossEntropy(),
        SGD(0.05),
        *data,
        backends=("numpy", "strict"),
    )
    assert not report.ok
    verdict = {row["parameter"]: row for row in report.rows}
    wrong = verdict["6.weight"]
    assert not wrong["ok"]
    assert not wrong["identical"]
    assert wrong["grad_max_rel"] == pytest.approx(1e-3, rel=1e-2)
    assert wrong["grad_max_ulp"] > 1000
    assert verdict["6.bias"]["grad_max_ulp"] == 0
    assert "DIFFERS" in str(report)
    assert "BACKENDS DIFFER" in str(report)


def test_a_wrong_update_is_found_though_gradients_agree(data):
    backend_or_skip("strict")
    report = compare_backends(
        lambda backend: busy_net(sabotaged(backend, SlowAdam)),
        xpnn.CrossEntropy(),
        Adam(0.01),
        *data,
        backends=("numpy", "strict"),
    )
    assert not report.ok
    assert all(row["grad_max_ulp"] == 0 for row in report.rows)
    assert all(row["value_max_rel"] > 1e-4 for row in report.rows)
    assert str(report).count("DIFFERS") == len(report.rows)


def test_a_difference_below_the_tolerance_is_ok_but_not_identical(data):
    class Tiny(OneBitOff):
        error = 1e-6

    backend_or_skip("strict")
    arguments = (lambda backend: busy_net(sabotaged(backend, Tiny)), xpnn.CrossEntropy(), SGD(0.05), *data)
    report = compare_backends(*arguments, backends=("numpy", "strict"))
    assert report.ok
    assert not any(row["identical"] for row in report.rows if row["parameter"] == "6.weight")
    strict = compare_backends(*arguments, backends=("numpy", "strict"), tolerance=1e-9)
    assert strict.tolerance == 1e-9
    assert not strict.ok


def test_numbers_that_are_not_finite_differ(data):
    class Broken(Ops):
        def linear(self, x, weight, bias):
            return super().linear(x, weight, bias) * math.nan

    backend_or_skip("strict")
    report = compare_backends(
        lambda backend: busy_net(sabotaged(backend, Broken)),
        xpnn.CrossEntropy(),
        SGD(0.05),
        *data,
        backends=("numpy", "strict"),
        steps=1,
    )
    assert not report.ok
    assert "DIFFERS" in str(report)


def test_batch_norm_after_a_bias_is_no_difference(data):
    """The gradient of such a bias is zero but for rounding, which differs between libraries."""
    for spec in ("strict", "torch"):
        backend_or_skip(spec)
        report = compare_backends(
            lambda backend: xpnn.mlp([4, 8, 3], norm="batch", backend=backend),
            xpnn.CrossEntropy(),
            SGD(0.05),
            *data,
            backends=("numpy", spec),
        )
        assert report.ok, str(report)


def test_what_cannot_be_compared_is_refused(data):
    used = Adam()
    used.step(busy_net("numpy").store)
    with pytest.raises(
        OptionError,
        match=r"^compare_backends: expected an optimizer that has made no step\. Make a new one\.$",
    ):
        compare_backends(busy_net, xpnn.CrossEntropy(), used, *data)
    with pytest.raises(OptionError, match=r"^compare_backends: expected steps >= 1, got 0\.$"):
        compare_backends(busy_net, xpnn.CrossEntropy(), Adam(), *data, steps=0)
    for wrong in ((), "numpy"):
        with pytest.raises(OptionError, match=r"^compare_backends: expected backends as a list of names, .* got .*Try"):
            compare_backends(busy_net, xpnn.CrossEntropy(), Adam(), *data, backends=wrong)


# -- units in the last place -----------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("start", [0.0, -0.0, 1.0, -1.0, 1e-45, -5e-324, 1e30, -3.7, 0.1])
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_ulp_counts_steps_of_nextafter(dtype, start, count):
    a = b = dtype(start)
    for _ in range(count):
        b = np.nextafter(b, dtype(np.inf))
    assert _ulp(np.asarray([a]), np.asarray([b])) == count
    assert _ulp(np.asarray([b]), np.asarray([a])) == count
    assert _ulp(np.asarray([[a, a], [a, b]]), np.asarray([[a, a], [a, a]])) == count


def test_ulp_passes_zero_and_spans_the_whole_line():
    for dtype, bits in ((np.float32, 32), (np.float64, 64)):
        least = np.nextafter(dtype(0), dtype(1))
        assert _ulp(np.asarray([-least]), np.asarray([least])) == 2
        assert _ulp(np.asarray([dtype(0)]), np.asarray([dtype(-0.0)])) == 0
        infinite = 2 ** (bits - 1) - 2 ** {32: 23, 64: 52}[bits]
        assert _ulp(np.asarray([dtype(-np.inf)]), np.asarray([dtype(np.inf)])) == 2 * infinite
    assert _ulp(np.empty(0), np.empty(0)) == 0


@given(a=st.floats(width=32, allow_nan=False), b=st.floats(width=32, allow_nan=False))
def test_ulp_is_symmetric_and_zero_for_equal_numbers_alone(a, b):
    x, y = np.asarray([a], np.float32), np.asarray([b], np.float32)
    assert _ulp(x, y) == _ulp(y, x)
    assert (_ulp(x, y) == 0) == (x == y).all()


# -- no host sync --------------------------------------------------------------------------------------------------
class Watched(xpnn.Trainer):
    """A trainer whose epochs run inside a guard until the first value is read: the losses, after the last step."""

    guard = None

    def run_epoch(self, *arguments):
        with contextlib.ExitStack() as inside, pytest.MonkeyPatch.context() as patch:
            losses = Tally.losses
            self.read_after = None

            def read(tally):
                if self.read_after is None:
                    self.read_after = self.step
                inside.close()
                return losses(tally)

            patch.setattr(Tally, "losses", read)
            inside.enter_context(self.guard())
            return super().run_epoch(*arguments)


LOSSES = {
    "cross-entropy": (xpnn.CrossEntropy(label_smoothing=0.1), "labels"),
    "focal": (xpnn.Focal(), "labels"),
    "hinge": (xpnn.Hinge(), "labels"),
    "soft labels": (xpnn.CrossEntropy(), "rows"),
    "binary": (xpnn.BinaryCrossEntropy(multilabel=True), "rows"),
    "squared": (xpnn.MeanSquaredError(), "rows"),
    "absolute": (xpnn.MeanAbsoluteError(), "rows"),
    "Huber": (xpnn.Huber(), "rows"),
    "Poisson": (xpnn.PoissonNLL(), "rows"),
}


def whole_trainer(backend, loss=None, rule=None, seed=3, kind=xpnn.Trainer, **options):
    """All that can take part in a step."""
    return kind(
        busy_net(backend, seed=seed),
        loss or xpnn.CrossEntropy(),
        copy.deepcopy(rule) if rule else Adam(0.01),
        **{
            "schedule": xpnn.Warmup(xpnn.CosineDecay(), 1.0),
            "dropout_schedule": xpnn.FlatCosine(),
            "weight_decay_schedule": xpnn.FlatCosine(flat=0.25),
            "regularizer": xpnn.L2(1e-3),
            "clip_norm": 1.0,
            "clip_value": 0.5,
            "callbacks": [xpnn.EMA()],
            **options,
        },
    )


def fit_without_waiting(trainer, guard, data, targets="labels", weighted=True):
    X, labels = data
    y = labels if targets == "labels" else np.eye(3)[labels]
    trainer.guard = guard
    weight = np.linspace(1, 2, len(X)) if weighted else None
    history = trainer.fit(X, y, epochs=2, batch_size=16, sample_weight=weight)
    assert trainer.read_after == trainer.step == 8, "nothing was read before the last of four steps"
    assert np.isfinite(history["loss"]).all()
    return history


@pytest.mark.parametrize("seed", [3, [0, 1, 2]], ids=["single", "replicas"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_step_waits_for_nothing_on_strict(rule, seed, data, no_host_sync):
    trainer = whole_trainer(backend_or_skip("strict"), rule=rule, seed=seed, kind=Watched)
    history = fit_without_waiting(trainer, no_host_sync, data)
    twin = whole_trainer("numpy", rule=rule, seed=seed, kind=Watched)
    assert fit_without_waiting(twin, contextlib.nullcontext, data)["loss"] == history["loss"]
    assert to_numpy(trainer.net.store.values).tobytes() == twin.net.store.values.tobytes()


@pytest.mark.parametrize(("loss", "targets"), LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_waits_for_nothing_under_any_loss(loss, targets, weighted, data, no_host_sync):
    trainer = whole_trainer(backend_or_skip("strict"), loss, kind=Watched)
    fit_without_waiting(trainer, no_host_sync, data, targets, weighted)


@pytest.mark.parametrize("penalty", [None, xpnn.L1(1e-3), xpnn.SpectralNorm(1e-3)], ids=repr)
def test_a_step_waits_for_nothing_under_any_penalty(penalty, data, no_host_sync):
    trainer = whole_trainer(backend_or_skip("strict"), regularizer=penalty, kind=Watched)
    fit_without_waiting(trainer, no_host_sync, data)


@pytest.mark.parametrize(
    ("loss", "targets", "metrics"),
    [
        (xpnn.CrossEntropy(), "labels", ("accuracy", xpnn.metrics.TopK(2))),
        (xpnn.BinaryCrossEntropy(multilabel=True), "rows", ("accuracy",)),
        (xpnn.MeanSquaredError(), "rows", ("mse", "rmse", "mae", "r2")),
    ],
    ids=["labels", "multilabel", "regression"],
)
@pytest.mark.parametrize("seed", [3, [0, 1]], ids=["single", "replicas"])
def test_a_step_waits_for_nothing_with_metrics(loss, targets, metrics, seed, data, no_host_sync):
    trainer = whole_trainer(backend_or_skip("strict"), loss, metrics=metrics, seed=seed, kind=Watched)
    history = fit_without_waiting(trainer, no_host_sync, data, targets)
    assert len(trainer.metrics) == len(metrics)
    assert all(np.isfinite(history[metric.name]).all() for metric in trainer.metrics)


def test_rates_of_single_replicas_wait_for_nothing(data, no_host_sync):
    trainer = whole_trainer(backend_or_skip("strict"), rule=AdamW([0.01, 0.02]), seed=[0, 1], kind=Watched)
    fit_without_waiting(trainer, no_host_sync, data)


@pytest.mark.parametrize("where", ["step", "callback"])
def test_a_trainer_that_waits_is_found(where, data, no_host_sync):
    class Waiting(Watched):
        def train_step(self, *arguments):
            value, pred = super().train_step(*arguments)
            if where == "step":
                float(value)
            return value, pred

    peek = xpnn.LambdaCallback(on_batch_end=lambda trainer: to_numpy(trainer.net.store.grads))
    callbacks = [peek] if where == "callback" else []
    trainer = whole_trainer(backend_or_skip("strict"), kind=Waiting, callbacks=callbacks)
    with pytest.raises(AssertionError, match="the host waits for the device"):
        fit_without_waiting(trainer, no_host_sync, data)


def test_the_guard_sees_a_sync(no_host_sync):
    x = backend_or_skip("strict").zeros(3)
    for look in (lambda: float(x[0]), lambda: bool(x[0] > 0), lambda: np.from_dlpack(x), lambda: to_numpy(x)):
        with no_host_sync(), pytest.raises(AssertionError, match="the host waits for the device"):
            look()


@pytest.mark.parametrize("seed", [3, [0, 1, 2]], ids=["single", "replicas"])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_step_runs_on_tensors_without_values(rule, seed, data, monkeypatch):
    """Torch's meta tensors have a shape and nothing else: whatever asks for a value raises."""
    pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    X, y = data

    class Recording(xpnn.Trainer):
        def train_step(self, x, y, weight, row):
            rows.append(row)
            return super().train_step(x, y, weight, row)

    rows = []
    whole_trainer("numpy", rule=rule, seed=seed, kind=Recording).fit(X, y, epochs=1, batch_size=16)

    monkeypatch.setattr(params, "_CHECKED", {"torch:meta"})  # the probe for aliasing reads values, once
    trainer = whole_trainer("torch:meta", rule=rule, seed=seed)
    backend, store, average = trainer.net.backend, trainer.net.store, trainer.callbacks[0]
    assert store.values.is_meta
    trainer.optimizer.bind(store)
    average.on_fit_begin(trainer)
    x, target = backend.asarray(X[:16]), backend.asarray(y[:16], dtype=backend.index_dtype)
    weight = backend.asarray(np.linspace(1, 2, 16))
    for row in rows:
        value, pred = trainer.train_step(x, target, weight, row)
        average.on_batch_end(trainer)
    assert trainer.step == len(rows) == 4
    assert value.is_meta
    assert tuple(pred.shape) == (*store.replicas, 16, 3)
    with pytest.raises((NotImplementedError, RuntimeError)):
        float(value.sum())

"""Schedules against hand values, against their own promises, and against PyTorch's."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnn
from xpnn.errors import OptionError
from xpnn.schedules import (
    Constant,
    CosineDecay,
    CosineLog,
    ExponentialDecay,
    FlatCosine,
    InverseTimeDecay,
    OneCycle,
    Plateau,
    Schedule,
    StepDecay,
    WarmRestarts,
    Warmup,
)

SCHEDULES = [
    Constant(),
    StepDecay(3, 0.3),
    ExponentialDecay(0.9),
    ExponentialDecay(0.9, staircase=True),
    InverseTimeDecay(0.2),
    CosineDecay(20, 0.01),
    WarmRestarts(4, 1, end=0.1),
    WarmRestarts(4, 2),
    WarmRestarts(4, 1.5, end=0.1),
    OneCycle(20),
    OneCycle(20, 0.0),
    FlatCosine(20),
    FlatCosine(20, 0.0, end=0.2),
    CosineLog(20),
    CosineLog(20, 1),
    Warmup(CosineDecay(20), 3.0),
    Warmup(StepDecay(3), 0.0),
    Plateau(),
]
TIMES = np.linspace(0, 60, 2401)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_every_schedule_keeps_the_contract(schedule):
    values = [schedule(float(t)) for t in TIMES]
    assert all(type(v) is float and 0.0 <= v <= 1.0 for v in values)
    assert values == [schedule(float(t)) for t in TIMES], "a schedule is pure"
    assert type(schedule(3)) is float, "whole times may be integers"
    assert math.isfinite(schedule(1e9))
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert dataclasses.replace(schedule) == schedule
    assert hash(schedule) == hash(dataclasses.replace(schedule))
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.unit = "step"


RISING_AGAIN = WarmRestarts, CosineLog


@pytest.mark.parametrize("schedule", [s for s in SCHEDULES if not isinstance(s, RISING_AGAIN)], ids=repr)
def test_decays_never_rise_apart_from_their_warmup(schedule):
    values = np.asarray([schedule(float(t)) for t in TIMES])
    peak = int(values.argmax())
    assert values[peak] == 1.0
    assert (np.diff(values[: peak + 1]) > 0).all()
    assert (np.diff(values[peak:]) <= 0).all()


@pytest.mark.parametrize(
    "schedule",
    [
        ExponentialDecay(0.9),
        InverseTimeDecay(),
        CosineDecay(20, 0.1),
        OneCycle(20),
        FlatCosine(20, end=0.1),
        Warmup(CosineDecay(20), 3.0),
    ],
    ids=repr,
)
def test_smooth_schedules_have_no_jumps(schedule):
    step = 1e-3
    values = np.asarray([schedule(i * step) for i in range(25_000)])
    assert np.abs(np.diff(values)).max() < 1.5 * step


def test_constant():
    assert [Constant()(t) for t in (0, 1.5, 1e9)] == [1.0, 1.0, 1.0]
    assert Constant().resolve(7) == Constant()
    assert Constant().watches is None
    assert Constant().after([3.0, 2.0]) == 1.0


def test_step_decay_halves_every_ten():
    schedule = StepDecay()
    assert [schedule(t) for t in (0, 9.999, 10, 19, 20, 35)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.125]


def test_a_boundary_missed_by_rounding_counts_as_reached():
    assert StepDecay(0.1, 0.5)(0.3) == 0.125  # 0.3 / 0.1 is 2.9999999999999996
    assert ExponentialDecay(0.5, staircase=True)(0.1 * 3 * 10 - 4e-16) == 0.125
    assert WarmRestarts(0.1, 1)(0.3) == 1.0


def test_exponential_decay():
    assert ExponentialDecay(0.95)(3) == pytest.approx(0.857375, rel=1e-15)
    assert ExponentialDecay(0.81)(0.5) == pytest.approx(0.9, rel=1e-15)
    schedule = ExponentialDecay.from_k(0.3, staircase=True, unit="step")
    assert schedule.unit == "step"
    assert schedule(4.7) == pytest.approx(math.exp(-1.2), rel=1e-14)
    with pytest.raises(OptionError, match=r"from_k: expected k in \[0, 700\), got -1"):
        ExponentialDecay.from_k(-1)


def test_inverse_time_decay():
    assert [InverseTimeDecay(0.5)(t) for t in (0, 2, 6)] == [1.0, 0.5, 0.25]


def test_cosine_decay():
    schedule = CosineDecay(total=8, end=0.2)
    assert [schedule(t) for t in (0, 4, 8, 100)] == pytest.approx([1.0, 0.6, 0.2, 0.2], abs=1e-15)
    assert schedule(2) == pytest.approx(0.2 + 0.4 * (1 + math.sqrt(0.5)), rel=1e-15)


@pytest.mark.parametrize("make", [CosineDecay, OneCycle, FlatCosine, CosineLog])
def test_an_open_length_is_filled_once(make):
    with pytest.raises(OptionError, match=f"{make.__name__}: expected a known length, got total=None. Pass"):
        make()(0.0)
    assert make().resolve(12) == make(total=12)
    assert make(total=5).resolve(12) == make(total=5)
    assert make(unit="step").resolve(300).unit == "step"


@pytest.mark.parametrize(("growth", "restarts"), [(1, [3, 6, 9]), (2, [3, 9, 21, 45]), (1.5, [3, 7.5, 14.25])])
def test_warm_restarts_start_again_where_the_periods_end(growth, restarts):
    schedule = WarmRestarts(3, growth, end=0.1)
    for t in restarts:
        assert schedule(t) == pytest.approx(1.0, abs=1e-9)
        assert schedule(t - 1e-6) == pytest.approx(0.1, abs=1e-9)
    assert schedule(1.5) == pytest.approx(0.55, abs=1e-12)


def test_growth_close_to_one_is_no_growth():
    near, plain = WarmRestarts(3, 1 + 1e-9), WarmRestarts(3, 1)
    for t in np.linspace(0.05, 29.95, 300):
        assert near(t) == pytest.approx(plain(t), abs=1e-6)


def test_one_cycle():
    schedule = OneCycle(total=10, warmup=0.4, start=0.2, end=0.0)
    assert [schedule(t) for t in (0, 2, 4, 7, 10, 11)] == pytest.approx([0.2, 0.6, 1.0, 0.5, 0, 0], abs=1e-15)
    assert OneCycle(total=1)(0) == pytest.approx(1 / 25)
    assert OneCycle(total=1)(1) == 1 / 25e4


def test_flat_cosine():
    schedule = FlatCosine(total=8, flat=0.25, end=0.2)
    assert [schedule(t) for t in (0, 2, 5, 8, 100)] == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2], abs=1e-15)
    for t in np.linspace(0, 1, 101):  # RealMLP's flat_cos
        assert FlatCosine(1)(t) == pytest.approx(1.0 if t < 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * t - 1))))
    for t in np.linspace(0, 25, 101):
        assert FlatCosine(20, 0.0, end=0.1)(t) == pytest.approx(CosineDecay(20, 0.1)(t), abs=1e-15)


def test_cosine_log():
    schedule = CosineLog(total=30)
    for t in np.linspace(0, 29.99, 301):  # RealMLP's coslog4
        expected = 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * t / 30)))
        assert schedule(t) == pytest.approx(expected, abs=1e-12)
    for cycles in (1, 2, 4, 7):
        total = 2**cycles - 1
        valleys = [2**i - 1 for i in range(cycles + 1)]
        peaks = [2 ** (i + 0.5) - 1 for i in range(cycles)]
        assert [CosineLog(total, cycles)(t) for t in valleys] == pytest.approx([0.0] * (cycles + 1), abs=1e-12)
        assert [CosineLog(total, cycles)(t) for t in peaks] == pytest.approx([1.0] * cycles, abs=1e-12)
        values = np.asarray([CosineLog(total, cycles)(t) for t in np.linspace(0, total, 20_001)])
        turns = np.flatnonzero(np.diff(np.sign(np.diff(values))))
        assert len(turns) == 2 * cycles - 1, "no other peak or valley"
    assert CosineLog(total=3)(99) == 0.0


@pytest.mark.parametrize("make", [FlatCosine, CosineLog])
def test_a_fit_asks_at_each_step_how_far_it_is(make):
    X, y = xpnn.data.make_moons(80, seed=0)
    asked = []

    class Listening(xpnn.Adam):
        def numbers(self, t, factor=1.0):
            asked.append(factor)
            return super().numbers(t, factor)

    trainer = xpnn.Trainer(xpnn.mlp([2, 4, 2]), xpnn.CrossEntropy(), Listening(0.01), schedule=make())
    trainer.fit(X, y, epochs=3, batch_size=20)
    assert asked == [make(total=3)(step / 4) for step in range(12)]
    assert len(set(asked)) > 5, "not once an epoch"


def test_warmup_hands_over_to_what_follows():
    schedule = Warmup(StepDecay(2, 0.5), 4, start=0.2)
    assert [schedule(t) for t in (0, 2, 4, 5.9, 6, 8)] == pytest.approx([0.2, 0.6, 1.0, 1.0, 0.5, 0.25])
    assert Warmup(Constant(unit="step"), 500).unit == "step"
    assert Warmup(Constant(), 0)(0) == 1.0


def test_warmup_leaves_the_rest_of_the_fit_to_what_follows():
    schedule = Warmup(CosineDecay(), 2).resolve(10)
    assert schedule == Warmup(CosineDecay(8), 2)
    assert schedule(10) == 0.0
    short = Warmup(CosineDecay(), 5).resolve(3)
    assert [short(t) for t in (0, 3)] == [0.0, 0.6]


def test_warmup_passes_on_what_its_successor_watches():
    schedule = Warmup(Plateau("val_accuracy", patience=0), 2)
    assert schedule.watches == "val_accuracy"
    assert schedule.after([0.5, 0.5]) == 0.5
    assert Warmup().watches is None
    assert schedule.after([]) == 1.0


def test_plateau_counts_epochs_without_improvement():
    schedule = Plateau(factor=0.1, patience=2, min_delta=0.0, min_factor=0.05)
    losses = [1.0, 0.9, 0.9, 0.95, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8]
    assert [schedule.after(losses[:n]) for n in range(len(losses) + 1)] == pytest.approx(
        [1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]
    )
    assert schedule(99) == 1.0


def test_plateau_reads_its_direction_from_the_metric():
    rising = [0.1, 0.2, 0.3, 0.4]
    assert Plateau("val_accuracy", patience=0).after(rising) == 1.0
    assert Plateau("val_loss", patience=0).after(rising) == 0.125
    assert Plateau("my_score", patience=0, mode="max").after(rising) == 1.0
    assert Plateau("loss", patience=0).after([math.nan, math.nan]) == 0.25
    with pytest.raises(OptionError, match=r"got 'my_score'. For another column pass mode="):
        Plateau("my_score")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Constant(unit="epochs"), r"Constant: expected unit 'epoch' or 'step', got 'epochs'"),
        (lambda: StepDecay(0), r"StepDecay: expected every to be a number in \(0, inf\), got 0\. Choose"),
        (lambda: StepDecay(10, 1.5), r"factor to be a number in \(0, 1\], got 1.5"),
        (lambda: ExponentialDecay(0.0), r"rate to be a number in \(0, 1\], got 0.0"),
        (lambda: ExponentialDecay("0.9"), r"rate to be a number in \(0, 1\], got '0.9'"),
        (lambda: InverseTimeDecay(-0.1), r"k to be a number in \[0, inf\), got -0.1"),
        (lambda: InverseTimeDecay(math.nan), r"k to be a number in \[0, inf\), got nan"),
        (lambda: CosineDecay(0), r"total to be a number in \(0, inf\), got 0"),
        (lambda: CosineDecay(5, 1.1), r"end to be a number in \[0, 1\], got 1.1"),
        (lambda: WarmRestarts(math.inf), r"period to be a number in \(0, inf\), got inf"),
        (lambda: WarmRestarts(3, 0.5), r"growth to be a number in \[1, inf\), got 0.5"),
        (lambda: WarmRestarts(3, end=-1), r"end to be a number in \[0, 1\], got -1"),
        (lambda: OneCycle(total=-1), r"total to be a number in \(0, inf\), got -1"),
        (lambda: OneCycle(warmup=1.0), r"warmup to be a number in \[0, 1\), got 1.0"),
        (lambda: OneCycle(start=2), r"start to be a number in \[0, 1\], got 2"),
        (lambda: FlatCosine(-1), r"FlatCosine: expected total to be a number in \(0, inf\), got -1"),
        (lambda: FlatCosine(flat=1.0), r"flat to be a number in \[0, 1\), got 1.0"),
        (lambda: FlatCosine(end=1.5), r"end to be a number in \[0, 1\], got 1.5"),
        (lambda: CosineLog(0), r"CosineLog: expected total to be a number in \(0, inf\), got 0"),
        (lambda: CosineLog(cycles=2.5), r"CosineLog: expected cycles to be an integer from 1 to 50, got 2.5"),
        (lambda: CosineLog(cycles=0), r"cycles to be an integer from 1 to 50, got 0"),
        (lambda: CosineLog(cycles=51), r"cycles to be an integer from 1 to 50, got 51"),
        (lambda: OneCycle(end=None), r"end to be a number in \[0, 1\], got None"),
        (lambda: Warmup(CosineDecay), r"Warmup: expected then to be a schedule, got <class"),
        (lambda: Warmup(duration=-1), r"duration to be a number in \[0, inf\), got -1"),
        (lambda: Warmup(start=True), r"start to be a number in \[0, 1\], got True"),
        (lambda: Plateau(factor=1.0), r"factor to be a number in \(0, 1\), got 1.0"),
        (lambda: Plateau(patience=-1), r"patience to be a number in \[0, inf\), got -1"),
        (lambda: Plateau(patience=1.5), r"patience to be a whole number, got 1.5"),
        (lambda: Plateau(min_delta=-1), r"min_delta to be a number in \[0, inf\), got -1"),
        (lambda: Plateau(min_factor=2), r"min_factor to be a number in \[0, 1\], got 2"),
        (lambda: Plateau(mode="up"), r"expected mode 'auto', 'min' or 'max', got 'up'"),
    ],
)
def test_a_bad_field_is_named(make, text):
    with pytest.raises(OptionError, match=text):
        make()


def test_numpy_scalars_do_not_survive():
    schedule = StepDecay(np.int64(3), np.float64(0.5))
    assert type(schedule.every) is float
    assert type(schedule.factor) is float
    assert type(schedule(np.float64(7.0))) is float
    assert type(Plateau(patience=np.int64(3)).patience) is int


def test_the_base_class_says_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"Schedule does not define __call__\(t\)"):
        Schedule()(0.0)


# -- against PyTorch ----------------------------------------------------------------------------------------
def torch_factors(make, steps, lr=1.0):
    """Learning rates of a PyTorch scheduler, one per step, relative to `lr`."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"] / lr)
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (StepDecay(7, 0.3), lambda s, o: s.StepLR(o, 7, 0.3)),
        (ExponentialDecay(0.93), lambda s, o: s.ExponentialLR(o, 0.93)),
        (CosineDecay(50, 0.1), lambda s, o: s.CosineAnnealingLR(o, 50, eta_min=0.1)),
        (WarmRestarts(7, 1), lambda s, o: s.CosineAnnealingWarmRestarts(o, 7)),
        (WarmRestarts(5, 2, end=0.05), lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 2, eta_min=0.05)),
        (WarmRestarts(3, 3), lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 3)),
        (Warmup(Constant(), 10, start=0.2), lambda s, o: s.LinearLR(o, 0.2, 1.0, 10)),
    ],
)
def test_equal_to_pytorch(ours, theirs):
    assert [ours(t) for t in range(50)] == pytest.approx(torch_factors(theirs, 50), abs=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_one_cycle_is_pytorchs_with_its_count_of_steps(share):
    n = 60
    theirs = torch_factors(
        lambda s, o: s.OneCycleLR(o, max_lr=1.0, total_steps=n, pct_start=share, cycle_momentum=False), n - 1
    )
    ours = OneCycle(total=n - 1, warmup=(share * n - 1) / (n - 1), unit="step")
    assert [ours(t) for t in range(n - 1)] == pytest.approx(theirs, abs=1e-12)


@settings(deadline=None)  # the first example imports torch
@given(
    st.lists(st.floats(-2, 2), min_size=1, max_size=40),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.01, 0.5]),
    st.sampled_from(["min", "max"]),
)
def test_plateau_is_pytorchs(values, patience, min_delta, mode):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode=mode,
        factor=0.5,
        patience=patience,
        threshold=min_delta,
        threshold_mode="abs",
        min_lr=1e-3,
        eps=0.0,
    )
    ours = Plateau("x", 0.5, patience=patience, min_delta=min_delta, min_factor=1e-3, mode=mode)
    for n, value in enumerate(values, start=1):
        theirs.step(value)
        assert ours.after(values[:n]) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)

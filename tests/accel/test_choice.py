"""The number of threads that a fit chooses: by times that are given here, step by step."""

from __future__ import annotations

import copy
import logging
import pickle

import numpy as np
import pytest

import xpnn
from xpnn.accel import choice as module
from xpnn.accel import cores, workers
from xpnn.accel.choice import ThreadChoice, counts_to_try
from xpnn.accel.cores import THREADS, VARIABLES, keep_to, kept_to, thread_limit
from xpnn.accel.native import support
from xpnn.accel.native.openblas import NO_POOL
from xpnn.errors import OptionError

PACE = 0.1  # seconds of steps that are made at once


@pytest.fixture(autouse=True)
def most(monkeypatch):
    """Four cores, of which all may be used; call it for another number."""
    for name in (THREADS, *VARIABLES):
        monkeypatch.delenv(name, raising=False)

    def allow(count):
        monkeypatch.setattr(cores, "core_count", lambda: count)
        monkeypatch.setattr(module, "allowed_threads", lambda: count)

    allow(4)
    return allow


class Machine:
    """A clock, and a trainer whose steps take as long as `each` says of the number of threads."""

    def __init__(self):
        self.now, self.asked = 0.0, []
        self.choice = ThreadChoice(lambda: self.now)

    def train(self, each, seconds, steps_at_once=None, batch_size=128):
        """Make steps for so long; return what they took beyond what the best number would have."""
        end, extra = self.now + seconds, 0.0
        best = min(each(count) for count in counts_to_try(thread_limit()))
        with self.choice.steps("numpy", batch_size):
            while self.now < end:
                count = kept_to() or thread_limit()
                n = min(self.choice.most_steps(), steps_at_once or max(int(PACE / each(count)), 1))
                self.now += n * each(count)
                extra += n * (each(count) - best)
                self.asked += [count] * n
                self.choice.made(n)
        return extra


@pytest.fixture
def machine():
    return Machine()


@pytest.mark.parametrize(("count", "expected"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8))])
def test_which_are_tried(count, expected):
    assert counts_to_try(count) == expected


@pytest.mark.parametrize(
    ("each", "steps_at_once"), [(1e-5, None), (4e-4, None), (4e-4, 1), (0.05, None), (0.05, 1), (0.3, None)]
)
def test_more_threads_stay_where_they_are_quicker_and_trials_cost_less_than_a_hundredth(
    most, machine, each, steps_at_once
):
    most(2)
    seconds = max(20.0, 2000 * each)
    extra = machine.train(lambda count: each * (1.7 if count == 1 else 1.0), seconds, steps_at_once)
    assert machine.choice.count == 2
    assert {1, 2} == set(machine.asked), "and one is tried"
    assert 0.0 < extra < 0.01 * seconds
    assert machine.choice.seconds == pytest.approx({1: 1.7 * each, 2: each})


def test_a_trial_that_costs_much_comes_seldom(most, machine):
    """One thread takes twenty times as long."""
    most(2)
    extra = machine.train(lambda count: 1e-3 * (20 if count == 1 else 1), 200.0)
    assert machine.choice.count == 2
    assert 0.0 < extra < 0.01 * 200 + 0.5


def test_one_thread_is_chosen_where_it_is_quicker_and_two_again_when_that_changes(most, machine, caplog):
    most(2)
    with caplog.at_level(logging.INFO, logger="xpnn"):
        machine.train(lambda count: 1e-3 * (1.0, 2.0)[count - 1], 10.0)
    assert machine.choice.count == 1
    assert machine.asked[-1000:].count(1) > 900
    assert caplog.messages == ["fit: steps on 1 of 2 threads take 0.50 of the time"]
    assert repr(machine.choice) == "ThreadChoice(1 of 2)"
    machine.train(lambda count: 1e-3 * (2.0, 1.0)[count - 1], 10.0)
    assert machine.choice.count == 2


def test_between_many_and_few_the_best_is_found_and_it_is_the_same_each_time(most):
    most(16)
    times = {1: 9e-4, 2: 5e-4, 4: 3e-4, 8: 4e-4, 16: 8e-4}
    machines = [Machine(), Machine()]
    for machine in machines:
        machine.train(times.__getitem__, 30.0)
        assert machine.choice.count == 4
        assert set(machine.asked) == {2, 4, 8, 16}, "only half and twice as many are tried"
    assert machines[0].asked == machines[1].asked


def test_equal_times_change_nothing(machine):
    machine.train(lambda count: 1e-3, 20.0)
    assert machine.choice.count == 4


def test_a_step_that_is_slow_once_changes_nothing(most, machine):
    """As one that the machine keeps from its core: on two threads now and then, with which others are compared."""
    most(2)
    slow = iter(np.tile([1.0] * 499 + [30.0], 100))
    machine.train(lambda count: 1e-3 * (1.4 if count == 1 else next(slow)), 20.0, steps_at_once=1)
    assert machine.choice.count == 2


def test_the_first_steps_which_load_and_compile_do_not_count(most, machine):
    most(2)
    first = iter([5.0, 5.0])
    machine.train(lambda count: next(first, 1e-3), 30.0, steps_at_once=1)
    assert machine.choice.seconds[2] == pytest.approx(1e-3)
    assert machine.choice.count == 2


def test_what_is_done_between_steps_does_not_count(most, machine):
    most(2)
    with machine.choice.steps("numpy", 128):
        for _ in range(3000):
            machine.now += 1e-3
            machine.choice.made(1)
            machine.now += 7.0
            machine.choice.go_on()
    assert machine.choice.seconds[2] == pytest.approx(1e-3)


def test_many_short_fits_are_one(most, machine):
    most(2)
    for _ in range(400):
        machine.train(lambda count: 1e-3 * (1.0, 2.0)[count - 1], 0.03)
        machine.now += 3.0
    assert machine.choice.count == 1


def test_another_batch_size_or_limit_begins_anew(most, machine):
    most(2)
    slower = lambda count: 1e-3 * count  # noqa: E731
    machine.train(slower, 10.0)
    assert machine.choice.count == 1
    machine.train(slower, 0.01, batch_size=64)
    assert machine.choice.count == 2
    most(4)
    machine.train(slower, 0.01, batch_size=64)
    assert (machine.choice.count, machine.choice.counts) == (4, (1, 2, 4))


# -- what the user says ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("variable", VARIABLES)
def test_limits_of_the_environment_are_upper_bounds(monkeypatch, machine, variable):
    monkeypatch.setenv(variable, "2")
    machine.train(lambda count: 1e-3 / count, 10.0)
    assert (machine.choice.counts, set(machine.asked)) == ((1, 2), {1, 2})


@pytest.mark.parametrize("given", [1, 2, 3])
def test_xpnn_threads_is_taken_without_measuring(monkeypatch, machine, given):
    monkeypatch.setenv(THREADS, str(given))
    machine.train(lambda count: 1e-3 * count, 10.0)
    assert (machine.choice.count, set(machine.asked), machine.choice.seconds) == (given, {given}, {})
    assert thread_limit() == given
    monkeypatch.setenv(THREADS, "auto")
    assert thread_limit() == 4
    machine.train(lambda count: 1e-3 * count, 20.0)
    assert machine.choice.count == 1


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_xpnn_threads_is_a_number(monkeypatch, value):
    monkeypatch.setenv(THREADS, value)
    with pytest.raises(OptionError, match=f"^XPNN_THREADS: expected auto or a number .* got '{value}'"):
        thread_limit()


def test_quota_affinity_and_limits_of_blas_bound_it(monkeypatch, machine):
    monkeypatch.setattr(cores, "core_count", lambda: 2)  # tests/accel/test_cores.py: by quota and affinity
    machine.train(lambda count: 1e-3 / count, 5.0)
    assert machine.choice.counts == (1, 2)
    monkeypatch.setattr(module, "allowed_threads", lambda: 1)  # as threadpoolctl sets it
    machine.train(lambda count: 1e-3 / count, 5.0)
    assert machine.choice.counts == (1,)


@pytest.mark.parametrize("backend", ["torch", "cupy", "strict"])
def test_of_other_libraries_nothing_is_measured(backend):
    def never():
        raise AssertionError("not asked")

    choice = ThreadChoice(never)
    with choice.steps(backend, 32):
        assert kept_to() is None
        choice.go_on()
        choice.made(1)
        assert choice.most_steps() > 1 << 40
    assert (choice.counts, choice.seconds) == ((1,), {})


# -- who keeps to it ------------------------------------------------------------------------------------------------
def test_a_limit_holds_within_steps_alone_and_after_errors(machine):
    machine.train(lambda count: 1e-3 * count, 30.0)
    assert kept_to() is None

    def cut_off():
        with machine.choice.steps("numpy", 128):
            assert kept_to() == machine.choice.count == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert kept_to() is None


def test_a_fit_within_a_fit_has_at_most_its_threads(machine):
    inner = Machine()
    before = keep_to(2)
    try:
        inner.train(lambda count: 1e-3 / count, 5.0)
        assert (inner.choice.counts, set(inner.asked)) == ((1, 2), {1, 2})
        assert kept_to() == 2
    finally:
        keep_to(before)


def test_pythons_threads_keep_to_it():
    before = keep_to(1)
    try:
        assert workers.worker_count() == 1
    finally:
        keep_to(before)
    assert workers.worker_count() == 4


def test_compiled_loops_keep_to_it(monkeypatch):
    made = []
    monkeypatch.setattr(support.importlib, "import_module", lambda name, package: made.append(name) or FakePool)
    assert support.keep_pool((7, 8)) == (7, 8)
    for most, expected in ((1, NO_POOL), (3, (3, 3))):
        before = keep_to(most)
        try:
            assert support.keep_pool((7, 8)) == expected
            assert support.keep_pool(NO_POOL) == NO_POOL
        finally:
            keep_to(before)
    assert made == [".pool"]


class FakePool:
    """What `support` asks of the module of that name."""

    @staticmethod
    def limited(most):
        return most, most


class Restless(ThreadChoice):
    """Another number of threads at each turn, whatever it is worth."""

    def __init__(self):
        super().__init__()
        self.used = []

    def most_steps(self):
        return 2

    def made(self, steps):
        self.used.append(kept_to())
        self._trying = 1 + len(self.used) % 2
        self._keep()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("graph", [False, True])
def test_no_bit_depends_on_it(monkeypatch, compiled, graph):
    if compiled:
        pytest.importorskip("numba")
    elif graph:
        pytest.skip("traces need compiled loops")
    monkeypatch.setattr(module, "allowed_threads", lambda: 2)
    rng = np.random.default_rng(0)
    X, y = rng.random((1200, 300), dtype=np.float32), rng.integers(0, 10, 1200)
    weights = []
    for restless in (False, True):
        backend = xpnn.get_backend("numpy", compiled=compiled)
        net = xpnn.mlp([300, 256, 10], dropout=0.2, backend=backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam())
        trainer.threads = Restless() if restless else trainer.threads
        trainer.fit(X, y, epochs=3, batch_size=100, graph=graph)
        weights.append(net.store.values.tobytes())
    assert set(trainer.threads.used) == {None, 1}
    assert weights[0] == weights[1]


def test_a_trainer_tells_how_many_and_travels_without_it():
    trainer = xpnn.Trainer(xpnn.mlp([2, 4, 2]), xpnn.CrossEntropy(), xpnn.Adam())
    trainer.fit(*xpnn.data.make_moons(64, seed=0), epochs=1)
    assert trainer.threads.count == 4
    for other in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
        assert isinstance(other.threads, ThreadChoice)
        assert other.threads is not trainer.threads

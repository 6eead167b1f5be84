"""OpenBLAS on one thread while xpnn computes, put back as it was; and forks between products."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import xpnn
from xpnn.accel.native import turns
from xpnn.accel.native.openblas import find_openblas
from xpnn.accel.native.turns import ALLOWED, ONE_THREAD, PRODUCT, allowed_threads, holds_one_thread

pytestmark = pytest.mark.skipif(find_openblas() is None, reason="NumPy's products are not OpenBLAS's")
forks = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture
def count():
    """Tells OpenBLAS's number of threads, which is two."""
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    with limits(2, user_api="blas"):
        yield find_openblas().count


@pytest.mark.parametrize("context", [ONE_THREAD, PRODUCT], ids=["one thread", "product"])
def test_openblas_is_put_back(count, context):
    assert not holds_one_thread()
    with context:
        assert (count(), allowed_threads(), holds_one_thread()) == (1, 2, True)
        with PRODUCT, ONE_THREAD:
            assert (count(), allowed_threads()) == (1, 2)
        assert count() == 1
    assert (count(), allowed_threads(), ALLOWED.value, holds_one_thread()) == (2, 2, 0, False)


def test_after_an_error_too(count):
    with pytest.raises(KeyboardInterrupt), ONE_THREAD, PRODUCT:
        raise KeyboardInterrupt
    assert count() == 2


def test_an_interrupt_while_it_is_set(count, monkeypatch):
    """Ctrl-C just when OpenBLAS has been set."""
    blas = find_openblas()

    def interrupted(number):
        blas.set_count(number)
        if number == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(turns, "find_openblas", lambda: blas._replace(set_count=interrupted))
    with pytest.raises(KeyboardInterrupt), ONE_THREAD:
        raise AssertionError("not reached")
    assert (count(), ALLOWED.value) == (2, 0)


def test_what_somebody_sets_meanwhile_stays(count):
    with ONE_THREAD:
        find_openblas().set_count(3)
    assert count() == 3


def test_the_last_of_several_threads_puts_it_back(count):
    inside, leave = threading.Barrier(3), threading.Event()

    def hold():
        with ONE_THREAD:
            inside.wait(10)
            leave.wait(10)

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with ONE_THREAD:
        pass
    assert (count(), allowed_threads()) == (1, 2)
    leave.set()
    for thread in threads:
        thread.join()
    assert count() == 2


@pytest.mark.parametrize("compiled", [False, True])
def test_a_fit_a_prediction_and_a_failure_leave_openblas_as_it_was(count, compiled):
    if compiled:
        pytest.importorskip("numba")
    seen = []

    class Look(xpnn.Layer):
        def forward(self, x, *, train=False, key=None):
            seen.append(count())
            return x, None

        def backward(self, dy, cache, *, need_dx=True):
            return dy

        def out_size(self, n_in):
            return n_in

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 300)), rng.integers(0, 3, 64)
    net = xpnn.Sequential(
        xpnn.Linear(200), Look(), xpnn.Linear(3), n_in=300, backend=xpnn.get_backend("numpy", compiled=compiled)
    )
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam())
    trainer.fit(x, y, epochs=2, batch_size=8)
    assert count() == 2
    net.predict(x)
    trainer.evaluate(x, y)
    assert count() == 2
    net.params[next(iter(net.params))][...] = 1e38
    with pytest.raises(xpnn.errors.DivergenceError):
        trainer.fit(x, y, epochs=2, batch_size=8)
    assert count() == 2
    assert set(seen) == {1}


# -- forks ------------------------------------------------------------------------------------------------------
def child_of_fork(look):
    """Fork; return what `look` says in the child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, repr(look()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        said = told.read().decode()
    os.waitpid(pid, 0)
    return said


class TestForks:
    pytestmark = forks

    def test_a_fork_waits_for_the_product_of_another_thread(self, count):
        begun, end, order = threading.Event(), 0.1, []

        def work():
            with PRODUCT:
                begun.set()
                time.sleep(end)
                order.append("product")
            with PRODUCT:
                order.append("next")

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait(10)
        assert child_of_fork(lambda: (find_openblas().count(), ALLOWED.value, turns._holding)) == "(2, 0, 0)"
        assert order[0] == "product"
        thread.join()
        assert order == ["product", "next"]
        assert count() == 2

    def test_a_fork_within_ones_own_fit_keeps_it_on_one_thread(self, count):
        with ONE_THREAD:
            assert child_of_fork(lambda: (find_openblas().count(), allowed_threads())) == "(1, 2)"
        assert count() == 2

    def test_a_signals_handler_may_fork_within_a_product(self, count):
        said = []
        before = signal.signal(signal.SIGUSR1, lambda *args: said.append(child_of_fork(lambda: "child")))
        try:
            with PRODUCT:
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.001)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert said == ["'child'"]

    @pytest.mark.parametrize("compiled", ["0", "1"])
    def test_forks_beside_fits_do_not_hang(self, compiled):
        """In a process of its own, which is ended if they do."""
        if compiled == "1":
            pytest.importorskip("numba")
        env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")} | {"XPNN_COMPILED": compiled}
        done = subprocess.run([sys.executable, "-c", FORKS], env=env, capture_output=True, timeout=120, text=True)
        assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["ok"] * 12, "")


FORKS = """
import os, threading, time, warnings
import numpy as np, xpnn
warnings.simplefilter("ignore")
x, y = np.random.default_rng(0).random((600, 300), dtype=np.float32), np.arange(600) % 10

def work():
    net = xpnn.mlp([300, 256, 128, 10], seed=0)
    xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).fit(x, y, epochs=4, batch_size=64)
    return net.store.values.tobytes()

expected = work()
for n in range(12):
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.005 + 0.003 * n)
    pid = os.fork()
    if pid == 0:  # a child trains, too, some of them
        os._exit(int(n % 4 == 0 and work() != expected))
    _, status = os.waitpid(pid, 0)
    thread.join()
    print("ok" if status == 0 else status, flush=True)
"""

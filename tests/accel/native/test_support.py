"""Where native code may run, what is said elsewhere, and who chooses."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import subprocess
import sys
import types

import numpy as np
import pytest
from fake_pool import seven

import xpnn
from xpnn.accel import NumpyOps, trace_objection
from xpnn.accel.native import inner_loops, openblas, support
from xpnn.accel.native.openblas import NO_POOL
from xpnn.accel.native.trace import TraceError
from xpnn.errors import BackendUnavailableError, OptionError

OPENMP = 2  # what OpenBLAS says of itself
LONG = {"steps": 1 << 40, "n_params": 1, "n_activations": 1}


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch):
    monkeypatch.delenv("XPNN_COMPILED", raising=False)


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def setting(count):
    """Set nothing."""


@pytest.fixture
def anew():
    """What this process has found out is found out again, and said again."""
    caches = support._loaded, support._say, inner_loops.inner_loop, openblas.find_openblas
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def said(anew, caplog):
    """What was logged."""
    caplog.set_level(logging.INFO, logger="xpnn")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


# -- NumPy ------------------------------------------------------------------------------------------------------
def test_each_numpy_on_the_list_is_a_feature_release():
    assert all(version.count(".") == 1 for version in support.NUMPY)


def test_steps_are_not_traced_with_a_numpy_that_was_not_tested(monkeypatch, loops, said):
    monkeypatch.setattr(support, "NUMPY", ("2.0",))
    why = f"NumPy {np.__version__} is none that traces were tested with (2.0)"
    assert inner_loops.inner_loop(np.add, (np.dtype(np.float32),) * 3) is None
    for _ in range(2):
        ops = NumpyOps(compiled=True)
        assert ops.compiled, "loops need nothing of NumPy's that it does not promise"
        assert trace_objection(ops) == why
        with pytest.raises(TraceError, match="tested with"):
            ops.tracing(np.float32)
    assert [s for s in said() if "traced" in s[1]] == [("WARNING", f"steps are not traced: {why}")], "said once"


def test_a_fit_with_a_numpy_that_was_not_tested_is_the_same_to_the_bit(monkeypatch, loops, said):
    X, y = xpnn.data.make_moons(400, seed=0)
    weights = []
    for versions in (support.NUMPY, ()):
        monkeypatch.setattr(support, "NUMPY", versions)
        net = xpnn.mlp([2, 8, 2], backend=xpnn.get_backend("numpy", compiled=True), seed=1)
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).fit(X, y, epochs=3, batch_size=8)
        weights.append(net.store.values.tobytes())
    assert weights[0] == weights[1]


# -- OpenBLAS ---------------------------------------------------------------------------------------------------
class Library:
    """What ctypes makes of a library with these functions."""

    def __init__(self, functions):
        vars(self).update(functions)

    def __getitem__(self, name):
        return vars(self)[name]


def pretend(monkeypatch, **functions):
    """Let NumPy be linked to a library with these functions."""
    monkeypatch.setattr(openblas.ctypes, "CDLL", lambda path: Library(functions))


def config_of(text):
    """A function that returns the address of a text."""
    kept = ctypes.create_string_buffer(text)
    return ctypes.CFUNCTYPE(ctypes.c_void_p)(lambda: ctypes.addressof(kept))


@pytest.mark.parametrize("name", ["openblas_get_config", "scipy_openblas_get_config64_", "openblas_get_config64_"])
def test_openblas_tells_its_version(monkeypatch, name):
    pretend(monkeypatch, **{name: config_of(b"OpenBLAS 0.3.99 DYNAMIC_ARCH NO_AFFINITY Haswell")})
    assert openblas.openblas_version() == "0.3.99"


@pytest.mark.parametrize("functions", [{}, {"openblas_get_config": config_of(b"")}], ids=["none", "no words"])
def test_products_that_are_not_openblas(monkeypatch, functions, said):
    pretend(monkeypatch, openblas_get_num_threads=seven, openblas_set_num_threads=setting, **functions)
    assert openblas.openblas_version() is None
    assert support.find_pool() == NO_POOL
    assert support.openblas_objection() == "NumPy's matrix products are not OpenBLAS's"
    assert said() == [("INFO", "compiled loops run on one thread: NumPy's matrix products are not OpenBLAS's")]


def test_threads_of_an_openblas_that_was_not_tested_are_left_alone(monkeypatch, loops, said):
    monkeypatch.setattr("xpnn.accel.native.pool.make_pool", lambda count: (7, count))
    pretend(
        monkeypatch,
        openblas_get_num_threads=seven,
        openblas_set_num_threads=setting,
        openblas_get_config=config_of(b"OpenBLAS 0.3.99 NO_AFFINITY"),
    )
    for _ in range(2):
        assert support.find_pool() == NO_POOL
    tested = ", ".join(support.OPENBLAS)
    why = f"OpenBLAS 0.3.99 is none beside which threads were tested ({tested})"
    assert said() == [("INFO", f"compiled loops run on one thread: {why}")], "said once"
    monkeypatch.setattr(support, "OPENBLAS", ("0.3.99",))
    assert support.openblas_objection() is None
    assert support.find_pool() != NO_POOL


def test_an_openblas_whose_threads_cannot_be_counted_and_set_is_left_alone(monkeypatch, anew):
    both = {"openblas_get_num_threads": seven, "openblas_set_num_threads": setting}
    cases = [(both, True), ({}, False), *(({name: f}, False) for name, f in both.items())]
    cases += [(both | {"openblas_get_parallel": lambda kind=kind: kind}, kind != OPENMP) for kind in (0, 1, OPENMP)]
    for functions, found in cases:
        openblas.find_openblas.cache_clear()
        pretend(monkeypatch, **functions)
        blas = openblas.find_openblas()
        assert (blas is not None) == found
        if blas is not None:
            assert blas.count() == 7

    def refuse(path):
        raise OSError(path)

    openblas.find_openblas.cache_clear()
    monkeypatch.setattr(openblas.ctypes, "CDLL", refuse)
    assert openblas.find_openblas() is None
    assert openblas.openblas_version() is None


# -- numba ------------------------------------------------------------------------------------------------------
def test_without_numba_nothing_is_compiled(monkeypatch, said):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ops = NumpyOps()
    ops.prepare(**LONG)
    assert not ops.compiled
    assert trace_objection(ops).startswith("compiled loops are not in use")
    assert said() == [], "it is an extra"
    with pytest.raises(
        BackendUnavailableError,
        match=r"^get_backend: compiled=True cannot be had: numba is not installed: pip install 'xpnn\[fast\]', "
        r"or leave compiled away\.$",
    ):
        xpnn.get_backend("numpy", compiled=True)


NUMBAS = {
    "older": ({"__version__": "0.60.0"}, "numba 0.60.0 is none that loops were tested with: pip install 'numba=="),
    "newer": ({"__version__": "0.999.0rc1"}, "numba 0.999.0rc1 is none that loops were tested with"),
    "switched off": ({"config": types.SimpleNamespace(DISABLE_JIT=1)}, "unset NUMBA_DISABLE_JIT"),
}


@pytest.mark.parametrize(("changed", "why"), NUMBAS.values(), ids=NUMBAS)
def test_a_numba_that_was_not_tested_is_left_aside(monkeypatch, loops, said, changed, why):
    for name, value in changed.items():
        monkeypatch.setattr(f"numba.{name}", value)
    for _ in range(2):
        ops = NumpyOps()
        ops.prepare(**LONG)
        assert not ops.compiled
    (told,) = said()
    assert told[0] == "WARNING"
    assert told[1].startswith("compiled loops are left aside: ")
    assert why in told[1]
    with pytest.raises(BackendUnavailableError, match="compiled=True cannot be had: numba"):
        NumpyOps(compiled=True)


def test_a_numba_that_cannot_compile_is_left_aside(monkeypatch, loops, said):
    def refuse(*arrays):
        raise TypeError("Failed in nopython mode pipeline\n\n  unknown intrinsic")

    monkeypatch.setattr(loops, "adam", refuse)
    for _ in range(2):
        ops = NumpyOps()
        ops.prepare(**LONG)
        assert not ops.compiled
    why = "Failed in nopython mode pipeline unknown intrinsic"
    assert said() == [("WARNING", f"compiled loops are left aside: {why}")]


# -- who chooses ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("value", "setting"), [("0", False), ("1", True), ("auto", "auto"), ("", "auto")])
def test_the_environment_chooses_where_nobody_does(monkeypatch, loops, value, setting):
    monkeypatch.setenv("XPNN_COMPILED", value)
    assert xpnn.get_backend("numpy").ops.setting == setting
    assert xpnn.get_backend("auto").ops.setting == setting
    for other in (False, True, "auto"):
        assert xpnn.get_backend("numpy", compiled=other).ops.setting == other
    assert xpnn.get_backend("numpy", ops="portable").ops.name == "portable", "has no such thing"
    assert xpnn.get_backend("strict").ops.name == "portable"


@pytest.mark.parametrize("value", ["yes", "2", "True"])
def test_the_environment_says_0_1_or_auto(monkeypatch, value):
    monkeypatch.setenv("XPNN_COMPILED", value)
    with pytest.raises(OptionError, match=f"^XPNN_COMPILED: expected 0, 1 or auto in the environment, got '{value}'"):
        xpnn.get_backend("numpy")
    assert xpnn.get_backend("numpy", compiled=False).ops.setting is False


def test_numba_is_not_imported_where_it_is_switched_off(monkeypatch):
    monkeypatch.setattr(support, "load_loops", lambda **options: pytest.fail("loaded"))
    monkeypatch.setattr("xpnn.accel.numpy_ops.load_loops", support.load_loops)
    monkeypatch.setenv("XPNN_COMPILED", "0")
    net = xpnn.mlp([2, 3, 2])
    net.prepare(1 << 40, 1)
    assert not net.backend.ops.compiled


def test_what_one_network_takes_is_not_anothers(loops):
    first, second = xpnn.mlp([2, 3, 2]), xpnn.mlp([2, 3, 2])
    first.prepare(1 << 40, 1)
    assert (first.backend.ops.compiled, second.backend.ops.compiled) == (True, False)
    assert first.backend == second.backend
    assert {layer.ops for layer in first.layers} == {first.backend.ops}


def test_fields_of_the_operations_are_their_own(loops):
    a, b = NumpyOps(), NumpyOps()
    a.prepare(**LONG)
    assert (a.compiled, b.compiled) == (True, False)
    assert dataclasses.replace(xpnn.get_backend("numpy"), ops=a).ops is a


def test_nothing_of_numba_is_imported_with_xpnn():
    code = "import sys, xpnn; assert not {'numba', 'xpnn.accel.native.loops'} & {*sys.modules}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""SiLU, Mish, mixtures and the Dropout behind as one operation: to the bit what the layers do one after the other."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest

import xpnn
from xpnn.layers.plan import Plan
from xpnn.random import StepKey

pytest.importorskip("numba")

CHAINS = {
    "silu": lambda: [xpnn.SiLU()],
    "mish": lambda: [xpnn.Mish()],
    "silu, dropout": lambda: [xpnn.SiLU(), xpnn.Dropout(0.3)],
    "mish, dropout": lambda: [xpnn.Mish(), xpnn.Dropout(0.3)],
    "mixed silu": lambda: [xpnn.ParametricActivation("silu", init=0.7)],
    "mixed mish": lambda: [xpnn.ParametricActivation("mish", init=0.7)],
    "mixed silu, dropout": lambda: [xpnn.ParametricActivation("silu", init=-0.4), xpnn.Dropout(0.1)],
    "mixed mish, dropout": lambda: [xpnn.ParametricActivation("mish", init=1.3), xpnn.Dropout(0.1)],
    "dropout of none": lambda: [xpnn.Mish(), xpnn.Dropout(0.0)],
}


def inputs(batch, n, dtype):
    rng = np.random.default_rng(batch + n)
    x = rng.normal(0, 3, (batch, n)).astype(dtype)
    x.reshape(-1)[:9] = [0.0, -0.0, 1e4, -1e4, 20.0, 20.1, -87.0, -100.0, 1e-30]
    return x, rng.normal(size=(batch, n)).astype(dtype)


def both_ways(layers, x, dy, *, compiled, rows=None, first=0, replicas=None):
    """Output, gradient to the input and those of the parameters, by the plan of a network."""
    backend = xpnn.get_backend("numpy", compiled=compiled)
    net = xpnn.Sequential(*layers, n_in=x.shape[-1], backend=backend, dtype=str(x.dtype), seed=1, replicas=replicas)
    key = StepKey(net.seed if replicas else 3, 5) if rows is None else StepKey(3, 5, rows=rows)
    y, caches = net.plan.forward(x, train=True, key=key)
    dx = net.plan.backward(dy, caches, first=first)
    return [y, dx, net.plan.output(x), *net.grads.values()]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 1), (1, 9), (5, 3), (64, 130), (301, 77)])
@pytest.mark.parametrize("chain", CHAINS)
def test_bits_are_those_of_the_layers(chain, shape, dtype):
    x, dy = inputs(*shape, dtype)
    found, expected = (both_ways(CHAINS[chain](), x, dy, compiled=compiled) for compiled in (True, False))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("shape", [(3, 40, 60), (2, 500, 31), (2, 4, 5), (2, 3000, 1)])
@pytest.mark.parametrize("chain", CHAINS)
def test_bits_of_replicas_are_those_of_the_layers(chain, shape):
    """Large ones by a call for each network, small ones by the layers."""
    pairs = [inputs(*shape[1:], np.float32) for _ in range(shape[0])]
    x, dy = (
        np.stack(part) * np.linspace(1, 2, len(pairs), dtype=np.float32)[:, None, None]
        for part in zip(*pairs, strict=True)
    )
    found, expected = (
        both_ways(CHAINS[chain](), x, dy, compiled=compiled, replicas=shape[0]) for compiled in (True, False)
    )
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("chain", CHAINS)
def test_caches_serve_the_layers_too(chain):
    """As somebody calls them who goes back through a network layer by layer."""
    x, dy = inputs(40, 12, np.float32)
    net = xpnn.Sequential(*CHAINS[chain](), n_in=12, backend=xpnn.get_backend("numpy", compiled=True), seed=1)
    _, caches = net.plan.forward(x, train=True, key=StepKey(3, 5))
    expected = [net.plan.backward(dy, caches), *(np.array(grad) for grad in net.grads.values())]
    net.store.grads[...] = 99.0
    for layer, cache in zip(reversed(net.layers), reversed(caches), strict=True):
        dy = layer.backward(dy, cache)
    for a, b in zip([dy, *net.grads.values()], expected, strict=True):
        assert a.tobytes() == b.tobytes()


def test_bits_do_not_depend_on_threads(monkeypatch):
    x, dy = inputs(500, 160, np.float32)
    several = both_ways(CHAINS["mixed mish, dropout"](), x, dy, compiled=True)
    openblas = importlib.import_module("xpnn.accel.native.openblas")
    monkeypatch.setattr("xpnn.accel.numpy_ops.find_pool", lambda: openblas.NO_POOL)
    for a, b in zip(both_ways(CHAINS["mixed mish, dropout"](), x, dy, compiled=True), several, strict=True):
        assert a.tobytes() == b.tobytes()


def test_rows_may_pick_their_masks_and_gradients_may_lie_anywhere():
    x, dy = inputs(40, 12, np.float32)
    rows = np.arange(40, dtype=np.int32) * 7
    layers = CHAINS["mixed mish, dropout"]
    given = np.asfortranarray(dy)
    found, expected = (both_ways(layers(), x, given, compiled=c, rows=rows) for c in (True, False))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_way_back_may_end_at_the_dropout():
    x, dy = inputs(40, 12, np.float32)
    layers = CHAINS["mish, dropout"]
    found, expected = (both_ways(layers(), x, dy, compiled=c, first=1)[1] for c in (True, False))
    np.testing.assert_array_equal(found, expected)
    assert (found == 0).mean() > 0.2


def test_only_these_layers_as_they_are_written_are_one():
    class Own(xpnn.Mish):
        def forward(self, x, *, train=False, key=None):
            return super().forward(x, train=train, key=key)

    kinds = [type(part).__name__ for part in Plan([xpnn.Mish(), xpnn.SiLU(), Own(), xpnn.GELU()])._parts]
    assert kinds == ["_Gate", "_Gate", "_Own", "_Part"]


def test_it_tells_when_other_code_changes():
    """numba would go on with what it compiled before."""
    module = importlib.import_module("xpnn.accel.native.gates")
    folder = Path(module.__file__).parent
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:8] for name in module._COMPILED}
    assert found == module._COMPILED

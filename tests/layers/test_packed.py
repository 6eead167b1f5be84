"""Networks that compute with packed rows: outputs and gradients of the encoded rows."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn.data import TableEncoder
from xpnn.layers.packed import PackedPlan

N = 60
RNG = np.random.default_rng(0)


@pytest.fixture(name="rows", scope="module")
def fixture_rows():
    table = {
        "a": RNG.normal(size=N),
        "b": RNG.normal(size=N),
        "c": np.array(list("xyz"), dtype=object)[np.arange(N) % 3],
    }
    table["b"][::5] = np.nan
    return TableEncoder(bins=6, values_first=True).fit(table).rows(table)


CHAINS = {
    "linear": lambda: [xpnn.Linear(3)],
    "relu": lambda: [xpnn.Linear(8), xpnn.ReLU(), xpnn.Linear(4), xpnn.ReLU(), xpnn.Linear(3, bias=False)],
    "no bias": lambda: [xpnn.Linear(8, bias=False), xpnn.Tanh(), xpnn.Linear(3)],
    "scale": lambda: [xpnn.Scale(), xpnn.Linear(8), xpnn.Mish(), xpnn.Linear(3)],
    "waves": lambda: [xpnn.Columns((2, xpnn.NumericalEmbedding())), xpnn.Linear(8), xpnn.SiLU(), xpnn.Linear(3)],
    "waves and scale": lambda: [xpnn.Columns((2, xpnn.NumericalEmbedding("pl"))), xpnn.Scale(), xpnn.Linear(3)],
}


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_packed_rows_give_outputs_and_gradients_of_the_encoded(make, rows, backend):
    net = xpnn.Sequential(*make(), n_in=rows.shape[1], backend=backend, seed=1)
    x, packed = backend.asarray(np.asarray(rows)), backend.asarray(rows.packed)
    y, caches = net.forward(x, train=True)
    dy = backend.asarray(RNG.normal(size=tuple(y.shape)))
    net.backward(dy, caches)
    wanted = {name: np.array(backend.to_numpy(grad)) for name, grad in net.grads.items()}
    plan = PackedPlan.of(net.layers, rows.code)
    net.store.grads[...] = 7.0
    y_packed, caches = plan.forward(packed, train=True, key=None)
    assert len(caches) == len(net.layers)
    assert plan.backward(dy, caches, need_dx=False) is None
    close = {"rtol": 2e-4, "atol": 2e-5}
    np.testing.assert_allclose(backend.to_numpy(y_packed), backend.to_numpy(y), **close)
    np.testing.assert_allclose(backend.to_numpy(plan.output(packed)), backend.to_numpy(y), **close)
    for name, grad in net.grads.items():
        np.testing.assert_allclose(backend.to_numpy(grad), wanted[name], **close, err_msg=name)
    # Encoded rows are taken as ever, told by their width.
    np.testing.assert_array_equal(backend.to_numpy(plan.output(x)), backend.to_numpy(net.plan.output(x)))
    y, caches = plan.forward(x, train=True, key=None)
    plan.backward(dy, caches, need_dx=False)
    for name, grad in net.grads.items():
        np.testing.assert_array_equal(backend.to_numpy(grad), wanted[name])


class OwnLinear(xpnn.Linear):
    """Might compute otherwise."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: [OwnLinear(3)],
        lambda: [xpnn.ReLU(), xpnn.Linear(3)],
        lambda: [xpnn.Scale()],
        lambda: [xpnn.Columns((1, xpnn.Scale()), (1, xpnn.Scale())), xpnn.Linear(3)],
    ],
)
def test_networks_that_begin_otherwise_have_no_such_plan(make, rows):
    net = xpnn.Sequential(*make(), n_in=rows.shape[1])
    assert PackedPlan.of(net.layers, rows.code) is None


def test_columns_of_a_layer_must_come_first(rows):
    table = {"c": np.array(list("xyz"), dtype=object)[np.arange(N) % 3], "a": RNG.normal(size=N)}
    code = TableEncoder(bins=6).fit(table).code
    net = xpnn.Sequential(xpnn.Columns((1, xpnn.NumericalEmbedding())), xpnn.Linear(3), n_in=code.width)
    assert PackedPlan.of(net.layers, code) is None

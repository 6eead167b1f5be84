"""Products with packed rows by compiled loops: those of the definition, to rounding."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest

import xpnn
from xpnn.accel.numpy_ops import NumpyOps
from xpnn.coding import Code, Group, Table
from xpnn.ops import portable_ops

pytest.importorskip("numba")

BATCH = 40
#: Five piecewise-linear codes, more than are taken at once; plain columns between and behind them; categories.
CODE = Code(
    plain=(0, 1, 2, 3, 4, 15, 40),
    steps=(Group(5, 10), Group(16, 8), Group(24, 2), Group(26, 6), Group(32, 5)),
    ones=(Group(37, 3), Group(41, 4)),
)
TABLES = {"alone": Table(CODE), "behind features": Table(CODE, 2, 9), "no bins": Table(Code((0,), (), (Group(1, 3),)))}


def draw(table, dtype, n_out, seed=0):
    rng = np.random.default_rng(seed)
    code = table.code
    bins = [rng.integers(0, group.size, (BATCH, 1)) for group in code.steps]
    ones = [rng.integers(-1, group.size, (BATCH, 1)) for group in code.ones]
    plain, fractions = rng.normal(size=(BATCH, len(code.plain))), rng.random((BATCH, len(code.steps)))
    n = code.width - table.skip + table.lead
    packed = np.concatenate([plain, fractions, *bins, *ones], axis=1)
    arrays = packed, rng.normal(size=(n, n_out)), rng.normal(size=(1, n)), rng.normal(size=(BATCH, n_out))
    return [array.astype(dtype) for array in arrays]


def both_ways(ops, table, packed, weight, scale, dy):
    """The product, added to ones, and all gradients; what is nobody's stays 7."""
    y = np.ones_like(dy)
    kept = ops.table_linear(y, packed, table, weight, scale)
    d_weight, d_scale = np.full_like(weight, 7), None if scale is None else np.full_like(scale, 7)
    ops.table_linear_backward(dy, packed, table, (weight, d_weight), (scale, d_scale), kept)
    return [y, d_weight, *([] if d_scale is None else [d_scale])]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_loops_are_the_definition_to_rounding(table, scaled, dtype):
    packed, weight, scale, dy = draw(table, dtype, n_out=70)
    given = table, packed, weight, scale if scaled else None, dy
    found, defined = both_ways(NumpyOps(compiled=True), *given), both_ways(portable_ops(np, "cpu"), *given)
    rounding = 50 * np.finfo(dtype).eps
    for a, b in zip(found, defined, strict=True):
        np.testing.assert_allclose(a, b, rtol=rounding, atol=rounding * np.abs(b).max())
    assert (found[1][: table.lead] == 7).all()
    if scaled:
        assert (found[2][:, : table.lead] == 7).all()


def test_the_definition_is_the_dense_product_on_every_backend(backend):
    table = TABLES["behind features"]
    packed, weight, scale, dy = draw(table, "float32", 6)
    rows = CODE.expand(packed, np, "cpu")[:, table.skip :] * scale[:, table.lead :]
    wanted = 1.0 + rows @ weight[table.lead :]
    ops, bring = backend.ops, backend.asarray
    y = bring(np.ones_like(dy))
    ops.table_linear(y, bring(packed), table, bring(weight), bring(scale))
    np.testing.assert_allclose(backend.to_numpy(y), wanted, rtol=1e-4, atol=1e-4)
    d_weight = bring(np.zeros_like(weight))
    ops.table_linear_backward(bring(dy), bring(packed), table, (bring(weight), d_weight), (None, None))
    rows = CODE.expand(packed, np, "cpu")[:, table.skip :]
    np.testing.assert_allclose(backend.to_numpy(d_weight)[table.lead :], rows.T @ dy, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("wrong", [None, -1.0, 10.0, 2.5, np.nan])
def test_rows_are_encoded_to_the_bit(table, dtype, wrong):
    packed, *_ = draw(table, dtype, 1)
    code = table.code
    if code.steps:
        packed[:3, code.starts[0]] = 0.0, -0.0, 1.0
        packed[3, code.starts[1]] = packed[3, code.starts[1]] if wrong is None else wrong
    found = NumpyOps(compiled=False).encoded(code, packed)
    assert found.dtype == dtype
    assert found.tobytes() == code.expand(packed, np, "cpu").tobytes()


def test_gradients_are_those_of_differences():
    table, eps, rng = TABLES["behind features"], 1e-6, np.random.default_rng(1)
    packed, weight, scale, dy = draw(table, "float64", 5)
    ops = NumpyOps(compiled=True)
    _, d_weight, d_scale = both_ways(ops, table, packed, weight, scale, dy)

    def value(weight, scale):
        y = np.zeros_like(dy)
        ops.table_linear(y, packed, table, weight, scale)
        return (y * dy).sum()

    ways = rng.normal(size=weight.shape), rng.normal(size=scale.shape)
    along = [value(weight + s * ways[0], scale) for s in (eps, -eps)]
    there = d_weight[table.lead :] * ways[0][table.lead :]
    assert abs((along[0] - along[1]) / (2 * eps) - there.sum()) < 1e-6 * np.abs(there).sum()
    along = [value(weight, scale + s * ways[1]) for s in (eps, -eps)]
    there = d_scale[:, table.lead :] * ways[1][:, table.lead :]
    assert abs((along[0] - along[1]) / (2 * eps) - there.sum()) < 1e-6 * np.abs(there).sum()


def test_bits_do_not_depend_on_threads(monkeypatch):
    table = TABLES["alone"]
    given = draw(table, "float32", n_out=128)
    ops = NumpyOps(compiled=True)
    several = both_ways(ops, table, *given)
    monkeypatch.setattr(ops, "_pool", importlib.import_module("xpnn.accel.native.openblas").NO_POOL)
    for a, b in zip(both_ways(ops, table, *given), several, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("wrong", [-2.0, 10.0, np.nan])
def test_codes_that_are_none_are_left_to_the_definition(wrong):
    table = TABLES["alone"]
    packed, weight, scale, dy = draw(table, "float32", 6)
    packed[3, CODE.starts[1]] = wrong
    given = table, packed, weight, scale, dy
    for a, b in zip(
        both_ways(NumpyOps(compiled=True), *given), both_ways(portable_ops(np, "cpu"), *given), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_only_with_loops_or_factors_are_packed_rows_faster():
    for scaled in (False, True):
        assert NumpyOps(compiled=True).takes_packed(scaled=scaled)
        assert NumpyOps(compiled=False).takes_packed(scaled=scaled) == scaled
        assert not portable_ops(np, "cpu").takes_packed(scaled=scaled)
    ops = xpnn.get_backend("numpy", compiled="auto").ops
    assert ops.takes_packed(scaled=False) == ops.compiled  # they are loaded for it


def test_it_tells_when_other_code_changes():
    """numba would go on with what it compiled before."""
    module = importlib.import_module("xpnn.accel.native.packed")
    folder = Path(module.__file__).parent
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:8] for name in module._COMPILED}
    assert found == module._COMPILED
    assert sorted(found) == ["threads.py", "vectors.py"]

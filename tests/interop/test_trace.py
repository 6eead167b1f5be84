"""Tracing: the functions and operators that a layer may be made of, against NumPy, row by row."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn.errors import OptionError
from xpnn.interop.build import Builder
from xpnn.interop.graph import ELEMENTWISE, run
from xpnn.interop.namespace import traced_into
from xpnn.interop.subject import subject_of
from xpnn.interop.trace import trace_network
from xpnn.interop.traced import Traced, TracingError
from xpnn.special import erf, sigmoid, softmax, softplus

N = 6


def traced(function, X):
    """What a function of (xp, x) computes by its graph, for all rows."""
    builder = Builder()
    value = builder.input("features", "features", shape=(X.shape[-1],), dtype=X.dtype.name)
    with traced_into(builder) as xp:
        y = function(xp, Traced(builder, value, (1, X.shape[-1])))
    graph = builder.graph({"y": y.value})
    whole(graph)
    return run(graph, {"features": X})["y"]


def whole(graph):
    """What holds in every graph."""
    known = {each.value for each in graph.inputs} | set(graph.constants)
    used = set(graph.outputs.values())
    for node in graph.nodes:
        assert set(node.inputs) <= known
        rows = [name for name in node.inputs if name in graph.values]
        assert rows, "what follows from constants alone is a constant"
        rank = len(graph.values[node.output].shape)
        if node.op in ELEMENTWISE:
            assert {len(graph.values[name].shape) for name in rows} == {rank}
            assert all(graph.constants[name].ndim <= rank for name in node.inputs if name in graph.constants)
        known.add(node.output)
        used |= set(node.inputs)
    assert {node.output for node in graph.nodes} <= used
    assert set(graph.constants) <= used


def written(xp, x):
    """In-place operators, views, parts of an empty array."""
    y = xp.empty((*x.shape, 2), dtype=x.dtype)
    y[..., 0] = x
    y[..., 1] = -1.0
    y[..., 1:3, :] *= 2.0
    part = y[..., :2, 1]
    part += x[..., :2]
    y[..., -1, :] = xp.asarray([5.0, 6.0], dtype=x.dtype)
    flat = xp.reshape(y, (1, -1))
    flat[..., 3:5] -= 1.0
    y = xp.matrix_transpose(y)
    y += 0.5
    return y


FUNCTIONS = {
    "arithmetic": lambda xp, x: 1.0 - (x + 2.0) / (3.0 + x * x) * -x + abs(x) ** 2 - 2.0**x,
    "numpy on the left": lambda xp, x: np.arange(6.0, dtype=x.dtype) * x + np.float32(0.5) * x,
    "comparisons": lambda xp, x: xp.astype((x > 0.2) & ~(x >= 1.0) | (x < -1.0) | (x == 0.0) | (x <= -9.0), x.dtype),
    "not equal": lambda xp, x: xp.astype(x != 0.0, x.dtype) + xp.astype(xp.not_equal(x, x), x.dtype),
    "elementary": lambda xp, x: xp.exp(x) + xp.expm1(x) + xp.log1p(xp.abs(x)) + xp.sqrt(x * x) + xp.log(x * x),
    "waves": lambda xp, x: xp.sin(x) * xp.cos(x) - xp.tanh(x),
    "rounding": lambda xp, x: xp.floor(x * 3.0) + xp.round(x * 3.0) + xp.sign(x),
    "choices": lambda xp, x: xp.where(x > 0, x, 3.0) + xp.minimum(x, 0.3) + xp.maximum(x, 0.1) + xp.clip(x, -0.5, 0.5),
    "named operators": lambda xp, x: xp.add(x, xp.multiply(x, xp.subtract(x, xp.divide(x, xp.pow(x * x, 0.5) + 1.0)))),
    "gaps": lambda xp, x: xp.where(xp.logical_not(xp.isnan(x)), xp.negative(x), xp.square(x)) + xp.reciprocal(x),
    "logic": lambda xp, x: xp.astype(xp.logical_or(xp.logical_and(x > 0, x < 1), x > 2), x.dtype),
    "named comparisons": lambda xp, x: xp.astype(xp.less(x, 0.1), x.dtype) + xp.astype(xp.equal(x, x), x.dtype),
    "special": lambda xp, x: erf(x, xp=xp) + sigmoid(x, xp=xp) + softplus(x, xp=xp) + softmax(x, xp=xp),
    "sums": lambda xp, x: xp.sum(x, axis=-1, keepdims=True) * x - xp.mean(x, axis=-1)[..., None],
    "sums of all": lambda xp, x: xp.reshape(xp.sum(xp.reshape(x, (1, 2, 3)), axis=(-1, -2)), (1, 1)) * x,
    "extremes": lambda xp, x: xp.max(x, axis=-1, keepdims=True) - xp.min(x, axis=-1, keepdims=True) + x,
    "spread": lambda xp, x: xp.std(x, axis=-1, keepdims=True) + xp.var(x, axis=-1, keepdims=True, correction=1.0) * x,
    "argmax": lambda xp, x: xp.astype(xp.argmax(x, axis=-1, keepdims=True), x.dtype) + x,
    "argmax of all": lambda xp, x: xp.astype(xp.argmax(xp.reshape(x, (1, 2, 3)), axis=-2), x.dtype),
    "axes": lambda xp, x: xp.moveaxis(xp.reshape(x, (1, 2, 3)), -1, -2) + xp.arange(2, dtype=x.dtype),
    "permuted": lambda xp, x: xp.permute_dims(xp.reshape(x, (1, 3, 2)), (0, 2, 1)) * 2.0,
    "dimensions": lambda xp, x: xp.squeeze(xp.expand_dims(x, axis=1), axis=1) + xp.broadcast_to(x, (1, N)),
    "joined": lambda xp, x: xp.concat([x, xp.ones((1, 2), dtype=x.dtype), 2.0 * x], axis=-1),
    "stacked": lambda xp, x: xp.stack([x, x * x], axis=-1),
    "slices": lambda xp, x: x[..., 1:3] + x[:, -2:] - x[..., None, 0],
    "made": lambda xp, x: x + xp.zeros_like(x) + xp.full_like(x, 2.0) * xp.linspace(0.0, 1.0, N, dtype=x.dtype),
    "one by one": lambda xp, x: xp.stack([row * 2.0 for row in x], axis=0),
    "taken": lambda xp, x: xp.take(x, xp.asarray([4, 0, 0, -1]), axis=-1),
    "looked up": lambda xp, x: xp.take(np.arange(12.0).reshape(6, 2), xp.argmax(x, axis=-1), axis=0),
    "products": lambda xp, x: x @ np.arange(12.0, dtype=x.dtype).reshape(N, 2) + x @ np.ones((3, N, 2), dtype=x.dtype),
    "products on the left": lambda xp, x: np.arange(6.0, dtype=x.dtype).reshape(2, 3) @ xp.reshape(x, (1, 3, 2)),
    "a product with a vector": lambda xp, x: (x @ np.arange(6.0, dtype=x.dtype))[..., None],
    "vecdot": lambda xp, x: xp.vecdot(x, x * 2.0)[..., None] + xp.matmul(x, np.ones((N, 1), dtype=x.dtype)),
    "copied": lambda xp, x: xp.asarray(xp.asarray(x, copy=True), dtype=xp.float64) + +x.T.T,
    "softmax along another axis": lambda xp, x: softmax(xp.reshape(x, (1, 2, 3)), xp=xp, axis=-2),
    "found along an axis": lambda xp, x: found(xp, x),
    "written": written,
}  # fmt: skip


def found(xp, x):
    """Elements of a constant by numbers that depend on the row, along the axis in the middle."""
    table = xp.asarray(np.arange(24.0).reshape(2, 4, 3), dtype=x.dtype)
    places = xp.astype(xp.reshape(x > 0, (2, 1, 3)), xp.int64) + xp.asarray([[[0], [2]]])
    return xp.take_along_axis(table, places, axis=-2)[None]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_written_down_is_what_numpy_computes(name, dtype):
    X = np.random.default_rng(0).standard_normal((9, N)).astype(dtype)
    got = traced(FUNCTIONS[name], X)
    with np.errstate(all="ignore"):
        wanted = np.stack([np.asarray(FUNCTIONS[name](np, row[None].copy())) for row in X])
    np.testing.assert_allclose(
        got.reshape(wanted.shape), wanted, rtol=2e-5 if dtype is np.float32 else 1e-13, atol=1e-6
    )


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda xp, x: x if x[0, 0] > 0 else -x, "asks whether a number is true"),
        (lambda xp, x: x * int(x[0, 0]), "takes an integer"),
        (lambda xp, x: x * x[0, 0].item(), "takes a number"),
        (lambda xp, x: x * np.asarray(x.tolist()), "makes a list"),
        (lambda xp, x: np.asarray(x), "makes a NumPy array"),
        (lambda xp, x: xp.linalg, "calls xp.linalg, which has no counterpart"),
        (lambda xp, x: x[..., ::2], "by a step of 2"),
        (lambda xp, x: x[..., 9], "takes element 9 of an axis of 6"),
        (lambda xp, x: x[x > 0], "takes elements by Traced"),
        (lambda xp, x: x @ xp.matrix_transpose(x), "two matrices that both depend on the input"),
        (lambda xp, x: x @ np.ones((2, 2)), "multiplies shapes"),
        (lambda xp, x: xp.reshape(x, (4, 2)), "reshapes"),
        (lambda xp, x: xp.take(x, xp.argmax(x), axis=-1), "both depend on the input"),
        (lambda xp, x: xp.astype(x > 0, x.dtype).__iadd__(np.ones((2, 3, N))), "writes an array of shape"),
        (lambda xp, x: x.__setitem__((..., None), 1.0), "through a new axis"),
        (lambda xp, x: x * np.asarray(["a"]), "computes with ndarray"),
        (lambda xp, x: stale(x), "reads a view of an array after another was written to"),
    ],
)
def test_what_cannot_be_written_down_says_why(function, told):
    with pytest.raises(TracingError, match=told):
        traced(function, np.ones((2, N)))


def stale(x):
    y = x * 2.0
    one, another = y[..., :2], y[..., 1:]
    one += 1.0
    return another + 0.0


def test_the_namespace_tells_what_it_has():
    with traced_into(Builder()) as xp:
        assert {"exp", "concat", "take_along_axis"} <= set(dir(xp))
        assert not hasattr(xp, "__path__")


def test_functions_of_numpy_are_refused():
    with pytest.raises(TypeError):
        traced(lambda xp, x: np.tanh(x), np.ones((2, N)))


def test_a_network_does_not_change_and_its_graph_is_whole():
    net = xpnn.mlp([4, 5, 2], "gelu", norm="batch", residual=True, dropout=0.5, replicas=2)
    before = net.state_dict()
    graph = subject_of(net).graph
    whole(graph)
    assert {name: array.tobytes() for name, array in net.state_dict().items()} == {
        name: array.tobytes() for name, array in before.items()
    }
    net.forward(np.ones((2, 4)), train=True)  # it is bound as before
    assert repr(graph).startswith("Graph(1 inputs")


def test_outputs_that_depend_on_nothing_are_refused():
    class Nothing(xpnn.Layer):
        def forward(self, x, *, train=False, key=None):
            return x.__array_namespace__().ones_like(x), None

    builder = Builder()
    value = builder.input("features", "features", shape=(2,), dtype="float32")
    with pytest.raises(OptionError, match="depend on the input"):
        trace_network(builder, xpnn.Sequential(Nothing(), n_in=2), value)


def test_equal_operations_and_constants_are_kept_once():
    builder = Builder()
    x = builder.input("x", "number")
    assert builder.op("exp", x) == builder.op("exp", x)
    assert builder.constant([1.0, 2.0]) == builder.constant(np.array([1.0, 2.0]))
    assert builder.with_number("add", x, 0.0) == x
    assert builder.is_constant(builder.op("add", builder.constant(1.0), builder.constant(2.0)))
    with pytest.raises(OptionError, match="to depend on the inputs"):
        builder.graph({"y": builder.constant(1.0)})

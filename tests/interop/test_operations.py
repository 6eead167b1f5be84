"""Every operation of a graph, of every shape and dtype that it takes, as C and as Python, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from xpnn.errors import OptionError
from xpnn.interop.build import Builder
from xpnn.interop.c_check import Program, compiler
from xpnn.interop.c_header import CHeader
from xpnn.interop.graph import ELEMENTWISE, OPS, run
from xpnn.interop.memory import plan
from xpnn.interop.python_text import python_text

N = 24
ONE = ("neg", "abs", "exp", "expm1", "sqrt", "sin", "cos", "tanh", "erf", "sigmoid", "floor", "round", "log", "log1p")


def every_operation(dtype):
    """Return a graph with each operation at least once, on a row of 24 numbers and on two columns of text."""
    b = Builder()
    x = b.op("concat", *(b.input(f"x{k}", "number") for k in range(N)), axis=-1)
    town, other = b.input("town", "text"), b.input("other", "text")
    x = b.cast(x, dtype)
    cube, flat = b.reshape(x, (2, 3, 4)), b.reshape(x, (6, 4))
    out = {}
    for op in ONE:
        given = b.op("abs", x) if op in ("sqrt", "log", "log1p") else x
        out[op] = b.op(op, given)
    for op in ELEMENTWISE - {"where", "and", "or"}:
        powers = op == "pow"
        out[f"{op} two"] = b.op(op, b.op("abs", x) if powers else x, b.op("mul", x, b.constant(-0.5, dtype)))
        out[f"{op} column"] = b.op(
            op, b.op("abs", cube) if powers else cube, b.constant([[[1.0], [0.5], [2.0]]], dtype)
        )
        out[f"{op} left"] = b.op(op, b.constant(np.arange(1.0, 5.0), dtype), cube)
    # A part of a value beside all of it: the result must not be laid over what is still to be read.
    whole = b.op("exp", flat)
    out["whole and part"] = b.op("sub", whole, b.op("slice", whole, axis=-2, start=2, stop=3))
    nan = b.op("log", x)
    gaps = b.op("isnan", nan)
    out |= {"isnan": gaps, "not": b.op("not", gaps), "max nan": b.op("max", nan, x), "min nan": b.op("min", x, nan)}
    big = b.op("greater", x, b.constant(0.5, dtype))
    out |= {"and": b.op("and", big, gaps), "or": b.op("or", big, gaps)}
    out["where"] = b.op("where", gaps, b.constant(7.0, dtype), nan)
    whole_numbers = b.cast(b.op("mul", x, b.constant(9.0, dtype)), "int64")
    out |= {"cast": whole_numbers, "int abs": b.op("neg", whole_numbers), "int bool": b.cast(whole_numbers, "bool")}
    out["int max"] = b.op("max", whole_numbers, b.constant(3, "int64"))
    out["other"] = b.cast(x, "float32" if dtype == "float64" else "float64")
    rng = np.random.default_rng(0)
    for name, value, shape in (
        ("row", x, (N, 5)), ("narrow", x, (N, 3)), ("rows", flat, (4, 9)), ("batched", cube, (2, 4, 5)),
        ("shared", cube, (4, 2)), ("broadcast", b.reshape(x, (2, 1, 12)), (1, 12, 17)),
    ):  # fmt: skip
        out[f"matmul {name}"] = b.op("matmul", value, b.constant(rng.standard_normal(shape), dtype))
    for axis in (-1, -2, -3):
        for op in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min"):
            out[f"{op} {axis}"] = b.op(op, cube, axis=axis)
        out[f"slice {axis}"] = b.op("slice", cube, axis=axis, start=1, stop=2 - (axis + 1))
        out[f"take {axis}"] = b.op("take", cube, axis=axis, indices=(1, 0, 1))
        out[f"take one {axis}"] = b.op("take", cube, axis=axis, indices=(1,))
        two = np.take(rng.standard_normal((2, 3, 4)), [0, 1], axis=axis)
        out[f"concat {axis}"] = b.op("concat", cube, b.op("neg", cube), b.constant(two, dtype), axis=axis)
    out |= {
        "softmax": b.op("softmax", cube),
        "argmax": b.op("argmax", cube),
        "transpose": b.op("transpose", cube, axes=(2, 0, 1)),
    }
    out["expand"] = b.op("expand", b.op("slice", flat, axis=-2, start=1, stop=2), shape=(3, 4))
    index = b.op("argmax", cube)
    out["gather rows"] = b.op("gather", b.constant(rng.standard_normal((4, 3)), dtype), index)
    out["gather"] = b.op("gather", b.constant([2, 3, 5, 7], "int64"), index)
    codes = [
        b.op("lookup", text, keys=("a", "ab", "", "é"), values=(4, 5, -2, 6), default=-1) for text in (town, other)
    ]
    out["lookup"] = b.op("concat", *codes, axis=-1)
    return b.graph(out)


TOWNS = ["a", "ab", "", "é", "abc", "b", " a"]


def columns():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((14, N))
    x[0], x[1] = 0.5, np.round(x[1])
    return {f"x{k}": x[:, k] for k in range(N)} | {
        "town": (TOWNS * 2)[:14],
        "other": ([t.strip() for t in TOWNS] * 2)[::-1][:14],
    }


@pytest.mark.parametrize("language", ["C", "Python"])
def test_every_operation(language):
    graphs = [every_operation(dtype) for dtype in ("float32", "float64")]
    assert {node.op for node in graphs[0].nodes} >= OPS.keys() - {"reshape"}
    given = columns()
    given["town"] = [text.strip() for text in given["town"]]
    if language == "Python":
        told = []
        for graph in graphs:
            names = {}
            readers = {name: ("_text" if name in ("town", "other") else "_number", {}) for name in given}
            exec(python_text(graph, readers), names)
            told.append(names["predict"](given))
    elif not compiler():
        pytest.skip("needs a C compiler (cc, gcc or clang)")
    else:
        flags = ("-O0", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
        with Program([CHeader(graph, f"model {k}") for k, graph in enumerate(graphs)], flags) as program:
            told = [program.run(k, given) for k in range(2)]
    for graph, answers in zip(graphs, told, strict=True):
        for name, truth in run(graph, given).items():
            found = np.asarray(answers[name], dtype=np.float64)
            np.testing.assert_allclose(found, truth.astype(np.float64), rtol=2e-6, atol=1e-6, err_msg=name)


def test_values_share_places_but_not_before_they_are_done_with():
    """A chain of layers needs two of them, whatever its length."""
    b = Builder()
    x = b.input("features", "features", shape=(16,), dtype="float32")
    y = x
    for seed in range(10):
        weight = b.constant(np.random.default_rng(seed).standard_normal((16, 16)), "float32")
        y = b.op("max", b.op("matmul", y, weight), b.constant(0.0, "float32"))
    assert plan(b.graph({"y": y})).sizes == {"float32": 48}  # and what a product may write behind itself


def test_text_is_found_without_the_spaces_around_it():
    if not compiler():
        pytest.skip("needs a C compiler (cc, gcc or clang)")
    b = Builder()
    value = b.input("town", "text")
    code = b.op("lookup", value, keys=("a", "a b", "b", ""), values=(1, 2, 3, 9), default=-1)
    texts = ["a", " a", "a\t", "\n a b ", "  ", "", "a  b", "aa", "ab", "b "]
    with Program([CHeader(b.graph({"code": code}))]) as program:
        told = program.run(0, {"town": texts})["code"]
    assert told.ravel().tolist() == [1, 1, 1, 2, 9, 9, -1, -1, -1, 3]


def test_what_c_has_no_operation_for_is_refused():
    b = Builder()
    x = b.cast(b.input("x", "number"), "int64")
    with pytest.raises(OptionError, match=r"^to_c: expected exp of floating numbers, got int64"):
        CHeader(b.graph({"y": b.op("exp", x)}))

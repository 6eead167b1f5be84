"""Lessons 3 and 5: a layer, first forward, then back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..contract import what
from ..differences import verdict
from ..layers import Layer, Linear, ReLU, Sigmoid, Tanh
from ..losses import CrossEntropy
from ..model import Sequential
from ..testing import check_gradients
from .lesson import AnswerError, Lesson, compare

__all__ = ["BACK", "FORWARD"]

_FORWARD_TASK = """\
Write the forward pass of a layer, y = x W + b. Rows of x are samples: x has the shape (batch, n_in), W (n_in, n_out),
b is one row. self.params["weight"] and self.params["bias"] hold W and b.

forward returns two things: y, and a cache with whatever the way back will need (lesson 5), which here is x."""

_START = '''\
import xpnn
from xpnn.initializers import HeNormal, Zeros


class MyLayer(xpnn.Layer):
    """y = x W + b."""

    def __init__(self, n_out):
        self.n_out = n_out

    def out_size(self, n_in):
        return self.n_out

    def param_specs(self):
        weight = xpnn.ParamSpec("weight", (self.n_in, self.n_out), HeNormal(), decay=True)
        return weight, xpnn.ParamSpec("bias", (self.n_out,), Zeros(), decay=False)

    def forward(self, x, *, train=False, key=None):
        ...
'''

_BACK_TASK = """\
Go on with MyLayer of lesson 3 and write its way back. backward gets dy, the loss's gradient to y, and the cache that
forward returned. It writes the gradients of W and b into self.grads["weight"][...] and self.grads["bias"][...], and
returns the gradient to x, or None where need_dx is False.

With rows as samples: to W it is the transposed x times dy, to b the sum of dy over the rows, to x it is dy times the
transposed W. (The loss has divided by the number of rows already.)"""

_BACK_START = (
    _START.removesuffix("        ...\n")
    + """\
        ...  # as in lesson 3

    def backward(self, dy, cache, *, need_dx=True):
        ...
"""
)

_W1 = np.asarray([[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]])
_B1 = np.asarray([0.1, 0.2, 0.3])


def _bound(kind: Any, n_out: int, n_in: int) -> tuple[Sequential, Layer]:
    """Put a learner's layer into a network of its own."""
    if not (isinstance(kind, type) and issubclass(kind, Layer)):
        raise AnswerError(
            f"MyLayer: expected a class made from xpnn.Layer, got {what(kind)}. Write class MyLayer(xpnn.Layer):"
        )
    make: Any = kind
    net = Sequential(make(n_out), n_in=n_in, dtype="float64", seed=0)
    weight = net.params.get("0.weight")
    if weight is None or tuple(weight.shape) != (n_in, n_out) or "0.bias" not in net.params:
        raise AnswerError(
            f"MyLayer.param_specs: expected weight of shape {(n_in, n_out)} and bias of shape {(n_out,)}, got "
            f"{ {name: tuple(v.shape) for name, v in net.params.items()} }. Leave it as the start has it."
        )
    return net, net.layers[0]


def _forward(layer: Layer, x: np.ndarray) -> tuple[Any, Any]:
    got = layer.forward(x, train=True)
    if not isinstance(got, tuple) or len(got) != 2:
        hint = "Is the return missing?" if got is None else "Write return y, x."
        raise AnswerError(f"MyLayer.forward: expected the output and a cache, got {what(got)}. {hint}")
    return got


def _put(net: Sequential, w: np.ndarray, b: np.ndarray) -> None:
    net.params["0.weight"][...], net.params["0.bias"][...] = w, b


def _output(kind: Any) -> Iterator[str]:
    net, layer = _bound(kind, 3, 2)
    _put(net, _W1, _B1)
    x = np.asarray([[1.0, 2.0], [-3.0, -1.0]])
    y = x @ _W1 + _B1
    for rows in (1, 2):
        compare(
            _forward(layer, x[:rows].copy())[0],
            y[:rows],
            f"MyLayer.forward, {rows} row{'s' * (rows > 1)}",
            {
                "The bias is missing.": (x @ _W1)[:rows],
                "A ReLU has crept in: that is a layer of its own.": np.maximum(y, 0)[:rows],
                "The bias is taken away, not added.": (x @ _W1 - _B1)[:rows],
                "Samples are rows here: y = x W + b, not W x + b.": y[:rows].T,
                "The average over the rows is not asked for: each row has an output of its own.": np.broadcast_to(
                    y[:rows].mean(axis=0), y[:rows].shape
                ),
            },
        )
    yield "one row and two rows: y = x W + b"


def _check_forward(answer: Mapping[str, Any]) -> Iterator[str]:
    kind = answer["MyLayer"]
    yield from _output(kind)
    net = Sequential(kind(3), ReLU(), kind(1), Sigmoid(), n_in=2, dtype="float64", seed=0)
    for name, value in {"0.weight": _W1, "0.bias": _B1, "2.weight": [[0.7], [0.8], [0.9]], "2.bias": 0.4}.items():
        net.params[name][...] = value
    compare(net.predict(np.asarray([[1.0, 2.0]])), [[0.97491]], "the network 2-3-1 of the page", rtol=1e-5)
    yield "two of them, with ReLU and sigmoid, are the network 2-3-1 of the page: 0.97491"
    net, layer = _bound(kind, 4, 5)
    x = np.random.default_rng(0).standard_normal((7, 5))
    before = x.copy()
    compare(_forward(layer, x)[0], x @ net.params["0.weight"] + net.params["0.bias"], "MyLayer.forward, 7 rows")
    if not np.array_equal(x, before):
        raise AnswerError("MyLayer.forward: expected x to stay as it was, got it changed. Write into y = x @ W alone.")
    yield "any width, any number of rows, and x stays as it was"


def _passes(kind: Any) -> Iterator[str]:
    """Both passes of the layer alone, against the formulas and what comes out by the usual mistakes."""
    net, layer = _bound(kind, 3, 2)
    _put(net, _W1, _B1)
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((4, 2)), rng.standard_normal((4, 3))
    cache = _forward(layer, x)[1]
    if type(layer).backward is Layer.backward:
        raise AnswerError(
            "MyLayer.backward: expected it to be written, got none. Add def backward(self, dy, cache, *, need_dx=True)."
        )
    net.grads["0.weight"][...], net.grads["0.bias"][...] = 1.0, 1.0  # what was there before must not matter
    dx = layer.backward(dy, cache, need_dx=True)
    untouched = "It is as it was before: write self.grads[...][...] = ..., for it is a view of one large buffer."
    added = "It was added to what was there before: write =, not +=."
    dw, db = x.T @ dy, dy.sum(axis=0)
    compare(
        net.grads["0.weight"],
        dw,
        "gradient to W",
        {
            untouched: np.ones_like(dw),
            added: dw + 1,
            "It is divided by the number of rows once more: the loss has done that already.": dw / len(x),
            "Its sign is wrong: the optimizer goes downhill, not the layer.": -dw,
        },
    )
    yield "gradient to W"
    compare(
        np.ravel(net.grads["0.bias"]),
        db,
        "gradient to b",
        {
            untouched: np.ones_like(db),
            added: db + 1,
            "This is the mean over the rows; the sum is asked for, for the loss has divided already.": dy.mean(axis=0),
            "This is the first row alone: every row has moved the loss.": dy[0],
            "It is one sum over everything; sum over the rows, axis=-2.": np.full_like(db, dy.sum()),
            "It is the product with x, as for W; b is multiplied by 1.": (x.sum(axis=-1, keepdims=True) * dy).sum(
                axis=0
            ),
        },
    )
    yield "gradient to b"
    compare(
        dx,
        dy @ _W1.T,
        "gradient to x",
        {
            "This is dy itself: it must go back through the weights.": dy,
            "The gradient came back times the gradient of W, not W itself.": dy @ dw.T,
        },
    )
    yield "gradient to x"
    if layer.backward(dy, cache, need_dx=False) is not None:
        raise AnswerError(
            "MyLayer.backward: expected None where need_dx is False, got an array. "
            "End with return ... if need_dx else None."
        )


def _check_back(answer: Mapping[str, Any]) -> Iterator[str]:
    kind = answer["MyLayer"]
    yield from _output(kind)
    yield from _passes(kind)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), rng.integers(0, 2, 6)
    net = Sequential(kind(4), Tanh(), kind(4), Tanh(), Linear(2), n_in=3, dtype="float64", seed=0)
    report = check_gradients(net, CrossEntropy(), x, y, check_input=True)
    if report.faulty or report.verdict not in ("excellent", "good"):
        wrong = [part for part in report.parts if verdict(part.rel_error) == "bug"]
        faults = [f"{part}." for part in wrong] or [f"a largest error of {report.max_rel_error:.0e}: {report.verdict}."]
        if len({part.mode for part in wrong}) == 1:
            faults.append("Do the same in training and in evaluation, or tell the way back by the cache.")
        raise AnswerError(
            "\n".join(["check_gradients: expected all gradients to agree with differences, got", *faults])
        )
    yield f"check_gradients, two of them in a network: {report.verdict}, largest error {report.max_rel_error:.0e}"


FORWARD = Lesson(
    number=3,
    title="Forward through layers",
    goal="write a layer's forward pass, and follow every number through a small network",
    minutes=40,
    page="3-forward.md",
    file="my_layer.py",
    names=("MyLayer",),
    task=_FORWARD_TASK,
    start=_START,
    check=_check_forward,
)
BACK = Lesson(
    number=5,
    title="Back again",
    goal="derive and write a backward pass: the chain rule, layer by layer",
    minutes=60,
    page="5-backward.md",
    file="my_layer.py",
    names=("MyLayer",),
    task=_BACK_TASK,
    start=_BACK_START,
    check=_check_back,
)

"""Gradients against central differences: of any function, and of each layer, loss and penalty by itself.

`xpnn.testing.check_gradients` checks a whole network, where a wrong layer spoils the gradients of those before it.
Here each part is taken out: a layer gets the input that it has in the network and a random gradient to its output, so
what is wrong is its own.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ._typing import Array
from .backend import to_numpy
from .contract import check_assigned, mark_gradients, what
from .errors import OptionError, XpnnError
from .layers.base import Layer, walk
from .layers.plan import Plan
from .losses import Loss
from .model import Sequential
from .params import ParamStore
from .regularizers import Regularizer

__all__ = [
    "PartError",
    "Reach",
    "check_layers",
    "check_loss",
    "check_penalty",
    "compare",
    "moved",
    "settled",
    "verdict",
]

MODES = {True: "training", False: "evaluation"}


class PartError(NamedTuple):
    """How far one gradient of one part of a network is from differences.

    Attributes
    ----------
    part : str
        The layer's number and class, ``"1.Scale"``, or the class of the loss or the penalty.
    mode : str
        ``"training"`` or ``"evaluation"``: how the layer was run; ``""`` where it makes no difference.
    gradient : str
        ``"x"``, the input, or the name of a parameter.
    rel_error : float
        As in `xpnn.testing.GradientReport`.
    skipped : int
        Elements left out because of a kink.
    note : str
        Why the gradient could not be had, in the mode that was not asked for; the error is infinite then.
    """

    part: str
    mode: str
    gradient: str
    rel_error: float
    skipped: int
    note: str = ""

    def __str__(self) -> str:
        if self.note:
            return self.note
        mode = f" in {self.mode}" if self.mode else ""
        return f"{self.part}: its gradient to {self.gradient}{mode} is wrong by {self.rel_error:.1e}"


class Reach(NamedTuple):
    """How differences are taken: the distance, how many elements of an array, and who draws them.

    With `extrapolated` from two distances to none: a slope that bends at the very point, as that of x / (1 + |x|) at
    the zeros behind a ReLU, makes an error of the size of the distance, which cancels.
    """

    eps: float
    max_elements: int
    rng: np.random.Generator
    extrapolated: bool = False


def verdict(error: float) -> str:
    """Name a relative error: the customary limits of gradient checking."""
    if not error < 1e-3:
        return "bug"
    return "suspicious" if error >= 1e-5 else "good" if error >= 1e-7 else "excellent"


def moved(values: np.ndarray, k: int, h: float) -> np.ndarray:
    """Return a copy with element `k` of a flat array moved by `h`."""
    there = values.copy()
    there[k] += h
    return there


def compare(
    along: Callable[[int, float], float], values: np.ndarray, analytic: np.ndarray, reach: Reach
) -> tuple[float, int, int]:
    """Return the relative error over some elements, how many were left out at kinks, and how many compared."""
    indices = np.arange(len(values))
    if len(values) > reach.max_elements:
        indices = np.sort(reach.rng.choice(indices, reach.max_elements, replace=False))
    a, n, kinks = [], [], 0
    here = along(0, 0.0) if len(values) else 0.0
    for k in indices.tolist():
        h = reach.eps * max(1.0, abs(float(values[k])))
        right, left, right4, left4 = along(k, h), along(k, -h), along(k, h / 4), along(k, -h / 4)
        wide, near = (right - left) / (2 * h), (right4 - left4) / (h / 2)
        # Smooth functions differ by O(h²) and rounding, here below 1e-6; a kink in reach by a share of the slope.
        off_centre = abs(wide - near) > 1e-5 * max(abs(wide), abs(near), 1e-3)
        # A kink at the very point gives both quotients half its slopes: see it in the jump of the one-sided ones,
        # from which the curvature, proportional to the distance, is taken out.
        jump = (4 * (right4 + left4 - 2 * here) / (h / 4) - (right + left - 2 * here) / h) / 3
        if off_centre or abs(jump) > 1e-4 * max(abs(wide), abs(near), 1e-3):
            kinks += 1
            continue
        a.append(float(analytic[k]))
        n.append(near + (near - wide) / 3 if reach.extrapolated else wide)
    difference = math.dist(a, n)
    # Below this the difference quotient is rounding alone: 1e-16 of a loss near 1, divided by eps.
    floor = 1e-3 * math.sqrt(max(len(a), 1)) * 1e-1
    scale = max(math.hypot(*a) + math.hypot(*n), floor)
    return difference / scale, kinks, len(a)


# -- layers -----------------------------------------------------------------------------------------------------
def check_layers(net: Sequential, x: np.ndarray, forward: dict[str, Any], reach: Reach) -> list[PartError]:
    """Check each layer by itself, as it trains and as it predicts, in the mode of `forward` first.

    Parameters
    ----------
    net : Sequential
        In float64, without replicas; a copy that may be worked on.
    x : array of shape (batch, n_in)
        Its input.
    forward : dict
        What `Sequential.forward` is given beside it.
    reach : Reach
        How differences are taken.

    Returns
    -------
    list of PartError
        In the order of computation, inner layers before those around them.
    """
    found = []
    for train in (forward["train"], not forward["train"]):
        buffers = np.array(to_numpy(net.store.buffers))
        met = _met(net, x, {**forward, "train": train})
        for layer, there, options in met:
            net.store.buffers[...] = net.backend.asarray(buffers)
            alone = _Alone(net, layer, there, options, buffers)
            try:
                found += alone.errors(reach)
            except XpnnError as error:
                if train == forward["train"]:
                    raise
                found.append(PartError(layer.label, alone.mode, "x", math.inf, 0, str(error)))
        net.store.buffers[...] = net.backend.asarray(buffers)
    return found


def _met(net: Sequential, x: np.ndarray, forward: dict[str, Any]) -> list[tuple[Layer, Array, dict[str, Any]]]:
    """Return what each layer is called with when the network runs."""
    net.forward(x, **forward)  # what is wrong with a pass altogether is told here, as in training
    met: list[tuple[Layer, Array, dict[str, Any]]] = []
    layers = list(walk(net.layers))

    def watch(layer: Layer) -> Callable[..., Any]:
        run = layer.forward

        @functools.wraps(run)
        def watched(x: Array, **options: Any) -> Any:
            met.append((layer, net.backend.xp.asarray(x, copy=True), options))
            return run(x, **options)

        return watched

    before = [dict(vars(layer)) for layer in layers]
    for layer in layers:
        vars(layer)["forward"] = watch(layer)
    net.bind(net.store)  # the plan anew: no two layers are computed as one
    try:
        net.forward(x, **forward)
    finally:
        for layer, names in zip(layers, before, strict=True):
            vars(layer).pop("forward")
            vars(layer).update({"forward": names["forward"]} if "forward" in names else {})
        net.bind(net.store)
    order = {id(layer): place for place, layer in enumerate(_inner_first(net.layers))}
    once = {id(layer): (layer, there, options) for layer, there, options in met}
    return [once[key] for key in sorted(once, key=order.__getitem__)]


def _inner_first(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Yield every layer after those inside it: what is wrong with an inner one is its own."""
    for layer in layers:
        yield from _inner_first(layer.sublayers())
        yield layer


class _Alone:
    """One layer with the input it gets in the network."""

    def __init__(self, net: Sequential, layer: Layer, x: Array, options: dict[str, Any], buffers: np.ndarray) -> None:
        self.net, self.layer, self.x, self.options, self.start = net, layer, x, options, buffers
        self.plan, self.mode = Plan([layer]), MODES[bool(options.get("train"))]
        self.asarray = net.backend.asarray

    def forward(self, x: Array) -> tuple[Array, list[Any]]:
        self.net.store.buffers[...] = self.asarray(self.start)
        try:
            return self.plan.forward(x, **self.options)
        except XpnnError:
            raise
        except Exception as error:
            raise self._broken("forward", "on its input", error) from error

    def backward(self, v: np.ndarray) -> Array | None:
        """Return the gradient to the input, where there is one; those of parameters are assigned."""
        layers, xp = [self.layer, *walk(self.layer.sublayers())], self.net.backend.xp
        kept = np.array(to_numpy(self.x))
        y, caches = self.forward(self.x)
        again, _ = self.forward(self.x)
        self._expect(to_numpy(self.x), kept, "leave its input as it is", "wrote over it", "Make a new array: y = x * 2")
        self._expect(
            to_numpy(again), to_numpy(y), "give the same for the same", "gave something else the second time",
            "Draw masks from key[self.slot], as xpnn.Dropout does",
        )  # fmt: skip
        # Another batch between the passes: what a layer keeps on itself, not in its cache, belongs to that one now.
        other = xp.flip(self.x, axis=-2)
        self.forward(other if self.layer.takes_categories else other * 0.5)
        marked = mark_gradients(layers, self.net.grads)
        try:
            dx = self.plan.backward(self.asarray(v), caches, need_dx=not self.layer.takes_categories)
        except XpnnError:
            raise
        except Exception as error:
            cache = f"on the cache that forward returned, {what(caches[0])},"
            raise self._broken("backward", cache, error) from error
        check_assigned(layers, marked)
        return dx

    def _broken(self, name: str, given: str, error: Exception) -> OptionError:
        hint = " Return from forward what backward needs: return y, cache." if name == "backward" else ""
        return OptionError(
            f"{self.layer.label}.{name}: expected it to run {given} in {self.mode}, "
            f"got {type(error).__name__}: {str(error).rstrip('.')}.{hint or ' Try the layer on a few rows.'}"
        )

    def _expect(self, got: np.ndarray, expected: np.ndarray, to: str, instead: str, hint: str) -> None:
        if not np.array_equal(got, expected, equal_nan=True):
            where = f"{self.layer.label}.forward"
            raise OptionError(f"{where}: expected it to {to} in {self.mode}, got one that {instead}. {hint}.")

    def errors(self, reach: Reach) -> list[PartError]:
        """Compare the gradient to the input and to each parameter."""
        start = np.array(to_numpy(self.forward(self.x)[0]))
        v = reach.rng.standard_normal(start.shape)
        dx = self.backward(v)
        analytic = {name: np.array(to_numpy(view)) for name, view in self.layer.grads.items()}

        def value(x: Array) -> float:
            # What does not change takes no part, nor does its rounding.
            return float(np.sum(v * (to_numpy(self.forward(x)[0]) - start)))

        found = []
        flat, shape = np.array(to_numpy(self.x)).reshape(-1), self.x.shape
        if dx is not None:

            def along_x(k: int, h: float) -> float:
                return value(self.asarray(moved(flat, k, h).reshape(shape)))

            found.append(self._error("x", along_x, flat, np.array(to_numpy(dx)), reach))
        for name, view in self.layer.params.items():
            values = np.array(to_numpy(view))

            def along(k: int, h: float, view: Array = view, values: np.ndarray = values) -> float:
                view[...] = self.asarray(moved(values.reshape(-1), k, h).reshape(values.shape))
                there = value(self.x)
                view[...] = self.asarray(values)
                return there

            found.append(self._error(name, along, values.reshape(-1), analytic[name], reach))
        return found

    def _error(
        self, name: str, along: Callable[[int, float], float], values: np.ndarray, analytic: np.ndarray, reach: Reach
    ) -> PartError:
        error, kinks, _ = compare(along, values, analytic.reshape(-1), reach)
        return PartError(self.layer.label, self.mode, name, error, kinks)


# -- losses and penalties ---------------------------------------------------------------------------------------
def check_loss(
    net: Sequential, loss: Loss, pred: Array, y: Array, sample_weight: Array | None, reach: Reach
) -> PartError:
    """Check the gradient of a loss to the outputs `pred` of a network."""
    flat, shape = np.array(to_numpy(pred)).reshape(-1), pred.shape

    def along(k: int, h: float) -> float:
        there = net.backend.asarray(moved(flat, k, h).reshape(shape))
        return float(to_numpy(loss.value_and_grad(there, y, sample_weight)[0]))

    _, d_pred = loss.value_and_grad(pred, y, sample_weight)
    error, kinks, _ = compare(along, flat, np.array(to_numpy(d_pred)).reshape(-1), reach)
    return PartError(type(loss).__name__, "", "the outputs", error, kinks)


def check_penalty(store: ParamStore, penalty: Regularizer, reach: Reach) -> PartError:
    """Check what a penalty adds to the gradients of a store; `penalty` is `settled`."""
    values, ones = np.array(to_numpy(store.values)), store.backend.asarray(np.ones(store.grads.shape))

    def value(there: np.ndarray) -> float:
        store.values[...] = store.backend.asarray(there)
        store.grads[...] = ones
        return float(to_numpy(copy.deepcopy(penalty).add(store)))

    start = value(values)
    added = np.array(to_numpy(store.grads)) - 1.0  # to ones: a penalty that assigns is found, too
    error, kinks, _ = compare(lambda k, h: value(moved(values, k, h)) - start, values, added, reach)
    store.values[...] = store.backend.asarray(values)
    return PartError(type(penalty).__name__, "", "the weights", error, kinks)


def settled(store: ParamStore, penalty: Regularizer) -> Regularizer:
    """Return a copy of a penalty, called until what it keeps, such as singular vectors, has come to rest."""
    penalty = copy.deepcopy(penalty)
    penalty.add(store)
    for _ in range(200 if penalty.state else 0):
        penalty.add(store)
    return penalty

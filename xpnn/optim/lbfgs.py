"""L-BFGS: all rows at once, curvature from the last steps, on the flat buffer of any backend."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .._typing import Array
from ..backend import to_numpy
from ..errors import OptionError
from ..params import ParamStore
from .linesearch import Found, Point, wolfe_search

__all__ = ["LBFGS", "LBFGSResult"]


class LBFGSResult(NamedTuple):
    """How a minimization went.

    Attributes
    ----------
    value : float
        The last value of the objective.
    n_iter, n_evals : int
        Iterations, and evaluations of objective and gradient.
    grad_max : float
        Largest absolute gradient at the end.
    converged : bool
        Whether a tolerance was met; False if a limit was, or the line search found nothing better.
    message : str
        Which.
    """

    value: float
    n_iter: int
    n_evals: int
    grad_max: float
    converged: bool
    message: str


class LBFGS:
    r"""Limited-memory BFGS with a strong Wolfe line search [1]_.

    The direction is :math:`-H_k g_k`, where the inverse Hessian :math:`H_k` is built from the last `memory`
    pairs :math:`s = x_{k+1} - x_k`, :math:`y = g_{k+1} - g_k` by the two-loop recursion, beginning from
    :math:`(s^\top y / y^\top y) I`.  All vectors stay on the network's device; only dot products come to the
    host, a few for each iteration.

    Parameters
    ----------
    max_iter : int, default=200
        Iterations at most.
    max_evals : int, default=15000
        No iteration begins after more evaluations of objective and gradient than this.
    memory : int, default=10
        Pairs kept.
    gtol : float, default=1e-5
        Converged if the largest absolute gradient is at most this.
    ftol : float, default=2.2e-9
        Converged if a step's decrease, relative to the larger of the two values and 1, is at most this.

    References
    ----------
    .. [1] Nocedal and Wright, "Numerical optimization", 2nd ed., algorithms 7.4 and 7.5; line search of Moré
       and Thuente, stopping rules as in Byrd, Lu, Nocedal and Zhu's L-BFGS-B.

    Examples
    --------
    >>> from xpnn import Linear, MeanSquaredError, Sequential
    >>> import numpy as np
    >>> net = Sequential(Linear(1), n_in=1, dtype="float64")
    >>> x, loss = np.asarray([[0.0], [1.0], [2.0]]), MeanSquaredError()
    >>> def evaluate():
    ...     pred, caches = net.forward(x)
    ...     value, d_pred = loss.value_and_grad(pred, 3 * x + 1)
    ...     net.backward(d_pred, caches)
    ...     return value
    >>> result = LBFGS().minimize(net.store, evaluate)
    >>> result.converged, round(float(net.params["0.weight"][0, 0]), 4)
    (True, 3.0)
    """

    def __init__(
        self,
        max_iter: int = 200,
        max_evals: int = 15_000,
        *,
        memory: int = 10,
        gtol: float = 1e-5,
        ftol: float = 2.2e-9,
    ) -> None:
        for name, count in (("max_iter", max_iter), ("max_evals", max_evals), ("memory", memory)):
            if count < 1:
                raise OptionError(f"LBFGS: expected {name} >= 1, got {count!r}.")
        for name, tol in (("gtol", gtol), ("ftol", ftol)):
            if not tol >= 0:
                raise OptionError(f"LBFGS: expected {name} >= 0, got {tol!r}.")
        self.max_iter, self.max_evals, self.memory = int(max_iter), int(max_evals), int(memory)
        self.gtol, self.ftol = float(gtol), float(ftol)

    def minimize(
        self,
        store: ParamStore,
        evaluate: Callable[[], Array],
        *,
        on_iteration: Callable[[int, float], object] | None = None,
    ) -> LBFGSResult:
        """Move the parameters to a minimum of an objective.

        Parameters
        ----------
        store : ParamStore
            Of a single network; its `values` move in place, and end at the best point found.
        evaluate : callable
            Returns the objective at ``store.values`` (0-d) and fills ``store.grads``.
        on_iteration : callable, optional
            Called after each iteration with its number, from 1, and the objective, while ``store.values`` are the
            iterate; if it returns True the minimization stops there.

        Returns
        -------
        LBFGSResult
            How it went.
        """
        if store.replicas:
            raise OptionError("LBFGS: expected a single network, got replicas: each needs a line search of its own.")
        xp = store.backend.xp
        x = store.backend.copy(store.values)
        value, n_evals = _number(evaluate()), 1
        g = store.backend.copy(store.grads)
        pairs: deque[tuple[Array, Array, float]] = deque(maxlen=self.memory)
        if not math.isfinite(value):
            return LBFGSResult(value, 0, 1, math.inf, False, "the objective is not finite at the start")

        for iteration in range(self.max_iter):
            grad_max = _number(xp.max(xp.abs(g)))
            if grad_max <= self.gtol:
                return self._end(store, x, value, iteration, n_evals, grad_max, True, "the gradient is small")
            if n_evals > self.max_evals:
                return self._end(store, x, value, iteration, n_evals, grad_max, False, "max_evals is reached")
            d = self._direction(g, pairs, xp)
            slope = _dot(g, d, xp)
            if slope >= 0:  # rounding has spoiled the curvature: begin anew from steepest descent
                pairs.clear()
                d = -g
                slope = _dot(g, d, xp)
            step = 1.0 if pairs else 1.0 / math.sqrt(-slope)  # the first step has length 1
            found, x_new, g_new = self._search(store, evaluate, x, d, Point(0.0, value, slope), step)
            n_evals += found.n_evals
            if not found.point.value < value:
                if pairs:
                    pairs.clear()
                    continue
                message = "the line search found no smaller value"
                return self._end(store, x, value, iteration, n_evals, grad_max, False, message)
            s, y = x_new - x, g_new - g
            curvature = _dot(s, y, xp)
            if curvature > 2.2e-16 * -slope * found.point.step:
                pairs.append((s, y, curvature))
            decrease = (value - found.point.value) / max(abs(value), abs(found.point.value), 1.0)
            x, g, value = x_new, g_new, found.point.value
            if on_iteration is not None and on_iteration(iteration + 1, value) is True:
                grad_max = _number(xp.max(xp.abs(g)))
                return self._end(store, x, value, iteration + 1, n_evals, grad_max, False, "on_iteration asked to stop")
            if decrease <= self.ftol and n_evals <= self.max_evals:
                grad_max = _number(xp.max(xp.abs(g)))
                return self._end(store, x, value, iteration + 1, n_evals, grad_max, True, "the decrease is small")
        grad_max = _number(xp.max(xp.abs(g)))
        done = grad_max <= self.gtol
        message = "the gradient is small" if done else "max_iter is reached"
        return self._end(store, x, value, self.max_iter, n_evals, grad_max, done, message)

    def _search(
        self,
        store: ParamStore,
        evaluate: Callable[[], Array],
        x: Array,
        d: Array,
        start: Point,
        step: float,
    ) -> tuple[Found, Array, Array]:
        """Search along `d`; return what was found, the point and the gradient there."""
        xp = store.backend.xp

        def phi(a: float) -> tuple[float, float]:
            store.values[...] = x + d * a
            value = _number(evaluate())
            return value, _dot(store.grads, d, xp)

        try:
            found = wolfe_search(phi, start, step)
        except BaseException:  # Ctrl-C, say: leave the best point, not one on the way
            store.values[...] = x
            raise
        return found, store.backend.copy(store.values), store.backend.copy(store.grads)

    @staticmethod
    def _end(
        store: ParamStore, x: Array, value: float, n_iter: int, n_evals: int, grad_max: float, ok: bool, message: str
    ) -> LBFGSResult:
        store.values[...] = x
        return LBFGSResult(value, n_iter, n_evals, grad_max, ok, message)

    @staticmethod
    def _direction(g: Array, pairs: deque[tuple[Array, Array, float]], xp: object) -> Array:
        """The two-loop recursion: minus the inverse Hessian's estimate times the gradient."""
        q = -g
        alphas = []
        for s, y, curvature in reversed(pairs):
            alpha = _dot(s, q, xp) / curvature
            q -= y * alpha
            alphas.append(alpha)
        if pairs:
            _, y, curvature = pairs[-1]
            q *= curvature / _dot(y, y, xp)
        for (s, y, curvature), alpha in zip(pairs, reversed(alphas), strict=True):
            q += s * (alpha - _dot(y, q, xp) / curvature)
        return q


def _number(x: Array) -> float:
    return float(to_numpy(x))


def _dot(a: Array, b: Array, xp: object) -> float:
    return _number(xp.sum(a * b))  # type: ignore[attr-defined]

"""L-BFGS: all rows at once, curvature from the last steps, on the flat buffer of any backend."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from .._typing import Array, Shape
from ..arguments import number
from ..errors import OptionError
from ..params import ParamStore
from .base import Optimizer
from .linesearch import Found, Point, wolfe_search

__all__ = ["LBFGS", "Descent", "LBFGSResult"]

# A step, the change of the gradient along it, and their product.
Pair = tuple[Array, Array, float]


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


class LBFGS(Optimizer):
    r"""Limited-memory BFGS with a strong Wolfe line search [1]_.

    The direction is :math:`-H_k g_k`, where the inverse Hessian :math:`H_k` is built from the last `memory`
    pairs :math:`s = x_{k+1} - x_k`, :math:`y = g_{k+1} - g_k` by the two-loop recursion, beginning from
    :math:`(s^\top y / y^\top y) I`.  All vectors stay on the network's device; only dot products come to the
    host, a few for each iteration.

    In a `Trainer` an epoch is one iteration over all rows, of which `batch_size` at a time are in memory; the column
    ``lr`` is the length that its line search found.  Training ends early where a tolerance is met.

    Parameters
    ----------
    max_iter : int, default=200
        Iterations of `minimize` at most; of a fit there are as many as ``epochs`` says.
    max_evals : int, default=15000
        No iteration begins after more evaluations of objective and gradient than this.
    memory : int, default=10
        Pairs kept.
    gtol : float, default=1e-5
        Converged if the largest absolute gradient is at most this.
    ftol : float, default=2.2e-9
        Converged if a step's decrease, relative to the larger of the two values and 1, is at most this.

    Attributes
    ----------
    result : LBFGSResult or None
        How the last fit went, up to its present epoch; its message is empty where no tolerance or limit was met.

    References
    ----------
    .. [1] Nocedal and Wright, "Numerical optimization", 2nd ed., algorithms 7.4 and 7.5; line search of Moré
       and Thuente, stopping rules as in Byrd, Lu, Nocedal and Zhu's L-BFGS-B.

    Examples
    --------
    >>> import xpnn
    >>> X, y = xpnn.data.make_moons(200, noise=0.1, seed=0)
    >>> trainer = xpnn.Trainer(xpnn.mlp([2, 16, 2], "tanh", seed=0), xpnn.CrossEntropy(), xpnn.LBFGS())
    >>> history = trainer.fit(X, y, epochs=40, batch_size=200)
    >>> history["accuracy"][-1] > 0.98
    True

    Any function of a store's parameters can be minimized:

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
            if not 1 <= number(count) < float("inf") or number(count) % 1:
                raise OptionError(f"LBFGS: expected {name} >= 1, got {count!r}. Try a whole number such as 100.")
        for name, tol in (("gtol", gtol), ("ftol", ftol)):
            if not number(tol) >= 0:
                raise OptionError(f"LBFGS: expected {name} >= 0, got {tol!r}. Try 1e-5.")
        super().__init__(1.0)  # the length that a line search tries first
        self.max_iter, self.max_evals, self.memory = int(max_iter), int(max_evals), int(memory)
        self.gtol, self.ftol = float(gtol), float(ftol)
        self.result: LBFGSResult | None = None

    # -- one of the optimizers ------------------------------------------------------------------------------
    def bind(self, store: ParamStore) -> None:
        _check_single(store)
        super().bind(store)

    def update(self, store: ParamStore, numbers: Sequence[Any]) -> NoReturn:
        raise OptionError(
            "LBFGS: expected the loss of all rows, which its line search evaluates again and again, got one gradient. "
            "Pass it to xpnn.Trainer, or call minimize."
        )

    @property
    def pairs(self) -> list[Pair]:
        """The pairs that `state` holds, oldest first: what one fit leaves to the next."""
        if self._store is None:
            return []
        found = [(self.state[f"step.{k}"], self.state[f"change.{k}"]) for k in range(len(self.state) // 2)]
        return [(s, y, _dot(s, y, self._store.backend.xp)) for s, y in found]

    def keep(self, pairs: Iterable[Pair]) -> None:
        """Make pairs the `state`."""
        self.state = {}
        for k, (s, y, _) in enumerate(itertools.islice(pairs, self.memory)):
            self.state[f"step.{k}"], self.state[f"change.{k}"] = s, y

    def _check_state(self, store: ParamStore, expected: dict[str, Shape], given: dict[str, Shape]) -> None:
        pairs = min(len(given) // 2, self.memory)  # as many as there have been iterations
        names = [f"{part}.{k}" for k in range(pairs) for part in ("step", "change")]
        super()._check_state(store, dict.fromkeys(names, tuple(store.values.shape)), given)

    def __repr__(self) -> str:
        names = ("max_iter", "max_evals", "memory", "gtol", "ftol")
        return f"LBFGS({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    # -- by itself ------------------------------------------------------------------------------------------
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
        _check_single(store)
        descent = Descent(self, store, evaluate)
        while not descent.message and descent.n_iter < self.max_iter and descent.n_evals <= self.max_evals:
            moved = descent.iterate()
            if moved and on_iteration is not None and on_iteration(descent.n_iter, descent.value) is True:
                descent.converged, descent.message = False, "on_iteration asked to stop"
        store.values[...] = descent.x
        limit = "max_iter" if descent.n_iter >= self.max_iter else "max_evals"
        return descent.result(descent.message or f"{limit} is reached")

    @staticmethod
    def _direction(g: Array, pairs: deque[Pair], xp: object) -> Array:
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


class Descent:
    """A minimization under way, made one iteration at a time; it may go on from the `pairs` of an earlier one.

    At the iterate `x` the objective is `value` and the largest absolute gradient `grad_max`.  `step` is the length of
    the last step, 0.0 if it moved nothing; `message` says why no iteration can follow, and is empty while one can;
    `converged` is whether that is because a tolerance is met.
    """

    def __init__(
        self, rule: LBFGS, store: ParamStore, evaluate: Callable[[], Array], pairs: Iterable[Pair] = ()
    ) -> None:
        self.rule, self.store, self.evaluate = rule, store, evaluate
        self.pairs: deque[Pair] = deque(pairs, maxlen=rule.memory)
        self.n_iter = self.n_evals = 0
        self.step = 0.0
        self.begin()

    def begin(self) -> None:
        """Evaluate the objective at ``store.values``, which become the iterate."""
        self.converged, self.message = False, ""
        self.x = self.store.backend.copy(self.store.values)
        self.value = float(self.evaluate())
        self.n_evals += 1
        if math.isfinite(self.value):
            self._measure(self.store.backend.copy(self.store.grads))
        else:
            self.grad_max, self.message = math.inf, "the objective is not finite at the start"

    def iterate(self) -> bool:
        """Make one iteration, and return whether the objective fell; ``store.values`` are the iterate then."""
        rule, store, pairs, xp = self.rule, self.store, self.pairs, self.store.backend.xp
        d = rule._direction(self.g, pairs, xp)
        slope = _dot(self.g, d, xp)
        if slope >= 0:  # rounding has spoiled the curvature: begin anew from steepest descent
            pairs.clear()
            d = -self.g
            slope = _dot(self.g, d, xp)
        step = 1.0 if pairs else 1.0 / math.sqrt(-slope)  # the first step has length 1
        found = self._search(d, Point(0.0, self.value, slope), step)
        self.n_evals += found.n_evals
        if not found.point.value < self.value:
            store.values[...] = self.x
            self.step = 0.0
            if pairs:
                pairs.clear()
                self.n_iter += 1
            else:
                self.message = "the line search found no smaller value"
            return False
        x, g = store.backend.copy(store.values), store.backend.copy(store.grads)
        s, y = x - self.x, g - self.g
        curvature = _dot(s, y, xp)
        if curvature > 2.2e-16 * -slope * found.point.step:
            pairs.append((s, y, curvature))
        decrease = (self.value - found.point.value) / max(abs(self.value), abs(found.point.value), 1.0)
        self.x, self.value, self.step = x, found.point.value, found.point.step
        self.n_iter += 1
        self._measure(g)
        if decrease <= rule.ftol and self.n_evals <= rule.max_evals:
            self.converged, self.message = True, "the decrease is small"
        return True

    def result(self, message: str) -> LBFGSResult:
        """Return how it went up to here."""
        return LBFGSResult(self.value, self.n_iter, self.n_evals, self.grad_max, self.converged, message)

    def _measure(self, g: Array) -> None:
        xp = self.store.backend.xp
        self.g, self.grad_max = g, float(xp.max(xp.abs(g)))
        if self.grad_max <= self.rule.gtol:
            self.converged, self.message = True, "the gradient is small"

    def _search(self, d: Array, start: Point, step: float) -> Found:
        """Search along `d` for a smaller value; ``store`` is left at the last point tried."""
        store, x, xp = self.store, self.x, self.store.backend.xp

        def phi(a: float) -> tuple[float, float]:
            store.values[...] = x + d * a
            value = float(self.evaluate())
            return value, _dot(store.grads, d, xp)

        try:
            return wolfe_search(phi, start, step)
        except BaseException:  # Ctrl-C, say: leave the best point, not one on the way
            store.values[...] = x
            raise


def _check_single(store: ParamStore) -> None:
    if store.replicas:
        raise OptionError(
            "LBFGS: expected a single network, got replicas: each needs a line search of its own. Use xpnn.Adam()."
        )


def _dot(a: Array, b: Array, xp: object) -> float:
    return float(xp.sum(a * b))  # type: ignore[attr-defined]

"""Time of a training step within an epoch: xpnn, its peers, and the matrix products alone.

    python benchmarks/training.py --threads 1     # then --threads 2

All train one network from the same weights, float32, Adam at 1e-3, on shuffled batches gathered in memory; shuffle and
gather are within the time.  Before anything is timed each makes five steps on the same batches, and takes part only if
the loss of its weights then agrees with xpnn's.  A turn is one epoch of some steps.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from harness import PAUSE, PROJECT, MissingError, begin, interleave, parser, reason, show, summary, write

sys.path.insert(0, str(PROJECT))
import peers

import xpnn

# sizes, batch size, steps of an epoch: for the first three those of MNIST, 60,000 rows
PROBLEMS = [
    ([784, 256, 128, 10], 128, 468),
    ([784, 256, 128, 10], 32, 1875),
    ([784, 256, 128, 10], 1024, 58),
    ([2, 16, 8, 1], 32, 2000),
    ([784, 2048, 2048, 10], 1024, 8),
]
QUICK = [([784, 256, 128, 10], 128, 10), ([2, 16, 8, 1], 32, 40)]
STEPS_COMPARED = 5
# Of the loss after these steps.  scikit-learn's Adam adds epsilon before the bias correction: with epsilon at 1e-16 on
# both sides it agrees to 2e-9.
TOLERANCE = {"scikit-learn": 5e-3}
TOLERANCE_OF_ALL_OTHERS = 1e-4


@dataclass
class Problem:
    """A network, its first weights, and rows for one epoch; one output is a yes-or-no question."""

    sizes: list[int]
    batch_size: int
    steps: int
    weights: peers.Weights
    X: np.ndarray
    y: np.ndarray  # labels (n,), int64; or 0 and 1 (n, 1), float32

    @property
    def binary(self) -> bool:
        return self.sizes[-1] == 1

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch_size}"

    def order(self, rows: int, shuffle: bool, rng: np.random.Generator) -> np.ndarray:
        """Row numbers of each batch, (steps, batch_size)."""
        order = rng.permutation(rows) if shuffle else np.arange(rows)
        return order.reshape(-1, self.batch_size)


class Competitor(Protocol):
    """Trains on the first rows for one epoch, in whole batches, and goes on where it ended."""

    def epoch(self, rows: int, shuffle: bool) -> float:
        """Return the seconds it took."""

    def weights(self) -> peers.Weights:
        """Return the present weights, as (n_in, n_out) and (n_out,)."""


def make_problem(sizes: list[int], batch_size: int, steps: int) -> Problem:
    rng = np.random.default_rng(0)
    n = batch_size * steps
    X = rng.random((n, sizes[0]), dtype=np.float32)
    # What a random linear map says: something to learn.  From random labels nothing is learned but to be silent, and
    # the units that die leave momenta that fade into subnormal numbers, with which processors are slow.
    scores = (X - 0.5) @ rng.normal(size=(sizes[0], sizes[-1])).astype(np.float32)
    y = (scores > 0).astype(np.float32) if sizes[-1] == 1 else np.argmax(scores, axis=1)
    return Problem(sizes, batch_size, steps, peers.first_weights(xpnn.mlp(sizes, seed=0)), X, y)


# -- competitors ------------------------------------------------------------------------------------------------
class Products:
    """The bare matrix products of a step, into arrays made beforehand: what no NumPy program can go below.

    Batches are taken as they lie, and the first layer gets no gradient to its input.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.W = [w for w, _ in problem.weights]
        b = problem.batch_size
        self.out = [np.zeros((b, w.shape[1]), np.float32) for w in self.W]
        self.d_out = [np.ones_like(a) for a in self.out]
        self.dW = [np.empty_like(w) for w in self.W]

    def epoch(self, rows: int, shuffle: bool) -> float:
        X, b, W, out, d_out, dW = self.problem.X, self.problem.batch_size, self.W, self.out, self.d_out, self.dW
        forward = list(zip(W, out, strict=True))
        backward = [(i, W[i].T, out[i - 1].T) for i in range(len(W) - 1, 0, -1)]
        began = time.perf_counter()
        for a in range(0, rows, b):
            x = first = X[a : a + b]
            for w, y in forward:
                np.matmul(x, w, out=y)
                x = y
            for i, w_t, x_t in backward:
                np.matmul(x_t, d_out[i], out=dW[i])
                np.matmul(d_out[i], w_t, out=d_out[i - 1])
            np.matmul(first.T, d_out[0], out=dW[0])
        return time.perf_counter() - began

    def weights(self) -> peers.Weights:
        raise MissingError("trains nothing")


class WithXpnn:
    """`Trainer.fit` for one epoch; the time is that of its history, for the checks of data are made once for a fit."""

    def __init__(self, problem: Problem, metrics: tuple[str, ...] | None = (), ops: str = "fast") -> None:
        self.problem = problem
        if ops == "portable":
            backend = xpnn.get_backend("numpy", ops="portable")
        else:
            backend = peers.numpy_backend(compiled=ops == "compiled")
        self.net = xpnn.mlp(problem.sizes, backend=backend, seed=0)
        loss = xpnn.BinaryCrossEntropy() if problem.binary else xpnn.CrossEntropy()
        rule = xpnn.Adam(peers.LR, peers.BETA1, peers.BETA2, eps=peers.EPS)
        options = {} if metrics is None else {"metrics": metrics}
        self.trainer = xpnn.Trainer(self.net, loss, rule, **options)

    def epoch(self, rows: int, shuffle: bool) -> float:
        p = self.problem
        history = self.trainer.fit(p.X[:rows], p.y[:rows], epochs=1, batch_size=p.batch_size, shuffle=shuffle)
        return float(history["seconds"][-1])

    def weights(self) -> peers.Weights:
        return peers.first_weights(self.net)


class WithSklearn:
    """`partial_fit` on all rows is one epoch of Adam in batches."""

    def __init__(self, problem: Problem) -> None:
        networks = peers.module("sklearn.neural_network")
        self.problem = problem
        self.y = problem.y.ravel().astype(np.int64)
        self.model = networks.MLPClassifier(
            problem.sizes[1:-1], alpha=0.0, batch_size=problem.batch_size, learning_rate_init=peers.LR, random_state=0
        )
        self.classes = np.arange(max(problem.sizes[-1], 2))
        self._step(problem.batch_size)  # makes the arrays
        for own, given in zip(self.model.coefs_, problem.weights, strict=True):
            own[...] = given[0]
        for own, given in zip(self.model.intercepts_, problem.weights, strict=True):
            own[...] = given[1]
        if self.model.coefs_[0].dtype != np.float32:
            raise RuntimeError(f"trains in {self.model.coefs_[0].dtype}, not float32")
        del self.model._optimizer  # Adam begins anew with the given weights

    def _step(self, rows: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of one epoch, that it has not converged
            self.model.partial_fit(self.problem.X[:rows], self.y[:rows], classes=self.classes)

    def epoch(self, rows: int, shuffle: bool) -> float:
        self.model.shuffle = shuffle
        began = time.perf_counter()
        self._step(rows)
        return time.perf_counter() - began

    def weights(self) -> peers.Weights:
        return list(zip(self.model.coefs_, self.model.intercepts_, strict=True))


class WithTorch:
    """An eager loop over rows in memory; or network and loss through torch.compile."""

    def __init__(self, problem: Problem, *, compiled: bool = False, **adam: Any) -> None:
        self.torch = torch = peers.torch_module()
        self.problem = problem
        self.net = peers.torch_net(torch, problem.weights)
        self.rule = torch.optim.Adam(self.net.parameters(), **peers.ADAM, **adam)
        net, loss = self.net, peers.torch_loss(torch, binary=problem.binary)

        def loss_of(x: Any, y: Any) -> Any:
            return loss(net(x), y)

        self.loss_of = torch.compile(loss_of) if compiled else loss_of
        self.X, self.y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)

    def epoch(self, rows: int, shuffle: bool) -> float:
        torch, X, y, rule, loss_of, b = self.torch, self.X, self.y, self.rule, self.loss_of, self.problem.batch_size
        began = time.perf_counter()
        order = torch.randperm(rows) if shuffle else torch.arange(rows)
        total = torch.zeros(())
        for index in order.split(b):
            rule.zero_grad(set_to_none=True)
            loss = loss_of(X.index_select(0, index), y.index_select(0, index))
            loss.backward()
            rule.step()
            total += loss.detach()
        float(total)
        return time.perf_counter() - began

    def weights(self) -> peers.Weights:
        linears = [layer for layer in self.net if hasattr(layer, "weight")]
        return [(n.weight.detach().numpy().T.copy(), n.bias.detach().numpy().copy()) for n in linears]


class WithJax:
    """One compiled call a step, or one compiled scan over the epoch; the gather of rows is compiled too."""

    def __init__(self, problem: Problem, *, scan: bool) -> None:
        self.jax, self.jnp = jax, jnp = peers.jax_modules()
        self.problem, self.scan = problem, scan
        self.rng = np.random.default_rng(1)
        step = peers.jax_step(jax, jnp, binary=problem.binary)

        def whole_epoch(state: Any, X: Any, y: Any, order: Any) -> tuple[Any, Any]:
            state, losses = jax.lax.scan(lambda s, index: step(s, X[index], y[index]), state, order)
            return state, jnp.sum(losses)

        def one_step(carried: Any, X: Any, y: Any, order: Any) -> Any:
            state, slot, total = carried
            state, loss = step(state, X[order[slot]], y[order[slot]])
            return state, slot + 1, total + loss

        self.compiled = jax.jit(whole_epoch if scan else one_step, donate_argnums=0)
        self.state = peers.jax_state(jax, jnp, problem.weights)
        self.X = jnp.array(problem.X)
        self.y = jnp.array(problem.y if problem.binary else problem.y.astype(np.int32))

    def epoch(self, rows: int, shuffle: bool) -> float:
        jnp, X, y = self.jnp, self.X, self.y
        began = time.perf_counter()
        order = jnp.asarray(self.problem.order(rows, shuffle, self.rng).astype(np.int32))
        if self.scan:
            self.state, total = self.compiled(self.state, X, y, order)
        else:
            carried = self.state, jnp.int32(0), jnp.float32(0.0)
            for _ in range(len(order)):
                carried = self.compiled(carried, X, y, order)
            self.state, _, total = carried
        float(total)
        self.jax.block_until_ready(self.state)
        return time.perf_counter() - began

    def weights(self) -> peers.Weights:
        return [(np.array(w), np.array(b)) for w, b in self.state[0]]


MAKERS: dict[str, Callable[[Problem], Competitor]] = {
    "products alone": Products,
    "xpnn": WithXpnn,
    "xpnn with numba": lambda problem: WithXpnn(problem, ops="compiled"),
    "xpnn, default metrics": lambda problem: WithXpnn(problem, None),
    "xpnn with numba, default metrics": lambda problem: WithXpnn(problem, None, ops="compiled"),
    "xpnn, portable ops": lambda problem: WithXpnn(problem, ops="portable"),
    "scikit-learn": WithSklearn,
    "torch eager, Adam": WithTorch,
    "torch eager, fused Adam": lambda problem: WithTorch(problem, fused=True),
    "torch.compile, fused Adam": lambda problem: WithTorch(problem, compiled=True, fused=True),
    "jax jit, a call a step": lambda problem: WithJax(problem, scan=False),
    "jax scan over the epoch": lambda problem: WithJax(problem, scan=True),
}


# -- measuring --------------------------------------------------------------------------------------------------
def loss_of(weights: peers.Weights, problem: Problem) -> float:
    """The mean loss of given weights on the first batch, in float64."""
    x = problem.X[: problem.batch_size].astype(np.float64)
    y = problem.y[: problem.batch_size]
    for i, (w, b) in enumerate(weights):
        x = (np.maximum(x, 0.0) if i else x) @ w.astype(np.float64) + b
    if problem.binary:
        return float(np.mean(np.logaddexp(0.0, x) - y * x))
    picked = x[np.arange(len(y)), y]
    return float(np.mean(np.log(np.sum(np.exp(x), axis=1)) - picked))


def loss_after_steps(make: Callable[[Problem], Competitor], problem: Problem) -> float:
    """Make some steps from the first weights on the rows as they lie; return the loss of the weights reached."""
    competitor = make(problem)
    competitor.epoch(STEPS_COMPARED * problem.batch_size, shuffle=False)
    return loss_of(competitor.weights(), problem)


def measure(problem: Problem, only: list[str], seconds: float, least: int) -> dict[str, Any]:
    """Compare the losses, then time interleaved epochs of all competitors for about `seconds`."""
    rows = problem.batch_size * problem.steps
    reference = loss_after_steps(MAKERS["xpnn"], problem)
    turns: dict[str, Callable[[], float]] = {}
    missing: dict[str, str] = {}
    off: dict[str, float] = {}
    for name, make in MAKERS.items():
        if name != "xpnn" and not any(part in name for part in only):
            continue
        try:
            if name != "products alone":
                loss = loss_after_steps(make, problem)
                off[name] = abs(loss - reference) / abs(reference)
                if not off[name] <= TOLERANCE.get(name, TOLERANCE_OF_ALL_OTHERS):
                    missing[name] = (
                        f"not comparable: loss {loss:.6f} after {STEPS_COMPARED} steps, xpnn's is {reference:.6f}"
                    )
                    continue
            competitor = make(problem)
            competitor.epoch(rows, shuffle=True)  # warm up: compile, fill caches
        except Exception as error:  # whatever one cannot do must not keep the others from their turn
            missing[name] = reason(error)
            continue
        turns[name] = lambda c=competitor: c.epoch(rows, shuffle=True) / problem.steps
    times = interleave(turns, seconds, least=least, pause=PAUSE)
    found = summary(times, "xpnn")
    for name, value in off.items():
        if name in found:
            found[name]["loss_off"] = float(f"{value:.1e}")
    return {
        "problem": str(problem),
        "unit": "µs/step",
        "steps": problem.steps,
        "rows": found,
        "missing": missing,
    }


def main() -> None:
    args = parser(__doc__, seconds=60.0).parse_args()
    path, results = begin("training", args)
    only = args.only.split(",")
    for sizes, batch_size, steps in QUICK if args.quick else PROBLEMS:
        name = f"{'-'.join(map(str, sizes))}, batch {batch_size}"
        if args.problem not in name:
            continue
        problem = make_problem(sizes, batch_size, steps)
        seconds = 0.0 if args.quick else args.seconds
        results["problems"].append(measure(problem, only, seconds, least=3 if args.quick else 7))
        show(results["problems"][-1])
        write(path, results)
    print(f"\nin {path}")


if __name__ == "__main__":
    main()

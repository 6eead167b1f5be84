"""Trust: are the gradients right, and do all backends agree?

These are for users' own layers and losses too: whatever a `Sequential` and a `Loss` can hold can be checked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._typing import Array
from .accel.half import HALVES
from .arguments import as_real, as_rows, is_count, number, same_length
from .backend import Backend, get_backend, on_device, to_numpy
from .contract import check_assigned, check_function, mark_gradients, what
from .differences import PartError, Reach, check_layers, check_loss, check_penalty, compare, moved, settled, verdict
from .errors import OptionError, ShapeError, XpnnError
from .layers.base import walk
from .losses import Loss
from .model import Sequential
from .optim import Optimizer
from .optional import needs
from .random import stream
from .regularizers import Regularizer
from .training.checks import expect

__all__ = ["BackendReport", "GradientReport", "check_gradients", "compare_backends"]


def _check_loss(where: str, loss: Any) -> None:
    expect(loss, Loss, "loss", "a loss object such as xpnn.CrossEntropy()", where=where)


def _refuse_halves(where: str, dtype: str) -> None:
    if dtype in HALVES:
        raise OptionError(
            f"{where}: expected float32 or float64, got {dtype}: rounding would drown what is compared. "
            "Use a copy: net.to(net.backend, 'float32')."
        )


# -- gradients --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class GradientReport:
    r"""What `check_gradients` found.

    Attributes
    ----------
    rel_error : dict of str to float
        For each parameter, and ``"x"`` for the input where it was asked for,
        :math:`\lVert a - n \rVert / \max(\lVert a \rVert + \lVert n \rVert, \tau)` of the analytic gradient `a`
        and the numeric one `n`.
    skipped : dict of str to int
        Elements left out because a kink lies within the difference's reach.
    n_checked : int
        Elements compared.
    parts : tuple of PartError
        What came of each layer, of the loss and of the penalty by itself: ``part``, ``mode``, ``gradient`` and
        ``rel_error``.
    """

    rel_error: dict[str, float]
    skipped: dict[str, int]
    n_checked: int
    parts: tuple[PartError, ...] = ()

    @property
    def max_rel_error(self) -> float:
        """The largest error of all, of the whole network and of its parts."""
        return max([*self.rel_error.values(), *(part.rel_error for part in self.parts)], default=0.0)

    @property
    def faulty(self) -> list[str]:
        """The layers that are wrong by themselves, ``"1.Scale"``, and the loss or penalty that is.

        Of layers in one another the inner one; a wrong gradient that is the fault of a later layer does not count.
        """
        wrong = list(dict.fromkeys(part.part for part in self.parts if verdict(part.rel_error) == "bug"))
        numbers = {name: name.rpartition(".")[0] for name in wrong}
        return [n for n in wrong if not (numbers[n] and any(o.startswith(numbers[n] + ".") for o in numbers.values()))]

    @property
    def verdict(self) -> str:
        """``"excellent"`` (below 1e-7), ``"good"`` (1e-5), ``"suspicious"`` (1e-3) or ``"bug"``.

        ``"unchecked"`` if every element lay at a kink.
        """
        return verdict(self.max_rel_error) if self.n_checked else "unchecked"

    def rows(self) -> list[dict[str, Any]]:
        """One row for each parameter, as plain values."""
        return [
            {"parameter": name, "rel_error": error, "skipped": self.skipped[name], "verdict": verdict(error)}
            for name, error in self.rel_error.items()
        ]

    def __str__(self) -> str:
        with needs("tabulate", "report"):
            from tabulate import tabulate

        table = [(r["parameter"], f"{r['rel_error']:.1e}", r["skipped"], r["verdict"]) for r in self.rows()]
        head = ("parameter", "relative error", "at a kink", "verdict")
        named = self.faulty
        faults = [f"{part}" for part in self.parts if part.part in named and verdict(part.rel_error) == "bug"]
        end = f"{self.n_checked} elements, largest relative error {self.max_rel_error:.1e}: {self.verdict}"
        return "\n".join([tabulate(table, headers=head, disable_numparse=True), *faults, end])


def check_gradients(
    net: Sequential,
    loss: Loss,
    x: Any,
    y: Any,
    *,
    eps: float = 1e-5,
    sample_weight: Any = None,
    regularizer: Regularizer | None = None,
    train: bool = True,
    step: int = 0,
    max_elements: int = 200,
    check_input: bool = False,
    seed: int = 0,
) -> GradientReport:
    r"""Compare hand-derived gradients with central differences.

    .. math:: \frac{\partial L}{\partial p_k} \approx \frac{L(p + \varepsilon e_k) - L(p - \varepsilon e_k)}
              {2\varepsilon}

    on a float64 copy of the network, with dropout masks held fixed.  Each element is tried at two distances; where
    the two disagree a kink (of ReLU, say) lies between, and the element is left out and counted.

    Then each layer is checked by itself, with the input it has in the network and a random gradient to its output, in
    training and in evaluation; and the loss, and the regularizer.  A wrong gradient spoils those of all layers before
    it: `GradientReport.faulty` names the one that is to blame.

    Parameters
    ----------
    net : Sequential
        Is left untouched: a copy is checked, on the same backend.
    loss : Loss
        Any loss.
    x : array of shape (batch, n_in)
        A few rows.
    y : array of shape (batch,) or (batch, n_targets)
        Their targets.
    eps : float, default=1e-5
        Distance :math:`\varepsilon`, times :math:`\max(1, |p|)`.
    sample_weight : array of shape (batch,), optional
        Weights of the rows.
    regularizer : Regularizer, optional
        Its penalty is part of the loss, and what it adds part of the gradients.
    train : bool, default=True
        Whether dropout drops and batch norm uses the batch.
    step : int, default=0
        The step whose dropout masks are taken.
    max_elements : int, default=200
        Elements of each parameter to try, drawn at random from larger ones.
    check_input : bool, default=False
        Whether the gradient to `x` is checked too.
    seed : int, default=0
        Draws the elements.

    Returns
    -------
    GradientReport
        Its ``str`` is a table.

    Raises
    ------
    ShapeError
        If the network has replicas: check one network.
    OptionError
        If a layer cannot be run as it must, in the mode asked for: it writes over its input, gives something else for
        the same input, or its backward pass fails on what forward returned.  The message names the layer.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import CrossEntropy, mlp
    >>> from xpnn.testing import check_gradients
    >>> x = np.random.default_rng(0).normal(size=(5, 3))
    >>> report = check_gradients(mlp([3, 4, 2], "tanh"), CrossEntropy(), x, np.asarray([0, 1, 0, 1, 1]))
    >>> report.verdict
    'excellent'
    """
    expect(net, Sequential, "net", "a network", where="check_gradients")
    _check_loss("check_gradients", loss)
    if regularizer is not None:
        expect(regularizer, Regularizer, "regularizer", "a penalty such as xpnn.L2(1e-4)", where="check_gradients")
    if net.store.replicas:
        raise ShapeError("check_gradients: expected a single network, got replicas. Check one network of the kind.")
    if not 0 < number(eps) < float("inf"):
        raise OptionError(f"check_gradients: expected eps > 0, got {eps!r}. Try eps=1e-5.")
    _refuse_halves("check_gradients", net.backend.dtype_name)
    net = net.to(net.backend, dtype="float64") if net.backend.dtype_name != "float64" else net.copy()
    x, y = as_real(as_rows(x, "check_gradients", "x"), "check_gradients", "x"), as_rows(y, "check_gradients", "y")
    same_length("check_gradients", x=x, y=y)
    problem = _Problem(net, loss, _targets(net, loss, y), sample_weight, regularizer, train, step)
    x = to_numpy(x).astype(np.int64 if net.takes_integers else np.float64)
    # Numbers of its own: those of default_rng(seed) may be the very data, along which a norm has no slope.
    own = stream(seed, "differences")
    parts = problem.parts(x, Reach(eps, min(max_elements, 50), own, extrapolated=True))
    start, analytic, dx = problem.gradients(x, need_dx=check_input)
    reach = Reach(eps, max_elements, np.random.default_rng(seed))
    found: dict[str, tuple[float, int, int]] = {}
    for name, place in net.store.segments():

        def along(k: int, h: float, place: slice = place) -> float:
            return problem.value_at(moved(start, place.start + k, h), x)

        found[name] = compare(along, start[place], analytic[place], reach)
    if check_input:
        flat = x.reshape(-1)

        def along_x(k: int, h: float) -> float:
            return problem.value_at(start, moved(flat, k, h).reshape(x.shape))

        found["x"] = compare(along_x, flat, to_numpy(dx).reshape(-1), reach)
    # in the order of the network, not of the buffer
    found = {name: found[name] for name in (*net.params, *(["x"] if check_input else []))}
    return GradientReport(
        {name: error for name, (error, _, _) in found.items()},
        {name: kinks for name, (_, kinks, _) in found.items()},
        sum(n for _, _, n in found.values()),
        tuple(parts),
    )


@dataclass
class _Problem:
    """A network of our own, its targets and weights: the loss for any parameters and inputs, and all gradients."""

    net: Sequential
    loss: Loss
    y: Array
    sample_weight: Any
    regularizer: Regularizer | None
    train: bool
    step: int

    def __post_init__(self) -> None:
        if self.sample_weight is not None:
            self.sample_weight = self.net.backend.asarray(self.sample_weight)
        self.backend = self.net.backend
        with self.backend.active():
            self.start = self.net.store.snapshot()
            if self.regularizer is not None:
                self.regularizer = settled(self.net.store, self.regularizer)

    def _penalty(self) -> float:
        """Add the penalty's gradient to the store's, and return it."""
        return 0.0 if self.regularizer is None else float(to_numpy(copy.deepcopy(self.regularizer).add(self.net.store)))

    @on_device
    def parts(self, x: np.ndarray, reach: Reach) -> list[PartError]:
        """Check each layer, the loss and the penalty by themselves."""
        net = self.net
        forward = {"train": self.train, "step": self.step, "sample_weight": self.sample_weight}
        found = check_layers(net, x, forward, reach)
        pred, _ = self._forward(x)
        found.append(check_loss(net, self.loss, pred, self.y, self.sample_weight, reach))
        if self.regularizer is not None:
            found.append(check_penalty(net.store, self.regularizer, reach))
        net.store.buffers[...] = self.start.buffers
        return found

    @on_device
    def value_at(self, values: np.ndarray, x: np.ndarray) -> float:
        store = self.net.store
        store.values[...] = store.backend.asarray(values)
        store.buffers[...] = self.start.buffers
        pred, _ = self._forward(x)
        loss = float(to_numpy(self.loss.value_and_grad(pred, self.y, self.sample_weight)[0]))
        return loss + self._penalty()

    @on_device
    def gradients(self, x: np.ndarray, *, need_dx: bool) -> tuple[np.ndarray, np.ndarray, Array | None]:
        """Return the parameters, their gradients and the inputs'."""
        layers, grads = list(walk(self.net.layers)), self.net.grads
        pred, caches = self._forward(x)
        marked = mark_gradients(layers, grads)
        _, d_pred = self.loss.value_and_grad(pred, self.y, self.sample_weight)
        dx = self.net.backward(d_pred, caches, need_dx=need_dx)
        check_assigned(layers, marked)
        self._penalty()
        return np.array(to_numpy(self.start.values)), np.array(to_numpy(self.net.store.grads)), dx

    def _forward(self, x: np.ndarray) -> tuple[Array, list[Any]]:
        return self.net.forward(x, train=self.train, step=self.step, sample_weight=self.sample_weight)


def _targets(net: Sequential, loss: Loss, y: Any) -> Array:
    """Check targets, and bring them to the network's backend."""
    host = to_numpy(y)
    loss.check_targets(host, net.n_out)
    labels = loss.takes_labels and host.ndim == 1
    return net.backend.asarray(y, dtype=net.backend.index_dtype if labels else None)


# -- parity -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class BackendReport:
    """What `compare_backends` found.

    Attributes
    ----------
    rows : list of dict
        For each backend and parameter: ``grad_max_abs``, ``grad_max_rel``, ``grad_max_ulp`` of the first step's
        gradients, and ``value_…`` of the weights after all steps, against the first backend.  Relative errors
        are to the largest element of the array, or to a hundredth of the network's largest if that is more;
        ULPs are units in the last place, elementwise.
    losses : dict of str to list of float
        Loss of every step.
    skipped : dict of str to str
        Backends that cannot be used here, and why.
    tolerance : float
        Largest relative error that counts as agreement.
    reference : str
        The backend that the others are compared with.
    """

    rows: list[dict[str, Any]]
    losses: dict[str, list[float]]
    skipped: dict[str, str]
    tolerance: float
    reference: str = ""

    @property
    def ok(self) -> bool:
        """Whether all backends that could be used agree."""
        return all(row["ok"] for row in self.rows)

    def __str__(self) -> str:
        with needs("tabulate", "report"):
            from tabulate import tabulate

        head = ("backend", "parameter", "gradient rel", "ULP", "weight rel", "ULP", "verdict")
        table = [
            (
                row["backend"],
                row["parameter"],
                f"{row['grad_max_rel']:.1e}",
                row["grad_max_ulp"],
                f"{row['value_max_rel']:.1e}",
                row["value_max_ulp"],
                "identical" if row["identical"] else "ok" if row["ok"] else "DIFFERS",
            )
            for row in self.rows
        ]
        steps = len(next(iter(self.losses.values()), []))
        lines = [
            tabulate(table, headers=head, disable_numparse=True),
            f"against {self.reference}; gradients of step 1, weights after {steps} steps; "
            f"tolerance {self.tolerance:.1e}: {'ok' if self.ok else 'BACKENDS DIFFER'}",
        ]
        lines += [f"{name} skipped: {why}" for name, why in self.skipped.items()]
        return "\n".join(lines)


def compare_backends(
    make_net: Callable[[Backend], Sequential] | Sequential,
    loss: Loss,
    optimizer: Optimizer | Callable[[], Optimizer],
    X: Any,
    y: Any,
    *,
    backends: Sequence[str] = ("numpy", "cupy", "torch", "strict"),
    steps: int = 10,
    dtype: str = "float32",
    tolerance: float | None = None,
) -> BackendReport:
    """Train one network on several backends, step by step, and compare all gradients and weights.

    Parameters
    ----------
    make_net : callable or Sequential
        Takes a `Backend` and returns the network on it, such as
        ``lambda backend: xpnn.mlp([4, 8, 3], backend=backend)``; of a network, copies of it are compared.
    loss : Loss
        Any loss.
    optimizer : Optimizer or callable
        An optimizer that has made no step (it is copied for each backend), or a function that makes one.
    X : array of shape (n, n_in)
        One batch, the same in every step.
    y : array of shape (n,) or (n, n_targets)
        Its targets.
    backends : sequence of str
        The first is the reference.  Those that cannot be used are listed as skipped.
    steps : int, default=10
        Training steps, with dropout.  Rules that divide by the gradient's size (Adam, RMSProp) blow rounding up
        where the true gradient is zero, as of a bias before batch norm: there compare with SGD.
    dtype : {"float32", "float64"}, default="float32"
        Floating type on all backends.
    tolerance : float, optional
        Largest relative error; by default 1e-4 in float32 and 1e-10 in float64.

    Returns
    -------
    BackendReport
        Its ``str`` is a table; ``.ok`` the verdict.

    Raises
    ------
    BackendUnavailableError
        If the reference cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnn
    >>> X, y = xpnn.data.make_moons(32, seed=0)
    >>> make_net = lambda backend: xpnn.mlp([2, 8, 2], dropout=0.2, backend=backend)
    >>> report = xpnn.testing.compare_backends(
    ...     make_net, xpnn.CrossEntropy(), xpnn.Adam(), X, y, backends=("numpy", "strict"))
    >>> report.ok, report.rows[0]["identical"]
    (True, True)
    """
    if not is_count(steps):
        raise OptionError(f"compare_backends: expected steps >= 1, got {steps!r}.")
    if isinstance(make_net, Sequential):
        make_net = make_net.to
    elif not callable(make_net):
        expect(make_net, Sequential, "make_net", "a function of a backend, or a network", where="compare_backends")
    _check_loss("compare_backends", loss)
    if not callable(optimizer):
        expect(optimizer, Optimizer, "optimizer", "an optimizer object such as xpnn.Adam()", where="compare_backends")
    check_function(make_net, "compare_backends(make_net=...)", "backend")
    _refuse_halves("compare_backends", dtype)
    if tolerance is None:
        tolerance = 1e-4 if dtype == "float32" else 1e-10
    if isinstance(optimizer, Optimizer) and optimizer.t:
        raise OptionError("compare_backends: expected an optimizer that has made no step. Make a new one.")
    backends = [] if isinstance(backends, str) or not isinstance(backends, Iterable) else list(backends)
    if not backends:
        raise OptionError(
            f"compare_backends: expected backends as a list of names, the reference first, got {backends!r}. "
            "Try ('numpy', 'torch')."
        )
    reference, runs, skipped, rows = backends[0], {}, {}, []
    for name in backends:
        try:
            backend = get_backend(name, dtype)
        except XpnnError as error:
            if name == reference:
                raise
            skipped[name] = str(error)
            continue
        with backend.active():
            runs[name] = _run(backend, make_net, loss, copy.copy(optimizer), X, y, steps)
    grads, values, _ = runs[reference]
    for name, (other_grads, other_values, _) in list(runs.items())[1:]:
        for parameter in grads:
            row: dict[str, Any] = {"backend": name, "parameter": parameter}
            row |= _difference("grad", grads[parameter], other_grads[parameter], _floor(grads))
            row |= _difference("value", values[parameter], other_values[parameter], _floor(values))
            row["identical"] = row["grad_max_ulp"] == row["value_max_ulp"] == 0
            row["ok"] = bool(row["grad_max_rel"] <= tolerance and row["value_max_rel"] <= tolerance)
            rows.append(row)
    return BackendReport(rows, {name: run[2] for name, run in runs.items()}, skipped, tolerance, reference)


Named = dict[str, np.ndarray]


def _run(
    backend: Backend,
    make_net: Callable[[Backend], Sequential],
    loss: Loss,
    optimizer: Optimizer | Callable[[], Optimizer],
    X: Any,
    y: Any,
    steps: int,
) -> tuple[Named, Named, list[float]]:
    """Train and return the first gradients, the last weights and all losses, on the host."""
    net: Any = make_net(backend)
    if not isinstance(net, Sequential) or net.backend.spec != backend.spec:
        got = f"one on {net.backend.spec}" if isinstance(net, Sequential) else what(net)
        raise OptionError(
            f"compare_backends: expected make_net to return a network on {backend.spec}, got {got}. "
            "Pass the backend on: lambda backend: xpnn.mlp([4, 8, 3], backend=backend)."
        )
    rule = optimizer if isinstance(optimizer, Optimizer) else optimizer()
    targets = _targets(net, loss, to_numpy(y))
    losses: list[Array] = []
    first: Named = {}
    for step in range(steps):
        pred, caches = net.forward(X, train=True, step=step)
        value, d_pred = loss.value_and_grad(pred, targets)
        net.backward(d_pred, caches)
        if step == 0:
            first = {name: np.array(to_numpy(view)) for name, view in net.grads.items()}
        rule.step(net.store)
        losses.append(value)
    last = {name: np.array(to_numpy(view)) for name, view in net.params.items()}
    return first, last, [float(to_numpy(v)) for v in losses]


def _floor(named: Named) -> float:
    """A hundredth of the largest number of all: what is smaller (a bias before batch norm) is rounding alone."""
    return 1e-2 * max(float(np.abs(a).max()) for a in named.values())


def _difference(kind: str, a: np.ndarray, b: np.ndarray, floor: float) -> dict[str, Any]:
    absolute = float(np.abs(a.astype(np.float64) - b).max())
    size = max(float(np.abs(a).max()), floor)
    return {
        f"{kind}_max_abs": absolute,
        f"{kind}_max_rel": absolute / size if size else absolute,
        f"{kind}_max_ulp": _ulp(a, b),
    }


def _ulp(a: np.ndarray, b: np.ndarray) -> int:
    """Largest number of representable numbers between two arrays of one floating dtype, elementwise."""
    bits = np.int32 if a.dtype == np.float32 else np.int64

    def ordered(x: np.ndarray) -> np.ndarray:
        whole = np.ascontiguousarray(x).view(bits).astype(object if bits is np.int64 else np.int64)
        low = int(np.iinfo(bits).min)
        return np.where(whole < 0, low - whole, whole)  # -0 and +0 are one

    return int(np.abs(ordered(a) - ordered(b)).max()) if a.size else 0

"""What a look at a run can tell: the number seen, and one thing to try."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._typing import Array
from ..backend import to_numpy
from ..errors import OptionError
from ..layers import Layer, ReLU, Residual, Sigmoid, Tanh
from ..model import Sequential
from .callbacks import Callback, EarlyStopping
from .history import History

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Diagnose", "DiagnosisWarning", "Finding", "diagnose"]


# What is found is the cause of these too, and their advice would lead away from its own.
_EXPLAINS = {
    "dead units": ("underfitting",),
    "diverging": ("useless",),
    "exploding gradients": ("too slow", "useless"),
    "useless": ("underfitting", "unfinished"),
}


class DiagnosisWarning(UserWarning):
    """Something about a run looks wrong."""


class Finding(NamedTuple):
    """One thing that looks wrong.

    Attributes
    ----------
    name : str
        Such as ``"overfitting"`` or ``"dead units"``.
    evidence : str
        The numbers seen.
    advice : str
        One thing to try.
    """

    name: str
    evidence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence} {self.advice}"


def diagnose(history: History, net: Sequential | None = None, X: Any = None) -> list[Finding]:
    """Read a run and say what looks wrong.

    What needs no remedy is not told: waves of a loss that is next to nothing, or a validation loss that rose before
    `xpnn.EarlyStopping` brought the best weights back.  A network that is no better than guessing is called useless.

    Parameters
    ----------
    history : History
        At least some epochs; curves are judged from 5 epochs on.
    net : Sequential, optional
        The trained network; its last gradients are read.
    X : array of shape (n, n_in), optional
        A few hundred inputs for a look at the layers' outputs.

    Returns
    -------
    list of Finding
        Empty if nothing was found.

    Examples
    --------
    >>> rows = [{"epoch": e, "loss": 1 / e, "val_loss": 0.5 + 0.05 * e} for e in range(1, 11)]
    >>> diagnose(History(rows))[0].name
    'overfitting'
    """
    if not isinstance(history, History):
        raise OptionError(
            f"diagnose: expected a History, got {type(history).__name__}. "
            "Pass trainer.history, and trainer.net beside it."
        )
    found = _curves(history) + _useless(history, net, X)
    if net is not None:
        found += _gradients(net)
        if X is not None:
            found += _outputs(net, X)
    hidden = {name for finding in found for name in _EXPLAINS.get(finding.name, ())}
    return [finding for finding in found if finding.name not in hidden]


def _curves(history: History) -> list[Finding]:
    loss = [float(v) for v in history["loss"]] if "loss" in history else []
    if len(loss) < 5:
        return []
    found = _course(loss)
    if "val_loss" in history and not history.restored:
        found += _overfitting(loss, [float(v) for v in history["val_loss"]])
    # A loss that has not begun to fall, on a slope as steep as at first, says nothing of what the network could learn.
    not_begun = any(f.name == "too slow" for f in found)
    if "grad_norm" in history:
        not_begun &= history["grad_norm"][-1] > 0.5 * history["grad_norm"][0]
    name = "val_accuracy" if "val_accuracy" in history else "accuracy"
    if "accuracy" in history and not not_begun:
        found += _underfitting(loss, history["accuracy"][-1], history[name][-1])
    scores = [history[name][-1] for name in ("val_accuracy", "accuracy", "val_r2", "r2") if name in history]
    if not found and not history.restored and not (scores and scores[0] >= 0.9):
        found += _unfinished(loss, [float(v) for v in history["val_loss"]] if "val_loss" in history else loss)
    return found


def _course(loss: list[float]) -> list[Finding]:
    """Whether the loss turns to and fro, hardly falls, or rises."""
    falls = loss[0] - loss[-1]
    changes = np.diff(loss[-10:])
    turns = int((changes[1:] * changes[:-1] < 0).sum())
    swing = float(np.abs(changes).mean()) / max(abs(float(np.mean(loss[-10:]))), 1e-12)
    # Waves that are large beside a loss next to nothing are small beside the way that it has come.
    matters = float(np.abs(changes).mean()) > 0.05 * abs(loss[0])
    if turns >= 0.6 * (len(changes) - 1) and swing > 0.1 and matters:
        seen = f"the loss turned {turns} times in {len(changes)} epochs and moves by {swing:.0%} an epoch."
        return [Finding("oscillating", seen, "Try a learning rate three times smaller, or a larger batch.")]
    if 0 <= falls < 0.02 * abs(loss[0]):
        seen = f"the loss fell from {loss[0]:.4g} to {loss[-1]:.4g} in {len(loss)} epochs."
        return [Finding("too slow", seen, "Try a learning rate ten times larger; check that inputs are scaled.")]
    if falls < -0.1 * abs(loss[0]):
        seen = f"the loss rose from {loss[0]:.4g} to {loss[-1]:.4g} in {len(loss)} epochs."
        advice = "Try a learning rate ten times smaller; check that inputs and targets are scaled."
        return [Finding("diverging", seen, advice)]
    return []


def _overfitting(loss: list[float], val: list[float]) -> list[Finding]:
    best = int(np.argmin(val))
    # A rise that is small beside the way down is a wave, and not the turn.
    rose = val[-1] > 1.1 * val[best] and val[-1] - val[best] > 0.1 * (val[0] - val[best])
    if not (len(val) - 1 - best >= 3 and rose and loss[-1] < loss[best]):
        return []
    seen = (
        f"val_loss was best at epoch {best + 1} ({val[best]:.4g}) and is {val[-1]:.4g} now, "
        f"while the loss fell on to {loss[-1]:.4g}."
    )
    return [Finding("overfitting", seen, "Try EarlyStopping, dropout, weight decay, a simpler model or more data.")]


def _useless(history: History, net: Sequential | None, X: Any) -> list[Finding]:
    """Whether the run ended no better than a guess that does not look at the inputs."""
    advice = "Check that each row has its own target, that inputs are scaled, and try a larger learning rate."
    if len(history) < 5:
        return []
    for name in ("val_r2", "r2"):
        if name in history:
            score = float(history[name][-1])
            seen = f"{name} is {score:.3f}, and 0 is what always saying the mean reaches."
            if name == "val_r2" and "r2" in history and history["r2"][-1] > 0.5:
                advice = (
                    "Try a simpler model, fewer columns, weight decay or more data: it has learnt its rows by heart."
                )
            return [Finding("useless", seen, advice)] if score < 0.02 else []
    if net is None or "accuracy" not in history or net.n_out < 2:
        return []
    kind = "val_" if "val_loss" in history and "val_accuracy" in history else ""
    loss, right = float(history[f"{kind}loss"][-1]), float(history[f"{kind}accuracy"][-1])
    guess = math.log(net.n_out)
    if loss > 0.98 * guess and right < 1.0 / net.n_out + 0.02:
        seen = f"{kind}accuracy is {right:.3f} and {kind}loss {loss:.4g}; "
        seen += f"guessing among {net.n_out} classes has {guess:.4g}."
        return [Finding("useless", seen, advice)]
    said = np.argmax(to_numpy(net.predict(X)), axis=-1) if X is not None else np.asarray([0, 1])
    if said.ndim == 1 and len(said) >= 20 and (said == said[0]).all():
        seen = f"all {len(said)} rows are given class {int(said[0])}, so accuracy ({right:.3f}) is that class's share."
        return [Finding("useless", seen, "Try class_weight='balanced', more epochs, or better features.")]
    return []


def _underfitting(loss: list[float], train: float, held_out: float) -> list[Finding]:
    """Whether both accuracies are low, of training rows and of others, and the loss has come to rest."""
    if not (train < 0.8 and held_out < 0.8 and abs(loss[-4] - loss[-1]) < 0.01 * abs(loss[-1])):
        return []
    seen = f"accuracy is {train:.3f} on the training rows and the loss has stopped falling ({loss[-1]:.4g})."
    return [Finding("underfitting", seen, "Try a wider or deeper network, less regularization, or better features.")]


def _unfinished(loss: list[float], held_out: list[float]) -> list[Finding]:
    """Whether the training ended while the loss, of training rows and of others, fell as it had all along."""
    fifth = len(loss) // 5
    if fifth < 4 or loss[-1] < 0.1 * loss[0]:
        return []
    for curve in (held_out, loss):
        before, last = float(np.mean(curve[-2 * fifth : -fifth])), float(np.mean(curve[-fifth:]))
        if before - last <= 0.1 * (curve[0] - min(curve)):
            return []
    seen = f"in the last {fifth} epochs the loss still fell from {before:.4g} to {last:.4g}."
    return [Finding("unfinished", seen, "Train longer, or try a learning rate three times larger.")]


def _gradients(net: Sequential) -> list[Finding]:
    sizes = {name: _root_mean_square(net.grads[name]) for name in net.store.matrices()}
    if len(sizes) < 3 or not any(sizes.values()):
        return []
    (first, low), (last, high) = next(iter(sizes.items())), list(sizes.items())[-1]
    ratio = low / high if high else math.inf
    evidence = f"gradients of {first} are {low:.1e}, of {last} {high:.1e} (root mean square)."
    if ratio < 1e-4:
        return [Finding("vanishing gradients", evidence, "Try ReLU with He initialization, norm layers or residual.")]
    # Where outputs grow from layer to layer as gradients do backwards, all gradients are alike, and too large.
    largest = max(sizes, key=lambda name: sizes[name])
    weights = _root_mean_square(net.params[largest])
    if ratio <= 1e4 and sizes[largest] > 1e3 * max(weights, 1e-2):
        evidence = f"gradients of {largest} are {sizes[largest]:.1e}, its weights {weights:.1e} (root mean square)."
        ratio = math.inf
    if ratio > 1e4:
        return [Finding("exploding gradients", evidence, "Try clip_norm=1, a smaller initialization or norm layers.")]
    return []


def _root_mean_square(array: Any) -> float:
    return float(np.sqrt(np.mean(np.square(to_numpy(array).astype(np.float64)))))


def _outputs(net: Sequential, X: Any) -> list[Finding]:
    found: list[Finding] = []
    x = net.backend.asarray(X, dtype=net.backend.index_dtype if net.takes_integers else None)
    for layer, y in _walk(net.layers, x):
        rows = to_numpy(y).reshape(-1, y.shape[-1])
        share, name, advice = _idle_units(layer, rows)
        if share > 0.4:
            found.append(Finding(name, f"{share:.0%} of the units of {layer.label}.", advice))
    spread, size = float(rows.std(axis=0).max()), float(np.abs(rows).max())
    if len(rows) > 1 and spread < 1e-3 * max(size, 1e-3):
        seen = f"over {len(rows)} rows the outputs vary by {spread:.1e}."
        advice = "Check that inputs are scaled and not all alike; try a larger learning rate"
        found.append(Finding("constant prediction", seen, f"{advice}, and class_weight if one class is rare."))
    return found


def _walk(layers: Sequence[Layer], x: Array) -> Iterator[tuple[Layer, Array]]:
    """Yield every layer with its output, those inside a Residual before it; the network's own comes last."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from _walk(layer.layers, x)
        x, _ = layer.forward(x)
        yield layer, x


def _idle_units(layer: Layer, rows: np.ndarray) -> tuple[float, str, str]:
    """Share of the units of an activation layer that do nothing on these rows."""
    if isinstance(layer, ReLU):
        dead = (rows <= 0).all(axis=0)
        return float(dead.mean()), "dead units", "Try LeakyReLU, a smaller learning rate, or He initialization."
    if isinstance(layer, Sigmoid | Tanh):
        low = 0.0 if isinstance(layer, Sigmoid) else -1.0
        saturated = ((rows < low + 0.01) | (rows > 0.99)).mean(axis=0) > 0.95
        return float(saturated.mean()), "saturated units", "Scale the inputs, or start from smaller weights."
    return 0.0, "", ""


class Diagnose(Callback):
    """Look at the run every few epochs and warn once of each thing that looks wrong.

    Parameters
    ----------
    X : array of shape (n, n_in), optional
        Inputs for a look at the layers' outputs; without them only curves and gradients are read.
    every : int, default=5
        Epochs between looks.

    Attributes
    ----------
    findings : list of Finding
        All that was found, each name once.
    """

    def __init__(self, X: Any = None, *, every: int = 5) -> None:
        self.X, self.every = X, max(int(every), 1)
        self.findings: list[Finding] = []

    def on_epoch_end(self, trainer: Trainer) -> None:
        if len(trainer.history) % self.every:
            return
        known = {finding.name for finding in self.findings}
        # Whether a network is useless, or unfinished, is seen at the end; what EarlyStopping will bring back from
        # needs no warning.
        known |= {"useless", "unfinished"}
        known |= {"overfitting" for c in trainer.callbacks if isinstance(c, EarlyStopping) and c.restore_best}
        for finding in diagnose(trainer.history, trainer.net, self.X):
            if finding.name not in known:
                known.add(finding.name)
                self.findings.append(finding)
                warnings.warn(f"epoch {trainer.epoch}: {finding}", DiagnosisWarning, stacklevel=2)

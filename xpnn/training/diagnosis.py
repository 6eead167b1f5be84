"""What a look at a run can tell: the number seen, and one thing to try."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arguments import count
from ..errors import OptionError
from ..model import Sequential
from .callbacks import Callback, EarlyStopping
from .history import History
from .look import Look, look_at

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["OF_CURVES", "Diagnose", "DiagnosisWarning", "Finding", "diagnose", "judge"]

#: What is found in a history alone.
OF_CURVES = frozenset({"oscillating", "too slow", "diverging", "still improving", "overfitting", "underfitting"})


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
    Where the loss still falls at most of its mean pace the advice is to train longer; where validation rows get worse
    while training rows get better, among others, a simpler network.

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
    return judge(history, None if net is None else look_at(net, X))


def judge(history: History, look: Look | None = None) -> list[Finding]:
    """Return what a history, and a look at its network, show; `diagnose` for those who kept no network."""
    run, found = _Run.of(history), []
    if run is not None:
        found = _curves(run, look)
        found += _useless(run, look, any(f.name == "still improving" for f in found))
    if look is None:
        return found
    found += _gradients(look)
    if run is not None and run.done(look):
        return found + _constant(look)  # units that it does without do no harm
    constant = _constant(look)
    return found + _idle(look, {finding.name for finding in found + constant}) + constant


class _Run(NamedTuple):
    """The columns of a history that are judged, of at least five epochs; None for what it does not hold."""

    loss: list[float]
    watched: list[float]  # the loss of validation rows where there are any, of training rows if not
    score: str | None  # accuracy or r2
    train: float  # that score at the end
    held_out: float  # and of validation rows, where there are any
    steepness: float  # the last gradients' norms over the first ones'
    restored: bool

    @classmethod
    def of(cls, history: History) -> _Run | None:
        loss = [float(v) for v in history["loss"]] if "loss" in history else []
        if len(loss) < _FEWEST:
            return None
        watched = [float(v) for v in history["val_loss"]] if "val_loss" in history else loss
        score = next((name for name in ("accuracy", "r2") if name in history), None)
        train = held_out = math.nan
        if score is not None:
            train = float(history[score][-1])
            held_out = float(history[f"val_{score}"][-1]) if f"val_{score}" in history else train
        norms = [float(v) for v in history["grad_norm"]] if "grad_norm" in history else [1.0]
        k = _last(norms)
        steepness = sum(norms[-k:]) / sum(norms[:k]) if sum(norms[:k]) > 0 else 0.0
        return cls(loss, watched, score, train, held_out, steepness, history.restored)

    @property
    def validated(self) -> bool:
        return self.watched is not self.loss

    def done(self, look: Look | None) -> bool:
        """Whether there is next to nothing left to learn; where one class is common, accuracy does not say it."""
        common = look is not None and look.rows > 0 and max(look.answers) > 0.9 * look.rows
        return self.held_out >= 0.98 and not (self.score == "accuracy" and common)

    def left(self, look: Look | None) -> float:
        """Return which share of what there was to learn is not learnt yet."""
        if self.score is not None:
            return 1.0 - self.held_out
        return self.watched[-1] / max(min(abs(self.loss[0]), self.guessing(look)), 1e-12)

    @property
    def wanders(self) -> bool:
        """Whether the losses go up and down far more than they come down.

        At a rate too small the weights stay all but where they are, so that each epoch's loss is a little below that of
        the one before.  A network that has found the little it can has losses that move with every epoch.
        """
        return all(_path(c) > max(3 * abs(c[-1] - c[0]), 1e-3 * abs(c[0]) * len(c)) for c in (self.loss, self.watched))

    @property
    def at_rest(self) -> bool:
        """Whether the mean loss of the last epochs is hardly below that of the ones before."""
        k = _last(self.loss)
        before, after = float(np.mean(self.loss[-2 * k : -k])), float(np.mean(self.loss[-k:]))
        return before - after < _STANDS * abs(before)

    def guessing(self, look: Look | None) -> float:
        """Return the loss of one who does not look at the inputs, as far as it is known; else that of the start."""
        if self.score == "r2" and self.train < 1:
            return self.loss[-1] / (1 - self.train)
        if self.score == "accuracy" and look is not None:
            return math.log(max(look.n_out, 2))
        return abs(self.loss[0])


#: Curves are judged from so many epochs on.
_FEWEST = 5
#: A loss that fell by no more than this share stands still.
_STANDS = 0.02
#: A curve that moves at so much of its mean pace has not come to its end.
_STEADY = 0.55


def _path(curve: list[float]) -> float:
    """Return how far a curve goes up and down, all together."""
    return float(np.abs(np.diff(curve)).sum())


def _last(curve: list[float]) -> int:
    """Return how many epochs the end of a run is: a fifth, and no fewer than two."""
    return max(len(curve) // 5, 2)


def _curves(run: _Run, look: Look | None) -> list[Finding]:
    course = _course(run, look)
    if course and course[0].name != "too slow":
        return course  # while the rate is too large, the rest is chance
    found = course or _unfinished(run, look)
    if run.validated and not run.restored and not run.done(look):
        found = found + _overfitting(run.loss, run.watched)
    # A loss that has not begun to fall, on a slope as steep as at first, says nothing of what the network could learn.
    return found + _underfitting(run) if not course or run.steepness < 0.5 else found


def _course(run: _Run, look: Look | None) -> list[Finding]:
    """Whether the loss turns to and fro, hardly falls, or rises."""
    loss = run.loss
    falls = loss[0] - loss[-1]
    waves = _oscillating(run, look)
    if waves:
        return waves
    if 0 <= falls < _STANDS * abs(loss[0]) and not (_learnt_at_once(run, look) or run.wanders):
        seen = f"the loss fell from {loss[0]:.4g} to {loss[-1]:.4g} in {len(loss)} epochs."
        return [Finding("too slow", seen, "Try a learning rate ten times larger; check that inputs are scaled.")]
    # One that rose and comes to rest below twice its start is held there by something else, such as a penalty.
    if falls < -0.1 * abs(loss[0]) and (falls < -abs(loss[0]) or _pace(loss) > _STEADY):
        seen = f"the loss rose from {loss[0]:.4g} to {loss[-1]:.4g} in {len(loss)} epochs."
        advice = "Try a learning rate ten times smaller; check that inputs and targets are scaled."
        return [Finding("diverging", seen, advice)]
    return []


def _oscillating(run: _Run, look: Look | None) -> list[Finding]:
    """Whether the loss goes to and fro, from one epoch to the next or in waves of several.

    A curve of pure noise turns in two epochs of three, so that the size of its waves decides: beside the loss, and
    beside what there is to learn, for waves that are large beside a loss next to nothing do no harm.  Dropout makes
    waves too, which validation rows hardly see.  Slow waves turn no more often than any curve does: they are told only
    where validation rows see them as well, for then it is the weights that go to and fro, and where more than a tenth
    is left to learn.
    """
    loss, watched = _waves(run.loss), _waves(run.watched)
    to_learn = min(abs(run.loss[0]), run.guessing(look))
    epochs = min(len(run.loss), 10)
    if run.done(look):
        return []
    if loss.turns >= 0.6 and loss.swing > 0.15 and loss.step > 0.02 * to_learn and watched.swing > 0.05:
        turns = round(loss.turns * (epochs - 2))
        seen = f"the loss turned {turns} times in {epochs - 1} epochs and moves by {loss.swing:.0%} an epoch."
    elif (
        run.validated
        and run.left(look) > 0.1
        and loss.step > 0.01 * to_learn
        and all(w.turns > 0.2 and w.climb > 0.04 for w in (loss, watched))
    ):
        seen = f"in the last {epochs} epochs the rises of the loss make {loss.climb:.0%} of it an epoch, "
        seen += f"and those of val_loss {watched.climb:.0%}."
    else:
        return []
    return [Finding("oscillating", seen, "Try a learning rate three times smaller, or a larger batch.")]


class _Waves(NamedTuple):
    """The last epochs of a curve: the share in which it turned, and how far it moved in each."""

    turns: float
    step: float
    swing: float  # that step beside the mean
    climb: float  # the steps upwards alone, beside the mean, over all epochs


def _waves(curve: list[float]) -> _Waves:
    changes, mean = np.diff(curve[-10:]), max(abs(float(np.mean(curve[-10:]))), 1e-12)
    step, climb = float(np.abs(changes).mean()), float(np.maximum(changes, 0.0).mean())
    turns = float((changes[1:] * changes[:-1] < 0).mean())
    return _Waves(turns, step, step / mean, climb / mean)


def _learnt_at_once(run: _Run, look: Look | None) -> bool:
    """Whether the first epoch taught what there is, so that the loss need not fall any more."""
    if run.score == "r2":
        return run.train >= 0.5
    return run.score == "accuracy" and (run.train >= 0.9 or run.loss[0] < 0.75 * run.guessing(look))


def _pace(curve: list[float]) -> float:
    """Return how fast a curve moves at its end beside its mean pace."""
    k, way = _last(curve), curve[-1] - curve[0]
    return (curve[-1] - curve[-1 - k]) / k / (way / (len(curve) - 1)) if way else 0.0


def _unfinished(run: _Run, look: Look | None) -> list[Finding]:
    """Whether the loss still falls about as fast as it did on average.

    A loss that comes nearer to its end by the same share each epoch has a third of its way still to go where its pace
    is 0.55 of the mean pace: x / (e^x - 1) = 0.55 at x = 1.1, and e^-1.1 = 0.33.
    """
    curve, k = run.watched, _last(run.watched)
    fell = curve[0] - curve[-1] > _STANDS * abs(curve[0]) and curve[-1] <= min(curve)
    if run.restored or run.done(look) or run.at_rest or not fell or _pace(curve) < _STEADY:
        return []
    before = curve[-1 - k]
    name = "val_loss" if run.validated else "loss"
    seen = (
        f"{name} fell from {before:.4g} to {curve[-1]:.4g} in the last {k} of {len(curve)} epochs and is at its best."
    )
    return [Finding("still improving", seen, "Train longer.")]


def _overfitting(loss: list[float], val: list[float]) -> list[Finding]:
    best, k = int(np.argmin(val)), _last(val)
    # The last epoch alone may be chance, and so may all of a rise no larger than what the curve moves anyway.
    rise, step = min(val[-1], float(np.mean(val[-k:]))) - val[best], _path(val[best:]) / max(len(val) - 1 - best, 1)
    risen = rise > max(0.1 * val[best], 2 * step)
    if not (len(val) - 1 - best >= 3 and risen and loss[-1] < loss[best]):
        return []
    seen = (
        f"val_loss was best at epoch {best + 1} ({val[best]:.4g}) and is {val[-1]:.4g} now, "
        f"while the loss fell on to {loss[-1]:.4g}."
    )
    return [Finding("overfitting", seen, "Try EarlyStopping, dropout, weight decay, a simpler network or more data.")]


def _useless(run: _Run, look: Look | None, unfinished: bool) -> list[Finding]:
    """Whether the run ended no better than a guess that does not look at the inputs."""
    advice = "Check that each row has its own target, that inputs are scaled, and try a larger learning rate."
    if unfinished:
        advice = "Train longer before you judge it."
    kind = "val_" if run.validated else ""
    if run.score == "r2":
        seen = f"{kind}r2 is {run.held_out:.3f}, and 0 is what always saying the mean reaches."
        return [Finding("useless", seen, advice)] if run.held_out < 0.02 else []
    if look is None or run.score is None:
        return []
    guessing, n_classes, loss, right = run.guessing(look), max(look.n_out, 2), run.watched[-1], run.held_out
    # What chance gives to so few rows, in 97 of 100 runs.
    chance = 1 / n_classes
    luck = 2 * math.sqrt(chance * (1 - chance) / look.rows) if look.rows else 0.0
    if loss > 0.98 * guessing and right < chance + min(max(luck, 0.02), 0.1):
        seen = f"{kind}accuracy is {right:.3f} and {kind}loss {loss:.4g}; "
        seen += f"guessing among {n_classes} classes has {guessing:.4g}."
        return [Finding("useless", seen, advice)]
    return _one_class(look, loss, right, unfinished)


def _one_class(look: Look, loss: float, right: float, unfinished: bool) -> list[Finding]:
    """Whether all rows are given one class, and whether probabilities tell them apart all the same."""
    if look.rows < 20 or look.rows not in look.answers or not 0 < right < 1:
        return []
    said = look.answers.index(look.rows)
    seen = f"all {look.rows} rows are given class {said}, so accuracy ({right:.3f}) is that class's share"
    # One who always names the same shares has at least their entropy; rows of more than two classes have more.
    entropy = -right * math.log(right) - (1 - right) * math.log1p(-right)
    if loss < 0.95 * entropy:
        advice = "Sort rows by probability, or lower the threshold of the rare class, or try class_weight='balanced'."
        return [Finding("one class", f"{seen}; their probabilities differ, and tell something.", advice)]
    advice = "Train longer." if unfinished else "Try class_weight='balanced', more epochs, or better features."
    return [Finding("useless", f"{seen}.", advice)]


def _underfitting(run: _Run) -> list[Finding]:
    """Whether both scores are low, of training rows and of others, and the loss has come to rest."""
    low = {"accuracy": 0.8, "r2": 0.5}.get(run.score or "", -math.inf)
    if not (run.train < low and run.held_out < low and run.at_rest):
        return []
    seen = f"{run.score} is {run.train:.3f} on the training rows and the loss has stopped falling ({run.loss[-1]:.4g})."
    return [Finding("underfitting", seen, "Try a wider or deeper network, less regularization, or better features.")]


def _gradients(look: Look) -> list[Finding]:
    sizes = look.gradients
    if len(sizes) < 3 or not any(sizes.values()):
        return []
    (first, low), (last, high) = next(iter(sizes.items())), list(sizes.items())[-1]
    ratio = low / high if high else math.inf
    evidence = f"gradients of {first} are {low:.1e}, of {last} {high:.1e} (root mean square)."
    if ratio < 1e-4:
        return [Finding("vanishing gradients", evidence, "Try ReLU with He initialization, norm layers or residual.")]
    # Where outputs grow from layer to layer as gradients do backwards, all gradients are alike, and too large.
    largest = max(sizes, key=lambda name: sizes[name])
    weights = look.weights[largest]
    if ratio <= 1e4 and sizes[largest] > 1e3 * max(weights, 1e-2):
        evidence = f"gradients of {largest} are {sizes[largest]:.1e}, its weights {weights:.1e} (root mean square)."
        ratio = math.inf
    if ratio > 1e4:
        return [Finding("exploding gradients", evidence, "Try clip_norm=1, a smaller initialization or norm layers.")]
    return []


_IDLE = {
    "dead units": "Try LeakyReLU, a smaller learning rate, or He initialization.",
    "saturated units": "Scale the inputs, or start from smaller weights.",
}


#: What units that do nothing would explain.
_SYMPTOMS = {"too slow", "useless", "constant prediction", "vanishing gradients"}


def _idle(look: Look, found: set[str]) -> list[Finding]:
    """Name idle units where they are many and something is wrong that they would explain.

    A layer that has learnt does without many of its units, which stay off, and makes steps of others: those are at
    their ends, and right there.  Where most of a layer is off, that alone is told.
    """
    explained = bool(found & _SYMPTOMS)
    least = {"dead units": 0.4 if explained else 0.5, "saturated units": 0.4 if explained else math.inf}
    return [
        Finding(name, f"{share:.0%} of the units of {label}.", _IDLE[name])
        for label, name, share in look.idle
        if share > least[name]
    ]


def _constant(look: Look) -> list[Finding]:
    if not (look.rows > 1 and look.spread < 1e-3 * max(look.size, 1e-3)):
        return []
    seen = f"over {look.rows} rows the outputs vary by {look.spread:.1e}."
    advice = "Check that inputs are scaled and not all alike; try a larger learning rate"
    return [Finding("constant prediction", seen, f"{advice}, and class_weight if one class is rare.")]


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
        self.X, self.every = X, count(every, "Diagnose", "every")
        self.findings: list[Finding] = []

    def on_epoch_end(self, trainer: Trainer) -> None:
        if len(trainer.history) % self.every:
            return
        known = {finding.name for finding in self.findings}
        # What a network is worth is seen at the end; what EarlyStopping will bring back from needs no warning.
        known |= {"useless", "one class", "still improving"}
        known |= {"overfitting" for c in trainer.callbacks if isinstance(c, EarlyStopping) and c.restore_best}
        for finding in diagnose(trainer.history, trainer.net, self.X):
            if finding.name not in known:
                known.add(finding.name)
                self.findings.append(finding)
                warnings.warn(f"epoch {trainer.epoch}: {finding}", DiagnosisWarning, stacklevel=2)

r"""Learning-rate schedules: pure functions of time.

A schedule returns the *factor* that multiplies the optimizer's learning rate, so 1.0 means "the optimizer's
``lr``", and one schedule serves any optimizer and any number of replicas.  Time `t` is counted in the
schedule's `unit`: epochs (fractions allowed: after 30 of 100 batches of the first epoch t = 0.3) or training
steps.  Schedules are frozen dataclasses: they hold no counter, print themselves, compare by value, and a
training that is resumed asks the same question and gets the same answer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from .arguments import field_number, is_count
from .errors import MissingMethodError, OptionError
from .metrics import mode_of

__all__ = [
    "Constant",
    "CosineDecay",
    "CosineLog",
    "ExponentialDecay",
    "FlatCosine",
    "InverseTimeDecay",
    "OneCycle",
    "Plateau",
    "Schedule",
    "StepDecay",
    "WarmRestarts",
    "Warmup",
]

Unit = Literal["epoch", "step"]

# 0.3 / 0.1 is 2.9999999999999996: a boundary that rounding misses by this little has been reached.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules; a subclass defines ``__call__(t) -> float``.

    Parameters
    ----------
    unit : {"epoch", "step"}, default="epoch"
        What `t`, and every field that is a time, is counted in.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Halfway(Schedule):
    ...     at: float = 5.0
    ...
    ...     def __call__(self, t):
    ...         return 1.0 if t < self.at else 0.5
    >>> Halfway(at=2)(3.0)
    0.5
    """

    _: KW_ONLY
    unit: Unit = "epoch"

    def __post_init__(self) -> None:
        if self.unit not in ("epoch", "step"):
            raise OptionError(
                f"{type(self).__name__}: expected unit 'epoch' or 'step', got {self.unit!r}. Choose one of the two."
            )

    def __call__(self, t: float) -> float:
        """Return the factor at time `t` >= 0."""
        raise MissingMethodError(
            f"{type(self).__name__}: expected a factor on the learning rate, but {type(self).__name__} does not define "
            "__call__(t). Define it."
        )

    def resolve(self, total: float) -> Schedule:
        """Return the schedule for a fit of known length; the Trainer calls this before the first step.

        Parameters
        ----------
        total : float
            Length of the whole fit, in `unit`.

        Returns
        -------
        Schedule
            A copy whose ``total=None`` is filled with `total`; the schedule itself if nothing is to fill.
        """
        return self

    @property
    def watches(self) -> str | None:
        """Name of the monitored quantity that `after` needs, or None if time alone decides."""
        return None

    def after(self, values: Sequence[float]) -> float:
        """Return the factor earned by the monitored `values` so far; 1.0 if time alone decides."""
        return 1.0

    def _number(
        self, name: str, low: float, high: float = math.inf, *, bounds: Literal["[]", "[)", "(]", "()"] = "[]"
    ) -> None:
        """Check that a field is a finite number in an interval, and strip NumPy's type from it."""
        interval = f"{bounds[0]}{low:g}, {high:g}{bounds[1] if high < math.inf else ')'}"

        def inside(x: float) -> bool:
            return (low < x if bounds[0] == "(" else low <= x) and (x < high if bounds[1] == ")" else x <= high)

        number = field_number(self, name, f"a number in {interval}", inside)
        object.__setattr__(self, name, number)  # a NumPy scalar here would promote float32 arrays to float64


@dataclass(frozen=True)
class Constant(Schedule):
    """The optimizer's learning rate, unchanged.

    Examples
    --------
    >>> Constant()(1000)
    1.0
    """

    def __call__(self, t: float) -> float:
        """Return 1.0."""
        return 1.0


@dataclass(frozen=True)
class StepDecay(Schedule):
    r"""Multiply by `factor` at each full `every`.

    .. math:: f(t) = \mathrm{factor}^{\lfloor t / \mathrm{every} \rfloor}

    Parameters
    ----------
    every : float, default=10
        Length of a stair, in `unit`; > 0.
    factor : float, default=0.5
        In (0, 1].
    unit : {"epoch", "step"}, default="epoch"
        What times are counted in.

    Raises
    ------
    OptionError
        If a field is out of its range.

    Examples
    --------
    >>> [StepDecay(every=10, factor=0.5)(t) for t in (0, 9.9, 10, 25)]
    [1.0, 1.0, 0.5, 0.25]
    """

    every: float = 10
    factor: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("every", 0, bounds="(]")
        self._number("factor", 0, 1, bounds="(]")

    def __call__(self, t: float) -> float:
        """Return the factor at time `t`."""
        return float(self.factor ** math.floor(t / self.every + _ROUNDING))


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    r"""Shrink by the same ratio in each unit of time.

    .. math:: f(t) = \mathrm{rate}^t = e^{-kt}, \qquad k = -\ln \mathrm{rate}

    Parameters
    ----------
    rate : float, default=0.95
        Ratio per unit of time, in (0, 1].  For the form :math:`e^{-kt}` see `from_k`.
    staircase : bool, default=False
        Use :math:`\lfloor t \rfloor`: one change per epoch (or step), as PyTorch's ``ExponentialLR`` does.
    unit : {"epoch", "step"}, default="epoch"
        What times are counted in.

    Raises
    ------
    OptionError
        If `rate` is out of its range.

    Examples
    --------
    >>> ExponentialDecay(0.5)(2), ExponentialDecay(0.5, staircase=True)(1.9)
    (0.25, 0.5)
    """

    rate: float = 0.95
    staircase: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("rate", 0, 1, bounds="(]")

    @classmethod
    def from_k(cls, k: float, *, staircase: bool = False, unit: Unit = "epoch") -> ExponentialDecay:
        r"""Return the schedule :math:`e^{-kt}`.

        Parameters
        ----------
        k : float
            Decay constant per unit of time; >= 0.
        staircase : bool, default=False
            Use :math:`\lfloor t \rfloor`.
        unit : {"epoch", "step"}, default="epoch"
            What times are counted in.

        Returns
        -------
        ExponentialDecay
            With ``rate = exp(-k)``.

        Raises
        ------
        OptionError
            If `k` is negative, or so large that ``exp(-k)`` is zero.

        Examples
        --------
        >>> round(ExponentialDecay.from_k(0.1)(5), 6) == round(math.exp(-0.5), 6)
        True
        """
        if not 0 <= k < 700:
            raise OptionError(
                f"ExponentialDecay.from_k: expected k in [0, 700), got {k!r}. Choose a value in that range."
            )
        return cls(math.exp(-k), staircase, unit=unit)

    def __call__(self, t: float) -> float:
        """Return the factor at time `t`."""
        return float(self.rate ** (math.floor(t + _ROUNDING) if self.staircase else t))


@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    r"""Shrink as one over time, the classic rate of stochastic approximation.

    .. math:: f(t) = \frac{1}{1 + kt}

    Parameters
    ----------
    k : float, default=0.1
        Decay constant per unit of time; >= 0.
    unit : {"epoch", "step"}, default="epoch"
        What times are counted in.

    Raises
    ------
    OptionError
        If `k` is out of its range.

    References
    ----------
    .. [1] Robbins and Monro, "A stochastic approximation method", Ann. Math. Statist. 22, 1951.

    Examples
    --------
    >>> InverseTimeDecay(k=0.5)(2)
    0.5
    """

    k: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("k", 0)

    def __call__(self, t: float) -> float:
        """Return the factor at time `t`."""
        return 1.0 / (1.0 + self.k * t)


def _half_cosine(start: float, end: float, share: float) -> float:
    """Go from `start` (at share 0) to `end` (at share 1) along half a period of a cosine."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * share))


@dataclass(frozen=True)
class _OverTheFit(Schedule):
    """Base of those that need to know when training ends."""

    total: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.total is not None:
            self._number("total", 0, bounds="(]")

    def _length(self) -> float:
        """Return `total`, or say how to set it."""
        if self.total is None:
            raise OptionError(
                f"{type(self).__name__}: expected a known length, got total=None. "
                f"Pass total= (in {self.unit}s), "
                "or hand the schedule to a Trainer, which fills it with the length of the fit."
            )
        return self.total

    def resolve(self, total: float) -> Schedule:
        """Fill ``total=None`` with the length of the fit."""
        return dataclasses.replace(self, total=total) if self.total is None else self


@dataclass(frozen=True)
class CosineDecay(_OverTheFit):
    r"""Fall from 1 to `end` along half a cosine, then stay.

    .. math:: f(t) = e + \tfrac{1}{2}(1 - e)\bigl(1 + \cos(\pi \min(t / T, 1))\bigr)

    Parameters
    ----------
    total : float, optional
        The length :math:`T` in `unit`; > 0.  None: the length of the whole fit, which the Trainer fills in.
    end : float, default=0.0
        The last value :math:`e`, in [0, 1].
    unit : {"epoch", "step"}, default="epoch"
        What times are counted in.

    Raises
    ------
    OptionError
        If a field is out of its range; on a call while `total` is None.

    References
    ----------
    .. [1] Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, eq. 5,
       without the restarts.

    Examples
    --------
    >>> [round(CosineDecay(total=10)(t), 3) for t in (0, 5, 10, 99)]
    [1.0, 0.5, 0.0, 0.0]
    """

    end: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("end", 0, 1)

    def __call__(self, t: float) -> float:
        """Return the factor at time `t`."""
        total = self._length()
        return _half_cosine(1.0, self.end, t / total) if t < total else float(self.end)


@dataclass(frozen=True)
class FlatCosine(_OverTheFit):
    r"""Stay at 1 for a share of the fit, then fall to `end` along half a cosine, then stay.

    .. math:: f(t) = \begin{cases}
        1 & t \le s\,T \\
        e + \tfrac{1}{2}(1 - e)\Bigl(1 + \cos\bigl(\pi \tfrac{t / T - s}{1 - s}\bigr)\Bigr) & s\,T < t < T \\
        e & t \ge T \end{cases}

    Parameters
    ----------
    total : float, optional
        The length :math:`T` in `unit`; > 0.  None: the length of the whole fit, which the Trainer fills in.
    flat : float, default=0.5
        The share :math:`s` of `total` that stays at 1, in [0, 1).
    end : float, default=0.0
        The last value :math:`e`, in [0, 1].
    unit : {"epoch", "step"}, default="epoch"
        What times are counted in.

    Raises
    ------
    OptionError
        If a field is out of its range; on a call while `total` is None.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data", NeurIPS 2024: ``flat_cos``, which RealMLP multiplies dropout and weight decay by.

    Examples
    --------
    >>> [round(FlatCosine(total=8)(t), 3) for t in (0, 4, 6, 8, 9)]
    [1.0, 1.0, 0.5, 0.0, 0.0]
    """

    flat: float = 0.5
    _: KW_ONLY
    end: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("flat", 0, 1, bounds="[)")
        self._number("end", 0, 1)

    def __call__(self, t: float) -> float:
        """Return the factor at time `t`."""
        total = self._length()
        begun = self.flat * total
        if t <= begun:
            return 1.0
        return _half_cosine(1.0, self.end, (t - begun) / (total - begun)) if t < total else float(self.end)


@dataclass(frozen=True)
class CosineLog(_OverTheFit):
    r"""Rise from 0 to 1 and fall back, several times, each cycle twice as long as the one before.

    .. math:: f(t) = \tfrac{1}{2}\bigl(1 - \cos(2\pi \log_2(1 + (2^c - 1)\, t / T))\bigr)

    Cycle `i` (from 0) ends at :math:`t / T = (2^{i + 1} - 1) / (2^c - 1)`: four valleys, for four cycles, of which
    training may have its best epoch in any.  The factor is 0 in each of them, at the beginning, and after `total`.

    Parameters
    ----------
    total : float, optional
        The length :math:`T` in `unit`; > 0.  None: the length of the whole fit, which the Trainer fills in.
    cycles : int, default=4
        Their number :math:`c`, from 1 to 50; 4 is RealMLP's ``coslog4``.
    unit : {"epoch", "step"}, default="epoch"
        What times are counted in.

    Raises
    ------
    OptionError
        If a field is out of its range; on a call while `total` is None.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data", NeurIPS 2024.

    Examples
    --------
    >>> [round(CosineLog(total=15)(t), 3) for t in (0, 0.4142, 1, 3, 7, 15)]
    [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

    cycles: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_count(self.cycles) or self.cycles > 50:
            raise OptionError(f"CosineLog: expected cycles to be an integer from 1 to 50, got {self.cycles!r}. Try 4.")
        object.__setattr__(self, "cycles", int(self.cycles))

    def __call__(self, t: float) -> float:
        """Return the factor at time `t`."""
        share = t / self._length()
        if share >= 1.0:
            return 0.0
        cycles = math.log2(1.0 + (2.0**self.cycles - 1.0) * share)
        return 0.5 * (1.0 - math.cos(2.0 * math.pi * cycles))


@dataclass(frozen=True)
class WarmRestarts(Schedule):
    r"""Cosine decay that starts again, each period `growth` times as long as the one before (SGDR).

    .. math:: f(t) = e + \tfrac{1}{2}(1 - e)\bigl(1 + \cos(\pi\, t_i / T_i)\bigr), \qquad T_i = T_0\, g^i

    where :math:`t_i` is the time since the last restart.

    Parameters
    ----------
    period : float, default=10
        Length :math:`T_0` of the first period in `unit`; > 0.
    growth : float, default=2
        Ratio :math:`g` of one period to the one before; >= 1.
    end : float, default=0.0
        Value at the end of each period, in [0, 1].
    unit : {"epoch", "step"}, default="epoch"
        What times are counted in.

    Raises
    ------
    OptionError
        If a field is out of its range.

    References
    ----------
    .. [1] Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, eq. 5.

    Examples
    --------
    >>> schedule = WarmRestarts(period=10, growth=2)
    >>> [round(schedule(t), 3) for t in (0, 5, 10, 20, 30)]
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """

    period: float = 10
    growth: float = 2
    _: KW_ONLY
    end: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("period", 0, bounds="(]")
        self._number("growth", 1)
        self._number("end", 0, 1)

    def __call__(self, t: float) -> float:
        """Return the factor at time `t`."""
        periods = t / self.period
        if self.growth == 1:
            restarts = math.floor(periods + _ROUNDING)
            share = periods - restarts
        else:
            # i restarts take (g^i - 1) / (g - 1) first periods: solved for i, no loop over the past
            extra, log_growth = self.growth - 1.0, math.log(self.growth)
            restarts = math.floor(math.log1p(periods * extra) / log_growth + _ROUNDING)
            share = (periods - math.expm1(restarts * log_growth) / extra) / self.growth**restarts
        return _half_cosine(1.0, self.end, min(max(share, 0.0), 1.0))


@dataclass(frozen=True)
class OneCycle(_OverTheFit):
    r"""Rise from `start` to 1, then fall to `end`, each along half a cosine; then stay.

    The optimizer's learning rate is the *peak*.  This is the two-phase cosine variant of PyTorch's
    ``OneCycleLR``, with ``start = 1 / div_factor`` and ``end = 1 / (div_factor * final_div_factor)``;
    momentum is not cycled.  PyTorch counts ``total_steps - 1`` intervals and ends the rise at step
    ``pct_start * total_steps - 1``; here the two phases share `total` exactly.

    Parameters
    ----------
    total : float, optional
        Length in `unit`; > 0.  None: the length of the whole fit, which the Trainer fills in.
    warmup : float, default=0.3
        Share of `total` that rises, in [0, 1).
    start : float, default=0.04
        First value, in [0, 1].
    end : float, default=4e-6
        Last value, in [0, 1].
    unit : {"epoch", "step"}, default="epoch"
        What times are counted in.

    Raises
    ------
    OptionError
        If a field is out of its range; on a call while `total` is None.

    References
    ----------
    .. [1] Smith and Topin, "Super-convergence: very fast training of neural networks using large learning
       rates", 2018; they rise and fall linearly and end with a third phase.

    Examples
    --------
    >>> [round(OneCycle(total=10)(t), 3) for t in (0, 3, 6.5, 10, 11)]
    [0.04, 1.0, 0.5, 0.0, 0.0]
    """

    warmup: float = 0.3
    _: KW_ONLY
    start: float = 1 / 25
    end: float = 1 / 25e4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("warmup", 0, 1, bounds="[)")
        self._number("start", 0, 1)
        self._number("end", 0, 1)

    def __call__(self, t: float) -> float:
        """Return the factor at time `t`."""
        total = self._length()
        peak = self.warmup * total
        if t < peak:
            return _half_cosine(self.start, 1.0, t / peak)
        return _half_cosine(1.0, self.end, (t - peak) / (total - peak)) if t < total else float(self.end)


@dataclass(frozen=True)
class Warmup(Schedule):
    r"""Rise linearly from `start` to 1, then follow another schedule from its beginning.

    .. math:: f(t) = \begin{cases} s + (1 - s)\, t / d & t < d \\ \mathrm{then}(t - d) & t \ge d \end{cases}

    Parameters
    ----------
    then : Schedule, default=Constant()
        What follows.  Its unit is the unit of the whole.
    duration : float, default=1.0
        Length :math:`d` of the rise, in the unit of `then`; >= 0.
    start : float, default=0.0
        First value :math:`s`, in [0, 1].

    Raises
    ------
    OptionError
        If `then` is no schedule, or a field is out of its range.

    Notes
    -----
    `resolve` leaves to `then` what the rise does not use.  A fit no longer than the rise never reaches
    `then`.

    References
    ----------
    .. [1] Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, section 2.2
       (gradual warmup).

    Examples
    --------
    >>> schedule = Warmup(CosineDecay(), duration=2).resolve(total=10)
    >>> [round(schedule(t), 3) for t in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    >>> Warmup(Constant(unit="step"), duration=500).unit
    'step'
    """

    then: Schedule = Constant()
    duration: float = 1.0
    _: KW_ONLY
    start: float = 0.0
    unit: Unit = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.then, Schedule):
            raise OptionError(
                f"Warmup: expected then to be a schedule, got {self.then!r}. Pass an object such as CosineDecay()."
            )
        object.__setattr__(self, "unit", self.then.unit)
        self._number("duration", 0)
        self._number("start", 0, 1)

    def __call__(self, t: float) -> float:
        """Return the factor at time `t`."""
        if t < self.duration:
            return self.start + (1.0 - self.start) * t / self.duration
        return self.then(t - self.duration)

    def resolve(self, total: float) -> Schedule:
        """Resolve `then` for the part of the fit that the rise leaves."""
        rest = total - self.duration
        return dataclasses.replace(self, then=self.then.resolve(rest if rest > 0 else total))

    @property
    def watches(self) -> str | None:
        """What `then` watches."""
        return self.then.watches

    def after(self, values: Sequence[float]) -> float:
        """Return what `then` makes of the monitored values."""
        return self.then.after(values)


@dataclass(frozen=True)
class Plateau(Schedule):
    r"""Multiply by `factor` whenever a monitored value has stopped improving.

    Pure, like every schedule: `after` computes the factor from all values so far, so there is no state to
    save.  Calling it with a time gives 1.0.

    Parameters
    ----------
    monitor : str, default="val_loss"
        The column of the history to watch.
    factor : float, default=0.5
        In (0, 1).
    patience : int, default=5
        Epochs without improvement that are forgiven: the next one cuts the rate.  >= 0.
    min_delta : float, default=1e-4
        Absolute change that counts as an improvement; >= 0.
    min_factor : float, default=1e-4
        Lowest value of the factor, in [0, 1].
    mode : {"auto", "min", "max"}, default="auto"
        Whether small or large values are good; "auto" knows ``loss`` and the metrics of `xpnn.metrics`.
    unit : {"epoch", "step"}, default="epoch"
        Values come once per epoch; the unit changes nothing.

    Raises
    ------
    OptionError
        If a field is out of its range, or ``mode="auto"`` does not know `monitor`.

    Notes
    -----
    The rule of PyTorch's ``ReduceLROnPlateau`` with ``threshold_mode="abs"`` and no cooldown.  NaN is never
    an improvement.

    Examples
    --------
    >>> schedule = Plateau(patience=1)
    >>> [schedule.after([1.0, 0.5, 0.5, 0.5][:n]) for n in range(5)]
    [1.0, 1.0, 1.0, 1.0, 0.5]
    """

    monitor: str = "val_loss"
    factor: float = 0.5
    _: KW_ONLY
    patience: int = 5
    min_delta: float = 1e-4
    min_factor: float = 1e-4
    mode: Literal["auto", "min", "max"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._number("factor", 0, 1, bounds="()")
        self._number("patience", 0)
        self._number("min_delta", 0)
        self._number("min_factor", 0, 1)
        if self.patience != int(self.patience):
            raise OptionError(
                f"Plateau: expected patience to be a whole number, got {self.patience!r}. Round it to an integer."
            )
        object.__setattr__(self, "patience", int(self.patience))
        if self.mode not in ("auto", "min", "max"):
            raise OptionError(
                f"Plateau: expected mode 'auto', 'min' or 'max', got {self.mode!r}. Choose one of the three."
            )
        if self.mode == "auto":
            mode_of(self.monitor)

    def __call__(self, t: float) -> float:
        """Return 1.0: time alone changes nothing."""
        return 1.0

    @property
    def watches(self) -> str | None:
        """The monitored column."""
        return self.monitor

    def after(self, values: Sequence[float]) -> float:
        """Return the factor earned by the values so far.

        Parameters
        ----------
        values : sequence of float
            The monitored value of every epoch so far, oldest first.

        Returns
        -------
        float
            The factor for the next epoch.
        """
        mode = mode_of(self.monitor) if self.mode == "auto" else self.mode
        sign = 1.0 if mode == "min" else -1.0
        result, best, waited = 1.0, math.inf, 0
        for value in values:
            if sign * value < best - self.min_delta:
                best, waited = sign * value, 0
            else:
                waited += 1
            if waited > self.patience:
                result, waited = max(result * self.factor, float(self.min_factor)), 0
        return result

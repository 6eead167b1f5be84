r"""A step length that satisfies the strong Wolfe conditions.

The method is that of Moré and Thuente [1]_: bracket, interpolate by cubics and secants, and shrink the bracket,
until along the search direction, with :math:`\phi(a) = f(x + a d)`,

.. math:: \phi(a) \le \phi(0) + \mu\, a\, \phi'(0), \qquad |\phi'(a)| \le \eta\, |\phi'(0)|.

References
----------
.. [1] Moré and Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM TOMS 20, 1994.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Found", "Point", "wolfe_search"]

_FTOL, _GTOL, _XTOL = 1e-3, 0.9, 0.1  # mu, eta, and the relative width of a bracket that is narrow enough
_GROW_LEAST, _GROW_MOST = 1.1, 4.0  # where there is no bracket yet, the next step lies between these extrapolations
_SHRINK = 0.66
_LARGEST, _MAX_EVALS = 1e10, 20  # no step is longer, and no search tries more of them


class Point(NamedTuple):
    """A step length with the value and slope there."""

    step: float
    value: float
    slope: float


class Found(NamedTuple):
    """The last point that was evaluated, how many were, and whether it will do.

    It will if it satisfies both conditions, or the first where the bracket is too narrow to look for the second.
    """

    point: Point
    n_evals: int
    ok: bool


def wolfe_search(phi: Callable[[float], tuple[float, float]], start: Point, step: float) -> Found:
    """Find a step length along a descent direction; if none satisfies both conditions in time, the last one tried.

    `phi` returns value and slope at a step length; `start` is step 0, with a negative slope; `step` is tried first.

    Examples
    --------
    >>> found = wolfe_search(lambda a: ((a - 2) ** 2, 2 * (a - 2)), Point(0.0, 4.0, -4.0), 1.0)
    >>> found.ok, found.n_evals
    (True, 1)
    """
    test = _FTOL * start.slope
    best, other = start, start  # ends of the bracket; `best` has the smallest value so far
    bracketed, first_stage = False, True
    width, older_width = _LARGEST, 2.0 * _LARGEST
    low, high = 0.0, step + _GROW_MOST * step
    point = start
    for n_evals in range(1, _MAX_EVALS + 1):
        point = Point(step, *phi(step))
        goal = start.value + step * test
        if not math.isfinite(point.value):
            # A direction that leaves the function's domain: come back half the way.
            other, bracketed = point._replace(value=math.inf, slope=math.inf), True
            step = 0.5 * (best.step + step)
            low, high = best.step, other.step
            continue
        if point.value <= goal and abs(point.slope) <= _GTOL * -start.slope:
            return Found(point, n_evals, True)
        first_stage = first_stage and not (point.value <= goal and point.slope >= 0)
        narrow = bracketed and high - low <= _XTOL * high
        stuck = bracketed and (step <= low or step >= high)
        at_end = step >= _LARGEST and point.value <= goal and point.slope <= test
        if narrow or stuck or at_end:
            return Found(point, n_evals, point.value <= goal)

        # Until the slope turns, work on phi(a) - mu a phi'(0), whose minimizers satisfy the first condition.
        shift = test if first_stage and best.value >= point.value > goal else 0.0
        new_best, new_other, trial, bracketed = _next(
            _tilt(best, shift), _tilt(other, shift), _tilt(point, shift), low, high, bracketed
        )
        best, other = _tilt(new_best, -shift), _tilt(new_other, -shift)
        if bracketed:
            if math.isfinite(other.value) and abs(other.step - best.step) >= _SHRINK * older_width:
                trial = best.step + 0.5 * (other.step - best.step)
            older_width, width = width, abs(other.step - best.step)
            low, high = min(best.step, other.step), max(best.step, other.step)
        else:
            low = trial + _GROW_LEAST * (trial - best.step)
            high = trial + _GROW_MOST * (trial - best.step)
        step = min(max(trial, 0.0), _LARGEST)
        if bracketed and (step <= low or step >= high or high - low <= _XTOL * high):
            step = best.step
    return Found(point, _MAX_EVALS, False)


def _tilt(p: Point, shift: float) -> Point:
    return p._replace(value=p.value - p.step * shift, slope=p.slope - shift) if shift else p


def _next(
    best: Point, other: Point, p: Point, low: float, high: float, bracketed: bool
) -> tuple[Point, Point, float, bool]:
    """One safeguarded interpolation (Moré and Thuente, section 4): new bracket, new trial, whether bracketed."""
    opposite = p.slope * math.copysign(1.0, best.slope) < 0
    if p.value > best.value:  # 1: higher: a minimum lies between
        cubic, quadratic = _cubic(best, p), _quadratic(best, p)
        near = abs(cubic - best.step) < abs(quadratic - best.step)
        trial = cubic if near else cubic + (quadratic - cubic) / 2
        bracketed = True
    elif opposite:  # 2: lower, and the slope has turned
        cubic, secant = _cubic(p, best), _secant(p, best)
        trial = cubic if abs(cubic - p.step) > abs(secant - p.step) else secant
        bracketed = True
    elif abs(p.slope) < abs(best.slope):  # 3: lower, flatter: go on, but not too far
        cubic, secant = _cubic_beyond(best, p, low, high), _secant(p, best)
        if bracketed:
            trial = cubic if abs(cubic - p.step) < abs(secant - p.step) else secant
            limit = p.step + _SHRINK * (other.step - p.step)
            trial = min(limit, trial) if p.step > best.step else max(limit, trial)
        else:
            trial = cubic if abs(cubic - p.step) > abs(secant - p.step) else secant
            trial = min(max(trial, low), high)
    elif bracketed:  # 4: lower, no flatter, within a bracket
        trial = _cubic(p, other) if math.isfinite(other.value) else 0.5 * (p.step + other.step)
    else:  # 4: no bracket yet: extrapolate all the way
        trial = high if p.step > best.step else low
    if p.value > best.value:
        return best, p, trial, bracketed
    return p, best if opposite else other, trial, bracketed


def _cubic(a: Point, b: Point) -> float:
    """Minimizer of the cubic through values and slopes at `a` and `b`, seen from `a`."""
    theta = 3 * (a.value - b.value) / (b.step - a.step) + a.slope + b.slope
    size = max(abs(theta), abs(a.slope), abs(b.slope))
    root = size * math.sqrt(max((theta / size) ** 2 - (a.slope / size) * (b.slope / size), 0.0))
    root = math.copysign(root, b.step - a.step)
    share = (root - a.slope + theta) / ((root - a.slope) + root + b.slope)
    return a.step + share * (b.step - a.step)


def _cubic_beyond(best: Point, p: Point, low: float, high: float) -> float:
    """Minimizer of the cubic beyond `p`, or the limit if it has none there."""
    theta = 3 * (best.value - p.value) / (p.step - best.step) + best.slope + p.slope
    size = max(abs(theta), abs(best.slope), abs(p.slope))
    root = size * math.sqrt(max(0.0, (theta / size) ** 2 - (best.slope / size) * (p.slope / size)))
    root = -root if p.step > best.step else root
    share = ((root - p.slope) + theta) / ((root + (best.slope - p.slope)) + root)
    if share < 0 and root != 0:
        return p.step + share * (best.step - p.step)
    return high if p.step > best.step else low


def _quadratic(a: Point, b: Point) -> float:
    """Minimizer of the parabola through both values and the slope at `a`."""
    rate = (a.value - b.value) / (b.step - a.step) + a.slope
    return a.step + (a.slope / rate) / 2 * (b.step - a.step)


def _secant(a: Point, b: Point) -> float:
    """Zero of the line through both slopes."""
    return a.step + a.slope / (a.slope - b.slope) * (b.step - a.step)

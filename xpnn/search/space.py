"""Which configurations to try: every combination, or random draws."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arguments import check_seed, count, number
from ..errors import OptionError
from ..random import stream

__all__ = ["Choice", "Distribution", "IntUniform", "LogUniform", "Uniform", "grid", "random"]

Configuration = dict[str, Any]


class Distribution:
    """Base of all distributions: a subclass defines ``sample(rng)``."""

    def sample(self, rng: np.random.Generator) -> Any:
        """Return one value, as a plain Python number where it is one."""
        raise NotImplementedError(f"{type(self).__name__} does not define sample(rng)")


@dataclass(frozen=True)
class Uniform(Distribution):
    """Numbers between `low` and `high`, all equally likely.

    Parameters
    ----------
    low, high : float
        The ends, low < high.

    Examples
    --------
    >>> 0.0 <= Uniform(0.0, 0.5).sample(np.random.default_rng(0)) < 0.5
    True
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _ordered(self, number(self.low) < number(self.high), "finite numbers low < high", "Uniform(0.0, 0.5)")

    def sample(self, rng: np.random.Generator) -> float:
        """Return one number."""
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class LogUniform(Distribution):
    """Numbers between `low` and `high` whose logarithms are equally likely: for learning rates and strengths.

    Parameters
    ----------
    low, high : float
        The ends, 0 < low < high.

    Examples
    --------
    >>> 1e-4 <= LogUniform(1e-4, 1e-1).sample(np.random.default_rng(0)) < 1e-1
    True
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        ok = 0 < number(self.low) < number(self.high)
        _ordered(self, ok, "finite numbers 0 < low < high", "LogUniform(1e-4, 1e-1)")

    def sample(self, rng: np.random.Generator) -> float:
        """Return one number."""
        return float(np.exp(rng.uniform(math.log(self.low), math.log(self.high))))


@dataclass(frozen=True)
class IntUniform(Distribution):
    """Whole numbers from `low` to `high`, both included.

    Parameters
    ----------
    low, high : int
        The ends, low < high.
    log : bool, default=False
        Whether logarithms are equally likely, as suits widths and batch sizes; needs low >= 1.

    Examples
    --------
    >>> 8 <= IntUniform(8, 256, log=True).sample(np.random.default_rng(0)) <= 256
    True
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        whole = all(isinstance(end, int | np.integer) for end in (self.low, self.high))
        least = 1 if self.log else -math.inf
        expected = "whole numbers " + ("1 <= low < high" if self.log else "low < high")
        _ordered(self, whole and least <= self.low < self.high, expected, "IntUniform(8, 256)")

    def sample(self, rng: np.random.Generator) -> int:
        """Return one whole number."""
        if not self.log:
            return int(rng.integers(self.low, self.high, endpoint=True))
        drawn = np.exp(rng.uniform(math.log(self.low), math.log(self.high + 1)))
        return min(int(drawn), int(self.high))


@dataclass(frozen=True)
class Choice(Distribution):
    """One of some values, all equally likely; a plain list in a space means the same.

    Parameters
    ----------
    options : sequence
        The values, at least one.
    """

    options: Sequence[Any]

    def __post_init__(self) -> None:
        if not isinstance(self.options, Sequence) or isinstance(self.options, str) or not len(self.options):
            raise OptionError(f"Choice: expected a list of at least one value, got {self.options!r}. Try ['a', 'b'].")

    def sample(self, rng: np.random.Generator) -> Any:
        """Return one of the options."""
        return self.options[int(rng.integers(len(self.options)))]


def grid(space: Mapping[str, Any]) -> list[Configuration]:
    """Return every combination of the listed values.

    Parameters
    ----------
    space : dict of name to values
        A list, range or array holds the values to try; anything else (a number, a text, a tuple) is one value
        that all configurations have.

    Returns
    -------
    list of dict
        One for each combination; the last name varies fastest.  Lists of several grids can be added.

    Raises
    ------
    OptionError
        If a list is empty, or a value is a distribution.

    Examples
    --------
    >>> grid({"lr": [0.1, 0.01], "hidden": (16, 16)})
    [{'lr': 0.1, 'hidden': (16, 16)}, {'lr': 0.01, 'hidden': (16, 16)}]
    """
    levels = {}
    for name, values in _checked(space, "grid").items():
        if isinstance(values, Distribution):
            raise OptionError(
                f"search.grid: expected values of {name!r}, got {values}. List them, or draw with search.random."
            )
        levels[name] = _listed(values) or [values]
    return [dict(zip(levels, values, strict=True)) for values in itertools.product(*levels.values())]


def random(space: Mapping[str, Any], n: int, *, seed: int = 0) -> list[Configuration]:
    """Draw configurations independently [1]_.

    Where few of the options matter, `n` draws try `n` different values of each of those; a grid of the same size
    tries only a few.

    Parameters
    ----------
    space : dict of name to values
        A `Distribution`; a list, range or array to choose from; or one value that all configurations have.
    n : int
        How many to draw.  Equal draws, possible where there are only choices, are kept.
    seed : int, default=0
        Every value is a function of (seed, name, number of the draw): more draws continue the list, and another
        name in the space changes nothing for the others.

    Returns
    -------
    list of dict
        The configurations.

    Raises
    ------
    OptionError
        If `n` is no positive integer or a list is empty.

    References
    ----------
    .. [1] Bergstra and Bengio, "Random search for hyper-parameter optimization", JMLR 13, 2012.

    Examples
    --------
    >>> space = {"lr": LogUniform(1e-4, 1e-1), "width": [16, 32], "optimizer": "adam"}
    >>> few = random(space, 3, seed=0)
    >>> random(space, 5, seed=0)[:3] == few
    True
    """
    n = count(n, "search.random", "n")
    seed = check_seed(seed, "search.random")
    given = _checked(space, "random")
    options = {name: Choice(listed) if (listed := _listed(v)) else v for name, v in given.items()}
    return [
        {
            name: v.sample(stream(int(seed), f"search.{name}", i)) if isinstance(v, Distribution) else v
            for name, v in options.items()
        }
        for i in range(n)
    ]


def _checked(space: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if not isinstance(space, Mapping) or not space:
        raise OptionError(
            f"search.{where}: expected a dict of at least one name, got {space!r}. Try {{'lr': [0.01, 0.001]}}."
        )
    for name, values in space.items():
        if _listed(values) == []:
            raise OptionError(f"search.{where}: expected at least one value of {name!r}, got none. List some.")
    return space


def _listed(values: Any) -> list[Any] | None:
    """Return the values to try as plain Python ones; None if there is one value only."""
    if isinstance(values, np.ndarray):
        return list(np.atleast_1d(values).tolist())
    return list(values) if isinstance(values, list | range) else None


def _ordered(distribution: Uniform | LogUniform | IntUniform, ok: bool, expected: str, example: str) -> None:
    ends = distribution.low, distribution.high
    if not ok or not all(math.isfinite(end) for end in ends):
        raise OptionError(
            f"{type(distribution).__name__}: expected {expected}, got {ends[0]!r} and {ends[1]!r}. Try {example}."
        )

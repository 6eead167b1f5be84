"""How far a rate or a mean over some rows may be from that over new ones."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["chi_square", "difference_interval", "mean_interval", "more_than_chance", "wilson", "z_of"]


def z_of(comparisons: int = 1) -> float:
    """Return how many standard errors an interval of 95 % spans to either side; for so many intervals all together.

    The correction is Bonferroni's: each may be wrong in 5 % divided by their number.

    Examples
    --------
    >>> round(z_of(), 2), round(z_of(20), 2)
    (1.96, 3.02)
    """
    return NormalDist().inv_cdf(1 - 0.025 / max(comparisons, 1))


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    r"""Return the confidence interval of a share [1]_, of 95 % for z = 1.96.

    .. math:: \frac{p + z^2/2n \pm z \sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}

    References
    ----------
    .. [1] Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.

    Examples
    --------
    >>> [round(end, 3) for end in wilson(0.9, 100)]
    [0.826, 0.945]
    """
    middle, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max((middle - spread) / (1 + z * z / n), 0.0), min((middle + spread) / (1 + z * z / n), 1.0)


def mean_interval(values: npt.ArrayLike, z: float = 1.96) -> tuple[float, float]:
    r"""Return the confidence interval of a mean, :math:`\bar x \pm t s / \sqrt n`; of one value all numbers.

    Examples
    --------
    >>> [round(end, 2) for end in mean_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]
    [1.54, 5.46]
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return -math.inf, math.inf
    off = _student(z, len(x) - 1) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return float(x.mean()) - off, float(x.mean()) + off


def difference_interval(first: npt.ArrayLike, second: npt.ArrayLike, z: float = 1.96) -> tuple[float, float, float]:
    """Return the mean of first - second over the same rows, and its confidence interval.

    Examples
    --------
    >>> [round(x, 2) for x in difference_interval([1, 1, 1, 0, 1, 1], [0, 1, 0, 0, 1, 0])]
    [0.5, -0.07, 1.07]
    """
    gain = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return float(gain.mean()), *mean_interval(gain, z)


def more_than_chance(count: int, n: int, share: float, level: float = 1e-3) -> bool:
    r"""Return whether so many of n rows are too many for a rate, by Chernoff's bound.

    .. math:: P(X \ge k) \le e^{-n \, \mathrm{KL}(k/n \,\|\, p)}

    Examples
    --------
    >>> more_than_chance(1, 1, 0.01), more_than_chance(5, 100, 0.01), more_than_chance(9, 100, 0.01)
    (False, False, True)
    """
    seen = count / n
    if seen <= share or not count:
        return False
    if share <= 0:
        return True
    log_odds = seen * math.log(seen / share)
    if seen < 1:
        log_odds += (1 - seen) * math.log((1 - seen) / (1 - share))
    return n * log_odds > -math.log(level)


def chi_square(df: int, level: float) -> float:
    r"""Return what a sum of `df` squares of normal numbers exceeds with probability `level`.

    It is Wilson and Hilferty's approximation [1]_, within 2 % for levels from 10\ :sup:`-4` and df from 2.

    .. math:: k \left(1 - \frac{2}{9k} + z \sqrt{\frac{2}{9k}}\right)^3

    References
    ----------
    .. [1] Wilson, Hilferty, "The distribution of chi-square", PNAS 17, 1931.

    Examples
    --------
    >>> round(chi_square(9, 0.01), 2), round(chi_square(1, 0.05), 2)
    (21.7, 3.75)
    """
    off = 2 / (9 * df)
    return float(df * (1 - off + NormalDist().inv_cdf(1 - level) * math.sqrt(off)) ** 3)


def _student(z: float, df: int) -> float:
    """Return the quantile of Student's t where the normal law has z.

    The beginning of Fisher and Cornish's series; for five degrees of freedom it is 0.3 % too small at z = 2.
    """
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / df**k for k, term in enumerate(terms, start=1))

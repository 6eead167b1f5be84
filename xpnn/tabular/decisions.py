"""What is decided on held-out rows after training: how sure probabilities are."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["fit_temperature"]

_LEAST = 1e-12
_HOT, _STEPS = 8.0, 60
#: So many rows count against a change: of few rows a temperature is little more than noise.
_PRIOR = 50.0


def fit_temperature(probabilities: npt.NDArray[np.floating], codes: npt.NDArray[np.integer]) -> float:
    r"""Return the temperature that makes the cross-entropy of held-out rows least, drawn towards 1 where they are few.

    Probabilities become :math:`p_c^{1/T} / \sum_k p_k^{1/T}`.  1 is returned where no temperature is better.

    Examples
    --------
    >>> sure = np.tile([[0.99, 0.01]], (1000, 1))
    >>> fit_temperature(sure, (np.arange(1000) % 4 == 0).astype(int)) > 1
    True
    """
    logs = np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
    right = logs[np.arange(len(codes)), codes]

    def loss(slope: float) -> float:
        z = logs * slope
        top = z.max(axis=1)
        return float((top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - slope * right).mean())

    low, high = -math.log(_HOT), math.log(_HOT)
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(_STEPS):  # golden section: the loss is convex in the slope, and so has one least value
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(math.exp(a)) <= loss(math.exp(b)) else (a, high)
    slope = math.exp((low + high) / 2.0 * len(codes) / (len(codes) + _PRIOR))
    return 1.0 / slope if loss(slope) < loss(1.0) else 1.0

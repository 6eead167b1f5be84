r"""Prediction intervals around the answers of a network for numbers, with a coverage that held-out rows vouch for.

Split conformal prediction with normalised residuals [1]_: a small network :math:`\sigma(x)` tells how far the answers
of the training rows were off near `x`; of held-out rows, which trained neither network, the scores
:math:`s_i = |y_i - \hat y_i| / \sigma(x_i)` are kept.  The interval for coverage :math:`c` is

.. math:: \hat y \pm q\, \sigma(x), \qquad q = s_{(\lceil (n + 1) c \rceil)}

the score of that rank.  If the held-out rows and the new ones are exchangeable, the interval holds the truth with a
probability of at least `c`, whatever the networks are worth; a good :math:`\sigma` makes it short where that is due.

References
----------
.. [1] Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, "Distribution-Free Predictive Inference for Regression", Journal of
       the American Statistical Association 113, 2018, section 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .arguments import number
from .backend import Backend, to_numpy
from .checkpoint import build
from .data.encoded import EncodedRows
from .errors import OptionError
from .layers import Linear
from .model import Sequential
from .schema import ANY, expect

__all__ = ["Intervals", "one_output"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Intervals:
    """What turns answers into intervals: the network of the scale, and the scores of held-out rows.

    Examples
    --------
    >>> intervals = Intervals(None, np.arange(1.0, 20.0)[:, None], -1.0, 1.0)
    >>> intervals.half_widths(np.zeros((2, 3)), 0.9).tolist()
    [[18.0], [18.0]]
    """

    #: Gives the logarithm of the scale of each output; None for a scale of 1.
    scale: Sequential | None
    #: Scores of the held-out rows, each column ascending, of shape (n, k).
    scores: Floats
    #: Bounds of the logarithm: of what was seen in training.
    low: float
    high: float

    def scales(self, X: npt.ArrayLike | EncodedRows) -> Floats:
        """Return the scale for encoded rows, of shape (n, k)."""
        rows = X if isinstance(X, EncodedRows) else np.asarray(X)
        if self.scale is None:
            return np.ones((len(rows), self.scores.shape[1]))
        logs = to_numpy(self.scale.predict(rows)).astype(np.float64)
        made: Floats = np.exp(np.minimum(np.maximum(logs, self.low), self.high))
        return made

    def half_widths(self, X: npt.ArrayLike | EncodedRows, coverage: float) -> Floats:
        """Return half the width of the intervals for encoded rows, of shape (n, k), in the units of the scores.

        Raises
        ------
        OptionError
            If `coverage` is not between 0 and 1, or there are too few held-out rows to vouch for it.
        """
        return self.quantile(coverage) * self.scales(X)

    def quantile(self, coverage: float) -> Floats:
        """Return the score of rank ⌈(n + 1) · coverage⌉ of each output, of shape (k,)."""
        share, n = number(coverage), len(self.scores)
        if not 0.0 < share < 1.0:
            raise OptionError(f"predict_interval: expected 0 < coverage < 1, got {coverage!r}. 0.9 is usual.")
        rank = math.ceil((n + 1) * share - 1e-9)
        if rank > n:
            least = math.ceil(share / (1.0 - share) - 1e-9)
            raise OptionError(
                f"predict_interval: expected at least {least} held-out rows for coverage={share:g}, got {n}. Ask for "
                f"at most {n / (n + 1):.3g}, or train with more rows held out (validation_fraction)."
            )
        found: Floats = self.scores[rank - 1]
        return found

    def only(self, k: int) -> Intervals:
        """Return those of one output."""
        scale = None if self.scale is None else one_output(self.scale, k)
        return replace(self, scale=scale, scores=self.scores[:, k : k + 1])

    # -- files ----------------------------------------------------------------------------------------------
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays to keep, by name."""
        network = {} if self.scale is None else self.scale.state_dict()
        return {"scores": self.scores, **{f"scale.{name}": array for name, array in network.items()}}

    def to_dict(self) -> dict[str, Any]:
        """Return the rest, as JSON-able values."""
        network = None if self.scale is None else self.scale.config()
        return {"rows": len(self.scores), "low": self.low, "high": self.high, "scale": network}

    @classmethod
    def from_dict(
        cls, state: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]], *, backend: str | Backend, where: str
    ) -> Intervals:
        """Rebuild from `to_dict` and `tensors`; raises ValueError or FileFormatError if they do not go together."""
        expect(state, {"rows": int, "low": float, "high": float, "scale": (None, {str: ANY})})
        scores, rest = tensors["scores"], {k.removeprefix("scale."): a for k, a in tensors.items() if k != "scores"}
        if scores.dtype != np.float64 or scores.ndim != 2 or len(scores) != state["rows"] or not len(scores):
            raise ValueError(f"scores of {scores.dtype} and shape {scores.shape}")
        if not (np.isfinite(scores).all() and (scores >= 0).all() and (np.diff(scores, axis=0) >= 0).all()):
            raise ValueError("scores that are not finite and ascending")
        net = None if state["scale"] is None else build(state["scale"], rest, backend=backend, where=where)
        if net is not None and net.n_out != scores.shape[1]:
            raise ValueError(f"scores of {scores.shape[1]} outputs and a scale of {net.n_out}")
        return cls(net, scores, state["low"], state["high"])


def one_output(net: Sequential, k: int) -> Sequential:
    """Return a network with one of the outputs of another, whose last layer is linear.

    Examples
    --------
    >>> from xpnn import mlp
    >>> net, rows = mlp([3, 4, 2]), np.ones((5, 3), dtype="float32")
    >>> bool(np.allclose(one_output(net, 1).predict(rows), net.predict(rows)[:, 1:]))
    True
    """
    last = len(net.layers) - 1
    if not isinstance(net.layers[last], Linear):
        raise OptionError(f"expected a network that ends in a Linear, got one in {net.layers[last].label}.")
    config, state = net.config(), net.state_dict()
    config["layers"][last]["n_out"] = 1
    own = {name: array[..., k : k + 1] if name.startswith(f"{last}.") else array for name, array in state.items()}
    return build(config, own, backend=net.backend, where="one_output")

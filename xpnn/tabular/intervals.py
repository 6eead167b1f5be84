"""What makes intervals of a fit: a network for the scale of errors, and the scores of held-out rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..backend import Backend, to_numpy
from ..data.encoded import EncodedRows
from ..intervals import Intervals
from ..losses import MeanSquaredError
from ..model import Sequential, mlp
from ..optim import AdamW
from ..schedules import CosineDecay
from ..training import Trainer

__all__ = ["fit_intervals", "fit_scale"]

Floats = npt.NDArray[np.float64]

# Fewer rows teach no scale: all intervals are of one width then.
_LEAST_ROWS = 300
_STEPS, _BATCH = 600, 128
_EDGE = 0.02  # share of the training rows beyond which scales are cut off


def fit_intervals(
    X: npt.NDArray[Any] | EncodedRows,
    errors: Floats,
    X_held: npt.NDArray[Any] | EncodedRows,
    errors_held: Floats,
    *,
    seed: int = 0,
    backend: str | Backend = "numpy",
) -> Intervals:
    """Return intervals from the absolute errors of two sets of rows.

    Parameters
    ----------
    X, errors : arrays of shape (n, d) and (n, k)
        Rows that teach where errors are large.
    X_held, errors_held : arrays of shape (m, d) and (m, k)
        Rows that neither the answers nor the scale were trained on: they vouch for the coverage.
    seed : int, default=0
        Of the network of the scale.
    backend : str or Backend, default="numpy"
        Where that network lives.

    Examples
    --------
    >>> X = np.linspace(-1.0, 1.0, 400, dtype="float32")[:, None]
    >>> errors = np.abs(X.astype("float64")) * np.random.default_rng(0).exponential(size=(400, 1))
    >>> intervals = fit_intervals(X[::2], errors[::2], X[1::2], errors[1::2])
    >>> intervals.scores.shape
    (200, 1)
    """
    scale = None
    low = high = 0.0
    if len(X) >= _LEAST_ROWS:
        scale, low, high = fit_scale(X, errors, seed=seed, backend=backend)
    made = Intervals(scale, np.zeros((1, errors.shape[1])), low, high)
    scores = np.sort(errors_held / made.scales(X_held), axis=0)
    return Intervals(scale, scores, low, high)


def fit_scale(
    X: npt.NDArray[Any] | EncodedRows, errors: Floats, *, seed: int, backend: str | Backend
) -> tuple[Sequential, float, float]:
    r"""Return a network of :math:`\log \sigma(x)`, and the bounds of what it said of the training rows.

    It is trained by least squares on :math:`\log(|e| + \epsilon)`.
    """
    least = 0.05 * np.median(errors, axis=0) + 1e-12
    logs = np.log(errors + least)
    mean, spread = logs.mean(axis=0), logs.std() + 1e-12
    net = mlp([X.shape[1], 32, errors.shape[1]], "silu", backend=backend, seed=seed)
    epochs = int(min(max(_STEPS * _BATCH / len(X), 2), 30))
    trainer = Trainer(
        net, MeanSquaredError(), AdamW(0.005, weight_decay=0.1), schedule=CosineDecay(), metrics=(), seed=seed
    )
    trainer.fit(X, ((logs - mean) / spread).astype(np.float32), epochs=epochs, batch_size=min(_BATCH, len(X)))
    weight, bias = (net.params[f"{len(net.layers) - 1}.{name}"] for name in ("weight", "bias"))
    weight[...] = weight * float(spread)
    bias[...] = bias * float(spread) + net.backend.asarray(mean)
    said = to_numpy(net.predict(X)).astype(np.float64)
    low, high = np.quantile(said, [_EDGE, 1.0 - _EDGE])
    return net, float(low), float(high)

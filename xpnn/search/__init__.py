"""Search for good options: grids, random draws, successive halving.

Networks of one shape are trained together, on the replica axis, with their own learning rate, weight decay, dropout
and seed; the results are those of training each alone, on NumPy to the bit.

Examples
--------
>>> import xpnn
>>> from xpnn.search import Halving, LogUniform, random, run
>>> X, y = xpnn.data.make_moons(300, noise=0.2, seed=0)
>>> space = {"lr": LogUniform(1e-4, 1e-1), "width": [8, 32], "dropout": [0.0, 0.3]}
>>> result = run(random(space, 9), X, y, loss=xpnn.CrossEntropy(), epochs=9, halving=Halving(eta=3))
>>> [row["epochs"] for row in result.rows].count(1), result.best.epochs
(6, 9)
"""

from .halving import Halving
from .result import SearchResult, Trial
from .run import run
from .space import Choice, Distribution, IntUniform, LogUniform, Uniform, grid, random

__all__ = [
    "Choice",
    "Distribution",
    "Halving",
    "IntUniform",
    "LogUniform",
    "SearchResult",
    "Trial",
    "Uniform",
    "grid",
    "random",
    "run",
]

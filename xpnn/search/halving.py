"""Few epochs for all, many for the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..arguments import count, number
from ..errors import OptionError

__all__ = ["Halving"]


@dataclass(frozen=True)
class Halving:
    r"""Successive halving [1]_: train all for some epochs, keep the best part, and go on with that.

    At rung `k` each network has trained for :math:`r_k = \min(r_0 \eta^k, R)` epochs in all, where :math:`R` is the
    search's ``epochs``, and of :math:`n` networks the best :math:`\lfloor n / \eta^{k+1} \rfloor`, at least one, go
    on.  The survivors continue where they stood.  They are ranked by their best epoch so far.

    Parameters
    ----------
    min_epochs : int, default=1
        Epochs :math:`r_0` of the first rung.
    eta : float, default=3.0
        The factor η > 1: epochs are multiplied, and networks divided, by it from rung to rung.

    References
    ----------
    .. [1] Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
       AISTATS 2016, algorithm 1: here with the epochs of a rung given, where the paper divides a budget, and by η in
       place of 2.

    Examples
    --------
    >>> Halving(min_epochs=1, eta=3).rungs(27, epochs=27)
    [(27, 1), (9, 3), (3, 9), (1, 27)]
    """

    min_epochs: int = 1
    eta: float = 3.0

    def __post_init__(self) -> None:
        count(self.min_epochs, "Halving", "min_epochs")
        if not 1 < number(self.eta) < math.inf:
            raise OptionError(f"Halving: expected eta > 1, got {self.eta!r}. Try 3.")

    def rungs(self, n: int, epochs: int) -> list[tuple[int, int]]:
        """Return (networks, epochs that they have trained for in all) of each rung.

        Parameters
        ----------
        n : int
            Networks at the beginning.
        epochs : int
            Epochs of the last rung, at least `min_epochs`.
        """
        if epochs < self.min_epochs:
            raise OptionError(
                f"Halving: expected epochs >= min_epochs={self.min_epochs}, got {epochs}. Search for more epochs."
            )
        found: list[tuple[int, int]] = []
        k = 0
        while not found or found[-1][1] < epochs:
            reached = round(min(self.min_epochs * self.eta**k, epochs))
            left = max(math.floor(n / self.eta**k + 1e-9), 1)
            if not found or reached > found[-1][1]:  # with a small eta a rung may be less than an epoch above
                found.append((left, reached))
            k += 1
        return found

"""The contract of an optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._typing import Array
from ..arguments import number
from ..backend import to_numpy
from ..errors import OptionError
from ..params import ParamStore

__all__ = ["Optimizer"]

Number = Any  # a Python float; for replicas with rates of their own, a NumPy array of shape (K, 1)


class Optimizer:
    r"""A rule that moves all parameters of a store in one go.

    A step has two halves.  `numbers` is host arithmetic: everything that changes from step to step (learning
    rate, bias corrections) as plain numbers, computed for as many steps ahead as one likes.  `update` is array
    work alone, in place on flat buffers, with no host synchronization.  `step` does one after the other.

    A rule of one's own defines `rule`, and `scalars` where it needs more than the learning rate.

    Parameters
    ----------
    lr : float or sequence of float
        Learning rate; a sequence gives each replica its own.
    weight_decay : float, default=0.0
        Strength of the decay of weights (biases and norms are never decayed).  Coupled: :math:`\lambda p` is
        added to the gradient, as in PyTorch; classes marked decoupled shrink the weights by
        :math:`1 - \eta\lambda` instead.

    Attributes
    ----------
    state : dict of str to array
        Flat arrays like the parameters, by name; made at the first step.
    t : int
        Number of steps made.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    decoupled: ClassVar[bool] = False

    def __init__(self, lr: float | Sequence[float], *, weight_decay: float = 0.0) -> None:
        given = lr if isinstance(lr, Sequence | np.ndarray) else [lr]
        try:
            rates = [float(r) for r in given]
        except (TypeError, ValueError):
            rates = []
        if not rates or not all(0 <= r < float("inf") for r in rates):
            raise OptionError(f"{type(self).__name__}: expected lr >= 0 and finite, got {lr!r}. Try lr=0.001.")
        if not 0 <= number(weight_decay) < float("inf"):
            raise OptionError(f"{type(self).__name__}: expected weight_decay >= 0, got {weight_decay!r}. Try 0.01.")
        self.lr: float | list[float] = rates if given is lr else rates[0]
        self.weight_decay = float(weight_decay)
        self.state: dict[str, Array] = {}
        self.t = 0
        self._store: ParamStore | None = None

    # -- what a rule defines --------------------------------------------------------------------------------
    def scalars(self, t: int, lr: Number) -> tuple[Number, ...]:
        """Return the numbers of step `t` (from 1) at learning rate `lr`: host arithmetic only."""
        return (lr,)

    def rule(self, store: ParamStore, scalars: Sequence[Number]) -> None:
        """Move ``store.values`` by ``store.grads`` in place."""
        raise NotImplementedError

    # -- what all share -------------------------------------------------------------------------------------
    def rate(self, factor: float = 1.0) -> Number:
        """Return the learning rate times a schedule's `factor`; (K, 1) where replicas have their own."""
        factor = float(factor)  # a NumPy scalar would turn float32 arrays into float64
        if isinstance(self.lr, list):
            return np.asarray(self.lr)[:, None] * factor
        return self.lr * factor

    def bind(self, store: ParamStore) -> None:
        """Make the state for `store`, once."""
        if self._store is store:
            return
        if self._store is not None:
            raise OptionError(
                f"{type(self).__name__}: expected the network it began with, got another: its state belongs to "
                "that one. Make a new optimizer, or call reset()."
            )
        if isinstance(self.lr, list) and store.replicas != (len(self.lr),):
            raise OptionError(
                f"{type(self).__name__}: got {len(self.lr)} learning rates for {store.replicas or 'no'} replicas. "
                "Pass one rate, or one for each replica."
            )
        self._store = store
        if self.state:  # from a pickle
            self.state = {name: store.backend.copy(array) for name, array in self.state.items()}
        else:
            self.state = {name: store.zeros() for name in self.slots}

    def reset(self) -> None:
        """Forget state, step count and store."""
        self.state, self.t, self._store = {}, 0, None

    def __getstate__(self) -> dict[str, Any]:
        # The store is left behind, the state goes along on the host; `bind` takes it up again.
        state = {name: np.array(to_numpy(array)) for name, array in self.state.items()}
        return {**vars(self), "state": state, "_store": None}

    def numbers(self, t: int, factor: float = 1.0) -> tuple[Number, ...]:
        """Return everything that step `t` (from 1) needs beside arrays, for `update`.

        Pure, so a table for many steps can be filled ahead.  Rates that differ between replicas come as arrays
        on the device.
        """
        lr = self.rate(factor)
        numbers = (*self.scalars(t, lr), 1.0 - lr * self.weight_decay)
        if isinstance(self.lr, list) and self._store is not None:
            backend = self._store.backend
            return tuple(backend.asarray(n) if isinstance(n, np.ndarray) else n for n in numbers)
        return numbers

    def update(self, store: ParamStore, numbers: Sequence[Number]) -> None:
        """Apply weight decay and the rule in place, array work alone, and count the step."""
        *scalars, shrink = numbers
        if self.weight_decay:
            self._decay(store, shrink)
        self.rule(store, scalars)
        self.t += 1

    def step(self, store: ParamStore, *, factor: float = 1.0) -> None:
        """Make one step.

        Parameters
        ----------
        store : ParamStore
            Its `grads` are read and may be changed; its `values` move in place.
        factor : float, default=1.0
            A schedule's factor on the learning rate.
        """
        self.bind(store)
        self.update(store, self.numbers(self.t + 1, factor))

    def _decay(self, store: ParamStore, shrink: Number) -> None:
        weights = store.values[..., : store.n_decay]
        factors = store.decay_factors
        if self.decoupled:
            if factors is not None or store.lr_factors is not None:
                one_minus = 1.0 - shrink
                reach = one_minus if factors is None else factors * one_minus
                if store.lr_factors is not None:
                    reach = reach * store.lr_factors[: store.n_decay]
                weights *= 1.0 - reach
            else:
                weights *= shrink
            return
        pull = weights * self.weight_decay
        if factors is not None:
            pull *= factors
        grads = store.grads[..., : store.n_decay]
        grads += pull

    def __repr__(self) -> str:
        shown = {k: v for k, v in vars(self).items() if not k.startswith("_") and k not in ("state", "t")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


def scaled(store: ParamStore, move: Array) -> Array:
    """Apply the parameters' own learning-rate factors to a move, in place."""
    if store.lr_factors is not None:
        move *= store.lr_factors
    return move


def in_unit_interval(where: str, **values: float) -> None:
    """Raise OptionError unless each value lies in [0, 1)."""
    for name, value in values.items():
        if not 0 <= number(value) < 1:
            raise OptionError(f"{where}: expected 0 <= {name} < 1, got {value!r}. Try 0.9.")

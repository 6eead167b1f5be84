"""The contract of an optimizer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from .._typing import Array, Shape
from ..arguments import number, one_or_each, shown
from ..backend import to_numpy
from ..contract import check_call, foreign
from ..errors import FileFormatError, MissingMethodError, OptionError
from ..ops import Clip, Decay, Update
from ..params import ParamStore
from ..recordable import Recordable, foreign_method

__all__ = ["Optimizer"]

Rate = float | Sequence[float]
# A Python float; a NumPy array for replicas with rates of their own, (K, 1), and for many steps, (steps,).
Number = Any


class Optimizer(Recordable):
    r"""A rule that moves all parameters of a store in one go.

    A step has two halves.  `numbers` is host arithmetic: everything that changes from step to step (learning
    rate, bias corrections) as plain numbers, computed for as many steps ahead as one likes.  `update` is array
    work alone, in place on flat buffers, with no host synchronization.  `step` does one after the other.

    A rule of one's own defines `rule`, and `scalars` where it needs more than the learning rate.

    Parameters
    ----------
    lr : float or sequence of float
        Learning rate; a sequence gives each replica its own.
    weight_decay : float or sequence of float, default=0.0
        Strength of the decay of weights (biases and norms are never decayed); a sequence gives each replica its
        own.  Coupled: :math:`\lambda p` is added to the gradient, as in PyTorch; classes marked decoupled shrink
        the weights by :math:`1 - \eta\lambda` instead.

    Attributes
    ----------
    state : dict of str to array
        Flat arrays like the parameters, by name; made at the first step.
    t : int
        Number of steps made.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    momenta: ClassVar[tuple[str, ...]] = ("m", "velocity")  # those of them that fade, where there are any
    decoupled: ClassVar[bool] = False
    _many: ClassVar[bool] = True  # whether `scalars`, if it is xpnn's, takes many steps at once
    _fused = False  # whether `_move` is all that a step does with arrays

    def __init__(self, lr: Rate, *, weight_decay: Rate = 0.0) -> None:
        self.lr, self.weight_decay = one_or_each(lr), one_or_each(weight_decay)
        for name, own, given, hint in (
            ("lr >= 0 and finite", self.lr, lr, "lr=0.001"),
            ("weight_decay >= 0", self.weight_decay, weight_decay, "0.01"),
        ):
            numbers = own if isinstance(own, list) else [own]
            if not numbers or not all(0 <= n < float("inf") for n in numbers):
                raise OptionError(f"{type(self).__name__}: expected {name}, got {shown(given)}. Try {hint}.")
        self.state: dict[str, Array] = {}
        self.t = 0
        self._store: ParamStore | None = None

    # -- what a rule defines --------------------------------------------------------------------------------
    def scalars(self, t: Any, lr: Number) -> tuple[Number, ...]:
        """Return the numbers of step `t` (from 1) at learning rate `lr`: host arithmetic only.

        Those of xpnn's own rules take arrays of many steps and their rates, too.
        """
        return (lr,)

    def rule(self, store: ParamStore, scalars: Sequence[Number]) -> None:
        """Move ``store.values`` by ``store.grads`` in place."""
        self._move(store, Update(store.values, store.grads, store.lr_factors), scalars)

    def _move(self, store: ParamStore, update: Update, scalars: Sequence[Number]) -> None:
        """Do an update, of a rule that one operation of `xpnn.ops` does with clipping and decay."""
        raise MissingMethodError(
            f"{type(self).__name__}: expected an optimizer with a rule, got none. Define rule(store, scalars), which "
            "moves store.values by store.grads in place."
        )

    # -- what all share -------------------------------------------------------------------------------------
    def rate(self, factor: float = 1.0) -> Number:
        """Return the learning rate times a schedule's `factor`; (K, 1) where replicas have their own."""
        return per_replica(self.lr) * float(factor)  # a NumPy scalar would turn float32 arrays into float64

    def bind(self, store: ParamStore) -> None:
        """Make the state for `store`, once."""
        if "state" not in vars(self):
            raise OptionError(
                f"{type(self).__name__}: expected an optimizer that has a learning rate and a state, got none. Call "
                "super().__init__(lr) in its __init__."
            )
        if self._store is store:
            return
        if foreign(self):
            check_call(self.rule, f"{type(self).__name__}.rule", "store", "scalars")
            check_call(self.scalars, f"{type(self).__name__}.scalars", "t", "lr")
        if self._store is not None:
            raise OptionError(
                f"{type(self).__name__}: expected the network it began with, got another: its state belongs to "
                "that one. Make a new optimizer, or call reset()."
            )
        for what, own in (("learning rates", self.lr), ("weight decays", self.weight_decay)):
            if isinstance(own, list) and store.replicas != (len(own),):
                raise OptionError(
                    f"{type(self).__name__}: got {len(own)} {what} for {store.replicas or 'no'} replicas. "
                    "Pass one rate, or one for each replica."
                )
        # A class with one of these of its own has it called, after clipping and decay.
        parts = (getattr(getattr(self, name), "__func__", None) for name in ("rule", "update", "_decay"))
        self._fused = tuple(parts) == (Optimizer.rule, Optimizer.update, Optimizer._decay)
        if self.state:  # from a pickle
            self.state = {name: store.backend.copy(array) for name, array in self.state.items()}
        else:
            self.state = {name: store.zeros() for name in self.slots}
        self._store = store  # last: an interrupt before leaves an optimizer that is bound anew

    def resume(self, store: ParamStore, state: dict[str, np.ndarray], t: int) -> None:
        """Take up the `state` that an earlier run had after `t` steps, on the host, for the store it belongs to.

        Raises FileFormatError if it is not what this optimizer keeps for such a store: other names or shapes.
        """
        self.bind(store)
        expected = {name: tuple(array.shape) for name, array in self.state.items()}
        self.reset()
        if state or t:
            self._check_state(store, expected, {n: a.shape for n, a in state.items() if a.dtype.kind == "f"})
        self.state, self.t = dict(state), t

    def _check_state(self, store: ParamStore, expected: dict[str, Shape], given: dict[str, Shape]) -> None:
        # A rule of somebody's own may add to its state as it goes.
        if given != expected and not (foreign(self) and given.items() >= expected.items()):
            raise FileFormatError(
                f"{type(self).__name__}: expected a state of {_shapes(expected)}, got {_shapes(given)}. "
                "The file is damaged, or of another version: begin the training anew."
            )

    def settle(self) -> None:
        """Set momenta to zero that have faded to almost nothing; `Trainer` does so after each epoch.

        The momentum of a unit that gets no gradient any more is multiplied by β at every step.  After some hundred
        steps it would be a subnormal number, and stay one for good: processors take several times longer for
        those, and with many dead units the whole update did.  What is set to zero, below 2⁴⁰ times the smallest
        normal number (1.3e-26 in float32), moves no weight.
        """
        for name in self.momenta:
            if name in self.state and self._store is not None:
                xp, array = self._store.backend.xp, self.state[name]
                least = float(xp.finfo(array.dtype).smallest_normal) * 2.0**40
                array *= xp.astype(xp.abs(array) > least, array.dtype)

    def reset(self) -> None:
        """Forget state, step count and store."""
        self.state, self.t, self._store = {}, 0, None

    def __getstate__(self) -> dict[str, Any]:
        # The store is left behind, the state goes along on the host; `bind` takes it up again.
        state = {name: np.array(to_numpy(array)) for name, array in self.state.items()}
        return {**vars(self), "state": state, "_store": None}

    def numbers(self, t: int, factor: float = 1.0, decay_factor: float = 1.0) -> tuple[Number, ...]:
        """Return everything that step `t` (from 1) needs beside arrays, for `update`.

        The factors are those of schedules, on the learning rate and on the weight decay.  Pure, so a table for many
        steps can be filled ahead.  Rates that differ between replicas come as arrays on the device.
        """
        lr = self.rate(factor)
        decay = per_replica(self.weight_decay) * float(decay_factor)
        numbers = (*self.scalars(t, lr), *self._strengths(lr, decay))
        if self._store is not None and (isinstance(self.lr, list) or isinstance(self.weight_decay, list)):
            backend = self._store.backend
            return tuple(backend.asarray(n) if isinstance(n, np.ndarray) else n for n in numbers)
        return numbers

    def table(
        self, first: int, factors: Sequence[float], decay_factors: Sequence[float] | None = None
    ) -> list[tuple[Number, ...]]:
        """Return the `numbers` of steps one after the other, from step `first` on: the same bits, by arrays."""
        by_arrays = self._many and isinstance(self.lr, float) and isinstance(self.weight_decay, float)
        if not by_arrays or foreign_method(self, ("numbers", "rate", "scalars", "_strengths")) is not None:
            both = zip(factors) if decay_factors is None else zip(factors, decay_factors, strict=True)
            return [self.numbers(t, *own) for t, own in enumerate(both, first)]
        lr, decay = per_replica(self.lr) * np.asarray(factors, np.float64), per_replica(self.weight_decay)
        if decay_factors is not None:
            decay = decay * np.asarray(decay_factors, np.float64)
        columns = (*self.scalars(np.arange(first, first + len(lr)), lr), *self._strengths(lr, decay))
        lists = (itertools.repeat(n) if isinstance(n, float) else n.tolist() for n in columns)
        return list(zip(*lists, strict=False))

    def _strengths(self, lr: Number, decay: Number) -> tuple[Number, ...]:
        """Return the numbers of a weight decay at this learning rate; `update` decays by the last of them."""
        if not self.decoupled:
            return (decay,)
        return (lr * decay if self._per_parameter() else 1.0 - lr * decay,)

    def update(self, store: ParamStore, numbers: Sequence[Number]) -> None:
        """Apply weight decay and the rule in place, array work alone, and count the step."""
        if self._fused:
            self._fused_update(store, numbers, None)
            return
        *scalars, strength = numbers
        if self.weight_decay:
            self._decay(store, strength)
        rule: Callable[..., object] = self.rule
        values = store.values
        if rule(store, scalars) is not None or store.values is not values:
            store.values = values
            raise OptionError(
                f"{type(self).__name__}.rule: expected it to move store.values in place and to return nothing, got a "
                "new array. Write store.values -= ..., or store.values[...] = ..."
            )
        self.t += 1

    def clipped_update(self, store: ParamStore, numbers: Sequence[Number], clip: Clip) -> None:
        """Clip the gradients by their norm and `update`, as one where an operation does both."""
        if self._fused:
            self._fused_update(store, numbers, clip)
            return
        store.backend.ops.clip_norm(store.grads, clip.norm, clip.largest)
        self.update(store, numbers)

    def _fused_update(self, store: ParamStore, numbers: Sequence[Number], clip: Clip | None) -> None:
        *scalars, strength = numbers
        decay = self._decay_by(store, strength) if self.weight_decay else None
        self._move(store, Update(store.values, store.grads, store.lr_factors, decay, clip), scalars)
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
        if not isinstance(store, ParamStore):
            raise OptionError(
                f"{type(self).__name__}.step: expected the store of a network, got {shown(store)}. "
                "Write optimizer.step(net.store)."
            )
        with store.backend.active():
            self.bind(store)
            self.update(store, self.numbers(self.t + 1, factor))

    def _per_parameter(self) -> bool:
        """Whether parameters have factors of their own, so that decay shrinks not all alike."""
        store = self._store
        return store is not None and (store.decay_factors is not None or store.lr_factors is not None)

    def _decay_by(self, store: ParamStore, strength: Number) -> Decay:
        return Decay(self.decoupled, store.n_decay, strength, store.decay_factors)

    def _decay(self, store: ParamStore, strength: Number) -> None:
        """Apply weight decay by the last of the numbers."""
        store.backend.ops.decay_weights(store.values, store.grads, self._decay_by(store, strength), store.lr_factors)

    def __repr__(self) -> str:
        options = {k: v for k, v in vars(self).items() if not k.startswith("_") and k not in ("state", "t")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in options.items())})"


def per_replica(value: float | list[float]) -> Number:
    """Return a number as it is, and those of several replicas as (K, 1)."""
    return np.asarray(value)[:, None] if isinstance(value, list) else value


def power(base: float, t: Any) -> Number:
    """Return a power, for an array of exponents of each: Python's, for NumPy's own differ in the last bit."""
    return np.asarray([base**k for k in t.tolist()]) if isinstance(t, np.ndarray) else base**t


def root(x: Number) -> Number:
    """Return the square root, which NumPy and Python round alike; of a float as a float."""
    return math.sqrt(x) if isinstance(x, float) else np.sqrt(x)


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


def positive_eps(where: str, eps: float) -> float:
    """Return `eps` as Python's float, or raise OptionError."""
    if not 0 < number(eps) < float("inf"):
        raise OptionError(f"{where}: expected eps > 0, got {eps!r}. Try eps=1e-8.")
    return float(eps)


def _shapes(arrays: dict[str, Shape]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in sorted(arrays.items())[:10]) or "no arrays"

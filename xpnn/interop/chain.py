"""A chain of layers, as it is read layer by layer from another library's model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..backend import Backend
from ..errors import OptionError
from ..layers import Embedding, Layer
from ..model import Sequential

__all__ = ["Chain", "ChainReader", "Part", "State", "joined", "single_network"]

#: Values by name, as a `Sequential.state_dict` has them.
State = Mapping[str, np.ndarray]
_NONE: State = MappingProxyType({})
#: Floating dtypes of other libraries, and what they become here.
_DTYPES = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}


class Part(NamedTuple):
    """A layer, its values by their local names, and the width of its input where that is known."""

    layer: Layer
    state: State = _NONE
    n_in: int | None = None


class Chain:
    """Collects the parts of a network in their order, and finds out how many features go in.

    Parameters
    ----------
    where : str
        Who reads, for messages.
    trains : bool
        Whether the model has anything to train.  Where it has not, it is there to predict, and what makes a difference
        in training alone is no reason to refuse it.
    """

    def __init__(self, where: str, trains: bool) -> None:
        self.where, self.trains = where, trains
        self.parts: list[Part] = []
        self.n_in: int | None = None
        self.flattened = False

    def add(self, part: Part) -> None:
        """Put a part at the end."""
        if isinstance(part.layer, Embedding) and self.parts:
            raise OptionError(
                f"{self.where}: expected an Embedding as the first layer, got one in place {len(self.parts)}. Only the "
                "first layer of a network takes category numbers."
            )
        self.parts.append(part)
        if self.n_in is None and part.n_in is not None:
            self.n_in = self._columns_for(part.n_in)

    def flatten(self) -> None:
        """Note that each sample becomes one row: rows are flat already, but embedded columns lie side by side."""
        self.flattened = True

    def width(self, n_in: int | None) -> int:
        """Return how many features go out, of `n_in` where no part says how many go in; 0 where nobody knows."""
        width = self.n_in or n_in or 0
        for part in self.parts:
            width = part.layer.out_size(width)
        return width

    def _columns_for(self, width: int) -> int:
        """Return how many columns go in, if the first layer of known width takes `width` features."""
        first = self.parts[0].layer
        if not isinstance(first, Embedding) or len(self.parts) == 1:
            return width
        if width % first.dim or not (self.flattened or width == first.dim):
            raise OptionError(
                f"{self.where}: expected vectors of {first.dim} features from the Embedding, side by side, got a layer "
                f"of {width} features behind it. Put a Flatten between the two."
            )
        return width // first.dim

    def build(self, n_in: int | None, backend: str | Backend, dtype: str | None) -> Sequential:
        """Make the network; `n_in` where the parts do not say it."""
        if not self.parts:
            raise OptionError(f"{self.where}: expected a model with at least one layer, got an empty one. Add layers.")
        if self.n_in is None and isinstance(self.parts[0].layer, Embedding) and not self.flattened:
            self.n_in = 1
        if n_in is None and self.n_in is None:
            raise OptionError(
                f"{self.where}: expected a layer that says how many features go in, got activations alone. "
                "Pass n_in=, the number of features."
            )
        layers, state = joined(self.parts)
        chosen = n_in if self.n_in is None else self.n_in
        if n_in not in (None, chosen):
            raise OptionError(
                f"{self.where}: got n_in={n_in!r}, but the model takes {chosen} features. Leave n_in away."
            )
        return Sequential.from_state(layers, state, n_in=int(chosen or 0), backend=backend, dtype=dtype)


class ChainReader:
    """What reads layers of another library into a chain, and refuses those that have no counterpart."""

    chain: Chain
    #: What to do where the network will only predict.
    to_predict: ClassVar[str]

    def common_dtype(self, given: Set[str], what: str, cure: str) -> str:
        """Return the name of the dtype here for values of the dtypes that are `given`, which must be one."""
        if len(given) > 1 or not given <= _DTYPES.keys():
            raise OptionError(
                f"{self.chain.where}: expected {what} of one floating dtype, got {', '.join(sorted(given))}. {cure}"
            )
        return _DTYPES[next(iter(given), "float32")]

    def refusal(self, label: str, expected: str, got: Any, cure: str) -> OptionError:
        """Return an error of a layer."""
        return OptionError(f"{self.chain.where}: {label}: expected {expected}, got {got}. {cure}")

    def require(
        self, condition: bool, label: str, expected: str, got: Any, cure: str, *, training: bool = False
    ) -> None:
        """Raise unless a condition holds; of a condition for `training`, only where something is trained."""
        if condition or (training and not self.chain.trains):
            return
        if training:
            cure += f" If the network will only predict, {self.to_predict}."
        raise self.refusal(label, expected, got, cure)


def joined(parts: Iterable[Part]) -> tuple[tuple[Layer, ...], dict[str, Any]]:
    """Return the layers of some parts, and all values under the names of a chain: ``"0.weight"``."""
    found = list(parts)
    state = {f"{j}.{name}": value for j, part in enumerate(found) for name, value in part.state.items()}
    return tuple(part.layer for part in found), state


def single_network(model: Any, where: str) -> Sequential:
    """Return a network that another library can hold as one of its models, or raise OptionError."""
    if not isinstance(model, Sequential):
        held = next((name for name in ("net", "net_") if isinstance(getattr(model, name, None), Sequential)), None)
        hint = "Pass the Sequential itself."
        if held:
            hint = f"Its .{held}.{where}() has the network alone, without what stands before and behind it."
        raise OptionError(f"{where}: expected a network, got {type(model).__name__}. {hint}")
    if model.store.replicas:
        raise OptionError(
            f"{where}: expected one network, got {model.store.replicas[0]} replicas. Take one: load its part of each "
            "array of state_dict() into a network of one seed."
        )
    return model

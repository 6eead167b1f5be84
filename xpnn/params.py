"""One flat buffer for all parameters, one for all gradients.

A `ParamStore` lays every parameter of a network into one contiguous array, so that an optimizer step, a
clipping, an average, a snapshot or a comparison is one operation, whatever the number of layers.  Layers hold
reshaped views.  A network of K replicas has buffers of shape ``(K, n)``.

Decayed parameters (weights) come first, so weight decay acts on a prefix and needs no mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from ._typing import Array, Shape
from .backend import Backend, on_device
from .errors import BackendUnavailableError, FileFormatError, OptionError, ShapeError
from .initializers import Initializer
from .random import stream

__all__ = ["BufferSpec", "ParamSpec", "ParamStore", "Snapshot", "check_state"]

_ALIGN = 16  # elements: each parameter starts on a 64-byte line in float32, and in float64 too


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """What a layer asks the store for."""

    #: Local name, such as ``"weight"``; a network prefixes it with the layer's number.
    name: str
    #: ``(n_in, n_out)`` or ``(n,)``, without replica axes.
    shape: Shape
    #: Drawn on the host, in the order of declaration.
    init: Initializer
    #: Whether weight decay and regularizers act on it.
    decay: bool
    #: Factors on the optimizer's learning rate and weight decay.
    lr_mult: float = 1.0
    decay_mult: float = 1.0


@dataclass(frozen=True, slots=True)
class BufferSpec:
    """State that is not trained, such as running statistics: a name, a shape and the value to begin with."""

    name: str
    shape: Shape
    fill: float


class Snapshot(NamedTuple):
    """Copies of the flat values and buffers at one moment."""

    values: Array
    buffers: Array


class Views(dict[str, Array]):
    """Views into one flat buffer, by name: they are written into, and no other array can take the place of one.

    Raises
    ------
    OptionError
        If one is replaced, which would change nothing.

    Examples
    --------
    >>> import xpnn
    >>> net = xpnn.mlp([1, 1], init="zeros")
    >>> net.params["0.weight"][...] = 2.0
    >>> net.params["0.bias"] += 1.0
    >>> net.predict([[3.0]]).tolist()
    [[7.0]]
    """

    def __setitem__(self, name: str, value: Array) -> None:
        if self.get(name) is not value:  # as it is after += and the like
            raise OptionError(
                f"params: expected numbers written into the array of {name!r}, got another array for its name, which "
                f"the network would not see. Write net.params[{name!r}][...] = values."
            )

    def update(self, *given: Any, **named: Array) -> None:
        """Refuse other arrays, which `dict.update` would put in place without a word."""
        for name, value in dict(*given, **named).items():
            self[name] = value

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class ParamStore:
    """Flat values, gradients and buffers of one network, with named views.

    It is made of specs in the order of the network, under their full names (``"0.weight"``), and of a seed for each
    replica, or the one of a single network; `replicated` says whether there is a replica axis, and `draw` whether
    values and buffers begin as the specs say, or as zeros that somebody else fills.

    Attributes
    ----------
    values, grads : arrays of shape (n,) or (K, n)
        The flat buffers.  `n` counts the padding between parameters, which stays zero.
    buffers : array of shape (n_buffers,) or (K, n_buffers)
        State that is not trained.
    n_params : int
        Number of parameters of one replica, without padding.
    n_decay : int
        ``values[..., :n_decay]`` are the decayed parameters.
    lr_factors : array of shape (n,) or None
        Learning-rate factors; None where all are 1.
    decay_factors : array of shape (n_decay,) or None
        Decay factors; None where all are 1.

    Examples
    --------
    >>> from xpnn import get_backend
    >>> from xpnn.initializers import Constant
    >>> store = ParamStore(get_backend("numpy"), [ParamSpec("bias", (2,), Constant(0.5), decay=False)])
    >>> store.params["bias"]
    array([0.5, 0.5], dtype=float32)
    >>> store.values += 1  # the flat buffer and the views are the same memory
    >>> store.params["bias"]
    array([1.5, 1.5], dtype=float32)
    """

    def __init__(
        self,
        backend: Backend,
        specs: Sequence[ParamSpec],
        buffer_specs: Sequence[BufferSpec] = (),
        *,
        seeds: Sequence[int] = (0,),
        replicated: bool = False,
        draw: bool = True,
    ) -> None:
        _check_views(backend)
        self.backend = backend
        self.specs = {spec.name: spec for spec in specs}
        self.replicas: Shape = (len(seeds),) if replicated else ()
        self.n_params = sum(math.prod(spec.shape) for spec in specs)

        self._slices: dict[str, slice] = {}
        self.n_decay = _lay_out(self._slices, (spec for spec in specs if spec.decay), 0)
        n = _lay_out(self._slices, (spec for spec in specs if not spec.decay), self.n_decay)
        self._buffer_slices: dict[str, slice] = {}
        n_buffers = _lay_out(self._buffer_slices, buffer_specs, 0)

        self.values = backend.zeros((*self.replicas, n))
        self.grads = backend.zeros((*self.replicas, n))
        self.buffers = backend.zeros((*self.replicas, n_buffers))
        self.params = self._views(self.values, self._slices, specs)
        self.param_grads = self._views(self.grads, self._slices, specs)
        self.named_buffers = self._views(self.buffers, self._buffer_slices, buffer_specs)

        if draw:
            self._initialize(specs, buffer_specs, seeds)
        self.lr_factors = self._factors({s.name: s.lr_mult for s in specs}, n)
        self.decay_factors = self._factors({s.name: s.decay_mult for s in specs if s.decay}, self.n_decay)

    def _views(
        self, flat: Array, slices: dict[str, slice], specs: Sequence[ParamSpec | BufferSpec]
    ) -> dict[str, Array]:
        reshape, axes = self.backend.xp.reshape, self.replicas
        return Views({s.name: reshape(flat[..., slices[s.name]], (*axes, *s.shape), copy=False) for s in specs})

    def _initialize(self, specs: Sequence[ParamSpec], buffer_specs: Sequence[BufferSpec], seeds: Sequence[int]) -> None:
        # Drawn on the host in float64 and moved, so every backend begins with the same weights.
        host = np.zeros((len(seeds), self.values.shape[-1]))
        for row, seed in zip(host, seeds, strict=True):
            for index, spec in enumerate(specs):
                row[self._slices[spec.name]] = spec.init.sample(stream(seed, "init", index), spec.shape).reshape(-1)
        self.values[...] = self.backend.asarray(host if self.replicas else host[0])
        for buffer in buffer_specs:
            self.named_buffers[buffer.name][...] = buffer.fill

    def _factors(self, multipliers: dict[str, float], n: int) -> Array | None:
        if all(m == 1.0 for m in multipliers.values()):
            return None
        host = np.ones(n)
        for name, m in multipliers.items():
            host[self._slices[name]] = m
        return self.backend.copy(host)

    def views_of_grads(self, flat: Array) -> dict[str, Array]:
        """View another array of the size of `grads` as the parameters' gradients, under their names."""
        shaped = self.backend.xp.reshape(flat, self.grads.shape, copy=False)
        return self._views(shaped, self._slices, list(self.specs.values()))

    def row_view(self, array: Array) -> Array:
        """View a vector parameter as one row, (..., n) to (..., 1, n), so that it broadcasts over the batch."""
        shape = array.shape
        if len(shape) != len(self.replicas) + 1:
            return array
        return self.backend.xp.reshape(array, (*shape[:-1], 1, shape[-1]), copy=False)

    def zeros(self) -> Array:
        """Return a flat array of zeros like `values`: state for an optimizer."""
        return self.backend.zeros(self.values.shape)

    def segments(self) -> Iterator[tuple[str, slice]]:
        """Yield each parameter's name and its place in the flat buffers, in the order of the buffers."""
        yield from self._slices.items()

    def matrices(self) -> list[str]:
        """Return the names of the decayed parameters that are matrices."""
        return [name for name, spec in self.specs.items() if spec.decay and len(spec.shape) == 2]

    def snapshot(self) -> Snapshot:
        """Return copies of values and buffers, to `restore` later."""
        return Snapshot(self.backend.copy(self.values), self.backend.copy(self.buffers))

    @on_device
    def restore(self, snapshot: Snapshot) -> None:
        """Copy a snapshot back, in place: all views stay valid."""
        self.values[...] = snapshot.values
        self.buffers[...] = snapshot.buffers


def _lay_out(slices: dict[str, slice], specs: Iterable[ParamSpec | BufferSpec], start: int) -> int:
    """Give each spec an aligned place from `start` on; return where the next may begin."""
    for spec in specs:
        size = math.prod(spec.shape)
        slices[spec.name] = slice(start, start + size)
        start += -(-size // _ALIGN) * _ALIGN
    return start


_CHECKED: set[str] = set()


def _check_views(backend: Backend) -> None:
    """Raise unless slices and reshapes of this library are views: the standard does not promise it."""
    if backend.spec in _CHECKED:
        return
    flat = backend.zeros((2, 4))
    view = backend.xp.reshape(flat[..., 1:3], (2, 1, 2), copy=False)
    view[...] = 1.0
    flat += 1.0
    if backend.to_numpy(view).tolist() != [[[2.0, 2.0]]] * 2 or float(backend.to_numpy(flat)[0, 1]) != 2.0:
        raise BackendUnavailableError(
            f"ParamStore: expected slices of {backend.name} arrays to share memory, got copies. "
            "This version of the library cannot train with xpnn; use backend='numpy'."
        )
    _CHECKED.add(backend.spec)


def check_state(expected: Mapping[str, tuple[int, ...]], state: Any) -> None:
    """Raise unless a `state_dict` has arrays of the names and shapes that a network expects."""
    if not isinstance(state, Mapping):
        raise OptionError(
            f"load_state_dict: expected a dict of arrays by name, got {type(state).__name__}. "
            "Pass what state_dict() returns; xpnn.load reads a file."
        )
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise FileFormatError(
            f"load_state_dict: expected the names of this network; missing {_some(missing)}, unknown {_some(unknown)}. "
            "Build the same architecture first."
        )
    for name, shape in expected.items():
        got = tuple(np.shape(state[name]))
        if got != shape:
            hint = "Build the network with the same sizes."
            if len(got) >= 2 and got == (*shape[:-2], shape[-1], shape[-2]):
                hint = "Texts and PyTorch keep (n_out, n_in): pass the transpose."
            raise ShapeError(f"load_state_dict: expected {name} of shape {shape}, got {got}. {hint}")


def _some(names: list[str]) -> str:
    return str(names) if len(names) <= 10 else f"{names[:10]} and {len(names) - 10} more"

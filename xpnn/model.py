"""Networks: a chain of layers over one flat parameter store."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ._typing import Array
from .arguments import as_real, count, flag, is_count, suggest
from .backend import Backend, by_slices, get_backend, like, on_device, to_numpy
from .coding import Code
from .config import to_config
from .contract import foreign, what
from .crossover import work_of
from .data.encoded import EncodedRows
from .errors import OptionError, ShapeError
from .exports import Exports
from .initializers import Initializer, LeCunNormal
from .layers import BatchNorm, Dropout, Layer, LayerNorm, Linear, Residual, RMSNorm, get_activation
from .layers.base import check_first, check_gradient, is_bound, walk
from .layers.packed import PackedPlan, packed_outputs
from .layers.plan import Plan, chain_buffer_specs, chain_param_specs, unbound
from .layers.replays import Replays
from .optional import needs
from .params import ParamSpec, ParamStore, check_state
from .random import KeyRow, StepKey
from .recordable import Recordable

__all__ = ["Sequential", "mlp"]

#: Elements of the widest activation of a slice of rows in a prediction: 16 MiB in float32.
_SLICE_ELEMENTS = 1 << 22


class Sequential(Exports, Recordable):
    """Layers applied one after the other.

    Parameters
    ----------
    *layers : Layer
        In order; each object may stand in one place of one network only.
    n_in : int
        Number of input features.
    backend : str or Backend, default="numpy"
        See `get_backend`.
    dtype : {"float32", "float64", "bfloat16", "float16"}, optional
        Floating type of the parameters; float32, or the given backend's.  The last two are float32 with products of
        half precision.
    seed : int or sequence of int, default=0
        Draws initial weights and dropout masks.  A sequence of K seeds makes K *replicas*: networks of one
        architecture, trained at once by batched products, each with the weights that its seed would give it
        alone.
    replicas : int, optional
        Short for ``seed=[seed, seed + 1, …]``.

    Attributes
    ----------
    layers : tuple of Layer
        As given.
    store : ParamStore
        The flat buffers.
    params, grads : dict of str to array
        Views by name: ``"0.weight"`` (n_in, n_out), ``"0.bias"`` (n_out,); with a leading axis K for replicas.
    n_params : int
        Number of trained parameters of one network.

    Raises
    ------
    ShapeError
        If the layers do not fit each other.
    OptionError
        If a layer object appears twice.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Linear, ReLU, Sequential
    >>> net = Sequential(Linear(3), ReLU(), Linear(1), n_in=2, seed=0)
    >>> y, caches = net.forward(np.zeros((5, 2)))
    >>> y.shape
    (5, 1)
    >>> net.backward(np.ones((5, 1)), caches)
    >>> net.grads["2.bias"]
    array([5.], dtype=float32)
    """

    code: Code | None = None  # of packed rows of a table, while a fit hands such to the network

    def __init__(
        self,
        *layers: Layer,
        n_in: int,
        backend: str | Backend = "numpy",
        dtype: str | None = None,
        seed: int | Sequence[int] = 0,
        replicas: int | None = None,
    ) -> None:
        self._make(layers, n_in, backend, dtype, _seeds(seed, replicas))

    @classmethod
    def from_state(
        cls,
        layers: Sequence[Layer],
        state: Mapping[str, Any],
        *,
        n_in: int,
        backend: str | Backend = "numpy",
        dtype: str | None = None,
        seed: int | Sequence[int] = 0,
    ) -> Sequential:
        """Make a network with the values of a `state_dict`: it is compared with the layers first, and nothing is drawn.

        Raises
        ------
        FileFormatError, ShapeError
            If names or shapes are not those of these layers, before anything is allocated.
        """
        net = cls.__new__(cls)
        net._make(tuple(layers), n_in, backend, dtype, _seeds(seed, None), state)
        return net

    def _make(
        self,
        layers: tuple[Layer, ...],
        n_in: int,
        backend: str | Backend,
        dtype: str | None,
        seed: int | tuple[int, ...],
        state: Mapping[str, Any] | None = None,
    ) -> None:
        if not layers:
            raise OptionError("Sequential: expected at least one layer, got none. Try Sequential(Linear(1), n_in=2).")
        self.layers = layers
        self.n_in = count(n_in, "Sequential", "n_in")
        self.seed = seed
        self._build()
        specs, buffers = chain_param_specs(self.layers), chain_buffer_specs(self.layers)
        self.n_params = sum(math.prod(spec.shape) for spec in specs)
        seeds, replicated = ((seed,), False) if isinstance(seed, int) else (seed, True)
        if state is not None:
            replicas = (len(seeds),) if replicated else ()
            shapes = {s.name: s.shape for s in specs} | {s.name: s.shape for s in buffers}
            check_state({name: (*replicas, *shape) for name, shape in shapes.items()}, state)
        self.backend = get_backend(backend, dtype, work=work_of(len(seeds) * self.n_params))
        with self.backend.active():
            self.store = ParamStore(
                self.backend, specs, buffers, seeds=seeds, replicated=replicated, draw=state is None
            )
        self.params, self.grads = self.store.params, self.store.param_grads
        self.bind(self.store)
        if state is not None:
            self._take(state)

    def _build(self) -> None:
        leaves: list[Layer] = []
        seen: set[int] = set()
        for layer in walk(self.layers):  # lazily: what is no layer is refused before it is asked for its sublayers
            if not isinstance(layer, Layer):
                hint = f" Write {layer.__name__}()." if isinstance(layer, type) else " Pass layers such as Linear(3)."
                if isinstance(layer, list | tuple):
                    hint = " Unpack the list: Sequential(*layers, n_in=...)."
                raise OptionError(f"Sequential: expected layers, got {layer!r}.{hint}")
            leaves.append(layer)
            if id(layer) in seen or is_bound(layer):
                raise OptionError(
                    f"Sequential: {layer!r} stands in more than one place or network. "
                    "Make a layer object for each place."
                )
            seen.add(id(layer))
        for slot, layer in enumerate(leaves):
            layer.slot = slot
        _label(self.layers, "")
        _choose_init(leaves)
        width = self.n_in
        for layer in self.layers:
            width = layer.build(width)
            if foreign(layer):
                _check_sizes(layer)
        self.n_out = width
        check_first(self.layers)
        trained = [i for i, layer in enumerate(self.layers) if layer.param_specs()]
        # Nothing below the first trained layer needs a gradient in training.
        self._first_trained = trained[0] if trained else len(self.layers)
        self.takes_integers = self.layers[0].takes_integers
        self._takes_shared_rows = self.layers[0].takes_shared_rows()
        self._takes_categories = self.layers[0].takes_categories
        self._widest = max(self.n_in, *(layer.n_out for layer in leaves))

    def bind(self, store: ParamStore) -> None:
        """Let the layers compute with the arrays of a store and the operations of its backend."""
        named = (store.params, store.param_grads, store.named_buffers)
        rows = ({name: store.row_view(view) for name, view in views.items()} for views in named)
        self.plan = Plan.bind(self.layers, store.backend, *rows)
        if self.code is not None:
            self.plan = PackedPlan.of(self.layers, self.code) or self.plan
        self._replays = Replays(self, self._widest * math.prod(store.replicas))

    # -- the two passes -------------------------------------------------------------------------------------
    @on_device
    def forward(
        self,
        x: Any,
        *,
        train: bool = False,
        step: int | KeyRow = 0,
        rows: Any = None,
        sample_weight: Any = None,
        total_weight: float | None = None,
        dropout: float | Mapping[int, Array] = 1.0,
    ) -> tuple[Array, list[Any]]:
        """Run the network.

        Parameters
        ----------
        x : array of shape (batch, n_in), or (K, batch, n_in) for replicas
            Of any library; brought to the network's backend and dtype if it is not there.
        train : bool, default=False
            Whether dropout drops and batch norm uses the batch.
        step : int or KeyRow, default=0
            Number of the training step: picks the dropout masks; or its keys, on the device (`xpnn.random.step_keys`).
        rows : int array of shape (batch,), optional
            Numbers of 32 bits that pick the rows' masks: rows of equal numbers get equal masks.  By default a
            row's place in the batch picks its mask.
        sample_weight : array of shape (batch,), optional
            Weights of the rows as the loss has them: batch norm counts a row as often as its weight says.
        total_weight : float, optional
            Sum of `sample_weight`, where it is known on the host.
        dropout : float or dict of slot to array, default=1.0
            Multiplies the rates of dropout; or, on the device, the thresholds of the layers (`xpnn.random.StepKey`).

        Returns
        -------
        y : array of shape (..., batch, n_out)
            Raw outputs, on the network's backend.
        caches : list
            What `backward` needs, one for each layer.

        Raises
        ------
        ShapeError
            If `x`, `rows` or `sample_weight` does not fit.
        """
        x = self._bring(x)
        key = None
        if train:
            key = StepKey(self.seed, step, *self._of_rows(x.shape[-2], rows, sample_weight, total_weight), dropout)
        return self.plan.forward(x, train=train, key=key)

    def _of_rows(self, batch: int, rows: Any, sample_weight: Any, total_weight: Any) -> tuple[Array, Array, Array]:
        """Bring what belongs to the rows of a step to the backend; None stays None."""
        backend = self.backend
        for name, column in (("rows", rows), ("sample_weight", sample_weight)):
            if column is not None and tuple(np.shape(column)) != (batch,):
                raise ShapeError(
                    f"forward: expected {name} of shape ({batch},), got {tuple(np.shape(column))}. One number a row."
                )
        if rows is not None:
            rows = backend.asarray(rows, dtype=backend.xp.int32)
        if sample_weight is not None:
            sample_weight = backend.asarray(sample_weight)
            total_weight = backend.xp.sum(sample_weight) if total_weight is None else total_weight
        return rows, sample_weight, total_weight

    @on_device
    def backward(self, dy: Any, caches: list[Any], *, need_dx: bool = False) -> Array | None:
        """Fill `grads` with the gradients of a loss whose gradient to the output is `dy`.

        Parameters
        ----------
        dy : array of shape (..., batch, n_out)
            ∂loss/∂y.
        caches : list
            From `forward`, unchanged.
        need_dx : bool, default=False
            Whether to return the gradient to the input.

        Returns
        -------
        array of shape (..., batch, n_in) or None
            ∂loss/∂x if asked for.

        Raises
        ------
        ShapeError, OptionError
            If `dy` is not of the shape of the output, or `caches` are not those of a forward pass.
        """
        dy = self.backend.asarray(dy)
        check_gradient(dy, caches, self.layers)
        first = 0 if need_dx else self._first_trained
        return self.plan.backward(dy, caches, need_dx=need_dx, first=first)

    def prepare(self, steps: int, batch_size: int) -> None:
        """Tell the backend's operations how much training is coming; see `xpnn.ops.Ops.prepare`."""
        replicas = math.prod(self.store.replicas)
        widths = sum(layer.n_out for layer in walk(self.layers) if not layer.sublayers())
        self.backend.ops.prepare(steps, replicas * self.n_params, replicas * batch_size * widths)

    @on_device
    def predict(self, x: Any, *, batch_size: int | None = None) -> Array:
        """Return the raw outputs in slices of rows, keeping no caches.

        Parameters
        ----------
        x : array of shape (n, n_in), or (K, n, n_in) for replicas; or EncodedRows
            Of any library.  Of very many packed rows the first layers compute with them as they are, where that is
            faster (`xpnn.layers.packed`): equal to the product with their matrix to rounding.
        batch_size : int, optional
            Rows of one slice; by default what keeps a slice's activations within some megabytes.

        Returns
        -------
        array of shape (..., n, n_out)
            In the library and on the device that `x` came from.
        """
        fitting = max(_SLICE_ELEMENTS // self._widest, 1)
        rows = fitting if batch_size is None else count(batch_size, "predict", "batch_size")
        if isinstance(x, EncodedRows) and not self.store.replicas and batch_size is None:
            found = packed_outputs(self.layers, x, self.backend)
            if found is not None:
                return like(found, x)
        own = self.backend.name == "numpy" and type(x) is np.ndarray and x.dtype == self.backend.dtype
        if not own and (self.backend.name == "numpy" or not self.backend.owns(x)):
            x = as_real(x, "predict", "X", lazy=True)
        if self._takes_categories:
            self.check_categories(x)
        n = x.shape[-2] if len(x.shape) >= 2 else 1
        if n <= rows:
            return like(self._predict_slice(x), x)
        return like(by_slices(self.backend, self._predict_slice, x, rows), x)

    def _predict_slice(self, x: Any) -> Array:
        x = self._bring(x)
        found = self._replays.output(self, x)
        return self.plan.output(x) if found is None else found

    def _bring(self, x: Any) -> Array:
        """Bring input to the backend, check its shape; integers stay integers only for an Embedding."""
        x = self.backend.asarray(x, dtype=self.backend.index_dtype if self.takes_integers else None)
        if self.code is None or x.shape[-1] != self.code.packed_width:
            self.check_input(x)
        replicas = self.store.replicas
        if replicas and len(x.shape) == 2 and not self._takes_shared_rows:
            # rows shared by all replicas become one set each where they meet the first weights; a layer
            # without any would answer with one set, to which K gradients could not go back
            x = self.backend.xp.broadcast_to(x, (*replicas, *x.shape))
        return x

    def check_input(self, x: Array) -> None:
        """Raise ShapeError unless `x` is (batch, n_in), or (K, batch, n_in) for K replicas."""
        shape = tuple(x.shape)
        if shape[-1:] != (self.n_in,) or shape[:-2] not in ((), self.store.replicas) or len(shape) < 2:
            try:
                self.layers[0].check_input(x)
            except ShapeError as error:
                if shape[1:] != (self.n_out,):
                    raise
                reversed_ = f"Or are its sizes reversed? It maps {self.n_in} features to {self.n_out}."
                raise ShapeError(f"{error} {reversed_}") from None
            axes = ", ".join(map(str, (*self.store.replicas, "batch", self.n_in)))
            hint = "One network takes rows"
            if self.store.replicas:
                hint = "Give each replica a set of rows, or all the same rows"
            raise ShapeError(
                f"Sequential: expected x of shape ({axes}), got {shape}. {hint}: X.reshape(-1, {self.n_in})."
            )

    def check_categories(self, x: Any) -> None:
        """Check category numbers on the host: some libraries wrap numbers that are out of range.

        Raises
        ------
        DTypeError, LabelError
            If some are no whole numbers, or out of range.
        """
        first = self.layers[0]
        host = to_numpy(as_real(x, first.label, "X", lazy=True))
        first.check_categories(host)

    # -- state ----------------------------------------------------------------------------------------------
    @on_device
    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and buffers as NumPy arrays, by name."""
        return {name: np.array(to_numpy(view)) for name, view in self._named_views().items()}

    @on_device
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy values in by name.

        Raises
        ------
        OptionError
            If it is no dict.
        FileFormatError
            If names are missing or unknown; nothing is changed then.
        ShapeError
            If a shape differs; nothing is changed then.
        """
        check_state({name: tuple(view.shape) for name, view in self._named_views().items()}, state)
        self._take(state)

    @on_device
    def _take(self, state: Mapping[str, Any]) -> None:
        for name, view in self._named_views().items():
            view[...] = self.backend.asarray(state[name])

    def _named_views(self) -> dict[str, Array]:
        return {**self.params, **self.store.named_buffers}

    def to(self, backend: str | Backend, dtype: str | None = None) -> Sequential:
        """Return a copy of this network on another backend, with equal parameters and buffers."""
        target = get_backend(backend, dtype or (None if isinstance(backend, Backend) else self.backend.dtype_name))
        return _rebuild(*self._description(target))

    def twin(self) -> Sequential:
        """Return a network over the same memory, whose layers are copies: what they note of themselves stays apart."""
        new = object.__new__(type(self))
        vars(new).update(vars(self))
        new.layers = copy.deepcopy(tuple(map(unbound, self.layers)))
        new.bind(new.store)
        return new

    def copy(self) -> Sequential:
        """Return an independent copy on the same backend."""
        return _rebuild(*self._description(self.backend))

    def __getstate__(self) -> dict[str, Any]:
        return dict(zip(_PARTS, self._description(self.backend), strict=True))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(_rebuild(**state)))

    def _description(self, backend: Backend) -> tuple[Any, ...]:
        # Views into one buffer would come back as arrays of their own: carry the values, build anew.
        return tuple(map(unbound, self.layers)), self.n_in, backend, self.seed, self.state_dict()

    # -- description ----------------------------------------------------------------------------------------
    def check_shapes(self, n_in: int) -> list[tuple[str, int, int]]:
        """Follow the widths through the layers for an input of `n_in` features.

        Returns
        -------
        list of (layer, in, out)
            The layer's label, such as ``"0.Linear"``, and its widths.

        Raises
        ------
        ShapeError
            At the first layer that cannot take what it would be given; the message names the cure.
        """
        rows, width = [], count(n_in, "check_shapes", "n_in")
        for layer in self.layers:
            if width != layer.n_in:
                raise ShapeError(
                    f"{layer.label}: expected {layer.n_in} features, would be given {width}. "
                    f"Rows must be samples and columns features: pass x of shape (batch, {self.n_in}), "
                    f"or build the network with n_in={n_in}."
                )
            rows.append((layer.label, width, layer.n_out))
            width = layer.n_out
        return rows

    def summary(self) -> str:
        """Return a table of layers, widths and parameter counts.

        Examples
        --------
        >>> from xpnn import mlp
        >>> print(mlp([784, 256, 128, 10]).summary())
        layer       in    out    parameters
        --------  ----  -----  ------------
        0.Linear   784    256       200,960
        1.ReLU     256    256             0
        2.Linear   256    128        32,896
        3.ReLU     128    128             0
        4.Linear   128     10         1,290
        total      784     10       235,146
        """
        with needs("tabulate", "summary"):
            from tabulate import tabulate

        rows = [
            (layer.label, layer.n_in, layer.n_out, sum(int(np.prod(s.shape)) for s in layer.param_specs()))
            for layer in self.layers
        ]
        rows.append(("total", self.n_in, self.n_out, self.n_params))
        return tabulate(rows, headers=("layer", "in", "out", "parameters"), intfmt=",")

    def config(self) -> dict[str, Any]:
        """Return the architecture as JSON-able values; `xpnn.load` builds it again."""
        return {
            "layers": to_config(self.layers),
            "n_in": self.n_in,
            "dtype": self.backend.dtype_name,
            "seed": self.seed if isinstance(self.seed, int) else list(self.seed),
        }

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self.layers))
        return f"Sequential({layers}, n_in={self.n_in}, backend={self.backend.spec!r})"


def _check_sizes(layer: Layer) -> None:
    """Raise unless a layer of somebody's own says how wide its output is and what it trains."""
    if not is_count(layer.n_out):
        raise OptionError(
            f"{layer.label}.out_size: expected the width of the output, a positive integer, got {layer.n_out!r}. "
            "Return the number of features."
        )
    specs: Any = layer.param_specs()
    if not isinstance(specs, tuple | list) or not all(isinstance(spec, ParamSpec) for spec in specs):
        raise OptionError(
            f"{layer.label}.param_specs: expected a tuple of ParamSpec, got {what(specs)}. Of one, return (spec,)."
        )


_PARTS = ("layers", "n_in", "backend", "seed", "state")  # of a network, as it is pickled


def _rebuild(
    layers: tuple[Layer, ...], n_in: int, backend: Backend, seed: int | Sequence[int], state: dict[str, Any]
) -> Sequential:
    return Sequential.from_state(layers, state, n_in=n_in, backend=backend, seed=seed)


def _seeds(seed: int | Sequence[int], replicas: int | None) -> int | tuple[int, ...]:
    if isinstance(seed, int | np.integer):
        if replicas is None:
            return int(seed)
        return tuple(int(seed) + k for k in range(count(replicas, "Sequential", "replicas")))
    given = list(seed) if isinstance(seed, Iterable) else [seed]
    if not all(isinstance(s, int | np.integer) for s in given):
        raise OptionError(
            f"Sequential: expected seed to be an integer, or one for each replica, got {seed!r}. Try seed=0."
        )
    seeds = tuple(int(s) for s in given)
    if not seeds or replicas not in (None, len(seeds)):
        raise OptionError(
            f"Sequential: got {len(seeds)} seeds for {replicas} replicas; give one for each. Or leave replicas away."
        )
    return seeds


def _label(layers: Sequence[Layer], prefix: str) -> None:
    for j, layer in enumerate(layers):
        layer.label = f"{prefix}{j}.{type(layer).__name__}"
        _label(layer.sublayers(), f"{prefix}{j}.")


def _choose_init(leaves: Sequence[Layer]) -> None:
    """Give each Linear with ``init="auto"`` the initializer that suits the activation it feeds."""
    suited: Initializer | None = None
    for layer in reversed(leaves):
        if isinstance(layer, Linear):
            layer.auto_init = suited or LeCunNormal()
            suited = None
        elif layer.suited_init is not None:
            suited = layer.suited_init


def mlp(
    sizes: Sequence[int],
    activation: str | Layer | Sequence[str | Layer] = "relu",
    *,
    norm: str | None = None,
    dropout: float | Sequence[float] = 0.0,
    residual: bool = False,
    init: str | Initializer = "auto",
    backend: str | Backend = "numpy",
    dtype: str | None = None,
    seed: int | Sequence[int] = 0,
    replicas: int | None = None,
) -> Sequential:
    """Build a multilayer perceptron.

    Each hidden block is Linear, norm, activation, dropout, each its own numbered layer (those not asked for are
    left out); a last Linear gives the raw outputs.

    Parameters
    ----------
    sizes : sequence of int
        Widths from input to output, such as ``[784, 256, 128, 10]``.
    activation : str, Layer, or one for each hidden layer, default="relu"
        A name (`get_activation`) or a layer whose options are copied.
    norm : {None, "batch", "layer", "rms"}, default=None
        Normalization between Linear and activation.
    dropout : float or one for each hidden layer, default=0.0
        Share of units dropped after each activation.
    residual : bool, default=False
        Put a skip around each hidden block whose input is as wide as its output.
    init : str or Initializer, default="auto"
        Of all weights; see `Linear`.
    backend, dtype, seed, replicas
        See `Sequential`.

    Returns
    -------
    Sequential
        The network.

    Examples
    --------
    >>> net = mlp([784, 256, 128, 10])
    >>> net.n_params
    235146
    >>> list(net.params)
    ['0.weight', '0.bias', '2.weight', '2.bias', '4.weight', '4.bias']
    """
    widths = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if len(widths) < 2 or not all(map(is_count, widths)):
        raise OptionError(
            f"mlp: expected at least two positive widths, input and output, got {widths}. "
            "Try whole numbers such as [784, 128, 10]."
        )
    sizes = [int(n) for n in widths]
    hidden = len(sizes) - 2
    activations = _per_layer("activation", activation, hidden)
    rates = _per_layer("dropout", dropout, hidden)
    if norm not in (None, *_NORMS):
        raise OptionError(
            f"mlp: expected norm to be None or one of {', '.join(_NORMS)}, got {norm!r}. {suggest(norm, _NORMS)}"
        )
    residual = flag(residual, "mlp", "residual")
    layers: list[Layer] = []
    for i in range(hidden):
        block: list[Layer] = [Linear(sizes[i + 1], init=init)]
        if norm is not None:
            block.append(_NORMS[norm]())
        block.append(_activation(activations[i]))
        if rates[i]:
            block.append(Dropout(rates[i]))
        if residual and sizes[i] == sizes[i + 1]:
            layers.append(Residual(*block))
        else:
            layers.extend(block)
    layers.append(Linear(sizes[-1], init=init))
    return Sequential(*layers, n_in=sizes[0], backend=backend, dtype=dtype, seed=seed, replicas=replicas)


_NORMS: dict[str, type[Layer]] = {"batch": BatchNorm, "layer": LayerNorm, "rms": RMSNorm}


def _activation(chosen: Any) -> Layer:
    if isinstance(chosen, str):
        return get_activation(chosen)
    if not isinstance(chosen, Layer):
        hint = f"Write {chosen.__name__}()." if isinstance(chosen, type) else "Try 'relu' or ReLU()."
        raise OptionError(f"mlp: expected activation to be a name or a layer object, got {chosen!r}. {hint}")
    return unbound(chosen)


def _per_layer(name: str, value: Any, hidden: int) -> list[Any]:
    """Spread one value over the hidden layers, or check that there is one for each."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value] * hidden
    values = list(value)
    if len(values) != hidden:
        raise OptionError(
            f"mlp: expected one {name}, or one for each of {hidden} hidden layers, got {len(values)}. "
            "Pass a single one for all."
        )
    return values

"""Networks to Keras, and models of Keras to networks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .. import layers as xpnn_layers
from ..backend import Backend, to_numpy
from ..errors import BackendUnavailableError, OptionError
from ..layers import Layer
from ..model import Sequential
from ..optional import needs
from .chain import Chain, ChainReader, Part, single_network

__all__ = ["from_keras", "to_keras"]

#: By the names of Keras's functions.
_ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "elu": xpnn_layers.ELU,
    "gelu": xpnn_layers.GELU,
    "leaky_relu": functools.partial(xpnn_layers.LeakyReLU, 0.2),  # the function's default; the layer's is 0.3
    "mish": xpnn_layers.Mish,
    "relu": xpnn_layers.ReLU,
    "selu": xpnn_layers.SELU,
    "sigmoid": xpnn_layers.Sigmoid,
    "silu": xpnn_layers.SiLU,
    "softmax": xpnn_layers.Softmax,
    "softplus": xpnn_layers.Softplus,
    "tanh": xpnn_layers.Tanh,
}


def to_keras(net: Sequential) -> Any:
    """Return a network as a Keras model, with its values, on whichever backend Keras has.

    A chain becomes a `keras.Sequential`, one with `Residual` blocks a functional model.  Outputs are equal to rounding.
    In training Keras draws its own masks, and its running variance is that of the batch, n / (n - 1) times smaller.

    Parameters
    ----------
    net : Sequential
        One network, no replicas, of layers that Keras has: Linear, Embedding, norms, Dropout, Residual, and all
        activations but ``GELU("tanh")``, `Step`, `ParametricActivation` and softmax with a temperature.

    Returns
    -------
    keras.Model
        Not compiled.  Layers with ``lr_mult=0`` have ``trainable=False``.

    Raises
    ------
    OptionError
        If Keras has no such layer; the message names it.
    """
    keras = _keras("to_keras")
    net = single_network(net, "to_keras")
    writer, dtype = _Writer(keras), net.backend.wide_name
    inputs = keras.Input((net.n_in,), dtype="int32" if net.takes_integers else dtype)
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)  # of the model itself, too: it brings its input to its dtype
    try:
        layers = list(writer.chain(net.layers))
        if any(isinstance(layer, xpnn_layers.Residual) for layer in net.layers):
            model = keras.Model(inputs, _applied(layers, inputs))
        else:
            model = keras.Sequential([inputs, *layers])
    finally:
        keras.config.set_dtype_policy(usual)
    writer.fill(net.state_dict())
    return model


def from_keras(model: Any, *, backend: str | Backend = "numpy", dtype: str | None = None) -> Sequential:
    """Return a Keras model as a network, with its values.

    Parameters
    ----------
    model : keras.Sequential or functional keras.Model
        Built, and a chain of Dense (with its activation), BatchNormalization, LayerNormalization, RMSNormalization,
        Dropout, activations, Flatten, or a first Embedding with a Flatten behind it; models inside it are laid out
        flat.
    backend : str or Backend, default="numpy"
        See `get_backend`.
    dtype : str, optional
        That of the variables by default, or the given backend's.

    Returns
    -------
    Sequential
        Outputs are equal to rounding.  A Dense with an activation is two layers; a frozen one has ``lr_mult=0``.
        Regularizers stay behind: they belong to the trainer here.

    Raises
    ------
    OptionError
        If xpnn has no such layer or option, or the model is no chain; the message names it and what to do.  What makes
        a difference in training alone is taken where nothing of the model is trained.
    """
    keras = _keras("from_keras")
    if not isinstance(model, keras.Model):
        hint = "That is xpnn's network already." if isinstance(model, Sequential) else "Pass a keras.Sequential."
        raise OptionError(f"from_keras: expected a Keras model, got {type(model).__name__}. {hint}")
    reader = _Reader(keras, model)
    for layer in reader.layers(model):
        reader.read(layer)
    reader.check_end()
    own = None if isinstance(backend, Backend) else reader.dtype
    return reader.chain.build(reader.n_in, backend, dtype or own)


def _keras(where: str) -> Any:
    try:
        with needs("keras", where):
            import keras
    except BackendUnavailableError as error:
        missing = getattr(error.__cause__, "name", None)
        if missing in (None, "keras"):
            raise
        raise BackendUnavailableError(
            f"{where}: Keras computes with {missing}, which is not installed. Set the environment variable "
            "KERAS_BACKEND to torch, jax or numpy, whichever is, before Keras is imported."
        ) from error
    return keras


def _other_share(momentum: float) -> float:
    """Return the share of the new moments for that of the old, or the other way round; 1 - 0.99 is 0.01 here."""
    return round(1.0 - momentum, 12)


# -- out -----------------------------------------------------------------------------------------------------------
class _Block:
    """Layers of Keras between which a skip goes."""

    def __init__(self, layers: list[Any], add: Any) -> None:
        self.layers, self.add = layers, add


def _applied(layers: Iterable[Any], x: Any) -> Any:
    for layer in layers:
        x = layer.add([x, _applied(layer.layers, x)]) if isinstance(layer, _Block) else layer(x)
    return x


class _Writer:
    """Makes layers of Keras, and knows where their values stand here."""

    def __init__(self, keras: Any) -> None:
        self.keras = keras
        self.names: list[tuple[Any, list[str]]] = []
        kinds: Any = keras.layers
        ours = xpnn_layers
        self.makers: dict[type[Layer], Callable[[Any], Any]] = {
            ours.Linear: lambda a: kinds.Dense(a.n_out, use_bias=a.bias),
            ours.Identity: lambda a: kinds.Identity(),
            ours.ELU: lambda a: kinds.ELU(a.alpha),
            ours.LeakyReLU: lambda a: kinds.LeakyReLU(a.slope),
            ours.PReLU: lambda a: kinds.PReLU(shared_axes=None if a.per_unit else [1]),
            ours.Dropout: lambda a: kinds.Dropout(a.rate),
            ours.BatchNorm: lambda a: kinds.BatchNormalization(momentum=_other_share(a.momentum), epsilon=a.eps),
            ours.LayerNorm: lambda a: kinds.LayerNormalization(epsilon=a.eps),
            ours.RMSNorm: lambda a: kinds.RMSNormalization(epsilon=a.eps),
            ours.Embedding: lambda a: kinds.Embedding(a.n_categories, a.dim),
        }

    def chain(self, layers: Iterable[Layer], prefix: str = "") -> Iterator[Any]:
        """Yield the layers of Keras for a chain."""
        for j, layer in enumerate(layers):
            if isinstance(layer, xpnn_layers.Residual):
                yield _Block(list(self.chain(layer.layers, f"{prefix}{j}.")), self.keras.layers.Add())
                continue
            made = self._made(layer)
            specs = [spec.name for spec in layer.param_specs()] + [spec.name for spec in layer.buffer_specs()]
            self.names.append((made, [f"{prefix}{j}.{name}" for name in specs]))
            made.trainable = not specs or any(spec.lr_mult != 0 for spec in layer.param_specs())
            yield made
            if isinstance(layer, xpnn_layers.Embedding):
                yield self.keras.layers.Flatten()

    def _made(self, layer: Layer) -> Any:
        maker = self.makers.get(type(layer))
        if maker is not None:
            return maker(layer)
        for name, make in _ACTIVATIONS.items():
            known = make()
            if type(layer) is type(known) and layer.config() == known.config():
                return self.keras.layers.Activation(name)
        raise OptionError(
            f"to_keras: Keras has no layer like {layer.label} = {layer!r}. Leave it out and train again, or go to "
            "PyTorch or ONNX: to_torch() and to_onnx(path) take all layers."
        )

    def fill(self, state: dict[str, np.ndarray]) -> None:
        """Give the layers their values, once they are built."""
        for layer, names in self.names:
            layer.set_weights([state[name] for name in names])


# -- in ------------------------------------------------------------------------------------------------------------
class _Reader(ChainReader):
    """Reads layers of Keras into a chain."""

    to_predict = "set model.trainable = False"

    def __init__(self, keras: Any, model: Any) -> None:
        self.keras = keras
        if not model.built:
            raise OptionError(
                "from_keras: expected a model that is built, got one whose sizes are not known. Begin it with "
                "keras.Input((n_features,)), or call it on a batch."
            )
        self.chain = Chain("from_keras", bool(model.trainable_variables))
        dtypes = {keras.backend.standardize_dtype(v.dtype) for v in model.weights}
        cure = "Build the model with one dtype, not quantized, and give it the weights."
        self.dtype = self.common_dtype(dtypes, "variables", cure)
        self.seen: set[int] = set()
        self.n_in: int | None = None
        self._rank = 2

    def layers(self, model: Any) -> list[Any]:
        """Return the layers of a model in the order of computation, those of models inside it too."""
        if isinstance(model, self.keras.Sequential):
            found = list(model.layers)
        elif type(model).__name__ == "Functional":
            found = self._backwards(model)
        else:
            raise OptionError(
                f"from_keras: {type(model).__name__}: expected a keras.Sequential or a functional model, got a class "
                "with a call of its own. Write it as a chain of layers, and give that one the weights."
            )
        inputs = getattr(model, "inputs", None)  # there is none around a layer that Keras cannot follow
        if self.n_in is None and inputs:
            self._note_shape(inputs[0].shape)
        return [inner for layer in found for inner in (self.layers(layer) if self._is_model(layer) else [layer])]

    def _is_model(self, layer: Any) -> bool:
        return isinstance(layer, self.keras.Model)

    def _note_shape(self, shape: tuple[int | None, ...]) -> None:
        self._rank = len(shape)
        sizes = shape[1:]
        self.n_in = int(np.prod([n for n in sizes if n is not None])) if None not in sizes and sizes else None

    def _backwards(self, model: Any) -> list[Any]:
        """Follow a functional model from its output to its input."""
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise OptionError(
                f"from_keras: expected a model with one input and one output, got {len(model.inputs)} and "
                f"{len(model.outputs)}. Make a model for each output; put inputs side by side in one matrix."
            )
        found: list[Any] = []
        tensor = model.outputs[0]
        while tensor is not model.inputs[0]:
            history = tensor._keras_history
            before = history.operation._inbound_nodes[history.node_index].input_tensors
            if len(before) != 1:
                label = f"{history.operation.name}, a {type(history.operation).__name__}"
                raise OptionError(
                    f"from_keras: expected a chain, got {label} of {len(before)} inputs. Bring in a part that is a "
                    "chain, or build the network with xpnn.Residual and load the values by name."
                )
            found.append(history.operation)
            tensor = before[0]
        return found[::-1]

    def read(self, layer: Any) -> None:
        """Add what one layer of Keras is here."""
        kind, label = type(layer), f"{layer.name}, a {type(layer).__name__}"
        if kind is self.keras.layers.InputLayer:
            return
        read = _READERS.get(kind.__name__)
        if read is None or kind is not getattr(self.keras.layers, kind.__name__, None):
            raise OptionError(f"from_keras: xpnn has no layer like {label}. {_advice(kind.__name__)}")
        self._check_rows(kind.__name__, label)
        if not layer.built:
            raise OptionError(
                f"from_keras: {label}: expected a layer that is built, got one that has no values yet. Call the model "
                "on a batch."
            )
        if layer.weights:
            if id(layer) in self.seen:
                raise OptionError(
                    f"from_keras: {label}, stands in two places. Layers do not share weights here: give each place a "
                    "layer of its own."
                )
            self.seen.add(id(layer))
        read(self, layer, label)

    def _check_rows(self, kind: str, label: str) -> None:
        """Raise if a layer is given more than rows."""
        if kind == "Flatten":
            self._rank = 2
            self.chain.flatten()
        elif self._rank != 2 or self._embeds():
            raise OptionError(
                f"from_keras: {label}: expected rows of features, got more axes. Put a Flatten before it."
            )

    def _embeds(self) -> bool:
        """Whether the columns of an Embedding still have an axis of their own."""
        last = self.chain.parts[-1].layer if self.chain.parts else None
        return isinstance(last, xpnn_layers.Embedding) and not self.chain.flattened

    def check_end(self) -> None:
        """Raise unless the model ends in rows."""
        if self._embeds():
            raise OptionError(
                "from_keras: expected a model that ends in rows, got an Embedding at its end. Put a Flatten behind it."
            )

    def values(self, layer: Any) -> list[np.ndarray]:
        """Return a layer's values in its own order."""
        found = [self.keras.ops.convert_to_numpy(v) for v in layer.weights]
        return [v if v.dtype.itemsize >= 4 else v.astype(np.float32) for v in map(to_numpy, found)]

    def trained(self, layer: Any, label: str) -> None:
        """Check that a layer is trained if others are."""
        cure = "Here Dense alone can be frozen beside others: set trainable = True on this layer."
        self.require(layer.trainable, label, "a layer that is trained", "trainable=False", cure, training=True)

    def activation(self, function: Any, label: str) -> None:
        """Add the layer for an activation: a function of Keras, or one of its layers."""
        if isinstance(function, self.keras.layers.Layer):
            self.read(function)
            return
        name = getattr(function, "__name__", "")
        if function is self.keras.activations.linear:
            return
        make = _ACTIVATIONS.get(name)
        if make is None or function is not getattr(self.keras.activations, name, None):
            raise OptionError(
                f"from_keras: {label}: xpnn has no activation {name or function!r}. Take one of "
                f"{', '.join(_ACTIVATIONS)}."
            )
        self.chain.add(Part(make()))


def _advice(kind: str) -> str:
    if kind in ("Rescaling", "Normalization"):
        return "Scale the rows with xpnn.data.Standardizer, and bring in the layers behind it."
    if kind in ("GaussianNoise", "GaussianDropout", "AlphaDropout", "SpatialDropout1D"):
        return "Take Dropout in its place."
    return "Bring in the layers behind it alone, and give them the rows that it computes."


def _dense(reader: _Reader, layer: Any, label: str) -> None:
    plain = not getattr(layer, "lora_enabled", False)
    reader.require(plain, label, "a plain kernel", "LoRA", "Merge it into the kernel first.")
    free = getattr(layer, "kernel_constraint", None) is None and getattr(layer, "bias_constraint", None) is None
    reader.require(
        free, label, "no constraint", "one", "Set kernel_constraint = bias_constraint = None.", training=True
    )
    kernel, *bias = reader.values(layer)
    factors: dict[str, Any] = {"lr_mult": 0.0} if reader.chain.trains and not layer.trainable else {}
    state = {"weight": kernel} | ({"bias": bias[0]} if bias else {})
    reader.chain.add(Part(xpnn_layers.Linear(layer.units, bias=bool(bias), **factors), state, kernel.shape[0]))
    reader.activation(layer.activation, label)


def _scale_and_shift(reader: _Reader, layer: Any, label: str) -> dict[str, np.ndarray]:
    """Return scale and shift of a norm; those that it lacks are ones and zeros."""
    reader.trained(layer, label)
    for option, what in (("scale", "a scale"), ("center", "a shift")):
        cure = f"Build it with {option}=True."
        expected = f"{what}, which is trained here"
        reader.require(getattr(layer, option), label, expected, f"{option}=False", cure, training=True)
    weights = {v.name: to_numpy(reader.keras.ops.convert_to_numpy(v)) for v in layer.weights}
    n = next(iter(weights.values())).shape[0] if weights else reader.chain.width(reader.n_in)
    found = {"weight": weights.get("gamma", np.ones(n)), "bias": weights.get("beta", np.zeros(n))}
    if "moving_mean" in weights:
        found |= {"running_mean": weights["moving_mean"], "running_var": weights["moving_variance"]}
    return found


def _features(reader: _Reader, layer: Any, label: str) -> None:
    """Check that a norm goes along the last axis."""
    axis = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    cure = "Rows have one axis of features."
    reader.require(list(axis) in ([-1], [1]), label, "axis=-1", f"axis={layer.axis}", cure)


def _batch_norm(reader: _Reader, layer: Any, label: str) -> None:
    _features(reader, layer, label)
    reader.require(not getattr(layer, "renorm", False), label, "renorm=False", "True", "Train it again without.")
    fits = 0 <= layer.momentum < 1
    cure = "1 leaves the moments alone: set layer.momentum = 0.99."
    reader.require(fits, label, "0 <= momentum < 1", f"momentum={layer.momentum}", cure, training=True)
    state = _scale_and_shift(reader, layer, label)
    made = xpnn_layers.BatchNorm(layer.epsilon, _other_share(layer.momentum) if fits else 0.01)
    reader.chain.add(Part(made, state, len(state["weight"])))


def _layer_norm(reader: _Reader, layer: Any, label: str) -> None:
    _features(reader, layer, label)
    plain = not getattr(layer, "rms_scaling", False)
    reader.require(plain, label, "rms_scaling=False", "True", "Take RMSNormalization in its place.")
    state = _scale_and_shift(reader, layer, label)
    reader.chain.add(Part(xpnn_layers.LayerNorm(layer.epsilon), state, len(state["weight"])))


def _rms_norm(reader: _Reader, layer: Any, label: str) -> None:
    _features(reader, layer, label)
    reader.trained(layer, label)
    (scale,) = reader.values(layer)
    reader.chain.add(Part(xpnn_layers.RMSNorm(layer.epsilon), {"weight": scale}, len(scale)))


def _prelu(reader: _Reader, layer: Any, label: str) -> None:
    reader.trained(layer, label)
    (alpha,) = reader.values(layer)
    shared = bool(layer.shared_axes)
    reader.chain.add(Part(xpnn_layers.PReLU(per_unit=not shared), {"weight": alpha}, None if shared else len(alpha)))


def _relu(reader: _Reader, layer: Any, label: str) -> None:
    plain = layer.max_value is None and not layer.threshold
    got = f"max_value={layer.max_value}, threshold={layer.threshold}"
    reader.require(plain, label, "max_value=None and threshold=0", got, "Take another activation, and train again.")
    slope = float(layer.negative_slope)
    reader.chain.add(Part(xpnn_layers.LeakyReLU(slope) if slope else xpnn_layers.ReLU()))


def _softmax(reader: _Reader, layer: Any, label: str) -> None:
    reader.require(layer.axis in (-1, 1), label, "axis=-1, the features", f"axis={layer.axis}", "Set axis = -1.")
    reader.chain.add(Part(xpnn_layers.Softmax()))


def _embedding(reader: _Reader, layer: Any, label: str) -> None:
    reader.trained(layer, label)
    reader.require(not layer.mask_zero, label, "mask_zero=False", "True", "Nothing is masked here: set it to False.")
    (table,) = reader.values(layer)
    reader.chain.add(Part(xpnn_layers.Embedding(layer.input_dim, layer.output_dim), {"weight": table}, reader.n_in))


def _dropout(reader: _Reader, layer: Any, label: str) -> None:
    plain = layer.noise_shape is None
    reader.require(plain, label, "noise_shape=None", layer.noise_shape, "Set it to None.", training=True)
    reader.chain.add(Part(xpnn_layers.Dropout(layer.rate)))


def _leave_out(reader: _Reader, layer: Any, label: str) -> None:
    """Leave out a layer that passes rows as they are."""


#: By the names of Keras's classes.
_READERS: dict[str, Callable[[_Reader, Any, str], None]] = {
    "Activation": lambda reader, layer, label: reader.activation(layer.activation, label),
    "BatchNormalization": _batch_norm,
    "Dense": _dense,
    "Dropout": _dropout,
    "ELU": lambda reader, layer, label: reader.chain.add(Part(xpnn_layers.ELU(float(layer.alpha)))),
    "Embedding": _embedding,
    "Flatten": _leave_out,
    "Identity": lambda reader, layer, label: reader.chain.add(Part(xpnn_layers.Identity())),
    "LayerNormalization": _layer_norm,
    "LeakyReLU": lambda reader, layer, label: reader.chain.add(
        Part(xpnn_layers.LeakyReLU(float(layer.negative_slope)))
    ),
    "PReLU": _prelu,
    "RMSNormalization": _rms_norm,
    "ReLU": _relu,
    "Softmax": _softmax,
}

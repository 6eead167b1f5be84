"""Modules of PyTorch, read layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import layers as xpnn_layers
from ..errors import OptionError
from .chain import Chain, ChainReader, Part, joined

__all__ = ["PLAIN", "SOFTPLUS_THRESHOLD", "Reader"]

#: Classes that both libraries have under one name, without options.
PLAIN = ("Identity", "ReLU", "SELU", "SiLU", "Mish", "Sigmoid", "Tanh")
#: From where on torch's Softplus may be the identity: below 2.1e-9 off.
SOFTPLUS_THRESHOLD = 20.0


class Reader(ChainReader):
    """Reads modules into a chain.

    Parameters
    ----------
    torch, own : module
        PyTorch, and the modules that stand for layers it lacks.
    root : torch.nn.Module
        Which will be read.
    """

    to_predict = "call requires_grad_(False) on the whole module"

    def __init__(self, torch: Any, own: Any, root: Any) -> None:
        self.torch, self.own = torch, own
        self.chain = Chain("from_torch", any(p.requires_grad for p in root.parameters()))
        self.seen: dict[int, str] = {}
        tensors = {name: t for name, t in (*root.named_parameters(), *root.named_buffers())}
        self.dtype = self._dtype_of(tensors)

    def _dtype_of(self, tensors: Mapping[str, Any]) -> str:
        """Check that there are values, and return the name of their dtype here."""
        torch = self.torch
        for name, tensor in tensors.items():
            if torch.nn.parameter.is_lazy(tensor):
                raise OptionError(
                    f"from_torch: expected sizes that are known, got {name}, which is not. Run a batch through the "
                    "module first."
                )
            if tensor.is_meta:
                raise OptionError(
                    f"from_torch: expected values, got {name} on the meta device, which has none. Call "
                    "to_empty(device='cpu') and load_state_dict first."
                )
        given = {str(t.dtype).rpartition(".")[2] for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
        return self.common_dtype(given, "parameters", "Call module.float().")

    def read(self, module: Any, path: str) -> None:
        """Add a module, or what a Sequential holds."""
        for part in self._parts(module, path):
            self.chain.add(part)

    def _parts(self, module: Any, path: str) -> Iterator[Part]:
        nn = self.torch.nn
        self._check_hooks(module, path)
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for j, inner in enumerate(module):
                yield from self._parts(inner, f"{path}{j}.")
            return
        label = f"{path}{type(module).__name__}"
        if type(module) is nn.Flatten:
            if (module.start_dim, module.end_dim) != (1, -1):
                raise self.refusal(label, "start_dim=1 and end_dim=-1", module, "Rows are flat here.")
            self.chain.flatten()
            return
        self._check_shared(module, label)
        yield self._part(module, label)

    def _check_hooks(self, module: Any, path: str) -> None:
        if module._forward_hooks or module._forward_pre_hooks:
            raise OptionError(
                f"from_torch: {path}{type(module).__name__}: expected a module without hooks, got some, which may "
                "change what it computes. Remove them (torch.nn.utils.remove_weight_norm, remove_spectral_norm), or "
                "copy the layer."
            )

    def _check_shared(self, module: Any, label: str) -> None:
        """Raise if values stand in two places; modules without any may."""
        for name, parameter in module.named_parameters(recurse=False):
            before = self.seen.setdefault(id(parameter), label)
            if before != label:
                raise OptionError(
                    f"from_torch: {label}: expected a layer of its own in each place, got the {name} that {before} has "
                    "too. Layers do not share weights here: pass a deep copy of the module in one of the places."
                )

    def _part(self, module: Any, label: str) -> Part:
        kind, nn = type(module), self.torch.nn
        for library, table in ((nn, _READERS), (self.own, _OWN_READERS)):
            read = table.get(kind.__name__)
            if read is not None and kind is getattr(library, kind.__name__, None):
                return read(self, module, label)
        if kind.__name__ in PLAIN and kind is getattr(nn, kind.__name__):
            return Part(getattr(xpnn_layers, kind.__name__)())
        raise OptionError(f"from_torch: {label}: xpnn has no such layer. {_advice(kind.__name__)}")

    def parts_of(self, modules: Any, path: str) -> list[Part]:
        """Return the parts of a chain within a module."""
        return [part for j, inner in enumerate(modules) for part in self._parts(inner, f"{path}.{j}.")]

    def refusal(self, label: str, expected: str, got: Any, cure: str) -> OptionError:
        return super().refusal(label, expected, repr(got), cure)

    def array(self, tensor: Any) -> np.ndarray:
        """Return a tensor on the host; half precision as float32."""
        tensor = tensor.detach()
        host: np.ndarray = (tensor if tensor.dtype.itemsize >= 4 else tensor.float()).cpu().numpy()
        return host

    def frozen(self, module: Any) -> set[str]:
        """Return the names of a module's own parameters that stay as they are while others are trained."""
        if not self.chain.trains:
            return set()
        return {name for name, parameter in module.named_parameters(recurse=False) if not parameter.requires_grad}

    def state(self, module: Any) -> dict[str, np.ndarray]:
        """Return a module's own values under its names."""
        tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        return {name: self.array(tensor) for name, tensor in tensors if name != "num_batches_tracked"}

    def trained_state(self, module: Any, label: str) -> dict[str, np.ndarray]:
        """Return a module's own values, all of which are trained here."""
        frozen = sorted(self.frozen(module))
        self.require(
            not frozen,
            label,
            "parameters that are trained",
            f"frozen {', '.join(frozen)}",
            "Here Linear alone can be frozen beside others: call requires_grad_(True) on this layer.",
            training=True,
        )
        return self.state(module)

    def factors(self, module: Any, label: str) -> dict[str, float]:
        """Return ``lr_mult=0`` for a module whose parameters are frozen, all of them."""
        frozen = self.frozen(module)
        if frozen and len(frozen) < sum(1 for _ in module.parameters(recurse=False)):
            self.trained_state(module, label)
        return {"lr_mult": 0.0} if frozen else {}


def _advice(name: str) -> str:
    """Return what to do with a module that cannot come in."""
    for beginnings, advice in _ADVICE.items():
        if name.startswith(beginnings):
            return advice
    return "Write it as a torch.nn.Sequential of layers that both have, or leave it in PyTorch."


_REST = "Bring in the layers behind it alone, and give them the rows that it computes."
_ADVICE = {
    ("Conv", "MaxPool", "AvgPool", "Adaptive", "Upsample", "Pixel", "InstanceNorm", "GroupNorm", "BatchNorm"): _REST,
    ("LSTM", "GRU", "RNN", "Transformer", "MultiheadAttention", "EmbeddingBag"): _REST,
    ("LogSoftmax", "LogSigmoid"): "Leave it out: losses take raw outputs here, and own the link.",
    ("AlphaDropout", "FeatureAlphaDropout", "Dropout"): "Put a torch.nn.Dropout in its place.",
    ("Parametrized",): "Call torch.nn.utils.parametrize.remove_parametrizations first.",
    ("DataParallel", "DistributedDataParallel"): "Pass its .module.",
    ("OptimizedModule",): "Pass the module that was compiled.",
    ("Hardtanh", "ReLU6", "CELU", "Hard", "RReLU", "Softsign", "Softshrink", "Tanhshrink", "Threshold"): (
        "Take an activation that both have, or write a layer of your own."
    ),
}


def _linear(reader: Reader, module: Any, label: str) -> Part:
    state, frozen = reader.state(module), reader.frozen(module)
    state["weight"] = state["weight"].T
    factors: dict[str, Any] = {}
    if "weight" in frozen:
        factors = {"lr_mult": 0.0} if module.bias is None or "bias" in frozen else {"lr_mult": 0.0, "bias_lr_mult": 1.0}
    elif "bias" in frozen:
        factors = {"bias_lr_mult": 0.0}
    layer = xpnn_layers.Linear(module.out_features, bias=module.bias is not None, **factors)
    return Part(layer, state, module.in_features)


def _prelu(reader: Reader, module: Any, label: str) -> Part:
    per_unit = module.num_parameters > 1
    layer = xpnn_layers.PReLU(per_unit=per_unit)
    return Part(layer, reader.trained_state(module, label), module.num_parameters if per_unit else None)


def _softplus(reader: Reader, module: Any, label: str) -> Part:
    reader.require(module.beta == 1, label, "beta=1", f"beta={module.beta}", "Scale the weights around it instead.")
    reader.require(
        module.threshold >= SOFTPLUS_THRESHOLD,
        label,
        f"threshold >= {SOFTPLUS_THRESHOLD:g}, where log(1 + eˣ) is x",
        f"threshold={module.threshold}",
        "Here the function is whole: set module.threshold = 20.",
    )
    return Part(xpnn_layers.Softplus())


def _softmax(reader: Reader, module: Any, label: str) -> Part:
    reader.require(module.dim in (1, -1), label, "dim=-1, the features", f"dim={module.dim}", "Set module.dim = -1.")
    return Part(xpnn_layers.Softmax())


def _dropout(reader: Reader, module: Any, label: str) -> Part:
    reader.require(
        module.p < 1, label, "p < 1", f"p={module.p}", "It would drop all: leave that layer out.", training=True
    )
    return Part(xpnn_layers.Dropout(module.p if module.p < 1 else 0.0))


def _embedding(reader: Reader, module: Any, label: str) -> Part:
    cure = "Make a torch.nn.Embedding without it, and give that one the weight."
    reader.require(module.max_norm is None, label, "max_norm=None", module.max_norm, cure)
    for name, plain in (("padding_idx", None), ("scale_grad_by_freq", False)):
        value = getattr(module, name)
        reader.require(value is plain, label, f"{name}={plain}", value, cure, training=True)
    layer = xpnn_layers.Embedding(module.num_embeddings, module.embedding_dim)
    return Part(layer, reader.trained_state(module, label), getattr(module, "n_in", None))


def _scale_and_shift(reader: Reader, module: Any, label: str, n: int, *, shift: bool = True) -> dict[str, np.ndarray]:
    """Return the values of a norm; scales and shifts that it lacks are ones and zeros."""
    state = reader.trained_state(module, label)
    for name, fill in (("weight", 1.0), ("bias", 0.0)) if shift else (("weight", 1.0),):
        if name not in state:
            option = "affine" if hasattr(module, "affine") else "elementwise_affine"
            cure = f"Build it with {option}=True" + (" and bias=True." if name == "bias" else ".")
            reader.require(False, label, f"a {name}, which is trained here", None, cure, training=True)
            state[name] = np.full(n, fill)
    return state


def _batch_norm(reader: Reader, module: Any, label: str) -> Part:
    reader.require(
        module.running_mean is not None,
        label,
        "running moments",
        "track_running_stats=False",
        "It would standardize by the batch in prediction too: build it with track_running_stats=True.",
    )
    momentum = module.momentum
    fits = momentum is not None and 0 < momentum <= 1
    cure = "None is the mean over all batches, 0 leaves the moments alone: set module.momentum = 0.1."
    reader.require(fits, label, "0 < momentum <= 1", f"momentum={momentum}", cure, training=True)
    layer = xpnn_layers.BatchNorm(module.eps, momentum if fits else 0.1)
    return Part(layer, _scale_and_shift(reader, module, label, module.num_features), module.num_features)


def _by_row(reader: Reader, module: Any, label: str) -> tuple[int, float]:
    """Return the width and eps of a norm over the features of a row."""
    shape = tuple(module.normalized_shape)
    reader.require(len(shape) == 1, label, "a norm over one axis, the features", shape, "Flatten each sample first.")
    eps = module.eps
    if eps is None:  # of an RMSNorm
        dtype = getattr(reader.torch, reader.dtype) if module.weight is None else module.weight.dtype
        eps = reader.torch.finfo(dtype).eps
    return shape[0], eps


def _layer_norm(reader: Reader, module: Any, label: str) -> Part:
    n, eps = _by_row(reader, module, label)
    return Part(xpnn_layers.LayerNorm(eps), _scale_and_shift(reader, module, label, n), n)


def _rms_norm(reader: Reader, module: Any, label: str) -> Part:
    n, eps = _by_row(reader, module, label)
    return Part(xpnn_layers.RMSNorm(eps), _scale_and_shift(reader, module, label, n, shift=False), n)


def _residual(reader: Reader, module: Any, label: str) -> Part:
    parts = reader.parts_of(module, label)
    layers, state = joined(parts)
    n_in = next((part.n_in for part in parts if part.n_in is not None), None)
    return Part(xpnn_layers.Residual(*layers), state, n_in)


def _columns(reader: Reader, module: Any, label: str) -> Part:
    layers, state = joined(reader.parts_of(module, label))
    return Part(xpnn_layers.Columns(*zip(module.sizes, layers, strict=True)), state, module.n_in)


def _scale(reader: Reader, module: Any, label: str) -> Part:
    layer = xpnn_layers.Scale(**{"lr_mult": 1.0, **reader.factors(module, label)})
    return Part(layer, reader.state(module), module.weight.shape[0])


def _parametric(reader: Reader, module: Any, label: str) -> Part:
    (inner,) = reader.parts_of([module.activation], label)
    layer = xpnn_layers.ParametricActivation(inner.layer, **{"lr_mult": 1.0, **reader.factors(module, label)})
    return Part(layer, reader.state(module), module.weight.shape[0])


def _numerical(reader: Reader, module: Any, label: str) -> Part:
    options = reader.factors(module, label)
    layer = xpnn_layers.NumericalEmbedding(module.kind, dim=module.dim, n_frequencies=module.n_frequencies, **options)
    return Part(layer, reader.state(module), module.n_in)


def _member_scale(reader: Reader, module: Any, label: str) -> Part:
    return Part(xpnn_layers.MemberScale(module.members), reader.trained_state(module, label), module.n_in)


def _member_linear(reader: Reader, module: Any, label: str) -> Part:
    factors: dict[str, Any] = {name: getattr(module, name) is not None for name in ("scale_in", "scale_out")}
    layer = xpnn_layers.MemberLinear(module.width, module.members, **factors)
    return Part(layer, reader.trained_state(module, label), module.n_in)


def _member_head(reader: Reader, module: Any, label: str) -> Part:
    layer = xpnn_layers.MemberHead(module.width, module.members)
    return Part(layer, reader.trained_state(module, label), module.n_in)


_Read = Callable[[Reader, Any, str], Part]
#: By the names of PyTorch's classes.
_READERS: dict[str, _Read] = {
    "BatchNorm1d": _batch_norm,
    "Dropout": _dropout,
    "ELU": lambda reader, module, label: Part(xpnn_layers.ELU(module.alpha)),
    "Embedding": _embedding,
    "GELU": lambda reader, module, label: Part(xpnn_layers.GELU(module.approximate)),
    "LayerNorm": _layer_norm,
    "LeakyReLU": lambda reader, module, label: Part(xpnn_layers.LeakyReLU(module.negative_slope)),
    "Linear": _linear,
    "PReLU": _prelu,
    "RMSNorm": _rms_norm,
    "Softmax": _softmax,
    "Softplus": _softplus,
}
#: By the names of `xpnn.interop.torch_modules`.
_OWN_READERS: dict[str, _Read] = {
    "Columns": _columns,
    "Embedding": _embedding,
    "MemberHead": _member_head,
    "MemberLinear": _member_linear,
    "MemberScale": _member_scale,
    "NumericalEmbedding": _numerical,
    "ParametricActivation": _parametric,
    "Residual": _residual,
    "Scale": _scale,
    "Softmax": lambda reader, module, label: Part(xpnn_layers.Softmax(module.temperature)),
    "Step": lambda reader, module, label: Part(xpnn_layers.Step()),
}

"""Networks to PyTorch, and modules of PyTorch to networks."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from .. import layers as xpnn_layers
from ..backend import Backend
from ..errors import OptionError
from ..layers import Layer
from ..model import Sequential
from ..optional import needs
from .chain import single_network
from .torch_reader import PLAIN, SOFTPLUS_THRESHOLD, Reader

__all__ = ["from_torch", "param_groups", "to_torch"]


def to_torch(net: Sequential) -> Any:
    """Return a network as a `torch.nn.Sequential`, with its values, on the device of its tensors.

    Outputs and gradients are equal to rounding, in training too but for the masks of dropout, which PyTorch draws.
    Names are those of `Sequential.state_dict`; the matrices of `torch.nn.Linear` are transposed.  Layers that PyTorch
    lacks become modules of `xpnn.interop.torch_modules`, so that ``torch.export`` takes the whole.

    Parameters
    ----------
    net : Sequential
        One network, no replicas, of xpnn's own layers.

    Returns
    -------
    torch.nn.Sequential
        In ``eval`` mode: ``model.train()`` to train on.  Networks of half precision come as float32.  Layers with
        ``lr_mult=0`` are frozen (``requires_grad=False``); other factors are what `param_groups` is for.

    Raises
    ------
    OptionError
        If the network has replicas, or a layer of somebody's own; the message names it.
    """
    with needs("torch", "to_torch"):
        import torch
    net = single_network(net, "to_torch")
    writer = _Writer(torch)
    with torch.device("meta"):  # nothing is drawn: the global generator stays as it was
        model = torch.nn.Sequential(*map(writer.module, net.layers))
    device = net.backend.device if net.backend.name == "torch" else "cpu"
    dtype = getattr(torch, net.backend.wide_name)
    model = model.to(dtype).to_empty(device=device)
    places = dict(model.named_parameters()) | dict(model.named_buffers())
    transposed = _transposed(model, torch)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            places.pop(name).copy_(torch.as_tensor(value.T if name in transposed else value))
        for counter in places.values():  # num_batches_tracked
            counter.zero_()
    for name, spec in net.store.specs.items():
        if spec.lr_mult == 0:
            model.get_parameter(name).requires_grad_(False)
    return model.eval()


def param_groups(net: Sequential, model: Any, lr: float, *, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Return the parameters of what `to_torch` made, in groups with which PyTorch's optimizers step as xpnn's do.

    xpnn decays weights alone (no biases, no norms), and layers may have factors on their learning rate and decay.

    Parameters
    ----------
    net : Sequential
        The network.
    model : torch.nn.Module
        What `to_torch` made of it.
    lr : float
        Learning rate.
    weight_decay : float, default=0.0
        Strength of the weight decay.

    Returns
    -------
    list of dict
        For ``torch.optim.AdamW(groups)`` and others; frozen parameters are left out.
    """
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, spec in net.store.specs.items():
        if spec.lr_mult:
            decay = spec.decay_mult * weight_decay if spec.decay else 0.0
            groups.setdefault((spec.lr_mult * lr, decay), []).append(model.get_parameter(name))
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


def from_torch(
    module: Any, *, n_in: int | None = None, backend: str | Backend = "numpy", dtype: str | None = None
) -> Sequential:
    """Return a module of PyTorch as a network, with its values.

    Parameters
    ----------
    module : torch.nn.Module
        A `torch.nn.Sequential`, which may hold others, or a single layer: Linear, activations, dropout, norms, a first
        Embedding, and what `to_torch` makes.  Its mode (``train``, ``eval``) does not matter: the trainer has its own.
    n_in : int, optional
        Number of features, where no layer says it.
    backend : str or Backend, default="numpy"
        See `get_backend`.
    dtype : str, optional
        That of the module by default, or the given backend's; float32 for half precision.

    Returns
    -------
    Sequential
        Outputs, gradients and steps of optimizers are equal to rounding.  A frozen Linear (``requires_grad=False``) has
        ``lr_mult=0``.  `Flatten` is left out: rows are flat.

    Raises
    ------
    OptionError
        If xpnn has no such layer or option, or a module stands in two places; the message names it and what to do.
        What makes a difference in training alone (norms without scale, ``momentum=None``, frozen norms) is taken where
        nothing of the module is trained.
    """
    with needs("torch", "from_torch"):
        import torch
    if not isinstance(module, torch.nn.Module):
        raise OptionError(f"from_torch: expected a torch.nn.Module, got {type(module).__name__}. {_instead(module)}")
    reader = Reader(torch, _own(), module)
    reader.read(module, "")
    own = None if isinstance(backend, Backend) else reader.dtype
    return reader.chain.build(n_in, backend, dtype or own)


def _instead(given: Any) -> str:
    if isinstance(given, Mapping):
        return "A state_dict has no layers: build the module, call load_state_dict, and pass the module."
    if isinstance(given, Sequential):
        return "That is xpnn's network already."
    return "Pass a torch.nn.Sequential."


def _own() -> Any:
    """Return the modules that stand for layers PyTorch lacks."""
    return importlib.import_module(".torch_modules", __package__)


def _transposed(model: Any, torch: Any) -> set[str]:
    """Return the names of the matrices that lie the other way round here."""
    return {f"{name}.weight" for name, module in model.named_modules() if type(module) is torch.nn.Linear}


def _without_options(kind: Any, layer: Layer) -> Any:
    return kind()


# -- out -----------------------------------------------------------------------------------------------------------
class _Writer:
    """Makes modules of layers, without values."""

    def __init__(self, torch: Any) -> None:
        nn, own = torch.nn, _own()
        self.makers: dict[type[Layer], Callable[[Any], Any]] = {
            xpnn_layers.Linear: lambda a: nn.Linear(a.n_in, a.n_out, bias=a.bias),
            xpnn_layers.LeakyReLU: lambda a: nn.LeakyReLU(a.slope),
            xpnn_layers.PReLU: lambda a: nn.PReLU(a.n_in if a.per_unit else 1),
            xpnn_layers.ELU: lambda a: nn.ELU(a.alpha),
            xpnn_layers.GELU: lambda a: nn.GELU(approximate=a.approximate),
            xpnn_layers.Softplus: lambda a: nn.Softplus(threshold=2 * SOFTPLUS_THRESHOLD),  # e⁻⁴⁰ is nothing
            xpnn_layers.Softmax: lambda a: nn.Softmax(dim=-1) if a.temperature == 1 else own.Softmax(a.temperature),
            xpnn_layers.Step: lambda a: own.Step(),
            xpnn_layers.Dropout: lambda a: nn.Dropout(a.rate),
            xpnn_layers.BatchNorm: lambda a: nn.BatchNorm1d(a.n_in, eps=a.eps, momentum=a.momentum),
            xpnn_layers.LayerNorm: lambda a: nn.LayerNorm(a.n_in, eps=a.eps),
            xpnn_layers.RMSNorm: lambda a: nn.RMSNorm(a.n_in, eps=a.eps),
            xpnn_layers.Embedding: lambda a: own.Embedding(a.n_in, a.n_categories, a.dim),
            xpnn_layers.Residual: lambda a: own.Residual(*map(self.module, a.layers)),
            xpnn_layers.Scale: lambda a: own.Scale(a.n_in),
            xpnn_layers.ParametricActivation: lambda a: own.ParametricActivation(a.n_in, self.module(a.activation)),
            xpnn_layers.NumericalEmbedding: lambda a: own.NumericalEmbedding(a.n_in, a.kind, a.dim, a.n_frequencies),
            xpnn_layers.Columns: lambda a: own.Columns(
                a.n_in, [n for n, _ in a.groups], [self.module(layer) for layer in a.layers]
            ),
            xpnn_layers.MemberScale: lambda a: own.MemberScale(a.n_in, a.members),
            xpnn_layers.MemberLinear: lambda a: own.MemberLinear(
                a.n_in, a.width, a.members, scale_in=a.scale_in, scale_out=a.scale_out
            ),
            xpnn_layers.MemberHead: lambda a: own.MemberHead(a.n_in, a.width, a.members),
        }
        for name in PLAIN:
            self.makers[getattr(xpnn_layers, name)] = functools.partial(_without_options, getattr(nn, name))

    def module(self, layer: Layer) -> Any:
        """Return the module for a layer."""
        maker = self.makers.get(type(layer))
        if maker is None:
            raise OptionError(
                f"to_torch: expected layers of xpnn's own, got {layer.label or repr(layer)}. Write a module of PyTorch "
                "for it, and put the parts before and behind it, each a network, around that."
            )
        return maker(layer)

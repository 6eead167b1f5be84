"""Networks as operations: the layers themselves, run once on arrays that write down what is done to them.

So a layer needs nothing of its own to be exported, and a layer of the user's own neither, as long as its forward pass
is made of the Array API (`xpnn.interop.namespace` lists the functions).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..backend import Backend, to_numpy
from ..errors import OptionError, XpnnError
from ..layers.base import Layer
from ..layers.plan import Plan, unbound
from ..losses import Loss
from ..model import Sequential
from ..ops import Ops
from .build import Builder
from .namespace import traced_into
from .traced import Traced, made

__all__ = ["trace_link", "trace_network"]


def trace_network(builder: Builder, net: Sequential, value: str) -> Traced:
    """Return the raw outputs of a network for one row: of shape (1, n_out), or (K, 1, n_out) of replicas.

    Parameters
    ----------
    builder : Builder
        Takes the operations.
    net : Sequential
        The network, on any backend.
    value : str
        The row, of shape (n_in,); it is brought to the dtype that the network computes in.

    Raises
    ------
    OptionError
        If a layer does what a graph has no operation for; the message names it.
    """
    with traced_into(builder) as xp:
        dtype = np.dtype(net.backend.wide_name)
        given = builder.cast(value, "int64" if net.takes_integers else dtype.name)
        x = Traced(builder, given, (1, net.n_in))
        backend = Backend("trace", xp, "cpu", dtype, dtype.name, np.dtype(np.int64), Ops(xp, "cpu"))
        layers = copy.deepcopy(tuple(map(unbound, net.layers)))
        with net.backend.active():
            params, buffers = ({k: to_numpy(net.store.row_view(v)) for k, v in views.items()} for views in _views(net))
        rows = [
            {k: xp.asarray(array, dtype=array.dtype, device="cpu") for k, array in views.items()}
            for views in (params, params, buffers)
        ]
        try:
            plan = Plan.bind(layers, backend, *rows)
            if net.store.replicas and not layers[0].takes_shared_rows():
                x = xp.broadcast_to(x, (*net.store.replicas, *x.shape))
            y: Traced = plan.output(x)
        except Exception as error:
            raise _refusal(error) from error
    if builder.is_constant(y.value):
        raise OptionError("export: expected outputs that depend on the input, got constants. Check the last layers.")
    return y


def trace_link(builder: Builder, loss: Loss, outputs: Traced) -> Traced:
    """Return what a loss's link makes of raw outputs, of shape (1, n): of replicas the mean."""
    with traced_into(builder) as xp:
        try:
            linked = loss.link(outputs)
        except Exception as error:
            if isinstance(error, XpnnError):
                raise OptionError(f"export: {type(loss).__name__}.link {error}. Nothing was written.") from error
            raise OptionError(
                f"export: expected a link made of the Array API, got {type(loss).__name__}.link, which fails: {error}."
            ) from error
        return xp.mean(linked, axis=0) if linked.ndim == 3 else made(linked, linked.value, linked.shape)


def _views(net: Sequential) -> tuple[dict[str, Any], dict[str, Any]]:
    return net.store.params, net.store.named_buffers


def _refusal(error: Exception) -> OptionError:
    """Say which layer cannot be written down, and why."""
    found, at = "the network", error.__traceback__
    while at is not None:
        layer = at.tb_frame.f_locals.get("self")
        if isinstance(layer, Layer):
            found = layer.label or type(layer).__name__
        at = at.tb_next
    return OptionError(
        f"export: expected layers made of the functions of the Array API, got {found}, which {error}. "
        "Nothing was written; write its forward pass with xp = x.__array_namespace__()."
    )

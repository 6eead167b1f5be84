"""The same network in PyTorch and in JAX, from the same weights, with the same Adam; and xpnn's operations.

Shared by all benchmarks.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import PROJECT, MissingError

sys.path.insert(0, str(PROJECT))
import xpnn

__all__ = [
    "ADAM",
    "Weights",
    "first_weights",
    "jax_modules",
    "jax_outputs",
    "jax_state",
    "jax_step",
    "module",
    "numpy_backend",
    "torch_loss",
    "torch_module",
    "torch_net",
]

Weights = list[tuple[np.ndarray, np.ndarray]]  # (n_in, n_out) and (n_out,) of each layer
LR, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
ADAM = {"lr": LR, "betas": (BETA1, BETA2), "eps": EPS}  # for PyTorch


def numpy_backend(*, compiled: bool) -> xpnn.Backend:
    """Return xpnn's NumPy, with native code or without."""
    try:
        return xpnn.get_backend("numpy", compiled=compiled)
    except xpnn.errors.BackendUnavailableError as error:
        raise MissingError(str(error)) from error


def module(name: str) -> Any:
    """Import a library, or tell that it is not here."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f"not installed ({error})") from error


def torch_module() -> Any:
    """Import PyTorch, with as many threads as the environment says, if it does."""
    torch = module("torch")
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads is not None:
        torch.set_num_threads(int(threads))
    return torch


def first_weights(net: Any) -> Weights:
    """Copy the weights of an xpnn network of Linear layers."""
    params = [np.array(p) for p in net.params.values()]
    return list(zip(params[::2], params[1::2], strict=True))


# -- PyTorch ----------------------------------------------------------------------------------------------------
def torch_net(torch: Any, weights: Weights, device: str = "cpu") -> Any:
    """Return the network as torch.nn.Sequential."""
    layers: list[Any] = []
    for weight, bias in weights:
        linear = torch.nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight.T.copy()))
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1]).to(device)


def torch_loss(torch: Any, *, binary: bool = False) -> Callable[[Any, Any], Any]:
    """Return the mean loss on logits."""
    functional = torch.nn.functional
    return functional.binary_cross_entropy_with_logits if binary else functional.cross_entropy


# -- JAX --------------------------------------------------------------------------------------------------------
def jax_modules() -> tuple[Any, Any]:
    """Return jax and jax.numpy, with full-precision products."""
    jax = module("jax")
    jax.config.update("jax_default_matmul_precision", "highest")
    return jax, importlib.import_module("jax.numpy")


def jax_outputs(jax: Any, params: Any, x: Any) -> Any:
    """The logits of the network."""
    for weight, bias in params[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    return x @ params[-1][0] + params[-1][1]


def jax_state(jax: Any, jnp: Any, weights: Weights) -> Any:
    """Parameters, both moments and the number of steps made."""
    params = [(jnp.array(w), jnp.array(b)) for w, b in weights]
    return (params, *(jax.tree.map(jnp.zeros_like, params) for _ in range(2)), jnp.float32(0.0))


def jax_step(jax: Any, jnp: Any, *, binary: bool = False) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """Return the pure step: (state, x, y) to (state, loss before it)."""

    def mean_loss(params: Any, x: Any, y: Any) -> Any:
        logits = jax_outputs(jax, params, x)
        if binary:
            return jnp.mean(jax.nn.softplus(logits) - y * logits)
        picked = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - picked)

    def step(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        params, m, v, t = state
        value, grads = jax.value_and_grad(mean_loss)(params, x, y)
        t = t + 1
        m = jax.tree.map(lambda a, g: BETA1 * a + (1 - BETA1) * g, m, grads)
        v = jax.tree.map(lambda a, g: BETA2 * a + (1 - BETA2) * g * g, v, grads)
        c1, c2 = 1 - BETA1**t, 1 - BETA2**t
        params = jax.tree.map(lambda p, a, b: p - LR * (a / c1) / (jnp.sqrt(b / c2) + EPS), params, m, v)
        return (params, m, v, t), value

    return step

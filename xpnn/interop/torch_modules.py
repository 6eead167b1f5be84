"""Modules of PyTorch for the layers that it lacks: with them `to_torch` can write every network as a Sequential.

Each computes what the layer of the same name does, keeps its parameters under the same names and in the same layout,
and takes rows (..., batch, n_in).  They need PyTorch: ``pip install torch``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from ..optional import needs

with needs("torch", "xpnn.interop.torch_modules"):
    import torch
    from torch import nn

__all__ = [
    "Columns",
    "Embedding",
    "MemberHead",
    "MemberLinear",
    "MemberScale",
    "NumericalEmbedding",
    "ParametricActivation",
    "Residual",
    "Scale",
    "Softmax",
    "Step",
]

Tensor = Any


class Residual(nn.Sequential):  # type: ignore[misc]
    """Add what some modules compute to what went in."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + f(x)``."""
        return x + super().forward(x)


class Embedding(nn.Embedding):  # type: ignore[misc]
    """Look rows of a table up for each of `n_in` columns of category numbers, and put them side by side.

    The numbers may be whole floats, as in a table where they stand beside others.
    """

    def __init__(self, n_in: int, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.n_in = n_in

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., batch, n_in * dim)."""
        return super().forward(x.long()).flatten(-2)


class Scale(nn.Module):  # type: ignore[misc]
    """Multiply each feature by a learned factor."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_in))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x s``."""
        return x * self.weight


class ParametricActivation(nn.Module):  # type: ignore[misc]
    """Mix an activation with the identity, by a learned share for each unit."""

    def __init__(self, n_in: int, activation: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_in))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + a (f(x) - x)``."""
        return x + self.weight * (self.activation(x) - x)


class Softmax(nn.Module):  # type: ignore[misc]
    """Softmax over the features, with a temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the probabilities."""
        return torch.softmax(x / self.temperature, dim=-1)


class Step(nn.Module):  # type: ignore[misc]
    """Rosenblatt's threshold: 1 where ``x >= 0``, else 0, with derivative 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[x >= 0]`` as floats."""
        return (x >= 0).to(x.dtype) + 0.0 * torch.sign(x)  # whose derivative is 0, so that the graph goes on


class NumericalEmbedding(nn.Module):  # type: ignore[misc]
    """Turn each column of numbers into several features, by waves whose frequencies are learned."""

    def __init__(self, n_in: int, kind: str, dim: int, n_frequencies: int) -> None:
        super().__init__()
        self.n_in, self.kind, self.dim, self.n_frequencies = n_in, kind, dim, n_frequencies
        learned, waves = (dim - 1, n_frequencies) if kind == "pbld" else (dim, 2 * n_frequencies)
        self.frequencies = nn.Parameter(torch.zeros(n_in, 1, n_frequencies))
        self.weight = nn.Parameter(torch.zeros(n_in, waves, learned))
        self.bias = nn.Parameter(torch.zeros(n_in, 1, learned))
        if kind == "pbld":
            self.phases = nn.Parameter(torch.zeros(n_in, 1, n_frequencies))

    def extra_repr(self) -> str:
        return f"{self.n_in}, kind={self.kind!r}, dim={self.dim}, n_frequencies={self.n_frequencies}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (..., batch, n_in * dim)."""
        columns = x.mT.unsqueeze(-1)  # (..., n_in, batch, 1)
        angle = columns * (self.frequencies * (2 * math.pi))
        if self.kind == "pbld":
            y = torch.cos(angle + self.phases) @ self.weight + self.bias
            y = torch.cat([y, columns], dim=-1)
        else:
            y = torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1) @ self.weight + self.bias
            y = torch.relu(y) if self.kind == "plr" else y
        return y.transpose(-3, -2).flatten(-2)


class Columns(nn.ModuleList):  # type: ignore[misc]
    """Give each group of columns to a module of its own, and put what they return, and the rest, side by side."""

    def __init__(self, n_in: int, sizes: Sequence[int], modules: Sequence[Any]) -> None:
        super().__init__(modules)
        self.n_in, self.sizes = n_in, tuple(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the groups' outputs, and the columns behind the last of them as they are."""
        starts = list(itertools.accumulate(self.sizes, initial=0))
        parts = [module(x[..., a:b]) for module, (a, b) in zip(self, itertools.pairwise(starts), strict=True)]
        return torch.cat([*parts, x[..., starts[-1] :]], dim=-1)


class MemberScale(nn.Module):  # type: ignore[misc]
    """Give each of K members its own version of the features."""

    def __init__(self, n_in: int, members: int) -> None:
        super().__init__()
        self.n_in, self.members = n_in, members
        self.weight = nn.Parameter(torch.ones(members * n_in))

    def extra_repr(self) -> str:
        return f"{self.n_in}, members={self.members}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the members' features (..., batch, K * n_in)."""
        return torch.cat([x] * self.members, dim=-1) * self.weight


class MemberLinear(nn.Module):  # type: ignore[misc]
    """Affine map of each member's features by one weight for all, and factors of their own."""

    def __init__(self, n_in: int, width: int, members: int, *, scale_in: bool, scale_out: bool) -> None:
        super().__init__()
        self.n_in, self.width, self.members = n_in, width, members
        self.weight = nn.Parameter(torch.zeros(n_in // members, width))
        self.scale_in = nn.Parameter(torch.ones(n_in)) if scale_in else None
        self.scale_out = nn.Parameter(torch.ones(members * width)) if scale_out else None
        self.bias = nn.Parameter(torch.zeros(members * width if scale_out else width))

    def extra_repr(self) -> str:
        return f"{self.n_in}, width={self.width}, members={self.members}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the members' outputs (..., batch, K * width)."""
        h = x if self.scale_in is None else x * self.scale_in
        z = h.unflatten(-1, (self.members, -1)) @ self.weight
        if self.scale_out is None:
            return (z + self.bias).flatten(-2)
        return z.flatten(-2) * self.scale_out + self.bias


class MemberHead(nn.Module):  # type: ignore[misc]
    """Affine map of each member's features by a weight of its own."""

    def __init__(self, n_in: int, width: int, members: int) -> None:
        super().__init__()
        self.n_in, self.width, self.members = n_in, width, members
        self.weight = nn.Parameter(torch.zeros(members, n_in // members, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def extra_repr(self) -> str:
        return f"{self.n_in}, width={self.width}, members={self.members}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the members' outputs (..., batch, K * width)."""
        by_member = x.unflatten(-1, (self.members, -1)).transpose(-3, -2)
        return (by_member @ self.weight + self.bias).transpose(-3, -2).flatten(-2)

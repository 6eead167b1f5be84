"""Arrays side by side in one vector, and the sum of such vectors over all shards."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._typing import Array
from ..backend import Backend, to_numpy
from ..distributed.tree import Tree

__all__ = ["Layout", "summed"]


def summed(
    backend: Backend, tree: Tree, leaf: Callable[[int], Array], like: Array, spare: list[Array] | None = None
) -> Array:
    """Return the sum over the leaves on the backend's device; groups of CPUs exchange arrays of the host."""
    free = None if spare is None else spare.append
    if tree.group.size == 1 or tree.group.on_device or backend.xp is np:
        return tree.sum(backend.xp, leaf, free)
    nodes = [np.array(to_numpy(node)) for node in tree.nodes(leaf, free)]
    return backend.asarray(tree.exchange(np, nodes), dtype=like.dtype)


class Layout:
    """Where arrays lie in one vector."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._shapes = [tuple(array.shape) for array in arrays]
        edges = np.cumsum([0, *(int(np.prod(shape)) for shape in self._shapes)]).tolist()
        self._places = [slice(a, b) for a, b in itertools.pairwise(edges)]
        self.size: int = edges[-1]

    def write(self, xp: Any, vector: Array, arrays: Sequence[Array], factors: Sequence[float]) -> None:
        """Fill a vector with arrays, the first of them times factors."""
        for k, (array, place) in enumerate(zip(arrays, self._places, strict=True)):
            part = vector[place]
            part[...] = xp.reshape(array, (-1,))
            if k < len(factors):
                part *= factors[k]

    def read(self, xp: Any, vector: Array) -> list[Array]:
        """Return views of the arrays in a vector."""
        return [xp.reshape(vector[place], shape) for place, shape in zip(self._places, self._shapes, strict=True)]

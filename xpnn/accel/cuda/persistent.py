"""Many steps of a small network as one launch: what ``persistent.cu`` is told of the network, and its launch.

A `Program` says what a step is.  Its plan is a row of integers, a head and records of linear layers and maps, and its
constants are a row of floats; both are laid out by the names that stand in ``persistent.cu``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..._typing import Array
from . import kernels
from .kernels import Kernels

__all__ = [
    "CONSTANTS",
    "FLOAT",
    "HEAD",
    "LINEAR",
    "MAPS",
    "PART",
    "TILE",
    "Dense",
    "Epoch",
    "Map",
    "Program",
    "Steps",
    "source",
]

#: The head of a plan, and the record of a linear layer.
HEAD = (
    *("linears", "first_maps", "batch", "parameters", "columns", "keys", "loss", "accuracy", "rule", "nesterov"),
    *("decay", "decayed", "row_losses", "row_hits", "norm_parts"),
)
LINEAR = ("n_in", "n_out", "weight", "bias", "input", "output", "slope", "delta", "maps", "map_count")
#: The first of the constants; two for each map follow.
CONSTANTS = ("keep_share", "spread", "momentum", "gain", "largest_norm")
#: Kinds of elementwise maps, losses, metrics and rules, by the numbers by which the kernel knows them.
MAPS = {"rectify": 0, "leak": 1, "exponential": 2, "drop": 3}
LOSSES = {"softmax": 0, "logistic": 1, "squares": 2}
METRICS = {"no_metric": 0, "by_classes": 1, "by_outputs": 2}
RULES = {"adam": 0, "descent": 1}
#: Rows and columns of the sums that a block makes at once, and gradients whose squares it sums at once.
TILE = 16
PART = 4096

#: Options of the compiler, for products in full float32, and on tensor cores (TensorFloat-32).
FLOAT = kernels.OPTIONS
TENSOR_FLOAT = (*kernels.OPTIONS, "-DTENSOR_FLOAT")

_THREADS = 256


def source() -> str:
    """Return the CUDA source: that of all kernels, whose functions it uses, and its own."""
    return kernels.source() + Path(__file__).with_name("persistent.cu").read_text(encoding="utf-8")


class Map(NamedTuple):
    """An elementwise map: its kind, its column of the keys, and two numbers."""

    kind: str
    column: int
    numbers: tuple[float, float] = (0.0, 0.0)


class Dense(NamedTuple):
    """A linear layer: sizes, where its parameters are in the flat buffers, and the maps behind it."""

    n_in: int
    n_out: int
    weight: int
    bias: int  #: -1: none
    maps: Sequence[Map]


class Program(NamedTuple):
    """What a step is; names are those of `HEAD` and `CONSTANTS`."""

    linears: Sequence[Dense]
    first_maps: Sequence[Map]  #: before the first linear layer
    batch: int
    head: dict[str, int]  #: all of the head but what the fields above say, and places
    constants: dict[str, float]

    @property
    def tiles(self) -> int:
        """How many blocks have something to do in the busiest phase."""
        sizes = [(self.batch, of.n_out) for of in self.linears] + [(of.n_in + 1, of.n_out) for of in self.linears]
        return max(-(-rows // TILE) * -(-cols // TILE) for rows, cols in sizes)

    @property
    def scratch(self) -> int:
        """How many numbers the steps keep beside parameters and their gradients."""
        return self._laid_out()[1]

    def plan(self) -> list[int]:
        """Return the plan."""
        return self._laid_out()[0]

    def numbers(self) -> list[float]:
        """Return the constants."""
        return [*(self.constants[name] for name in CONSTANTS), *(n for one in self._maps() for n in one.numbers)]

    def _maps(self) -> Iterator[Map]:
        """Yield all maps, those of the inputs first."""
        yield from self.first_maps
        for of in self.linears:
            yield from of.maps

    def _laid_out(self) -> tuple[list[int], int]:
        """Return the plan and the length of the scratch memory."""
        end = 0

        def place(count: int) -> int:
            nonlocal end
            begin, end = end, end + -(-count // TILE) * TILE
            return begin

        records: list[dict[str, int]] = []
        before, maps = -1, len(self.first_maps)
        if self.first_maps:
            before = place(self.batch * self.linears[0].n_in)
        for of in self.linears:
            cells = self.batch * of.n_out
            record = {"n_in": of.n_in, "n_out": of.n_out, "weight": of.weight, "bias": of.bias, "input": before}
            record |= {"output": place(cells), "delta": place(cells), "maps": maps, "map_count": len(of.maps)}
            record["slope"] = place(cells) if of.maps else -1
            before, maps = record["output"], maps + len(of.maps)
            records.append(record)
        head = self.head | {"linears": len(self.linears), "first_maps": len(self.first_maps), "batch": self.batch}
        head |= {"row_losses": place(self.batch), "row_hits": place(self.batch)}
        head["norm_parts"] = place(-(-head["parameters"] // PART))
        flat = [head[name] for name in HEAD]
        flat += [record[name] for record in records for name in LINEAR]
        flat += [part for one in self._maps() for part in (MAPS[one.kind], one.column)]
        return flat, end


class Epoch(NamedTuple):
    """The rows of an epoch and the tables of its steps, on the device."""

    x: Array
    order: Array | None  #: in which to take the rows, by number; None: as they lie
    labels: Array | None
    targets: Array | None  #: where there are no labels
    weights: Array | None
    numbers: Array
    keys: Array
    losses: Array
    sums: Array | None


class Steps:
    """Makes the steps of a program; the arrays of the network and of its optimizer stay where they are.

    They are `values`, `grads`, the state, one or two arrays or None, and the factors of learning rate and decay.  There
    are as many blocks as multiprocessors, or fewer where fewer have something to do; one where the device cannot keep
    blocks together.
    """

    def __init__(self, kernel: Kernels, cupy: Any, program: Program, arrays: Sequence[Array | None]) -> None:
        attributes = cupy.cuda.Device().attributes
        most = attributes["MultiProcessorCount"] if attributes.get("CooperativeLaunch") else 1
        self.blocks = max(min(most, program.tiles), 1)
        self._kernel, self._arrays = kernel, list(arrays)
        self._plan = cupy.asarray(np.asarray(program.plan(), np.int32))
        self._constants = cupy.asarray(np.asarray(program.numbers(), np.float32))
        self._scratch = cupy.empty((program.scratch,), np.float32)
        self._meeting = cupy.asarray(np.zeros(2, np.int32))

    def launch(self, epoch: Epoch, first: int, count: int) -> None:
        """Make `count` steps of an epoch from number `first` on, on the current stream."""
        network = (self._plan, self._constants, *self._arrays, self._scratch, self._meeting)
        self._kernel.launch("train_steps", (self.blocks,), (_THREADS,), *network, *epoch, first, count)

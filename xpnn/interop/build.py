"""Writing a graph down, an operation at a time: constants are folded, what is computed twice is computed once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import OptionError
from .graph import ELEMENTWISE, DTypeName, Graph, HostArray, Input, Node, Value, compute, dtype_name

__all__ = ["Builder"]

_SMALL = 4096  # bytes of constants that are compared, to keep equal ones once
_NEUTRAL = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}


class Builder:
    """Makes a `Graph`.

    `op` returns the name of a value, or of a constant where all operands are constants.  Shapes and dtypes follow from
    the operation itself, computed for one row of ones.

    Examples
    --------
    >>> b = Builder()
    >>> x = b.input("x", "number")
    >>> y = b.op("mul", x, b.constant(2.0))
    >>> graph = b.graph({"twice": y})
    >>> graph
    Graph(1 inputs, 1 operations, 1 numbers, outputs 'twice')
    """

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.constants: dict[str, HostArray] = {}
        self.nodes: list[Node] = []
        self._made: dict[str, Node] = {}
        self._examples: dict[str, HostArray] = {}  # one row
        self._known: dict[Any, str] = {}
        self._numbers = itertools.count()

    # -- leaves ---------------------------------------------------------------------------------------------
    def input(self, name: str, kind: Any, *, shape: tuple[int, ...] = (1,), dtype: str | None = None) -> str:
        """Add what is given for each row, and return its value."""
        dtype = dtype or ("text" if kind == "text" else "float64")
        value = f"x{len(self.inputs)}"
        example = np.full((1, *shape), "", dtype=object) if dtype == "text" else np.ones((1, *shape), dtype=dtype)
        self.inputs.append(Input(name, value, kind, shape, dtype_name(example)))
        self._examples[value] = example
        return value

    def constant(self, array: Any, dtype: str | None = None) -> str:
        """Add a constant, unless there is an equal small one."""
        made = np.asarray(array, dtype=dtype)
        made = made.astype(object) if made.dtype.kind in "UT" else made
        key = None
        if made.nbytes <= _SMALL:
            key = (
                made.shape,
                made.dtype.str,
                tuple(made.ravel().tolist()) if made.dtype.kind == "O" else made.tobytes(),
            )
            if key in self._known:
                return self._known[key]
        dtype_name(made)  # or it says what a graph holds
        name = f"c{next(self._numbers)}"
        self.constants[name] = made
        if key is not None:
            self._known[key] = name
        return name

    # -- what is known ----------------------------------------------------------------------------------------
    def is_constant(self, name: str) -> bool:
        """Whether it is a constant."""
        return name in self.constants

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape, of a value for one row."""
        return self.constants[name].shape if name in self.constants else self._examples[name].shape[1:]

    def dtype(self, name: str) -> DTypeName:
        """Return the dtype."""
        return dtype_name(self.constants[name] if name in self.constants else self._examples[name])

    # -- operations -----------------------------------------------------------------------------------------
    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation, and return the name of its result."""
        if all(map(self.is_constant, inputs)):
            return self._folded(op, inputs, attributes)
        if op in ELEMENTWISE:
            inputs = self._aligned(inputs)
        if (known := self._simpler(op, inputs, attributes)) is not None:
            return known
        key = (op, inputs, tuple(sorted(attributes.items())))
        if key not in self._known:
            name = f"v{next(self._numbers)}"
            of_rows = [not self.is_constant(operand) for operand in inputs]
            operands = [
                self._examples[operand] if rows else self.constants[operand]
                for operand, rows in zip(inputs, of_rows, strict=True)
            ]
            self._examples[name] = compute(op, operands, of_rows, attributes)
            node = Node(op, inputs, name, attributes)
            self.nodes.append(node)
            self._made[name] = node
            self._known[key] = name
        return self._known[key]

    def _folded(self, op: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> str:
        operands = [self.constants[name] for name in inputs]
        rank = max(operand.ndim for operand in operands)
        if op == "gather":
            return self.constant(compute(op, operands, [False, False], attributes))
        if op in ELEMENTWISE or op == "matmul":
            operands = [operand.reshape((1,) * (rank - operand.ndim) + operand.shape) for operand in operands]
        rows = [operand[None] for operand in operands]
        return self.constant(compute(op, rows, [True] * len(rows), attributes)[0])

    def _aligned(self, inputs: Sequence[str]) -> tuple[str, ...]:
        """Give operands of the rows as many axes as the one with the most."""
        rank = max(len(self.shape(name)) for name in inputs)
        return tuple(
            name
            if self.is_constant(name)
            else self.reshape(name, (1,) * (rank - len(self.shape(name))) + self.shape(name))
            for name in inputs
        )

    def _simpler(self, op: str, inputs: tuple[str, ...], attributes: Mapping[str, Any]) -> str | None:
        """Return what is there already, or needs less than this operation."""
        first = inputs[0]
        if op == "reshape":
            if attributes["shape"] == self.shape(first):
                return first
            made = self._made.get(first)
            return self.reshape(made.inputs[0], attributes["shape"]) if made and made.op == "reshape" else None
        if op in _NEUTRAL:
            return self._unchanged(first, inputs[1], _NEUTRAL[op])
        if op == "cast":
            return first if attributes["dtype"] == self.dtype(first) else None
        if op == "expand":
            return first if attributes["shape"] == self.shape(first) else None
        if op == "transpose":
            return self._moved(first, attributes["axes"])
        if op == "concat":
            return first if len(inputs) == 1 else None
        return self._part(first, **attributes) if op == "slice" else None

    def _unchanged(self, x: str, by: str, neutral: float) -> str | None:
        """A number that changes nothing: onnxruntime, too, takes such operations away, and stumbles in some graphs."""
        array = self.constants.get(by)
        same = array is not None and x not in self.constants and array.dtype.name == self.dtype(x)
        if not same or array is None or not (array == neutral).all():
            return None
        return x if np.broadcast_shapes(array.shape, self.shape(x)) == self.shape(x) else None

    def _moved(self, x: str, axes: tuple[int, ...]) -> str | None:
        """A transpose that moves axes of size 1 alone is a reshape."""
        shape = self.shape(x)
        long = [axis for axis in axes if shape[axis] != 1]
        return self.reshape(x, tuple(shape[axis] for axis in axes)) if long == sorted(long) else None

    def _part(self, x: str, *, axis: int, start: int, stop: int) -> str | None:
        """A part of what was put together of parts is made of those."""
        if (start, stop) == (0, self.shape(x)[axis]):
            return x
        made = self._made.get(x)
        if made is None or made.op != "concat" or made.attributes["axis"] != axis:
            return None
        parts, end = [], 0
        for name in made.inputs:
            begin, end = end, end + self.shape(name)[axis]
            low, high = max(start, begin), min(stop, end)
            if low < high:
                parts.append(self.op("slice", name, axis=axis, start=low - begin, stop=high - begin))
        return self.op("concat", *parts, axis=axis)

    # -- shorter ----------------------------------------------------------------------------------------------
    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        """Return the same elements in another shape."""
        return self.op("reshape", x, shape=tuple(shape))

    def cast(self, x: str, dtype: str) -> str:
        """Return elements as another dtype."""
        return self.op("cast", x, dtype=dtype)

    def with_number(self, op: str, x: str, number: float) -> str:
        """Combine a value with a number of its dtype."""
        return self.op(op, x, self.constant(number, self.dtype(x)))

    # -- the end ------------------------------------------------------------------------------------------------
    def graph(self, outputs: Mapping[str, str], info: Mapping[str, Any] | None = None) -> Graph:
        """Return the graph of what is needed for these outputs; all inputs stay."""
        for name, value in outputs.items():
            if self.is_constant(value):
                raise OptionError(f"graph: expected {name!r} to depend on the inputs, got a constant. Check the model.")
        needed = set(outputs.values())
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if node.output in needed:
                kept.append(node)
                needed |= set(node.inputs)
        values = [*(each.value for each in self.inputs), *(node.output for node in reversed(kept))]
        return Graph(
            tuple(self.inputs),
            {name: array for name, array in self.constants.items() if name in needed},
            tuple(reversed(kept)),
            {name: Value(self.shape(name), self.dtype(name)) for name in values},
            dict(outputs),
            dict(info or {}),
        )

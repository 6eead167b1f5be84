r"""A model as a list of primitive operations on one row: what every exporter prints.

A `Graph` says what is computed for one row.  Its inputs are the raw columns of a table, or one row of features; its
constants are arrays; each `Node` computes one value from others.  A value is either *of the rows*, then it has a shape
for one row and, where many rows are computed at once, one more axis before all others; or a constant, which has not.

What holds in every graph, so that writers are short:

- Shapes and dtypes (``float32``, ``float64``, ``int64``, ``bool``, ``text``) of all values are known.
- Axes count from the end: -1 is the last.
- Where values of several operands are combined element by element (`ELEMENTWISE`), operands of the rows have as many
  axes as the result, constants at most as many: shapes broadcast as NumPy's do, with the axis of the rows and without.
- What follows from constants alone is a constant: each node has an operand of the rows.
- Nodes stand in an order in which they can be computed, and each is needed for an output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import DataError, ShapeError
from ..special import erf, sigmoid, softmax

__all__ = ["ELEMENTWISE", "OPS", "UNARY", "Graph", "Input", "Node", "Value", "compute", "dtype_name", "run"]

HostArray = npt.NDArray[Any]
DTypeName = Literal["float32", "float64", "int64", "bool", "text"]


@dataclass(frozen=True, slots=True)
class Input:
    """What is given for each row.

    Attributes
    ----------
    name : str
        Of the column, as it is; ``"features"`` for a row of numbers.
    value : str
        The name of the value in the graph.
    kind : {"number", "text", "time", "features"}
        A number, NaN where it is missing; text without spaces around it, empty where it is missing; a time as seconds
        since 1970-01-01T00:00 without a zone, NaN where it is missing; or the numbers of a row.
    shape : tuple of int
        For one row: ``(1,)`` of a column, ``(n_in,)`` of features.
    dtype : str
        ``"float64"`` or ``"text"`` of columns; of features what the model computes with.
    """

    name: str
    value: str
    kind: Literal["number", "text", "time", "features"]
    shape: tuple[int, ...]
    dtype: DTypeName


@dataclass(frozen=True, slots=True)
class Value:
    """Shape for one row, and dtype."""

    shape: tuple[int, ...]
    dtype: DTypeName


@dataclass(frozen=True, slots=True)
class Node:
    """One operation: its name in `OPS`, the names of its operands, that of its result, and its options.

    ================================ ================================================================================
    operation                        result
    ================================ ================================================================================
    neg abs exp expm1 log log1p      of each element
    sqrt sin cos tanh erf sigmoid
    floor round isnan not
    add sub mul div pow max min      of pairs of elements
    less less_equal greater          whether, of pairs of elements: ``bool``
    greater_equal equal and or
    where                            the second operand's element where the first, ``bool``, is true, else the third's
    cast (dtype)                     elements as another dtype; from floats to ``int64`` they are cut off
    matmul                           product of a value (..., m, k), or (k,), and a constant (k, n); or of a value and a
                                     constant with as many axes (..., k, n), which broadcast before the last two
    reduce_sum reduce_mean           along an `axis`, which falls away
    reduce_max reduce_min (axis)
    softmax                          positive numbers that sum to 1 along the last axis
    argmax                           where the first largest element of the last axis is, which falls away: ``int64``
    concat (axis)                    operands side by side; some may be constants
    slice (axis, start, stop)        a part of an axis
    take (axis, indices)             elements of an axis, by a fixed list of places
    reshape (shape)                  the same elements, in the same order
    transpose (axes)                 axes in another order: result axis i is axis ``axes[i]``, both counted from 0
    expand (shape)                   repeated along axes of size 1
    gather                           the rows of a constant table (m, ...) that the second operand, ``int64``, names
    lookup (keys, values, default)   of ``text`` the number that belongs to it: ``int64``
    ================================ ================================================================================
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A model as operations on one row.

    Attributes
    ----------
    inputs : tuple of Input
        What is given.
    constants : dict of str to numpy.ndarray
        By the names that nodes call them; text as objects.
    nodes : tuple of Node
        In the order of computation.
    values : dict of str to Value
        Of inputs and nodes.
    outputs : dict of str to str
        Names of what is computed, such as ``"label"`` and ``"probabilities"``, to those of values.
    info : dict
        JSON-able facts: version, task, classes, columns.
    """

    inputs: tuple[Input, ...]
    constants: Mapping[str, HostArray]
    nodes: tuple[Node, ...]
    values: Mapping[str, Value]
    outputs: Mapping[str, str]
    info: Mapping[str, Any] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value for one row, or of a constant."""
        constant = self.constants.get(name)
        return self.values[name].shape if constant is None else constant.shape

    def __repr__(self) -> str:
        size = sum(array.size for array in self.constants.values())
        names = ", ".join(map(repr, self.outputs))
        return f"Graph({len(self.inputs)} inputs, {len(self.nodes)} operations, {size:,} numbers, outputs {names})"


# -- operations on NumPy -------------------------------------------------------------------------------------------
def _cast(x: HostArray, *, dtype: str) -> HostArray:
    return x.astype(dtype)


def _concat(*parts: HostArray, axis: int) -> HostArray:
    return np.concatenate(parts, axis=axis)


def _slice(x: HostArray, *, axis: int, start: int, stop: int) -> HostArray:
    place: Any = (..., slice(start, stop), *[slice(None)] * (-1 - axis))
    return np.asarray(x[place])


def _take(x: HostArray, *, axis: int, indices: tuple[int, ...]) -> HostArray:
    return np.take(x, np.asarray(indices, dtype=np.int64), axis=axis)


def _reshape(x: HostArray, *, shape: tuple[int, ...]) -> HostArray:
    return x.reshape(len(x), *shape)


def _transpose(x: HostArray, *, axes: tuple[int, ...]) -> HostArray:
    return np.transpose(x, (0, *(axis + 1 for axis in axes)))


def _expand(x: HostArray, *, shape: tuple[int, ...]) -> HostArray:
    return np.broadcast_to(x, (len(x), *shape))


def _gather(table: HostArray, index: HostArray) -> HostArray:
    return table[index]


def _lookup(x: HostArray, *, keys: tuple[str, ...], values: tuple[int, ...], default: int) -> HostArray:
    known = dict(zip(keys, values, strict=True))
    found = [known.get(text, default) for text in x.ravel().tolist()]
    return np.asarray(found, dtype=np.int64).reshape(x.shape)


def _special(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: function(x, xp=np)


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, *, axis: function(x, axis=axis)


_UNARY: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "abs": np.abs,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "erf": _special(erf),
    "sigmoid": _special(sigmoid),
    "floor": np.floor,
    "round": np.round,
    "isnan": np.isnan,
    "not": np.logical_not,
}
_PAIRS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "max": np.maximum,
    "min": np.minimum,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "and": np.logical_and,
    "or": np.logical_or,
}
#: Operations of several operands, element by element.
ELEMENTWISE = frozenset({*_PAIRS, "where"})
#: Operations of each element by itself.
UNARY = frozenset(_UNARY)
#: What each operation computes, with NumPy: operands of the rows have the axis of the rows first.
OPS: dict[str, Callable[..., Any]] = {
    **_UNARY,
    **_PAIRS,
    "where": np.where,
    "cast": _cast,
    "matmul": np.matmul,
    "reduce_sum": _reduced(np.sum),
    "reduce_mean": _reduced(np.mean),
    "reduce_max": _reduced(np.max),
    "reduce_min": _reduced(np.min),
    "softmax": _special(softmax),
    "argmax": lambda x: np.argmax(x, axis=-1),
    "concat": _concat,
    "slice": _slice,
    "take": _take,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _expand,
    "gather": _gather,
    "lookup": _lookup,
}


def compute(op: str, operands: list[HostArray], of_rows: list[bool], attributes: Mapping[str, Any]) -> HostArray:
    """Compute one operation on NumPy arrays, of which some are `of_rows`: they have the axis of the rows first."""
    if op == "concat" and not all(of_rows):
        n = next(len(x) for x, rows in zip(operands, of_rows, strict=True) if rows)
        operands = [x if rows else np.broadcast_to(x, (n, *x.shape)) for x, rows in zip(operands, of_rows, strict=True)]
    with np.errstate(all="ignore"):  # as every other runtime has it
        return np.asarray(OPS[op](*operands, **attributes))


def dtype_name(array: HostArray) -> DTypeName:
    """Return the name that a graph has for the dtype of an array.

    Examples
    --------
    >>> dtype_name(np.zeros(1)), dtype_name(np.asarray(["a"], dtype=object))
    ('float64', 'text')
    """
    if array.dtype.kind in "OUT":
        return "text"
    names: dict[str, DTypeName] = {"float32": "float32", "float64": "float64", "int64": "int64", "bool": "bool"}
    if array.dtype.name not in names:
        raise DataError(f"graph: expected {', '.join(names)} or text, got an array of {array.dtype}. Convert it.")
    return names[array.dtype.name]


def run(graph: Graph, columns: Mapping[str, npt.ArrayLike]) -> dict[str, HostArray]:
    """Compute a graph with NumPy: what every written form is compared with.

    Parameters
    ----------
    graph : Graph
        The model.
    columns : mapping of str to array
        By the names of the graph's inputs, ``(n,)`` or ``(n, 1)`` of columns and ``(n, n_in)`` of features.

    Returns
    -------
    dict of str to numpy.ndarray
        By the names of its outputs, with the axis of the rows first.

    Raises
    ------
    DataError
        If a column is absent.
    ShapeError
        If columns have different lengths or widths.

    Examples
    --------
    >>> x = Input("x", "x0", "number", (1,), "float64")
    >>> nodes = (Node("mul", ("x0", "c0"), "v0"),)
    >>> values = {name: Value((1,), "float64") for name in ("x0", "v0")}
    >>> graph = Graph((x,), {"c0": np.asarray(2.0)}, nodes, values, {"twice": "v0"})
    >>> run(graph, {"x": [1.0, 2.5]})["twice"].tolist()
    [[2.0], [5.0]]
    """
    held: dict[str, HostArray] = {}
    for each in graph.inputs:
        if each.name not in columns:
            raise DataError(f"graph: expected the column {each.name!r}, got none of that name. Give all inputs.")
        array = np.asarray(columns[each.name], dtype=object if each.dtype == "text" else each.dtype)
        if array.ndim == 1 and each.shape == (1,):
            array = array[:, None]
        if array.shape[1:] != each.shape or array.ndim == 0:
            raise ShapeError(f"graph: expected {each.name!r} of shape (n, {each.shape}), got {array.shape}.")
        held[each.value] = array
    if len({len(array) for array in held.values()}) > 1:
        raise ShapeError("graph: expected columns of one length. Give each the same rows.")
    for node in graph.nodes:
        of_rows = [name not in graph.constants for name in node.inputs]
        operands = [
            held[name] if rows else graph.constants[name] for name, rows in zip(node.inputs, of_rows, strict=True)
        ]
        held[node.output] = compute(node.op, operands, of_rows, node.attributes)
    return {name: held[value] for name, value in graph.outputs.items()}

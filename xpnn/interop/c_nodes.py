"""Operations of a graph as statements of C99."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import OptionError
from .c_loops import Index, nested, strided, total, wrapped
from .c_math import LIBM, LOOKUP, helper_text
from .graph import Graph, Node
from .memory import FORMULAS, Plan
from .names import c_string

__all__ = ["TYPES", "Statements", "c_number"]

TYPES = {"float32": "float", "float64": "double", "int64": "int64_t", "bool": "unsigned char", "text": "const char *"}
_ARRAYS = {"float32": "f", "float64": "d", "int64": "n", "bool": "b"}
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "less": "<", "less_equal": "<=", "greater": ">"}
_SIGNS |= {"greater_equal": ">=", "equal": "==", "and": "&&", "or": "||"}
_NARROW, _PAD = 4, 8  # columns of a product: from so many a row is summed at once, in multiples of so many


def c_number(value: object, dtype: str) -> str:
    """Return a literal of C that is this number, to the last bit.

    Examples
    --------
    >>> c_number(0.1, "float32"), c_number(-1.0, "float64"), c_number(float("nan"), "float32"), c_number(3, "int64")
    ('0.1f', '(-1.0)', 'NAN', '3')
    """
    if dtype in ("int64", "bool"):
        number = int(value)  # type: ignore[call-overload]
        if number == -(2**63):
            return "INT64_MIN"
        text = f"{abs(number)}" if abs(number) < 2**31 else f"INT64_C({abs(number)})"
    else:
        wide = float(value)  # type: ignore[arg-type]
        if math.isnan(wide):
            return "NAN"
        digits = repr(float(str(np.float32(wide)))) if dtype == "float32" else repr(wide)
        number = -1 if math.copysign(1.0, wide) < 0 else 1
        text = "INFINITY" if math.isinf(wide) else digits.lstrip("-") + ("f" if dtype == "float32" else "")
    return f"(-{text})" if number < 0 else text


class Statements:
    """Writes nodes; `tables` and `helpers` are what they refer to, in the order of first use."""

    def __init__(self, graph: Graph, plan: Plan, prefix: str, inputs: dict[str, str]) -> None:
        self.graph, self.plan, self.prefix = graph, plan, prefix
        self.inputs = inputs  # expressions of the values of inputs
        self.maker = {node.output: node for node in graph.nodes}
        self.tables: dict[str, str] = {}
        self.bytes = 0
        self.helpers: dict[str, str] = {}
        self.libm: set[str] = set()

    # -- what is read and written ---------------------------------------------------------------------------
    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value for one row, or of a constant."""
        return self.graph.shape(name)

    def dtype(self, name: str) -> str:
        """Return the dtype of a value or a constant."""
        constant = self.graph.constants.get(name)
        return self.graph.values[name].dtype if constant is None else str(constant.dtype)

    def at(self, name: str, place: str) -> str:
        """Return the expression of an element of a stored value or constant."""
        if name in self.graph.constants:
            array = self.graph.constants[name]
            if array.size == 1 or (array.dtype != object and (array == array.flat[0]).all()):
                return c_number(array.flat[0], str(array.dtype))
            return f"{self.table(name, array)}[{place}]"
        if name not in self.plan.places or (name in self.inputs and "->" in self.inputs[name]):
            return self.inputs.get(name, name)
        where = self.plan.places[name]
        array_name = self.inputs.get(where.base) or _ARRAYS[where.base]
        offset = f"{where.offset} + {place}" if where.offset and place != "0" else str(where.offset or place)
        return f"{array_name}[{offset}]"

    def table(self, name: str, array: npt.NDArray[np.generic], form: str = "") -> str:
        """Return the name of a constant table, of an array as it is or in another `form`."""
        full = f"{self.prefix}_{name}{form}"
        if full not in self.tables:
            kind = "int64" if array.dtype.kind == "i" else str(array.dtype)
            numbers = [c_number(value, kind).strip("()") for value in array.ravel().tolist()]
            self.bytes += array.nbytes
            self.tables[full] = wrapped(f"static const {TYPES[kind]} {full}[{len(numbers)}]", numbers)
        return full

    def texts(self, name: str, literals: Sequence[str]) -> str:
        """Return the name of a constant table of text."""
        full = f"{self.prefix}_{name}"
        self.bytes += sum(len(text) - 1 + 8 for text in literals)
        self.tables[full] = wrapped(f"static const char *const {full}[{len(literals)}]", literals)
        return full

    def own(self, name: str, dtype: str) -> str | None:
        """Return the name of a function of the file's own, None where there is none of that name."""
        texts = helper_text(name, dtype, self.prefix)
        if texts is None:
            return None
        self.helpers |= texts
        if name == "sigmoid" and dtype == "float64":
            self.libm.add("exp")
        return list(texts)[-1]

    def function(self, op: str, dtype: str) -> str:
        """Return the name of a function of one number, or of two."""
        if dtype not in ("float32", "float64"):
            raise OptionError(f"to_c: expected {op} of floating numbers, got {dtype}. Convert them first.")
        if own := self.own(op, dtype):
            return own
        found = LIBM[op] + ("f" if dtype == "float32" else "")
        self.libm.add(found)
        return found

    # -- formulas -------------------------------------------------------------------------------------------
    def formula(self, node: Node, place: Callable[[str], str]) -> str:
        """Return the expression of one element of a node's result."""
        dtype = self.dtype(node.inputs[-1] if node.op in ("where", "lookup") else node.inputs[0])
        if node.op == "lookup":
            return self._lookup(node, self.at(node.inputs[0], place(node.inputs[0])))
        parts = [self.element(name, place) for name in node.inputs]
        if node.op in _SIGNS:
            return f"({parts[0]} {_SIGNS[node.op]} {parts[1]})"
        if node.op == "where":
            return f"({parts[0]} ? {parts[1]} : {parts[2]})"
        if node.op in ("max", "min"):
            return self._bounded(node, parts, dtype)
        if node.op == "cast":
            return self._cast(parts[0], dtype, node.attributes["dtype"])
        if node.op in ("neg", "not"):
            return f"({'-' if node.op == 'neg' else '!'}{parts[0]})"
        if node.op == "isnan":
            return f"({parts[0]} != {parts[0]})"
        return f"{self.function(node.op, dtype)}({', '.join(parts)})"

    def element(self, name: str, place: Callable[[str], str]) -> str:
        """Return the expression of an element: the formula of a value that is not stored."""
        if name in self.plan.inside:
            return self.formula(self.maker[name], place)
        return self.at(name, place(name))

    def _bounded(self, node: Node, parts: list[str], dtype: str) -> str:
        """A bound that is a constant is no NaN, which makes the comparison one instruction."""
        for bound, other in ((0, 1), (1, 0)):
            array = self.graph.constants.get(node.inputs[bound])
            if array is not None and not np.isnan(array.astype(np.float64)).any():
                name = "at_least" if node.op == "max" else "at_most"
                return f"{self.own(name, dtype)}({parts[other]}, {parts[bound]})"
        return f"{self.own(node.op, dtype)}({parts[0]}, {parts[1]})"

    def _cast(self, part: str, dtype: str, to: str) -> str:
        if to == "bool":
            return f"({part} != 0)"
        if to == "int64" and dtype in ("float32", "float64"):
            return f"{self.own('whole', dtype)}({part})"
        return f"({TYPES[to]}){part}"

    def _lookup(self, node: Node, text: str) -> str:
        # In the order of strncmp; what UTF-8 cannot say, nobody can give.
        pairs = zip(node.attributes["keys"], node.attributes["values"], strict=True)
        known = sorted((pair for pair in pairs if _is_utf8(pair[0])), key=lambda p: p[0].encode())
        keys = self.texts(f"{node.output}_keys", [c_string(key) for key, _ in known])
        values = self.table(f"{node.output}_values", np.asarray([value for _, value in known], dtype=np.int64))
        self.helpers["lookup"] = LOOKUP.replace("#", self.prefix)
        return f"{self.prefix}_lookup({text}, {keys}, {values}, {len(known)}, {node.attributes['default']})"

    # -- statements -----------------------------------------------------------------------------------------
    def write(self, node: Node) -> Iterator[str]:
        """Yield the lines that compute a node."""
        out = node.output
        if out in self.plan.inside or out in self.plan.parts or self.dtype(out) == "text":
            return
        if math.prod(self.shape(out)) == 1 and node.op in FORMULAS:
            yield f"const {TYPES[self.dtype(out)]} {out} = {self.formula(node, lambda name: '0')};"
        elif node.op in FORMULAS:
            yield from self._loop(out, lambda place: self.formula(node, place))
        else:
            if out not in self.plan.places:
                yield f"{TYPES[self.dtype(out)]} {out};"
            yield from getattr(self, f"_{node.op}")(node)

    def _leaves(self, name: str) -> Iterator[str]:
        if name in self.plan.inside:
            for operand in self.maker[name].inputs:
                yield from self._leaves(operand)
        else:
            yield name

    def _loop(self, out: str, formula: Callable[[Callable[[str], str]], str]) -> Iterator[str]:
        """Yield the loop over the elements of a shape, as one loop where all operands are whole."""
        shape = self.shape(out)
        size = math.prod(shape)
        leaves = [leaf for name in self.maker[out].inputs for leaf in self._leaves(name)]
        if all(math.prod(self.shape(leaf)) in (1, size) for leaf in leaves):
            shape = (size,)
        index = Index(shape)

        def place(name: str) -> str:
            whole = self.shape(name)
            return index.at((math.prod(whole),) if len(shape) == 1 else whole)

        yield from nested(index.open(), [f"{self.at(out, index.at(shape))} = {formula(place)};"])

    def _moved(self, node: Node, source: Callable[[Index], str]) -> Iterator[str]:
        """Yield the loop that brings elements of the operand to other places."""
        index = Index(self.shape(node.output))
        element = self.at(node.inputs[0], source(index))
        yield from nested(index.open(), [f"{self.at(node.output, index.at(index.shape))} = {element};"])

    def _reshape(self, node: Node) -> Iterator[str]:
        size = math.prod(self.shape(node.output))
        index = Index((size,))
        moved = f"{self.at(node.output, index.at((size,)))} = {self.at(node.inputs[0], index.at((size,)))};"
        yield from nested(index.open(), [moved])

    def _slice(self, node: Node) -> Iterator[str]:
        shape, start = self.shape(node.inputs[0]), node.attributes["start"]
        axis = len(shape) + node.attributes["axis"]
        first = start * math.prod(shape[axis + 1 :])
        yield from self._moved(node, lambda index: total(strided(index, shape), first))

    def _take(self, node: Node) -> Iterator[str]:
        shape, indices = self.shape(node.inputs[0]), np.asarray(node.attributes["indices"], dtype=np.int64)
        axis, full = len(shape) + node.attributes["axis"], f"{node.output}_places"
        stride = math.prod(shape[axis + 1 :])

        def source(index: Index) -> str:
            if len(indices) == 1:
                return total(strided(index, shape, skip=axis), int(indices[0]) * stride)
            table = self.table(full, indices * stride)
            return total(strided(index, shape, skip=axis), f"{table}[{index.term(axis, 1)}]")

        yield from self._moved(node, source)

    def _transpose(self, node: Node) -> Iterator[str]:
        shape, axes = self.shape(node.inputs[0]), node.attributes["axes"]
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        yield from self._moved(
            node, lambda index: total([index.term(k, strides[axis]) for k, axis in enumerate(axes) if shape[axis] > 1])
        )

    def _expand(self, node: Node) -> Iterator[str]:
        yield from self._moved(node, lambda index: index.at(self.shape(node.inputs[0])))

    def _concat(self, node: Node) -> Iterator[str]:
        shape, start = self.shape(node.output), 0
        axis = len(shape) + node.attributes["axis"]
        for name in node.inputs:
            part = self.shape(name)
            index = Index(part)
            where = total(strided(index, shape), start * math.prod(shape[axis + 1 :]))
            target = self.at(node.output, where)
            if name in self.plan.inside:
                element = self.formula(self.maker[name], self._broadcast(index))
            else:
                element = self.at(name, index.at(part))
            yield from nested(index.open(), [f"{target} = {element};"])
            start += part[axis]

    def _broadcast(self, index: Index) -> Callable[[str], str]:
        """Return what gives the place of an operand's element at the variables of loops."""
        return lambda name: index.at(self.shape(name))

    def _gather(self, node: Node) -> Iterator[str]:
        table, index = node.inputs
        rows, width = self.shape(table)[0], math.prod(self.shape(table)[1:])
        loops = Index((math.prod(self.shape(index)), width))
        key = self.at(index, loops.term(0, 1))
        within = f"({key} < 0 ? 0 : {key} > {rows - 1} ? {rows - 1} : {key})"  # never outside the table
        element = self.at(table, total([f"{width} * {within}" if width > 1 else within, loops.term(1, 1)]))
        target = self.at(node.output, total([loops.term(0, width), loops.term(1, 1)]))
        yield from nested(loops.open(), [f"{target} = {element};"])

    # -- along an axis --------------------------------------------------------------------------------------
    def _along(self, node: Node) -> tuple[Index, str, str, int]:
        """Return the loops over all but one axis, the element at `k` of it and at 0, and its length."""
        shape = self.shape(node.inputs[0])
        axis = len(shape) + node.attributes.get("axis", -1)
        index = Index(shape[:axis] + shape[axis + 1 :])
        padded = [
            index.term(k - (k > axis), math.prod(shape[k + 1 :]))
            for k in range(len(shape))
            if k != axis and shape[k] > 1
        ]
        stride = math.prod(shape[axis + 1 :])
        each = self.at(node.inputs[0], total([*padded, "k" if stride == 1 else f"{stride} * k"]))
        return index, each, self.at(node.inputs[0], total(padded)), shape[axis]

    def _reduce(self, node: Node, start: Callable[[str], str], step: str, end: str = "sum") -> Iterator[str]:
        index, each, first, length = self._along(node)
        kind = TYPES[self.dtype(node.output)]
        lines = [
            f"{kind} sum = {start(first)};",
            f"for (int k = 0; k < {length}; k++)",
            f"    {step.format(each)}",
            f"{self.at(node.output, index.at(index.shape))} = {end};",
        ]
        yield from nested(index.open(), lines)

    def _reduce_sum(self, node: Node) -> Iterator[str]:
        yield from self._reduce(node, lambda first: "0", "sum += {};")

    def _reduce_mean(self, node: Node) -> Iterator[str]:
        dtype, length = self.dtype(node.output), self._along(node)[3]
        yield from self._reduce(node, lambda first: "0", "sum += {};", f"sum / {c_number(length, dtype)}")

    def _reduce_max(self, node: Node) -> Iterator[str]:
        best = self.own("max", self.dtype(node.output))
        yield from self._reduce(node, lambda first: first, f"sum = {best}(sum, {{}});")

    def _reduce_min(self, node: Node) -> Iterator[str]:
        best = self.own("min", self.dtype(node.output))
        yield from self._reduce(node, lambda first: first, f"sum = {best}(sum, {{}});")

    def _argmax(self, node: Node) -> Iterator[str]:
        index, each, first, length = self._along(node)
        lines = [
            f"{TYPES[self.dtype(node.inputs[0])]} best = {first};",
            "int64_t place = 0;",
            f"for (int k = 1; k < {length}; k++)",
            f"    if ({each} > best) {{",
            f"        best = {each};",
            "        place = k;",
            "    }",
            f"{self.at(node.output, index.at(index.shape))} = place;",
        ]
        yield from nested(index.open(), lines)

    def _softmax(self, node: Node) -> Iterator[str]:
        dtype = self.dtype(node.output)
        index, each, first, length = self._along(node)
        shape = self.shape(node.output)
        target = self.at(node.output, total([*strided(index, shape), "k"]))
        function = self.function("exp", dtype)
        best = self.own("max", dtype)
        loop = f"for (int k = 0; k < {length}; k++)"
        lines = [
            f"{TYPES[dtype]} most = {first}, sum = 0;",
            loop,
            f"    most = {best}(most, {each});",
            f"{loop} {{",
            f"    {target} = {function}({each} - most);",
            f"    sum += {target};",
            "}",
            loop,
            f"    {target} /= sum;",
        ]
        yield from nested(index.open(), lines)

    # -- products -------------------------------------------------------------------------------------------
    def _matmul(self, node: Node) -> Iterator[str]:
        """Sum the rows of the table, four at a time, each times its element: loops that compilers make vectors of."""
        left, right = node.inputs
        weight, out, x = self.graph.constants[right], self.shape(node.output), self.shape(left)
        inner, width = weight.shape[-2:]
        across = width >= _NARROW
        step = -(-width // _PAD) * _PAD if across else inner
        if across:
            table = self.table(right, np.pad(weight, [(0, 0)] * (weight.ndim - 1) + [(0, step - width)]), "_rows")
        else:
            table = self.table(right, np.swapaxes(weight, -1, -2), "_columns")
        index = Index(out[:-1], "r")
        shift = len(out) - 1 - len(x[:-1])
        rows = [index.term(a + shift, math.prod(x[a + 1 :])) for a, n in enumerate(x[:-1]) if n > 1]
        lead = weight.shape[:-2]
        first = len(out) - 2 - len(lead)
        size = step * (inner if across else width)
        tables = [index.term(first + a, size * math.prod(lead[a + 1 :])) for a, n in enumerate(lead) if n > 1]
        to = strided(index, out)
        if across:
            sparse = left in self.maker and self.maker[left].op == "concat"
            lines = self._across(node, rows, to, f"{table}[{total(tables, '{}')}]", (inner, step), sparse=sparse)
        else:
            lines = self._down(node, rows, to, f"{table}[{total(tables, '{}')}]", (inner, width))
        yield from nested(index.open(), list(lines))

    def _across(
        self, node: Node, rows: list[str], to: list[str], table: str, sizes: tuple[int, int], *, sparse: bool
    ) -> Iterator[str]:
        inner, step = sizes
        kind, left = TYPES[self.dtype(node.output)], node.inputs[0]
        target = self.at(node.output, total(to, "j"))
        yield f"for (int j = 0; j < {step}; j++)"
        yield f"    {target} = 0;"
        for start, stop, n in ((0, inner - inner % 4, 4), (inner - inner % 4, inner, 1)):
            if start == stop:
                continue
            names = [f"a{k}" for k in range(n)]
            given = [f"{name} = {self.at(left, total(rows, 'i', k))}" for k, name in enumerate(names)]
            terms = [f"{name} * {table.format(total([f'{step} * i'], step * k, 'j'))}" for k, name in enumerate(names)]
            yield f"for (int i = {start}; i < {stop}; {f'i += {n}' if n > 1 else 'i++'}) {{"
            yield f"    const {kind} {', '.join(given)};"
            if sparse:  # most columns of a category are zeros
                yield f"    if ({' && '.join(f'{name} == 0' for name in names)})"
                yield "        continue;"
            yield f"    for (int j = 0; j < {step}; j++)"
            yield f"        {target} += {terms[0]}" + (";" if n == 1 else "")
            yield from (f"            + {term}{';' if term is terms[-1] else ''}" for term in terms[1:])
            yield "}"

    def _down(self, node: Node, rows: list[str], to: list[str], table: str, sizes: tuple[int, int]) -> Iterator[str]:
        """Sum along the few columns, in eight parts: a single sum could not be made vectors of."""
        inner, width = sizes
        kind, left, whole = TYPES[self.dtype(node.output)], node.inputs[0], inner - inner % 8
        for column in range(width):
            at = column * inner
            yield "{"
            yield f"    {kind} sum[8] = {{0}};"
            if whole:
                yield f"    for (int i = 0; i < {whole}; i += 8)"
                yield "        for (int k = 0; k < 8; k++)"
                each = self.at(left, total(rows, "i", "k"))
                yield f"            sum[k] += {each} * {table.format(total([], 'i', 'k', at))};"
            for i in range(whole, inner):
                yield f"    sum[{i - whole}] += {self.at(left, total(rows, i))} * {table.format(total([], i + at))};"
            together = "((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]))"
            yield f"    {self.at(node.output, total(to, column))} = {together};"
            yield "}"


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)

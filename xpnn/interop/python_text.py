"""A graph as the text of one Python file that needs NumPy alone."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .graph import Graph, Node
from .names import c_comment
from .python_cells import cell_readers

__all__ = ["Reader", "python_text"]

#: How cells of an input are read: the name of a function in the file, and what else it is given.
Reader = tuple[str, Mapping[str, Any]]

_SMALL = 12  # elements of a constant that is written as numbers
_DTYPES = {"float32": "np.float32", "float64": "np.float64", "int64": "np.int64", "bool": "np.bool_"}
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "less": "<", "less_equal": "<="}
_SIGNS |= {"greater": ">", "greater_equal": ">=", "equal": "==", "and": "&", "or": "|"}
_CALLS = {
    name: f"np.{name}" for name in ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "floor", "isnan")
}
_CALLS |= {"abs": "np.abs", "round": "np.round", "max": "np.maximum", "min": "np.minimum", "where": "np.where"}
_CALLS |= {name: f"_{name}" for name in ("erf", "sigmoid", "softmax")}

_ARRAY = """
def _array(dtype, shape, text):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)
"""
#: Functions that the operations call, written where one does.
_HELPERS = {
    "_erf": """
def _erf(x):
    return np.array([math.erf(each) for each in x.ravel().tolist()], x.dtype).reshape(x.shape)
""",
    "_sigmoid": """
def _sigmoid(x):
    return 1 / (1 + np.exp(-np.maximum(x, x.dtype.type(-708 if x.dtype == np.float64 else -87))))
""",
    "_softmax": """
def _softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)
""",
    "_rows": """
def _rows(constant, like):
    return np.broadcast_to(constant, (len(like), *constant.shape))
""",
    "_lookup": """
def _lookup(texts, known, default):
    return np.array([known.get(text, default) for text in texts.ravel().tolist()], np.int64).reshape(texts.shape)
""",
}
_MAIN = '''
def read_csv(path):
    """Return the columns of a file with commas, semicolons, tabs or bars, by name."""
    with open(path, "rb") as file:
        start = file.read(4)
    wide = "utf-32" if start in (b"\\xff\\xfe\\0\\0", b"\\0\\0\\xfe\\xff") else "utf-16"
    told = wide if wide == "utf-32" or start[:2] in (b"\\xff\\xfe", b"\\xfe\\xff") else "utf-8-sig"
    with open(path, newline="", encoding=ENCODING or told) as file:
        lines = [line for line in file if not (COMMENT and line.startswith(COMMENT))]
    delimiter = DELIMITER or max(",;\\t|", key="".join(lines[:1]).count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter) if row]
    names = rows.pop(0) if HEADER else COLUMNS
    for number, row in enumerate(rows, 1 + HEADER):
        if len(row) > len(names):
            raise ValueError(f"{path}: expected {len(names)} cells in row {number}, got {len(row)}")
    cells = zip(*([*row, *[""] * (len(names) - len(row))] for row in rows))
    cells = list(cells) or [()] * len(names)
    return {name: [None if cell in MISSING else cell for cell in column] for name, column in zip(names, cells)}
'''
_FEATURES = '''
def read_csv(path):
    """Return the numbers of a file with commas; a first line of names is left out."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    try:
        [float(cell) for cell in rows[0]]
    except ValueError:
        del rows[0]
    return np.array(rows, np.float64)
'''
_END = """
def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} ROWS.csv")
    try:
        told = predict(read_csv(sys.argv[1]))
    except (KeyError, OSError, ValueError) as error:
        sys.exit(f"{sys.argv[1]}: {error.args[0] if isinstance(error, KeyError) else error}")
    named = {"label": "prediction"}
    columns = {}
    for name, values in told.items():
        values = values.reshape(len(values), -1)
        for k, column in enumerate(values.T.tolist()):
            number = "" if values.shape[1] == 1 else f"({TARGETS[k]})" if TARGETS else k
            columns[f"p({CLASSES[k]})" if name == "probabilities" else f"{named.get(name, name)}{number}"] = column
    writer = csv.writer(sys.stdout, lineterminator="\\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values()))


if __name__ == "__main__":
    main()
"""


def python_text(graph: Graph, readers: Mapping[str, Reader], table: Mapping[str, Any] | None = None) -> str:
    """Return the text of a Python file that computes a graph.

    Parameters
    ----------
    graph : Graph
        The model.
    readers : mapping of str to (str, mapping)
        How cells of the inputs are read, by their names.
    table : mapping, optional
        How a file is read: ``columns``, ``header``, ``delimiter``, ``encoding``, ``comment`` and ``missing``.

    Examples
    --------
    >>> from xpnn.interop.build import Builder
    >>> b = Builder()
    >>> x = b.input("size", "number")
    >>> text = python_text(b.graph({"twice": b.op("mul", x, b.constant([2.0]))}), {"size": ("_number", {})})
    >>> names = {}
    >>> exec(text, names)
    >>> names["predict"]({"size": [1.5, None]})["twice"].tolist()
    [[3.0], [nan]]
    """
    features = any(each.kind == "features" for each in graph.inputs)
    lines = [line for node in graph.nodes if (line := _line(node, graph))]
    body = _predict(graph, readers, lines, features=features)
    used = "\n".join(lines)
    parts = [_ARRAY]
    parts += [text for name, text in _HELPERS.items() if f"{name}(" in used]
    if not features:
        parts += [cell_readers({name for name, _ in readers.values()}), _reading(table or {})]
    parts += [_constants(graph), body, _FEATURES if features else _MAIN, _END]
    text = "\n\n\n".join(part.strip("\n") for part in parts if part) + "\n"
    modules = [name for name in ("base64", "csv", "math", "re", "sys") if f"{name}." in text]
    return "\n".join(
        [
            _head(graph, features=features),
            "",
            *(f"import {name}" for name in modules),
            "",
            "import numpy as np",
            "",
            "",
            text,
        ]
    )


def _head(graph: Graph, *, features: bool) -> str:
    info = graph.info
    of = f" of {_shown(str(info['target']))}" if info.get("target") is not None else ""
    by = f" Written by xpnn {info['xpnn']}." if "xpnn" in info else ""
    given = "rows" if features else "columns"
    return f'''"""Predictions{of} by a neural network.{by} Needs NumPy alone.

    from THIS_FILE import predict
    predict({given})

    python THIS_FILE.py ROWS.csv
"""'''


def _shown(text: str) -> str:
    """Return a name as it may stand in a docstring or a comment."""
    return c_comment(text).replace('"', "'")


def _reading(table: Mapping[str, Any]) -> str:
    default = {"columns": [], "header": True, "delimiter": None, "encoding": None, "comment": None, "missing": [""]}
    return "\n".join(f"{key.upper()} = {table.get(key, value)!a}" for key, value in default.items())


# -- constants ---------------------------------------------------------------------------------------------------------
def _constants(graph: Graph) -> str:
    lines = [f"{name} = {_constant(array)}" for name, array in graph.constants.items()]
    lines += [f"{name.upper()} = {list(graph.info.get(name, []))!a}" for name in ("classes", "targets")]
    return "\n".join(lines)


def _constant(array: npt.NDArray[Any]) -> str:
    if array.dtype == object:
        return f"np.array({array.tolist()!a}, object)"
    kind = _DTYPES[str(array.dtype)]
    if array.size <= _SMALL and (array.dtype.kind != "f" or np.isfinite(array).all()):
        return f"np.array({array.tolist()!r}, {kind})"
    short = array.astype(array.dtype.newbyteorder("<"))
    text = base64.b64encode(short.tobytes()).decode()
    wrapped = "\n".join(text[k : k + 116] for k in range(0, len(text), 116))
    return f'_array("{short.dtype.str}", {array.shape!r}, """\n{wrapped}\n""")'


# -- what is computed --------------------------------------------------------------------------------------------------
def _predict(graph: Graph, readers: Mapping[str, Reader], lines: Sequence[str], *, features: bool) -> str:
    given = "rows" if features else "columns"
    what = "rows of numbers" if features else "columns by their names, lists or arrays of one length"
    inner = [f'"""Return {", ".join(graph.outputs)} for {what}."""']
    if features:
        each = graph.inputs[0]
        inner += [f'rows = rows["{each.name}"] if isinstance(rows, dict) else rows']
        inner += [f"{each.value} = np.asarray(rows, {_DTYPES[each.dtype]})"]
    for each in [] if features else graph.inputs:
        read, options = readers[each.name]
        dtype = "object" if each.dtype == "text" else _DTYPES[each.dtype]
        more = "".join(f", {name}={value!a}" for name, value in options.items())
        inner += [f"{each.value} = _column(columns, {each.name!a}, {read}, {dtype}{more})"]
    if lines:
        inner += ['with np.errstate(all="ignore"):', *(f"    {line}" for line in lines)]
    inner += [f"return {{{', '.join(f'{name!r}: {value}' for name, value in graph.outputs.items())}}}"]
    return f"def predict({given}):\n" + "\n".join(f"    {line}" for line in inner)


def _line(node: Node, graph: Graph) -> str:
    return f"{node.output} = {_expression(node, graph)}"


def _expression(node: Node, graph: Graph) -> str:
    """Return what computes a node, with the axis of the rows first."""
    first, given = node.inputs[0], node.attributes
    if node.op in _SIGNS:
        return f"{first} {_SIGNS[node.op]} {node.inputs[1]}"
    if node.op in _CALLS:
        return f"{_CALLS[node.op]}({', '.join(node.inputs)})"
    if node.op.startswith("reduce_"):
        return f"{first}.{node.op.removeprefix('reduce_')}(axis={given['axis']})"
    return _OTHERS[node.op](node, graph)


def _concat(node: Node, graph: Graph) -> str:
    like = next(name for name in node.inputs if name not in graph.constants)
    parts = [f"_rows({name}, {like})" if name in graph.constants else name for name in node.inputs]
    return f"np.concatenate([{', '.join(parts)}], axis={node.attributes['axis']})"


def _slice(node: Node, graph: Graph) -> str:
    after = ", :" * (-1 - node.attributes["axis"])
    return f"{node.inputs[0]}[..., {node.attributes['start']}:{node.attributes['stop']}{after}]"


def _take(node: Node, graph: Graph) -> str:
    return f"{node.inputs[0]}.take({list(node.attributes['indices'])}, axis={node.attributes['axis']})"


def _lookup(node: Node, graph: Graph) -> str:
    known = dict(zip(node.attributes["keys"], node.attributes["values"], strict=True))
    return f"_lookup({node.inputs[0]}, {known!a}, {node.attributes['default']})"


def _reshape(node: Node, graph: Graph) -> str:
    return f"{node.inputs[0]}.reshape({', '.join(map(str, (-1, *node.attributes['shape'])))})"


def _transpose(node: Node, graph: Graph) -> str:
    return f"{node.inputs[0]}.transpose({', '.join(map(str, (0, *(axis + 1 for axis in node.attributes['axes']))))})"


def _expand(node: Node, graph: Graph) -> str:
    x = node.inputs[0]
    return f"np.broadcast_to({x}, ({', '.join(map(str, (f'len({x})', *node.attributes['shape'])))}))"


_OTHERS: dict[str, Callable[[Node, Graph], str]] = {
    "neg": lambda node, graph: f"-{node.inputs[0]}",
    "not": lambda node, graph: f"~{node.inputs[0]}",
    "cast": lambda node, graph: f"{node.inputs[0]}.astype({_DTYPES[node.attributes['dtype']]})",
    "matmul": lambda node, graph: f"{node.inputs[0]} @ {node.inputs[1]}",
    "argmax": lambda node, graph: f"{node.inputs[0]}.argmax(axis=-1)",
    "gather": lambda node, graph: f"{node.inputs[0]}[{node.inputs[1]}]",
    "concat": _concat,
    "slice": _slice,
    "take": _take,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _expand,
    "lookup": _lookup,
}

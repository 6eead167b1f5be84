"""A model as one ONNX file, from raw columns to answers, which onnxruntime runs nearly everywhere.

Of the operators those of opset 18 are used, and of ``ai.onnx.ml`` version 3 the one that looks text up; the version of
the format is 8.  onnxruntime reads them from 1.16 on.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import OptionError
from ..files import PathLike, atomic_path
from ..losses import Loss
from ..optional import needs
from .checked import ROWS, Check, compare
from .graph import Graph, Node
from .subject import subject_of

__all__ = ["IR_VERSION", "ML_OPSET", "OPSET", "onnx_model", "to_onnx"]

OPSET = 18
ML_OPSET = 3  #: Of ``ai.onnx.ml``.
IR_VERSION = 8
_MOST_BYTES = 2_000_000_000  # of a message of protobuf

HostArray = npt.NDArray[Any]

#: Operations that ONNX has under another name.
_NAMES = {
    "neg": "Neg",
    "abs": "Abs",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "sin": "Sin",
    "tanh": "Tanh",
    "erf": "Erf",
    "sigmoid": "Sigmoid",
    "floor": "Floor",
    "round": "Round",
    "isnan": "IsNaN",
    "not": "Not",
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "max": "Max",
    "min": "Min",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "equal": "Equal",
    "and": "And",
    "or": "Or",
    "where": "Where",
    "gather": "Gather",
}


def to_onnx(
    model: Any,
    path: PathLike,
    *,
    rows: Any = None,
    loss: Loss | None = None,
    coverage: float | None = None,
) -> Check:
    """Write a model as one ONNX file, and compare what the file answers with what the model does.

    Columns are the inputs, of shape ``(n, 1)`` each: numbers as float64 with NaN where they are missing, dates as
    seconds since 1970 likewise, categories as text without spaces around it, empty where it is missing (where all of
    a column's categories are numbers, as numbers).  A network without columns before it takes ``features``, (n, n_in).

    Parameters
    ----------
    model : Sequential, Predictor, or a fitted estimator of `xpnn.tabular` or `xpnn.estimators`
        What is written; or what `xpnn.interop.subject.subject_of` made of it, where it is written in several formats.
    path : path
        The file.
    rows : array, frame, mapping or table, optional
        Rows to compare on, as the model takes them; by default 500 are made up, with gaps and unknown categories.
    loss : Loss, optional
        Of a bare network: its link gives a second output, ``predictions``.
    coverage : float, optional
        Of the outputs ``lower`` and ``upper`` of a model of numbers; 0.9 where enough held-out rows vouch for it.

    Returns
    -------
    Check
        How many rows were compared by what, labels that differ, and the largest differences.

    Raises
    ------
    OptionError
        If a part of the model has no counterpart in ONNX, or the file would answer otherwise; nothing is written then.
    MissingPackageError
        If onnx is not installed.

    Examples
    --------
    >>> import tempfile, xpnn
    >>> from pathlib import Path
    >>> net = xpnn.mlp([4, 8, 3], activation="gelu", norm="layer")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check = net.to_onnx(Path(folder, "net.onnx"), loss=xpnn.CrossEntropy())
    >>> check.rows, sorted(check.differences)
    (500, ['outputs', 'predictions'])
    """
    subject = subject_of(model, loss=loss, coverage=coverage)
    made = onnx_model(subject.graph)
    content = made.SerializeToString()
    rows = subject.rows(ROWS) if rows is None else rows
    run, by = _runner(made, content)
    check = compare(subject, rows, lambda columns: run(_feeds(subject.graph, columns)), by=by)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return check


def onnx_model(graph: Graph) -> Any:
    """Return a graph as an ``onnx.ModelProto``, which ONNX's own checker has passed.

    Raises
    ------
    OptionError
        If a column has no name, or the model is larger than a file of ONNX may be.
    MissingPackageError
        If onnx is not installed.
    """
    with needs("onnx", "to_onnx"):
        import onnx
    if sum(array.nbytes for array in graph.constants.values()) > _MOST_BYTES:
        raise OptionError("to_onnx: expected a model of less than 2 GB, which is the most that one ONNX file may hold.")
    if not all(each.name for each in graph.inputs):
        raise OptionError("to_onnx: expected columns with names, got one without. Name it in the training data.")
    made: Any = _Writer(onnx, graph).model()
    onnx.checker.check_model(made, full_check=True)
    return made


def _feeds(graph: Graph, columns: Mapping[str, HostArray]) -> dict[str, HostArray]:
    """Return inputs as onnxruntime takes them."""
    return {
        each.name: np.asarray(columns[each.name], dtype=object if each.dtype == "text" else each.dtype).reshape(
            -1, *each.shape
        )
        for each in graph.inputs
    }


def _runner(made: Any, content: bytes) -> tuple[Any, str]:
    """Return what runs a model, and its name: onnxruntime, or where it is not installed ONNX's reference."""
    names = [output.name for output in made.graph.output]
    told = {name.removesuffix("_"): name for name in names}
    try:
        runtime = importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        session: Any = importlib.import_module("onnx.reference").ReferenceEvaluator(made)
        by = "onnx's reference evaluator"
    else:
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        by = f"onnxruntime {runtime.__version__}"
        with _running(by):
            session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(feeds: dict[str, HostArray]) -> dict[str, Any]:
        with _running(by):
            return dict(zip(told, session.run(names, feeds), strict=True))

    return run, by


@contextlib.contextmanager
def _running(by: str) -> Iterator[None]:
    """Tell in a sentence what a runtime cannot do."""
    try:
        yield
    except Exception as error:
        raise OptionError(
            f"to_onnx: expected {by} to run the model, got {str(error).strip()}. Nothing was written. Try a newer one."
        ) from error


class _Writer:
    """Writes nodes one after the other."""

    def __init__(self, onnx: Any, graph: Graph) -> None:
        self.onnx, self.graph = onnx, graph
        self.nodes: list[Any] = []
        self.tensors: dict[str, Any] = {}
        taken = {each.name for each in graph.inputs}
        self.prefix = "xpnn."
        while any(name.startswith(self.prefix) for name in taken):
            self.prefix += "."
        self.names = {each.value: each.name for each in graph.inputs}
        self.outputs = {name: name if name not in taken else f"{name}_" for name in graph.outputs}
        while set(self.outputs.values()) & taken:
            self.outputs = {name: f"{new}_" for name, new in self.outputs.items()}
        self.helpers = 0

    def model(self) -> Any:
        """Return the whole model."""
        helper, graph = self.onnx.helper, self.graph
        for node in graph.nodes:
            self._write(node)
        for name, value in graph.outputs.items():
            self._node("Identity", self._name(value), output=self.outputs[name])
        inputs = [self._info(each.name, each.shape, each.dtype) for each in graph.inputs]
        values = {name: graph.values[value] for name, value in graph.outputs.items()}
        outputs = [self._info(self.outputs[name], value.shape, value.dtype) for name, value in values.items()]
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.op == "lookup" for node in graph.nodes):
            opsets.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
        made = helper.make_model(
            helper.make_graph(self.nodes, "xpnn", inputs, outputs, list(self.tensors.values())),
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="xpnn",
            producer_version=str(graph.info.get("xpnn", "")),
        )
        facts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in graph.info.items()}
        helper.set_model_props(made, facts)
        return made

    # -- names ------------------------------------------------------------------------------------------------
    def _name(self, value: str) -> str:
        """Return the name of a value or a constant; a constant is written at its first use."""
        if value in self.names:
            return self.names[value]
        name = self.names[value] = self.prefix + value
        if value in self.graph.constants:
            self._tensor(name, self.graph.constants[value])
        return name

    def _tensor(self, name: str, array: HostArray) -> None:
        if array.dtype.kind == "O":
            texts = [str(text).encode() for text in array.ravel()]
            made = self.onnx.helper.make_tensor(name, self.onnx.TensorProto.STRING, array.shape, texts)
        else:
            made = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        self.tensors[name] = made

    def _constant(self, array: Any, dtype: str = "int64") -> str:
        """Return a constant of the writer's own."""
        made = np.asarray(array, dtype=dtype)
        name = f"{self.prefix}{dtype}{'x'.join(map(str, made.shape))}:{'_'.join(map(str, made.ravel().tolist()))}"
        if name not in self.tensors:
            self._tensor(name, made)
        return name

    def _type(self, dtype: str) -> int:
        kinds = {"float32": "FLOAT", "float64": "DOUBLE", "int64": "INT64", "bool": "BOOL", "text": "STRING"}
        return int(getattr(self.onnx.TensorProto, kinds[dtype]))

    def _info(self, name: str, shape: tuple[int, ...], dtype: str) -> Any:
        return self.onnx.helper.make_tensor_value_info(name, self._type(dtype), ["rows", *shape])

    def _node(self, op: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        if output is None:
            self.helpers += 1
            output = f"{self.prefix}t{self.helpers}"
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [output], domain=domain, **attributes))
        return output

    # -- operations -------------------------------------------------------------------------------------------
    def _write(self, node: Node) -> None:
        output = self._name(node.output)
        if node.op == "max" and self._is_zero(node.inputs[1]):
            self._node("Relu", self._name(node.inputs[0]), output=output)
            return
        inputs = [self._name(name) for name in node.inputs]
        if node.op in _NAMES:
            self._node(_NAMES[node.op], *inputs, output=output)
        else:
            getattr(self, f"_{node.op}")(node, inputs, output, **node.attributes)

    def _dtype(self, value: str) -> str:
        return self.graph.values[value].dtype

    def _shape(self, value: str) -> tuple[int, ...]:
        return self.graph.shape(value)

    def _is_zero(self, value: str) -> bool:
        array = self.graph.constants.get(value)
        return array is not None and array.dtype == np.float32 and array.shape in ((), (1,)) and not array.any()

    def _cos(self, node: Node, inputs: Sequence[str], output: str) -> None:
        if self._dtype(node.output) == "float32":
            self._node("Cos", *inputs, output=output)
        else:  # which older versions of onnxruntime have for float32 alone
            quarter = self._constant(math.pi / 2.0, "float64")
            self._node("Sin", self._node("Add", *inputs, quarter), output=output)

    def _expm1(self, node: Node, inputs: Sequence[str], output: str) -> None:
        one = self._constant(1.0, self._dtype(node.output))
        self._node("Sub", self._node("Exp", *inputs), one, output=output)

    def _log1p(self, node: Node, inputs: Sequence[str], output: str) -> None:
        one = self._constant(1.0, self._dtype(node.output))
        self._node("Log", self._node("Add", *inputs, one), output=output)

    def _cast(self, node: Node, inputs: Sequence[str], output: str, *, dtype: str) -> None:
        self._node("Cast", *inputs, output=output, to=self._type(dtype))

    def _matmul(self, node: Node, inputs: Sequence[str], output: str) -> None:
        """Write a product; of each row with several matrices as one of all rows with each."""
        x, shape, weight = inputs[0], self._shape(node.inputs[0]), self._shape(node.inputs[1])
        single = self._dtype(node.output) == "float32"  # older versions fail at a transpose before a product of float64
        if len(weight) == 2 or shape[-2] != 1 or not single:
            self._node("MatMul", *inputs, output=output)
            return
        leading = len(shape) - 2
        rows = self._node("Reshape", x, self._constant([0, *shape[:-2], shape[-1]]))
        first = self._node("Transpose", rows, perm=[*range(1, leading + 1), 0, leading + 1])
        product = self._node("MatMul", first, inputs[1])
        last = self._node("Transpose", product, perm=[leading, *range(leading), leading + 1])
        self._node("Reshape", last, self._constant([0, *self._shape(node.output)]), output=output)

    def _reduced(self, op: str, inputs: Sequence[str], output: str, axis: int) -> None:
        self._node(op, *inputs, self._constant([axis]), output=output, keepdims=0)

    def _reduce_sum(self, node: Node, inputs: Sequence[str], output: str, *, axis: int) -> None:
        self._reduced("ReduceSum", inputs, output, axis)

    def _reduce_mean(self, node: Node, inputs: Sequence[str], output: str, *, axis: int) -> None:
        self._reduced("ReduceMean", inputs, output, axis)

    def _reduce_max(self, node: Node, inputs: Sequence[str], output: str, *, axis: int) -> None:
        self._reduced("ReduceMax", inputs, output, axis)

    def _reduce_min(self, node: Node, inputs: Sequence[str], output: str, *, axis: int) -> None:
        self._reduced("ReduceMin", inputs, output, axis)

    def _softmax(self, node: Node, inputs: Sequence[str], output: str) -> None:
        self._node("Softmax", *inputs, output=output, axis=-1)

    def _argmax(self, node: Node, inputs: Sequence[str], output: str) -> None:
        self._node("ArgMax", *inputs, output=output, axis=-1, keepdims=0)

    def _concat(self, node: Node, inputs: Sequence[str], output: str, *, axis: int) -> None:
        rows = next(name for name, value in zip(inputs, node.inputs, strict=True) if value in self.graph.values)
        parts = [
            name if value in self.graph.values else self._repeated(name, self._shape(value), rows)
            for name, value in zip(inputs, node.inputs, strict=True)
        ]
        self._node("Concat", *parts, output=output, axis=axis)

    def _repeated(self, constant: str, shape: tuple[int, ...], rows: str) -> str:
        """Return a constant for each row."""
        count = self._node("Shape", rows, start=0, end=1)
        return self._node("Expand", constant, self._node("Concat", count, self._constant(shape), axis=0))

    def _slice(self, node: Node, inputs: Sequence[str], output: str, *, axis: int, start: int, stop: int) -> None:
        ends = (self._constant([number]) for number in (start, stop, axis))
        self._node("Slice", *inputs, *ends, output=output)

    def _take(self, node: Node, inputs: Sequence[str], output: str, *, axis: int, indices: tuple[int, ...]) -> None:
        self._node("Gather", *inputs, self._constant(indices), output=output, axis=axis)

    def _reshape(self, node: Node, inputs: Sequence[str], output: str, *, shape: tuple[int, ...]) -> None:
        self._node("Reshape", *inputs, self._constant([0, *shape]), output=output)

    def _transpose(self, node: Node, inputs: Sequence[str], output: str, *, axes: tuple[int, ...]) -> None:
        self._node("Transpose", *inputs, output=output, perm=[0, *(axis + 1 for axis in axes)])

    def _expand(self, node: Node, inputs: Sequence[str], output: str, *, shape: tuple[int, ...]) -> None:
        self._node("Expand", *inputs, self._constant([1, *shape]), output=output)

    def _lookup(self, node: Node, inputs: Sequence[str], output: str, **options: Any) -> None:
        self._node(
            "LabelEncoder",
            *inputs,
            output=output,
            domain="ai.onnx.ml",
            keys_strings=list(options["keys"]),
            values_int64s=list(options["values"]),
            default_int64=options["default"],
        )

"""A graph as the text of one C99 header file."""

from __future__ import annotations

import itertools
import math

from .c_loops import total
from .c_nodes import TYPES, Statements
from .graph import Graph, Input, Node
from .memory import Plan, plan
from .names import c_comment, c_identifiers, c_string, identifier

__all__ = ["CHeader"]

_KINDS = {
    "number": "number, NAN where it is missing",
    "time": "seconds since 1970-01-01T00:00, NAN where it is missing",
    "text": "UTF-8, NULL or empty where it is missing",
}
_ARRAYS = {"float32": "float f", "float64": "double d", "int64": "int64_t n", "bool": "unsigned char b"}


class CHeader:
    """The text of a header file that computes a graph, and the names in it.

    Attributes
    ----------
    text : str
        The file.
    prefix : str
        What goes before all names.
    members : dict of str to str
        Members of the row, by the values of the graph's inputs.
    features : bool
        Whether a plain array is given in place of a row.
    numbers : list of str
        The outputs that stand in ``out``, one behind the other.
    n_outputs : int
        Their elements.
    label : Node or None
        What takes the label from the table of all.
    classes : list of str
        That table.

    Examples
    --------
    >>> from xpnn.interop.build import Builder
    >>> b = Builder()
    >>> x = b.input("size (m²)", "number")
    >>> print(CHeader(b.graph({"prediction": b.op("mul", x, b.constant([2.0]))})).text[-148:-9])
    static inline void model_predict(const model_row *row, float *out)
    {
        const double v1 = (row->size_m2 * 2.0);
        out[0] = (float)v1;
    }
    """

    def __init__(self, graph: Graph, name: str = "model") -> None:
        self.graph, self.prefix = graph, identifier(name)
        self.plan: Plan = plan(graph)
        self.features = any(each.kind == "features" for each in graph.inputs)
        members = c_identifiers([each.name for each in graph.inputs])
        self.members = dict(zip((each.value for each in graph.inputs), members, strict=True))
        inputs = {value: f"row->{member}" for value, member in self.members.items()}
        inputs = dict.fromkeys(inputs, "x") if self.features else inputs
        self.statements = Statements(graph, self.plan, self.prefix, inputs)
        self.label = self._label()
        table = [] if self.label is None else graph.constants[self.label.inputs[0]].ravel().tolist()
        self.classes = [str(label) for label in table]
        self.numbers = [
            each for each, value in graph.outputs.items() if self.label is None or value != self.label.output
        ]
        sizes = [math.prod(graph.values[graph.outputs[each]].shape) for each in self.numbers]
        starts = itertools.accumulate(sizes, initial=0)
        #: Name, start and size in ``out`` of each.
        self.places = list(zip(self.numbers, starts, sizes, strict=False))
        self.n_outputs = sum(sizes)
        self.text = self._text()

    def _label(self) -> Node | None:
        """Return the node that takes the one label of a row from the table of all."""
        value = self.graph.outputs.get("label")
        made = [node for node in self.graph.nodes if node.output == value and node.op == "gather"]
        return made[0] if made and self.graph.values[made[0].output].shape in ((), (1,)) else None

    def _text(self) -> str:
        body, upper = self._body(), self.prefix.upper()
        parts = [self._head(), f"#ifndef {upper}_H\n#define {upper}_H", self._includes(), self._guard()]
        parts += [f"#define {upper}_OUTPUTS {self.n_outputs}", "" if self.features else self._struct()]
        parts += self._classes(upper)
        parts += [*self.statements.tables.values(), *self.statements.helpers.values(), body, "#endif"]
        return "\n\n".join(filter(None, parts)) + "\n"

    # -- parts ----------------------------------------------------------------------------------------------
    def _head(self) -> str:
        stack = sum(size * {"float32": 4, "bool": 1}.get(dtype, 8) for dtype, size in self.plan.sizes.items())
        calls = ", ".join(sorted(self.statements.libm)) or "nothing"
        info = self.graph.info
        what = f" of {c_comment(str(info['target']))}" if info.get("target") is not None else ""
        by = f" Written by xpnn {info['xpnn']}." if "xpnn" in info else ""
        lines = [
            f"{self.prefix}.h: predictions{what} by a neural network, in C99.{by}",
            "",
            f"    float x[{self._n_features()}];" if self.features else f"    {self.prefix}_row row = {{0}};",
            f"    float out[{self.prefix.upper()}_OUTPUTS];",
            f"    {self.prefix}_predict({'x' if self.features else '&row'}, out);",
            "",
            *self._layout(),
            "",
            f"It calls {calls} of libm, allocates nothing, and writes nothing but out. Its constants take",
            f"{self.statements.bytes:,} bytes, its values {stack:,} bytes of the stack.",
        ]
        return "/* " + "\n".join(f" * {line}".rstrip() for line in lines).removeprefix(" * ") + "\n */"

    def _n_features(self) -> int:
        return math.prod(self.graph.inputs[0].shape)

    def _layout(self) -> list[str]:
        lines = []
        for name, start, size in self.places:
            places = f"out[{start}]" if size == 1 else f"out[{start}] to out[{start + size - 1}]"
            lines.append(f"{places}: {name}.")
        if self.label is not None:
            lines.append(f"The result is the number of the class, whose name {self.prefix}_classes holds.")
        return lines

    def _includes(self) -> str:
        return "#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <string.h>"

    def _guard(self) -> str:
        if not any(node.op == "isnan" for node in self.graph.nodes):
            return ""
        return '#ifdef __FAST_MATH__\n#error "missing numbers are NAN, which -ffast-math does not know"\n#endif'

    def _struct(self) -> str:
        def member(each: Input) -> str:
            kind = TYPES[each.dtype] + ("" if each.dtype == "text" else " ")
            return f"    {kind}{self.members[each.value]}; /* {c_comment(each.name)}: {_KINDS[each.kind]} */"

        lines = [member(each) for each in self.graph.inputs]
        return "typedef struct {\n" + "\n".join(lines) + f"\n}} {self.prefix}_row;"

    def _classes(self, upper: str) -> list[str]:
        if self.label is None:
            return []
        names = "\n".join(f"    {c_string(name)}," for name in self.classes)
        table = f"static const char *const {self.prefix}_classes[{len(self.classes)}] = {{\n{names}\n}};"
        return [f"#define {upper}_CLASSES {len(self.classes)}", table]

    def _body(self) -> str:
        given = f"const {TYPES[self.graph.inputs[0].dtype]} *x" if self.features else f"const {self.prefix}_row *row"
        arrays = [f"{_ARRAYS[dtype]}[{size}];" for dtype, size in sorted(self.plan.sizes.items())]
        lines = [line for node in self.graph.nodes for line in self._written(node)]
        outs = []
        for name, start, size in self.places:
            value = self.graph.outputs[name]
            if size == 1:
                outs.append(f"out[{start}] = (float){self.statements.at(value, '0')};")
            else:
                outs += [
                    f"for (int i = 0; i < {size}; i++)",
                    f"    out[{total([], start, 'i')}] = (float){self.statements.at(value, 'i')};",
                ]
        result = [] if self.label is None else [f"return (int){self.statements.at(self.label.inputs[1], '0')};"]
        kind = "void" if self.label is None else "int"
        inner = "\n".join(f"    {line}" for line in [*arrays, *lines, *outs, *result])
        return f"static inline {kind} {self.prefix}_predict({given}, float *out)\n{{\n{inner}\n}}"

    def _written(self, node: Node) -> list[str]:
        if node is self.label:
            return []
        return list(self.statements.write(node))

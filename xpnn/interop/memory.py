"""Where the values of a graph lie while one row is computed: in named variables, in a few arrays, or nowhere at all.

A value that only one element-by-element operation asks for is never stored: its formula becomes a part of the other's.
Single numbers are variables. All else lies in one array for each dtype, whose places are used again once nobody needs
what lay there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from .graph import ELEMENTWISE, UNARY, Graph, Node

__all__ = ["FORMULAS", "Place", "Plan", "plan"]

#: Operations whose result is a formula of one element of each operand.
FORMULAS = ELEMENTWISE | UNARY | {"cast", "lookup"}
_LONGEST = 12  # operations in one formula
_UNIT = 8  # elements to whose multiples places are rounded
_SLACK = 8  # elements behind a product, which may be written over


@dataclass(frozen=True, slots=True)
class Place:
    """Elements of an array from an offset on; `base` is the dtype of the array, or the value of an input."""

    base: str
    offset: int


@dataclass(frozen=True)
class Plan:
    """What lies where.

    Attributes
    ----------
    inside : frozenset of str
        Values that are parts of a formula.
    places : dict of str to Place
        Of values of more than one element.
    parts : frozenset of str
        Values that lie where the one does that they are a part of: nothing is to be computed.
    sizes : dict of str to int
        Elements of the array of each dtype.
    """

    inside: frozenset[str]
    places: dict[str, Place]
    parts: frozenset[str]
    sizes: dict[str, int]


def plan(graph: Graph) -> Plan:
    """Lay out the values of a graph.

    Examples
    --------
    >>> from xpnn.interop.build import Builder
    >>> b = Builder()
    >>> x = b.input("features", "features", shape=(3,), dtype="float32")
    >>> y = b.op("add", b.op("mul", x, b.constant([1, 2, 3], "float32")), b.constant([4, 5, 6], "float32"))
    >>> found = plan(b.graph({"y": y}))
    >>> len(found.inside), found.sizes
    (1, {'float32': 8})
    """
    made = _Planner(graph)
    made.lay_out()
    return Plan(made.inside, made.places, frozenset(made.parts), made.sizes)


class _Planner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.maker = {node.output: node for node in graph.nodes}
        self.users: dict[str, list[Node]] = {name: [] for name in graph.values}
        for node in graph.nodes:
            for name in set(node.inputs) - graph.constants.keys():
                self.users[name].append(node)
        self.inside = frozenset(self._formulas())
        self.places: dict[str, Place] = {}
        self.parts: set[str] = set()
        self.sizes: dict[str, int] = {}
        self.taken: dict[str, dict[str, tuple[int, int]]] = {}  # by dtype: value that was laid there, (start, stop)
        self.root: dict[str, str] = {}  # in whose place a value lies

    def size(self, name: str) -> int:
        """Elements of a value."""
        return math.prod(self.graph.values[name].shape)

    def _formulas(self) -> Iterator[str]:
        """Yield the values that are parts of their only user's formula."""
        length: dict[str, int] = {}
        for node in self.graph.nodes:
            own = 1 + sum(length.get(name, 0) for name in node.inputs)
            if node.op not in FORMULAS or self.size(node.output) == 1 or node.output in self.graph.outputs.values():
                continue
            users = self.users[node.output]
            if len(users) != 1 or users[0].inputs.count(node.output) != 1 or own > _LONGEST:
                continue
            same = self.graph.values[users[0].output].shape == self.graph.values[node.output].shape
            if (users[0].op in FORMULAS and same) or users[0].op == "concat":
                length[node.output] = own
                yield node.output

    def leaves(self, node: Node) -> Iterator[str]:
        """Yield the stored values that a node reads."""
        for name in node.inputs:
            if name in self.inside:
                yield from self.leaves(self.maker[name])
            elif name not in self.graph.constants:
                yield name

    def lay_out(self) -> None:
        """Give each stored value its place, in the order of computation."""
        last = self._last_uses()
        for each in self.graph.inputs:
            self.root[each.value] = each.value
            self.places[each.value] = Place(each.value, 0)
        for step, node in enumerate(self.graph.nodes):
            if node.output in self.inside or self.size(node.output) == 1 or node.output in self.root:
                continue
            if not self._is_part(node) and not self._is_over(node, step, last):
                self._find(node)
            for held in self.taken.values():
                for name in [name for name in held if last[name] <= step]:
                    del held[name]

    def _last_uses(self) -> dict[str, int]:
        """Return for each stored value the last step that reads it, or what lies in its place."""
        last: dict[str, int] = {}
        for step, node in enumerate(self.graph.nodes):
            last.setdefault(node.output, step)
            if node.output not in self.inside:
                for name in self.leaves(node):
                    last[name] = step
        last |= dict.fromkeys(self.graph.outputs.values(), len(self.graph.nodes))
        for node in reversed(self.graph.nodes):  # what a part of a value is needed for, all of it is
            if node.op in ("reshape", "slice") and node.inputs[0] in last:
                last[node.inputs[0]] = max(last[node.inputs[0]], last[node.output])
        return last

    def _is_part(self, node: Node) -> bool:
        """Lay a value where the one is that it is a part of."""
        if node.op not in ("reshape", "slice") or node.inputs[0] not in self.places:
            return False
        whole, offset = node.inputs[0], 0
        if node.op == "slice":
            shape, axis = self.graph.values[whole].shape, node.attributes["axis"]
            if math.prod(shape[:axis]) != 1:
                return False
            offset = node.attributes["start"] * math.prod(shape[len(shape) + axis + 1 :])
        found = self.places[whole]
        self.places[node.output] = Place(found.base, found.offset + offset)
        self.root[node.output] = self.root[whole]
        self.parts.add(node.output)
        return True

    def _is_over(self, node: Node, step: int, last: dict[str, int]) -> bool:
        """Lay the result of a formula over an operand of its size that nobody needs any more."""
        value = self.graph.values[node.output]
        if node.op not in FORMULAS:
            return False
        leaves = list(self.leaves(node))
        for name in leaves:
            held = self.taken.get(value.dtype, {})
            ready = name in held and last[name] == step and self.graph.values[name].dtype == value.dtype
            ready = ready and not any(
                self.root.get(other) == name != other for other in leaves
            )  # read in another order
            if ready and self.size(name) == self.size(node.output):
                held[node.output] = held.pop(name)
                self.places[node.output], self.root[node.output] = self.places[name], node.output
                return True
        return False

    def _find(self, node: Node) -> None:
        """Lay a value into the first gap that holds it."""
        dtype = self.graph.values[node.output].dtype
        size = self.size(node.output) + (_SLACK if node.op == "matmul" else 0)
        size = -(-size // _UNIT) * _UNIT
        held = self.taken.setdefault(dtype, {})
        start = 0
        for low, high in sorted(held.values()):
            if low - start >= size:
                break
            start = max(start, high)
        held[node.output] = (start, start + size)
        self.places[node.output], self.root[node.output] = Place(dtype, start), node.output
        self.sizes[dtype] = max(self.sizes.get(dtype, 0), start + size)

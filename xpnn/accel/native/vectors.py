"""Sums of rows of numbers, many columns of them at a time in registers: written in the compiler's own language.

A loop over columns inside a loop over rows is compiled to read and write its sums for each row.  Here the sums of
`width` columns stay in registers until all rows are added.  Products and sums may be fused.
"""

from __future__ import annotations

from typing import Any

try:
    from llvmlite import ir
    from numba import literally, types
    from numba.core import cgutils
    from numba.extending import intrinsic
except ImportError:  # then there are no loops, and these are not called

    def intrinsic(function: Any) -> Any:
        """Return a function as it is."""
        return function

    def literally(value: Any) -> Any:
        """Return a value as it is."""
        return value


__all__ = ["add_rows", "literally", "running_sums", "sum_bins"]


class _Writer:
    """Writes loads, stores and sums of `width` numbers that follow each other."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Any) -> None:
        self.builder, self._kinds = builder, signature.args
        self._values = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, values, strict=True)
        ]
        numbers = next(kind for kind in signature.args if isinstance(kind, types.Array))
        self._bytes = numbers.dtype.bitwidth // 8
        self._number = context.get_value_type(numbers.dtype)
        self.kind = ir.VectorType(self._number, signature.args[0].literal_value)

    def given(self, first: int, last: int) -> list[Any]:
        """Return arguments: of arrays, where they begin."""
        return self._values[first:last]

    def place(self, array: Any, at: Any) -> Any:
        """Return where a vector lies."""
        return self.builder.bitcast(self.builder.gep(array, [at]), self.kind.as_pointer())

    def load(self, array: Any, at: Any) -> Any:
        """Return the vector that begins at a place of an array."""
        return self.builder.load(self.place(array, at), align=self._bytes)

    def store(self, vector: Any, array: Any, at: Any) -> None:
        """Write a vector."""
        self.builder.store(vector, self.place(array, at), align=self._bytes)

    def number(self, array: Any, at: Any) -> Any:
        """Return one number of an array."""
        return self.builder.load(self.builder.gep(array, [at]))

    def fused(self, number: Any, vector: Any, total: Any) -> Any:
        """Return ``number * vector + total``."""
        builder, place = self.builder, ir.Constant(ir.IntType(32), 0)
        one = builder.insert_element(ir.Constant(self.kind, ir.Undefined), number, place)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.kind.count), [0] * self.kind.count)
        spread = builder.shuffle_vector(one, ir.Constant(self.kind, ir.Undefined), mask)
        name = f"llvm.fmuladd.v{self.kind.count}f{8 * self._bytes}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.kind, [self.kind] * 3), name)
        return builder.call(function, [spread, vector, total])

    def variable(self) -> Any:
        """Return a place for a vector, which the compiler keeps in registers."""
        return cgutils.alloca_once(self.builder, self.kind)


@intrinsic  # type: ignore[untyped-decorator]
def add_rows(
    typing_context: Any,
    width: Any,
    out: Any,
    place: Any,
    sums: Any,
    weight: Any,
    length: Any,
    column: Any,
    rows: Any,
    factors: Any,
    first: Any,
    both: Any,
    last: Any,
) -> Any:
    r"""Add to `width` numbers of `out`, from `place` on, rows of `weight`, and of `sums` the first of them, too.

    .. math:: o_k \leftarrow o_k + \sum_{j=a}^{b-1} s_{r_j k} + \sum_{j=a}^{c-1} f_j\, w_{r_j k}

    for the `width` columns from `column` on of matrices with rows of `length`; a, b and c are `first`, `both` and
    `last`.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        writer = _Writer(context, builder, signature, values)
        out, place, sums, weight, length, column, rows, factors, first, both, last = writer.given(1, 12)
        total = writer.variable()
        builder.store(writer.load(out, place), total)
        for begin, end, summed in ((first, both, True), (both, last, False)):
            with cgutils.for_range(builder, builder.sub(end, begin)) as loop:
                j = builder.add(begin, loop.index)
                at = builder.add(builder.mul(writer.number(rows, j), length), column)
                value = builder.load(total)
                if summed:
                    value = builder.fadd(value, writer.load(sums, at))
                builder.store(writer.fused(writer.number(factors, j), writer.load(weight, at), value), total)
        writer.store(builder.load(total), out, place)
        return context.get_dummy_value()

    if not isinstance(width, types.IntegerLiteral):
        return None
    whole = types.int64
    kinds = width, out, whole, sums, weight, whole, whole, rows, factors, whole, whole, whole
    return types.void(*kinds), generate


@intrinsic  # type: ignore[untyped-decorator]
def running_sums(
    typing_context: Any, width: Any, sums: Any, weight: Any, factors: Any, length: Any, column: Any, row: Any, n: Any
) -> Any:
    r"""Write into rows of `sums` those of `weight` before them, times their factors; columns as for `add_rows`.

    .. math:: s_{r k} = \sum_{q=a}^{r-1} f_q\, w_{q k}

    for the `n` rows r from a = `row` on.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        writer = _Writer(context, builder, signature, values)
        sums, weight, factors, length, column, row, n = writer.given(1, 8)
        total = writer.variable()
        builder.store(ir.Constant(writer.kind, None), total)
        with cgutils.for_range(builder, n) as loop:
            r = builder.add(row, loop.index)
            at = builder.add(builder.mul(r, length), column)
            value = builder.load(total)
            writer.store(value, sums, at)
            builder.store(writer.fused(writer.number(factors, r), writer.load(weight, at), value), total)
        return context.get_dummy_value()

    if not isinstance(width, types.IntegerLiteral):
        return None
    whole = types.int64
    return types.void(width, sums, weight, factors, whole, whole, whole, whole), generate


@intrinsic  # type: ignore[untyped-decorator]
def sum_bins(
    typing_context: Any,
    width: Any,
    out: Any,
    row: Any,
    bins: Any,
    dy: Any,
    length: Any,
    column: Any,
    order: Any,
    shares: Any,
    ends: Any,
    first: Any,
    edge: Any,
    carried: Any,
) -> Any:
    r"""Write sums of rows of `dy` by bin into rows of `out`, from `row` on, for `width` columns from `column` on.

    .. math:: o_t = \sum_{b_i = t} f_i\, y_i \;+\; c \sum_{b_i > t} y_i

    for `bins` bins; c is 1 if `carried`, else 0.  Rows are sorted by bin: their numbers are ``order[first:]``, their
    factors ``shares[first:]``, and bin t ends before ``ends[edge + t + 1]``.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        writer = _Writer(context, builder, signature, values)
        out, row, bins, dy, length, column, order, shares, ends, first, edge, carried = writer.given(1, 13)
        one, nothing = ir.Constant(ir.IntType(64), 1), ir.Constant(writer.kind, None)
        after, total = writer.variable(), writer.variable()
        builder.store(nothing, after)
        keeps = builder.icmp_signed("!=", carried, ir.Constant(ir.IntType(64), 0))
        with cgutils.for_range(builder, bins) as outer:
            t = builder.sub(builder.sub(bins, one), outer.index)
            kept = builder.select(keeps, builder.load(after), nothing)
            builder.store(kept, after)
            builder.store(kept, total)
            edges = builder.add(edge, t)
            begin, end = writer.number(ends, edges), writer.number(ends, builder.add(edges, one))
            with cgutils.for_range(builder, builder.sub(end, begin)) as loop:
                j = builder.add(builder.add(first, begin), loop.index)
                vector = writer.load(dy, builder.add(builder.mul(writer.number(order, j), length), column))
                builder.store(writer.fused(writer.number(shares, j), vector, builder.load(total)), total)
                builder.store(builder.fadd(builder.load(after), vector), after)
            writer.store(builder.load(total), out, builder.add(builder.mul(builder.add(row, t), length), column))
        return context.get_dummy_value()

    if not isinstance(width, types.IntegerLiteral):
        return None
    whole = types.int64
    kinds = width, out, whole, whole, dy, whole, whole, order, shares, ends, whole, whole, whole
    return types.void(*kinds), generate

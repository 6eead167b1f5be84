"""How a trace's table is laid out: `xpnn.accel.native.trace` writes it, `xpnn.accel.native.player` reads it."""

from __future__ import annotations

from enum import IntEnum, auto

__all__ = ["Column", "Gate", "Kernel"]


class Kernel(IntEnum):
    """The kernels that a trace can hold."""

    ADAM = auto()
    ADAM_BY_PARAMETER = auto()
    ADD_BIAS = auto()
    ARGMAX = auto()
    BIAS_RELU = auto()
    COLUMN_SUMS = auto()
    GATE = auto()
    GATE_BACKWARD = auto()
    GATE_INNER = auto()
    KEEP_MASK = auto()
    NUMBERS = auto()
    ONE_HOT = auto()
    PROBABILITIES = auto()
    RELU = auto()
    RELU_BACKWARD = auto()
    RELU_BACKWARD_OVER = auto()
    RELU_BACKWARD_SUMS = auto()
    RELU_OVER = auto()
    SHIFTED = auto()
    SUM_ROWS = auto()
    TABLE_BACKWARD = auto()
    TABLE_FORWARD = auto()
    TAKE_ROWS = auto()
    WHOLE = auto()


class Gate(IntEnum):
    """Which activation a kernel `GATE` is, and what is done to it, added to that."""

    SILU = 0
    MISH = 1
    MIXED = 2
    MASKED = 4


class Column(IntEnum):
    """Columns of the table: one call a row, in integers of 8 bytes.

    A loop of NumPy gets the addresses of its arguments, its dimensions and its strides, and is called for each element
    of two more dimensions, `OUTER`, with strides of their own.  A kernel gets addresses, as dimensions the shape of its
    first array, and whole numbers in the place of strides.
    """

    #: A `Kernel`, or 0 for a loop of NumPy.
    KIND = 0
    #: Of a loop: where it lies, its last argument, and how many arrays it has.
    LOOP = 1
    DATA = 2
    COUNT = 3
    #: Addresses, up to 11.
    ARGS = 4
    DIMS = 15
    STEPS = 19
    OUTER = 28
    OUTER_STEPS = 30
    #: The addresses of one call, for some loops change them.
    SCRATCH = 36
    #: Of a product: how many rows of the table, from this on, may be done at once; 0 of anything else.
    TOGETHER = 39
    #: Of a loop that threads may share: 1 along its own dimension, 2 along the last of `OUTER`; 0 of anything else.
    SHARED = 40
    WIDTH = 41

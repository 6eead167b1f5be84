r"""How encoded rows of a table are packed: of many columns that are zeros and ones but for one place, that place alone.

A piecewise-linear code of T columns is ones up to a bin, a fraction in it, and zeros behind: two numbers say it all.
A one-hot code of C columns is one number.  Packed so, a row is a tenth or a twentieth as wide, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from ._typing import Array, Device, Namespace

__all__ = ["Code", "Group", "Table"]


class Group(NamedTuple):
    """Columns that stand side by side and are packed as one."""

    #: The first of them.
    start: int
    #: How many.
    size: int

    @property
    def place(self) -> slice:
        """The columns."""
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True)
class Code:
    """Where the numbers of a packed row belong.

    A packed row holds the plain columns, then of each piecewise-linear code its fraction, then of each its bin, then of
    each one-hot code its column, from 0, or a negative number for none.

    Examples
    --------
    Two columns as they are, a piecewise-linear code of three bins, and three categories:

    >>> import numpy as np
    >>> code = Code(plain=(0, 1), steps=(Group(2, 3),), ones=(Group(5, 3),))
    >>> code.width, code.packed_width
    (8, 5)
    >>> packed = np.array([[0.5, -1.0, 0.25, 1.0, 2.0]])
    >>> code.expand(packed, np, "cpu").tolist()
    [[0.5, -1.0, 1.0, 0.25, 0.0, 0.0, 0.0, 1.0]]
    """

    #: Columns that are packed as they are, in the order of the packed row.
    plain: tuple[int, ...]
    #: Piecewise-linear codes.
    steps: tuple[Group, ...] = ()
    #: One-hot codes.
    ones: tuple[Group, ...] = ()

    @property
    def width(self) -> int:
        """Columns of an encoded row."""
        return len(self.plain) + sum(group.size for group in (*self.steps, *self.ones))

    @property
    def packed_width(self) -> int:
        """Numbers of a packed row."""
        return len(self.plain) + 2 * len(self.steps) + len(self.ones)

    @property
    def starts(self) -> tuple[int, int, int]:
        """Where in a packed row fractions, bins and categories begin."""
        first, second, third = accumulate((len(self.plain), len(self.steps), len(self.steps)))
        return first, second, third

    def runs(self) -> Iterator[tuple[slice, slice]]:
        """Yield where plain columns that stand side by side are, in a packed row and in an encoded one."""
        plain = self.plain
        breaks = [k for k in range(1, len(plain)) if plain[k] != plain[k - 1] + 1]
        for a, b in pairwise([0, *breaks, len(plain)]):
            if a < b:
                yield slice(a, b), slice(plain[a], plain[a] + b - a)

    def holds(self, packed: Array, xp: Namespace) -> bool:
        """Whether all bins and categories of packed rows are of this code; the host waits for the answer."""
        _, bins, categories = self.starts
        for first, groups, least in ((bins, self.steps, 0.0), (categories, self.ones, -1.0)):
            for j, group in enumerate(groups):
                part = packed[..., first + j]
                if not bool(xp.all((part >= least) & (part < group.size))):
                    return False
        return True

    def expand(self, packed: Array, xp: Namespace, device: Device) -> Array:
        r"""Return encoded rows (..., width) of packed ones (..., packed_width).

        Column t of a piecewise-linear code with bin b and fraction f is :math:`[t < b] + [t = b]\, f`.
        """
        rows = xp.empty((*packed.shape[:-1], self.width), dtype=packed.dtype, device=device)
        fractions, bins, categories = self.starts
        for source, place in self.runs():
            rows[..., place] = packed[..., source]
        most = max((group.size for group in (*self.steps, *self.ones)), default=0)
        numbers = xp.arange(most, dtype=packed.dtype, device=device)
        for j, group in enumerate(self.steps):
            own, at = numbers[: group.size], packed[..., bins + j : bins + j + 1]
            part = xp.astype(own == at, packed.dtype)
            part *= packed[..., fractions + j : fractions + j + 1]
            part += xp.astype(own < at, packed.dtype)
            rows[..., group.place] = part
        for j, group in enumerate(self.ones):
            at = packed[..., categories + j : categories + j + 1]
            rows[..., group.place] = xp.astype(numbers[: group.size] == at, packed.dtype)
        return rows


class Table(NamedTuple):
    """Packed rows in front of a matrix: which of its rows belong to what of theirs.

    The first `skip` columns of an encoded row are somebody else's, who has made `lead` features of them; the matrix has
    rows for these, and then for the other columns.
    """

    code: Code
    skip: int = 0
    lead: int = 0

    @property
    def plain(self) -> tuple[list[int], list[int]]:
        """Of the plain columns, where they are in a packed row, and their rows of the matrix."""
        kept = [(k, self._row(place)) for k, place in enumerate(self.code.plain) if place >= self.skip]
        return [k for k, _ in kept], [row for _, row in kept]

    @property
    def steps(self) -> list[Group]:
        """The rows of piecewise-linear codes."""
        return [Group(self._row(group.start), group.size) for group in self.code.steps]

    @property
    def ones(self) -> list[Group]:
        """The rows of one-hot codes."""
        return [Group(self._row(group.start), group.size) for group in self.code.ones]

    def _row(self, place: int) -> int:
        return place - self.skip + self.lead

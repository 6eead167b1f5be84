"""How much memory a fit needs, and how much there is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import OptionError
from .recipe import Recipe

__all__ = ["available_memory", "check_memory", "needed_memory"]

_FLOAT = 4
_WAVES = 4  # numbers that a numerical embedding makes of one


def available_memory() -> int | None:
    """Return the bytes that this process may still take; None if unknown.

    The machine, the control group and the process's own limit (``ulimit -v``) each may end it.
    """
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    try:
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        if most != "max":
            found.append(int(most) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):
        pass
    found += _left_of_limit()
    if not found:
        try:
            found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):
            return None
    return max(min(found), 0)


def _left_of_limit() -> list[int]:
    """Return the bytes of address space that are left of a limit of this process, where it has one."""
    try:
        import resource  # not on Windows

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most == resource.RLIM_INFINITY:
            return []
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError, IndexError):
        return []
    return [most - used]


def needed_memory(recipe: Recipe, rows: int, width: int, n_out: int, *, stored: int | None = None) -> int:
    """Return about how many bytes a fit takes at its height: encoded rows, networks, and what one step works in.

    Of each row `stored` numbers are kept, by default all `width`.

    Examples
    --------
    >>> recipe = Recipe("regression", hidden=(10,), batch_size=10, embedding="none")
    >>> needed_memory(recipe, rows=1000, width=100, n_out=1) > 1000 * 100 * 4
    True
    """
    first = width * (_WAVES if recipe.embedding != "none" else 1)
    widths: Sequence[int] = [first, *recipe.hidden, n_out]
    weights = sum(a * b + b for a, b in itertools.pairwise(widths))
    matrix = rows * (width if stored is None else stored) * _FLOAT
    # Values, gradients, two moments and the best weights of the network in training, and those that are done.
    networks = weights * _FLOAT * (5 + 2 * recipe.members)
    step = 4 * recipe.batch_size * sum(widths) * _FLOAT
    predictions = rows * n_out * _FLOAT * (1 + recipe.members)
    folds = matrix if recipe.folds else 0  # the rows of one fold are taken out of all
    return matrix + folds + networks + step + predictions


def check_memory(recipe: Recipe, rows: int, width: int, n_out: int, where: str, *, stored: int | None = None) -> None:
    """Refuse a fit that does not fit into memory, before anything large is made.

    Raises
    ------
    OptionError
        With how much it needs, and how much there is.
    """
    there, needed = available_memory(), needed_memory(recipe, rows, width, n_out, stored=stored)
    if there is None or needed <= there:
        return
    least = {"preset='quick'": recipe.preset != "quick", "ensemble=1": recipe.members > 1, "fewer rows": True}
    ways = ", ".join([way for way, helps in least.items() if helps] + ["smaller hidden layers"])
    raise OptionError(
        f"{where}: expected a fit within the {_shown(there)} of memory that are free, got one that needs about "
        f"{_shown(needed)} (preset {recipe.preset!r}, {rows:,} rows of {width:,} inputs, {recipe.members} "
        f"network{'s' * (recipe.members > 1)}). Try {ways}."
    )


def _shown(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**29 else f"{size / 2**20:,.0f} MiB"

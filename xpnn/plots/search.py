"""Results of a search over two options, as a heat map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..arguments import number, suggest
from ..errors import DataError, DTypeError, OptionError
from ..metrics import mode_of
from ._figure import axes_for, contrasting, settle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_search"]

_WAYS: dict[str, Callable[..., Any]] = {"mean": np.mean, "min": np.min, "max": np.max}


def plot_search(
    rows: Sequence[Mapping[str, Any]],
    x: str,
    y: str,
    value: str,
    *,
    ax: Axes | None = None,
    mode: Literal["auto", "min", "max"] = "auto",
    reduce: Literal["mean", "min", "max"] = "mean",
) -> Axes:
    """Draw a value for each pair of two options, and frame the best.

    Parameters
    ----------
    rows : sequence of dict, or what has them as ``rows``
        One row for each network tried: its options and results.
    x, y : str
        Columns of the two options: numbers, texts or tuples.  Numbers are sorted, others keep their order.
    value : str
        Column of the result.  Where rows share both options, `reduce` makes one number of theirs; missing pairs,
        and results that are not finite, are grey.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.  The colour bar takes its room from this Axes.
    mode : {"auto", "min", "max"}, default="auto"
        Which direction is better; ``"auto"`` knows the losses and metrics of xpnn.
    reduce : {"mean", "min", "max"}, default="mean"
        Over repetitions with other seeds, or over the options not drawn.

    Returns
    -------
    matplotlib Axes
        With the numbers in the cells and a frame around the best.

    Raises
    ------
    DTypeError
        If `rows` are no rows.
    DataError
        If there are none, or no finite value.
    OptionError
        If a column is absent from all rows, or an option is unknown.

    Examples
    --------
    >>> rows = [{"lr": lr, "width": w, "val_loss": lr * w} for lr in (0.1, 0.01) for w in (8, 16)]
    >>> ax = plot_search(rows, "lr", "width", "val_loss")
    >>> [text.get_text() for text in ax.texts]
    ['0.08', '0.8', '0.16', '1.6']
    """
    where = "plot_search"
    rows = getattr(rows, "rows", rows)
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise DTypeError(f"{where}: expected a list of dicts, got {type(rows).__name__}. Pass one dict per network.")
    if not rows:
        raise DataError(f"{where}: expected at least one row, got none. Run the search first.")
    known = list(dict.fromkeys(key for row in rows for key in row))
    for name in (x, y, value):
        if name not in known:
            raise OptionError(
                f"{where}: expected a column among {', '.join(known)}, got {name!r}. {suggest(name, known)}"
            )
    if mode not in ("auto", "min", "max") or reduce not in _WAYS:
        raise OptionError(
            f"{where}: expected mode 'auto', 'min' or 'max' and reduce 'mean', 'min' or 'max', "
            f"got {mode!r} and {reduce!r}. Choose among these."
        )
    direction = mode_of(value) if mode == "auto" else mode
    tried = [row for row in rows if x in row and y in row]
    across, up = (_levels([row[name] for row in tried]) for name in (x, y))
    grid = np.full((len(up), len(across)), np.nan)
    for i, low in enumerate(up):
        for j, left in enumerate(across):
            found = [number(row.get(value)) for row in tried if _key(row[x]) == left and _key(row[y]) == low]
            finite = [v for v in found if np.isfinite(v)]
            if finite:
                grid[i, j] = _WAYS[reduce](finite)
    if not np.isfinite(grid).any():
        raise DataError(f"{where}: expected finite numbers in {value!r}, got none. Choose another column.")

    given, ax = ax, axes_for(where, ax, (min(0.75 * len(across) + 2.6, 12), min(0.55 * len(up) + 1.6, 10)))
    import matplotlib
    from matplotlib.patches import Rectangle

    # Light is good in both directions.
    colours = matplotlib.colormaps["cividis" if direction == "max" else "cividis_r"].with_extremes(bad="#BBBBBB")
    image = ax.imshow(grid, cmap=colours, origin="lower", aspect="auto")
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.05, pad=0.03)
    bar.set_label(value.replace("_", " "), parse_math=False)
    ax.set_xticks(range(len(across)), [_text(v) for v in across], parse_math=False)
    ax.set_yticks(range(len(up)), [_text(v) for v in up], parse_math=False)
    ax.set_xlabel(x.replace("_", " "), parse_math=False)
    ax.set_ylabel(y.replace("_", " "), parse_math=False)
    width, height = settle(ax, given)
    cell = width / len(across)
    if max(len(_text(v)) for v in across) * 6.2 > 0.9 * cell:
        for tick in ax.get_xticklabels():
            tick.set(rotation=45, ha="right", va="top", rotation_mode="anchor")
        width, height = settle(ax, given)
    texts = [[f"{v:.3g}" if np.isfinite(v) else "–" for v in row] for row in grid]  # noqa: RUF001
    longest = max(len(text) for row in texts for text in row)
    size = min(10.0, 0.85 * width / len(across) / (0.62 * longest), 0.6 * height / len(up))
    if size >= 4:
        for (i, j), v in np.ndenumerate(grid):
            back = colours(image.norm(v)) if np.isfinite(v) else colours.get_bad()
            ax.text(j, i, texts[i][j], ha="center", va="center", fontsize=size, color=contrasting(back))
    best = np.nanargmin(grid) if direction == "min" else np.nanargmax(grid)
    line, column = divmod(int(best), len(across))
    frame = (column - 0.5, line - 0.5)
    for edge, colour in ((5.0, "white"), (2.5, "#D55E00")):
        ax.add_patch(Rectangle(frame, 1, 1, fill=False, linewidth=edge, edgecolor=colour, zorder=3, gid="best"))
    ax.set_title(f"best: {_text(across[column])}, {_text(up[line])}", fontsize=10, parse_math=False)
    return ax


def _key(option: Any) -> Any:
    return tuple(option) if isinstance(option, list) else option


def _levels(options: list[Any]) -> list[Any]:
    """Return the different options: numbers in ascending order, others as they come."""
    levels = list(dict.fromkeys(_key(option) for option in options))
    numeric = all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in levels)
    return sorted(levels) if numeric else levels


def _text(option: Any) -> str:
    if isinstance(option, tuple):
        return "-".join(_text(v) for v in option)
    return f"{option:.4g}" if isinstance(option, float | np.floating) else str(option)

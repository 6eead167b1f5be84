"""Results of a search: over two options as a heat map, over one as bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..arguments import number, suggest
from ..errors import DataError, DTypeError, OptionError
from ..metrics import mode_of
from ._figure import OKABE_ITO, Axes, axes_for, cell_texts, settle, slant, write_cells

__all__ = ["plot_search"]

_WHERE = "plot_search"
_WAYS: dict[str, Callable[..., Any]] = {"mean": np.mean, "min": np.min, "max": np.max}


def plot_search(
    rows: Any,
    x: str,
    y: str | None = None,
    value: str = "score",
    *,
    ax: Axes | None = None,
    mode: Literal["auto", "min", "max"] = "auto",
    reduce: Literal["mean", "min", "max"] = "mean",
) -> Axes:
    """Draw a value for each level of an option, or for each pair of two, and mark the best.

    Parameters
    ----------
    rows : sequence of dict, or what has them as ``rows``
        One row for each network tried: its options and results; a `SearchResult` has them.
    x, y : str
        Columns of the options: numbers, texts or tuples.  Numbers are sorted, others keep their order.  With `x`
        alone there are bars (of means, with a dot for each row), else a heat map.
    value : str, default="score"
        Column of the result.  Where rows share the options, `reduce` makes one number of theirs.  Where there is none
        that is finite, a cell is grey, and in place of a bar there is a dash.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.  The colour bar takes its room from this Axes.
    mode : {"auto", "min", "max"}, default="auto"
        Which direction is better; ``"auto"`` knows the losses and metrics of xpnn, and asks a `SearchResult` for its
        score's.
    reduce : {"mean", "min", "max"}, default="mean"
        Over repetitions with other seeds, or over the options not drawn.

    Returns
    -------
    matplotlib Axes
        With the numbers in the cells and a frame around the best, or on the bars, the best in another colour.

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
    found = getattr(rows, "rows", rows)
    if not isinstance(found, Sequence) or not all(isinstance(row, Mapping) for row in found):
        raise DTypeError(f"{_WHERE}: expected a list of dicts, got {type(found).__name__}. Pass one dict per network.")
    if not found:
        raise DataError(f"{_WHERE}: expected at least one row, got none. Run the search first.")
    known = list(dict.fromkeys(key for row in found for key in row))
    for name in (x, value) if y is None else (x, y, value):
        if name not in known:
            raise OptionError(
                f"{_WHERE}: expected a column among {', '.join(known)}, got {name!r}. {suggest(name, known)}"
            )
    if mode not in ("auto", "min", "max") or reduce not in _WAYS:
        raise OptionError(
            f"{_WHERE}: expected mode 'auto', 'min' or 'max' and reduce 'mean', 'min' or 'max', "
            f"got {mode!r} and {reduce!r}. Choose among these."
        )
    label = value
    if value == "score" and hasattr(rows, "monitor") and hasattr(rows, "mode"):
        label, mode = rows.monitor, rows.mode if mode == "auto" else mode
    direction = mode_of(value) if mode == "auto" else mode
    across, up, cells = _sorted(found, x, y, value)
    grid = np.asarray([[_WAYS[reduce](held) if held else np.nan for held in line] for line in cells])
    if not np.isfinite(grid).any():
        raise DataError(f"{_WHERE}: expected finite numbers in {value!r}, got none. Choose another column.")
    best = int(np.nanargmin(grid) if direction == "min" else np.nanargmax(grid))
    label, x, y = label.replace("_", " "), x.replace("_", " "), None if y is None else y.replace("_", " ")
    if y is not None:
        # Light is good in both directions.
        return _heat_map(ax, across, up, grid, best, (x, y, label), "cividis" if direction == "max" else "cividis_r")
    ax = _bars(ax, across, cells[0] if reduce == "mean" else [[] for _ in across], grid[0], best)
    ax.set_xlabel(x, parse_math=False)
    ax.set_ylabel(label, parse_math=False)
    return ax


def _sorted(
    rows: Sequence[Mapping[str, Any]], x: str, y: str | None, value: str
) -> tuple[list[Any], list[Any], list[list[list[float]]]]:
    """Return the levels along both axes, and for each pair of them the finite values of its rows."""
    tried = [row for row in rows if x in row and (y is None or y in row)]
    across = _levels([row[x] for row in tried])
    up = [None] if y is None else _levels([row[y] for row in tried])
    cells: list[list[list[float]]] = [[[] for _ in across] for _ in up]
    for row in tried:
        v = number(row.get(value))
        if np.isfinite(v):
            cells[0 if y is None else up.index(_key(row[y]))][across.index(_key(row[x]))].append(v)
    return across, up, cells


def _heat_map(
    ax: Axes | None,
    across: list[Any],
    up: list[Any],
    grid: np.ndarray,
    best: int,
    labels: tuple[str, str, str],
    colours: str,
) -> Axes:
    """Draw a cell for each pair of levels, with its number where there is room, and a frame around the best."""
    given, ax = ax, axes_for(_WHERE, ax, (min(0.75 * len(across) + 2.6, 12), min(0.55 * len(up) + 1.6, 10)))
    import matplotlib
    from matplotlib.patches import Rectangle

    cmap = matplotlib.colormaps[colours].with_extremes(bad="#BBBBBB")
    image = ax.imshow(grid, cmap=cmap, origin="lower", aspect="auto")
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.05, pad=0.03)
    bar.set_label(labels[2], parse_math=False)
    ax.set_yticks(range(len(up)), [_text(v) for v in up], parse_math=False)
    ax.set_xlabel(labels[0], parse_math=False)
    ax.set_ylabel(labels[1], parse_math=False)
    width, height = _label_levels(ax, given, across)
    texts = cell_texts(grid, ".3g")
    longest = max(len(text) for row in texts for text in row)
    size = min(10.0, 0.85 * width / len(across) / (0.62 * longest), 0.6 * height / len(up))
    if size >= 4:
        write_cells(ax, image, grid, texts, size)
    line, column = divmod(best, len(across))
    frame = (column - 0.5, line - 0.5)
    for edge, colour in ((5.0, "white"), (2.5, "#D55E00")):
        ax.add_patch(Rectangle(frame, 1, 1, fill=False, linewidth=edge, edgecolor=colour, zorder=3, gid="best"))
    ax.set_title(f"best: {_text(across[column])}, {_text(up[line])}", fontsize=10, parse_math=False)
    return ax


def _bars(ax: Axes | None, across: list[Any], dots: list[list[float]], heights: np.ndarray, best: int) -> Axes:
    """Draw a bar for each level, the best in another colour, and dots on those that stand for several rows."""
    given, ax = ax, axes_for(_WHERE, ax, (min(0.75 * len(across) + 2.0, 12), 3.6))
    colours = [OKABE_ITO[1] if i == best else OKABE_ITO[0] for i in range(len(across))]
    bars = ax.bar(range(len(across)), np.nan_to_num(heights), color=colours, width=0.7)
    for i, found in enumerate(dots):
        if len(found) > 1:
            line = ax.plot([i] * len(found), found, "o", color="white", markeredgecolor="black", markersize=4)
            line[0].set_gid("rows")
    ax.axhline(0.0, color="black", linewidth=0.8)
    ends = [*np.nan_to_num(heights), *(v for found in dots for v in found), 0.0]
    room = 0.12 * ((max(ends) - min(ends)) or 1.0)
    ax.set_ylim(min(ends) - (room if min(ends) < 0 else 0.0), max(ends) + room)
    width, _ = _label_levels(ax, given, across)
    (texts,) = cell_texts(heights[None], ".3g")
    size = min(10.0, 0.95 * width / len(across) / (0.62 * max(map(len, texts))))
    ax.set_title(f"best: {_text(across[best])}", fontsize=10, parse_math=False)
    if size < 4:
        return ax
    for rectangle, found, text in zip(bars, dots, texts, strict=True):
        ends, middle = [rectangle.get_height(), *found], rectangle.get_x() + rectangle.get_width() / 2
        # The number stands beyond the bar and all dots.
        end, shift, side = (min(ends), -4, "top") if ends[0] < 0 else (max(ends), 4, "bottom")
        place: dict[str, Any] = {"xytext": (0, shift), "textcoords": "offset points", "ha": "center", "va": side}
        ax.annotate(text, (middle, end), fontsize=size, **place)
    return ax


def _label_levels(ax: Axes, given: Axes | None, across: list[Any]) -> tuple[float, float]:
    """Write the levels below the Axes, aslant where they are long; return its width and height in points."""
    ax.set_xticks(range(len(across)), [_text(v) for v in across], parse_math=False)
    width, height = settle(ax, given)
    if max(len(_text(v)) for v in across) * 6.2 > 0.9 * width / len(across):
        slant(ax)
        width, height = settle(ax, given)
    return width, height


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

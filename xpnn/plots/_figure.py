"""What all pictures share: the palette, the figure of our own, the legend that covers nothing, the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import DTypeError, OptionError
from ..files import atomic_path
from ..optional import needs

if TYPE_CHECKING:
    from matplotlib.axes import Axes as MatplotlibAxes
    from matplotlib.figure import Figure

__all__ = [
    "MARKERS",
    "OKABE_ITO",
    "Axes",
    "Floats",
    "axes_for",
    "cell_texts",
    "legend_on_top",
    "save_figure",
    "settle",
    "slant",
    "write_cells",
]

#: Blue, vermillion, bluish green, reddish purple, orange, sky blue, black.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

MARKERS = "os^DvPX<>*"

Axes: TypeAlias = "MatplotlibAxes"  # a name for annotations: matplotlib is imported when the first picture is drawn
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


def axes_for(where: str, ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the only Axes of a new figure of `size` inches."""
    with needs("matplotlib", where):
        from matplotlib.axes import Axes as AxesClass
        from matplotlib.figure import Figure as FigureClass
    if ax is None:
        return FigureClass(figsize=size, layout="constrained").add_subplot()
    if not isinstance(ax, AxesClass):
        raise DTypeError(
            f"{where}: expected ax to be one matplotlib Axes, got {type(ax).__name__}. "
            "Of an array of Axes, pass one element."
        )
    return ax


def settle(ax: Axes, given: Axes | None) -> tuple[float, float]:
    """Return the width and height of an Axes in points, after the layout of a figure of our own."""
    figure = ax.figure.canvas.figure
    if given is None:
        figure.draw_without_rendering()
    else:
        ax.apply_aspect()
    box = ax.get_window_extent()
    return box.width * 72 / figure.dpi, box.height * 72 / figure.dpi


def legend_on_top(ax: Axes, given: Axes | None) -> float:
    """Draw a legend along the upper edge and return the share of the height that it needs."""
    handles, labels = ax.get_legend_handles_labels()
    width, height = settle(ax, given)
    dpi = ax.figure.canvas.figure.dpi
    # As few rows as fit; where even one entry is too wide for the Axes, smaller letters.
    for columns, size in [*((c, 8.5) for c in range(len(labels), 0, -1)), (1, 7.0), (1, 6.0), (1, 5.0)]:
        legend = ax.legend(handles, labels, loc="upper left", ncols=columns, fontsize=size, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a "$" in a name is a dollar
        box = legend.get_window_extent()
        if box.width * 72 / dpi < 0.97 * width - 8:
            break
    # The rest allows for a layout that the caller applies later, and for lines and dots of some width.
    return min(1.1 * (box.height * 72 / dpi + 14) / height, 0.7)


def slant(ax: Axes) -> None:
    """Turn the names below an Axes aslant, so that long ones do not run into each other."""
    for tick in ax.get_xticklabels():
        tick.set(rotation=45, ha="right", va="top", rotation_mode="anchor")


def cell_texts(values: Floats, form: str) -> list[list[str]]:
    """Return the numbers of a heat map as text, a dash for what is not finite."""
    return [[format(value, form) if np.isfinite(value) else "–" for value in row] for row in values]  # noqa: RUF001


def write_cells(ax: Axes, image: Any, values: Floats, texts: list[list[str]], size: float) -> None:
    """Write a text into each cell of a heat map, in black or white as its colour allows."""
    for (i, j), value in np.ndenumerate(values):
        back = image.cmap(image.norm(value)) if np.isfinite(value) else image.cmap.get_bad()
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in back[:3])
        # Whichever has the larger WCAG contrast: both are equal at a luminance of 0.179.
        colour = "black" if 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 else "white"
        ax.text(j, i, texts[i][j], ha="center", va="center", fontsize=size, color=colour)


def save_figure(fig_or_ax: Figure | Axes, path: str | os.PathLike[str], *, dpi: float = 150) -> Path:
    """Write a figure to a file, whole or not at all.

    The picture is written under a temporary name in the same folder and renamed.  Nothing is cut off: the
    edges are moved to hold all labels.

    Parameters
    ----------
    fig_or_ax : matplotlib Figure or Axes
        A figure, or any Axes of it.
    path : str or path
        Where to; the ending chooses the format: ``.png``, ``.pdf``, ``.svg``, …  Missing folders are made.
    dpi : float, default=150
        Dots per inch of pixel formats.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    OptionError
        If the ending names no format that matplotlib writes.
    DataError
        If the folder cannot be written to.
    DTypeError
        If `fig_or_ax` is neither a figure nor an Axes.

    Examples
    --------
    >>> import tempfile
    >>> from xpnn.plots import plot_history
    >>> ax = plot_history({"loss": [0.9, 0.5, 0.4]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_figure(ax, folder + "/loss.png").name
    'loss.png'
    """
    target = Path(path)
    canvas = getattr(getattr(fig_or_ax, "figure", fig_or_ax), "canvas", None)
    figure = getattr(canvas, "figure", None)
    if figure is None:
        raise DTypeError(
            f"save_figure: expected a matplotlib Figure or Axes, got {type(fig_or_ax).__name__}. "
            "Pass what a plot function returned."
        )
    formats = figure.canvas.get_supported_filetypes()
    kind = target.suffix[1:].lower()
    if kind not in formats:
        raise OptionError(
            f"save_figure: expected a file name ending in one of .{', .'.join(sorted(formats))}, "
            f"got {target.name!r}. Add an ending such as .png."
        )
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, bbox_inches="tight")
    return target

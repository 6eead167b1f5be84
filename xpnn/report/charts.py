"""Pictures of a report: matplotlib's SVG made fit for a page, with text as text and colours from its style sheet."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from .. import plots
from ..training import History
from .words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = [
    "Line",
    "calibration",
    "confusion",
    "coverage",
    "curves",
    "errors",
    "image_uri",
    "key",
    "plain",
    "png_uri",
    "predicted_true",
    "residuals",
]

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
# In points. On a phone a picture is as wide as the screen, so 10 points come out as about 11 pixels there.
_SIZE = (4.1, 2.75)
# Stand-ins that no picture uses: what is drawn in them takes the colour of the page's text, or of its faint lines.
_INK, _FAINT = "#010203", "#040506"
_COLOURS = {
    **{colour.lower(): f"var(--series-{i})" for i, colour in enumerate(plots.OKABE_ITO[:-1])},
    **dict.fromkeys((_INK, "#000000", "black"), "currentColor"),
    _FAINT: "var(--line)",
}
_HUES = len(plots.OKABE_ITO) - 1
_DASHES = (("-", "solid"), ("--", "dashed"), (":", "dotted"))  # of matplotlib, and of a style sheet
_MANY = 200  # points that are cheaper as one picture than one by one


@contextlib.contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    coloured = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = dict.fromkeys(coloured, _INK) | {
        "grid.color": _FAINT,
        "grid.alpha": 1.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 10.0,
        "svg.fonttype": "none",
        "svg.hashsalt": "xpnn",
        "path.simplify_threshold": 0.5,
    }
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # A letter that matplotlib's font lacks is text all the same, and the reader's browser has more fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def _axes() -> Axes:
    from matplotlib.figure import Figure

    return Figure(figsize=_SIZE, layout="constrained").add_subplot()


def _svg(ax: Axes, name: str, title: str, text: str, *, box: str | None = None) -> str:
    """Return a figure as an ``<svg>`` element for a page: named, described, as wide as its place."""
    figure, buffer = ax.figure.canvas.figure, io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, dpi=160, bbox_inches=box)
    root = ElementTree.fromstring(buffer.getvalue())
    # The notes on the file, and a style sheet that would act on the whole page.
    for parent in list(root.iter()):
        for child in [*parent.findall(f"{_SVG}metadata"), *parent.findall(f"{_SVG}style")]:
            parent.remove(child)
    ids: dict[str, str] = {}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        for key in [key for key in element.attrib if key.startswith(_XLINK)]:
            element.set(key.removeprefix(_XLINK), element.attrib.pop(key))
        if element.tag == "g":  # matplotlib numbers its groups anew in each picture; a page has each id once
            element.attrib.pop("id", None)
        elif "id" in element.attrib:
            ids[element.attrib["id"]] = f"{name}-{len(ids)}"
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _restyled(key, value, ids))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    for position, (tag, content) in enumerate((("title", title), ("desc", text))):
        described = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        described.text = content
        root.insert(position, described)
    return ElementTree.tostring(root, encoding="unicode")


def _restyled(key: str, value: str, ids: Mapping[str, str]) -> str:
    if key == "id":
        return ids.get(value, value)
    if key == "href":
        return "#" + ids.get(value[1:], value[1:]) if value.startswith("#") else value
    if key not in ("style", "clip-path", "fill", "stroke"):
        return value
    value = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{ids.get(found[1], found[1])})", value)
    value = re.sub(r"(?i)#[0-9a-f]{6}\b", lambda found: _COLOURS.get(found[0].lower(), found[0]), value)
    # The size of the letters is kept, their family is the page's.
    value = re.sub(r"font: (?:[a-z]+ )*?([\d.]+px)[^;]*", r"font-size: \1", value)
    return re.sub(r"font-family: [^;]*(?:; )?", "", value)


class Line(NamedTuple):
    """One curve: a column of a history."""

    history: History
    column: str
    hue: int  # its colour and dash, which `key` says in a legend
    best: int | None = None  # the epoch to mark with a dot


def curves(lines: Sequence[Line], name: str, title: str, text: str) -> str | None:
    """Draw curves over the epochs; None where no value is finite. What spans two decades gets a logarithmic axis."""
    from matplotlib.ticker import MaxNLocator

    with _style():
        ax = _axes()
        drawn: list[float] = []
        for history, column, hue, best in lines:
            points: dict[Any, float] = {row["epoch"]: row[column] for row in history.rows if column in row}
            colour, dash = plots.OKABE_ITO[hue % _HUES], _dash(hue)[0]
            marker = "." if len(points) == 1 else ""
            ax.plot(list(points), list(points.values()), dash, marker=marker, color=colour, linewidth=1.6)
            if best is not None and best in points:
                ax.plot([best], [points[best]], "o", color=colour, markeredgecolor=_INK, markersize=6, zorder=3)
            drawn += [value for value in points.values() if math.isfinite(value)]
        if not drawn:
            return None
        if min(drawn) > 0 and max(drawn) > 100 * min(drawn) and lines[0].column != "lr":  # cosines end at nothing
            ax.set_yscale("log")
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        ax.grid(visible=True)
        return _svg(ax, name, title, text)


def key(hue: int) -> tuple[str, str]:
    """Return colour and dash of a curve, as a style sheet says them."""
    return f"var(--series-{hue % _HUES})", _dash(hue)[1]


def _dash(hue: int) -> tuple[str, str]:
    """Dashes repeat what colours say; after as many curves as there are colours they go with others."""
    return _DASHES[(hue + hue // _HUES) % len(_DASHES)]


def _readable(*axes: Axis) -> None:
    """Few ticks, and thousands apart: 250,000 needs room."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for axis in axes:
        axis.set_major_locator(MaxNLocator(nbins=4))
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def plain(name: str) -> str:
    """Return a name as an axis can bear it: short, and without characters that XML has no place for."""
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    return name if len(name) <= 28 else name[:27] + "…"


def predicted_true(truth: Sequence[float], prediction: Sequence[float], quantity: str, name: str, text: str) -> str:
    """Draw predictions against the truth, with the line on which they would be right."""
    with _style():
        ax = _axes()
        many = len(truth) > _MANY
        dots: dict[str, Any] = {"markersize": 2.5, "alpha": 0.35} if many else {"markersize": 4, "alpha": 0.8}
        ax.plot(truth, prediction, "o", color=plots.OKABE_ITO[0], markeredgewidth=0, rasterized=many, **dots)
        low, high = min(*truth, *prediction), max(*truth, *prediction)
        ax.plot([low, high], [low, high], "--", color=_INK, linewidth=1)
        ax.set_xlabel(f"true {plain(quantity)}", parse_math=False)
        ax.set_ylabel("predicted")
        _readable(ax.xaxis, ax.yaxis)
        ax.grid(visible=True)
        return _svg(ax, name, "Predicted against true", text)


def errors(truth: Sequence[float], prediction: Sequence[float], quantity: str, name: str, text: str) -> str:
    """Draw how the errors are spread; those beyond the middle 99 % are counted in the outermost bars."""
    error = np.asarray(prediction) - np.asarray(truth)
    low, high = np.quantile(error, [0.005, 0.995])
    with _style():
        ax = _axes()
        bins = max(min(40, len(error) // 5), 5)
        ax.hist(np.clip(error, low, high), bins=bins, color=plots.OKABE_ITO[0], linewidth=0)
        ax.axvline(0, color=_INK, linewidth=1, linestyle="--")
        ax.set_xlabel(f"error of {plain(quantity)} (predicted - true)", parse_math=False)
        ax.set_ylabel("rows")
        _readable(ax.xaxis)
        ax.grid(visible=True, axis="y")
        ax.set_axisbelow(True)
        return _svg(ax, name, "Errors", text)


def residuals(truth: Sequence[float], prediction: Sequence[float], quantity: str, name: str, text: str) -> str:
    """Draw errors by what was predicted: the middle one of each part of the range, and where four of five lie."""
    guess = np.asarray(prediction)
    error = guess - np.asarray(truth)
    order = np.argsort(guess, kind="stable")
    parts = [part for part in np.array_split(order, min(max(len(order) // 25, 1), 12)) if len(part)]
    low, middle, high = (np.asarray([np.quantile(error[part], q) for part in parts]) for q in (0.1, 0.5, 0.9))
    centre = [float(np.median(guess[part])) for part in parts]
    with _style():
        ax = _axes()
        many = len(guess) > _MANY
        dots: dict[str, Any] = {"markersize": 2.5, "alpha": 0.3} if many else {"markersize": 4, "alpha": 0.6}
        ax.plot(guess, error, "o", color=plots.OKABE_ITO[0], markeredgewidth=0, rasterized=many, **dots)
        if len(parts) > 1:
            ax.fill_between(centre, low, high, color=plots.OKABE_ITO[1], alpha=0.25, linewidth=0)
            ax.plot(centre, middle, "-", color=plots.OKABE_ITO[1], linewidth=1.8)
        ax.axhline(0, color=_INK, linewidth=1, linestyle="--")
        ax.set_xlabel(f"predicted {plain(quantity)}", parse_math=False)
        ax.set_ylabel("predicted - true")
        _readable(ax.xaxis, ax.yaxis)
        ax.grid(visible=True)
        return _svg(ax, name, "Errors by predicted value", text)


def calibration(bins: Sequence[Mapping[str, Any]], called: str, came: str, name: str, text: str) -> str:
    """Draw how often what was called so probable came true, with 95 % intervals; larger dots are of more rows."""
    from matplotlib.ticker import PercentFormatter

    with _style():
        ax = _axes()
        ax.plot([0, 1], [0, 1], "--", color=_INK, linewidth=1)
        x, share = [b["predicted"] for b in bins], [b["share"] for b in bins]
        ends = [[s - b["low"] for s, b in zip(share, bins, strict=True)]]
        ends.append([b["high"] - s for s, b in zip(share, bins, strict=True)])
        ax.errorbar(x, share, np.maximum(ends, 0), fmt="none", ecolor=plots.OKABE_ITO[0], elinewidth=1.2, capsize=2)
        most = max(b["rows"] for b in bins)
        ax.scatter(x, share, s=[12 + 60 * b["rows"] / most for b in bins], color=plots.OKABE_ITO[0], zorder=3)
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(-0.03, 1.03)
        ax.set_xlabel(called, parse_math=False)
        ax.set_ylabel(came, parse_math=False)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        ax.grid(visible=True)
        return _svg(ax, name, "Calibration", text)


def coverage(parts: Sequence[Mapping[str, Any]], promised: float, quantity: str, name: str, text: str) -> str:
    """Draw for parts of the range of predictions how many true values lie in their intervals."""
    from matplotlib.ticker import PercentFormatter

    with _style():
        ax = _axes()
        share = np.asarray([part["share"] for part in parts])
        ends = np.asarray([[part["share"] - part["low"], part["high"] - part["share"]] for part in parts]).T
        places = np.arange(len(parts))
        ax.axhline(promised, color=_INK, linewidth=1, linestyle="--")
        ax.errorbar(places, share, np.maximum(ends, 0), fmt="o", color=plots.OKABE_ITO[0], markersize=7, capsize=3)
        ax.set_xticks(places, [number(part["to"]) for part in parts])
        ax.set_xlim(-0.5, len(parts) - 0.5)
        ax.set_xlabel(f"predicted {plain(quantity)}, up to", parse_math=False)
        ax.set_ylabel("true value inside")
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, promised - 0.1), max(high, min(promised + 0.1, 1.02)))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        ax.grid(visible=True, axis="y")
        return _svg(ax, name, "Coverage of the intervals", text)


def confusion(matrix: np.ndarray, names: Sequence[str], name: str, text: str) -> str:
    """Draw a confusion matrix that is too large for a table."""
    with _style():
        ax = plots.plot_confusion_matrix(matrix, class_names=[plain(label) for label in names])
        return _svg(ax, name, "Confusion matrix", text, box="tight")


def image_uri(pixels: str, shape: Sequence[int]) -> str:
    """Return an image, bytes in base64, as the address of a PNG file that holds it."""
    from matplotlib.image import imsave

    image = np.frombuffer(base64.b64decode(pixels, validate=True), dtype=np.uint8).reshape(shape)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    buffer = io.BytesIO()
    # A value of None leaves the note on the software out, with the address in it.
    unsigned: dict[str, Any] = {"Software": None}
    if image.ndim == 2:
        imsave(buffer, image, format="png", cmap="gray_r", vmin=0, vmax=255, metadata=unsigned)
    else:
        imsave(buffer, image, format="png", metadata=unsigned)
    return png_uri(buffer.getvalue())


def png_uri(content: bytes) -> str:
    """Return the content of a PNG file as an address."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")

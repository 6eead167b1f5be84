"""A decision boundary as it forms."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import number
from ..errors import DataError, DTypeError, OptionError
from ..files import PathLike, atomic_path
from ._figure import Axes, axes_for
from .boundary import plot_decision_boundary

__all__ = ["animate_training"]

_WHERE = "animate_training"
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.4 system-ui, sans-serif; margin: 1rem auto; max-width: 48rem; padding: 0 1rem; }}
img {{ display: block; max-width: 100%; }}
.bar {{ display: flex; gap: .8rem; align-items: center; }}
.bar input {{ flex: 1; min-width: 0; }}
</style></head><body>
<img id="frame" alt="{title}">
<div class="bar"><button id="play" type="button">Pause</button>
<input id="at" type="range" min="0" max="{last}" value="0" aria-label="frame"><span id="name"></span></div>
<script>
const frames = {frames}, names = {names}, wait = {wait};
const img = document.getElementById("frame"), at = document.getElementById("at");
const play = document.getElementById("play"), name = document.getElementById("name");
let timer = null;
function show(k) {{ img.src = "data:image/png;base64," + frames[k]; at.value = k; name.textContent = names[k]; }}
function run(on) {{
  clearInterval(timer); timer = null; play.textContent = on ? "Pause" : "Play";
  if (on) timer = setInterval(() => show((+at.value + 1) % frames.length), wait);
}}
play.onclick = () => run(timer === null);
at.oninput = () => {{ run(false); show(+at.value); }};
show(0); run(!matchMedia("(prefers-reduced-motion: reduce)").matches);
</script></body></html>
"""


def animate_training(
    recorder: Any,
    path: PathLike | None = None,
    *,
    ax: Axes | None = None,
    seconds: float = 0.8,
    dpi: float = 100,
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] = ("feature $x_1$", "feature $x_2$"),
) -> Axes:
    """Draw the decision boundary of each recorded epoch, one picture after the other.

    Parameters
    ----------
    recorder : BoundaryRecorder
        After a fit with it among the callbacks.
    path : path, optional
        Where to: ``.gif`` (written by pillow), or ``.html``: one page that needs nothing else, with a button and
        a slider.  Without a path only the last picture is drawn.
    ax : matplotlib Axes, optional
        Where to draw, with the whole of its figure in each frame; a new figure by default.  It is cleared.
    seconds : float, default=0.8
        How long each frame is shown; the last one three times as long in a GIF.
    dpi : float, default=100
        Dots per inch.
    class_names, feature_names : sequences of str, optional
        As for `plot_decision_boundary`.

    Returns
    -------
    matplotlib Axes
        With the last frame.

    Raises
    ------
    DTypeError
        If `recorder` is not a recorder.
    DataError
        If it recorded nothing, or the file cannot be written.
    OptionError
        If the ending is neither ``.gif`` nor ``.html``, or a number is out of range.

    Examples
    --------
    >>> import tempfile
    >>> import xpnn
    >>> X, y = xpnn.data.make_moons(60, seed=0)
    >>> recorder = xpnn.BoundaryRecorder(X, y, epochs=(1, 3), resolution=20)
    >>> trainer = xpnn.Trainer(xpnn.mlp([2, 8, 2]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[recorder])
    >>> _ = trainer.fit(X, y, epochs=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ax = xpnn.plots.animate_training(recorder, folder + "/moons.gif", dpi=50)
    >>> ax.get_title()
    'epoch 3'
    """
    frames = getattr(recorder, "frames", None)
    if not isinstance(frames, list) or not all(hasattr(recorder, a) for a in ("points", "labels", "resolution")):
        raise DTypeError(
            f"{_WHERE}: expected a BoundaryRecorder, got {type(recorder).__name__}. "
            "Train with callbacks=[xpnn.BoundaryRecorder(X, y)] first."
        )
    if not frames:
        raise DataError(
            f"{_WHERE}: expected recorded epochs, got none. Train with the recorder among the callbacks, "
            "for at least as many epochs as the first of its epochs."
        )
    for name, value in (("seconds", seconds), ("dpi", dpi)):
        if not 0 < number(value) < np.inf:
            raise OptionError(f"{_WHERE}: expected {name} > 0 and finite, got {value!r}. Try the default.")
    target = None if path is None else Path(path)
    if target is not None and target.suffix.lower() not in (".gif", ".html"):
        raise OptionError(f"{_WHERE}: expected a file name ending in .gif or .html, got {target.name!r}. Add one.")

    ax = axes_for(_WHERE, ax, (6.0, 5.0))
    figure = ax.figure.canvas.figure
    pictures = []
    for epoch, shares in frames if target is not None else frames[-1:]:
        for image in ax.images:  # a colour bar gives back the room that it took
            if image.colorbar is not None:
                image.colorbar.remove()
        ax.clear()
        plot_decision_boundary(
            lambda _, shares=shares: shares,
            recorder.points,
            recorder.labels,
            ax=ax,
            resolution=recorder.resolution,
            output="probabilities",
            class_names=class_names,
            feature_names=feature_names,
        )
        ax.set_title(f"epoch {epoch}")
        if target is not None:
            picture = io.BytesIO()
            figure.savefig(picture, format="png", dpi=dpi)
            pictures.append(picture.getvalue())
    if target is not None and target.suffix.lower() == ".gif":
        _write_gif(target, pictures, seconds)
    elif target is not None:
        _write_page(target, pictures, [f"epoch {epoch}" for epoch, _ in frames], seconds)
    return ax


def _write_page(target: Path, pictures: list[bytes], names: list[str], seconds: float) -> None:
    page = _PAGE.format(
        title=html.escape(f"Decision boundary, {names[0]} to {names[-1].removeprefix('epoch ')}"),
        last=len(pictures) - 1,
        frames=json.dumps([base64.b64encode(picture).decode() for picture in pictures]),
        names=json.dumps(names),
        wait=round(1000 * seconds),
    )
    with atomic_path(target) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _write_gif(target: Path, pictures: list[bytes], seconds: float) -> None:
    from PIL import Image  # matplotlib depends on it

    frames = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    # One palette for all, of the last and richest frame: colours do not flicker from frame to frame.
    palette = frames[-1].quantize(256)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    wait = max(round(1000 * seconds), 20)
    durations = [wait] * (len(indexed) - 1) + [3 * wait]
    with atomic_path(target) as temporary:
        indexed[0].save(temporary, format="GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0)

"""Many small images in one Axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..arguments import is_count
from ..errors import OptionError, ShapeError
from ._figure import Axes, Floats, settle

__all__ = ["draw_tiles", "image_shape", "tile_layout"]


def image_shape(where: str, width: int, shape: Sequence[int] | None) -> tuple[int, ...]:
    """Return (height, width) or (height, width, 3) for rows of `width` numbers; squares are guessed."""
    if shape is not None:
        sizes = tuple(shape)
        if len(sizes) not in (2, 3) or not all(map(is_count, sizes)) or (len(sizes) == 3 and sizes[2] not in (1, 3)):
            raise OptionError(
                f"{where}: expected shape (height, width) or (height, width, 3), got {shape!r}. Try (28, 28)."
            )
        if math.prod(sizes) != width:
            raise ShapeError(
                f"{where}: expected {math.prod(sizes)} numbers for images of shape {sizes}, got {width}. "
                "Pass the shape of one image."
            )
        return tuple(map(int, sizes[:2])) if sizes[2:] == (1,) else tuple(map(int, sizes))
    for channels in (1, 3):
        side = math.isqrt(width // channels)
        if side * side * channels == width and side > 1:
            return (side, side) if channels == 1 else (side, side, 3)
    raise ShapeError(f"{where}: {width} numbers are no square image. Pass shape=(height, width).")


def tile_layout(n: int) -> tuple[int, int]:
    """Return rows and columns of a grid of `n` tiles, about as wide as high."""
    columns = math.ceil(math.sqrt(n))
    return math.ceil(n / columns), columns


def draw_tiles(
    ax: Axes, given: Axes | None, images: Floats, captions: Sequence[str], limits: tuple[float, float], cmap: str
) -> Any:
    """Draw images (n, height, width[, 3]) in a grid, a caption above each, and return the last matplotlib image."""
    height, width = images.shape[1:3]
    rows, columns = tile_layout(len(images))
    side = max(height, width)
    gap, head = 0.08 * side, (0.24 if any(captions) else 0.0) * side
    corners = [
        ((k % columns) * (width + gap), (k // columns) * (height + gap + head) + head) for k in range(len(images))
    ]
    scale: dict[str, Any] = {"cmap": cmap, "vmin": limits[0], "vmax": limits[1], "interpolation": "nearest"}
    image = None
    for picture, (left, top) in zip(images, corners, strict=True):
        image = ax.imshow(picture, extent=(left, left + width, top + height, top), **scale)
    x_limits, y_limits = (-gap, columns * (width + gap)), (rows * (height + gap + head), -gap / 2)
    ax.set(xlim=x_limits, ylim=y_limits, aspect="equal", xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    points = settle(ax, given)[0] / (columns * (width + gap)) * width
    longest = max(map(len, captions), default=0)
    if longest:
        size = min(11.0, max(points / (0.58 * longest), 3.0), max(0.16 * points * side / width, 3.0))
        style = {"ha": "center", "va": "bottom", "fontsize": size, "parse_math": False}
        for caption, (left, top) in zip(captions, corners, strict=True):
            ax.text(left + width / 2, top - 0.03 * side, caption, **style)
    return image

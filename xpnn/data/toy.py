"""Small two-dimensional problems, each with a shape that a network has to learn."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..arguments import check_seed, count, is_count, number, shown
from ..errors import OptionError
from ..random import stream

__all__ = ["make_blobs", "make_checkerboard", "make_circles", "make_moons", "make_spirals", "make_xor"]

Points: TypeAlias = "tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]"

_CANDIDATES = 32


def make_xor(n: int = 4, noise: float = 0.0, seed: int = 0) -> Points:
    """Make the XOR problem: the corners of the unit square, labelled by whether their coordinates differ.

    Parameters
    ----------
    n : int
        Number of points; the four corners [0,0], [0,1], [1,0], [1,1] come in turn, again and again.
    noise : float
        Standard deviation of the Gaussian noise on both coordinates.
    seed : int
        Seed of the noise.

    Returns
    -------
    X : ndarray of shape (n, 2), float64
    y : ndarray of shape (n,), int64
        0 or 1.

    Raises
    ------
    OptionError
        If `n` or `noise` is out of range.

    Notes
    -----
    No line separates the classes, so a single perceptron cannot learn them (Minsky and Papert,
    *Perceptrons*, 1969).

    Examples
    --------
    >>> X, y = make_xor()
    >>> X.tolist(), y.tolist()
    ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0])
    """
    _check("make_xor", n, noise, seed, 2)
    corner = np.arange(n) % 4
    X = np.stack([corner // 2, corner % 2], axis=1).astype(np.float64)
    X += noise * stream(seed, "toy.xor").standard_normal(X.shape)
    return X, ((corner == 1) | (corner == 2)).astype(np.int64)


def make_moons(n: int = 300, noise: float = 0.1, seed: int = 0) -> Points:
    r"""Make two interleaved half circles.

    .. math:: (\cos t, \sin t) \quad\text{and}\quad (1 - \cos t, \tfrac12 - \sin t), \qquad t \in [0, \pi]

    Parameters
    ----------
    n : int
        Number of points; the classes differ by at most one.
    noise : float
        Standard deviation of the Gaussian noise on both coordinates.
    seed : int
        Seed of the noise and of the order of the points.

    Returns
    -------
    X : ndarray of shape (n, 2), float64
    y : ndarray of shape (n,), int64
        0 for the upper moon, 1 for the lower.

    Raises
    ------
    OptionError
        If `n` or `noise` is out of range.

    Examples
    --------
    >>> X, y = make_moons(6, noise=0.0)
    >>> X.shape, int(y.sum())
    ((6, 2), 3)
    """
    _check("make_moons", n, noise, seed, 2)
    y = np.arange(n) % 2
    t = np.pi * _position(n, 2)
    X = np.where(
        (y == 0)[:, None],
        np.stack([np.cos(t), np.sin(t)], axis=1),
        np.stack([1.0 - np.cos(t), 0.5 - np.sin(t)], axis=1),
    )
    return _shuffled(X, y, noise, stream(seed, "toy.moons"))


def make_circles(n: int = 300, noise: float = 0.05, seed: int = 0, *, factor: float = 0.5) -> Points:
    """Make two concentric circles, the outer of radius 1.

    Parameters
    ----------
    n : int
        Number of points; the classes differ by at most one.
    noise : float
        Standard deviation of the Gaussian noise on both coordinates.
    seed : int
        Seed of the noise and of the order of the points.
    factor : float
        Radius of the inner circle, in (0, 1).

    Returns
    -------
    X : ndarray of shape (n, 2), float64
    y : ndarray of shape (n,), int64
        0 for the outer circle, 1 for the inner.

    Raises
    ------
    OptionError
        If an argument is out of range.

    Examples
    --------
    >>> X, y = make_circles(8, noise=0.0, factor=0.25)
    >>> sorted(set((X**2).sum(axis=1).round(6).tolist()))
    [0.0625, 1.0]
    """
    _check("make_circles", n, noise, seed, 2)
    if not 0.0 < number(factor) < 1.0:
        raise OptionError(
            f"make_circles: expected factor in (0, 1), got {shown(factor)}. The inner radius is a share of 1."
        )
    y = np.arange(n) % 2
    # Without the end point: an angle of 2 pi would put a second point onto the first.
    angle = 2.0 * np.pi * (np.arange(n) // 2) / np.bincount(y)[y]
    radius = np.where(y == 0, 1.0, factor)
    X = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return _shuffled(X, y, noise, stream(seed, "toy.circles"))


def make_spirals(n: int = 300, noise: float = 0.03, seed: int = 0, *, n_classes: int = 2, turns: float = 1.0) -> Points:
    r"""Make spiral arms, one for each class, evenly filled along their length.

    .. math:: \theta = 2\pi \left(\text{turns} \cdot r + k / K\right), \qquad r \in [0.1, 1]

    Parameters
    ----------
    n : int
        Number of points; the classes differ by at most one.
    noise : float
        Standard deviation of the Gaussian noise on both coordinates.  Neighbouring arms are
        ``1 / (turns * n_classes)`` apart.
    seed : int
        Seed of the noise and of the order of the points.
    n_classes : int
        Number of arms.
    turns : float
        How often an arm winds around the centre from radius 0 to radius 1.

    Returns
    -------
    X : ndarray of shape (n, 2), float64
    y : ndarray of shape (n,), int64
        Number of the arm.

    Raises
    ------
    OptionError
        If an argument is out of range.

    Examples
    --------
    >>> X, y = make_spirals(9, n_classes=3)
    >>> np.bincount(y).tolist()
    [3, 3, 3]
    """
    _check("make_spirals", n, noise, seed, n_classes)
    if not 0.0 < number(turns) < math.inf:
        raise OptionError(f"make_spirals: expected turns > 0, got {shown(turns)}. One turn is a full circle.")
    y = np.arange(n) % n_classes
    # The length of an arm grows with r**2: even steps of r**2 are even steps along the arm.
    radius = np.sqrt(0.01 + 0.99 * _position(n, n_classes))
    angle = 2.0 * np.pi * (turns * radius + y / n_classes)
    X = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return _shuffled(X, y, noise, stream(seed, "toy.spirals"))


def make_checkerboard(n: int = 400, noise: float = 0.0, seed: int = 0, *, cells: int = 4) -> Points:
    """Make a checkerboard on the square [-1, 1] x [-1, 1].

    Parameters
    ----------
    n : int
        Number of points; the two colours differ by at most one.
    noise : float
        Standard deviation of the Gaussian noise that moves points after they got their colour.
    seed : int
        Seed of the points.
    cells : int
        Fields along each side, at least 2.

    Returns
    -------
    X : ndarray of shape (n, 2), float64
    y : ndarray of shape (n,), int64
        Colour: 0 for the lower left field and all that touch it at a corner.

    Raises
    ------
    OptionError
        If an argument is out of range.

    Examples
    --------
    >>> X, y = make_checkerboard(8, cells=2)
    >>> bool(((X[:, 0] * X[:, 1] < 0) == y).all())
    True
    """
    _check("make_checkerboard", n, noise, seed, 2)
    count(cells, "make_checkerboard", "cells")
    if cells < 2:
        raise OptionError(f"make_checkerboard: expected cells >= 2, got {cells}. One field has one colour.")
    rng = stream(seed, "toy.checkerboard")
    y = np.arange(n) % 2
    field = np.arange(cells * cells)
    colour = (field // cells + field % cells) % 2
    chosen = np.where(y == 0, rng.choice(field[colour == 0], n), rng.choice(field[colour == 1], n))
    corner = np.stack([chosen // cells, chosen % cells], axis=1)
    X = (corner + rng.random((n, 2))) * (2.0 / cells) - 1.0
    return _shuffled(X, y, noise, rng)


def make_blobs(n: int = 300, noise: float = 0.15, seed: int = 0, *, n_classes: int = 3, n_features: int = 2) -> Points:
    """Make Gaussian clouds, one for each class, around centres in the cube from -1 to 1.

    Parameters
    ----------
    n : int
        Number of points; the classes differ by at most one.
    noise : float
        Standard deviation of each cloud.
    seed : int
        Seed of the centres, of the noise and of the order of the points.
    n_classes : int
        Number of clouds, at least 2.
    n_features : int
        Number of columns of `X`.

    Returns
    -------
    X : ndarray of shape (n, n_features), float64
    y : ndarray of shape (n,), int64
        Number of the cloud.

    Raises
    ------
    OptionError
        If an argument is out of range.

    Notes
    -----
    Each centre is the candidate, of 32, that lies farthest from the centres before it (best-candidate
    sampling; Mitchell, SIGGRAPH 1991), so that clouds rarely overlap.

    Examples
    --------
    >>> X, y = make_blobs(10, n_classes=2, n_features=5)
    >>> X.shape, np.bincount(y).tolist()
    ((10, 5), [5, 5])
    """
    _check("make_blobs", n, noise, seed, n_classes)
    if not is_count(n_features):
        raise OptionError(f"make_blobs: expected n_features >= 1, got {shown(n_features)}. Try 2.")
    rng = stream(seed, "toy.blobs")
    centres = rng.uniform(-1.0, 1.0, (1, n_features))
    while len(centres) < n_classes:
        candidates = rng.uniform(-1.0, 1.0, (_CANDIDATES, n_features))
        gaps = np.linalg.norm(candidates[:, None, :] - centres[None, :, :], axis=-1).min(axis=1)
        centres = np.concatenate([centres, candidates[gaps.argmax()][None, :]])
    y = np.arange(n) % n_classes
    return _shuffled(centres[y], y, noise, rng)


def _check(where: str, n: int, noise: float, seed: int, n_classes: int) -> None:
    count(n_classes, where, "n_classes")
    if n_classes < 2:
        raise OptionError(f"{where}: expected n_classes >= 2, got {n_classes}. One class leaves nothing to learn.")
    count(n, where, "n")
    if n < n_classes:
        raise OptionError(f"{where}: expected n >= {n_classes}, got {n}. Each class needs a point.")
    if not 0.0 <= number(noise) < math.inf:
        raise OptionError(f"{where}: expected noise >= 0, got {shown(noise)}. It is a standard deviation.")
    check_seed(seed, where)


def _position(n: int, n_classes: int) -> npt.NDArray[np.float64]:
    """Return even steps from 0 to 1 within each class, the classes coming in turn."""
    index = np.arange(n)
    last = np.bincount(index % n_classes)[index % n_classes] - 1
    return (index // n_classes) / np.maximum(last, 1)


def _shuffled(X: npt.NDArray[np.float64], y: npt.NDArray[np.int64], noise: float, rng: np.random.Generator) -> Points:
    order = rng.permutation(len(y))
    return X[order] + noise * rng.standard_normal(X.shape), y[order]

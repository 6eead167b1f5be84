"""Matrices in every form in which they lie in memory, guarded on both sides."""

from __future__ import annotations

import numpy as np
from fake_cupy import bare, guarded, wrap


def draw(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def plain(a):
    return guarded(a)


def transposed(a):
    """The same matrix, by columns in memory."""
    return guarded(a.mT).mT


def wide(a):
    """A view of some columns of a wider matrix."""
    memory = guarded(np.full((*a.shape[:-1], a.shape[-1] + 5), np.nan, a.dtype))
    memory[..., 2:-3] = wrap(a)
    return memory[..., 2:-3]


def tall(a):
    """The same, by columns."""
    return wide(a.mT.copy()).mT


def spread(a):
    """Every other column: neither rows nor columns lie together."""
    memory = guarded(np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, a.dtype))
    memory[..., ::2] = wrap(a)
    return memory[..., ::2]


def upside_down(a):
    return guarded(a[..., ::-1, :])[..., ::-1, :]


FORMS = {f.__name__: f for f in (plain, transposed, wide, tall, spread, upside_down)}


#: Those that need no copy.
STRAIGHT = ("plain", "transposed", "wide", "tall")


def close(actual, expected, tolerance=3e-6):
    actual, expected = (np.asarray(bare(a)) for a in (actual, expected))
    assert actual.shape == expected.shape
    scale = np.abs(expected.astype(np.float64)).max(initial=1e-30)
    wide_kind = [a.astype(np.float64) for a in (actual, expected)]
    np.testing.assert_allclose(*wide_kind, rtol=0, atol=tolerance * scale)

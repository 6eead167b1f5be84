r"""One seed, many streams, the same bits on every array library.

Two kinds of randomness, because two kinds are needed:

* **Host streams** (`stream`): initial weights, splits and shuffles are drawn with NumPy and then moved, so
  they are the same on every backend.
* **Masks** (`StepKey`, `keep_mask`): dropout needs new bits in each step, on the device.  They come from a
  counter hash: element *i* of the mask of one layer at one step is a function of (seed, layer, step, i) in
  32-bit integer arithmetic, which every library computes alike.

The hash is a two-key variant of a multiply-xorshift finalizer ("lowbias32" family): one 32-bit key alone would
make all masks windows onto a single cycle of length :math:`2^{32}`.  Global random state is never read or
written.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._typing import Array, Device, DType, Namespace, Shape

__all__ = ["StepKey", "keep_mask", "keep_threshold", "stream", "words"]

_MASK64 = (1 << 64) - 1


def stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """Return the host generator of one named purpose.

    Parameters
    ----------
    seed : int
        The user's seed, any integer.
    name : str
        What the numbers are for, such as ``"init"`` or ``"shuffle"``.  Streams of different names are
        independent: drawing more from one changes nothing in another.
    *index : int
        Further coordinates, such as the epoch or the layer; non-negative.  Use a name always with equally many:
        NumPy's seed sequence pads with zeros, so a last coordinate of 0 counts as absent.

    Returns
    -------
    numpy.random.Generator
        A fresh PCG64 generator; equal arguments give equal numbers.

    Examples
    --------
    >>> a = stream(0, "shuffle", 3).permutation(5)
    >>> b = stream(0, "shuffle", 3).permutation(5)
    >>> bool((a == b).all())
    True
    """
    entropy = [seed & _MASK64, zlib.crc32(name.encode()), *index]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _splitmix64(z: int) -> int:
    """One step of splitmix64 [1]_ on Python integers.

    References
    ----------
    .. [1] Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    z = (z + 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def _signed32(z: int) -> int:
    """Read the low 32 bits as a signed integer: array constants must fit int32."""
    z &= 0xFFFFFFFF
    return z - (1 << 32) if z & 0x80000000 else z


@dataclass(frozen=True, slots=True)
class StepKey:
    """The mask keys of one training step.

    ``key[slot]`` is the pair of 32-bit keys of the layer in that slot.  A network of K replicas has K seeds and
    gets K pairs, so each replica draws the mask that it would draw alone.

    Parameters
    ----------
    seed : int or sequence of int
        The network's seed, or one for each replica.
    step : int
        The number of the training step, from 0.

    Examples
    --------
    >>> StepKey(seed=0, step=0)[1]
    (13008816, 1155905921)
    >>> StepKey(seed=0, step=0)[1] == StepKey(seed=0, step=1)[1]
    False
    """

    seed: int | Sequence[int]
    step: int

    def __getitem__(self, slot: int) -> tuple[int, int] | tuple[list[list[int]], list[list[int]]]:
        if isinstance(self.seed, int):
            return self._pair(self.seed, slot)
        pairs = [self._pair(seed, slot) for seed in self.seed]
        return [[a] for a, _ in pairs], [[b] for _, b in pairs]

    def _pair(self, seed: int, slot: int) -> tuple[int, int]:
        h = _splitmix64(seed & _MASK64)
        h = _splitmix64(h ^ (slot & _MASK64))
        h = _splitmix64(h ^ (self.step & _MASK64))
        return _signed32(h), _signed32(h >> 32)


def _shift_right(z: Array, k: int) -> Array:
    """Logical shift: the standard's ``>>`` copies the sign of an int32 into the upper bits."""
    return (z >> k) & ((1 << (32 - k)) - 1)


def words(xp: Namespace, key_a: int | Array, key_b: int | Array, n: int, device: Device = None) -> Array:
    """Return the hash words 1…n of a key pair.

    Parameters
    ----------
    xp : namespace
        Array API namespace.
    key_a, key_b : int or int32 array of shape (K, 1)
        The two halves of the key; arrays give K rows of words.
    n : int
        Number of words.
    device : device, optional
        Where to make them.

    Returns
    -------
    array of shape (n,) or (K, n), int32
        Uniform 32-bit words.  Products wrap modulo 2**32 on every library; a test holds known words.
    """
    z = xp.arange(1, n + 1, dtype=xp.int32, device=device)
    z *= _signed32(0x9E3779B9)
    z = z + key_a  # not in place: K keys make K rows
    z ^= _shift_right(z, 16)
    z *= _signed32(0x7FEB352D)
    z ^= _shift_right(z, 15)
    z += key_b
    z *= _signed32(0x846CA68B)
    z ^= _shift_right(z, 16)
    return z


def keep_threshold(rate: float) -> int:
    """Of 65536 equally likely 16-bit values, how many keep a unit when `rate` is the dropped share."""
    return min(max(round((1.0 - rate) * 65536), 1), 65535)


def keep_mask(
    xp: Namespace,
    shape: Shape,
    rate: float,
    key: tuple[int | Array, int | Array],
    dtype: DType,
    device: Device = None,
) -> Array:
    r"""Return an inverted-dropout mask: 0 where a unit is dropped, ``1 / P(keep)`` where it stays.

    Each hash word makes two 16-bit values, its low half for the first half of the elements.  The scale is
    ``65536 / threshold``, so the mean of the mask is exactly 1.

    Parameters
    ----------
    xp : namespace
        Array API namespace.
    shape : tuple of int
        ``(batch, n)``; or ``(K, batch, n)`` with keys of shape (K, 1).
    rate : float
        Share of units to drop, in [0, 1); resolved to 1/65536.
    key : pair of int, or of int32 arrays of shape (K, 1)
        From `StepKey`.
    dtype : dtype
        Floating dtype of the mask.
    device : device, optional
        Where to make it.

    Returns
    -------
    array of `shape`
        The mask.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> keep_mask(xp, (2, 3), 0.5, StepKey(0, 0)[1], xp.float32)
    array([[2., 2., 0.],
           [0., 0., 0.]], dtype=float32)
    """
    n = shape[-1] * shape[-2]
    threshold = keep_threshold(rate)
    w = words(xp, *key, (n + 1) // 2, device)
    kept = xp.concat([(w & 0xFFFF) < threshold, _shift_right(w, 16) < threshold], axis=-1)[..., :n]
    mask = xp.astype(kept, dtype)
    mask *= 65536 / threshold
    return xp.reshape(mask, shape)

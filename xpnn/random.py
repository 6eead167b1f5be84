r"""One seed, many streams, the same bits on every array library.

Two kinds of randomness, because two kinds are needed:

* **Host streams** (`stream`): initial weights, splits and shuffles are drawn with NumPy and then moved, so
  they are the same on every backend.
* **Masks** (`StepKey`, `keep_mask`): dropout needs new bits in each step, on the device.  They come from a
  counter hash: element *i* of the mask of one layer at one step is a function of (seed, layer, step, i) in
  32-bit integer arithmetic, which every library computes alike.  Rows may bring numbers of their own: then a
  row's mask is a function of (seed, layer, step, number), wherever in the batch it lies.

The hash is a two-key variant of a multiply-xorshift finalizer ("lowbias32" family): one 32-bit key alone would
make all masks windows onto a single cycle of length :math:`2^{32}`.  Global random state is never read or
written.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from ._typing import Array, Device, DType, Namespace, Shape

__all__ = [
    "KeyRow",
    "StepKey",
    "keep_mask",
    "keep_threshold",
    "keep_thresholds",
    "splitmix64",
    "step_keys",
    "stream",
    "words",
]

# The pairs of one step by slot, on the device: int32 arrays of shape (1,), or (K, 1) for replicas.
KeyRow: TypeAlias = Mapping[int, tuple[Array, Array]]

_MASK64 = (1 << 64) - 1


def stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """Return the host generator, a fresh PCG64, of one named purpose; equal arguments give equal numbers.

    The `seed` is the user's, any integer.  The `name` says what the numbers are for, such as ``"init"`` or
    ``"shuffle"``: streams of different names are independent, and drawing more from one changes nothing in another.
    `index` are further coordinates, such as the epoch or the layer; non-negative.  Use a name always with equally
    many: NumPy's seed sequence pads with zeros, so a last coordinate of 0 counts as absent.

    Examples
    --------
    >>> a = stream(0, "shuffle", 3).permutation(5)
    >>> b = stream(0, "shuffle", 3).permutation(5)
    >>> bool((a == b).all())
    True
    """
    entropy = [seed & _MASK64, zlib.crc32(name.encode()), *index]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def splitmix64(z: Any) -> Any:
    """One step of splitmix64 [1]_, on a Python integer or an array of numpy.uint64.

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
    """The mask keys of one training step, and what layers must know of its rows.

    ``key[slot]`` is the pair of 32-bit keys of the layer in that slot.  A network of K replicas has K seeds and
    gets K pairs, so each replica draws the mask that it would draw alone.

    Parameters
    ----------
    seed : int or sequence of int
        The network's seed, or one for each replica.
    step : int or KeyRow
        The number of the training step, from 0; or its pairs, on the device, from `step_keys`.
    rows : int32 array of shape (batch,), optional
        Numbers that pick the rows' masks; by default each row's place in the batch does.
    sample_weight : array of shape (batch,), optional
        Weights of the rows, for batch norm.
    total_weight : float or 0-d array, optional
        Their sum.
    dropout : float or dict of slot to int32 array, default=1.0
        What a schedule multiplies the rates of dropout by; or, on the device, the thresholds that come of it, shaped as
        the pairs of `step` are.

    Examples
    --------
    >>> StepKey(seed=0, step=0)[1]
    (13008816, 1155905921)
    >>> StepKey(seed=0, step=0)[1] == StepKey(seed=0, step=1)[1]
    False
    """

    seed: int | Sequence[int]
    step: int | KeyRow
    rows: Array = field(default=None, repr=False, compare=False)
    sample_weight: Array = field(default=None, repr=False, compare=False)
    total_weight: float | Array = field(default=None, repr=False, compare=False)
    dropout: float | Mapping[int, Array] = field(default=1.0, repr=False, compare=False)

    @property
    def replicas(self) -> int:
        """Number of replicas, 0 for a single network."""
        return 0 if isinstance(self.seed, int) else len(self.seed)

    def __getitem__(self, slot: int) -> tuple[int, int] | tuple[list[list[int]], list[list[int]]] | tuple[Array, Array]:
        if isinstance(self.step, Mapping):
            return self.step[slot]
        if isinstance(self.seed, int):
            return _pair(self.seed, slot, self.step)
        pairs = [_pair(seed, slot, self.step) for seed in self.seed]
        return [[a] for a, _ in pairs], [[b] for _, b in pairs]

    def rate(self, slot: int, rate: float | list[float]) -> float | list[float] | Array:
        """Return the rate of dropout of the layer in `slot` in this step, as `Ops.keep_mask` takes it.

        Examples
        --------
        >>> StepKey(seed=0, step=0, dropout=0.5).rate(1, [0.2, 0.4])
        [0.1, 0.2]
        """
        if isinstance(self.dropout, Mapping):
            return self.dropout[slot]
        return [own * self.dropout for own in rate] if isinstance(rate, list) else rate * self.dropout


def _pair(seed: int, slot: int, step: int) -> tuple[int, int]:
    h = splitmix64(splitmix64(splitmix64(seed & _MASK64) ^ (slot & _MASK64)) ^ (step & _MASK64))
    return _signed32(h), _signed32(h >> 32)


def step_keys(seed: int | Sequence[int], first: int, n: int, slots: Sequence[int]) -> np.ndarray:
    """Return what `StepKey` gives for many steps at once: `n` of them from `first` on, for the layers in `slots`.

    The pairs are int32 of shape (n, n_slots, 2, 1); (n, n_slots, 2, K, 1) for the seeds of K replicas.

    Examples
    --------
    >>> step_keys(0, 0, 1, [1])[0, 0, :, 0].tolist() == list(StepKey(seed=0, step=0)[1])
    True
    """
    seeds = [seed] if isinstance(seed, int) else list(seed)
    begun = [[splitmix64(splitmix64(s & _MASK64) ^ (slot & _MASK64)) for s in seeds] for slot in slots]
    steps = np.arange(first, first + n, dtype=np.uint64)
    h = splitmix64(
        np.asarray(begun, dtype=np.uint64).reshape(1, len(slots), 1, len(seeds)) ^ steps[:, None, None, None]
    )
    pairs = np.concatenate([h & 0xFFFFFFFF, h >> 32], axis=2).astype(np.uint32).view(np.int32)
    return pairs if isinstance(seed, int) else pairs[..., None]


def _shift_right(z: Array, k: int) -> Array:
    """Logical shift: the standard's ``>>`` copies the sign of an int32 into the upper bits."""
    return (z >> k) & ((1 << (32 - k)) - 1)


def words(xp: Namespace, key_a: int | Array, key_b: int | Array, n: int, device: Device = None) -> Array:
    """Return the hash words 1…n of a key pair: uniform int32 of shape (n,), or (K, n) for halves of shape (K, 1).

    Products wrap modulo 2**32 on every library; a test holds known words.
    """
    z = xp.arange(1, n + 1, dtype=xp.int32, device=device)
    z *= _signed32(0x9E3779B9)
    return _scramble(z, key_a, key_b)


def _scramble(z: Array, key_a: int | Array, key_b: int | Array) -> Array:
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


def keep_thresholds(rates: Any) -> np.ndarray:
    """Do so for many rates at once, as int32; where a rate is 0, all 65536 keep a unit.

    Examples
    --------
    >>> keep_thresholds([0.0, 0.25, 0.5])
    array([65536, 49152, 32768], dtype=int32)
    """
    rates = np.asarray(rates, dtype=np.float64)
    kept = np.clip(np.rint((1.0 - rates) * 65536), 1, 65535)
    return np.where(rates == 0.0, 65536, kept).astype(np.int32)


def keep_mask(
    xp: Namespace,
    shape: Shape,
    rate: float | Array,
    key: tuple[int | Array, int | Array],
    dtype: DType,
    device: Device = None,
    rows: Array = None,
) -> Array:
    r"""Return an inverted-dropout mask: 0 where a unit is dropped, ``1 / P(keep)`` where it stays.

    Each hash word makes two 16-bit values, its low half for the first half of the elements.  The scale is
    ``65536 / threshold``, so the mean of the mask is exactly 1.  With `rows` each row is a mask by itself: its
    number, hashed with the key, takes the place of the first half of the key.

    Parameters
    ----------
    shape : tuple of int
        ``(batch, n)``; or ``(K, batch, n)`` with keys of shape (K, 1).
    rate : float, or int32 array of shape (1,) or (K, 1)
        Share of units to drop, in [0, 1); resolved to 1/65536.  Or, on the device, the thresholds themselves, which may
        be the replicas' own: `keep_thresholds`.
    key : pair of int, or of int32 arrays of shape (K, 1)
        From `StepKey`.
    rows : int32 array of shape (batch,), optional
        A number for each row; equal numbers draw equal masks, in whatever batch and place.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> keep_mask(xp, (2, 3), 0.5, StepKey(0, 0)[1], xp.float32)
    array([[2., 2., 0.],
           [0., 0., 0.]], dtype=float32)
    """
    n = shape[-1] * shape[-2]
    if isinstance(rate, int | float):
        threshold = keep_threshold(rate)
        scale = 65536 / threshold
    else:
        threshold = rate
        scale = 65536.0 / xp.astype(threshold, dtype)  # both are exact in float32, so it rounds as the line above
    if rows is not None:
        n = shape[-1]
        key = _scramble(rows * _signed32(0x9E3779B9), *key)[..., None], _with_axis(key[1])
        threshold, scale = _with_axis(threshold), _with_axis(scale)
    w = words(xp, *key, (n + 1) // 2, device)
    kept = xp.concat([(w & 0xFFFF) < threshold, _shift_right(w, 16) < threshold], axis=-1)[..., :n]
    mask = xp.astype(kept, dtype)
    mask *= scale
    return xp.reshape(mask, shape)


def _with_axis(a: Any) -> Any:
    """Make what each replica has its own of, (K, 1), fit masks of single rows, (K, batch, n)."""
    return a if isinstance(a, int | float) else a[..., None]

"""Streams and masks: known bits, the same bits everywhere, and bits that look random.

Every statistical test has fixed seeds, so it passes always or never; limits are set where a good generator fails
once in a million (5 standard deviations).
"""

from __future__ import annotations

import itertools
import math
import random as python_random
import warnings

import array_api_compat.numpy as xp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import backend_or_skip

import xpnn
from xpnn.random import StepKey, keep_mask, keep_threshold, keep_thresholds, stream, words

M32, M64 = (1 << 32) - 1, (1 << 64) - 1
SIGMAS = 5.0
RATES = [0.05, 0.2, 0.5, 0.9]


# -- the same hash in plain integers, written from the definition ----------------------------------------------
def python_key(seed, slot, step):
    def mix(z):
        z = (z + 0x9E3779B97F4A7C15) & M64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
        z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
        return z ^ z >> 31

    h = mix(mix(mix(seed & M64) ^ slot) ^ step)
    return h & M32, h >> 32


def python_words(seed, slot, step, n):
    a, b = python_key(seed, slot, step)
    out = []
    for i in range(1, n + 1):
        z = i * 0x9E3779B9 + a & M32
        z ^= z >> 16
        z = z * 0x7FEB352D & M32
        z ^= z >> 15
        z = (z + b) * 0x846CA68B & M32
        out.append(z ^ z >> 16)
    return out


def signed(words):
    return [w - (1 << 32) if w >> 31 else w for w in words]


def python_mask(seed, slot, step, n, rate):
    w = python_words(seed, slot, step, -(-n // 2))
    halves = [z & 0xFFFF for z in w] + [z >> 16 for z in w]
    return [h < keep_threshold(rate) for h in halves[:n]]


KNOWN = {
    # (seed, step, slot): the key pair, and the first six words
    (0, 0, 0): (
        (956087953, 595752380),
        [366946935, 1484357626, 859010926, 1987896938, 1678090791, -63785407],
    ),
    (0, 0, 1): (
        (13008816, 1155905921),
        [-1281933627, -1237238823, -1913544850, 291758508, 828622255, -524693172],
    ),
    (1, 0, 0): (
        (1837991619, -1316355340),
        [885987090, -198172304, 353473575, 349469703, 1016646765, 999544422],
    ),
    (12345, 7, 3): (
        (-13409115, -567241043),
        [-1791085010, 868476288, -1956039095, -81251694, 466080074, -2073186020],
    ),
    (-1, 2**40, 2): (
        (252067573, 194308681),
        [-1659505417, -1383369064, -1789289966, -107191818, 1486921241, 2136538224],
    ),
}


@pytest.mark.parametrize("where", KNOWN, ids=str)
def test_known_words_on_every_library(backend, where):
    seed, step, slot = where
    key, expected = KNOWN[where]
    assert StepKey(seed, step)[slot] == key
    got = words(backend.xp, *key, 6, backend.device)
    assert got.dtype == backend.xp.int32
    assert backend.to_numpy(got).tolist() == expected
    assert signed(python_words(seed, slot, step, 6)) == expected
    assert tuple(signed(python_key(seed, slot, step))) == key


def test_known_words_of_extreme_keys():
    assert words(xp, 0, 0, 4).tolist() == [33350994, 83415710, 260840893, 1806016855]
    assert words(xp, -1, -(2**31), 4).tolist() == [620169580, -1608871908, -262148041, 1151418934]


def test_known_numbers_of_the_host_streams():
    assert stream(0, "init", 0).integers(0, 2**32, 3).tolist() == [3829117492, 4035656240, 2638588143]
    assert stream(-1, "shuffle", 3).integers(0, 2**32, 3).tolist() == [1796027579, 4062315157, 496169086]
    assert stream(2**70 + 5, "x").random(2).tolist() == [0.7891148576067762, 0.46585845108232904]


@given(
    seed=st.integers(-(2**70), 2**70),
    slot=st.integers(0, 2**31),
    step=st.integers(0, 2**63),
    n=st.integers(1, 70),
    rate=st.floats(0, 0.999),
)
def test_any_mask_is_the_one_of_plain_integers(seed, slot, step, n, rate):
    key = StepKey(seed, step)[slot]
    assert words(xp, *key, n).tolist() == signed(python_words(seed, slot, step, n))
    mask = keep_mask(xp, (1, n), rate, key, np.float64)
    assert (mask[0] > 0).tolist() == python_mask(seed, slot, step, n, rate)
    scale = 65536 / keep_threshold(rate)
    assert set(mask[0].tolist()) <= {0.0, scale}


@pytest.mark.parametrize("spec", ["strict", "strict:no_float64", "torch", "cupy"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (128, 256), (2, 7, 3)])
def test_masks_have_equal_bits_on_every_library(spec, shape):
    backend, numpy = backend_or_skip(spec), xpnn.get_backend("numpy")
    seeds = [3, 4] if len(shape) == 3 else 3
    for rate, step in itertools.product(RATES, (0, 1, 10**9)):
        pair = StepKey(seeds, step)[2]
        here = numpy.ops.keep_mask(shape, rate, pair, numpy.dtype)
        there = backend.ops.keep_mask(shape, rate, pair, backend.dtype)
        assert here.shape == tuple(there.shape) == shape
        assert there.dtype == backend.dtype
        assert backend.to_numpy(there).tobytes() == here.tobytes()


@pytest.mark.parametrize("spec", ["numpy", "strict", "strict:no_float64", "torch", "cupy"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 7, 3)])
@pytest.mark.parametrize("rows", [False, True])
def test_thresholds_on_the_device_stand_for_rates(spec, shape, rows):
    backend = backend_or_skip(spec)
    xp, replicas = backend.xp, shape[:-2]
    rates = [0.3, 0.0][: len(replicas) + 1] if replicas else [0.3]
    pair = StepKey([3, 4] if replicas else 3, 8)[2]
    limits = backend.asarray(keep_thresholds(rates).reshape((*replicas, 1)), dtype=xp.int32)
    given = (backend.asarray(np.arange(shape[-2]) * 5, dtype=xp.int32),) if rows else ()
    draw = backend.ops.keep_mask_of_rows if rows else backend.ops.keep_mask
    mine = draw(shape, limits, pair, backend.dtype, *given)
    theirs = draw(shape, rates if replicas else 0.3, pair, backend.dtype, *given)
    assert backend.to_numpy(mine).tobytes() == backend.to_numpy(theirs).tobytes()
    assert mine.dtype == backend.dtype


def test_making_masks_warns_of_no_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keep_mask(xp, (64, 64), 0.5, StepKey(0, 0)[0], np.float32)


# -- rates ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rate", "threshold"),
    [
        (0.0, 65535),  # a mask that keeps all is not made: Dropout(0) returns its input
        (1e-9, 65535),
        (1 / 65536, 65535),
        (0.25, 49152),
        (0.5, 32768),
        (0.75, 16384),
        (1 - 1 / 65536, 1),
        (1 - 1e-12, 1),  # never 0: something is kept, and the scale is finite
    ],
)
def test_thresholds(rate, threshold):
    assert keep_threshold(rate) == threshold


@given(rates=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=9))
def test_thresholds_of_many_rates_are_those_of_each(rates):
    kept = keep_thresholds(rates)
    assert kept.dtype == np.int32
    assert kept.tolist() == [keep_threshold(rate) if rate else 65536 for rate in rates]


@given(rate=st.floats(0, 1, exclude_max=True))
def test_the_threshold_is_the_rate_to_one_in_65536(rate):
    threshold = keep_threshold(rate)
    assert type(threshold) is int
    assert 1 <= threshold <= 65535
    assert abs(threshold / 65536 - (1 - rate)) <= 1 / 65536


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mean_of_a_mask_is_one(rate, dtype):
    """Over all 16-bit values it is 1 exactly; over a mask, to the deviation of a binomial."""
    threshold = keep_threshold(rate)
    scale = getattr(np, dtype)(65536 / threshold)
    assert scale * threshold / 65536 == pytest.approx(1, rel=float(np.finfo(dtype).eps))
    n = 1 << 20
    mask = keep_mask(xp, (1024, 1024), rate, StepKey(11, 5)[1], getattr(np, dtype))
    assert mask.dtype == dtype
    assert set(np.unique(mask).tolist()) == {0.0, float(scale)}
    keep = threshold / 65536
    assert abs(mask.mean(dtype=np.float64) - 1) < SIGMAS * math.sqrt((1 - keep) / keep / n)


# -- replicas and streams ------------------------------------------------------------------------------------
def test_replicas_get_the_masks_of_their_seeds(backend):
    seeds = (5, -2, 2**65, 5)
    pair = StepKey(seeds, 9)[4]
    assert pair == (
        [[StepKey(s, 9)[4][0]] for s in seeds],
        [[StepKey(s, 9)[4][1]] for s in seeds],
    )
    together = backend.to_numpy(backend.ops.keep_mask((4, 6, 5), 0.3, pair, backend.dtype))
    for k, seed in enumerate(seeds):
        alone = backend.ops.keep_mask((6, 5), 0.3, StepKey(seed, 9)[4], backend.dtype)
        np.testing.assert_array_equal(together[k], backend.to_numpy(alone))


def test_keys_are_frozen_values():
    assert StepKey(3, 4) == StepKey(3, 4)
    assert StepKey(3, 4) != StepKey(4, 3)
    with pytest.raises(AttributeError):
        StepKey(3, 4).seed = 5


def test_keys_differ_for_every_seed_step_and_slot():
    keys = {StepKey(seed, step)[slot] for seed, step, slot in itertools.product(range(-8, 24), range(32), range(16))}
    assert len(keys) == 32 * 32 * 16


def test_a_flipped_bit_of_a_coordinate_flips_half_of_the_key():
    def bits(seed, slot, step):
        a, b = python_key(seed, slot, step)
        return a | b << 32

    for coordinate in range(3):
        flips = []
        for bit, start in itertools.product(range(0, 31, 3), range(40)):
            here = [start * 7 + 1, start % 9, start * 31]
            there = list(here)
            there[coordinate] ^= 1 << bit
            flips.append((bits(*here) ^ bits(*there)).bit_count())
        assert abs(np.mean(flips) - 32) < SIGMAS * 4 / math.sqrt(len(flips))  # 64 fair bits: deviation 4
        assert min(flips) > 32 - 4 * 6


def test_streams_of_other_names_seeds_or_indices_are_others():
    def head(*arguments):
        return tuple(stream(*arguments).integers(0, 2**63, 4).tolist())

    arguments = [(0, "init"), (1, "init"), (-1, "init"), (0, "shuffle"), (0, "init", 1), (0, "init", 2)]
    arguments += [(0, "init", 1, 1), (0, "init", 0, 1), (2**63, "init"), (0, "Init"), (2**32, "init")]
    assert len({head(*a) for a in arguments}) == len(arguments)
    assert all(head(*a) == head(*a) for a in arguments), "equal arguments, equal numbers"
    used = stream(0, "init")
    used.random(1000)
    assert head(0, "shuffle") == head(0, "shuffle")
    assert head(0, "init") == head(0, "init"), "drawing from one moves none"


def test_streams_are_uncorrelated():
    n = 1 << 16
    draws = [stream(seed, name, i).standard_normal(n) for seed in (0, 1) for name in ("init", "split") for i in (0, 1)]
    correlation = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlation).max() * math.sqrt(n) < SIGMAS


def test_a_whole_fit_touches_no_global_random_state():
    np.random.seed(123)  # noqa: NPY002  this is what must not be disturbed
    python_random.seed(123)
    before, python_before = np.random.get_state(), python_random.getstate()  # noqa: NPY002
    X, y = xpnn.data.make_moons(60, noise=0.1, seed=0)
    net = xpnn.mlp([2, 8, 2], norm="batch", dropout=0.2, seed=0)
    trainer = xpnn.Trainer(
        net,
        xpnn.CrossEntropy(),
        xpnn.Adam(),
        regularizer=xpnn.SpectralNorm(1e-3),
        callbacks=[xpnn.EarlyStopping(), xpnn.EMA(), xpnn.Diagnose()],
    )
    trainer.fit(X, y, epochs=3, batch_size=16, validation_fraction=0.2)
    trainer.evaluate(X, y)
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    assert python_random.getstate() == python_before

    np.random.seed(7)  # noqa: NPY002
    again = xpnn.mlp([2, 8, 2], norm="batch", dropout=0.2, seed=0)
    xpnn.Trainer(
        again,
        xpnn.CrossEntropy(),
        xpnn.Adam(),
        regularizer=xpnn.SpectralNorm(1e-3),
        callbacks=[xpnn.EarlyStopping(), xpnn.EMA(), xpnn.Diagnose()],
    ).fit(X, y, epochs=3, batch_size=16, validation_fraction=0.2)
    np.testing.assert_array_equal(again.store.values, net.store.values, err_msg="nor does it depend on it")


def test_torch_state_is_not_touched_either():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    before = torch.get_rng_state()
    X, y = xpnn.data.make_moons(40, seed=0)
    net = xpnn.mlp([2, 8, 2], dropout=0.2, backend="torch")
    xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).fit(X, y, epochs=2, batch_size=16)
    assert torch.equal(before, torch.get_rng_state())


# -- do the bits look random? --------------------------------------------------------------------------------
def chi_square_sigmas(counts):
    """How many deviations the chi-square of equally likely cells lies from its mean."""
    counts = np.asarray(counts, dtype=np.float64)
    expected = counts.sum() / len(counts)
    freedom = len(counts) - 1
    return (((counts - expected) ** 2).sum() / expected - freedom) / math.sqrt(2 * freedom)


def signs(shape=(256, 256), seed=0, slot=0, step=0, rate=0.5):
    """A mask as numbers of mean 0 and variance 1."""
    keep = keep_threshold(rate) / 65536
    kept = keep_mask(xp, shape, rate, StepKey(seed, step)[slot], np.float64) > 0
    return (kept - keep) / math.sqrt(keep * (1 - keep))


def correlation_sigmas(a, b):
    return float((a * b).mean() * math.sqrt(a.size))


@pytest.mark.parametrize("half", ["low", "high"])
def test_sixteen_bit_values_are_equally_likely(half):
    shift = 0 if half == "low" else 16
    sigmas = []
    for seed in range(40):
        w = words(xp, *StepKey(seed, 0)[1], 1 << 18)
        sigmas.append(chi_square_sigmas(np.bincount(w >> shift & 0xFFFF, minlength=65536)))
    assert np.abs(sigmas).max() < SIGMAS
    assert abs(np.mean(sigmas)) < SIGMAS / math.sqrt(40)
    assert abs(np.std(sigmas) - 1) < SIGMAS / math.sqrt(2 * 40), "neither too uneven nor too even"


def test_single_bits_are_fair():
    w = words(xp, *StepKey(3, 3)[3], 1 << 20)
    ones = [int((w >> bit & 1).sum()) for bit in range(32)]
    assert np.abs(np.asarray(ones) - 2**19).max() < SIGMAS * 2**9


@pytest.mark.parametrize("coordinate", ["seed", "slot", "step"])
def test_first_words_are_random_across_keys(coordinate):
    """Small nets use few words of very many keys."""
    n = 1 << 14
    keys = [StepKey(i, 0)[0] if coordinate == "seed" else StepKey(0, i)[0] for i in range(n)]
    if coordinate == "slot":
        keys = [StepKey(0, 0)[i] for i in range(n)]
    a, b = (np.asarray(k, dtype=np.int32)[:, None] for k in zip(*keys, strict=True))
    w = words(xp, a, b, 4)
    for j, shift in itertools.product(range(4), (0, 8, 16, 24)):
        assert abs(chi_square_sigmas(np.bincount(w[:, j] >> shift & 0xFF, minlength=256))) < SIGMAS
    centred = w / 2.0**31 * math.sqrt(3)
    for j in range(4):
        assert abs(correlation_sigmas(centred[:-1, j], centred[1:, j])) < SIGMAS
    assert abs(correlation_sigmas(centred[:, 0], centred[:, 1])) < SIGMAS


@pytest.mark.parametrize("rate", RATES)
def test_the_share_kept_has_the_mean_and_variance_of_a_binomial(rate):
    n, masks = 32 * 32, 2000
    keep = keep_threshold(rate) / 65536
    kept = np.stack(
        [keep_mask(xp, (32, 32), rate, StepKey(1, step)[2], np.float32).ravel() > 0 for step in range(masks)]
    )
    counts = (kept.sum(axis=1) - n * keep) / math.sqrt(n * keep * (1 - keep))
    assert abs(counts.mean()) < SIGMAS / math.sqrt(masks)
    assert abs(counts.var() - 1) < SIGMAS * math.sqrt(2 / masks)
    each = (kept.sum(axis=0) - masks * keep) / math.sqrt(masks * keep * (1 - keep))
    assert np.abs(each).max() < SIGMAS + 1, "every unit has its turn"
    assert abs(each.var() - 1) < SIGMAS * math.sqrt(2 / n)


@pytest.mark.parametrize("rate", RATES)
def test_elements_of_a_mask_are_independent(rate):
    for seed in range(3):
        mask = signs((512, 512), seed=seed, rate=rate)
        flat = mask.ravel()
        half = flat.size // 2
        pairs = {
            "beside": (mask[:, :-1], mask[:, 1:]),
            "below": (mask[:-1], mask[1:]),
            "diagonal": (mask[:-1, :-1], mask[1:, 1:]),
            "of one word": (flat[:half], flat[half:]),
            **{f"{lag} on": (flat[:-lag], flat[lag:]) for lag in (2, 3, 7, 64, 1000, 65536)},
        }
        for name, (a, b) in pairs.items():
            assert abs(correlation_sigmas(a, b)) < SIGMAS, name


@pytest.mark.parametrize("rate", RATES)
def test_masks_of_other_layers_steps_and_seeds_are_independent(rate):
    base = signs(rate=rate)
    others = [signs(rate=rate, slot=i) for i in (1, 2, 3, 17)]
    others += [signs(rate=rate, step=i) for i in (1, 2, 3, 2**20)]
    others += [signs(rate=rate, seed=i) for i in (1, 2, -1, 2**32)]
    others += [signs(rate=rate, slot=1, step=1), signs(rate=rate, seed=1, step=1)]
    for a, b in itertools.combinations([base, *others], 2):
        assert abs(correlation_sigmas(a, b)) < SIGMAS
        flat_a, flat_b = a.ravel(), b.ravel()
        for lag in (1, 2, 256):
            assert abs(correlation_sigmas(flat_a[:-lag], flat_b[lag:])) < SIGMAS


def test_runs_have_the_length_of_coin_tosses():
    """Wald and Wolfowitz: of n fair tosses, (n + 1) / 2 runs with variance (n - 1) / 4."""
    for seed in range(10):
        flat = signs((512, 512), seed=seed).ravel() > 0
        n, ones = flat.size, int(flat.sum())
        runs = 1 + int((flat[1:] != flat[:-1]).sum())
        expected = 1 + 2 * ones * (n - ones) / n
        variance = (expected - 1) * (expected - 2) / (n - 1)
        assert abs(runs - expected) < SIGMAS * math.sqrt(variance)
        edges = np.flatnonzero(np.diff(flat))
        longest = int(np.diff(edges).max())
        assert 12 <= longest <= 40, "2**18 tosses: about 17"


def test_patterns_of_eight_neighbours_are_equally_likely():
    for seed in range(4):
        kept = signs((1024, 1024), seed=seed, step=seed) > 0
        rows = np.packbits(kept.reshape(-1, 8), axis=1).ravel()
        columns = np.packbits(kept.T.reshape(-1, 8), axis=1).ravel()
        for patterns in (rows, columns):
            assert abs(chi_square_sigmas(np.bincount(patterns, minlength=256))) < SIGMAS


def test_dropout_of_a_network_uses_a_stream_for_each_layer_and_step():
    net = xpnn.Sequential(xpnn.Dropout(0.5), xpnn.Dropout(0.5), n_in=4096, seed=3)
    x = np.ones((1, 4096), np.float32)

    def kept(step):
        y, caches = net.forward(x, train=True, step=step)
        np.testing.assert_array_equal(y, caches[0] * caches[1])
        return [c[0] > 0 for c in caches]

    first, second = kept(0), kept(1)
    np.testing.assert_array_equal(kept(0), first)
    for a, b in itertools.combinations([*first, *second], 2):
        assert 0.4 < (a == b).mean() < 0.6
    assert first[0].tolist() == python_mask(3, 0, 0, 4096, 0.5)
    assert second[1].tolist() == python_mask(3, 1, 1, 4096, 0.5)

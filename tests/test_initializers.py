"""Initializers: moments, bounds, orthogonality, reproducibility and errors."""

from __future__ import annotations

import dataclasses
import math
import pickle

import numpy as np
import pytest

from xpnn.errors import OptionError, ShapeError
from xpnn.initializers import (
    Constant,
    HeNormal,
    HeUniform,
    Initializer,
    LeCunNormal,
    Normal,
    Orthogonal,
    RandomSigns,
    Uniform,
    XavierNormal,
    XavierUniform,
    Zeros,
    get_initializer,
)

N_IN, N_OUT = 400, 250
TABLE = [
    (Zeros(), 0.0, 0.0),
    (Constant(0.3), 0.3, 0.0),
    (Normal(), 0.0, 0.01),
    (Normal(0.2, 1.5), 1.5, 0.2),
    (Uniform(), 0.0, 0.1 / math.sqrt(12)),
    (Uniform(1, 4), 2.5, 3 / math.sqrt(12)),
    (XavierNormal(), 0.0, math.sqrt(2 / 650)),
    (XavierNormal(5 / 3), 0.0, 5 / 3 * math.sqrt(2 / 650)),
    (XavierUniform(2.0), 0.0, 2 * math.sqrt(2 / 650)),
    (HeNormal(), 0.0, math.sqrt(2 / 400)),
    (HeNormal(1.0), 0.0, math.sqrt(1 / 400)),
    (HeUniform(), 0.0, math.sqrt(2 / 400)),
    (HeUniform(0.5), 0.0, math.sqrt(2 / 1.25 / 400)),
    (LeCunNormal(), 0.0, math.sqrt(1 / 400)),
    (Orthogonal(), 0.0, math.sqrt(1 / 400)),
    (RandomSigns(), 0.0, 1.0),
]


def draw(init, shape=(N_IN, N_OUT), seed=0):
    return init.sample(np.random.default_rng(seed), shape)


@pytest.mark.parametrize(("init", "mean", "std"), TABLE, ids=lambda p: repr(p))
def test_every_initializer_keeps_the_contract(init, mean, std):
    w = draw(init)
    assert w.shape == (N_IN, N_OUT)
    assert w.dtype == np.float64
    assert w.flags["C_CONTIGUOUS"]
    assert w.flags["WRITEABLE"]
    # 100,000 draws: five standard errors of the mean and of the standard deviation
    assert w.mean() == pytest.approx(mean, abs=5 * std / math.sqrt(w.size) + 1e-12)
    assert w.std() == pytest.approx(std, rel=5 / math.sqrt(2 * w.size), abs=1e-12)
    np.testing.assert_array_equal(w, draw(init))
    if std > 0:
        assert (draw(init, seed=1) != w).any()
    assert pickle.loads(pickle.dumps(init)) == init
    assert dataclasses.replace(init) == init


@pytest.mark.parametrize(("init", "mean", "std"), TABLE, ids=lambda p: repr(p))
@pytest.mark.parametrize("shape", [(7,), (1, 5), (5, 1), (1, 1)])
def test_thin_shapes(init, mean, std, shape):
    w = draw(init, shape)
    assert w.shape == shape
    assert np.isfinite(w).all()


@pytest.mark.parametrize(
    ("init", "bound"),
    [
        (XavierUniform(), math.sqrt(6 / 650)),
        (HeUniform(), math.sqrt(6 / 400)),
        (HeUniform(1), math.sqrt(3 / 400)),
        (Uniform(-0.2, 0.2), 0.2),
    ],
)
def test_uniform_draws_fill_their_bounds(init, bound):
    w = np.abs(draw(init))
    assert w.max() <= bound
    assert w.max() > 0.999 * bound


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (1, 5), (5, 1)])
@pytest.mark.parametrize("gain", [1.0, 1.7])
def test_orthogonal_has_equal_singular_values(shape, gain):
    w = draw(Orthogonal(gain), shape)
    np.testing.assert_allclose(np.linalg.svd(w, compute_uv=False), gain, rtol=1e-12)


def test_orthogonal_draws_rotations_and_reflections_alike():
    rng = np.random.default_rng(0)
    draws = [Orthogonal().sample(rng, (3, 3)) for _ in range(400)]
    positive = sum(np.linalg.det(w) > 0 for w in draws)
    assert 150 < positive < 250
    # without the sign correction the first diagonal element is almost always negative
    assert abs(np.mean([w[0, 0] for w in draws])) < 5 * math.sqrt(1 / 3 / 400)


def test_he_keeps_the_second_moment_through_relu_layers():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 300))
    for _ in range(10):
        x = np.maximum(x @ HeNormal().sample(rng, (300, 300)), 0.0)
    assert 0.25 < (x * x).mean() / 0.5 < 2.5


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zeros", Zeros()),
        ("normal", Normal()),
        ("uniform", Uniform()),
        ("xavier_normal", XavierNormal()),
        ("xavier_uniform", XavierUniform()),
        ("he_normal", HeNormal()),
        ("HeUniform", HeUniform()),
        ("lecun_normal", LeCunNormal()),
        ("orthogonal", Orthogonal()),
        ("random_signs", RandomSigns()),
        (HeNormal, HeNormal()),
        (Constant(2), Constant(2.0)),
    ],
)
def test_get_initializer(name, expected):
    assert get_initializer(name) == expected


def test_get_initializer_returns_the_very_object():
    class Ones(Initializer):
        def sample(self, rng, shape):
            return np.ones(shape)

    mine = Ones()
    assert get_initializer(mine) is mine
    assert get_initializer(Ones).sample(np.random.default_rng(0), (2,)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("he_norml", r"expected one of zeros, .*got 'he_norml'. Did you mean 'he_normal'\?"),
        ("qqq", r"got 'qqq'. Choose one of these names"),
        ("constant", r"needs no arguments, got Constant. Pass an object, Constant\(\.\.\.\)"),
        (Constant, r"needs no arguments, got Constant"),
        (0.1, r"expected a name or an initializer, got float. Pass a name such as 'he_normal'"),
        (np.zeros(3), r"expected a name or an initializer, got ndarray"),
        (None, r"expected a name or an initializer, got NoneType"),
    ],
)
def test_get_initializer_explains(spec, text):
    with pytest.raises(OptionError, match=text):
        get_initializer(spec)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Constant("x"), r"Constant: expected value to be a finite number, got 'x'"),
        (lambda: Constant(math.inf), r"expected value to be a finite number, got inf"),
        (lambda: Normal(-1), r"Normal: expected std to be a finite number >= 0, got -1"),
        (lambda: Normal(1, None), r"expected mean to be a finite number, got None"),
        (lambda: Uniform(1, 1), r"Uniform: expected high to be a finite number > 1, got 1"),
        (lambda: Uniform(math.nan, 1), r"expected low to be a finite number, got nan"),
        (lambda: XavierNormal(0), r"XavierNormal: expected gain to be a finite number > 0, got 0"),
        (lambda: XavierUniform(-1), r"expected gain to be a finite number > 0, got -1"),
        (lambda: HeNormal(True), r"expected slope to be a finite number, got True"),
        (lambda: HeUniform("a"), r"expected slope to be a finite number, got 'a'"),
        (lambda: Orthogonal(0), r"expected gain to be a finite number > 0, got 0"),
    ],
)
def test_a_bad_field_is_named(make, text):
    with pytest.raises(OptionError, match=text):
        make()


@pytest.mark.parametrize(
    "init", [XavierNormal(), XavierUniform(), HeNormal(), HeUniform(), LeCunNormal(), Orthogonal()]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 4)])
def test_fans_need_a_matrix(init, shape):
    with pytest.raises(ShapeError, match=rf"{type(init).__name__}: expected a shape \(n_in, n_out\) of positive"):
        draw(init, shape)

"""A table of steps: its rows as eager steps and as recorded ones read them."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn.random import StepKey
from xpnn.training.step import StepTable

WEIGHTS = np.array([4.0, 4.0, 3.0])
NUMBERS = [(0.1, 0.5), (0.2, 0.5), (0.3, 0.25)]


def table(numbers=NUMBERS, **options):
    return StepTable(7, 4, WEIGHTS, numbers, **options)


def test_rows_of_eager_steps_are_pythons_numbers():
    rows = np.arange(11, dtype=np.int32)
    found = list(table(rows=rows, strengths=[1.0, 2.0, 3.0]).steps())
    assert len(table()) == 3
    assert [(s.step, s.slot, s.last, s.weight, s.numbers, s.strength) for s in found] == [
        (7, 0, False, 4.0, (0.1, 0.5), 1.0),
        (8, 1, False, 4.0, (0.2, 0.5), 2.0),
        (9, 2, True, 3.0, (0.3, 0.25), 3.0),
    ]
    assert [s.rows.tolist() for s in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert all(type(s.weight) is float for s in found)
    assert [s.slot for s in table().steps(1, 2)] == [1]
    assert next(table().steps()).rows is next(table().steps()).strength is None
    assert [s.dropout for s in table().steps()] == [1.0] * 3
    assert [s.dropout for s in table(dropout=[0.5, 0.25, 0.0]).steps()] == [0.5, 0.25, 0.0]


@pytest.mark.parametrize("strengths", [None, [1.0, 2.0, 3.0]], ids=["", "strengths"])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("seed", [1, [1, 2]], ids=["one", "replicas"])
def test_rows_as_arrays_hold_the_same(seed, each, strengths, backend):
    net = xpnn.mlp([2, 3, 1], dropout=0.5, seed=seed, backend=backend)
    replicas = net.store.replicas
    rows = backend.asarray(np.arange(11), dtype=backend.xp.int32)
    made = table(rows=rows, strengths=strengths, dropout=[1.0, 0.5, 0.0])
    drops = [layer.slot for layer in net.layers if isinstance(layer, xpnn.Dropout)]
    assert len(drops) == 1
    again = made.lay_out(net, 0, 1, each=each)
    made.fill(again, net, 1)  # the memory is used again
    for start, arrays in (
        (0, made.lay_out(net, 0, 2, each=each)),
        (1, again),
        (1, made.lay_out(net, 1, 3, each=each)),
    ):
        for k in range(arrays.numbers.shape[0]):
            eager = list(made.steps())[start + k]
            place = slice(4 * k, min(4 * k + 4, arrays.rows.shape[0]))
            view = arrays.step(k, start + k, place, last=eager.last)
            shape = (*replicas, 1) if each else (1,)
            assert all(tuple(n.shape) == shape for n in (view.weight, *view.numbers))
            read = [float(backend.to_numpy(n).ravel()[-1]) for n in (view.weight, *view.numbers)]
            assert read == pytest.approx([eager.weight, *eager.numbers])
            if strengths is None:
                assert view.strength is None
            else:
                assert tuple(view.strength.shape) == ()
                assert float(view.strength) == eager.strength
            assert (view.slot, view.last) == (eager.slot, eager.last)
            assert backend.to_numpy(view.rows).tolist() == backend.to_numpy(eager.rows).tolist()
            key = StepKey(net.seed, eager.step)
            for slot in arrays.slots:
                kept = {1.0: 32768, 0.5: 49152, 0.0: 65536}[eager.dropout] if slot in drops else 65536
                assert backend.to_numpy(view.dropout[slot]).tolist() == np.full((*replicas, 1), kept).tolist()
                assert [backend.to_numpy(half).tolist() for half in view.step[slot]] == [
                    np.reshape(half, (*replicas, 1)).tolist() for half in key[slot]
                ]


def test_what_replicas_have_of_their_own():
    net = xpnn.mlp([2, 3, 1], seed=[1, 2])
    own = [(np.array([[0.1], [0.2]]) * k, 0.5) for k in (1, 2, 3)]
    made = table(own)
    assert not made.alike
    assert table().alike
    arrays = made.lay_out(net, 1, 3)
    assert arrays.numbers.shape == (2, 3, 2, 1)
    np.testing.assert_allclose(
        arrays.numbers[..., 0], [[[4, 4], [0.2, 0.4], [0.5, 0.5]], [[3, 3], [0.3, 0.6], [0.5, 0.5]]]
    )

"""Predictions played from a trace: the bits of the layers' own, and never of something that is no more."""

import pickle
import threading

import numpy as np
import pytest

import xpnn
from xpnn.accel.native import support
from xpnn.layers import replays

REPEATED = 20  # more often than it takes until a shape is traced


@pytest.fixture
def compiled():
    """A backend with compiled loops that may be traced, or a visible skip."""
    if objection := support.numba_objection() or support.numpy_objection():
        pytest.skip(objection)
    return xpnn.get_backend("numpy", compiled=True)


def of_a_table(**options):
    """The network of the presets of tables."""
    first = xpnn.Columns((3, xpnn.NumericalEmbedding()))
    layers = [xpnn.Scale()]
    for _ in range(2):
        layers += [xpnn.Linear(16), xpnn.ParametricActivation("mish")]
    return xpnn.Sequential(first, *layers, xpnn.Linear(2), n_in=7, **options)


NETS = {
    "relu": lambda **options: xpnn.mlp([7, 16, 8, 3], **options),
    "tanh": lambda **options: xpnn.mlp([7, 16, 3], "tanh", **options),
    "gelu": lambda **options: xpnn.mlp([7, 16, 3], "gelu", **options),
    "batch norm": lambda **options: xpnn.mlp([7, 16, 16, 3], norm="batch", dropout=0.5, residual=True, **options),
    "layer norm": lambda **options: xpnn.mlp([7, 16, 3], norm="layer", **options),
    "of a table": of_a_table,
}


def traced(net):
    """How many traces a network has."""
    return sum(net._replays._made[key] for key, free in net._replays._free.items() if free)


@pytest.mark.parametrize("replicas", [None, 3])
@pytest.mark.parametrize("rows", [1, 5, 33])
@pytest.mark.parametrize("name", NETS)
def test_every_prediction_has_the_bits_of_the_layers(compiled, name, rows, replicas):
    net = NETS[name](backend=compiled, replicas=replicas)
    for k in range(REPEATED):
        x = np.random.default_rng(k).normal(size=(rows, 7)).astype(np.float32)
        assert net.predict(x).tobytes() == net.forward(x)[0].tobytes()
    assert traced(net) == 1, "nothing was traced"


def test_weights_that_change_and_rows_that_lie_otherwise(compiled):
    """A trace reads weights where they are; rows of other strides are another shape."""
    net = of_a_table(backend=compiled)
    x = np.random.default_rng(0).normal(size=(9, 14)).astype(np.float32)
    for k in range(2 * REPEATED):
        for rows in (x[:4, :7], x[:4, 7:], x[::2, 7:], x[:7].T[:7, :7].copy(order="F")):
            assert net.predict(rows).tobytes() == net.forward(rows)[0].tobytes()
        net.params["2.weight"][...] *= 1.01
        if k == REPEATED:
            net.load_state_dict({name: value * 0.5 for name, value in net.state_dict().items()})
    assert traced(net) > 0


def test_what_is_changed_in_a_layer_is_seen(compiled):
    net = xpnn.mlp([7, 16, 3], xpnn.LeakyReLU(0.1), backend=compiled)
    x = np.random.default_rng(0).normal(size=(1, 7)).astype(np.float32)
    before = [net.predict(x) for _ in range(REPEATED)][-1]
    assert traced(net) == 1
    net.layers[1].slope = 0.9
    after = net.predict(x)
    assert not np.array_equal(before, after)
    for _ in range(REPEATED):
        assert net.predict(x).tobytes() == after.tobytes()


def test_results_are_the_callers(compiled):
    net = NETS["relu"](backend=compiled)
    x = np.random.default_rng(0).normal(size=(REPEATED, 1, 7)).astype(np.float32)
    found = [net.predict(row) for row in x]
    kept = [a.copy() for a in found]
    found[-1][...] = 9.0
    net.predict(x[0])
    assert all(a.tobytes() == b.tobytes() for a, b in zip(found[:-1], kept[:-1], strict=True))
    assert (found[-1] == 9.0).all()


def test_threads_that_predict_at_once(compiled):
    net = of_a_table(backend=compiled, replicas=2)
    rows = np.random.default_rng(0).normal(size=(8, 1, 7)).astype(np.float32)
    expected, wrong = [net.forward(row)[0].tobytes() for row in rows], []

    def work(k):
        wrong.extend(k for _ in range(300) if net.predict(rows[k]).tobytes() != expected[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 1 <= traced(net) <= 4


def test_copies_have_no_part_in_it(compiled):
    net = of_a_table(backend=compiled)
    x = np.random.default_rng(0).normal(size=(1, 7)).astype(np.float32)
    before = [net.predict(x) for _ in range(REPEATED)][-1].tobytes()
    for other in (net.copy(), pickle.loads(pickle.dumps(net)), net.to("numpy"), net.twin()):
        assert traced(other) == 0
        assert other.predict(x).tobytes() == before
    other = net.copy()
    for _ in range(REPEATED):
        other.predict(x)
    net.params["2.weight"][...] = 0.0
    assert other.predict(x).tobytes() == before
    assert net.predict(x).tobytes() != before


def test_what_is_left_to_the_layers(compiled, monkeypatch):
    """No compiled loops, other operations, layers of one's own, categories, many rows."""

    class Doubled(xpnn.layers.Identity):
        calls = 0

        def forward(self, x, *, train=False, key=None):
            type(self).calls += 1
            return x * 2.0, None

    x = np.random.default_rng(0).normal(size=(2, 7)).astype(np.float32)
    plain = xpnn.get_backend("numpy", compiled=False)
    portable = xpnn.get_backend("numpy", ops="portable")
    own = xpnn.Sequential(xpnn.Linear(3), Doubled(), n_in=7, backend=compiled)
    for net in (of_a_table(backend=plain), of_a_table(backend=portable), own):
        for _ in range(REPEATED):
            net.predict(x)
        assert traced(net) == 0
    assert Doubled.calls >= REPEATED
    words = xpnn.Sequential(xpnn.Embedding(5, 4), xpnn.Linear(2), n_in=2, backend=compiled)
    for _ in range(REPEATED):
        words.predict(np.array([[1, 4]]))
    assert traced(words) == 0
    monkeypatch.setattr(replays, "_MOST", 64)
    large = of_a_table(backend=compiled)
    for _ in range(REPEATED):
        large.predict(np.ones((30, 7), np.float32))
    assert traced(large) == 0


def test_few_shapes_are_kept(compiled):
    net = NETS["relu"](backend=compiled)
    for n in range(1, 12):
        for _ in range(REPEATED):
            net.predict(np.ones((n, 7), np.float32))
    assert 1 <= traced(net) <= 4


def test_a_prediction_that_gives_other_bits_is_not_kept(compiled, monkeypatch):
    """Whatever a trace did wrongly would be seen when it is made."""
    monkeypatch.setattr(replays, "_same_bits", lambda a, b: False)
    net = NETS["relu"](backend=compiled)
    x = np.random.default_rng(0).normal(size=(1, 7)).astype(np.float32)
    for _ in range(2 * REPEATED):
        assert net.predict(x).tobytes() == net.forward(x)[0].tobytes()
    assert traced(net) == 0

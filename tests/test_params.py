"""The flat store: where parameters lie, that all views share its memory, and that nothing else does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnn
from xpnn import params
from xpnn.errors import BackendUnavailableError
from xpnn.initializers import Constant, Normal, XavierUniform, Zeros
from xpnn.params import BufferSpec, ParamSpec, ParamStore
from xpnn.random import stream

SPECS = (
    ParamSpec("0.weight", (5, 4), Normal(1.0), decay=True),
    ParamSpec("0.bias", (4,), Constant(0.25), decay=False),
    ParamSpec("1.weight", (17,), Constant(1.0), decay=False, lr_mult=0.5),
    ParamSpec("2.weight", (4, 3), XavierUniform(), decay=True, lr_mult=2.0, decay_mult=0.1),
    ParamSpec("2.bias", (3,), Zeros(), decay=False),
)
BUFFERS = (BufferSpec("1.running_mean", (17,), 0.0), BufferSpec("1.running_var", (17,), 1.0))


def make_store(backend="numpy", **options):
    return ParamStore(xpnn.get_backend(backend), SPECS, BUFFERS, **options)


def normed_net(backend="numpy", **options):
    layers = (xpnn.Linear(6), xpnn.BatchNorm(), xpnn.ReLU(), xpnn.Residual(xpnn.Linear(6), xpnn.BatchNorm()))
    return xpnn.Sequential(*layers, xpnn.Linear(3), n_in=5, backend=backend, **options)


def padding(store):
    """True where no parameter lies."""
    free = np.ones(store.values.shape[-1], bool)
    for _, place in store.segments():
        free[place] = False
    return free


# -- where things lie ----------------------------------------------------------------------------------------
def test_decayed_parameters_come_first_and_each_on_a_line_of_its_own():
    store = make_store()
    assert [(name, s.start, s.stop) for name, s in store.segments()] == [
        ("0.weight", 0, 20),
        ("2.weight", 32, 44),
        ("0.bias", 48, 52),
        ("1.weight", 64, 81),
        ("2.bias", 96, 99),
    ]
    assert store.n_decay == 48
    assert store.values.shape == store.grads.shape == (112,)
    assert store.buffers.shape == (64,)
    assert store.n_params == 20 + 4 + 17 + 12 + 3
    assert list(store.params) == list(store.param_grads) == [s.name for s in SPECS], "views keep the network's order"
    assert store.matrices() == ["0.weight", "2.weight"]


@given(
    shapes=st.lists(
        st.tuples(st.lists(st.integers(1, 40), min_size=1, max_size=2).map(tuple), st.booleans()), max_size=8
    ),
    replicas=st.one_of(st.none(), st.integers(1, 3)),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_any_layout_is_aligned_without_overlap(shapes, replicas, dtype):
    specs = [ParamSpec(str(i), shape, Constant(i + 1.0), decay) for i, (shape, decay) in enumerate(shapes)]
    backend = xpnn.get_backend("numpy", dtype)
    seeds = range(replicas or 1)
    store = ParamStore(backend, specs, seeds=tuple(seeds), replicated=replicas is not None)
    places = dict(store.segments())
    item = store.values.dtype.itemsize
    for spec in specs:
        place = places[spec.name]
        assert place.start * item % 64 == 0
        assert place.stop - place.start == math.prod(spec.shape)
        assert (place.stop <= store.n_decay) if spec.decay else (place.start >= store.n_decay)
        assert store.params[spec.name].shape == (*store.replicas, *spec.shape)
        assert (store.params[spec.name] == float(spec.name) + 1).all(), "nothing overlaps"
    assert (padding(store) == ~np.isin(np.arange(store.values.shape[-1]), _covered(places))).all()
    assert not store.values[..., padding(store)].any()


def _covered(places):
    return [i for place in places.values() for i in range(place.start, place.stop)]


def test_a_store_without_parameters_is_empty():
    store = ParamStore(xpnn.get_backend("numpy"), [])
    assert store.values.shape == store.grads.shape == store.buffers.shape == (0,)
    assert (store.n_params, store.n_decay, store.params) == (0, 0, {})
    xpnn.Adam().step(store)


def test_replicas_add_one_axis_in_front(backend):
    store = make_store(backend, seeds=(3, 1, 4), replicated=True)
    assert store.replicas == (3,)
    assert tuple(store.values.shape) == tuple(store.grads.shape) == (3, 112)
    assert tuple(store.buffers.shape) == (3, 64)
    assert tuple(store.params["0.weight"].shape) == (3, 5, 4)
    assert tuple(store.params["0.bias"].shape) == (3, 4)
    assert tuple(store.row_view(store.params["0.bias"]).shape) == (3, 1, 4)
    assert store.row_view(store.params["0.weight"]) is store.params["0.weight"]
    assert tuple(store.zeros().shape) == (3, 112)
    assert store.n_params == 56
    one = make_store(backend, seeds=(3,), replicated=True)
    assert tuple(one.values.shape) == (1, 112), "one replica is still a replica axis"


def test_each_replica_begins_as_its_seed_would_alone(backend):
    together = make_store(backend, seeds=(3, 1, 4), replicated=True)
    for k, seed in enumerate((3, 1, 4)):
        alone = make_store(backend, seeds=(seed,))
        np.testing.assert_array_equal(backend.to_numpy(together.values)[k], backend.to_numpy(alone.values))
        np.testing.assert_array_equal(backend.to_numpy(together.buffers)[k], backend.to_numpy(alone.buffers))


def test_initial_values_are_drawn_in_the_order_of_the_network():
    store = make_store(seeds=(7,))
    for index, spec in enumerate(SPECS):
        drawn = spec.init.sample(stream(7, "init", index), spec.shape).astype(np.float32)
        np.testing.assert_array_equal(store.params[spec.name], drawn)
    assert (store.named_buffers["1.running_var"] == 1).all()
    assert not store.named_buffers["1.running_mean"].any()
    assert not store.grads.any()


def test_factors_are_flat_and_absent_where_all_are_one():
    store = make_store()
    lr, decay = np.ones(112, np.float32), np.ones(48, np.float32)
    lr[32:44], lr[64:81], decay[32:44] = 2.0, 0.5, 0.1
    np.testing.assert_array_equal(store.lr_factors, lr)
    np.testing.assert_array_equal(store.decay_factors, decay)
    plain = normed_net().store
    assert plain.lr_factors is None
    assert plain.decay_factors is None


# -- one memory ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("replicated", [False, True])
def test_the_flat_buffers_and_their_views_are_one_memory(backend, replicated):
    store = make_store(backend, seeds=(0, 1) if replicated else (0,), replicated=replicated)
    for flat, views, slices in (
        (store.values, store.params, store._slices),
        (store.grads, store.param_grads, store._slices),
        (store.buffers, store.named_buffers, store._buffer_slices),
    ):
        for number, (name, view) in enumerate(views.items(), 2):
            view[...] = float(number)  # view to flat
            seen = backend.to_numpy(flat)[..., slices[name]]
            assert (seen == number).all()
            row = store.row_view(view)
            row += 1.0  # a view of a view to flat
            assert (backend.to_numpy(flat)[..., slices[name]] == number + 1).all()
        flat *= 2.0  # flat to views
        for number, view in enumerate(views.values(), 2):
            assert (backend.to_numpy(view) == 2 * (number + 1)).all()
        flat[...] = backend.zeros(tuple(flat.shape))
        assert not any(backend.to_numpy(view).any() for view in views.values())


def test_values_and_gradients_are_apart(backend):
    store = make_store(backend)
    store.values[...] = 3.0
    store.grads[...] = 5.0
    store.buffers[...] = 7.0
    assert (backend.to_numpy(store.values) == 3).all()
    assert (backend.to_numpy(store.grads) == 5).all()
    assert not backend.to_numpy(store.zeros()).any()


def test_layers_hold_views_of_the_store(backend):
    net = normed_net(backend)
    net.store.values[...] = 2.0
    net.store.buffers[...] = 3.0
    linear, norm, _, block, _ = net.layers
    inner = block.layers
    for layer in (linear, norm, *inner):
        assert all((backend.to_numpy(p) == 2).all() for p in layer.params.values())
    for layer in (norm, inner[1]):
        assert set(layer.buffers) == {"running_mean", "running_var"}
        assert all((backend.to_numpy(b) == 3).all() for b in layer.buffers.values())
    net.layers[0].grads["bias"][...] = 4.0
    assert (backend.to_numpy(net.grads["0.bias"]) == 4).all()


def test_training_writes_running_statistics_through_to_the_store(backend):
    net = normed_net(backend)
    assert list(net.store.named_buffers) == ["1.running_mean", "1.running_var", "3.1.running_mean", "3.1.running_var"]
    before = backend.to_numpy(net.store.buffers).copy()
    x = np.random.default_rng(0).normal(size=(8, 5)) + 3.0
    net.forward(x, train=True)
    changed = backend.to_numpy(net.store.buffers) != before
    used = np.zeros(len(changed), bool)
    for place in net.store._buffer_slices.values():
        used[place] = True
    assert changed[used].all()
    assert not changed[~used].any()
    hidden = backend.to_numpy(net.layers[0].forward(net.backend.asarray(x))[0])
    expected = 0.1 * hidden.mean(axis=0)
    np.testing.assert_allclose(
        backend.to_numpy(net.store.named_buffers["1.running_mean"]), expected, rtol=1e-4, atol=1e-6
    )
    assert (backend.to_numpy(net.layers[1].buffers["running_mean"])[0] != 0).all(), "the layer's view is the store's"


@pytest.mark.parametrize("optimizer", [xpnn.SGD(0.1, 0.9), xpnn.Adam(0.1), xpnn.Lion(0.1), xpnn.NAdam(0.1)], ids=repr)
def test_padding_stays_zero_in_training(optimizer):
    net = normed_net(seed=[0, 1])
    trainer = xpnn.Trainer(
        net,
        xpnn.CrossEntropy(),
        optimizer,
        regularizer=xpnn.L1(0.1),
        clip_norm=1.0,
        clip_value=0.5,
        callbacks=[xpnn.EMA()],
    )
    X, y = xpnn.data.make_blobs(40, seed=0)
    trainer.fit(np.hstack([X, X, X[:, :1]]), y, epochs=3, batch_size=16)
    free = padding(net.store)
    assert free.any()
    assert not net.store.values[:, free].any()
    assert not net.store.grads[:, free].any()
    assert not any(a[:, free].any() for a in optimizer.state.values())


# -- copies --------------------------------------------------------------------------------------------------
def test_a_snapshot_is_a_copy_and_is_restored_in_place(backend):
    store = make_store(backend)
    flat, view, buffer = store.values, store.params["0.weight"], store.named_buffers["1.running_var"]
    kept = store.snapshot()
    before = backend.to_numpy(kept.values).copy()
    store.values[...] = 9.0
    store.buffers[...] = 9.0
    np.testing.assert_array_equal(backend.to_numpy(kept.values), before)
    store.restore(kept)
    assert store.values is flat
    assert store.params["0.weight"] is view
    np.testing.assert_array_equal(backend.to_numpy(flat), before)
    np.testing.assert_array_equal(backend.to_numpy(view).ravel(), before[:20])
    assert (backend.to_numpy(buffer) == 1).all()
    store.values[...] = 8.0
    np.testing.assert_array_equal(backend.to_numpy(kept.values), before, err_msg="restoring does not share memory")


def test_networks_share_no_memory():
    first = normed_net()
    for second in (normed_net(), first.copy(), first.to("numpy")):
        assert not np.shares_memory(first.store.values, second.store.values)
        assert not np.shares_memory(first.store.buffers, second.store.buffers)
        np.testing.assert_array_equal(first.store.values, second.store.values)


def test_a_library_that_copies_slices_is_refused(monkeypatch):
    backend = xpnn.get_backend("numpy")

    class Copying:
        """NumPy, but reshaping copies."""

        def __getattr__(self, name):
            return getattr(backend.xp, name)

        def reshape(self, x, shape, copy=None):
            return np.reshape(x, shape).copy()

    monkeypatch.setattr(params, "_CHECKED", set())
    copying = xpnn.Backend("numpy", Copying(), "cpu", backend.dtype, "float32", backend.index_dtype, backend.ops)
    with pytest.raises(
        BackendUnavailableError,
        match=r"^ParamStore: expected slices of numpy arrays to share memory, got copies\. This version of the "
        r"library cannot train with xpnn; use backend='numpy'\.$",
    ):
        ParamStore(copying, SPECS)
    assert not params._CHECKED
    make_store()
    assert {"numpy"} == params._CHECKED, "the probe runs once for each library"

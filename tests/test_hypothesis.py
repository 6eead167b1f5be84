"""Properties of training that hold for data and networks of any size and type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from places import backend_or_skip

import xpnn
from xpnn.training import Trainer, feed

SIZES = st.integers(1, 40)
WIDTHS = st.integers(1, 6)
DTYPES = st.sampled_from(["float32", "float64"])
# One array library for all examples of a test is what is meant.
ANY = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
MORE = settings(ANY, max_examples=100)


@st.composite
def problems(draw, min_rows=1):
    """A network with a loss, and rows that fit both: (net options, loss, X, y)."""
    n, n_in = draw(st.integers(min_rows, 40)), draw(WIDTHS)
    hidden = draw(st.lists(st.integers(1, 9), max_size=3))
    kind = draw(st.sampled_from(["classes", "soft", "binary", "numbers", "counts", "quantiles"]))
    n_out = draw(st.integers(2, 5)) if kind in ("classes", "soft") else draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # The exponential of a count's log-rate may well overflow on inputs that are not scaled.
    X = rng.standard_normal((n, n_in)) * draw(st.sampled_from([0.0, 1.0] if kind == "counts" else [0.0, 1.0, 10.0]))
    if draw(st.booleans()):
        X = np.round(X).astype(draw(st.sampled_from([np.int8, np.int32, np.int64, np.float32])))
    loss, y = {
        "classes": lambda: (xpnn.CrossEntropy(label_smoothing=0.1), rng.integers(0, n_out, n)),
        "soft": lambda: (xpnn.CrossEntropy(), rng.dirichlet(np.ones(n_out), n)),
        "binary": lambda: (xpnn.BinaryCrossEntropy(multilabel=True), rng.integers(0, 2, (n, n_out)) * 1.0),
        "numbers": lambda: (xpnn.Huber(), rng.standard_normal((n, n_out))),
        "counts": lambda: (xpnn.PoissonNLL(), rng.poisson(2.0, (n, n_out))),
        "quantiles": lambda: (xpnn.Pinball((0.25, 0.75)), rng.standard_normal((n, n_out))),
    }[kind]()
    if kind == "quantiles":
        n_out *= 2
    options = {
        "activation": draw(st.sampled_from(["relu", "tanh", "gelu", "prelu"])),
        "norm": draw(st.sampled_from([None, "batch", "layer", "rms"])),
        "dropout": draw(st.sampled_from([0.0, 0.4])),
        "residual": draw(st.booleans()),
    }
    return ([n_in, *hidden, n_out], options), loss, X, y


def brought(library, X, y):
    """The rows as a list, or as arrays of a library."""
    if library == "list":
        return X.tolist(), y.tolist()
    if library == "numpy":
        return X, y
    home = backend_or_skip(library)
    x = home.asarray(X, dtype=getattr(home.xp, "float32"))  # noqa: B009
    return x, home.asarray(y, dtype=home.index_dtype if y.ndim == 1 else home.dtype)


@pytest.mark.parametrize("library", ["numpy", "list", "torch", "strict"])
@ANY
@given(problem=problems(), batch_size=st.integers(1, 50), dtype=DTYPES, weighted=st.booleans())
def test_any_network_trains_an_epoch_on_any_rows(library, backend, problem, batch_size, dtype, weighted):
    (sizes, options), loss, X, y = problem
    if backend.spec.endswith("no_float64"):
        dtype = "float32"
    net = xpnn.mlp(sizes, backend=backend.with_dtype(dtype), **options)
    run = Trainer(net, loss, xpnn.Adam(lr=1e-3), clip_norm=1.0)
    x, target = brought(library, X, y)
    n = len(X)
    history = run.fit(
        x, target, epochs=1, batch_size=batch_size, sample_weight=np.linspace(0.5, 2, n) if weighted else None
    )
    row = history.rows[0]
    assert np.isfinite(row["loss"])
    assert np.isfinite(row["grad_norm"])
    assert run.step == -(-n // batch_size)
    if loss.classifies:
        assert 0 <= row["accuracy"] <= 1
    proba = run.predict_proba(x)
    assert tuple(proba.shape) == (n, sizes[-1])
    assert type(proba) is (np.ndarray if library == "list" else type(x))
    for value in net.params.values():
        assert type(value) is type(net.store.values)
        assert value.dtype == getattr(backend.xp, dtype)
        assert np.isfinite(xpnn.to_numpy(value)).all()
    proba = xpnn.to_numpy(proba)
    assert proba.dtype == dtype
    assert np.isfinite(proba).all()
    if isinstance(loss, xpnn.CrossEntropy):
        np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-5)
    assert np.isfinite(run.evaluate(x, target)["loss"])


@MORE
@given(
    n=st.integers(1, 80),
    batch_size=st.integers(1, 90),
    stage=st.integers(1, 100),
    shuffled=st.booleans(),
    share=st.floats(0.1, 1.0),
    weighted=st.booleans(),
    streamed=st.booleans(),
)
def test_batches_hold_every_row_once(
    n, batch_size, stage, shuffled, share, weighted, streamed, backend, tmp_path_factory
):
    X = np.arange(n * 2, dtype=np.float32).reshape(n, 2)
    y = np.arange(n)
    if streamed:
        path = tmp_path_factory.mktemp("rows") / "X.npy"
        np.save(path, X)
        X = np.lib.format.open_memmap(path, mode="r")
    weight = np.arange(n) + 0.5 if weighted else None
    rows = feed.Feed(backend, X, y, weight, index_y=True)
    if share < 1.0:
        rows = rows.part(np.sort(np.random.default_rng(n).permutation(n)[: max(int(n * share), 1)]))
    order = np.random.default_rng(0).permutation(len(rows)) if shuffled else None
    expected = rows.rows if order is None else rows.rows[order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "_STAGE_ELEMENTS", stage)
        found = [[None if a is None else xpnn.to_numpy(a) for a in batch] for batch in rows.batches(order, batch_size)]
    assert [len(y) for _, y, _ in found] == [
        min(batch_size, len(rows) - start) for start in range(0, len(rows), batch_size)
    ]
    np.testing.assert_array_equal(np.concatenate([y for _, y, _ in found]), expected)
    np.testing.assert_array_equal(np.concatenate([x for x, _, _ in found])[:, 0], 2.0 * expected)
    totals = rows.batch_weights(order, batch_size)
    if weighted:
        np.testing.assert_array_equal(np.concatenate([w for _, _, w in found]), expected + 0.5)
        np.testing.assert_allclose(totals, [w.sum() for _, _, w in found])
    else:
        np.testing.assert_array_equal(totals, [len(y) for _, y, _ in found])


FIRST = {
    "Linear": lambda: xpnn.Linear(3),
    "Identity": xpnn.Identity,
    "Dropout": lambda: xpnn.Dropout(0.5),
    "ReLU": xpnn.ReLU,
    "Softmax": xpnn.Softmax,
    "BatchNorm": xpnn.BatchNorm,
    "LayerNorm": xpnn.LayerNorm,
    "RMSNorm": xpnn.RMSNorm,
    "PReLU": xpnn.PReLU,
    "Residual": lambda: xpnn.Residual(xpnn.ELU()),
}


@pytest.mark.parametrize("first", FIRST)
@settings(ANY, max_examples=8)
@given(
    n=st.integers(2, 30),
    dtype=DTYPES,
    batch_size=st.integers(1, 40),
    shuffle=st.booleans(),
    fraction=st.sampled_from([0.0, 0.3]),
    kind=st.sampled_from(["numbers", "classes", "signs", "rates"]),
    data=st.data(),
)
def test_training_never_changes_the_data(first, n, dtype, batch_size, shuffle, fraction, kind, data, backend):
    if backend.spec.endswith("no_float64"):
        dtype = "float32"
    home = backend.with_dtype(dtype)  # the network's own library and dtype: nothing is copied on the way in
    X = data.draw(hnp.arrays(dtype, (n, 3), elements=st.floats(-5, 5, width=32)))
    classes = np.arange(n) % 2
    y, loss = {
        "numbers": (X[:, :2] * 2, xpnn.MeanSquaredError()),
        "classes": (classes, xpnn.CrossEntropy()),
        "signs": (np.stack([classes, 1 - classes], axis=1) * 2.0 - 1.0, xpnn.Hinge()),
        "rates": (abs(X[:, :2]), xpnn.PoissonNLL()),
    }[kind]
    w = np.linspace(0, 1, n).astype(dtype)
    x = home.copy(X)
    target = home.copy(y, dtype=home.index_dtype if kind == "classes" else None)
    weight = home.copy(w)
    net = xpnn.Sequential(FIRST[first](), xpnn.Linear(2), n_in=3, backend=home)
    run = Trainer(
        net, loss, xpnn.SGD(lr=0.01), regularizer=xpnn.L2(0.1), clip_norm=1.0, metrics=["mae"] * (y.ndim == 2)
    )
    run.fit(
        x,
        target,
        epochs=2,
        batch_size=batch_size,
        shuffle=shuffle,
        validation_fraction=fraction,
        sample_weight=weight + 1,
    )
    run.evaluate(x, target, sample_weight=weight)
    run.predict_proba(x)
    net.predict(x)
    np.testing.assert_array_equal(xpnn.to_numpy(x), X)
    np.testing.assert_array_equal(xpnn.to_numpy(target), y.astype(dtype) if y.ndim == 2 else y)
    np.testing.assert_array_equal(xpnn.to_numpy(weight), w)


@MORE
@given(n=st.integers(2, 60), fraction=st.floats(0.01, 0.99), n_classes=st.integers(2, 5), seed=st.integers(0, 99))
def test_held_out_rows_and_training_rows_are_all_rows(n, fraction, n_classes, seed):
    parts = []

    class Parts(Trainer):
        def run_epoch(self, train, valid, *args):
            parts.append((train.rows, valid.rows))
            return super().run_epoch(train, valid, *args)

    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, 2)), rng.integers(0, n_classes, n)
    Parts(xpnn.mlp([2, n_classes]), xpnn.CrossEntropy(), xpnn.Adam(), seed=seed).fit(
        X, y, epochs=1, batch_size=64, validation_fraction=fraction
    )
    ((train, held_out),) = parts
    assert min(len(train), len(held_out)) >= 1
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(n))
    counts = np.bincount(y)
    if counts[counts > 0].min() >= 2:
        assert (np.bincount(y[train], minlength=len(counts)) > 0).sum() == (counts > 0).sum()  # no class is lost


@settings(ANY, max_examples=15)
@given(problem=problems(), epochs=st.lists(st.integers(1, 3), min_size=2, max_size=3), batch_size=st.integers(1, 30))
def test_fits_in_a_row_are_one_fit(problem, epochs, batch_size):
    (sizes, options), loss, X, y = problem
    many, one = (Trainer(xpnn.mlp(sizes, **options), loss, xpnn.NAdam(lr=1e-3)) for _ in range(2))
    for count in epochs:
        many.fit(X, y, epochs=count, batch_size=batch_size)
    one.fit(X, y, epochs=sum(epochs), batch_size=batch_size)
    assert many.history["loss"] == one.history["loss"]
    for name, value in one.net.state_dict().items():
        np.testing.assert_array_equal(many.net.state_dict()[name], value)


@settings(ANY, max_examples=10)
@given(problem=problems(min_rows=2), k=st.integers(1, 4), batch_size=st.integers(1, 30))
def test_replicas_of_any_network_are_single_networks(problem, k, batch_size, backend):
    (sizes, options), loss, X, y = problem
    # Of rows that are all alike batch norm makes rounding by rounding; where a library rounds a product of stacks as it
    # does a single one's, as NumPy does, they are equal all the same.
    assume(backend.name == "numpy" or options["norm"] != "batch" or X.std() > 0)
    many = Trainer(xpnn.mlp(sizes, replicas=k, backend=backend, **options), loss, xpnn.SGD(lr=1e-3))
    history = many.fit(X, y, epochs=1, batch_size=batch_size)
    one = Trainer(xpnn.mlp(sizes, seed=k - 1, backend=backend, **options), loss, xpnn.SGD(lr=1e-3))
    single = one.fit(X, y, epochs=1, batch_size=batch_size)
    assert history["loss_replicas"][0][-1] == pytest.approx(single["loss"][0], rel=1e-3, abs=1e-4)
    proba = xpnn.to_numpy(many.predict_proba(X))
    assert proba.shape == (k, len(X), sizes[-1])
    np.testing.assert_allclose(proba[-1], xpnn.to_numpy(one.predict_proba(X)), rtol=1e-2, atol=1e-3)

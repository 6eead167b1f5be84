"""Pictures of activations, gradients, weights, mistakes, rates, searches, and the animation."""

from __future__ import annotations

import base64
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from places import backend_or_skip

import xpnn
from xpnn.errors import (
    BackendUnavailableError,
    DataError,
    DTypeError,
    LabelError,
    OptionError,
    ShapeError,
)
from xpnn.plots import (
    animate_training,
    plot_activation,
    plot_gradient_flow,
    plot_lr_finder,
    plot_misclassified,
    plot_schedule,
    plot_search,
    plot_weights,
)

pytest.importorskip("matplotlib")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

X, Y = xpnn.data.make_moons(60, noise=0.1, seed=0)
GRADS = {"0.weight": np.full((3, 4), 1e-6), "0.bias": np.ones(4), "2.weight": np.full((4, 2), -0.5)}
SWEEP = SimpleNamespace(lrs=[1e-3, 1e-2, 1e-1], losses=[1.0, 0.5, 30.0], smoothed=[0.9, 0.6, 1.0], suggestion=1e-2)
ROWS = [{"lr": lr, "width": w, "val_loss": lr * w} for lr in (0.1, 0.01) for w in (8, 16)]


def recorded(epochs=(0, 2), n_out=2, loss=None, resolution=15, fit=3, **options):
    recorder = xpnn.BoundaryRecorder(X, Y, epochs=epochs, resolution=resolution)
    net = xpnn.mlp([2, 8, n_out], seed=0, **options)
    trainer = xpnn.Trainer(net, loss or xpnn.CrossEntropy(), xpnn.Adam(0.01), callbacks=[recorder])
    trainer.fit(X, Y if n_out == 2 else Y[:, None], epochs=fit)
    return recorder, trainer


DRAW = {
    "plot_activation": lambda **k: plot_activation("relu", **k),
    "plot_gradient_flow": lambda **k: plot_gradient_flow(GRADS, **k),
    "plot_weights": lambda **k: plot_weights(GRADS, 0, **k),
    "plot_misclassified": lambda **k: plot_misclassified(np.eye(4), [0, 1, 1, 0], [1, 1, 0, 0], **k),
    "plot_lr_finder": lambda **k: plot_lr_finder(SWEEP, **k),
    "plot_schedule": lambda **k: plot_schedule(xpnn.CosineDecay(), 5, **k),
    "plot_search": lambda **k: plot_search(ROWS, "lr", "width", "val_loss", **k),
    "plot_search of one option": lambda **k: plot_search(ROWS, "lr", value="val_loss", **k),
    "animate_training": lambda **k: animate_training(recorded()[0], **k),
}


@pytest.mark.parametrize("name", DRAW)
def test_each_takes_an_axes_and_returns_one(name):
    assert isinstance(DRAW[name](), Axes)
    axes = Figure(layout="constrained").subplots(1, 2)
    assert DRAW[name](ax=axes[1]) is axes[1]
    assert not axes[0].has_data()
    axes[1].figure.draw_without_rendering()
    with pytest.raises(DTypeError, match=rf"{name.split()[0]}: expected ax to be one matplotlib Axes, got ndarray"):
        DRAW[name](ax=axes)


@pytest.mark.parametrize("name", DRAW)
def test_without_matplotlib_the_message_tells_what_to_install(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(
        BackendUnavailableError, match=rf"{name.split()[0]}: needs matplotlib\. Run: pip install 'xpnn\[plots\]'"
    ):
        DRAW[name]()


@pytest.mark.parametrize(
    "name", ["plot_activation", "plot_gradient_flow", "plot_weights", "plot_lr_finder", "plot_schedule"]
)
def test_the_legend_covers_no_curve(name):
    ax = DRAW[name]()
    ax.figure.draw_without_rendering()
    legend, frame = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert frame.x0 <= legend.x0
    assert legend.x1 <= frame.x1
    for line in ax.lines:
        if line.get_gid() == "suggestion" or line.get_clip_box() is None:
            continue
        xy = np.asarray(line.get_transform().transform(line.get_xydata()))
        inside = xy[np.isfinite(xy).all(axis=1) & (xy[:, 1] <= line.get_clip_box().y1)]
        assert not len(inside) or inside[:, 1].max() < legend.y0 or name == "plot_weights"


# -- activations ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name",
    [*"identity relu leaky_relu prelu elu selu gelu silu mish softplus sigmoid tanh softmax".split(), "step"],  # noqa: SIM905
)
def test_curves_are_the_function_and_its_slope(name):
    value, slope = plot_activation(name).lines
    z, f = value.get_xdata(), value.get_ydata()
    if name != "step":
        inner = np.abs(z[1:-1]) > 0.02  # away from the kinks
        numeric = (f[2:] - f[:-2]) / (z[2:] - z[:-2])
        np.testing.assert_allclose(slope.get_ydata()[1:-1][inner], numeric[inner], atol=2e-4)
    if name in ("sigmoid", "softmax"):
        np.testing.assert_allclose(f, 1 / (1 + np.exp(-z)), atol=1e-12)


def spans(ax):
    return [(p.get_x(), p.get_x() + p.get_width()) for p in ax.patches]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relu", [(-6.0, 0.0)]),
        ("identity", []),
        ("tanh", [(-6.0, -np.arccosh(20**0.5)), (np.arccosh(20**0.5), 6.0)]),
        ("step", [(-6.0, 6.0)]),
    ],
)
def test_saturated_regions_are_shaded(name, expected):
    found = spans(plot_activation(name))
    assert len(found) == len(expected)
    np.testing.assert_allclose(np.ravel(found), np.ravel(expected), atol=0.03)


def test_a_layer_of_a_trained_network_keeps_its_slope_and_its_network():
    net = xpnn.mlp([2, 3, 2], activation=xpnn.PReLU())
    net.params["1.weight"][...] = 0.7
    before = net.store.grads.tobytes()
    line = plot_activation(net.layers[1], derivative=False).lines[0]
    np.testing.assert_allclose(line.get_ydata()[0], -6 * np.float32(0.7), rtol=1e-7)
    assert net.store.grads.tobytes() == before
    assert net.forward(X)[0].shape == (60, 2)


def test_activation_errors():
    with pytest.raises(OptionError, match=r"expected one of identity, .*got 'rleu'\. Did you mean 'relu'\?"):
        plot_activation("rleu")
    with pytest.raises(DTypeError, match=r"plot_activation: expected a name or an activation layer, got type"):
        plot_activation(xpnn.ReLU)
    with pytest.raises(DTypeError, match=r"plot_activation: expected an elementwise layer, got Linear"):
        plot_activation(xpnn.Linear(3))
    with pytest.raises(OptionError, match=r"expected span to be two increasing numbers, got \(1, 1\)"):
        plot_activation("relu", span=(1, 1))
    with pytest.raises(OptionError, match=r"expected saturation from 0 to 1, got 2"):
        plot_activation("relu", saturation=2)


# -- gradients and weights -------------------------------------------------------------------------------------
@pytest.mark.parametrize("spec", ["numpy", "torch:cpu", "strict", "cupy"])
def test_gradient_flow_is_the_rms_by_layer(spec):
    net = xpnn.mlp([2, 5, 4, 2], backend=backend_or_skip(spec))
    y, caches = net.forward(X)
    net.backward(
        xpnn.CrossEntropy().value_and_grad(y, net.backend.asarray(Y, dtype=net.backend.index_dtype))[1], caches
    )
    ax = plot_gradient_flow(net)
    expected = [np.sqrt(np.mean(xpnn.to_numpy(net.grads[f"{k}.weight"]) ** 2)) for k in (0, 2, 4)]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), expected, rtol=1e-5)
    assert ax.get_yscale() == "log"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "2", "4"]
    assert len(plot_weights(net, 2, kind="histogram").patches) == 1


def test_gradients_of_zero_and_of_any_size_are_shown():
    ax = plot_gradient_flow({"0.weight": np.zeros((2, 2)), "1.weight": np.full((2, 2), 1e-30)}, label="deep")
    line, zero = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), [np.nan, 1e-30])
    assert list(zero.get_xdata()) == [0]
    assert zero.get_label() == "deep: exactly 0"
    plot_gradient_flow(GRADS, ax=ax, label="other")
    colours = [line.get_color() for line in ax.lines if line.get_gid() == "rms"]
    assert len(set(colours)) == 2
    replicas = xpnn.mlp([2, 3, 2], replicas=2)
    replicas.store.grads[...] = 2.0
    np.testing.assert_allclose(plot_gradient_flow(replicas).lines[0].get_ydata(), [2, 2])


def test_gradient_flow_errors():
    with pytest.raises(DTypeError, match=r"plot_gradient_flow: expected a network or a dict of gradients .*got int"):
        plot_gradient_flow(3)
    with pytest.raises(DataError, match=r"expected finite gradients, got others in 0\.weight\."):
        plot_gradient_flow({"0.weight": [[np.nan]]})
    with pytest.raises(DataError, match=r"expected gradients that are not all zero\. Run net\.forward"):
        plot_gradient_flow(xpnn.mlp([2, 2]))


def test_weights_are_counted_and_drawn_as_images():
    net = xpnn.mlp([12, 5, 2])
    counts = plot_weights(net).patches[0].get_data().values
    assert counts.sum() == 60
    ax = plot_weights(net, "0.weight", kind="images", shape=(3, 4), n=4)
    assert len(ax.images) == 4
    np.testing.assert_array_equal(ax.images[1].get_array(), net.params["0.weight"][:, 1].reshape(3, 4))
    low, high = ax.images[0].get_clim()
    assert -low == high == pytest.approx(np.abs(net.params["0.weight"][:, :4]).max())
    assert ax.get_title() == "0.weight: first 4 of 5 units"
    colour = plot_weights(net, 0, kind="images").images[0].get_array()  # 12 = 2 * 2 * 3
    assert colour.shape == (2, 2, 3)
    assert len(plot_weights(xpnn.mlp([4, 2], replicas=3), kind="images").images) == 2


def test_weights_errors():
    net = xpnn.mlp([7, 2])
    with pytest.raises(DTypeError, match=r"plot_weights: expected a network with parameters, got int"):
        plot_weights(3)
    with pytest.raises(OptionError, match=r"expected kind to be 'histogram' or 'images', got 'bars'"):
        plot_weights(net, kind="bars")
    with pytest.raises(OptionError, match=r"expected a layer with weights, one of 0\.weight, 0\.bias, got 5\."):
        plot_weights(net, 5)
    with pytest.raises(OptionError, match=r"expected n to be a positive integer, got 0"):
        plot_weights(net, n=0)
    with pytest.raises(OptionError, match=r"expected a matrix to draw as images, got 0\.bias"):
        plot_weights(net, "0.bias", kind="images")
    with pytest.raises(ShapeError, match=r"7 numbers are no square image\. Pass shape=\(height, width\)"):
        plot_weights(net, kind="images")
    with pytest.raises(ShapeError, match=r"expected 8 numbers for images of shape \(2, 4\), got 7"):
        plot_weights(net, kind="images", shape=(2, 4))
    with pytest.raises(OptionError, match=r"expected shape \(height, width\) or \(height, width, 3\), got \(7,\)"):
        plot_weights(net, kind="images", shape=(7,))
    with pytest.raises(DataError, match=r"expected finite numbers in 0\.weight, got others"):
        plot_weights({"0.weight": np.array([[np.inf]])})


# -- mistakes ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("spec", ["numpy", "torch:cpu", "strict", "cupy"])
def test_the_surest_mistakes_come_first(spec):
    backend = backend_or_skip(spec)
    images = np.arange(16.0).reshape(4, 4)
    shares = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    true = backend.asarray([0, 0, 0, 1], dtype=backend.index_dtype)
    ax = plot_misclassified(backend.asarray(images), true, backend.asarray(shares), class_names=["cat", "$dog$"])
    assert [t.get_text() for t in ax.texts] == ["cat → $dog$ (80%)", "cat → $dog$ (60%)"]
    np.testing.assert_array_equal(ax.images[0].get_array(), images[2].reshape(2, 2))
    assert ax.get_title() == "2 of 4 misclassified: true → predicted"


def test_colour_images_labels_and_none_wrong():
    images = np.random.default_rng(0).integers(0, 256, size=(5, 3, 2, 3))
    ax = plot_misclassified(images, [0, 1, 2, 0, 1], [1, 1, 0, 1, 1], n=2)
    assert [t.get_text() for t in ax.texts] == ["0 → 1", "2 → 0"]
    np.testing.assert_allclose(ax.images[0].get_array(), images[0] / 255)
    assert "3 of 5" in ax.get_title()
    assert plot_misclassified(images, [0] * 5, np.full((5, 1), 0.2)).texts[0].get_text() == "all 5 right"


def test_captions_do_not_overlap():
    ax = plot_misclassified(np.zeros((9, 16)), [0] * 9, [1] * 9, class_names=["a long name", "another long name"])
    ax.figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in ax.texts]
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert min(a.x1, b.x1) <= max(a.x0, b.x0) or min(a.y1, b.y1) <= max(a.y0, b.y0)


def test_misclassified_errors():
    with pytest.raises(ShapeError, match=r"plot_misclassified: expected equally many rows in X, y_true \(n,\)"):
        plot_misclassified(np.eye(4), [0, 1], [0, 1])
    with pytest.raises(LabelError, match=r"expected classes to be whole numbers from 0, got float64"):
        plot_misclassified(np.eye(4), [0.5, 1, 1, 1], [0, 1, 1, 1])
    with pytest.raises(OptionError, match=r"expected 2 class_names, got 1"):
        plot_misclassified(np.eye(4), [0, 1, 0, 1], [0, 1, 1, 1], class_names=["a"])
    with pytest.raises(OptionError, match=r"expected n to be a positive integer, got 0"):
        plot_misclassified(np.eye(4), [0, 1, 0, 1], [0, 1, 1, 1], n=0)
    with pytest.raises(DataError, match=r"expected finite numbers in X, got NaN or inf"):
        plot_misclassified(np.full((1, 4), np.nan), [0], [1])


# -- rates -----------------------------------------------------------------------------------------------------
def test_lr_finder_errors():
    with pytest.raises(DTypeError, match=r"plot_lr_finder: expected the result of xpnn\.find_lr, got int"):
        plot_lr_finder(3)
    with pytest.raises(DataError, match=r"expected as many finite losses as positive rates, got \(1,\) and \(2,\)"):
        plot_lr_finder(SimpleNamespace(lrs=[1, 2], losses=[1.0], suggestion=None))


def test_a_sweep_without_a_suggestion_is_drawn():
    ax = plot_lr_finder(SimpleNamespace(lrs=[1e-3, 1e-2], losses=[1.0, 1.0], suggestion=None))
    assert [line.get_label() for line in ax.lines] == ["batch loss"]


def test_schedules_are_drawn_in_epochs():
    line = plot_schedule(xpnn.StepDecay(every=10), 30, lr=0.1).lines[0]
    t, lr = line.get_xdata(), line.get_ydata()
    np.testing.assert_allclose(lr, 0.1 * 0.5 ** np.floor(t / 10 + 1e-9))
    by_step = plot_schedule(xpnn.CosineDecay(unit="step"), 4, steps_per_epoch=5).lines[0]
    by_epoch = plot_schedule(xpnn.CosineDecay(), 4, steps_per_epoch=5).lines[0]
    np.testing.assert_allclose(by_step.get_ydata(), by_epoch.get_ydata())
    ax = plot_schedule(xpnn.Constant(), 3, label="flat")
    plot_schedule(xpnn.OneCycle(), 3, ax=ax)
    assert len({line.get_color() for line in ax.lines}) == 2
    assert ax.get_legend().get_texts()[0].get_text() == "flat"


def test_a_plateau_is_drawn_from_what_it_watched():
    plateau = xpnn.Plateau(patience=1)
    values = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    lr = plot_schedule(plateau, 6, watched=values, steps_per_epoch=1).lines[0].get_ydata()
    np.testing.assert_allclose(lr, [1.0, *(plateau.after(values[:k]) for k in range(1, 6))])
    assert lr[-1] < lr[0]


def test_schedule_errors():
    with pytest.raises(DTypeError, match=r"plot_schedule: expected a schedule, got float"):
        plot_schedule(0.1, 3)
    with pytest.raises(OptionError, match=r"expected epochs to be a positive integer, got 0"):
        plot_schedule(xpnn.Constant(), 0)
    with pytest.raises(OptionError, match=r"expected lr > 0 and finite, got 0"):
        plot_schedule(xpnn.Constant(), 3, lr=0)
    with pytest.raises(OptionError, match=r"Plateau waits for 'val_loss', .* watched=history\['val_loss'\]"):
        plot_schedule(xpnn.Plateau(), 3)


# -- search ----------------------------------------------------------------------------------------------------
def test_search_averages_repetitions_and_frames_the_best():
    rows = [*ROWS, {"lr": 0.1, "width": 8, "val_loss": 0.0}, {"lr": 1.0, "width": 8, "val_loss": np.nan}]
    ax = plot_search(rows, "lr", "width", "val_loss")
    np.testing.assert_allclose(
        np.ma.filled(ax.images[0].get_array(), np.nan), [[0.08, 0.4, np.nan], [0.16, 1.6, np.nan]]
    )
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.01", "0.1", "1"]
    assert {patch.get_xy() for patch in ax.patches} == {(-0.5, -0.5)}
    assert ax.get_title() == "best: 0.01, 8"
    best = plot_search(rows, "lr", "width", "val_loss", reduce="min")
    assert best.get_title() == "best: 0.1, 8"
    assert plot_search(rows, "lr", "width", "val_loss", mode="max").get_title() == "best: 0.1, 16"


def test_search_over_names_and_widths_that_are_lists():
    rows = [{"kind": k, "widths": [8, w], "val_accuracy": w / 10} for k in ("relu", "a") for w in (1, 2)]
    ax = plot_search(SimpleNamespace(rows=rows), "kind", "widths", "val_accuracy")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["relu", "a"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["8-1", "8-2"]
    assert ax.get_title() == "best: relu, 8-2"


def test_search_over_one_option_draws_bars():
    rows = [
        {"kind": k, "score": v} for k, v in zip(("a", "b", "a", "c", "d"), (0.5, -0.25, 0.1, np.nan, 0.0), strict=True)
    ]
    ax = plot_search(rows, "kind", mode="max")
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [0.3, -0.25, 0.0, 0.0])
    assert [text.get_text() for text in ax.texts] == ["0.3", "-0.25", "–", "0"]  # noqa: RUF001
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("best: a", "kind", "score")
    assert [list(line.get_ydata()) for line in ax.lines if line.get_gid() == "rows"] == [[0.5, 0.1]]
    ax.figure.draw_without_rendering()
    frame = ax.get_window_extent()
    for text, bar in zip(ax.texts, ax.patches, strict=True):
        box = text.get_window_extent()
        assert frame.y0 <= box.y0 <= box.y1 <= frame.y1
        height, low = bar.get_window_extent(), bar.get_height() < 0
        assert box.y1 <= height.y0 if low else box.y0 >= height.y1
    worst = plot_search(rows, "kind", mode="min", reduce="min")
    assert worst.get_title() == "best: b"
    assert worst.patches[0].get_height() == 0.1
    assert not [line for line in worst.lines if line.get_gid() == "rows"]


def test_search_takes_column_and_direction_from_a_result():
    found = SimpleNamespace(rows=[{"lr": 0.1, "score": 0.5}, {"lr": 0.2, "score": 0.9}], monitor="val_auc", mode="max")
    ax = plot_search(found, "lr")
    assert (ax.get_title(), ax.get_ylabel()) == ("best: 0.2", "val auc")
    assert plot_search(found, "lr", mode="min").get_title() == "best: 0.1"
    with pytest.raises(OptionError, match=r"expected loss or one of .*got 'score'"):
        plot_search(found.rows, "lr")


def test_search_errors():
    with pytest.raises(DTypeError, match=r"plot_search: expected a list of dicts, got int"):
        plot_search(3, "a", "b", "c")
    with pytest.raises(DataError, match=r"expected at least one row, got none"):
        plot_search([], "a", "b", "c")
    with pytest.raises(
        OptionError, match=r"expected a column among lr, width, val_loss, got 'widht'\. Did you mean 'w"
    ):
        plot_search(ROWS, "lr", "widht", "val_loss")
    with pytest.raises(OptionError, match=r"expected mode 'auto', 'min' or 'max' and reduce"):
        plot_search(ROWS, "lr", "width", "val_loss", reduce="median")
    with pytest.raises(DataError, match=r"expected finite numbers in 'val_loss', got none"):
        plot_search([{"lr": 1, "width": 2, "val_loss": "bad"}], "lr", "width", "val_loss")


# -- animation -------------------------------------------------------------------------------------------------
def test_the_recorder_keeps_the_probabilities_and_changes_nothing():
    recorder, trainer = recorded(epochs=(0, 2, 3))
    assert [epoch for epoch, _ in recorder.frames] == [0, 2, 3]
    grid = xpnn.plots.boundary.boundary_grid(recorder.points, 15)
    np.testing.assert_allclose(recorder.frames[-1][1], trainer.predict_proba(grid), atol=1e-6)
    plain = xpnn.Trainer(xpnn.mlp([2, 8, 2], seed=0), xpnn.CrossEntropy(), xpnn.Adam(0.01))
    assert plain.fit(X, Y, epochs=3)["loss"] == trainer.history["loss"]
    assert [e for e, _ in recorded(epochs=2, fit=5)[0].frames] == [0, 2, 4]


@pytest.mark.parametrize("spec", ["torch:cpu", "strict", "cupy"])
def test_the_recorder_on_other_libraries(spec):
    recorder, _ = recorded(n_out=1, loss=xpnn.BinaryCrossEntropy(), backend=backend_or_skip(spec))
    assert animate_training(recorder).get_title() == "epoch 2"


def test_a_gif_has_a_frame_for_each_epoch(tmp_path):
    recorder, _ = recorded(epochs=(0, 1, 3))
    ax = animate_training(recorder, tmp_path / "new" / "a.gif", dpi=40, seconds=0.5)
    with Image.open(tmp_path / "new" / "a.gif") as image:
        assert image.n_frames == 3
        assert image.size == (240, 200)
        pixels = []
        for k in range(3):
            image.seek(k)
            pixels.append(np.asarray(image.convert("RGB")))
            assert image.info["duration"] == (1500 if k == 2 else 500)
    assert not np.array_equal(pixels[0], pixels[2])
    assert len(ax.figure.axes) == 2  # one colour bar, not three
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.gif"]


def test_a_page_holds_its_frames_and_needs_nothing_else(tmp_path):
    recorder, _ = recorded(epochs=(0, 1, 3))
    animate_training(recorder, tmp_path / "a.html", dpi=40)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    frames = re.findall(r'"(iVBOR[^"]+)"', page)
    assert len(frames) == 3
    assert all(base64.b64decode(frame)[1:4] == b"PNG" for frame in frames)
    assert "epoch 0" in page
    assert "http" not in page


def test_animation_errors(tmp_path):
    recorder, _ = recorded()
    with pytest.raises(DTypeError, match=r"animate_training: expected a BoundaryRecorder, got int"):
        animate_training(3)
    with pytest.raises(DataError, match=r"animate_training: expected recorded epochs, got none"):
        animate_training(xpnn.BoundaryRecorder(X, Y))
    with pytest.raises(OptionError, match=r"expected a file name ending in \.gif or \.html, got 'a\.mp4'"):
        animate_training(recorder, tmp_path / "a.mp4")
    with pytest.raises(OptionError, match=r"expected seconds > 0 and finite, got 0"):
        animate_training(recorder, seconds=0)


def test_recorder_errors():
    with pytest.raises(ShapeError, match=r"BoundaryRecorder: expected X of shape \(n, 2\), got \(4, 4\)"):
        xpnn.BoundaryRecorder(np.eye(4), [0, 1, 0, 1])
    with pytest.raises(OptionError, match=r"BoundaryRecorder: expected resolution of at least 2, got 1"):
        xpnn.BoundaryRecorder(X, Y, resolution=1)
    for bad in (0, (), (1.5,), -1, "10"):
        with pytest.raises(OptionError, match=r"BoundaryRecorder: expected epochs to be whole numbers of at least 0"):
            xpnn.BoundaryRecorder(X, Y, epochs=bad)
    with pytest.raises(OptionError, match=r"BoundaryRecorder: expected a loss over classes, got MeanSquaredError"):
        recorded(n_out=1, loss=xpnn.MeanSquaredError())
    recorder = xpnn.BoundaryRecorder(X, Y)
    trainer = xpnn.Trainer(xpnn.mlp([3, 2]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[recorder])
    with pytest.raises(ShapeError, match=r"BoundaryRecorder: expected one network with 2 inputs, got 3 inputs"):
        trainer.fit(np.zeros((4, 3)), np.zeros(4, int), epochs=1)

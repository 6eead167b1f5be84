from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

from xpnn.backend import get_backend
from xpnn.errors import (
    BackendUnavailableError,
    DataError,
    DTypeError,
    LabelError,
    OptionError,
    ShapeError,
)
from xpnn.plots import (
    OKABE_ITO,
    history_figure,
    plot_confusion_matrix,
    plot_decision_boundary,
    plot_history,
    save_figure,
)

pytest.importorskip("matplotlib")

from matplotlib.colors import to_rgb
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

EPOCHS = np.arange(1, 13)
COLUMNS = {
    "epoch": [int(e) for e in EPOCHS],
    "loss": [float(v) for v in 2.0 / EPOCHS],
    "val_loss": [float(v) for v in 2.0 / EPOCHS + 0.02 * EPOCHS],
    "accuracy": [float(v) for v in 1 - 0.5 / EPOCHS],
    "val_accuracy": [float(v) for v in 0.95 - 0.5 / EPOCHS],
    "lr": [0.01] * 12,
    "grad_norm": [1.0] * 12,
    "seconds": [0.5] * 12,
}
ROWS = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]
SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


class Recorded:
    rows = ROWS


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def lines_of(ax):
    return {line.get_label(): line for line in ax.lines}


def assert_legend_clear(ax):
    """No curve or point lies under the legend, and the legend lies inside the Axes."""
    ax.figure.draw_without_rendering()
    box, frame = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert frame.x0 <= box.x0
    assert box.x1 <= frame.x1
    assert box.y1 <= frame.y1
    drawn = [line.get_xydata() for line in ax.lines]
    drawn += [c.get_offsets() for c in ax.collections if not isinstance(c, ContourSet)]
    for xy in drawn:
        xy = np.asarray(xy, float)
        pixels = ax.transData.transform(xy[np.isfinite(xy).all(axis=1)])
        # Between two points a straight line stays below the higher one, so the ends decide.
        assert not len(pixels) or pixels[:, 1].max() < box.y0


def assert_disjoint(artists):
    boxes = [a.get_window_extent() for a in artists if a.get_text()]
    assert len(boxes) > 1
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert min(a.x1, b.x1) <= max(a.x0, b.x0) or min(a.y1, b.y1) <= max(a.y0, b.y0)


# -- history ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("history", [Recorded(), ROWS, COLUMNS], ids=["object", "rows", "columns"])
def test_history_draws_the_recorded_values(history):
    ax = plot_history(history)
    lines = lines_of(ax)
    for label, name in [("training loss", "loss"), ("validation loss", "val_loss")]:
        np.testing.assert_array_equal(lines[label].get_xdata(), EPOCHS)
        np.testing.assert_array_equal(lines[label].get_ydata(), COLUMNS[name])
    assert ax.get_xlabel() == "epoch"
    assert ax.get_ylabel() == "loss (mean per sample)"
    assert ax.get_yscale() == "linear"
    assert lines["training loss"].get_linestyle() != lines["validation loss"].get_linestyle()
    assert_legend_clear(ax)


def test_history_counts_epochs_from_one_where_none_are_given():
    ax = plot_history({"loss": [3.0, 2.0]})
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [1, 2])


@pytest.mark.parametrize("name", ["val_loss", "val_accuracy"])
def test_history_marks_the_best_validation_epoch(name):
    ax = plot_history(COLUMNS, names=(name,))
    best = next(line for line in ax.lines if line.get_label().startswith("best"))
    choose = np.argmin if name == "val_loss" else np.argmax
    index = int(choose(COLUMNS[name]))
    assert best.get_xdata()[0] == EPOCHS[index]
    assert best.get_ydata()[0] == COLUMNS[name][index]
    assert f"(epoch {EPOCHS[index]})" in best.get_label()
    assert f"{COLUMNS[name][index]:.4g}" in best.get_label()


def test_history_marks_nothing_where_good_is_not_defined():
    ax = plot_history({"val_coverage": [0.1, 0.2]}, names=("val_coverage",))
    assert [line.get_label() for line in ax.lines] == ["validation coverage"]


def test_history_marks_no_value_that_is_not_finite():
    ax = plot_history({"val_loss": [np.nan, 2.0, np.nan]})
    best = lines_of(ax)["best validation loss: 2 (epoch 2)"]
    assert list(best.get_xdata()) == [2]
    only_training = plot_history({"loss": [1.0], "val_loss": [np.nan]})
    assert not any("best" in line.get_label() for line in only_training.lines)


def test_history_passes_over_what_was_not_recorded_and_leaves_gaps_for_nan():
    ax = plot_history([{"loss": 3.0, "val_loss": 4.0}, {"loss": np.nan, "val_loss": None}, {"loss": 1.0}])
    np.testing.assert_array_equal(lines_of(ax)["training loss"].get_ydata(), [3.0, np.nan, 1.0])
    np.testing.assert_array_equal(lines_of(ax)["validation loss"].get_xdata(), [1])
    unvalidated = plot_history({"loss": [2.0, 1.0], "val_loss": [None, None]})
    assert list(lines_of(unvalidated)) == ["training loss"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("lr", "learning rate (per step)"),
        ("seconds", "time (seconds)"),
        ("accuracy", "accuracy (fraction correct)"),
        ("grad_norm", "gradient norm"),
    ],
)
def test_history_labels_say_the_unit(name, label):
    assert plot_history(ROWS, names=name).get_ylabel() == label


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_epoch_ticks_are_whole_numbers(count):
    ax = plot_history(ROWS[:count])
    ax.figure.draw_without_rendering()
    low, high = ax.get_xlim()
    ticks = [t for t in ax.get_xticks() if low <= t <= high]
    assert ticks
    assert all(t == round(t) for t in ticks)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([10.0, 1.0, 0.05], "log"),
        ([10.0, 1.0, 0.2], "linear"),
        ([10.0, 1.0, 0.0], "linear"),
        ([-10.0, 10.0, 0.01], "linear"),
    ],
)
def test_history_is_logarithmic_beyond_two_decades(values, scale):
    ax = plot_history({"loss": values, "val_loss": values})
    assert ax.get_yscale() == scale
    assert_legend_clear(ax)


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0, 5.0], [-2.0], [1e-9, 1e-9]])
def test_history_of_constant_values(values):
    ax = plot_history({"loss": values, "val_loss": values})
    assert_legend_clear(ax)


def test_history_shares_an_axes_between_runs():
    figure = Figure(layout="constrained")
    axes = figure.subplots(1, 2)
    axes[0].set_title("two runs")
    for label in ("Adam", "SGD"):
        assert plot_history(ROWS, ax=axes[0], label=label) is axes[0]
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert len(labels) == len(set(labels)) == 6
    curves = [line for line in axes[0].lines if not line.get_label().split(": ")[1].startswith("best")]
    assert len({line.get_color() for line in curves}) == 4
    assert not axes[1].lines
    assert_legend_clear(axes[0])


def test_drawing_twice_does_not_stretch_the_axis_twice():
    ax = plot_history({"loss": [1.0, 0.5]})
    top = ax.get_ylim()[1]
    plot_history({"loss": [1.0, 0.5]}, ax=ax)
    assert ax.get_ylim()[1] < 1.3 * top


def test_history_keeps_limits_that_were_set():
    ax = Figure().add_subplot()
    ax.set_ylim(0.0, 7.0)
    assert plot_history(ROWS, ax=ax).get_ylim() == (0.0, 7.0)


def test_history_on_a_log_axis_of_the_caller_with_nothing_positive():
    ax = Figure().add_subplot()
    ax.set_yscale("log")
    np.testing.assert_array_equal(plot_history({"loss": [-1.0, -2.0]}, ax=ax).lines[0].get_ydata(), [-1, -2])


def test_history_figure_has_a_panel_for_each_quantity():
    rows = [{**row, "val_auc": 0.5, "note": "text"} for row in ROWS]
    figure = history_figure(rows)
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels == ["loss (mean per sample)", "accuracy (fraction correct)", "auc"]
    accuracy = lines_of(figure.axes[1])
    np.testing.assert_array_equal(accuracy["training accuracy"].get_ydata(), COLUMNS["accuracy"])
    np.testing.assert_array_equal(accuracy["validation accuracy"].get_ydata(), COLUMNS["val_accuracy"])
    for ax in figure.axes:
        assert_legend_clear(ax)


def test_history_errors():
    with pytest.raises(DataError, match=r"plot_history: expected at least one epoch, got an empty history"):
        plot_history([])
    with pytest.raises(DataError, match=r"expected at least one epoch"):
        plot_history({})
    with pytest.raises(DTypeError, match=r"expected a History, a list of dicts or a dict of lists, got int"):
        plot_history(3)
    with pytest.raises(DataError, match=r"expected columns of one length, got \{'loss': 2, 'lr': 1\}"):
        plot_history({"loss": [1, 2], "lr": [1]})
    with pytest.raises(DataError, match=r"expected a column 'loss', got accuracy\. Choose columns with names="):
        plot_history({"accuracy": [1.0]})
    with pytest.raises(OptionError, match=r"expected names among loss, got 'val_loss'"):
        plot_history({"loss": [1.0]}, names=("val_loss",))
    with pytest.raises(DataError, match=r"expected numbers in 'loss', got 'low' in row 1"):
        plot_history({"loss": ["low"]})
    with pytest.raises(DataError, match=r"expected finite values of loss, got none\. .* learning rate"):
        plot_history({"loss": [np.nan, np.inf]})
    with pytest.raises(DataError, match=r"expected finite values of some column, got none"):
        plot_history({"loss": [1.0]}, names=())
    with pytest.raises(DataError, match=r"history_figure: expected a loss or a metric, got neither"):
        history_figure({"lr": [0.1]})
    with pytest.raises(DTypeError, match=r"expected ax to be one matplotlib Axes, got ndarray"):
        plot_history(ROWS, ax=Figure().subplots(1, 2))


# -- confusion matrix ---------------------------------------------------------------------------------------
def cells(ax):
    return {tuple(int(v) for v in text.get_position()[::-1]): text for text in ax.texts}


def test_confusion_matrix_writes_the_counts():
    counts = np.array([[50, 2, 0], [3, 40, 7], [0, 1, 1234]])
    ax = plot_confusion_matrix(counts, class_names=["a", "b", "$c$"])
    assert {where: text.get_text() for where, text in cells(ax).items()} == {
        (i, j): str(counts[i, j]) for i in range(3) for j in range(3)
    }
    np.testing.assert_array_equal(ax.images[0].get_array(), counts)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", "$c$"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "$c$"]
    assert ax.get_xlabel() == "predicted class"
    assert ax.get_ylabel() == "true class"
    assert ax.figure.axes[1].get_ylabel() == "count (samples)"
    low, high = ax.get_ylim()
    assert low > high  # the first true class is on top


def test_confusion_matrix_of_a_pair_of_label_arrays():
    ax = plot_confusion_matrix((np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])))
    np.testing.assert_array_equal(ax.images[0].get_array(), [[1, 1], [1, 2]])
    ax = plot_confusion_matrix((np.array([0, 1]), np.array([0, 1])), class_names=["a", "b", "c"])
    np.testing.assert_array_equal(ax.images[0].get_array(), np.diag([1, 1, 0]))


def test_normalized_rows_are_fractions_of_the_true_class():
    ax = plot_confusion_matrix([[3, 1], [0, 0]], normalize=True)
    shown = ax.images[0].get_array()
    np.testing.assert_allclose(shown[0], [0.75, 0.25])
    texts = cells(ax)
    assert [texts[0, j].get_text() for j in (0, 1)] == ["0.75", "0.25"]
    assert [texts[1, j].get_text() for j in (0, 1)] == ["\N{EN DASH}"] * 2
    assert ax.images[0].get_clim() == (0.0, 1.0)
    assert ax.figure.axes[1].get_ylabel() == "fraction of the true class"


def test_weighted_counts_keep_their_decimals():
    ax = plot_confusion_matrix([[1.25, 0.5], [0.0, 2.0]])
    assert [text.get_text() for text in ax.texts] == ["1.25", "0.5", "0", "2"]


def test_numbers_can_be_read_on_their_cells():
    ax = plot_confusion_matrix(np.arange(100).reshape(10, 10))
    image = ax.images[0]
    for (i, j), text in cells(ax).items():
        back = image.cmap(image.norm(image.get_array()[i, j]))
        assert contrast(text.get_color(), back) >= 4.5


@pytest.mark.parametrize("n", [2, 10, 30])
def test_numbers_fit_their_cells(n):
    ax = plot_confusion_matrix(np.full((n, n), 60000))
    ax.figure.draw_without_rendering()
    cell = ax.get_window_extent().width / n
    for text in ax.texts:
        assert text.get_window_extent().width < cell
        assert text.get_window_extent().height < cell
    assert len(ax.texts) == n * n


def test_many_classes_are_shown_by_colour_alone():
    ax = plot_confusion_matrix(np.eye(70))
    assert not ax.texts
    assert len(ax.get_xticks()) <= 30
    assert [t.get_text() for t in ax.get_yticklabels()][:3] == ["0", "3", "6"]


def test_long_names_are_turned_and_do_not_overlap():
    names = [f"a rather long name {i}" for i in range(10)]
    ax = plot_confusion_matrix(np.eye(10), class_names=names)
    assert {t.get_rotation() for t in ax.get_xticklabels()} == {45.0}
    ax.figure.draw_without_rendering()
    assert_disjoint(ax.get_yticklabels())
    bottom = min(t.get_window_extent().y0 for t in ax.get_xticklabels())
    assert ax.xaxis.label.get_window_extent().y1 <= bottom
    assert bottom > 0
    short = plot_confusion_matrix(np.eye(10))
    assert {t.get_rotation() for t in short.get_xticklabels()} == {0.0}
    short.figure.draw_without_rendering()
    assert_disjoint(short.get_xticklabels())


def test_confusion_matrix_takes_any_library_and_an_axes():
    backend = get_backend("strict")
    ax = Figure().add_subplot()
    assert plot_confusion_matrix(backend.asarray([[1, 2], [3, 4]]), ax=ax) is ax
    np.testing.assert_array_equal(ax.images[0].get_array(), [[1, 2], [3, 4]])


def test_confusion_matrix_of_zeros():
    assert [text.get_text() for text in plot_confusion_matrix(np.zeros((2, 2), int)).texts] == ["0"] * 4


def test_confusion_matrix_errors():
    with pytest.raises(ShapeError, match=r"expected a square matrix \(n_classes, n_classes\), got shape \(2, 3\)"):
        plot_confusion_matrix(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"got shape \(0, 0\)"):
        plot_confusion_matrix(np.ones((0, 0)))
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(DataError, match=r"plot_confusion_matrix: expected finite counts of at least 0"):
            plot_confusion_matrix([[bad, 1.0], [1.0, 1.0]])
    with pytest.raises(OptionError, match=r"expected 2 class_names, got 3\. Give one per class"):
        plot_confusion_matrix(np.eye(2), class_names=["a", "b", "c"])
    with pytest.raises(DTypeError, match=r"plot_confusion_matrix: expected ax to be one matplotlib Axes"):
        plot_confusion_matrix(np.eye(2), ax="here")


# -- decision boundary --------------------------------------------------------------------------------------
CENTRES = np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 4.0]])
RNG = np.random.default_rng(0)
Y3 = RNG.integers(0, 3, 120)
X3 = CENTRES[Y3] + 0.6 * RNG.standard_normal((120, 2))


def slope(X):
    return 6.0 * (X[:, 0] + X[:, 1] - 1.0)


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def near(X):
    return -((X[:, None] - CENTRES) ** 2).sum(-1)


def contours(ax):
    return [c for c in ax.collections if isinstance(c, ContourSet)]


def points(ax):
    return [c for c in ax.collections if not isinstance(c, ContourSet)]


def grid_of(ax):
    image = ax.images[0]
    x0, x1, y0, y1 = image.get_extent()
    rows, columns = image.get_array().shape[:2]
    x = x0 + (np.arange(columns) + 0.5) * (x1 - x0) / columns
    y = y0 + (np.arange(rows) + 0.5) * (y1 - y0) / rows
    return np.stack(np.meshgrid(x, y), -1)


def test_two_classes_show_the_probability_and_its_half_line():
    ax = plot_decision_boundary(slope, SQUARE, [0, 1, 1, 1], resolution=40)
    shown = ax.images[0].get_array()
    expected = sigmoid(slope(grid_of(ax).reshape(-1, 2))).reshape(40, 40)
    np.testing.assert_allclose(shown, expected, atol=1e-12)
    assert ax.images[0].origin == "lower"
    assert ax.images[0].get_clim() == (0.0, 1.0)
    np.testing.assert_allclose(ax.images[0].get_extent(), (-0.08, 1.08, -0.08, 1.08))
    (border,) = contours(ax)
    line = np.concatenate([path.vertices for path in border.get_paths()])
    np.testing.assert_allclose(line.sum(axis=1), 1.0, atol=0.02)
    assert ax.figure.axes[1].get_ylabel() == "probability of class 1"
    assert_legend_clear(ax)


def test_points_lie_on_top_in_the_colour_and_shape_of_their_class():
    ax = plot_decision_boundary(near, X3, Y3, class_names=["a", "b", "c"])
    for k, dots in enumerate(points(ax)):
        np.testing.assert_array_equal(dots.get_offsets(), X3[k == Y3])
        np.testing.assert_allclose(dots.get_facecolor()[0, :3], to_rgb(OKABE_ITO[k]))
        np.testing.assert_allclose(dots.get_edgecolor()[0, :3], 0.0)
        assert dots.get_zorder() > ax.images[0].get_zorder()
    assert len({dots.get_paths()[0].vertices.tobytes() for dots in points(ax)}) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c"]
    assert_legend_clear(ax)


def test_several_classes_show_the_colour_of_the_winner_by_how_sure_it_is():
    ax = plot_decision_boundary(near, X3, Y3, resolution=60)
    shown, grid = ax.images[0].get_array(), grid_of(ax).reshape(-1, 2)
    assert shown.shape == (60, 60, 3)
    logits = near(grid)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    winner, top = shares.argmax(1), shares.max(1)
    tint = 1.0 - np.asarray(shown).reshape(-1, 3)
    for k in range(3):
        full = 1.0 - np.array(to_rgb(OKABE_ITO[k]))
        own = winner == k
        strength = tint[own] @ full / (full @ full)
        np.testing.assert_allclose(tint[own], strength[:, None] * full, atol=1e-12)
        order = np.argsort(top[own])
        assert np.all(np.diff(strength[order]) >= -1e-12)
        assert strength.min() > 0.05
    assert contours(ax)


def test_flat_regions_have_one_colour_per_class():
    for options in ({"probability": False}, {"output": "labels"}):
        function = (lambda X: near(X).argmax(1)) if "output" in options else near
        ax = plot_decision_boundary(function, X3, Y3, resolution=50, **options)
        shown = np.asarray(ax.images[0].get_array()).reshape(-1, 3)
        assert len(np.unique(shown.round(9), axis=0)) == 3
    binary = plot_decision_boundary(slope, SQUARE, [0, 1, 1, 1], probability=False)
    assert len(binary.figure.axes) == 1  # nothing for a colour bar to say
    assert len(contours(binary)) == 1


def shown_by(predict, y=(0, 1, 1, 1), **options):
    return np.asarray(plot_decision_boundary(predict, SQUARE, y, resolution=20, **options).images[0].get_array())


def test_logits_and_probabilities_give_the_same_picture():
    reference = shown_by(slope)
    for function in (
        lambda X: slope(X)[:, None],
        lambda X: sigmoid(slope(X)),
        lambda X: sigmoid(slope(X))[:, None],
        lambda X: np.stack([1 - sigmoid(slope(X)), sigmoid(slope(X))], 1),
        lambda X: np.stack([-slope(X) / 2, slope(X) / 2], 1),
    ):
        np.testing.assert_allclose(shown_by(function), reference, atol=1e-12)


def test_labels_of_other_kinds():
    reference = shown_by(lambda X: (slope(X) > 0).astype(int))
    for function, y in (
        (lambda X: np.where(slope(X) > 0, "yes", "no"), ["no", "yes", "yes", "yes"]),
        (lambda X: np.where(slope(X) > 0, 1.0, -1.0), [-1.0, 1.0, 1.0, 1.0]),
        (lambda X: slope(X) > 0, [False, True, True, True]),
        (lambda X: (slope(X) > 0).astype(int), [[0], [1], [1], [1]]),
        (lambda X: (slope(X) > 0).astype(int), [[1, 0], [0, 1], [0, 1], [0, 1]]),
    ):
        np.testing.assert_array_equal(shown_by(function, y), reference)
    np.testing.assert_allclose(shown_by(slope, [-1, 1, 1, 1]), shown_by(slope))
    np.testing.assert_allclose(shown_by(slope, ["no", "yes", "yes", "yes"]), shown_by(slope))


def test_stating_the_output_wins_over_guessing():
    small = lambda X: 0.4 * X[:, 0].clip(0, 1)  # noqa: E731
    assert shown_by(small).max() == pytest.approx(0.4)
    assert shown_by(small, output="logits").max() == pytest.approx(sigmoid(0.4))
    linear = shown_by(lambda X: 3 * X[:, 0] - 1, output="probabilities")
    assert (linear.min(), linear.max()) == (0.0, 1.0)


def test_predict_proba_comes_first_then_predict():
    class Estimator:
        classes_ = np.array(["no", "yes"])

        def predict(self, X):
            raise RuntimeError

        def predict_proba(self, X):
            return np.stack([1 - sigmoid(slope(X)), sigmoid(slope(X))], 1)

    np.testing.assert_allclose(shown_by(Estimator(), ["no", "yes", "yes", "yes"]), shown_by(slope), atol=1e-12)


@pytest.mark.parametrize("name", ["numpy", "torch", "strict"])
def test_a_network_is_given_arrays_of_its_own_backend(name):
    if name == "torch":
        pytest.importorskip("torch")

    class Net:
        backend = get_backend(name)
        seen = None

        def predict(self, x):
            self.seen = x
            return x[:, :1] * 6.0 + x[:, 1:] * 6.0 - 6.0

    net = Net()
    shown = shown_by(net)
    assert net.backend.owns(net.seen)
    assert net.seen.dtype == net.backend.dtype
    np.testing.assert_allclose(shown, shown_by(slope), atol=1e-6)

    trainer = type("Trainer", (), {"net": net, "predict_proba": lambda self, x: net.predict(x) * 0 + 0.25})()
    np.testing.assert_allclose(shown_by(trainer), 0.25)


def test_a_function_is_given_arrays_like_the_samples():
    backend = get_backend("strict")
    seen = []
    X = backend.asarray(SQUARE)
    ax = plot_decision_boundary(lambda x: seen.append(x) or x[:, 0] * 9.0 - 4.0, X, [0, 0, 1, 1], resolution=10)
    assert backend.owns(seen[0])
    assert seen[0].dtype == backend.dtype
    assert seen[0].shape == (100, 2)
    assert contours(ax)


def test_no_border_where_one_class_takes_all():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = plot_decision_boundary(lambda X: np.full(len(X), 0.25), SQUARE, [0, 1, 1, 1])
    assert not contours(ax)


def test_points_on_one_line_or_in_one_place():
    ax = plot_decision_boundary(slope, [[1.0, 2.0], [1.0, 3.0]], [0, 1], resolution=9)
    np.testing.assert_allclose(ax.images[0].get_extent(), (0.5, 1.5, 1.92, 3.08))
    ax = plot_decision_boundary(slope, [[1.0, 2.0]], [1], resolution=9)
    np.testing.assert_allclose(ax.images[0].get_extent(), (0.5, 1.5, 1.5, 2.5))


def test_boundary_on_a_given_axes_with_names():
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    ax = plot_decision_boundary(near, X3, Y3, ax=axes[1], feature_names=("length (cm)", "width (cm)"))
    assert ax is axes[1]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("length (cm)", "width (cm)")
    assert not axes[0].images
    assert_legend_clear(ax)


def test_more_classes_than_the_palette_has_colours():
    y = np.arange(9) % 9
    X = np.stack([np.cos(y), np.sin(y)], 1) * 3.0
    ax = plot_decision_boundary(lambda Z: -((Z[:, None] - X) ** 2).sum(-1), X, y)
    colours = np.concatenate([dots.get_facecolor() for dots in points(ax)])
    assert len(np.unique(colours, axis=0)) == 9
    assert_legend_clear(ax)


def test_boundary_errors():
    y = [0, 1, 1, 1]
    where = "plot_decision_boundary: "
    with pytest.raises(ShapeError, match=where + r"expected X of shape \(n, 2\), got \(4, 3\)"):
        plot_decision_boundary(slope, np.ones((4, 3)), y)
    with pytest.raises(ShapeError, match=where + r"expected y of shape \(4,\), got \(3,\)"):
        plot_decision_boundary(slope, SQUARE, [0, 1, 1])
    for bad in (np.ones((0, 2)), [[np.nan, 0.0]], [["a", "b"]]):
        with pytest.raises(DataError, match=where + r"expected X with finite numbers and at least one row"):
            plot_decision_boundary(slope, bad, [0] * len(bad))
    with pytest.raises(LabelError, match=where + r"expected class labels in y, got real numbers"):
        plot_decision_boundary(slope, SQUARE, [0.5, 1, 1, 1])
    for bad in (1, 2.5, True):
        with pytest.raises(OptionError, match=where + r"expected resolution of at least 2, got"):
            plot_decision_boundary(slope, SQUARE, y, resolution=bad)
    with pytest.raises(OptionError, match=where + r"expected output to be one of auto, .* got 'scores'"):
        plot_decision_boundary(slope, SQUARE, y, output="scores")
    with pytest.raises(OptionError, match=where + r"expected 2 feature_names, got 1"):
        plot_decision_boundary(slope, SQUARE, y, feature_names=("a",))
    with pytest.raises(OptionError, match=where + r"expected 2 class_names, got 1"):
        plot_decision_boundary(slope, SQUARE, y, class_names=["a"])
    with pytest.raises(DTypeError, match=where + r"expected a Trainer, a network or a function, got int"):
        plot_decision_boundary(3, SQUARE, y)
    with pytest.raises(ShapeError, match=where + r"expected predict to return \(100,\) or \(100, n_out\), got \(5,\)"):
        plot_decision_boundary(lambda X: np.zeros(5), SQUARE, y, resolution=10)
    with pytest.raises(DataError, match=where + r"expected finite output of predict, got NaN or inf"):
        plot_decision_boundary(lambda X: X[:, 0] * np.nan, SQUARE, y)
    with pytest.raises(LabelError, match=where + r"expected labels of 2 classes, .* got 0, 1, 2"):
        plot_decision_boundary(slope, SQUARE, [0, 1, 2, 2])
    with pytest.raises(LabelError, match=where + r"expected predict to return labels like those of y"):
        plot_decision_boundary(lambda X: np.full(len(X), "a"), SQUARE, y)
    with pytest.raises(DTypeError, match=where + r"expected ax to be one matplotlib Axes"):
        plot_decision_boundary(slope, SQUARE, y, ax=3)


# -- files, colours, imports --------------------------------------------------------------------------------
@pytest.mark.parametrize("draw", ["history", "confusion", "boundary"])
def test_a_picture_is_written_and_not_blank(tmp_path, draw):
    from matplotlib.image import imread

    ax = {
        "history": lambda: plot_history(ROWS),
        "confusion": lambda: plot_confusion_matrix(np.eye(3)),
        "boundary": lambda: plot_decision_boundary(near, X3, Y3),
    }[draw]()
    path = save_figure(ax, tmp_path / "picture.png")
    assert path == tmp_path / "picture.png"
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 300
    assert pixels[..., :3].std() > 0.02
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_saving_replaces_whole_files_only(tmp_path, monkeypatch):
    path = tmp_path / "picture.pdf"
    path.write_text("before")
    figure = history_figure(ROWS)
    with monkeypatch.context() as patch:

        def fail(self, target, **options):
            target.write_text("half a pict")
            raise OSError("disk full")

        patch.setattr(Figure, "savefig", fail)
        with pytest.raises(DataError, match="disk full"):
            save_figure(figure, path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["picture.pdf"]
    save_figure(figure, str(path))
    assert path.read_bytes().startswith(b"%PDF")


def test_save_errors(tmp_path):
    figure = Figure()
    with pytest.raises(OptionError, match=r"save_figure: expected a file name ending in one of .*\.png.* 'loss\.xyz'"):
        save_figure(figure, tmp_path / "loss.xyz")
    with pytest.raises(OptionError, match=r"got 'loss'\. Add an ending such as \.png"):
        save_figure(figure, tmp_path / "loss")
    (tmp_path / "a file").touch()
    with pytest.raises(DataError, match=r"expected a folder that can be written to"):
        save_figure(figure, tmp_path / "a file" / "loss.png")
    with pytest.raises(DTypeError, match=r"save_figure: expected a matplotlib Figure or Axes, got int"):
        save_figure(3, tmp_path / "loss.png")


def test_the_first_colours_stand_out_from_paper():
    assert all(contrast(colour, "white") >= 3.0 for colour in OKABE_ITO[:3])


def test_matplotlib_is_imported_late_and_pyplot_never():
    code = (
        "import sys, xpnn.plots as p\n"
        "print('matplotlib' in sys.modules)\n"
        "p.history_figure({'loss': [2.0, 1.0]})\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("plot_history", lambda: plot_history(ROWS)),
        ("history_figure", lambda: history_figure(ROWS)),
        ("plot_confusion_matrix", lambda: plot_confusion_matrix(np.eye(2))),
        ("plot_decision_boundary", lambda: plot_decision_boundary(slope, SQUARE, [0, 1, 1, 1])),
    ],
)
def test_without_matplotlib_the_message_tells_what_to_install(monkeypatch, name, draw):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(BackendUnavailableError, match=rf"{name}: needs matplotlib\. Run: pip install 'xpnn\[plots\]'"):
        draw()

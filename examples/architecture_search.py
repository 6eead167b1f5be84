"""Search depth and width of a network for digits with scikit-learn's GridSearchCV, and draw a heat map.

`n_layers` and `width` are plain numbers, so any search of scikit-learn can vary them.

Run: python examples/architecture_search.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split

import xpnn
from xpnn.estimators import MLPClassifier


def main() -> None:
    """Search, report, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer rows, epochs and sizes, for tests")
    parser.add_argument("--out", default="runs/architecture_search", help="folder for the picture")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # all candidates get the same number of epochs

    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=0.3, stratify=y, random_state=0)
    if args.quick:
        X_train, y_train = X_train[:300], y_train[:300]
    grid = (
        {"n_layers": [1, 2], "width": [4, 32]}
        if args.quick
        else {"n_layers": [1, 2, 3, 4], "width": [4, 8, 16, 32, 64, 128]}
    )
    model = MLPClassifier(
        learning_rate_init=0.003,
        batch_size=64,
        max_iter=15 if args.quick else 40,
        backend=args.backend,
        dtype="float32",
        random_state=0,
    )
    search = GridSearchCV(model, grid, cv=2 if args.quick else 3).fit(X_train, y_train)

    results = search.cv_results_
    shape = len(grid["n_layers"]), len(grid["width"])  # GridSearchCV varies the last name in the alphabet fastest
    mean, spread = (np.reshape(results[name], shape) for name in ("mean_test_score", "std_test_score"))
    best, test = search.best_params_, search.score(X_test, y_test)
    good = results["mean_test_score"] >= search.best_score_ - results["std_test_score"][search.best_index_]
    sizes = [p["n_layers"] * p["width"] for p in results["params"]]
    i = min(np.flatnonzero(good), key=sizes.__getitem__)
    few = results["params"][i]
    print(
        f"Best of {len(sizes)} in cross-validation: {best['n_layers']} x {best['width']} units, "
        f"{search.best_score_:.1%} ({test:.1%} on test rows); "
        f"{few['n_layers']} x {few['width']} is within one standard deviation of it."
    )

    wide, narrow = mean[:, -1].max(), mean[:, 0].max()
    if not wide > narrow + 0.03 or test < (0.85 if args.quick else 0.96):
        raise SystemExit(
            f"expected wide networks to beat narrow ones and to be good, got {wide:.3f}, {narrow:.3f}, {test:.3f}"
        )

    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(mean, cmap="cividis", origin="lower", aspect="auto")
    ax.set_xticks(range(shape[1]), grid["width"])
    ax.set_yticks(range(shape[0]), grid["n_layers"])
    ax.set(xlabel="width (units a layer)", ylabel="n_layers", title="Cross-validated accuracy on digits, ± over folds")
    middle = (mean.min() + mean.max()) / 2
    for (row, column), value in np.ndenumerate(mean):
        label = f"{value:.3f}\n± {spread[row, column]:.3f}"
        ax.text(column, row, label, ha="center", va="center", fontsize=8, color="black" if value > middle else "white")
    figure.colorbar(image, label="accuracy")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'architecture_search.png')}")


if __name__ == "__main__":
    main()

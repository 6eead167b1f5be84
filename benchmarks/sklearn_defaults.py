"""Default settings, ours against scikit-learn's, on its five classic data sets.

Run: python benchmarks/sklearn_defaults.py [--seeds 5] [--first 0] [--inputs raw]

The protocol: seeds 0 to 4; each splits the rows anew (30 % for testing, classes in proportion) and is the
estimators' random_state; nothing else is set, and inputs go in as they are ("raw").  As a further look they go in
after StandardScaler ("scaled"), and both are run with early stopping.  Splits are the same on both sides.
"""

import argparse
import platform
import time
import warnings

import numpy as np
import sklearn
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import xpnn
from xpnn import estimators

DATA = {
    "digits": datasets.load_digits,
    "iris": datasets.load_iris,
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}


def score(module, name, seed, *, scaled, **options):
    """Accuracy, or R² for diabetes, on held-out rows; and the seconds of the fit."""
    X, y = DATA[name](return_X_y=True)
    numbers = name == "diabetes"
    kind = "MLPRegressor" if numbers else "MLPClassifier"
    split = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=None if numbers else y)
    X_train, X_test, y_train, y_test = split
    model = getattr(module, kind)(random_state=seed, **options)
    if scaled:
        model = make_pipeline(StandardScaler(), model)
    began = time.perf_counter()
    model.fit(X_train, y_train)
    return model.score(X_test, y_test), time.perf_counter() - began


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--inputs", choices=["raw", "scaled", "both"], default="both")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(
        f"xpnn {xpnn.__version__}, scikit-learn {sklearn.__version__}, NumPy {np.__version__}, Python "
        f"{platform.python_version()}; mean of {args.seeds} seeds from {args.first}, standard error of the differences "
        "in brackets\n"
    )
    print("| data | inputs | settings | scikit-learn | xpnn | difference | seconds, theirs / ours |")
    print("|---|---|---|---|---|---|---|")
    means = []
    for settings, options in (("default", {}), ("early stopping", {"early_stopping": True})):
        for scaled in {"raw": (False,), "scaled": (True,), "both": (False, True)}[args.inputs]:
            for name in DATA:
                runs = [
                    [score(m, name, seed, scaled=scaled, **options) for m in (neural_network, estimators)]
                    for seed in range(args.first, args.first + args.seeds)
                ]
                found = np.asarray(runs)  # (seeds, theirs and ours, score and seconds)
                theirs, ours = found[:, 0, 0], found[:, 1, 0]
                error = (ours - theirs).std(ddof=1) / np.sqrt(args.seeds)
                means.append((settings, (ours - theirs).mean()))
                print(
                    f"| {name} | {'scaled' if scaled else 'raw'} | {settings} | {theirs.mean():.4f} | "
                    f"{ours.mean():.4f} | {(ours - theirs).mean():+.4f} ({error:.4f}) | "
                    f"{found[:, 0, 1].mean():.2f} / {found[:, 1, 1].mean():.2f} |",
                    flush=True,
                )
    for settings in ("default", "early stopping"):
        print(f"\nmean difference, {settings}: {np.mean([d for s, d in means if s == settings]):+.4f}", end="")
    print()


if __name__ == "__main__":
    main()

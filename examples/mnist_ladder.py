"""MNIST step by step: guessing, one layer, a plain network, a better one; each with its price.

The images come from the folder named by XPNN_DATA, else from the cache, else they are fetched (11 MB).

Run: python examples/mnist_ladder.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.errors import DataError


def images(quick):
    """Return training and test images; for a quick run the small digits that scikit-learn carries."""
    if not quick:
        return xpnn.data.load_mnist()
    X, y = xpnn.data.load_digits()
    X_train, X_test, y_train, y_test = xpnn.data.train_test_split(X, y, test_size=0.3, seed=0)
    return X_train, y_train, X_test, y_test


def main() -> None:
    """Climb, and draw how far each step gets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="small digits and few epochs, for tests")
    parser.add_argument("--out", default="runs/mnist_ladder", help="folder for the picture")
    args = parser.parse_args()
    try:
        X, y, X_test, y_test = images(args.quick)
    except DataError as error:
        print(f"skipped: MNIST is neither here nor can it be fetched. {error}")
        return
    n = X.shape[1]
    plain = [n, 32, 16, 10] if args.quick else [n, 128, 64, 10]
    better = [n, 64, 32, 10] if args.quick else [n, 256, 128, 10]
    steps = {  # name: (widths, dropout, schedule, epochs)
        "logistic": ([n, 10], 0.0, None, 10 if args.quick else 8),
        "plain": (plain, 0.0, None, 20 if args.quick else 6),
        "better": (better, 0.2, xpnn.CosineDecay(), 20),
    }
    right = {"guess": float(np.bincount(y_test, minlength=10).max() / len(y_test))}
    params, seconds, curves = {"guess": 0}, {"guess": 0.0}, {}
    print(f"always the commonest class: {right['guess']:.1%} of {len(y_test):,} test images")
    for name, (sizes, dropout, schedule, epochs) in steps.items():
        net = xpnn.mlp(sizes, "relu", dropout=dropout, backend=args.backend, seed=0)
        trainer = xpnn.Trainer(
            net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.004 if args.quick else 0.001), schedule=schedule
        )
        history = trainer.fit(X, y, epochs=epochs, batch_size=32 if args.quick else 64, X_val=X_test, y_val=y_test)
        right[name] = trainer.evaluate(X_test, y_test)["accuracy"]
        params[name], seconds[name], curves[name] = net.n_params, sum(history["seconds"]), history["val_accuracy"]
        print(
            f"{name:8} {'-'.join(map(str, sizes)):14}: {net.n_params:7,} parameters, {epochs:2} epochs in "
            f"{seconds[name]:.0f} s, {right[name]:.2%} right"
        )

    figure = Figure(figsize=(11.5, 4.2), layout="constrained")
    ladder, course = figure.subplots(1, 2)
    wrong = {name: 100 * (1 - share) for name, share in right.items()}
    ladder.bar(list(wrong), list(wrong.values()), color=[xpnn.plots.OKABE_ITO[k] for k in range(4)])
    for place, name in enumerate(wrong):
        ladder.annotate(f"{wrong[name]:.1f} %", (place, wrong[name]), ha="center", va="bottom")
    ladder.set(title="Test images that come out wrong", ylabel="per cent", yscale="log", ylim=(None, 150))
    for k, (name, shares) in enumerate(curves.items(), 1):
        course.plot(range(1, len(shares) + 1), shares, color=xpnn.plots.OKABE_ITO[k], label=name)
    course.set(title="Test images right, by epoch", xlabel="epoch", ylim=(0.85, 1.0))
    course.legend(loc="lower right")

    if not (right["guess"] < 0.13 and right["logistic"] > right["guess"] + 0.7):
        raise SystemExit(f"expected one layer to be far above guessing, got {right}")
    if not right["logistic"] < right["plain"] < right["better"] + (0.015 if args.quick else 0.0):
        raise SystemExit(f"expected each step to get further, got {right}")
    if not args.quick and not (0.92 < right["logistic"] < 0.935 and right["plain"] > 0.97 and right["better"] > 0.98):
        raise SystemExit(f"expected about 92.4 %, 97.5 % and above 98 %, got {right}")
    print(
        f"Guessing gets {right['guess']:.1%} of the images, one layer {right['logistic']:.1%}, a plain network "
        f"{right['plain']:.1%}, a wider one with dropout and a falling rate {right['better']:.1%}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'mnist_ladder.png')}")


if __name__ == "__main__":
    main()

"""Squared error's gradient fades where a sigmoid is surely wrong, cross-entropy's does not; many labels at once.

Run: python examples/losses.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

LABELS = {"even": (0, 2, 4, 6, 8), "has a hole": (0, 6, 8, 9), "5 or more": (5, 6, 7, 8, 9)}


def loss_and_gradient(loss, last, z, backend):
    """Loss of each sample and its gradient to the score z, for the target 1; `last` is the network's last layer."""
    net = xpnn.Sequential(last, n_in=1, backend=backend, dtype="float64")
    values, slopes = [], []
    for score in z:
        out, caches = net.forward(np.asarray([[score]]))
        value, d = loss.value_and_grad(out, net.backend.asarray([[1.0]]))
        values.append(float(xpnn.to_numpy(value)))
        slopes.append(float(xpnn.to_numpy(net.backward(d, caches, need_dx=True))[0, 0]))
    return np.asarray(values), np.asarray(slopes)


def main() -> None:
    """Compare two losses behind a sigmoid; one class against rows of probabilities; three labels for each digit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/losses", help="folder for the picture")
    args = parser.parse_args()
    backend = xpnn.get_backend(args.backend, "float64")

    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    z = np.linspace(-8, 4, 61)
    a = 1 / (1 + np.exp(-z))
    cases = {
        "squared error": (xpnn.MeanSquaredError(), xpnn.Sigmoid(), (a - 1) ** 2, 2 * (a - 1) * a * (1 - a)),
        "binary cross-entropy": (xpnn.BinaryCrossEntropy(), xpnn.Identity(), -np.log(a), a - 1),
    }
    at_worst = {}
    for (name, (loss, last, value, slope)), colour in zip(cases.items(), xpnn.plots.OKABE_ITO, strict=False):
        got = loss_and_gradient(loss, last, z, args.backend)
        if max(np.abs(got[0] - value).max(), np.abs(got[1] - slope).max()) > 1e-12:
            raise SystemExit(f"{name}: expected the formulas' values")
        at_worst[name] = got[1][0]
        left.plot(z, got[0], color=colour, label=name)
        middle.plot(z, got[1], color=colour, label=name)
        print(
            f"{name:20}: at a score of -8 for a target of 1 the loss is {got[0][0]:.4f}, its gradient {got[1][0]:+.5f}"
        )
    left.set(title="Loss for the target 1, behind a sigmoid", xlabel="score z", ylabel="loss")
    middle.set(title="Its gradient to the score", xlabel="score z", ylabel="gradient")
    left.legend(loc="upper right")
    # Convex is what bends upwards everywhere: squared error behind a sigmoid does not, cross-entropy does.
    bends = {name: np.diff(value, n=2).min() for name, (_, _, value, _) in cases.items()}
    turn = z[1:-1][np.diff(cases["squared error"][2], n=2) < 0].max()
    left.axvspan(z[0], turn, color="0.9", zorder=0)
    left.text(z[0] + 0.3, 0.15, "here squared error\nbends down: not convex", fontsize=8)
    print(f"least bend: squared error {bends['squared error']:.1e}, cross-entropy {bends['binary cross-entropy']:.1e}")
    if not (bends["squared error"] < -1e-4 and bends["binary cross-entropy"] > 0):
        raise SystemExit(
            f"expected cross-entropy to be convex and squared error behind a sigmoid not to be, got {bends}"
        )
    if not (abs(at_worst["squared error"]) < 1e-3 and abs(at_worst["binary cross-entropy"]) > 0.99):
        raise SystemExit(f"expected only the squared error's gradient to fade, got {at_worst}")

    scores, classes = np.random.default_rng(0).standard_normal((6, 4)), np.asarray([0, 3, 1, 1, 2, 0])
    by_number, _ = xpnn.CrossEntropy().value_and_grad(
        backend.asarray(scores), backend.asarray(classes, dtype=backend.index_dtype)
    )
    by_row, _ = xpnn.CrossEntropy().value_and_grad(backend.asarray(scores), backend.asarray(np.eye(4)[classes]))
    by_hand = np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(6), classes])
    difference = max(abs(float(xpnn.to_numpy(v)) - by_hand) for v in (by_number, by_row))
    print(f"categorical cross-entropy of class numbers, of one-hot rows and by hand differ by {difference:.1e}")
    if difference > 1e-12:
        raise SystemExit("expected class numbers and one-hot rows to mean the same")

    X, digit = xpnn.data.load_digits()
    y = np.stack([np.isin(digit, digits) for digits in LABELS.values()], axis=1).astype(float)
    X_train, X_test, y_train, y_test = xpnn.data.train_test_split(X, y, test_size=0.3, seed=0, stratify=False)
    net = xpnn.mlp([64, 32, 3], backend=args.backend, seed=0)
    trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(multilabel=True), xpnn.Adam(lr=0.01))
    trainer.fit(X_train, y_train, epochs=15 if args.quick else 40, batch_size=64)
    right_each = ((xpnn.to_numpy(trainer.predict_proba(X_test)) > 0.5) == (y_test > 0.5)).mean(axis=0)
    always = np.maximum(y_test.mean(axis=0), 1 - y_test.mean(axis=0))
    places = np.arange(3)
    right.bar(places - 0.2, right_each, 0.4, color=xpnn.plots.OKABE_ITO[0], label="network")
    right.bar(places + 0.2, always, 0.4, color="0.7", label="the commoner answer")
    right.set(title="Three labels for each digit", ylabel="share of new images", ylim=(0, 1.25))
    right.set_xticks(places, list(LABELS))
    right.legend(loc="upper center", ncols=2)
    print("many labels: " + ", ".join(f"{n} {s:.1%}" for n, s in zip(LABELS, right_each, strict=True)))
    if right_each.min() < 0.95:
        raise SystemExit(f"expected each label to be right on 95 % of new images, got {right_each}")
    print(
        f"Where a sigmoid is surely wrong, squared error's gradient is {abs(at_worst['squared error']):.5f}, "
        f"cross-entropy's {abs(at_worst['binary cross-entropy']):.5f}; three sigmoids learn three labels at once."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'losses.png')}")


if __name__ == "__main__":
    main()

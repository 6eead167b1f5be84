"""Early stopping: training ends when the validation loss no longer falls, and the weights of its best epoch return.

Run: python examples/early_stopping.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Train to the end and with early stopping from one start, compare on rows that neither has seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/early_stopping", help="folder for the picture")
    args = parser.parse_args()
    epochs, patience = 80 if args.quick else 160, 15

    X, y = xpnn.data.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    train, val, test = order[:200], order[200:700], order[700:]
    labels = y[train].copy()
    wrong = np.random.default_rng(1).permutation(200)[:30]
    labels[wrong] = (labels[wrong] + 1) % 10  # to learn these by heart is to overfit

    results, histories = {}, {}
    stopping = xpnn.EarlyStopping("val_loss", patience=patience)
    for name, callbacks in {"to the end": [], "early stopping": [stopping]}.items():
        net = xpnn.mlp([64, 64, 10], backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.005), callbacks=callbacks)
        histories[name] = trainer.fit(X[train], labels, epochs=epochs, batch_size=50, X_val=X[val], y_val=y[val])
        results[name] = trainer.evaluate(X[test], y[test])
        print(
            f"{name:14}: {len(trainer.history):3} epochs, loss {results[name]['loss']:.3f} and "
            f"{results[name]['accuracy']:.1%} right on new rows; ended by {trainer.stop_reason or 'the last epoch'}"
        )
        if name == "early stopping":
            restored = trainer.evaluate(X[val], y[val])["loss"]
    whole, short = (histories[name] for name in ("to the end", "early stopping"))
    best = int(np.argmin(whole["val_loss"])) + 1
    if stopping.best_epoch != best or abs(restored - min(whole["val_loss"])) > 1e-4:
        raise SystemExit(f"expected the weights of epoch {best}, got those of {stopping.best_epoch} ({restored:.4f})")
    if len(short) != best + patience:
        raise SystemExit(f"expected the end {patience} epochs after the best, got {len(short)} epochs")
    if not results["early stopping"]["loss"] < 0.9 * results["to the end"]["loss"]:
        raise SystemExit("expected early stopping to be better on new rows")

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    ax = figure.subplots()
    for column, colour, label in (("loss", 0, "training"), ("val_loss", 1, "validation")):
        ax.plot(whole["epoch"], whole[column], color=xpnn.plots.OKABE_ITO[colour], label=label)
    ax.axvline(best, color="black", linestyle="--", label=f"best epoch {best}: these weights are kept")
    ax.axvline(len(short), color="black", linestyle=":", label=f"epoch {len(short)}: {patience} without a better one")
    ax.set(title="200 digits, 30 of them with a wrong label", xlabel="epoch", ylabel="cross-entropy", yscale="log")
    figure.legend(loc="outside lower center", ncols=2)
    print(
        f"Stopping after {len(short)} of {epochs} epochs with the weights of epoch {best} brings the loss on new rows "
        f"from {results['to the end']['loss']:.2f} to {results['early stopping']['loss']:.2f}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'early_stopping.png')}")


if __name__ == "__main__":
    main()

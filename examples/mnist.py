# %% [markdown]
# # MNIST
#
# 60,000 handwritten digits of 28 x 28 pixels to learn from, 10,000 to be tested on.

# %% [markdown]
"""MNIST to 98 %: two networks, early stopping, and a look at what the better one gets wrong.

The images come from the folder named by XPNN_DATA, else from the cache, else they are fetched (11 MB).

Run: python examples/mnist.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

# %%
import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.errors import DataError

# %% [markdown]
# ## Reading a confusion matrix
#
# Row $i$, column $j$ counts the images of $i$ that were taken for $j$. Off the diagonal stand the mistakes.


# %%
def most_confused(counts, n):
    """The n pairs (how often, true class, class said) with the most mistakes."""
    off = counts - np.diag(np.diag(counts))
    return sorted(((int(off[i, j]), i, j) for i, j in np.argwhere(off)), reverse=True)[:n]


# %% [markdown]
# ## Training
#
# Adam in batches of 64. A tenth of the training images is held out: when the accuracy on it has not risen for eight
# epochs, training ends and the weights of the best epoch return. The test images are looked at once, at the end.


# %%
def main(argv=None):
    """Train 784-256-128-10 and 784-128-64-10, test, draw the mistakes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="6,000 images and 4 epochs, one network, no download")
    parser.add_argument("--out", default="runs/mnist", help="folder for the picture")
    args = parser.parse_args(argv)
    try:
        X_train, y_train, X_test, y_test = xpnn.data.load_mnist(download=not args.quick)
    except DataError as error:
        print(f"skipped: MNIST is neither here nor can it be fetched. {error}")
        return None
    epochs, least = 30, 0.98
    widths = {"784-256-128-10": ([784, 256, 128, 10], 235_146), "784-128-64-10": ([784, 128, 64, 10], 109_386)}
    if args.quick:
        print("A smaller run: 6,000 images to train on, 2,000 to test, 4 epochs; 98 % takes all 60,000.")
        X_train, y_train, X_test, y_test = X_train[:6000], y_train[:6000], X_test[:2000], y_test[:2000]
        epochs, least = 4, 0.85
        del widths["784-256-128-10"]

    figure = Figure(figsize=(14, 9.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    matrix, mistakes = upper.subplots(1, 2, width_ratios=(1.15, 1))
    curves, confused = lower.subplots(1, 2)
    reached, shares = {}, {}
    for k, (name, (sizes, n_params)) in enumerate(widths.items()):
        net = xpnn.mlp(sizes, "relu", dropout=0.2, backend=args.backend, seed=0)
        if net.n_params != n_params:
            raise SystemExit(f"{name}: expected {n_params:,} parameters, got {net.n_params:,}")
        stopping = xpnn.EarlyStopping("val_accuracy", patience=8)
        trainer = xpnn.Trainer(
            net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.001), schedule=xpnn.CosineDecay(), callbacks=[stopping]
        )
        history = trainer.fit(X_train, y_train, epochs=epochs, batch_size=64, validation_fraction=0.1)
        reached[name] = trainer.evaluate(X_test, y_test)["accuracy"]
        shares[name] = xpnn.to_numpy(trainer.predict_proba(X_test))
        print(
            f"{name}: {n_params:,} parameters, {reached[name]:.2%} of {len(y_test):,} test images right after "
            f"{len(history)} epochs, with the weights of epoch {stopping.best_epoch}"
        )
        if reached[name] < least:
            raise SystemExit(f"{name}: expected at least {least:.0%} of the test images, got {reached[name]:.2%}")
        for column, style, what in (("accuracy", "--", "training, with dropout"), ("val_accuracy", "-", "validation")):
            curves.plot(
                history["epoch"], history[column], style, color=xpnn.plots.OKABE_ITO[k], label=f"{name}, {what}"
            )
    curves.set(title="Accuracy by epoch", xlabel="epoch", ylabel="accuracy", ylim=(0.8 if args.quick else 0.95, 1.0))
    curves.legend(loc="lower right")

    best = max(reached, key=reached.get)
    says = shares[best].argmax(axis=1)
    counts = xpnn.metrics.confusion_matrix(y_test, says)
    if np.trace(counts) != (says == y_test).sum() or counts.sum() != len(y_test):
        raise SystemExit("expected the confusion matrix to count every image once")
    xpnn.plots.plot_confusion_matrix(counts, ax=matrix)
    matrix.set_title(f"{best}: {reached[best]:.2%} right")
    xpnn.plots.plot_misclassified(X_test, y_test, shares[best], ax=mistakes, n=16)
    pairs = most_confused(counts, 8)
    print("Most confused: " + ", ".join(f"{i} taken for {j} ({n} times)" for n, i, j in pairs[:3]) + ".")
    confused.barh([f"{i} taken for {j}" for _, i, j in pairs], [n for n, *_ in pairs], color=xpnn.plots.OKABE_ITO[1])
    confused.set(title="The most confused pairs", xlabel="test images")
    confused.invert_yaxis()
    n, i, j = pairs[0]
    print(
        f"{best} gets {reached[best]:.2%} of {len(y_test):,} test images right; its commonest mistake is "
        f"{i} taken for {j}, {n} times."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'mnist.png')}")
    return figure


# %% tags=["active-py"]
if __name__ == "__main__":
    main()

# %% [markdown] tags=["active-ipynb"]
# ## Change something
#
# The cells above are yours to change. The one below runs them all together, and stops where what is claimed no longer
# holds: that is an answer too.
#
# - Leave out the dropout. Which of the two curves changes more, the one of training rows or the one of validation rows?
# - Which pair is confused most if you train on 1,000 images alone? (`X_train[:1000], y_train[:1000]`)
# - Take `xpnn.SGD(lr=0.1)` for Adam. How many epochs does it want?

# %% tags=["active-ipynb"]
# %matplotlib inline
# main([])

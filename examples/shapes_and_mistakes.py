"""Networks of any depth and width report their shapes; the classic mistakes get a message that names the cure.

Run: python examples/shapes_and_mistakes.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.errors import XpnnError

# name: (widths, parameters counted by hand: (n_in + 1) n_out for each layer)
NETWORKS = {
    "XOR": ([2, 2, 1], 9),
    "one logistic unit": ([12_288, 1], 12_289),
    "MNIST, small": ([784, 128, 64, 10], 109_386),
    "MNIST": ([784, 256, 128, 10], 235_146),
    "autoencoder": ([784, 128, 32, 128, 784], 209_968),
    "forty layers": ([2, *[16] * 39, 1], 10_401),
}


def mistakes(backend):
    """Each classic mistake, the call that makes it, and words of the cure that its message must name."""
    X, y = xpnn.data.make_blobs(30, seed=0)
    net = xpnn.mlp([2, 4, 3], backend=backend)
    state = {name: np.asarray(value) for name, value in net.state_dict().items()}
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam())
    values = xpnn.Trainer(xpnn.mlp([2, 4, 1], backend=backend), xpnn.MeanSquaredError(), xpnn.Adam())
    ends = xpnn.Sequential(xpnn.Linear(3), xpnn.Softmax(), n_in=2, backend=backend)
    return (
        ("samples as columns", lambda: trainer.fit(X.T, y), "X.T"),
        (
            "transposed weights",
            lambda: net.load_state_dict({**state, "0.weight": state["0.weight"].T}),
            "transpose",
        ),
        ("wrong bias", lambda: net.load_state_dict({**state, "0.bias": np.zeros(3)}), "(4,)"),
        ("one sample without a batch axis", lambda: net.predict(X[0]), "reshape(1, -1)"),
        ("images not flattened", lambda: net.predict(np.zeros((5, 28, 28))), "reshape"),
        ("labels in a column", lambda: trainer.fit(X, y.reshape(-1, 1)), "ravel"),
        ("targets of another shape", lambda: values.fit(X, y.astype(float)), "reshape(-1, 1)"),
        ("softmax twice", lambda: xpnn.Trainer(ends, xpnn.CrossEntropy(), xpnn.Adam()), "Remove it"),
        ("numbers from 1 as classes", lambda: trainer.fit(X, y + 1), "y - 1"),
    )


def main() -> None:
    """Report shapes, count parameters, make every mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="there is nothing slow here")
    parser.add_argument("--out", default="runs/shapes_and_mistakes", help="folder for the picture")
    args = parser.parse_args()

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    for k, (name, (widths, by_hand)) in enumerate(NETWORKS.items()):
        net = xpnn.mlp(widths, backend=args.backend)
        report = [row for row in net.check_shapes(widths[0]) if row[0].endswith("Linear")]
        if [report[0][1], *(n_out for *_, n_out in report)] != widths:
            raise SystemExit(f"{name}: expected the widths {widths}, got {report}")
        if net.n_params != by_hand:
            raise SystemExit(f"{name}: expected {by_hand} parameters, got {net.n_params}")
        chain = " → ".join(map(str, widths)) if len(widths) < 8 else f"2 → {len(widths) - 2} times 16 → 1"
        print(f"{name:17}: {chain}, {net.n_params:,} parameters")
        colour = xpnn.plots.OKABE_ITO[k]
        left.plot(range(len(widths)), widths, "o-", color=colour, markersize=4, label=name)
        right.barh(name, net.n_params, color=colour)
        right.text(net.n_params * 1.2, name, f"{net.n_params:,}", va="center", fontsize=9)
    left.set(title="Width of each layer", xlabel="layer (0 is the input)", ylabel="features", yscale="log")
    left.set_xscale("symlog", linthresh=4)
    left.set_xticks([0, 1, 2, 3, 4, 10, 20, 40], [0, 1, 2, 3, 4, 10, 20, 40])
    left.set_xlim(-0.3, 44)
    left.legend(loc="upper right", fontsize=8)
    right.set(title="Parameters", xscale="log", xlim=(1, 5e6), xlabel="weights and biases")
    right.invert_yaxis()

    print("\n" + xpnn.mlp([784, 256, 128, 10], backend=args.backend).summary() + "\n")
    tried = mistakes(args.backend)
    for name, make, cure in tried:
        try:
            make()
        except XpnnError as error:
            print(f"{name}:\n    {error}")
            if cure not in str(error):
                raise SystemExit(f"{name}: expected the message to say {cure!r}") from error
        else:
            raise SystemExit(f"{name}: expected an error")
    print(
        f"{len(NETWORKS)} networks have the parameters counted by hand; each of {len(tried)} mistakes gets its message."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'shapes_and_mistakes.png')}")


if __name__ == "__main__":
    main()

"""A border as it forms, as an animation: two interleaved spirals, from the first guess to epoch 1,000.

Run: python examples/boundary_animation.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

import xpnn


def main() -> None:
    """Record the plane at some epochs while training, write the frames as a GIF."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="three frames up to epoch 100, for tests")
    parser.add_argument("--out", default="runs/boundary_animation", help="folder for the animation")
    args = parser.parse_args()

    epochs = (0, 10, 100) if args.quick else (0, 1, 2, 5, 10, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
    X, y = xpnn.data.make_spirals(300, noise=0.03, seed=0)
    net = xpnn.mlp([2, 16, 16, 2], "tanh", backend=args.backend, seed=0)
    recorder = xpnn.BoundaryRecorder(X, y, epochs=epochs, resolution=60 if args.quick else 120)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.02), callbacks=[recorder])
    trainer.fit(X, y, epochs=epochs[-1], batch_size=100)
    accuracy = trainer.history["accuracy"]
    shares = {epoch: accuracy[epoch - 1] for epoch in (10, 100, 1000) if epoch <= epochs[-1]}
    for epoch, share in shares.items():
        print(f"epoch {epoch:4}: {share:.1%} of the points right, loss {trainer.history['loss'][epoch - 1]:.3f}")

    path = Path(args.out) / "boundary_animation.gif"
    xpnn.plots.animate_training(recorder, path, dpi=60 if args.quick else 90, seconds=0.7)
    with Image.open(path) as picture:
        frames = []
        for k in range(picture.n_frames):
            picture.seek(k)
            frames.append(np.asarray(picture.convert("RGB")).astype(int))
    if len(frames) != len(epochs):
        raise SystemExit(f"expected a frame for each of {len(epochs)} epochs, got {len(frames)}")
    moved = [np.abs(b - a).mean() for a, b in itertools.pairwise(frames)]
    if min(moved) <= 0:
        raise SystemExit("expected every frame to differ from the one before it")
    if not shares[10] < shares[100] or not shares[100] > 0.8 or (not args.quick and shares[1000] < 0.99):
        raise SystemExit(f"expected the border to get better and better, got {shares}")
    print(
        f"In {len(frames)} frames the border winds up: {shares[10]:.0%} of the points are right after 10 epochs, "
        f"{accuracy[-1]:.0%} after {epochs[-1]}."
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    main()

"""One backward pass, number by number: x = 2, w1 = 0.5, ReLU, w2 = 1, sigmoid, target 1.

The pen-and-paper result is loss 0.3133, dL/dw2 = dL/db2 = dL/db1 = -0.2689 and dL/dw1 twice that.

Run: python examples/backprop_by_hand.py [--backend numpy|cupy|torch|strict] [--quick]
"""

import argparse

import numpy as np

import xpnn


def main() -> None:
    """Compute by formula, by xpnn and by differences, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="there is nothing slow here")
    args = parser.parse_args()

    net = xpnn.mlp([1, 1, 1], activation="relu", backend=args.backend, dtype="float64")
    state = {"0.weight": [[0.5]], "0.bias": [0.0], "2.weight": [[1.0]], "2.bias": [0.0]}
    net.load_state_dict({name: np.asarray(value) for name, value in state.items()})
    loss = xpnn.BinaryCrossEntropy()
    x, y = np.asarray([[2.0]]), net.backend.asarray([[1.0]])

    # Forward: z1 = w1 x + b1 = 1, a1 = relu(z1) = 1, z2 = w2 a1 + b2 = 1, p = sigmoid(z2) = 0.7311.
    z2, caches = net.forward(x)
    p = float(xpnn.to_numpy(loss.link(z2))[0, 0])
    print(f"forward : z2 = {float(xpnn.to_numpy(z2)[0, 0]):.4f}, p = sigmoid(z2) = {p:.4f}")

    # Backward: dL/dz2 = p - y; dL/dw2 = (p - y) a1; dL/dz1 = (p - y) w2 [z1 > 0]; dL/dw1 = dL/dz1 x.
    value, dz2 = loss.value_and_grad(z2, y)
    net.backward(dz2, caches)
    print(f"loss    : -log p = {float(xpnn.to_numpy(value)):.4f}")
    by_hand = {"0.weight": (p - 1) * 2, "0.bias": p - 1, "2.weight": p - 1, "2.bias": p - 1}
    for name, expected in by_hand.items():
        got = float(xpnn.to_numpy(net.grads[name]).ravel()[0])
        print(f"dL/d {name:9}: by hand {expected:+.4f}, by xpnn {got:+.4f}")
        if abs(got - expected) > 1e-12:
            raise SystemExit("the two differ")
    print(xpnn.testing.check_gradients(net, loss, x, y))


if __name__ == "__main__":
    main()

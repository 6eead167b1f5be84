# %% [markdown]
# # A whole network in NumPy
#
# Two layers, ReLU and softmax: forward, backward, and a step downhill. Nothing is hidden, so change any line of it.

# %%
import numpy as np
from IPython.display import display
from ipywidgets import FloatLogSlider, FloatSlider, IntSlider, interactive
from matplotlib.figure import Figure

import xpnn

# %% [markdown]
# ## The network
#
# Rows are samples. The probabilities minus the answers, divided by their number, are the error of the last layer; each
# layer hands its error back through its weights, and ReLU lets through what was positive.


# %%
class TwoLayerNet:
    def __init__(self, hidden, scale, seed=0):
        draw = np.random.default_rng(seed).normal
        self.w1, self.b1 = scale * draw(size=(2, hidden)), np.zeros(hidden)
        self.w2, self.b2 = scale * draw(size=(hidden, 2)), np.zeros(2)

    def forward(self, X):
        self.z1 = X @ self.w1 + self.b1
        self.a1 = np.maximum(self.z1, 0)
        z2 = self.a1 @ self.w2 + self.b2
        e = np.exp(z2 - z2.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def step(self, X, y, lr):
        p = self.forward(X)
        d2 = (p - np.eye(2)[y]) / len(y)
        d1 = (d2 @ self.w2.T) * (self.z1 > 0)
        self.w2 -= lr * self.a1.T @ d2
        self.b2 -= lr * d2.sum(axis=0)
        self.w1 -= lr * X.T @ d1
        self.b1 -= lr * d1.sum(axis=0)
        return -np.log(p[range(len(y)), y]).mean()


# %% [markdown]
# ## Train it
#
# `scale` is the spread of the first weights.


# %%
def train(hidden, lr, scale, steps):
    X, y = xpnn.data.make_moons(300, noise=0.2, seed=0)
    net = TwoLayerNet(hidden, scale)
    losses = [net.step(X, y, lr) for _ in range(steps)]
    right = float((net.forward(X).argmax(axis=1) == y).mean())
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    curve, border = figure.subplots(1, 2)
    curve.plot(losses)
    curve.set(xlabel="step", ylabel="cross-entropy", title=f"loss {losses[-1]:.3f}")
    xpnn.plots.plot_decision_boundary(net.forward, X, y, ax=border, output="probabilities", resolution=80)
    border.set_title(f"{right:.1%} right")
    display(figure)
    return round(float(losses[-1]), 6), right


# %% [markdown]
# ## Change it

# %%
panel = interactive(
    train,
    hidden=IntSlider(value=10, min=1, max=60, continuous_update=False),
    lr=FloatSlider(value=0.5, min=0.05, max=3.0, step=0.05, continuous_update=False),
    scale=FloatLogSlider(value=0.5, base=10, min=-3, max=1, continuous_update=False),
    steps=IntSlider(value=200, min=20, max=1000, step=20, continuous_update=False),
)
display(panel)

# %% [markdown]
# ## Questions
#
# - Take `* (self.z1 > 0)` out. Does it still learn? Why?
# - At which spread of the first weights does it not begin to learn, and at which does the loss jump?
# - Write the same with `xpnn.mlp([2, 10, 2], "relu")`: which lines of the class are left?

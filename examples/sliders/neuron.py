# %% [markdown]
# # One neuron, three numbers
#
# A neuron adds up its inputs, each times a weight, and a bias: $z = w_1 x_1 + w_2 x_2 + b$. It says 1 where $z$ is at
# least 0. Move the weights and find those of AND, OR and XOR.

# %%
import numpy as np
from IPython.display import display
from ipywidgets import Dropdown, FloatSlider, interactive
from matplotlib.figure import Figure

import xpnn

# %% [markdown]
# ## What the neuron says
#
# The four points are the inputs; a square wants 1, a circle wants 0. The line is where $z = 0$; the arrow shows to
# which side the neuron says 1.

# %%
GATES = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "NAND": [1, 1, 1, 0], "XOR": [0, 1, 1, 0]}
POINTS = np.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def neuron(gate, w1, w2, b):
    net = xpnn.Sequential(xpnn.Linear(1), xpnn.Step(), n_in=2)
    net.load_state_dict({"0.weight": np.asarray([[w1], [w2]]), "0.bias": np.asarray([b])})
    says = net.predict(POINTS).ravel().astype(int)
    right = int((says == GATES[gate]).sum())
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    ax = figure.subplots()
    for point, wanted in zip(POINTS, GATES[gate], strict=True):
        ax.scatter(*point, s=120, marker="so"[1 - wanted], color=xpnn.plots.OKABE_ITO[wanted], zorder=3)
    w = np.asarray([w1, w2])
    if w.any():
        foot = -b * w / (w @ w)
        ax.axline(foot, foot + np.asarray([-w2, w1]), color="black")
        ax.annotate("", foot + 0.4 * w / np.linalg.norm(w), foot, arrowprops={"arrowstyle": "->", "linewidth": 2})
    ax.set(xlim=(-0.6, 1.6), ylim=(-0.6, 1.6), xlabel="$x_1$", ylabel="$x_2$", title=f"{gate}: {right} of 4 right")
    display(figure)
    return right, says.tolist()


# %% [markdown]
# ## Move them

# %%
panel = interactive(
    neuron,
    gate=Dropdown(options=list(GATES)),
    w1=FloatSlider(value=0.2, min=-2.0, max=2.0, step=0.1),
    w2=FloatSlider(value=0.0, min=-2.0, max=2.0, step=0.1),
    b=FloatSlider(value=-0.5, min=-3.0, max=3.0, step=0.1),
)
display(panel)

# %% [markdown]
# ## Questions
#
# - Which weights make NAND from those of AND?
# - How many points does the best line get right for XOR? Why no more?
# - Double all three numbers. What changes?

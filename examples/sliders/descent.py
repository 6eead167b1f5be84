# %% [markdown]
# # Down a valley: rate and momentum
#
# Gradient descent takes a step against the slope, $p \leftarrow p - \eta g$. In a valley that is steep across and flat
# along, one rate has to serve both.

# %%
import numpy as np
from IPython.display import display
from ipywidgets import FloatLogSlider, FloatSlider, IntSlider, interactive
from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import Zeros
from xpnn.params import ParamSpec, ParamStore

# %% [markdown]
# ## Walk
#
# The height is $(p_1^2 + k\, p_2^2)/2$, with $k$ the steepness across. The optimizer is `xpnn.SGD`, which trains
# networks too.


# %%
def descend(rate, momentum, steepness, steps=60):
    store = ParamStore(xpnn.get_backend("numpy", "float64"), [ParamSpec("p", (2,), Zeros(), decay=True)])
    p, g = store.params["p"], store.param_grads["p"]
    p[...] = [-4.0, 1.0]
    optimizer, path = xpnn.SGD(rate, momentum=momentum), [p.copy()]
    for _ in range(steps):
        g[...] = p * [1.0, steepness]
        optimizer.step(store)
        path.append(p.copy())
    path = np.clip(np.asarray(path), -1e3, 1e3)
    height = float(0.5 * (path[-1] ** 2 @ [1.0, steepness]))
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    ax = figure.subplots()
    x, y = np.meshgrid(np.linspace(-5, 3, 80), np.linspace(-2, 2, 60))
    ax.contour(x, y, 0.5 * (x**2 + steepness * y**2), levels=15, colors="0.8")
    ax.plot(*path.T, "o-", markersize=3, color=xpnn.plots.OKABE_ITO[1])
    ax.set(
        xlim=(-5, 3), ylim=(-2, 2), title=f"height after {steps} steps: {height:.2g}", xlabel="$p_1$", ylabel="$p_2$"
    )
    display(figure)
    return height


# %% [markdown]
# ## Change it

# %%
panel = interactive(
    descend,
    rate=FloatLogSlider(value=0.03, min=-3, max=0, step=0.05),
    momentum=FloatSlider(value=0.0, min=0.0, max=0.98, step=0.02),
    steepness=FloatSlider(value=20.0, min=1.0, max=100.0, step=1.0),
    steps=IntSlider(value=60, min=10, max=200, step=10),
)
display(panel)

# %% [markdown]
# ## Questions
#
# - At a steepness of 20, from which rate on does it leave the valley? Compare with $2/20$.
# - Find the best rate without momentum, then with 0.9. How far apart are the heights?
# - What does too much momentum look like?

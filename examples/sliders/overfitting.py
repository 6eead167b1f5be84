# %% [markdown]
# # Learning by heart, and what holds it back
#
# A tenth of the labels below is wrong. A large network can learn them too, by heart: the training loss falls on, and
# the loss of other rows turns and rises.

# %%
import numpy as np
from IPython.display import display
from ipywidgets import FloatSlider, IntSlider, interactive
from matplotlib.figure import Figure

import xpnn

# %% [markdown]
# ## Two curves
#
# `penalty` is the $\lambda$ of $\lambda \sum W^2$; `dropout` the share of hidden units left out at each step.


# %%
def train(rows, units, penalty, dropout):
    X, y = xpnn.data.make_moons(rows, noise=0.2, seed=0)
    wrong = np.random.default_rng(0).permutation(rows)[: rows // 10]
    y[wrong] = 1 - y[wrong]
    X_new, y_new = xpnn.data.make_moons(300, noise=0.2, seed=1)
    net = xpnn.mlp([2, units, 2], "relu", dropout=dropout, seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.02), regularizer=xpnn.L2(penalty))
    history = trainer.fit(X, y, epochs=60, batch_size=20, X_val=X_new, y_val=y_new)
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.subplots()
    xpnn.plots.plot_history(history, ax=ax, names=["loss", "val_loss"])
    said = ", ".join(finding.name for finding in xpnn.diagnose(history)) or "nothing looks wrong"
    ax.set_title(f"{history['val_accuracy'][-1]:.1%} of new rows right; diagnose: {said}")
    display(figure)
    return round(history["loss"][-1], 4), round(history["val_loss"][-1], 4)


# %% [markdown]
# ## Change it

# %%
panel = interactive(
    train,
    rows=IntSlider(value=80, min=20, max=400, step=20, continuous_update=False),
    units=IntSlider(value=64, min=2, max=128, continuous_update=False),
    penalty=FloatSlider(value=0.0, min=0.0, max=0.02, step=0.001, readout_format=".3f", continuous_update=False),
    dropout=FloatSlider(value=0.0, min=0.0, max=0.8, step=0.05, continuous_update=False),
)
display(panel)

# %% [markdown]
# ## Questions
#
# - Which helps most against the rise: more rows, fewer units, a penalty, dropout?
# - How large may the penalty be before both losses get worse?
# - When does `diagnose` speak of overfitting?

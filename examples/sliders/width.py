# %% [markdown]
# # How many units for two moons?
#
# Every hidden unit adds a bend to the border. Few units cannot bend it enough; many can, and may follow single points.

# %%
from IPython.display import display
from ipywidgets import Dropdown, FloatSlider, IntSlider, interactive
from matplotlib.figure import Figure

import xpnn

# %% [markdown]
# ## Train, and look at new points
#
# The network learns 200 points; drawn and counted are 200 that it has not seen.


# %%
def train(units, activation, noise, epochs):
    X, y = xpnn.data.make_moons(400, noise=noise, seed=0)
    net = xpnn.mlp([2, units, 2], activation, seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.03))
    trainer.fit(X[:200], y[:200], epochs=epochs, batch_size=50)
    known, new = (trainer.evaluate(X[part], y[part])["accuracy"] for part in (slice(0, 200), slice(200, 400)))
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    ax = figure.subplots()
    xpnn.plots.plot_decision_boundary(trainer, X[200:], y[200:], ax=ax, resolution=80)
    ax.set_title(f"{known:.1%} of known points right, {new:.1%} of new ones")
    display(figure)
    return round(known, 4), round(new, 4)


# %% [markdown]
# ## Change it

# %%
panel = interactive(
    train,
    units=IntSlider(value=4, min=1, max=40, continuous_update=False),
    activation=Dropdown(options=["relu", "tanh", "sigmoid", "identity"]),
    noise=FloatSlider(value=0.2, min=0.0, max=0.5, step=0.05, continuous_update=False),
    epochs=IntSlider(value=40, min=5, max=100, step=5, continuous_update=False),
)
display(panel)

# %% [markdown]
# ## Questions
#
# - From how many units on is the border good? Is it the same for tanh?
# - What do 40 units without a nonlinearity ("identity") bring?
# - With a noise of 0.5, where do known and new points part?

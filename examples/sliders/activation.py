# %% [markdown]
# # Activation functions, and where they go flat
#
# A layer without a nonlinearity is a straight line, and a stack of them still is. The function in between bends it.
# Where it is flat, next to no gradient comes through.

# %%
from IPython.display import display
from ipywidgets import Dropdown, FloatSlider, interactive
from matplotlib.figure import Figure

import xpnn

# %% [markdown]
# ## Draw one
#
# The dashed line is the slope. Grey is where it is below a share of its steepest: there the unit is *saturated*.


# %%
def activation(name, width, share):
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.subplots()
    xpnn.plots.plot_activation(name, ax=ax, span=(-width, width), saturation=share)
    steepest = float(max(ax.lines[1].get_ydata()))
    flat = sum(patch.get_width() for patch in ax.patches) / (2 * width)
    ax.set_title(f"{name}: steepest slope {steepest:.2f}, saturated on {flat:.0%}")
    display(figure)
    return round(steepest, 3), round(flat, 3)


# %% [markdown]
# ## Change it

# %%
panel = interactive(
    activation,
    name=Dropdown(options=["sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu"]),
    width=FloatSlider(value=6.0, min=1.0, max=12.0, step=0.5),
    share=FloatSlider(value=0.05, min=0.0, max=0.5, step=0.01),
)
display(panel)

# %% [markdown]
# ## Questions
#
# - What is the steepest slope of the sigmoid? What is left of a gradient after ten of them, at most?
# - Which functions are flat on one side only, and which on none?
# - Which fall below zero and come back?

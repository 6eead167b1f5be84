r"""Pictures of training and of what was learnt, drawn with matplotlib.

Every function returns a matplotlib Axes and takes ``ax=`` to draw into a figure of yours.  Without it a fresh
`matplotlib.figure.Figure` is made, which no window manager knows of: nothing pops up and nothing has to be
closed.  Show it in a notebook with ``ax.figure``, or write it with `save_figure`.
Figures of your own keep labels apart best with ``layout="constrained"``.

Colours are the palette of Okabe and Ito [1]_ and the map cividis [2]_, which people with any of the common
colour vision deficiencies can tell apart; marker shapes and line styles repeat what the colours say.
matplotlib is imported when the first picture is drawn.

References
----------
.. [1] Okabe and Ito, "Color Universal Design", 2002 (revised 2008), without its yellow: too pale on white.
.. [2] Nuñez, Anderton and Renslow, "Optimizing colormaps with consideration for color vision deficiency",
   PLOS ONE 13(7), 2018.
"""

from ._figure import OKABE_ITO, save_figure
from .activation import plot_activation
from .animation import animate_training
from .boundary import plot_decision_boundary
from .confusion import plot_confusion_matrix
from .gradients import plot_gradient_flow
from .history import history_figure, plot_history
from .misclassified import plot_misclassified
from .rates import plot_lr_finder, plot_schedule
from .search import plot_search
from .weights import plot_weights

__all__ = [
    "OKABE_ITO",
    "animate_training",
    "history_figure",
    "plot_activation",
    "plot_confusion_matrix",
    "plot_decision_boundary",
    "plot_gradient_flow",
    "plot_history",
    "plot_lr_finder",
    "plot_misclassified",
    "plot_schedule",
    "plot_search",
    "plot_weights",
    "save_figure",
]

"""Tables: from columns as people hold them to predictions, in one object.

`TabularClassifier` and `TabularRegressor` take frames and arrays as they are, choose a recipe for them, train,
calibrate, predict, explain and save.
"""

from .classifier import TabularClassifier
from .members import Fitted, fit_members, make_encoder
from .recipe import PRESETS, Recipe, TableShape, choose_recipe
from .regressor import TabularRegressor

__all__ = [
    "PRESETS",
    "Fitted",
    "Recipe",
    "TableShape",
    "TabularClassifier",
    "TabularRegressor",
    "choose_recipe",
    "fit_members",
    "make_encoder",
]

"""Losses on raw network outputs, each with its gradient."""

from .loss import BinaryCrossEntropy, CrossEntropy, Focal, Hinge, Loss, PoissonNLL
from .members import MemberMean
from .values import Huber, MeanAbsoluteError, MeanSquaredError, Pinball

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Focal",
    "Hinge",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MemberMean",
    "Pinball",
    "PoissonNLL",
]

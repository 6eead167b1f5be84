"""Optimizers: rules on the flat buffers of a `ParamStore`."""

from .base import Optimizer
from .first_order import SGD, AdaGrad, Adam, AdamW, Lion, Momentum, NAdam, RMSProp

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Lion", "Momentum", "NAdam", "Optimizer", "RMSProp"]

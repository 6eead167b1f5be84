"""Optimizers: rules on the flat buffers of a `ParamStore`."""

from .base import Optimizer
from .first_order import SGD, AdaGrad, Adam, AdamW, Lion, Momentum, NAdam, RMSProp
from .lbfgs import LBFGS, LBFGSResult
from .muon import Muon

__all__ = [
    "LBFGS",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "LBFGSResult",
    "Lion",
    "Momentum",
    "Muon",
    "NAdam",
    "Optimizer",
    "RMSProp",
]

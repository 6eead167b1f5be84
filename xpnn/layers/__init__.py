"""Layers: each a forward pass with its hand-derived backward pass beside it."""

from .activations import (
    ELU,
    GELU,
    SELU,
    Identity,
    LeakyReLU,
    Mish,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Step,
    Tanh,
    get_activation,
)
from .base import Layer
from .dropout import Dropout
from .embedding import Embedding
from .linear import Linear
from .normalization import BatchNorm, LayerNorm, RMSNorm
from .residual import Residual

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "BatchNorm",
    "Dropout",
    "Embedding",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Mish",
    "PReLU",
    "RMSNorm",
    "ReLU",
    "Residual",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Step",
    "Tanh",
    "get_activation",
]

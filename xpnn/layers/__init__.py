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
from .columns import Columns
from .dropout import Dropout
from .embedding import Embedding
from .linear import Linear
from .members import MemberHead, MemberLinear, MemberScale
from .normalization import BatchNorm, LayerNorm, RMSNorm
from .numerical import NumericalEmbedding
from .parametric import ParametricActivation
from .residual import Residual
from .scale import Scale

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "BatchNorm",
    "Columns",
    "Dropout",
    "Embedding",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MemberHead",
    "MemberLinear",
    "MemberScale",
    "Mish",
    "NumericalEmbedding",
    "PReLU",
    "ParametricActivation",
    "RMSNorm",
    "ReLU",
    "Residual",
    "Scale",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Step",
    "Tanh",
    "get_activation",
]

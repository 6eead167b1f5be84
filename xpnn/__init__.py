"""xpnn: neural networks for people who already hold arrays.

Layers, losses and optimizers are written once against the Python Array API standard, with hand-derived backward
passes, and train on NumPy, CuPy, PyTorch tensors and array-api-strict alike.

Examples
--------
>>> import xpnn
>>> X, y = xpnn.data.make_moons(300, noise=0.1, seed=0)
>>> net = xpnn.mlp([2, 16, 2], activation="tanh", seed=0)
>>> trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.02))
>>> history = trainer.fit(X, y, epochs=40, batch_size=32)
>>> history["accuracy"][-1] > 0.97
True
"""

from . import data, errors, initializers, inspection, metrics, plots, regularizers, schedules, search, testing
from .backend import Backend, available_backends, get_backend, to_numpy
from .checkpoint import load, save
from .errors import XpnnError
from .layers import (
    ELU,
    GELU,
    SELU,
    BatchNorm,
    Dropout,
    Embedding,
    Identity,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    Mish,
    PReLU,
    ReLU,
    Residual,
    RMSNorm,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Step,
    Tanh,
)
from .losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    Hinge,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Pinball,
    PoissonNLL,
)
from .model import Sequential, mlp
from .optim import LBFGS, SGD, AdaGrad, Adam, AdamW, Lion, Momentum, Muon, NAdam, Optimizer, RMSProp
from .regularizers import L1, L2, SpectralNorm
from .schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    OneCycle,
    Plateau,
    StepDecay,
    WarmRestarts,
    Warmup,
)
from .training import (
    EMA,
    BoundaryRecorder,
    Callback,
    Checkpoint,
    CSVLogger,
    Diagnose,
    EarlyStopping,
    History,
    LambdaCallback,
    LRFinderResult,
    ProgressBar,
    TensorBoard,
    TimeLimit,
    Trainer,
    diagnose,
    find_lr,
)

__version__ = "0.1.0"

__all__ = [
    "ELU",
    "EMA",
    "GELU",
    "L1",
    "L2",
    "LBFGS",
    "SELU",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Backend",
    "BatchNorm",
    "BinaryCrossEntropy",
    "BoundaryRecorder",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "Constant",
    "CosineDecay",
    "CrossEntropy",
    "Diagnose",
    "Dropout",
    "EarlyStopping",
    "Embedding",
    "ExponentialDecay",
    "Focal",
    "Hinge",
    "History",
    "Huber",
    "Identity",
    "InverseTimeDecay",
    "LRFinderResult",
    "LambdaCallback",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Lion",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Mish",
    "Momentum",
    "Muon",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "PReLU",
    "Pinball",
    "Plateau",
    "PoissonNLL",
    "ProgressBar",
    "RMSNorm",
    "RMSProp",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SpectralNorm",
    "Step",
    "StepDecay",
    "Tanh",
    "TensorBoard",
    "TimeLimit",
    "Trainer",
    "WarmRestarts",
    "Warmup",
    "XpnnError",
    "__version__",
    "available_backends",
    "data",
    "diagnose",
    "errors",
    "find_lr",
    "get_backend",
    "initializers",
    "inspection",
    "load",
    "metrics",
    "mlp",
    "plots",
    "regularizers",
    "save",
    "schedules",
    "search",
    "testing",
    "to_numpy",
]

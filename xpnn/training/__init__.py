"""The training loop, its history and its callbacks."""

from .callbacks import (
    EMA,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    ProgressBar,
    TimeLimit,
)
from .diagnosis import Diagnose, DiagnosisWarning, Finding, diagnose
from .history import History
from .trainer import Trainer

__all__ = [
    "EMA",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "Diagnose",
    "DiagnosisWarning",
    "EarlyStopping",
    "Finding",
    "History",
    "LambdaCallback",
    "ProgressBar",
    "TimeLimit",
    "Trainer",
    "diagnose",
]

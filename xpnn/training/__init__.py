"""The training loop, its history and its callbacks."""

from .boundary import BoundaryRecorder
from .callbacks import EMA, Callback, Checkpoint, CSVLogger, EarlyStopping, LambdaCallback, TimeLimit
from .diagnosis import Diagnose, DiagnosisWarning, Finding, diagnose
from .history import History
from .lr_finder import LRFinderResult, find_lr
from .progress import ProgressBar
from .tensorboard import TensorBoard
from .trainer import Trainer

__all__ = [
    "EMA",
    "BoundaryRecorder",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "Diagnose",
    "DiagnosisWarning",
    "EarlyStopping",
    "Finding",
    "History",
    "LRFinderResult",
    "LambdaCallback",
    "ProgressBar",
    "TensorBoard",
    "TimeLimit",
    "Trainer",
    "diagnose",
    "find_lr",
]

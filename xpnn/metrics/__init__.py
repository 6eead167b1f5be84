"""What a person reads beside the loss: metrics of an epoch, summed on the device, and tables of answers on the host."""

from .confusion import confusion_matrix, most_confused, per_class
from .metric import (
    R2,
    Accuracy,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    RootMeanSquaredError,
    TopK,
    get_metric,
    mode_of,
)

__all__ = [
    "R2",
    "Accuracy",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "RootMeanSquaredError",
    "TopK",
    "confusion_matrix",
    "get_metric",
    "mode_of",
    "most_confused",
    "per_class",
]

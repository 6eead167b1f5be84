"""What a person reads beside the loss: metrics of an epoch, summed on the device; and scores of finished predictions.

Classes such as `Accuracy` are for `Trainer(metrics=...)`; functions such as `roc_auc_score`, named as in scikit-learn,
take true answers and predictions on the host.
"""

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
from .ranking import average_precision_score, best_threshold, roc_auc_score
from .scores import (
    Score,
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    get_score,
    log_loss,
    matthews_corrcoef,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)

__all__ = [
    "R2",
    "Accuracy",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "RootMeanSquaredError",
    "Score",
    "TopK",
    "accuracy_score",
    "average_precision_score",
    "balanced_accuracy_score",
    "best_threshold",
    "brier_score_loss",
    "confusion_matrix",
    "f1_score",
    "get_metric",
    "get_score",
    "log_loss",
    "matthews_corrcoef",
    "mean_absolute_error",
    "mean_squared_error",
    "mode_of",
    "most_confused",
    "per_class",
    "r2_score",
    "roc_auc_score",
    "root_mean_squared_error",
]

"""scikit-learn's own callbacks (its version 1.9 and later) around our training loop."""

from __future__ import annotations

from typing import Any

from ..training import Callback, Trainer

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands where scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "Tasks", "with_callbacks"]


class Tasks(Callback):
    """The tasks of one fit, as scikit-learn's callbacks see them: the fit, and in it each epoch or L-BFGS iteration."""

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self.estimator, self.data = estimator, {"X": X, "y": y}
        if sample_weight is not None:
            self.data["metadata"] = {"sample_weight": sample_weight}
        self._context: Any = None
        if hasattr(estimator, "_skl_callbacks"):
            self._context = estimator._init_callback_context(max_subtasks=estimator.max_iter)
            self._context.call_on_fit_task_begin(estimator=estimator, **self.data)

    def on_epoch_begin(self, trainer: Trainer) -> None:
        if self._context is not None:
            self._iteration = self._context.subcontext(task_name="iteration")
            self._iteration.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def on_epoch_end(self, trainer: Trainer) -> None:
        if self._context is not None and self._end(self._iteration):
            trainer.stop("a scikit-learn callback asked for it")

    def end(self) -> None:
        """Say that the fit has ended."""
        if self._context is not None:
            self._end(self._context)

    def _end(self, context: Any) -> Any:
        """Say that a task has ended, and return whether a callback asks to stop."""
        return context.call_on_fit_task_end(
            estimator=self.estimator, **self.data, reconstruction_attributes=self._attributes
        )

    def _attributes(self) -> dict[str, Any]:
        """Return what a fitted estimator of this moment needs; the network is copied, for training goes on."""
        fitted = {name: value for name, value in vars(self.estimator).items() if name.endswith("_")}
        return {**fitted, "net_": self.estimator.net_.copy(), "_optimizer_": None}

"""A trained network together with what stands around it: encoding before, labels after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import losses
from .arguments import as_real
from .backend import Backend, to_numpy
from .checkpoint import build, read, write
from .config import Custom, from_config, known_classes, reading, to_config
from .data.csv import Table
from .data.encoder import TableEncoder
from .data.scaling import MinMax, Standardizer
from .data.targets import ClassTarget, NumberTarget, target_from_dict
from .errors import DataError, FileFormatError, ShapeError
from .files import PathLike
from .losses import Loss
from .metrics import confusion_matrix
from .model import Sequential
from .schema import ANY, expect
from .staging import recover

__all__ = ["MODEL", "Predictor", "Target", "model_file"]

#: The name of a model in the folder of a run.
MODEL = "model.safetensors"

Target = ClassTarget | NumberTarget
Encoder = TableEncoder | Standardizer | MinMax


@dataclass
class Predictor:
    """From raw data to answers in the target's own terms.

    Examples
    --------
    >>> import numpy as np
    >>> import xpnn
    >>> from xpnn.data.targets import ClassTarget
    >>> net = xpnn.mlp([2, 2], init="zeros")
    >>> predictor = Predictor(net, xpnn.CrossEntropy(), ClassTarget().fit(["no", "yes"]))
    >>> predictor.predict(np.zeros((1, 2))).tolist(), predictor.predict_proba(np.zeros((1, 2))).tolist()
    (['no'], [[0.5, 0.5]])
    """

    #: The trained network.
    net: Sequential
    #: What it was trained on; its link gives probabilities.
    loss: Loss
    #: Turns class numbers into labels, or standardized values into the target's units.
    target: Target
    #: Turns raw data into inputs, as fitted on the training rows; None takes them as they are.
    encoder: Encoder | None = None
    #: JSON-able facts: name of the target column, source, options, scores, versions.
    info: dict[str, Any] = field(default_factory=dict, repr=False)

    def inputs(self, raw: Any) -> np.ndarray:
        """Encode raw data: a table from `load_csv`, a frame or a mapping of columns, or an array of shape (n, ...)."""
        if isinstance(self.encoder, TableEncoder):
            if not _has_columns(raw):
                raise ShapeError("Predictor: this model was trained on a table. Pass a dict of columns by name.")
            return self.encoder.transform(raw)
        if isinstance(raw, Mapping | Table):
            raise ShapeError("Predictor: this model was trained on arrays, not on a table. Pass an array of rows.")
        names = getattr(self.encoder, "feature_names_in", None)
        X = to_numpy(as_real(raw, "Predictor", "X", objects=True, fitted=names))
        if X.ndim == 0:
            raise ShapeError(
                "Predictor: expected an array of rows, got a single value. Pass an array of shape (n, ...)."
            )
        X = X.reshape(len(X), -1) if X.ndim != 2 else X
        if X.shape[1] != self.net.n_in:
            raise ShapeError(
                f"Predictor: expected {self.net.n_in} features in each row, got {X.shape[1]}. "
                "Pass data like those the model was trained on."
            )
        return X if self.encoder is None else np.asarray(self.encoder.transform(X))

    def predict_proba(self, raw: Any) -> np.ndarray:
        """Return what the loss's link makes of the outputs, (n, n_out), on the host."""
        return to_numpy(self.loss.link(self.net.predict(self.inputs(raw))))

    def predict(self, raw: Any) -> np.ndarray:
        """Return labels, or values in the target's own units, of shape (n,)."""
        return self.decode(self.predict_proba(raw))

    def decode(self, out: np.ndarray) -> np.ndarray:
        """Turn what `predict_proba` returned into labels or values."""
        if isinstance(self.target, NumberTarget):
            return self.target.decode(out, clip=True)  # no larger than anything seen in training
        return self.target.decode(out.argmax(axis=-1))

    def score(self, raw: Any, y: Any, *, strip: str | None = None) -> dict[str, Any]:
        """Compare predictions for raw data with the target `y` (n,) in its own terms.

        `strip` is the ending to take off labels, as in `ClassTarget.encode`.  Returns ``rows``, and for classes
        ``accuracy``, ``cross_entropy`` and ``confusion`` (lists, rows true), for numbers ``rmse``, ``mae`` and ``r2``
        in the target's own units.
        """
        out = self.predict_proba(raw)
        if isinstance(self.target, NumberTarget):
            truth = self.target.numbers(y)
            _check_rows(out, truth)
            error = self.decode(out) - truth
            total = float(np.square(truth - truth.mean()).sum())
            return {
                "rmse": float(np.sqrt(np.square(error).mean())),
                "mae": float(np.abs(error).mean()),
                "r2": 1.0 - float(np.square(error).sum()) / total if total else float("nan"),
                "rows": len(truth),
            }
        codes = self.target.encode(y, strip=strip)
        _check_rows(out, codes)
        matrix = confusion_matrix(codes, out.argmax(axis=-1), n_classes=len(self.target.classes))
        likely = np.maximum(out[np.arange(len(codes)), codes].astype(np.float64), 1e-12)
        return {
            "accuracy": float(np.trace(matrix) / len(codes)),
            "cross_entropy": float(-np.log(likely).mean()),
            "confusion": matrix.tolist(),
            "rows": len(codes),
        }

    # -- files ----------------------------------------------------------------------------------------------
    def save(self, path: PathLike) -> None:
        """Write network, encoding and facts to one safetensors file."""
        extra = {
            "loss": to_config(self.loss),
            "target": self.target.to_dict(),
            "encoder": to_config(self.encoder),
            "info": self.info,
        }
        write(path, self.net.state_dict(), {"network": self.net.config(), "extra": {"predictor": extra}})

    @classmethod
    def load(cls, path: PathLike, *, backend: str | Backend = "numpy", custom: Custom = ()) -> Predictor:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path
            The file, or the folder of a run with its ``model.safetensors``.
        backend : str or Backend, default="numpy"
            Where the network shall live: by name in the dtype it was saved with, as a `Backend` in its dtype.
        custom : class or sequence of classes, default=()
            Layers, initializers, losses and encoders of your own that it contains.

        Raises
        ------
        DataError, FileFormatError
            If the file is absent, broken, or holds a bare network.
        OptionError
            If it contains a class that is not xpnn's, and not given.
        """
        path = model_file(path)
        tensors, meta = read(path)
        state = meta.get("extra", {}).get("predictor")
        if state is None or "network" not in meta:
            raise FileFormatError(
                f"Predictor.load: expected a model from `xpnn train`, got {path}, which holds a bare network without "
                "the encoding of its data. Use xpnn.load in Python, or train with `xpnn train`."
            )
        where = "Predictor.load"
        encoders = known_classes(custom=(TableEncoder, Standardizer, MinMax)) | known_classes(custom=custom)
        with reading(where, "what Predictor.save writes", got=f"a bad entry in {path}"):
            expect(state, {"info": {str: ANY}})
            made = cls(
                build(meta["network"], tensors, backend=backend, custom_layers=custom, where=where),
                from_config(state["loss"], known_classes((losses, Loss), custom=custom), where=where),
                target_from_dict(state["target"]),
                from_config(state["encoder"], encoders, where=where),
                state["info"],
            )
            if problem := made._misfit():
                raise ValueError(problem)
        return made

    def _misfit(self) -> str | None:
        """Return which of the parts does not go with the others, as in a file that was changed."""
        if not isinstance(self.loss, Loss):
            return f"a loss that is {self.loss!r}"
        n_in, n_out, encoder, target = self.net.n_in, self.loss.n_outputs(self.net.n_out), self.encoder, self.target
        if isinstance(encoder, TableEncoder):
            n_given: int = len(encoder.feature_names_out)
        else:
            n_given = n_in if encoder is None or encoder.shift is None else encoder.shift.size
        if n_given != n_in:
            return f"an encoding into {n_given} columns for a network of {n_in} inputs"
        if isinstance(target, ClassTarget) and len(target.classes) != n_out:
            return f"{len(target.classes)} classes for a network of {n_out} outputs"
        return None


def _has_columns(raw: Any) -> bool:
    return isinstance(raw, Mapping | Table) or hasattr(raw, "columns")


def model_file(path: PathLike) -> Path:
    """Return the model's file: `path` itself, or where it is the folder of a run the file in it.

    Raises DataError if it is a folder without one.
    """
    given = Path(path).expanduser()
    recover(given if given.is_dir() else given.parent)  # a model that takes its place with the other files of its run
    if not given.is_dir():
        return given
    if not (file := given / MODEL).is_file():
        raise DataError(
            f"load: expected a model, or a run's folder with {MODEL}, got the folder {path}. Name the file."
        )
    return file


def _check_rows(out: np.ndarray, y: np.ndarray) -> None:
    if len(out) != len(y):
        raise ShapeError(
            f"Predictor.score: expected one target for each row, got {len(y)} for {len(out)} rows. Pass them together."
        )

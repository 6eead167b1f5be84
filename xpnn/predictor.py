"""A trained network together with what stands around it: encoding before, labels after."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import losses
from .arguments import as_real
from .backend import Backend, to_numpy
from .checkpoint import build, read, write
from .config import Custom, from_config, known_classes, reading, to_config, tried_config
from .data.columns import as_columns
from .data.csv import Table
from .data.drift import Drift, drift
from .data.encoded import EncodedRows
from .data.encoder import TableEncoder
from .data.input_schema import InputSchema
from .data.scaling import MinMax, Standardizer
from .data.targets import ClassTarget, NumberTarget, NumberTargets, target_from_dict
from .errors import DataError, FileFormatError, OptionError, ShapeError
from .exports import Exports
from .files import PathLike, as_path
from .frames import in_memory, table_names
from .intervals import Intervals, one_output
from .losses import Loss
from .metrics import confusion_matrix
from .model import Sequential
from .schema import ANY, at_least, expect
from .staging import recover

__all__ = ["MODEL", "Predictor", "Target", "check_predictor", "load_predictor", "model_file", "network_tensors"]

#: The name of a model in the folder of a run.
MODEL = "model.safetensors"

Target = ClassTarget | NumberTarget | NumberTargets
Encoder = TableEncoder | Standardizer | MinMax

#: Before the names of the arrays that belong to the intervals, in a file.
_INTERVALS = "intervals/"
#: Entries that files of older versions do not have.
_LATER = {"temperature": (None, at_least(1e-6, float)), "threshold": (None, at_least(0, float))}
#: Numbers in an array from which on its rows are scaled in slices: more than `Sequential.predict` takes at once.
_LARGE = 1 << 22
_FEW = 64  # rows in lists that are worth a look whether they are plain numbers
_LEAST = 1e-30  # of a probability before its logarithm is taken


@dataclass
class Predictor(Exports):
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
    #: Divides the logarithms of the probabilities of classes, so that they are as often right as they say.
    temperature: float | None = None
    #: Of two classes the second is predicted from this probability on; None: the likelier one.
    threshold: float | None = None
    #: What `predict_interval` needs, for numbers.
    intervals: Intervals | None = field(default=None, repr=False)
    #: Of a table: its columns, and in short what the training rows held of each; None in files of xpnn 0.1.
    schema: InputSchema | None = field(default=None, repr=False)

    @property
    def target_names(self) -> tuple[str, ...]:
        """What the target is called, or each of several; empty where nobody said."""
        if isinstance(self.target, NumberTargets):
            return self.target.names
        name = self.info.get("target")
        return (name,) if isinstance(name, str) else ()

    def inputs(self, raw: Any) -> np.ndarray | EncodedRows:
        """Encode raw data: a table from `load_csv`, a frame or a mapping of columns, or an array of shape (n, ...).

        Of a large table the rows stay packed, see `TableEncoder.encode`.
        """
        if isinstance(self.encoder, TableEncoder):
            few = self.few_rows(raw)
            return self.encoder.encode(self.columns(raw), later=True) if few is None else few
        X = self._matrix(raw)
        return X if self.encoder is None else np.asarray(self.encoder.transform(X))

    def few_rows(self, raw: Any) -> np.ndarray | None:
        """Encode a few rows of a table at once (see `xpnn.data.row_encoder`); None where they ask for a closer look.

        They are plain numbers by place, where the training had an array; else a dict of lists or arrays by name.
        """
        names = self.info.get("features")
        few = self.encoder.few_rows(names) if names and isinstance(self.encoder, TableEncoder) else None
        if few is None:
            return None
        if not self.info.get("by_position"):
            return few.by_name(raw) if type(raw) is dict else None
        if type(raw) is list and len(raw) <= _FEW and all(type(row) is list for row in raw):
            raw = np.asarray(raw) if len(set(map(len, raw))) == 1 else raw
        return few.by_place(raw) if few.takes(raw) else None

    def _matrix(self, raw: Any) -> np.ndarray:
        """Return rows as an array of two axes, not scaled yet."""
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
        return X

    def drift(self, raw: Any, columns: Collection[str] | None = None) -> Drift:
        """Compare raw rows of a table, as `predict` takes them, with what training saw (see `xpnn.data.drift`).

        Of the columns of the schema only those in `columns` are looked at, where it is given.

        Raises
        ------
        OptionError
            If the model is not one of tables, or of a file of xpnn 0.1, which kept no schema.
        """
        if not isinstance(self.encoder, TableEncoder):
            raise OptionError("drift: expected a model of tables, got one of arrays. There are no columns to compare.")
        if self.schema is None:
            raise OptionError(
                "drift: expected a model that knows what its training saw, got one without it, as xpnn 0.1 wrote them. "
                "Train again, or set predictor.schema = InputSchema.of(predictor.encoder, rows)."
            )
        found = drift(self.schema, self.columns(raw), encoder=self.encoder, columns=columns)
        known = {*self.info.get("columns", ()), *self.target_names}
        return replace(found, unused=[name for name in found.unused if name not in known])

    def columns(self, raw: Any) -> Table | dict[str, Any]:
        """Return a table, a frame, a mapping or an array as the encoder of a table takes it: its columns by name."""
        if isinstance(raw, Table):
            return raw
        raw = in_memory(raw)
        columns = as_columns(raw, "Predictor") if _has_columns(raw) else self._named(raw)
        return {str(name): column for name, column in columns.items()}

    def _named(self, raw: Any) -> dict[str, np.ndarray]:
        """Return the columns of an array by name, where the model was trained on an array."""
        names = self.info.get("features")
        if names is None or not self.info.get("by_position"):
            raise ShapeError("Predictor: this model was trained on a table. Pass a dict of columns by name.")
        array = np.asarray(raw)
        if array.ndim != 2 or array.shape[1] != len(names):
            raise ShapeError(
                f"Predictor: expected {len(names)} features in each row, got shape {array.shape}. "
                "Pass data like those the model was trained on."
            )
        return {name: array[:, k] for k, name in enumerate(names)}

    def predict_proba(self, raw: Any) -> np.ndarray:
        """Return what the loss's link makes of the outputs, (n, n_out), on the host; of replicas the mean."""
        encoder = self.encoder
        if isinstance(encoder, TableEncoder) or encoder is None:
            return self.linked(self.inputs(raw))
        X = self._matrix(raw)
        return self.linked(_ScaledRows(encoder, X) if X.size > _LARGE else np.asarray(encoder.transform(X)))

    def linked(self, X: np.ndarray | EncodedRows | _ScaledRows) -> np.ndarray:
        """Return what `predict_proba` does, for encoded rows."""
        return self.link(self.net.predict(X))

    def link(self, outputs: Any) -> np.ndarray:
        """Turn raw outputs (n, n_out), or (K, n, n_out) of replicas, into what `predict_proba` returns, on the host."""
        out = to_numpy(self.loss.link(outputs))
        if out.ndim == 3:
            out = np.add.reduce(out, axis=0) / len(out)
        if self.temperature is None or not isinstance(self.target, ClassTarget):
            return out
        logs = np.log(np.maximum(out.astype(np.float64), _LEAST)) / self.temperature
        shares = np.exp(logs - logs.max(axis=-1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=-1, keepdims=True), dtype=out.dtype)

    def predict(self, raw: Any) -> np.ndarray:
        """Return labels, or values in the target's own units, of shape (n,); of several targets (n, k)."""
        return self.decode(self.predict_proba(raw))

    def predict_interval(self, raw: Any, coverage: float = 0.9) -> np.ndarray:
        """Return lower and upper bounds, (n, 2), that hold the truth in a share `coverage` of rows like the training's.

        Of several targets (n, k, 2); each target has that coverage by itself.  How they are made and what vouches for
        them is in `xpnn.intervals`.

        Raises
        ------
        OptionError
            If the model is one of classes or without held-out rows, or these are too few for the coverage.
        """
        self.check_coverage(coverage)
        X = self.inputs(raw)
        return self.bounds(X, self.linked(X), coverage)

    def bounds(self, X: np.ndarray | EncodedRows, out: np.ndarray, coverage: float) -> np.ndarray:
        """Return what `predict_interval` does, for encoded rows and what `linked` returned for them."""
        intervals, target = self.check_coverage(coverage)
        half = intervals.half_widths(X, coverage) * np.reshape(target.std, (1, -1))
        values = self.decode(out)
        half = half.reshape(values.shape)
        return np.stack([values - half, values + half], axis=-1)

    def check_coverage(self, coverage: float) -> tuple[Intervals, NumberTarget | NumberTargets]:
        """Return what bounds of that coverage are made of, or say why there are none, before anything is computed."""
        if isinstance(self.target, ClassTarget):
            raise OptionError("predict_interval: expected a model of numbers, got one of classes. Use predict_proba.")
        if self.intervals is None:
            raise OptionError(
                "predict_interval: expected a model with held-out rows to vouch for its intervals, got one without. "
                "Train with xpnn.tabular.TabularRegressor and a validation_fraction above 0."
            )
        self.intervals.quantile(coverage)
        return self.intervals, self.target

    def only(self, target: str | int) -> Predictor:
        """Return the predictor of one of several targets, by its name or its place: the network has one output.

        Raises
        ------
        OptionError
            If there is one target, or none like that, or the network does not end in a `Linear`.
        """
        if not isinstance(self.target, NumberTargets):
            raise OptionError("only: expected a predictor of several targets, got one of one. Use it as it is.")
        called = self.target.called
        k = target if isinstance(target, int) else called.index(target) if target in called else len(called)
        if not 0 <= k < len(called):
            raise OptionError(f"only: expected one of the targets {', '.join(called)}, got {target!r}. Check the name.")
        return replace(
            self,
            net=one_output(self.net, k),
            target=self.target.targets[k],
            intervals=None if self.intervals is None else self.intervals.only(k),
            info=self.info | {"target": called[k]},
        )

    def decode(self, out: np.ndarray) -> np.ndarray:
        """Turn what `predict_proba` returned into labels or values."""
        if not isinstance(self.target, ClassTarget):
            return self.target.decode(out, clip=True)  # no larger than anything seen in training
        return self.target.decode(self.codes(out))

    def codes(self, out: np.ndarray) -> np.ndarray:
        """Turn what `predict_proba` returned into class numbers, by the threshold if there is one."""
        if self.threshold is None or out.shape[-1] != 2:
            return np.asarray(out.argmax(axis=-1))
        return (out[:, 1] >= self.threshold).astype(np.int64)

    def score(self, raw: Any, y: Any, *, strip: str | None = None) -> dict[str, Any]:
        """Compare predictions for raw data with the target `y` (n,) in its own terms.

        `strip` is the ending to take off labels, as in `ClassTarget.encode`.  Returns ``rows``, and for classes
        ``accuracy``, ``cross_entropy`` and ``confusion`` (lists, rows true), for numbers ``rmse``, ``mae`` and ``r2``
        in the target's own units, of several targets the means, and a list ``targets`` with those of each.
        """
        return self.score_outputs(self.predict_proba(raw), y, strip=strip)

    def score_outputs(self, out: np.ndarray, y: Any, *, strip: str | None = None) -> dict[str, Any]:
        """Return what `score` does, from what `predict_proba` returned."""
        if not isinstance(self.target, ClassTarget):
            truth = self.target.numbers(y)
            _check_rows(out, truth)
            scores = _number_scores(truth, self.decode(out))
            if isinstance(self.target, NumberTargets):
                scores["targets"] = [
                    {"target": name, **_number_scores(*columns)}
                    for name, *columns in zip(self.target.called, truth.T, self.decode(out).T, strict=True)
                ]
            return scores | {"rows": len(truth)}
        codes = self.target.encode(y, strip=strip)
        _check_rows(out, codes)
        matrix = confusion_matrix(codes, self.codes(out), n_classes=len(self.target.classes))
        likely = np.maximum(out[np.arange(len(codes)), codes].astype(np.float64), 1e-12)
        return {
            "accuracy": float(np.trace(matrix) / len(codes)),
            "cross_entropy": float(-np.log(likely).mean()),
            "confusion": matrix.tolist(),
            "rows": len(codes),
        }

    # -- files ----------------------------------------------------------------------------------------------
    def save(self, path: PathLike) -> None:
        """Write network, encoding and facts to one safetensors file.

        Raises
        ------
        OptionError
            If the loss is of a class of your own that a file cannot hold: it could not be loaded, or as another one.
        """
        later = {
            "temperature": self.temperature,
            "threshold": self.threshold,
            "intervals": None if self.intervals is None else self.intervals.to_dict(),
            "schema": None if self.schema is None else self.schema.to_dict(),
        }
        extra = {
            "loss": tried_config(self.loss, "Predictor.save"),
            "target": self.target.to_dict(),
            "encoder": to_config(self.encoder),
            "info": self.info,
            **{name: value for name, value in later.items() if value is not None},
        }
        beside = {} if self.intervals is None else self.intervals.tensors()
        tensors = self.net.state_dict() | {f"{_INTERVALS}{name}": array for name, array in beside.items()}
        write(path, tensors, {"network": self.net.config(), "extra": {"predictor": extra}})

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
            expect(state, {"info": {str: ANY}, **{k: kind for k, kind in _LATER.items() if k in state}})
            made = cls(
                build(meta["network"], network_tensors(tensors), backend=backend, custom_layers=custom, where=where),
                from_config(state["loss"], known_classes((losses, Loss), custom=custom), where=where),
                target_from_dict(state["target"]),
                from_config(state["encoder"], encoders, where=where),
                state["info"],
                temperature=state.get("temperature"),
                threshold=state.get("threshold"),
                intervals=_read_intervals(state.get("intervals"), tensors, backend=backend, where=where),
                schema=None if state.get("schema") is None else InputSchema.from_dict(state["schema"]),
            )
            if problem := made._misfit():
                raise ValueError(problem)
        return made

    def _misfit(self) -> str | None:
        """Return which of the parts does not go with the others, as in a file that was changed."""
        if not isinstance(self.loss, Loss):
            return f"a loss that is {self.loss!r}"
        n_in, n_out, encoder, target = self.net.n_in, self.loss.n_outputs(self.net.n_out), self.encoder, self.target
        n_targets = len(target.targets) if isinstance(target, NumberTargets) else 1
        if isinstance(encoder, TableEncoder):
            n_given: int = len(encoder.feature_names_out)
        else:
            n_given = n_in if encoder is None or encoder.shift is None else encoder.shift.size
        if n_given != n_in:
            return f"an encoding into {n_given} columns for a network of {n_in} inputs"
        if self.schema is not None and not (
            isinstance(encoder, TableEncoder) and {c.name: c.kind for c in self.schema} == encoder.kinds
        ):
            return "a schema of other columns than the encoding's"
        if isinstance(target, ClassTarget) and len(target.classes) != n_out:
            return f"{len(target.classes)} classes for a network of {n_out} outputs"
        if isinstance(target, NumberTargets) and n_targets != n_out:
            return f"{n_targets} targets for a network of {n_out} outputs"
        if self.intervals is not None and (
            isinstance(target, ClassTarget)
            or self.intervals.scores.shape[1] != n_targets
            or (self.intervals.scale is not None and self.intervals.scale.n_in != n_in)
        ):
            return (
                f"intervals of {self.intervals.scores.shape[1]} outputs that do not go with the network and the target"
            )
        return None


class _ScaledRows:
    """Rows of an array, scaled when they are asked for: a slice at a time, not a second array of them all."""

    ndim = 2

    def __init__(self, scaler: Standardizer | MinMax, rows: np.ndarray) -> None:
        self._scaler, self._rows = scaler, rows
        self.shape, self.dtype = rows.shape, rows.dtype

    def __getitem__(self, place: tuple[Any, slice, slice]) -> np.ndarray:
        _, rows, _ = place
        return np.asarray(self._scaler.transform(self._rows[rows], first=rows.start))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        scaled = self[..., slice(0, len(self._rows)), slice(None)]
        return scaled if dtype is None else scaled.astype(dtype, copy=False)


def load_predictor(path: PathLike, *, backend: str | Backend = "numpy", custom: Custom = ()) -> Predictor:
    """Read a model of tables or arrays: what ``xpnn train`` and the estimators of `xpnn.tabular` save.

    It takes frames of pandas, polars and pyarrow, tables from `xpnn.data.load_csv` and dicts of columns, as they are,
    and answers in the target's own terms.

    Parameters
    ----------
    path : path
        The file, or the folder of a run with its ``model.safetensors``, such as ``"runs/houses"``.
    backend : str or Backend, default="numpy"
        Where the network shall live.
    custom : class or sequence of classes, default=()
        Layers, initializers, losses and encoders of your own that it contains.

    Returns
    -------
    Predictor
        With ``predict``, ``predict_proba``, ``predict_interval`` and ``score``; ``info`` holds what is known of its
        training.

    Raises
    ------
    DataError, FileFormatError
        If the file is absent, broken, or holds a bare network.
    OptionError
        If it contains a class that is not xpnn's, and not given.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from xpnn import load_predictor
    >>> from xpnn.tabular import TabularRegressor
    >>> table = {"size": np.arange(40.0), "kind": np.array(["a", "b"] * 20)}
    >>> model = TabularRegressor(preset="quick", epochs=5).fit(table, np.arange(40.0) ** 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(Path(folder, "model.safetensors"))
    ...     same = load_predictor(folder)
    >>> bool((same.predict(table) == model.predict(table)).all())
    True
    """
    return Predictor.load(path, backend=backend, custom=custom)


def _number_scores(truth: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
    """Return RMSE, MAE and R² of numbers; of several columns the means of theirs."""
    error = answers - truth
    total = np.square(truth - truth.mean(axis=0)).sum(axis=0)
    lost = np.square(error).sum(axis=0)
    return {
        "rmse": float(np.sqrt(np.square(error).mean(axis=0)).mean()),
        "mae": float(np.abs(error).mean()),
        "r2": float(np.mean(1.0 - lost / total)) if np.all(total) else float("nan"),
    }


def network_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return of the arrays in a predictor's file those of its network."""
    return {name: array for name, array in tensors.items() if not name.startswith(_INTERVALS)}


def _read_intervals(state: Any, tensors: Mapping[str, np.ndarray], **options: Any) -> Intervals | None:
    if state is None:
        return None
    own = {name.removeprefix(_INTERVALS): array for name, array in tensors.items() if name.startswith(_INTERVALS)}
    return Intervals.from_dict(state, own, **options)


def _has_columns(raw: Any) -> bool:
    return isinstance(raw, Mapping | Table) or table_names(raw) is not None


def model_file(path: PathLike) -> Path:
    """Return the model's file: `path` itself, or where it is the folder of a run the file in it.

    Raises DataError if it is a folder without one.
    """
    given = as_path(path, "load")
    recover(given if given.is_dir() else given.parent)  # a model that takes its place with the other files of its run
    if not given.is_dir():
        return given
    if not (file := given / MODEL).is_file():
        raise DataError(
            f"load: expected a model, or a run's folder with {MODEL}, got the folder {path}. Name the file."
        )
    return file


def check_predictor(thing: Any, where: str) -> None:
    """Raise OptionError unless `thing` is a predictor."""
    if not isinstance(thing, Predictor):
        raise OptionError(
            f"{where}: expected a Predictor, got a {type(thing).__name__}. Pass the predictor_ of an estimator of "
            "tables, xpnn.load_predictor(path), or make one: xpnn.Predictor(trainer.net, trainer.loss, target)."
        )


def _check_rows(out: np.ndarray, y: np.ndarray) -> None:
    if len(out) != len(y):
        raise ShapeError(
            f"Predictor.score: expected one target for each row, got {len(y)} for {len(out)} rows. Pass them together."
        )

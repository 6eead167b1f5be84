"""What is exported: a model's graph, and what the model itself answers, to compare it with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..backend import to_numpy
from ..data.encoder import TableEncoder
from ..data.scaling import MinMax, Standardizer
from ..data.targets import ClassTarget, NumberTargets
from ..errors import OptionError, ShapeError
from ..losses import Loss
from ..model import Sequential
from ..predictor import Predictor
from ..special import softmax
from .build import Builder
from .encode import encode_table, inputs_of, scale_features
from .graph import Graph
from .namespace import traced_into
from .samples import features_like, frame_of, rows_like
from .trace import trace_link, trace_network
from .traced import Traced

__all__ = ["Subject", "subject_of"]

HostArray = npt.NDArray[Any]
_USUAL = 0.9  # coverage of intervals
_LEAST = 1e-30  # of a probability before its logarithm is taken, as in a predictor


@dataclass(frozen=True)
class Subject:
    """A model that is exported.

    Attributes
    ----------
    graph : Graph
        What it computes.
    columns : callable
        Turns raw rows, as the model takes them, into the inputs of the graph.
    answers : callable
        Returns for raw rows what the model says, by the names of the graph's outputs.
    rows : callable
        Makes up a number of raw rows like those that the model was made for, with gaps and unknown categories.
    threshold : float or None
        From which probability on a label is given; None where the likeliest is.
    model : object
        What it was made of; None of what is not a model of this library.
    """

    graph: Graph
    columns: Callable[[Any], Mapping[str, HostArray]]
    answers: Callable[[Any], Mapping[str, HostArray]]
    rows: Callable[[int], Any]
    threshold: float | None = None
    model: Any = field(default=None, repr=False)

    def kept(self) -> Subject:
        """Return the same, which keeps the answers to the rows that it was asked last: for files of several formats."""
        last: list[tuple[Any, Mapping[str, HostArray]]] = []

        def answers(raw: Any) -> Mapping[str, HostArray]:
            if not last or last[0][0] is not raw:
                last[:] = [(raw, self.answers(raw))]
            return last[0][1]

        return replace(self, answers=answers)


def subject_of(model: Any, *, loss: Loss | None = None, coverage: float | None = None) -> Subject:
    """Describe a model as a graph.

    Parameters
    ----------
    model : Sequential, Predictor, or a fitted estimator of `xpnn.tabular` or `xpnn.estimators`
        What is exported; a subject is returned as it is.
    loss : Loss, optional
        Of a bare network, whose link gives a second output, ``"predictions"``.
    coverage : float, optional
        Of the intervals of a predictor of numbers; 0.9 where it has held-out rows enough to vouch for it, else none.

    Raises
    ------
    OptionError
        If it is something else, not fitted, or has a part that a graph cannot say; the message names it.

    Examples
    --------
    >>> import xpnn
    >>> subject_of(xpnn.mlp([2, 3, 1])).graph
    Graph(1 inputs, 3 operations, 10 numbers, outputs 'outputs')
    """
    if isinstance(model, Subject):
        return model
    predictor = model if isinstance(model, Predictor) else getattr(model, "predictor_", None)
    if coverage is not None and (predictor is None or predictor.intervals is None):
        raise OptionError(
            f"export: coverage= expects a model of numbers with held-out rows to vouch for its intervals, got "
            f"{type(model).__name__} without. Leave it away."
        )
    if loss is not None and not isinstance(loss, Loss):
        raise OptionError(
            f"export: expected loss to be a loss such as xpnn.CrossEntropy(), got {loss!r:.100}. Pass one."
        )
    if isinstance(model, Sequential):
        return replace(_of_network(_on_host(model), loss), model=model)
    if loss is not None:
        raise OptionError(f"export: {type(model).__name__} has a loss already. Leave loss= away.")
    if isinstance(predictor, Predictor):
        return replace(_of_predictor(predictor, coverage), model=model)
    if hasattr(model, "trained_loss"):
        return replace(_of_estimator(model), model=model)
    fitted = "a fitted model" if hasattr(model, "fit") else "a network, a predictor or an estimator"
    raise OptionError(
        f"export: expected {fitted}, got {model!r:.100}. Call fit first, or pass what load_predictor reads."
    )


def _on_host(net: Sequential) -> Sequential:
    """Return a network in the library and the whole precision in which it is written."""
    backend = net.backend
    if backend.name == "numpy" and backend.dtype_name == backend.wide_name:
        return net
    return net.to("numpy", backend.wide_name)


def _features(builder: Builder, net: Sequential) -> str:
    """Return the row that a network takes, as an input that is added."""
    dtype = "int64" if net.takes_integers else net.backend.wide_name
    return builder.input("features", "features", shape=(net.n_in,), dtype=dtype)


# -- networks ----------------------------------------------------------------------------------------------------------
def _of_network(net: Sequential, loss: Loss | None) -> Subject:
    builder = Builder()
    x = _features(builder, net)
    y = trace_network(builder, net, x)
    outputs = {"outputs": _by_row(builder, y)}
    if loss is not None:
        outputs["predictions"] = _flat(builder, trace_link(builder, loss, y))

    def answers(rows: Any) -> dict[str, HostArray]:
        out = to_numpy(net.predict(rows))
        told = {"outputs": np.moveaxis(out, 0, 1) if out.ndim == 3 else out}
        if loss is not None:
            linked = to_numpy(loss.link(out))
            told["predictions"] = linked.mean(axis=0) if linked.ndim == 3 else linked
        return told

    def columns(rows: Any) -> Mapping[str, HostArray]:
        given = np.asarray(to_numpy(rows), dtype=builder.inputs[0].dtype)
        if given.shape[1:] != (net.n_in,):
            raise ShapeError(f"export: expected rows of shape (n, {net.n_in}) to compare on, got {given.shape}.")
        return {"features": given}

    return Subject(
        builder.graph(outputs, _info("network", builder)),
        columns,
        answers,
        lambda n: features_like(net, n),
    )


def _by_row(builder: Builder, y: Traced) -> str:
    """Return raw outputs of one row, (n_out,), or (K, n_out) of replicas."""
    shape = y.shape
    return builder.reshape(y.value, shape[-1:] if len(shape) == 2 else (*shape[:-2], shape[-1]))


def _flat(builder: Builder, x: Traced) -> str:
    return builder.reshape(x.value, x.shape[-1:])


def _info(task: str, builder: Builder, **more: Any) -> dict[str, Any]:
    inputs = [{"name": each.name, "kind": each.kind} for each in builder.inputs]
    return {"xpnn": __version__, "task": task, "inputs": inputs, **more}


# -- predictors --------------------------------------------------------------------------------------------------------
def _of_predictor(predictor: Predictor, coverage: float | None) -> Subject:
    predictor = replace(predictor, net=_on_host(predictor.net))
    builder = Builder()
    x = _encoded(builder, predictor)
    linked = trace_link(builder, predictor.loss, trace_network(builder, predictor.net, x))
    if isinstance(predictor.target, ClassTarget):
        outputs = _class_outputs(builder, predictor, linked)
        info = _info("classification", builder, classes=list(predictor.target.classes))
    else:
        coverage = _coverage(predictor, coverage)
        outputs = _number_outputs(builder, predictor, linked, x, coverage)
        info = _info("regression", builder, **({} if coverage is None else {"coverage": coverage}))
    info["target"] = ", ".join(predictor.target_names) or None
    if isinstance(predictor.target, NumberTargets) and predictor.target.names:
        info["targets"] = list(predictor.target.names)
    encoder = predictor.encoder

    def answers(raw: Any) -> dict[str, HostArray]:
        proba = predictor.predict_proba(raw)
        if isinstance(predictor.target, ClassTarget):
            return {"label": predictor.decode(proba), "probabilities": proba}
        told = {"prediction": predictor.decode(proba)}
        if coverage is not None:
            bounds = predictor.predict_interval(raw, coverage)
            told |= {"lower": bounds[..., 0], "upper": bounds[..., 1]}
        return told

    def columns(raw: Any) -> Mapping[str, HostArray]:
        if isinstance(encoder, TableEncoder):
            return inputs_of(encoder, predictor.columns(raw))
        rows = to_numpy(raw)
        return {"features": rows.reshape(len(rows), -1)}

    def rows(n: int) -> Any:
        return rows_like(encoder, n) if isinstance(encoder, TableEncoder) else features_like(predictor.net, n, encoder)

    return Subject(builder.graph(outputs, info), columns, answers, rows, predictor.threshold)


def _encoded(builder: Builder, predictor: Predictor) -> str:
    """Return the row that the network is given, from inputs that are added."""
    encoder, net = predictor.encoder, predictor.net
    if isinstance(encoder, TableEncoder):
        return encode_table(builder, encoder)
    if encoder is None:
        return _features(builder, net)
    if not isinstance(encoder, Standardizer | MinMax):
        raise OptionError(
            f"export: expected a TableEncoder, a Standardizer or a MinMax before the network, got {encoder!r:.100}. "
            "Export the network, predictor.net, and encode rows yourself."
        )
    return scale_features(builder, builder.input("features", "features", shape=(net.n_in,)), encoder)


def _coverage(predictor: Predictor, coverage: float | None) -> float | None:
    """Return what was asked for, or 0.9 if the held-out rows suffice for that."""
    if coverage is not None or predictor.intervals is None:
        return coverage
    n = len(predictor.intervals.scores)
    return _USUAL if n >= _USUAL * (n + 1) else None


def _class_outputs(builder: Builder, predictor: Predictor, linked: Traced) -> dict[str, str]:
    with traced_into(builder) as xp:
        out = linked
        if predictor.temperature is not None:
            logs = xp.log(xp.maximum(xp.astype(out, xp.float64), _LEAST)) / predictor.temperature
            out = xp.astype(softmax(logs, xp=xp), out.dtype)
        if predictor.threshold is None or out.shape[-1] != 2:
            code = xp.argmax(out, axis=-1)
        else:
            code = xp.astype(out[..., 1] >= predictor.threshold, xp.int64)
    return {
        "label": _labels(builder, builder.reshape(code.value, ()), predictor.target.decode(np.arange(out.shape[-1]))),
        "probabilities": _flat(builder, out),
    }


def _labels(builder: Builder, code: str, classes: HostArray) -> str:
    """Return the label of a class number: a whole number, a number, a boolean, or text."""
    kinds = {"i": np.int64, "u": np.int64, "f": np.float64, "b": np.bool_}
    table = np.asarray(classes)
    if table.dtype.kind not in kinds or (table.dtype.kind == "u" and table.max() > np.iinfo(np.int64).max):
        table = np.asarray([str(label) for label in classes.tolist()], dtype=object)
    else:
        table = table.astype(kinds[table.dtype.kind])
    return builder.op("gather", builder.constant(table), code)


def _number_outputs(
    builder: Builder, predictor: Predictor, linked: Traced, x: str, coverage: float | None
) -> dict[str, str]:
    target = predictor.target
    several = isinstance(target, NumberTargets)
    targets = target.targets if isinstance(target, NumberTargets) else (target,)
    mean, std, low, high = (
        np.asarray([getattr(each, name) for each in targets], dtype=np.float64)
        for name in ("mean", "std", "low", "high")
    )
    shape = (len(targets),) if several else ()
    with traced_into(builder) as xp:
        value = xp.astype(linked, xp.float64) * std + mean
        value = xp.minimum(xp.maximum(value, low), high)
        outputs = {"prediction": value}
        if coverage is not None and predictor.intervals is not None:
            half = (
                xp.zeros((1, len(targets)), dtype=xp.float64, device="cpu")
                + predictor.intervals.quantile(coverage) * std
            )
            if predictor.intervals.scale is not None:
                logs = xp.astype(trace_network(builder, _on_host(predictor.intervals.scale), x), xp.float64)
                half = half * xp.exp(xp.minimum(xp.maximum(logs, predictor.intervals.low), predictor.intervals.high))
            outputs |= {"lower": value - half, "upper": value + half}
    return {name: builder.reshape(each.value, shape) for name, each in outputs.items()}


# -- estimators of scikit-learn's kind ---------------------------------------------------------------------------------
def _of_estimator(model: Any) -> Subject:
    loss, net = model.trained_loss(), _on_host(model.net_)
    encoder = vars(model).get("encoder_")
    builder = Builder()
    if encoder is None:
        dtype = "float64" if model.scaler_ is not None else net.backend.wide_name
        x = builder.input("features", "features", shape=(net.n_in,), dtype=dtype)
    else:
        x = encode_table(builder, encoder)
    x = x if model.scaler_ is None else scale_features(builder, x, model.scaler_)
    linked = trace_link(builder, loss, trace_network(builder, net, x))
    classifies = hasattr(model, "classes_")
    probable = classifies and hasattr(model, "predict_proba")
    outputs = _estimator_classes(builder, model, linked) if classifies else {"prediction": _values(builder, linked)}
    if not probable:
        outputs.pop("probabilities", None)
    more = {"classes": model.classes_.tolist()} if classifies else {}

    def answers(raw: Any) -> dict[str, HostArray]:
        told = to_numpy(model.predict(raw))
        if not classifies:
            return {"prediction": told}
        return {"label": told} | ({"probabilities": to_numpy(model.predict_proba(raw))} if probable else {})

    def columns(raw: Any) -> Mapping[str, HostArray]:
        return {"features": to_numpy(raw)} if encoder is None else inputs_of(encoder, raw)

    def rows(n: int) -> Any:
        return features_like(net, n, model.scaler_) if encoder is None else frame_of(rows_like(encoder, n))

    info = _info("classification" if classifies else "regression", builder, **more)
    threshold = 0.5 if classifies and model.out_activation_ == "logistic" else None
    return Subject(builder.graph(outputs, info), columns, answers, rows, threshold)


def _values(builder: Builder, linked: Traced) -> str:
    n = linked.shape[-1]
    return builder.reshape(linked.value, (n,) if n > 1 else ())


def _estimator_classes(builder: Builder, model: Any, linked: Traced) -> dict[str, str]:
    """Return label and probabilities as an estimator does: of one output, of several classes, of several labels."""
    n = linked.shape[-1]
    logistic = model.out_activation_ == "logistic"
    with traced_into(builder) as xp:
        if logistic:
            eps = float(xp.finfo(linked.dtype).eps) / 2
            proba = xp.minimum(xp.maximum(linked, eps), 1.0 - eps)
        else:
            proba = linked
        if logistic and n > 1:
            chosen = _flat(builder, xp.astype(linked > 0.5, xp.int64))
            return {"label": chosen, "probabilities": _flat(builder, proba)}
        if n == 1:
            code = xp.astype(linked[..., 0] > (0.5 if len(model.classes_) > 1 else np.inf), xp.int64)
            proba = xp.concat([1.0 - proba, proba], axis=-1)
        else:
            code = xp.argmax(linked, axis=-1)
    label = _labels(builder, builder.reshape(code.value, ()), model.classes_)
    return {"label": label, "probabilities": _flat(builder, proba)}

"""What stands before a network in a Pipeline of scikit-learn, read into ours and written from ours.

Each column that a Pipeline hands to its network is ``(base - shift) / scale``, where the base is a number of the table,
or 1 in the rows of some categories and else 0.  So any chain of its scalers is one shift and one scale, and categories
may be encoded by other columns of 0 and 1 if the weights behind them follow.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from sklearn import preprocessing
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import Pipeline

from ..data import Standardizer, TableEncoder
from ..data.columns import as_texts, is_missing, is_number_key
from ..errors import OptionError
from ..optional import needs

__all__ = ["Front", "Layer1", "read_front", "write_encoder", "write_scaler"]


class Layer1(NamedTuple):
    """Weights (n_in, n_out) and biases (n_out,) of the first layer."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Column:
    """One column that a network is given."""

    place: int | None  #: in a matrix
    name: str | None  #: in a frame
    keys: tuple[str, ...] | None = None  #: the categories in whose rows it is 1; None of a number
    unknown: bool = False  #: whether it is 1 for unknown categories too
    known: tuple[str, ...] = ()  #: all categories of that column of the frame
    fill: float | None = None  #: what stands for a missing number
    shift: float = 0.0
    scale: float = 1.0


class Front(NamedTuple):
    """What is before a network: a scaler for matrices, or an encoder for frames."""

    scaler: Standardizer | None
    encoder: TableEncoder | None
    categorical: list[str]
    layer: Layer1


# -- in ------------------------------------------------------------------------------------------------------------
def read_front(steps: Sequence[tuple[str, Any]], layer: Layer1, names: Sequence[str] | None, n_features: int) -> Front:
    """Return what the steps before a network are here, and its first layer as it follows."""
    columns = _read(steps, [Column(i, None if names is None else str(names[i])) for i in range(n_features)])
    plain = all(column.keys is None and column.fill is None for column in columns)
    if plain and [column.place for column in columns] == list(range(n_features)):
        scaler = Standardizer()
        scaler.shift = np.array([column.shift for column in columns])
        scaler.scale = np.array([column.scale for column in columns])
        return Front(scaler, None, [], layer)
    if names is None:
        raise OptionError(
            "from_sklearn: expected a Pipeline that was fitted on a frame, got one without names of columns, which "
            "categories and missing numbers need here. Fit it on a pandas frame."
        )
    return _as_encoder(columns, layer)


def _as_encoder(columns: list[Column], layer: Layer1) -> Front:
    """Return an encoder for the columns of a frame, and the layer whose weights stand behind its columns."""
    entries: list[dict[str, Any]] = []
    rows: list[np.ndarray] = []
    weight, bias = layer.weight, layer.bias.copy()
    for name in dict.fromkeys(column.name for column in columns):
        mine = [(j, column) for j, column in enumerate(columns) if column.name == name]
        first = mine[0][1]
        if first.keys is None:
            if len(mine) > 1:
                raise OptionError(
                    f"from_sklearn: expected each number once, got the column {name!r} twice. Leave one out."
                )
            fill = first.shift if first.fill is None else first.fill
            entries.append({"kind": "number", "name": name, "fill": fill, "center": first.shift, "spread": first.scale})
            entries[-1] |= {"flagged": False, "edges": []}
            rows.append(weight[mine[0][0]])
            continue
        entries.append({"kind": "category", "name": name, "categories": list(first.known), "pooled": True})
        own = {j: weight[j] / column.scale for j, column in mine}
        rows += [sum((own[j] for j, c in mine if key in (c.keys or ())), np.zeros_like(bias)) for key in first.known]
        rows.append(sum((own[j] for j, column in mine if column.unknown), np.zeros_like(bias)))
        bias -= sum(own[j] * column.shift for j, column in mine)
    categorical = [entry["name"] for entry in entries if entry["kind"] == "category"]
    options = {**TableEncoder(clip=None, categorical=categorical).to_dict(), "columns": entries}
    return Front(None, TableEncoder.from_dict(options), categorical, Layer1(np.stack(rows), bias))


def _read(steps: Sequence[tuple[str, Any]], columns: list[Column]) -> list[Column]:
    for name, step in steps:
        columns = _read_step(name, step, columns)
    return columns


def _read_step(name: str, step: Any, columns: list[Column]) -> list[Column]:
    if step is None or isinstance(step, str):  # "passthrough"
        return columns
    if type(step) is Pipeline:
        return _read(step.steps, columns)
    if type(step) is ColumnTransformer:
        return _read_transformers(step, columns)
    if type(step) is preprocessing.OneHotEncoder:
        return [made for place, column in enumerate(columns) for made in _indicators(step, place, column)]
    if type(step) is SimpleImputer and not step.add_indicator and len(step.statistics_) == len(columns):
        return [_filled(column, value) for column, value in zip(columns, step.statistics_, strict=True)]
    if type(step) is preprocessing.FunctionTransformer and step.func is None:
        return columns
    affine = _AFFINE.get(type(step))
    if affine is None or getattr(step, "clip", False):
        what = f"{type(step).__name__}(clip=True)" if affine else type(step).__name__
        raise OptionError(
            f"from_sklearn: the step {name!r}: expected a scaler, a OneHotEncoder, a SimpleImputer or a "
            f"ColumnTransformer of these, got {what}. Keep that step in a Pipeline before the estimator that you get "
            "for the rest."
        )
    shift, scale = (np.broadcast_to(part, len(columns)).astype(np.float64) for part in affine(step))
    return [
        replace(column, shift=column.shift + column.scale * float(s), scale=column.scale * float(d))
        for column, s, d in zip(columns, shift, scale, strict=True)
    ]


def _or(value: Any, default: float) -> Any:
    return default if value is None else value


_AFFINE: dict[type, Callable[[Any], tuple[Any, Any]]] = {
    preprocessing.StandardScaler: lambda s: (
        s.mean_ if s.with_mean else 0.0,
        _or(s.scale_ if s.with_std else None, 1.0),
    ),
    preprocessing.MinMaxScaler: lambda s: (-s.min_ / s.scale_, 1.0 / s.scale_),
    preprocessing.MaxAbsScaler: lambda s: (0.0, s.scale_),
    preprocessing.RobustScaler: lambda s: (
        _or(s.center_ if s.with_centering else None, 0.0),
        _or(s.scale_ if s.with_scaling else None, 1.0),
    ),
}


def _filled(column: Column, value: Any) -> Column:
    """Return a column of numbers whose gaps are filled with a value, which later steps change as any other."""
    if column.keys is not None or not isinstance(value, int | float | np.number) or np.isnan(float(value)):
        raise OptionError(
            f"from_sklearn: expected a SimpleImputer of numbers, got one that fills {column.name or column.place!r} "
            f"with {value!r}. Leave missing categories missing: here they count as no category."
        )
    fill = column.shift + column.scale * float(value)  # before what was done to it so far
    return column if column.fill is not None else replace(column, fill=fill)


def _read_transformers(transformer: ColumnTransformer, columns: list[Column]) -> list[Column]:
    """Follow each group of columns through its own steps."""
    by_name = {column.name: column for column in columns}
    found: list[Column] = []
    for name, step, chosen in transformer.transformers_:
        if isinstance(step, str) and step == "drop":
            continue
        chosen = [chosen] if isinstance(chosen, str) else chosen
        places = np.arange(len(columns))[chosen] if not _are_names(chosen) else ()
        group = [by_name[c] for c in chosen] if _are_names(chosen) else [columns[int(p)] for p in np.ravel(places)]
        if group:
            found += _read_step(name, step, group)
    return found


def _are_names(chosen: Any) -> bool:
    return not isinstance(chosen, slice) and any(isinstance(c, str) for c in np.ravel(np.asarray(chosen, dtype=object)))


def _indicators(encoder: Any, place: int, column: Column) -> Iterator[Column]:
    """Yield the columns of 0 and 1 that a OneHotEncoder makes of one of its columns."""
    categories = encoder.categories_[place]
    if column.keys is not None or (column.shift, column.scale) != (0.0, 1.0):
        raise OptionError("from_sklearn: expected a OneHotEncoder on columns as they come, got one behind a scaler.")
    if any(is_missing(category) for category in categories.tolist()):
        raise OptionError(
            f"from_sklearn: expected categories, got one for missing cells of {column.name!r}. Here they count as no "
            "category: fill them with a word before both."
        )
    rare = getattr(encoder, "infrequent_categories_", [None] * (place + 1))[place]  # there if some may be rare
    if rare is not None and encoder.drop is not None:
        raise OptionError(
            "from_sklearn: expected a OneHotEncoder with rare categories or with drop=, got both. Fit one with "
            "drop=None."
        )
    keys, together = tuple(map(str, as_texts(categories))), tuple(map(str, as_texts(rare))) if rare is not None else ()
    groups = [(key,) for key in keys if key not in together] + ([together] if together else [])
    dropped = None if encoder.drop_idx_ is None else encoder.drop_idx_[place]
    for j, group in enumerate(groups):
        unknown = bool(together) and group is together and encoder.handle_unknown == "infrequent_if_exist"
        if j != dropped:
            yield replace(column, keys=group, unknown=unknown, known=keys)


# -- out -----------------------------------------------------------------------------------------------------------
def write_scaler(scaler: Standardizer, names: Any = None) -> Any:
    """Return a scaler as scikit-learn's StandardScaler."""
    shift, scale = (np.asarray(part, dtype=np.float64) for part in (scaler.shift, scaler.scale))
    made = preprocessing.StandardScaler(with_mean=bool(shift.any())).fit(np.zeros((2, len(shift))))
    made.mean_, made.scale_, made.var_ = shift.copy(), scale.copy(), scale**2
    if names is not None:
        made.feature_names_in_ = np.asarray(names, dtype=object)
    return made


def write_encoder(encoder: TableEncoder, layer: Layer1) -> tuple[Any, Layer1]:
    """Return an encoder as a ColumnTransformer of scikit-learn's own parts, and the layer with the weights behind it.

    The smooth clip z / √(1 + (z/c)²) is c·sin(arctan(z/c)), of which the factor goes into the weights; so does what a
    single column of -1 and +1 is in two of 0 and 1.
    """
    with needs("pandas", "to_sklearn"):
        pandas = importlib.import_module("pandas")
    state = encoder.to_dict()
    clip, start = state["clip"], 0
    parts: list[tuple[str, Any, list[str]]] = []
    example: dict[str, Any] = {}
    rows: list[np.ndarray] = []
    for place, entry in enumerate(state["columns"]):
        _check_column(entry)
        made = _number_parts(entry, clip) if entry["kind"] == "number" else [_category_part(entry)]
        example[entry["name"]] = [0.0, 1.0] if entry["kind"] == "number" else made[0].example
        for kind, step, own, weights, _ in made:
            parts.append((f"{place} {kind}", step, [entry["name"]]))
            rows += list(weights @ layer.weight[start : start + own])
            start += own
    transformer = ColumnTransformer(parts).fit(pandas.DataFrame(example))
    for place, entry in enumerate(state["columns"]):
        if entry["kind"] == "number" and entry["spread"]:
            scaler = transformer.named_transformers_[f"{place} number"]["scale"]  # which was fitted on made-up rows
            scaler.center_ = np.array([entry["center"]])
            scaler.scale_ = np.array([entry["spread"] * (clip or 1.0)])
    return transformer, Layer1(np.stack(rows), layer.bias)


class _Made(NamedTuple):
    """A part of scikit-learn's for some columns of our matrix."""

    kind: str
    step: Any
    own: int  #: of our columns
    weights: np.ndarray  #: (its columns, ours): what its weights are made of
    example: Any = None


def _check_column(entry: dict[str, Any]) -> None:
    problem = None
    if entry["kind"] == "date":
        problem = "a column of dates"
    elif entry["kind"] == "category" and entry["pooled"]:
        problem = "a category whose rare values share a column"
    elif entry["kind"] == "category" and len(set(map(is_number_key, entry["categories"]))) > 1:
        problem = "a category of numbers and words"
    elif entry["kind"] == "category" and set(entry["categories"]) <= {"True", "False"}:
        problem = "a category of truth values"
    elif entry["kind"] == "number" and entry["edges"]:
        problem = "a column in bins"
    if problem:
        raise OptionError(
            f"to_sklearn: expected columns that scikit-learn can encode, got {entry['name']!r}, {problem}. Write the "
            "model as ONNX instead: to_onnx(path)."
        )


def _number_parts(entry: dict[str, Any], clip: float | None) -> list[_Made]:
    """Return the parts for a number: scaled, filled and bent, and a flag where it is missing."""
    made = []
    if entry["spread"]:
        fill = (entry["fill"] - entry["center"]) / entry["spread"] / (clip or 1.0)
        steps: list[tuple[str, Any]] = [("scale", preprocessing.RobustScaler())]
        steps.append(("fill", SimpleImputer(strategy="constant", fill_value=fill)))
        if clip is not None:
            steps += [(bend.__name__, preprocessing.FunctionTransformer(bend)) for bend in (np.arctan, np.sin)]
        made.append(_Made("number", Pipeline(steps), 1, np.array([[clip or 1.0]])))
    if entry["flagged"]:
        made.append(_Made("missing", MissingIndicator(features="all"), 1, np.ones((1, 1))))
    return made


def _category_part(entry: dict[str, Any]) -> _Made:
    """Return the part for a category; scikit-learn wants numbers among categories as numbers, in their order."""
    words: list[Any] = entry["categories"]
    weights = np.array([[-1.0], [1.0]]) if len(words) == 2 else np.eye(len(words))
    numbers = all(map(is_number_key, words))
    if numbers:
        order = np.argsort(np.array(words, dtype=float))
        words, weights = [float(words[k]) for k in order], weights[order]
    one_hot = preprocessing.OneHotEncoder(categories=[words], handle_unknown="ignore", sparse_output=False)
    as_dtype = preprocessing.FunctionTransformer(np.asarray, kw_args={"dtype": float if numbers else object})
    example = np.resize(np.array(words, dtype=float if numbers else object), 2)
    return _Made("category", Pipeline([("as", as_dtype), ("one-hot", one_hot)]), weights.shape[1], weights, example)

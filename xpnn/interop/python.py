"""A model as one Python file that needs NumPy alone."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from typing import Any

from ..data.columns import is_number_key
from ..data.csv import MISSING
from ..data.dates import DateColumn
from ..data.encoder import TableEncoder
from ..data.fitted import NumberColumn
from ..files import PathLike, atomic_path
from ..losses import Loss
from ..predictor import Predictor
from .checked import ROWS, Check, compare
from .encode import holds_numbers
from .python_cells import number_options
from .python_text import Reader, python_text
from .subject import subject_of

__all__ = ["to_python"]


def to_python(
    model: Any,
    path: PathLike,
    *,
    rows: Any = None,
    check: bool = True,
    loss: Loss | None = None,
    coverage: float | None = None,
) -> Check | None:
    """Write a model as one Python file that needs NumPy and nothing else.

    ``predict(columns)`` in it takes columns by name, lists or arrays with None or NaN for missing values, and returns
    arrays by name: ``label`` and ``probabilities``, or ``prediction`` and the bounds of its interval.  As a program,
    ``python predict.py rows.csv`` reads a file such as the model was trained on, and writes predictions as CSV.

    Parameters
    ----------
    model : Sequential, Predictor, or a fitted estimator
        What is written; or what `xpnn.interop.subject.subject_of` made of it, where it is written in several formats.
    path : path
        The file, such as ``"predict.py"``.
    rows : array, frame, mapping or table, optional
        Raw rows to check with, as the model takes them; made up by default.
    check : bool, default=True
        Whether to run the file and to compare its answers with the model's.
    loss : Loss, optional
        Of a bare network: its link gives a second output, ``predictions``.
    coverage : float, optional
        Of the outputs ``lower`` and ``upper`` of a model of numbers; 0.9 where enough held-out rows vouch for it.

    Returns
    -------
    Check or None
        What was compared; None without a check.

    Raises
    ------
    OptionError
        If the model has a part that cannot be written, or an answer differs; then nothing is written.

    Examples
    --------
    >>> import runpy, tempfile
    >>> import xpnn
    >>> net = xpnn.mlp([2, 8, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check = net.to_python(f"{folder}/predict.py")
    ...     predict = runpy.run_path(f"{folder}/predict.py")["predict"]
    >>> check.rows, predict([[1.0, 2.0]])["outputs"].shape
    (500, (1, 1))
    """
    subject = subject_of(model, loss=loss, coverage=coverage)
    encoder, info = _encoding(subject.model)
    readers = {} if encoder is None else _readers(encoder)
    with atomic_path(path) as temporary:
        temporary.write_text(python_text(subject.graph, readers, _reading(info)), encoding="ascii")
        if not check:
            return None
        predict = runpy.run_path(str(temporary))["predict"]
        given = subject.rows(ROWS) if rows is None else rows
        return compare(subject, given, predict, by="NumPy, from the file")


def _encoding(model: Any) -> tuple[TableEncoder | None, Mapping[str, Any]]:
    """Return the encoder of a model's columns, and what is known of its training."""
    model = vars(model).get("predictor_", model)
    encoder = getattr(model, "encoder", None) or vars(model).get("encoder_")
    info = model.info if isinstance(model, Predictor) else {}
    return encoder if isinstance(encoder, TableEncoder) else None, info


def _readers(encoder: TableEncoder) -> dict[str, Reader]:
    """Return how each column's cells are read where they are text."""
    readers: dict[str, Reader] = {}
    for column in encoder.fitted_columns:
        if isinstance(column, DateColumn):
            readers[column.name] = "_time", {"pattern": column.format.pattern}
        elif isinstance(column, NumberColumn):
            readers[column.name] = (
                "_number",
                number_options(column.spelling) | ({"truth": True} if column.boolean else {}),
            )
        elif holds_numbers(column):
            readers[column.name] = "_code", {}
        else:  # numbers with more digits than float64 has
            readers[column.name] = "_text", {"numbers": True} if all(map(is_number_key, column.categories)) else {}
    return readers


def _reading(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a file of rows is read."""
    options = info.get("options", {})
    missing = options.get("missing")
    return {
        "columns": list(info.get("columns", [])),
        "header": bool(info.get("header", True)),
        **{name: options.get(name) for name in ("delimiter", "encoding", "comment")},
        "missing": sorted(MISSING) if missing is None else ["", *map(str.strip, missing.split(","))],
    }

"""A model as one C99 header file, for programs that have neither Python nor a runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import PathLike, atomic_path
from ..losses import Loss
from .c_check import Program
from .c_header import CHeader
from .checked import ROWS, Check, compare
from .subject import subject_of

__all__ = ["to_c"]


def to_c(
    model: Any,
    path: PathLike,
    *,
    name: str | None = None,
    rows: Any = None,
    check: bool = True,
    loss: Loss | None = None,
    coverage: float | None = None,
) -> Check | None:
    """Write a model as one C99 header file that needs nothing but libm.

    It holds constants and static functions: a ``NAME_row`` with a member for each column, and
    ``NAME_predict(const NAME_row *row, float *out)``, which of classes returns the number of the class;
    ``NAME_classes`` has their names.  Networks compute in float32, what encodes a row in float64.  No memory is
    allocated; the head of the file says what of libm is called, and how much of the stack is used.

    Parameters
    ----------
    model : Sequential, Predictor, or a fitted estimator
        What is written; or what `xpnn.interop.subject.subject_of` made of it, where it is written in several formats.
    path : path
        The file, such as ``"houses.h"``.
    name : str, optional
        Goes before all names in the file; by default the file's.
    rows : array, frame, mapping or table, optional
        Raw rows to check with, as the model takes them; made up by default.
    check : bool, default=True
        Whether to compile the file and to compare its answers with the model's.
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
        If the model has a part that cannot be written, there is no compiler for the check, or an answer differs; then
        nothing is written.

    Examples
    --------
    >>> import tempfile
    >>> import xpnn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     xpnn.mlp([2, 8, 1]).to_c(f"{folder}/net.h", check=False)
    ...     text = Path(folder, "net.h").read_text()
    >>> "static inline void net_predict(const float *x, float *out)" in text
    True
    """
    subject = subject_of(model, loss=loss, coverage=coverage)
    header = CHeader(subject.graph, name or Path(path).stem)
    report = None
    with atomic_path(path) as temporary:
        temporary.write_text(header.text, encoding="ascii")
        if check:
            with Program([header]) as program:
                given = subject.rows(ROWS) if rows is None else rows
                report = compare(subject, given, lambda columns: program.run(0, columns), by="a C compiler")
    return report

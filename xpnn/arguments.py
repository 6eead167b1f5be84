"""What people pass to constructors and functions: checked, suggested and shown in one way."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import DTypeError, OptionError, ShapeError

__all__ = ["as_array", "check_real", "count", "describe", "is_count", "number", "one_or_each", "real_hint", "suggest"]


def is_count(value: Any) -> bool:
    """Whether `value` is a whole number of at least 1, of Python or of NumPy; True is none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1


def count(value: Any, where: str, name: str) -> int:
    """Return a positive integer as Python's, or raise OptionError.

    Examples
    --------
    >>> count(np.int64(3), "Linear", "n_out")
    3
    """
    if is_count(value):
        return int(value)
    near = number(value)
    hint = max(round(near), 1) if 0 < near < math.inf else 32
    raise OptionError(f"{where}: expected {name} to be a positive integer, got {value!r}. Try {name}={hint}.")


def number(value: Any) -> float:
    """Return `value` as Python's float; NaN, which lies in no range, for what is no number.

    Examples
    --------
    >>> number(np.float32(0.5)), number("0.5")
    (0.5, nan)
    """
    try:
        return math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return math.nan


def one_or_each(value: Any) -> float | list[float]:
    """Return what one network or every replica has as Python's float, or the list of the replicas' own.

    Examples
    --------
    >>> one_or_each(0.5), one_or_each([1, 2]), one_or_each("0.5")
    (0.5, [1.0, 2.0], nan)
    """
    several = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
    return [number(v) for v in value] if several else number(value)


def suggest(name: Any, known: Iterable[str]) -> str:
    """Return what to do about an unknown name.

    Examples
    --------
    >>> suggest("rleu", ["relu", "tanh"])
    "Did you mean 'relu'?"
    """
    near = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else "Choose one of these names."


def describe(thing: Any) -> str:
    """Return the call that makes `thing`: its class, and its options where they are not the defaults.

    Examples
    --------
    >>> from xpnn import CrossEntropy, Linear
    >>> describe(Linear(3)), describe(CrossEntropy())
    ('Linear(n_out=3)', 'CrossEntropy()')
    """
    shown = [
        f"{name}={getattr(thing, name)!r}"
        for name, p in inspect.signature(type(thing)).parameters.items()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        and hasattr(thing, name)
        and repr(getattr(thing, name)) != repr(p.default)
    ]
    return f"{type(thing).__name__}({', '.join(shown)})"


def as_array(a: Any, where: str, name: str) -> Any:
    """Return `a` if it is an array of any library, else NumPy's reading of it (lists, data frames).

    Raises
    ------
    ShapeError
        If its rows differ in length.
    """
    if hasattr(a, "shape") and hasattr(a, "dtype") and not hasattr(a, "iloc"):
        return a
    try:
        return np.asarray(a)
    except ValueError as error:
        raise ShapeError(
            f"{where}: expected rows of equal length in {name}, got rows of different lengths. Pad or cut them."
        ) from error


def check_real(a: Any, where: str, name: str) -> None:
    """Raise DTypeError unless the array `a` holds real numbers."""
    hint = real_hint(a.dtype)
    if hint is not None:
        raise DTypeError(
            f"{where}: expected real numbers in {name}, got dtype {a.dtype}. "
            f"{hint}, or convert with {name}.astype(float)."
        )


def real_hint(dtype: Any) -> str | None:
    """Return what to do with an array of any library whose dtype is none of real numbers; None where it is one.

    Examples
    --------
    >>> real_hint(np.dtype("complex64")), real_hint(np.dtype("int8"))
    ('Split real and imaginary parts', None)
    """
    name = getattr(dtype, "name", str(dtype).rpartition(".")[2])
    if name.startswith(("float", "int", "uint", "bool", "bfloat")):
        return None
    if name.startswith("complex"):
        return "Split real and imaginary parts"
    if name.startswith(("datetime", "timedelta")):
        return "Count time from a date of your choice"
    return "Encode text with xpnn.data.TableEncoder"

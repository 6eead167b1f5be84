"""Plain data compared with what they should be: the kind of every entry of a file, before it is used.

A kind is written as the data it stands for:

- ``str``, ``bool``, ``int`` (no bool, within 64 bits), ``float`` (a finite number, whole or not, no bool), or
  `NUMBER`, which may also be NaN or infinite;
- ``None``, a text or another value: that value itself; `ANY`: anything;
- ``[kind]``: a list of such, ``(kind, kind)``: any of these;
- ``{"name": kind}``: an object with at least these entries, ``{str: kind}``: one with any names, all of this kind;
- a function that says whether a value fits; its docstring stands in messages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

__all__ = ["ANY", "NUMBER", "Kind", "Misfit", "at_least", "expect", "misfit"]

Kind: TypeAlias = Any


def ANY(value: Any) -> bool:  # noqa: N802, a kind among others
    """Whether a value is one: always."""
    return True


def NUMBER(value: Any) -> bool:  # noqa: N802
    """A number."""
    return isinstance(value, float) or _is(value, int)


def at_least(least: float, kind: type[int] | type[float] = int) -> Kind:
    """Return the kind of numbers from `least` on.

    Examples
    --------
    >>> at_least(0)(3), at_least(0)(-1), at_least(0)(True)
    (True, False, False)
    """

    def fits(value: Any) -> bool:
        return _is(value, kind) and value >= least

    fits.__doc__ = f"a {'whole ' if kind is int else ''}number of at least {least}"
    return fits


def expect(value: Any, kind: Kind) -> None:
    """Raise ValueError, for `xpnn.config.reading` to word, unless a value is of a kind.

    Examples
    --------
    >>> try:
    ...     expect({"rows": [1, "2"]}, {"rows": [int]})
    ... except ValueError as error:
    ...     print(error)
    rows[1] is '2', not a whole number
    """
    found = misfit(value, kind)
    if found is not None:
        shown = repr(found.got)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        what = "is missing" if found.wanted == _THERE else f"is {shown}, not {found.wanted}"
        raise ValueError(f"{found.path or 'all of it'} {what}")


class Misfit(NamedTuple):
    """A value that is not of its kind: where it lies, what it should be, and what it is."""

    path: str
    wanted: str
    got: Any


def misfit(value: Any, kind: Kind) -> Misfit | None:
    """Return the first value that does not fit; None if all do."""
    found = _misfit(value, kind, "")
    return None if found is None else Misfit(found[0].removeprefix("."), *found[1:])


_Misfit: TypeAlias = "tuple[str, str, Any] | None"
_THERE = "there"
_WORDS = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false"}


def _misfit(value: Any, kind: Kind, path: str) -> _Misfit:
    """Return where the first value lies that does not fit, what it should be, and what it is."""
    if isinstance(kind, type):
        return None if _is(value, kind) else (path, _WORDS[kind], value)
    if isinstance(kind, tuple):
        found = [_misfit(value, each, path) for each in kind]
        misfits = [misfit for misfit in found if misfit is not None]
        if len(misfits) < len(found):
            return None
        # What lies deeper was meant to be this alternative, unless a word in it says otherwise.
        deeper = [misfit for misfit in misfits if len(misfit[0]) > len(path)]
        meant = [misfit for misfit in deeper if not misfit[1].startswith("'")] or deeper
        return meant[0] if meant else (path, " or ".join(misfit[1] for misfit in misfits), value)
    if isinstance(kind, list):
        if not isinstance(value, list | tuple):
            return path, "a list", value
        return _first(_misfit(item, kind[0], f"{path}[{i}]") for i, item in enumerate(value))
    if isinstance(kind, Mapping):
        return _misfit_in_object(value, kind, path)
    if callable(kind):
        return None if kind(value) else (path, _said(kind), value)
    return None if type(value) is type(kind) and value == kind else (path, repr(kind), value)


def _said(kind: Any) -> str:
    """Return what a function that is a kind says of it, as part of a sentence."""
    text = (kind.__doc__ or "as it should be").removesuffix(".")
    return text[:1].lower() + text[1:]


def _misfit_in_object(value: Any, kind: Mapping[Any, Kind], path: str) -> _Misfit:
    if not isinstance(value, Mapping):
        return path, "an object", value
    named = {name: each for name, each in kind.items() if name is not str}
    for name, each in named.items():
        if name not in value:
            return f"{path}.{name}", _THERE, None
        if isinstance(each, str) and value[name] != each:
            return f"{path}.{name}", repr(each), value[name]
    every = kind.get(str, ANY)
    return _first(_misfit(item, named.get(name, every), f"{path}.{name}") for name, item in value.items())


def _first(misfits: Any) -> _Misfit:
    return next((misfit for misfit in misfits if misfit is not None), None)


def _is(value: Any, kind: type[Any]) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**64
    if kind is float:
        return isinstance(value, float) and math.isfinite(value) if not isinstance(value, int) else _is(value, int)
    return isinstance(value, kind)

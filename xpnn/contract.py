"""What parts of somebody's own must keep to: what their methods take and return, checked where they are first called.

Nothing here is asked of xpnn's own classes, and nothing waits for the device.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import array_api_compat

from ._typing import Array
from .arguments import suggest
from .errors import DTypeError, OptionError, ShapeError
from .recordable import is_own

__all__ = ["check_array", "check_call", "check_hooks", "check_pair", "foreign", "what"]


def foreign(thing: Any) -> bool:
    """Whether an object is of a class that is not xpnn's."""
    return not is_own(type(thing).__module__)


def what(value: Any) -> str:
    """Say in a few words what was returned.

    Examples
    --------
    >>> import numpy as np
    >>> what(np.zeros((2, 3))), what((1, 2)), what(None)
    ('an array of shape (2, 3)', 'a tuple of 2', 'None')
    """
    if value is None:
        return "None"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value) if isinstance(value, int | float | str) else type(value).__name__


def check_pair(returned: Any, where: str, expected: str, hint: str) -> None:
    """Raise OptionError unless a method has returned two things."""
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        hint = "Is the return missing?" if returned is None else hint
        raise OptionError(f"{where}: expected {expected}, got {what(returned)}. {hint}")


def check_array(
    a: Any, where: str, name: str, shape: tuple[int, ...], like: Array | None, *, leading: bool = True, hint: str = ""
) -> None:
    """Raise ShapeError or DTypeError unless `a` is an array of a shape, in library and dtype like another one.

    Without `leading`, the axes before the last two are free: those of replicas.
    """
    if a is None or not hasattr(a, "shape") or not hasattr(a, "dtype"):
        why = "Is a return missing?" if a is None else hint or "Return an array."
        raise ShapeError(f"{where}: expected {name}, an array of shape {shape}, got {what(a)}. {why}")
    got = tuple(a.shape)
    if got != shape and (leading or len(got) < 2 or got[-2:] != shape[-2:]):
        raise ShapeError(f"{where}: expected {name} of shape {shape}, got {got}. {hint or 'Look at its axes.'}")
    if like is None:
        return
    if not (isinstance(a, type(like)) or isinstance(like, type(a))) or not array_api_compat.is_array_api_obj(a):
        raise DTypeError(
            f"{where}: expected {name} as {type(like).__module__.partition('.')[0]} array, like what it is given, got "
            f"{type(a).__module__.partition('.')[0]}'s. Use the operations of the array that comes in."
        )
    if a.dtype != like.dtype:
        raise DTypeError(
            f"{where}: expected {name} in {like.dtype}, like what it is given, got {a.dtype}. "
            "Numbers from NumPy widen what they meet: make them Python's with float()."
        )


def check_call(method: Callable[..., Any], where: str, *names: str, keywords: Iterable[str] = ()) -> None:
    """Raise OptionError unless a method can be called with these arguments and keywords."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # of compiled code, which tells nothing
        return
    keywords = tuple(keywords)
    try:
        signature.bind(*names, **dict.fromkeys(keywords))
    except TypeError:
        given = ", ".join([*names, *(["*", *keywords] if keywords else [])])
        raise OptionError(
            f"{where}: expected a method that can be called with ({given}), got one with {signature}. "
            f"Write def {getattr(method, '__name__', 'it')}(self, {given})."
        ) from None


def check_hooks(callback: Any, hooks: Iterable[str]) -> None:
    """Raise OptionError where a callback has a method ``on_…`` that is none of the hooks, or a hook takes no trainer."""
    known, kind = list(hooks), type(callback).__name__
    for name in dir(callback):
        if name in known:
            check_call(getattr(callback, name), f"{kind}.{name}", "trainer")
        elif name.startswith("on_") and callable(getattr(callback, name)):
            hint = suggest(name, known, f"Hooks are {', '.join(known)}.")
            raise OptionError(f"{kind}: expected methods on_… to be hooks, got {name}, which nobody calls. {hint}")
